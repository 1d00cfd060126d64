package cli_test

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/internal/cli"
	"irctl/internal/drill/sim"
	"irctl/internal/incident"
	"irctl/internal/timeline"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata/script")

// helpers are the programs of the scripts.
var helpers = map[string]func(){
	"irctl": func() { os.Exit(cli.Process()) },
}

func TestMain(m *testing.M) { testscript.Main(m, helpers) }

// TestScripts runs the command line as people do: real processes, against a
// simulated cluster with the todo-app. In the scripts' environment $SUSPECT is
// a pod of the backend, and $OTHER one of the frontend; GnuPG's keyring has the
// keys of responder@example.org.
func TestScripts(t *testing.T) {
	keyring := gnupgHome(t)
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GNUPGHOME", keyring)
			env.Setenv("GORACE", os.Getenv("GORACE")) // as make test sets it
			return setup(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"tidy":  tidy,
			"sim":   simulate,
			"lock":  lock,
			"tree":  tree,
		},
	})
}

// scene is the cluster of one script.
type scene struct {
	cluster  *sim.Cluster
	server   *sim.Server
	listener *httptest.Server
	denied   atomic.Value // of the webhook: a [2]string of resource and reason
	suspect  string
	before   string
	written  int
}

type sceneKey struct{}

func setup(env *testscript.Env) error {
	c, err := sim.New(sim.Options{Now: time.Now, Token: "sim-token", Kinds: []sim.Kind{sim.Gadget, sim.ScaledObject}})
	if err != nil {
		return err
	}
	if err := c.Apply(sim.TodoApp); err != nil {
		return err
	}
	s := &scene{cluster: c}
	s.server = c.Server(s.webhook)
	s.listener = httptest.NewTLSServer(s.server)
	env.Defer(s.listener.Close)
	env.Values[sceneKey{}], env.Values[treeKey{}] = s, new(string)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.listener.Certificate().Raw})
	kubeconfig := filepath.Join(env.WorkDir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(c.Kubeconfig(s.listener.URL, string(authority))), 0o600); err != nil {
		return err
	}
	var other string
	for _, p := range c.List(sim.Pods, "todo-app") {
		if s.suspect == "" && strings.HasPrefix(p.GetName(), "backend-") {
			s.suspect = p.GetName()
		}
		if other == "" && strings.HasPrefix(p.GetName(), "frontend-") {
			other = p.GetName()
		}
	}
	s.before = s.summary()
	env.Setenv("KUBECONFIG", kubeconfig)
	env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
	env.Setenv("SUSPECT", s.suspect)
	env.Setenv("OTHER", other)
	return nil
}

func sceneOf(ts *testscript.TestScript) *scene { return ts.Value(sceneKey{}).(*scene) }

func (s *scene) webhook(r sim.Request) sim.Fault {
	if d, ok := s.denied.Load().([2]string); ok && d[0] == r.Resource && r.Verb != "get" && r.Verb != "list" {
		return sim.Fault{Error: sim.Denied("policy.example.com", d[1])}
	}
	return sim.Fault{}
}

// summary is what a responder sees of the cluster: workloads, policies, and
// the suspect's labels and owner. Package engine compares every object.
func (s *scene) summary() string {
	var b strings.Builder
	for _, o := range s.cluster.State() {
		switch o.GetKind() {
		case "Deployment", "StatefulSet":
			n, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
			running, _, _ := unstructured.NestedInt64(o.Object, "status", "readyReplicas")
			fmt.Fprintf(&b, "%s %s: %d of %d\n", o.GetKind(), o.GetName(), running, n)
		case "NetworkPolicy":
			fmt.Fprintf(&b, "NetworkPolicy %s\n", o.GetName())
		case "Pod":
			if o.GetName() == s.suspect {
				fmt.Fprintf(&b, "suspect %v %v\n", o.GetLabels(), o.GetAnnotations())
				for _, r := range o.GetOwnerReferences() {
					fmt.Fprintf(&b, "suspect of %s %s\n", r.Kind, r.Name)
				}
			}
		}
	}
	return b.String()
}

// exits CODE[|CODE…] COMMAND…: the command ends with one of the exit codes.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE[|CODE…] COMMAND…")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if !slices.Contains(strings.Split(args[0], "|"), strconv.Itoa(got)) {
		ts.Fatalf("exit code %d, expected %s", got, args[0])
	}
}

// volatile is what differs from run to run.
var volatile = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`inc-\d{8}-\d{6}-[a-z2-7]{4}`), "INCIDENT"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`https://127\.0\.0\.1:\d+`), "SERVER"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "SHA256"},
	{regexp.MustCompile(`("?(durationMS|pid|timeToContainSeconds)"?: )\d+`), "${1}0"},
	{regexp.MustCompile(`contained \d+s later`), "contained 0s later"},
	{regexp.MustCompile(`all \d+ rights`), "all N rights"},
	{regexp.MustCompile(`("?osUser"?: )"?[^",\n]+"?`), "${1}USER"},
	{regexp.MustCompile(`("?host"?: )"?[^",\n]+"?`), "${1}HOST"},
}

// tidy FILE TO: what differs from run to run is replaced.
func tidy(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	text = strings.ReplaceAll(text, ts.Getenv("WORK"), "WORK")
	text = strings.ReplaceAll(text, ts.Getenv("SUSPECT"), "SUSPECT")
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.with)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// lock INCIDENT holds an incident's lock for the rest of the script, as
// another process at work on it would.
func lock(ts *testscript.TestScript, _ bool, args []string) {
	store, err := incident.NewStore(filepath.Join(ts.Getenv("XDG_STATE_HOME"), "irctl"), incident.Options{})
	ts.Check(err)
	id, err := store.Find(args[0])
	ts.Check(err)
	h, err := store.Open(context.Background(), id, timeline.LocalActor())
	ts.Check(err)
	ts.Defer(func() { _ = h.Close() })
}

type treeKey struct{}

// tree keep|same: every file of the script's directory, with its mode, content
// and time, is as it was.
func tree(ts *testscript.TestScript, _ bool, args []string) {
	var b strings.Builder
	ts.Check(filepath.WalkDir(ts.Getenv("WORK"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s %d", path, info.Mode(), info.ModTime().UnixNano())
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %x", sha256.Sum256(text))
		}
		b.WriteByte('\n')
		return nil
	}))
	kept := ts.Value(treeKey{}).(*string)
	if len(args) == 1 && args[0] == "keep" {
		*kept = b.String()
	} else if diff := cmp.Diff(*kept, b.String()); diff != "" {
		ts.Fatalf("something changed: %s", diff)
	}
}

// simulate WHAT… is what happens in the cluster, or is asserted about it.
func simulate(ts *testscript.TestScript, _ bool, args []string) {
	s := sceneOf(ts)
	switch args[0] {
	case "forbid": // VERB RESOURCE
		s.cluster.Deny(sim.Rule{Verb: args[1], Resource: args[2]})
	case "expire":
		s.cluster.Expire()
	case "stop":
		s.listener.Close()
	case "deny": // RESOURCE REASON
		s.denied.Store([2]string{args[1], args[2]})
	case "set": // NAMESPACED-RESOURCE NAME FIELD.PATH VALUE
		s.set(ts, args[1], args[2], args[3], unescape(ts, args[4]))
	case "apply": // FILE
		ts.Check(s.cluster.Apply(ts.ReadFile(args[1])))
	case "written": // how many writes since the last time
		n := s.server.Written() - s.written
		s.written += n
		if strconv.Itoa(n) != args[1] {
			ts.Fatalf("%d writes, expected %s", n, args[1])
		}
	case "restored":
		if got := s.summary(); got != s.before {
			ts.Fatalf("the cluster is\n%s\nand was\n%s", got, s.before)
		}
	case "show":
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(s.summary()), 0o600))
	default:
		ts.Fatalf("sim %s: unknown", args[0])
	}
}

func unescape(ts *testscript.TestScript, text string) any {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	s, err := strconv.Unquote(`"` + text + `"`)
	ts.Check(err)
	return s
}

func (s *scene) set(ts *testscript.TestScript, resource, name, path string, value any) {
	i := slices.IndexFunc(s.cluster.State(), func(o unstructured.Unstructured) bool {
		return strings.EqualFold(o.GetKind(), resource) && o.GetName() == name
	})
	if i < 0 {
		ts.Fatalf("there is no %s %s", resource, name)
	}
	gvr := map[string]func() error{
		"pod": func() error {
			return s.cluster.Edit(sim.Pods, "todo-app", name, func(o *unstructured.Unstructured) {
				put(ts, o, path, value)
			})
		},
		"secret": func() error {
			secrets := schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
			return s.cluster.Edit(secrets, "todo-app", name, func(o *unstructured.Unstructured) {
				put(ts, o, path, value)
			})
		},
		"deployment": func() error {
			return s.cluster.Edit(sim.Deployments, "todo-app", name, func(o *unstructured.Unstructured) {
				put(ts, o, path, value)
			})
		},
	}
	ts.Check(gvr[resource]())
}

func put(ts *testscript.TestScript, o *unstructured.Unstructured, path string, value any) {
	ts.Check(unstructured.SetNestedField(o.Object, value, strings.Split(path, "|")...))
}
