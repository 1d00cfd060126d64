package timeline

import (
	"time"

	"irctl/internal/record"
)

// Metrics are the moments by which the handling of an incident is judged. A
// zero time has not happened, or was not recorded. What a person said of a
// moment (`irctl incident set detected=…`) counts for more than what the
// journal shows by itself.
type Metrics struct {
	// first sign of the attack that a record.Detection tells of
	StartedAt time.Time `json:"startedAt,omitzero"`
	// the alert of the first entry of the phase detect, see record.Detection; else OpenedAt
	DetectedAt     time.Time `json:"detectedAt,omitzero"`
	OpenedAt       time.Time `json:"openedAt,omitzero"`       // first opened entry
	AcknowledgedAt time.Time `json:"acknowledgedAt,omitzero"` // OpenedAt, if something had told of it before
	// ContainedAt is the first verdict of the phase contain with outcome done that none
	// took back; EradicatedAt and RecoveredAt are the same of theirs, the latter unless
	// a watch saw the attacker's return since.
	ContainedAt  time.Time `json:"containedAt,omitzero"`
	EradicatedAt time.Time `json:"eradicatedAt,omitzero"`
	RecoveredAt  time.Time `json:"recoveredAt,omitzero"`
	ClosedAt     time.Time `json:"closedAt,omitzero"` // last closed entry, unless reopened after it

	// Sources are the entries from which the moments are known, by Seq. Where
	// detection is known from the opening alone, it has none.
	Sources map[Moment]int64 `json:"-"`
}

// Moment is one that the metrics tell, and the key by which a person can say
// when it was.
type Moment string

// The moments that a person can say, in the order in which they come.
const (
	Started      Moment = "started"
	Detected     Moment = "detected"
	Acknowledged Moment = "acknowledged"
	Contained    Moment = "contained"
	Eradicated   Moment = "eradicated"
	Recovered    Moment = "recovered"
)

// Moments are all of them.
var Moments = []Moment{Started, Detected, Acknowledged, Contained, Eradicated, Recovered}

// phaseAim is the moment at which a phase has reached its aim.
var phaseAim = map[string]Moment{"contain": Contained, "eradicate": Eradicated, "recover": Recovered}

// sighting is a moment and the entry that tells it.
type sighting struct {
	at  time.Time
	seq int64
}

// detectionOf reads the times of an entry of the phase detect. They come from
// alerts, which may tell any time: one after the entry that records it cannot
// be true.
func detectionOf(e *Entry) record.Detection {
	var d record.Detection
	if told, ok := Payload[record.Detection](e); ok {
		d = *told
	}
	if d.AlertedAt.IsZero() || d.AlertedAt.After(e.Time) || !writable(d.AlertedAt) {
		d.AlertedAt = e.Time
	}
	if d.StartedAt.After(d.AlertedAt) || !writable(d.StartedAt) {
		d.StartedAt = time.Time{}
	}
	return d
}

// writable: JSON can write the time again. It reads zones of +24:00, which it
// does not write.
func writable(t time.Time) bool {
	_, err := t.MarshalText()
	return err == nil
}

// MetricsOf reads the metrics out of a journal.
func MetricsOf(entries []Entry) Metrics {
	var m Metrics
	seen, said := map[Moment]sighting{}, map[Moment]sighting{}
	see := func(moment Moment, e Entry, at time.Time) {
		if _, known := seen[moment]; !known && !at.IsZero() {
			seen[moment] = sighting{at, e.Seq}
		}
	}
	aims := aims{}
	for i, e := range entries {
		if e.Phase == "detect" {
			d := detectionOf(&entries[i])
			see(Started, e, d.StartedAt)
			see(Detected, e, d.AlertedAt)
		}
		switch e.Kind {
		case KindOpened:
			first(&m.OpenedAt, e.Time)
			see(Acknowledged, e, e.Time)
		case KindVerdict:
			switch aim := phaseAim[e.Phase]; aims.judge(&entries[i]) {
			case reached:
				see(aim, e, e.Time)
			case takenBack:
				delete(seen, aim)
			}
		case KindObservation:
			if w, ok := Payload[record.Watched](&entries[i]); ok && len(w.Hits) > 0 {
				delete(seen, Recovered)
			}
		case KindChanged:
			hear(said, e)
		case KindClosed:
			m.ClosedAt = e.Time
		case KindReopened:
			m.ClosedAt = time.Time{}
		}
	}
	_, heardOf := seen[Detected]
	if _, ok := said[Detected]; !ok && !heardOf {
		delete(seen, Acknowledged) // the opening is all there is
	}
	m.fill(seen, said)
	first(&m.DetectedAt, m.OpenedAt)
	return m
}

// aims are the phases whose own verdict says that they have not reached their aim.
type aims map[string]bool

// What a verdict does to the moment at which its phase reached its aim.
const (
	leaves    = iota // nothing: it could not tell, or is of a phase without such a moment
	reached          // the phase has reached it
	takenBack        // it has not, or no more
)

// judge takes in a verdict. That all steps of a runbook's phase are done is none on
// what they were done for: it does not outweigh one that says no.
func (a aims) judge(e *Entry) int {
	if phaseAim[e.Phase] == "" || e.Outcome != OutcomeDone && e.Outcome != OutcomeFailed {
		return leaves
	}
	failed := e.Outcome == OutcomeFailed
	if _, run := Payload[record.Run](e); !run {
		a[e.Phase] = failed
	}
	if failed || a[e.Phase] {
		return takenBack
	}
	return reached
}

// hear takes down what a person said of a moment, or took back.
func hear(said map[Moment]sighting, e Entry) {
	c, ok := Payload[record.Changed](&e)
	if !ok {
		return
	}
	if at, err := time.Parse(time.RFC3339, c.After); err == nil && writable(at) {
		said[Moment(c.Key)] = sighting{at, e.Seq}
	} else {
		delete(said, Moment(c.Key))
	}
}

func (m *Metrics) fill(seen, said map[Moment]sighting) {
	m.Sources = map[Moment]int64{}
	for moment, at := range map[Moment]*time.Time{Started: &m.StartedAt, Detected: &m.DetectedAt,
		Acknowledged: &m.AcknowledgedAt,
		Contained:    &m.ContainedAt, Eradicated: &m.EradicatedAt, Recovered: &m.RecoveredAt} {
		s, ok := said[moment]
		if !ok {
			s, ok = seen[moment]
		}
		if ok {
			*at, m.Sources[moment] = s.at, s.seq
		}
	}
}

func first(at *time.Time, t time.Time) {
	if at.IsZero() {
		*at = t
	}
}

// TimeToDetect is from the first sign of the attack to its detection; false
// where no sign is known.
func (m Metrics) TimeToDetect() (time.Duration, bool) { return between(m.StartedAt, m.DetectedAt) }

// TimeToContain is from detection to containment; false while not contained.
func (m Metrics) TimeToContain() (time.Duration, bool) { return between(m.DetectedAt, m.ContainedAt) }

// TimeToClose is from detection to the closing; false while open.
func (m Metrics) TimeToClose() (time.Duration, bool) { return between(m.DetectedAt, m.ClosedAt) }

func between(from, to time.Time) (time.Duration, bool) {
	if from.IsZero() || to.IsZero() {
		return 0, false
	}
	return to.Sub(from), true
}
