package cli

import (
	"bytes"
	"strings"
	"testing"

	"irctl/internal/change"
	"irctl/internal/drill"
	"irctl/internal/engine"
	"irctl/internal/steps/contain"
)

// Only what stands is counted as standing, and nothing "stands" where nothing is said to.
func TestStatusCountsWhatStands(t *testing.T) {
	changes := func(states ...change.State) (list []engine.StandingChange) {
		for _, s := range states {
			list = append(list, engine.StandingChange{Summary: "a change", State: s})
		}
		return list
	}
	for name, tc := range map[string]struct {
		verdict contain.Verdict
		changes []engine.StandingChange
		want    string
	}{
		"all": {contain.Contained, changes(change.After, change.After), "standing: 2 changes ("},
		"some": {contain.NotContained, changes(change.After, change.Before, change.Missing),
			"standing: 1 of 3 changes, 1 put back by somebody, 1 gone ("},
		"changed": {contain.NotContained, changes(change.Drifted, "unknown"),
			"standing: 0 of 2 changes, 1 changed by somebody since, 1 could not be looked at ("},
		"killed meanwhile": {contain.NotContained,
			append(changes(change.After), engine.StandingChange{State: change.Before, Uncertain: true},
				engine.StandingChange{State: change.After, Uncertain: true}), "standing: 2 of 3 changes, 1 not done ("},
		"none is contained": {"", changes(change.After), "no pod is contained  0 pods, standing: 1 change ("},
		"nothing":           {"", nil, "nothing stands: nothing was contained, or all was undone"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			a := &App{Streams: Streams{Out: &out, Err: &out}, Getenv: func(string) string {
				return ""
			}, clock: drill.RealClock{}}
			a.printOneStatus(&engine.StatusResult{Verdict: tc.verdict, Standing: tc.changes})
			text := out.String()
			if !strings.Contains(text, tc.want) || len(tc.changes) > 0 && strings.Contains(text, "nothing stands") {
				t.Errorf("it says\n%s\nwithout %q", text, tc.want)
			}
		})
	}
}
