package engine_test

import (
	"context"
	"testing"
	"time"

	"irctl/internal/drill/sim"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// Without its quarantine a detached pod would be more open than before, since
// the application's own policies no longer isolate it; and scaled down with its
// labels on, it would be gone.
func TestWithoutAQuarantineNothingElseIsDone(t *testing.T) {
	w := newWorld(t)
	w.Deny(sim.Rule{Verb: "create", Resource: "networkpolicies"})
	p := w.mustStart(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	res, err := p.containNow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]timeline.Outcome{contain.StepQuarantine: timeline.OutcomeDenied,
		contain.StepDetach: timeline.OutcomeRefused, contain.StepScale: timeline.OutcomeRefused}
	if len(res.Actions) != len(want) {
		t.Errorf("%d actions", len(res.Actions))
	}
	for _, a := range res.Actions {
		if a.Outcome != want[a.Step] {
			t.Errorf("%s: %s (%s)", a.Summary, a.Outcome, a.Error)
		}
	}
	if res.Verdict != contain.NotContained {
		t.Errorf("verdict %q", res.Verdict)
	}
	if ctx.Err() != nil {
		t.Error("it waited for what could not come")
	}
	wantSame(t, "after a failed quarantine", w.before, picture(w.Cluster, w.suspect))
}
