package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
)

// victimEnv makes the test binary a process that contains a pod, to be killed:
// the server's URL, the state directory and the pod.
const victimEnv = "IRCTL_TEST_VICTIM"

func TestMain(m *testing.M) {
	if args := os.Getenv(victimEnv); args != "" {
		if err := victim(strings.Split(args, "\n")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func victim(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := cluster.New(&rest.Config{Host: args[0]})
	if err != nil {
		return err
	}
	store, err := incident.NewStore(args[1], incident.Options{Now: clock})
	if err != nil {
		return err
	}
	e, err := engine.New(ctx, client, store, &front{answer: engine.Yes}, "sim")
	if err != nil {
		return err
	}
	e.Now, e.Random = clock, rand.NewChaCha8([32]byte{})
	if len(args) > 3 && args[3] == "recover" {
		return victimRecovers(ctx, e)
	}
	target, err := client.GetTarget(ctx, "todo-app", args[2])
	if err != nil {
		return err
	}
	_, err = e.Contain(ctx, engine.ContainRequest{Targets: []*cluster.Target{target},
		Options: contain.Options{Steps: contain.DefaultSteps}})
	return err
}

// TestKilledForReal is TestKilledAtEveryCall with a real process and SIGKILL,
// at the calls where it matters most: every write, and the read between them.
func TestKilledForReal(t *testing.T) {
	t.Parallel()
	calls, after := cleanRun(t)
	sampled := 0
	for _, call := range calls {
		guard := call.Verb == "list" && call.Resource == "pods" && call.Nth == 1
		if !call.Writes() && !guard {
			continue
		}
		sampled++
		for _, executed := range []bool{false, true} {
			w, dir := newWorld(t), t.TempDir()
			w.killVictim(t, call, executed, dir)
			if call.Writes() {
				wantPending(t, call, dir)
			}
			w.contained(t, call.Key(), dir, after)

			w, dir = newWorld(t), t.TempDir()
			w.killVictim(t, call, executed, dir)
			w.undone(t, call.Key(), dir)
		}
	}
	if sampled < 4 {
		t.Errorf("only %d calls were sampled", sampled)
	}
}

// killVictim runs a process and kills it at a call. The server does not go on
// with that call before the process is certainly dead.
func (w *world) killVictim(t *testing.T, call sim.Request, executed bool, dir string, more ...string) {
	t.Helper()
	private(t, dir)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	started, dead := make(chan struct{}), make(chan error, 1)
	kill := func() {
		<-started
		_ = cmd.Process.Kill() // what matters is how it ended, below
		dead <- cmd.Wait()
	}
	listener := httptest.NewServer(w.Server(func(r sim.Request) sim.Fault {
		switch {
		case r.Key() != call.Key():
			return sim.Fault{}
		case executed:
			return sim.Fault{After: kill, Lose: true}
		}
		return sim.Fault{Before: kill, Break: true}
	}))
	defer listener.Close()
	cmd.Env = append(os.Environ(), victimEnv+"="+strings.Join(append([]string{listener.URL, dir, w.suspect}, more...),
		"\n"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	close(started)
	select {
	case <-dead:
	case <-time.After(30 * time.Second):
		kill()
		t.Fatalf("%s: never called", call.Key())
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("%s: the process was not killed: %v", call.Key(), cmd.ProcessState)
	}
}
