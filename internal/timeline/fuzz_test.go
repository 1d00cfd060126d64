package timeline

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf8"

	"irctl/internal/record"
)

// written returns the journal and the head of an incident with n notes, as
// Open and Append leave them.
func written(f testing.TB, n int) ([]byte, Head) {
	f.Helper()
	path := filepath.Join(f.TempDir(), "timeline.jsonl")
	l, err := Open(path, Options{Incident: "inc-20260102-150405-abcd", Now: func() time.Time {
		return time.Unix(1767366245, 0)
	}})
	if err != nil {
		f.Fatal(err)
	}
	defer l.Close()
	for i := range n {
		if _, err := l.Append(Entry{Kind: KindNote, Summary: fmt.Sprint("note ", i)}); err != nil {
			f.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	return text, l.Head()
}

// FuzzVerify: whatever is put in the place of a journal, it is OK only if it
// is that journal.
func FuzzVerify(f *testing.F) {
	valid, head := written(f, 5)
	half := bytes.Index(valid[len(valid)/2:], []byte("\n")) + len(valid)/2 + 1
	f.Add(valid)
	f.Add(valid[:half])
	f.Add(valid[half:])
	f.Add(append(bytes.Clone(valid), valid[half:]...))
	f.Add(append(bytes.Clone(valid), `{"kind":"note","seq":6}`+"\n"...))
	f.Add(append(bytes.Clone(valid), `{"kind":"note"`...))
	f.Add(bytes.Replace(valid, []byte(`"seq":3`), []byte(`"seq":9223372036854775807`), 1))
	f.Add(bytes.Replace(valid, []byte(`"seq":3`), []byte(`"seq":-9223372036854775808`), 1))
	f.Add([]byte("\n\n{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		in, err := inspect(bytes.NewReader(text), &head, func(Entry) {})
		if err != nil {
			t.Fatal(err)
		}
		if in.report.OK() != bytes.Equal(text, valid) {
			t.Errorf("OK is %v; problems %v", in.report.OK(), in.report.Problems)
		}
		if len(in.report.Problems) > maxProblems || len(in.report.Warnings) > maxProblems {
			t.Error("the report is not bounded")
		}
	})
}

// FuzzRead: what is read without an error continues the chain, and folding
// it does not panic.
func FuzzRead(f *testing.F) {
	valid, _ := written(f, 3)
	f.Add(valid)
	f.Add(valid[:len(valid)-1])
	f.Add([]byte(`{"seq":1,"kind":"intent","undoes":1,"intent":1,"incident":"","prev":"` + genesis("").SHA256 + `"}` +
		"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "timeline.jsonl")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		entries, err := Read(path)
		if err != nil {
			return
		}
		for i, e := range entries {
			if e.Seq != int64(i+1) {
				t.Errorf("entry %d has seq %d", i, e.Seq)
			}
		}
		Actions(entries)
		Standing(entries)
		Pending(entries)
		MetricsOf(entries)
		// What Read accepts, a writer can continue, and Verify then agrees.
		if len(entries) == 0 || entries[0].Incident == "" {
			return
		}
		l, err := Open(path, Options{Incident: entries[0].Incident})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := l.Append(Entry{Kind: KindNote}); err != nil {
			t.Fatal(err)
		}
		if r, err := Verify(path); err != nil || !r.OK() {
			t.Errorf("after an append: %v %v", r.Problems, err)
		}
	})
}

// FuzzAppend: whatever an entry says, it is on disk as Append returned it.
func FuzzAppend(f *testing.F) {
	f.Add("label pod", "backend\xff\x1b[0m", []byte(`{"a":"\u0000"}`))
	f.Add("\u2028\u009b", "\U000e0001", []byte("\"\x7f\""))
	f.Fuzz(func(t *testing.T, summary, name string, data []byte) {
		path := filepath.Join(t.TempDir(), "timeline.jsonl")
		l, err := Open(path, Options{Incident: summary + "x"})
		if !utf8.ValidString(summary) {
			if err == nil {
				t.Fatal("opened the journal of an incident without a valid ID")
			}
			l, err = Open(path, Options{Incident: "x"})
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		want, err := l.Append(Entry{Kind: KindNote, Summary: summary, Object: &Object{Name: name},
			Data: record.Verbatim(data)})
		if err != nil {
			return
		}
		got, err := Read(path)
		if err != nil || len(got) != 1 {
			t.Fatalf("%d entries, %v", len(got), err)
		}
		if got[0].Summary != want.Summary || got[0].Object.Name != want.Object.Name ||
			!got[0].Data.Equal(want.Data) || !got[0].Time.Equal(want.Time) || got[0].Incident != want.Incident {
			t.Errorf("read %+v, Append returned %+v", got[0], want)
		}
	})
}
