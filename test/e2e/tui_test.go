package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A Screen is a terminal of 80x24 with a shell of a person in it.
type Screen struct {
	t      *testing.T
	socket string
}

func (p *Person) screen() *Screen {
	p.t.Helper()
	s := &Screen{p.t, filepath.Join(p.t.TempDir(), "tmux")}
	args := append([]string{"new-session", "-d", "-s", "irctl", "-x", "80", "-y", "24", "env", "-i", "LC_ALL=C.UTF-8",
		"TERM=tmux-256color", "PS1=$ "}, p.prepare(p.t.Context()).Env...)
	s.tmux(append(args, "/bin/sh")...)
	p.t.Cleanup(func() { _ = exec.Command("tmux", "-S", s.socket, "kill-server").Run() }) // it may have ended
	return s
}

func (s *Screen) tmux(args ...string) string {
	s.t.Helper()
	out, err := exec.CommandContext(s.t.Context(), "tmux",
		append([]string{"-f", "/dev/null", "-S", s.socket}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return string(out)
}

// press presses keys, one by one, as a person does.
func (s *Screen) press(keys ...string) {
	s.t.Helper()
	for _, key := range keys {
		s.tmux("send-keys", "-t", "irctl", key)
		time.Sleep(30 * time.Millisecond)
	}
}

func (s *Screen) write(text string) {
	s.t.Helper()
	s.tmux("send-keys", "-t", "irctl", "-l", text)
}

func (s *Screen) capture() string {
	s.t.Helper()
	return s.tmux("capture-pane", "-p", "-t", "irctl")
}

// await waits for a screen, and returns it.
func (s *Screen) await(what string, ok func(screen string) bool) string {
	s.t.Helper()
	const limit = 3 * time.Minute // a rollout may take that long
	deadline := time.Now().Add(limit)
	for {
		screen := s.capture()
		if ok(screen) {
			return screen
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s is not on the screen after %s:\n%s", what, limit, screen)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// until waits until the screen shows all of that.
func (s *Screen) until(want ...string) {
	s.t.Helper()
	s.await(strings.Join(want, ", "), func(screen string) bool {
		text := strings.Join(strings.Fields(screen), " ")
		for _, w := range want {
			if !strings.Contains(text, w) {
				return false
			}
		}
		return true
	})
}

// configure writes this person's configuration file.
func (p *Person) configure(text string) {
	p.t.Helper()
	dir := filepath.Join(p.home, "config", "irctl")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "irctl.yaml"), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// By keys alone: from the table of pods to a contained suspect, and out; the
// commands see what was done, and put it back.
func TestTheTerminalUIContainsAPodAndUndoPutsItBack(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Fatal("tmux is not installed; test/e2e/install-deps.sh gets it")
	}
	n := newNamespace(t)
	n.workload("deployment", 2)
	suspect := n.pod("app=deployment")
	jane := newPerson(t, responder)
	before := n.settled(suspect)
	s := jane.screen()

	s.write(world.Irctl + " -n " + n.name + "\n")
	s.until("Open incidents", "[p] pod")
	s.until("0 open incidents", "as of") // there is a connection, and it was looked for suspects
	s.press("p")
	s.until("SUSPICION", suspect.Name)
	s.write(suspect.Name)
	s.until("1 of 2 pods")
	s.press("Enter")
	s.until("New incident of", suspect.Name, "compromised-pod")
	s.press("s")
	s.until("1 real")
	s.press("1")
	s.until("It will make", "r: make")
	s.press("r")
	s.until("Press Y to make", suspect.Name)
	if len(n.quarantines()) > 0 {
		t.Error("the cluster was changed before anybody said yes")
	}
	s.press("Y")
	s.until("Enter goes on", "Verified")
	s.press("q")
	s.until("irctl goes on with it")

	var printed struct {
		Incidents []Status `json:"incidents"`
	}
	jane.irctl("status", "-o", "json").decode(&printed)
	if len(printed.Incidents) != 1 || printed.Incidents[0].Verdict != contained &&
		printed.Incidents[0].Verdict != exposed {
		t.Fatalf("status tells %+v", printed.Incidents)
	}
	n.survives(suspect)
	n.await("the other pods of the workload to end", func(context.Context) (bool, error) {
		return len(n.siblings("app=deployment", suspect)) == 0, nil
	})

	jane.undo("--all").exits(exitDone)

	n.restored(before, nil, suspect)
	n.awaitPods("app=deployment", 2)
}

// The whole procedure once more, by keys alone: an alert has opened the incident,
// a person goes through it in the terminal UI, to its end.
func TestTheWholeIncidentByKeys(t *testing.T) {
	t.Parallel()
	needsEnforcement(t)
	a := newAffair(t)
	traffic := []Flow{flow(a.pod("app=frontend"), a.suspect, 8000), flow(a.suspect, a.pod("app=postgres"), 5432)}
	a.flows(traffic...)
	a.jane.configure("recipients: [" + a.keys.public + "]\n")
	a.detect()

	s := a.jane.screen()
	s.write(world.Irctl + " -n " + a.name + "\n")
	s.until("1 open incident", a.id)
	s.press("Enter")
	s.until("A runbook for incident", runbook, a.suspect.Name)
	for _, v := range a.values() {
		s.fill(v[0], v[1])
	}
	s.press("s")
	s.until("1 real")
	s.goThrough("THE WALK IS GONE THROUGH")
	s.until("closed", "✓ CONTAINED")
	s.press("q")
	s.until("$")

	a.over()
	a.evidence()
	a.reports()
}

// fill goes to a row of a form, and types another value.
func (s *Screen) fill(name, value string) {
	s.t.Helper()
	const most = 40 // rows
	for n := 0; !strings.Contains(s.capture(), "▸ "+name+" "); n++ {
		if n == most {
			s.t.Fatalf("there is no row %s:\n%s", name, s.capture())
		}
		before := s.capture()
		s.press("Down")
		s.await("the next row", func(screen string) bool { return screen != before })
	}
	s.press("Enter")
	s.until(name + ":")
	s.press("C-u")
	s.write(value)
	end := value[max(0, len(value)-10):]
	s.await("the value of "+name, func(screen string) bool { return strings.Contains(screen, end) })
	s.press("Enter")
	s.await("the end of typing", func(screen string) bool { return !strings.Contains(screen, name+":") })
}

// What a screen of the walk waits for, and the key for it.
var waitsFor = []struct {
	what *regexp.Regexp
	key  string
}{
	{regexp.MustCompile(`Press Y to `), "Y"},
	{regexp.MustCompile(`Enter goes on\.`), "Enter"},
	{regexp.MustCompile(`(?m)^answer: +1 `), "1"},
	{regexp.MustCompile(`(?m)^ r: `), "r"},
}

// goThrough presses what each step asks for, until the end is on the screen.
func (s *Screen) goThrough(end string) {
	s.t.Helper()
	for last := ""; ; {
		key := ""
		last = s.await("what is to be pressed", func(screen string) bool {
			if strings.Contains(screen, "FAILED") || strings.Contains(screen, "THE WALK STOPPED") {
				s.t.Fatalf("it does not go on:\n%s", screen)
			}
			if screen == last {
				return false
			}
			for _, w := range waitsFor {
				if w.what.MatchString(screen) {
					key = w.key
					return true
				}
			}
			return strings.Contains(screen, end)
		})
		if key == "" {
			return
		}
		s.press(key)
		s.await("what "+key+" brings", func(screen string) bool { return screen != last })
	}
}
