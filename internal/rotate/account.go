package rotate

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/cluster"
)

// AccountRef is the kind ServiceAccount.
var AccountRef = cluster.Ref{Version: "v1", Resource: "serviceaccounts", Kind: "ServiceAccount"}

// Account invalidates every token of a ServiceAccount. Bound tokens name the
// account's UID, so that a new account of the same name makes them worthless
// at once; its bindings, which name it by its name, hold. Legacy token Secrets
// are deleted; those that a workload mounts are made anew.
type Account struct {
	client *cluster.Client
	record Record
	next   *corev1.ServiceAccount
	old    types.UID
	legacy []SecretRecord
	tokens []*corev1.Secret
}

// NewAccount plans it in an incident, with whose ID it labels what it makes anew. legacy are the account's
// token Secrets, of which those
// in use are made anew.
func NewAccount(
	client *cluster.Client, incident string, live *corev1.ServiceAccount, legacy []*corev1.Secret,
	inUse func(name string) bool,
) (*Account, error) {
	next := &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: metav1.ObjectMeta{Namespace: live.Namespace, Name: live.Name,
			Labels:      labelled(live.Labels, incident),
			Annotations: live.Annotations, OwnerReferences: live.OwnerReferences},
		Secrets: live.Secrets, ImagePullSecrets: live.ImagePullSecrets,
		AutomountServiceAccountToken: live.AutomountServiceAccountToken}
	record := Record{Rotator: "service-account", AccountUID: string(live.UID)}
	var err error
	if record.Account, err = json.Marshal(next); err != nil {
		return nil, fmt.Errorf("recording ServiceAccount %s/%s: %w", live.Namespace, live.Name, err)
	}
	for _, s := range legacy {
		record.Secrets = append(record.Secrets, SecretRecord{Namespace: s.Namespace, Name: s.Name, UID: string(s.UID)})
		if !inUse(s.Name) {
			continue
		}
		annotations := maps.Clone(s.Annotations)
		delete(annotations, corev1.ServiceAccountUIDKey)
		delete(annotations, corev1.LastAppliedConfigAnnotation)
		token, err := json.Marshal(&corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			Type: s.Type,
			ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, Labels: labelled(s.Labels, incident),
				Annotations: annotations}})
		if err != nil {
			return nil, fmt.Errorf("recording Secret %s/%s: %w", s.Namespace, s.Name, err)
		}
		record.Tokens = append(record.Tokens, token)
	}
	return ResumeAccount(client, record)
}

// ResumeAccount goes on where an earlier process stopped, even where that had
// deleted the account and not yet made it anew.
func ResumeAccount(client *cluster.Client, record Record) (*Account, error) {
	a := &Account{client: client, record: record, old: types.UID(record.AccountUID), legacy: record.Secrets}
	if err := json.Unmarshal(record.Account, &a.next); err != nil || a.next == nil {
		return nil, fmt.Errorf("the journal's record of a ServiceAccount cannot be read: %w", err)
	}
	for _, raw := range record.Tokens {
		token := &corev1.Secret{}
		if err := json.Unmarshal(raw, token); err != nil {
			return nil, fmt.Errorf("the journal's record of a token Secret cannot be read: %w", err)
		}
		a.tokens = append(a.tokens, token)
	}
	return a, nil
}

// Names reports whether it is about that account.
func (a *Account) Names(namespace, name string) bool {
	return a.next.Namespace == namespace && a.next.Name == name
}

// New has nothing to make.
func (a *Account) New(context.Context) (Outcome, error) {
	return already("the API server makes tokens")
}

// Store has nowhere to store.
func (a *Account) Store(context.Context) (Outcome, error) {
	return already("the API server keeps them")
}

// Record holds the account as it will be made anew.
func (a *Account) Record() Record { return a.record }

// Update deletes the account and its legacy tokens, and makes them anew.
func (a *Account) Update(ctx context.Context) (Outcome, error) {
	for _, s := range a.legacy {
		if err := deleteSecret(ctx, a.client, s); err != nil {
			return Outcome{}, err
		}
	}
	if err := a.deleteOld(ctx); err != nil {
		return Outcome{}, err
	}
	if err := a.create(ctx); err != nil {
		return Outcome{}, err
	}
	for _, t := range a.tokens {
		if err := a.issue(ctx, t); err != nil {
			return Outcome{}, err
		}
	}
	note := "made anew: every token of before is invalid"
	if n := len(a.legacy); n > 0 {
		note += fmt.Sprintf("; %d legacy token Secrets deleted, %d of them made anew for what mounts them", n,
			len(a.tokens))
	}
	return done(note)
}

func (a *Account) name() string { return "ServiceAccount " + a.next.Namespace + "/" + a.next.Name }

func (a *Account) deleteOld(ctx context.Context) error {
	accounts := a.client.Kube.CoreV1().ServiceAccounts(a.next.Namespace)
	return await(ctx, a.name()+" to be gone", func(ctx context.Context) (bool, error) {
		live, err := accounts.Get(ctx, a.next.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return true, nil
		case err != nil:
			return false, fmt.Errorf("reading %s: %w", a.name(), err)
		case live.UID != a.old:
			return true, nil // made anew, by us or by the controller of default accounts
		case live.DeletionTimestamp != nil:
			return false, nil // finalizers are at work
		}
		err = persist(ctx, func(ctx context.Context) error {
			return accounts.Delete(ctx, a.next.Name,
				metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &a.old}})
		})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return false, fmt.Errorf("deleting %s: %w", a.name(), err)
		}
		return false, nil
	})
}

// create makes the account, or brings the one that the controller of default
// accounts made in between to what it was.
func (a *Account) create(ctx context.Context) error {
	accounts := a.client.Kube.CoreV1().ServiceAccounts(a.next.Namespace)
	err := persist(ctx, func(ctx context.Context) error {
		_, err := accounts.Create(ctx, a.next, metav1.CreateOptions{FieldManager: fieldManager})
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		patch, err := json.Marshal(map[string]any{
			"metadata":                     map[string]any{"labels": a.next.Labels, "annotations": a.next.Annotations},
			"imagePullSecrets":             a.next.ImagePullSecrets,
			"automountServiceAccountToken": a.next.AutomountServiceAccountToken})
		if err != nil {
			return err
		}
		_, err = accounts.Patch(ctx, a.next.Name, types.MergePatchType, patch,
			metav1.PatchOptions{FieldManager: fieldManager})
		return err
	})
	if err != nil {
		return fmt.Errorf("%s was deleted and could not be made anew; pods that use it cannot start until the same "+
			"command is run again: %w", a.name(), err)
	}
	return nil
}

// issue makes a legacy token Secret and waits until the token controller has
// filled it. That may first delete it once more, while it still thinks of the
// account of before.
func (a *Account) issue(ctx context.Context, token *corev1.Secret) error {
	secrets := a.client.Kube.CoreV1().Secrets(token.Namespace)
	return await(ctx, fmt.Sprintf("a token in Secret %s/%s", token.Namespace, token.Name),
		func(ctx context.Context) (bool, error) {
			live, err := secrets.Get(ctx, token.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				if _, err = secrets.Create(ctx, token,
					metav1.CreateOptions{FieldManager: fieldManager}); apierrors.IsAlreadyExists(err) {
					err = nil
				}
				return false, err
			}
			return err == nil && len(live.Data[corev1.ServiceAccountTokenKey]) > 0, err
		})
}

// DryRun asks whether the account may be deleted.
func (a *Account) DryRun(ctx context.Context) error {
	err := a.client.Kube.CoreV1().ServiceAccounts(a.next.Namespace).Delete(ctx, a.next.Name,
		metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}, Preconditions: &metav1.Preconditions{UID: &a.old}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting %s: %w", a.name(), err)
	}
	return nil
}

// Deactivate sees that the account is not the one of before.
func (a *Account) Deactivate(ctx context.Context) (Outcome, error) {
	live, err := a.client.Kube.CoreV1().ServiceAccounts(a.next.Namespace).Get(ctx, a.next.Name, metav1.GetOptions{})
	if err != nil {
		return Outcome{}, fmt.Errorf("reading %s: %w", a.name(), err)
	}
	if live.UID == a.old {
		return Outcome{}, fmt.Errorf("%s still is the one of before", a.name())
	}
	var names []string
	for _, s := range a.legacy {
		names = append(names, s.Name)
	}
	if slices.Sort(names); len(names) > 0 {
		return already(
			"tokens of the account's UID of before are not accepted any more; legacy token Secrets deleted: " +
				strings.Join(names, ", "))
	}
	return already("tokens of the account's UID of before are not accepted any more")
}
