package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// requests bounds how many requests are under way, and with them how many
// artefacts are open: each of those holds up to PartSize. A slot is taken for a
// single request, never while waiting for another one, so that this cannot
// deadlock.
type requests struct {
	slots chan struct{}
	stall time.Duration
}

// ErrStalled: a request was given up since nothing came for too long. Else a
// few unreachable nodes would hold all the slots for all the time there is.
var ErrStalled = errors.New("nothing was received")

func newRequests(limits Limits) *requests {
	return &requests{slots: make(chan struct{}, limits.Concurrency), stall: limits.Stall}
}

// do opens a stream when there is a slot and lets consume read it. It gives up
// when the stream stalls or the context is done, and returns why.
func (q *requests) do(ctx context.Context, open func(context.Context) (io.ReadCloser, error),
	consume func(io.Reader) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case q.slots <- struct{}{}:
		defer func() { <-q.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(q.stall, func() { cancel(fmt.Errorf("%w for %s", ErrStalled, q.stall)) })
	defer watchdog.Stop()
	body, err := open(ctx)
	if err != nil {
		return orCause(ctx, err)
	}
	// Closing ends a read that does not heed the context.
	stop := context.AfterFunc(ctx, func() { _ = body.Close() })
	defer stop()
	defer func() { _ = body.Close() }() // only read
	return consume(&watchedReader{ctx: ctx, from: body, watchdog: watchdog, stall: q.stall})
}

// watchedReader tells the watchdog that something came, and reports the reason
// of a cancellation instead of what it does to the connection.
type watchedReader struct {
	ctx      context.Context
	from     io.Reader
	watchdog *time.Timer
	stall    time.Duration
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if r.ctx.Err() != nil {
		return n, context.Cause(r.ctx)
	}
	if n > 0 {
		r.watchdog.Reset(r.stall)
	}
	return n, err
}

// orCause replaces the error of a request that was cancelled by the reason for
// which it was. ErrAbsent and the like are answers, not errors of the request.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, ErrAbsent) {
		return context.Cause(ctx)
	}
	return err
}

// errLimit: there is more than was asked for.
var errLimit = fmt.Errorf("%w at the limit", ErrTruncated)

// copyLimited copies at most limit bytes and tells with ErrTruncated if there
// was more. Bytes that came before an error are kept.
func copyLimited(dst io.Writer, src io.Reader, limit int64) error {
	buf := make([]byte, 32<<10)
	for n := int64(0); ; {
		read, err := src.Read(buf)
		over := int64(read) > limit-n
		read = int(min(int64(read), limit-n))
		n += int64(read)
		if _, err := dst.Write(buf[:read]); err != nil {
			return err
		}
		switch {
		case over:
			return fmt.Errorf("%w of %d bytes", errLimit, limit)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && n == 0:
			return err
		case err != nil:
			return fmt.Errorf("%w after %d bytes: %w", ErrTruncated, n, err)
		}
	}
}
