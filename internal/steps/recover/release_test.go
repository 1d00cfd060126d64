package recover

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/steps/contain"
)

// A suspect is deleted by its UID, and waited for until it is gone.
func TestDeletingASuspect(t *testing.T) {
	t.Parallel()
	get, del := "GET /api/v1/namespaces/app/pods/suspect", "DELETE /api/v1/namespaces/app/pods/suspect"
	for name, c := range map[string]struct {
		uid     types.UID
		setup   func(*fake)
		result  change.Result
		err     string
		deletes int
		left    bool
	}{
		"it is there": {"uid-suspect", nil, change.Done, "", 1, false},
		"it is gone": {"uid-suspect", func(f *fake) { f.Delete("pods", "app", "suspect") },
			change.Already, "", 0, false},
		"another of its name": {"uid-before", nil, change.Already, "", 0, true},
		"it may not be read": {"uid-suspect", func(f *fake) { f.deny(get) }, "", "reading Pod app/suspect", 0,
			true},
		"it may not be deleted": {"uid-suspect", func(f *fake) { f.deny(del) }, "", "deleting Pod app/suspect", 1,
			true},
		"it is replaced in between": {"uid-suspect", func(f *fake) {
			f.before = onDelete(f, func() { f.rename("uid-new") })
		}, change.Done, "", 1, true},
		"it is gone in between": {"uid-suspect",
			func(f *fake) { f.before = onDelete(f, func() { f.Delete("pods", "app", "suspect") }) }, change.Already, "",
			1, false},
		"its node is about to end":   {"uid-suspect", func(f *fake) { f.terminating(3) }, change.Already, "", 0, false},
		"a finalizer keeps it a bit": {"uid-suspect", func(f *fake) { f.finalized(3) }, change.Done, "", 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := owned("suspect")
			f := newFake(t, &p)
			if c.setup != nil {
				c.setup(f)
			}
			target := &cluster.Target{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: "suspect",
				UID: c.uid}}}
			a := Delete(f.client, target, nil)
			if !a.Final || a.ID != DeleteID(target) || a.Change.Object.UID != c.uid {
				t.Errorf("%+v", a)
			}
			got, err := a.Do(t.Context())
			if got.Result != c.result || (err == nil) != (c.err == "") ||
				err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v, %v", got, err)
			}
			if n := len(f.Requests(del)); n != c.deletes {
				t.Errorf("%d deletions were asked for", n)
			}
			if left := f.Object("pods", "app", "suspect") != nil; left != c.left {
				t.Errorf("a pod of its name is there: %v", left)
			}
		})
	}
}

func onDelete(f *fake, do func()) func(*http.Request) {
	return func(r *http.Request) {
		if r.Method == http.MethodDelete && f.Object("pods", "app", "suspect") != nil {
			do()
		}
	}
}

func (f *fake) rename(uid string) {
	f.Edit("pods", "app", "suspect", func(m map[string]any) { m["metadata"].(map[string]any)["uid"] = uid })
}

// terminating: its deletion was asked for by somebody, and takes some looks.
func (f *fake) terminating(looks int) {
	f.Edit("pods", "app", "suspect", func(m map[string]any) {
		m["metadata"].(map[string]any)["deletionTimestamp"] = "2026-02-12T09:30:00Z"
	})
	f.before = func(*http.Request) {
		if looks--; looks == 0 {
			f.Delete("pods", "app", "suspect")
		}
	}
}

// finalized: the deletion is taken, and done some looks later.
func (f *fake) finalized(looks int) {
	f.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if r.Method == http.MethodDelete {
			f.terminating(looks)
			_, _ = w.Write([]byte(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"suspect"}}`))
			return
		}
		f.serve(w, r, serve)
	}
}

// Where the node does not end it, the pod is not gone, and no other is said to be.
func TestASuspectThatDoesNotGo(t *testing.T) {
	t.Parallel()
	p := owned("suspect")
	f := newFake(t, &p)
	f.terminating(-1)
	ctx, cancel := context.WithCancel(t.Context())
	looks := 0
	f.before = func(*http.Request) {
		if looks++; looks == 3 {
			cancel()
		}
	}
	ref := (&cluster.Target{Pod: &p}).Ref()
	if result, err := remove(ctx, f.client, ref); err == nil || !strings.Contains(err.Error(), "is not gone") ||
		result.Result != "" {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestAskingWhetherASuspectMayBeDeleted(t *testing.T) {
	t.Parallel()
	p := owned("suspect")
	f := newFake(t, &p)
	ref := (&cluster.Target{Pod: &p}).Ref()
	if err := DryRunDelete(t.Context(), f.client, ref); err != nil || f.Object("pods", "app", "suspect") == nil {
		t.Errorf("%v", err)
	}
	other := ref
	other.UID = "uid-before"
	if err := DryRunDelete(t.Context(), f.client, other); err == nil {
		t.Error("another pod of its name would be deleted")
	}
	f.deny("DELETE")
	if err := DryRunDelete(t.Context(), f.client, ref); err == nil || !strings.Contains(err.Error(), "you may not") {
		t.Errorf("%v", err)
	}
	f.deny()
	f.Delete("pods", "app", "suspect")
	if err := DryRunDelete(t.Context(), f.client, ref); err != nil {
		t.Errorf("one that is gone: %v", err)
	}
}

func changed(step string, seq int64, ref cluster.Ref) Recorded {
	return Recorded{Seq: seq, Step: step, Summary: fmt.Sprint("number ", seq), Targets: []string{"t"},
		Change: change.Change{Object: ref,
			Fields: []change.Field{{Path: []string{"metadata", "labels", "team"}, Before: "red", After: "blue"}}}}
}

// What was done to a suspect is closed only once nothing is left of it.
func TestTheRecordOfAGoneSuspectIsClosed(t *testing.T) {
	t.Parallel()
	there, secret := owned("there"), owned("secret")
	f := newFake(t, &there, &secret)
	f.deny("/pods/secret")
	pod := func(name string) cluster.Ref { return cluster.Pod.Named("app", name, types.UID("uid-"+name)) }
	recorded := []Recorded{changed(contain.StepDetach, 1, pod("kept")), changed(contain.StepDetach, 2, pod("gone")),
		changed(contain.StepScale, 3, pod("gone")),
		changed(contain.StepDetach, 4, pod("there")), changed(contain.StepDetach, 5, pod("secret"))}
	list := Settle(f.client, recorded, func(uid string) (string, bool) {
		return map[string]string{"uid-there": "delete it"}[uid], uid != "uid-kept"
	})
	var got []string
	for _, a := range list {
		result, err := a.Do(t.Context())
		got = append(got, fmt.Sprintf("%d needs %v: %s %v", a.Undoes, a.Needs, result.Result, err != nil))
	}
	if want := []string{"5 needs []: gone true", "4 needs [delete it]: gone true",
		"2 needs []: gone false"}; !slices.Equal(got, want) {
		t.Errorf("%q, expected %q", got, want)
	}
}

// The quarantine of a namespace is lifted only where no suspect is kept, after
// all that it needs, and while no pod carries the incident's label.
func TestTheQuarantineIsLiftedLast(t *testing.T) {
	t.Parallel()
	marked := owned("marked")
	marked.Namespace, marked.Labels = "web", map[string]string{contain.IncidentLabel: "inc-1"}
	others := owned("others")
	others.Labels = map[string]string{contain.IncidentLabel: "inc-2", contain.QuarantineLabel: contain.QuarantineValue}
	f := newFake(t, &marked, &others)
	policy := func(ns, name string) cluster.Ref { return cluster.NetworkPolicy.Named(ns, name, "") }
	recorded := []Recorded{changed(contain.StepQuarantine, 1, policy("app", "a")),
		changed(contain.StepDetach, 2, policy("app", "x")), changed(contain.StepQuarantine, 3, policy("kept", "b")),
		changed(contain.StepQuarantine, 4, policy("kept", "c")), changed(contain.StepQuarantine, 5, policy("web", "d")),
		changed(contain.StepQuarantine, 6, policy("secret", "e"))}
	f.deny("namespaces/secret/pods")
	actions, stay := PlanLift(f.scene(), recorded, map[string][]string{"kept": {"kept/p"}, "app": nil},
		map[string][]string{"app": {"delete it"}})
	var got []string
	for _, a := range actions {
		err := a.Guard(t.Context())
		got = append(got, fmt.Sprintf("%d %s needs %v: %v", a.Undoes, a.Change.Object.Namespace, a.Needs, err))
	}
	want := []string{"6 secret needs []: since who needs it is not known: ",
		"5 web needs []: since pod web/marked is quarantined by it", "1 app needs [delete it]: <nil>"}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("%q, expected %q", got, want)
	}
	if len(stay) != 1 || stay[0] != "NetworkPolicy kept/c stays, for kept/p" {
		t.Errorf("%q", stay)
	}
}

func TestWhatWasSuspendedIsResumed(t *testing.T) {
	t.Parallel()
	node := cluster.Node.Named("", "n", "u")
	recorded := []Recorded{changed(contain.StepCordon, 1, node),
		changed(contain.StepSuspend, 2, cluster.CronJob.Named("app", "c", "u")),
		changed(contain.StepSuspend, 3, cluster.CronJob.Named("app", "d", "v")),
		changed(contain.StepScale, 4, cluster.Deployment.Named("app", "e", "w"))}
	for uncordon, want := range map[bool][]int64{false: {3, 2}, true: {3, 2, 1}} {
		actions, stay := PlanResume(recorded, uncordon)
		var got []int64
		for _, a := range actions {
			got = append(got, a.Undoes)
		}
		if !slices.Equal(got, want) || (len(stay) == 1) == uncordon {
			t.Errorf("uncordon %v: %v, stays: %q", uncordon, got, stay)
		}
	}
}

// Two actions on one object come one after the other.
func TestSequence(t *testing.T) {
	t.Parallel()
	a, b := cluster.Node.Named("", "a", "1"), cluster.Node.Named("", "b", "2")
	var got []string
	for _, stage := range Sequence(append(actionsOn(a, b, b), actionsOn(a, b, a, a)...)) {
		var names string
		for _, action := range stage {
			names += action.Change.Object.Name
		}
		got = append(got, names)
	}
	if want := []string{"ab", "ba", "ba", "a"}; !slices.Equal(got, want) {
		t.Errorf("stages %q, expected %q", got, want)
	}
	if got := Sequence(nil); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// A suspect that cannot be read may exist: it has not ended.
func TestGone(t *testing.T) {
	t.Parallel()
	of := func(uid types.UID, err error, containers ...corev1.Container) *cluster.Target {
		return &cluster.Target{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid},
			Spec: corev1.PodSpec{Containers: containers}}, Err: err}
	}
	gone := Gone([]*cluster.Target{of("there", nil, corev1.Container{}), of("gone", nil),
		of("unread", errors.New("no")), of("gone too", nil)})
	if len(gone) != 2 || !gone["gone"] || !gone["gone too"] {
		t.Errorf("%v", gone)
	}
}
