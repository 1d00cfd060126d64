package timeline

import "time"

// Metrics are the moments by which the handling of an incident is judged. A
// zero time has not happened, or was not recorded.
type Metrics struct {
	DetectedAt  time.Time `json:"detectedAt,omitzero"`  // first entry of the phase detect, else OpenedAt
	OpenedAt    time.Time `json:"openedAt,omitzero"`    // first opened entry
	ContainedAt time.Time `json:"containedAt,omitzero"` // first verdict of the phase contain with outcome done
	ClosedAt    time.Time `json:"closedAt,omitzero"`    // last closed entry, unless reopened after it
}

// MetricsOf reads the metrics out of a journal.
func MetricsOf(entries []Entry) Metrics {
	var m Metrics
	for _, e := range entries {
		if e.Phase == "detect" {
			first(&m.DetectedAt, e.Time)
		}
		switch e.Kind {
		case KindOpened:
			first(&m.OpenedAt, e.Time)
		case KindVerdict:
			if e.Phase == "contain" && e.Outcome == OutcomeDone {
				first(&m.ContainedAt, e.Time)
			}
		case KindClosed:
			m.ClosedAt = e.Time
		case KindReopened:
			m.ClosedAt = time.Time{}
		}
	}
	first(&m.DetectedAt, m.OpenedAt)
	return m
}

func first(at *time.Time, t time.Time) {
	if at.IsZero() {
		*at = t
	}
}

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
