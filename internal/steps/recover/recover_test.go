package recover

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
)

// object is a workload as the API serves it, with what is set at paths.
func object(ref cluster.Ref, set map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": ref.APIVersion(), "kind": ref.Kind,
		"metadata": map[string]any{"namespace": ref.Namespace, "name": ref.Name, "uid": string(ref.UID)},
		"spec":     map[string]any{"selector": map[string]any{"matchLabels": map[string]any{"app": "app"}}}}}
	for path, v := range set {
		if n, ok := v.(int); ok {
			v = int64(n)
		}
		if err := unstructured.SetNestedField(u.Object, v, strings.Split(path, ".")...); err != nil {
			panic(err)
		}
	}
	return u
}

func target(name string, owners ...*cluster.Owner) *cluster.Target {
	p := owned(name)
	p.Spec.Containers = []corev1.Container{{Name: "c"}}
	return &cluster.Target{Pod: &p, Owners: owners}
}

// The workloads are those of the suspects, those that were named, and those that
// were scaled and are not among them; each once, with all that holds it.
func TestWhichWorkloadsAreRecovered(t *testing.T) {
	t.Parallel()
	owner := func(name string, uid types.UID) *cluster.Owner {
		return &cluster.Owner{Ref: cluster.Deployment.Named("app", name, uid), Object: object(cluster.Deployment, nil),
			Stop: cluster.ByScale}
	}
	f := newFake(t, object(cluster.Deployment.Named("app", "scaled", "u-scaled"), nil),
		object(cluster.Deployment.Named("app", "other", "u-other"), nil))
	a, b := owner("a", "u-a"), owner("b", "u-b")
	scene := f.scene(target("s1", a), target("s2", b), target("s3", owner("a", "u-a")), target("bare"))
	scene.Workloads = [][]*cluster.Owner{{owner("b", "u-b")}, {owner("named", "u-named")}}
	scale := func(seq int64, name string, uid types.UID) Recorded {
		return changed(contain.StepScale, seq, cluster.Deployment.Named("app", name, uid))
	}
	list := Find(t.Context(), scene, []Recorded{scale(1, "a", "u-a"),
		changed(contain.StepCordon, 2, cluster.Deployment.Named("app", "other", "u-other")),
		scale(3, "scaled", "u-scaled"), scale(4, "a", "u-a"), scale(5, "scaled", "u-scaled"),
		scale(6, "gone", "u-gone")})
	var got []string
	for _, w := range list {
		var held []int64
		for _, r := range w.Held {
			held = append(held, r.Seq)
		}
		var suspects []string
		for _, s := range w.Suspects {
			suspects = append(suspects, s.Pod.Name)
		}
		got = append(got, fmt.Sprint(w.Name, " ", suspects, " ", held, " ", w.Object != nil))
	}
	want := []string{"a [s1 s3] [4 1] true", "b [s2] [] true", "named [] [] true", "scaled [] [5 3] true",
		"gone [] [6] false"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nexpected %q", got, want)
	}
	for _, w := range list {
		if w.Gone() != (w.Name == "gone") {
			t.Errorf("%s: gone: %v (%v)", w.Name, w.Gone(), w.Err)
		}
	}
	uids := (&Workload{Suspects: list[0].Suspects}).suspectUIDs()
	if len(uids) != 2 || !uids["uid-s1"] || !uids["uid-s3"] {
		t.Errorf("%v", uids)
	}
}

func TestAWorkloadIsGone(t *testing.T) {
	t.Parallel()
	missing := fmt.Errorf("reading: %w", apierrors.NewNotFound(schema.GroupResource{}, "x"))
	for name, c := range map[string]struct {
		owner cluster.Owner
		want  bool
	}{
		"there":             {cluster.Owner{Object: &unstructured.Unstructured{}}, false},
		"there, with error": {cluster.Owner{Object: &unstructured.Unstructured{}, Err: missing}, false},
		"not found":         {cluster.Owner{Err: missing}, true},
		"replaced":          {cluster.Owner{Err: fmt.Errorf("x: %w", cluster.ErrReplaced)}, true},
		"not readable":      {cluster.Owner{Err: errors.New("denied")}, false},
	} {
		if got := (&Workload{Owner: &c.owner}).Gone(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Only a suspect that is there, and that nobody owns, stands in the way of a
// StatefulSet's pod of its name.
func TestWhichSuspectIsInTheWay(t *testing.T) {
	t.Parallel()
	free, away := target("free"), target("away")
	free.Pod.OwnerReferences, away.Pod.OwnerReferences = nil, nil
	away.Pod.Spec.Containers = nil
	for name, c := range map[string]struct {
		kind     cluster.Ref
		custom   bool
		suspects []*cluster.Target
		want     *cluster.Target
	}{
		"the last of them":        {cluster.StatefulSet, false, []*cluster.Target{away, target("owned"), free}, free},
		"of a Deployment":         {cluster.Deployment, false, []*cluster.Target{free}, nil},
		"of another StatefulSet":  {cluster.StatefulSet, true, []*cluster.Target{free}, nil},
		"gone":                    {cluster.StatefulSet, false, []*cluster.Target{away}, nil},
		"still the StatefulSet's": {cluster.StatefulSet, false, []*cluster.Target{target("owned")}, nil},
	} {
		w := &Workload{Owner: &cluster.Owner{Ref: c.kind, Custom: c.custom}, Suspects: c.suspects}
		if got := blocker(w); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	unread := target("unread")
	unread.Pod.Spec.Containers, unread.Err = nil, errors.New("denied")
	if Alive(unread) || Ended(unread) || !Ended(away) || Ended(free) || !Alive(free) {
		t.Error("who is there, and who has ended")
	}
}

// Which workload is restored, and what each refusal would take.
func TestWhatIsRestored(t *testing.T) {
	t.Parallel()
	missing := apierrors.NewNotFound(schema.GroupResource{}, "x")
	there := object(cluster.Deployment, nil)
	held := []Recorded{changed(contain.StepScale, 9, cluster.Deployment),
		changed(contain.StepScale, 4, cluster.Deployment)}
	for name, c := range map[string]struct {
		w               Workload
		same, deletes   bool
		undoes          []int64
		refused, remedy string
	}{
		"closed": {Workload{Owner: &cluster.Owner{Object: there}, WayIn: WayIn{State: Closed},
			Held: held}, false, false, []int64{9, 4}, "", ""},
		"nothing holds it": {Workload{Owner: &cluster.Owner{Object: there}, WayIn: WayIn{State: Open}}, false,
			false, nil, "", ""},
		"open": {Workload{Owner: &cluster.Owner{Object: there},
			WayIn: WayIn{State: Open, Text: "still bad"}, Held: held}, false, false, nil,
			"still bad: the way in would be open again", "--same-image"},
		"not known": {Workload{Owner: &cluster.Owner{Object: there},
			WayIn: WayIn{State: Unknown, Text: "who knows"}, Held: held}, false, false, nil, "who knows",
			"--same-image"},
		"open, by decision": {Workload{Owner: &cluster.Owner{Object: there}, WayIn: WayIn{State: Open},
			Held: held}, true, false, []int64{9, 4}, "", ""},
		"not readable": {Workload{Owner: &cluster.Owner{Err: errors.New("denied")},
			WayIn: WayIn{State: Closed}, Held: held}, true, true, nil, "what it would run is not known: denied", ""},
		"gone": {Workload{Owner: &cluster.Owner{Err: missing}, WayIn: WayIn{State: Unknown},
			Held: held}, false, false, []int64{9, 4}, "", ""},
		"a suspect is in the way": {Workload{Owner: &cluster.Owner{Object: there}, WayIn: WayIn{State: Closed},
			Held: held, Blocker: target("s")}, false, false, nil, "suspect app/s has the name", "--suspect delete"},
		"that is deleted before": {Workload{Owner: &cluster.Owner{Object: there}, WayIn: WayIn{State: Closed},
			Held: held, Blocker: target("s")}, false, true, []int64{9, 4}, "", ""},
		"open, and one in the way": {Workload{Owner: &cluster.Owner{Object: there},
			WayIn: WayIn{State: Open, Text: "still"}, Held: held, Blocker: target("s")}, false, false, nil, "still",
			"--same-image"},
		"decided, one is in a way": {Workload{Owner: &cluster.Owner{Object: there}, WayIn: WayIn{State: Open},
			Held: held, Blocker: target("s")}, true, false, nil, "has the name", "--suspect delete"},
		"gone, one is in a way too": {Workload{Owner: &cluster.Owner{Err: missing}, WayIn: WayIn{State: Open},
			Held: held, Blocker: target("s")}, false, false, nil, "has the name", "--suspect delete"},
	} {
		c.w.Ref = cluster.Deployment.Named("app", "x", "u-x")
		next := &Workload{Owner: &cluster.Owner{Ref: cluster.Deployment.Named("app", "next", "u-next"), Object: there},
			WayIn: WayIn{State: Closed}, Held: []Recorded{changed(contain.StepScale, 77, cluster.Deployment)}}
		plan := PlanRestore([]*Workload{&c.w, next}, c.same, c.deletes)
		var undoes []int64
		last := ""
		for _, a := range plan.Actions[:len(plan.Actions)-1] {
			undoes, last = append(undoes, a.Undoes), a.ID
		}
		if !slices.Equal(undoes, c.undoes) || len(undoes) > 0 && last != RestoreID(&c.w) {
			t.Errorf("%s: undoes %v, the last is %q", name, undoes, last)
		}
		if n := len(plan.Actions) - 1; plan.Actions[n].Undoes != 77 || plan.Actions[n].ID != RestoreID(next) {
			t.Errorf("%s: the next workload is not restored: %+v", name, plan.Actions[n])
		}
		if (len(plan.Refusals) == 1) != (c.refused != "") {
			t.Errorf("%s: refused: %+v", name, plan.Refusals)
		}
		for _, r := range plan.Refusals {
			if !strings.Contains(r.Reason, c.refused) || !strings.Contains(r.Override, c.remedy) ||
				r.ID != RestoreID(&c.w) {
				t.Errorf("%s: refused: %+v", name, r)
			}
		}
	}
}

// What an undo of each kind is called, and the command that would do the same.
func TestHowAnUndoIsTold(t *testing.T) {
	t.Parallel()
	w := &Workload{Owner: &cluster.Owner{Ref: cluster.Deployment.Named("app", "x", "")}}
	field := func(before, after any, path ...string) Recorded {
		return Recorded{Summary: "sum", Change: change.Change{Object: w.Ref,
			Fields: []change.Field{{Path: path, Before: before, After: after}}}}
	}
	for want, r := range map[string]Recorded{
		"scale Deployment app/x from 0 back to 3":            field(3, 0, "spec", "replicas"),
		"resume Deployment app/x":                            field(false, true, "spec", "suspend"),
		"let Deployment app/x run on the suspects' nodes a":  field(nil, "x", "spec", "template", "spec", "affinity"),
		"put back: sum":                                      field(nil, "x", "spec", "paused"),
		"put back: sum ":                                     {Summary: "sum "},
		"scale Deployment app/x from 0 back to 3 of several": {},
	} {
		if strings.HasSuffix(want, "of several") {
			r = field(nil, 1, "metadata", "labels", "a")
			r.Change.Fields = append(r.Change.Fields, field(3, 0, "spec", "replicas").Change.Fields...)
			want = strings.TrimSuffix(want, " of several")
		}
		if got := restoring(w, r); !strings.HasPrefix(got, want) {
			t.Errorf("%q, expected %q", got, want)
		}
	}
	scale := change.Change{Object: w.Ref, Subresource: "scale",
		Fields: []change.Field{{Path: []string{"spec", "replicas"}, Before: float64(3), After: float64(0)}}}
	if got := undoCommand(scale); got != "kubectl scale deployment/x -n app --replicas=3" {
		t.Error(got)
	}
	for name, edit := range map[string]func(*change.Change){
		"not of the scale": func(c *change.Change) { c.Subresource = "" },
		"several fields": func(c *change.Change) {
			c.Fields = append(c.Fields, change.Field{Path: []string{"spec", "x"}})
		},
		"no number": func(c *change.Change) { c.Fields[0].Before = "3" },
	} {
		c := scale
		c.Fields = slices.Clone(scale.Fields)
		edit(&c)
		if got := undoCommand(c); got != c.UndoCommand() {
			t.Errorf("%s: %s", name, got)
		}
	}
	a := Undo("x", Recorded{Seq: 7, Targets: []string{"t"}, Summary: "s", Change: scale})
	if a.Undoes != 7 || a.ID != "x 7" || a.Summary != "undo: s" || !slices.Equal(a.Targets, []string{"t"}) {
		t.Errorf("%+v", a)
	}
}

func TestWhereATemplateIs(t *testing.T) {
	t.Parallel()
	spec := func(name string) map[string]any { return map[string]any{"name": name} }
	both := &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{"template": map[string]any{"spec": spec("plain")},
			"jobTemplate": map[string]any{"spec": map[string]any{"template": map[string]any{"spec": spec("job")}}}}}}
	for name, c := range map[string]struct {
		owner cluster.Owner
		want  any
	}{
		"a Deployment":    {cluster.Owner{Ref: cluster.Deployment, Object: both}, "plain"},
		"a CronJob":       {cluster.Owner{Ref: cluster.CronJob, Object: both}, "job"},
		"another CronJob": {cluster.Owner{Ref: cluster.CronJob, Object: both, Custom: true}, "plain"},
		"not readable":    {cluster.Owner{Ref: cluster.CronJob}, nil},
	} {
		if got := (&Workload{Owner: &c.owner}).template()["name"]; got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Info says of every step why.
func TestInfo(t *testing.T) {
	t.Parallel()
	for _, name := range []string{StepRestore, StepRollout, StepChecks, StepSuspect, StepLift, StepResume,
		StepMonitor} {
		if i := Info(name); i.Why == "" || i.Name != name || i.Phase != steps.PhaseRecover {
			t.Errorf("%+v", i)
		}
	}
}
