package tui

import (
	"context"
	"strings"
	"testing"
	"time"

	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// TestDoubtsAreInTheHeader: an incident of whose files something is not known is not
// shown as contained, and the list of incidents says what is not known.
func TestDoubtsAreInTheHeader(t *testing.T) {
	t.Parallel()
	change, err := timeline.Entry{Seq: 1, Kind: timeline.KindIntent, Phase: contain.Phase, Step: contain.StepQuarantine,
		Action: "create"}.With(
		record.Change{Object: record.Ref{Version: "v1", Resource: "pods", Kind: "Pod", Namespace: "a", Name: "b"},
			Manifest: map[string]any{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	verdict, err := timeline.Entry{Seq: 3, Time: time.Now(), Kind: timeline.KindVerdict, Phase: contain.Phase,
		Outcome: timeline.OutcomeDone}.With(
		record.Assessment{Verdict: record.Contained,
			Findings: record.Findings{{Namespace: "a", Pod: "b", Verdict: record.Contained}}})
	if err != nil {
		t.Fatal(err)
	}
	entries := []timeline.Entry{change, {Seq: 2, Kind: timeline.KindOutcome, Intent: 1, Outcome: timeline.OutcomeDone},
		verdict}
	for name, tc := range map[string]struct {
		doubts []incident.Doubt
		want   string
	}{
		"none":      {nil, " CONTAINED "},
		"no matter": {[]incident.Doubt{{Text: "its file was made anew"}}, " CONTAINED, 1 DOUBT "},
		"it weighs": {[]incident.Doubt{{Text: "the head is lost", Weighs: true}, {Text: "its file was made anew"}},
			" COULD NOT TELL, 2 DOUBTS "},
	} {
		m := newRoot(context.Background(), Options{Now: time.Now, NoColor: true})
		m.w, m.h, m.screen = 80, 24, onWalk
		i := incident.Incident{ID: "inc-20260212-093000-abcd", Doubts: tc.doubts,
			Targets: []incident.Target{{Kind: "Pod", Namespace: "a", Name: "b"}}}
		m.file = fileOf(i, entries, t.TempDir(), 1)
		if line := m.clocks(); !strings.Contains(line, tc.want) {
			t.Errorf("%s: %q, not %q", name, line, tc.want)
		}
		m.home.open, m.screen = []summary{{Incident: i, judged: m.file.judged}}, onHome
		for _, d := range tc.doubts {
			if screen := m.View(); !strings.Contains(screen, d.Text) {
				t.Errorf("%s: the list does not say %q:\n%s", name, d.Text, screen)
			}
		}
		m.screen = onWalk
		status := &engine.StatusResult{Incident: i, Verdict: contain.Undetermined}
		status.Strays = []engine.Stray{{Object: "Pod a/c", Undo: "kubectl label pod c"}}
		m.status = &looked{status, time.Now().Add(time.Minute), 1 << 40}
		if line := m.clocks(); !strings.Contains(line, "COULD NOT TELL, 1 DOUBT") {
			t.Errorf("%s: the status: %q", name, line)
		}
	}
}
