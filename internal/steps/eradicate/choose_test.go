package eradicate

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"irctl/internal/cluster"
	"irctl/internal/rotate"
)

// radius is what a suspect could read that mounts the Secrets named, and has no
// token unless the spec says so.
func radius(t *testing.T, f *fake, mounts ...string) *Radius {
	t.Helper()
	p := pod("s", naming(mounts...))
	p.Spec.AutomountServiceAccountToken = truth(false)
	r, err := Find(t.Context(), f.scene(&cluster.Target{Pod: p}), Beside{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var digests = rotate.NewDigests([]byte("key"))

func contextOf(history ...History) Context {
	return Context{Digests: digests, Incident: "inc-1", Now: time.Now, History: history}
}

// keys are the keys of all items, with where their new value comes from, or why not.
func keys(r *Radius) (list []string) {
	for _, i := range r.Items {
		for _, k := range i.Keys {
			text := i.Name + "/" + k.Name + "=" + k.Source
			if k.Problem != "" {
				text += "!"
			}
			list = append(list, text)
		}
	}
	return list
}

// What is chosen by which name; a name that nothing has is an error.
func TestWhatIsChosen(t *testing.T) {
	t.Parallel()
	f := newFake(t, secret("a", "k=word"), secret("b", "k=word"), serviceAccount("default", nil),
		secret("outside", "k=word"))
	all := Options{Rest: rotate.Random}
	for name, c := range map[string]struct {
		secrets []string
		all     bool
		want    string
		err     string
	}{
		"all":                {nil, true, "a b default", ""},
		"by name":            {[]string{"b"}, false, "b", ""},
		"in their order":     {[]string{"b", "a"}, false, "a b", ""},
		"twice":              {[]string{"a", "app/a"}, false, "a", ""},
		"by kind":            {[]string{"secret/a"}, false, "a", ""},
		"by kinds":           {[]string{"secrets/app/a"}, false, "a", ""},
		"the account":        {[]string{"serviceaccount/default"}, false, "default", ""},
		"the account, short": {[]string{"SA/app/default"}, false, "default", ""},
		"the accounts":       {[]string{"serviceaccounts/default"}, false, "default", ""},
		"no Secret, an account": {[]string{"default"}, false, "",
			`no secret that the suspects could read is called "default"`},
		"no account, a Secret":   {[]string{"sa/a"}, false, "", "sa/a does not exist"},
		"another namespace":      {[]string{"far/a"}, false, "", "far/a does not exist"},
		"a name that is none":    {[]string{"c"}, false, "", "irctl eradicate --plan lists them"},
		"one is none":            {[]string{"a", "outside"}, false, "", "outside"},
		"no kind of that name":   {[]string{"secret/app"}, false, "", "does not exist"},
		"an account's namespace": {[]string{"sa/far/default"}, false, "", "does not exist"},
	} {
		p := pod("s", naming("a", "b"))
		r, err := Find(t.Context(), f.scene(&cluster.Target{Pod: p}), Beside{})
		if err != nil {
			t.Fatal(err)
		}
		o := all
		o.Secrets, o.All = c.secrets, c.all
		rotations, refusals, err := Choose(t.Context(), r, o, contextOf())
		var got []string
		for _, x := range rotations {
			got = append(got, x.Items[0].Name)
		}
		if strings.Join(got, " ") != c.want || (err == nil) != (c.err == "") ||
			err != nil && (!strings.Contains(err.Error(), c.err) || !errors.Is(err, ErrNotFound)) || len(refusals) > 0 {
			t.Errorf("%s: %q, refused %v, %v", name, got, refusals, err)
		}
	}
}

func TestWhatIsNamedWithItsNamespace(t *testing.T) {
	t.Parallel()
	o := Options{Secrets: []string{"a", "app/b", "secret/c", "secret/app/d", "Secrets/app/e", "sa/f", "sa/app/g",
		"serviceaccounts/app/h", "serviceaccount/i", "serviceaccount/app/j", "x/y/z", "secrets/q", "serviceaccounts/r"}}
	var got []string
	for _, ref := range o.Named() {
		got = append(got, ref.String())
	}
	want := []string{"Secret app/b", "Secret app/d", "Secret app/e", "ServiceAccount app/g", "ServiceAccount app/h",
		"ServiceAccount app/j"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for name, c := range map[string]struct {
		o                Options
		chooses, changes bool
	}{
		"nothing": {Options{}, false, false}, "all": {Options{All: true}, true, true},
		"one": {Options{Secrets: []string{"a"}}, true, true}, "an image": {Options{Images: []Image{{}}}, false, true},
		"a manifest": {Options{Manifests: []Manifest{{}}}, false, true},
		"bindings":   {Options{RemoveBindings: true}, false, true},
	} {
		if c.o.Chooses() != c.chooses || c.o.Changes() != c.changes {
			t.Errorf("%s: %v %v", name, c.o.Chooses(), c.o.Changes())
		}
	}
}

const jwt = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." +
	"dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

// Where the new value of each key comes from: what is said of it by any of its
// names, else what is made of the rest; never what would destroy what it holds, or
// what only a third party can issue.
func TestWhereNewValuesComeFrom(t *testing.T) {
	t.Parallel()
	generated := func(kind rotate.Kind) rotate.Source { return rotate.Source{Kind: kind} }
	supplied := rotate.Source{Kind: rotate.Supplied, Value: rotate.NewValue([]byte("brand new"))}
	url := "postgres://u:password@db/x"
	for name, c := range map[string]struct {
		data      []string
		immutable bool
		o         Options
		keys      string // with "!": refused by itself; with "-" before all: the Secret is refused
		refused   string
		err       string
	}{
		"of all": {[]string{"a=x", "b=y"}, false,
			Options{Sources: map[string]rotate.Source{"a": generated("random"), "b": generated("keep")}},
			"a=random b=keep", "", ""},
		"by Secret and key": {[]string{"a=x", "b=y"}, false,
			Options{Sources: map[string]rotate.Source{"one/a": generated("random"),
				"app/one/b": generated("password")}}, "a=random b=password", "", ""},
		"of one only": {[]string{"a=x", "b=y"}, false,
			Options{Sources: map[string]rotate.Source{"a": generated("random")}}, "-a=random b=", "--generate b=random",
			""},
		"of none": {[]string{"a=x", "b=y"}, false, Options{}, "-a= b=",
			"--generate a=random, --generate b=random", ""},
		"the rest": {[]string{"a=x", "b=y"}, false,
			Options{Rest: "password", Sources: map[string]rotate.Source{"a": generated("random")}},
			"a=random b=password", "", ""},
		"a key that is empty": {[]string{"a=", "b=y"}, false,
			Options{Sources: map[string]rotate.Source{"b": generated("random")}}, "a= b=random", "", ""},
		"an empty one that is generated": {[]string{"a=", "b=y"}, false, Options{Rest: "random"}, "a= b=random", "",
			""},
		"an empty one is supplied": {[]string{"a=", "b=y"}, false,
			Options{Sources: map[string]rotate.Source{"a": supplied, "b": generated("random")}}, "a=supplied b=random",
			"", ""},
		"one has a form": {[]string{"a=x", "b=" + jwt}, false, Options{Rest: "random"},
			"a=random b=!", "it is a signed token", ""},
		"one has a form, and it is said": {[]string{"a=x", "b=" + jwt}, false,
			Options{Sources: map[string]rotate.Source{"a": generated("random"), "b": generated("random")}},
			"a=random b=!", "it is a signed token", ""},
		"one has a form, nothing is said": {[]string{"a=x", "b=" + jwt}, false,
			Options{Sources: map[string]rotate.Source{"a": generated("random")}}, "-a=random b=",
			"--set-from b=FILE, since it is a signed token", ""},
		"one has a form, and is supplied": {[]string{"a=x", "b=" + jwt}, false,
			Options{Sources: map[string]rotate.Source{"a": generated("random"), "b": supplied}}, "a=random b=supplied",
			"", ""},
		"one has an issuer, is generated": {[]string{"a=x", "b=AKIAIOSFODNN7EXAMPLE"}, false,
			Options{Sources: map[string]rotate.Source{"a": generated("random"), "b": generated("random")}},
			"-a=random b=random", "can issue a new value of key b", ""},
		"one has an issuer, with the rest": {[]string{"a=x", "b=AKIAIOSFODNN7EXAMPLE"}, false, Options{Rest: "random"},
			"-a=random b=", "--set-from b=FILE, issued by", ""},
		"one has an issuer, is supplied": {[]string{"a=x", "b=AKIAIOSFODNN7EXAMPLE"}, false,
			Options{Rest: "random", Sources: map[string]rotate.Source{"b": supplied}}, "a=random b=supplied", "", ""},
		"the public half of a pair": {[]string{"a=x", "pub=y"}, false,
			Options{Sources: map[string]rotate.Source{"a": {Kind: "rsa", Public: "pub"}}}, "a=rsa pub=", "", ""},
		"the public half, with the rest": {[]string{"a=x", "pub=y", "z=z"}, false,
			Options{Rest: "random", Sources: map[string]rotate.Source{"a": {Kind: "rsa", Public: "pub"}}},
			"a=rsa pub= z=random", "", ""},
		"the public half has no place": {[]string{"a=x", "pub=" + jwt, "z=z"}, false,
			Options{Sources: map[string]rotate.Source{"a": {Kind: "rsa", Public: "pub"}, "z": generated("random")}},
			"a=! pub= z=random", "its public half has no place in key pub", ""},
		"a role's password in a form": {[]string{"a=x", "b=" + jwt}, false,
			Options{Database: &rotate.Database{}, Sources: map[string]rotate.Source{"a": generated("random"),
				"b": {Kind: rotate.Role, Role: "r"}}}, "a=random b=!", "holds no password", ""},
		"a role's password in a URL": {[]string{"a=x", "b=" + url}, false,
			Options{Database: &rotate.Database{}, Sources: map[string]rotate.Source{"a": generated("random"),
				"b": {Kind: rotate.Role, Role: "r"}}}, "a=random b=role", "", ""},
		"a role, and no administrator": {[]string{"a=x"}, false,
			Options{Sources: map[string]rotate.Source{"a": {Kind: rotate.Role, Role: "r"}}}, "-a=role",
			"--postgres-admin FILE", ""},
		"all are kept": {[]string{"a=x"}, false,
			Options{Sources: map[string]rotate.Source{"a": generated("keep")}}, "-a=keep", "", ""},
		"immutable": {[]string{"a=x", "b=y"}, true, Options{Rest: "random"}, "a=random b=random",
			"", ""},
		"immutable, one cannot": {[]string{"a=x", "b=" + jwt}, true, Options{Rest: "random"},
			"-a=random b=!", "immutable, so that all of its keys", ""},
		"a key that no Secret has": {[]string{"a=x"}, false,
			Options{Rest: "random", Sources: map[string]rotate.Source{"passwrd": generated("random")}}, "", "",
			`no chosen secret has a key "passwrd"`},
		"a revoked key that no Secret has": {[]string{"a=x"}, false, Options{Rest: "random", Revoked: []string{"b"}},
			"", "", "which --revoked names"},
		"a revoked key by its Secret": {[]string{"a=x"}, false, Options{Rest: "random", Revoked: []string{"one/a"}},
			"a=random", "", ""},
		"a revoked key by its namespace": {[]string{"a=x"}, false,
			Options{Rest: "random", Revoked: []string{"app/one/a"}}, "a=random", "", ""},
		"a key of another Secret": {[]string{"a=x"}, false,
			Options{Rest: "random", Sources: map[string]rotate.Source{"two/a": generated("random")}}, "", "",
			`no chosen secret has a key "two/a"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := secret("one", c.data...)
			s.Immutable = truth(c.immutable)
			f := newFake(t, s)
			r := radius(t, f, "one")
			c.o.Secrets = []string{"one"}
			rotations, refusals, err := Choose(t.Context(), r, c.o, contextOf())
			if (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) ||
				!errors.Is(err, ErrNotFound)) {
				t.Fatalf("%v, expected %q", err, c.err)
			}
			if err != nil {
				return
			}
			want, wholly := strings.CutPrefix(c.keys, "-")
			if got := strings.ReplaceAll(strings.Join(keys(r), " "), "one/", ""); got != want ||
				(len(rotations) == 0) != wholly {
				t.Errorf("%s, %d rotations; expected %s", got, len(rotations), c.keys)
			}
			var reasons []string
			for _, x := range refusals {
				reasons = append(reasons, x.Object+": "+x.Reason)
			}
			if text := strings.Join(reasons, "\n"); (text == "") != (c.refused == "") ||
				!strings.Contains(text, c.refused) {
				t.Errorf("refused: %s", text)
			}
			if item := r.Items[0]; wholly && c.refused != "" && item.Problem == "" ||
				!wholly && (item.Problem != "" || item.Rotator == "") {
				t.Errorf("%+v", item)
			}
		})
	}
}

// What cannot be rotated at all, and says by itself what to do.
func TestWhatIsNoCredentialOfAnApplication(t *testing.T) {
	t.Parallel()
	of := func(kind corev1.SecretType) *corev1.Secret { s := secret("one", "a=x"); s.Type = kind; return s }
	owned := secret("one", "a=x")
	owned.OwnerReferences = pod("x", naming(), ownedBy("Foo", "foo")).OwnerReferences
	for name, c := range map[string]struct {
		secret *corev1.Secret
		want   string
	}{
		"Helm's":             {of("helm.sh/release.v1"), "Helm's record"},
		"a bootstrap token":  {of(corev1.SecretTypeBootstrapToken), "kubeadm token delete"},
		"a legacy token":     {token("one", "default"), "--secret serviceaccount/default"},
		"kept by a stranger": {owned, "Foo app/foo keeps it, and would put the old value back"},
	} {
		f := newFake(t, c.secret, serviceAccount("default", nil))
		r := radius(t, f, "one")
		rotations, refusals, err := Choose(t.Context(), r, Options{Secrets: []string{"one"}, Rest: "random"},
			contextOf())
		if err != nil || len(rotations) > 0 || len(refusals) != 1 || !strings.Contains(refusals[0].Reason, c.want) {
			t.Errorf("%s: %d, %+v, %v", name, len(rotations), refusals, err)
		}
	}
	// One that could not be read is not refused: nothing is known of it.
	f := newFake(t, secret("one", "a=x"), secret("two", "a=x"))
	f.deny("/secrets/one")
	r := radius(t, f, "one", "two")
	rotations, refusals, err := Choose(t.Context(), r,
		Options{All: true, Rest: "random", Sources: map[string]rotate.Source{"perhaps": {Kind: "random"}}}, contextOf())
	if err != nil || len(rotations) != 1 || len(refusals) > 0 || r.Items[0].Problem == "" {
		t.Errorf("%d, %+v, %v", len(rotations), refusals, err)
	}
}

// Secrets that hold one role's password change together; a legacy token goes with
// its account.
func TestWhatChangesTogether(t *testing.T) {
	t.Parallel()
	f := newFake(t, secret("a", "k=x"), secret("b", "k=x", "l=y"), secret("c", "k=x"), secret("d", "k=x"),
		token("legacy", "default"), token("lonely", "other"), serviceAccount("default", nil),
		serviceAccount("other", nil),
		controller(cluster.Deployment, "user", naming("legacy"), nil))
	r := radius(t, f, "a", "b", "c", "d", "legacy", "lonely")
	role := func(name string) rotate.Source { return rotate.Source{Kind: rotate.Role, Role: name} }
	o := Options{Secrets: []string{"a", "b", "c", "d", "legacy", "sa/default"}, Database: &rotate.Database{},
		Sources: map[string]rotate.Source{"a/k": role("r"), "b/k": {Kind: "random"}, "b/l": role("q"), "c/k": role("r"),
			"d/k": role("q")}}
	rotations, refusals, err := Choose(t.Context(), r, o, contextOf())
	if err != nil || len(refusals) > 0 {
		t.Fatalf("%+v, %v", refusals, err)
	}
	var got []string
	for _, x := range rotations {
		got = append(got, x.Name()+" by "+x.Items[0].Rotator)
	}
	want := []string{"Secret app/a and Secret app/c by postgres", "Secret app/b and Secret app/d by postgres",
		"ServiceAccount app/default and Secret app/legacy by service-account"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if rec := rotations[2].Record(); len(rec.Secrets) != 1 || len(rec.Tokens) != 1 {
		t.Errorf("%+v", rec)
	}
	// The token alone is refused, with what to say instead.
	o.Secrets = []string{"legacy"}
	o.Sources = nil
	if _, refusals, err = Choose(t.Context(), radius(t, f, "legacy"), o, contextOf()); err != nil ||
		len(refusals) != 1 {
		t.Errorf("%+v, %v", refusals, err)
	}
	// One that nothing uses is not made anew.
	f.Delete("deployments.apps", "app", "user")
	o.Secrets = []string{"sa/default"}
	if rotations, _, err = Choose(t.Context(), radius(t, f, "legacy"), o, contextOf()); err != nil ||
		len(rotations) != 1 || len(rotations[0].Record().Tokens) > 0 || len(rotations[0].Record().Secrets) != 1 {
		t.Errorf("%v", err)
	}
}

// recorded is the history of a rotation of a Secret, with the values before and
// after of its keys: "k=old>new"; a role in brackets.
func recorded(name string, edit func(*History), pairs ...string) History {
	h := History{Seq: 5, Record: rotate.Record{Rotator: "secret",
		Secrets: []rotate.SecretRecord{{Namespace: "app", Name: name, Keys: map[string]rotate.KeyDigests{}}}}}
	for _, p := range pairs {
		key, values, _ := strings.Cut(p, "=")
		was, is, _ := strings.Cut(values, ">")
		h.Record.Secrets[0].Keys[key] = rotate.KeyDigests{Before: digests.Of([]byte(was)),
			After: digests.Of([]byte(is)), Source: string(rotate.Random)}
	}
	if edit != nil {
		edit(&h)
	}
	return h
}

func updated(h *History) { h.Updated = true }

func finished(h *History) { h.Updated, h.Deactivated = true, true }

// What an earlier run has replaced is not replaced again, unless that is asked
// for; what it has not is, and an unfinished one is finished first.
func TestWhatIsGoneOnWith(t *testing.T) {
	t.Parallel()
	next := func(edit func(*History), name string) func(*History) {
		return func(h *History) { edit(h); h.Record.Secrets[0].Successor = name }
	}
	role := func(h *History) {
		updated(h)
		k := h.Record.Secrets[0].Keys["a"]
		k.Source, k.Role = string(rotate.Role), "r"
		h.Record.Secrets[0].Keys["a"] = k
	}
	owing := func(h *History) {
		updated(h)
		k := h.Record.Secrets[0].Keys["a"]
		k.Source = string(rotate.Supplied)
		h.Record.Secrets[0].Keys["a"] = k
	}
	kept := func(h *History) { finished(h); h.Record.Secrets[0].Kept = []string{"b"} }
	generated := rotate.Source{Kind: rotate.Random}
	for name, c := range map[string]struct {
		data    []string
		history []History
		o       Options
		prior   bool
		rotated bool
		keys    string
		record  string // the keys of the rotation's record
		refused string
	}{
		"nothing before": {[]string{"a=old"}, nil, Options{Rest: "random"}, false, false, "a=random", "a",
			""},
		"updated": {[]string{"a=new"}, []History{recorded("one", updated, "a=old>new")},
			Options{Rest: "random"}, true, true, "a=", "a", ""},
		"updated, its outcome unknown": {[]string{"a=new"}, []History{recorded("one", nil, "a=old>new")},
			Options{Rest: "random"}, true, false, "a=", "a", ""},
		"not updated": {[]string{"a=old"}, []History{recorded("one", nil, "a=old>new")},
			Options{Rest: "random"}, false, false, "a=random", "a", ""},
		"changed by somebody since": {[]string{"a=other"}, []History{recorded("one", updated, "a=old>new")},
			Options{Rest: "random"}, false, false, "a=random", "a", ""},
		"again": {[]string{"a=new"}, []History{recorded("one", updated, "a=old>new")},
			Options{Rest: "random", Again: true}, false, false, "a=random", "a", ""},
		"again, but unfinished": {[]string{"a=new"}, []History{recorded("one", nil, "a=old>new")},
			Options{Rest: "random", Again: true}, true, false, "a=", "a", ""},
		"of another Secret": {[]string{"a=new"}, []History{recorded("two", updated, "a=old>new")},
			Options{Rest: "random"}, false, false, "a=random", "a", ""},
		"the last one counts": {[]string{"a=newer"}, []History{recorded("one", updated, "a=new>newer"),
			recorded("one", finished, "a=old>new")}, Options{Rest: "random"}, true, true, "a=", "a", ""},
		"one key is left": {[]string{"a=new", "b=y"}, []History{recorded("one", finished, "a=old>new")},
			Options{Rest: "random"}, false, false, "a= b=random", "b", ""},
		"one key is left, not said": {[]string{"a=new", "b=y"}, []History{recorded("one", finished, "a=old>new")},
			Options{}, true, false, "a= b=!", "a", "--generate b=random"},
		"one was kept": {[]string{"a=new", "b=y"}, []History{recorded("one", kept, "a=old>new")}, Options{},
			true, true, "a= b=keep", "a", ""},
		"one was kept, said again": {[]string{"a=new", "b=y"}, []History{recorded("one", kept, "a=old>new")},
			Options{Sources: map[string]rotate.Source{"b": generated}}, false, false, "a= b=random", "b", ""},
		"a role waits": {[]string{"a=new", "b=y"}, []History{recorded("one", role, "a=old>new")},
			Options{Rest: "random", Database: &rotate.Database{}}, true, false, "a= b=!", "a", "still being replaced"},
		"a role, finished": {[]string{"a=new", "b=y"},
			[]History{recorded("one", func(h *History) { role(h); h.Deactivated = true }, "a=old>new")},
			Options{Rest: "random", Database: &rotate.Database{}}, false, false, "a= b=random", "b", ""},
		"a successor waits": {[]string{"a=new", "b=y"},
			[]History{recorded("zero", next(updated, "one"), "a=old>new")}, Options{Rest: "random"}, true, false,
			"a= b=!", "a", "still being replaced"},
		"an old value is owed": {[]string{"a=new", "b=y"}, []History{recorded("one", owing, "a=old>new")},
			Options{Rest: "random"}, false, false, "a= b=random", "b", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, secret("one", c.data...))
			r := radius(t, f, "one")
			c.o.Secrets = []string{"one"}
			rotations, refusals, err := Choose(t.Context(), r, c.o, contextOf(c.history...))
			if err != nil || len(rotations) != 1 {
				t.Fatalf("%d, %+v, %v", len(rotations), refusals, err)
			}
			x := rotations[0]
			if (x.Prior != nil) != c.prior || x.Prior != nil &&
				x.Prior.Record.Secrets[0].Keys["a"] != c.history[0].Record.Secrets[0].Keys["a"] {
				t.Errorf("goes on from %+v", x.Prior)
			}
			if r.Items[0].Rotated != c.rotated {
				t.Errorf("rotated: %v", r.Items[0].Rotated)
			}
			if got := strings.ReplaceAll(strings.Join(keys(r), " "), "one/", ""); got != c.keys {
				t.Errorf("%s", got)
			}
			if x.Prior == nil {
				if _, err := x.New(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := slices.Sorted(maps.Keys(x.Record().Secrets[0].Keys)); strings.Join(got, " ") != c.record {
				t.Errorf("the record is of %q", got)
			}
			var reasons []string
			for _, refusal := range refusals {
				reasons = append(reasons, refusal.Reason)
			}
			if text := strings.Join(reasons, ""); (text == "") != (c.refused == "") ||
				!strings.Contains(text, c.refused) {
				t.Errorf("refused: %q", text)
			}
		})
	}
}

// The Secret that took the place of another holds what tells how far it came.
func TestASuccessorIsFound(t *testing.T) {
	t.Parallel()
	old := secret("one", "a=old")
	old.Immutable = truth(true)
	h := recorded("one", updated, "a=old>new")
	h.Record.Secrets[0].Successor = "one-r1"
	for name, c := range map[string]struct {
		objects []runtime.Object
		deny    string
		prior   bool
		refused string
	}{
		"it holds the new value": {[]runtime.Object{old, secret("one-r1", "a=new")}, "nowhere", true, ""},
		"it holds another":       {[]runtime.Object{old, secret("one-r1", "a=else")}, "nowhere", false, ""},
		"it is gone":             {[]runtime.Object{old}, "nowhere", false, ""},
		"it may not be read": {[]runtime.Object{old, secret("one-r1", "a=new")}, "/secrets/one-r1", false,
			"which takes its place"},
	} {
		f := newFake(t, c.objects...)
		r := radius(t, f, "one")
		f.deny(c.deny)
		rotations, refusals, err := Choose(t.Context(), r, Options{Secrets: []string{"one"}, Rest: "random"},
			contextOf(h))
		if err != nil || (len(refusals) == 1) != (c.refused != "") ||
			c.refused != "" && !strings.Contains(refusals[0].Reason, c.refused) {
			t.Errorf("%s: %+v, %v", name, refusals, err)
		}
		if prior := len(rotations) == 1 && rotations[0].Prior != nil; prior != c.prior {
			t.Errorf("%s: goes on: %v", name, prior)
		}
	}
	// Once the old one is deleted, it is told as rotated, and not chosen again.
	f := newFake(t, secret("one-r1", "a=new"))
	for name, c := range map[string]struct {
		history []History
		items   int
		warned  int
	}{"by this incident": {[]History{h, h}, 1, 0}, "by somebody": {nil, 0, 1},
		"another Secret": {[]History{recorded("one", updated, "a=old>new")}, 0, 1}} {
		r := radius(t, f, "one")
		rotations, _, err := Choose(t.Context(), r, Options{All: true, Rest: "random"}, contextOf(c.history...))
		if err != nil || len(rotations) > 0 || len(r.Items) != c.items || len(warned(r, "missing")) != c.warned {
			t.Errorf("%s: %d rotations, %d items, %v, %v", name, len(rotations), len(r.Items), r.Warnings, err)
		}
		for _, i := range r.Items {
			if !i.Rotated || !i.departed() || len(i.Keys) != 1 || i.Rotator != "secret" {
				t.Errorf("%s: %+v", name, i)
			}
		}
	}
}

// An account that was made anew is not made anew again; one whose making was
// interrupted is gone on with, even where it is not there.
func TestAnAccountIsGoneOnWith(t *testing.T) {
	t.Parallel()
	account := func(uid string) *corev1.ServiceAccount {
		a := serviceAccount("default", nil)
		a.UID = "uid-" + a.UID
		if uid != "" {
			a.UID = "uid-before"
		}
		return a
	}
	made, err := rotate.NewAccount(nil, "", account("before"), nil, func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	h := func(updated bool) History { return History{Record: made.Record(), Updated: updated} }
	broken := h(true)
	broken.Record.Account = []byte("{")
	for name, c := range map[string]struct {
		live    *corev1.ServiceAccount
		history []History
		again   bool
		prior   bool
		rotated bool
		refused bool
	}{
		"nothing before":             {account("before"), nil, false, false, false, false},
		"made anew":                  {account(""), []History{h(true)}, false, true, true, false},
		"interrupted, made anew":     {account(""), []History{h(false)}, false, true, false, false},
		"interrupted, of before":     {account("before"), []History{h(false)}, false, true, false, false},
		"told as made, of before":    {account("before"), []History{h(true)}, false, false, false, false},
		"interrupted, not there":     {nil, []History{h(false)}, false, true, false, false},
		"not there, nothing before":  {nil, nil, false, false, false, true},
		"again":                      {account(""), []History{h(true)}, true, false, false, false},
		"again, interrupted":         {account(""), []History{h(false)}, true, true, false, false},
		"a record that is no record": {account(""), []History{broken}, false, false, false, false},
		"of a Secret": {account(""), []History{recorded("default", updated, "a=b>c")}, false, false,
			false, false},
	} {
		f := newFake(t)
		if c.live != nil {
			f.Add(t, c.live)
		}
		p := pod("s", naming())
		r, err := Find(t.Context(), f.scene(&cluster.Target{Pod: p}), Beside{})
		if err != nil {
			t.Fatal(err)
		}
		if c.live == nil && len(r.Items) != 1 {
			t.Fatalf("%s: %d items", name, len(r.Items))
		}
		rotations, refusals, err := Choose(t.Context(), r, Options{Secrets: []string{"sa/default"}, Again: c.again},
			contextOf(c.history...))
		if err != nil || (len(refusals) == 1) != c.refused || (len(rotations) == 1) == c.refused {
			t.Errorf("%s: %d, %+v, %v", name, len(rotations), refusals, err)
			continue
		}
		if prior := len(rotations) == 1 && rotations[0].Prior != nil; prior != c.prior ||
			r.Items[0].Rotated != c.rotated {
			t.Errorf("%s: goes on: %v, rotated: %v", name, prior, r.Items[0].Rotated)
		}
	}
}

// What is said of an item's keys, in the verdict.
func TestWhatIsSaidOfKeys(t *testing.T) {
	t.Parallel()
	open, kept, empty, fine := Key{Name: "open", Problem: "no"}, Key{Name: "kept", Source: "keep"},
		Key{Name: "empty", Empty: true}, Key{Name: "fine", Source: "random"}
	for name, c := range map[string]struct {
		keys           []Key
		open, kept     int
		byKey, nothing bool
	}{
		"one is open, one is fine":     {[]Key{open, fine}, 1, 0, false, false},
		"one is open, the others kept": {[]Key{open, kept, empty}, 1, 1, true, false},
		"all are kept":                 {[]Key{kept, kept}, 0, 2, false, true},
		"all are empty":                {[]Key{empty}, 0, 0, false, true},
		"kept and fine":                {[]Key{kept, fine}, 0, 1, false, false}, "none": {nil, 0, 0, false, true},
	} {
		i := &Item{secret: secret("x"), Keys: c.keys}
		if len(i.Open()) != c.open || len(i.Kept()) != c.kept || i.ByKey() != c.byKey || i.Nothing() != c.nothing {
			t.Errorf("%s: %d open, %d kept, by key: %v, nothing: %v", name, len(i.Open()), len(i.Kept()), i.ByKey(),
				i.Nothing())
		}
	}
	for name, i := range map[string]*Item{"an account": {}, "a token": {secret: token("x", "y")},
		"rotated": {secret: secret("x"), Rotated: true}} {
		if i.Nothing() {
			t.Errorf("%s: nothing is to be replaced", name)
		}
	}
	credential := rotate.FormOf([]byte(jwt))
	for name, c := range map[string]struct {
		key   Key
		plain bool
		what  string
	}{
		"a credential by its form": {Key{Form: credential.Name, form: credential}, true, credential.Name},
		"an issuer's":              {Key{Issuer: "AWS"}, true, "a credential that AWS has issued"},
		"an issuer's file":         {Key{Issuer: "AWS", Form: "a file of settings"}, false, "a file of settings"},
		"free text":                {Key{}, false, ""},
	} {
		if c.key.Plain() != c.plain || c.key.What() != c.what {
			t.Errorf("%s: %v %q", name, c.key.Plain(), c.key.What())
		}
	}
	for want, i := range map[string]*Item{"app/x": {Kind: "Secret", Namespace: "app", Name: "x"},
		"serviceaccount:app/x": {Kind: "ServiceAccount", Namespace: "app", Name: "x"}} {
		if i.Key() != want {
			t.Error(i.Key())
		}
	}
}

// What an external store or an operator keeps is replaced there.
func TestWhatIsKeptElsewhere(t *testing.T) {
	t.Parallel()
	command := func(kind rotate.Kind) rotate.Source { return rotate.Source{Kind: kind, Command: []string{"store"}} }
	for name, c := range map[string]struct {
		data    []string
		keeper  *keeper
		sources map[string]rotate.Source
		history []History
		rotator string
		refused string
	}{
		"a Certificate": {[]string{"tls.key=x"}, &keeper{rotator: "cert-manager"}, nil, nil,
			"cert-manager", ""},
		"a Certificate that would not": {[]string{"tls.key=x"}, &keeper{rotator: "cert-manager", cannot: "it is off"},
			nil, nil, "", "would not make a new one: it is off"},
		"an ExternalSecret": {[]string{"a=x"}, &keeper{rotator: "external-secret"}, nil, nil,
			"external-secret", ""},
		"with a command": {[]string{"a=x"}, &keeper{rotator: "external-secret"},
			map[string]rotate.Source{"a": command("random")}, nil, "external-secret", ""},
		"kept": {[]string{"a=x"}, &keeper{rotator: "external-secret"},
			map[string]rotate.Source{"a": {Kind: rotate.Keep}}, nil, "external-secret", ""},
		"without a command": {[]string{"a=x"}, &keeper{rotator: "external-secret"},
			map[string]rotate.Source{"a": {Kind: "random"}}, nil, "", "--store-command a="},
		"that would be destroyed": {[]string{"a=" + jwt}, &keeper{rotator: "external-secret"},
			map[string]rotate.Source{"a": command("random")}, nil, "", "it is a signed token"},
		"that was destroyed already": {[]string{"a=" + jwt}, &keeper{rotator: "external-secret"},
			map[string]rotate.Source{"a": command("random")},
			[]History{recorded("one", func(h *History) { updated(h); h.Record.Rotator = "external-secret" }, "a=old>"+
				jwt)}, "external-secret", ""},
		"of no kind that irctl knows": {[]string{"a=x"}, &keeper{}, nil, nil, "", "would put the old value back"},
	} {
		f := newFake(t, secret("one", c.data...))
		r := radius(t, f, "one")
		r.Items[0].keeper = c.keeper
		c.keeper.Ref = cluster.Ref{Kind: "Keeper", Namespace: "app", Name: "k"}
		rotations, refusals, err := Choose(t.Context(), r, Options{Secrets: []string{"one"}, Sources: c.sources},
			contextOf(c.history...))
		if err != nil || (len(refusals) == 1) != (c.refused != "") ||
			c.refused != "" && !strings.Contains(refusals[0].Reason, c.refused) {
			t.Errorf("%s: %+v, %v", name, refusals, err)
		}
		if got := r.Items[0].Rotator; got != c.rotator || (len(rotations) == 1) != (c.rotator != "") ||
			c.keeper.cannot == "" && r.Items[0].Keeper != "Keeper app/k" {
			t.Errorf("%s: by %q, kept by %q", name, got, r.Items[0].Keeper)
		}
		if len(rotations) == 1 && (rotations[0].Prior != nil) != (c.history != nil) {
			t.Errorf("%s: goes on from %v", name, rotations[0].Prior)
		}
	}
}

// A plan without a choice is of everything; where nothing could be looked at, a
// name that is not known is no slip.
func TestPlanOfEverything(t *testing.T) {
	t.Parallel()
	f := newFake(t, secret("a", "k=x"), secret("b", "k=x"))
	r := radius(t, f, "a", "b")
	if err := Plan(t.Context(), r, Options{Rest: "random"}, contextOf()); err != nil || r.Items[0].Rotator == "" ||
		r.Items[1].Rotator == "" {
		t.Errorf("%+v, %v", r.Items, err)
	}
	r = radius(t, f, "a", "b")
	if err := Plan(t.Context(), r, Options{Secrets: []string{"b"}, Rest: "random"}, contextOf()); err != nil ||
		r.Items[0].Rotator != "" || r.Items[1].Rotator == "" {
		t.Errorf("%+v, %v", r.Items, err)
	}
	blind := &Radius{client: f.client}
	blind.Warnings = append(blind.Warnings, finderWarning("cannot"))
	_, _, err := Choose(t.Context(), blind, Options{Secrets: []string{"a"}}, contextOf())
	if !errors.Is(err, ErrUnlooked) || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "cannot") {
		t.Errorf("%v", err)
	}
	if _, _, err = Choose(t.Context(), &Radius{client: f.client}, Options{Secrets: []string{"a"}},
		contextOf()); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}
