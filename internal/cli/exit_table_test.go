package cli

import (
	"errors"
	"testing"

	"irctl/internal/engine"
	"irctl/internal/steps"
	"irctl/internal/steps/detect"
	"irctl/internal/steps/eradicate"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

func codeOf(err error) int {
	if err == nil {
		return ExitDone
	}
	return exitCode(err)
}

// A watch ends with 0 only if it looked to its end and saw nothing.
func TestExitCodesOfAWatch(t *testing.T) {
	t.Parallel()
	refused := []steps.Refusal{{}}
	hit := []recovery.Hit{{Code: recovery.HitImage}}
	for name, c := range map[string]struct {
		watch  engine.MonitorResult
		result engine.RecoverResult
		want   int
	}{
		"nothing was seen": {engine.MonitorResult{}, engine.RecoverResult{Verdict: engine.Recovered},
			ExitDone},
		"the attacker was seen": {engine.MonitorResult{Hits: hit},
			engine.RecoverResult{Verdict: engine.Recovered}, ExitNotContained},
		"seen, and refused": {engine.MonitorResult{Hits: hit},
			engine.RecoverResult{Verdict: engine.Recovered, Refusals: refused}, ExitNotContained},
		"seen, and not all was looked at": {engine.MonitorResult{Hits: hit, Undetermined: "pods"},
			engine.RecoverResult{Verdict: engine.Recovered}, ExitNotContained},
		"seen, and not contained again": {engine.MonitorResult{Hits: hit, Failure: "denied"},
			engine.RecoverResult{Verdict: engine.Recovered}, ExitError},
		"it could not look": {engine.MonitorResult{Failure: "denied"},
			engine.RecoverResult{Verdict: engine.Recovered}, ExitError},
		"interrupted": {engine.MonitorResult{Interrupted: true},
			engine.RecoverResult{Verdict: engine.Recovered}, ExitError},
		"that nothing was seen is little": {engine.MonitorResult{Undetermined: "pods"},
			engine.RecoverResult{Verdict: engine.Recovered}, ExitUndetermined},
		"little, and the way in is open": {engine.MonitorResult{Undetermined: "pods"},
			engine.RecoverResult{Verdict: engine.RecoveredOpen}, ExitNotContained},
		"little, and refused": {engine.MonitorResult{Undetermined: "pods"},
			engine.RecoverResult{Verdict: engine.Recovered, Refusals: refused}, ExitRefused},
		"not recovered": {engine.MonitorResult{}, engine.RecoverResult{Verdict: engine.NotRecovered},
			ExitNotContained},
		"recovered before the answer": {engine.MonitorResult{},
			engine.RecoverResult{Verdict: engine.Recovered, Cancelled: true}, ExitRefused},
		"something failed besides": {engine.MonitorResult{},
			engine.RecoverResult{Verdict: engine.Recovered, Failures: []string{"x"}}, ExitError},
		"a dry run": {engine.MonitorResult{}, engine.RecoverResult{DryRun: true}, ExitDone},
		"an action was refused": {engine.MonitorResult{}, engine.RecoverResult{Verdict: engine.Recovered,
			Actions: []engine.ActionResult{{Outcome: timeline.OutcomeRefused}}}, ExitRefused},
	} {
		if got := codeOf(recoverExit(recovered{RecoverResult: &c.result, Monitor: &c.watch})); got != c.want {
			t.Errorf("%s: %d, expected %d", name, got, c.want)
		}
	}
}

// What came of an eradication, by verdict, refusals and failures.
func TestExitCodesOfEradicate(t *testing.T) {
	t.Parallel()
	of := func(v engine.EradicateVerdict, edit ...func(*engine.EradicateResult)) *engine.EradicateResult {
		r := &engine.EradicateResult{Verdict: v, Radius: &eradicate.Radius{Items: []*eradicate.Item{{}}}}
		for _, e := range edit {
			e(r)
		}
		return r
	}
	blind := func(r *engine.EradicateResult) {
		r.Radius = &eradicate.Radius{Warnings: []steps.Warning{{Code: "unreadable", Text: "denied"}}}
	}
	refused := func(r *engine.EradicateResult) { r.Refusals = []steps.Refusal{{}} }
	failed := func(r *engine.EradicateResult) { r.Failures = []string{"x"} }
	cancelled := func(r *engine.EradicateResult) { r.Cancelled = true }
	dry := func(r *engine.EradicateResult) { r.DryRun = true }
	action := func(o timeline.Outcome) func(*engine.EradicateResult) {
		return func(r *engine.EradicateResult) {
			r.Actions = []engine.ActionResult{{Outcome: timeline.OutcomeDone}, {Outcome: o}}
		}
	}
	for name, c := range map[string]struct {
		res  *engine.EradicateResult
		plan bool
		want int
	}{
		"eradicated":                   {of(engine.Eradicated), false, ExitDone},
		"not eradicated":               {of(engine.NotEradicated), false, ExitNotContained},
		"not known":                    {of(engine.EradicationUnknown), false, ExitUndetermined},
		"nothing was to be rotated":    {of(""), false, ExitDone},
		"refused":                      {of(engine.NotEradicated, refused), false, ExitRefused},
		"refused, and failed":          {of(engine.NotEradicated, refused, failed), false, ExitError},
		"failed":                       {of(engine.Eradicated, failed), false, ExitError},
		"an action was refused":        {of(engine.NotEradicated, action(timeline.OutcomeRefused)), false, ExitRefused},
		"the answer was no":            {of("", cancelled), false, ExitRefused},
		"a plan":                       {of(engine.NotEradicated, refused), true, ExitDone},
		"a plan that saw nothing":      {of("", blind), true, ExitUndetermined},
		"a dry run that saw nothing":   {of("", blind, dry), false, ExitUndetermined},
		"a run that saw nothing, then": {of(engine.EradicationUnknown, blind), false, ExitUndetermined},
	} {
		if got := codeOf(eradicateExit(c.res, c.plan)); got != c.want {
			t.Errorf("%s: %d, expected %d", name, got, c.want)
		}
	}
}

// A run that did not come to its end is not done, whatever its steps say.
func TestExitCodesOfARun(t *testing.T) {
	t.Parallel()
	step := func(outcome string) engine.StepResult { return engine.StepResult{Outcome: outcome} }
	for name, c := range map[string]struct {
		res  engine.RunResult
		want int
	}{
		"finished": {engine.RunResult{State: engine.RunFinished, Steps: []engine.StepResult{step("done")}},
			ExitDone},
		"paused": {engine.RunResult{State: "paused", Steps: []engine.StepResult{step("done")}},
			ExitNotContained},
		"one was skipped": {engine.RunResult{State: engine.RunFinished,
			Steps: []engine.StepResult{step("done"), step("skipped")}}, ExitNotContained},
		"one failed": {engine.RunResult{State: engine.RunFinished,
			Steps: []engine.StepResult{step("failed"), step("done")}}, ExitError},
		"one was refused": {engine.RunResult{State: engine.RunFinished,
			Steps: []engine.StepResult{step("refused"), step("done")}}, ExitRefused},
		"a dry run":            {engine.RunResult{DryRun: true, Steps: []engine.StepResult{step("planned")}}, ExitDone},
		"a dry run, contained": {engine.RunResult{DryRun: true, Verdict: "not contained"}, ExitDone},
	} {
		if got := codeOf(runExit(&c.res)); got != c.want {
			t.Errorf("%s: %d, expected %d", name, got, c.want)
		}
	}
}

// What detect could not read is an error, or no verdict; never "no suspects".
func TestExitCodesOfDetect(t *testing.T) {
	t.Parallel()
	gaps := detect.Gaps{{Check: "events"}}
	for name, c := range map[string]struct {
		res  detect.Result
		high bool
		want int
	}{
		"no suspects":            {detect.Result{}, false, ExitDone},
		"a suspect":              {detect.Result{}, true, exitSuspects},
		"a look was not taken":   {detect.Result{Gaps: gaps}, false, ExitUndetermined},
		"a suspect, and no look": {detect.Result{Gaps: gaps}, true, exitSuspects},
	} {
		if got := codeOf(suspectsExit(&c.res, c.high)); got != c.want {
			t.Errorf("%s: %d, expected %d", name, got, c.want)
		}
	}
	if got := codeOf(errors.Join(engine.ErrUndetermined, errors.New("x"))); got != ExitError {
		t.Errorf("two errors: %d", got)
	}
}
