package incident_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"irctl/internal/incident"
	"irctl/internal/timeline"
)

var (
	alice  = timeline.Actor{OSUser: "alice", Host: "bastion"}
	target = incident.Target{Namespace: "todo-app", Kind: "Pod", Name: "backend-688d67cddc-dxv5m", UID: "1b4e",
		Owners: []incident.Owner{{APIVersion: "apps/v1", Kind: "Deployment", Name: "backend", UID: "9c2f"}}}
	fresh = incident.New{Title: "crypto miner", Severity: incident.Sev2, Commander: "alice", Actor: alice,
		Cluster: incident.Cluster{Server: "https://192.0.2.1:6443", UID: "c1", Context: "prod"},
		Targets: []incident.Target{target}}
)

func options() incident.Options {
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	return incident.Options{Now: func() time.Time { return now }, LockWait: 50 * time.Millisecond}
}

func store(t *testing.T) *incident.Store {
	t.Helper()
	s, err := incident.NewStore(filepath.Join(t.TempDir(), "irctl"), options())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *incident.Store) *incident.Handle {
	t.Helper()
	h, err := s.Create(t.Context(), fresh)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// closed creates an incident and lets go of it.
func closed(t *testing.T, s *incident.Store) (incident.ID, string) {
	t.Helper()
	h := create(t, s)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	return h.Incident().ID, h.Dir()
}

func reopen(t *testing.T, s *incident.Store, id incident.ID) *incident.Handle {
	t.Helper()
	h, err := s.Open(t.Context(), id, alice)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func modes(t *testing.T, root string) map[string]fs.FileMode {
	t.Helper()
	got := map[string]fs.FileMode{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		got[path] = info.Mode()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestParseID(t *testing.T) {
	for _, good := range []string{"inc-20260102-150405-abcd", "inc-20260102-150405-a2z7xyzw"} {
		if id, err := incident.ParseID(good); err != nil || string(id) != good {
			t.Errorf("ParseID(%q) = %q, %v", good, id, err)
		}
	}
	for _, bad := range []string{
		"", ".", "..", "inc-", "../inc-20260102-150405-abcd", "inc-20260102-150405-abcd/..", "inc-20260102-150405-../x",
		"inc-20260102-150405-abc", "inc-20260102-150405-abcdefghi", "inc-20260102-150405-ABCD",
		"inc-20260102-150405-ab0d",
		"inc-20261302-150405-abcd", "inc-20260102-250405-abcd", "inc-20260102-150405-abcd\n",
		"inc-20260102-150405-ab\x00d",
		" inc-20260102-150405-abcd", "INC-20260102-150405-abcd", "inc-２０２６0102-150405-abcd", strings.Repeat("a", 1<<20),
	} {
		if id, err := incident.ParseID(bad); !errors.Is(err, incident.ErrBadID) || len(err.Error()) > 300 {
			t.Errorf("ParseID(%.40q) = %q, %v", bad, id, err)
		}
	}
}

func TestNoIDLeadsOutOfTheStore(t *testing.T) {
	s := store(t)
	for _, id := range []incident.ID{"..", "../..", "", ".", "/etc", "inc-20260102-150405-abcd/../.."} {
		_, loadErr := s.Load(id)
		_, openErr := s.Open(t.Context(), id, alice)
		_, pathErr := s.TimelinePath(id)
		_, verifyErr := s.Verify(id)
		for _, err := range []error{loadErr, openErr, pathErr, verifyErr} {
			if !errors.Is(err, incident.ErrBadID) {
				t.Errorf("%q: %v", id, err)
			}
		}
	}
}

func TestStateDir(t *testing.T) {
	tests := map[string]struct {
		env  map[string]string
		want string
	}{
		"ours first": {map[string]string{"IRCTL_STATE_DIR": "/a/b/", "XDG_STATE_HOME": "/x",
			"HOME": "/h"}, "/a/b"},
		"then XDG":                  {map[string]string{"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/irctl"},
		"a relative XDG is ignored": {map[string]string{"XDG_STATE_HOME": "x", "HOME": "/h"}, "/h/.local/state/irctl"},
		"then home":                 {map[string]string{"HOME": "/h"}, "/h/.local/state/irctl"},
		"nothing":                   {nil, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := incident.StateDir(func(key string) string { return tt.env[key] })
			if got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestCreatedIncidentIsWholeAndPrivate(t *testing.T) {
	s := store(t)
	h := create(t, s)
	want := incident.Incident{APIVersion: "irctl/v1", Kind: "Incident", ID: h.Incident().ID, Title: "crypto miner",
		Severity: incident.Sev2, Commander: "alice", State: incident.StateOpen, OpenedAt: options().Now(),
		Cluster: fresh.Cluster, Targets: fresh.Targets}
	if diff := cmp.Diff(want, h.Incident()); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(string(want.ID), "inc-20260102-150405-") {
		t.Errorf("ID %s", want.ID)
	}
	loaded, err := s.Load(want.ID)
	if diff := cmp.Diff(want, loaded); err != nil || diff != "" {
		t.Error(err, diff)
	}
	entries := h.Log.Entries()
	if len(entries) != 1 || entries[0].Kind != timeline.KindOpened || entries[0].Actor != alice ||
		!slices.Equal(entries[0].Targets, []string{"todo-app/backend-688d67cddc-dxv5m"}) {
		t.Errorf("entries %+v", entries)
	}
	if r, err := s.Verify(want.ID); err != nil || !r.OK() || r.HeadFile == nil {
		t.Errorf("%+v, %v", r, err)
	}
	var names []string
	for path, mode := range modes(t, s.Dir()) {
		if mode.IsDir() && mode.Perm() != 0o700 || !mode.IsDir() && mode.Perm() != 0o600 {
			t.Errorf("%s is %v", path, mode)
		}
		if filepath.Dir(path) == h.Dir() {
			names = append(names, filepath.Base(path))
		}
	}
	slices.Sort(names)
	if want := []string{"incident.yaml", "lock", "timeline.head", "timeline.jsonl",
		"timeline.lock"}; !slices.Equal(names, want) {
		t.Errorf("files %q, want %q", names, want)
	}
}

func TestCreateRefusesWhatItCouldNotRead(t *testing.T) {
	s := store(t)
	bad := []incident.New{
		{Severity: "bad"},
		{Targets: []incident.Target{{Kind: "Pod"}}},
		{Title: strings.Repeat("x", 9<<20)},
	}
	for _, n := range bad {
		if _, err := s.Create(t.Context(), n); !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("error %v", err)
		}
	}
	if list, errs := s.List(t.Context()); len(list)+len(errs) != 0 {
		t.Errorf("left behind: %v %v", list, errs)
	}
}

func TestTakenIDIsNotTakenAgain(t *testing.T) {
	random := bytes.NewReader(append(make([]byte, 10), 1, 2, 3, 4, 5))
	o := options()
	o.Random = random
	s, err := incident.NewStore(filepath.Join(t.TempDir(), "irctl"), o)
	if err != nil {
		t.Fatal(err)
	}
	a, b := create(t, s).Incident().ID, create(t, s).Incident().ID
	if a != "inc-20260102-150405-aaaa" || b == a {
		t.Errorf("IDs %s and %s", a, b)
	}
	o.Random = zeros{}
	if s, err = incident.NewStore(s.Dir(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), fresh); err == nil {
		t.Error("created an incident over another")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestAddTargets(t *testing.T) {
	s := store(t)
	h := create(t, s)
	copied := h.Incident()
	copied.Targets[0].Name = "changed in a copy"
	evil := incident.Target{Kind: "Pod", Namespace: "n", Name: "evil: [\u0085\x1b] # \"'\n"}
	for range 2 { // the second time it is known
		if err := h.AddTargets([]incident.Target{evil}); err != nil {
			t.Fatal(err)
		}
	}
	loaded, err := s.Load(h.Incident().ID)
	if diff := cmp.Diff(h.Incident(), loaded); err != nil || diff != "" || !cmp.Equal(loaded.Targets[0], target) ||
		len(loaded.Targets) != 2 {
		t.Error(err, diff, loaded)
	}
	if name, want := loaded.Targets[1].Name, "evil: [\ufffd\ufffd] # \"'\ufffd"; name != want {
		t.Errorf("name %q, want %q", name, want)
	}
	if n := len(h.Log.Entries()); n != 2 {
		t.Errorf("%d entries, want one that opens and one of the target", n)
	}
	if err := h.AddTargets([]incident.Target{{Namespace: "n"}}); !errors.Is(err, incident.ErrInvalid) {
		t.Errorf("a target without a name: %v", err)
	}
	if diff := cmp.Diff(loaded, h.Incident()); diff != "" {
		t.Errorf("a refused target changed the incident: %s", diff)
	}
	if again, err := s.Load(loaded.ID); err != nil || len(again.Doubts) > 0 {
		t.Errorf("it was journaled all the same: %v %v", again.Doubts, err)
	}
}

func TestCloseAndReopen(t *testing.T) {
	s := store(t)
	h := create(t, s)
	if err := h.Reopen(""); !errors.Is(err, incident.ErrAlreadyOpen) {
		t.Errorf("reopen an open one: %v", err)
	}
	if err := h.CloseIncident("false alarm"); err != nil {
		t.Fatal(err)
	}
	if err := h.CloseIncident(""); !errors.Is(err, incident.ErrAlreadyClosed) {
		t.Errorf("close a closed one: %v", err)
	}
	i, err := s.Load(h.Incident().ID)
	if err != nil || i.State != incident.StateClosed || i.ClosedAt == nil || !i.ClosedAt.Equal(options().Now()) {
		t.Errorf("%+v, %v", i, err)
	}
	if err := h.Reopen("it came back"); err != nil {
		t.Fatal(err)
	}
	if i, err := s.Load(i.ID); err != nil || i.State != incident.StateOpen || i.ClosedAt != nil {
		t.Errorf("%+v, %v", i, err)
	}
	var got []string
	for _, e := range h.Log.Entries() {
		got = append(got, string(e.Kind)+": "+e.Summary)
	}
	want := []string{"opened: incident opened: crypto miner", "closed: incident closed: false alarm",
		"reopened: incident reopened: it came back"}
	if !slices.Equal(got, want) {
		t.Errorf("journal %q, want %q", got, want)
	}
}

func TestACrashBetweenJournalAndFileIsPutRight(t *testing.T) {
	s := store(t)
	id, dir := closed(t, s)
	yaml := filepath.Join(dir, "incident.yaml")
	open, err := os.ReadFile(yaml)
	if err != nil {
		t.Fatal(err)
	}
	h := reopen(t, s, id)
	if err := h.CloseIncident(""); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if err := os.WriteFile(yaml, open, 0o600); err != nil {
		t.Fatal(err)
	}
	h = reopen(t, s, id)
	loaded, err := s.Load(id)
	if err != nil || loaded.State != incident.StateClosed || h.Incident().State != incident.StateClosed ||
		len(h.Log.Entries()) != 2 {
		t.Errorf("%+v, %v", loaded, err)
	}
}

func TestListShowsTheNewestFirstAndIsNotStoppedByDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "irctl")
	var want []incident.ID
	for day := range 3 {
		o := options()
		now := o.Now().AddDate(0, 0, day)
		o.Now = func() time.Time { return now }
		s, err := incident.NewStore(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		id, _ := closed(t, s)
		want = append([]incident.ID{id}, want...)
	}
	s, err := incident.NewStore(dir, options())
	if err != nil {
		t.Fatal(err)
	}
	incidents := filepath.Join(dir, "incidents")
	damage := map[string]string{
		"inc-20260101-000000-aaaa": "state: [",
		"inc-20260101-000000-aaab": "apiVersion: irctl/v2\nkind: Incident\n",
		"inc-20260101-000000-aaac": "apiVersion: irctl/v1\nkind: Incident\nfrom: the future\n",
		"inc-20260101-000000-aaad": strings.Repeat("#", 9<<20),
		"inc-20260101-000000-aaae": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c " +
			"[*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n" +
			"f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
		"inc-20260101-000000-aaaf":      "",
		"not-an-incident":               "x",
		".new-inc-20260101-000000-aaaa": "left by a kill",
	}
	for name, text := range damage {
		if err := os.Mkdir(filepath.Join(incidents, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(incidents, name, "incident.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A kill between mkdir and the first file, by something else than Create.
	if err := os.Mkdir(filepath.Join(incidents, "inc-20260101-000000-aaba"), 0o700); err != nil {
		t.Fatal(err)
	}
	// The incident of another ID under this one.
	twin := filepath.Join(incidents, "inc-20260101-000000-aabb")
	if err := os.CopyFS(twin, os.DirFS(filepath.Join(incidents, string(want[0])))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(twin, 0o700); err != nil {
		t.Fatal(err)
	}
	list, errs := s.List(t.Context())
	var got []incident.ID
	for _, i := range list {
		got = append(got, i.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	if len(errs) != 8 {
		t.Errorf("%d errors, want 8: %v", len(errs), errs)
	}
	for _, err := range errs {
		if !errors.Is(err, incident.ErrDamaged) || !strings.Contains(err.Error(), "inc-20260101-000000-aa") {
			t.Errorf("the error does not say which incident is damaged: %v", err)
		}
	}
	for _, id := range []incident.ID{"inc-20260101-000000-aaaa", "inc-20260101-000000-aaba",
		"inc-20260101-000000-aabb"} {
		if _, err := s.Open(t.Context(), id, alice); !errors.Is(err, incident.ErrDamaged) {
			t.Errorf("open %s: %v", id, err)
		}
	}
	create(t, s)
}

func TestFind(t *testing.T) {
	s := store(t)
	a, _ := closed(t, s)
	b, _ := closed(t, s)
	if id, err := s.Find(string(a)); id != a || err != nil {
		t.Errorf("whole ID: %s, %v", id, err)
	}
	if _, err := s.Find("inc-2026"); !errors.Is(err, incident.ErrAmbiguous) ||
		!strings.Contains(err.Error(), string(a)) || !strings.Contains(err.Error(), string(b)) {
		t.Errorf("ambiguous: %v", err)
	}
	for _, none := range []string{"", "inc-2025", "../", "backend"} {
		if _, err := s.Find(none); !errors.Is(err, incident.ErrNotFound) {
			t.Errorf("%q: %v", none, err)
		}
	}
	if err := os.RemoveAll(filepath.Join(s.Dir(), "incidents", string(b))); err != nil {
		t.Fatal(err)
	}
	if id, err := s.Find("inc-2026"); id != a || err != nil {
		t.Errorf("unique: %s, %v", id, err)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	s := store(t)
	const id = "inc-20260102-150405-abcd"
	_, loadErr := s.Load(id)
	_, openErr := s.Open(t.Context(), id, alice)
	_, pathErr := s.TimelinePath(id)
	_, dirErr := s.OpenDir(t.Context(), filepath.Join(t.TempDir(), "x"), alice)
	for _, err := range []error{loadErr, openErr, pathErr, dirErr} {
		if !errors.Is(err, incident.ErrNotFound) {
			t.Errorf("error %v", err)
		}
	}
}

func TestAppend(t *testing.T) {
	s := store(t)
	h := create(t, s)
	id := h.Incident().ID
	e, err := s.Append(id, alice, timeline.Entry{Kind: timeline.KindNote, Summary: "from beside"})
	if err != nil || e.Seq != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	if e, err = h.Log.Append(timeline.Entry{Kind: timeline.KindNote, Summary: "from within"}); err != nil ||
		e.Seq != 3 {
		t.Fatalf("%+v, %v", e, err)
	}
	var all []string
	for _, e := range h.Log.Entries() {
		all = append(all, e.Summary)
	}
	if got := strings.Join(all[1:], ", "); got != "from beside, from within" {
		t.Error(got)
	}
	if _, err := s.Append("inc-20260102-150405-zzzz", alice,
		timeline.Entry{Kind: timeline.KindNote, Summary: "x"}); !errors.Is(err, incident.ErrNotFound) {
		t.Errorf("of no incident: %v", err)
	}
}

func TestJoin(t *testing.T) {
	s := store(t)
	same := func(i incident.Incident) bool { return i.Targets[0].UID == target.UID }
	first, created, err := s.Join(t.Context(), same, fresh)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	first.Close()
	again, created, err := s.Join(t.Context(), same, fresh)
	if err != nil || created || again.Incident().ID != first.Incident().ID {
		t.Fatal(created, err)
	}
	if _, _, err := s.Join(t.Context(), same, fresh); !errors.Is(err, incident.ErrLocked) {
		t.Errorf("joined an incident in use: %v", err)
	}
	if err := again.CloseIncident(""); err != nil {
		t.Fatal(err)
	}
	again.Close()
	next, created, err := s.Join(t.Context(), same, fresh)
	if err != nil || !created || next.Incident().ID == first.Incident().ID {
		t.Fatal(created, err)
	}
	next.Close()
	other, created, err := s.Join(t.Context(), func(incident.Incident) bool { return false }, fresh)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	other.Close()
	if open, errs := s.FindOpen(t.Context(), func(incident.Incident) bool { return true }); len(open) != 2 ||
		len(errs) != 0 {
		t.Errorf("open: %v %v", open, errs)
	}
}

func TestJoinDoesNotJoinWhatTheJournalSaysIsClosed(t *testing.T) {
	s := store(t)
	h := create(t, s)
	yaml, err := os.ReadFile(filepath.Join(h.Dir(), "incident.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.CloseIncident(""); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if err := os.WriteFile(filepath.Join(h.Dir(), "incident.yaml"), yaml, 0o600); err != nil {
		t.Fatal(err)
	}
	next, created, err := s.Join(t.Context(), func(incident.Incident) bool { return true }, fresh)
	if err != nil || !created || next.Incident().ID == h.Incident().ID {
		t.Fatal(created, err)
	}
	next.Close()
}

func TestOpenDirOpensACopy(t *testing.T) {
	there, here := store(t), store(t)
	id, dir := closed(t, there)
	copied := filepath.Join(t.TempDir(), "from bob")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := here.OpenDir(t.Context(), copied, alice); !errors.Is(err, incident.ErrNotPrivate) ||
		!strings.Contains(err.Error(), "chmod 700 "+copied) {
		t.Errorf("a copy that others can write to: %v", err)
	}
	if err := os.Chmod(copied, 0o700); err != nil {
		t.Fatal(err)
	}
	h, err := here.OpenDir(t.Context(), copied, alice)
	if err != nil {
		t.Fatal(err)
	}
	if h.Incident().ID != id || h.Dir() != copied {
		t.Errorf("%+v in %s", h.Incident(), h.Dir())
	}
	if _, err := h.Log.Append(timeline.Entry{Kind: timeline.KindNote}); err != nil {
		t.Error(err)
	}
	if _, err := here.OpenDir(t.Context(), copied, alice); !errors.Is(err, incident.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if err := errors.Join(h.Close(), h.Close()); err != nil {
		t.Error(err)
	}
	for path, mode := range modes(t, copied) {
		if mode.Perm()&0o077 != 0 {
			t.Errorf("%s is %v", path, mode)
		}
	}
	if entries, err := timeline.Read(filepath.Join(dir, "timeline.jsonl")); err != nil || len(entries) != 1 {
		t.Errorf("the original has %d entries, %v", len(entries), err)
	}
}

func TestAHostileCopyIsRefusedAndNothingOutsideIsTouched(t *testing.T) {
	for _, name := range []string{"incident.yaml", "timeline.jsonl", "timeline.head", "lock", "timeline.lock"} {
		t.Run("symlink "+name, func(t *testing.T) {
			s := store(t)
			id, dir := closed(t, s)
			victim := filepath.Join(t.TempDir(), "victim")
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.WriteFile(victim, text, 0o644), os.Remove(filepath.Join(dir, name)),
				os.Symlink(victim, filepath.Join(dir, name))); err != nil {
				t.Fatal(err)
			}
			if _, err := s.OpenDir(t.Context(), dir, alice); !errors.Is(err, incident.ErrDamaged) {
				t.Errorf("OpenDir: %v", err)
			}
			if _, err := s.Open(t.Context(), id, alice); !errors.Is(err, incident.ErrDamaged) {
				t.Errorf("Open: %v", err)
			}
			after, err := os.ReadFile(victim)
			info, _ := os.Stat(victim)
			if err != nil || !bytes.Equal(after, text) || info.Mode().Perm() != 0o644 {
				t.Errorf("the file outside changed: %v", err)
			}
		})
	}
	t.Run("journal edited", func(t *testing.T) {
		s := store(t)
		id, dir := closed(t, s)
		path := filepath.Join(dir, "timeline.jsonl")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Replace(text, []byte("alice"), []byte("mallo"), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		var chain *timeline.ChainError
		if _, err := s.Open(t.Context(), id, alice); !errors.As(err, &chain) {
			t.Errorf("Open: %v", err)
		}
		if _, err := s.Open(t.Context(), id, alice); errors.Is(err, incident.ErrLocked) {
			t.Error("a refused incident stays locked")
		}
	})
	t.Run("journal removed", func(t *testing.T) {
		s := store(t)
		id, dir := closed(t, s)
		if err := os.Remove(filepath.Join(dir, "timeline.jsonl")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(t.Context(), id, alice); !errors.Is(err, incident.ErrDamaged) {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("journal of another incident", func(t *testing.T) {
		s := store(t)
		id, dir := closed(t, s)
		_, other := closed(t, s)
		for _, name := range []string{"timeline.jsonl", "timeline.head"} {
			text, err := os.ReadFile(filepath.Join(other, name))
			if err := errors.Join(err, os.WriteFile(filepath.Join(dir, name), text, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := s.Verify(id); err != nil || r.OK() {
			t.Errorf("Verify: %+v, %v", r, err)
		}
		var chain *timeline.ChainError
		if _, err := s.Open(t.Context(), id, alice); !errors.As(err, &chain) {
			t.Errorf("Open: %v", err)
		}
	})
}

func TestLeftoversOfAKilledCreateAreSwept(t *testing.T) {
	s := store(t)
	closed(t, s)
	old := filepath.Join(s.Dir(), "incidents", ".new-inc-20250101-000000-aaaa")
	recent := filepath.Join(s.Dir(), "incidents", ".new-inc-20250101-000000-aaab")
	for _, dir := range []string{old, recent} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	create(t, s)
	if _, err := os.Lstat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old one: %v", err)
	}
	if _, err := os.Lstat(recent); err != nil {
		t.Errorf("one that another process may be making: %v", err)
	}
}

func TestCancelledContext(t *testing.T) {
	s := store(t)
	create(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Create(ctx, fresh); !errors.Is(err, context.Canceled) {
		t.Errorf("Create: %v", err)
	}
	if _, errs := s.List(ctx); len(errs) != 1 || !errors.Is(errs[0], context.Canceled) {
		t.Errorf("List: %v", errs)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("inc-20260102-150405-abcd")
	f.Add("inc-20260102-150405-../x")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := incident.ParseID(s)
		if err != nil {
			return
		}
		if string(id) != s || !filepath.IsLocal(s) || filepath.Base(s) != s || strings.HasPrefix(s, ".") ||
			len(s) > 63 {
			t.Errorf("accepted %q", s)
		}
	})
}

// FuzzLoad: no incident.yaml makes Load panic, and what it accepts is written
// back as what was read.
func FuzzLoad(f *testing.F) {
	s, err := incident.NewStore(filepath.Join(f.TempDir(), "irctl"), options())
	if err != nil {
		f.Fatal(err)
	}
	h, err := s.Create(f.Context(), fresh)
	if err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(h.Dir(), "incident.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	h.Close()
	f.Add(text)
	f.Add([]byte("{}"))
	f.Add([]byte("a: &a [*a]"))
	f.Add(bytes.Replace(text, []byte(`"2026-01-02T15:04:05Z"`), []byte(`2026-01-02T15:04:05Z`), 1))
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, err := s.Load(h.Incident().ID)
		if err != nil {
			return
		}
		h, err := s.Open(t.Context(), loaded.ID, alice)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		again, err := s.Load(loaded.ID)
		want := h.Incident()
		if want.Doubts = nil; err == nil && len(again.Doubts) > 0 {
			t.Error(again.Doubts)
		}
		if diff := cmp.Diff(want, again); err != nil || diff != "" {
			t.Error(err, diff)
		}
	})
}

func BenchmarkList(b *testing.B) {
	s, err := incident.NewStore(filepath.Join(b.TempDir(), "irctl"), options())
	if err != nil {
		b.Fatal(err)
	}
	for range 100 {
		h, err := s.Create(b.Context(), fresh)
		if err != nil {
			b.Fatal(err)
		}
		h.Close()
	}
	for b.Loop() {
		if list, errs := s.List(b.Context()); len(list) != 100 || len(errs) != 0 {
			b.Fatal(len(list), errs)
		}
	}
}
