package engine

import (
	"fmt"

	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/runbook"
	"irctl/internal/timeline"
)

// runRecord is what an entry of the journal says of a run of a runbook.
type runRecord = record.RunEvent

// runEvent is what happened. It is the action of its entry.
type runEvent = string

const (
	runBegun   runEvent = "run-begun"
	runResumed runEvent = "run-resumed"
	stepBegun  runEvent = "step-begun"
	stepEnded  runEvent = "step-ended"
	// stepPassed: the run went on although the step was not done.
	stepPassed runEvent = "step-passed"
	// stepReopened: what it did was undone, so it is to be done again.
	stepReopened runEvent = "step-reopened"
	phaseEnded   runEvent = "phase-ended"
	runEnded     runEvent = "run-ended"
)

// progress is how far a run of a runbook got.
type progress struct {
	entries         int // of the journal
	sha256, session string
	params          map[string]string
	version, source string
	steps           map[string]runRecord // the last of each that ended
	begun           map[string]int64     // Seq of the last begin of each
	edited          map[string]runRecord // the last begin of each whose inputs a person changed
	phases          map[runbook.PhaseName]bool
	ended           bool
}

func (p *progress) exists() bool { return p.session != "" }

// progressOf reads the run of a runbook out of a journal.
func progressOf(entries []timeline.Entry, name string) progress {
	p := progress{entries: len(entries), steps: map[string]runRecord{}, begun: map[string]int64{},
		edited: map[string]runRecord{}, phases: map[runbook.PhaseName]bool{}}
	closing := closingStep{}
	for i := range entries {
		rec, ok := runRecordOf(&entries[i])
		if step := closing.reopened(&entries[i], rec, name); step != "" {
			p.steps[step], p.ended = runRecord{Step: step, Uses: "close", Outcome: stepDone, Passed: true}, false
		}
		if !ok || rec.Runbook != name {
			continue
		}
		switch rec.Event {
		case runBegun, runResumed:
			p.sha256, p.session, p.params = rec.SHA256, rec.Session, rec.Params
			p.version, p.source = rec.Version, rec.Source
		case stepBegun:
			p.begun[rec.Step] = entries[i].Seq
			p.edited[rec.Step] = rec
		case stepEnded:
			p.steps[rec.Step] = rec
		case stepPassed:
			last := p.steps[rec.Step]
			last.Passed = true
			p.steps[rec.Step] = last
		case stepReopened:
			delete(p.steps, rec.Step)
			p.ended = false
		case phaseEnded:
			p.phases[runbook.PhaseName(rec.Phase)] = true
		case runEnded:
			p.ended = true
		}
	}
	return p
}

// closingStep is the step of a run by which its incident was closed. Once that is
// open again, the run goes on after the step: to do it again would close the
// incident by a decision that somebody has taken back.
type closingStep struct {
	begun  string
	closed bool
}

// reopened takes in an entry, and returns the step if the entry reopens what it closed.
func (c *closingStep) reopened(e *timeline.Entry, rec runRecord, runbook string) (step string) {
	switch {
	case e.Kind == timeline.KindClosed:
		c.closed = c.begun != ""
	case e.Kind == timeline.KindReopened && c.closed:
		step = c.begun
		*c = closingStep{}
	case rec.Runbook != runbook:
	case rec.Event == stepBegun && rec.Uses == "close":
		*c = closingStep{begun: rec.Step}
	case rec.Event == stepBegun, rec.Event == stepEnded && rec.Step == c.begun:
		*c = closingStep{}
	}
	return step
}

// runRecordOf reads the record of an entry; false: it has none.
func runRecordOf(e *timeline.Entry) (runRecord, bool) {
	r, ok := timeline.Payload[record.Run](e)
	if !ok || e.Action != r.Event.Event {
		return runRecord{}, false
	}
	return r.Event, true
}

// append journals a record.
func (r *runner) append(h *incident.Handle, rec runRecord, e timeline.Entry) error {
	rec.Runbook, rec.Version, rec.SHA256, rec.Session = r.book.Name, r.book.Version, r.book.SHA256, r.session
	if e.Kind == "" {
		e.Kind = timeline.KindObservation
	}
	e.Action, e.Step = rec.Event, rec.Step
	// An entry of the phase detect tells when the attack was detected; that a
	// step of that phase is gone through does not.
	if rec.Phase != string(runbook.Detect) {
		e.Phase = rec.Phase
	}
	smaller := rec
	smaller.Detail, smaller.Inputs = "left out, since it is too large", nil
	if _, err := h.Log.AppendWith(e, record.Run{Event: rec}, record.Run{Event: smaller}); err != nil {
		return fmt.Errorf("the run cannot go on, since its journal could not be written: %w", err)
	}
	return nil
}
