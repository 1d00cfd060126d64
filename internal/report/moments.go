package report

import (
	"slices"
	"time"

	"irctl/internal/timeline"
)

// Moment is when something happened, and how that is known.
type Moment struct {
	Name string `json:"name"`
	// At is zero where it is not known, or has not happened.
	At     time.Time `json:"at,omitzero"`
	Seq    int64     `json:"seq,omitempty"` // of the entry that tells it
	Source Text      `json:"source,omitempty"`

	said bool // by a person, afterwards
}

// When is the moment as people read it.
func (m Moment) When() string {
	if m.Name == closed && m.At.IsZero() {
		return "not yet"
	}
	return when(m.At)
}

// Duration is how long a part of the response took.
type Duration struct {
	// Name is what was achieved: detect, acknowledge, contain, eradicate, recover.
	Name string `json:"name"`
	From string `json:"from"` // names of moments
	To   string `json:"to"`
	// Seconds is nil where it is not known; Note says why, or what else there
	// is to know.
	Seconds *float64 `json:"seconds,omitempty"`
	Note    string   `json:"note,omitempty"`
}

// Text is the duration as people read it.
func (d Duration) Text() string {
	if d.Seconds == nil {
		return "not known"
	}
	return took(time.Duration(*d.Seconds * float64(time.Second)))
}

const (
	opened = "opened"
	closed = "closed"
)

func momentOf(m timeline.Metrics, moment timeline.Moment) time.Time {
	if m.Sources[moment] == 0 {
		return time.Time{} // such as a detection that is known from the opening alone
	}
	switch moment {
	case timeline.Started:
		return m.StartedAt
	case timeline.Detected:
		return m.DetectedAt
	case timeline.Acknowledged:
		return m.AcknowledgedAt
	case timeline.Contained:
		return m.ContainedAt
	case timeline.Eradicated:
		return m.EradicatedAt
	case timeline.Recovered:
		return m.RecoveredAt
	}
	return time.Time{}
}

// moments are in the order in which a response goes, known or not.
func moments(m timeline.Metrics, entries []timeline.Entry) []Moment {
	var list []Moment
	for _, name := range timeline.Moments {
		moment := Moment{Name: string(name), At: momentOf(m, name), Seq: m.Sources[name]}
		if i := slices.IndexFunc(entries, func(e timeline.Entry) bool { return e.Seq == moment.Seq }); i >= 0 {
			moment.Source, moment.said = sourceOf(entries[i]), entries[i].Kind == timeline.KindChanged
		}
		list = append(list, moment)
		if name == timeline.Detected {
			list = append(list, Moment{Name: opened, At: m.OpenedAt})
		}
	}
	return append(list, Moment{Name: closed, At: m.ClosedAt})
}

func sourceOf(e timeline.Entry) Text {
	switch e.Kind {
	case timeline.KindChanged:
		return "as recorded by " + who(e.Actor)
	case timeline.KindVerdict:
		return "the first verdict that says so: " + Text(e.Summary)
	case timeline.KindOpened:
		return "the incident was opened"
	}
	return Text(e.Summary)
}

func durations(m timeline.Metrics) []Duration {
	return []Duration{
		between(m, "detect", timeline.Started, timeline.Detected),
		between(m, "acknowledge", timeline.Detected, timeline.Acknowledged),
		between(m, "contain", timeline.Detected, timeline.Contained),
		between(m, "eradicate", timeline.Detected, timeline.Eradicated),
		between(m, "recover", timeline.Detected, timeline.Recovered),
	}
}

// missing says of a moment why it is not known.
var missing = map[timeline.Moment]string{
	timeline.Started:      "when it began is not recorded",
	timeline.Detected:     "when it was detected is not recorded",
	timeline.Acknowledged: "when somebody took it on is not recorded",
	timeline.Contained:    "no verdict that holds says that it was contained",
	timeline.Eradicated:   "nothing that holds says that the cause was eradicated",
	timeline.Recovered:    "nothing that holds says that the service recovered",
}

func between(m timeline.Metrics, name string, from, to timeline.Moment) Duration {
	d := Duration{Name: name, From: string(from), To: string(to)}
	begin, end := momentOf(m, from), momentOf(m, to)
	if begin.IsZero() && from == timeline.Detected && to != timeline.Acknowledged {
		begin, d.From = m.OpenedAt, opened
		d.Note = "counted from the opening: " + missing[from]
	}
	switch {
	case end.IsZero():
		d.Note = missing[to]
	case begin.IsZero():
		d.Note = missing[from]
	case end.Before(begin):
		d.Note = "the times that are recorded contradict each other"
	default:
		seconds := end.Sub(begin).Seconds()
		d.Seconds = &seconds
	}
	return d
}

// span is a stretch of time, with a name.
type span struct {
	name     string
	from, to time.Time
}

// phaseNames are the phases of a response, in order.
var phaseNames = []string{"detect", "contain", "investigate", "eradicate", "recover", "post-mortem"}

// phases are the spans from the first to the last entry of each phase; the
// undoing of what was done in a phase is not part of it.
func phases(entries []timeline.Entry) []span {
	found := map[string]*span{}
	undoing := map[int64]bool{} // intents that undo
	for _, e := range entries {
		if e.Kind == timeline.KindIntent && e.Undoes != 0 {
			undoing[e.Seq] = true
		}
		switch s := found[e.Phase]; {
		case undoing[e.Seq], e.Kind == timeline.KindOutcome && undoing[e.Intent]:
		case s != nil:
			s.to = e.Time
		case slices.Contains(phaseNames, e.Phase):
			found[e.Phase] = &span{e.Phase, e.Time, e.Time}
		}
	}
	var list []span
	for _, name := range phaseNames {
		if s := found[name]; s != nil {
			list = append(list, *s)
		}
	}
	return list
}
