package tui

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"irctl/internal/drill/sim"
)

// terminalOf is a real terminal, with the real program in it.
type terminalOf struct {
	t      *testing.T
	socket string
}

func (x *terminalOf) tmux(args ...string) string {
	x.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-f", "/dev/null", "-S", x.socket}, args...)...).CombinedOutput()
	if err != nil {
		x.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return string(out)
}

func (x *terminalOf) screen() string { return x.tmux("capture-pane", "-p", "-t", "irctl") }

func (x *terminalOf) until(want ...string) {
	x.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		screen := x.screen()
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
			x.t.Fatalf("waited for %q; the screen is\n%s", missing, screen)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (x *terminalOf) press(keys ...string) {
	x.t.Helper()
	for _, k := range keys {
		x.tmux("send-keys", "-t", "irctl", k)
		time.Sleep(30 * time.Millisecond) // a person, not a paste
	}
}

// TestInATerminal drives the program that people start, by keys alone, through
// an incident: it is resized, killed, and goes on.
func TestInATerminal(t *testing.T) {
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("tmux is not installed; test/install-deps.sh gets it")
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "irctl")
	build := exec.Command("go", "build", "-o", binary, "irctl/cmd/irctl")
	build.Dir = sourceDir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c, err := sim.New(sim.Options{Now: time.Now, Token: "sim-token"})
	if err == nil {
		err = c.Apply(sim.TodoApp)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(c.Server(nil))
	t.Cleanup(server.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(c.Kubeconfig(server.URL, string(authority))), 0o600); err != nil {
		t.Fatal(err)
	}
	alerts := filepath.Join(dir, "alerts.jsonl")
	l := &lab{Cluster: c}
	for _, p := range c.List(sim.Pods, "todo-app") {
		if strings.HasPrefix(p.GetName(), "backend-") {
			l.suspect = "todo-app/" + p.GetName()
		}
	}
	if err := os.WriteFile(alerts, []byte(l.alert()), 0o600); err != nil {
		t.Fatal(err)
	}
	x := &terminalOf{t, filepath.Join(dir, "tmux")}
	environ := fmt.Sprintf("env LC_ALL=C.UTF-8 TERM=tmux-256color KUBECONFIG=%s XDG_STATE_HOME=%s XDG_CONFIG_HOME=%s IRCTL_STATE_DIR= NO_COLOR=", kubeconfig, filepath.Join(dir, "state"), filepath.Join(dir, "config"))
	x.tmux("new-session", "-d", "-s", "irctl", "-x", "80", "-y", "24", "sh")
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", x.socket, "kill-server").Run() })
	start := func(rest string) { x.tmux("send-keys", "-t", "irctl", "-l", environ+" "+binary+" "+rest+"\n") }

	// Alerts are piped in; the keys come from the terminal.
	ours := "--runbook-dir " + filepath.Join(sourceDir, "testdata", "runbooks") + " "
	start(ours + "<" + alerts)
	x.until("Suspects", "critical")
	x.press("Enter")
	x.until("New incident of "+l.suspect, "Terminal shell in container")
	x.press("s")
	x.until("1 real")
	// A paste does no harm.
	x.tmux("set-buffer", "-b", "p", "1rY\n1rY\n")
	x.tmux("paste-buffer", "-p", "-b", "p", "-t", "irctl")
	x.until("1 real")
	x.press("1")
	x.until("It will make 3 changes")
	x.tmux("resize-window", "-t", "irctl", "-x", "200", "-y", "50")
	x.until("In detail", "kubectl label pod", "Rotate every secret")
	x.tmux("resize-window", "-t", "irctl", "-x", "80", "-y", "24")
	x.until("r: make 3 changes (asks once more)")

	// Killed with a plan on the screen; it goes on there.
	kill := exec.Command("sh", "-c", "kill -KILL $(ps -o pid= --ppid $(tmux -S "+x.socket+" display-message -p -t irctl '#{pane_pid}'))")
	if out, err := kill.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	time.Sleep(300 * time.Millisecond)
	x.tmux("send-keys", "-t", "irctl", "-l", "stty sane; clear\n") // the screen is as it was left
	start(ours)
	x.until("Open incidents", "compromised-pod, at cutOff")
	x.press("Enter")
	x.until("It will make 3 changes")
	x.press("r")
	x.until("Press Y to make 3 changes on pod " + l.suspect)
	x.press("Y")
	x.until("CONTAINED WITH EXPOSURES", "Verified", "CONTAINED, 1 OPEN")
	x.press("Enter")
	x.until("Tell the Incident Commander", "1 done")
	x.press("t")
	x.until("Timeline of inc-")
	x.press("Escape")
	x.until("1 done")
	x.press("q")
	x.until("irctl goes on with it", "irctl undo --all")

	// What was done here, the commands put back.
	start("undo --all -y")
	x.until("3 changes of incident inc-", "undone")
}
