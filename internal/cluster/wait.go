package cluster

import (
	"context"
	"fmt"
	"time"
)

// Wait is a bounded wait: it asks until the answer is yes. An error that passes
// (no connection, no answer, 429, 5xx) answers nothing, and is asked again after;
// any other ends the wait at once, since no repetition makes it go away.
type Wait struct {
	// For is what is waited for: "a token in Secret n/s". "": the caller says it.
	For string
	// AtMost bounds the wait, besides the context; 0: only that does.
	AtMost time.Duration
	// First is the pause after the first question, Longest the one to which they
	// grow. Most things happen within a few milliseconds, which are the default.
	First, Longest time.Duration
}

// Until asks until it is done. The error is a WaitError, if the time is over or
// the caller ended it, or that of ask.
func (w Wait) Until(ctx context.Context, ask func(context.Context) (done bool, err error)) error {
	if w.AtMost > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, w.AtMost,
			fmt.Errorf("%s are over: %w", w.AtMost, context.DeadlineExceeded))
		defer cancel()
	}
	pause, longest := w.First, w.Longest
	if pause <= 0 {
		pause = 15 * time.Millisecond
	}
	if longest <= 0 {
		longest = time.Second
	}
	var last error
	for {
		done, err := ask(ctx)
		switch {
		case err == nil && done:
			return nil
		case ctx.Err() != nil:
			return &WaitError{w.For, context.Cause(ctx), last} // it was cut short, which answers nothing
		case err != nil:
			if f := FailureOf(err); !f.Passes() || f.Kind == Conflicted {
				return err
			}
		}
		last = err
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return &WaitError{w.For, context.Cause(ctx), last}
		case <-timer.C:
		}
		pause = min(pause*3/2, longest)
	}
}

// WaitError is a wait that ran out, or that the caller ended.
type WaitError struct {
	what  string
	cause error
	last  error // why it could not be asked, the last time; nil: it was, and the answer was no
}

func (e *WaitError) Error() string {
	text := fmt.Sprintf("not seen in time: %v", e.cause)
	if e.what != "" {
		text = e.what + ": " + text
	}
	if e.last != nil {
		text += fmt.Sprintf("; it could not be looked at: %v", e.last)
	}
	return text
}

// Unwrap is why the wait ended, as the context has it.
func (e *WaitError) Unwrap() error { return e.cause }
