package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
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
	args := append([]string{"new-session", "-d", "-s", "irctl", "-x", "80", "-y", "24", "env", "-i", "LC_ALL=C.UTF-8", "TERM=tmux-256color", "PS1=$ "}, p.prepare(p.t.Context()).Env...)
	s.tmux(append(args, "/bin/sh")...)
	p.t.Cleanup(func() { _ = exec.Command("tmux", "-S", s.socket, "kill-server").Run() }) // it may have ended
	return s
}

func (s *Screen) tmux(args ...string) string {
	s.t.Helper()
	out, err := exec.CommandContext(s.t.Context(), "tmux", append([]string{"-f", "/dev/null", "-S", s.socket}, args...)...).CombinedOutput()
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

// until waits until the screen shows all of that.
func (s *Screen) until(want ...string) {
	s.t.Helper()
	const limit = 30 * time.Second
	deadline := time.Now().Add(limit)
	for {
		screen := s.tmux("capture-pane", "-p", "-t", "irctl")
		text := strings.Join(strings.Fields(screen), " ")
		missing := ""
		for _, w := range want {
			if !strings.Contains(text, w) {
				missing = w
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%q is not on the screen after %s:\n%s", missing, limit, screen)
		}
		time.Sleep(50 * time.Millisecond)
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
	if len(printed.Incidents) != 1 || printed.Incidents[0].Verdict != contained && printed.Incidents[0].Verdict != exposed {
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
