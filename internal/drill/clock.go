package drill

import (
	"context"
	"sync"
	"time"
)

// Clock tells the time and lets it pass.
type Clock interface {
	Now() time.Time
	// Sleep returns when the time has passed, or with the context's error.
	Sleep(ctx context.Context, d time.Duration) error
}

// RealClock is this machine's.
type RealClock struct{}

// Now is the time.
func (RealClock) Now() time.Time { return time.Now() }

// Sleep waits.
func (RealClock) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ManualClock stands still until somebody sleeps, and then jumps: a drill of
// an hour takes no time, and takes the same course every time.
type ManualClock struct {
	mu     sync.Mutex
	now    time.Time
	passed []func()
}

// NewManualClock makes a clock that stands at a time.
func NewManualClock(now time.Time) *ManualClock { return &ManualClock{now: now} }

// Now is where it stands.
func (c *ManualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// OnPass is called whenever time has passed, after every second of it.
func (c *ManualClock) OnPass(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passed = append(c.passed, f)
}

// Sleep lets time pass, second by second.
func (c *ManualClock) Sleep(ctx context.Context, d time.Duration) error {
	for d > 0 && ctx.Err() == nil {
		step := min(d, time.Second)
		d -= step
		c.mu.Lock()
		c.now = c.now.Add(step)
		told := c.passed
		c.mu.Unlock()
		for _, f := range told {
			f()
		}
	}
	return ctx.Err()
}
