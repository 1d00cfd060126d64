package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/eradicate"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

// approving is a front end that does something between the question and the
// answer, as the world does while somebody thinks.
type approving struct {
	*front
	meanwhile func()
}

func (a approving) Approve(ctx context.Context, p engine.Proposal) (engine.Decision, error) {
	a.meanwhile()
	return a.front.Approve(ctx, p)
}

// whileAsked has something happen while the question is open.
func (p *process) whileAsked(do func()) { p.Front = approving{p.front, do} }

// loseJournal takes the journal away under whoever has it open.
func loseJournal(t *testing.T, dir string) func() {
	t.Helper()
	return func() {
		found, err := filepath.Glob(filepath.Join(dir, "incidents", "inc-*", "timeline.jsonl"))
		if err != nil || len(found) != 1 {
			t.Errorf("%v, %v", found, err)
			return
		}
		if err := os.Remove(found[0]); err != nil {
			t.Error(err)
		}
	}
}

// What cannot be journaled is not done: no change, no undo, no rotation.
func TestNothingIsDoneThatCannotBeJournaled(t *testing.T) {
	t.Parallel()
	errOf := func(list []engine.ActionResult, err error) error {
		for _, a := range list {
			if err == nil {
				err = a.Err()
			}
		}
		return err
	}
	for name, do := range map[string]func(*process) error{
		"eradicate": func(p *process) error { res, err := p.eradicateNow(t.Context()); return errOf(res.Actions, err) },
		"undo": func(p *process) error {
			res, err := p.undoNow(t.Context(), engine.UndoRequest{All: true, AllowEvidenceLoss: true})
			return errOf(res.Actions, err)
		},
		"contain": func(p *process) error {
			res, err := p.containNow(t.Context())
			return errOf(res.Actions, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLeaked(t)
			p := w.mustStart(t, w.dir)
			p.whileAsked(loseJournal(t, w.dir))
			if err := do(p); err == nil || !strings.Contains(err.Error(), "removed or replaced") {
				t.Errorf("%v", err)
			}
			if n := p.server.Written(); n != 0 {
				t.Errorf("%d changes were made", n)
			}
		})
	}
}

// replaceJournal puts a copy in the place of the journal: it can be read, and
// whoever has it open can write to it no more.
func replaceJournal(t *testing.T, dir string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "incidents", "inc-*", "timeline.jsonl"))
	if err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
		return
	}
	text, err := os.ReadFile(found[0])
	if err = errors.Join(err, os.WriteFile(found[0]+".copy", text, 0o600),
		os.Rename(found[0]+".copy", found[0])); err != nil {
		t.Error(err)
	}
}

// A trace that cannot be journaled is not left; one that can is.
func TestNoTraceIsLeftThatCannotBeJournaled(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]bool{"the journal is lost": true, "it is there": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLeaked(t)
			p := w.mustStart(t, w.dir)
			p.Begun = func(work engine.Work, _ incident.ID) {
				if lost && work == engine.Collecting {
					replaceJournal(t, w.dir)
				}
			}
			// how it ends does not matter
			_, _ = p.Investigate(t.Context(), p.investigation(t, func(r *engine.InvestigateRequest) {
				r.Scope = evidence.Scope{Checkpoint: true}
			}))
			if left := slices.ContainsFunc(p.server.Requests(), func(r sim.Request) bool {
				return strings.Contains(r.Path, "/checkpoint/")
			}); left == lost {
				t.Errorf("a trace was left: %v", left)
			}
		})
	}
}

// A run that is cancelled while a change is made finds out whether it was made.
func TestWhatWasDoneWhileCancelledIsKnown(t *testing.T) {
	t.Parallel()
	for name, executed := range map[string]bool{"it was executed": true, "it was not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, dir := newWorld(t), t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p, err := w.start(t, ctx, dir, func(r sim.Request) sim.Fault {
				if r.DryRun || r.Verb != "create" || r.Resource != "networkpolicies" {
					return sim.Fault{}
				}
				if executed {
					return sim.Fault{After: cancel, Lose: true}
				}
				return sim.Fault{Before: cancel, Break: true}
			})
			if err != nil {
				t.Fatal(err)
			}
			_, _ = p.containNow(ctx) // how it ends is in the journal
			want := timeline.OutcomeFailed
			if executed {
				want = timeline.OutcomeDone
			}
			var got []timeline.Outcome
			for _, e := range journal(t, dir) {
				if e.Kind == timeline.KindOutcome && e.Step == contain.StepQuarantine {
					got = append(got, e.Outcome)
				}
			}
			if !slices.Equal(got, []timeline.Outcome{want}) {
				t.Errorf("%v, expected %s", got, want)
			}
		})
	}
}

// An incident that is closed is worked in no more, by its name or by its suspect.
func TestNobodyContainsInAClosedIncident(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	first := p.mustContain(t)
	id := p.only(t.Context())
	if _, err := p.closeNow(t, id, engine.CloseRequest{LeaveStanding: "handed over"}); err != nil {
		t.Fatal(err)
	}
	before := len(journal(t, dir))
	p = w.mustStart(t, dir)
	_, err := p.containNow(t.Context(), func(r *engine.ContainRequest) { r.Incident = id })
	if !errors.Is(err, engine.ErrRefused) || !strings.Contains(err.Error(), "reopen") || p.server.Written() != 0 ||
		len(journal(t, dir)) != before {
		t.Errorf("in %s: %v, %d writes", first.Incident, err, p.server.Written())
	}
}

// The evidence is looked at once more right before its suspect is deleted; what
// is redacted alone is no evidence of it.
func TestEvidenceIsLookedAtRightBefore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil   func(whole string) error
		planned bool // it is found while planning already
	}{
		"altered meanwhile": {func(whole string) error { return os.WriteFile(whole, []byte("x"), 0o600) }, false},
		"removed meanwhile": {os.Remove, false},
		"only the redacted": {os.Remove, true},
		"sound":             {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newDown(t)
			p := w.mustStart(t, w.dir)
			p.suspects = []string{w.suspect}
			res, err := p.Investigate(t.Context(), p.investigation(t, func(r *engine.InvestigateRequest) {
				r.Redact = true
			}))
			if err != nil || res.Shared == nil {
				t.Fatal(err, res)
			}
			spoil := func() {
				if c.spoil != nil {
					if err := c.spoil(res.Receipt.Path); err != nil {
						t.Error(err)
					}
				}
			}
			if c.planned {
				spoil()
			} else {
				p.whileAsked(spoil)
			}
			got, err := p.recoverNow(t.Context(), deletes)
			if err != nil {
				t.Fatal(err)
			}
			if kept := w.exists(sim.Pods, w.suspect); kept != (c.spoil != nil) ||
				(got.Suspects[0].Fate == "deleted") == kept || (len(got.Refusals) == 1) != c.planned {
				t.Errorf("kept: %v, %+v, refused %+v", kept, got.Suspects, got.Refusals)
			}
			// Where the suspect stays, its quarantine does.
			if lifted := !w.exists(sim.NetworkPolicies, contain.PolicyName(got.Incident)); lifted != (c.spoil == nil) {
				t.Errorf("the quarantine is lifted: %v", lifted)
			}
		})
	}
}

// What needs something that was refused is not done, either: nothing is resumed
// that would start a workload which was not restored.
func TestWhatNeedsARefusedActionIsNotDone(t *testing.T) {
	t.Parallel()
	w := newDown(t)
	pod, err := w.Get(sim.Pods, "todo-app", w.suspect)
	if err != nil {
		t.Fatal(err)
	}
	containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "containers")
	image := containers[0].(map[string]any)["image"]
	w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
		list, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		list[0].(map[string]any)["image"] = image
		_ = unstructured.SetNestedSlice(o.Object, list, "spec", "template", "spec", "containers")
	})
	res, err := w.mustStart(t, w.dir).recoverNow(t.Context(), deleting)
	if err != nil || len(res.Refusals) != 1 || res.Verdict != engine.NotRecovered {
		t.Fatalf("%+v, %v", res, err)
	}
	scaled, err := w.Get(schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"},
		"todo-app", "backend")
	if err != nil || len(scaled.GetAnnotations()) == 0 || w.replicas(t, "backend") != 0 {
		t.Errorf("the autoscaler is resumed: %v, %v; %d replicas", scaled.GetAnnotations(), err,
			w.replicas(t, "backend"))
	}
	if !w.exists(sim.Pods, w.suspect) || !w.exists(sim.NetworkPolicies, contain.PolicyName(res.Incident)) {
		t.Error("the suspect or its quarantine is gone")
	}
	for _, a := range res.Actions {
		if a.Outcome == timeline.OutcomeDone {
			t.Errorf("done: %s", a.Summary)
		}
	}
}

// harden makes the backend such that every check is content.
func (w *world) harden(t *testing.T) {
	t.Helper()
	w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
		list, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		list[0].(map[string]any)["securityContext"] = map[string]any{"runAsNonRoot": true,
			"allowPrivilegeEscalation": false,
			"readOnlyRootFilesystem":   true, "capabilities": map[string]any{"drop": []any{"ALL"}}}
		_ = unstructured.SetNestedSlice(o.Object, list, "spec", "template", "spec", "containers")
	})
}

// Only a way in that is known to be closed is: one of which nothing is known
// leaves the verdict open.
func TestAnUnknownWayInIsNotClosed(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	w.harden(t)
	w.suspect = firstPod(t, w.Cluster, "todo-app", "backend-")
	p := w.mustStart(t, dir)
	p.mustContain(t)
	for _, set := range w.List(sim.ReplicaSets, "todo-app") {
		if strings.HasPrefix(set.GetName(), "backend-") {
			if err := w.Delete(sim.ReplicaSets, "todo-app", set.GetName()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Delete(sim.Pods, "todo-app", w.suspect); err != nil {
		t.Fatal(err)
	}
	res := p.mustRecover(t, sameImage)
	if res.WayIn() != recovery.Unknown || res.Verdict != engine.RecoveredOpen {
		t.Errorf("%s, the way in is %s: %+v", res.Verdict, res.WayIn(), res.Workloads)
	}
	of := func(states ...recovery.WayInState) *engine.RecoverResult {
		r := &engine.RecoverResult{}
		for _, s := range states {
			r.Workloads = append(r.Workloads,
				engine.RecoveredWorkload{RecoveredWorkload: record.RecoveredWorkload{WayIn: recovery.WayIn{State: s}}})
		}
		return r
	}
	const c, o, u = recovery.Closed, recovery.Open, recovery.Unknown
	for _, tc := range []struct {
		states []recovery.WayInState
		want   recovery.WayInState
	}{{nil, c}, {[]recovery.WayInState{c, c}, c}, {[]recovery.WayInState{c, o}, o}, {[]recovery.WayInState{o, c}, o},
		{[]recovery.WayInState{u, o}, o}, {[]recovery.WayInState{o, u}, o}, {[]recovery.WayInState{c, u}, u},
		{[]recovery.WayInState{u, c}, u}} {
		if got := of(tc.states...).WayIn(); got != tc.want {
			t.Errorf("of %v: %s", tc.states, got)
		}
	}
}

// Which checks are told by which result; what was decided has not failed.
func TestCodesOfChecks(t *testing.T) {
	t.Parallel()
	check := func(code string, result recovery.Result, accepted bool) recovery.Check {
		return recovery.Check{Code: code, Result: result, Accepted: accepted}
	}
	r := &engine.RecoverResult{Workloads: []engine.RecoveredWorkload{
		{RecoveredWorkload: record.RecoveredWorkload{OK: true,
			Checks: []recovery.Check{check("b", recovery.Failed, false), check("a", recovery.Failed, false),
				check("c", recovery.Failed, true), check("d", recovery.NotKnown, false)}}},
		{RecoveredWorkload: record.RecoveredWorkload{OK: false,
			Checks: []recovery.Check{check("a", recovery.Failed, false), check("e", recovery.Passed, false)}}}}}
	for result, want := range map[recovery.Result][]string{recovery.Failed: {"a", "b", "rollout"},
		recovery.NotKnown: {"d"}, recovery.Passed: {"e"}} {
		if got := r.Codes(result); !slices.Equal(got, want) {
			t.Errorf("%s: %q", result, got)
		}
	}
	if r.Runs() || !(&engine.RecoverResult{Workloads: r.Workloads[:1]}).Runs() {
		t.Error("which workloads run")
	}
}

// A Service that still sends to the suspect is no recovery.
func TestAServiceThatSendsToTheSuspectIsNoRecovery(t *testing.T) {
	t.Parallel()
	w := newDown(t)
	w.harden(t)
	pod, err := w.Get(sim.Pods, "todo-app", w.suspect)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Apply(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand, namespace: todo-app, labels: {kubernetes.io/service-name: backend}}
addressType: IPv4
endpoints: [{addresses: ["10.0.0.9"], conditions: {ready: true}, targetRef: {kind: Pod, namespace: todo-app, name: ` +
		pod.GetName() + `, uid: ` + string(pod.GetUID()) + `}}]
`); err != nil {
		t.Fatal(err)
	}
	p := w.mustStart(t, w.dir)
	p.Timeout = 4 * time.Second // the endpoints are waited for in vain
	res, err := p.recoverNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c := checkOf(t, res, "endpoints"); c.Result != recovery.Failed ||
		!strings.Contains(c.Text, "sends to the suspect") || res.Verdict != engine.NotRecovered {
		t.Errorf("%s: %+v", res.Verdict, c)
	}
	if failed := res.Codes(recovery.Failed); !slices.Equal(failed, []string{"endpoints"}) {
		t.Errorf("what else failed decides, too: %q", failed)
	}
}

// The worst of several verdicts, in whichever order they come.
func TestTheWorstOfSeveralVerdicts(t *testing.T) {
	t.Parallel()
	order := []contain.Verdict{"", contain.Contained, contain.Exposed, contain.Undetermined, contain.NotContained}
	for n, worse := range order {
		for _, better := range order[:n+1] {
			for _, list := range [][]contain.Verdict{{worse, better}, {better, worse}, {better, worse, better}} {
				var results []*engine.StatusResult
				for _, v := range list {
					results = append(results, &engine.StatusResult{Verdict: v})
				}
				if got := engine.Verdicts(results); got != worse {
					t.Errorf("of %q: %q", list, got)
				}
			}
		}
	}
	if got := engine.Verdicts(nil); got != "" {
		t.Errorf("of none: %q", got)
	}
}

// A Secret that something names is not deleted, whenever that came; nor is an old
// value made worthless while it is not seen that everything runs with the new one.
func TestAnOldValueStaysWhileItMayBeInUse(t *testing.T) {
	t.Parallel()
	job := func(kind, name, spec string) string {
		return "apiVersion: batch/v1\nkind: " + kind + "\nmetadata: {name: " + name + ", namespace: todo-app}\nspec: " +
			spec + "\n"
	}
	const template = `{template: {spec: {restartPolicy: Never, containers: [{name: c, image: x, envFrom: ` +
		`[{secretRef: {name: signing}}]}]}}}`
	for name, c := range map[string]struct {
		prepare, meanwhile func(*leakedWorld) error
		outcome            timeline.Outcome
		text               string
	}{
		"a CronJob came meanwhile": {nil, func(w *leakedWorld) error {
			return w.Apply(job("CronJob", "late", `{schedule: "0 0 * * *", jobTemplate: {spec: `+template+`}}`))
		}, timeline.OutcomeFailed, "still named by CronJob todo-app/late"},
		"the rollout does not come to its end": {nil, func(w *leakedWorld) error {
			return w.Edit(sim.Deployments, "todo-app", "backend", func(o *unstructured.Unstructured) {
				list, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
				list[0].(map[string]any)["image"] = sim.NoRegistry + "/x:1"
				_ = unstructured.SetNestedSlice(o.Object, list, "spec", "template", "spec", "containers")
			})
		}, timeline.OutcomeRefused, "what must come before it failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLeaked(t)
			p := w.mustStart(t, w.dir)
			p.Timeout = 5 * time.Second
			p.whileAsked(func() {
				if err := c.meanwhile(w); err != nil {
					t.Error(err)
				}
			})
			req := everything(p)
			req.Options.All, req.Options.Secrets = false, []string{"signing"}
			delete(req.Options.Sources, "SECRET_KEY")
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			res, err := p.Eradicate(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(w.secretNames(), "signing") || res.Verdict != engine.NotEradicated {
				t.Errorf("%s, there are %q", res.Verdict, w.secretNames())
			}
			n := slices.IndexFunc(res.Actions, func(a engine.ActionResult) bool {
				return a.Step == eradicate.StepDeactivate
			})
			if n < 0 || res.Actions[n].Outcome != c.outcome || !strings.Contains(res.Actions[n].Error, c.text) {
				t.Errorf("%+v", res.Actions)
			}
		})
	}
}

// A StatefulSet is not restored beside a suspect of the name of its pod, when that
// was to be deleted before and could not be, for want of its evidence.
func TestAWorkloadWaitsForASuspectThatIsNotDeleted(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	w.suspect = "postgres-0"
	p := w.mustStart(t, dir)
	p.mustContain(t)
	if _, err := p.Eradicate(t.Context(), engine.EradicateRequest{Incident: p.only(t.Context()),
		Options: eradicate.Options{Images: []eradicate.Image{{Container: "postgres", Ref: cleanImage}}}}); err != nil {
		t.Fatal(err)
	}
	res, err := p.recoverNow(t.Context(), deletes)
	if err != nil || len(res.Refusals) != 1 || !strings.Contains(res.Refusals[0].Reason, "no evidence of pod") {
		t.Fatalf("%+v, %v", res, err)
	}
	set, err := w.Get(sim.StatefulSets, "todo-app", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	if n, _, _ := unstructured.NestedInt64(set.Object, "spec", "replicas"); n != 0 ||
		res.Verdict != engine.NotRecovered {
		t.Errorf("%s, it has %d replicas", res.Verdict, n)
	}
	for _, a := range res.Actions {
		if a.Step == recovery.StepRestore && a.Outcome != timeline.OutcomeRefused {
			t.Errorf("%s: %s", a.Summary, a.Outcome)
		}
	}
}
