package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"irctl/internal/rotate"
	"irctl/internal/runbook"
	"irctl/internal/steps/eradicate"
	"irctl/internal/timeline"
)

func eradicateOperation() *operation {
	kinds := make([]string, len(rotate.Generated))
	for i, k := range rotate.Generated {
		kinds[i] = string(k)
	}
	return &operation{
		Signature: runbook.Signature{Name: "eradicate", Asks: true, Doc: "Replace the secrets that the incident's suspects could read: new value, store, Secret, restart, verify, old value off. As irctl eradicate, which also takes values that only a third party can issue, database roles and a team's own commands: those cannot come from a runbook, since no value is ever in one. It cannot be undone.",
			Inputs: []runbook.Field{
				{Name: "secrets", Domain: runbook.ListOf(runbook.String), Doc: "Which Secrets, as NAME or NAMESPACE/NAME; serviceaccount/NAME for the tokens of one."},
				{Name: "allSecrets", Domain: runbook.Of(runbook.Boolean), Doc: "Every one that the suspects could read."},
				{Name: "generate", Domain: runbook.ListOf(runbook.Key), Doc: "[SECRET/]KEY=KIND: how a new value is made: " + strings.Join(kinds, ", ") + "."},
				{Name: "keep", Domain: runbook.ListOf(runbook.Key), Doc: "[SECRET/]KEY: it is no secret."},
			},
			Results: []runbook.Result{
				{Name: "eradicated", Domain: runbook.Of(runbook.Boolean), Doc: "The attacker has nothing left of what the suspects could read."},
				{Name: "left", Domain: runbook.ListOf(runbook.Text), Doc: "What only a person can do."},
				{Name: "unrotated", Domain: runbook.ListOf(runbook.String), Doc: "Secrets that the suspects could read and that were not replaced."},
			},
			Check: func(in runbook.Literals) (string, string) {
				if !in.Given("secrets") && !in.Given("allSecrets") {
					return "", "which secrets? give secrets, or allSecrets: true"
				}
				return "", ""
			}},
		plans: true,
		describe: func(in runbook.Inputs) string {
			if in.Yes("allSecrets", false) {
				return "replace every secret that the suspects could read"
			}
			return "replace " + strings.Join(in.Texts("secrets"), ", ")
		},
		do: doEradicate,
	}
}

func doEradicate(ctx context.Context, w *work) (outcome, error) {
	options := eradicate.Options{Secrets: w.in.Texts("secrets"), All: w.in.Yes("allSecrets", false), Sources: map[string]rotate.Source{}}
	if !options.Chooses() {
		return outcome{}, fmt.Errorf("%w: no secret was chosen", ErrRefused)
	}
	for _, g := range w.in.Texts("generate") {
		key, kind, ok := strings.Cut(g, "=")
		if !ok || !slices.Contains(rotate.Generated, rotate.Kind(kind)) {
			return outcome{}, fmt.Errorf("generate %s: use [SECRET/]KEY=KIND, where KIND is one of %v", g, rotate.Generated)
		}
		options.Sources[key] = rotate.Source{Kind: rotate.Kind(kind)}
	}
	for _, key := range w.in.Texts("keep") {
		options.Sources[key] = rotate.Source{Kind: rotate.Keep}
	}
	res, err := w.engine.Eradicate(ctx, EradicateRequest{Incident: w.id, Options: options})
	if err != nil {
		return outcome{}, err
	}
	return eradicateOutcome(res)
}

func eradicateOutcome(res *EradicateResult) (outcome, error) {
	if res.Cancelled {
		return outcome{summary: "nothing was replaced", detail: res}, fmt.Errorf("%w: the answer was no", ErrRefused)
	}
	o := outcome{detail: res, summary: string(res.Verdict), results: map[string]any{"eradicated": res.Verdict == Eradicated,
		"left": slices.Concat(res.Left, res.Kept), "unrotated": res.Unrotated}}
	if res.Verdict == "" {
		o.summary = "there was nothing to replace"
	}
	var first error
	for _, a := range res.Actions {
		if a.Outcome != timeline.OutcomeDone && a.Outcome != timeline.OutcomeAlready {
			first = firstOf(first, a)
		}
	}
	switch {
	case first != nil:
	case len(res.Failures) > 0:
		first = errors.New(strings.Join(res.Failures, "; "))
	case len(res.Refusals) > 0:
		first = fmt.Errorf("%w: %s: %s", ErrRefused, res.Refusals[0].Object, res.Refusals[0].Reason)
	case len(res.Left)+len(res.Kept) > 0:
		first = fmt.Errorf("%w: left for a person: %s", ErrRefused, strings.Join(slices.Concat(res.Left, res.Kept), "; "))
	}
	return o, first
}
