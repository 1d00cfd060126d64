package cli

import (
	"errors"
	"fmt"
	"slices"

	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// The exit codes of irctl. They are documented in docs/cli.md.
const (
	// ExitDone: what was asked for is done, or was so already.
	ExitDone = 0
	// ExitError: something failed, or what was named does not exist; standard
	// error says what.
	ExitError = 1
	// ExitUsage: the command line is wrong by itself; nothing was done.
	ExitUsage = 2
	// ExitNotContained: everything was done that could be, and the verdict is
	// not "contained".
	ExitNotContained = 3
	// ExitRefused: irctl would not do it, or was not allowed to by the answer
	// to its question; standard error says what would allow it.
	ExitRefused = 4
	// ExitUndetermined: irctl could not tell. A selector, a file or a log in
	// which nothing matched, was understood, or could be read, is no verdict.
	ExitUndetermined = 5
	// ExitInterrupted: Ctrl-C ended it; ExitTerminated: SIGTERM did, or SIGHUP
	// before changes began. Both weigh more than any other.
	ExitInterrupted = 130
	ExitTerminated  = 143
)

// weights are the exit codes of a run that came to an end, weightiest first:
// where several hold, the first of them is the exit code.
var weights = []int{ExitUsage, ExitError, ExitRefused, ExitNotContained, ExitUndetermined, ExitDone}

// weightiest is the exit code of a run of which all these codes hold.
func weightiest(codes ...int) int {
	for _, w := range weights {
		if slices.Contains(codes, w) {
			return w
		}
	}
	return ExitDone
}

// usageError is a command line that is wrong.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitError ends the program with a code after everything was printed.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}
func (e exitError) Unwrap() error { return e.err }

// verdictCode is the exit code of a verdict on suspects; "": there was nothing
// to judge, and nothing to contain.
func verdictCode(v contain.Verdict) int {
	switch v {
	case "", contain.Contained:
		return ExitDone
	case contain.Undetermined:
		return ExitUndetermined
	}
	return ExitNotContained
}

// ended is how a run that has these codes ends: with the weightiest, and with an
// error only if that is one, since the result has said the rest.
func ended(err error, codes ...int) error {
	code := weightiest(codes...)
	switch {
	case code == ExitDone:
		return nil
	case code != ExitError:
		err = nil
	}
	return exitError{code: code, err: err}
}

// outcomeCodes are the exit codes of what came of a run's actions and of what
// was refused, and the first error.
func outcomeCodes(actions []engine.ActionResult, refusals, failures int) (codes []int, first error) {
	if refusals > 0 {
		codes = append(codes, ExitRefused)
	}
	if failures > 0 {
		codes = append(codes, ExitError)
	}
	for _, r := range actions {
		switch r.Outcome {
		case timeline.OutcomeFailed, timeline.OutcomeDenied, timeline.OutcomeUnknown:
			codes = append(codes, ExitError)
			if first == nil {
				first = r.Err()
			}
		case timeline.OutcomeRefused:
			codes = append(codes, ExitRefused)
		}
	}
	return codes, first
}

func exitCode(err error) int {
	if several := joined(err); several != nil {
		codes := make([]int, len(several))
		for i, e := range several {
			codes[i] = exitCode(e)
		}
		return weightiest(codes...)
	}
	var exit exitError
	var usage usageError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage):
		return ExitUsage
	case errors.Is(err, engine.ErrRefused), errors.Is(err, incident.ErrLocked), errors.Is(err, incident.ErrNotPrivate), errors.Is(err, incident.ErrRepair):
		return ExitRefused
	case errors.Is(err, engine.ErrUndetermined):
		return ExitUndetermined
	}
	return ExitError
}
