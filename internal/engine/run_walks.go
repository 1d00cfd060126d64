package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"irctl/internal/incident"
	"irctl/internal/runbook"
	"irctl/internal/timeline"
)

// Walk is how far a run of a runbook got, as the journal tells.
type Walk struct {
	Runbook RunbookRef
	// Params are the texts of its parameters.
	Params map[string]string
	// Ended: no step is left to do.
	Ended bool
	// At is the step that was entered last.
	At string
	// Steps are those that were begun, by name.
	Steps map[string]WalkStep
	// LastAt is when something of it was journaled last.
	LastAt time.Time
}

// WalkStep is what the journal tells of a step.
type WalkStep struct {
	// Outcome is as of StepResult; "": it was begun and did not end.
	Outcome   string
	NotNeeded bool
	// Passed: the run went on after it.
	Passed  bool
	Summary string
	Error   string
	Results map[string]any
	Begun   time.Time
	Ended   time.Time
}

// WalksOf are the runs of runbooks in a journal, the last one at the end.
func WalksOf(entries []timeline.Entry) []Walk {
	var walks []*Walk
	byName := map[string]*Walk{}
	closing := map[string]*closingStep{}
	for i := range entries {
		rec, ok := runRecordOf(&entries[i])
		for name, w := range byName {
			if step := closing[name].reopened(&entries[i], rec, name); step != "" {
				w.Steps[step], w.Ended = WalkStep{Outcome: stepDone, Passed: true,
					Summary: "done; the incident was reopened since", Ended: entries[i].Time}, false
			}
		}
		if !ok {
			continue
		}
		w := byName[rec.Runbook]
		if w == nil {
			w = &Walk{Steps: map[string]WalkStep{}}
			byName[rec.Runbook], closing[rec.Runbook] = w, &closingStep{}
		} else {
			walks = slices.DeleteFunc(walks, func(other *Walk) bool { return other == w })
		}
		walks = append(walks, w)
		w.add(rec, &entries[i])
	}
	list := make([]Walk, len(walks))
	for i, w := range walks {
		list[i] = *w
	}
	return list
}

func (w *Walk) add(rec runRecord, e *timeline.Entry) {
	w.LastAt = e.Time
	s := w.Steps[rec.Step]
	switch rec.Event {
	case runBegun, runResumed:
		w.Runbook = RunbookRef{Name: rec.Runbook, Version: rec.Version, SHA256: rec.SHA256, Source: rec.Source}
		w.Params = rec.Params
		return
	case runEnded:
		w.Ended = true
		return
	case stepBegun:
		s = WalkStep{Begun: e.Time}
	case stepEnded:
		s.Outcome, s.NotNeeded, s.Passed, s.Results = rec.Outcome, rec.NotNeeded, rec.Passed, rec.Results
		s.Ended, s.Summary, s.Error = e.Time, e.Summary, e.Error
	case stepPassed:
		s.Passed = true
	case stepReopened:
		delete(w.Steps, rec.Step)
		w.Ended, w.At = false, rec.Step
		return
	default:
		return
	}
	w.Steps[rec.Step], w.At = s, rec.Step
}

// Reopen journals that steps of a run are to be done again, since what they did
// was undone. Of those that are not done yet there is nothing to say.
func (e *Engine) Reopen(ctx context.Context, id incident.ID, book *runbook.Runbook, steps []string, why string) error {
	h, err := e.Store.Open(ctx, id, e.Actor())
	if err != nil {
		return err
	}
	past := progressOf(h.Log.Entries(), book.Name)
	r := &runner{Engine: e, book: book, session: past.session}
	for _, name := range steps {
		s := book.Step(name)
		if s == nil || past.steps[name].Outcome == "" {
			continue
		}
		err = errors.Join(err, r.append(h, runRecord{Event: stepReopened, Phase: string(s.Phase()), Step: name,
			Uses: s.Uses},
			timeline.Entry{Summary: fmt.Sprintf("to be done again, since %s: %s", why, s.Label())}))
	}
	return errors.Join(err, h.Close())
}
