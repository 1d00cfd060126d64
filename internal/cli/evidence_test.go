package cli

import (
	"bytes"
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"irctl/internal/drill/sim"
)

// The scripts in testdata/evidence play a responder who investigates on a
// simulated cluster, with GnuPG at hand.
func TestEvidenceScripts(t *testing.T) {
	home := gnupgHome(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/evidence",
		Setup: func(env *testscript.Env) error {
			cluster, err := sim.New(sim.Options{Now: time.Now})
			if err != nil {
				return err
			}
			if err := cluster.Apply(sim.TodoApp); err != nil {
				return err
			}
			server := httptest.NewServer(cluster.Server(nil))
			env.Defer(server.Close)
			config := filepath.Join(env.WorkDir, "kubeconfig")
			for _, p := range cluster.List(sim.Pods, "todo-app") {
				if strings.HasPrefix(p.GetName(), "backend-") {
					env.Setenv("SUSPECT", p.GetName())
				}
			}
			env.Setenv("KUBECONFIG", config)
			env.Setenv("GNUPGHOME", home)
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			return os.WriteFile(config, []byte(cluster.Kubeconfig(server.URL, "")), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"irctl": func(ts *testscript.TestScript, neg bool, args []string) {
			irctlCommand(t.Context(), ts, neg, args)
		}},
	})
}

// irctlCommand runs the command line within this process; what it runs itself
// (gpg) finds its environment there. "irctl CODE …" expects another exit code
// than 0.
func irctlCommand(ctx context.Context, ts *testscript.TestScript, neg bool, args []string) {
	want := ExitDone
	if len(args) > 0 && len(args[0]) == 1 && args[0] >= "1" && args[0] <= "9" {
		want, args = int(args[0][0]-'0'), args[1:]
	}
	if neg {
		ts.Fatalf("write the exit code that is expected: irctl 1 …")
	}
	getenv := func(name string) string { return ts.Getenv(name) }
	if kubeconfig := ts.Getenv("KUBECONFIG"); kubeconfig != "" {
		args = append(args, "--kubeconfig", kubeconfig)
	}
	var out, errs bytes.Buffer
	code := Main(ctx, args, Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, getenv)
	_, _ = ts.Stdout().Write(out.Bytes())
	_, _ = ts.Stderr().Write(errs.Bytes())
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// gnupgHome has one key without a passphrase, for everything.
func gnupgHome(t *testing.T) string {
	t.Helper()
	// Short: the agent's socket is in it, and its path has at most 107 bytes.
	home, err := os.MkdirTemp("/tmp", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", home)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	cmd := exec.Command("gpg", "--batch", "--passphrase", "", "--quick-gen-key", "Responder <responder@example.org>", "rsa2048", "default", "1y")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("these tests need GnuPG, the program that bundles are opened with: %v\n%s", err, out)
	}
	fpr, err := exec.Command("gpg", "--batch", "--with-colons", "--list-keys", "responder@example.org").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(fpr), "fpr:::::::::")
	primary, _, _ := strings.Cut(rest, ":")
	if out, err := exec.Command("gpg", "--batch", "--passphrase", "", "--quick-add-key", primary, "rsa2048", "encr", "1y").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return home
}
