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
		case len(parts) == 2 && kind != "serviceaccount" && kind != "serviceaccounts" && kind != "sa" &&
			kind != "secret" && kind != "secrets":
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
		refusals = append(refusals, refusedKeys(items)...)
		switch {
		case err == nil:
			rotations = append(rotations, rotation)
			continue
		case errors.Is(err, errNothing):
			continue
		}
		for _, i := range items {
			if i.Problem = err.Error(); !i.unread { // what could not be read is no refusal: it is not known
				refusals = append(refusals, steps.Refusal{Action: "rotate", Object: i.ref.String(),
					Reason: err.Error()})
			}
		}
	}
	if err := ch.unusedKey(chosen); err != nil && o.Chooses() {
		return nil, nil, err
	}
	return rotations, refusals, nil
}

// ErrNotFound: something that was named does not exist.
var ErrNotFound = errors.New("not found")

// errNothing: none of the values is to be replaced.
var errNothing = errors.New("nothing is to be replaced")

// unusedKey is that a key was named which no chosen secret has. Where one could
// not be read it may have it.
func (c *chooser) unusedKey(chosen []*Item) error {
	if slices.ContainsFunc(chosen, func(i *Item) bool { return i.unread }) {
		return nil
	}
	var known []string
	for _, i := range c.Items {
		for _, k := range i.Keys {
			known = append(known, k.Name, i.Name+"/"+k.Name, i.Namespace+"/"+i.Name+"/"+k.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		if !c.used[name] {
			return fmt.Errorf("no chosen secret has a key %q%w%s", name, silent{ErrNotFound}, near(name, known))
		}
	}
	for _, name := range c.Revoked {
		if !slices.Contains(known, name) {
			return fmt.Errorf("no secret that the suspects could read has a key %q, which --revoked names%w%s",
				name, silent{ErrNotFound}, near(name, known))
		}
	}
	return nil
}

// silent is an error that adds nothing to a text.
type silent struct{ error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.error }

func near(name string, known []string) string {
	slices.Sort(known)
	if list := cluster.Near(name, slices.Compact(known)); len(list) > 0 {
		return ": did you mean " + strings.Join(list, ", ") + "?"
	}
	return ""
}

// refusedKeys are the keys that are left as they are while the others go on.
func refusedKeys(items []*Item) []steps.Refusal {
	var list []steps.Refusal
	for _, i := range items {
		for _, k := range i.Keys {
			if k.Problem != "" {
				list = append(list, steps.Refusal{Action: "rotate", Object: i.ref.String() + " key " + k.Name,
					Reason: k.Problem})
			}
		}
	}
	return list
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
			c.Warnings = append(c.Warnings, steps.Warning{Code: "missing", Text: i.ref.String() +
				" does not exist: nothing of it can leak any more, and what names it cannot start"})
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
			return nil, c.unknown(name)
		}
	}
	slices.SortFunc(list, func(a, b *Item) int { return a.Order - b.Order })
	return list, nil
}

// unknown is that a secret was named which is not among those that were found.
func (c *chooser) unknown(name string) error {
	names := make([]string, len(c.Items))
	for n, i := range c.Items {
		names[n] = i.Name
	}
	if len(names) == 0 && len(c.Unlooked()) > 0 {
		return fmt.Errorf(
			"%w: which secrets the suspects could read is not known, so neither is %q: %s. Name it as NAMESPACE/NAME",
			ErrUnlooked, name, strings.Join(c.Unlooked(), "; "))
	}
	if strings.Contains(name, "/") {
		return fmt.Errorf("%s does not exist%w%s", name, silent{ErrNotFound},
			near(name[strings.LastIndex(name, "/")+1:], names))
	}
	return fmt.Errorf("no secret that the suspects could read is called %q; irctl eradicate --plan lists them, "+
		"and NAMESPACE/NAME names any other%w%s", name, silent{ErrNotFound}, near(name, names))
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
		if a.Kind == rotate.AccountRef.Kind && a.Namespace == i.Namespace &&
			a.Name == i.secret.Annotations[corev1.ServiceAccountNameKey] {
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
		err = fmt.Errorf(
			"it holds a token of ServiceAccount %s: rotate that, and its tokens with it: --secret serviceaccount/%s",
			i.secret.Annotations[corev1.ServiceAccountNameKey], i.secret.Annotations[corev1.ServiceAccountNameKey])
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
		i.Rotator, i.Rotated = r.Record().Rotator, r.Prior != nil && r.Prior.Updated && len(i.Open()) == 0
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
		if next.Names(i.Namespace, i.Name) && (h.Record.AccountUID != string(i.ref.UID) || !h.Updated) {
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
	r.Rotator, err = rotate.NewAccount(c.client, c.Incident, i.account, legacy, func(name string) bool {
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
	standing, live, err := c.standing(ctx, i)
	if err != nil {
		return err
	}
	var prior *History
	if len(standing) > 0 {
		prior = standing[0]
	}
	r.Prior = prior
	switch i.keeper.rotator {
	case "cert-manager":
		r.Rotator = rotate.NewCertificate(c.client, c.Digests, recordOf(prior), i.keeper.Ref, live, c.Now)
	case "external-secret":
		sources := c.sources(i)
		for key, s := range sources {
			if s.Kind != rotate.Keep && len(s.Command) == 0 {
				return fmt.Errorf("%s writes key %s from its source: put the new value there, or have it put there "+
					"with --store-command %s=…", i.keeper.Ref, key, key)
			}
			if f := rotate.FormOf(live.Data[key]); prior == nil && !f.Takes(s.Kind) {
				return fmt.Errorf("key %s: %s", key, f.Refusal(key))
			}
		}
		secrets := rotate.NewSecrets(c.client, c.Digests, recordOf(prior), rotate.Commander{Incident: c.Incident},
			rotate.SecretPlan{Live: live, Sources: sources})
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
	"helm.sh/release.v1": "it is Helm's record of a release: rotate what its values hold, and upgrade the " +
		"release",
	corev1.SecretTypeBootstrapToken: "it lets nodes join: delete it (kubeadm token delete), nothing that runs uses it",
}

func (c *chooser) ofSecrets(ctx context.Context, r *Rotation) error {
	standing, live := make([][]*History, len(r.Items)), make([]*corev1.Secret, len(r.Items))
	resumed := true // they change together
	for n, i := range r.Items {
		if why, ok := refusedTypes[i.secret.Type]; ok {
			return errors.New(why)
		}
		var err error
		if standing[n], live[n], err = c.standing(ctx, i); err != nil {
			return err
		}
		resumed = resumed && len(standing[n]) > 0
	}
	plans := make([]rotate.SecretPlan, len(r.Items))
	more, some, roles := false, false, false
	for n, i := range r.Items {
		sources, earlier := c.sources(i), replacedBy(standing[n], i)
		if err := c.complete(i, sources, earlier); err != nil {
			return err
		}
		more = more || resumed && earlier.leaves(sources)
		plans[n] = rotate.SecretPlan{Live: live[n], Sources: sources, Revoked: c.revoked(i)}
		if !resumed {
			plans[n].Live = i.secret
		}
	}
	if resumed {
		r.Prior = standing[0][0]
	}
	if more && !c.unfinished(r, plans) {
		r.Prior = nil
	}
	for n, i := range r.Items {
		earlier := replacedBy(standing[n], i)
		switch {
		case more && r.Prior == nil:
			earlier.without(&plans[n])
		case len(standing[n]) > 0:
			remembered(plans[n].Sources, standing[n][0].Record, i)
		}
		for _, s := range plans[n].Sources {
			roles, some = roles || s.Role != "", some || s.Kind != rotate.Keep
		}
	}
	if r.Prior == nil && !some {
		return errNothing
	}
	secrets := rotate.NewSecrets(c.client, c.Digests, recordOf(r.Prior), rotate.Commander{Incident: c.Incident},
		plans...)
	r.Rotator = secrets
	if roles {
		if c.Database == nil {
			return errors.New("a role's password is changed by an administrator: name the file with the connection " +
				"string, --postgres-admin FILE")
		}
		r.Rotator = rotate.NewRoles(secrets, *c.Database)
	}
	return nil
}

// unfinished: the earlier rotation is to come to its end first, since a role or
// the successor of a Secret waits for it. The keys that are left are said so.
func (c *chooser) unfinished(r *Rotation, plans []rotate.SecretPlan) bool {
	waits := slices.ContainsFunc(r.Prior.Record.Secrets, func(s rotate.SecretRecord) bool {
		return s.Successor != "" || slices.ContainsFunc(slices.Collect(maps.Values(s.Keys)),
			func(k rotate.KeyDigests) bool { return k.Role != "" })
	})
	if !waits || r.Prior.Updated && r.Prior.Deactivated {
		return false
	}
	for n, i := range r.Items {
		earlier := replacedBy([]*History{r.Prior}, i)
		for at := range i.Keys {
			k := &i.Keys[at]
			if s, ok := plans[n].Sources[k.Name]; ok && s.Kind != rotate.Keep && !earlier.keys[k.Name] {
				k.refuse("its other keys are still being replaced: run the same command again")
				delete(plans[n].Sources, k.Name)
			}
		}
	}
	return true
}

// replaced is what earlier rotations have done with the keys of a Secret.
type replaced struct {
	// keys hold new values, kept are those that the responder kept as no secret.
	keys, kept map[string]bool
	// owed are those whose old value is still to be revoked at its issuer.
	owed []string
}

func replacedBy(standing []*History, i *Item) replaced {
	e := replaced{keys: map[string]bool{}, kept: map[string]bool{}}
	for _, h := range standing {
		for _, s := range h.Record.Secrets {
			if s.Namespace != i.Namespace || s.Name != i.Name && s.Successor != i.Name {
				continue
			}
			for key, k := range s.Keys {
				if e.keys[key] = true; rotate.Kind(k.Source) == rotate.Supplied && !h.Deactivated {
					e.owed = append(e.owed, key)
				}
			}
			for _, key := range s.Kept {
				e.kept[key] = true
			}
		}
	}
	return e
}

// leaves: a key is to be replaced that was not.
func (e replaced) leaves(sources map[string]rotate.Source) bool {
	for key, s := range sources {
		if s.Kind != rotate.Keep && !e.keys[key] {
			return true
		}
	}
	return false
}

// without leaves out of a plan what was replaced already.
func (e replaced) without(p *rotate.SecretPlan) {
	maps.DeleteFunc(p.Sources, func(key string, s rotate.Source) bool { return e.keys[key] })
	p.Owed = e.owed
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
				sources[key] = rotate.Source{Kind: rotate.Kind(k.Source), Role: k.Role}
			}
		}
	}
}

// complete says of every key where its new value comes from. A Secret of which
// nobody said it of every key is refused: what irctl makes up for a key that a
// third party issues would only break what uses it. A key is refused by itself,
// and left out of the sources, where a value that irctl makes would destroy what
// it holds.
func (c *chooser) complete(i *Item, sources map[string]rotate.Source, earlier replaced) error {
	public := map[string]bool{}
	for _, s := range sources {
		public[s.Public] = true
	}
	var missing []string
	for n := range i.Keys {
		k := &i.Keys[n]
		k.Problem = ""
		s, said := sources[k.Name]
		switch {
		case !said && earlier.kept[k.Name]:
			s, said = rotate.Source{Kind: rotate.Keep}, true
		case !said && c.Rest != "" && !public[k.Name] && (k.Issuer == "" || k.Form != ""):
			s, said = rotate.Source{Kind: c.Rest}, !earlier.keys[k.Name]
		}
		if said {
			sources[k.Name], k.Source = s, string(s.Kind)
		}
		switch why := i.unfit(k, s); {
		case earlier.keys[k.Name]:
		case said && k.Empty && slices.Contains(rotate.Generated, s.Kind):
			k.Source = ""
			delete(sources, k.Name)
		case said && why != "":
			k.refuse(why)
			delete(sources, k.Name)
		case said && k.Issuer != "" && slices.Contains(rotate.Generated, s.Kind):
			return fmt.Errorf("only %s can issue a new value of key %s: get one, and give it with --set-from %s=FILE",
				k.Issuer, k.Name, k.Name)
		case said, public[k.Name], k.Empty:
		case len(earlier.keys) > 0:
			k.refuse("say where its new value comes from: " + k.how())
		default:
			missing = append(missing, k.how())
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("say where the new values come from: %s (or --set-from KEY=FILE for what only a third "+
			"party can issue, --keep KEY for what is no secret)", strings.Join(missing, ", "))
	}
	if i.Immutable && slices.ContainsFunc(i.Users, func(u User) bool {
		return strings.HasPrefix(u.Object, "Ingress ")
	}) {
		return errors.New(
			"it is immutable and an Ingress names it: make another Secret, and have the Ingress name that")
	}
	if open := i.Open(); i.Immutable && len(open) > 0 && len(sources) > 0 {
		return fmt.Errorf(
			"it is immutable, so that all of its keys are replaced at once: say of each where its new value comes from")
	}
	return nil
}

// unfit says why what irctl makes by a source may not replace the value of a
// key; "": it may.
func (i *Item) unfit(k *Key, s rotate.Source) string {
	if !k.form.Takes(s.Kind) {
		return k.form.Refusal(k.Name)
	}
	if s.Kind == rotate.Role && !k.form.TakesPassword() {
		return fmt.Sprintf("it is %s, and holds no password that a role's could replace", k.Form)
	}
	for _, p := range i.Keys {
		if s.Public != "" && p.Name == s.Public && !p.form.TakesPublic() {
			return fmt.Sprintf("its public half has no place in key %s: %s", p.Name, p.form.Refusal(p.Name))
		}
	}
	return ""
}

// how is what says where a key's new value comes from.
func (k *Key) how() string {
	switch {
	case k.Form != "":
		return "--set-from " + k.Name + "=FILE, since it is " + k.Form
	case k.Issuer != "":
		return "--set-from " + k.Name + "=FILE, issued by " + k.Issuer
	}
	return "--generate " + k.Name + "=random"
}

// refuse leaves the key as it is.
func (k *Key) refuse(why string) { k.Problem, k.Source = why, "" }

// Open are the keys that stay as they are against the responder's wish.
func (i *Item) Open() []Key {
	var list []Key
	for _, k := range i.Keys {
		if k.Problem != "" {
			list = append(list, k)
		}
	}
	return list
}

// Kept are the keys that stay as they are since the responder says that they
// are no secret.
func (i *Item) Kept() []Key {
	return slices.DeleteFunc(slices.Clone(i.Keys), func(k Key) bool { return k.Source != string(rotate.Keep) })
}

// ByKey: each of its keys is refused by itself, kept or empty.
func (i *Item) ByKey() bool {
	return len(i.Open()) > 0 && !slices.ContainsFunc(i.Keys, func(k Key) bool {
		return k.Problem == "" && !k.Empty && k.Source != string(rotate.Keep)
	})
}

// What says what the value of a key shows by itself to be.
func (k Key) What() string {
	if k.Form == "" && k.Issuer != "" {
		return "a credential that " + k.Issuer + " has issued"
	}
	return k.Form
}

// Plain: whoever has the value can use it, as it shows by itself, so that nobody's
// word makes it no secret.
func (k Key) Plain() bool { return k.form.Credential || k.Issuer != "" && k.Form == "" }

// Nothing: no value of it is to be replaced: it has none, or all are kept.
func (i *Item) Nothing() bool {
	return i.secret != nil && i.secret.Type != corev1.SecretTypeServiceAccountToken && !i.Rotated &&
		!slices.ContainsFunc(i.Keys, func(k Key) bool { return !k.Empty && k.Source != string(rotate.Keep) })
}

// standing are the rotations of an item whose new values are in the cluster, as
// the journal tells of them, the last first, and the Secret that holds those of
// the last.
func (c *chooser) standing(ctx context.Context, i *Item) ([]*History, *corev1.Secret, error) {
	var list []*History
	live := i.secret
	for _, h := range c.History {
		for _, s := range h.Record.Secrets {
			if h.Record.Account != nil || s.Namespace != i.Namespace || s.Name != i.Name && s.Successor != i.Name ||
				c.Again && h.Updated {
				continue
			}
			holder := i.secret
			if rotate.Holder(s) != i.Name {
				found, err := c.client.Kube.CoreV1().Secrets(s.Namespace).
					Get(ctx, rotate.Holder(s), metav1.GetOptions{})
				if err != nil && !apierrors.IsNotFound(err) {
					return nil, nil, fmt.Errorf("reading Secret %s/%s, which takes its place: %w", s.Namespace,
						rotate.Holder(s), err)
				}
				holder = found
			}
			if !rotate.Holds(s, holder, c.Digests) {
				continue
			}
			if len(list) == 0 {
				live = holder
			}
			list = append(list, &h)
		}
	}
	return list, live, nil
}

// Plan completes the radius with what would become of each item.
func Plan(ctx context.Context, r *Radius, o Options, c Context) error {
	if !o.Chooses() {
		o.All = true
	}
	_, _, err := Choose(ctx, r, o, c)
	return err
}
