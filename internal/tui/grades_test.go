package tui_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"irctl/internal/cli"
	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/fixture"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
	"irctl/internal/tui"
)

// seat is where somebody sits who has an open incident without suspects, before a
// cluster in which something may be in the way.
type seat struct {
	t       *testing.T
	f       *fixture.Fixture
	cluster *sim.Cluster
	url     string
	home    string
	store   *incident.Store
	fault   atomic.Pointer[func(sim.Request) sim.Fault]
	suspect string
}

func newSeat(t *testing.T, workload string) *seat {
	t.Helper()
	all, err := fixture.Load("v1")
	if err != nil {
		t.Fatal(err)
	}
	s := &seat{t: t, home: t.TempDir()}
	for _, f := range all {
		if f.Name == "open" {
			s.f = f
		}
	}
	if s.cluster, err = s.f.Cluster(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cluster.Stop)
	for _, p := range s.cluster.List(sim.Pods, "todo-app") {
		if strings.HasPrefix(p.GetName(), workload+"-") {
			s.suspect = p.GetName()
		}
	}
	s.inTheWay(func(sim.Request) sim.Fault { return sim.Fault{} })
	server := httptest.NewServer(s.cluster.Server(func(r sim.Request) sim.Fault { return (*s.fault.Load())(r) }))
	t.Cleanup(server.Close)
	s.url = server.URL
	if err := s.f.Install(s.home, s.url); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.home, "grade.yaml"), []byte(containing), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.store, err = incident.NewStore(filepath.Join(s.home, "state"), incident.Options{Now: s.f.Now}); err != nil {
		t.Fatal(err)
	}
	return s
}

// containing is a runbook that contains a pod, and no more.
const containing = `apiVersion: irctl/v1
kind: Runbook
name: grade
version: 1.0.0
title: Contain a pod
severity: sev2
parameters:
  - {name: pod, type: pod, required: true, prompt: "Which pod?"}
phases:
  - name: contain
    steps:
      - {name: cutOff, uses: contain, title: Cut it off, with: {pods: ["${params.pod}"]}}
`

func (s *seat) inTheWay(fault func(sim.Request) sim.Fault) { s.fault.Store(&fault) }

// irctl runs a command on the incident, and reads its JSON; nil: it is not asked for any.
func (s *seat) irctl(line string, into any) int {
	s.t.Helper()
	args := strings.Fields(strings.ReplaceAll(line, "SUSPECT", s.suspect))
	if into != nil {
		args = append(args, "-o", "json")
	}
	args = append(args, "--incident", s.f.Scene.Incident, "-n", "todo-app", "--timeout", "20s",
		"--kubeconfig", filepath.Join(s.home, "kubeconfig"), "--state-dir", filepath.Join(s.home, "state"),
		"--config", filepath.Join(s.home, "irctl.yaml"))
	var out, errs bytes.Buffer
	environment := map[string]string{"HOME": s.home, "XDG_CONFIG_HOME": s.home, "XDG_STATE_HOME": s.home}
	code := cli.Main(s.t.Context(), args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs},
		func(name string) string { return environment[name] })
	if into == nil {
		return code
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		s.t.Fatalf("%s: %d %v\n%s%s", line, code, err, out.String(), errs.String())
	}
	return code
}

// header is what the UI shows after a look.
func (s *seat) header() (contain.Verdict, int) {
	s.t.Helper()
	client, err := cluster.New(&rest.Config{Host: s.url, BearerToken: "sim"})
	if err != nil {
		s.t.Fatal(err)
	}
	e, err := engine.New(s.t.Context(), client, s.store, nobody{}, "production")
	if err != nil {
		s.t.Fatal(err)
	}
	e.Now = s.f.Now
	id := incident.ID(s.f.Scene.Incident)
	i, err := s.store.Load(id)
	if err != nil {
		s.t.Fatal(err)
	}
	entries, err := s.store.Entries(id)
	if err != nil {
		s.t.Fatal(err)
	}
	return tui.Header(i, entries, e.Status(s.t.Context(), i, entries))
}

type nobody struct{}

func (nobody) Approve(context.Context, engine.Proposal) (engine.Decision, error) {
	return engine.No, nil
}
func (nobody) Observe(engine.Event) {}

// Who tells of a containment tells the same grade: contain, status, the header, the
// report, and a run; and the exit codes are those of the grade, but for a call that
// failed in the run itself.
func TestOneGrade(t *testing.T) {
	t.Parallel()
	denied := func(r sim.Request) sim.Fault {
		if r.Resource == "deployments/scale" && r.Writes() {
			return sim.Fault{Error: sim.Denied("policy.example.com", "nobody scales")}
		}
		return sim.Fault{}
	}
	// blind sees no pod once the suspect is cut off.
	blind := func(s *seat) {
		var cut atomic.Bool
		s.inTheWay(func(r sim.Request) sim.Fault {
			if r.Resource == "deployments/scale" && r.Writes() {
				return sim.Fault{After: func() { cut.Store(true) }}
			}
			if cut.Load() && !r.Writes() && (r.Resource == "pods" || r.Resource == "endpointslices") {
				return sim.Fault{Error: sim.Denied("rights.example.com", "nobody looks")}
			}
			return sim.Fault{}
		})
	}
	const now = "contain --pod SUSPECT --yes --second-look 0"
	const none = -1 // not run: it would settle what the row is about, or has nothing to judge
	for name, tc := range map[string]struct {
		workload string
		before   func(*seat)
		contain  string // "": nothing is contained
		after    func(*seat)
		verdict  contain.Verdict
		accepted int

		containCode, status, run int
	}{
		"a call was denied": {"backend", func(s *seat) { s.inTheWay(denied) }, now, nil, contain.NotContained, 0, 1, 3,
			1},
		"a check failed": {"backend", func(s *seat) {
			s.edit(sim.Pods, s.suspect, true, "spec", "hostNetwork")
		}, now, nil, contain.NotContained, 0, 3, 3, 3},
		"an earlier change is unsettled": {"backend", func(s *seat) {
			s.inTheWay(denied)
			s.irctl(now, nil)
			s.inTheWay(func(sim.Request) sim.Fault { return sim.Fault{} })
		}, now + " --skip scale", nil, contain.NotContained, 0, 3, 3, none},
		"could not tell": {"backend", blind, now, nil, contain.Undetermined, 0, 5, 5, none},
		"exposed":        {"backend", nil, now, nil, contain.Exposed, 0, 3, 3, 3},
		"accepted": {"backend", nil, now, func(s *seat) {
			s.irctl("accept token --reason revoked", nil)
		}, contain.Contained, 1, 3, 0, 0},
		"contained":         {"mcp-server", nil, now, nil, contain.Contained, 0, 0, 0, 0},
		"nothing was meant": {"backend", nil, "", nil, "", 0, none, 0, none},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSeat(t, tc.workload)
			if tc.before != nil {
				tc.before(s)
			}
			var c, r struct{ Verdict contain.Verdict }
			check := func(who string, got contain.Verdict, code, want int) {
				t.Helper()
				if got != tc.verdict || code != want {
					t.Errorf("%s: %q, exit %d; want %q, %d", who, got, code, tc.verdict, want)
				}
			}
			if tc.contain != "" {
				code := s.irctl(tc.contain, &c)
				if tc.after != nil {
					tc.after(s)
					c.Verdict = tc.verdict // it was judged before that
				}
				check("contain", c.Verdict, code, tc.containCode)
			}
			var all struct {
				Incidents []struct{ Verdict contain.Verdict }
			}
			code := s.irctl("status", &all)
			check("status", all.Incidents[0].Verdict, code, tc.status)
			v, accepted := s.header()
			check("header", v, tc.status, tc.status)
			var report struct {
				Verdict struct {
					Verdict  contain.Verdict
					Accepted int
				}
			}
			if code := s.irctl("report --format json", &report); code != 0 {
				t.Errorf("report: exit %d", code)
			}
			if report.Verdict.Verdict != tc.verdict || report.Verdict.Accepted != tc.accepted ||
				accepted != tc.accepted {
				t.Errorf("report: %+v; the header has %d accepted; want %q, %d", report.Verdict, accepted, tc.verdict,
					tc.accepted)
			}
			if tc.run != none {
				code = s.irctl("run grade --runbook-dir "+s.home+" --set pod=todo-app/SUSPECT --yes", &r)
				check("run", r.Verdict, code, tc.run)
			}
		})
	}
}

// edit sets a field of an object of the todo-app.
func (s *seat) edit(kind schema.GroupVersionResource, name string, value any, path ...string) {
	s.t.Helper()
	err := s.cluster.Edit(kind, "todo-app", name, func(o *unstructured.Unstructured) {
		if err := unstructured.SetNestedField(o.Object, value, path...); err != nil {
			s.t.Error(err)
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
}
