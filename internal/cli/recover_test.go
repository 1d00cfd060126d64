package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"irctl/internal/engine"
	"irctl/internal/steps"
	recovery "irctl/internal/steps/recover"
)

// A sign is what a watch is for: it weighs more than what was refused, also what
// --recontain left alone. A watch that could not look is not one that saw nothing.
func TestExitCodesOfTheWatch(t *testing.T) {
	sign := []recovery.Hit{{Code: recovery.HitImage}}
	left := []engine.NotTouched{{Object: "Pod a/b"}}
	refused := []steps.Refusal{{Object: "Deployment a/b"}}
	for name, tc := range map[string]struct {
		watch    engine.MonitorResult
		refusals []steps.Refusal
		verdict  engine.RecoverVerdict
		want     int
	}{
		"nothing":                {engine.MonitorResult{}, nil, engine.Recovered, ExitDone},
		"others are exposed too": {engine.MonitorResult{Exposed: sign}, nil, engine.Recovered, ExitDone},
		"a sign": {engine.MonitorResult{Hits: sign}, nil, engine.Recovered,
			ExitNotContained},
		"a sign, and something left alone": {engine.MonitorResult{Hits: sign, NotTouched: left}, nil,
			engine.Recovered, ExitNotContained},
		"a sign, and something refused": {engine.MonitorResult{Hits: sign}, refused, engine.Recovered,
			ExitNotContained},
		"a sign, and it was not contained": {engine.MonitorResult{Hits: sign, Failure: "x"}, nil, engine.Recovered,
			ExitError},
		"ended early, and nothing until then": {engine.MonitorResult{Interrupted: true, Looks: 1}, nil,
			engine.Recovered, ExitError},
		"ended before it looked": {engine.MonitorResult{Interrupted: true, Undetermined: "x"}, nil,
			engine.Recovered, ExitUndetermined},
		"it could not look": {engine.MonitorResult{Undetermined: "x"}, nil, engine.Recovered,
			ExitUndetermined},
		"it could not look, and is refused": {engine.MonitorResult{Undetermined: "x"}, refused, engine.Recovered,
			ExitRefused},
		"it could not look, a check failed": {engine.MonitorResult{Undetermined: "x"}, nil, engine.NotRecovered,
			ExitNotContained},
	} {
		t.Run(name, func(t *testing.T) {
			code := ExitDone
			if err := recoverExit(recovered{&engine.RecoverResult{Verdict: tc.verdict, Refusals: tc.refusals},
				&tc.watch}); err != nil {
				code = exitCode(err)
			}
			if code != tc.want {
				t.Errorf("%d, expected %d", code, tc.want)
			}
		})
	}
}

// What was left alone is printed with its command; of many that are exposed too,
// ten are; and there is no check mark on a watch that could not look.
func TestWhatTheWatchPrints(t *testing.T) {
	m := &engine.MonitorResult{Undetermined: "in no look could the pods be listed",
		NotTouched: []engine.NotTouched{{Object: "Pod shop/again", Reason: "namespace shop is not the incident's",
			Command: "irctl contain --pod again"}}}
	for n := range 13 {
		m.Exposed = append(m.Exposed, recovery.Hit{Text: fmt.Sprintf("pod %d runs it", n)})
	}
	var out bytes.Buffer
	(&App{Streams: Streams{Out: &out}}).printMonitored(m)
	for text, want := range map[string]int{"also exposed: pod": 10, "also exposed: 3 more pods": 1, "COULD NOT TELL": 1,
		"NOTHING SEEN": 0, "✓": 0,
		"not touched: Pod shop/again: namespace shop is not the incident's\n    → irctl contain --pod again\n": 1} {
		if got := strings.Count(out.String(), text); got != want {
			t.Errorf("%q %d times, expected %d:\n%s", text, got, want, out.String())
		}
	}
}
