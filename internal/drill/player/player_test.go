package player_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"irctl/internal/change"
	"irctl/internal/drill"
	"irctl/internal/drill/player"
)

// bin is the directory with the programs that are typed on a terminal: the irctl
// that people start, once it is built, and a kubectl.
var bin string

var built = sync.OnceValue(func() error {
	if err := os.Symlink(os.Args[0], filepath.Join(bin, "kubectl")); err != nil {
		return err
	}
	out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(bin, "irctl"), "irctl/cmd/irctl").
		CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
})

// TestMain runs the tests, or is the kubectl of the second terminal.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		if filepath.Base(os.Args[0]) == "kubectl" {
			if err := kubectl(os.Args[1:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			return 0
		}
		var err error
		if bin, err = os.MkdirTemp("", "irctl-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		return m.Run()
	}())
}

// desk is where a drill is played: a terminal, and the drill's directory.
type desk struct {
	*player.Player
	t   *testing.T
	dir string // of the drill
}

func newDesk(t *testing.T, scenario string, columns, lines int) *desk {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("tmux is not installed: test/install-deps.sh gets it")
		}
		t.Skip("tmux is not installed; test/install-deps.sh gets it")
	}
	if err := built(); err != nil {
		t.Fatal(err)
	}
	s, err := drill.Find(t.Context(), scenario)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	terminal, err := player.Open(t.Context(), dir, columns, lines, "IRCTL_STATE_DIR="+filepath.Join(dir, "home"),
		"PATH="+bin+":"+os.Getenv("PATH"))
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, dir: filepath.Join(dir, "drill"), Player: &player.Player{Terminal: terminal, Scenario: s}}
	t.Cleanup(func() {
		// The context of the test has ended.
		if err := terminal.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	d.Second = func(ctx context.Context, line string) error {
		_, err := d.second(ctx, line)
		return err
	}
	return d
}

// second runs a line in a shell of its own, which the drill's file for that leads there.
func (d *desk) second(ctx context.Context, line string) (string, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", ". "+change.ShellQuote(filepath.Join(d.dir, "env"))+"; "+line)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return string(out), nil
}

func (d *desk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) press(key string) {
	d.t.Helper()
	d.must(d.Press(d.t.Context(), key))
}

func (d *desk) shows(all ...string) {
	d.t.Helper()
	for _, want := range all {
		_, err := d.Shows(d.t.Context(), want)
		d.must(err)
	}
}

// start types the command that starts a drill.
func (d *desk) start() {
	d.t.Helper()
	d.must(d.Type(d.t.Context(), fmt.Sprintf("clear; irctl drill --speed %d --scenario %s --dir %s; echo exit=$?\n",
		speed, d.Scenario.Name, change.ShellQuote(d.dir))))
}

// speed is fast enough to see the attacker try again, and slow enough for a
// machine that takes long to draw a screen.
const speed = 5

// left quits, and returns the score that is printed then.
func (d *desk) left(exit int) drill.Score {
	d.t.Helper()
	d.press("q")
	screen, err := d.Shows(d.t.Context(), fmt.Sprintf("exit=%d", exit))
	d.must(err)
	score := d.score()
	if want := fmt.Sprintf("SCORE %d of %d", score.Points, score.Of); !strings.Contains(screen, want) {
		d.t.Errorf("%q is not on the screen:\n%s", want, screen)
	}
	return score
}

func (d *desk) score() (s drill.Score) {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, "score.json"))
	d.must(err)
	d.must(json.Unmarshal(text, &s))
	return s
}

func (d *desk) allPoints(s drill.Score) {
	d.t.Helper()
	if s.Points != s.Of || s.Of != 100 {
		d.t.Errorf("%d of %d points: %+v", s.Points, s.Of, s.Items)
	}
}

// TestPlayedWell plays every scenario by keys alone, to the score.
func TestPlayedWell(t *testing.T) {
	t.Parallel()
	all, err := drill.BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			if testing.Short() && s.Name != drill.First {
				t.Skip("make test-full plays every scenario")
			}
			t.Parallel()
			d := newDesk(t, s.Name, 100, 30)
			if s.Name == "gitops" {
				d.Instead = map[string]func(context.Context, player.Sight) error{"cutOff": d.suspendFirst}
			}
			if s.Name != "leaked-secret" { // there it watches for nobody's return
				d.Params = [][2]string{{"watch", "10s"}}
			}
			d.start()
			end, err := d.Play(t.Context())
			d.must(err)
			d.allPoints(d.left(0))
			d.complete(end.Incident)
		})
	}
}

// suspendFirst has the containment suspend who would put the workload back.
func (d *desk) suspendFirst(ctx context.Context, _ player.Sight) error {
	d.press("e")
	d.must(d.Fill(ctx, "steps", "suspend-controllers,quarantine,detach,scale"))
	d.press("r")
	d.shows("It will make 4 changes")
	return nil
}

// TestPlayedBadly leaves the rotation out, by keys, and loses the points for
// that, and no others: package cli has what other mistakes cost.
func TestPlayedBadly(t *testing.T) {
	t.Parallel()
	d := newDesk(t, drill.First, 80, 24)
	d.Instead = map[string]func(context.Context, player.Sight) error{
		"rotate": func(ctx context.Context, at player.Sight) error { return d.Skip(ctx, at, "no time for that") },
		// The containment stays: it takes a reason to close the incident over it.
		"finish": func(ctx context.Context, _ player.Sight) error {
			d.press("e")
			d.must(d.Fill(ctx, "leaveStanding", "it is evidence"))
			d.press("r")
			d.shows("leaveStanding it is evidence")
			return nil
		},
	}
	approve := d.Scenario.Play.Steps["approve"]
	approve.Answer = "stay-down" // the stolen secret would let the attacker in again
	d.Scenario.Play.Steps["approve"] = approve
	d.start()
	_, err := d.Play(t.Context())
	d.must(err)
	score := d.left(3)
	for _, i := range score.Items {
		if lost := i.Points < i.Of; lost != (i.Name == drill.ItemSecrets) {
			t.Errorf("%s: %d of %d points: %q", i.Name, i.Points, i.Of, i.Why)
		}
	}
}

// TestInterrupted plays with the program that people start on their own cluster,
// which is that of a drill here: it is given alerts, resized, pasted into, left,
// killed where a plan is asked for and where a step is at work, and goes on
// exactly there.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newDesk(t, drill.First, 80, 24)
	served := d.serve()
	d.Params = [][2]string{{"title", "mined, and interrupted"}, {"pool", "198.51.100.23"}}
	for _, name := range []string{"image", "generate", "setFrom", "revoked"} { // in the order of the rows
		d.Params = append(d.Params, [2]string{name, strings.ReplaceAll(d.Scenario.Play.Params[name], "${dir}", d.dir)})
	}
	d.Params = append(d.Params, [2]string{"watch", "1h"})
	d.Instead = map[string]func(context.Context, player.Sight) error{
		"triage": func(_ context.Context, at player.Sight) error {
			d.paste("1rY\n1rY\n")
			d.still(at)
			return nil
		},
		"cutOff": func(ctx context.Context, at player.Sight) error {
			d.must(d.Resize(ctx, 200, 50))
			d.shows("In detail", "kubectl label pod", "Replace the secrets that the pods could read")
			d.must(d.Resize(ctx, 80, 24))
			d.paste("rY")
			d.still(at)
			d.kill()
			d.again(at)
			return nil
		},
		"persistence": func(_ context.Context, at player.Sight) error {
			d.press("q")
			d.shows("irctl goes on with it")
			d.again(at)
			return nil
		},
		"watch": func(ctx context.Context, at player.Sight) error {
			const watching = "waiting: a sign of the attacker's return"
			d.press("r")
			d.shows(watching)
			d.kill()
			d.again(at)
			d.press("r")
			d.shows(watching)
			d.press("x")
			paused, err := d.Next(ctx)
			d.must(err)
			d.must(d.Answer(ctx, paused, "r"))
			d.still(at)
			return d.Skip(ctx, at, "long enough")
		},
	}
	d.must(d.Type(ctx, ". "+change.ShellQuote(filepath.Join(d.dir, "env"))+"; clear; irctl <"+
		change.ShellQuote(filepath.Join(d.dir, "alerts.jsonl"))+"\n"))
	end, err := d.Play(ctx)
	d.must(err)
	d.press("q")
	d.shows("incident " + end.Incident + " is closed")
	d.complete(end.Incident)
	d.allPoints(served())
}

// serve keeps a drill up, and returns what ends it and tells the score.
func (d *desk) serve() func() drill.Score {
	d.t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(d.t.Context(), filepath.Join(bin, "irctl"), "drill", "serve", "--speed",
		fmt.Sprint(speed), "--dir", d.dir, "-o", "json")
	cmd.Stdout, cmd.Stderr = &out, &out
	// It is a terminal's Ctrl-C, also where the test ends before its time.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	d.must(cmd.Start())
	for {
		if _, err := os.Stat(filepath.Join(d.dir, "env")); err == nil {
			break
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-d.t.Context().Done():
			d.t.Fatal("irctl drill serve did not start")
		}
	}
	ended := sync.OnceValue(func() error {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			return err
		}
		return cmd.Wait()
	})
	d.t.Cleanup(func() { _ = ended() }) // what it says is of use only where it was waited for
	return func() drill.Score {
		d.t.Helper()
		if err := ended(); err != nil {
			d.t.Errorf("irctl drill serve: %v: %s", err, out.String())
		}
		return d.score()
	}
}

// paste pastes a text, and waits until it was taken.
func (d *desk) paste(text string) {
	d.t.Helper()
	d.must(d.Paste(d.t.Context(), text))
	// Keys are taken in their order: what is seen after this one was there after the paste.
	d.press("t")
	d.shows("Timeline of inc-")
	d.press("Escape")
}

// still fails if the screen asks something else than it did.
func (d *desk) still(at player.Sight) {
	d.t.Helper()
	now, err := d.Next(d.t.Context())
	d.must(err)
	if now.Kind != at.Kind || now.Step != at.Step {
		d.t.Fatalf("it was at %s %s, and is at %s %s", at.Kind, at.Step, now.Kind, now.Step)
	}
}

// kill kills the program without a warning.
func (d *desk) kill() {
	d.t.Helper()
	shell, err := d.PID(d.t.Context())
	d.must(err)
	out, err := exec.CommandContext(d.t.Context(), "ps", "-o", "pid=", "--ppid", shell).Output()
	d.must(err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	d.must(err)
	d.must(syscall.Kill(pid, syscall.SIGKILL))
	d.shows("Killed")
}

// again starts the program again: it goes on with the incident where it was.
func (d *desk) again(at player.Sight) {
	d.t.Helper()
	// The terminal may be as the program left it.
	d.must(d.Type(d.t.Context(), "stty sane; tput rmcup; clear; echo once more\n"))
	_, err := d.Until(d.t.Context(), "an empty screen", func(text string) bool {
		return strings.HasPrefix(text, "once more\n")
	})
	d.must(err)
	d.must(d.Type(d.t.Context(), "irctl\n"))
	home, err := d.Next(d.t.Context())
	d.must(err)
	if home.Kind != player.Home {
		d.t.Fatalf("it begins with %s", home.Kind)
	}
	d.must(d.Answer(d.t.Context(), home, "Enter"))
	d.still(at)
}

// complete checks what a drill leaves, by the commands that there are for it.
func (d *desk) complete(incident string) {
	d.t.Helper()
	run := func(want, line string) {
		d.t.Helper()
		if out, err := d.second(d.t.Context(), line); err != nil || !strings.Contains(out, want) {
			d.t.Errorf("%s: %v: %s", line, err, out)
		}
	}
	run("closed", "irctl incident show "+incident)
	run("unbroken", "irctl timeline verify --incident "+incident)
	folder := filepath.Join(d.dir, "state", "incidents", incident)
	for _, name := range []string{"report.md", "report.html"} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil || !bytes.Contains(text, []byte(incident)) || !bytes.Contains(text, []byte("DRILL")) {
			d.t.Errorf("%s: %v: %s", name, err, text)
		}
	}
	bundles, err := filepath.Glob(filepath.Join(folder, "DRILL-investigation-*.tar.gz.gpg"))
	d.must(err)
	if want := len(d.Scenario.Compromised) > 0; want != (len(bundles) > 0) {
		d.t.Errorf("investigated: %q, expected some: %t", bundles, want)
	}
	all, err := filepath.Glob(filepath.Join(folder, "DRILL-*.tar.gz.gpg"))
	d.must(err)
	for _, bundle := range all {
		run("are as the manifests say", "irctl evidence verify --key $XDG_CONFIG_HOME/../responder.secret.asc "+
			change.ShellQuote(bundle))
	}
}
