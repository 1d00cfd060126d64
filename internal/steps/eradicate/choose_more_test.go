package eradicate

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"irctl/internal/rotate"
)

// What cannot change together is refused of each, with each of its keys.
func TestEachOfAGroupIsRefused(t *testing.T) {
	t.Parallel()
	f := newFake(t, secret("a", "k=x"), secret("b", "k=x"), secret("c", "k=x", "l="+jwt), secret("d", "k=x", "l="+jwt))
	role := rotate.Source{Kind: rotate.Role, Role: "r"}
	sources := map[string]rotate.Source{"a/k": role, "b/k": role, "c/k": {Kind: rotate.Role, Role: "q"},
		"d/k": {Kind: rotate.Role, Role: "q"}, "l": {Kind: rotate.Random}}
	r := radius(t, f, "a", "b")
	delete(sources, "l")
	_, refusals, err := Choose(t.Context(), r,
		Options{Secrets: []string{"a", "b"}, Sources: map[string]rotate.Source{"a/k": role, "b/k": role}}, contextOf())
	if err != nil || len(refusals) != 2 || r.Items[0].Problem == "" || r.Items[1].Problem == "" {
		t.Errorf("%+v, %v", refusals, err)
	}
	sources["l"] = rotate.Source{Kind: rotate.Random}
	r = radius(t, f, "a", "b", "c", "d")
	rotations, refusals, err := Choose(t.Context(), r,
		Options{All: true, Sources: sources, Database: &rotate.Database{}}, contextOf())
	var objects []string
	for _, x := range refusals {
		objects = append(objects, x.Object)
	}
	if err != nil || len(rotations) != 2 || !slices.Equal(objects,
		[]string{"Secret app/c key l", "Secret app/d key l"}) {
		t.Errorf("%d rotations, refused %q, %v", len(rotations), objects, err)
	}
}

// A name that nothing has is an error with what is near, whichever of several it
// is; where nothing is chosen there is nothing that a key could be of.
func TestNamesThatNothingHas(t *testing.T) {
	t.Parallel()
	f := newFake(t, secret("first", "one=x"), secret("second", "password=x", "two=y"))
	random := rotate.Source{Kind: rotate.Random}
	for name, c := range map[string]struct {
		o    Options
		want string // "": fine
	}{
		"a key of the second": {Options{All: true, Rest: "random",
			Sources: map[string]rotate.Source{"password": random}}, ""},
		"one of two is none": {Options{All: true, Rest: "random",
			Sources: map[string]rotate.Source{"one": random, "passwrd": random}}, `"passwrd": did you mean password`},
		"revoked, of the second": {Options{All: true, Rest: "random", Revoked: []string{"one", "two"}}, ""},
		"revoked, one of two": {Options{All: true, Rest: "random", Revoked: []string{"one", "nothing"}},
			`"nothing", which --revoked names`},
		"nothing is near": {Options{All: true, Rest: "random",
			Sources: map[string]rotate.Source{"zzzzzzzzzzzz": random}}, `has a key "zzzzzzzzzzzz"`},
		"nothing is chosen": {Options{Images: []Image{{}},
			Sources: map[string]rotate.Source{"nothing": random}}, ""},
		"a Secret, near the second": {Options{Secrets: []string{"secnd"}}, "did you mean second?"},
		"a Secret, by its place": {Options{Secrets: []string{"app/secnd"}},
			"app/secnd does not exist: did you mean second?"},
		"a Secret, and one is none": {Options{Secrets: []string{"first", "secnd"}}, "did you mean second?"},
	} {
		_, _, err := Choose(t.Context(), radius(t, f, "first", "second"), c.o, contextOf())
		if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, ErrNotFound) ||
			!strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.HasPrefix(name, "nothing is near") && strings.Contains(err.Error(), "did you mean") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Some Secrets are known, some could not be looked at: a slip is a slip.
	r := radius(t, f, "first")
	r.Warnings = append(r.Warnings, finderWarning("cannot"))
	if _, _, err := Choose(t.Context(), r, Options{Secrets: []string{"frst"}}, contextOf()); !errors.Is(err,
		ErrNotFound) || errors.Is(err, ErrUnlooked) {
		t.Errorf("%v", err)
	}
}

// Of Secrets that are gone, those that this incident replaced are told as rotated:
// by every rotation of the journal, every Secret of it, with every key.
func TestWhatIsGoneIsToldByTheJournal(t *testing.T) {
	t.Parallel()
	successor := func(namespace, name string, keys ...string) rotate.SecretRecord {
		r := rotate.SecretRecord{Namespace: namespace, Name: name, Successor: name + "-r1",
			Keys: map[string]rotate.KeyDigests{}}
		for _, k := range keys {
			r.Keys[k] = rotate.KeyDigests{After: "x"}
		}
		return r
	}
	history := []History{{Record: rotate.Record{Rotator: "secret",
		Secrets: []rotate.SecretRecord{successor("app", "other", "k")}}},
		{Record: rotate.Record{Rotator: "secret",
			Secrets: []rotate.SecretRecord{successor("far", "elsewhere", "k"), successor("app", "b", "k", "l")}}},
		{Record: rotate.Record{Rotator: "secret", Secrets: []rotate.SecretRecord{successor("app", "a", "k")}}}}
	f := newFake(t)
	r := radius(t, f, "a", "b", "elsewhere", "stranger")
	for _, i := range slices.Clone(r.gone) {
		if len(r.gone) != 4 {
			t.Fatalf("%d are gone: %+v", len(r.gone), i)
		}
	}
	o := Options{All: true, Sources: map[string]rotate.Source{"l": {Kind: rotate.Random}}}
	rotations, _, err := Choose(t.Context(), r, o, contextOf(history...))
	var told []string
	for _, i := range r.Items {
		var names []string
		for _, k := range i.Keys {
			names = append(names, k.Name)
		}
		slices.Sort(names)
		told = append(told, i.Name+" "+strings.Join(names, "+"))
	}
	slices.Sort(told)
	if err != nil || len(rotations) > 0 || !slices.Equal(told, []string{"a k", "b k+l"}) ||
		len(warned(r, "missing")) != 2 || len(r.gone) != 0 {
		t.Errorf("%q, %d rotations, warned %q, %v", told, len(rotations), warned(r, "missing"), err)
	}
	// It is not chosen by its name, either, and that is no slip.
	if rotations, _, err = Choose(t.Context(), r, Options{Secrets: []string{"b"}}, contextOf(history...)); err != nil ||
		len(rotations) > 0 {
		t.Errorf("%d rotations, %v", len(rotations), err)
	}
}

// A value that was revoked at its issuer is not left to anybody, by whichever of
// its names that is said, and for whichever key.
func TestWhatWasRevokedIsNotLeft(t *testing.T) {
	t.Parallel()
	supplied := rotate.Source{Kind: rotate.Supplied, Value: rotate.NewValue([]byte("brand-new"))}
	for name, left := range map[string]int{"k": 1, "one/k": 1, "app/one/k": 1, "l": 1, "app/one/l": 1, "": 2} {
		f := newFake(t, secret("one", "k=x", "l=y"))
		o := Options{Secrets: []string{"one"}, Sources: map[string]rotate.Source{"k": supplied, "l": supplied}}
		if name != "" {
			o.Revoked = []string{name}
		}
		rotations, _, err := Choose(t.Context(), radius(t, f, "one"), o, contextOf())
		if err != nil || len(rotations) != 1 {
			t.Fatal(rotations, err)
		}
		if _, err := rotations[0].New(t.Context()); err != nil {
			t.Fatal(err)
		}
		if out, err := rotations[0].Deactivate(t.Context()); err != nil || len(out.Left) != left {
			t.Errorf("%q: %q, %v", name, out.Left, err)
		}
	}
}

// A Secret may have the name of a kind; only a token's Secret goes with its
// account; any key may share a role; and what was rotated is still there.
func TestWhatIsMeantByAName(t *testing.T) {
	t.Parallel()
	annotated := secret("annotated", "k=x")
	annotated.Annotations = map[string]string{"kubernetes.io/service-account.name": "default"}
	f := newFake(t, secret("sa", "k=x"), secret("secret", "k=x"), annotated, serviceAccount("default", nil),
		secret("a", "k=x", "l=y"), secret("b", "k=x", "l=y"))
	named := func(o Options, history ...History) string {
		r := radius(t, f, "sa", "secret", "annotated", "a", "b")
		r.Items = append(r.Items, &Item{Kind: rotate.AccountRef.Kind, Namespace: "app", Name: "default", Order: 99,
			ref: rotate.AccountRef.Named("app", "default", "u"), account: serviceAccount("default", nil)})
		var names []string
		for range 2 { // a radius can be chosen from again
			rotations, _, err := Choose(t.Context(), r, o, contextOf(history...))
			if err != nil {
				return err.Error()
			}
			names = nil
			for _, x := range rotations {
				names = append(names, x.Name())
			}
		}
		return strings.Join(names, "; ")
	}
	role := rotate.Source{Kind: rotate.Role, Role: "r"}
	for want, o := range map[string]Options{
		"Secret app/sa":     {Secrets: []string{"sa"}, Rest: "random"},
		"Secret app/secret": {Secrets: []string{"secret"}, Rest: "random"},
		"Secret app/annotated; ServiceAccount app/default": {Secrets: []string{"annotated", "sa/default"},
			Rest: "random"},
		"Secret app/a and Secret app/b": {Secrets: []string{"a", "b"}, Rest: "random", Database: &rotate.Database{},
			Sources: map[string]rotate.Source{"a/l": role, "b/l": role}},
	} {
		if got := named(o); got != want {
			t.Errorf("%q, expected %q", got, want)
		}
	}
	if got := named(Options{Secrets: []string{"a"}, Rest: "random"},
		recorded("a", updated, "k=old>x", "l=old>y")); got != "Secret app/a" {
		t.Errorf("rotated, and chosen again: %q", got)
	}
}
