package eradicate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"irctl/internal/cluster"
	"irctl/internal/rotate"
	"irctl/internal/steps"
)

// Options say which secrets to replace and by what.
type Options struct {
	// Secrets are chosen by "name", "namespace/name" or "serviceaccount/name".
	Secrets []string
	// All chooses every one that was found.
	All bool
	// Sources say of keys where their new value comes from, by "key",
	// "secret/key" or "namespace/secret/key".
	Sources map[string]rotate.Source
	// Rest is how keys are made of which nothing is said and which no third
	// party is known to issue; "": a Secret with such a key is refused.
	Rest rotate.Kind
	// Revoked are keys whose old value was revoked at its issuer.
	Revoked []string
	// Database is where the roles are; nil: none was named.
	Database *rotate.Database
	// Again replaces also what this incident has replaced already.
	Again bool
	// Images are the patched versions to deploy in the incident's workloads.
	Images []Image
	// Manifests are to be applied; Namespace is that of those which have none,
	// ForceConflicts takes fields from other field managers.
	Manifests      []Manifest
	Namespace      string
	ForceConflicts bool
	// RemoveBindings takes the suspects' accounts out of their bindings.
	RemoveBindings bool
}

// Changes reports whether anything is to be changed at all.
func (o Options) Changes() bool {
	return o.Chooses() || len(o.Images)+len(o.Manifests) > 0 || o.RemoveBindings
}

// Named are the secrets that are chosen with their namespace: they can be
// replaced also where no suspect is known to have read them.
func (o Options) Named() []cluster.Ref {
	var list []cluster.Ref
	for _, name := range o.Secrets {
		parts := strings.Split(name, "/")
		switch kind := strings.ToLower(parts[0]); {
		case len(parts) == 3 && (kind == "serviceaccount" || kind == "serviceaccounts" || kind == "sa"):
			list = append(list, rotate.AccountRef.Named(parts[1], parts[2], ""))
		case len(parts) == 3 && (kind == "secret" || kind == "secrets"):
			list = append(list, rotate.SecretRef.Named(parts[1], parts[2], ""))
		case len(parts) == 2 && kind != "serviceaccount" && kind != "serviceaccounts" && kind != "sa" && kind != "secret" && kind != "secrets":
			list = append(list, rotate.SecretRef.Named(parts[0], parts[1], ""))
		}
	}
	return list
}

// Chooses reports whether secrets are to be rotated.
func (o Options) Chooses() bool { return o.All || len(o.Secrets) > 0 }

// Rotation is one rotator and what it replaces.
type Rotation struct {
	rotate.Rotator
	Items []*Item
	// Prior is what the journal tells of it; nil: nothing.
	Prior *History
}

// Name names what is replaced.
func (r *Rotation) Name() string {
	var out []string
	for _, i := range r.Items {
		out = append(out, i.ref.String())
	}
	return strings.Join(out, " and ")
}

// History is what the journal tells of a rotation whose new values were found
// in the cluster.
type History struct {
	Record rotate.Record
	// Seq is that of its intent to update.
	Seq int64
	// Updated and Deactivated: these calls are known to have succeeded.
	Updated, Deactivated bool
}

// Context is what rotators are made with.
type Context struct {
	Digests  rotate.Digests
	Incident string
	Now      func() time.Time
	// History are the rotations of the journal, the last first.
	History []History
}

// chooser makes rotators.
type chooser struct {
	*Radius
	Options
	Context
	used map[string]bool // of the sources
}

// Choose makes the rotators of the chosen items. What cannot be rotated is
// refused by itself. The error is that the choice makes no sense.
func Choose(ctx context.Context, r *Radius, o Options, c Context) ([]*Rotation, []steps.Refusal, error) {
	ch := &chooser{Radius: r, Options: o, Context: c, used: map[string]bool{}}
	ch.departed()
	chosen, err := ch.chosen()
	if err != nil {
		return nil, nil, err
	}
	var rotations []*Rotation
	var refusals []steps.Refusal
	groups := ch.groups(chosen)
	for _, items := range groups {
		rotation, err := ch.rotation(ctx, items)
		if err == nil {
			rotations = append(rotations, rotation)
			continue
		}
		for _, i := range items {
			i.Problem = err.Error()
			refusals = append(refusals, steps.Refusal{Action: "rotate", Object: i.ref.String(), Reason: err.Error()})
		}
	}
	for name := range o.Sources {
		if !ch.used[name] && o.Chooses() {
			return nil, nil, fmt.Errorf("no chosen secret has a key %q", name)
		}
	}
	return rotations, refusals, nil
}

// departed are the immutable Secrets that this incident has replaced and
// deleted: the suspects still name them.
func (c *chooser) departed() {
	for _, i := range c.gone {
		for _, h := range c.History {
			for _, s := range h.Record.Secrets {
				if s.Successor == "" || s.Namespace != i.Namespace || s.Name != i.Name || i.Rotated {
					continue
				}
				i.Rotator, i.Rotated, i.Order = h.Record.Rotator, true, len(c.Items)+1
				for key := range s.Keys {
					i.Keys = append(i.Keys, Key{Name: key})
				}
				c.sources(i)
				c.Items = append(c.Items, i)
			}
		}
		if !i.Rotated {
			c.Warnings = append(c.Warnings, steps.Warning{Code: "missing", Text: i.ref.String() + " does not exist: nothing of it can leak any more, and what names it cannot start"})
		}
	}
	c.gone = nil
}

// chosen are the items that the options name.
func (c *chooser) chosen() ([]*Item, error) {
	if c.All {
		return slices.DeleteFunc(slices.Clone(c.Items), func(i *Item) bool { return i.departed() }), nil
	}
	var list []*Item
	for _, name := range c.Secrets {
		n := 0
		for _, i := range c.Items {
			if i.named(name) && !i.departed() && !slices.Contains(list, i) {
				list = append(list, i)
			}
			if i.named(name) {
				n++
			}
		}
		if n == 0 {
			return nil, fmt.Errorf("the suspects could not read %q, as far as is known: irctl eradicate --plan lists what they could", name)
		}
	}
	slices.SortFunc(list, func(a, b *Item) int { return a.Order - b.Order })
	return list, nil
}

// departed: it was replaced and deleted.
func (i *Item) departed() bool { return i.missing && i.Rotated }

func (i *Item) named(name string) bool {
	kind, rest, ok := strings.Cut(name, "/")
	switch strings.ToLower(kind) {
	case "serviceaccount", "serviceaccounts", "sa":
		if ok {
			return i.Kind == rotate.AccountRef.Kind && (rest == i.Name || rest == i.Namespace+"/"+i.Name)
		}
	case "secret", "secrets":
		if ok && i.Kind == rotate.SecretRef.Kind && (rest == i.Name || rest == i.Namespace+"/"+i.Name) {
			return true
		}
	}
	return i.Kind == rotate.SecretRef.Kind && (name == i.Name || name == i.Namespace+"/"+i.Name)
}

// sources are the instructions for the keys of a Secret.
func (c *chooser) sources(i *Item) map[string]rotate.Source {
	found := map[string]rotate.Source{}
	for n := range i.Keys {
		k := &i.Keys[n]
		for _, name := range []string{k.Name, i.Name + "/" + k.Name, i.Namespace + "/" + i.Name + "/" + k.Name} {
			if s, ok := c.Sources[name]; ok {
				found[k.Name], c.used[name] = s, true
				k.Source = string(s.Kind)
			}
		}
	}
	return found
}

func (c *chooser) revoked(i *Item) []string {
	var keys []string
	for _, k := range i.Keys {
		for _, name := range []string{k.Name, i.Name + "/" + k.Name, i.Namespace + "/" + i.Name + "/" + k.Name} {
			if slices.Contains(c.Revoked, name) {
				keys = append(keys, k.Name)
			}
		}
	}
	return keys
}

// groups are the items that change together: those that hold the password of
// the same role. Legacy tokens go with their account.
func (c *chooser) groups(chosen []*Item) [][]*Item {
	var groups [][]*Item
	byRole := map[string]int{}
	for _, i := range chosen {
		if i.secret != nil && i.secret.Type == corev1.SecretTypeServiceAccountToken {
			if account := c.account(i); account != nil && slices.Contains(chosen, account) {
				continue
			}
		}
		at := -1
		sources := c.sources(i)
		for _, key := range slices.Sorted(maps.Keys(sources)) {
			if n, ok := byRole[sources[key].Role]; ok && sources[key].Role != "" {
				at = n
			}
		}
		if at < 0 {
			groups, at = append(groups, nil), len(groups)
		}
		groups[at] = append(groups[at], i)
		for _, s := range sources {
			if s.Role != "" {
				byRole[s.Role] = at
			}
		}
	}
	return groups
}

// account is the item of the account whose token a Secret holds.
func (c *chooser) account(i *Item) *Item {
	for _, a := range c.Items {
		if a.Kind == rotate.AccountRef.Kind && a.Namespace == i.Namespace && a.Name == i.secret.Annotations[corev1.ServiceAccountNameKey] {
			return a
		}
	}
	return nil
}

func (c *chooser) rotation(ctx context.Context, items []*Item) (*Rotation, error) {
	for _, i := range items {
		if i.Problem != "" && !(i.missing && i.Kind == rotate.AccountRef.Kind) {
			return nil, errors.New(i.Problem)
		}
	}
	r := &Rotation{Items: items}
	var err error
	switch i := items[0]; {
	case i.Kind == rotate.AccountRef.Kind:
		err = c.ofAccount(r, i)
	case i.secret.Type == corev1.SecretTypeServiceAccountToken:
		err = fmt.Errorf("it holds a token of ServiceAccount %s: rotate that, and its tokens with it: --secret serviceaccount/%s", i.secret.Annotations[corev1.ServiceAccountNameKey], i.secret.Annotations[corev1.ServiceAccountNameKey])
	case i.keeper != nil:
		i.Keeper = i.keeper.Ref.String()
		err = c.ofKeeper(ctx, r, i)
	default:
		err = c.ofSecrets(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	for _, i := range r.Items {
		i.Problem = ""
		i.Rotator, i.Rotated = r.Record().Rotator, r.Prior != nil && r.Prior.Updated
	}
	return r, nil
}

func (c *chooser) ofAccount(r *Rotation, i *Item) (err error) {
	for _, h := range c.History {
		next, resumeErr := rotate.ResumeAccount(c.client, h.Record)
		if h.Record.Account == nil || resumeErr != nil || c.Again && h.Updated {
			continue
		}
		// One whose making anew was interrupted goes on from the record,
		// also where the account is the one of before or of the controller.
		if next.Names(i.Namespace, i.Name) && (h.Record.AccountUID != i.ref.UID || !h.Updated) {
			r.Rotator, r.Prior = next, &h
			return nil
		}
	}
	if i.missing {
		return errors.New(i.Problem)
	}
	var legacy []*corev1.Secret
	for _, s := range c.Items {
		if s.secret != nil && s.secret.Type == corev1.SecretTypeServiceAccountToken && c.account(s) == i {
			legacy = append(legacy, s.secret)
			if !slices.Contains(r.Items, s) {
				r.Items = append(r.Items, s)
			}
		}
	}
	r.Rotator, err = rotate.NewAccount(c.client, i.account, legacy, func(name string) bool {
		return slices.ContainsFunc(c.workloads[i.Namespace], func(w *Workload) bool {
			return slices.ContainsFunc(references(w.spec()), func(ref reference) bool { return ref.name == name })
		})
	})
	return err
}

func (c *chooser) ofKeeper(ctx context.Context, r *Rotation, i *Item) error {
	if i.keeper.cannot != "" {
		return fmt.Errorf("%s would not make a new one: %s", i.keeper.Ref, i.keeper.cannot)
	}
	prior, live, err := c.prior(ctx, i)
	if err != nil {
		return err
	}
	r.Prior = prior
	switch i.keeper.rotator {
	case "cert-manager":
		r.Rotator = rotate.NewCertificate(c.client, c.Digests, recordOf(prior), i.keeper.Ref, live, c.Now)
	case "external-secret":
		sources := c.sources(i)
		for key, s := range sources {
			if s.Kind != rotate.Keep && len(s.Command) == 0 {
				return fmt.Errorf("%s writes key %s from its source: put the new value there, or have it put there with --store-command %s=…", i.keeper.Ref, key, key)
			}
		}
		secrets := rotate.NewSecrets(c.client, c.Digests, recordOf(prior), rotate.Commander{Incident: c.Incident}, rotate.SecretPlan{Live: live, Sources: sources})
		r.Rotator = rotate.NewExternal(secrets, i.keeper.Ref, c.Now)
	default:
		return fmt.Errorf("%s keeps it, and would put the old value back: rotate it there", i.keeper.Ref)
	}
	return nil
}

func recordOf(h *History) *rotate.Record {
	if h == nil {
		return nil
	}
	return &h.Record
}

// refusedTypes are Secrets that are no credentials of an application's.
var refusedTypes = map[corev1.SecretType]string{
	"helm.sh/release.v1":            "it is Helm's record of a release: rotate what its values hold, and upgrade the release",
	corev1.SecretTypeBootstrapToken: "it lets nodes join: delete it (kubeadm token delete), nothing that runs uses it",
}

func (c *chooser) ofSecrets(ctx context.Context, r *Rotation) error {
	var plans []rotate.SecretPlan
	roles := false
	for n, i := range r.Items {
		if why, ok := refusedTypes[i.secret.Type]; ok {
			return errors.New(why)
		}
		prior, live, err := c.prior(ctx, i)
		if err != nil {
			return err
		}
		if n == 0 {
			r.Prior = prior
		} else if (r.Prior == nil) != (prior == nil) {
			r.Prior = nil // they change together
		}
		sources := c.sources(i)
		if err := c.complete(i, sources, prior != nil); err != nil {
			return err
		}
		if prior != nil {
			remembered(sources, prior.Record, i)
		}
		for _, s := range sources {
			roles = roles || s.Role != ""
		}
		plans = append(plans, rotate.SecretPlan{Live: live, Sources: sources, Revoked: c.revoked(i)})
	}
	if r.Prior == nil {
		for n, i := range r.Items {
			plans[n].Live = i.secret
		}
	}
	secrets := rotate.NewSecrets(c.client, c.Digests, recordOf(r.Prior), rotate.Commander{Incident: c.Incident}, plans...)
	r.Rotator = secrets
	if roles {
		if c.Database == nil {
			return errors.New("a role's password is changed by an administrator: name the file with the connection string, --postgres-admin FILE")
		}
		r.Rotator = rotate.NewRoles(secrets, *c.Database)
	}
	return nil
}

// remembered fills in what an earlier run was told of the keys, and this one
// was not.
func remembered(sources map[string]rotate.Source, record rotate.Record, i *Item) {
	for _, s := range record.Secrets {
		if s.Namespace != i.Namespace || s.Name != i.Name && s.Successor != i.Name {
			continue
		}
		for key, k := range s.Keys {
			if k.Source != "" {
				sources[key] = rotate.Source{Kind: k.Source, Role: k.Role}
			}
		}
	}
}

// complete refuses a Secret of which nobody said where the new value of every
// key comes from: what irctl makes up for a key that a third party issues
// would only break what uses it.
func (c *chooser) complete(i *Item, sources map[string]rotate.Source, rotated bool) error {
	public := map[string]bool{}
	for _, s := range sources {
		public[s.Public] = true
	}
	var missing []string
	for n, k := range i.Keys {
		s, ok := sources[k.Name]
		if ok && k.Issuer != "" && slices.Contains(rotate.Generated, s.Kind) {
			return fmt.Errorf("only %s can issue a new value of key %s: get one, and give it with --set-from %s=FILE", k.Issuer, k.Name, k.Name)
		}
		if ok || public[k.Name] || rotated {
			continue
		}
		if c.Rest != "" && k.Issuer == "" {
			sources[k.Name] = rotate.Source{Kind: c.Rest}
			i.Keys[n].Source = string(c.Rest)
			continue
		}
		how := "--generate " + k.Name + "=random"
		if k.Issuer != "" {
			how = "--set-from " + k.Name + "=FILE, issued by " + k.Issuer
		}
		missing = append(missing, how)
	}
	if len(missing) > 0 {
		return fmt.Errorf("say where the new values come from: %s (or --set-from KEY=FILE for what only a third party can issue, --keep KEY for what is no secret)", strings.Join(missing, ", "))
	}
	if i.Immutable && slices.ContainsFunc(i.Users, func(u User) bool { return strings.HasPrefix(u.Object, "Ingress ") }) {
		return errors.New("it is immutable and an Ingress names it: make another Secret, and have the Ingress name that")
	}
	return nil
}

// prior is what the journal tells of an item whose new value is in the
// cluster, and the Secret that holds it.
func (c *chooser) prior(ctx context.Context, i *Item) (*History, *corev1.Secret, error) {
	for _, h := range c.History {
		for _, s := range h.Record.Secrets {
			if h.Record.Account != nil || s.Namespace != i.Namespace || s.Name != i.Name && s.Successor != i.Name || c.Again && h.Updated {
				continue
			}
			holder := i.secret
			if s.Holder() != i.Name {
				live, err := c.client.Kube.CoreV1().Secrets(s.Namespace).Get(ctx, s.Holder(), metav1.GetOptions{})
				if err != nil && !apierrors.IsNotFound(err) {
					return nil, nil, fmt.Errorf("reading Secret %s/%s, which takes its place: %w", s.Namespace, s.Holder(), err)
				}
				holder = live
			}
			if s.Holds(holder, c.Digests) {
				return &h, holder, nil
			}
		}
	}
	return nil, i.secret, nil
}

// Plan completes the radius with what would become of each item.
func Plan(ctx context.Context, r *Radius, o Options, c Context) error {
	if !o.Chooses() {
		o.All = true
	}
	_, _, err := Choose(ctx, r, o, c)
	return err
}
