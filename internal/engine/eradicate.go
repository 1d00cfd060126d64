package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"irctl/internal/casefile"
	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/record"
	"irctl/internal/rotate"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/eradicate"
	"irctl/internal/timeline"
)

// EradicateRequest says what to take from the attacker.
type EradicateRequest struct {
	Incident incident.ID
	// Suspects are those of an incident that is still to be opened, in the place
	// of Incident; nothing can be changed then.
	Suspects []incident.Target
	Options  eradicate.Options
	// PlanOnly reads the blast radius and stops there.
	PlanOnly bool
	// DryRun asks the servers what they would say, and changes nothing.
	DryRun bool
}

// EradicateResult is what came of it. Its JSON form is documented and stable.
type EradicateResult struct {
	Incident  string `json:"incident"`
	DryRun    bool   `json:"dryRun,omitempty"`
	Cancelled bool   `json:"cancelled,omitempty"`
	// Verdict is empty where nothing was to be done.
	Verdict  EradicateVerdict  `json:"verdict,omitempty"`
	Radius   *eradicate.Radius `json:"radius"`
	Actions  []ActionResult    `json:"actions"`
	Refusals []steps.Refusal   `json:"refusals,omitempty"`
	// Kept are pods that go on with old values, and why.
	Kept []string `json:"kept,omitempty"`
	// Left is what only a person can do.
	Left []string `json:"left,omitempty"`
	// Warnings are what the plan will not achieve, besides those of the radius.
	Warnings []steps.Warning `json:"warnings,omitempty"`
	// Unrotated are secrets that the suspects could read and that were neither
	// chosen now nor rotated before, and keys that were refused by themselves.
	Unrotated []string `json:"unrotated,omitempty"`
	// KeptKeys are keys that stay as they are, since the responder says that they
	// are no secret.
	KeptKeys []string `json:"keptKeys,omitempty"`
	// WayInOpen are the workloads that were given an image and still have one that
	// the suspects ran in another container.
	WayInOpen []string `json:"wayInOpen,omitempty"`
	// Unknown is what could not be looked at, and why.
	Unknown  []string `json:"unknown,omitempty"`
	Failures []string `json:"failures,omitempty"`
}

// EradicateVerdict tells whether the attacker has anything left.
type EradicateVerdict string

// The verdicts.
const (
	Eradicated    EradicateVerdict = "eradicated"
	NotEradicated EradicateVerdict = "not eradicated"
	// EradicationUnknown: nothing of what the suspects could read could be looked at.
	EradicationUnknown EradicateVerdict = EradicateVerdict(contain.Undetermined)
)

// eradication is one run of Eradicate.
type eradication struct {
	opened
	req       EradicateRequest
	rotations []*eradicate.Rotation
	restarts  []*eradicate.Restart
	// changes are those that can be undone; they come before any secret.
	changes  []StepPlan
	rollouts []*eradicate.Rollout
	applied  []*eradicate.Applied
	run      *run
	result   *EradicateResult
}

// Eradicate finds what the suspects of an incident could read, asks, and
// replaces what was chosen. A run that was interrupted is taken up where it
// stopped. The error is what kept it from running; what failed within it is in
// the result.
func (e *Engine) Eradicate(ctx context.Context, req EradicateRequest) (*EradicateResult, error) {
	x := &eradication{opened: opened{Engine: e}, req: req,
		result: &EradicateResult{Incident: string(req.Incident), DryRun: req.DryRun, Actions: []ActionResult{}}}
	planning, cancel := x.within(ctx)
	defer cancel()
	defer x.close()
	if err := x.open(planning); err != nil {
		return x.result, err
	}
	if err := x.plan(planning); err != nil {
		return x.result, err
	}
	if req.PlanOnly || !req.Options.Changes() {
		x.list()
		return x.result, nil
	}
	if req.DryRun {
		x.dryRun(planning)
		return x.result, nil
	}
	if x.pending() {
		decision, err := x.Front.Approve(ctx, x.proposal())
		if err != nil {
			return x.result, err
		}
		if decision != Yes {
			x.result.Cancelled = true
			return x.result, nil
		}
	}
	x.begin(Changing, x.incident.ID)
	if p := x.proposal(); x.pending() {
		if err := x.journalRequest(x.handle, x.askedFor(eradicate.Phase, p)); err != nil {
			return x.result, err
		}
	}
	doing, cancel := x.within(ctx)
	defer cancel()
	x.rotate(doing)
	x.judge()
	return x.result, nil
}

// open opens the incident; a plan may be about suspects of none yet.
func (x *eradication) open(ctx context.Context) error {
	dry := x.req.PlanOnly || x.req.DryRun
	if dry && x.req.Incident == "" {
		x.incident.Targets = x.req.Suspects
		return nil
	}
	if dry {
		return x.look(x.req.Incident)
	}
	return x.take(ctx, x.req.Incident)
}

func (x *eradication) plan(ctx context.Context) error {
	scene := x.sceneOf(ctx, x.incident)
	named := x.req.Options.Named()
	if len(scene.Targets)+len(scene.Workloads)+len(named) == 0 {
		return fmt.Errorf(
			"%w: incident %s has no suspects: contain them first (irctl contain), or name the secrets as "+
				"NAMESPACE/NAME", ErrRefused, x.incident.ID)
	}
	radius, err := eradicate.Find(ctx, scene, eradicate.Beside{Named: named, Changed: changedBy(x.entries)})
	if err != nil {
		return err
	}
	x.result.Radius = radius
	key, err := x.digestKey(ctx)
	if err != nil {
		return err
	}
	c := eradicate.Context{Digests: rotate.NewDigests(key), Incident: string(x.incident.ID), Now: x.Now,
		History: historyOf(x.entries)}
	if err := x.planImages(scene); err != nil {
		return err
	}
	x.planChanges(ctx)
	if !x.req.Options.Chooses() {
		err := eradicate.Plan(ctx, radius, x.req.Options, c)
		x.unrotated(radius)
		return err
	}
	rotations, refusals, err := eradicate.Choose(ctx, radius, x.req.Options, c)
	switch {
	case errors.Is(err, eradicate.ErrUnlooked):
		return fmt.Errorf("%w: %w", ErrUndetermined, err)
	case errors.Is(err, eradicate.ErrNotFound):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	x.rotations, x.result.Refusals = rotations, append(x.result.Refusals, refusals...)
	for _, r := range x.rotations {
		if r.Prior != nil {
			if _, err := r.New(ctx); err != nil { // takes them from where the earlier run put them
				return err
			}
		}
	}
	x.restarts = eradicate.Restarts(x.rotations)
	x.unrotated(radius)
	return ctx.Err()
}

// changedBy are the changes to the cluster that a journal says stand.
func changedBy(entries []timeline.Entry) []eradicate.Changed {
	var list []eradicate.Changed
	for _, s := range standing(casefile.Of(entries)) {
		list = append(list, eradicate.Changed{Seq: s.Seq, Change: s.change})
	}
	return list
}

func (x *eradication) planImages(scene *steps.Scene) error {
	if len(x.req.Options.Images) == 0 {
		return nil
	}
	plan, rollouts, left, err := eradicate.PlanImages(scene, x.result.Radius, x.req.Options.Images)
	if errors.Is(err, eradicate.ErrNotFound) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	for _, text := range left {
		x.result.Warnings = append(x.result.Warnings, steps.Warning{Code: "way-in", Text: text})
	}
	if x.result.WayInOpen = left; !x.req.DryRun && !x.req.PlanOnly {
		x.result.Left = append(x.result.Left, left...)
	}
	x.rollouts = rollouts
	x.add(eradicate.StepImage, plan)
	return nil
}

// planChanges plans the team's manifests and the bindings.
func (x *eradication) planChanges(ctx context.Context) {
	if len(x.req.Options.Manifests) > 0 {
		plan, applied := eradicate.PlanManifests(ctx, x.result.Radius, x.req.Options, x.held)
		x.applied = applied
		x.add(eradicate.StepApply, plan)
	}
	if x.req.Options.RemoveBindings {
		x.add(eradicate.StepBindings, eradicate.PlanBindings(x.result.Radius))
	}
}

func (x *eradication) add(step string, plan steps.Plan) {
	for n := range plan.Actions {
		plan.Actions[n].Diff = plan.Actions[n].Change.Diff()
	}
	x.changes = append(x.changes, StepPlan{Step: eradicate.Info(step), Plan: plan})
	x.result.Refusals = append(x.result.Refusals, plan.Refusals...)
	x.result.Warnings = append(x.result.Warnings, plan.Warnings...)
}

// held are the fields of an object that containment has set, and that stand.
func (x *eradication) held(object cluster.Ref) [][]string {
	var paths [][]string
	for _, s := range standing(casefile.Of(x.entries)) {
		o := s.change.Object
		if s.phase != contain.Phase || o.Kind != object.Kind || o.Group != object.Group ||
			o.Namespace != object.Namespace || o.Name != object.Name {
			continue
		}
		for _, f := range s.change.Fields {
			paths = append(paths, f.Path)
		}
	}
	return paths
}

// deploy makes the changes that can be undone, and waits for what they roll out.
func (x *eradication) deploy(ctx context.Context) {
	plan := StepPlan{Step: eradicate.Info(eradicate.StepVerify)}
	x.run.execute(ctx, x.changes)
	for _, r := range x.rollouts {
		if r.Keeps {
			x.keep(r.Ref.String() + ": " + r.Why)
		}
		if r.Why != "" {
			continue
		}
		plan.Plan.Actions = append(plan.Plan.Actions, rolloutOf(r.Workload, "every pod of "+r.Ref.String()+
			" runs the new image", "verify image", []string{eradicate.StepImage + " " + string(r.UID)},
			func(ctx context.Context) (steps.Result, error) {
				return steps.Result{Result: change.Done},
					r.VerifyImages(ctx, x.Client, x.result.Radius.Suspects(), x.waiting(ctx))
			}))
	}
	for _, w := range x.applied {
		plan.Plan.Actions = append(plan.Plan.Actions, rolloutOf(w.Workload, "every pod of "+w.Ref.String()+
			" runs what was applied", "verify "+w.Action, []string{w.Action},
			func(ctx context.Context) (steps.Result, error) {
				why, keeps, err := w.VerifyApplied(ctx, x.Client, x.waiting(ctx))
				if keeps {
					x.keep(w.Ref.String() + ": " + why)
				}
				return steps.Result{Result: change.Done, Note: why}, err
			}))
	}
	x.run.execute(ctx, []StepPlan{plan})
}

// rolloutOf is the action of waiting for a rollout.
func rolloutOf(w *eradicate.Workload, summary, id string, needs []string,
	do func(context.Context) (steps.Result, error)) steps.Action {
	return steps.Action{ID: id + " " + string(w.UID), Name: eradicate.StepVerify, Final: true, Summary: summary,
		Change: change.Change{Object: w.Ref},
		Command: "kubectl rollout status " + change.ShellQuote(w.KubectlName()) + " -n " +
			change.ShellQuote(w.Namespace), Needs: needs, Do: do}
}

// keep notes what goes on as it was.
func (x *eradication) keep(what string) {
	x.run.mu.Lock()
	defer x.run.mu.Unlock()
	x.result.Kept = append(x.result.Kept, what)
}

func (x *eradication) waiting(ctx context.Context) func(string) {
	return func(text string) {
		x.Front.Observe(Event{Kind: Waiting, Step: "verify", Action: eradicate.StepVerify, Text: text,
			Left: timeLeft(ctx)})
	}
}

// unrotated notes what stays with the attacker for now, and what is not known of it.
func (x *eradication) unrotated(radius *eradicate.Radius) {
	x.result.Unknown = radius.Unlooked()
	for _, i := range radius.Items {
		chosen := slices.ContainsFunc(x.rotations, func(r *eradicate.Rotation) bool {
			return slices.Contains(r.Items, i)
		})
		open := i.Open()
		if !chosen && !i.Rotated && !i.Nothing() && !i.ByKey() {
			x.result.Unrotated = append(x.result.Unrotated, i.Key())
			continue
		}
		for _, k := range open {
			x.result.Unrotated = append(x.result.Unrotated, i.Key()+" key "+k.Name+": "+k.Problem)
		}
		for _, k := range i.Kept() {
			if k.Plain() { // nobody's word makes it worthless
				x.result.Unrotated = append(x.result.Unrotated, i.Key()+" key "+k.Name+": it was kept, and it is "+
					k.What())
				continue
			}
			x.result.KeptKeys = append(x.result.KeptKeys, i.Key()+" key "+k.Name)
		}
	}
}

// pending: something is left to be changed, and so to be asked about.
func (x *eradication) pending() bool {
	return Proposal{Steps: x.changes}.Actions() > 0 ||
		slices.ContainsFunc(x.rotations, func(r *eradicate.Rotation) bool {
			return r.Prior == nil || !r.Prior.Updated || !r.Prior.Deactivated
		})
}

// proposal shows what would be done, without the new values.
func (x *eradication) proposal() Proposal {
	p := Proposal{Incident: string(x.incident.ID), Server: x.identity.Server, Context: x.Context,
		Warnings: slices.Concat(x.result.Radius.Warnings, x.result.Warnings)}
	update := StepPlan{Step: eradicate.Info(eradicate.StepUpdate)}
	for _, r := range x.rotations {
		if r.Prior == nil || !r.Prior.Updated {
			update.Plan.Actions = append(update.Plan.Actions, x.action(r, eradicate.StepUpdate, nil))
		}
	}
	restart := StepPlan{Step: eradicate.Info(eradicate.StepRestart)}
	for _, w := range x.restarts {
		if w.Why == "" {
			restart.Plan.Actions = append(restart.Plan.Actions, x.restarting(w))
			continue
		}
		p.Warnings = append(p.Warnings, steps.Warning{Code: "not-restarted", Text: w.Ref.String() + ": " + w.Why})
	}
	deactivate := StepPlan{Step: eradicate.Info(eradicate.StepDeactivate)}
	for _, r := range x.rotations {
		if r.Prior == nil || !r.Prior.Deactivated {
			deactivate.Plan.Actions = append(deactivate.Plan.Actions, x.action(r, eradicate.StepDeactivate, nil))
		}
	}
	p.Steps = append(slices.Clone(x.changes), update, restart, deactivate)
	return p
}

// verbs are how the steps of a rotation are told.
var verbs = map[string]string{
	eradicate.StepNew: "make the new value of %s", eradicate.StepStore: "store the new value of %s where it lives",
	eradicate.StepUpdate: "replace what %s holds", eradicate.StepDeactivate: "make the old value of %s worthless",
}

// action is one step of a rotation. It is final: to undo it would put a leaked
// secret back.
func (x *eradication) action(r *eradicate.Rotation, step string,
	do func(context.Context) (rotate.Outcome, error)) steps.Action {
	a := steps.Action{ID: step + " " + r.Name(), Name: step, Summary: fmt.Sprintf(verbs[step], r.Name()), Final: true,
		Change:  change.Change{Object: r.Items[0].Ref()},
		Command: "(by irctl alone: no value is ever on a command line)"}
	if do != nil {
		a.Do = func(ctx context.Context) (steps.Result, error) {
			out, err := do(ctx)
			if len(out.Left) > 0 {
				out.Data = record.Revocation{Left: out.Left}
				x.left(out.Left)
			}
			return steps.Result{Result: out.Result, Note: out.Note, Data: out.Data}, err
		}
	}
	return a
}

func (x *eradication) left(list []string) {
	x.run.mu.Lock()
	defer x.run.mu.Unlock()
	x.result.Left = append(x.result.Left, list...)
}

func (x *eradication) restarting(w *eradicate.Restart) steps.Action {
	return steps.Action{ID: eradicate.StepRestart + " " + string(w.UID), Name: eradicate.StepRestart, Final: true,
		Summary: w.Summary(),
		Change:  change.Change{Object: w.Ref}, Command: "kubectl rollout restart " +
			change.ShellQuote(w.KubectlName()) + " -n " + change.ShellQuote(w.Namespace)}
}

// rotate deploys the patched version and what the team has changed, so that no
// new secret is given to the vulnerable one, and goes through the six steps, all rotations step by step, so that a
// workload that uses several of them is restarted once.
func (x *eradication) rotate(ctx context.Context) {
	x.run = &run{Engine: x.Engine, handle: x.handle, failed: map[string]string{}}
	if err := journalRefusals(x.handle, eradicate.Phase, x.result.Refusals); err != nil {
		x.result.Failures = append(x.result.Failures, err.Error())
	}
	x.deploy(ctx)
	x.step(ctx, eradicate.StepNew, func(r *eradicate.Rotation) func(context.Context) (rotate.Outcome, error) {
		return r.New
	})
	x.step(ctx, eradicate.StepStore, func(r *eradicate.Rotation) func(context.Context) (rotate.Outcome, error) {
		return r.Store
	})
	x.step(ctx, eradicate.StepUpdate, func(r *eradicate.Rotation) func(context.Context) (rotate.Outcome, error) {
		return r.Update
	})
	x.restart(ctx)
	x.verify(ctx)
	x.deactivate(ctx)
	x.result.Actions = append(x.result.Actions, x.run.results...)
}

// before is the step that must have succeeded.
var before = map[string]string{eradicate.StepStore: eradicate.StepNew, eradicate.StepUpdate: eradicate.StepStore}

// step does one of the first three steps for every rotation that an earlier
// run has not brought past it.
func (x *eradication) step(ctx context.Context, name string,
	call func(*eradicate.Rotation) func(context.Context) (rotate.Outcome, error)) {
	plan := StepPlan{Step: eradicate.Info(name)}
	for _, r := range x.rotations {
		if r.Prior != nil && r.Prior.Updated {
			continue
		}
		a := x.action(r, name, call(r))
		if name == eradicate.StepUpdate {
			a.Record = func() any { return r.Record() }
		}
		if needs := before[name]; needs != "" {
			a.Needs = []string{needs + " " + r.Name()}
		}
		plan.Plan.Actions = append(plan.Plan.Actions, a)
	}
	x.run.execute(ctx, []StepPlan{plan})
}

// mark is what the pods of a workload carry once they run with the new values
// of all its secrets, and the Secrets that took the place of others.
func (x *eradication) mark(w *eradicate.Restart) (eradicate.Mark, map[string]string) {
	m := eradicate.Mark{Incident: string(x.incident.ID)}
	next := map[string]string{}
	for _, r := range w.Rotations {
		m.Seq = max(m.Seq, x.updatedAt(r))
		for _, s := range r.Record().Secrets {
			if s.Successor != "" && s.Namespace == w.Namespace {
				next[s.Name] = s.Successor
			}
		}
	}
	return m, next
}

// updatedAt is the journal's place of a rotation's update.
func (x *eradication) updatedAt(r *eradicate.Rotation) int64 {
	if r.Prior != nil && r.Prior.Updated || x.handle == nil {
		return seqOf(r)
	}
	object := *x.object(r.Items[0].Ref())
	for _, e := range slices.Backward(x.handle.Log.Entries()) {
		if e.Kind == timeline.KindIntent && e.Step == eradicate.StepUpdate && e.Object != nil && *e.Object == object {
			return e.Seq
		}
	}
	return seqOf(r)
}

func seqOf(r *eradicate.Rotation) int64 {
	if r.Prior == nil {
		return 0
	}
	return r.Prior.Seq
}

func updates(w *eradicate.Restart) []string {
	var ids []string
	for _, r := range w.Rotations {
		ids = append(ids, eradicate.StepUpdate+" "+r.Name())
	}
	return ids
}

// restart changes the templates, of those that are only pointed at another
// Secret too. What an earlier run did is not done again.
func (x *eradication) restart(ctx context.Context) {
	plan := StepPlan{Step: eradicate.Info(eradicate.StepRestart)}
	for _, w := range x.restarts {
		a := x.restarting(w)
		a.Needs = updates(w)
		if w.Keeps {
			x.keep(w.Ref.String() + ": " + w.Why)
		}
		mark, next := x.mark(w)
		if x.unmetOf(a) == "" {
			c, needed, err := w.Change(ctx, x.Client, mark, next, x.Now())
			switch {
			case err != nil:
				a.Do = func(context.Context) (steps.Result, error) { return steps.Result{}, err }
			case !needed:
				continue
			default:
				a.Change = c
			}
		}
		if w.Why != "" {
			a.Summary = "point " + w.Ref.String() + " at the new Secret: " + w.Why
			a.Command = a.Change.Command()
		}
		plan.Plan.Actions = append(plan.Plan.Actions, a)
	}
	x.run.execute(ctx, []StepPlan{plan})
}

func (x *eradication) unmetOf(a steps.Action) string { return x.run.unmet(a) }

// verify waits for every rollout.
func (x *eradication) verify(ctx context.Context) {
	plan := StepPlan{Step: eradicate.Info(eradicate.StepVerify)}
	for _, w := range x.restarts {
		if w.Why != "" {
			continue
		}
		mark, _ := x.mark(w)
		plan.Plan.Actions = append(plan.Plan.Actions,
			steps.Action{ID: eradicate.StepVerify + " " + string(w.UID), Name: eradicate.StepVerify, Final: true,
				Summary: "every pod of " + w.Ref.String() + " runs with the new value, and none with the old",
				Change:  change.Change{Object: w.Ref},
				Command: "kubectl rollout status " + change.ShellQuote(w.KubectlName()) + " -n " +
					change.ShellQuote(w.Namespace),
				Needs: append(updates(w), eradicate.StepRestart+" "+string(w.UID)),
				Do: func(ctx context.Context) (steps.Result, error) {
					return steps.Result{Result: change.Done},
						w.Verify(ctx, x.Client, x.result.Radius.Suspects(), mark.Fresh, x.waiting(ctx))
				}})
	}
	x.run.execute(ctx, []StepPlan{plan})
}

// deactivate makes the old values worthless, of those that nobody uses any more.
func (x *eradication) deactivate(ctx context.Context) {
	plan := StepPlan{Step: eradicate.Info(eradicate.StepDeactivate)}
	for _, r := range x.rotations {
		if r.Prior != nil && r.Prior.Deactivated {
			continue
		}
		a := x.action(r, eradicate.StepDeactivate, func(ctx context.Context) (rotate.Outcome, error) {
			if err := x.unused(ctx, r); err != nil {
				return rotate.Outcome{}, err
			}
			return r.Deactivate(ctx)
		})
		a.Needs = []string{eradicate.StepUpdate + " " + r.Name()}
		kept := ""
		for _, w := range x.restarts {
			if slices.Contains(w.Rotations, r) {
				a.Needs = append(a.Needs, eradicate.StepRestart+" "+string(w.UID), eradicate.StepVerify+" "+
					string(w.UID))
				if w.Keeps {
					kept = w.Ref.String()
				}
			}
		}
		if kept != "" && x.unmetOf(a) == "" {
			x.result.Left = append(x.result.Left, fmt.Sprintf("once %s no longer runs with the old value, run the "+
				"same command again: it makes the old value of %s worthless", kept, r.Name()))
			continue
		}
		plan.Plan.Actions = append(plan.Plan.Actions, a)
	}
	x.run.execute(ctx, []StepPlan{plan})
}

// unused makes sure that a Secret which is to be deleted is named by nothing
// that runs or could start, but the suspects.
func (x *eradication) unused(ctx context.Context, r *eradicate.Rotation) error {
	for _, s := range r.Record().Secrets {
		if s.Successor == "" {
			continue
		}
		users, err := x.result.Radius.StillUsing(ctx, s.Namespace, s.Name)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return fmt.Errorf("Secret %s/%s is not deleted, since it is still named by %s", s.Namespace, s.Name,
				strings.Join(users, ", "))
		}
	}
	return nil
}

// list shows the changes that would be made before any secret is replaced.
func (x *eradication) list() {
	for _, p := range x.changes {
		for _, a := range p.Plan.Actions {
			x.result.Actions = append(x.result.Actions, planned(p.Step.Name, a))
		}
	}
}

func planned(step string, a steps.Action) ActionResult {
	return ActionResult{Step: step, Action: a.Name, Object: a.Change.Object.String(), Targets: a.Targets,
		Summary: a.Summary, Command: a.Command, Diff: a.Diff, Outcome: timeline.OutcomeSkipped}
}

// dryRun asks the servers of every rotation and restart.
func (x *eradication) dryRun(ctx context.Context) {
	ask := func(step string, a steps.Action, diff []string, ask func() error) {
		a.Diff = diff
		r := planned(step, a)
		if err := ask(); err != nil {
			r.Outcome, r.Error, r.err = notDone(err), err.Error(), err
		}
		x.result.Actions = append(x.result.Actions, r)
	}
	for _, p := range x.changes {
		for _, a := range p.Plan.Actions {
			ask(p.Step.Name, a, a.Diff, func() error { return a.Change.DryRun(ctx, x.Client.Dynamic) })
		}
	}
	for _, r := range x.rotations {
		if r.Prior != nil && r.Prior.Updated {
			continue
		}
		ask(eradicate.StepUpdate, x.action(r, eradicate.StepUpdate, nil), nil, func() error {
			if _, err := r.New(ctx); err != nil {
				return err
			}
			return r.DryRun(ctx)
		})
	}
	for _, w := range x.restarts {
		mark, next := x.mark(w)
		mark.Seq = max(mark.Seq, 1)
		c, needed, err := w.Change(ctx, x.Client, mark, next, x.Now())
		if err == nil && !needed {
			continue
		}
		ask(eradicate.StepRestart, x.restarting(w), c.Diff(), func() error {
			if err != nil {
				return err
			}
			return c.DryRun(ctx, x.Client.Dynamic)
		})
	}
}

// judge says whether the attacker has anything left, and records it.
func (x *eradication) judge() {
	for _, r := range x.rotations {
		for _, i := range r.Items {
			updated := x.run.unmet(steps.Action{Needs: []string{eradicate.StepUpdate + " " + r.Name()}}) == ""
			i.Rotated = updated && len(i.Open()) == 0
		}
	}
	failed := slices.ContainsFunc(x.result.Actions, func(a ActionResult) bool { return a.err != nil })
	x.result.Verdict = x.verdict(failed)
	outcome := timeline.OutcomeFailed
	if x.result.Verdict == Eradicated {
		outcome = timeline.OutcomeDone
	}
	e := timeline.Entry{Kind: timeline.KindVerdict, Phase: eradicate.Phase, Step: eradicate.StepVerify,
		Outcome: outcome,
		Summary: string(x.result.Verdict) + ": " + x.result.Count()}
	if !x.req.Options.Chooses() && len(x.result.Refusals)+len(x.result.Kept)+len(x.result.Left) == 0 && !failed {
		// Nothing was to be rotated, such as while the patched version is deployed: no verdict, and no failure.
		n, of := x.result.counts()
		e.Kind, e.Outcome, e.Summary = timeline.KindObservation, "",
			fmt.Sprintf("no secret was to be rotated here: %d of %d are", n, of)
	}
	rec := record.Eradication{Kept: x.result.Kept, Left: x.result.Left, Unrotated: x.result.Unrotated,
		KeptKeys: x.result.KeptKeys, Unknown: x.result.Unknown}
	if _, err := x.handle.Log.AppendWith(e, rec); err != nil {
		x.result.Failures = append(x.result.Failures, "the verdict could not be journaled: "+err.Error())
	}
}

func (x *eradication) verdict(failed bool) EradicateVerdict {
	r := x.result
	n, _ := r.counts()
	switch {
	case r.Radius.Blind():
		return EradicationUnknown
	case failed, len(r.Refusals)+len(r.Kept)+len(r.Left)+len(r.Unrotated)+len(r.Unknown) > 0:
		return NotEradicated
	case n == 0 && len(r.KeptKeys) > 0: // nothing was taken from anybody
		return NotEradicated
	}
	return Eradicated
}

// counts are how many secrets are rotated, of those of which a value is to be.
func (r *EradicateResult) counts() (rotated, of int) {
	for _, i := range r.Radius.Items {
		if !i.Nothing() {
			of++
		}
		if i.Rotated {
			rotated++
		}
	}
	return rotated, of
}

// Count says how many secrets are rotated, and what was kept.
func (r *EradicateResult) Count() string {
	n, of := r.counts()
	text := fmt.Sprintf("%d of %s rotated", n, plural.Count(of, "secret"))
	if kept := len(r.KeptKeys); kept > 0 {
		text += fmt.Sprintf("; %s kept as no secret, and not replaced", plural.Count(kept, "key"))
	}
	return text
}

// historyOf reads the rotations out of a journal, the last first.
func historyOf(entries []timeline.Entry) []eradicate.History {
	var list []eradicate.History
	for _, a := range slices.Backward(timeline.Actions(entries)) {
		if a.Intent.Phase != eradicate.Phase || a.Intent.Step != eradicate.StepUpdate {
			continue
		}
		planned, ok := timeline.Payload[record.Rotation](&a.Intent)
		if !ok {
			continue
		}
		h := eradicate.History{Seq: a.Intent.Seq, Updated: succeeded(a.Outcome), Record: *planned}
		if h.Updated {
			if after, ok := timeline.Payload[record.Rotation](a.Outcome); ok {
				h.Record = *after // what came was known only afterwards
			}
		}
		h.Deactivated = deactivated(entries, a.Intent)
		list = append(list, h)
	}
	return list
}

func succeeded(outcome *timeline.Entry) bool {
	return outcome != nil && (outcome.Outcome == timeline.OutcomeDone || outcome.Outcome == timeline.OutcomeAlready)
}

// deactivated: the old value was made worthless after the update, and nothing
// was left for a person to do.
func deactivated(entries []timeline.Entry, update timeline.Entry) bool {
	return slices.ContainsFunc(timeline.Actions(entries), func(a timeline.Action) bool {
		if a.Intent.Seq <= update.Seq || a.Intent.Step != eradicate.StepDeactivate || a.Intent.Object == nil ||
			update.Object == nil ||
			!sameName(*a.Intent.Object, *update.Object) || !succeeded(a.Outcome) {
			return false
		}
		r, ok := timeline.Payload[record.Revocation](a.Outcome)
		return a.Outcome.Data.IsZero() || ok && len(r.Left) == 0
	})
}

// sameName: an account that was made anew has another UID.
func sameName(a, b timeline.Object) bool {
	a.UID, b.UID = "", ""
	return a == b
}
