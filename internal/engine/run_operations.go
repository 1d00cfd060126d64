package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"irctl/internal/change"
	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/runbook"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// operation is something that a step of a runbook can use: an existing
// capability of the engine behind the words of a runbook. To add one: a file
// run_NAME.go, and a line below.
type operation struct {
	runbook.Signature
	do func(ctx context.Context, w *work) (outcome, error)
	// plan says what do would do; nil: describe says it.
	plan func(ctx context.Context, w *work) (outcome, error)
	// describe is one line, or some more, on what it would do.
	describe func(in runbook.Inputs) string
	// plans: what it does is shown as a plan, and asked about as such.
	plans bool
	// asks: it puts its own question, and there is nothing to ask before that.
	asks bool
	// intrusive tells inputs that leave traces, so that a person is asked; nil:
	// none do.
	intrusive func(in runbook.Inputs) bool
	// seals: it seals evidence. Of a plan the proposal tells that.
	seals bool
}

// operations are all there are. A function, since they refer to the engine
// and that to them.
func operations() []*operation {
	return []*operation{detectOperation(), containOperation(), undoOperation(), statusOperation(), snapshotOperation(),
		investigateOperation(),
		eradicateOperation(), restoreOperation(), releaseOperation(), monitorOperation(), reportOperation(),
		manualOperation(), commandOperation(), noteOperation(), closeOperation()}
}

// Operations are what runbooks can use, for lint and documentation.
func Operations() []runbook.Signature {
	var all []runbook.Signature
	for _, op := range operations() {
		all = append(all, op.Signature)
	}
	return all
}

func operationOf(s *runbook.Step) *operation {
	list := operations()
	// The runbook was checked against Operations when it was loaded.
	return list[slices.IndexFunc(list, func(op *operation) bool { return op.Name == s.Uses })]
}

// outcome is what came of an operation.
type outcome struct {
	// summary is one line.
	summary string
	results map[string]any
	// detail is the result as the operation's own command gives it.
	detail any
	// skipped: it was not done; passed: somebody decided so, and the run goes on.
	skipped, passed bool
	// left is what of it only a person can do, or has to: it was done in part.
	left []string
	// halted: a person stopped the run here, whatever onError says.
	halted bool
	// closed: the incident is closed, so nothing is to be journaled any more.
	closed bool
}

// result is that of the step. What was refused is told from what failed.
func (o outcome) result(err error) StepResult {
	res := StepResult{Outcome: stepDone, passed: true, Summary: o.summary, Results: o.results}
	switch {
	case err != nil:
		res.Outcome, res.passed, res.err, res.Error = stepFailed, false, err, err.Error()
		if errors.Is(err, ErrRefused) {
			res.Outcome = stepRefused
		}
		if res.Summary == "" {
			res.Summary = res.Outcome
		}
	case o.skipped:
		res.Outcome, res.passed, res.halted = stepSkipped, o.passed, o.halted
	case len(o.left) > 0:
		res.Outcome, res.passed, res.Left = stepPartial, false, o.left
	}
	return res
}

func constantly(text string) func(runbook.Inputs) string {
	return func(runbook.Inputs) string { return text }
}

func undoOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "undo", Asks: true, Doc: "Put back what was changed, exactly, last first; " +
			"what somebody else changed since is left, and refused. As irctl undo --all.",
			Inputs: []runbook.Field{
				{Name: "step", Domain: runbook.OneOf(UndoSteps...),
					Doc: "Only what this step of containment or eradication changed; else everything."},
				{Name: "allowEvidenceLoss", Domain: runbook.Of(runbook.Boolean),
					Doc: "Hand a suspect back also to a controller that would delete it."},
			},
			Results: []runbook.Result{
				{Name: "undone", Domain: runbook.Of(runbook.Integer), Doc: "How many changes were put back."},
				{Name: "left", Domain: runbook.Of(runbook.Integer), Doc: "How many were not."},
			}},
		plans: true,
		describe: func(in runbook.Inputs) string {
			if step := in.Text("step"); step != "" {
				return "undo what the step " + step + " changed"
			}
			return "undo all changes of the incident"
		},
		do:   doUndo,
		plan: planUndo,
	}
}

func (w *work) undo(ctx context.Context, dryRun bool) (*UndoResult, error) {
	open := func() (*incident.Handle, error) { return w.Store.Open(ctx, w.id, w.Actor()) }
	if dryRun {
		open = func() (*incident.Handle, error) { return w.Store.Look(w.id) }
	}
	h, err := open()
	if err != nil {
		return nil, err
	}
	step := w.in.Text("step")
	res, err := w.engine.Undo(ctx, h, UndoRequest{All: step == "", Step: step,
		AllowEvidenceLoss: w.in.Yes("allowEvidenceLoss", false), DryRun: dryRun})
	return res, errors.Join(err, h.Close())
}

// planUndo shows what would be put back of what stands now: what this run has
// not changed yet is not among it.
func planUndo(ctx context.Context, w *work) (outcome, error) {
	if w.id == "" {
		return outcome{summary: "put back what this run will have changed by then"}, nil
	}
	res, err := w.undo(ctx, true)
	if err != nil {
		return outcome{}, err
	}
	var first error
	for _, a := range res.Actions {
		first = firstOf(first, a)
	}
	return outcome{summary: fmt.Sprintf("%d changes would be undone, of those that stand now", len(res.Actions)),
		detail: res}, first
}

func doUndo(ctx context.Context, w *work) (outcome, error) {
	res, err := w.undo(ctx, false)
	if err != nil {
		return outcome{}, err
	}
	if res.Cancelled {
		return outcome{summary: "not undone", detail: res}, fmt.Errorf("%w: the answer was no", ErrRefused)
	}
	undone, left := 0, 0
	var first error
	for _, a := range res.Actions {
		switch {
		case a.err == nil:
			undone++
		default:
			left++
			first = firstOf(first, a)
		}
	}
	return outcome{summary: fmt.Sprintf("%d changes undone, %d left", undone, left), detail: res,
		results: map[string]any{"undone": int64(undone), "left": int64(left)}}, first
}

// firstOf keeps the first error; of an action that was refused it is a refusal.
func firstOf(first error, a ActionResult) error {
	switch {
	case first != nil || a.err == nil:
		return first
	case a.Outcome == timeline.OutcomeRefused:
		return fmt.Errorf("%w: %s: %w", ErrRefused, a.Summary, a.err)
	}
	return fmt.Errorf("%s: %w", a.Summary, a.err)
}

func statusOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "status",
			Doc: "Look whether the containment still holds. As irctl status; it changes nothing.",
			Results: []runbook.Result{
				{Name: "verdict", Domain: verdicts(),
					Doc: "The verdict as the cluster is now; empty if nothing is contained."},
				{Name: "holds", Domain: runbook.Of(runbook.Boolean), Doc: "Every change stands as irctl left it."},
				{Name: "standing", Domain: runbook.Of(runbook.Integer), Doc: "How many changes stand."},
				{Name: "open", Domain: runbook.ListOf(runbook.String),
					Doc: "Codes of what is open, as of irctl contain."},
			}},
		describe: constantly("look whether the containment still holds"),
		do:       doStatus,
		plan:     planStatus,
	}
}

func verdicts() runbook.Domain {
	return runbook.OneOf(string(contain.Contained), string(contain.Exposed), string(contain.NotContained),
		string(contain.Undetermined))
}

// doStatus puts the verdict down, so that the report tells what was open in the
// end, not only what was open at first.
func doStatus(ctx context.Context, w *work) (outcome, error) {
	started := w.Now()
	out, err := lookAtStatus(ctx, w)
	res, ok := out.detail.(*StatusResult)
	if err != nil || !ok || res.Verdict == "" || res.Verdict == contain.Undetermined && len(res.Targets) == 0 ||
		ctx.Err() != nil {
		return out, err
	}
	return out, w.journal(ctx, func(h *incident.Handle) error {
		return appendVerdict(h, res.assessment(), "status", w.Now().Sub(started))
	})
}

func lookAtStatus(ctx context.Context, w *work) (outcome, error) {
	i, err := w.Store.Load(w.id)
	if err != nil {
		return outcome{}, err
	}
	entries, err := w.Store.Entries(w.id)
	if err != nil {
		return outcome{}, err
	}
	looking, cancel := w.engine.within(ctx)
	defer cancel()
	res := w.engine.Status(looking, i, entries)
	holds := !slices.ContainsFunc(res.Standing, func(c StandingChange) bool { return c.State != change.After })
	summary := "nothing is contained"
	if res.Verdict != "" {
		summary = fmt.Sprintf("%s, %d changes stand", res.Verdict, len(res.Standing))
	}
	if why := res.unknown(); res.Verdict == contain.Undetermined && why != "" {
		summary += ": " + why
	}
	return outcome{summary: summary, detail: res,
		results: map[string]any{"verdict": string(res.Verdict), "holds": holds,
			"standing": int64(len(res.Standing)), "open": openCodes(res.Targets)}}, nil
}

// unknown is the first thing that kept it from being told how the incident stands.
func (r *StatusResult) unknown() string {
	for _, f := range r.Targets {
		for _, c := range f.Checks {
			if c.Unknown {
				return c.Text
			}
		}
	}
	for _, c := range r.Standing {
		if c.Error != "" {
			return c.Error
		}
	}
	return ""
}

func planStatus(ctx context.Context, w *work) (outcome, error) {
	if w.id == "" {
		return outcome{summary: "look whether the containment still holds"}, nil
	}
	return lookAtStatus(ctx, w)
}

// openCodes are the codes of the exposures that weigh in the verdict.
func openCodes(findings []contain.Finding) []string {
	codes := []string{}
	for _, f := range findings {
		for _, e := range f.Exposures {
			if e.Severity != contain.Note {
				codes = append(codes, e.Code)
			}
		}
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

func noteOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "note", Doc: "Write a note into the timeline.",
			Inputs: []runbook.Field{{Name: "text", Domain: runbook.Of(runbook.Text), Required: true,
				Doc: "What is noted."}}},
		describe: func(in runbook.Inputs) string { return "note: " + in.Text("text") },
		do: func(ctx context.Context, w *work) (outcome, error) {
			text := w.in.Text("text")
			return outcome{summary: "noted"}, w.journal(ctx, func(h *incident.Handle) error {
				if alreadyNoted(h.Log.Entries(), w.step.Name, text) {
					return nil
				}
				_, err := h.Log.Append(timeline.Entry{Kind: timeline.KindNote, Step: w.step.Name, Summary: text})
				return err
			})
		},
	}
}

// alreadyNoted: a process that was killed right after it wrote the note.
func alreadyNoted(entries []timeline.Entry, step, text string) bool {
	return slices.ContainsFunc(entries, func(e timeline.Entry) bool {
		return e.Kind == timeline.KindNote && e.Step == step && e.Summary == text
	})
}

func closeOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "close", Asks: true, Last: true, Doc: "Close the incident. The run is " +
			"over with it, so nothing can come after it unless it has a condition: a false alarm, say.",
			Inputs: []runbook.Field{
				{Name: "note", Domain: runbook.Of(runbook.Text), Doc: "Why, for the timeline."},
				{Name: "leaveStanding", Domain: runbook.Of(runbook.String),
					Doc: "Why containment may be left in the cluster. " +
						"Without it, closing is refused while something of it stands: " +
						"a quarantine, a detached suspect, a workload at zero, a cordoned node, a suspended " +
						"controller. " +
						"What recovery decided to keep does not count."},
			}},
		describe: constantly("close the incident"),
		do:       doClose,
	}
}

func doClose(ctx context.Context, w *work) (outcome, error) {
	req := CloseRequest{Note: w.in.Text("note"), LeaveStanding: w.in.Text("leaveStanding")}
	summary := "the incident is closed"
	w.engine.begin(Changing, w.id)
	err := w.journal(ctx, func(h *incident.Handle) error {
		c := w.engine.lookToClose(ctx, h)
		if err := c.refusal(w.id, req); err != nil {
			return err
		}
		if n := len(c.Containment); n > 0 {
			summary += fmt.Sprintf(", with %s of containment left standing", plural.Count(n, "change"))
		}
		// The closing comes last: what is killed in between goes on from here.
		if !w.past.ended {
			if err := w.append(h, runRecord{Event: runEnded}, w.conclusion()); err != nil {
				return err
			}
		}
		return c.record(h, req)
	})
	if err != nil {
		return outcome{}, err
	}
	w.closed = true
	return outcome{summary: summary, closed: true}, nil
}
