package report_test

import (
	"context"
	"errors"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/report"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

var update = flag.Bool("update", false, "play the fixture anew and write the golden files")

const fixtureID incident.ID = "inc-20260212-083000-demo"

// These stand for whoever runs the test, so that the record is the same
// everywhere.
var (
	responder = timeline.Actor{OSUser: "responder", Host: "bastion", Identity: "responder@example.com", PID: 4242}
	onCall    = timeline.Actor{OSUser: "oncall", Host: "laptop", PID: 77}
)

// play is an incident on a simulated cluster, driven by the real engine: a
// containment for which a right was missing, one that a controller meddled
// with, an undo that somebody was in the way of, and one that went through.
type play struct {
	t       testing.TB
	cluster *sim.Cluster
	store   *incident.Store
	dir     string
	suspect string

	mu  sync.Mutex
	now time.Time
}

// clock goes on by a second with every look at it.
func (p *play) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(time.Second)
	return p.now
}

func (p *play) wait(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

func newPlay(t testing.TB) *play {
	t.Helper()
	p := &play{t: t, dir: filepath.Join(t.TempDir(), "irctl"), now: time.Date(2026, 2, 12, 8, 30, 0, 0, time.UTC)}
	var err error
	p.cluster, err = sim.New(sim.Options{})
	p.must(err)
	p.must(p.cluster.Apply(sim.TodoApp))
	for _, pod := range p.cluster.List(sim.Pods, "todo-app") {
		if strings.HasPrefix(pod.GetName(), "backend-") {
			p.suspect = pod.GetName()
		}
	}
	p.store, err = incident.NewStore(p.dir, incident.Options{Now: p.clock})
	p.must(err)
	return p
}

func (p *play) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// engine connects anew, as every command does. The engine's own clock stands
// still: how long something took differs from machine to machine.
func (p *play) engine(faults func(sim.Request) sim.Fault) *engine.Engine {
	p.t.Helper()
	server := httptest.NewServer(p.cluster.Server(faults))
	p.t.Cleanup(server.Close)
	client, err := cluster.New(&rest.Config{Host: server.URL, BearerToken: "sim"})
	p.must(err)
	e, err := engine.New(p.t.Context(), client, p.store, yes{}, "drill")
	p.must(err)
	e.Now = func() time.Time { return time.Date(2026, 2, 12, 8, 30, 0, 0, time.UTC) }
	e.Timeout = 5 * time.Second
	return e
}

func (p *play) contain(e *engine.Engine, change func(*engine.ContainRequest)) {
	p.t.Helper()
	target, err := e.Client.GetTarget(p.t.Context(), "todo-app", p.suspect)
	p.must(err)
	req := engine.ContainRequest{Targets: []*cluster.Target{target},
		Options: contain.Options{Steps: contain.DefaultSteps}, Incident: fixtureID}
	change(&req)
	_, err = e.Contain(p.t.Context(), req)
	p.must(err)
}

func (p *play) record(f func(h *incident.Handle)) {
	p.t.Helper()
	h, err := p.store.Open(p.t.Context(), fixtureID, timeline.LocalActor())
	p.must(err)
	f(h)
	p.must(h.Close())
}

func (p *play) undo(e *engine.Engine, req engine.UndoRequest) {
	p.t.Helper()
	p.record(func(h *incident.Handle) {
		_, err := e.Undo(p.t.Context(), h, req)
		p.must(err)
	})
}

func (p *play) replicas(n int64) {
	p.t.Helper()
	p.must(p.cluster.Edit(cluster.Deployment.GVR(), "todo-app", "backend", func(o *unstructured.Unstructured) {
		p.must(unstructured.SetNestedField(o.Object, n, "spec", "replicas"))
	}))
}

// run plays all of it.
func (p *play) run() {
	p.t.Helper()
	h, err := p.store.Create(p.t.Context(), incident.New{ID: fixtureID, Title: "The backend talks to a mining pool",
		Severity: incident.Sev3, Actor: timeline.LocalActor(),
		Cluster: incident.Cluster{Context: "drill"}})
	p.must(err)
	p.must(h.Close())

	// A right is missing, and no evidence can be sealed.
	p.contain(p.engine(func(r sim.Request) sim.Fault {
		if r.Resource == "deployments/scale" && r.Writes() {
			return sim.Fault{Error: forbidden()}
		}
		return sim.Fault{}
	}), func(r *engine.ContainRequest) {
		r.Snapshot = func(context.Context, *engine.Engine, *incident.Handle, []*cluster.Target) (*evidence.Receipt,
			string, error) {
			return nil, "", errors.New("no space left on device")
		}
	})
	p.wait(90 * time.Second)
	p.record(func(h *incident.Handle) {
		_, err := h.Set(incident.Setting{Key: "severity", Value: "sev2"},
			incident.Setting{Key: "commander", Value: "incident-commander@example.com"},
			incident.Setting{Key: "role.security-team", Value: "security@example.com"},
			incident.Setting{Key: "role.on-call-engineer", Value: "oncall@example.com"},
			incident.Setting{Key: "detected", Value: "2026-02-12T09:26:00+01:00"})
		p.must(err)
		_, err = h.Log.Append(timeline.Entry{Kind: timeline.KindNote,
			Summary: "The right to scale was granted; trying again."})
		p.must(err)
	})
	p.wait(2 * time.Minute)

	// This time it goes through, but somebody scales up again while irctl looks.
	var meddle sync.Once
	var scaled bool
	p.contain(p.engine(func(r sim.Request) sim.Fault {
		switch {
		case r.Resource == "deployments/scale" && r.Writes():
			scaled = true
		case scaled && r.Resource == "networkpolicies":
			return sim.Fault{After: func() { meddle.Do(func() { go p.replicas(1) }) }}
		}
		return sim.Fault{}
	}), func(r *engine.ContainRequest) {
		r.SecondLook = 300 * time.Millisecond
		r.Snapshot = func(context.Context, *engine.Engine, *incident.Handle, []*cluster.Target) (*evidence.Receipt,
			string, error) {
			return receipt(p.suspect)
		}
	})
	p.wait(5 * time.Minute)
	p.replicas(0)
	p.contain(p.engine(nil), func(r *engine.ContainRequest) { r.EvidenceNote = "no recipients" })
	p.wait(time.Hour + 12*time.Minute)

	// Somebody is in the way of the undo, then no longer.
	p.replicas(5)
	p.undo(p.engine(nil), engine.UndoRequest{Step: contain.StepScale})
	p.wait(3 * time.Minute)
	p.replicas(0)
	p.undo(p.engine(nil), engine.UndoRequest{All: true})
	p.wait(10 * time.Minute)
	p.record(func(h *incident.Handle) {
		p.must(h.CloseIncident("recovered by hand"))
		_, err := h.Set(incident.Setting{Key: "impact",
			Value: "Users could not save todos for 85 minutes; no data is known to be lost."},
			incident.Setting{Key: "started", Value: "2026-02-12T09:02:00+01:00"},
			incident.Setting{Key: "recovered", Value: "2026-02-12T09:55:00Z"})
		p.must(err)
	})
}

// keep writes what was played to dir, with names in the place of those of the
// machine it was played on.
func (p *play) keep(dir string) {
	p.t.Helper()
	from, to := filepath.Join(p.dir, "incidents", string(fixtureID)), filepath.Join(dir, "incidents", string(fixtureID))
	p.must(os.RemoveAll(dir))
	p.must(os.MkdirAll(to, 0o700))
	text, err := os.ReadFile(filepath.Join(from, "incident.yaml"))
	p.must(err)
	p.must(os.WriteFile(filepath.Join(to, "incident.yaml"), text, 0o600))
	entries, err := timeline.Read(filepath.Join(from, "timeline.jsonl"))
	p.must(err)
	var now time.Time
	log, err := timeline.Open(filepath.Join(to, "timeline.jsonl"),
		timeline.Options{Incident: string(fixtureID), Now: func() time.Time { return now }})
	p.must(err)
	for _, e := range entries {
		now = e.Time
		if e.Actor.Identity == "" {
			e.Actor = onCall
		} else {
			e.Actor = responder
		}
		_, err := log.Append(e)
		p.must(err)
	}
	p.must(log.Close())
}

func forbidden() *apierrors.StatusError {
	return apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments/scale"}, "backend",
		errors.New(`User "responder@example.com" cannot patch resource "deployments/scale" in API group "apps" in `+
			`the namespace "todo-app"`))
}

// receipt is what sealing evidence returns.
func receipt(pod string) (*evidence.Receipt, string, error) {
	const digest = "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
	r := evidence.Receipt{Format: evidence.ReceiptFormat, Purpose: "snapshot", Incident: string(fixtureID),
		SHA256: digest, Size: 482_133,
		Path: "/home/responder/.local/state/irctl/incidents/" + string(fixtureID) +
			"/snapshot-20260212T083420Z.tar.gz.gpg",
		Recipients: []string{"D1E4C0A9B3F2857766554433221100FFEEDDCCBB"},
		Summary:    record.Summary{ManifestSHA256: strings.Repeat("5f", 32), Complete: true}}
	return &r, "snapshot of 1 pod sealed in snapshot-20260212T083420Z.tar.gz.gpg, sha256 " + digest, nil
}

// yes is a front end that agrees with everything.
type yes struct{}

func (yes) Approve(context.Context, engine.Proposal) (engine.Decision, error) { return engine.Yes, nil }
func (yes) Observe(engine.Event)                                              {}

// fixture reads the incident that was played once and kept.
func fixture(t testing.TB) report.Input {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.CopyFS(dir, os.DirFS("testdata/state")); err != nil {
		t.Fatal(err)
	}
	return read(t, dir)
}

func read(t testing.TB, dir string) report.Input {
	t.Helper()
	store, err := incident.NewStore(dir, incident.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := report.Read(store, fixtureID)
	if err != nil {
		t.Fatal(err)
	}
	in.Now, in.Tool = time.Date(2026, 2, 13, 10, 0, 0, 0, time.FixedZone("", 3600)), "irctl v1.0.0"
	in.Contacts = []report.Contact{{Role: "Security Team", Name: "Security", Email: "security@example.com"},
		{Role: "On-Call Engineer", Name: "On-call", Email: "oncall@example.com", Chat: "#incidents"}}
	return in
}
