package report

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"irctl/internal/record"
	"irctl/internal/timeline"
)

// Event is a line of the timeline.
type Event struct {
	Seq     int64         `json:"seq"`
	Time    time.Time     `json:"time"`
	Kind    timeline.Kind `json:"kind"`
	Phase   Text          `json:"phase,omitempty"`
	Step    Text          `json:"step,omitempty"`
	Who     Text          `json:"who"`
	What    Text          `json:"what"`
	Outcome Text          `json:"outcome,omitempty"`
	Error   Text          `json:"error,omitempty"`
	// Evidence is the Number of what was sealed with this entry; 0: nothing.
	Evidence int `json:"evidence,omitempty"`
}

// Word is the outcome of an event, or else what kind of event it is.
func (e Event) Word() Text { return orNot(e.Outcome, Text(e.Kind)) }

// Result is the Word with the reason.
func (e Event) Result() Text {
	if e.Error == "" {
		return e.Word()
	}
	return e.Word() + ": " + e.Error
}

// Action is a change that was to be made, and what came of it.
type Action struct {
	Seq        int64     `json:"seq"` // of the intent
	Time       time.Time `json:"time"`
	Who        Text      `json:"who"`
	Phase      Text      `json:"phase,omitempty"`
	Step       Text      `json:"step,omitempty"`
	Action     Text      `json:"action,omitempty"`
	Object     Text      `json:"object,omitempty"`
	Targets    []Text    `json:"targets,omitempty"`
	Summary    Text      `json:"summary"`
	Command    Text      `json:"command,omitempty"`
	Outcome    Text      `json:"outcome"`
	Error      Text      `json:"error,omitempty"`
	DurationMS int64     `json:"durationMS,omitempty"`
	// Standing: its effect is, or may be, still in the cluster.
	Standing bool  `json:"standing"`
	Undo     *Undo `json:"undo,omitempty"`
}

// Undo is the last attempt to put back what an action changed.
type Undo struct {
	Seq     int64              `json:"seq"`
	Time    time.Time          `json:"time"`
	Who     Text               `json:"who"`
	State   timeline.UndoState `json:"state"`
	Command Text               `json:"command,omitempty"`
	Error   Text               `json:"error,omitempty"`
}

// Result is the outcome of the action and of its undo in a few words.
func (a Action) Result() Text {
	text := a.Outcome
	if a.Error != "" {
		text += ": " + a.Error
	}
	if a.Undo == nil {
		return text
	}
	text += "; " + a.Undo.Word()
	if a.Undo.Error != "" {
		text += ": " + a.Undo.Error
	}
	return text
}

// Word is what came of the undo, without the reason.
func (u Undo) Word() Text {
	switch u.State {
	case timeline.Undone:
		return Text("undone at " + when(u.Time))
	case timeline.UndoFailed:
		return "not undone"
	}
	return "whether it was undone is not known"
}

// rotates: the action replaces a secret, or makes its old value worthless.
func (a Action) rotates() bool {
	return a.Step == rotate || strings.HasPrefix(string(a.Action), rotate) ||
		a.Phase == eradicate && (a.Step == update || a.Step == deactivate)
}

// changes: the action changes something in the cluster, rather than preparing
// or verifying such a change.
func (a Action) changes() bool {
	return a.Phase != eradicate || !slices.Contains([]Text{"new-value", "store", "verify"}, a.Step)
}

// went: it is as it was meant to be.
func (a Action) went() bool {
	return slices.Contains([]timeline.Outcome{timeline.OutcomeDone, timeline.OutcomeAlready},
		timeline.Outcome(a.Outcome))
}

// Words of the journal, as the steps of eradication write them.
const (
	rotate     = "rotate"
	eradicate  = "eradicate"
	update     = "update"
	deactivate = "deactivate"
)

// Deviation is what did not go as it was meant to.
type Deviation struct {
	Seq  int64     `json:"seq"`
	Time time.Time `json:"time"`
	// Outcome is failed, denied, refused, skipped or unknown.
	Outcome timeline.Outcome `json:"outcome"`
	What    Text             `json:"what"`
	Reason  Text             `json:"reason,omitempty"`
}

// Observed is something that was seen at a moment.
type Observed struct {
	Seq  int64     `json:"seq"`
	Time time.Time `json:"time"`
	Text Text      `json:"text"`
}

// Evidence is a sealed bundle, as its receipt in the journal describes it.
type Evidence struct {
	Number   int       `json:"number"` // within the report, from 1
	Seq      int64     `json:"seq"`
	Time     time.Time `json:"time"`
	Who      Text      `json:"who"`
	File     Text      `json:"file"`
	Purpose  Text      `json:"purpose,omitempty"`
	SHA256   Text      `json:"sha256"`
	Manifest Text      `json:"manifestSha256,omitempty"`
	Size     int64     `json:"size"`
	// Recipients are the fingerprints of the keys that open it.
	Recipients []Text `json:"recipients"`
	Signer     Text   `json:"signer,omitempty"`
	Redacted   Text   `json:"redactedFrom,omitempty"`
	Complete   bool   `json:"complete"`
	Incomplete Text   `json:"incomplete,omitempty"`
}

// noOutcome is what is known of an action whose process was killed.
const noOutcome = "no outcome is recorded"

// history reads a journal into a report, entry by entry.
type history struct {
	*Report
	open    map[string][]int          // by target, of Exposures: those not seen to be gone
	sealed  map[Text]bool             // digests of the bundles met
	answers map[int64]*timeline.Entry // the last outcome of each intent
}

func (h *history) read(entries []timeline.Entry) {
	h.open, h.sealed, h.answers = map[string][]int{}, map[Text]bool{}, map[int64]*timeline.Entry{}
	for i := range entries {
		if e := &entries[i]; e.Kind == timeline.KindOutcome {
			h.answers[e.Intent] = e
		}
	}
	for _, e := range entries {
		event := Event{Seq: e.Seq, Time: e.Time, Kind: e.Kind, Phase: Text(e.Phase), Step: Text(e.Step),
			Who:  who(e.Actor),
			What: Text(e.Summary), Outcome: Text(e.Outcome), Error: Text(e.Error)}
		event.Evidence = h.evidence(e)
		if e.Kind == timeline.KindVerdict && e.Phase == "contain" {
			h.verdict(e)
		}
		if e.Phase == "recover" {
			h.wayIn(e)
		}
		h.deviation(e)
		if e.Kind == timeline.KindIntent {
			if h.answers[e.Seq] != nil {
				continue // its outcome says the same
			}
			event.Outcome = "begun"
			event.Error = noOutcome
		}
		h.Timeline = append(h.Timeline, event)
	}
}

// evidence takes down the receipt of an entry, if it has one, and returns its
// number.
func (h *history) evidence(e timeline.Entry) int {
	r, ok := timeline.Payload[record.Receipt](&e)
	if !ok || h.sealed[Text(r.SHA256)] {
		return 0
	}
	h.sealed[Text(r.SHA256)] = true
	recipients := []Text{}
	for _, key := range r.Recipients {
		recipients = append(recipients, Text(key))
	}
	// A path would tell of the responder's machine, and mean nothing elsewhere.
	h.Evidence = append(h.Evidence, Evidence{Number: len(h.Evidence) + 1, Seq: e.Seq, Time: e.Time, Who: who(e.Actor),
		File:    Text(path.Base(r.Path)),
		Purpose: Text(r.Purpose), SHA256: Text(r.SHA256), Manifest: Text(r.ManifestSHA256), Size: r.Size,
		Recipients: recipients,
		Signer:     Text(r.Signer), Redacted: Text(r.Redacted), Complete: r.Complete, Incomplete: Text(r.Incomplete)})
	return len(h.Evidence)
}

// deviation takes down what an entry says went otherwise than meant; of an
// intent its last outcome says it.
func (h *history) deviation(e timeline.Entry) {
	d := Deviation{Seq: e.Seq, Time: e.Time, What: Text(e.Summary), Reason: Text(e.Error)}
	outcome := e.Outcome
	switch e.Kind {
	case timeline.KindIntent:
		outcome, d.Reason = timeline.OutcomeUnknown, noOutcome
		if answer := h.answers[e.Seq]; answer != nil {
			outcome, d.Reason = answer.Outcome, Text(answer.Error)
		}
	case timeline.KindRecovered:
		outcome = timeline.OutcomeUnknown
	case timeline.KindVerdict:
	case timeline.KindObservation:
		if notNeeded(e) {
			return // as the runbook has it
		}
	default:
		return
	}
	if strayed(outcome) {
		d.Outcome = outcome
		h.Deviations = append(h.Deviations, d)
	}
}

// notNeeded: the entry is of a step of a runbook whose condition did not hold.
func notNeeded(e timeline.Entry) bool {
	r, ok := timeline.Payload[record.Run](&e)
	return ok && r.Event.NotNeeded
}

func strayed(o timeline.Outcome) bool {
	return slices.Contains([]timeline.Outcome{timeline.OutcomeFailed, timeline.OutcomeDenied, timeline.OutcomeRefused,
		timeline.OutcomeSkipped, timeline.OutcomeUnknown}, o)
}

// actions folds the intents of the journal, their outcomes and their undoing.
func (h *history) actions(entries []timeline.Entry) {
	standing := map[int64]bool{}
	for _, a := range timeline.Standing(entries) {
		standing[a.Intent.Seq] = true
	}
	for _, a := range timeline.Actions(entries) {
		i := a.Intent
		action := Action{Seq: i.Seq, Time: i.Time, Who: who(i.Actor), Phase: Text(i.Phase), Step: Text(i.Step),
			Action: Text(i.Action), Object: objectOf(i.Object),
			Summary: Text(i.Summary), Command: Text(i.Command), Outcome: Text(timeline.OutcomeUnknown),
			Error:    noOutcome,
			Standing: standing[i.Seq], Undo: undoOf(a)}
		for _, t := range i.Targets {
			action.Targets = append(action.Targets, Text(t))
		}
		if o := a.Outcome; o != nil {
			action.Outcome, action.Error, action.DurationMS = Text(o.Outcome), Text(o.Error), o.DurationMS
		}
		h.Actions = append(h.Actions, action)
	}
}

func undoOf(a timeline.Action) *Undo {
	if a.UndoIntent == nil {
		return nil
	}
	u := &Undo{Seq: a.UndoIntent.Seq, Time: a.UndoIntent.Time, Who: who(a.UndoIntent.Actor), State: a.Undo,
		Command: Text(a.UndoIntent.Command)}
	if a.UndoOutcome != nil {
		u.Error = Text(a.UndoOutcome.Error)
	} else {
		u.Error = noOutcome
	}
	return u
}

func objectOf(o *timeline.Object) Text {
	if o == nil {
		return ""
	}
	if o.Namespace == "" {
		return Text(o.Kind + " " + o.Name)
	}
	return Text(fmt.Sprintf("%s %s/%s", o.Kind, o.Namespace, o.Name))
}
