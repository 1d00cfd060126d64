package cli

import (
	"errors"
	"fmt"
	"slices"

	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/steps"
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

// outcome is what a command came to that may have changed something. Every one of
// them ends by it, so that the same ends the same.
type outcome struct {
	cancelled bool // the answer was no
	actions   []engine.ActionResult
	// told are the actions of which the verdict tells that they did not succeed; nil: none.
	told     func(engine.ActionResult) bool
	refusals []steps.Refusal
	failures []string
	// also is what else holds: a verdict, a watch, a doubt.
	also []exitError
}

// exit is how the command ends: by the weightiest of all that holds. The error is
// printed, so it is only what the result has not said.
func (o outcome) exit() error {
	if o.cancelled {
		return exitError{code: ExitRefused, err: fmt.Errorf("nothing was changed: the answer was no")}
	}
	grounds := slices.Clone(o.also)
	for _, r := range o.actions {
		if code := actionCode(r); code != ExitError {
			grounds = append(grounds, exitError{code: code})
		} else if o.told == nil || !o.told(r) {
			grounds = append(grounds, exitError{code, r.Err()})
		}
	}
	if len(o.failures) > 0 {
		grounds = append(grounds, exitError{code: ExitError})
	}
	if len(o.refusals) > 0 {
		grounds = append(grounds, exitError{code: ExitRefused})
	}
	return ended(grounds...)
}

// actionCode is the exit code of what came of an action. One that was not begun,
// since the run was ended, has an error; one of a dry run has none.
func actionCode(r engine.ActionResult) int {
	switch r.Outcome {
	case timeline.OutcomeRefused:
		return ExitRefused
	case timeline.OutcomeFailed, timeline.OutcomeDenied, timeline.OutcomeUnknown:
		return ExitError
	}
	if r.Err() != nil {
		return ExitError
	}
	return ExitDone
}

// coded are exit codes of which the result has said why.
func coded(codes ...int) []exitError {
	list := make([]exitError, len(codes))
	for i, c := range codes {
		list[i].code = c
	}
	return list
}

// ended is how a run ends of which all these hold: by the weightiest, with the
// first error of those that weigh as much.
func ended(grounds ...exitError) error {
	var codes []int
	for _, g := range grounds {
		codes = append(codes, g.code)
	}
	end := exitError{code: weightiest(codes...)}
	if end.code == ExitDone {
		return nil
	}
	for _, g := range grounds {
		if g.code == end.code && g.err != nil {
			end.err = g.err
			break
		}
	}
	return end
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
	case errors.Is(err, engine.ErrRefused), errors.Is(err, incident.ErrLocked), errors.Is(err, incident.ErrNotPrivate),
		errors.Is(err, incident.ErrRepair):
		return ExitRefused
	case errors.Is(err, engine.ErrUndetermined):
		return ExitUndetermined
	}
	return ExitError
}
