// Package eradicate takes from the attacker what the suspect could give away:
// it finds every secret that the suspect could read and everything that uses
// it, replaces them, deploys the patched version and the team's policies.
//
// The order is what makes it safe: a workload is restarted only once the
// Secret that it will read holds the new value, and the old one is made
// worthless only once nothing uses it any more.
package eradicate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/cluster"
	"irctl/internal/cluster/rights"
	"irctl/internal/rotate"
	"irctl/internal/steps"
)

// Phase is the name of this phase in the journal.
const Phase = "eradicate"

// Radius is the blast radius of the suspects: the secrets that they could
// read, in the order in which they are rotated, and what uses each. Its JSON
// form is documented and stable.
type Radius struct {
	Items []*Item `json:"secrets"`
	// Bindings are what gives the suspects' service accounts rights.
	Bindings []*Binding      `json:"bindings,omitempty"`
	Warnings []steps.Warning `json:"warnings,omitempty"`

	client *cluster.Client
	// workloads of each namespace that has one of the secrets.
	workloads map[string][]*Workload
	suspects  map[types.UID]bool
	// gone are Secrets that the suspects name and that do not exist.
	gone []*Item
	// rightsErr is why it is not known what the accounts may do.
	rightsErr error
	// imaged are the workloads that get a new image.
	imaged []*Workload
}

// Item is a Secret or a ServiceAccount whose credentials the suspects could read.
type Item struct {
	Order     int    `json:"order"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Type      string `json:"type,omitempty"`
	Immutable bool   `json:"immutable,omitempty"`
	// Rotator is how it is replaced: secret, postgres, service-account,
	// external-secret, cert-manager; "": it cannot be, see Problem.
	Rotator string `json:"rotator,omitempty"`
	// Keeper is what keeps it, where that is not a person.
	Keeper string `json:"keeper,omitempty"`
	Keys   []Key  `json:"keys,omitempty"`
	// Exposed says how the suspects could read it.
	Exposed []string `json:"exposed"`
	Users   []User   `json:"users"`
	// Rotated: this incident has replaced every value of it, but those that are
	// kept as no secret.
	Rotated bool `json:"rotated,omitempty"`
	// Problem is what keeps it from being rotated, and what to do about it.
	Problem string `json:"problem,omitempty"`

	ref     cluster.Ref
	secret  *corev1.Secret
	account *corev1.ServiceAccount
	keeper  *keeper
	users   []*Workload
	missing bool
	// unread: it could not be read, so that nothing is known of it.
	unread bool
}

// ErrUnlooked: what the suspects could read could not be looked at.
var ErrUnlooked = errors.New("it could not be looked at")

// Unlooked is what could not be looked at, and why: while there is any, nobody
// knows what the attacker still has.
func (r *Radius) Unlooked() []string {
	var list []string
	for _, w := range r.Warnings {
		if w.Code == unreadable && !slices.Contains(list, w.Text) {
			list = append(list, w.Text)
		}
	}
	for _, i := range r.Items {
		if i.unread {
			list = append(list, i.ref.String()+" could not be read: "+i.Problem)
		}
	}
	return list
}

// Blind: nothing at all could be looked at.
func (r *Radius) Blind() bool {
	return len(r.Unlooked()) > 0 && !slices.ContainsFunc(r.Items, func(i *Item) bool { return !i.unread })
}

// unreadable is the code of warnings of what could not be looked at.
const unreadable = "unreadable"

// Key is one key of a Secret.
type Key struct {
	Name string `json:"name"`
	// Source is where its new value will come from: random, password, rsa,
	// ecdsa, ed25519, supplied, role, keep; "": nobody said yet.
	Source string `json:"source,omitempty"`
	// Issuer alone can issue such a value.
	Issuer string `json:"issuer,omitempty"`
	// Form is what the value is, where that is more than free text: "a PEM private key".
	Form string `json:"form,omitempty"`
	// Empty: it has no value, so nothing of it can leak, and none is put there.
	Empty bool `json:"empty,omitempty"`
	// Problem is why it stays as it is, and what to do about it.
	Problem string `json:"problem,omitempty"`

	form rotate.Form
}

// User is a workload that uses a secret.
type User struct {
	Object string   `json:"object"`
	Where  []string `json:"where"`
	// Restart tells whether it is restarted, Reason why not.
	Restart bool   `json:"restart"`
	Reason  string `json:"reason,omitempty"`
}

// Key is "namespace/name", with the kind where that is not Secret.
func (i *Item) Key() string {
	key := i.Namespace + "/" + i.Name
	if i.Kind != rotate.SecretRef.Kind {
		return strings.ToLower(i.Kind) + ":" + key
	}
	return key
}

// finder collects what the suspects could read.
type finder struct {
	*Radius
	mu      sync.Mutex
	items   map[string]*Item
	targets []*cluster.Target
	// accounts are those of the suspects, with their tokens.
	accounts []rights.Subject
	// src are all roles and bindings, and before what they were when the
	// incident had not changed them yet.
	src    rights.Sources
	before earlier
}

// Find reads the blast radius of the scene's targets, and what is named beside
// it. It changes nothing. What cannot be read is a warning.
func Find(ctx context.Context, scene *steps.Scene, beside Beside) (*Radius, error) {
	f := &finder{Radius: &Radius{client: scene.Client, workloads: map[string][]*Workload{},
		suspects: map[types.UID]bool{}, Items: []*Item{}},
		items: map[string]*Item{}, targets: scene.Targets}
	src, err := scene.Client.RBAC(ctx)
	if f.rightsErr = err; err != nil {
		f.warn(unreadable, "what the suspects' service accounts may read is not known: "+err.Error(),
			cluster.ToRead(err, "get the right to list roles and bindings"))
		beside.Changed = nil
	}
	f.src, f.before = src, before(src, beside.Changed)
	for _, t := range scene.Targets {
		f.suspects[t.Pod.UID] = true
		f.suspect(ctx, t.Key(), t.Pod.Namespace, podSpec(t))
	}
	for _, chain := range scene.Workloads {
		if spec := chainSpec(chain); spec != nil {
			f.suspect(ctx, chain[0].Ref.String(), chain[0].Namespace, spec)
		}
	}
	f.Bindings = bindings(f.accounts, src)
	for _, ref := range beside.Named {
		f.add(ref, "named by the responder")
	}
	f.read(ctx)
	f.use(ctx, heldBy(scene))
	f.sort()
	return f.Radius, ctx.Err()
}

func (f *finder) warn(code, text, fix string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Warnings = append(f.Warnings, steps.Warning{Code: code, Text: text, Fix: fix})
}

// podSpec is the suspect's spec or, where the pod is gone, its workload's.
func podSpec(t *cluster.Target) map[string]any {
	if len(t.Pod.Spec.Containers) > 0 {
		spec, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&t.Pod.Spec)
		if err == nil {
			return spec
		}
	}
	return chainSpec(t.Owners)
}

// chainSpec is the pod's spec of the first controller that has a template.
func chainSpec(chain []*cluster.Owner) map[string]any {
	for _, o := range chain {
		if w := workloadOf(o); w != nil {
			return w.spec()
		}
	}
	return nil
}

func workloadOf(o *cluster.Owner) *Workload {
	for _, k := range kinds {
		if o.Object != nil && k.Kind == o.Kind && k.Group == o.Group && k.template != nil {
			return &Workload{Ref: o.Ref, object: o.Object, template: k.template}
		}
	}
	return nil
}

// heldBy are the workloads that the incident is about.
func heldBy(scene *steps.Scene) map[types.UID]bool {
	held := map[types.UID]bool{}
	for _, t := range scene.Targets {
		for _, o := range t.Owners {
			held[o.UID] = true
		}
	}
	for _, chain := range scene.Workloads {
		for _, o := range chain {
			held[o.UID] = true
		}
	}
	return held
}

// suspect adds what one suspect could read.
func (f *finder) suspect(ctx context.Context, who, namespace string, spec map[string]any) {
	if spec == nil {
		f.warn(unreadable, who+": neither the pod nor its workload can be read, so what it could read is not known"+
			f.denied(ctx, who),
			"name the secrets with --secret")
		return
	}
	for _, r := range references(spec) {
		f.add(rotate.SecretRef.Named(namespace, r.name, ""), fmt.Sprintf("%s mounts it: %s", who, r.where))
	}
	name, token := account(spec, f.mountsToken(ctx, namespace, spec))
	if !token {
		return
	}
	f.add(rotate.AccountRef.Named(namespace, name, ""), who+" has its token")
	subject := rights.Subject{Namespace: namespace, Name: name}
	if !slices.Contains(f.accounts, subject) {
		f.accounts = append(f.accounts, subject)
	}
	now, then := rights.For(subject, f.src), rights.For(subject, f.before.Sources)
	f.readable(ctx, who, now, then)
	if ways := indirect(union(now, then).Dangers()); len(ways) > 0 {
		what := "may do"
		if len(f.before.changed) > 0 {
			what = "may do, or could before this incident"
		}
		f.warn("indirect", fmt.Sprintf("%s could reach further secrets by what its service account %s: %s", who, what,
			strings.Join(ways, "; ")), "name them with --secret")
	}
	for _, what := range f.before.unknown(subject, now, then) {
		f.warn(unreadable, fmt.Sprintf(
			"what %s could read by its service account before this incident is not fully known: %s", who, what),
			"name the secrets with --secret")
	}
}

// denied is why a suspect's pod cannot be read; "": it is gone.
func (f *finder) denied(ctx context.Context, who string) string {
	for _, t := range f.targets {
		if t.Key() != who {
			continue
		}
		_, err := f.client.Kube.CoreV1().Pods(t.Pod.Namespace).Get(ctx, t.Pod.Name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return ": " + err.Error()
		}
	}
	return ""
}

// indirect are the dangers by which one gets at secrets without reading them
// by the API.
func indirect(dangers []string) []string {
	return slices.DeleteFunc(slices.Clone(dangers), func(d string) bool { return strings.HasPrefix(d, "read ") })
}

func (f *finder) mountsToken(ctx context.Context, namespace string, spec map[string]any) bool {
	name, _ := account(spec, true)
	live, err := f.client.Kube.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	return err != nil || live.AutomountServiceAccountToken == nil || *live.AutomountServiceAccountToken
}

// readable adds the Secrets that the account's rights let it read, now or
// before the incident took them from it.
func (f *finder) readable(ctx context.Context, who string, now, then rights.Rights) {
	r := union(now, then)
	add := func(namespace, name string) {
		how := who + " may read it by its service account"
		if !may(now, namespace, name) {
			how = who + " could read it by its service account until " + f.before.until(then, namespace, name)
		}
		f.add(rotate.SecretRef.Named(namespace, name, ""), how)
	}
	scopes := map[string]bool{}
	for _, g := range r.Grants {
		if !slices.ContainsFunc(g.Rules, readsSecrets) {
			continue
		}
		scopes[g.Scope] = true
		for _, rule := range g.Rules {
			for _, name := range rule.ResourceNames {
				if g.Scope != "" && readsSecrets(rule) { // known without a list
					add(g.Scope, name)
				}
			}
		}
	}
	if scopes[""] {
		scopes = map[string]bool{"": true}
	}
	for _, ns := range slices.Sorted(maps.Keys(scopes)) {
		all, err := f.client.ListMetadata(ctx, rotate.SecretRef, ns, "")
		if err != nil {
			f.warn(unreadable, who+" may read Secrets by its service account, and which there are is not known: "+
				err.Error(), cluster.ToRead(err, "get the right to list secrets"))
		}
		for _, m := range all {
			if may(r, m.Namespace, m.Name) {
				add(m.Namespace, m.Name)
			}
		}
	}
}

func readsSecrets(rule rbacv1.PolicyRule) bool {
	has := func(list []string, any ...string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return s == "*" || slices.Contains(any, s) })
	}
	return has(rule.APIGroups, "") && has(rule.Resources, "secrets") && has(rule.Verbs, "get", "list", "watch")
}

func may(r rights.Rights, namespace, name string) bool {
	return slices.ContainsFunc([]string{"get", "list", "watch"}, func(verb string) bool {
		return r.Allows(verb, "", "secrets", namespace, name)
	})
}

func (f *finder) add(ref cluster.Ref, how string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := ref.Kind + " " + ref.Namespace + "/" + ref.Name
	item, ok := f.items[key]
	if !ok {
		item = &Item{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name, ref: ref, Users: []User{}}
		f.items[key] = item
	}
	if !slices.Contains(item.Exposed, how) {
		item.Exposed = append(item.Exposed, how)
	}
}

// read reads the objects themselves, and what keeps them.
func (f *finder) read(ctx context.Context) {
	f.pullSecrets(ctx)
	f.tokenAccounts(ctx)
	list := slices.Collect(maps.Values(f.items))
	keepers := newKeepers(f.client)
	cluster.Parallel(len(list), func(n int) {
		i := list[n]
		err := i.load(ctx, f.client)
		switch {
		case apierrors.IsNotFound(err) && i.Kind == rotate.AccountRef.Kind:
			// perhaps an interrupted rotation
			i.missing, i.Problem = true, "it does not exist: pods that use it cannot start"
		case apierrors.IsNotFound(err):
			i.missing = true
		case err != nil:
			i.Problem, i.unread = err.Error(), true
		case i.secret != nil:
			i.keeper, err = keepers.of(ctx, i.secret)
			if err != nil {
				i.Problem, i.unread = err.Error(), true
			}
		}
	})
	for _, i := range list {
		if i.missing && i.Kind == rotate.SecretRef.Kind {
			f.gone = append(f.gone, i)
			continue
		}
		f.Items = append(f.Items, i)
	}
}

// pullSecrets adds the legacy tokens of the accounts: they are rotated with them.
func (f *finder) pullSecrets(ctx context.Context) {
	for _, i := range slices.Collect(maps.Values(f.items)) {
		if i.Kind != rotate.AccountRef.Kind {
			continue
		}
		all, err := f.client.ListMetadata(ctx, rotate.SecretRef, i.Namespace, "")
		if err != nil {
			f.warn(unreadable, "whether "+i.ref.String()+" has legacy token Secrets is not known: "+err.Error(),
				cluster.ToRead(err, "get the right to list secrets"))
		}
		for _, m := range all {
			if m.Annotations[corev1.ServiceAccountNameKey] == i.Name {
				f.add(rotate.SecretRef.Named(m.Namespace, m.Name, ""), "it holds a token of "+i.ref.String())
			}
		}
	}
}

// tokenAccounts adds the accounts whose tokens are in Secrets that the suspects
// could read: a token is replaced with its account only.
func (f *finder) tokenAccounts(ctx context.Context) {
	list := slices.Collect(maps.Values(f.items))
	cluster.Parallel(len(list), func(n int) {
		i := list[n]
		if i.Kind != rotate.SecretRef.Kind {
			return
		}
		s, err := f.client.Kube.CoreV1().Secrets(i.Namespace).Get(ctx, i.Name, metav1.GetOptions{})
		if err == nil && s.Type == corev1.SecretTypeServiceAccountToken &&
			s.Annotations[corev1.ServiceAccountNameKey] != "" {
			f.add(rotate.AccountRef.Named(i.Namespace, s.Annotations[corev1.ServiceAccountNameKey], ""),
				"a token of it is in "+i.ref.String())
		}
	})
}

func (i *Item) load(ctx context.Context, client *cluster.Client) (err error) {
	if i.Kind == rotate.AccountRef.Kind {
		if i.account, err = client.Kube.CoreV1().ServiceAccounts(i.Namespace).
			Get(ctx, i.Name, metav1.GetOptions{}); err == nil {
			i.ref.UID = i.account.UID
		}
		return err
	}
	if i.secret, err = client.Kube.CoreV1().Secrets(i.Namespace).Get(ctx, i.Name, metav1.GetOptions{}); err != nil {
		i.secret = nil
		return err
	}
	i.ref.UID, i.Type, i.Immutable = i.secret.UID, string(i.secret.Type), i.secret.Immutable != nil &&
		*i.secret.Immutable
	for _, key := range slices.Sorted(maps.Keys(i.secret.Data)) {
		value := i.secret.Data[key]
		form := rotate.FormOf(value)
		i.Keys = append(i.Keys, Key{Name: key, Issuer: rotate.Issuer(key, value), Form: form.Name, form: form,
			Empty: len(value) == 0})
	}
	return nil
}

// use finds what uses each.
func (f *finder) use(ctx context.Context, held map[types.UID]bool) {
	namespaces := map[string]bool{}
	for _, i := range f.Items {
		namespaces[i.Namespace] = true
	}
	for _, ns := range slices.Sorted(maps.Keys(namespaces)) {
		list, gaps := workloads(ctx, f.client, ns, f.suspects)
		for _, g := range gaps {
			f.warn(unreadable, "what uses the secrets is not fully known: "+g.String(),
				cluster.ToRead(g.Err, "get the right to list it"))
		}
		for _, w := range list {
			w.held = held[w.UID]
			w.blocker = f.blocker(w)
		}
		f.workloads[ns] = list
	}
	ingresses := f.ingresses(ctx, namespaces)
	without := f.withoutToken()
	for _, i := range f.Items {
		for _, w := range f.workloads[i.Namespace] {
			i.usedBy(w, !without[i.Namespace+"/"+i.Name])
		}
		for _, name := range ingresses[i.Namespace+"/"+i.Name] {
			if i.Kind == rotate.SecretRef.Kind {
				i.Users = append(i.Users, User{Object: "Ingress " + i.Namespace + "/" + name,
					Where: []string{"spec.tls"}, Reason: "its controller takes the new value by itself"})
			}
		}
	}
}

// blocker is the suspect that has the name of a pod which a StatefulSet would
// start: that cannot be while the suspect is kept.
func (f *finder) blocker(w *Workload) string {
	for _, t := range f.targets {
		ordinal, ok := strings.CutPrefix(t.Pod.Name, w.Name+"-")
		n, err := strconv.ParseInt(ordinal, 10, 64)
		if w.Kind == cluster.StatefulSet.Kind && ok && err == nil && t.Pod.Namespace == w.Namespace &&
			n < w.desired() && len(t.Pod.Spec.Containers) > 0 && metav1.GetControllerOf(t.Pod) == nil {
			return t.Pod.Name
		}
	}
	return ""
}

// usedBy notes where a workload uses the item, if it does.
func (i *Item) usedBy(w *Workload, mounts bool) {
	var where []string
	pull := true
	spec := w.spec()
	if i.Kind == rotate.AccountRef.Kind {
		if name, token := account(spec, mounts); name == i.Name && token {
			where, pull = []string{"serviceAccountName"}, false
		}
	} else {
		for _, r := range references(spec) {
			if r.name == i.Name {
				where, pull = append(where, r.where), pull && r.pull
			}
		}
	}
	if len(where) == 0 {
		return
	}
	u := User{Object: w.Ref.String(), Where: where}
	if u.Reason, _ = w.stays(); pull {
		u.Reason = "the kubelet reads it at the next pull"
	}
	u.Restart = u.Reason == ""
	i.Users = append(i.Users, u)
	if !pull || i.Immutable {
		i.users = append(i.users, w)
	}
}

// withoutToken are the accounts whose pods get no token unless they say so.
func (f *finder) withoutToken() map[string]bool {
	without := map[string]bool{}
	for _, i := range f.Items {
		if i.account != nil && i.account.AutomountServiceAccountToken != nil &&
			!*i.account.AutomountServiceAccountToken {
			without[i.Namespace+"/"+i.Name] = true
		}
	}
	return without
}

// ingresses are those that use a Secret for TLS, by "namespace/secret".
func (f *finder) ingresses(ctx context.Context, namespaces map[string]bool) map[string][]string {
	found := map[string][]string{}
	for _, ns := range slices.Sorted(maps.Keys(namespaces)) {
		err := cluster.Pages(ctx, f.client.Kube.NetworkingV1().Ingresses(ns).List, metav1.ListOptions{},
			func(page *networkingv1.IngressList) {
				for _, in := range page.Items {
					for _, name := range tlsSecrets(in.Spec.TLS) {
						found[ns+"/"+name] = append(found[ns+"/"+name], in.Name)
					}
				}
			})
		if apierrors.IsNotFound(err) {
			continue // the cluster has none
		}
		if err != nil {
			f.warn(unreadable, "which Ingresses use the secrets is not known: "+err.Error(),
				cluster.ToRead(err, "get the right to list ingresses"))
		}
	}
	return found
}

func tlsSecrets(list []networkingv1.IngressTLS) []string {
	var names []string
	for _, t := range list {
		if t.SecretName != "" && !slices.Contains(names, t.SecretName) {
			names = append(names, t.SecretName)
		}
	}
	return names
}

// sort gives the order of rotation: Secrets by name, and accounts last, since
// a new account is a new identity for everything that the others restart.
func (f *finder) sort() {
	slices.SortFunc(f.Items, func(a, b *Item) int {
		if a.Kind != b.Kind {
			return -strings.Compare(b.Kind, a.Kind)
		}
		return strings.Compare(a.Key(), b.Key())
	})
	for n, i := range f.Items {
		i.Order = n + 1
	}
}

// Ref is the object.
func (i *Item) Ref() cluster.Ref { return i.ref }
