package incident_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"irctl/internal/fixture"
	"irctl/internal/incident"
	"irctl/internal/timeline"
)

// damages are what may become of incident.yaml. What is left of the text is no
// incident any more, or another one than the journal tells.
var damages = map[string]func(text string) string{
	"empty":        func(string) string { return "" },
	"no YAML":      func(string) string { return "state: [" },
	"a list":       func(string) string { return "- a\n- b\n" },
	"wrong type":   func(text string) string { return lineOf(text, "state:", "state: {a: b}") },
	"unknown key":  func(text string) string { return text + "from: the future\n" },
	"zeros":        func(text string) string { return strings.Repeat("\x00", len(text)) },
	"no state":     func(text string) string { return lineOf(text, "state:", "") },
	"no opening":   func(text string) string { return lineOf(text, "openedAt:", "") },
	"no targets":   func(text string) string { return without(text, "targets:") },
	"no cluster":   func(text string) string { return without(text, "cluster:") },
	"no UIDs":      func(text string) string { return lineOf(text, "  uid:", "") },
	"another's ID": func(text string) string { return lineOf(text, "id:", "id: inc-20260101-000000-zzzz") },
}

// lineOf puts a line in the place of every one that begins like that.
func lineOf(text, prefix, with string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		switch {
		case !strings.HasPrefix(line, prefix):
			b.WriteString(line)
		case with != "":
			b.WriteString(with + "\n")
		}
	}
	return b.String()
}

// without takes a key and what is below it out of a text.
func without(text, key string) string {
	var b strings.Builder
	below := false
	for line := range strings.Lines(text) {
		if below = strings.HasPrefix(line, key) || below && strings.ContainsRune(" -", rune(line[0])); !below {
			b.WriteString(line)
		}
	}
	return b.String()
}

// fixtures are the stores of what earlier versions left, by the incident's state.
func fixtures(t *testing.T) map[string]*incident.Store {
	t.Helper()
	all, err := fixture.Load("v1")
	if err != nil {
		t.Fatal(err)
	}
	stores := map[string]*incident.Store{}
	for _, f := range all {
		dir := t.TempDir()
		if err := f.Install(dir, "https://127.0.0.1:6443"); err != nil {
			t.Fatal(err)
		}
		s, err := incident.NewStore(filepath.Join(dir, "state"), options())
		if err != nil {
			t.Fatal(err)
		}
		stores[f.Name] = s
	}
	return stores
}

func onlyOne(t *testing.T, s *incident.Store) incident.Incident {
	t.Helper()
	list, errs := s.List(t.Context())
	if len(list) != 1 || len(errs) != 0 || len(list[0].Doubts) != 0 {
		t.Fatalf("%+v %v", list, errs)
	}
	return list[0]
}

// TestJournalIsEnough: whatever becomes of incident.yaml, what matters of the
// incident is made from its journal, and it is said. An older journal does not hold
// everything: what is missing is named.
func TestJournalIsEnough(t *testing.T) {
	stores := fixtures(t)
	s := store(t)
	h := create(t, s)
	if err := h.AddTargets([]incident.Target{{Kind: "Pod", Namespace: "n", Name: "another", UID: "1c"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Set(incident.Setting{Key: "impact", Value: "no logins"},
		incident.Setting{Key: "role.communications", Value: "bob"}); err != nil {
		t.Fatal(err)
	}
	h.Close()
	stores["ours"] = s
	for name, s := range stores {
		want := onlyOne(t, s)
		dir := filepath.Join(s.Dir(), "incidents", string(want.ID))
		path := filepath.Join(dir, "incident.yaml")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for damage, make := range damages {
			left := make(string(text))
			if left == string(text) {
				continue // it had none
			}
			t.Run(name+" "+damage, func(t *testing.T) {
				if err := os.WriteFile(path, []byte(left), 0o600); err != nil {
					t.Fatal(err)
				}
				defer os.WriteFile(path, text, 0o600)
				wantSame(t, s, name, want)
			})
		}
		t.Run(name+" gone", func(t *testing.T) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			defer os.WriteFile(path, text, 0o600)
			wantSame(t, s, name, want)
		})
	}
}

func wantSame(t *testing.T, s *incident.Store, name string, want incident.Incident) {
	t.Helper()
	got, err := s.Load(want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if name == "open" && got.Cluster.Server == want.Cluster.Server && len(got.Doubts) == 0 {
		return // the address is enough
	}
	if len(got.Doubts) != 1 || !strings.Contains(got.Doubts[0].Text, "entr") && !strings.Contains(got.Doubts[0].Text,
		"not known") {
		t.Errorf("it is not said: %+v", got.Doubts)
	}
	// Of an incident in which nothing was done an older journal knows no cluster, and
	// of one that was interrupted before the scaling no workload.
	unknown := name == "open" && got.Cluster.UID == ""
	noWorkload := len(got.Targets) == 1 && name == "interrupted" && len(got.Targets[0].Owners) < 2
	if incident.Weighs(got.Doubts) != (unknown || noWorkload) {
		t.Errorf("%+v", got.Doubts)
	} else if !unknown && got.Cluster.UID != want.Cluster.UID {
		t.Errorf("cluster %+v, want %+v", got.Cluster, want.Cluster)
	}
	if name == "interrupted" && len(got.Targets) == 1 { // it did not come to the Deployment: the cluster knows it
		want.Targets[0].Owners = want.Targets[0].Owners[:max(1, len(got.Targets[0].Owners))]
	}
	if diff := cmp.Diff(want.Targets, got.Targets); diff != "" {
		t.Error("targets:", diff)
	}
	if got.State != want.State || got.Title != want.Title || got.Impact != want.Impact ||
		got.OpenedAt.Sub(want.OpenedAt).Abs() > time.Second {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if name == "ours" {
		if got.Doubts = nil; !cmp.Equal(want, got) {
			t.Error(cmp.Diff(want, got))
		}
	}
}

// TestJournalWins: what incident.yaml says otherwise than the journal is not believed.
func TestJournalWins(t *testing.T) {
	s := store(t)
	h := create(t, s)
	path := filepath.Join(h.Dir(), "incident.yaml")
	h.Close()
	want := onlyOne(t, s)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"  uid: c2", "  server: https://192.0.2.9:6443", "  name: another", "severity: sev4",
		"title: nothing",
		"commander: mallory", "drill: true", `openedAt: "2026-01-03T15:04:05Z"`,
		"  - apiVersion: apps/v1\n    kind: Deployment\n    name: frontend"} {
		key, _, _ := strings.Cut(line, ":")
		changed := lineOf(string(text), key+":", line)
		if changed == string(text) {
			changed += line + "\n"
		}
		if strings.Contains(line, "\n") {
			changed = strings.Replace(string(text), "    name: backend\n", "    name: frontend\n", 1)
		}
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := s.Load(want.ID)
		if err != nil || len(got.Doubts) != 1 || got.Doubts[0].Weighs {
			t.Errorf("%q: %v %+v", line, err, got.Doubts)
		}
		if got.Doubts = nil; !cmp.Equal(want, got) {
			t.Errorf("%q: %s", line, cmp.Diff(want, got))
		}
	}
}

// TestADamagedFileIsPutAside: whoever writes makes incident.yaml anew, keeps the
// damaged one and journals it; one of a newer irctl is left alone.
func TestADamagedFileIsPutAside(t *testing.T) {
	s := store(t)
	id, dir := closed(t, s)
	path := filepath.Join(dir, "incident.yaml")
	want := onlyOne(t, s)
	if err := os.WriteFile(path, []byte("state: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	h := reopen(t, s, id)
	entries := h.Log.Entries()
	if last := entries[len(entries)-1]; last.Kind != timeline.KindObservation ||
		!strings.Contains(last.Summary, "incident.yaml is damaged") {
		t.Errorf("%+v", last)
	}
	if len(h.Incident().Doubts) != 1 {
		t.Errorf("the handle does not tell: %+v", h.Incident().Doubts)
	}
	h.Close()
	if text, err := os.ReadFile(path + ".damaged"); err != nil || string(text) != "state: [" {
		t.Errorf("%q %v", text, err)
	}
	if got := onlyOne(t, s); !cmp.Equal(want, got) {
		t.Error(cmp.Diff(want, got))
	}
	newer := []byte("apiVersion: irctl/v2\nkind: Incident\n")
	if err := os.WriteFile(path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), id, alice); !errors.Is(err, incident.ErrDamaged) {
		t.Errorf("one of a newer irctl was opened: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || !bytes.Equal(text, newer) {
		t.Errorf("%q %v", text, err)
	}
}

// TestCutAtEveryByte: of a journal that is cut, or has lost its head, nobody says that
// nothing is missing. With the head it is refused, but for a cut that takes nothing
// away; without, it is read, weighs in every verdict, and is not written to.
func TestCutAtEveryByte(t *testing.T) {
	for name, s := range fixtures(t) {
		if testing.Short() && name != "exposed" {
			continue
		}
		want := onlyOne(t, s)
		path, err := s.TimelinePath(want.ID)
		if err != nil {
			t.Fatal(err)
		}
		journal, err := os.ReadFile(path)
		head, headErr := os.ReadFile(timeline.HeadPath(path))
		if err := errors.Join(err, headErr); err != nil {
			t.Fatal(err)
		}
		for _, lost := range []string{"nothing", "the head", "what is in it"} {
			step := 61
			if name == "exposed" && lost != "what is in it" && !testing.Short() {
				step = 1
			}
			err := os.WriteFile(path, journal, 0o600)
			switch lost {
			case "nothing":
				err = errors.Join(err, os.WriteFile(timeline.HeadPath(path), head, 0o600))
			case "the head":
				err = errors.Join(err, os.Remove(timeline.HeadPath(path)))
			default: // as a power cut may leave it
				err = errors.Join(err, os.WriteFile(timeline.HeadPath(path), nil, 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
			for n := len(journal); n >= 0; n-- {
				edge := n == 0 || n == len(journal) || journal[n-1] == '\n' || journal[n] == '\n'
				if !edge && n%step != 0 {
					continue
				}
				if err := os.Truncate(path, int64(n)); err != nil {
					t.Fatal(err)
				}
				whole := lost == "nothing" && n == len(journal)
				if problem := cut(t, s, want, whole, edge && step > 1); problem != "" {
					t.Fatalf("%s, %d of %d bytes, %s is lost: %s", name, n, len(journal), lost, problem)
				}
			}
		}
	}
}

func cut(t *testing.T, s *incident.Store, want incident.Incident, whole, open bool) (problem string) {
	i, err := s.Load(want.ID)
	switch {
	case err != nil:
		return err.Error()
	case whole:
		if len(i.Doubts) > 0 {
			return fmt.Sprint(i.Doubts)
		}
		return ""
	case !incident.Weighs(i.Doubts):
		return fmt.Sprintf("no doubt weighs: %v", i.Doubts)
	case i.Cluster.UID != want.Cluster.UID || len(i.Targets) < len(want.Targets):
		return fmt.Sprintf("it says %+v", i)
	}
	if !open {
		return ""
	}
	if h, err := s.Open(t.Context(), want.ID, alice); err == nil {
		h.Close()
		return "it was opened for writing"
	}
	if _, err := s.Append(want.ID, alice, timeline.Entry{Kind: timeline.KindNote, Summary: "x"}); err == nil {
		return "a note was written"
	}
	return ""
}

// TestRepair: what a journal without its head still has is gone on with once somebody
// has said so, and that is in it. Without its beginning it is not.
func TestRepair(t *testing.T) {
	s := store(t)
	id, dir := closed(t, s)
	path := filepath.Join(dir, "timeline.jsonl")
	journal, err := os.ReadFile(path)
	if err := errors.Join(err, os.Remove(timeline.HeadPath(path))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), id, alice); !errors.Is(err, incident.ErrRepair) ||
		!strings.Contains(err.Error(), "irctl incident repair "+string(id)) {
		t.Fatal(err)
	}
	for _, left := range []int{0, len(journal) / 2} {
		if err := os.WriteFile(path, journal[:left], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Repair(t.Context(), id, alice, "looked"); !errors.Is(err, incident.ErrRepair) ||
			!strings.Contains(err.Error(), "beginning") {
			t.Errorf("%d bytes: %v", left, err)
		}
		if text, _ := os.ReadFile(path); len(text) != left {
			t.Errorf("%d bytes became %d", left, len(text))
		}
	}
	if err := os.WriteFile(path, journal, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Repair(t.Context(), id, alice, "looked: nothing is left"); err != nil {
		t.Fatal(err)
	}
	h := reopen(t, s, id)
	if entries := h.Log.Entries(); len(entries) != 2 || entries[1].Summary != "looked: nothing is left" ||
		len(h.Incident().Doubts) > 0 {
		t.Errorf("%+v %+v", entries, h.Incident().Doubts)
	}
}
