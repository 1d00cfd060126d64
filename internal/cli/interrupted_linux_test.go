package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"irctl/internal/drill/sim"
	"irctl/internal/timeline"
)

// changing are the commands that change a cluster, with what comes before them.
// For contain see TestCtrlCAndTermStopAfterTheCallInFlightAndTheSameCommandGoesOn.
var changing = map[string]struct {
	contained bool
	args      func(*stand) []string
}{
	"undo":      {true, func(*stand) []string { return []string{"undo", "--all", "--yes"} }},
	"eradicate": {true, func(*stand) []string { return []string{"eradicate", "--remove-bindings", "--yes"} }},
	"recover":   {true, func(*stand) []string { return []string{"recover", "--same-image", "--wait", "30s", "--yes"} }},
	"run": {false, func(s *stand) []string {
		return []string{"run", filepath.Join(s.dir, "cut-off.yaml"), "--set", "pod=todo-app/" + s.suspect, "--yes"}
	}},
}

// cutOff is a runbook that changes the cluster, and goes on after that.
const cutOff = `apiVersion: irctl/v1
kind: Runbook
name: cut-off
version: 1.0.0
title: Cut a pod off
severity: sev3
parameters:
  - name: pod
    type: pod
    required: true
    prompt: Which pod?
phases:
  - name: contain
    steps:
      - name: cutOff
        uses: contain
        title: Cut it off
        with:
          pods: ["${params.pod}"]
          secondLook: 1ms
      - name: said
        uses: note
        title: Say so
        with:
          text: It is cut off.
`

func newStage(t *testing.T, contained bool) *stand {
	t.Helper()
	s := newStand(t)
	if err := os.WriteFile(filepath.Join(s.dir, "cut-off.yaml"), []byte(cutOff), 0o600); err != nil {
		t.Fatal(err)
	}
	if contained {
		p := s.piped(append(s.contain(), "--yes")...)
		if code := p.code(); code != 0 && code != 3 {
			t.Fatalf("contain: %d: %s", code, p.text.String())
		}
	}
	return s
}

func TestWhatASignalStopsTheSameCommandGoesOnWith(t *testing.T) {
	t.Parallel()
	for name, c := range changing {
		whole := newStage(t, c.contained)
		p := whole.piped(c.args(whole)...)
		code, want := p.code(), whole.looks()
		if code != 0 && code != 3 {
			t.Fatalf("%s: %d: %s", name, code, p.text.String())
		}
		for sig, exit := range ending {
			t.Run(fmt.Sprintf("%s, %s at the first write", name, sig), func(t *testing.T) {
				s := newStage(t, c.contained)
				begun := make(chan *process, 1)
				s.once(writes, 1, func() {
					p := <-begun
					p.send(sig)
					p.says("stopping after the call in flight")
				})
				p := s.piped(c.args(s)...)
				begun <- p
				s.ends(exit, p)
				p.says("the same command goes on from there")
				p.says("irctl status inc-")
				if left := timeline.Pending(s.journal()); len(left) > 0 {
					t.Errorf("%d intents without an outcome", len(left))
				}
				s.when(nil)
				again := s.piped(c.args(s)...)
				s.ends(code, again)
				if got := s.looks(); got != want {
					t.Errorf("the cluster is\n%s\nwant\n%s", got, want)
				}
			})
		}
	}
}

// reads is any request that changes nothing.
func readsOnly(r sim.Request) bool { return !r.Writes() }

func TestBeforeChangesBeginEveryCommandEndsAtAHangup(t *testing.T) {
	t.Parallel()
	for name, c := range changing {
		for sig, exit := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143, syscall.SIGHUP: 143} {
			t.Run(fmt.Sprintf("%s, %s", name, sig), func(t *testing.T) {
				s := newStage(t, c.contained)
				before, written := s.looks(), s.server.Written()
				begun := make(chan *process, 1)
				s.once(readsOnly, 1, func() {
					p := <-begun
					p.send(sig)
					<-p.ended
				})
				p := s.piped(c.args(s)...)
				begun <- p
				s.ends(exit, p)
				p.says("nothing was changed")
				if got := s.looks(); got != before || s.server.Written() != written {
					t.Errorf("the cluster is\n%s\nwas\n%s", got, before)
				}
			})
		}
	}
}

// interruptedAt runs a watch and interrupts it at the nth request that is asked about.
func (s *stand) interruptedAt(asked func(sim.Request) bool, nth int, args ...string) (*process, *string) {
	s.Helper()
	begun := make(chan *process, 1)
	s.once(asked, nth, func() { (<-begun).send(syscall.SIGINT) })
	p := s.command(args...)
	out, err := os.Create(filepath.Join(s.dir, "out"))
	if err != nil {
		s.Fatal(err)
	}
	errs, err := os.Create(filepath.Join(s.dir, "err"))
	if err != nil {
		s.Fatal(err)
	}
	p.Stdout, p.Stderr = out, errs
	if err := p.Start(); err != nil {
		s.Fatal(err)
	}
	begun <- p
	p.wait(nil)
	text := ""
	for _, f := range []*os.File{out, errs} {
		read, err := os.ReadFile(f.Name())
		if err != nil {
			s.Fatal(err)
		}
		text += string(read)
	}
	return p, &text
}

// lists are the requests by which a watch looks at pods.
func lists(r sim.Request) bool { return r.Verb == "list" && r.Resource == "pods" }

// Ctrl-C is how a watch ends: the exit code is by what it saw, and it saw nothing
// before its first look is over.
func TestCtrlCEndsAWatch(t *testing.T) {
	t.Parallel()
	for name, watch := range map[string]struct {
		contained bool
		args      []string
		nth       int // list of pods at which Ctrl-C comes
		exit      int
		says      string
	}{
		"detect, in its first look": {false, []string{"detect", "--watch", "--interval", "50ms"}, 1, 5,
			"cannot be checked"},
		"detect --listen, in its first look": {false,
			[]string{"detect", "--listen", "127.0.0.1:0", "--interval", "50ms"}, 1, 5,
			"cannot be checked"},
		"detect, later": {false, []string{"detect", "--watch", "--interval", "50ms", "--since", "1ns"}, 3, 0,
			"no sign of an attack"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, watch.contained)
			p, text := s.interruptedAt(lists, watch.nth, watch.args...)
			if got := p.code(); got != watch.exit || !strings.Contains(*text, watch.says) {
				t.Errorf("exit code %d, want %d, and %q:\n%s", got, watch.exit, watch.says, *text)
			}
			if watch.exit != 0 && strings.Contains(*text, "✓") {
				t.Errorf("it says ✓:\n%s", *text)
			}
		})
	}
}

// inAll are the looks of the watch after a recovery: it lists the pods of the
// whole cluster, first for what runs already.
func inAll(r sim.Request) bool { return lists(r) && r.Namespace == "" }

func TestCtrlCEndsTheWatchAfterARecovery(t *testing.T) {
	t.Parallel()
	for name, watch := range map[string]struct {
		nth  int
		exit int
		says string
	}{
		"in its first look": {2, 130, "COULD NOT TELL"},
		"later":             {5, 130, "WATCH ENDED EARLY"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, true)
			s.ends(3, s.piped("recover", "--same-image", "--wait", "30s", "--yes")) // 3: it is the suspect's image
			p, text := s.interruptedAt(inAll, watch.nth, "recover", "--same-image", "--wait", "30s", "--yes",
				"--monitor", "1m", "--every", "50ms")
			if got := p.code(); got != watch.exit || !strings.Contains(*text, watch.says) {
				t.Errorf("exit code %d, want %d, and %q:\n%s", got, watch.exit, watch.says, *text)
			}
		})
	}
}

// A full disk behind standard output is an error that says so, also of a command
// that has made its changes; its work is done all the same.
func TestAFullDiskBehindStandardOutputIsAnError(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	for _, args := range [][]string{{"version"}, {"runbook", "list", "-o", "json"}, append(s.contain(), "--yes"),
		{"status"}, {"timeline", "show"}} {
		p := s.command(args...)
		disk, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip("no /dev/full here:", err)
		}
		var said strings.Builder
		p.Stdout, p.Stderr = disk, &said
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		p.wait(nil)
		_ = disk.Close()
		s.ends(1, p)
		text := said.String()
		if !strings.Contains(text, "writing to standard output: no space left on device") ||
			strings.Contains(text, "IRCTL_STATE_DIR") {
			t.Errorf("%v said %s", args, text)
		}
	}
	if s.server.Written() == 0 {
		t.Error("nothing was contained")
	}
}
