package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/timeline"
)

// investigation is the request of the suspect's evidence.
func (p *process) investigation(t testing.TB, change ...func(*engine.InvestigateRequest)) engine.InvestigateRequest {
	t.Helper()
	var run engine.RunRequest
	sealing(t)(&run)
	found, err := p.Suspects(t.Context(), engine.SuspectQuery{Namespace: "todo-app", Pods: p.suspects})
	if err != nil {
		t.Fatal(err)
	}
	req := engine.InvestigateRequest{Targets: found.Pods, Sealing: *run.Evidence}
	for _, f := range change {
		f(&req)
	}
	return req
}

func TestInvestigateSealsAndJournals(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	res, err := p.Investigate(t.Context(), p.investigation(t, func(r *engine.InvestigateRequest) { r.Redact = true }))
	if err != nil || res.Cancelled || res.Incident == "" || res.Shared == nil {
		t.Fatalf("%v, %+v", err, res)
	}
	if filepath.Dir(res.Receipt.Path) != filepath.Join(dir, "incidents", res.Incident) ||
		res.Receipt.Incident != res.Incident {
		t.Errorf("the bundle is at %s, of incident %s", res.Receipt.Path, res.Receipt.Incident)
	}
	if n := len(p.front.proposals); n != 1 || p.front.proposals[0].Traces || p.front.proposals[0].Collection == nil ||
		p.front.proposals[0].Collection.Pods != 1 {
		t.Errorf("%d proposals: %+v", n, p.front.proposals)
	}
	last := engine.Event{}
	for _, e := range p.front.events {
		if e.Kind == engine.Progressed {
			last = e
		}
	}
	if last.Done == 0 || last.Bytes == 0 || !strings.HasPrefix(last.Text, "data/") {
		t.Errorf("the front end was not told how far it is: %+v", last)
	}
	var sealed []string
	for _, e := range journal(t, dir) {
		if e.Step == "collect" && e.Outcome == timeline.OutcomeDone {
			sealed = append(sealed, e.Data.String())
		}
	}
	if len(sealed) != 2 || !strings.Contains(sealed[0], res.Receipt.SHA256) ||
		!strings.Contains(sealed[1], res.Shared.SHA256) {
		t.Errorf("journaled: %q", sealed)
	}

	// A containment, and a second collection, are of the same incident.
	if c := p.mustContain(t); c.Incident != res.Incident {
		t.Errorf("contained in %s", c.Incident)
	}
	again, err := p.Investigate(t.Context(), p.investigation(t, func(r *engine.InvestigateRequest) {
		r.Bundle = filepath.Join(t.TempDir(), "new", "folder")
	}))
	if err != nil || again.Incident != res.Incident || filepath.Base(filepath.Dir(again.Receipt.Path)) != "folder" {
		t.Errorf("%v, %+v", err, again)
	}
}

func TestInvestigateAsksBeforeItLeavesTraces(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	for name, scope := range map[string]evidence.Scope{"live": {Live: true}, "checkpoint": {Checkpoint: true},
		"files": {Files: []string{"/etc/passwd"}}} {
		p.front.answer, p.front.proposals = engine.No, nil
		res, err := p.Investigate(t.Context(), p.investigation(t, func(r *engine.InvestigateRequest) {
			r.Scope = scope
		}))
		if err != nil || !res.Cancelled || len(p.front.proposals) != 1 || !p.front.proposals[0].Traces {
			t.Errorf("%s: %v, %+v", name, err, res)
		}
	}
	res, err := p.Investigate(t.Context(), p.investigation(t, func(r *engine.InvestigateRequest) { r.DryRun = true }))
	if err != nil || res.Plan.Pods != 1 || res.Receipt.Path != "" {
		t.Errorf("dry run: %v, %+v", err, res)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "incidents", "*")); len(found) != 0 {
		t.Errorf("written: %v", found)
	}
}

// The name may be that of another pod by the time the snapshot is taken.
func TestASnapshotIsOfThePodThatWasMeant(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	req := p.investigation(t)
	stale := *req.Targets[0]
	stale.Pod = stale.Pod.DeepCopy()
	stale.Pod.UID = "another"
	h, err := p.Store.Create(t.Context(), incident.New{Actor: p.Actor()})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	_, text, err := req.Snapshot()(t.Context(), p.Engine, h, append(req.Targets[:0:0], &stale))
	if err != nil || !strings.Contains(text, "incomplete") {
		t.Errorf("%v, %s", err, text)
	}
	if _, text, err = req.Snapshot()(t.Context(), p.Engine, h, req.Targets); err == nil &&
		strings.Contains(text, "incomplete") {
		t.Errorf("of the pod itself: %s", text)
	}
}

func TestSuspects(t *testing.T) {
	w := newWorld(t)
	p := w.mustStart(t, t.TempDir())
	for name, tc := range map[string]struct {
		query           engine.SuspectQuery
		pods, workloads int
		failures        int
		problem         string
	}{
		"none": {problem: "no suspect is named"},
		"pod":  {query: engine.SuspectQuery{Namespace: "todo-app", Pods: []string{w.suspect}}, pods: 1},
		"with namespace": {query: engine.SuspectQuery{Namespace: "default", Pods: []string{"todo-app/" + w.suspect}},
			pods: 1},
		"twice": {query: engine.SuspectQuery{Namespace: "todo-app",
			Pods: []string{w.suspect, "todo-app/" + w.suspect}, Selector: "app=backend"}, pods: 3},
		"as TYPE/NAME": {query: engine.SuspectQuery{Namespace: "todo-app",
			Workloads: []engine.Named{{Type: "po", Name: w.suspect}}}, pods: 1},
		"workload": {query: engine.SuspectQuery{Namespace: "todo-app",
			Workloads: []engine.Named{{Type: "deploy", Name: "backend"}}}, pods: 3, workloads: 1},
		"one is not there": {query: engine.SuspectQuery{Namespace: "todo-app", Pods: []string{w.suspect, "none"}},
			pods: 1, failures: 1},
		"none is there": {query: engine.SuspectQuery{Namespace: "todo-app", Pods: []string{"none"}}, problem: "none"},
		"no such label": {query: engine.SuspectQuery{Namespace: "todo-app", Selector: "app=nothing"},
			problem: "no pod matches -l app=nothing"},
		"no such type": {query: engine.SuspectQuery{Namespace: "todo-app",
			Workloads: []engine.Named{{Type: "nonsense", Name: "x"}}}, problem: "nonsense"},
		"no pods": {query: engine.SuspectQuery{Namespace: "default", All: true},
			problem: "could not tell: there are no pods in namespace default"},
		"no such space": {query: engine.SuspectQuery{Namespace: "empty", All: true},
			problem: `there is no namespace "empty"`},
		"pod in no space": {query: engine.SuspectQuery{Namespace: "empty", Pods: []string{"x"}},
			problem: `there is no namespace "empty"`},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := p.Suspects(t.Context(), tc.query)
			if tc.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tc.problem) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || len(s.Pods) != tc.pods || len(s.Workloads) != tc.workloads ||
				len(s.Failures) != tc.failures {
				t.Errorf("%v, %d pods, %d workloads, %v", err, len(s.Pods), len(s.Workloads), s.Failures)
			}
		})
	}
}

// signerFile is a private key without a passphrase.
func signerFile(t *testing.T) *evidence.Signer {
	t.Helper()
	entity, err := openpgp.NewEntity("Custodian", "", "custodian@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "private.asc")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	a, err := armor.Encode(f, openpgp.PrivateKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(entity.SerializePrivate(a, nil), a.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := evidence.LoadSigner(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHandOversAreJournaled(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	inv, err := p.Investigate(t.Context(), p.investigation(t))
	if err != nil {
		t.Fatal(err)
	}
	bundle, signer := inv.Receipt.Path, signerFile(t)
	handOver := func(store *incident.Store, to string) (*engine.HandOverResult, error) {
		return engine.HandOver(t.Context(), store, bundle, evidence.HandOver{From: "a", To: to}, signer, time.Now)
	}
	summaries := func() (list []string) {
		for _, e := range journal(t, dir) {
			if e.Step == "custody" {
				list = append(list, e.Summary)
			}
		}
		return list
	}
	res, err := handOver(p.Store, "b")
	if err != nil || string(res.Incident) != inv.Incident || res.Note != "" || len(summaries()) != 1 {
		t.Fatalf("%v, %+v, %q", err, res, summaries())
	}
	// One that was signed elsewhere, or by a process that was killed before it journaled.
	if _, err := evidence.AddCustody(t.Context(), bundle, evidence.HandOver{From: "b", To: "c"}, evidence.Actor{},
		signer, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := handOver(p.Store, "d"); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(summaries(), "\n"); strings.Count(got, "handed over") != 3 ||
		!strings.Contains(got, "from b to c") || !strings.Contains(got, "from a to d") {
		t.Errorf("%s", got)
	}
	// On another machine there is no such incident.
	elsewhere, err := incident.NewStore(filepath.Join(t.TempDir(), "irctl"), incident.Options{})
	if err != nil {
		t.Fatal(err)
	}
	res, err = handOver(elsewhere, "e")
	if err != nil || res.Incident != "" || !strings.Contains(res.Note, "is not in the state directory") ||
		len(summaries()) != 3 {
		t.Errorf("%v, %+v", err, res)
	}
	// While the incident is in use nothing is signed.
	h, err := p.Store.Open(t.Context(), incident.ID(inv.Incident), p.Actor())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := engine.HandOver(ctx, p.Store, bundle, evidence.HandOver{From: "a", To: "f"}, signer,
		time.Now); err == nil {
		t.Error("signed, and not journaled")
	}
	if chain, err := evidence.Custody(t.Context(), bundle); err != nil || len(chain) != 4 {
		t.Errorf("%v, %d entries", err, len(chain))
	}
}

// TestVerifyComparesWithTheJournal: what lies beside a bundle may have been
// replaced as a whole; the journal knows what was sealed and signed.
func TestVerifyComparesWithTheJournal(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	investigate := func(name string) string {
		res, err := p.Investigate(t.Context(), p.investigation(t, func(r *engine.InvestigateRequest) {
			r.Bundle = filepath.Join(dir, name)
		}))
		if err != nil {
			t.Fatal(err)
		}
		return res.Receipt.Path
	}
	bundle, other := investigate("case.tar.gz.gpg"), investigate("other.tar.gz.gpg")
	signer, incidents := signerFile(t), filepath.Join(dir, "incidents")
	for _, to := range []string{"b", "c"} {
		if _, err := engine.HandOver(t.Context(), p.Store, bundle, evidence.HandOver{From: "a", To: to}, signer,
			time.Now); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	write := func(path string, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Error(err)
		}
	}
	edit := func(path, old, with string) {
		text := string(read(path))
		if !strings.Contains(text, old) {
			t.Errorf("%s has no %q", path, old)
		}
		write(path, []byte(strings.ReplaceAll(text, old, with)))
	}
	remove := func(paths ...string) {
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				t.Error(err)
			}
		}
	}
	for name, tc := range map[string]struct {
		change func(b string)
		// problems are of the journal; "": it agrees.
		problem, note string
		unknown       bool // no incident knows it
	}{
		"untouched": {change: func(string) {}},
		"renamed": {change: func(b string) {
			for _, suffix := range []string{"", ".json", ".custody"} {
				if err := os.Rename(b+suffix, filepath.Join(filepath.Dir(b), "renamed.tar.gz.gpg"+suffix)); err != nil {
					t.Error(err)
				}
			}
		}},
		"altered": {change: func(b string) { write(b, append(read(b), 'x')) },
			problem: "bytes and the SHA-256"},
		"receipt is gone": {change: func(b string) { remove(b + ".json") }},
		"of no incident":  {change: func(b string) { write(b, []byte("x")); remove(b + ".json") }, unknown: true},
		"altered receipt": {change: func(b string) {
			edit(b+".json", `"purpose": "investigation"`,
				`"purpose": "snapshot"`)
		}, problem: "it differs in purpose"},
		"another's content": {change: func(b string) {
			write(b, read(other))
			write(b+".json", read(other+".json"))
			edit(b+".json", "other.tar", "case.tar")
		}, problem: "it differs in path"},
		"last custody entry cut off": {change: func(b string) {
			remove(b+".custody/0002.json", b+".custody/0002.json.asc")
		},
			problem: "custody entry 2, the hand-over from a to c at "},
		"all custody cut off": {change: func(b string) { remove(b + ".custody") },
			problem: "custody entry 1, the hand-over from a to b at "},
		"custody entry altered": {change: func(b string) { edit(b+".custody/0002.json", `"to": "c"`, `"to": "d"`) },
			problem: "is not the one that was signed then"},
		"custody entry broken": {change: func(b string) { write(b+".custody/0002.json", []byte("{}")) },
			problem: "custody entry 2", note: "cannot be read"},
		"handed over elsewhere": {change: func(b string) {
			if _, err := evidence.AddCustody(t.Context(), b, evidence.HandOver{From: "c", To: "e"}, evidence.Actor{},
				signer, time.Now()); err != nil {
				t.Error(err)
			}
		}, note: "does not have custody entry 3, from c to e"},
		"incident is not here": {change: func(string) { remove(incidents) }, note: "is not in the state directory",
			unknown: true},
		"incident.yaml is damaged": {change: func(string) { write(oneOf(t, incidents, "incident.yaml"), []byte("{")) }},
		"incident is damaged": {change: func(string) {
			write(oneOf(t, incidents, "incident.yaml"), []byte("{"))
			write(oneOf(t, incidents, "timeline.jsonl"), nil)
		}, note: "incident.yaml", unknown: true},
		"journal is broken": {change: func(string) {
			edit(oneOf(t, incidents, "timeline.jsonl"), "from a to c",
				"from a to d")
		}, problem: "it cannot be relied on"},
		"a claim of an incident": {change: func(b string) {
			write(b, []byte("x"))
			edit(b+".json", "case.tar", "new.tar")
			edit(b+".json", `"sha256": "`, `"sha256": "00`)
		}, unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			saved := t.TempDir()
			if err := os.CopyFS(saved, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			defer func() {
				remove(dir)
				if err := os.CopyFS(dir, os.DirFS(saved)); err != nil {
					t.Fatal(err)
				}
			}()
			tc.change(bundle)
			path := bundle
			if _, err := os.Stat(path); err != nil {
				path = filepath.Join(filepath.Dir(bundle), "renamed.tar.gz.gpg")
			}
			v, err := engine.VerifyBundle(t.Context(), p.Store, path, evidence.VerifyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var problems []string
			for _, p := range v.Problems {
				if strings.HasPrefix(p.Path, "journal of ") {
					problems = append(problems, p.What)
				}
			}
			if got := strings.Join(problems, "\n"); !strings.Contains(got, tc.problem) ||
				(tc.problem == "") != (got == "") {
				t.Errorf("problems: %q, expected %q", got, tc.problem)
			}
			if notes := strings.Join(v.Notes, "\n"); !strings.Contains(notes, tc.note) {
				t.Errorf("notes: %s, expected %q", notes, tc.note)
			}
			if v.AsJournaled() != (tc.problem == "" && !tc.unknown) || (v.Incident == "") != tc.unknown {
				t.Errorf("incident %q, as journaled %t", v.Incident, v.AsJournaled())
			}
		})
	}
	v, err := engine.VerifyBundle(t.Context(), nil, bundle, evidence.VerifyOptions{})
	if err != nil || v.Incident != "" || v.AsJournaled() {
		t.Errorf("without a store: %v, %+v", err, v)
	}
}

// oneOf is the file of that name of the only incident.
func oneOf(t *testing.T, incidents, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(incidents, "*", name))
	if err != nil || len(found) != 1 {
		t.Fatalf("%d of %s: %v", len(found), name, err)
	}
	return found[0]
}
