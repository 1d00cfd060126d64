// Command recording plays the crypto-miner drill in the terminal UI, by key
// presses in tmux, and draws what is on the screen: the moving picture of the
// README, and the pictures of docs/tui.md.
//
//	recording IRCTL DIR
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const (
	columns, lines = 100, 30
	patience       = 60 * time.Second
)

// scene is what is waited for, how long it is shown, and what is pressed then.
type scene struct {
	until   string // a regular expression; what happens until then is recorded
	lasts   time.Duration
	caption string
	still   string // the name of a picture of its own
	alt     string
	keys    []string // as tmux names them
}

func scenes() []scene {
	s := time.Second
	return []scene{
		{`Enter begins`, 3 * s, "irctl drill: what the person on call is told", "", "", []string{"Enter"}},
		{`info[\s\S]*Stratum`, 4 * s, "A suspect: Falco's alerts, ranked, with the reasons", "findings", "irctl's first screen: suspects, ranked, and why the first one is one", []string{"Enter"}},
		{`< crypto-miner >[\s\S]*\[s\] start`, 2 * s, "Enter: the runbook's parameters, filled in by what is known", "", "", []string{"s"}},
		{`1  miner`, 2 * s, "s: begin. What a person has to decide is asked", "", "", []string{"1"}},
		{`asks once more`, 5 * s, "1: the containment, planned: every change as a diff. Nothing is done yet", "plan", "The plan of the containment, with the diff of each change", []string{"r"}},
		{`Press Y`, 2 * s, "r: do it. It asks once more", "", "", []string{"Y"}},
		{`CONTAINED WITH EXPOSURES`, 6 * s, "Y: cut off, detached, scaled down, sealed; verified, and what is still open", "verdict", "The verdict after containment: what was verified, and what remains open", []string{"Enter"}},
		{`contain / block`, s, "Enter: on along the runbook", "", "", []string{"1"}},
		{`contain / closeExposures`, s, "On along the runbook", "", "", []string{"2"}},
		{`r: run this step`, s, "Evidence, while the pod is still there", "", "", []string{"r"}},
		{`DONE +Collect`, 3 * s, "All evidence, sealed into one OpenPGP file", "", "", []string{"Enter"}},
		{`investigate / persistence`, s, "What only a person can see", "", "", []string{"1"}},
		{`investigate / wayIn`, s, "What only a person can see", "", "", []string{"1"}},
		{`eradicate / patch[\s\S]*asks once more`, 2 * s, "The patched image, by digest", "", "", []string{"r"}},
		{`Press Y`, s, "The patched image, by digest", "", "", []string{"Y"}},
		{`Enter goes on`, s, "The patched image, by digest", "", "", []string{"Enter"}},
		{`eradicate / rotate[\s\S]*asks once more`, 2 * s, "Every secret that the suspect could read, replaced", "", "", []string{"r"}},
		{`Press Y`, s, "Every secret that the suspect could read, replaced", "", "", []string{"Y"}},
		{` ERADICATED`, 3 * s, "Every secret that the suspect could read, replaced", "", "", []string{"Enter"}},
		{`recover / approve`, s, "Only now the workload goes back", "", "", []string{"1"}},
		{`recover / restore[\s\S]*asks once more`, s, "Only now the workload goes back", "", "", []string{"r"}},
		{`Press Y`, s, "Only now the workload goes back", "", "", []string{"Y"}},
		{`Enter goes on`, 7 * s, "It is back, on clean ground; the suspect stays, for forensics", "recovered", "After recovery: the suspect is kept for forensics, in its quarantine", nil},
	}
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: recording IRCTL DIR")
		os.Exit(2)
	}
	if err := record(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "recording:", err)
		os.Exit(1)
	}
}

// stage is a terminal that nobody sees.
type stage struct {
	dir    string
	frames []frame
}

func (s *stage) tmux(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "tmux", append([]string{"-S", filepath.Join(s.dir, "tmux"), "-f", os.DevNull}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("tmux %s: %w: %s", args[0], err, out)
	}
	return string(out), nil
}

var escapes = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// wait records the screen until it shows something.
func (s *stage) wait(ctx context.Context, until, caption string, recorded bool) (string, error) {
	shown, err := regexp.Compile(until)
	if err != nil {
		return "", err
	}
	const pause = 100 * time.Millisecond
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		screen, err := s.tmux(ctx, "capture-pane", "-e", "-p", "-t", "r")
		if err != nil {
			return "", err
		}
		text := escapes.ReplaceAllString(screen, "")
		if shown.MatchString(text) {
			return screen, nil
		}
		if time.Now().After(end) {
			return "", fmt.Errorf("%q did not appear within %s:\n%s", until, patience, text)
		}
		if recorded && strings.TrimSpace(text) != "" {
			s.add(screen, caption, pause)
		}
	}
}

// add puts a frame on the film; what stands still is one.
func (s *stage) add(screen, caption string, lasts time.Duration) {
	if n := len(s.frames); n > 0 && s.frames[n-1].screen == screen && s.frames[n-1].caption == caption {
		s.frames[n-1].lasts += lasts
		return
	}
	s.frames = append(s.frames, frame{screen, caption, lasts})
}

// press presses keys one after the other: keys that come in one rush are
// nobody's, irctl says.
func (s *stage) press(ctx context.Context, keys ...string) error {
	for _, k := range keys {
		time.Sleep(400 * time.Millisecond)
		if _, err := s.tmux(ctx, "send-keys", "-t", "r", k); err != nil {
			return err
		}
	}
	return nil
}

func record(ctx context.Context, irctl, out string) (err error) {
	dir, err := os.MkdirTemp("", "irctl-drill-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if irctl, err = filepath.Abs(irctl); err != nil {
		return err
	}
	s := &stage{dir: dir}
	if _, err := s.tmux(ctx, "new-session", "-d", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(lines), "-s", "r", "-e", "IRCTL_STATE_DIR="+dir, "-e", "LANG=C.UTF-8", "-e", "TZ=UTC",
		fmt.Sprintf("'%s' drill --dir '%s' 2>/dev/null; sleep 600", irctl, filepath.Join(dir, "d"))); err != nil {
		return err
	}
	// Before the directory goes: irctl writes into it until it ends.
	defer func() {
		_, _ = s.tmux(ctx, "kill-server") // it is of no use any more
		time.Sleep(time.Second)
	}()
	still := 0
	for i, sc := range scenes() {
		screen, err := s.wait(ctx, sc.until, sc.caption, i > 0)
		if err != nil {
			return err
		}
		s.add(screen, sc.caption, sc.lasts)
		if sc.still == "verdict" {
			still = len(s.frames) - 1
		}
		if sc.still != "" {
			if err := write(filepath.Join(out, sc.still+".svg"), picture([]frame{{screen, "", 0}}, columns, lines, 0, sc.alt)); err != nil {
				return err
			}
		}
		if err := s.press(ctx, sc.keys...); err != nil {
			return err
		}
	}
	return write(filepath.Join(out, "drill.svg"), picture(s.frames, columns, lines, still,
		"A miner in a pod, in irctl's terminal UI: found, contained, evidence sealed, secrets replaced, back in service"))
}

func write(path, text string) error {
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // a picture for everybody
}
