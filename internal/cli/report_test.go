package cli

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"irctl/internal/drill/sim"
)

// The scripts in testdata/report play a responder who writes the post-mortem
// of an incident on a simulated cluster.
func TestReportScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/report",
		Setup: func(env *testscript.Env) error {
			cluster, err := sim.New(sim.Options{Now: time.Now})
			if err != nil {
				return err
			}
			if err := cluster.Apply(sim.TodoApp); err != nil {
				return err
			}
			for _, p := range cluster.List(sim.Pods, "todo-app") {
				if strings.HasPrefix(p.GetName(), "backend-") {
					env.Setenv("SUSPECT", p.GetName())
				}
			}
			server := httptest.NewServer(cluster.Server(nil))
			env.Defer(server.Close)
			kubeconfig := filepath.Join(env.WorkDir, "kubeconfig")
			env.Setenv("KUBECONFIG", kubeconfig)
			env.Setenv("IRCTL_STATE_DIR", filepath.Join(env.WorkDir, "state"))
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			return os.WriteFile(kubeconfig, []byte(cluster.Kubeconfig(server.URL, "")), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"irctl": func(ts *testscript.TestScript, neg bool, args []string) { irctlCommand(t.Context(), ts, neg, args) },
			"mode":  fileMode,
			"edit":  editFiles,
		},
	})
}

// fileMode checks a file's permissions: mode 0600 FILE.
func fileMode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Lstat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := info.Mode().String(); got != args[0] {
		ts.Fatalf("%s is %s", args[1], got)
	}
}

// editFiles replaces a text in all files that match: edit GLOB OLD NEW.
func editFiles(ts *testscript.TestScript, _ bool, args []string) {
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		ts.Check(err)
		if !strings.Contains(string(text), args[1]) {
			ts.Fatalf("%s does not hold %q", name, args[1])
		}
		ts.Check(os.WriteFile(name, []byte(strings.ReplaceAll(string(text), args[1], args[2])), 0o600))
	}
}
