package timeline

// Action is one forward intent and all that came of it.
type Action struct {
	Intent  Entry
	Outcome *Entry // the last one recorded; nil: the process died before it knew

	Undo        UndoState
	UndoIntent  *Entry // of the last attempt to undo it; nil: none
	UndoOutcome *Entry // of that attempt; nil: none yet
}

// UndoState says how far the undoing of an action got.
type UndoState string

// The states of an undo.
const (
	NotUndone   UndoState = ""
	UndoPending UndoState = "pending" // begun, and what came of it is not known
	UndoFailed  UndoState = "failed"  // tried or refused; the action still stands
	Undone      UndoState = "undone"
)

// Pending returns the intents, to do and to undo, that have no outcome: what
// a killed process was at.
func Pending(entries []Entry) []Entry {
	outcome := outcomesByIntent(entries)
	var pending []Entry
	for _, e := range entries {
		if e.Kind == KindIntent && outcome[e.Seq] == nil {
			pending = append(pending, e)
		}
	}
	return pending
}

// Actions folds a journal into the actions it tells of, in the order of their
// intents. Where an intent has several outcomes (unknown at first, then found
// done) the last one counts. An action that was undone stays undone; doing it
// again is an intent, and so an Action, of its own.
func Actions(entries []Entry) []Action {
	outcome := outcomesByIntent(entries)
	var actions []Action
	index := map[int64]int{} // Seq of an intent to its place in actions
	for i := range entries {
		e := &entries[i]
		switch {
		case e.Kind != KindIntent:
		case e.Undoes == 0:
			index[e.Seq] = len(actions)
			actions = append(actions, Action{Intent: *e, Outcome: outcome[e.Seq]})
		default:
			if at, ok := index[e.Undoes]; ok {
				actions[at].undo(e, outcome[e.Seq])
			}
		}
	}
	return actions
}

func (a *Action) undo(intent, outcome *Entry) {
	if a.Undo == Undone {
		return
	}
	state := UndoPending
	if outcome != nil {
		switch outcome.Outcome {
		case OutcomeDone, OutcomeAlready:
			state = Undone
		case OutcomeFailed, OutcomeRefused:
			state = UndoFailed
		case OutcomeSkipped:
			return // never tried
		}
	}
	a.Undo, a.UndoIntent, a.UndoOutcome = state, intent, outcome
}

// Standing returns the actions whose effect is, or may be, still in the
// cluster, in the order they were done; undo takes them in reverse. Left out
// are those undone, those that are final, and those that changed nothing:
// already so, refused, skipped, or failed without leaving a receipt (an
// outcome's Data).
func Standing(entries []Entry) []Action {
	var standing []Action
	for _, a := range Actions(entries) {
		if !a.Intent.Final && a.Undo != Undone && a.mayHaveChanged() {
			standing = append(standing, a)
		}
	}
	return standing
}

func (a Action) mayHaveChanged() bool {
	if a.Outcome == nil {
		return true
	}
	switch a.Outcome.Outcome {
	case OutcomeAlready, OutcomeRefused, OutcomeSkipped:
		return false
	case OutcomeFailed:
		return !a.Outcome.Data.IsZero()
	default:
		return true
	}
}

func outcomesByIntent(entries []Entry) map[int64]*Entry {
	outcome := map[int64]*Entry{}
	for i := range entries {
		if e := &entries[i]; e.Kind == KindOutcome {
			outcome[e.Intent] = e
		}
	}
	return outcome
}
