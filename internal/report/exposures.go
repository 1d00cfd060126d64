package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"irctl/internal/casefile"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

// Verdict is how the containment stands: by a look at the cluster for this report,
// or else by what the journal tells.
type Verdict struct {
	// Seq and Time are those of the last verdict in the journal, or of the look. Where
	// there is neither, Seq is 0, and Time is that of the last entry.
	Seq     int64     `json:"seq"`
	Time    time.Time `json:"time"`
	Verdict Text      `json:"verdict"`
	// Last is the last verdict in the journal where the containment stands otherwise
	// by now, and Since is why.
	Last  Text   `json:"last,omitempty"`
	Since string `json:"since,omitempty"`
	// Accepted is how many findings weigh no more in it, since somebody took them
	// upon himself.
	Accepted int `json:"accepted,omitempty"`
	// Looked: it is of a look at the cluster for this report, and not in the journal.
	Looked bool `json:"looked,omitempty"`
	// Unsettled are the changes that were meant and did not happen.
	Unsettled []Text `json:"unsettled,omitempty"`
	// NotLooked is why the cluster was not looked at for this report.
	NotLooked Text `json:"notLooked,omitempty"`
}

// Words are the verdict with what was accepted.
func (v Verdict) Words() Text {
	if v.Accepted > 0 {
		return v.Verdict + Text(fmt.Sprintf(", %d accepted", v.Accepted))
	}
	return v.Verdict
}

// Exposure is a way in or out of a suspect that the verdicts named, and how
// long it was seen open.
type Exposure struct {
	Target Text `json:"target,omitempty"` // namespace/pod; empty: a workload
	Code   Text `json:"code"`
	// Severity is open, risk or note, as of contain; or unmet: something that
	// was meant was not observed.
	Severity Text `json:"severity"`
	Text     Text `json:"text"`
	Close    Text `json:"close,omitempty"` // what closes it

	// FirstSeen and LastSeen are the verdicts that name it; GoneBy is the first
	// one after them that does not: it was closed in between.
	FirstSeen time.Time `json:"firstSeen"`
	LastSeen  time.Time `json:"lastSeen"`
	GoneBy    time.Time `json:"goneBy,omitzero"`
	// Accepted: somebody took it upon himself when it was last looked at.
	Accepted *Accepted `json:"accepted,omitempty"`
}

// Accepted is who took something upon himself, when and why.
type Accepted struct {
	By     Text      `json:"by"`
	At     time.Time `json:"at"`
	Reason Text      `json:"reason"`
}

// String is that in a few words.
func (a Accepted) String() string {
	return fmt.Sprintf("accepted by %s on %s: %s", a.By, when(a.At), a.Reason)
}

func acceptedOf(a *record.Accepted) *Accepted {
	if a == nil {
		return nil
	}
	return &Accepted{By: Text(a.By), At: writable(a.At), Reason: Text(a.Reason)}
}

func acceptanceOf(a *casefile.Acceptance) *Accepted {
	if a == nil {
		return nil
	}
	return &Accepted{By: who(a.Who), At: a.Time, Reason: Text(a.Reason)}
}

// The severities of exposures.
const (
	unmet = "unmet"
	open  = "open"
	risk  = "risk"
	note  = "note"
)

// Open: it was there when it was last looked.
func (x Exposure) Open() bool { return x.GoneBy.IsZero() }

// Weighs: it is more than a remark that is true of every contained pod.
func (x Exposure) Weighs() bool { return x.Severity != note }

// Left: it weighed when it was last looked at.
func (x Exposure) Left() bool { return x.Open() && x.Weighs() && x.Accepted == nil }

// Fate is what became of it, and how long it was seen open.
func (x Exposure) Fate() string {
	switch {
	case x.Open() && x.Accepted != nil:
		return x.Accepted.String()
	case !x.Open():
		return "gone within " + took(x.GoneBy.Sub(x.FirstSeen))
	case x.LastSeen.Equal(x.FirstSeen):
		return "still open when last looked at"
	}
	return "still open after " + took(x.LastSeen.Sub(x.FirstSeen))
}

// verdict takes down what a verdict on containment says.
func (h *history) verdict(e timeline.Entry) {
	j, ok := timeline.Payload[record.Assessment](&e)
	h.Verdict = &Verdict{Seq: e.Seq, Time: e.Time}
	if ok {
		h.Verdict.Verdict = Text(j.Verdict)
	} else {
		h.Verdict.Verdict, _ = cut(Text(e.Summary), ":")
	}
	if !ok || j.Cut {
		h.Deviations = append(h.Deviations, Deviation{Seq: e.Seq, Time: e.Time, Outcome: timeline.OutcomeUnknown,
			What: Text(e.Summary),
			Reason: "what this verdict names as open is not in the journal, or cannot be read: what became of each " +
				"exposure is not known from it"})
	}
	if !ok {
		return
	}
	for _, p := range j.PutBack {
		h.PutBack = append(h.PutBack, Observed{Seq: e.Seq, Time: e.Time, Text: Text(p)})
	}
	if !j.Cut {
		h.assessed(e.Seq, e.Time, Text(e.Summary), j)
	}
}

// assessed takes down what a look at the suspects found.
func (h *history) assessed(seq int64, at time.Time, what Text, j *record.Assessment) {
	for _, f := range j.Findings {
		if f.Verdict == undetermined {
			// What was open may still be: nobody could look.
			h.Deviations = append(h.Deviations, Deviation{Seq: seq, Time: at, Outcome: timeline.OutcomeUnknown,
				What: what, Reason: unread(f.Checks)})
			continue
		}
		h.sighted(at, f.UID, Text(f.Namespace+"/"+f.Pod), append(exposuresOf(f.Exposures), unmetOf(f.Checks)...))
	}
	h.sighted(at, "", "", unmetOf(j.Workloads))
	h.Verdict.Accepted = accepted(j)
}

func accepted(j *record.Assessment) int {
	n := 0
	for _, f := range j.Findings {
		for _, x := range f.Exposures {
			if x.Accepted != nil {
				n++
			}
		}
	}
	return n
}

// stands makes the verdict the one that holds now: that of the look at the cluster,
// or, without one, what the journal tells: what was meant and did not happen weighs
// in it, whatever was judged before.
func (h *history) stands(in Input) {
	told := casefile.Of(in.Entries)
	h.LeftStanding = acceptanceOf(told.AcceptanceOf(casefile.Standing, ""))
	g := told.Contained()
	if g.Verdict != "" {
		h.borne(told)
	}
	switch look := in.Look; {
	case look != nil:
		h.Verdict = &Verdict{Time: look.At, Verdict: Text(look.Assessment.Verdict), Looked: true}
		h.assessed(0, look.At, "a look at the cluster for this report", &look.Assessment)
		h.Verdict.Accepted = look.Accepted
		for _, u := range look.Unsettled {
			h.Verdict.Unsettled = append(h.Verdict.Unsettled, Text(u))
		}
		return
	case h.Verdict == nil && g.Verdict == "":
		return // nothing was contained
	case h.Verdict == nil:
		h.Verdict = &Verdict{Time: in.Entries[len(in.Entries)-1].Time}
	}
	for _, a := range g.Unsettled {
		text := Text(a.Intent.Summary)
		if a.Outcome == nil {
			text += ": " + noOutcome
		} else if a.Outcome.Error != "" {
			text += ": " + Text(a.Outcome.Error)
		}
		h.Verdict.Unsettled = append(h.Verdict.Unsettled, text)
	}
	h.Verdict.Accepted, h.Verdict.NotLooked = h.Verdict.Accepted+g.Accepted, Text(in.NotLooked)
	now := orNot(Text(g.Verdict), nothingContained)
	if last := h.Verdict.Verdict; last != now {
		h.Verdict.Last, h.Verdict.Verdict, h.Verdict.Since = last, now, h.since(g)
	}
}

// nothingContained is how a containment stands that was put back.
const nothingContained Text = "nothing is contained"

// since is why the last verdict in the journal is not how the containment stands.
func (h *history) since(g casefile.Grade) string {
	switch {
	case h.Verdict.Seq == 0:
		return "nobody has judged it"
	case g.Verdict == "":
		return "what was contained was put back since"
	case len(g.Unsettled) > 0:
		return "something was meant and did not happen"
	case g.Assessment == nil:
		return "what it says cannot be read"
	}
	return "something was changed since, and nobody has looked"
}

// borne takes down what was meant and did not happen, and somebody accepted that.
func (h *history) borne(told *casefile.Case) {
	for _, a := range told.Unsettled() {
		accepted := acceptanceOf(told.Borne(a))
		if accepted == nil {
			continue
		}
		h.Exposures = append(h.Exposures, Exposure{Code: casefile.Unsettled, Severity: unmet, Text: "not done: " +
			Text(a.Intent.Summary),
			FirstSeen: a.Intent.Time, LastSeen: accepted.At, Accepted: accepted})
	}
}

func exposuresOf(list []record.Exposure) []Exposure {
	var out []Exposure
	for _, x := range list {
		out = append(out, Exposure{Code: Text(x.Code), Severity: Text(x.Severity), Text: Text(x.Text),
			Close:    Text(x.Close),
			Accepted: acceptedOf(x.Accepted)})
	}
	return out
}

// wayInCode is the exposure of a workload that was put back on the image through
// which, as far as anybody knows, the attacker came.
const wayInCode Text = "way-in"

// decided: a way in is open, since somebody decided so.
func (x Exposure) decided() bool { return x.Code == wayInCode && x.Open() }

// wayIn takes down whether a workload was put back on the suspects' image.
func (h *history) wayIn(e timeline.Entry) {
	r, ok := timeline.Payload[record.Recovery](&e)
	if !ok {
		return
	}
	for _, w := range r.WayIn {
		var seen []Exposure
		if r.SameImage && w.State != "closed" {
			seen = []Exposure{{Code: wayInCode, Severity: open, Text: "the way in is still open, as was decided: " +
				Text(w.Text),
				Close: "deploy a patched version (irctl eradicate --image), then irctl recover"}}
		}
		h.sighted(e.Time, "", Text(w.Workload), seen)
	}
}

// undetermined is the verdict on a suspect that could not be looked at.
const undetermined record.Verdict = "could not tell"

// unread says what could not be looked at.
func unread(checks []record.Check) Text {
	for _, c := range checks {
		if !c.OK {
			return Text(c.Text)
		}
	}
	return "the suspect could not be looked at"
}

func cut(t Text, sep string) (before, after Text) {
	b, a, _ := strings.Cut(string(t), sep)
	return Text(b), Text(a)
}

func unmetOf(checks []record.Check) []Exposure {
	var list []Exposure
	for _, c := range checks {
		if !c.OK {
			list = append(list, Exposure{Code: Text(c.Code), Severity: unmet, Text: Text(c.Text)})
		}
	}
	return list
}

// sighted compares what a verdict saw of one target with what was open before.
func (h *history) sighted(at time.Time, uid string, target Text, seen []Exposure) {
	type key struct{ code, text Text }
	there, accepted := map[key]bool{}, map[key]*Accepted{}
	for _, x := range seen {
		there[key{x.Code, x.Text}], accepted[key{x.Code, x.Text}] = true, x.Accepted
	}
	var still []int
	for _, n := range h.open[uid+" "+string(target)] {
		x := &h.Exposures[n]
		k := key{x.Code, x.Text}
		if !there[k] {
			x.GoneBy = at
			continue
		}
		x.LastSeen, x.Accepted = at, accepted[k]
		delete(there, k)
		still = append(still, n)
	}
	for _, x := range seen {
		if k := (key{x.Code, x.Text}); there[k] {
			delete(there, k)
			x.Target, x.FirstSeen, x.LastSeen, x.GoneBy = target, at, at, time.Time{}
			still = append(still, len(h.Exposures))
			h.Exposures = append(h.Exposures, x)
		}
	}
	h.open[uid+" "+string(target)] = still
}

// byWeight sorts exposures: what weighs most first.
func byWeight(list []Exposure) []Exposure {
	order := []Text{unmet, open, risk, note}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Exposure) int {
		return slices.Index(order, a.Severity) - slices.Index(order, b.Severity)
	})
	return list
}
