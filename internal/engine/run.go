package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"irctl/internal/incident"
	"irctl/internal/report"
	"irctl/internal/runbook"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// RunRequest says which runbook to go through, and with what.
type RunRequest struct {
	Runbook *runbook.Runbook
	// Given are the parameters as they were given; what is missing is asked for.
	Given map[string]string
	// Namespace completes references without one.
	Namespace string
	// Incident is the one to work in; "" goes on with the open one in which this
	// runbook is under way, or joins the open one of the same pods, or opens one.
	Incident incident.ID
	// Title and Severity of an incident that is opened.
	Title    string
	Severity incident.Severity
	// DryRun shows the whole plan and changes nothing.
	DryRun bool
	// AcceptChanged goes on with a runbook that was changed since it began.
	AcceptChanged bool
	// Guide approves, answers and is told.
	Guide Guide
	// StepByStep asks before every step, not only before those that change something.
	StepByStep bool
	// Unattended: nobody will answer; it is what conditions read.
	Unattended bool
	// Snapshot and EvidenceNote are as of ContainRequest.
	Snapshot     Snapshot
	EvidenceNote string
	// Evidence is how bundles are sealed; nil: there are no recipients.
	Evidence *Sealing
	// Environ is the environment of which commands are given a part.
	Environ []string
	// Contacts and Tool are for reports.
	Contacts []report.Contact
	Tool     string
}

// RunResult is what came of a run. Its JSON form is documented and stable.
type RunResult struct {
	Incident  string         `json:"incident,omitempty"`
	Opened    bool           `json:"opened"`
	Resumed   bool           `json:"resumed"`
	DryRun    bool           `json:"dryRun,omitempty"`
	Directory string         `json:"directory,omitempty"`
	Runbook   RunbookRef     `json:"runbook"`
	Params    map[string]any `json:"params"`
	State     RunState       `json:"state"`
	// Stopped is the step at which it stopped.
	Stopped string `json:"stopped,omitempty"`
	// Verdict is the last one on the suspects; empty: there was none.
	Verdict contain.Verdict `json:"verdict,omitempty"`
	// Accepted is how many findings weigh no more in it, since somebody accepted them.
	Accepted int          `json:"accepted,omitempty"`
	Steps    []StepResult `json:"steps"`
	// Left is what is left to a person, a line each.
	Left []string `json:"left"`
	// Assumed are decisions that the runbook took itself, since nobody was there.
	Assumed []string `json:"assumed,omitempty"`
}

// RunbookRef names a runbook, and the very one.
type RunbookRef struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
	Source  string `json:"source"`
}

// RunState is how a run ended.
type RunState string

// The states of a run.
const (
	// RunFinished: no step is left to do.
	RunFinished RunState = "finished"
	// RunStopped: the same command goes on where it stopped.
	RunStopped RunState = "stopped"
	// RunPlanned: it was a dry run.
	RunPlanned RunState = "planned"
)

// StepResult is what came of a step.
type StepResult struct {
	Phase string `json:"phase"`
	Name  string `json:"name"`
	Uses  string `json:"uses"`
	Title string `json:"title"`
	// Outcome is done, partial, failed, refused or skipped.
	Outcome string `json:"outcome"`
	// NotNeeded: its condition did not hold.
	NotNeeded bool `json:"notNeeded,omitempty"`
	// When is the condition that decides, in a dry run, only during the run.
	When    string         `json:"when,omitempty"`
	Summary string         `json:"summary,omitempty"`
	Error   string         `json:"error,omitempty"`
	Results map[string]any `json:"results,omitempty"`
	// Left is what of the step is left to a person.
	Left []string `json:"left,omitempty"`
	// Detail is the result of the operation as its own command gives it.
	Detail any `json:"detail,omitempty"`
	// Earlier: it was done before this process took up the run.
	Earlier    bool  `json:"earlier,omitempty"`
	DurationMS int64 `json:"durationMS"`

	passed bool
	halted bool // by a person
	err    error
}

// The outcomes of a step.
const (
	stepDone    = "done"
	stepPartial = "partial"
	stepFailed  = "failed"
	stepRefused = "refused"
	stepSkipped = "skipped"
)

// Err is the error of a step that failed, for errors.As.
func (s StepResult) Err() error { return s.err }

// Done tells that nothing of the step is left to be done.
func (s StepResult) Done() bool { return s.Outcome == stepDone || s.NotNeeded }

// The kinds of events that a run adds.
const (
	// Entered: a step begins; Action is its phase, Done and Total count the steps.
	Entered EventKind = "entered"
	// Ready: Inputs of the step are known, and it is asked about next.
	Ready EventKind = "ready"
	// Left: a step ended; Err is set if it was not done.
	Left EventKind = "left"
)

// runner is one process's part in a run.
type runner struct {
	*Engine  // its front end is the guide
	req      RunRequest
	book     *runbook.Runbook
	id       incident.ID
	severity incident.Severity
	session  string
	past     progress
	edits    map[string]map[string]any // inputs of steps that a person changed
	params   map[string]any
	facts    runbook.Facts
	closed   bool // the incident, by a step
	result   *RunResult
}

// Run goes through a runbook. Every step is journaled before and after, so
// that a run that was killed, or stopped, goes on where it was: the same
// request does it. The error is what kept it from running; what failed within
// it is in the result.
func (e *Engine) Run(ctx context.Context, req RunRequest) (*RunResult, error) {
	guided := *e
	guided.Front = req.Guide
	tellWaits(e.Client, req.Guide)
	b := req.Runbook
	r := &runner{Engine: &guided, req: req, book: b, result: &RunResult{DryRun: req.DryRun, State: RunStopped,
		Steps: []StepResult{}, Left: []string{}, Params: map[string]any{},
		Runbook: RunbookRef{Name: b.Name, Version: b.Version, SHA256: b.SHA256, Source: b.Source}},
		edits: map[string]map[string]any{}}
	if err := r.join(ctx); err != nil {
		return r.result, err
	}
	r.result.Incident = string(r.id)
	r.facts = b.Facts(r.params, runbook.Ambient{Incident: string(r.id), Severity: string(r.severity),
		Unattended: req.Unattended})
	if req.DryRun {
		return r.result, r.rehearse(ctx)
	}
	err := r.walk(ctx)
	r.result.Left = r.leftovers()
	return r.result, err
}

// leftovers are what is left to a person of the steps so far.
func (r *runner) leftovers() []string {
	list := []string{}
	for _, s := range r.result.Steps {
		for _, what := range s.Left {
			list = append(list, fmt.Sprintf("%s/%s: %s", s.Phase, s.Name, what))
		}
	}
	if v := r.result.Verdict; v != "" && v != contain.Contained {
		list = append(list, fmt.Sprintf("the verdict is %q: irctl status %s says what is open", v, r.id))
	}
	return list
}

// walk goes through the phases.
func (r *runner) walk(ctx context.Context) error {
	n := 0
	for i := range r.book.Phases {
		phase := &r.book.Phases[i]
		for j := range phase.Steps {
			n++
			goOn, err := r.step(ctx, &phase.Steps[j], n)
			switch {
			case err != nil || !goOn:
				r.result.Stopped = phase.Steps[j].Name
				return err
			case r.closed:
				r.result.State = RunFinished
				return nil
			}
		}
		if err := r.endPhase(ctx, phase); err != nil {
			return err
		}
	}
	r.result.State = RunFinished
	if r.past.ended {
		return nil
	}
	return r.journal(ctx, func(h *incident.Handle) error {
		return r.append(h, runRecord{Event: runEnded}, r.conclusion())
	})
}

// conclusion is the entry that ends a run.
func (r *runner) conclusion() timeline.Entry {
	return timeline.Entry{Summary: fmt.Sprintf("runbook %s %s is gone through", r.book.Name, r.book.Version)}
}

// step does one step, unless it is done already, and says whether to go on.
func (r *runner) step(ctx context.Context, s *runbook.Step, n int) (goOn bool, err error) {
	if rec := r.past.steps[s.Name]; rec.Passed {
		r.recall(s, rec)
		return true, nil
	}
	r.Front.Observe(r.entered(s, n))
	for {
		started := r.Now()
		res, err := r.attempt(ctx, s)
		if err != nil {
			return false, err
		}
		res.DurationMS = r.Now().Sub(started).Milliseconds()
		r.Front.Observe(r.left(s, res))
		if res.passed {
			r.keep(s, res)
			return true, nil
		}
		switch choice, err := r.afterFailure(ctx, s, res); {
		case choice == AnswerRetry:
			r.past.begun[s.Name]++ // what the attempt did counts as that of an earlier process
		case choice == AnswerContinue && err == nil:
			r.keep(s, res)
			return true, r.journal(ctx, func(h *incident.Handle) error {
				return r.append(h, runRecord{Event: stepPassed, Phase: string(s.Phase()), Step: s.Name, Uses: s.Uses},
					timeline.Entry{Summary: fmt.Sprintf("the run goes on, although this was %s: %s", res.Outcome,
						s.Label())})
			})
		default:
			r.keep(s, res)
			return false, err
		}
	}
}

func (r *runner) entered(s *runbook.Step, n int) Event {
	return Event{Kind: Entered, Step: s.Name, Action: string(s.Phase()), Text: s.Label(), Done: n,
		Total: len(r.book.Steps())}
}

func (r *runner) left(s *runbook.Step, res StepResult) Event {
	res = res.of(s)
	return Event{Kind: Left, Step: s.Name, Action: string(s.Phase()), Text: res.Summary, Err: res.err, Result: &res}
}

// of is the result with the names of its step.
func (s StepResult) of(step *runbook.Step) StepResult {
	s.Phase, s.Name, s.Uses, s.Title = string(step.Phase()), step.Name, step.Uses, step.Label()
	return s
}

// recall takes what an earlier process did.
func (r *runner) recall(s *runbook.Step, rec runRecord) {
	r.keep(s, StepResult{Outcome: rec.Outcome, NotNeeded: rec.NotNeeded, Results: rec.Results, Left: rec.Left,
		Earlier: true, Summary: rec.Outcome + " earlier"})
}

// keep adds a result, and makes it known to conditions.
func (r *runner) keep(s *runbook.Step, res StepResult) {
	res = res.of(s)
	r.facts.Record(s, res.Outcome, res.Results)
	r.judge(s, res)
	if by, _ := res.Results["by"].(string); by == byRunbook {
		r.result.Assumed = append(r.result.Assumed,
			fmt.Sprintf("%s/%s: %v", res.Phase, res.Name, res.Results["answer"]))
	}
	r.result.Steps = append(r.result.Steps, res)
	r.facts.Leave(len(r.leftovers()))
}

// judge takes down the last verdict on the suspects. Once nothing is contained
// any more there is none.
func (r *runner) judge(s *runbook.Step, res StepResult) {
	v, told := res.Results["verdict"].(string)
	known := slices.Contains([]contain.Verdict{contain.Contained, contain.Exposed, contain.NotContained,
		contain.Undetermined}, contain.Verdict(v))
	onSuspects := s.Uses == "contain" || s.Uses == "status" // what a recovery says has the same words
	if known && onSuspects || told && v == "" && s.Uses == "status" && res.Outcome == stepDone {
		r.result.Verdict = contain.Verdict(v)
		switch d := res.Detail.(type) {
		case *ContainResult:
			r.result.Accepted = Accepted(d.Targets, d.Unsettled)
		case *StatusResult:
			r.result.Accepted = Accepted(d.Targets, d.Unsettled)
		}
	}
}

// attempt does a step once: condition, inputs, consent, journal, work, journal.
// A person who changes the inputs is shown and asked again.
func (r *runner) attempt(ctx context.Context, s *runbook.Step) (StepResult, error) {
	if res := r.notNeeded(ctx, s); res != nil {
		return r.end(ctx, s, *res, nil)
	}
	for {
		in, err := s.Inputs(ctx, r.facts)
		if err == nil {
			in, err = s.Edited(in, r.edits[s.Name])
		}
		if err != nil {
			return r.end(ctx, s, failure(err), nil)
		}
		res, err := r.once(ctx, s, in)
		var instead *Instead
		switch {
		case errors.As(err, &instead) && instead.Choice == AnswerEdit:
			if err := r.edit(s, in, instead.Inputs); err != nil {
				r.Front.Observe(Event{Kind: Noticed, Step: s.Name, Text: err.Error(), Err: err})
			}
		default:
			return res, err
		}
	}
}

// edit keeps inputs that a person changed, if the step can be done with them.
func (r *runner) edit(s *runbook.Step, in runbook.Inputs, changed map[string]string) error {
	all := maps.Clone(r.edits[s.Name])
	if all == nil {
		all = map[string]any{}
	}
	for name, text := range changed {
		if text == "" {
			delete(all, name)
			continue
		}
		v, err := s.ParseInput(name, text, r.req.Namespace)
		if err != nil {
			return err
		}
		all[name] = v
	}
	if _, err := s.Edited(in, all); err != nil {
		return err
	}
	r.edits[s.Name] = all
	return nil
}

// once does a step with these inputs, unless a person wants something else.
func (r *runner) once(ctx context.Context, s *runbook.Step, in runbook.Inputs) (StepResult, error) {
	op := operationOf(s)
	r.Front.Observe(Event{Kind: Ready, Step: s.Name, Action: string(s.Phase()), Text: op.describe(in), Inputs: in})
	if skipped, err := r.consent(ctx, s, op, in); err != nil {
		return StepResult{}, err
	} else if skipped != nil {
		return r.end(ctx, s, *skipped, nil)
	}
	if err := r.journal(ctx, func(h *incident.Handle) error {
		rec := runRecord{Event: stepBegun, Phase: string(s.Phase()), Step: s.Name, Uses: s.Uses,
			Inputs: untold(op, in.Plain()), Edited: sortedKeys(r.edits[s.Name])}
		return r.append(h, rec, timeline.Entry{Summary: s.Label()})
	}); err != nil {
		return StepResult{}, err
	}
	engine := *r.Engine
	if s.Limit() > 0 {
		engine.Timeout = s.Limit()
	}
	engine.Asked = Asked{From: fmt.Sprintf("runbook %s, step %s", r.book.Name, s.Name)}
	if !s.Asks() {
		engine.Front = consent{engine.Front}
	}
	did, err := op.do(ctx, &work{runner: r, engine: &engine, step: s, in: in})
	var instead *Instead
	switch {
	case errors.Is(err, ErrPaused):
		return StepResult{}, err
	case errors.As(err, &instead) && instead.Choice == AnswerSkip:
		return r.end(ctx, s, *leftOut(instead.Answer), nil)
	case instead != nil:
		return StepResult{}, err
	}
	if did.closed {
		return StepResult{Outcome: stepDone, Summary: did.summary, passed: true}, err
	}
	return r.end(ctx, s, did.result(err), did.detail)
}

// given is what the journal keeps of an input that may hold a secret.
const given = "given"

// untold are inputs as the journal keeps them.
func untold(op *operation, inputs map[string]any) map[string]any {
	for _, f := range op.Inputs {
		if _, ok := inputs[f.Name]; ok && f.Secret {
			inputs[f.Name] = given
		}
	}
	return inputs
}

// notNeeded is the result of a step whose condition does not hold, or cannot
// be evaluated; nil if the step is to be done.
func (r *runner) notNeeded(ctx context.Context, s *runbook.Step) *StepResult {
	if s.Condition() == nil {
		return nil
	}
	holds, err := s.Condition().Holds(ctx, r.facts)
	if err != nil {
		res := failure(err)
		return &res
	}
	if holds {
		return nil
	}
	return &StepResult{Outcome: stepSkipped, NotNeeded: true, passed: true,
		Summary: "not needed, since this does not hold: " + s.Condition().String()}
}

func failure(err error) StepResult {
	return StepResult{Outcome: stepFailed, Summary: "failed", Error: err.Error(), err: err}
}

// consent asks whether to do a step; what makes a plan is asked about with it.
// skipped is the result of one that a person leaves out.
func (r *runner) consent(ctx context.Context, s *runbook.Step, op *operation, in runbook.Inputs) (skipped *StepResult,
	err error) {
	intrusive := op.intrusive != nil && s.Confirm == nil && op.intrusive(in)
	kind := AskConfirm
	if !s.Asks() && !intrusive {
		kind = AskStep
	}
	if op.plans || op.asks || kind == AskStep && !r.req.StepByStep {
		return nil, nil
	}
	a, err := r.req.Guide.Ask(ctx, Question{Kind: kind, Step: s, Text: op.describe(in),
		Choices: []string{AnswerDo, AnswerSkip, AnswerStop}, Inputs: in, Seals: op.seals && r.req.Evidence != nil})
	switch {
	case err == nil && a.Choice == AnswerEdit:
		return nil, &Instead{a}
	case err != nil:
		return nil, err
	case a.Choice == AnswerDo:
		return nil, nil
	case a.Choice == AnswerSkip:
		return leftOut(a), nil
	}
	return nil, fmt.Errorf("%w: the run was stopped at step %s; the same command goes on there", ErrRefused, s.Name)
}

// leftOut is the result of a step that a person decided to leave out.
func leftOut(a Answer) *StepResult {
	return &StepResult{Outcome: stepSkipped, passed: true, Summary: join("left out", a),
		Results: map[string]any{"by": a.By, "note": a.Note}}
}

// join puts together what was said, by whom, and why.
func join(what string, a Answer) string {
	if a.By != "" {
		what += " by " + a.By
	}
	if a.Note != "" {
		what += ": " + a.Note
	}
	return what
}

// end journals what came of a step.
func (r *runner) end(ctx context.Context, s *runbook.Step, res StepResult, detail any) (StepResult, error) {
	res.Results, res.Detail = plainMap(res.Results), detail
	if !res.passed && len(res.Left) == 0 {
		res.Left = []string{s.Label() + ": " + res.told()}
	}
	rec := runRecord{Event: stepEnded, Phase: string(s.Phase()), Step: s.Name, Uses: s.Uses, Outcome: res.Outcome,
		NotNeeded: res.NotNeeded,
		Passed:    res.passed, Left: res.Left, Results: res.Results}
	if short, ok := detail.(journaled); ok {
		rec.Detail = short.inJournal()
	}
	err := r.journal(context.WithoutCancel(ctx), func(h *incident.Handle) error {
		e := timeline.Entry{Summary: s.Label() + ": " + res.Summary, Outcome: timeline.Outcome(res.Outcome),
			Error: res.Error}
		if res.Outcome == stepPartial {
			e.Outcome, e.Error = timeline.OutcomeSkipped, "left to a person: "+strings.Join(res.Left, "; ")
		}
		return r.append(h, rec, e)
	})
	return res, err
}

// told is what there is to say of it.
func (s StepResult) told() string {
	if s.Error != "" {
		return s.Error
	}
	return s.Summary
}

// journaled is a detail of which the journal is to know.
type journaled interface{ inJournal() any }

// afterFailure decides how to go on after a step that was not done.
func (r *runner) afterFailure(ctx context.Context, s *runbook.Step, res StepResult) (choice string, err error) {
	stopped := res.err
	if stopped == nil {
		stopped = errors.New(res.Summary)
	}
	if res.halted || ctx.Err() != nil {
		return AnswerStop, nil
	}
	switch s.Handling() {
	case runbook.Continue:
		return AnswerContinue, nil
	case runbook.Ask:
		a, err := r.req.Guide.Ask(ctx, Question{Kind: AskFailed, Step: s, Text: stopped.Error(),
			Choices: []string{AnswerRetry, AnswerContinue, AnswerStop}})
		if err == nil {
			return a.Choice, nil
		}
		if !errors.Is(err, ErrUnattended) {
			return AnswerStop, err
		}
	}
	return AnswerStop, nil
}

// journal has the incident's lock for as long as an entry takes: between the
// steps, and while a person is at work, others can write into the timeline. If
// another process took up the run meanwhile, this one stops.
func (r *runner) journal(ctx context.Context, write func(*incident.Handle) error) error {
	h, err := r.Store.Open(ctx, r.id, r.Actor())
	if err != nil {
		return err
	}
	if p := progressOf(h.Log.Entries(), r.book.Name); p.session != r.session {
		err = fmt.Errorf("%w: another irctl has taken up this run of %s in incident %s; this one stops", ErrRefused,
			r.book.Name, r.id)
	} else {
		err = write(h)
	}
	return errors.Join(err, h.Close())
}

// endPhase says whether a phase reached its aim, of those whose steps have no
// verdict of their own: it is from this that the times to eradicate and to
// recover are known.
func (r *runner) endPhase(ctx context.Context, phase *runbook.Phase) error {
	if phase.Name != runbook.Eradicate && phase.Name != runbook.Recover || r.past.phases[phase.Name] {
		return nil
	}
	var open []string
	needed := false
	for _, s := range r.result.Steps {
		if s.Phase != string(phase.Name) {
			continue
		}
		needed = needed || !s.NotNeeded
		if !s.Done() {
			open = append(open, s.Name)
		}
	}
	if !needed {
		return nil
	}
	e := timeline.Entry{Kind: timeline.KindVerdict, Outcome: timeline.OutcomeDone,
		Summary: fmt.Sprintf("%s: all steps of the runbook are done", phase.Name)}
	if len(open) > 0 {
		e.Outcome, e.Summary = timeline.OutcomeFailed,
			fmt.Sprintf("%s: not all is done: %s", phase.Name, strings.Join(open, ", "))
	}
	return r.journal(ctx, func(h *incident.Handle) error {
		return r.append(h, runRecord{Event: phaseEnded, Phase: string(phase.Name)}, e)
	})
}

// rehearse shows what each step would do.
func (r *runner) rehearse(ctx context.Context) error {
	r.result.State = RunPlanned
	for n, s := range r.book.Steps() {
		r.Front.Observe(r.entered(s, n+1))
		started := r.Now()
		res := r.rehearseStep(ctx, s)
		res.DurationMS = r.Now().Sub(started).Milliseconds()
		r.result.Steps = append(r.result.Steps, res)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

func (r *runner) rehearseStep(ctx context.Context, s *runbook.Step) StepResult {
	res := StepResult{Outcome: stepSkipped}
	op := operationOf(s)
	switch in, err := s.Inputs(ctx, r.facts); {
	case r.past.steps[s.Name].Passed:
		res.Outcome, res.Earlier, res.Summary = r.past.steps[s.Name].Outcome, true, r.past.steps[s.Name].Outcome+
			" earlier"
	case s.Condition() != nil && s.Condition().Static() && r.notNeeded(ctx, s) != nil:
		res = *r.notNeeded(ctx, s)
	case err != nil:
		res = failure(err)
	case op.plan == nil:
		res.Summary = op.describe(in)
	default:
		did, err := op.plan(ctx, &work{runner: r, engine: r.Engine, step: s, in: in})
		res = did.result(err)
		res.Detail = did.detail
		if err == nil {
			res.Outcome = stepSkipped // nothing was done
		}
	}
	if c := s.Condition(); c != nil && !c.Static() {
		res.When = c.String()
	}
	res.Phase, res.Name, res.Uses, res.Title, res.Results = string(s.Phase()), s.Name, s.Uses, s.Label(), nil
	return res
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func plainMap(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = runbook.Plain(v)
	}
	return out
}

// work is what an operation has at hand.
type work struct {
	*runner
	// engine is the run's with the step's own time limit.
	engine *Engine
	step   *runbook.Step
	in     runbook.Inputs
}

// bounded is ctx within the step's time limit, or a fallback.
func (w *work) bounded(ctx context.Context, fallback time.Duration) (context.Context, context.CancelFunc) {
	limit := w.step.Limit()
	if limit == 0 {
		limit = fallback
	}
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("the step's time of %s is over: %w", limit,
		context.DeadlineExceeded))
}
