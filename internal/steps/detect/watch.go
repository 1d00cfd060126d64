package detect

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"irctl/internal/cluster"
)

// Watching is how to go on looking for suspects.
type Watching struct {
	// Every is how long to wait between two looks at the cluster.
	Every time.Duration
	// Listener takes alerts at an address, if it is set.
	Listener *Listener
	Address  string
	// Found is told every finding that was not there before, Noticed what else
	// a person should know; by one at a time.
	Found   func(Finding)
	Noticed func(string)
}

// maxWaiting is how many findings wait to be told; then their sources wait.
const maxWaiting = 1000

// Watch looks at the cluster again and again, follows the files and listens,
// until the context ends, or until all that it reads has: then it returns what
// it found in all. The error is that it could not listen, or look at all.
func Watch(ctx context.Context, req Request, w Watching) (*Result, error) {
	req.Follow = true
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	waiting := make(chan Finding, maxWaiting)
	r := NewRun(req, func(f Finding) {
		select {
		case waiting <- f:
		case <-ctx.Done():
		}
	})
	notices := make(chan string, maxWaiting)
	var failure error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failure = r.watch(ctx, w, notices)
	}()
	for {
		select {
		case f := <-waiting:
			w.Found(f)
			continue
		case n := <-notices:
			w.Noticed(n)
			continue
		case <-ended:
		}
		stop()
		res := r.Result() // after it nothing more is added
		if w.Listener != nil {
			if g := w.Listener.gap(w.Address); g != nil {
				res.Gaps = append(res.Gaps, *g)
			}
		}
		for range len(notices) {
			w.Noticed(<-notices)
		}
		for range len(waiting) {
			w.Found(<-waiting)
		}
		return res, failure
	}
}

// watch runs until everything has ended.
func (r *Run) watch(ctx context.Context, w Watching, notices chan<- string) (failure error) {
	var sources sync.WaitGroup
	notice := func(text string) {
		select {
		case notices <- text:
		case <-ctx.Done():
		}
	}
	// What the cluster knows of pods is needed to tell whom alerts are about.
	var noNamespace *cluster.NoNamespaceError
	err := r.LookOnce(ctx)
	onlyLook := len(r.req.Inputs) == 0 && w.Listener == nil && ctx.Err() == nil
	if err != nil && (onlyLook || errors.As(err, &noNamespace)) {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if w.Listener != nil {
		w.Listener.Take = r.Add
		sources.Go(func() {
			err := w.Listener.Serve(ctx, w.Address, func(a net.Addr) {
				notice("listening for alerts of Falco on http://" + a.String())
			})
			if err != nil {
				failure = err
				stop() // who believes to be told of alerts must learn that there are none
			}
		})
	}
	if len(r.req.Inputs) > 0 {
		sources.Go(func() { r.ReadInputs(ctx) })
	}
	if r.req.Client != nil {
		sources.Go(func() { r.keepLooking(ctx, w.Every, notice) })
	}
	sources.Wait()
	return failure
}

// keepLooking tells which checks cannot be made whenever that changes.
func (r *Run) keepLooking(ctx context.Context, every time.Duration, notice func(string)) {
	var known []string
	for {
		r.mu.Lock()
		texts, _ := r.gaps.Lines()
		r.mu.Unlock()
		for _, t := range texts {
			if !slices.Contains(known, t) && ctx.Err() == nil {
				notice(t)
			}
		}
		known = texts
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		_ = r.LookOnce(ctx) // what could not be read are gaps
	}
}
