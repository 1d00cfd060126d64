package timeline

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// syncs has fsync tell what it is asked for, and fail where the test says so.
// Tests that use it do not run beside others.
func syncs(t *testing.T, fail func(name string) error) *[]string {
	t.Helper()
	was := fsync
	t.Cleanup(func() { fsync = was })
	var names []string
	fsync = func(f *os.File) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		names = append(names, filepath.Base(f.Name()))
		if !info.IsDir() {
			if text, err := os.ReadFile(f.Name()); err != nil || !strings.HasSuffix(string(text), "\n") {
				t.Errorf("it is made durable before it is written: %q, %v", text, err)
			}
		}
		if fail != nil {
			return fail(filepath.Base(f.Name()))
		}
		return was(f)
	}
	return &names
}

// What is acknowledged is on stable storage, and so is the name of a new journal.
func TestWhatIsAcknowledgedIsDurable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "inc")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	names := syncs(t, nil)
	l, err := Open(filepath.Join(dir, "t.jsonl"), Options{Incident: "inc-1"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if !slices.Equal(*names, []string{"inc"}) {
		t.Errorf("opened: %q", *names)
	}
	for range 2 {
		*names = nil
		if _, err := l.Append(Entry{Kind: KindNote, Summary: "x"}); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(*names, "t.jsonl") {
			t.Errorf("appended: %q", *names)
		}
	}
}

// What is not on stable storage is not acknowledged, and not left in the journal.
func TestWhatIsNotDurableIsNoEntry(t *testing.T) {
	broken := errors.New("input/output error")
	dir := t.TempDir()
	path := filepath.Join(dir, "t.jsonl")
	failing := ""
	syncs(t, func(name string) error {
		if name == failing {
			return broken
		}
		return nil
	})
	failing = filepath.Base(dir)
	if _, err := Open(path, Options{Incident: "inc-1"}); !errors.Is(err, broken) {
		t.Errorf("the name of a new journal is not durable: %v", err)
	}
	failing = ""
	l, err := Open(path, Options{Incident: "inc-1"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if _, err := l.Append(Entry{Kind: KindNote, Summary: "kept"}); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	failing = "t.jsonl"
	if _, err := l.Append(Entry{Kind: KindNote, Summary: "lost"}); !errors.Is(err, broken) ||
		!strings.Contains(err.Error(), "nothing was recorded") {
		t.Errorf("%v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) || len(l.Entries()) != 1 {
		t.Errorf("%q, %d entries, %v", after, len(l.Entries()), err)
	}
	failing = ""
	if e, err := l.Append(Entry{Kind: KindNote, Summary: "again"}); err != nil || e.Seq != 2 {
		t.Errorf("%+v, %v", e, err)
	}
}

// Whoever opens a journal reads it under its lock: what another has written until
// it gets that is there, and a torn line is kept before anybody else writes.
func TestAJournalIsOpenedUnderItsLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.jsonl")
	add := func(text string) {
		l, err := Open(path, Options{Incident: "inc-1"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(Entry{Kind: KindNote, Summary: text}); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	add("first")
	held := 0
	entries := func() (list []string) {
		all, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			list = append(list, string(e.Kind))
		}
		return list
	}
	l, err := Open(path, Options{Incident: "inc-1", Lock: func() (func(), error) {
		if held++; held == 1 {
			add("by another, before it let go")
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return nil, err
			}
			if _, err := f.WriteString(`{"torn`); err != nil {
				return nil, err
			}
			if err := f.Close(); err != nil {
				return nil, err
			}
		}
		return func() {
			if got := entries(); held == 1 && !slices.Equal(got, []string{"note", "note", "recovered"}) {
				t.Errorf("the lock is released, and the journal holds %q", got)
			}
		}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if len(l.Entries()) != 3 || held != 1 {
		t.Errorf("%d entries, the lock was taken %d times", len(l.Entries()), held)
	}
}

// An entry of another incident in the chain is told, also where it is the last
// one, to which nothing is chained.
func TestAnEntryOfAnotherIncident(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.jsonl")
	l, err := Open(path, Options{Incident: "inc-1"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := l.Append(Entry{Kind: KindNote, Summary: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.Close(), os.Remove(HeadPath(path))); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(string(text), "\n")
	var e map[string]any
	if err := json.Unmarshal([]byte(second), &e); err != nil || e["incident"] != "inc-1" {
		t.Fatalf("%v, %v", e, err)
	}
	forged := strings.Replace(second, `"inc-1"`, `"inc-2"`, 1)
	if err := os.WriteFile(path, []byte(first+"\n"+forged), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Verify(path)
	if err != nil || r.OK() || len(r.Problems) != 1 || r.Problems[0].Line != 2 || r.Problems[0].Damage != Edited {
		t.Errorf("%+v, %v", r, err)
	}
	if l, err := Open(path, Options{Incident: "inc-1"}); err == nil {
		t.Error("it is opened for writing", l.Close())
	}
}
