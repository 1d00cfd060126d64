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
	"irctl/internal/record"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/eradicate"
	"irctl/internal/timeline"
)

// UndoRequest says what to undo of an incident.
type UndoRequest struct {
	// All undoes everything that stands; otherwise Step, if given, everything
	// of that step; otherwise the last action.
	All  bool
	Step string
	// DryRun shows what would be restored, and changes nothing.
	DryRun bool
	// AllowEvidenceLoss hands a suspect back also to a controller that would
	// delete it.
	AllowEvidenceLoss bool
	// Despite are other incidents from which what they hold as well is taken all the same.
	Despite []incident.ID
}

// UndoResult is what came of it. Its JSON form is documented and stable.
type UndoResult struct {
	Incident  string         `json:"incident"`
	DryRun    bool           `json:"dryRun,omitempty"`
	Cancelled bool           `json:"cancelled,omitempty"`
	Actions   []ActionResult `json:"actions"`
	// StandingSteps are the steps that have something to undo, where what was asked
	// for had nothing.
	StandingSteps []string `json:"standingSteps,omitempty"`
	// Doubts are why more may stand than undo knows.
	doubtful
}

// UndoSteps are the steps whose changes undo puts back: those of containment,
// and of eradication those that replace no secret. Recovery undoes changes of
// these, and what else it does is final.
var UndoSteps = slices.Concat(contain.AllSteps,
	[]string{eradicate.StepImage, eradicate.StepApply, eradicate.StepBindings})

// UnknownStepError is an undo of a step that there is not.
type UnknownStepError struct{ Step string }

func (e *UnknownStepError) Error() string {
	all := "the steps that can be undone are " + strings.Join(UndoSteps, ", ")
	if near := cluster.Near(e.Step, UndoSteps); len(near) > 0 {
		return fmt.Sprintf("no step %q: did you mean %s? (%s)", e.Step, strings.Join(near, " or "), all)
	}
	return fmt.Sprintf("no step %q: %s", e.Step, all)
}

// Check says whether the request can be made of any incident.
func (r UndoRequest) Check() error {
	if r.Step != "" && !slices.Contains(UndoSteps, r.Step) {
		return &UnknownStepError{r.Step}
	}
	return nil
}

// Undo restores what was there before, last action first. An object that
// somebody changed since is left as it is, with the difference in the result,
// and so is everything that was done for the same suspects before that: a
// suspect is not let out of its quarantine while it is half restored.
func (e *Engine) Undo(ctx context.Context, h *incident.Handle, req UndoRequest) (*UndoResult, error) {
	if err := req.Check(); err != nil {
		return nil, err
	}
	i := h.Incident()
	if err := e.notHere(i); err != nil {
		return nil, err
	}
	res := &UndoResult{Incident: string(i.ID), DryRun: req.DryRun, Actions: []ActionResult{}}
	planning, cancel := e.within(ctx)
	defer cancel()
	if !req.DryRun {
		if err := e.resume(planning, h); err != nil {
			return res, err
		}
	}
	standing := timeline.Standing(h.Log.Entries())
	chosen := choose(standing, req)
	if len(chosen) == 0 {
		for _, a := range standing {
			if !slices.Contains(res.StandingSteps, a.Intent.Step) {
				res.StandingSteps = append(res.StandingSteps, a.Intent.Step)
			}
		}
		res.doubtful = e.doubtsOf(planning, i, casefile.Of(h.Log.Entries()), ofContainment)
		return res, nil
	}
	u := &undoing{Engine: e, handle: h, req: req, standing: map[string]string{},
		held: e.heldBy(planning, i.ID, objectsOf(chosen))}
	if !req.DryRun {
		decision, err := e.Front.Approve(ctx, u.proposal(string(i.ID), chosen))
		if err != nil {
			return res, err
		}
		if decision != Yes {
			res.Cancelled = true
			return res, nil
		}
		e.begin(Changing, i.ID)
		r := record.Request{Command: "undo", Steps: stepsOf(chosen)}
		for _, object := range objectsOf(chosen) {
			r.Targets = append(r.Targets, e.recorded(object))
		}
		if err := e.journalRequest(h, r); err != nil {
			return res, err
		}
	}
	doing, cancel := e.within(ctx)
	defer cancel()
	for _, group := range groups(chosen) {
		results := make([]ActionResult, len(group))
		cluster.Parallel(len(group), func(n int) { results[n] = u.one(doing, group[n]) })
		res.Actions = append(res.Actions, results...)
		u.note(results)
	}
	res.doubtful = e.doubtsOf(doing, i, casefile.Of(h.Log.Entries()), ofContainment)
	return res, nil
}

// choose returns the actions to undo, last first.
func choose(standing []timeline.Action, req UndoRequest) []timeline.Action {
	var chosen []timeline.Action
	for n := len(standing) - 1; n >= 0; n-- {
		a := standing[n]
		switch {
		case req.All, req.Step != "" && a.Intent.Step == req.Step:
			chosen = append(chosen, a)
		case req.Step == "" && len(chosen) == 0:
			chosen = append(chosen, a)
		}
	}
	return chosen
}

// groups cuts the list where the step changes, an object comes again, or one comes
// that may contain those before it; the actions of a group do not depend on each other.
func groups(list []timeline.Action) [][]timeline.Action {
	var out [][]timeline.Action
	seen := map[timeline.Object]bool{}
	for n, a := range list {
		o := *a.Intent.Object
		o.UID = "" // whoever creates an object does not know it yet
		c, ok := change.In(&a.Intent)
		contains := ok && c.Holds()
		if n == 0 || list[n-1].Intent.Step != a.Intent.Step || seen[o] || contains {
			out = append(out, nil)
			seen = map[timeline.Object]bool{}
		}
		seen[o] = true
		out[len(out)-1] = append(out[len(out)-1], a)
	}
	return out
}

// created are the objects that the incident made and that may still be there.
func created(h *incident.Handle) []change.Change {
	if h == nil {
		return nil
	}
	var list []change.Change
	for _, a := range timeline.Standing(h.Log.Entries()) {
		if c, ok := change.In(&a.Intent); ok && c.IsCreate() {
			list = append(list, c)
		}
	}
	return list
}

type undoing struct {
	*Engine
	handle *incident.Handle
	req    UndoRequest
	// standing says of a suspect what could not be undone.
	standing map[string]string
	// held is what other incidents hold.
	held holders
}

// stepsOf are the steps of a list of actions, each once.
func stepsOf(list []timeline.Action) []string {
	var steps []string
	for _, a := range list {
		if !slices.Contains(steps, a.Intent.Step) {
			steps = append(steps, a.Intent.Step)
		}
	}
	return steps
}

func objectsOf(list []timeline.Action) []cluster.Ref {
	var objects []cluster.Ref
	for _, a := range list {
		if c, ok := change.In(&a.Intent); ok {
			objects = append(objects, c.Object)
		}
	}
	return objects
}

// note remembers the suspects of what could not be undone.
func (u *undoing) note(results []ActionResult) {
	for _, r := range results {
		for _, t := range r.Targets {
			if r.err != nil {
				u.standing[t] = r.Object
			}
		}
	}
}

// harm says why undoing an action now would do harm; nil: it would not.
func (u *undoing) harm(ctx context.Context, a timeline.Action, c change.Change) error {
	for _, t := range a.Intent.Targets {
		if object := u.standing[t]; object != "" {
			return fmt.Errorf("not undone, since what was done after it for %s still stands: see %s", t, object)
		}
	}
	// A dry run has restored no controller yet that could keep the pod.
	if u.req.DryRun || u.req.AllowEvidenceLoss || !contain.Detaches(c) {
		return nil
	}
	var chain []cluster.Ref
	for _, t := range u.handle.Incident().Targets {
		if t.UID == string(c.Object.UID) {
			chain = refsOf(t)
		}
	}
	u.Front.Observe(Event{Kind: Waiting, Step: a.Intent.Step, Text: "the controllers of " + c.Object.String() +
		" to run again, so that they keep it"})
	if err := contain.AwaitReadmission(ctx, u.Client, c.Object, chain); err != nil {
		return fmt.Errorf("not undone, to keep the evidence: %w; undo the scaling first (--all does), or go ahead "+
			"with --allow-evidence-loss", err)
	}
	return nil
}

func (u *undoing) proposal(id string, list []timeline.Action) Proposal {
	p := Proposal{Incident: id, Server: u.identity.Server, Context: u.Context}
	for _, a := range list {
		c, ok := change.In(&a.Intent)
		if !ok {
			continue
		}
		action := steps.Action{Name: "undo " + a.Intent.Action, Summary: "undo: " + a.Intent.Summary,
			Command: c.UndoCommand(), Change: c, Diff: c.UndoDiff(), Targets: a.Intent.Targets}
		if n := len(p.Steps); n == 0 || p.Steps[n-1].Step.Name != a.Intent.Step {
			p.Steps = append(p.Steps, StepPlan{Step: steps.Info{Name: a.Intent.Step, Phase: a.Intent.Phase}})
		}
		last := &p.Steps[len(p.Steps)-1].Plan
		last.Actions = append(last.Actions, action)
	}
	return p
}

// one undoes one action and journals it.
func (u *undoing) one(ctx context.Context, a timeline.Action) ActionResult {
	started := u.Now()
	c, ok := change.In(&a.Intent)
	var err error
	r := ActionResult{Step: a.Intent.Step, Action: "undo " + a.Intent.Action, Targets: a.Intent.Targets,
		Summary: "undo: " + a.Intent.Summary}
	if ok {
		r.Object, r.Command = c.Object.String(), c.UndoCommand()
		if u.req.DryRun {
			r.Diff = c.UndoDiff()
		}
		u.tell(Event{Kind: Started, Step: r.Step, Action: r.Action, Text: r.Summary})
		r.Outcome, err = u.attempt(ctx, a, c)
	} else {
		r.Outcome, err = timeline.OutcomeFailed, fmt.Errorf("entry %d of the journal tells of no change that this "+
			"irctl knows: undo it with the version that wrote it, or by hand", a.Intent.Seq)
	}
	e := Event{Kind: Finished, Step: r.Step, Action: r.Action, Text: r.Summary, Err: err}
	if err != nil {
		r.err, r.Error = err, err.Error()
		e.failed(r.Outcome)
	}
	r.DurationMS = u.Now().Sub(started).Milliseconds()
	u.tell(e)
	return r
}

// tell is for what is done: a dry run does nothing, and its result says all.
func (u *undoing) tell(e Event) {
	if !u.req.DryRun {
		u.Front.Observe(e)
	}
}

func (u *undoing) attempt(ctx context.Context, a timeline.Action, c change.Change) (timeline.Outcome, error) {
	harm := u.held.keeps(c.Object, u.req.Despite,
		fmt.Sprintf("irctl undo --step %s --incident %s", a.Intent.Step, u.handle.Incident().ID))
	if harm != nil {
		harm = fmt.Errorf("not undone, since %w", harm)
	}
	if u.req.DryRun {
		if harm != nil {
			return timeline.OutcomeRefused, harm
		}
		err := c.DryRunUndo(ctx, u.Client.Dynamic, change.Contents(u.Client, created(u.handle)))
		if err != nil {
			return notDone(err), err
		}
		return timeline.OutcomeSkipped, nil
	}
	if ctx.Err() != nil {
		return timeline.OutcomeSkipped, fmt.Errorf("not begun: %w", context.Cause(ctx))
	}
	if harm == nil {
		if harm = u.harm(ctx, a, c); harm == nil {
			if err := u.agreed(u.handle, u.held, c.Object); err != nil {
				return timeline.OutcomeFailed, err
			}
		}
	}
	intent, err := u.handle.Log.Append(timeline.Entry{Kind: timeline.KindIntent, Undoes: a.Intent.Seq,
		Phase: a.Intent.Phase, Step: a.Intent.Step,
		Action: "undo " + a.Intent.Action, Object: a.Intent.Object, Targets: a.Intent.Targets, Summary: "undo: " +
			a.Intent.Summary,
		Command: c.UndoCommand()}.Carrying(a.Intent))
	if err != nil {
		return timeline.OutcomeFailed, fmt.Errorf("%s was not restored, since the journal could not be written: %w",
			c.Object, err)
	}
	if harm != nil {
		return held(harm), errors.Join(harm, appendOutcome(u.handle.Log, intent, held(harm), harm, 0))
	}
	started := u.Now()
	result, err := c.Undo(ctx, u.Client.Dynamic, change.Contents(u.Client, created(u.handle)))
	outcome := outcomeOf(result)
	if err != nil {
		outcome, err = settle(ctx, u.Client, c, change.Before, err)
	}
	if journalErr := appendOutcome(u.handle.Log, intent, outcome, err, u.Now().Sub(started)); journalErr != nil {
		return timeline.OutcomeUnknown, errors.Join(err,
			fmt.Errorf("undone: %s, but the outcome could not be journaled; running undo again is safe: %w", outcome,
				journalErr))
	}
	return outcome, err
}
