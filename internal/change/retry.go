package change

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"

	"irctl/internal/cluster"
	"irctl/internal/plural"
)

// longestPause bounds how long a server can make us wait between attempts.
const longestPause = 30 * time.Second

// retry calls f until it succeeds, fails for good, or the context ends; it
// waits as long as the server asks for, or 50 ms doubling up to 2 s.
// The error returned is the last answer that f got, so that it names the cause
// rather than the deadline. How long one request may take is the client's to
// bound (cluster.Limits), so that a server that accepts and never answers costs
// an attempt and not the whole time.
func retry(ctx context.Context, f func(context.Context) error) error { return attempts(ctx, ctx, f) }

// retryWrite is retry for what writes. A context that is cancelled lets the
// attempt in flight come to its end: the server may still execute a call that was
// abandoned, after a look found that it had not.
func retryWrite(ctx context.Context, f func(context.Context) error) error {
	attempt, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if end, bounded := ctx.Deadline(); bounded {
		attempt, cancel = context.WithDeadline(attempt, end)
		defer cancel()
	}
	return attempts(ctx, attempt, f)
}

func attempts(ctx, attemptCtx context.Context, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	backoff := wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 30, Cap: 2 * time.Second}
	var answer error // the last one of f that the end of the context did not cut short
	for attempt := 1; ; attempt++ {
		err := f(attemptCtx)
		switch {
		case err == nil || !Passing(err):
			return err
		case ctx.Err() == nil && attemptCtx.Err() == nil:
			answer = err
		case answer != nil && errors.Is(err, context.DeadlineExceeded):
			return gaveUp(attempt, answer)
		default:
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
			return gaveUp(attempt, err)
		case <-timer.C:
		}
	}
}

// gaveUp says what stood in the way until the time was over.
func gaveUp(attempts int, err error) error {
	return fmt.Errorf("gave up after %s, %s: %w", plural.Count(attempts, "attempt"), cluster.FailureOf(err), err)
}

// mayHaveExecuted reports whether a write that failed may have been made all
// the same: unless the server said that it did not, its answer may have got lost.
func mayHaveExecuted(err error) bool {
	return err != nil && !apierrors.IsConflict(err) && !apierrors.IsTooManyRequests(err)
}

// Passing reports whether an error may go away by itself: a conflict,
// throttling, a server error or a broken connection. A connection that is
// refused passes too (a load balancer that fails over), within the deadline.
func Passing(err error) bool { return cluster.FailureOf(err).Passes() }
