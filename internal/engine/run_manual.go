package engine

import (
	"context"
	"errors"
	"slices"

	"irctl/internal/runbook"
)

func manualOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "manual", Doc: "Have a person do something, or decide. Who it was, the " +
			"answer and a note are recorded. Where nobody can be asked, the answer is unattended; without one the " +
			"step is recorded as not done, and onError says how to go on.",
			Inputs: []runbook.Field{
				{Name: "instruction", Domain: runbook.Of(runbook.Text), Required: true,
					Doc: "What to do, or to decide."},
				{Name: "answers", Domain: runbook.ListOf(runbook.String), Doc: "What can be answered; else done."},
				{Name: "unattended", Domain: runbook.Of(runbook.String),
					Doc: "The answer that is taken where nobody can be asked. It is recorded as the runbook's own."},
			},
			Results: []runbook.Result{
				{Name: "answer", Domain: runbook.OneOf(AnswerDone), ChoicesOf: "answers", Doc: "What was answered."},
				{Name: "by", Domain: runbook.Of(runbook.String), Doc: "Who did it, or decided."},
				{Name: "note", Domain: runbook.Of(runbook.Text), Doc: "The note."},
			},
			Check: checkManual},
		asks:     true,
		describe: func(in runbook.Inputs) string { return in.Text("instruction") },
		do:       doManual,
	}
}

func checkManual(in runbook.Literals) (input, problem string) {
	answers := in.Texts("answers")
	for _, a := range []string{AnswerSkip, AnswerStop} {
		if slices.Contains(answers, a) {
			return "answers", "the answer " + a + " is always there; it cannot be one of the step's own"
		}
	}
	if u := in.Text("unattended"); u != "" && len(answers) > 0 && !slices.Contains(answers, u) {
		return "unattended", "it is none of the answers"
	}
	return "", ""
}

// The words by which a person may be recorded.
const byRunbook = "the runbook, since nobody was there to answer"

func doManual(ctx context.Context, w *work) (outcome, error) {
	answers := w.in.Texts("answers")
	if len(answers) == 0 {
		answers = []string{AnswerDone}
	}
	a, err := w.req.Guide.Ask(ctx, Question{Kind: AskManual, Step: w.step, Text: w.in.Text("instruction"),
		Choices: append(slices.Clone(answers), AnswerSkip, AnswerStop)})
	unattended := w.in.Text("unattended")
	switch {
	case errors.Is(err, ErrUnattended) && unattended == "":
		return outcome{skipped: true, summary: "not done: a person has to do it, and nobody was there"}, nil
	case errors.Is(err, ErrUnattended):
		a = Answer{Choice: unattended, By: byRunbook}
	case err != nil:
		return outcome{}, err
	case a.By == "":
		a.By = w.Actor().OSUser
	}
	results := map[string]any{"answer": a.Choice, "by": a.By, "note": a.Note}
	switch {
	case a.Choice == AnswerSkip:
		return outcome{skipped: true, passed: true, summary: join("left out", a), results: results}, nil
	case a.Choice == AnswerStop:
		return outcome{skipped: true, halted: true, summary: join("stopped here", a), results: results}, nil
	case !slices.Contains(answers, a.Choice):
		return outcome{}, errors.New("the answer is none of the step's own")
	}
	return outcome{summary: join(a.Choice, a), results: results}, nil
}
