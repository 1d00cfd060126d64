package timeline_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"irctl/internal/timeline"
)

// shared are the options of Logs that are open on one journal.
func shared() timeline.Options {
	var mu sync.Mutex
	return timeline.Options{Incident: "inc-20260102-150405-abcd", Lock: func() (func(), error) {
		mu.Lock()
		return mu.Unlock, nil
	}}
}

func openShared(t *testing.T, path string, o timeline.Options) *timeline.Log {
	t.Helper()
	l, err := timeline.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func note(text string) timeline.Entry {
	return timeline.Entry{Kind: timeline.KindNote, Summary: text}
}

// TestSeveralWriters: whoever adds something takes in first what the others have
// added, and nothing of anybody is lost.
func TestSeveralWriters(t *testing.T) {
	path, o := filepath.Join(t.TempDir(), "timeline.jsonl"), shared()
	const writers, each = 4, 25
	var logs []*timeline.Log
	for range writers {
		logs = append(logs, openShared(t, path, o))
	}
	var wg sync.WaitGroup
	for n, l := range logs {
		wg.Go(func() {
			for i := range each {
				e, err := l.Append(note(fmt.Sprintf("%d/%d", n, i)))
				if err != nil {
					t.Error(err)
					return
				}
				all := l.Entries()
				if last := all[len(all)-1]; e.Seq > last.Seq || all[e.Seq-1].Summary != e.Summary {
					t.Errorf("entry %d is not where it should be among %d", e.Seq, len(all))
				}
			}
		})
	}
	wg.Wait()
	if r := verify(t, path); !r.OK() || r.Entries != writers*each || len(r.Warnings) > 0 {
		t.Fatalf("%+v", r)
	}
	next := map[string]int{}
	entries, err := timeline.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		writer, n, _ := strings.Cut(e.Summary, "/")
		if n != fmt.Sprint(next[writer]) {
			t.Fatalf("of writer %s %s comes where %d should", writer, n, next[writer])
		}
		next[writer]++
	}
}

// TestAnotherWriterIsKilled: the line that it tore is kept by whoever writes next.
func TestAnotherWriterIsKilled(t *testing.T) {
	path, o := filepath.Join(t.TempDir(), "timeline.jsonl"), shared()
	l, other := openShared(t, path, o), openShared(t, path, o)
	for i, w := range []*timeline.Log{l, other} {
		if _, err := w.Append(note(fmt.Sprint("before ", i))); err != nil {
			t.Fatal(err)
		}
	}
	text := readFile(t, path)
	writeFile(t, path, append(text, `{"seq":3,"torn`...))
	if _, err := l.Append(note("after")); err != nil {
		t.Fatal(err)
	}
	entries := l.Entries()
	if len(entries) != 4 || entries[2].Kind != timeline.KindRecovered ||
		!strings.Contains(entries[2].Data.String(), "torn") || entries[3].Summary != "after" {
		t.Fatalf("%+v", entries)
	}
	if r := verify(t, path); !r.OK() || r.Entries != 4 {
		t.Errorf("%+v", r)
	}
}

// TestWhatWasThereMustStay: only what is added to a journal is taken in.
func TestWhatWasThereMustStay(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, path string){
		"another history": func(t *testing.T, path string) {
			t.Helper()
			o := shared()
			forged := filepath.Join(t.TempDir(), "timeline.jsonl")
			l := openShared(t, forged, o)
			for _, text := range []string{"forged", "and more", "and more"} {
				if _, err := l.Append(note(text)); err != nil {
					t.Fatal(err)
				}
			}
			writeFile(t, path, readFile(t, forged))
			writeFile(t, timeline.HeadPath(path), readFile(t, timeline.HeadPath(forged)))
		},
		"cut short": func(t *testing.T, path string) {
			t.Helper()
			text := readFile(t, path)
			writeFile(t, path, text[:strings.IndexByte(string(text), '\n')+1])
			if err := os.Remove(timeline.HeadPath(path)); err != nil {
				t.Fatal(err)
			}
		},
		"edited": func(t *testing.T, path string) {
			t.Helper()
			writeFile(t, path, []byte(strings.Replace(string(readFile(t, path)), "the first", "the 1st", 1)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "timeline.jsonl")
			l := openShared(t, path, shared())
			for _, text := range []string{"the first", "the second"} {
				if _, err := l.Append(note(text)); err != nil {
					t.Fatal(err)
				}
			}
			change(t, path)
			before := readFile(t, path)
			if _, err := l.Append(note("after")); err == nil || !strings.Contains(err.Error(), "nothing was recorded") {
				t.Errorf("appended: %v", err)
			}
			if string(readFile(t, path)) != string(before) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestTheJournalsLockIsNotToBeHad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "timeline.jsonl")
	busy := errors.New("somebody else writes")
	var fail error
	o := timeline.Options{Incident: "inc-20260102-150405-abcd", Lock: func() (func(), error) { return func() {}, fail }}
	l := openShared(t, path, o)
	fail = busy
	if _, err := l.Append(note("lost")); !errors.Is(err, busy) {
		t.Errorf("Append: %v", err)
	}
	if _, err := timeline.Open(path, o); !errors.Is(err, busy) {
		t.Errorf("Open: %v", err)
	}
	fail = nil
	if _, err := l.Append(note("kept")); err != nil || len(l.Entries()) != 1 {
		t.Errorf("after that: %v, %d entries", err, len(l.Entries()))
	}
}
