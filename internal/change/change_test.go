package change_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/cluster/apifake"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

func connect(t *testing.T, s *apifake.Server) dynamic.Interface {
	t.Helper()
	c, err := cluster.New(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	return c.Dynamic
}

// bounded is enough for a few retries, and the end of a test that hangs.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func backend() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "todo-app", Name: "backend", UID: "pod-uid",
		Labels: map[string]string{"app": "backend", "tier": "api"}}}
}

func label(key string, before, after any) change.Field {
	return change.Field{Path: []string{"metadata", "labels", key}, Before: before, After: after}
}

// detachment marks the pod and takes its app label off, as planned from the
// pod as the server has it.
func detachment(t *testing.T, s *apifake.Server) change.Change {
	t.Helper()
	live := unstructured.Unstructured{Object: s.Object("pods", "todo-app", "backend")}
	c, ok := change.NewEdit(cluster.Pod.Named("todo-app", "backend", live.GetUID()), "", live.GetResourceVersion(),
		label("quarantine", nil, "true"), label("app", "backend", nil))
	if !ok {
		t.Fatal("nothing to do")
	}
	return c
}

func policy() change.Change {
	return change.NewCreate(cluster.NetworkPolicy.Named("todo-app", "deny", ""), map[string]any{
		"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
		"metadata": map[string]any{"name": "deny", "namespace": "todo-app",
			"labels": map[string]string{"irctl/incident": "i-1"}},
		"spec": map[string]any{"podSelector": map[string]any{}, "policyTypes": []string{"Ingress", "Egress"}},
	})
}

func labelsOf(s *apifake.Server) map[string]string {
	u := unstructured.Unstructured{Object: s.Object("pods", "todo-app", "backend")}
	return u.GetLabels()
}

// cases are an edit and a create, which keep the same promises.
var cases = map[string]func(t *testing.T, s *apifake.Server) change.Change{
	"edit":   detachment,
	"create": func(*testing.T, *apifake.Server) change.Change { return policy() },
	"scale": func(t *testing.T, s *apifake.Server) change.Change {
		live := unstructured.Unstructured{Object: s.Object("deployments.apps", "todo-app", "backend")}
		c, _ := change.NewEdit(cluster.Deployment.Named("todo-app", "backend", live.GetUID()), "scale",
			live.GetResourceVersion(),
			change.Field{Path: []string{"spec", "replicas"}, Before: int64(3), After: int64(0)})
		return c
	},
}

func todoApp(t *testing.T) *apifake.Server {
	s := apifake.New(t)
	three := int32(3)
	s.Add(t, backend(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "todo-app", Name: "backend",
		UID: "deployment-uid"}, Spec: appsv1.DeploymentSpec{Replicas: &three}})
	return s
}

func TestAChangeIsDoneOnceObservedAndUndoneToTheLetter(t *testing.T) {
	for name, plan := range cases {
		t.Run(name, func(t *testing.T) {
			s, ctx := todoApp(t), bounded(t)
			client := connect(t, s)
			before := s.State()
			c := plan(t, s)

			expectState(t, c, client, change.Before)
			if err := c.DryRun(ctx, client); err != nil {
				t.Fatalf("dry run: %v", err)
			}
			if diff := cmp.Diff(before, s.State()); diff != "" {
				t.Fatalf("the dry run wrote:\n%s", diff)
			}
			expect(t, change.Done)(c.Do(ctx, client))
			expectState(t, c, client, change.After)
			after := s.State()
			expect(t, change.Already)(c.Do(ctx, client))
			if diff := cmp.Diff(after, s.State()); diff != "" {
				t.Errorf("done twice is not done once:\n%s", diff)
			}
			if err := c.DryRunUndo(ctx, client); err != nil {
				t.Fatalf("dry run of the undo: %v", err)
			}
			if diff := cmp.Diff(after, s.State()); diff != "" {
				t.Fatalf("the dry run of the undo wrote:\n%s", diff)
			}

			// Another process undoes it, from the journal alone.
			read := journaled(t, c)
			if diff := cmp.Diff(c, read); diff != "" {
				t.Errorf("a change differs after a round trip through the journal:\n%s", diff)
			}
			expect(t, change.Done)(read.Undo(ctx, client))
			expectState(t, c, client, change.Before)
			if diff := cmp.Diff(before, s.State()); diff != "" {
				t.Errorf("undo did not restore what was there:\n%s", diff)
			}
		})
	}
}

func expect(t *testing.T, want change.Result) func(change.Result, error) {
	t.Helper()
	return func(got change.Result, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

func expectState(t *testing.T, c change.Change, client dynamic.Interface, want change.State) {
	t.Helper()
	if got, err := c.Observe(bounded(t), client); err != nil || got != want {
		t.Errorf("observed %q, %v; want %q", got, err, want)
	}
}

func TestUndoneTwiceIsUndoneOnce(t *testing.T) {
	for name, want := range map[string]change.Result{"edit": change.Already, "scale": change.Already,
		"create": change.Gone} {
		t.Run(name, func(t *testing.T) {
			s, ctx := todoApp(t), bounded(t)
			client := connect(t, s)
			c := cases[name](t, s)
			expect(t, change.Done)(c.Do(ctx, client))
			expect(t, change.Done)(c.Undo(ctx, client))
			expect(t, want)(c.Undo(ctx, client))
		})
	}
}

func TestWhatIsNotPartOfTheChangeStays(t *testing.T) {
	s, ctx := todoApp(t), bounded(t)
	client := connect(t, s)
	s.Edit("pods", "todo-app", "backend", func(m map[string]any) { m["spec"] = map[string]any{"fieldOfTomorrow": "x"} })
	c := detachment(t, s)
	expect(t, change.Done)(c.Do(ctx, client))
	s.Edit("pods", "todo-app", "backend", func(m map[string]any) {
		m["metadata"].(map[string]any)["labels"].(map[string]any)["note"] = "of a colleague"
	})
	expect(t, change.Done)(c.Undo(ctx, client))
	if diff := cmp.Diff(map[string]string{"app": "backend", "tier": "api", "note": "of a colleague"},
		labelsOf(s)); diff != "" {
		t.Error(diff)
	}
	if spec := s.Object("pods", "todo-app", "backend")["spec"]; !cmp.Equal(spec,
		map[string]any{"fieldOfTomorrow": "x"}) {
		t.Errorf("spec is %v", spec)
	}
}

func TestDriftIsRefusedWithTheDifference(t *testing.T) {
	setLabel := func(key, value string) func(map[string]any) {
		return func(m map[string]any) {
			m["metadata"].(map[string]any)["labels"].(map[string]any)[key] = value
		}
	}
	t.Run("edit", func(t *testing.T) {
		s, ctx := todoApp(t), bounded(t)
		c := detachment(t, s)
		s.Edit("pods", "todo-app", "backend", setLabel("app", "frontend"))
		before := s.State()
		_, err := c.Do(ctx, connect(t, s))
		expectDrift(t, err, `metadata.labels[app] is "frontend", expected "backend"`)
		expectState(t, c, connect(t, s), change.Drifted)
		if s.State() != before {
			t.Error("a refused change was made")
		}
	})
	t.Run("undo of an edit", func(t *testing.T) {
		s, ctx := todoApp(t), bounded(t)
		c := detachment(t, s)
		expect(t, change.Done)(c.Do(ctx, connect(t, s)))
		s.Edit("pods", "todo-app", "backend", setLabel("app", "mine"))
		before := s.State()
		_, err := c.Undo(ctx, connect(t, s))
		expectDrift(t, err, `metadata.labels[app] is "mine", expected absent`)
		if s.State() != before {
			t.Error("a refused undo was made")
		}
	})
	for name, edit := range map[string]struct {
		change func(map[string]any)
		want   string
	}{
		"label": {setLabel("irctl/incident", "i-2"), `metadata.labels[irctl/incident] is "i-2", expected "i-1"`},
		"added rule": {func(m map[string]any) {
			m["spec"].(map[string]any)["ingress"] = []any{map[string]any{}}
		}, `"ingress":[{}]`},
		"other pods": {func(m map[string]any) { delete(m["spec"].(map[string]any), "podSelector") },
			`spec is {"policyTypes":["Ingress","Egress"]}`},
		"policy type": {func(m map[string]any) {
			m["spec"].(map[string]any)["policyTypes"] = []any{"Ingress"}
		}, `["Ingress"]`},
	} {
		t.Run("create/"+name, func(t *testing.T) {
			s, ctx := todoApp(t), bounded(t)
			client, c := connect(t, s), policy()
			expect(t, change.Done)(c.Do(ctx, client))
			s.Edit("networkpolicies.networking.k8s.io", "todo-app", "deny", edit.change)
			_, err := c.Do(ctx, client)
			expectDrift(t, err, edit.want)
			_, err = c.Undo(ctx, client)
			expectDrift(t, err, edit.want)
			if s.Object("networkpolicies.networking.k8s.io", "todo-app", "deny") == nil {
				t.Error("a policy that somebody changed was deleted")
			}
		})
	}
}

func expectDrift(t *testing.T, err error, want string) {
	t.Helper()
	var drift *change.DriftError
	if !errors.As(err, &drift) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v; want drift that says %q", err, want)
	}
}

func TestAnotherObjectOfTheSameNameIsLeftAlone(t *testing.T) {
	for _, when := range []string{"do", "undo"} {
		t.Run(when, func(t *testing.T) {
			s, ctx := todoApp(t), bounded(t)
			client, c := connect(t, s), detachment(t, s)
			act := c.Do
			if when == "undo" {
				expect(t, change.Done)(c.Do(ctx, client))
				act = func(ctx context.Context, client dynamic.Interface) (change.Result, error) {
					return c.Undo(ctx, client)
				}
			}
			s.Delete("pods", "todo-app", "backend")
			other := backend()
			other.UID = "another-uid"
			s.Add(t, other)
			before := s.State()
			_, err := act(ctx, client)
			expectDrift(t, err, "another object of that name exists now (uid another-uid, expected pod-uid)")
			expectState(t, c, client, change.Missing)
			if s.State() != before {
				t.Error("the other object was changed")
			}
		})
	}
}

func TestAnObjectThatIsGone(t *testing.T) {
	s, ctx := todoApp(t), bounded(t)
	client, c := connect(t, s), detachment(t, s)
	expect(t, change.Done)(c.Do(ctx, client))
	s.Delete("pods", "todo-app", "backend")
	expect(t, change.Gone)(c.Undo(ctx, client))
	expectState(t, c, client, change.Missing)
	if _, err := c.Do(ctx, client); err == nil || !strings.Contains(err.Error(), "Pod todo-app/backend") {
		t.Errorf("got %v; want an error that names the pod", err)
	}
}

func TestAConflictIsRetriedOnWhatIsThereNow(t *testing.T) {
	s, ctx := todoApp(t), bounded(t)
	c := detachment(t, s)
	s.Edit("pods", "todo-app", "backend", func(m map[string]any) { m["status"] = map[string]any{"phase": "Running"} })
	expect(t, change.Done)(c.Do(ctx, connect(t, s)))
	if diff := cmp.Diff(map[string]string{"tier": "api", "quarantine": "true"}, labelsOf(s)); diff != "" {
		t.Error(diff)
	}
	if n := len(s.Requests("PATCH")); n != 2 {
		t.Errorf("%d patches; want 2", n)
	}
}

func TestWhatSomebodyElseDidAfterAConflictIsNotOurs(t *testing.T) {
	s, ctx := todoApp(t), bounded(t)
	c := detachment(t, s)
	s.Edit("pods", "todo-app", "backend", func(m map[string]any) {
		m["metadata"].(map[string]any)["labels"] = map[string]any{"tier": "api", "quarantine": "true"}
	})
	expect(t, change.Already)(c.Do(ctx, connect(t, s)))
}

func TestAFreshPlanCostsOneRequest(t *testing.T) {
	for name, plan := range cases {
		t.Run(name, func(t *testing.T) {
			s := todoApp(t)
			c := plan(t, s)
			expect(t, change.Done)(c.Do(bounded(t), connect(t, s)))
			if got := s.Requests(); len(got) != 1 {
				t.Errorf("made %v", got)
			}
		})
	}
}

// faults are ways in which a request fails that pass.
var faults = map[string]http.HandlerFunc{
	"429": func(w http.ResponseWriter, _ *http.Request) {
		apifake.Fail(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "slow down")
	},
	"500": func(w http.ResponseWriter, _ *http.Request) {
		apifake.Fail(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, "etcdserver: leader changed")
	},
	"503": func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no endpoints", http.StatusServiceUnavailable)
	},
	"broken connection": func(w http.ResponseWriter, _ *http.Request) {
		panic(http.ErrAbortHandler)
	},
}

func TestWhatPassesIsRetried(t *testing.T) {
	for fault, fails := range faults {
		for name, plan := range cases {
			t.Run(fault+"/"+name, func(t *testing.T) {
				s := todoApp(t)
				var failures atomic.Int32
				failures.Store(2)
				s.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
					if r.Method != http.MethodGet && failures.Add(-1) >= 0 {
						fails(w, r)
						return
					}
					serve(w, r)
				}
				c := plan(t, s)
				expect(t, change.Done)(c.Do(bounded(t), connect(t, s)))
				expect(t, change.Done)(c.Undo(bounded(t), connect(t, s)))
			})
		}
	}
}

func TestAnAttemptWhoseAnswerGotLostIsNotMadeTwice(t *testing.T) {
	lose := map[string]http.HandlerFunc{
		"broken connection": faults["broken connection"],
		"500":               faults["500"],
		// client-go would repeat the request by itself, and blindly.
		"500 with Retry-After": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			apifake.Fail(w, http.StatusInternalServerError, metav1.StatusReasonServerTimeout,
				"etcdserver: request timed out")
		},
	}
	for fault, loses := range lose {
		for name, plan := range cases {
			t.Run(fault+"/"+name, func(t *testing.T) {
				s := todoApp(t)
				c := plan(t, s)
				client := connect(t, s)
				loseNext := false
				s.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
					if r.Method == http.MethodGet || !loseNext {
						serve(w, r)
						return
					}
					loseNext = false
					serve(httptest.NewRecorder(), r)
					loses(w, r)
				}
				writes := func() int { return len(s.Requests("PATCH")) + len(s.Requests("DELETE")) }

				loseNext = true
				expect(t, change.Done)(c.Do(bounded(t), client))
				if n := len(s.Requests("PATCH")); n > 1 {
					t.Errorf("%d patches; want one", n)
				}
				if n := len(s.Requests("POST")); n > 2 {
					t.Errorf("%d creates; want one, and one that finds it there", n)
				}
				s.Forget()
				loseNext = true
				expect(t, change.Done)(c.Undo(bounded(t), client))
				if n := writes(); n != 1 {
					t.Errorf("the undo wrote %d times; want once", n)
				}
			})
		}
	}
}

func TestWhatDoesNotPassIsNotRetried(t *testing.T) {
	for reason, code := range map[metav1.StatusReason]int{
		metav1.StatusReasonForbidden: http.StatusForbidden, metav1.StatusReasonInvalid: http.StatusUnprocessableEntity,
		metav1.StatusReasonUnauthorized: http.StatusUnauthorized, metav1.StatusReasonBadRequest: http.StatusBadRequest,
	} {
		for name, plan := range cases {
			t.Run(string(reason)+"/"+name, func(t *testing.T) {
				s := todoApp(t)
				c := plan(t, s)
				s.Intercept = func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
					apifake.Fail(w, code, reason, "no: "+string(reason))
				}
				_, err := c.Do(bounded(t), connect(t, s))
				if err == nil || !strings.Contains(err.Error(), c.Object.String()) ||
					!strings.Contains(err.Error(), "no: "+string(reason)) {
					t.Errorf("got %v; want an error that names object and cause", err)
				}
				if n := len(s.Requests()); n != 1 {
					t.Errorf("%d requests; want one", n)
				}
			})
		}
	}
}

func TestRetriesEndWithTheDeadlineAndNameTheCause(t *testing.T) {
	s := todoApp(t)
	c := detachment(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Intercept = func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		if len(s.Requests()) == 2 {
			cancel()
		}
		faults["500"](w, r)
	}
	_, err := c.Do(ctx, connect(t, s))
	if err == nil || !strings.Contains(err.Error(), "Pod todo-app/backend") {
		t.Errorf("got %v", err)
	}
	if n := len(s.Requests("PATCH")); n > 2 {
		t.Errorf("went on after the end: %d requests", n)
	}
}

func TestAPartialUndoIsFinished(t *testing.T) {
	s, ctx := todoApp(t), bounded(t)
	client, c := connect(t, s), detachment(t, s)
	expect(t, change.Done)(c.Do(ctx, client))
	s.Edit("pods", "todo-app", "backend", func(m map[string]any) {
		m["metadata"].(map[string]any)["labels"].(map[string]any)["app"] = "backend" // one of the two, by hand
	})
	expect(t, change.Done)(c.Undo(ctx, client))
	if diff := cmp.Diff(map[string]string{"app": "backend", "tier": "api"}, labelsOf(s)); diff != "" {
		t.Error(diff)
	}
}

// The parts of an object that say "nothing" in several ways are put back as
// they were: to an API server, an affinity of {} in a template is another
// template than one without.
func TestUndoRestoresValuesToTheLetter(t *testing.T) {
	for name, before := range map[string]any{
		"absent":    nil,
		"empty map": map[string]any{},
		"nested empties": map[string]any{"nodeAffinity": map[string]any{},
			"podAffinity": map[string]any{"preferred": []any{}}},
		"empty rules": map[string]any{"ingress": []any{map[string]any{}},
			"egress": []any{map[string]any{"to": []any{}}}},
		"update strategy": map[string]any{"type": "RollingUpdate",
			"rollingUpdate": map[string]any{"maxSurge": int64(0), "maxUnavailable": "10%"}},
		"false": false, "zero": int64(0), "empty string": "", "list": []any{"a", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			s, ctx := todoApp(t), bounded(t)
			client := connect(t, s)
			s.Edit("pods", "todo-app", "backend", func(m map[string]any) {
				m["spec"] = map[string]any{}
				if before != nil {
					m["spec"].(map[string]any)["value"] = before
				}
			})
			state := s.State()
			c, ok := change.NewEdit(cluster.Pod.Named("todo-app", "backend", "pod-uid"), "", "",
				change.Field{Path: []string{"spec", "value"}, Before: before,
					After: map[string]any{"type": "OnDelete"}})
			if !ok {
				t.Fatal("nothing to do")
			}
			expect(t, change.Done)(c.Do(ctx, client))
			expectState(t, c, client, change.After)
			expect(t, change.Done)(c.Undo(ctx, client))
			if diff := cmp.Diff(state, s.State()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEqualValuesAreNoChange(t *testing.T) {
	none, one := map[string]any{}, int64(1)
	for name, f := range map[string]struct {
		before, after any
		same          bool
	}{
		"nil and empty map":    {nil, none, true},
		"nil and empty list":   {nil, []any{}, true},
		"numbers of any type":  {one, 1.0, true},
		"typed and plain maps": {map[string]string{"a": "b"}, map[string]any{"a": "b"}, true},
		"a struct and its JSON": {metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
			map[string]any{"matchLabels": map[string]any{"a": "b"}}, true},
		"nulls within":            {map[string]any{"a": nil, "b": 1}, map[string]any{"b": 1}, true},
		"absent and false":        {nil, false, false},
		"absent and zero":         {nil, 0, false},
		"absent and empty string": {nil, "", false},
		"a number and its text":   {1, "1", false},
		"no rule and an empty rule": {map[string]any{"ingress": []any{}}, map[string]any{"ingress": []any{none}},
			false},
		"a rule from nobody in special": {map[string]any{"ingress": []any{map[string]any{"from": []any{}}}},
			map[string]any{"ingress": []any{none}}, true},
		"no selector and an empty one": {map[string]any{"podSelector": nil}, map[string]any{"podSelector": none},
			false},
		"an empty namespace selector": {[]any{map[string]any{"namespaceSelector": none}}, []any{map[string]any{}},
			false},
		"lists in another order": {[]any{"a", "b"}, []any{"b", "a"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, changes := change.NewEdit(cluster.Pod.Named("n", "p", ""), "", "",
				change.Field{Path: []string{"spec"}, Before: f.before, After: f.after})
			if changes == f.same {
				t.Errorf("a change: %t", changes)
			}
		})
	}
}

func TestShowing(t *testing.T) {
	edit, _ := change.NewEdit(cluster.Pod.Named("todo-app", "backend", "u"), "", "1", label("quarantine", nil, "true"),
		label("app", "backend", nil))
	scale, _ := change.NewEdit(cluster.StatefulSet.Named("todo-app", "db", "u"), "scale", "1",
		change.Field{Path: []string{"spec", "replicas"}, Before: 3, After: 0})
	node, _ := change.NewEdit(cluster.Node.Named("", "node-1", "u"), "", "1",
		change.Field{Path: []string{"spec", "unschedulable"}, After: true})
	hostile, _ := change.NewEdit(cluster.Pod.Named("a;b", "$(reboot)", "u"), "", "", label("x", nil, "it's"))
	custom, _ := change.NewEdit(cluster.Ref{Group: "argoproj.io", Version: "v1alpha1", Resource: "rollouts",
		Kind: "Rollout", Namespace: "n", Name: "r"}, "scale", "",
		change.Field{Path: []string{"spec", "replicas"}, Before: 2, After: 0})
	for name, c := range map[string]struct {
		change               change.Change
		diff, undoDiff       []string
		command, undoCommand string
	}{
		"edit": {change: edit, diff: []string{`+ metadata.labels[quarantine]: "true"`,
			`- metadata.labels[app]: "backend"`},
			undoDiff: []string{`- metadata.labels[quarantine]: "true"`, `+ metadata.labels[app]: "backend"`},
			command: `kubectl patch pod/backend -n todo-app --type=merge -p ` +
				`'{"metadata":{"labels":{"app":null,"quarantine":"true"}}}'`,
			undoCommand: `kubectl patch pod/backend -n todo-app --type=merge -p ` +
				`'{"metadata":{"labels":{"app":"backend","quarantine":null}}}'`},
		"scale": {change: scale, diff: []string{"- spec.replicas: 3", "+ spec.replicas: 0"},
			undoDiff: []string{"- spec.replicas: 0", "+ spec.replicas: 3"},
			command: `kubectl patch statefulset/db -n todo-app --subresource=scale --type=merge -p ` +
				`'{"spec":{"replicas":0}}'`,
			undoCommand: `kubectl patch statefulset/db -n todo-app --subresource=scale --type=merge -p ` +
				`'{"spec":{"replicas":3}}'`},
		"cluster-scoped": {change: node, diff: []string{"+ spec.unschedulable: true"},
			undoDiff:    []string{"- spec.unschedulable: true"},
			command:     `kubectl patch node/node-1 --type=merge -p '{"spec":{"unschedulable":true}}'`,
			undoCommand: `kubectl patch node/node-1 --type=merge -p '{"spec":{"unschedulable":null}}'`},
		"hostile names": {change: hostile, diff: []string{`+ metadata.labels[x]: "it's"`},
			undoDiff: []string{`- metadata.labels[x]: "it's"`},
			command: `kubectl patch 'pod/$(reboot)' -n 'a;b' --type=merge -p ` +
				`'{"metadata":{"labels":{"x":"it'\''s"}}}'`,
			undoCommand: `kubectl patch 'pod/$(reboot)' -n 'a;b' --type=merge -p '{"metadata":{"labels":{"x":null}}}'`},
		"custom": {change: custom, diff: []string{"- spec.replicas: 2", "+ spec.replicas: 0"},
			undoDiff: []string{"- spec.replicas: 0", "+ spec.replicas: 2"},
			command: `kubectl patch rollouts.argoproj.io/r -n n --subresource=scale --type=merge -p ` +
				`'{"spec":{"replicas":0}}'`,
			undoCommand: `kubectl patch rollouts.argoproj.io/r -n n --subresource=scale --type=merge -p ` +
				`'{"spec":{"replicas":2}}'`},
		"create": {change: policy(), diff: policyLines("+ "), undoDiff: policyLines("- "),
			command: `printf %s ` +
				`'{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy",` +
				`"metadata":{"labels":{"irctl/incident":"i-1"},"name":"deny","namespace":"todo-app"},` +
				`"spec":{"podSelector":{},"policyTypes":["Ingress","Egress"]}}' | kubectl create -f -`,
			undoCommand: "kubectl delete networkpolicy/deny -n todo-app"},
	} {
		t.Run(name, func(t *testing.T) {
			for what, pair := range map[string][2]string{
				"diff":      {strings.Join(c.change.Diff(), "\n"), strings.Join(c.diff, "\n")},
				"undo diff": {strings.Join(c.change.UndoDiff(), "\n"), strings.Join(c.undoDiff, "\n")},
				"command":   {c.change.Command(), c.command}, "undo command": {c.change.UndoCommand(), c.undoCommand},
			} {
				if diff := cmp.Diff(pair[1], pair[0]); diff != "" {
					t.Errorf("%s:\n%s", what, diff)
				}
			}
		})
	}
}

func policyLines(sign string) []string {
	lines := []string{"apiVersion: networking.k8s.io/v1", "kind: NetworkPolicy", "metadata:", "  labels:",
		"    irctl/incident: i-1", "  name: deny", "  namespace: todo-app",
		"spec:", "  podSelector: {}", "  policyTypes:", "  - Ingress", "  - Egress"}
	for i := range lines {
		lines[i] = sign + lines[i]
	}
	return lines
}

func TestDifferencesAreBounded(t *testing.T) {
	s, ctx := todoApp(t), bounded(t)
	c := detachment(t, s)
	s.Edit("pods", "todo-app", "backend", func(m map[string]any) {
		m["metadata"].(map[string]any)["labels"].(map[string]any)["app"] = strings.Repeat("ж", 1<<20)
	})
	_, err := c.Do(ctx, connect(t, s))
	expectDrift(t, err, "жж…")
	if len(err.Error()) > 2000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

// journaled is a change as another process reads it out of a journal.
func journaled(t testing.TB, c change.Change) change.Change {
	t.Helper()
	e, err := timeline.Entry{Kind: timeline.KindIntent}.With(c.Record("a cluster"))
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var read timeline.Entry
	if err := json.Unmarshal(line, &read); err != nil {
		t.Fatal(err)
	}
	got, ok := change.In(&read)
	if !ok {
		t.Fatalf("no change is found in %s", line)
	}
	return got
}

func TestWhatIsNoChangeIsNone(t *testing.T) {
	object := `"object":{"version":"v1","resource":"pods","kind":"Pod","name":"p"}`
	for name, data := range map[string]string{
		"nothing": "", "not JSON": "{", "a list": "[]", "an empty object": "{}",
		"a snapshot's receipt": `{"file":"x","sha256":"y"}`,
		"neither kind":         "{" + object + "}",
		"both kinds":           "{" + object + `,"manifest":{"a":1},"fields":[{"path":["a"],"before":1,"after":2}]}`,
		"a pathless edit":      "{" + object + `,"fields":[{"path":[],"before":1,"after":2}]}`,
		"no version": `{"object":{"resource":"pods","kind":"Pod","name":"p"},"fields":[{"path":["a"],` +
			`"before":1,"after":2}]}`,
		"no name": `{"object":{"version":"v1","resource":"pods","kind":"Pod"},"fields":[{"path":["a"],"before":1,` +
			`"after":2}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, form := range []string{"", "change/1", "change/2"} {
				e := timeline.Entry{Kind: timeline.KindIntent, Payload: form, Data: record.Verbatim([]byte(data))}
				if c, ok := change.In(&e); ok {
					t.Errorf("%s: got %+v", form, c)
				}
			}
		})
	}
}

// TestWhatIsAnsweredSoForEverIsSentOnce though its code, 500 or an unknown answer,
// is that of what passes.
func TestWhatIsAnsweredSoForEverIsSentOnce(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"a field of the wrong type": func(w http.ResponseWriter, _ *http.Request) {
			apifake.Fail(w, http.StatusInternalServerError, "", "failed to create typed patch object "+
				"(todo-app/backend; /v1, Kind=Pod): .spec.replicas: expected numeric (int or float), got string")
		},
		"a webhook that denies": func(w http.ResponseWriter, _ *http.Request) {
			apifake.Fail(w, http.StatusInternalServerError, metav1.StatusReasonInternalError,
				`admission webhook "w.example.com" denied the request: no`)
		},
		"a proxy": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte("<html>blocked"))
		},
	} {
		for kind, plan := range cases {
			t.Run(name+"/"+kind, func(t *testing.T) {
				s := todoApp(t)
				c := plan(t, s)
				s.Intercept = func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) { answer(w, r) }
				if _, err := c.Do(bounded(t), connect(t, s)); err == nil {
					t.Error("no error")
				}
				if n := len(s.Requests()); n != 1 {
					t.Errorf("%d requests; want one", n)
				}
			})
		}
	}
}

// TestTheLastAnswerIsNamed when the time is over in the midst of an attempt: that
// says nothing, and the answers before it do.
func TestTheLastAnswerIsNamed(t *testing.T) {
	s := todoApp(t)
	c := detachment(t, s)
	s.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		switch {
		case r.Method != http.MethodPatch:
			serve(w, r)
		case len(s.Requests("PATCH")) < 3:
			apifake.Fail(w, http.StatusInternalServerError, metav1.StatusReasonInternalError,
				`failed calling webhook "w.example.com": no`)
		default:
			time.Sleep(1500 * time.Millisecond) // longer than there is time
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := c.Do(ctx, connect(t, s))
	if err == nil || !strings.Contains(err.Error(),
		"gave up after 3 attempts, the admission webhook w.example.com cannot be called") {
		t.Errorf("got %v", err)
	}
}

func TestPassing(t *testing.T) {
	if change.Passing(context.Canceled) {
		t.Error("a cancelled run is retried")
	}
	if !change.Passing(context.DeadlineExceeded) {
		t.Error("an attempt that timed out is not retried")
	}
	if change.Passing(errors.New("something else")) {
		t.Error("an unknown error is retried")
	}
}

func TestFieldNames(t *testing.T) {
	for _, c := range []struct {
		path []string
		want string
	}{
		{[]string{"spec", "replicas"}, "spec.replicas"},
		{[]string{"metadata", "labels", "app"}, "metadata.labels[app]"},
		{[]string{"metadata", "annotations", "irctl/detached"}, "metadata.annotations[irctl/detached]"},
		{[]string{"data", "a.b"}, "data[a.b]"},
	} {
		if got := (change.Field{Path: slices.Clone(c.path)}).Name(); got != c.want {
			t.Errorf("%v is %q; want %q", c.path, got, c.want)
		}
	}
}

// TestAWriteInFlightComesToItsEndWhenTheContextIsCancelled: abandoned, it might
// be executed after a look found that it was not.
func TestAWriteInFlightComesToItsEndWhenTheContextIsCancelled(t *testing.T) {
	s := todoApp(t)
	c := detachment(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Intercept = func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		if r.Method == http.MethodPatch {
			cancel()
		}
		next(w, r)
	}
	expect(t, change.Done)(c.Do(ctx, connect(t, s)))
	if _, err := c.Undo(ctx, connect(t, s)); err == nil || len(s.Requests("PATCH")) != 1 {
		t.Errorf("a write was begun after the end: %v", err)
	}
}
