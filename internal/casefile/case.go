// Package casefile folds an incident's journal into what it tells: what was asked
// for, what was done about it, what stands, what is unsettled, and what somebody
// accepted. Status, report, UI, drill and the steps of runbooks read this one
// case, so that none of them tells another story. It knows nothing of Kubernetes.
package casefile

import (
	"slices"
	"strings"
	"time"

	"irctl/internal/record"
	"irctl/internal/timeline"
)

// Case is an incident as its journal tells it. The zero value is one of which
// nothing is told yet.
type Case struct {
	timeline.Ledger
	// Requests are what was asked for, in order.
	Requests []Request
	// LeftOut are the steps that somebody decided to leave out, by the entry that
	// said so last.
	LeftOut map[string]int64
	// Verdicts are the last ones, by phase.
	Verdicts map[string]Verdict
	// Accepted are the acceptances in force.
	Accepted []Acceptance
	// Receipts are the bundles that were sealed.
	Receipts []record.Receipt
	// Kept is what the last recovery decided to leave; nil: nothing was decided.
	Kept *Kept
	// Traces are what collections left in the cluster and nobody can take back.
	Traces []Trace
	// Closing is how it was closed last; nil: never.
	Closing *record.Closing
	// Unread are entries whose payloads this version does not know, or cannot read.
	Unread []int64

	seq      int64
	accepted int64 // the last acceptance, or that one was taken back
}

// Request is what was asked for.
type Request struct {
	Seq  int64
	Time time.Time
	Who  timeline.Actor
	record.Request
}

// Acceptance is that a person took a finding upon himself.
type Acceptance struct {
	Seq  int64
	Time time.Time
	Who  timeline.Actor
	record.Acceptance
}

// Kept is that somebody decided what of a containment stays.
type Kept struct {
	Seq  int64
	Time time.Time
	Who  timeline.Actor
	// Summary says what.
	Summary string
	Intents []int64
}

// Trace is one that a collection left, or was about to leave when it was ended.
type Trace struct {
	Seq  int64
	Time time.Time
	Who  timeline.Actor
	// What says it in words.
	What string
	// Outcome is empty where it is not known.
	Outcome timeline.Outcome
	// Trace is empty in journals of irctl 1.
	record.Trace
}

// AboutToMake stands in front of what a trace is, before it is left.
const AboutToMake = "about to make: "

// Verdict is one that was journaled.
type Verdict struct {
	Seq     int64
	Time    time.Time
	Outcome timeline.Outcome
	// Assessment is that on containment; nil: it is on another phase, or cannot be read.
	Assessment *record.Assessment
}

// containment is the phase that a case has a grade of.
const containment = "contain"

// Usual are the steps of a containment of which nothing else is said; package
// contain has them as its DefaultSteps.
var Usual = []string{"quarantine", "detach", "scale"}

// The actions of observations that a case knows by them.
const (
	ActionLeftOut   = "left-out"  // a step of containment was not to be done
	ActionAccepted  = "accepted"  // a person took a finding upon himself
	ActionWithdrawn = "withdrawn" // and no more
	ActionRequested = "requested" // what was asked for
)

// Of folds a journal.
func Of(entries []timeline.Entry) *Case {
	c := &Case{}
	c.Take(entries)
	return c
}

// Take applies those entries of a journal that were not applied yet.
func (c *Case) Take(entries []timeline.Entry) {
	for _, e := range entries {
		if e.Seq > c.seq {
			c.Apply(e)
		}
	}
}

// Apply takes in the journal's next entry.
func (c *Case) Apply(e timeline.Entry) {
	c.seq = e.Seq
	c.Ledger.Apply(e)
	payload, known, err := e.Decode()
	if !known || err != nil {
		c.Unread = append(c.Unread, e.Seq)
		payload = nil
	}
	if e.Action == ActionLeftOut {
		if c.LeftOut == nil {
			c.LeftOut = map[string]int64{}
		}
		c.LeftOut[e.Step] = e.Seq
	}
	if e.Kind == timeline.KindVerdict {
		if c.Verdicts == nil {
			c.Verdicts = map[string]Verdict{}
		}
		v := Verdict{Seq: e.Seq, Time: e.Time, Outcome: e.Outcome}
		v.Assessment, _ = payload.(*record.Assessment)
		c.Verdicts[e.Phase] = v
	}
	if e.Kind == timeline.KindObservation && e.Data.IsZero() {
		c.trace(e, record.Trace{}) // as irctl 1 told it
	}
	switch p := payload.(type) {
	case *record.Request:
		c.Requests = append(c.Requests, Request{e.Seq, e.Time, e.Actor, *p})
	case *record.Acceptance:
		c.accepted = e.Seq
		c.accept(Acceptance{e.Seq, e.Time, e.Actor, *p})
	case *record.Receipt:
		c.Receipts = append(c.Receipts, *p)
	case *record.Kept:
		c.Kept = &Kept{e.Seq, e.Time, e.Actor, e.Summary, p.Kept}
	case *record.Trace:
		c.trace(e, *p)
	case *record.Closing:
		c.Closing = p
		if p.LeaveStanding != "" {
			c.accept(Acceptance{e.Seq, e.Time, e.Actor, record.Acceptance{Code: Standing, Reason: p.LeaveStanding}})
		}
	}
	if e.Kind == timeline.KindReopened {
		c.accept(Acceptance{Acceptance: record.Acceptance{Code: Standing, Withdrawn: true}})
	}
}

// trace takes in that something is about to be left, and then what came of it.
func (c *Case) trace(e timeline.Entry, t record.Trace) {
	if what, announced := strings.CutPrefix(e.Summary, AboutToMake); announced {
		c.Traces = append(c.Traces, Trace{Seq: e.Seq, Time: e.Time, Who: e.Actor, What: what, Trace: t})
		return
	}
	for i := range c.Traces {
		if known := &c.Traces[i]; known.What == e.Summary && known.Trace == t && known.Outcome == "" {
			known.Outcome = e.Outcome
			return
		}
	}
}

func (c *Case) accept(a Acceptance) {
	same := func(known Acceptance) bool { return known.Code == a.Code && known.Object == a.Object }
	if a.Withdrawn {
		c.Accepted = slices.DeleteFunc(c.Accepted, same)
		return
	}
	if i := slices.IndexFunc(c.Accepted, same); i >= 0 {
		c.Accepted[i] = a
		return
	}
	c.Accepted = append(c.Accepted, a)
}

// Standing are the actions whose effect is, or may be, still in the cluster, in
// the order in which they were done; undo takes them in reverse.
func (c *Case) Standing() []*timeline.Action {
	var list []*timeline.Action
	for _, a := range c.Actions {
		if a.Stands() {
			list = append(list, a)
		}
	}
	return list
}

// Unsettled are the actions of containment that were meant and did not happen, or of
// which that is not known: denied, failed, refused, left out since the run was
// ended, without an answer. A later attempt on the same object that succeeds
// settles them, and so does undoing what they belong to. Each is the last attempt
// of its kind.
func (c *Case) Unsettled() []*timeline.Action {
	var list []*timeline.Action
	for i, a := range c.Actions {
		if a.Intent.Phase != containment || a.Undo == timeline.Undone || a.Succeeded() {
			continue
		}
		later := func(b *timeline.Action) bool { return sameAttempt(a.Intent, b.Intent) }
		if !slices.ContainsFunc(c.Actions[i+1:], later) && !c.takenBack(a.Intent.Seq) {
			list = append(list, a)
		}
	}
	return list
}

// takenBack: something of the phase was undone after an entry, and nothing of it
// stands: whoever took that back did not want the rest either.
func (c *Case) takenBack(since int64) bool {
	back := false
	for _, a := range c.Actions {
		if a.Intent.Phase != containment {
			continue
		}
		if a.Stands() {
			return false
		}
		back = back || a.Undo == timeline.Undone && a.UndoIntent.Seq > since
	}
	return back
}

// sameAttempt: both are for the same end. An object that was made anew since has
// another UID, and whoever creates one does not know it yet.
func sameAttempt(a, b timeline.Entry) bool {
	if a.Step != b.Step || a.Action != b.Action || (a.Object == nil) != (b.Object == nil) {
		return false
	}
	if a.Object == nil {
		return slices.Equal(a.Targets, b.Targets)
	}
	x, y := *a.Object, *b.Object
	if x.UID == "" || y.UID == "" {
		x.UID, y.UID = "", ""
	}
	return x == y
}

// Meant are the steps of containment that were to be done and were not undone or
// left out since. Journals of irctl 1 tell only what was left out of the usual ones.
func (c *Case) Meant() []string {
	var steps []string
	wanted, undone, stands := map[string]int64{}, map[string]int64{}, map[string]bool{} // the last entry that says so
	want := func(step string, seq int64) {
		if !slices.Contains(steps, step) {
			steps = append(steps, step)
		}
		wanted[step] = max(wanted[step], seq)
	}
	first := int64(0)
	for _, a := range c.Actions {
		if a.Intent.Phase != containment {
			continue
		}
		if first == 0 {
			first = a.Intent.Seq
		}
		want(a.Intent.Step, a.Intent.Seq)
		stands[a.Intent.Step] = stands[a.Intent.Step] || a.Stands()
		if a.Undo == timeline.Undone {
			undone[a.Intent.Step] = max(undone[a.Intent.Step], a.UndoIntent.Seq)
		}
	}
	asked := false
	for _, r := range c.Requests {
		if r.Command != containment {
			continue
		}
		asked = true
		for _, step := range r.Steps {
			want(step, r.Seq)
		}
	}
	if !asked && first > 0 {
		for _, step := range Usual {
			want(step, first)
		}
	}
	return slices.DeleteFunc(steps, func(step string) bool {
		since := wanted[step]
		return !stands[step] && (undone[step] > since || c.LeftOut[step] > since ||
			c.leftOutBeforehand(step, asked) || c.takenBack(since))
	})
}

// leftOutBeforehand: in journals without requests a step that was to be left out
// is noted before anything is done.
func (c *Case) leftOutBeforehand(step string, asked bool) bool {
	tried := func(a *timeline.Action) bool { return a.Intent.Step == step }
	return !asked && c.LeftOut[step] > 0 && !slices.ContainsFunc(c.Actions, tried)
}

// AcceptanceOf is what somebody accepted of a finding; nil: nobody did.
func (c *Case) AcceptanceOf(code, object string) *Acceptance {
	for i := range c.Accepted {
		if a := &c.Accepted[i]; a.Code == code && (a.Object == "" || a.Object == object) {
			return a
		}
	}
	return nil
}

// Contained is how the containment stands as far as the journal alone tells: the
// last verdict, unless what was meant did not happen, or something was changed
// since that nobody has looked at. It is nothing where nothing was to be contained.
func (c *Case) Contained() Grade {
	if len(c.Meant()) == 0 {
		return Grade{}
	}
	g := Grade{Verdict: record.Undetermined, Last: max(c.accepted, c.Verdicts[containment].Seq)}
	last := int64(0)
	for _, a := range c.Actions {
		if a.Intent.Phase != containment {
			continue
		}
		last = max(last, a.Intent.Seq)
		if a.Undo != timeline.NotUndone {
			last = max(last, a.UndoIntent.Seq)
		}
		for _, e := range []*timeline.Entry{&a.Intent, a.Outcome, a.UndoIntent, a.UndoOutcome} {
			if e != nil {
				g.Last = max(g.Last, e.Seq)
			}
		}
	}
	if v, ok := c.Verdicts[containment]; ok && v.Assessment != nil && v.Assessment.Verdict != "" {
		g.Seq, g.At, g.Assessment = v.Seq, v.Time, v.Assessment
		if v.Seq > last {
			g.Verdict = v.Assessment.Verdict
		}
	}
	for _, a := range c.Unsettled() {
		if c.Borne(a) != nil {
			g.Accepted++
			continue
		}
		g.Unsettled = append(g.Unsettled, a)
		g.Verdict = record.NotContained
	}
	return g
}

// The codes of what is accepted beside the exposures of a look.
const (
	// Unsettled is a change that was meant and did not happen.
	Unsettled = "unsettled"
	// Standing is containment that stays when the incident is closed, until it is
	// opened again.
	Standing = "standing"
)

// Bearable tells whether a person can take it upon himself that a step of containment
// did not happen. Without the cut itself nothing is contained, whoever says so.
func Bearable(step string) bool { return step != "quarantine" && step != "detach" }

// Borne is who accepted that an action did not happen; nil: nobody did, or nobody can.
func (c *Case) Borne(a *timeline.Action) *Acceptance {
	if !Bearable(a.Intent.Step) {
		return nil
	}
	return c.AcceptanceOf(Unsettled, objectOf(a))
}

// Stray is the code by which an object that carries the incident's label, and that
// the journal does not know, can be accepted.
const Stray = "stray"

// Grade is how a containment stands.
type Grade struct {
	Verdict record.Verdict // "": nothing is contained
	// Seq and At are the last verdict in the journal, and Assessment its grounds;
	// nil: none is journaled. It is older than Verdict where that differs.
	Seq        int64
	At         time.Time
	Assessment *record.Assessment
	// Unsettled is what was meant and did not happen; Accepted is how much of that
	// weighs no more.
	Unsettled []*timeline.Action
	Accepted  int
	// Last is the last entry that bears on it. Who looked at the cluster before that
	// was written has not seen how it stands.
	Last int64
}

// objectOf is the object of an action as people name it: "Pod a/b".
func objectOf(a *timeline.Action) string {
	o := a.Intent.Object
	switch {
	case o == nil:
		return ""
	case o.Namespace == "":
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}
