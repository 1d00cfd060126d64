package engine_test

import (
	"context"
	"testing"

	"irctl/internal/engine"
	"irctl/internal/incident"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

func (p *process) only(ctx context.Context) incident.ID {
	open, _ := p.Store.FindOpen(ctx, func(incident.Incident) bool { return true })
	if len(open) != 1 {
		return ""
	}
	return open[0].ID
}

// recoverNow recovers the only incident, as the command does.
func (p *process) recoverNow(ctx context.Context, change ...func(*engine.RecoverRequest)) (*engine.RecoverResult, error) {
	req := engine.RecoverRequest{Incident: p.only(ctx)}
	for _, f := range change {
		f(&req)
	}
	return p.Recover(ctx, req)
}

func sameImage(r *engine.RecoverRequest) { r.SameImage = true }

func TestTheSuspectsImageIsPutBackOnlyKnowingly(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	p.mustContain(t)
	contained := picture(w.Cluster, w.suspect)
	res, err := p.recoverNow(t.Context())
	if err != nil || len(res.Refusals) != 1 || res.Verdict != engine.NotRecovered {
		t.Fatalf("%+v, %v", res, err)
	}
	wantSame(t, "refused", contained, picture(w.Cluster, w.suspect))

	if res, err = p.recoverNow(t.Context(), sameImage); err != nil || !res.Workloads[0].OK || res.WayIn() != recovery.Open {
		t.Fatalf("%+v, %v", res, err)
	}
	if standing := timeline.Standing(journal(t, dir)); len(standing) != 2 {
		t.Errorf("%d changes stand, expected those of the suspect", len(standing))
	}
}
