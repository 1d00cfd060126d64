package engine_test

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/eradicate"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

// cleanImage is the patched version.
const cleanImage = "registry.example.com/todo-backend" +
	"@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// downWorld is a world in which the backend is down: its suspect contained, its
// autoscaler suspended, its image replaced.
type downWorld struct {
	*world
	dir string // the state directory, to be copied
}

var downOnce sync.Mutex
var downBase *downWorld

func newDown(t testing.TB) *downWorld {
	t.Helper()
	downOnce.Lock()
	defer downOnce.Unlock()
	if downBase == nil {
		downBase = makeDown(t)
	}
	c, err := downBase.Clone()
	if err != nil {
		t.Fatal(err)
	}
	return &downWorld{&world{Cluster: c, suspect: downBase.suspect}, copyState(t, downBase.dir)}
}

func makeDown(t testing.TB) *downWorld {
	w := newWorld(t)
	if err := w.Apply(`
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: backend, namespace: todo-app}
spec: {scaleTargetRef: {name: backend}}
`); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "irctl-down") // outlives the test that comes first
	if err != nil {
		t.Fatal(err)
	}
	p := w.mustStart(t, dir)
	p.mustContain(t, func(r *engine.ContainRequest) {
		r.Options.Steps = append([]string{contain.StepSuspend}, contain.DefaultSteps...)
	})
	if _, err := p.Eradicate(t.Context(), engine.EradicateRequest{Incident: p.only(t.Context()),
		Options: eradicate.Options{Images: []eradicate.Image{{Container: "backend", Ref: cleanImage}}}}); err != nil {
		t.Fatal(err)
	}
	return &downWorld{w, dir}
}

// recoveredRun is what a recovery without faults does: its calls by name, and
// the state in which it leaves the cluster.
func recoveredRun(t *testing.T) (calls []sim.Request, after map[string]any) {
	t.Helper()
	w := newDown(t)
	p := w.mustStart(t, w.dir)
	if _, err := p.recoverNow(t.Context(), deleting); err != nil {
		t.Fatal(err)
	}
	calls = p.server.Requests()
	if len(calls) < 20 || p.server.Written() != 4 {
		t.Fatalf("a recovery makes %d calls, %d of them writes: this test no longer looks at what it was made for",
			len(calls), p.server.Written())
	}
	if standing := timeline.Standing(journal(t, w.dir)); len(standing) != 1 ||
		standing[0].Intent.Step != eradicate.StepImage {
		t.Fatalf("what stands is not the clean image alone: %+v", standing)
	}
	return calls, picture(w.Cluster, w.suspect)
}

// recoveredAgain runs recover again, which must find or make the same state as
// a clean run, and nothing may be left open in the journal.
func (w *downWorld) recoveredAgain(t *testing.T, name, dir string, after map[string]any) *process {
	p := w.mustStart(t, dir)
	res, err := p.recoverNow(t.Context(), deleting)
	if err != nil {
		t.Errorf("%s: recover again: %v", name, err)
		return p
	}
	for _, a := range res.Actions {
		if a.Err() != nil {
			t.Errorf("%s: recover again: %s: %v", name, a.Summary, a.Err())
		}
	}
	wantSame(t, name+": recover again", after, picture(w.Cluster, w.suspect))
	if pending := timeline.Pending(journal(t, dir)); len(pending) > 0 {
		t.Errorf("%s: %d intents have no outcome", name, len(pending))
	}
	return p
}

// TestEveryCallOfRecoverFails lets every single API call go wrong in every way.
func TestEveryCallOfRecoverFails(t *testing.T) {
	calls, after := recoveredRun(t)
	forEveryFault(t, calls, func(t *testing.T, call sim.Request, fault sim.Fault) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		w := newDown(t)
		s := &strike{call: call.Key(), fault: fault}
		p, err := w.start(t, ctx, w.dir, s.faults)
		if err == nil {
			_, err = p.recoverNow(ctx, deleting)
		}
		if !s.hit.Load() {
			t.Errorf("%s: never called", call.Key())
			return
		}
		if err != nil {
			t.Errorf("%s: one failed call ended the run: %v", call.Key(), err)
		}
		if again := w.recoveredAgain(t, call.Key(), w.dir, after); again.server.Written() != 0 {
			t.Errorf("%s: the run was not done: a second one wrote %d times", call.Key(), again.server.Written())
		}
	})
}

// TestServerGoesAwayDuringRecover takes the server away for good at every call:
// the run ends by itself, soon, tells of it, and the next one goes on.
func TestServerGoesAwayDuringRecover(t *testing.T) {
	t.Parallel()
	calls, after := recoveredRun(t)
	clean, err := newDown(t).recovered(t)
	if err != nil {
		t.Fatal(err)
	}
	forEveryCall(calls, func(_ int, call sim.Request) {
		w := newDown(t)
		url, server := w.goneAt(t, call)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		p, err := w.connect(t, ctx, url, server, w.dir)
		var res *engine.RecoverResult
		if err == nil {
			res, err = p.recoverNow(ctx, deleting)
		}
		if err == nil && !tellsOfTrouble(res, clean) {
			t.Errorf("%s: the server went away, and the result does not tell: %+v", call.Key(), res)
		}
		w.recoveredAgain(t, call.Key(), w.dir, after)
	})
}

func (w *downWorld) recovered(t *testing.T) (*engine.RecoverResult, error) {
	return w.mustStart(t, w.dir).recoverNow(t.Context(), deleting)
}

// tellsOfTrouble: something failed, or was not known, that otherwise was.
func tellsOfTrouble(res, clean *engine.RecoverResult) bool {
	for _, a := range res.Actions {
		if a.Err() != nil {
			return true
		}
	}
	bad := func(r *engine.RecoverResult) []string {
		return append(r.Codes(recovery.Failed), r.Codes(recovery.NotKnown)...)
	}
	return len(res.Refusals)+len(res.Failures) > 0 || !slices.Equal(bad(res), bad(clean))
}

// TestRecoverKilledAtEveryCall kills irctl before and after every single call.
func TestRecoverKilledAtEveryCall(t *testing.T) {
	calls, after := recoveredRun(t)
	forEveryKill(t, calls, func(t *testing.T, call sim.Request, executed bool) {
		w := newDown(t)
		left := w.killedDuring(t, w.dir, call, executed, func(ctx context.Context, p *process) error {
			_, err := p.recoverNow(ctx, deleting)
			return err
		})
		if call.Writes() {
			wantPending(t, call, left)
		}
		w.recoveredAgain(t, call.Key(), left, after)
	})
}

// TestRecoverKilledForReal is the same with a process and SIGKILL, at every write.
func TestRecoverKilledForReal(t *testing.T) {
	t.Parallel()
	calls, after := recoveredRun(t)
	for _, call := range calls {
		if !call.Writes() {
			continue
		}
		for _, executed := range []bool{false, true} {
			w := newDown(t)
			w.killVictim(t, call, executed, w.dir, "recover")
			wantPending(t, call, w.dir)
			w.recoveredAgain(t, call.Key(), w.dir, after)
		}
	}
}

// victimRecovers is the process that is killed.
func victimRecovers(ctx context.Context, e *engine.Engine) error {
	p := &process{Engine: e}
	_, err := p.recoverNow(ctx, deleting)
	return err
}

func deleting(r *engine.RecoverRequest) { r.Suspect, r.AllowEvidenceLoss = recovery.Deleted, true }
