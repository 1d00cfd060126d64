package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"irctl/internal/engine"
	"irctl/internal/record"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
	"irctl/internal/steps/eradicate"
	recovery "irctl/internal/steps/recover"
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
		"contain: contained": {containExit(&engine.ContainResult{Verdict: contain.Contained}), 0},
		"contain: exposed":   {containExit(&engine.ContainResult{Verdict: contain.Exposed}), 3},
		"contain: not contained": {containExit(&engine.ContainResult{Verdict: contain.NotContained}),
			3},
		"contain: could not tell": {containExit(&engine.ContainResult{Verdict: contain.Undetermined}),
			5},
		"contain: could not tell, and refused": {containExit(&engine.ContainResult{Verdict: contain.Undetermined,
			Refusals: refused}), 4},
		"contain: refused, and failed": {containExit(&engine.ContainResult{Verdict: contain.Contained,
			Refusals: refused, Actions: failed}), 1},
		"contain: an outcome that is not known": {containExit(&engine.ContainResult{Verdict: contain.Contained,
			Actions: unknown}), 1},
		"contain: one of several is not there": {containExit(&engine.ContainResult{Verdict: contain.Undetermined,
			Failures: []string{"x"}}), 1},
		"contain: a dry run has no verdict":       {containExit(&engine.ContainResult{DryRun: true}), 0},
		"status: nothing was to be contained":     {ended(coded(verdictCode(""))...), 0},
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
		"several: not there, and nothing matched": {errors.Join(fmt.Errorf("x: %w", engine.ErrUndetermined),
			errors.New("no pod")), 1},
		"several: nothing matched, and refused": {errors.Join(fmt.Errorf("x: %w", engine.ErrUndetermined),
			engine.ErrRefused), 4},
		"a sentence about several": {fmt.Errorf("%w: %w", engine.ErrRefused, errors.New("x")), 4},
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

// What comes of a run ends every command that changes something the same way. Where
// they differ, that is meant, and stands here.
func TestTheSameEndsTheSame(t *testing.T) {
	t.Parallel()
	action := func(step string, outcomes ...timeline.Outcome) (list []engine.ActionResult) {
		for _, o := range outcomes {
			list = append(list, engine.ActionResult{Step: step, Outcome: o})
		}
		return list
	}
	refusal := []steps.Refusal{{Reason: "x"}}
	const none = -1 // that command does not know it
	for name, tc := range map[string]struct {
		actions   []engine.ActionResult
		refusals  []steps.Refusal
		failures  []string
		cancelled bool
		bad       bool // the verdict is the command's "no"
		blind     bool // the verdict is "could not tell"

		contain, eradicate, recover, undo int
	}{
		"all is done":            {action("a", "done", "already"), nil, nil, false, false, false, 0, 0, 0, 0},
		"a call failed":          {action("a", "done", "failed"), nil, nil, false, false, false, 1, 1, 1, 1},
		"a call was denied":      {action("a", "denied"), nil, nil, false, false, false, 1, 1, 1, 1},
		"no answer":              {action("a", "unknown"), nil, nil, false, false, false, 1, 1, 1, 1},
		"a rule of irctl":        {action("a", "refused"), nil, nil, false, false, false, 4, 4, 4, 4},
		"refused, then failed":   {action("a", "refused", "failed"), nil, nil, false, false, false, 1, 1, 1, 1},
		"failed, then refused":   {action("a", "failed", "refused"), nil, nil, false, false, false, 1, 1, 1, 1},
		"a refusal of the plan":  {nil, refusal, nil, false, false, false, 4, 4, 4, none},
		"failed beside one":      {action("a", "failed"), refusal, nil, false, false, false, 1, 1, 1, none},
		"something went wrong":   {nil, nil, []string{"x"}, false, false, false, 1, 1, 1, none},
		"the answer was no":      {nil, nil, nil, true, true, false, 4, 4, 4, 4},
		"the verdict is no":      {action("a", "done"), nil, nil, false, true, false, 3, 3, 3, none},
		"no, and a call failed":  {action("a", "failed"), nil, nil, false, true, false, 1, 1, 1, none},
		"no, and refused":        {nil, refusal, nil, false, true, false, 4, 4, 4, none},
		"could not tell":         {action("a", "done"), nil, nil, false, false, true, 5, 5, 5, none},
		"neither, and refused":   {action("a", "refused"), nil, nil, false, false, true, 4, 4, 4, 4},
		"of a dry run":           {action("a", "skipped"), nil, nil, false, false, false, 0, 0, 0, 0},
		"no rollout: it says so": {action(recovery.StepRollout, "failed"), nil, nil, false, true, false, 1, 1, 3, none},
	} {
		c := &engine.ContainResult{Verdict: contain.Contained, Actions: tc.actions, Refusals: tc.refusals,
			Failures: tc.failures, Cancelled: tc.cancelled}
		e := &engine.EradicateResult{Verdict: engine.Eradicated, Actions: tc.actions, Refusals: tc.refusals,
			Failures: tc.failures, Cancelled: tc.cancelled,
			Radius: &eradicate.Radius{}}
		r := &engine.RecoverResult{Verdict: engine.Recovered, Actions: tc.actions, Refusals: tc.refusals,
			Failures: tc.failures, Cancelled: tc.cancelled}
		u := &engine.UndoResult{Actions: tc.actions, Cancelled: tc.cancelled}
		switch {
		case tc.bad:
			c.Verdict, e.Verdict, r.Verdict = contain.NotContained, engine.NotEradicated, engine.NotRecovered
		case tc.blind:
			c.Verdict, e.Verdict, r.Verdict = contain.Undetermined, engine.EradicationUnknown, engine.NothingRecovered
		}
		for command, end := range map[string]struct {
			err  error
			want int
		}{
			"contain": {containExit(c), tc.contain}, "eradicate": {eradicateExit(e, false), tc.eradicate},
			"recover": {recoverExit(recovered{RecoverResult: r}), tc.recover}, "undo": {undoExit(u), tc.undo},
		} {
			got := ExitDone
			if end.err != nil {
				got = exitCode(end.err)
			}
			if end.want != none && got != end.want {
				t.Errorf("%s: %s: %d, expected %d", name, command, got, end.want)
			}
		}
	}
}

// A watch after a recovery: a sign of the return stays above a refusal, and below
// what failed; what could not be told weighs least.
func TestHowAWatchEnds(t *testing.T) {
	t.Parallel()
	hits := []record.Hit{{Code: "image"}}
	refused := []engine.ActionResult{{Outcome: timeline.OutcomeRefused}}
	failed := []engine.ActionResult{{Outcome: timeline.OutcomeFailed}, {Outcome: timeline.OutcomeRefused}}
	for name, tc := range map[string]struct {
		watch    engine.MonitorResult
		actions  []engine.ActionResult
		refusals []steps.Refusal
		want     int
		says     string
	}{
		"nothing seen":                 {engine.MonitorResult{}, nil, nil, 0, ""},
		"a sign":                       {engine.MonitorResult{Hits: hits}, nil, nil, 3, ""},
		"a sign, and refused":          {engine.MonitorResult{Hits: hits}, refused, []steps.Refusal{{}}, 3, ""},
		"a sign, and failed":           {engine.MonitorResult{Hits: hits}, failed, nil, 1, ""},
		"nothing seen, and refused":    {engine.MonitorResult{}, nil, []steps.Refusal{{}}, 4, ""},
		"it failed":                    {engine.MonitorResult{Hits: hits, Failure: "gone"}, nil, nil, 1, "gone"},
		"could not tell":               {engine.MonitorResult{Undetermined: "no rights"}, nil, nil, 5, "no rights"},
		"could not tell, and refused":  {engine.MonitorResult{Undetermined: "no rights"}, refused, nil, 4, ""},
		"could not tell, after a sign": {engine.MonitorResult{Undetermined: "no rights", Hits: hits}, nil, nil, 3, ""},
	} {
		r := &engine.RecoverResult{Verdict: engine.Recovered, Actions: tc.actions, Refusals: tc.refusals}
		err := recoverExit(recovered{r, &tc.watch})
		got := ExitDone
		if err != nil {
			got = exitCode(err)
		}
		if got != tc.want || tc.says != "" && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
}
