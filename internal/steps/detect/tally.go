package detect

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// maxFindings bounds how many findings a Tally keeps: some 40 MiB if every
// text of all is as long as it may be.
const maxFindings = 5000

// Tally keeps findings, each once with how often it was seen. When it is full
// the least of them give way, so that a flood of small ones hides no large one.
// It is not for concurrent use.
type Tally struct {
	byKey   map[string]*Finding
	byScore [maxScore + 1][]string // keys, to find the least; may hold some that are gone
	max     int
	dropped int64
}

// NewTally makes one that is empty.
func NewTally() *Tally { return &Tally{byKey: map[string]*Finding{}, max: maxFindings} }

// Add counts a finding. It returns what is kept of it, and whether that is
// new. What the cluster is found to be is not an occurrence: seen again it is
// not counted again.
func (t *Tally) Add(f Finding) (Finding, bool) {
	f.Score = min(max(f.Score, 0), maxScore)
	f.Severity = f.Score.Severity()
	f.Count = max(f.Count, 1)
	f.bound()
	key := f.key()
	if known := t.byKey[key]; known != nil {
		known.again(f)
		return *known, false
	}
	if len(t.byKey) >= t.max && !t.makeRoom(f.Score) {
		t.dropped++
		return f, false
	}
	if f.LastSeen.IsZero() {
		f.LastSeen = f.FirstSeen
	}
	f.Alert = kept(f.Alert)
	t.byKey[key] = &f
	t.byScore[f.Score] = append(t.byScore[f.Score], key)
	return f, true
}

// kept is an alert as it came, if it is not large. It is a copy: the memory of
// the line that it was is used again.
func kept(alert []byte) json.RawMessage {
	if len(alert) == 0 || len(alert) > maxAlert || !json.Valid(alert) {
		return nil
	}
	return bytes.ToValidUTF8(alert, []byte("\uFFFD"))
}

func (f *Finding) again(g Finding) {
	if f.Source == SourceCluster {
		f.Count = max(f.Count, g.Count)
	} else {
		f.Count += g.Count
	}
	for _, at := range []time.Time{g.FirstSeen, g.LastSeen} {
		if at.IsZero() {
			continue
		}
		if f.FirstSeen.IsZero() || at.Before(f.FirstSeen) {
			f.FirstSeen = at
		}
		if at.After(f.LastSeen) {
			f.LastSeen = at
		}
	}
}

// makeRoom drops one finding of less than a score.
func (t *Tally) makeRoom(score Score) bool {
	for s := Score(0); s < score; s++ {
		for n := len(t.byScore[s]); n > 0; n-- {
			key := t.byScore[s][n-1]
			t.byScore[s] = t.byScore[s][:n-1]
			if t.byKey[key] != nil {
				delete(t.byKey, key)
				t.dropped++
				return true
			}
		}
	}
	return false
}

// Dropped is how many findings there was no room for.
func (t *Tally) Dropped() int64 { return t.dropped }

// Findings are copies of all that is kept, the worst first.
func (t *Tally) Findings() []Finding {
	list := make([]Finding, 0, len(t.byKey))
	for _, f := range t.byKey {
		list = append(list, *f)
	}
	slices.SortFunc(list, compareFindings)
	return list
}

// compareFindings is an order without ties: what is equal in all of this is
// the same finding.
func compareFindings(a, b Finding) int {
	return cmp.Or(cmp.Compare(b.Score, a.Score), a.FirstSeen.Compare(b.FirstSeen), cmp.Compare(a.Code, b.Code),
		cmp.Compare(a.key(), b.key()))
}
