package rotate

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"irctl/internal/change"
	"irctl/internal/drill/sim"
)

// A Secret holds the new values where every key that is known does, and any has
// changed: one that is as it was, or half of it, was not rotated.
func TestWhetherASecretHoldsTheNewValues(t *testing.T) {
	t.Parallel()
	d := NewDigests([]byte("key"))
	known := func(was, is string) KeyDigests { return KeyDigests{Before: d.Of([]byte(was)), After: d.Of([]byte(is))} }
	unknown := func(was string) KeyDigests { return KeyDigests{Before: d.Of([]byte(was))} }
	for name, c := range map[string]struct {
		keys map[string]KeyDigests
		data map[string]string
		want bool
	}{
		"all are new": {map[string]KeyDigests{"a": known("1", "2"), "b": known("3", "4")},
			map[string]string{"a": "2", "b": "4"}, true},
		"one is old": {map[string]KeyDigests{"a": known("1", "2"), "b": known("3", "4")},
			map[string]string{"a": "2", "b": "3"}, false},
		"all are old": {map[string]KeyDigests{"a": known("1", "2")}, map[string]string{"a": "1"},
			false},
		"one is another": {map[string]KeyDigests{"a": known("1", "2")}, map[string]string{"a": "9"},
			false},
		"one is gone": {map[string]KeyDigests{"a": known("1", "2")}, map[string]string{}, false},
		"made by others, and another": {map[string]KeyDigests{"a": unknown("1")}, map[string]string{"a": "9"},
			true},
		"made by others, and as it was": {map[string]KeyDigests{"a": unknown("1")}, map[string]string{"a": "1"},
			false},
		"by others, two, both as they were": {map[string]KeyDigests{"a": unknown("1"), "b": unknown("2")},
			map[string]string{"a": "1", "b": "2"}, false},
		"made to what it was, nothing known": {map[string]KeyDigests{"a": known("1", "1")}, map[string]string{"a": "1"},
			false},
		"of no keys": {nil, map[string]string{"a": "1"}, false},
	} {
		s := &corev1.Secret{Data: map[string][]byte{}}
		for k, v := range c.data {
			s.Data[k] = []byte(v)
		}
		r := SecretRecord{Keys: c.keys}
		if got := Holds(r, s, d); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if Holds(r, nil, d) {
			t.Errorf("%s: a Secret that is not there holds them", name)
		}
	}
	if Holder(SecretRecord{Name: "a"}) != "a" || Holder(SecretRecord{Name: "a", Successor: "b"}) != "b" {
		t.Error("which Secret holds them")
	}
}

// Every form in which a value could stand in an error is taken out, of every value.
func TestNoFormOfAValueIsTold(t *testing.T) {
	t.Parallel()
	value := "???>>>s3cr\"et/+? ÿ<\n"
	other := NewValue([]byte("another one"))
	quoted := fmt.Sprintf("%q", value)
	for name, form := range map[string]string{
		"as it is": value, "trimmed": strings.TrimSpace(value),
		"base64":          base64.StdEncoding.EncodeToString([]byte(value)),
		"base64 for URLs": base64.URLEncoding.EncodeToString([]byte(value)),
		"in a query":      "%3F%3F%3F%3E%3E%3Es3cr%22et%2F%2B%3F+%C3%BF%3C%0A",
		"in a path":       "%3F%3F%3F%3E%3E%3Es3cr%22et%2F+%3F%20%C3%BF%3C%0A", "quoted": quoted[1 : len(quoted)-1],
		"another": "another one", "another in base64": base64.StdEncoding.EncodeToString(other.bytes),
	} {
		got := scrub(errors.New("denied: "+form+" is weak, "+form), NewValue([]byte(value)), other).Error()
		if strings.Contains(got, form) || !strings.Contains(got, placeholder) || !strings.HasPrefix(got, "denied: ") {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := scrub(errors.New("the key is bad"), NewValue([]byte("key")), Value{}).Error(); got != "the key is bad" {
		t.Errorf("a value that is in every text: %s", got)
	}
	if scrub(nil, other) != nil {
		t.Error("no error is one")
	}
}

// An account that still is the one of before is not told as invalidated.
func TestAnAccountThatIsStillTheOldOne(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		forbidden, gone bool
		want            string
	}{"it is the old one": {false, false, "still is the one of before"},
		"it may not be read": {true, false, "reading ServiceAccount"},
		"it is gone":         {false, true, "reading ServiceAccount"}} {
		w := newCluster(t, func(q sim.Request) sim.Fault {
			if c.forbidden && q.Resource == "serviceaccounts" && q.Nth > 1 {
				return sim.Fault{Error: sim.Denied("test", "no")}
			}
			return sim.Fault{}
		})
		if err := w.Apply(
			"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: app, namespace: todo-app}\n"); err != nil {
			t.Fatal(err)
		}
		live, err := w.client.Kube.CoreV1().ServiceAccounts(ns).Get(t.Context(), "app", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		a, err := NewAccount(w.client, "", live, nil, func(string) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		if c.gone {
			if err := w.Delete(AccountRef.GVR(), ns, "app"); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := a.Deactivate(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) ||
			out.Result != "" {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
}

// A legacy token that is made anew is of the new account: nothing of it names the
// old one, or holds its values.
func TestALegacyTokenIsOfTheNewAccount(t *testing.T) {
	t.Parallel()
	token := func(name string) *corev1.Secret {
		return &corev1.Secret{Type: corev1.SecretTypeServiceAccountToken,
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: "uid-" + "t",
				Labels: map[string]string{"a": "b"},
				Annotations: map[string]string{corev1.ServiceAccountUIDKey: "uid-old",
					corev1.ServiceAccountNameKey: "app", corev1.LastAppliedConfigAnnotation: "{}", "kept": "yes"}},
			Data: map[string][]byte{corev1.ServiceAccountTokenKey: []byte("leaked")}}
	}
	live := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "app", UID: "uid-old",
		ResourceVersion: "7", Labels: map[string]string{"c": "d"}}}
	a, err := NewAccount(nil, "", live, []*corev1.Secret{token("unused"), token("used"), token("used-too")},
		func(name string) bool { return strings.HasPrefix(name, "used") })
	if err != nil {
		t.Fatal(err)
	}
	r := a.Record()
	if len(r.Secrets) != 3 || len(r.Tokens) != 2 || r.AccountUID != "uid-old" {
		t.Errorf("%+v", r)
	}
	for n, raw := range r.Tokens {
		var s corev1.Secret
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatal(err)
		}
		if s.Name != []string{"used", "used-too"}[n] || len(s.Data) > 0 || s.UID != "" ||
			s.Type != corev1.SecretTypeServiceAccountToken || s.Labels["a"] != "b" ||
			len(s.Annotations) != 2 || s.Annotations["kept"] != "yes" ||
			s.Annotations[corev1.ServiceAccountNameKey] != "app" {
			t.Errorf("%+v", s)
		}
	}
	var next corev1.ServiceAccount
	if err := json.Unmarshal(r.Account, &next); err != nil || next.UID != "" || next.ResourceVersion != "" ||
		next.Labels["c"] != "d" {
		t.Errorf("%+v, %v", next, err)
	}
	if !a.Names(ns, "app") || a.Names("other", "app") || a.Names(ns, "other") {
		t.Error("which account it is about")
	}
}

// Of several Secrets all are written or none: what was written before one failed
// is put back, also where the run was cancelled meanwhile.
func TestAllSecretsOrNone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ cancelled, stuck bool }{"one is denied": {false, false},
		"the run is cancelled, too": {true, false}, "it cannot be put back": {false, true}} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		writes := 0
		w := newCluster(t, func(q sim.Request) sim.Fault {
			if q.Verb != "patch" {
				return sim.Fault{}
			}
			switch writes++; {
			case q.Name == "c" && c.cancelled:
				return sim.Fault{Before: cancel, Error: sim.Denied("test", "no")}
			case q.Name == "c", c.stuck && q.Name == "a" && writes > 3:
				return sim.Fault{Error: sim.Denied("test", "no")}
			}
			return sim.Fault{}
		})
		var plans []SecretPlan
		for _, n := range []string{"a", "b", "c", "d"} {
			w.secret(t, n, map[string]string{"K": "old-value-" + n})
			plans = append(plans, SecretPlan{Live: w.live(t, n), Sources: map[string]Source{"K": {Kind: Random}}})
		}
		s := NewSecrets(w.client, w.digests, nil, Commander{}, plans...)
		must(t, s.New)
		_, err := s.Update(ctx)
		if err == nil || strings.Contains(err.Error(), "could not be put back") != c.stuck {
			t.Errorf("%s: %v", name, err)
		}
		for _, n := range []string{"a", "b", "c", "d"} {
			if was := w.value(t, n, "K") == "old-value-"+n; was == (c.stuck && n == "a") {
				t.Errorf("%s: %s is as it was: %v", name, n, was)
			}
		}
	}
}

// What is left to a person, of the values that only their issuer can revoke, and
// what is deleted.
func TestWhatIsLeftToAPerson(t *testing.T) {
	t.Parallel()
	supplied := Source{Kind: Supplied, Value: NewValue([]byte("brand-new"))}
	for name, c := range map[string]struct {
		sources map[string]Source
		revoked []string
		owed    []string
		left    []string
		note    string
	}{
		"generated": {map[string]Source{"a": {Kind: Random}}, nil, nil, nil,
			"nothing that runs accepts the old value"},
		"supplied": {map[string]Source{"a": supplied, "b": {Kind: Random}}, nil, nil, []string{"s/a"}, ""},
		"two supplied": {map[string]Source{"a": supplied, "b": supplied}, []string{"a"}, nil, []string{"s/b"},
			"the old a was revoked"},
		"revoked": {map[string]Source{"a": supplied}, []string{"a"}, nil, nil,
			"the old a was revoked at its issuer"},
		"revoked is another":  {map[string]Source{"a": supplied}, []string{"b"}, nil, []string{"s/a"}, ""},
		"owed of an earlier":  {map[string]Source{"b": {Kind: Random}}, nil, []string{"a"}, []string{"s/a"}, ""},
		"owed, and once more": {map[string]Source{"a": supplied}, nil, []string{"a"}, []string{"s/a"}, ""},
		"kept": {map[string]Source{"a": {Kind: Keep}, "b": {Kind: Random}}, nil, nil, nil,
			"as valid as before: a"},
		"kept, and one is due": {map[string]Source{"a": {Kind: Keep}, "b": supplied}, nil, nil, []string{"s/b"},
			"as valid as before: a"},
	} {
		w := newCluster(t, nil)
		w.secret(t, "s", map[string]string{"a": "old-a", "b": "old-b"})
		s := NewSecrets(w.client, w.digests, nil, Commander{},
			SecretPlan{Live: w.live(t, "s"), Sources: c.sources, Revoked: c.revoked, Owed: c.owed})
		must(t, s.New)
		out, err := s.Deactivate(t.Context())
		var left []string
		for _, l := range out.Left {
			_, what, _ := strings.Cut(l, "--revoked ")
			left = append(left, what)
		}
		if err != nil || !slices.Equal(left, c.left) || !strings.Contains(out.Note, c.note) ||
			out.Result != change.Already {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
	// The one whose place was taken is deleted by its UID.
	for name, c := range map[string]struct {
		uid   string
		fault *bool
		gone  bool
		err   bool
	}{"the one that was meant": {"", nil, true, false}, "another of its name": {"uid-other", nil, false, false},
		"it may not be": {"", new(bool), false, true}} {
		w := newCluster(t, func(q sim.Request) sim.Fault {
			if q.Verb == "delete" && c.fault != nil {
				return sim.Fault{Error: sim.Denied("test", "no")}
			}
			return sim.Fault{}
		})
		w.secret(t, "s", map[string]string{"a": "old-a"})
		live := w.live(t, "s")
		if c.uid != "" {
			live.UID = "uid-other"
		}
		record := &Record{Secrets: []SecretRecord{{Namespace: ns, Name: "x"},
			{Namespace: ns, Name: "s", UID: string(live.UID), Successor: "s-r1"}}}
		out, err := NewSecrets(w.client, w.digests, record, Commander{},
			SecretPlan{Live: live, Sources: map[string]Source{"a": {Kind: Random}}}).Deactivate(t.Context())
		_, getErr := w.client.Kube.CoreV1().Secrets(ns).Get(t.Context(), "s", metav1.GetOptions{})
		if (err != nil) != c.err || (getErr != nil) != c.gone || !c.err && out.Result != change.Done {
			t.Errorf("%s: %+v, %v; gone: %v", name, out, err, getErr != nil)
		}
	}
}
