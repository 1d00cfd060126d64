package timeline

// Action is one forward intent and all that came of it.
type Action struct {
	Intent  Entry
	Outcome *Entry // the last one recorded; nil: the process died before it knew

	Undo        UndoState
	UndoIntent  *Entry // of the last attempt to undo it; nil: none
	UndoOutcome *Entry // of that attempt; nil: none yet

	attempts map[int64]*attempt // to undo it, by the Seq of their intents
	order    []int64
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

// Ledger is a journal folded into the actions it tells of, in the order of their
// intents. Where an intent has several outcomes (unknown at first, then found
// done) the last one counts. An action that was undone stays undone; doing it
// again is an intent, and so an Action, of its own.
type Ledger struct {
	Actions []*Action
	forward map[int64]*Action // by the Seq of the intent
	undoing map[int64]*Action // by the Seq of an intent to undo it
}

// Apply takes in the journal's next entry.
func (l *Ledger) Apply(e Entry) {
	if l.forward == nil {
		l.forward, l.undoing = map[int64]*Action{}, map[int64]*Action{}
	}
	switch {
	case e.Kind == KindOutcome && l.forward[e.Intent] != nil:
		l.forward[e.Intent].Outcome = &e
	case e.Kind == KindOutcome && l.undoing[e.Intent] != nil:
		a := l.undoing[e.Intent]
		a.attempts[e.Intent].outcome = &e
		a.undoState()
	case e.Kind == KindIntent && e.Undoes == 0:
		a := &Action{Intent: e}
		l.forward[e.Seq], l.Actions = a, append(l.Actions, a)
	case e.Kind == KindIntent && l.forward[e.Undoes] != nil:
		a := l.forward[e.Undoes]
		if a.attempts == nil {
			a.attempts = map[int64]*attempt{}
		}
		a.attempts[e.Seq], a.order = &attempt{intent: &e}, append(a.order, e.Seq)
		l.undoing[e.Seq] = a
		a.undoState()
	}
}

// Actions folds a journal.
func Actions(entries []Entry) []Action {
	var l Ledger
	for _, e := range entries {
		l.Apply(e)
	}
	actions := make([]Action, len(l.Actions))
	for i, a := range l.Actions {
		actions[i] = *a
	}
	return actions
}

// attempt is one to undo an action.
type attempt struct{ intent, outcome *Entry }

// undoState folds the attempts to undo the action.
func (a *Action) undoState() {
	a.Undo, a.UndoIntent, a.UndoOutcome = NotUndone, nil, nil
	for _, seq := range a.order {
		a.undo(a.attempts[seq].intent, a.attempts[seq].outcome)
	}
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
		case OutcomeFailed, OutcomeRefused, OutcomeDenied:
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
// already so, refused, skipped, or failed or denied without leaving a receipt (an
// outcome's Data).
func Standing(entries []Entry) []Action {
	var standing []Action
	for _, a := range Actions(entries) {
		if a.Stands() {
			standing = append(standing, a)
		}
	}
	return standing
}

// Stands: its effect is, or may be, still in the cluster, and can be undone.
func (a Action) Stands() bool { return !a.Intent.Final && a.Undo != Undone && a.mayHaveChanged() }

// Succeeded: it was done, or was so already.
func (a Action) Succeeded() bool {
	return a.Outcome != nil && (a.Outcome.Outcome == OutcomeDone || a.Outcome.Outcome == OutcomeAlready)
}

func (a Action) mayHaveChanged() bool {
	if a.Outcome == nil {
		return true
	}
	switch a.Outcome.Outcome {
	case OutcomeAlready, OutcomeRefused, OutcomeSkipped:
		return false
	case OutcomeFailed, OutcomeDenied:
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
