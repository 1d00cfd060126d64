package engine_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"irctl/internal/engine"
	"irctl/internal/runbook"
	"irctl/internal/timeline"
)

// commandStep runs a script that lies beside the runbook.
func commandStep(t *testing.T, script, with string) (*process, *runbook.Runbook, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ours.sh"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	text := stepsOf("- name: detect\n  steps:\n  - {name: scan, uses: command, " + with + "}\n  - {name: after, " +
		"uses: note, when: 'steps.scan.exitCode == 3 || steps.scan.output == \"ok\"', with: {text: 'after " +
		"${params.pod}'}}\n")
	path := filepath.Join(dir, "test.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	book, err := runbook.NewLibrary("", "", os.DirFS(t.TempDir()), engine.Operations()).Find(path)
	if err != nil {
		t.Fatal(err)
	}
	w, state := newWorld(t), t.TempDir()
	return w.mustStart(t, state), book, state
}

func environ(req *engine.RunRequest) {
	req.Environ = append(slices.Clone(os.Environ()), "SECRET_OF_OURS=hidden", "WANTED=yes")
}

func TestCommandStep(t *testing.T) {
	p, book, state := commandStep(t,
		`printf '%s|%s|%s|%s|%s|%s' "$1" "$IRCTL_STEP" "$IRCTL_PARAM_pod" "$WANTED" "$SECRET_OF_OURS" "$(cat)"; exit 3`,
		`with: {argv: [./ours.sh, "a b; $(id)"], okExit: [3], passEnv: [WANTED]}`)
	res, err := p.runNow(t.Context(), book, map[string]string{"pod": p.suspects[0]}, environ)
	if err != nil || outcomes(res) != "scan:done after:done" {
		t.Fatalf("%v, %s: %+v", err, outcomes(res), res.Steps)
	}
	want := "a b; $(id)|scan|todo-app/" + p.suspects[0] + "|yes||"
	if got := step(res, "scan").Results["output"]; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	sum := sha256.Sum256([]byte(want))
	recorded := slices.ContainsFunc(journal(t, state), func(e timeline.Entry) bool {
		return e.Action == "step-ended" && strings.Contains(e.Data.String(), hex.EncodeToString(sum[:])) &&
			strings.Contains(e.Data.String(), `"argv":["./ours.sh","a b; $(id)"]`)
	})
	if !recorded {
		t.Error("the output is not in the timeline")
	}
}

func TestCommandStepIsBounded(t *testing.T) {
	// A megabyte, of which the end is lost, but hashed.
	p, book, state := commandStep(t, "head -c 1000000 /dev/zero | tr '\\0' x", "with: {argv: [./ours.sh]}")
	res, err := p.runNow(t.Context(), book, map[string]string{"pod": p.suspects[0]}, environ)
	if err != nil || step(res, "scan").Outcome != "done" {
		t.Fatalf("%v: %+v", err, res.Steps)
	}
	sum := sha256.Sum256([]byte(strings.Repeat("x", 1000000)))
	for _, e := range journal(t, state) {
		if len(e.Data.String()) > 64<<10 {
			t.Errorf("an entry of %d bytes", len(e.Data.String()))
		}
		if e.Action != "step-ended" || e.Step != "scan" {
			continue
		}
		var data struct {
			Run struct {
				Detail struct {
					Stdout struct {
						Bytes  int64
						SHA256 string
						Cut    bool
					}
				}
			}
		}
		if err := json.Unmarshal([]byte(e.Data.String()), &data); err != nil {
			t.Fatal(err)
		}
		if out := data.Run.Detail.Stdout; out.Bytes != 1000000 || !out.Cut || out.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%+v", out)
		}
	}
}

// TestCommandStepEndsInTime: also what it started in the background ends.
func TestCommandStepEndsInTime(t *testing.T) {
	p, book, _ := commandStep(t, "sleep 60 & sleep 60", "timeout: 200ms, with: {argv: [./ours.sh]}")
	began := time.Now()
	res, err := p.runNow(t.Context(), book, map[string]string{"pod": p.suspects[0]}, environ)
	if err != nil || res.State != engine.RunStopped ||
		!strings.Contains(step(res, "scan").Error, "time of 200ms is over") {
		t.Errorf("%v, %+v", err, res)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestCommandStepFails(t *testing.T) {
	p, book, _ := commandStep(t, "echo first >&2; echo the reason >&2; exit 7", "with: {argv: [./ours.sh]}")
	res, err := p.runNow(t.Context(), book, map[string]string{"pod": p.suspects[0]}, environ)
	if err != nil || outcomes(res) != "scan:failed" ||
		!strings.Contains(step(res, "scan").Error, "exit status 7: the reason") {
		t.Errorf("%v, %+v", err, res.Steps)
	}
	p, book, _ = commandStep(t, "", "with: {argv: [no-such-program-of-ours]}")
	res, err = p.runNow(t.Context(), book, map[string]string{"pod": p.suspects[0]}, environ)
	if err != nil || outcomes(res) != "scan:failed" || !strings.Contains(step(res, "scan").Error, "not found") {
		t.Errorf("%v, %+v", err, res.Steps)
	}
}

// TestCtrlCStopsARun: the step is recorded as it ended, and the run goes on
// with it the next time.
func TestCtrlCStopsARun(t *testing.T) {
	p, book, state := commandStep(t, "echo ok; test -e $HOME/.irctl-never || sleep 60", "with: {argv: [./ours.sh]}")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	res, err := p.runNow(ctx, book, map[string]string{"pod": p.suspects[0]}, environ)
	if err != nil || res.State != engine.RunStopped || step(res, "scan").Outcome != "failed" {
		t.Errorf("%v, %+v", err, res)
	}
	entries := journal(t, state)
	if last := entries[len(entries)-1]; last.Action != "step-ended" || last.Outcome != timeline.OutcomeFailed {
		t.Errorf("the journal ends with %+v", last)
	}
}
