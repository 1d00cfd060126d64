package change

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
)

// attemptTimeout bounds one request, so that a server that accepts and never
// answers costs an attempt and not the whole time.
const attemptTimeout = 10 * time.Second

// longestPause bounds how long a server can make us wait between attempts.
const longestPause = 30 * time.Second

// retry calls f until it succeeds, fails for good, or the context ends; it
// waits as long as the server asks for, or 50 ms doubling up to 2 s.
// The error returned is the last one of f, so that it names the cause rather
// than the deadline.
func retry(ctx context.Context, f func(context.Context) error) error {
	return attempts(ctx, f, func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, attemptTimeout)
	})
}

// retryWrite is retry for what writes. A context that is cancelled lets the
// attempt in flight come to its end: the server may still execute a call that was
// abandoned, after a look found that it had not.
func retryWrite(ctx context.Context, f func(context.Context) error) error {
	return attempts(ctx, f, func() (context.Context, context.CancelFunc) {
		until := time.Now().Add(attemptTimeout)
		if end, bounded := ctx.Deadline(); bounded && end.Before(until) {
			until = end
		}
		return context.WithDeadline(context.WithoutCancel(ctx), until)
	})
}

func attempts(ctx context.Context, f func(context.Context) error, bounded func() (context.Context, context.CancelFunc)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	backoff := wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 30, Cap: 2 * time.Second}
	for attempt := 1; ; attempt++ {
		attemptCtx, cancel := bounded()
		err := f(attemptCtx)
		cancel()
		if err == nil || !Passing(err) || ctx.Err() != nil {
			return err
		}
		pause := backoff.Step()
		if s, ok := apierrors.SuggestsClientDelay(err); ok && s > 0 {
			pause = min(time.Duration(s)*time.Second, longestPause)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("gave up after %d attempts: %w", attempt, err)
		case <-timer.C:
		}
	}
}

// mayHaveExecuted reports whether a write that failed may have been made all
// the same: unless the server said that it did not, its answer may have got lost.
func mayHaveExecuted(err error) bool {
	return err != nil && !apierrors.IsConflict(err) && !apierrors.IsTooManyRequests(err)
}

// Passing reports whether an error may go away by itself: a conflict,
// throttling, a server error or a broken connection. A connection that is
// refused passes too (a load balancer that fails over), within the deadline.
func Passing(err error) bool {
	switch {
	case apierrors.IsConflict(err), apierrors.IsTooManyRequests(err), apierrors.IsServerTimeout(err), apierrors.IsTimeout(err),
		apierrors.IsServiceUnavailable(err), apierrors.IsUnexpectedServerError(err):
		return true
	case apierrors.IsInternalError(err):
		// A webhook that cannot be called is an internal error; a webhook that denies is not.
		return true
	case errors.Is(err, context.Canceled):
		return false
	case errors.Is(err, context.DeadlineExceeded):
		return true // of one attempt; retry ends with its own context
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Code >= 500
	}
	var opErr *net.OpError
	var urlErr *url.Error
	return utilnet.IsConnectionReset(err) || utilnet.IsConnectionRefused(err) || utilnet.IsProbableEOF(err) || utilnet.IsHTTP2ConnectionLost(err) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) ||
		errors.As(err, &opErr) || (errors.As(err, &urlErr) && !strings.Contains(urlErr.Error(), "x509"))
}
