package cli

import (
	"errors"
	"fmt"
	"testing"

	"irctl/internal/engine"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
	"irctl/internal/timeline"
)

// Where several exit codes hold, the order is one for all commands: 2, 1, 4, 3, 5, 0.
func TestWhichExitCodeWeighsMost(t *testing.T) {
	failed := []engine.ActionResult{{Outcome: timeline.OutcomeFailed}}
	unknown := []engine.ActionResult{{Outcome: timeline.OutcomeUnknown}}
	refused := []steps.Refusal{{}}
	recover := func(v engine.RecoverVerdict, r []steps.Refusal) error {
		return recoverExit(recovered{RecoverResult: &engine.RecoverResult{Verdict: v, Refusals: r}})
	}
	run := func(v contain.Verdict, outcomes ...string) error {
		r := &engine.RunResult{State: engine.RunFinished, Verdict: v}
		for _, o := range outcomes {
			s := engine.StepResult{Outcome: o}
			if o == "could not tell" {
				s.Outcome, s.Results = "skipped", map[string]any{"verdict": o}
			}
			r.Steps = append(r.Steps, s)
		}
		return runExit(r)
	}
	gaps := detect.Gaps{{Check: "events"}}
	for name, tc := range map[string]struct {
		err  error
		want int
	}{
		"contain: contained":                      {containExit(&engine.ContainResult{Verdict: contain.Contained}), 0},
		"contain: exposed":                        {containExit(&engine.ContainResult{Verdict: contain.Exposed}), 3},
		"contain: not contained":                  {containExit(&engine.ContainResult{Verdict: contain.NotContained}), 3},
		"contain: could not tell":                 {containExit(&engine.ContainResult{Verdict: contain.Undetermined}), 5},
		"contain: could not tell, and refused":    {containExit(&engine.ContainResult{Verdict: contain.Undetermined, Refusals: refused}), 4},
		"contain: refused, and failed":            {containExit(&engine.ContainResult{Verdict: contain.Contained, Refusals: refused, Actions: failed}), 1},
		"contain: an outcome that is not known":   {containExit(&engine.ContainResult{Verdict: contain.Contained, Actions: unknown}), 1},
		"contain: one of several is not there":    {containExit(&engine.ContainResult{Verdict: contain.Undetermined, Failures: []string{"x"}}), 1},
		"contain: a dry run has no verdict":       {containExit(&engine.ContainResult{DryRun: true}), 0},
		"status: nothing was to be contained":     {ended(nil, verdictCode("")), 0},
		"recover: recovered":                      {recover(engine.Recovered, nil), 0},
		"recover: the way in is open":             {recover(engine.RecoveredOpen, nil), 3},
		"recover: nothing to recover":             {recover(engine.NothingRecovered, nil), 5},
		"recover: nothing to recover, refused":    {recover(engine.NothingRecovered, refused), 4},
		"run: contained":                          {run(contain.Contained, "done"), 0},
		"run: on nothing":                         {run(contain.Undetermined, "done"), 5},
		"run: nothing to recover":                 {run("", "done", "could not tell"), 5},
		"run: nothing to recover, a step skipped": {run("", "could not tell", "skipped"), 3},
		"run: refused, and one failed":            {run("", "refused", "failed"), 1},
		"run: could not tell, and one refused":    {run(contain.Undetermined, "refused"), 4},
		"detect: everything looked at":            {suspectsExit(&detect.Result{}, false), 0},
		"detect: not everything":                  {suspectsExit(&detect.Result{Gaps: gaps}, false), 5},
		"detect: a suspect, and not everything":   {suspectsExit(&detect.Result{Gaps: gaps}, true), 3},
		"several: not there, and nothing matched": {errors.Join(fmt.Errorf("x: %w", engine.ErrUndetermined), errors.New("no pod")), 1},
		"several: nothing matched, and refused":   {errors.Join(fmt.Errorf("x: %w", engine.ErrUndetermined), engine.ErrRefused), 4},
		"a sentence about several":                {fmt.Errorf("%w: %w", engine.ErrRefused, errors.New("x")), 4},
	} {
		got := ExitDone
		if tc.err != nil {
			got = exitCode(tc.err)
		}
		if got != tc.want {
			t.Errorf("%s: %d, expected %d", name, got, tc.want)
		}
	}
}
