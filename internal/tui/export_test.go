package tui

import (
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// Header is the verdict that the UI's header shows, and how much is accepted, of an
// incident of which a look at the cluster found s.
func Header(i incident.Incident, entries []timeline.Entry, s *engine.StatusResult) (contain.Verdict, int) {
	m := root{desk: &desk{}, file: fileOf(i, entries, "", 0), status: &looked{status: s, seq: lastOf(entries)}}
	j := m.containment()
	return j.verdict, j.accepted
}
