package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/steps"
	"irctl/internal/timeline"
)

// ActionResult is what came of one action.
type ActionResult struct {
	Step    string   `json:"step"`
	Action  string   `json:"action"`
	Object  string   `json:"object"`
	Targets []string `json:"targets,omitempty"`
	Summary string   `json:"summary"`
	Command string   `json:"command,omitempty"`
	// Diff is set by a dry run.
	Diff    []string         `json:"diff,omitempty"`
	Outcome timeline.Outcome `json:"outcome"`
	// Note says more of what came of it.
	Note       string `json:"note,omitempty"`
	Error      string `json:"error,omitempty"`
	DurationMS int64  `json:"durationMS"`

	err error
}

// Err is the error of an action that failed, for errors.As.
func (a ActionResult) Err() error { return a.err }

// run executes plans on one incident.
type run struct {
	*Engine
	handle *incident.Handle

	mu      sync.Mutex
	results []ActionResult
	failed  map[string]string // action ID → why
	done    int
	total   int
}

// execute does the actions of the plans: step after step, the actions of a
// step in parallel. An action that fails costs itself and what needs it.
func (r *run) execute(ctx context.Context, plans []StepPlan) {
	for _, p := range plans {
		r.total += len(p.Plan.Actions)
	}
	for _, p := range plans {
		cluster.Parallel(len(p.Plan.Actions), func(i int) {
			r.action(ctx, p.Step, p.Plan.Actions[i])
		})
	}
}

func (r *run) action(ctx context.Context, step steps.Info, a steps.Action) {
	started := r.Now()
	r.Front.Observe(Event{Kind: Started, Step: step.Name, Action: a.Name, Text: a.Summary, Total: r.total})
	outcome, note, err := r.attempt(ctx, step, a)
	res := ActionResult{Step: step.Name, Action: a.Name, Object: a.Change.Object.String(), Targets: a.Targets,
		Summary: a.Summary,
		Command: a.Command, Outcome: outcome, Note: note, DurationMS: r.Now().Sub(started).Milliseconds(), err: err}
	e := Event{Kind: Finished, Step: step.Name, Action: a.Name, Text: noted(a.Summary, note), Err: err, Total: r.total}
	if err != nil {
		res.Error = err.Error()
		e.failed(outcome)
	}
	r.mu.Lock()
	r.done++
	e.Done = r.done
	r.results = append(r.results, res)
	if err != nil {
		r.failed[a.ID] = res.Error
	}
	r.mu.Unlock()
	r.Front.Observe(e)
}

// attempt journals the intent, does the action, and journals the outcome.
func (r *run) attempt(ctx context.Context, step steps.Info, a steps.Action) (timeline.Outcome, string, error) {
	planned, err := r.recordOf(step, a)
	if err != nil {
		return timeline.OutcomeFailed, "", fmt.Errorf("journaling %s: %w", a.Summary, err)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return timeline.OutcomeSkipped, "", fmt.Errorf("not begun: %w", context.Cause(ctx)) // and nothing was refused
	}
	if why := r.unmet(a); why != "" {
		return r.notBegun(planned, timeline.OutcomeRefused,
			fmt.Errorf("not done, since what must come before it failed: %s", why))
	}
	if err := ctx.Err(); err != nil {
		return timeline.OutcomeSkipped, "", fmt.Errorf("not begun: %w", context.Cause(ctx))
	}
	if a.Guard != nil {
		r.Front.Observe(Event{Kind: Waiting, Step: step.Name, Action: a.Name, Text: a.Awaits})
		if err := a.Guard(ctx); err != nil {
			return r.notBegun(planned, held(err), fmt.Errorf("not done, %w", err))
		}
	}
	started := r.Now()
	intent, err := r.handle.Log.Append(planned)
	if err != nil {
		return timeline.OutcomeFailed, "", fmt.Errorf("%s was not changed, since the journal could not be written: %w",
			a.Change.Object, err)
	}
	done, outcome, err := r.perform(ctx, a)
	if journalErr := r.outcome(intent, done, outcome, err, r.Now().Sub(started)); journalErr != nil {
		advice := "`irctl undo` can reverse it"
		if a.Final || a.Undoes != 0 {
			advice = "the same command goes on from there"
		}
		return timeline.OutcomeUnknown, done.Note,
			errors.Join(err, fmt.Errorf("%s: %s, but the outcome could not be journaled (the intent is; %s): %w",
				a.Summary, outcome, advice, journalErr))
	}
	return outcome, done.Note, err
}

// recordOf is the intent of an action, with what the journal keeps of it.
func (r *run) recordOf(step steps.Info, a steps.Action) (timeline.Entry, error) {
	e := timeline.Entry{Kind: timeline.KindIntent, Phase: step.Phase, Step: step.Name, Action: a.Name,
		Object:  r.object(a.Change.Object),
		Targets: a.Targets, Summary: a.Summary, Command: a.Command, Final: a.Final, Undoes: a.Undoes}
	switch {
	case a.Do == nil, a.Undoes != 0:
		return e.With(a.Change.Record(r.identity.ClusterUID))
	case a.Record == nil:
		return e, nil
	}
	return e.With(a.Record())
}

// perform does the action: its Change, or what it does instead.
func (r *run) perform(ctx context.Context, a steps.Action) (steps.Result, timeline.Outcome, error) {
	if a.Do != nil {
		done, err := a.Do(ctx)
		if err != nil {
			return done, notDone(err), err
		}
		return done, outcomeOf(done.Result), nil
	}
	wanted := change.After
	var result change.Result
	var err error
	if a.Undoes != 0 {
		wanted = change.Before
		result, err = a.Change.Undo(ctx, r.Client.Dynamic, change.Contents(r.Client, created(r.handle)))
	} else {
		result, err = a.Change.Do(ctx, r.Client.Dynamic)
	}
	outcome := outcomeOf(result)
	if err != nil {
		outcome, err = settle(ctx, r.Client, a.Change, wanted, err)
	}
	return steps.Result{Result: result}, outcome, err
}

// failed makes it the event of an action that was not done, and says whose doing
// that was.
func (e *Event) failed(outcome timeline.Outcome) {
	e.Kind = Failed
	switch outcome {
	case timeline.OutcomeRefused:
		e.Kind = Refused
	case timeline.OutcomeDenied:
		e.Text += ": denied"
	}
}

// noted is a summary with what came of it.
func noted(summary, note string) string {
	if note == "" {
		return summary
	}
	return summary + ": " + note
}

// unmet says which action that a needs has failed.
func (r *run) unmet(a steps.Action) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range a.Needs {
		if why, failed := r.failed[id]; failed {
			return why
		}
	}
	return ""
}

// notBegun journals an action that was not tried, and why.
func (r *run) notBegun(planned timeline.Entry, outcome timeline.Outcome, why error) (timeline.Outcome, string, error) {
	intent, err := r.handle.Log.Append(planned)
	if err == nil {
		err = r.outcome(intent, steps.Result{}, outcome, why, 0)
	}
	return outcome, "", errors.Join(why, err)
}

// held is the outcome of an action whose guard did not let it pass. A rule of
// irctl's refuses; that the guard could not look, or waited in vain, does not.
func held(err error) timeline.Outcome {
	switch f := cluster.FailureOf(err); {
	case f.Kind == cluster.Interrupted:
		return timeline.OutcomeSkipped
	case f.Kind == cluster.Other:
		return timeline.OutcomeRefused
	}
	return notDone(err)
}

// notDone is the outcome of a call that failed, and was not made.
func notDone(err error) timeline.Outcome {
	switch {
	case change.Refuses(err):
		return timeline.OutcomeRefused
	case cluster.FailureOf(err).Denied():
		return timeline.OutcomeDenied
	}
	return timeline.OutcomeFailed
}

func (e *Engine) object(r cluster.Ref) *timeline.Object {
	return &timeline.Object{Cluster: e.identity.ClusterUID, APIVersion: r.APIVersion(), Kind: r.Kind,
		Namespace: r.Namespace, Name: r.Name, UID: string(r.UID)}
}

func (r *run) outcome(intent timeline.Entry, done steps.Result, outcome timeline.Outcome, err error,
	took time.Duration) error {
	e := outcomeEntry(intent, outcome, err, took)
	e.Summary = noted(e.Summary, done.Note)
	_, appendErr := r.handle.Log.AppendWith(e, done.Data)
	return appendErr
}

func appendOutcome(log *timeline.Log, intent timeline.Entry, outcome timeline.Outcome, err error,
	took time.Duration) error {
	_, appendErr := log.Append(outcomeEntry(intent, outcome, err, took))
	return appendErr
}

func outcomeEntry(intent timeline.Entry, outcome timeline.Outcome, err error, took time.Duration) timeline.Entry {
	e := timeline.Entry{Kind: timeline.KindOutcome, Intent: intent.Seq, Phase: intent.Phase, Step: intent.Step,
		Action: intent.Action,
		Object: intent.Object, Targets: intent.Targets, Summary: intent.Summary, Outcome: outcome,
		DurationMS: took.Milliseconds()}
	if err != nil {
		e.Error = err.Error()
	}
	return e
}

func outcomeOf(r change.Result) timeline.Outcome {
	if r == change.Done {
		return timeline.OutcomeDone
	}
	return timeline.OutcomeAlready
}

// settleTime bounds the look at an object after a call that failed without a
// clear answer; it runs also when the run itself was cancelled.
const settleTime = 3 * time.Second

// settle finds out what became of a change, or of undoing it, whose call
// failed: the server may have made it although its answer never came.
func settle(ctx context.Context, client *cluster.Client, c change.Change, wanted change.State,
	err error) (timeline.Outcome, error) {
	if change.Refuses(err) || !change.Passing(err) && !errors.Is(err, context.Canceled) {
		return notDone(err), err
	}
	lookCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	state, lookErr := c.Observe(lookCtx, client.Dynamic)
	switch {
	case lookErr != nil:
		return timeline.OutcomeUnknown, fmt.Errorf("whether it was done is not known: %w", err)
	case state == wanted:
		return timeline.OutcomeDone, nil
	case state == change.Drifted:
		return timeline.OutcomeUnknown, err
	}
	return timeline.OutcomeFailed, err
}

// resume settles what a killed process was at: for every intent without an
// outcome it looks at the object and journals what became of it.
func (e *Engine) resume(ctx context.Context, h *incident.Handle) error {
	pending := timeline.Pending(h.Log.Entries())
	errs := make([]error, len(pending))
	cluster.Parallel(len(pending), func(i int) { errs[i] = e.resolve(ctx, h, pending[i]) })
	return errors.Join(errs...)
}

func (e *Engine) resolve(ctx context.Context, h *incident.Handle, intent timeline.Entry) error {
	c, ok := change.In(&intent)
	if !ok {
		// Not a change to the cluster (a snapshot, say): it is simply unfinished.
		return appendOutcome(h.Log, intent, timeline.OutcomeFailed, errors.New("interrupted"), 0)
	}
	state, err := c.Observe(ctx, e.Client.Dynamic)
	if err != nil {
		return fmt.Errorf("finding out what became of an interrupted action (%s): %w", intent.Summary, err)
	}
	wanted, original := change.After, change.Before
	if intent.Undoes != 0 {
		wanted, original = original, wanted
	}
	e.Front.Observe(Event{Kind: Noticed, Step: intent.Step,
		Text: fmt.Sprintf("an earlier run was interrupted during: %s; found: %s", intent.Summary, state)})
	switch {
	case state == wanted, state == change.Missing && intent.Undoes != 0:
		return appendOutcome(h.Log, intent, timeline.OutcomeDone, nil, 0)
	case state == original, state == change.Missing:
		return appendOutcome(h.Log, intent, timeline.OutcomeFailed, errors.New("interrupted before it was done"), 0)
	}
	return appendOutcome(h.Log, intent, timeline.OutcomeUnknown,
		errors.New("interrupted, and the object was changed by someone else since"), 0)
}

// journalRefusals notes what a plan refuses: else nobody would know later that
// it was not forgotten. Said once, it is not said again.
func journalRefusals(h *incident.Handle, phase string, list []steps.Refusal) error {
	var errs []error
	for _, r := range list {
		e := timeline.Entry{Kind: timeline.KindObservation, Phase: phase, Step: r.Action, Action: "refused",
			Targets: r.Targets,
			Summary: "not done: " + r.Action, Outcome: timeline.OutcomeRefused, Error: r.Reason}
		if r.Object != "" {
			e.Summary += ": " + r.Object
		}
		errs = append(errs, noteOnce(h, e))
	}
	return errors.Join(errs...)
}

// noteOnce appends an observation, unless the journal has it.
func noteOnce(h *incident.Handle, e timeline.Entry) error {
	for _, known := range h.Log.Entries() {
		if known.Kind == e.Kind && known.Phase == e.Phase && known.Step == e.Step && known.Action == e.Action &&
			known.Summary == e.Summary && known.Error == e.Error {
			return nil
		}
	}
	if _, err := h.Log.Append(e); err != nil {
		return fmt.Errorf("%s: it could not be journaled: %w", e.Summary, err)
	}
	return nil
}
