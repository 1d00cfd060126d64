package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/eradicate"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

// RecoverRequest says how far to go with putting the service back.
type RecoverRequest struct {
	Incident incident.ID
	// Part is what of it is done; "": all.
	Part RecoverPart
	// SameImage puts the workloads back also onto the suspects' image.
	SameImage bool
	// Suspect is what becomes of the suspects; "": they are kept.
	Suspect recovery.Fate
	// AllowEvidenceLoss deletes suspects also where no evidence of them is sealed.
	AllowEvidenceLoss bool
	// Uncordon takes the suspects' nodes back into use.
	Uncordon bool
	// Despite are other incidents from which what they hold as well is taken all the same.
	Despite []incident.ID
	// Wait bounds each rollout; 0: DefaultRollout.
	Wait time.Duration
	// DryRun asks the server what it would say, and changes nothing.
	DryRun bool
}

// RecoverPart is a part of a recovery.
type RecoverPart string

// The parts.
const (
	// PartRestore puts the workloads back, waits for them and checks them.
	PartRestore RecoverPart = "restore"
	// PartRelease deals with the suspects, lifts the quarantine and resumes what
	// was suspended.
	PartRelease RecoverPart = "release"
)

// DefaultRollout is how long a workload may take to start.
const DefaultRollout = 5 * time.Minute

// RecoverResult is what came of it. Its JSON form is documented and stable.
type RecoverResult struct {
	Incident  string `json:"incident"`
	DryRun    bool   `json:"dryRun,omitempty"`
	Cancelled bool   `json:"cancelled,omitempty"`
	// Verdict is empty where nothing was looked at.
	Verdict   RecoverVerdict      `json:"verdict,omitempty"`
	Workloads []RecoveredWorkload `json:"workloads"`
	Suspects  []SuspectFate       `json:"suspects"`
	Actions   []ActionResult      `json:"actions"`
	Refusals  []steps.Refusal     `json:"refusals,omitempty"`
	Warnings  []steps.Warning     `json:"warnings,omitempty"`
	// Stays is what of the containment stays, and why.
	Stays []string `json:"stays,omitempty"`
	// Left is what of the checklist only people can tell.
	Left     []string `json:"left,omitempty"`
	Failures []string `json:"failures,omitempty"`
}

// RecoverVerdict tells whether the service is back as it should be.
type RecoverVerdict string

// The verdicts.
const (
	Recovered     RecoverVerdict = "recovered"
	RecoveredOpen RecoverVerdict = "recovered with the way in open"
	NotRecovered  RecoverVerdict = "not recovered"
	// NothingRecovered is no verdict: there was no workload to judge.
	NothingRecovered RecoverVerdict = "could not tell"
)

// RecoveredWorkload is how a workload came back.
type RecoveredWorkload struct {
	record.RecoveredWorkload

	gone bool // there is nothing to recover
}

// SuspectFate is what became of a suspect.
type SuspectFate struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	UID       string `json:"uid"`
	// Fate: "kept", "deleted", "gone" if it was so before, "released" if it is not cut
	// off any more, or "unknown" if it could not be read.
	Fate string `json:"fate"`
	Text string `json:"text,omitempty"`
}

// The actions of observations by which a later run knows what was decided.
const actionWayIn = "way-in"

// recovering is one run of Recover.
type recovering struct {
	opened
	req   RecoverRequest
	scene *steps.Scene

	recorded   []recovery.Recorded
	workloads  []*recovery.Workload
	rollouts   map[string]recovery.Rollout // by the workload's ID
	indicators recovery.Indicators
	sameImage  bool
	held       holders // what other incidents hold

	restore, resume StepPlan
	before          []steps.Action // deletions without which nothing can be restored
	suspects        []steps.Action
	lift            []steps.Action
	run             *run
	result          *RecoverResult
}

// Recover puts the workloads of an incident back, waits for them and checks
// them; then it deals with the suspects, lifts the quarantine, and resumes what
// was suspended. What an earlier run has done is not done again. The error is
// what kept it from running; what failed within it is in the result.
func (e *Engine) Recover(ctx context.Context, req RecoverRequest) (*RecoverResult, error) {
	if req.Suspect == "" {
		req.Suspect = recovery.Keep
	}
	if req.Wait == 0 {
		req.Wait = DefaultRollout
	}
	x := &recovering{opened: opened{Engine: e}, req: req, rollouts: map[string]recovery.Rollout{},
		result: &RecoverResult{Incident: string(req.Incident), DryRun: req.DryRun, Workloads: []RecoveredWorkload{},
			Suspects: []SuspectFate{}, Actions: []ActionResult{}}}
	defer x.close()
	planning, cancel := x.within(ctx)
	defer cancel()
	if err := x.open(planning); err != nil {
		return x.result, err
	}
	if err := x.plan(planning); err != nil {
		return x.result, err
	}
	if req.DryRun {
		x.dryRun(planning)
		return x.result, nil
	}
	if p := x.proposal(); p.Actions() > 0 {
		decision, err := x.Front.Approve(ctx, p)
		if err != nil {
			return x.result, err
		}
		if decision != Yes {
			x.result.Cancelled = true
			return x.result, nil
		}
	}
	x.begin(Changing, x.incident.ID)
	if p := x.proposal(); p.Actions() > 0 {
		if err := x.journalRequest(x.handle, x.askedFor(recovery.Phase, p)); err != nil {
			return x.result, err
		}
	}
	return x.result, x.do(ctx)
}

func (x *recovering) open(ctx context.Context) error {
	if x.req.DryRun {
		return x.look(x.req.Incident)
	}
	return x.take(ctx, x.req.Incident)
}

// does reports whether a part is to be done.
func (x *recovering) does(part RecoverPart) bool { return x.req.Part == "" || x.req.Part == part }

func (x *recovering) plan(ctx context.Context) error {
	x.scene = x.sceneOf(ctx, x.incident)
	if len(x.scene.Targets)+len(x.scene.Workloads) == 0 {
		return fmt.Errorf("%w: incident %s has no suspects: there is nothing to recover from", ErrRefused,
			x.incident.ID)
	}
	imaged := map[types.UID]change.Change{}
	for _, a := range timeline.Standing(x.entries) {
		c, ok := change.In(&a.Intent)
		if !ok {
			continue // not a change to the cluster
		}
		if a.Intent.Phase == contain.Phase {
			x.recorded = append(x.recorded, recovery.Recorded{Seq: a.Intent.Seq, Step: a.Intent.Step,
				Action: a.Intent.Action, Targets: a.Intent.Targets, Summary: a.Intent.Summary, Change: c})
		}
		if a.Intent.Phase == eradicate.Phase && a.Intent.Step == eradicate.StepImage {
			imaged[c.Object.UID] = c
		}
	}
	x.workloads = recovery.Find(ctx, x.scene, x.recorded)
	recovery.Judge(x.workloads, imaged)
	earlier := wayInsOf(x.entries)
	x.indicators = recovery.IndicatorsOf(x.scene.Targets)
	for _, r := range earlier {
		if r.Indicators != nil {
			x.indicators = x.indicators.With(recovery.Indicators(*r.Indicators))
		}
	}
	x.indicators = x.indicators.Without(x.workloads)
	x.sameImage = x.req.SameImage || x.decidedEarlier(earlier)
	x.planSuspects(ctx)
	if x.does(PartRestore) {
		x.planRestore()
	}
	if x.does(PartRelease) {
		x.planRelease()
	}
	x.leaveHeld(ctx)
	return ctx.Err()
}

func (x *recovering) planRestore() {
	p := recovery.PlanRestore(x.workloads, x.sameImage, x.req.Suspect == recovery.Deleted)
	for n, a := range p.Actions {
		for _, w := range x.workloads {
			if w.Blocker != nil && w.UID == a.Change.Object.UID {
				p.Actions[n].Needs = append(p.Actions[n].Needs, recovery.DeleteID(w.Blocker))
			}
		}
	}
	x.result.Refusals = append(x.result.Refusals, p.Refusals...)
	x.restore = StepPlan{Step: recovery.Info(recovery.StepRestore), Plan: p}
	for _, w := range x.workloads {
		if w.WayIn.State != recovery.Closed && x.sameImage && !w.Gone() {
			x.warn("way-in-open", w.WayIn.Text+": the way in is still open, and the report will say so",
				"irctl eradicate --image CONTAINER=IMAGE@sha256:… closes it")
		}
	}
}

func (x *recovering) warn(code, text, fix string) {
	x.result.Warnings = append(x.result.Warnings, steps.Warning{Code: code, Text: text, Fix: fix})
}

// planSuspects decides which suspects are deleted, and says what becomes of each.
func (x *recovering) planSuspects(ctx context.Context) {
	for _, t := range x.scene.Targets {
		fate := SuspectFate{Namespace: t.Pod.Namespace, Pod: t.Pod.Name, UID: string(t.Pod.UID), Fate: "kept"}
		blocks := slices.ContainsFunc(x.workloads, func(w *recovery.Workload) bool { return w.Blocker == t })
		switch {
		case recovery.Ended(t):
			fate.Fate, fate.Text = "gone", "it does not exist any more"
		case t.Err != nil:
			fate.Fate, fate.Text = "unknown", "it could not be read, so it stays cut off as it is: "+t.Err.Error()
			if x.req.Suspect == recovery.Deleted {
				x.result.Refusals = append(x.result.Refusals,
					steps.Refusal{ID: recovery.DeleteID(t), Targets: []string{t.Key()}, Action: recovery.StepSuspect,
						Object: t.Ref().String(), Reason: "it could not be read: " + t.Err.Error(),
						Override: "the right to read it"})
			}
		case !marked(t, x.incident.ID):
			fate.Fate, fate.Text = "released", "it is not cut off: it does not carry the quarantine's labels, and is "+
				"in service if its controller has it back"
			if x.req.Suspect == recovery.Deleted {
				x.result.Refusals = append(x.result.Refusals,
					steps.Refusal{ID: recovery.DeleteID(t), Targets: []string{t.Key()}, Action: recovery.StepSuspect,
						Object: t.Ref().String(), Reason: "it is not cut off any more",
						Override: "irctl contain --incident " + string(x.incident.ID) + ", which cuts it off again"})
			}
		case x.req.Suspect != recovery.Deleted || !x.does(PartRelease) && !blocks:
			fate.Text = "it stays cut off"
		default:
			fate.Text = x.planDelete(ctx, t, blocks)
		}
		x.result.Suspects = append(x.result.Suspects, fate)
	}
}

// marked: the pod carries the quarantine's labels of this incident.
func marked(t *cluster.Target, id incident.ID) bool {
	l := t.Pod.Labels
	return l[contain.QuarantineLabel] == contain.QuarantineValue && l[contain.IncidentLabel] == string(id)
}

func (x *recovering) planDelete(ctx context.Context, t *cluster.Target, blocks bool) (text string) {
	guard := func(ctx context.Context) error {
		if _, err := x.sealed(ctx, t); err != nil {
			return fmt.Errorf("to keep the evidence: %w", err)
		}
		return nil
	}
	if x.req.AllowEvidenceLoss {
		guard = nil
	}
	refusal := steps.Refusal{ID: recovery.DeleteID(t), Targets: []string{t.Key()}, Action: recovery.StepSuspect,
		Object: t.Ref().String()}
	attached := !slices.ContainsFunc(x.recorded, func(r recovery.Recorded) bool {
		return r.Change.Object.UID == t.Pod.UID && contain.Detaches(r.Change)
	}) && len(t.Pod.OwnerReferences) > 0
	switch what, err := x.sealed(ctx, t); {
	case attached:
		refusal.Reason, refusal.Override = "it was not detached: its controller would only start it anew",
			"irctl contain, which detaches it"
		x.result.Refusals = append(x.result.Refusals, refusal)
		return refusal.Reason
	case err != nil && !x.req.AllowEvidenceLoss:
		refusal.Reason, refusal.Override = err.Error(), "irctl investigate --incident "+string(x.incident.ID)+
			" -r KEY, which seals it; or knowingly --allow-evidence-loss"
		x.result.Refusals = append(x.result.Refusals, refusal)
		return refusal.Reason
	case err != nil:
		text = "its evidence is lost with it, as was allowed: " + err.Error()
		x.warn("evidence-loss", t.Key()+": "+text, "")
	default:
		text = "its evidence is in " + what
	}
	a := recovery.Delete(x.Client, t, guard)
	if blocks {
		x.before = append(x.before, a)
	} else {
		for _, w := range x.workloads {
			if slices.Contains(w.Suspects, t) && x.does(PartRestore) && !w.Gone() {
				a.Needs = append(a.Needs, rolloutID(w))
			}
		}
		x.suspects = append(x.suspects, a)
	}
	return text
}

func rolloutID(w *recovery.Workload) string { return recovery.StepRollout + " " + w.ID() }

// planRelease says what of the containment is taken back, and what stays.
func (x *recovering) planRelease() {
	deleted := map[string]string{} // UID of a suspect that is gone, or will be → the action that deletes it
	kept, needs := map[string][]string{}, map[string][]string{}
	for n, t := range x.scene.Targets {
		uid := string(t.Pod.UID)
		switch {
		case recovery.Ended(t):
			deleted[uid] = ""
		case x.deletes(t):
			deleted[uid] = recovery.DeleteID(t)
			needs[t.Pod.Namespace] = append(needs[t.Pod.Namespace], recovery.DeleteID(t))
		default:
			kept[t.Pod.Namespace] = append(kept[t.Pod.Namespace], x.result.Suspects[n].Pod)
		}
	}
	x.suspects = append(x.suspects, recovery.Settle(x.Client, x.recorded, func(uid string) (string, bool) {
		id, ok := deleted[uid]
		return id, ok
	})...)
	var stay []string
	x.lift, stay = recovery.PlanLift(x.scene, x.recorded, kept, needs)
	x.result.Stays = append(x.result.Stays, stay...)
	resume, stay := recovery.PlanResume(x.recorded, x.req.Uncordon)
	x.result.Stays = append(x.result.Stays, stay...)
	x.resume = StepPlan{Step: recovery.Info(recovery.StepResume)}
	for _, a := range resume {
		if w := x.notRestored(); w != nil && !x.does(PartRestore) {
			x.result.Refusals = append(x.result.Refusals,
				steps.Refusal{ID: a.ID, Action: recovery.StepResume, Object: a.Change.Object.String(),
					Reason: fmt.Sprintf("%s is not restored yet: it would be started by whatever is resumed, with "+
						"whatever image that has", w.Ref), Override: "irctl recover, which restores it first"})
			continue
		}
		for _, w := range x.workloads {
			if x.does(PartRestore) && !w.Gone() {
				a.Needs = append(a.Needs, rolloutID(w))
			}
		}
		if g := a.Change.Object.Group; g == "argoproj.io" || strings.HasSuffix(g, ".fluxcd.io") {
			x.warn("gitops", fmt.Sprintf("%s puts the workload back as it is in its source", a.Change.Object),
				"see that its source names the clean image before it is resumed")
		}
		x.resume.Plan.Actions = append(x.resume.Plan.Actions, a)
	}
}

// leaveHeld leaves out what would take from another incident what it holds.
func (x *recovering) leaveHeld(ctx context.Context) {
	var objects []cluster.Ref
	for _, a := range slices.Concat(x.restore.Plan.Actions, x.lift, x.resume.Plan.Actions) {
		objects = append(objects, a.Change.Object)
	}
	x.held = x.heldBy(ctx, x.incident.ID, objects)
	for _, list := range []struct {
		step    string
		actions *[]steps.Action
	}{{recovery.StepRestore, &x.restore.Plan.Actions}, {recovery.StepLift, &x.lift},
		{recovery.StepResume, &x.resume.Plan.Actions}} {
		kept, refused := x.held.leave(*list.actions, list.step, x.req.Despite, "irctl recover --incident "+
			string(x.incident.ID))
		*list.actions, x.result.Refusals = kept, append(x.result.Refusals, refused...)
	}
}

func (x *recovering) deletes(t *cluster.Target) bool {
	id := recovery.DeleteID(t)
	return slices.ContainsFunc(slices.Concat(x.before, x.suspects), func(a steps.Action) bool { return a.ID == id })
}

// notRestored is a workload that is still held down.
func (x *recovering) notRestored() *recovery.Workload {
	for _, w := range x.workloads {
		if len(w.Held) > 0 && !w.Gone() {
			return w
		}
	}
	return nil
}

// stages are the plans in the order in which they are done.
func (x *recovering) stages() (restore, release []StepPlan) {
	add := func(to *[]StepPlan, step string, actions []steps.Action) {
		for _, stage := range recovery.Sequence(actions) {
			*to = append(*to, StepPlan{Step: recovery.Info(step), Plan: steps.Plan{Actions: stage}})
		}
	}
	add(&restore, recovery.StepSuspect, x.before)
	add(&restore, recovery.StepRestore, x.restore.Plan.Actions)
	add(&release, recovery.StepSuspect, x.suspects)
	add(&release, recovery.StepLift, x.lift)
	add(&release, recovery.StepResume, x.resume.Plan.Actions)
	return restore, release
}

func (x *recovering) proposal() Proposal {
	restore, release := x.stages()
	return Proposal{Incident: string(x.incident.ID), Server: x.identity.Server, Context: x.Context,
		Targets: x.scene.Targets,
		Steps:   slices.Concat(restore, release), Warnings: x.result.Warnings}
}

// dryRun asks the server of every change.
func (x *recovering) dryRun(ctx context.Context) {
	restore, release := x.stages()
	for _, p := range slices.Concat(restore, release) {
		for _, a := range p.Plan.Actions {
			r := ActionResult{Step: p.Step.Name, Action: a.Name, Object: a.Change.Object.String(), Targets: a.Targets,
				Summary: a.Summary, Command: a.Command, Diff: a.Diff, Outcome: timeline.OutcomeSkipped}
			var err error
			switch {
			case a.Do == nil:
				err = a.Change.DryRunUndo(ctx, x.Client.Dynamic, change.Contents(x.Client, created(x.handle)))
			case a.Final:
				err = recovery.DryRunDelete(ctx, x.Client, a.Change.Object)
			}
			if err != nil {
				r.Outcome, r.Error, r.err = notDone(err), err.Error(), err
			}
			x.result.Actions = append(x.result.Actions, r)
		}
	}
}

// do goes through it. The time for each rollout is its own.
func (x *recovering) do(ctx context.Context) error {
	x.run = &run{Engine: x.Engine, handle: x.handle, failed: map[string]string{}}
	for _, r := range x.result.Refusals {
		x.run.failed[r.ID] = r.Reason
	}
	restore, release := x.stages()
	for _, p := range slices.Concat(restore, release) {
		for _, a := range p.Plan.Actions {
			if err := x.agreed(x.handle, x.held, a.Change.Object); err != nil {
				return err
			}
		}
	}
	if err := x.recordWayIn(); err != nil {
		return err
	}
	if x.does(PartRestore) {
		x.stage(ctx, restore)
		x.rollOut(ctx)
		x.check(ctx)
	}
	if x.does(PartRelease) {
		x.stage(ctx, release)
		if err := x.recordKept(); err != nil {
			x.result.Failures = append(x.result.Failures, err.Error())
		}
	}
	x.result.Actions = append(x.result.Actions, x.run.results...)
	x.settleFates()
	return nil
}

func (x *recovering) stage(ctx context.Context, plans []StepPlan) {
	doing, cancel := x.within(ctx)
	defer cancel()
	x.run.execute(doing, plans)
}

// changes counts what would be written.
func (x *recovering) changes() int { return x.proposal().Actions() }

// rollOut waits for every workload that should run.
func (x *recovering) rollOut(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, x.req.Wait,
		fmt.Errorf("--wait of %s is over: %w", x.req.Wait, context.DeadlineExceeded))
	defer cancel()
	plan := StepPlan{Step: recovery.Info(recovery.StepRollout)}
	for _, w := range x.workloads {
		if why, refused := x.run.failed[recovery.RestoreID(w)]; refused {
			x.run.failed[rolloutID(w)] = "it was not restored: " + why
			continue
		}
		if w.Gone() {
			continue
		}
		a := steps.Action{ID: rolloutID(w), Name: recovery.StepRollout, Final: true,
			Change:  change.Change{Object: w.Ref},
			Summary: "every pod of " + w.Ref.String() + " is ready",
			Command: "kubectl rollout status " + change.ShellQuote(w.KubectlName()) + " -n " +
				change.ShellQuote(w.Namespace),
			Do: func(ctx context.Context) (steps.Result, error) {
				r, err := w.Await(ctx, x.Client, func(text string) {
					x.Front.Observe(Event{Kind: Waiting, Step: "verify", Action: recovery.StepRollout, Text: text,
						Left: timeLeft(ctx)})
				})
				x.run.mu.Lock()
				defer x.run.mu.Unlock()
				x.rollouts[w.ID()] = r
				return steps.Result{Result: change.Done, Note: r.Text}, err
			}}
		plan.Plan.Actions = append(plan.Plan.Actions, a)
	}
	x.run.execute(ctx, []StepPlan{plan})
}

// timeLeft is how long a context still lets something wait; 0: for ever.
func timeLeft(ctx context.Context) time.Duration {
	until, bounded := ctx.Deadline()
	if !bounded {
		return 0
	}
	return max(time.Second, time.Until(until))
}

// check makes the checklist of every workload, and judges.
func (x *recovering) check(ctx context.Context) {
	looking, cancel := x.within(ctx)
	defer cancel()
	started := x.Now()
	want := recovery.Expected{Indicators: x.indicators, SameImage: x.sameImage, Incident: string(x.incident.ID),
		ServerVersion: x.identity.Version}
	x.result.Workloads = make([]RecoveredWorkload, len(x.workloads))
	x.Front.Observe(Event{Kind: Started, Step: recovery.StepChecks, Text: "check the new pods"})
	cluster.Parallel(len(x.workloads), func(n int) {
		w := x.workloads[n]
		res := RecoveredWorkload{RecoveredWorkload: record.RecoveredWorkload{Object: w.Ref.String(), WayIn: w.WayIn,
			Rollout: w.Ref.String() + " does not exist any more", Checks: []recovery.Check{}}}
		why, failed := x.run.failed[rolloutID(w)]
		r := x.rollouts[w.ID()]
		switch {
		case w.Gone():
			res.gone = true
		case failed:
			res.Rollout = why
		default:
			res.OK, res.Rollout = true, r.Text
			res.Checks = recovery.Examine(looking, x.scene, w, r, want)
		}
		x.result.Workloads[n] = res
	})
	x.result.Left = recovery.ForPeople
	x.judge(x.Now().Sub(started))
}

func (x *recovering) judge(took time.Duration) {
	x.result.Verdict = NothingRecovered
	var failed []string
	unknown, total := 0, 0
	rec := record.Recovery{WayIn: []recovery.WayIn{}, SameImage: x.sameImage}
	for n, w := range x.result.Workloads {
		rec.Workloads = append(rec.Workloads, w.RecoveredWorkload)
		if x.workloads[n].Gone() {
			continue
		}
		rec.WayIn = append(rec.WayIn, w.WayIn)
		if x.result.Verdict == NothingRecovered {
			x.result.Verdict = Recovered
		}
		if w.WayIn.State != recovery.Closed {
			x.result.Verdict = RecoveredOpen
		}
		if !w.OK {
			failed = append(failed, w.Rollout)
		}
		for _, c := range w.Checks {
			total++
			switch {
			case c.Result == recovery.NotKnown:
				unknown++
			case c.Result == recovery.Failed && !c.Accepted:
				failed = append(failed, w.Object+": "+c.Code+": "+c.Text)
			}
		}
	}
	outcome := timeline.OutcomeDone
	switch {
	case len(failed) > 0:
		x.result.Verdict, outcome = NotRecovered, timeline.OutcomeFailed
	case x.result.Verdict == NothingRecovered:
		outcome = timeline.OutcomeUnknown
	}
	rec.Verdict = string(x.result.Verdict)
	summary := fmt.Sprintf("%s: %d checks, %d not known", rec.Verdict, total, unknown)
	if x.result.Verdict == NothingRecovered {
		summary = fmt.Sprintf("%s: there was no workload to check", rec.Verdict)
	}
	if len(failed) > 0 {
		summary += "; failed: " + strings.Join(failed[:min(len(failed), 5)], "; ")
	}
	smaller := rec
	smaller.Workloads, smaller.Cut = nil, true
	e := timeline.Entry{Kind: timeline.KindVerdict, Phase: recovery.Phase, Step: recovery.StepChecks, Summary: summary,
		Targets: slices.Sorted(maps.Keys(x.keys())), Outcome: outcome, DurationMS: took.Milliseconds()}
	if _, err := x.handle.Log.AppendWith(e, rec, smaller); err != nil {
		x.result.Failures = append(x.result.Failures, "the verdict could not be journaled: "+err.Error())
	}
}

func (x *recovering) keys() map[string]bool {
	keys := map[string]bool{}
	for _, t := range x.scene.Targets {
		keys[t.Key()] = true
	}
	return keys
}

// settleFates says what really became of the suspects.
func (x *recovering) settleFates() {
	for n, t := range x.scene.Targets {
		if !x.deletes(t) {
			continue
		}
		fate := &x.result.Suspects[n]
		if why, failed := x.run.failed[recovery.DeleteID(t)]; failed {
			fate.Text = "not deleted: " + why
			x.result.Stays = append(x.result.Stays, fmt.Sprintf("the suspect %s stays cut off: %s", t.Key(), why))
			continue
		}
		fate.Fate = "deleted"
	}
}

// Runs: every workload that there is runs.
func (r *RecoverResult) Runs() bool {
	return !slices.ContainsFunc(r.Workloads, func(w RecoveredWorkload) bool { return !w.OK && !w.gone })
}

// Codes are those of the checks with a result, each once; "rollout" stands for
// one that did not succeed. What was decided to be so has not failed.
func (r *RecoverResult) Codes(result recovery.Result) []string {
	codes := []string{}
	for _, w := range r.Workloads {
		if !w.OK && !w.gone && result == recovery.Failed {
			codes = append(codes, recovery.StepRollout)
		}
		for _, c := range w.Checks {
			if c.Result == result && !c.Accepted {
				codes = append(codes, c.Code)
			}
		}
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

// WayIn is the worst of the workloads'.
func (r *RecoverResult) WayIn() recovery.WayInState {
	worst := recovery.Closed
	for _, w := range r.Workloads {
		if w.WayIn.State == recovery.Open || w.WayIn.State == recovery.Unknown && worst == recovery.Closed {
			worst = w.WayIn.State
		}
	}
	return worst
}
