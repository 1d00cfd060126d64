package rotate

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
)

// SecretRef is the kind Secret.
var SecretRef = cluster.Ref{Version: "v1", Resource: "secrets", Kind: "Secret"}

// Secrets rotates Secrets that nobody else keeps: the Kubernetes Secret is
// where the values live, unless the team's own command stores them elsewhere
// too. Several Secrets are one rotation where they share a password.
type Secrets struct {
	client  *cluster.Client
	digests Digests
	edits   []*secretEdit
	// passwords are those of PostgreSQL roles, new and old.
	passwords, previous map[string]Value
	prior               *Record
	command             Commander
}

// SecretPlan is one Secret and where each new value comes from.
type SecretPlan struct {
	Live    *corev1.Secret
	Sources map[string]Source
	// Revoked are the keys whose old value was revoked at its issuer, as the
	// responder says.
	Revoked []string
	// Owed are keys that an earlier rotation of this Secret has replaced and whose
	// old value nobody has revoked yet.
	Owed []string
}

type secretEdit struct {
	SecretPlan
	ref       cluster.Ref
	values    map[string]Value
	successor string
	change    change.Change // never journaled
}

// NewSecrets plans a rotation. prior is the record of an earlier process whose
// new values were found in the cluster; nil: there is none.
func NewSecrets(client *cluster.Client, digests Digests, prior *Record, command Commander,
	plans ...SecretPlan) *Secrets {
	s := &Secrets{client: client, digests: digests, prior: prior, command: command, passwords: map[string]Value{},
		previous: map[string]Value{}}
	for _, p := range plans {
		e := &secretEdit{SecretPlan: p, ref: SecretRef.Named(p.Live.Namespace, p.Live.Name, p.Live.UID),
			values: map[string]Value{}}
		if prior == nil && p.Live.Immutable != nil && *p.Live.Immutable {
			e.successor = successorName(p.Live.Name)
		}
		s.edits = append(s.edits, e)
	}
	return s
}

// successorSuffix is what irctl put behind a name before.
var successorSuffix = regexp.MustCompile(`-r[0-9a-z]{6}$`)

func successorName(name string) string {
	const longest, suffix = 253, 8
	name = successorSuffix.ReplaceAllString(name, "")
	name = strings.TrimRight(name[:min(len(name), longest-suffix)], "-.")
	return name + "-r" + strings.ToLower(letters(6))
}

// New makes the new values. Those of an earlier process are taken from where
// it put them.
func (s *Secrets) New(context.Context) (Outcome, error) {
	var made []string
	for _, e := range s.edits {
		for _, key := range slices.Sorted(maps.Keys(e.Sources)) {
			src := e.Sources[key]
			if src.Kind == Keep {
				continue
			}
			if err := s.value(e, key, src); err != nil {
				return Outcome{}, fmt.Errorf("key %s of %s: %w", key, e.ref, err)
			}
			made = append(made, fmt.Sprintf("%s (%s)", key, src.Kind))
		}
	}
	if s.prior != nil {
		return already("an earlier run made them")
	}
	return done(strings.Join(made, ", "))
}

func (s *Secrets) value(e *secretEdit, key string, src Source) error {
	old := e.Live.Data[key]
	if s.prior != nil {
		e.values[key] = NewValue(old)
		if src.Kind == Role {
			password, err := passwordIn(old)
			s.passwords[src.Role] = NewValue(password)
			return err
		}
		return nil
	}
	switch src.Kind {
	case Supplied:
		if bytes.Equal(bytes.TrimRight(src.Value.Reveal(), "\r\n"), bytes.TrimRight(old, "\r\n")) {
			return errors.New("the value that was supplied is the one that leaked: get a new one from its issuer")
		}
		e.values[key] = src.Value
		return nil
	case Role:
		return s.password(e, key, src.Role)
	}
	if f := FormOf(old); !f.Takes(src.Kind) {
		return errors.New(f.Refusal(key))
	}
	if f := FormOf(e.Live.Data[src.Public]); src.Public != "" && !f.TakesPublic() {
		return fmt.Errorf("the public half has no place in key %s: %s", src.Public, f.Refusal(src.Public))
	}
	value, public, err := generate(src.Kind)
	e.values[key] = value
	if src.Public != "" {
		e.values[src.Public] = public
	}
	return err
}

// password gives every key of the same role the same new password.
func (s *Secrets) password(e *secretEdit, key, role string) error {
	old, err := passwordIn(e.Live.Data[key])
	if err != nil {
		return err
	}
	if f := FormOf(e.Live.Data[key]); !f.TakesPassword() {
		return fmt.Errorf("it is %s, and holds no password that a role's could replace", f.Name)
	}
	if _, ok := s.passwords[role]; !ok {
		s.passwords[role], s.previous[role] = NewValue([]byte(letters(32))), NewValue(old)
	}
	e.values[key] = NewValue(withPassword(e.Live.Data[key], s.passwords[role].Reveal()))
	return nil
}

// Store runs the team's own commands.
func (s *Secrets) Store(ctx context.Context) (Outcome, error) {
	if s.prior != nil {
		return already("an earlier run did")
	}
	ran := 0
	for _, e := range s.edits {
		for _, key := range slices.Sorted(maps.Keys(e.Sources)) {
			if argv := e.Sources[key].Command; len(argv) > 0 {
				if err := s.command.Run(ctx, argv, e.ref, key, e.values[key], s.all()); err != nil {
					return Outcome{}, err
				}
				ran++
			}
		}
	}
	if ran == 0 {
		return already("the Kubernetes Secret is where it lives")
	}
	return done(fmt.Sprintf("%d of the team's commands stored it", ran))
}

// Record tells the digests.
func (s *Secrets) Record() Record {
	if s.prior != nil {
		return *s.prior
	}
	r := Record{Rotator: "secret"}
	for _, e := range s.edits {
		sr := SecretRecord{Namespace: e.ref.Namespace, Name: e.ref.Name, UID: string(e.ref.UID), Successor: e.successor,
			Keys: map[string]KeyDigests{}}
		for key, src := range e.Sources {
			if src.Kind == Keep {
				sr.Kept = append(sr.Kept, key)
			}
		}
		slices.Sort(sr.Kept)
		for key, v := range e.values {
			sr.Keys[key] = KeyDigests{Before: s.digests.Of(e.Live.Data[key]), After: s.digests.Of(v.Reveal()),
				Source: string(e.Sources[key].Kind), Role: e.Sources[key].Role}
		}
		r.Secrets = append(r.Secrets, sr)
	}
	return r
}

// Update writes the Secrets, all of them or none: where one fails, those
// before it are put back.
func (s *Secrets) Update(ctx context.Context) (Outcome, error) {
	if s.prior != nil {
		return already("an earlier run did")
	}
	for i, e := range s.edits {
		e.plan(s.command.Incident)
		if _, err := write(ctx, s.client, e.change, s.all()...); err != nil {
			return Outcome{}, errors.Join(err, s.revert(ctx, s.edits[:i]))
		}
	}
	var notes []string
	for _, e := range s.edits {
		if e.successor != "" {
			notes = append(notes, fmt.Sprintf("Secret %s/%s takes the place of %s", e.ref.Namespace, e.successor,
				e.ref.Name))
		}
	}
	return done(strings.Join(notes, "; "))
}

// DryRun asks what the API server would say to the new values.
func (s *Secrets) DryRun(ctx context.Context) error {
	for _, e := range s.edits {
		if s.prior != nil {
			continue
		}
		e.plan(s.command.Incident)
		if err := e.change.DryRun(ctx, s.client.Dynamic); err != nil {
			return untold(err, s.all())
		}
	}
	return nil
}

// plan makes the change: fields of a Secret that can be changed, or another
// Secret in place of one that cannot.
func (e *secretEdit) plan(incident string) {
	if e.successor != "" {
		e.change = change.NewCreate(e.ref.Named(e.ref.Namespace, e.successor, ""), e.manifest(incident))
		return
	}
	var fields []change.Field
	for _, key := range slices.Sorted(maps.Keys(e.values)) {
		f := change.Field{Path: []string{"data", key}, After: base64.StdEncoding.EncodeToString(e.values[key].Reveal())}
		if old, ok := e.Live.Data[key]; ok {
			f.Before = base64.StdEncoding.EncodeToString(old)
		}
		fields = append(fields, f)
	}
	e.change, _ = change.NewEdit(e.ref, "", e.Live.ResourceVersion, fields...)
}

// manifest is the successor: the same, with the new values.
func (e *secretEdit) manifest(incident string) map[string]any {
	next := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: e.successor, Namespace: e.ref.Namespace,
			Labels:      labelled(e.Live.Labels, incident),
			Annotations: maps.Clone(e.Live.Annotations), OwnerReferences: e.Live.OwnerReferences},
		Type: e.Live.Type, Data: maps.Clone(e.Live.Data), Immutable: e.Live.Immutable}
	delete(next.Annotations, corev1.LastAppliedConfigAnnotation) // it would hold the old values
	for key, v := range e.values {
		next.Data[key] = v.Reveal()
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(next)
	if err != nil {
		panic("a Secret that is not convertible: " + err.Error()) // it is a plain struct of the API
	}
	delete(m["metadata"].(map[string]any), "creationTimestamp")
	return m
}

// labelled are the labels of what is created in the place of another object.
func labelled(of map[string]string, incident string) map[string]string {
	if incident == "" {
		return of
	}
	next := map[string]string{change.IncidentLabel: incident}
	for k, v := range of {
		if k != change.IncidentLabel {
			next[k] = v
		}
	}
	return next
}

// revertTime bounds putting back what was written before something failed; it
// runs also when the run itself was cancelled.
const revertTime = 30 * time.Second

func (s *Secrets) revert(ctx context.Context, edits []*secretEdit) error {
	if s.prior != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revertTime)
	defer cancel()
	var errs []error
	for _, e := range slices.Backward(edits) {
		if _, err := e.change.Undo(ctx, s.client.Dynamic); err != nil {
			errs = append(errs, fmt.Errorf("%s holds the new value already, and the old one could not be put back: %w",
				e.ref, untold(err, s.all())))
		}
	}
	return errors.Join(errs...)
}

// Deactivate deletes the predecessors of successors. What only an issuer can
// revoke is left to a person; anything else is dead once nobody accepts it.
func (s *Secrets) Deactivate(ctx context.Context) (Outcome, error) {
	out := Outcome{Result: change.Already}
	var notes []string
	for _, e := range s.edits {
		for _, key := range e.supplied() {
			if slices.Contains(e.Revoked, key) {
				notes = append(notes, fmt.Sprintf("the old %s was revoked at its issuer, as the responder says", key))
				continue
			}
			out.Left = append(out.Left, fmt.Sprintf(
				"revoke the old %s of Secret %s/%s at its issuer, then say so with --revoked %s/%s", key,
				e.ref.Namespace, e.ref.Name, e.ref.Name, key))
		}
	}
	for _, r := range s.Record().Secrets {
		if r.Successor == "" {
			continue
		}
		if err := deleteSecret(ctx, s.client, r); err != nil {
			return out, err
		}
		out.Result = change.Done
		notes = append(notes, fmt.Sprintf("Secret %s/%s deleted", r.Namespace, r.Name))
	}
	if len(notes) == 0 && len(out.Left) == 0 {
		notes = append(notes, "nothing that runs accepts the old value")
	}
	for _, r := range s.Record().Secrets {
		if len(r.Kept) > 0 {
			notes = append(notes, "not replaced, and as valid as before: "+strings.Join(r.Kept, ", "))
		}
	}
	out.Note = strings.Join(append(notes, out.Left...), "; ")
	return out, nil
}

// supplied are the keys whose old value only its issuer can revoke.
func (e *secretEdit) supplied() []string {
	keys := slices.Clone(e.Owed)
	for key, src := range e.Sources {
		if src.Kind == Supplied && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func deleteSecret(ctx context.Context, client *cluster.Client, r SecretRecord) error {
	uid := types.UID(r.UID)
	err := persist(ctx, func(ctx context.Context) error {
		return client.Kube.CoreV1().Secrets(r.Namespace).Delete(ctx, r.Name,
			metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // gone, or another of that name
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting Secret %s/%s: %w", r.Namespace, r.Name, err)
	}
	return nil
}

// all are the values that no text may hold, old and new.
func (s *Secrets) all() []Value {
	var list []Value
	for _, e := range s.edits {
		for _, v := range e.values {
			list = append(list, v)
		}
		for key, src := range e.Sources {
			if src.Kind != Keep {
				list = append(list, NewValue(e.Live.Data[key]), src.Value)
			}
		}
	}
	for _, m := range []map[string]Value{s.passwords, s.previous} {
		list = slices.AppendSeq(list, maps.Values(m))
	}
	return list
}

// persist repeats a call that is safe to repeat until it succeeds, fails for
// good, or the context ends.
func persist(ctx context.Context, call func(context.Context) error) error {
	var last error
	err := cluster.Wait{First: 50 * time.Millisecond, Longest: 2 * time.Second}.Until(ctx,
		func(ctx context.Context) (bool, error) {
			err := call(ctx)
			if err == nil || ctx.Err() == nil {
				last = err
			}
			return err == nil, err
		})
	var over *cluster.WaitError
	if errors.As(err, &over) && last != nil {
		return last // which names the cause
	}
	return err
}

// await asks until the answer is yes, an error that does not pass, or the end of
// the context.
func await(ctx context.Context, what string, ask func(context.Context) (bool, error)) error {
	return cluster.Wait{For: what}.Until(ctx, ask)
}

// NewKey draws the key of an incident's digests.
func NewKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return key
}
