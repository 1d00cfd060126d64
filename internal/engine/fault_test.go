package engine_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/timeline"
)

// faults are the ways in which one API call goes wrong while the process lives on.
var faults = []struct {
	name string
	sim.Fault
}{
	{"error before execution", sim.Fault{Break: true}},
	{"executed, but answer lost", sim.Fault{Lose: true}},
	{"429", sim.Fault{Error: sim.Throttled(0)}},
	{"500", sim.Fault{Error: sim.Broken()}},
}

// cleanRun is what a contain without faults does: its calls by name, and the
// state in which it leaves the cluster.
func cleanRun(t *testing.T) (calls []sim.Request, after map[string]any) {
	t.Helper()
	w := newWorld(t)
	p := w.mustStart(t, t.TempDir())
	p.mustContain(t)
	calls = p.server.Requests()
	if len(calls) < 20 || p.server.Written() != 3 {
		t.Fatalf(
			"a contain of one pod makes %d calls, %d of them writes: this test no longer looks at what it was made "+
				"for", len(calls), p.server.Written())
	}
	return calls, picture(w.Cluster, w.suspect)
}

// TestEveryCallFails lets every single API call of contain go wrong in every
// way. Contain, run again where it did not finish, leads to the same state as
// if nothing had happened, and undo to the state before.
func TestEveryCallFails(t *testing.T) {
	calls, after := cleanRun(t)
	forEveryFault(t, calls, func(t *testing.T, call sim.Request, fault sim.Fault) {
		oneCallFails(t, call, fault, after)
	})
}

// forEveryFault is called with every call and every way in which it goes wrong.
//
// With -short, here and below, it is a sample: make test has three minutes,
// make test-full has no such bound. Of the reads it takes one in sixteen, which
// fails in one way. Every write breaks before and after it is executed, and of
// the two answers that say so it gets one: the calls take turns.
func forEveryFault(t *testing.T, calls []sim.Request, f func(*testing.T, sim.Request, sim.Fault)) {
	for n, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			forEveryCall(calls, func(turn int, call sim.Request) {
				told := fault.Error != nil
				if testing.Short() && (!call.Writes() && turn%len(faults) != n ||
					call.Writes() && told && turn%2 != n%2) {
					return
				}
				f(t, call, fault.Fault)
			})
		})
	}
}

// forEveryKill is called with every call and whether it is executed before the
// process is killed; of the sampled reads with one of the two.
func forEveryKill(t *testing.T, calls []sim.Request, f func(t *testing.T, call sim.Request, executed bool)) {
	for n, name := range []string{"before execution", "after execution"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEveryCall(calls, func(turn int, call sim.Request) {
				if testing.Short() && !call.Writes() && turn%2 != n {
					return
				}
				f(t, call, n == 1)
			})
		})
	}
}

// forEveryCall overlaps the waiting of the cases: most of their time they
// wait to try again.
func forEveryCall(calls []sim.Request, f func(turn int, call sim.Request)) {
	var sample []sim.Request
	for i, call := range calls {
		if !testing.Short() || call.Writes() || i%16 == 0 {
			sample = append(sample, call)
		}
	}
	var g errgroup.Group
	g.SetLimit(8)
	for turn, call := range sample {
		g.Go(func() error {
			f(turn, call)
			return nil
		})
	}
	_ = g.Wait() // the cases report by themselves
}

// strike is a fault that strikes one call, once.
type strike struct {
	call  string
	fault sim.Fault
	hit   atomic.Bool
}

func (s *strike) faults(r sim.Request) sim.Fault {
	if r.Key() != s.call {
		return sim.Fault{}
	}
	s.hit.Store(true)
	return s.fault
}

func oneCallFails(t *testing.T, call sim.Request, fault sim.Fault, after map[string]any) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	w, dir := newWorld(t), t.TempDir()
	s := &strike{call: call.Key(), fault: fault}
	p, err := w.start(t, ctx, dir, s.faults)
	if err == nil {
		_, err = p.containNow(ctx)
	}
	if !s.hit.Load() {
		t.Errorf("%s: never called", call.Key())
		return
	}
	if err != nil {
		t.Errorf("%s: one failed call ended the run: %v", call.Key(), err)
	}
	if again := w.contained(t, call.Key(), dir, after); again.server.Written() != 0 {
		t.Errorf("%s: the run was not done: a second one wrote %d times", call.Key(), again.server.Written())
	}
	w.undone(t, call.Key(), dir)
}

// contained runs contain again, which must find or make the same state as a
// clean run.
func (w *world) contained(t *testing.T, name, dir string, after map[string]any) *process {
	p := w.mustStart(t, dir)
	if _, err := p.containNow(t.Context()); err != nil {
		t.Errorf("%s: contain again: %v", name, err)
	}
	wantSame(t, name+": contain again", after, picture(w.Cluster, w.suspect))
	return p
}

// undone runs undo, which must leave nothing behind.
func (w *world) undone(t *testing.T, name, dir string) {
	p := w.mustStart(t, dir)
	res, err := p.undoNow(t.Context(), engine.UndoRequest{All: true})
	if err != nil {
		t.Errorf("%s: undo: %v", name, err)
		return
	}
	for _, a := range res.Actions {
		if a.Err() != nil {
			t.Errorf("%s: undo: %s: %v", name, a.Summary, a.Err())
		}
	}
	wantSame(t, name+": undo", w.before, picture(w.Cluster, w.suspect))
}

// TestServerGoesAway takes the server away for good at every call: the run
// ends by itself, soon, tells of it, and what it did can be undone once the
// server is back.
func TestServerGoesAway(t *testing.T) {
	t.Parallel()
	calls, _ := cleanRun(t)
	forEveryCall(calls, func(_ int, call sim.Request) {
		w, dir := newWorld(t), t.TempDir()
		url, server := w.goneAt(t, call)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		p, err := w.connect(t, ctx, url, server, dir)
		var res *engine.ContainResult
		if err == nil {
			res, err = p.containNow(ctx)
		}
		if err == nil && !tellsOfGaps(res) {
			t.Errorf("%s: the server went away, and the result does not tell: %+v", call.Key(), res)
		}
		w.undone(t, call.Key(), dir)
	})
}

// tellsOfGaps: something failed, or the verdict names what could not be read.
func tellsOfGaps(res *engine.ContainResult) bool {
	for _, a := range res.Actions {
		if a.Err() != nil {
			return true
		}
	}
	for _, f := range res.Targets {
		for _, c := range f.Checks {
			if !c.OK {
				return true
			}
		}
		for _, e := range f.Exposures {
			if e.Code == "unknown" || e.Code == "policy-unknown" || strings.Contains(e.Text, "unknown") {
				return true
			}
		}
	}
	return len(res.Warnings) > 0
}

// TestKilledAtEveryCall kills irctl before and after every single API call.
func TestKilledAtEveryCall(t *testing.T) {
	calls, after := cleanRun(t)
	forEveryKill(t, calls, func(t *testing.T, call sim.Request, executed bool) {
		w, dir := killed(t, call, executed)
		w.contained(t, call.Key(), dir, after)
		if call.Writes() {
			w.undone(t, call.Key()+": contained again", dir)
		}

		w, dir = killed(t, call, executed)
		w.undone(t, call.Key(), dir)
	})
}

// killed runs contain up to a call, and returns the world and the state
// directory as a kill at that moment would leave them.
func killed(t *testing.T, call sim.Request, executed bool) (*world, string) {
	w := newWorld(t)
	left := w.killedDuring(t, t.TempDir(), call, executed, func(ctx context.Context, p *process) error {
		_, err := p.containNow(ctx)
		return err
	})
	if call.Writes() {
		wantPending(t, call, left)
	}
	return w, left
}

// wantPending: whoever finds the journal of a run that was killed at a write
// must see what it was at.
func wantPending(t *testing.T, call sim.Request, dir string) {
	pending := timeline.Pending(journal(t, dir))
	if len(pending) != 1 {
		t.Errorf("%s: killed at a write, the journal has %d intents without outcome", call.Key(), len(pending))
		return
	}
	kind, _, _ := strings.Cut(call.Resource, "/")
	if got := strings.ToLower(pending[0].Object.Kind); !strings.HasPrefix(kind, strings.TrimSuffix(got, "y")) {
		t.Errorf("%s: the intent is about %s", call.Key(), fmt.Sprint(pending[0].Object))
	}
}
