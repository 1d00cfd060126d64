package engine

import (
	"context"
	"errors"

	"irctl/internal/runbook"
)

// Guide is the front end of a runbook: besides approving plans, it is asked
// what only a person can know.
type Guide interface {
	FrontEnd
	// Ask puts a question to a person. ErrUnattended: nobody is there to answer.
	Ask(ctx context.Context, q Question) (Answer, error)
}

// ErrUnattended means that nobody can be asked.
var ErrUnattended = errors.New("nobody is there to answer")

// Question is one that a runbook asks.
type Question struct {
	Kind QuestionKind
	// Step is the one that asks; nil before the first.
	Step *runbook.Step
	// Parameter is the one that is asked for.
	Parameter *runbook.Parameter
	// Text is the question. It may have several lines, and an attacker may have
	// written parts of it.
	Text string
	// Choices are the answers there are; none: any text is one.
	Choices []string
	// Default is the answer that is meant if none is given; "": there is none.
	Default string
	// Inputs are what the step would be done with.
	Inputs runbook.Inputs
	// Seals: the step seals evidence, for which somebody can sign.
	Seals bool
}

// QuestionKind tells questions apart.
type QuestionKind string

// The kinds of questions, and their answers.
const (
	// AskParameter: any text, which the parameter reads.
	AskParameter QuestionKind = "parameter"
	// AskConfirm: AnswerDo, AnswerSkip, AnswerEdit or AnswerStop.
	AskConfirm QuestionKind = "confirm"
	// AskStep is AskConfirm for a step that need not be confirmed; only a run
	// step by step asks it.
	AskStep QuestionKind = "step"
	// AskManual: one of the step's own answers, AnswerSkip or AnswerStop. Who
	// did it, and a note, are asked for as well.
	AskManual QuestionKind = "manual"
	// AskFailed: AnswerRetry, AnswerContinue or AnswerStop.
	AskFailed QuestionKind = "failed"
)

// The answers that irctl itself offers.
const (
	AnswerDo       = "do"
	AnswerDone     = "done"
	AnswerSkip     = "skip"
	AnswerStop     = "stop"
	AnswerRetry    = "retry"
	AnswerContinue = "continue"
	// AnswerEdit asks again, with the inputs of the answer.
	AnswerEdit = "edit"
)

// Answer is what a person said.
type Answer struct {
	Choice string
	// By is who did it, or decided it; "": who runs irctl.
	By string
	// Note is why, or what was found.
	Note string
	// Inputs are those of the step that AnswerEdit changes, as texts; "" takes
	// one back to what the runbook says.
	Inputs map[string]string
}

// Instead is the error that Approve returns when a person wants something else
// than yes or no: to leave the step out (AnswerSkip), or to have it planned anew
// with other inputs (AnswerEdit).
type Instead struct{ Answer }

func (i *Instead) Error() string { return "instead of that: " + i.Choice }

// ErrPaused, returned by Approve or Ask, leaves the run where it is. Nothing is
// decided or recorded by it: the next process asks the same again.
var ErrPaused = errors.New("the run is paused")

// consent goes ahead with a plan that need not be asked about.
type consent struct{ FrontEnd }

func (consent) Approve(context.Context, Proposal) (Decision, error) { return Yes, nil }
