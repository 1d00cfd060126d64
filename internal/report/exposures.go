package report

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"irctl/internal/timeline"
)

// Verdict is the last verdict on containment.
type Verdict struct {
	Seq     int64     `json:"seq"`
	Time    time.Time `json:"time"`
	Verdict Text      `json:"verdict"`
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

// Fate is what became of it, and how long it was seen open.
func (x Exposure) Fate() string {
	switch {
	case !x.Open():
		return "gone within " + took(x.GoneBy.Sub(x.FirstSeen))
	case x.LastSeen.Equal(x.FirstSeen):
		return "still open when last looked at"
	}
	return "still open after " + took(x.LastSeen.Sub(x.FirstSeen))
}

// judgement is what a verdict's entry holds; package contain has all of it.
type judgement struct {
	Verdict   Text            `json:"verdict"`
	Targets   json.RawMessage `json:"targets"` // findings; their number where they were cut
	Cut       bool            `json:"cut"`
	PutBack   []Text          `json:"putBack"`
	Workloads []check         `json:"workloads"`
}

type finding struct {
	Verdict   Text       `json:"verdict"`
	Namespace string     `json:"namespace"`
	Pod       string     `json:"pod"`
	UID       string     `json:"uid"`
	Checks    []check    `json:"checks"`
	Exposures []Exposure `json:"exposures"`
}

type check struct {
	Code Text `json:"code"`
	OK   bool `json:"ok"`
	Text Text `json:"text"`
}

// verdict takes down what a verdict on containment says.
func (h *history) verdict(e timeline.Entry) {
	var j judgement
	var findings []finding
	err := json.Unmarshal(e.Data, &j)
	if err == nil && !j.Cut {
		err = json.Unmarshal(j.Targets, &findings)
	}
	h.Verdict = &Verdict{Seq: e.Seq, Time: e.Time, Verdict: j.Verdict}
	if j.Verdict == "" {
		h.Verdict.Verdict, _ = cut(Text(e.Summary), ":")
	}
	if err != nil || j.Cut {
		h.Deviations = append(h.Deviations, Deviation{Seq: e.Seq, Time: e.Time, Outcome: timeline.OutcomeUnknown, What: Text(e.Summary),
			Reason: "what this verdict names as open is not in the journal, or cannot be read: what became of each exposure is not known from it"})
	}
	for _, p := range j.PutBack {
		h.PutBack = append(h.PutBack, Observed{Seq: e.Seq, Time: e.Time, Text: p})
	}
	if err == nil && !j.Cut {
		for _, f := range findings {
			if f.Verdict == undetermined {
				// What was open may still be: nobody could look.
				h.Deviations = append(h.Deviations, Deviation{Seq: e.Seq, Time: e.Time, Outcome: timeline.OutcomeUnknown, What: Text(e.Summary), Reason: unread(f.Checks)})
				continue
			}
			h.sighted(e.Time, f.UID, Text(f.Namespace+"/"+f.Pod), append(f.Exposures, unmetOf(f.Checks)...))
		}
		h.sighted(e.Time, "", "", unmetOf(j.Workloads))
	}
}

// restoring is what an entry of a recovery holds on the way in; package engine
// has all of it.
type restoring struct {
	SameImage bool `json:"sameImage"`
	WayIn     []struct {
		Workload Text `json:"workload"`
		State    Text `json:"state"`
		Text     Text `json:"text"`
	} `json:"wayIn"`
}

// wayInCode is the exposure of a workload that was put back on the image through
// which, as far as anybody knows, the attacker came.
const wayInCode Text = "way-in"

// decided: a way in is open, since somebody decided so.
func (x Exposure) decided() bool { return x.Code == wayInCode && x.Open() }

// wayIn takes down whether a workload was put back on the suspects' image.
func (h *history) wayIn(e timeline.Entry) {
	var r restoring
	if len(e.Data) == 0 || json.Unmarshal(e.Data, &r) != nil {
		return
	}
	for _, w := range r.WayIn {
		var seen []Exposure
		if r.SameImage && w.State != "closed" {
			seen = []Exposure{{Code: wayInCode, Severity: open, Text: "the way in is still open, as was decided: " + w.Text,
				Close: "deploy a patched version (irctl eradicate --image), then irctl recover"}}
		}
		h.sighted(e.Time, "", w.Workload, seen)
	}
}

// undetermined is the verdict on a suspect that could not be looked at.
const undetermined Text = "could not tell"

// unread says what could not be looked at.
func unread(checks []check) Text {
	for _, c := range checks {
		if !c.OK {
			return c.Text
		}
	}
	return "the suspect could not be looked at"
}

func cut(t Text, sep string) (before, after Text) {
	b, a, _ := strings.Cut(string(t), sep)
	return Text(b), Text(a)
}

func unmetOf(checks []check) []Exposure {
	var list []Exposure
	for _, c := range checks {
		if !c.OK {
			list = append(list, Exposure{Code: c.Code, Severity: unmet, Text: c.Text})
		}
	}
	return list
}

// sighted compares what a verdict saw of one target with what was open before.
func (h *history) sighted(at time.Time, uid string, target Text, seen []Exposure) {
	type key struct{ code, text Text }
	there := map[key]bool{}
	for _, x := range seen {
		there[key{x.Code, x.Text}] = true
	}
	var still []int
	for _, n := range h.open[uid+" "+string(target)] {
		x := &h.Exposures[n]
		k := key{x.Code, x.Text}
		if !there[k] {
			x.GoneBy = at
			continue
		}
		x.LastSeen = at
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
	slices.SortStableFunc(list, func(a, b Exposure) int { return slices.Index(order, a.Severity) - slices.Index(order, b.Severity) })
	return list
}
