package detect

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What is seen again is counted, but for what the cluster is found to be; its
// times go as far as anybody says.
func TestAFindingSeenAgain(t *testing.T) {
	t.Parallel()
	at := func(n int) time.Time {
		if n == 0 {
			return time.Time{}
		}
		return began.Add(time.Duration(n) * time.Minute)
	}
	for name, c := range map[string]struct {
		source      Source
		counts      []int64
		times       [][2]int
		count       int64
		first, last int
	}{
		"an alert":                   {SourceFalco, []int64{1, 1, 1}, nil, 3, 0, 0},
		"with counts of its own":     {SourceFalco, []int64{2, 5}, nil, 7, 0, 0},
		"without a count":            {SourceAudit, []int64{0, 0}, nil, 2, 0, 0},
		"of the cluster":             {SourceCluster, []int64{3, 3}, nil, 3, 0, 0},
		"of the cluster, and more":   {SourceCluster, []int64{3, 5}, nil, 5, 0, 0},
		"of the cluster, and less":   {SourceCluster, []int64{5, 3}, nil, 5, 0, 0},
		"later":                      {SourceFalco, []int64{1, 1}, [][2]int{{1, 0}, {2, 0}}, 2, 1, 2},
		"earlier":                    {SourceFalco, []int64{1, 1}, [][2]int{{2, 3}, {1, 0}}, 2, 1, 3},
		"without a time, then with":  {SourceFalco, []int64{1, 1}, [][2]int{{0, 0}, {2, 0}}, 2, 2, 2},
		"with a time, then without":  {SourceFalco, []int64{1, 1}, [][2]int{{2, 0}, {0, 0}}, 2, 2, 2},
		"in between":                 {SourceFalco, []int64{1, 1}, [][2]int{{1, 4}, {2, 3}}, 2, 1, 4},
		"for longer, and once later": {SourceFalco, []int64{1, 1}, [][2]int{{1, 2}, {2, 5}}, 2, 1, 5},
	} {
		tally := NewTally()
		var kept Finding
		for n, count := range c.counts {
			f := Finding{Code: "x", Source: c.source, Score: 50, Count: count, Subject: Subject{Pod: "p"}}
			if c.times != nil {
				f.FirstSeen, f.LastSeen = at(c.times[n][0]), at(c.times[n][1])
			}
			var isNew bool
			if kept, isNew = tally.Add(f); isNew != (n == 0) {
				t.Errorf("%s: number %d is new: %v", name, n, isNew)
			}
		}
		list := tally.Findings()
		if len(list) != 1 || list[0].Count != c.count || kept.Count != c.count ||
			!list[0].FirstSeen.Equal(at(c.first)) || !list[0].LastSeen.Equal(at(c.last)) {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

var began = time.Date(2026, 2, 12, 9, 30, 0, 0, time.UTC)

// When there is no room, what is worse takes the place of what is less, and
// nothing else does: no flood pushes out its equals, or what came before it.
func TestAFloodPushesNothingOutThatIsNoLess(t *testing.T) {
	t.Parallel()
	add := func(tally *Tally, score Score, names ...string) {
		for _, n := range names {
			tally.Add(Finding{Code: n, Source: SourceFalco, Score: score, Subject: Subject{Pod: "p"}})
		}
	}
	for name, c := range map[string]struct {
		flood   func(*Tally)
		want    []string
		dropped int64
	}{
		"of equals":         {func(t *Tally) { add(t, 50, "x1", "x2", "x3") }, []string{"high", "mid1", "mid2"}, 3},
		"of less":           {func(t *Tally) { add(t, 10, "x1", "x2") }, []string{"high", "mid1", "mid2"}, 2},
		"one that is worse": {func(t *Tally) { add(t, 60, "x1") }, []string{"high", "x1", "mid1"}, 1},
		"two of the worst":  {func(t *Tally) { add(t, 90, "x1", "x2") }, []string{"x1", "x2", "high"}, 2},
		"of the worst":      {func(t *Tally) { add(t, 90, "x1", "x2", "x3", "x4") }, []string{"x1", "x2", "x3"}, 4},
		"seen again": {func(t *Tally) { add(t, 50, "mid1", "mid2"); add(t, 70, "high") },
			[]string{"high", "mid1", "mid2"}, 0},
		"of less, then one": {func(t *Tally) { add(t, 10, "x1"); add(t, 60, "x2"); add(t, 10, "x3") },
			[]string{"high", "x2", "mid1"}, 3},
		"beyond the scale": {func(t *Tally) { add(t, maxScore+50, "x1"); add(t, -5, "x2") },
			[]string{"x1", "high", "mid1"}, 2},
	} {
		tally := NewTally()
		tally.max = 3
		add(tally, 50, "mid1", "mid2")
		add(tally, 70, "high")
		c.flood(tally)
		var got []string
		for _, f := range tally.Findings() {
			got = append(got, f.Code)
		}
		if !slices.Equal(got, c.want) || tally.Dropped() != c.dropped {
			t.Errorf("%s: %q, %d dropped", name, got, tally.Dropped())
		}
	}
	// What was dropped has its place again once it is worse, and is not counted twice.
	tally := NewTally()
	tally.max = 2
	for n := range 4 {
		add(tally, Score(10*(n+1)), fmt.Sprint(n))
	}
	if list := tally.Findings(); len(list) != 2 || list[0].Code != "3" || list[1].Code != "2" {
		t.Errorf("%+v", list)
	}
}

// An alert that gives no time is not old, nor is one of the very time that was asked for.
func TestWhichAlertIsOld(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at    time.Time
		since time.Time
		old   bool
	}{
		"before": {began.Add(-time.Second), began, true}, "at it": {began, began, false},
		"after":          {began.Add(time.Second), began, false},
		"without a time": {time.Time{}, began, false}, "all are wanted": {began, time.Time{}, false},
		"neither": {time.Time{}, time.Time{}, false},
	} {
		r := NewRun(Request{AlertsSince: c.since}, nil)
		report := &InputReport{}
		parse := func(_ []byte, _ bool, take func(Finding)) error {
			take(Finding{Code: "x", Source: SourceFalco, Score: 50, FirstSeen: c.at})
			return nil
		}
		lines := newLineReader(strings.NewReader("{}\n"))
		_ = r.readLines(t.Context(), lines, parse, report, func() {}) // the end of the file
		if old := report.Old == 1; old != c.old || (len(r.tally.Findings()) == 0) != c.old {
			t.Errorf("%s: old: %v, %d kept", name, old, len(r.tally.Findings()))
		}
	}
}
