package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// Limits bound how long a request may be silent. What streams has limits of its
// own: watches, logs, commands in containers, ports, checkpoints.
type Limits struct {
	// Read is how long a read waits for the first byte of its answer, and for each
	// further one. It is repeated after that, once.
	Read time.Duration
	// Write is how long a write waits: admission webhooks may take 30 seconds.
	// It is never repeated before somebody looked at the object.
	Write time.Duration
	// Tell is after how long it is said what is waited for.
	Tell time.Duration
}

// DefaultLimits are those of every client that is not told others.
var DefaultLimits = Limits{Read: 10 * time.Second, Write: 35 * time.Second, Tell: 2 * time.Second}

// Reading is how long one read can take at the most, with its repetition, where
// the server is silent.
func (l Limits) Reading() time.Duration { return attemptsSilent * l.Read }

// ErrSilent is that of a request that was given up since nothing came.
var ErrSilent = errors.New("the API server was silent")

// waits is told of requests that take long.
type waits struct {
	tell atomic.Pointer[func(what string)]
}

// OnWait sets who is told, while a request takes long, what is waited for. It may
// be called from several goroutines at once.
func (c *Client) OnWait(tell func(what string)) { c.waits.tell.Store(&tell) }

func (w *waits) say(r *http.Request) {
	if tell := w.tell.Load(); tell != nil {
		(*tell)("an answer of the API server to " + r.Method + " " + r.URL.Path)
	}
}

// bound ends a request that is silent for too long.
func (l Limits) bound(waits *waits, next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if streams(r) {
			return next.RoundTrip(r)
		}
		limit := l.Write
		if reads(r) {
			limit = l.Read
		}
		ctx, cancel := context.WithCancelCause(r.Context())
		silent := fmt.Errorf("%w: nothing came for %s", ErrSilent, limit)
		watchdog := time.AfterFunc(limit, func() { cancel(silent) })
		told := time.AfterFunc(l.Tell, func() { waits.say(r) })
		resp, err := next.RoundTrip(r.WithContext(ctx))
		watchdog.Stop()
		told.Stop()
		if err != nil {
			defer cancel(nil)
			return nil, silenced(ctx, err)
		}
		resp.Body = &boundedBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, limit: limit, silent: silent}
		return resp, nil
	})
}

// silenced is the error of a request, or why it was given up.
func silenced(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// Briefly bounds the reading of what is good to know, and must not hold up what
// is urgent: as long as one silent read may take, and no longer.
func (c *Client) Briefly(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.Limits.Read,
		fmt.Errorf("%w: not all had come within %s", ErrSilent, c.Limits.Read))
}

// boundedBody gives up when a further byte does not come. The time that whoever
// reads it takes in between does not count.
type boundedBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	limit  time.Duration
	silent error
}

func (b *boundedBody) Read(p []byte) (int, error) {
	watchdog := time.AfterFunc(b.limit, func() { b.cancel(b.silent) })
	n, err := b.ReadCloser.Read(p)
	watchdog.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = silenced(b.ctx, err)
	}
	return n, err
}

func (b *boundedBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
