package drill_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"irctl/internal/drill"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/runbook"
	"irctl/runbooks"
)

// TestBuiltIn: every scenario that ships takes place, and what it answers are
// steps of its runbook, with answers that these know.
func TestBuiltIn(t *testing.T) {
	t.Parallel()
	all, err := drill.BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	library := runbook.NewLibrary("", "", runbooks.Files, engine.Operations())
	for _, s := range all {
		w, err := drill.NewWorld(s, drill.WorldOptions{Clock: drill.NewManualClock(time.Now())})
		if err != nil {
			t.Errorf("%s: %v", s.Name, err)
			continue
		}
		for _, text := range []string{w.Briefing(), s.Teaches} {
			if text == "" || strings.Contains(text, "${") {
				t.Errorf("%s: %q", s.Name, text)
			}
		}
		book, err := library.Find(s.Runbook)
		if err != nil {
			t.Errorf("%s: %v", s.Name, err)
			continue
		}
		steps := map[string]bool{}
		for _, phase := range book.Phases {
			for _, step := range phase.Steps {
				steps[step.Name] = true
			}
		}
		for name := range s.Play.Steps {
			if !steps[name] {
				t.Errorf("%s: the runbook %s has no step %q to play", s.Name, s.Runbook, name)
			}
		}
		if _, err := book.Given((&drill.Hands{World: w, Dir: "/dir"}).Params(), "todo-app"); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

// aClock is a real one to the world, so that pods take their time to start.
type aClock struct{ now time.Time }

func (c *aClock) Now() time.Time                                   { return c.now }
func (c *aClock) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// TestTheSuspectsStay: as long as nobody does anything, no pod comes or goes, also
// where pods take time to start. Nobody could contain one that is replaced.
func TestTheSuspectsStay(t *testing.T) {
	t.Parallel()
	all, err := drill.BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		clock := &aClock{time.Now()}
		w, err := drill.NewWorld(s, drill.WorldOptions{Clock: clock, Startup: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		names := func() (all []string) {
			for _, p := range w.Cluster.List(sim.Pods, "") {
				all = append(all, p.GetNamespace()+"/"+p.GetName())
			}
			slices.Sort(all)
			return all
		}
		before := names()
		if w.Suspect != "" && !slices.Contains(before, w.Suspect) {
			t.Errorf("%s: the suspect %s does not exist", s.Name, w.Suspect)
		}
		for range 10 {
			clock.now = clock.now.Add(3 * time.Second)
			if err := w.Tick(); err != nil {
				t.Fatal(err)
			}
		}
		if after := names(); !slices.Equal(before, after) {
			t.Errorf("%s: %v became %v", s.Name, before, after)
		}
	}
}

const smallest = `apiVersion: irctl/v1
kind: Scenario
name: ours
title: Ours
briefing: It happens.
runbook: compromised-pod
compromised:
- {namespace: todo-app, labels: {app: backend}}
attack:
- {name: steal, at: 1m, every: 1m, if: {reaches: {host: 192.0.2.1, port: 443}}, exfiltrate: 1}
key: {containWithin: 5m}
`

func TestParse(t *testing.T) {
	t.Parallel()
	if _, err := drill.Parse("ours.yaml", []byte(smallest)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, old, new, want string }{
		{"a field that is none", "exfiltrate: 1", "exfiltrates: 1", "field exfiltrates not found"},
		{"another kind", "kind: Scenario", "kind: Runbook", "a Scenario of irctl/v1 is expected"},
		{"a name for a path", "name: ours", "name: ../ours", "use lower-case letters"},
		{"no time", "containWithin: 5m", "containWithin: soon", `"soon" is no duration`},
		{"too often", "every: 1m", "every: 1ms", "every must be at least 1s"},
		{"too long ago", "at: 1m, every: 1m", "at: -48h, every: 1s", "more than 2000 times before the alert"},
		{"no port", ", port: 443", "", "if.reaches needs a port"},
		{"after nothing", "exfiltrate: 1", "exfiltrate: 1, if: {after: x}", "mapping key"},
		{"an unknown move", "reaches: {host: 192.0.2.1, port: 443}", "after: nothing", `no move "nothing"`},
		{"an unknown placeholder", "exfiltrate: 1", "say: '${pods}'", "${pods} is unknown"},
		{"nobody", "exfiltrate: 1", "by: everybody", `by "everybody"`},
		{"a log from nowhere", "exfiltrate: 1", "by: outside", "outside has no pod"},
		{"an unknown item", "containWithin: 5m", "containWithin: 5m, better: {speed: x}", `"speed" is no item`},
		{"an unknown command", "key: {", "play: {after: [rm -rf /]}\nkey: {", "use irctl …, kubectl … or wait"},
		{"an unknown kind", "compromised:", "cluster: {kinds: [Foo]}\ncompromised:",
			"none of those that are simulated"},
		{"two documents", "key: {containWithin: 5m}", "key: {containWithin: 5m}\n---\na: b", "one document"},
	} {
		text := strings.Replace(smallest, tc.old, tc.new, 1)
		if text == smallest {
			t.Fatalf("%s changes nothing", tc.name)
		}
		if _, err := drill.Parse("ours.yaml", []byte(text)); !errors.Is(err, drill.ErrScenario) ||
			!strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, expected %q", tc.name, err, tc.want)
		}
	}
}

// FuzzParse: whatever is in a file, it is a scenario or an error that says so,
// and a scenario keeps to the bounds that a drill relies on.
func FuzzParse(f *testing.F) {
	f.Add([]byte(smallest))
	files, err := filepath.Glob("scenarios/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := drill.Parse("fuzzed.yaml", text)
		if err != nil {
			if !errors.Is(err, drill.ErrScenario) {
				t.Errorf("%v is no ErrScenario", err)
			}
			return
		}
		past := 0.0
		for _, m := range s.Attack {
			if m.Every != 0 && m.Every < drill.Span(time.Second) {
				t.Errorf("%s is made every %s", m.Name, time.Duration(m.Every))
			}
			switch times := float64(-m.At)/float64(max(m.Every, 1)) + 1; {
			case m.At > 0:
			case m.Every == 0:
				past++
			case m.Times > 0:
				past += min(times, float64(m.Times))
			default:
				past += times
			}
		}
		if past > 2001 {
			t.Errorf("%f moves before the alert", past)
		}
	})
}

// TestOddScenarios: a sound file can still ask for what cannot be; then no drill
// begins, and it is said why. All else takes place.
func TestOddScenarios(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, old, new, want string }{
		{"nothing odd", "", "", ""},
		{"a pod that is not there", "{app: backend}", "{app: nobody}", "there is no pod number 0"},
		{"a pod before the first", "{app: backend}}", "{app: backend}, nth: -1}", "there is no pod number -1"},
		{"objects that are none", "compromised:", "cluster: {objects: 'a: [b'}\ncompromised:", "reading a manifest"},
		{"a kind that is not served", "compromised:",
			"cluster: {objects: '{apiVersion: v1, kind: Foo, metadata: {name: x}}'}\ncompromised:",
			"does not serve Foo"},
		{"an object twice", "compromised:",
			"cluster: {objects: '{apiVersion: v1, kind: Namespace, metadata: {name: todo-app}}'}\ncompromised:",
			"already exists"},
		{"an edit of nothing", "compromised:",
			"cluster: {edits: [{object: todo-app/Deployment/nobody, merge: {spec: {replicas: 1}}}]}\ncompromised:",
			"not found"},
		{"an edit of another type", "compromised:",
			"cluster: {edits: [{object: todo-app/Deployment/backend, merge: {spec: {replicas: many}}}]}\ncompromised:",
			"cannot be handled"},
		{"pods without containers", "compromised:",
			"cluster: {objects: '{apiVersion: v1, kind: Pod, metadata: {name: x, namespace: todo-app}}'}\n" +
				"compromised:", ""},
		{"no node", "compromised:",
			"cluster: {edits: [{object: Node/node-1, merge: {spec: {unschedulable: true}}}]}\ncompromised:", ""},
		{"a controller of nothing", "key:", "controllers: [{object: a/Kustomization/b, suspendedBy: [spec], every: " +
			"1s, desired: [{object: a/Foo/b}]}]\nkey:", ""},
		{"accounts that are none", "key: {",
			"key: {accounts: [{account: nobody, verb: get, resource: secrets}], secrets: [nothing], ", ""},
		{"nobody is compromised", "\n- {namespace: todo-app, labels: {app: backend}}", " []", ""},
	} {
		text := strings.Replace(smallest, tc.old, tc.new, 1)
		if text == smallest && tc.old != "" {
			t.Fatalf("%s changes nothing", tc.name)
		}
		s, err := drill.Parse("ours.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		clock := drill.NewManualClock(time.Date(2026, 2, 12, 9, 0, 0, 0, time.UTC))
		w, err := drill.NewWorld(s, drill.WorldOptions{Clock: clock})
		if (err == nil) != (tc.want == "") || err != nil && (!errors.Is(err, drill.ErrScenario) ||
			!strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, expected %q", tc.name, err, tc.want)
		}
		if err != nil {
			continue
		}
		if err := w.Sleep(t.Context(), 3*time.Minute); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err := w.Tick(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if score := w.Score(); score.Points < 0 || score.Points > score.Of || score.Of != 100 {
			t.Errorf("%s: %d of %d points", tc.name, score.Points, score.Of)
		}
	}
}

// TestSpeed: what comes after the alert comes sooner, what came before does not.
func TestSpeed(t *testing.T) {
	t.Parallel()
	s, err := drill.Parse("ours.yaml", []byte(smallest))
	if err != nil {
		t.Fatal(err)
	}
	clock := drill.NewManualClock(time.Now())
	w, err := drill.NewWorld(s, drill.WorldOptions{Clock: clock, Speed: 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Sleep(t.Context(), 3*time.Minute+time.Second); err != nil {
		t.Fatal(err)
	}
	if err := w.Tick(); err != nil {
		t.Fatal(err)
	}
	if got := w.Elapsed(); got != 3*time.Minute+time.Second {
		t.Errorf("%s have passed", got)
	}
	if got := w.Score().LeakedKiB; got != 3 {
		t.Errorf("%d KiB got out, expected 3", got)
	}
}
