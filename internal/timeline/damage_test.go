package timeline_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"irctl/internal/timeline"
)

func lines(text []byte) [][]byte {
	return bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
}

// unlines joins lines so that each, the last one too, ends with a newline.
func unlines(lines [][]byte) []byte {
	var text []byte
	for _, l := range lines {
		text = append(append(text, bytes.TrimSuffix(l, []byte("\n"))...), '\n')
	}
	return text
}

func TestEveryFlippedByteIsDetected(t *testing.T) {
	path := journal(t, 2)
	text := readFile(t, path)
	for i := range text {
		for _, flip := range []byte{0x01, 0x20, 0x80} {
			damaged := bytes.Clone(text)
			damaged[i] ^= flip
			writeFile(t, path, damaged)
			if r := verify(t, path); r.OK() {
				t.Fatalf("byte %d (%q) flipped by %#x: reported OK", i, text[i], flip)
			}
			// The last line's newline gone is a torn line to Read, but the head
			// file knows that it had been acknowledged.
			if _, err := timeline.Read(path); err == nil {
				t.Fatalf("byte %d (%q) flipped by %#x: Read returned no error", i, text[i], flip)
			}
		}
	}
	writeFile(t, path, text)
	if r := verify(t, path); !r.OK() {
		t.Fatalf("the original: %v", r.Problems)
	}
}

func TestDamageIsNamed(t *testing.T) {
	tests := map[string]struct {
		damage   func(lines [][]byte) [][]byte
		want     timeline.Damage
		line     int64
		readable int // entries that Read still returns
	}{
		"edited in the middle": {func(l [][]byte) [][]byte {
			l[2] = bytes.Replace(l[2], []byte("labelled"), []byte("LABELLED"), 1)
			return l
		}, timeline.Edited, 3, 2},
		"edited first": {func(l [][]byte) [][]byte {
			l[0] = bytes.Replace(l[0], []byte("alice"), []byte("mallo"), 1)
			return l
		}, timeline.Edited, 1, 0},
		"edited last": {func(l [][]byte) [][]byte {
			l[6] = bytes.Replace(l[6], []byte("done"), []byte("fail"), 1)
			return l
		}, timeline.Edited, 7, 6},
		"replaced by no JSON": {func(l [][]byte) [][]byte {
			l[3] = []byte("rubbish\n")
			return l
		}, timeline.Edited, 4, 3},
		"blank line": {func(l [][]byte) [][]byte { return slices.Insert(l, 3, []byte("\n")) }, timeline.Edited, 4, 3},
		"endless line": {func(l [][]byte) [][]byte {
			l[3] = append(bytes.Repeat([]byte("x"), 3*timeline.MaxLine), '\n')
			return l
		}, timeline.Edited, 4, 3},
		"deleted in the middle": {func(l [][]byte) [][]byte { return slices.Delete(l, 3, 5) }, timeline.Deleted, 4, 3},
		"deleted first":         {func(l [][]byte) [][]byte { return l[1:] }, timeline.Deleted, 1, 0},
		"deleted last":          {func(l [][]byte) [][]byte { return l[:6] }, timeline.Truncated, 7, 6},
		"all deleted":           {func(l [][]byte) [][]byte { return nil }, timeline.Truncated, 1, 0},
		"swapped": {func(l [][]byte) [][]byte {
			l[2], l[3] = l[3], l[2]
			return l
		}, timeline.Reordered, 3, 2},
		"first two swapped": {func(l [][]byte) [][]byte {
			l[0], l[1] = l[1], l[0]
			return l
		}, timeline.Reordered, 1, 0},
		"repeated": {func(l [][]byte) [][]byte { return slices.Insert(l, 3, l[2]) }, timeline.Reordered, 4, 3},
		"Windows line ends": {func(l [][]byte) [][]byte {
			for i := range l {
				l[i] = append(bytes.TrimSuffix(l[i], []byte("\n")), '\r')
			}
			return l
		}, timeline.Edited, 1, 0},
		"an entry of another journal": {func(l [][]byte) [][]byte {
			l[4] = bytes.Replace(l[4], []byte(incident), []byte("inc-20260102-150405-zzzz"), 1)
			return l
		}, timeline.Edited, 5, 4},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := journal(t, 3)
			writeFile(t, path, unlines(tt.damage(lines(readFile(t, path)))))
			r := verify(t, path)
			if r.OK() || r.Problems[0].Damage != tt.want || r.Problems[0].Line != tt.line {
				t.Fatalf("problems %v, want first: line %d %s", r.Problems, tt.line, tt.want)
			}
			_, err := timeline.Open(path, options())
			var chain *timeline.ChainError
			if !errors.As(err, &chain) || chain.Damage != tt.want || chain.Line != tt.line || chain.Path != path {
				t.Errorf("Open: %v", err)
			}
			entries, err := timeline.Read(path)
			if !errors.As(err, &chain) || len(entries) != tt.readable {
				t.Errorf("Read: %d entries, want %d; %v", len(entries), tt.readable, err)
			}
		})
	}
}

func TestVerifyListsEveryProblem(t *testing.T) {
	path := journal(t, 20)
	l := lines(readFile(t, path))
	for _, i := range []int{3, 10, 20} {
		l[i] = bytes.Replace(l[i], []byte("backend"), []byte("BACKEND"), 1)
	}
	writeFile(t, path, unlines(l[:30]))
	var got []string
	for _, p := range verify(t, path).Problems {
		got = append(got, fmt.Sprintf("%d %s", p.Line, p.Damage))
	}
	if want := []string{"4 edited", "11 edited", "21 edited", "31 truncated"}; !slices.Equal(got, want) {
		t.Errorf("problems %q, want %q", got, want)
	}
}

func TestReportOfAHostileJournalIsBounded(t *testing.T) {
	path := journal(t, 0)
	writeFile(t, path, bytes.Repeat([]byte("x\n"), 10_000))
	r := verify(t, path)
	if len(r.Problems) > 200 || len(r.Problems)+r.MoreProblems < 10_000 {
		t.Errorf("%d problems and %d more", len(r.Problems), r.MoreProblems)
	}
	writeFile(t, path, bytes.Repeat([]byte("\n"), timeline.MaxEntries+1))
	if _, err := timeline.Verify(path); !errors.Is(err, timeline.ErrTooLarge) {
		t.Errorf("too many lines: %v", err)
	}
	if err := os.Truncate(path, timeline.MaxFile+1); err != nil { // sparse
		t.Fatal(err)
	}
	if _, err := timeline.Read(path); err == nil {
		t.Error("a journal that is too large was read")
	}
}

func TestWithoutHeadFileTruncationCannotBeExcluded(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"missing":            os.Remove,
		"emptied by a crash": func(p string) error { return os.Truncate(p, 0) },
		"cut by a crash":     func(p string) error { return os.Truncate(p, 20) },
		"overwritten with something else": func(p string) error {
			return os.WriteFile(p, []byte(`{"seq":1,"sha256":"x"}`), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := journal(t, 2)
			if err := damage(timeline.HeadPath(path)); err != nil {
				t.Fatal(err)
			}
			r := verify(t, path)
			if !r.OK() || r.HeadFile != nil || len(r.Warnings) != 1 ||
				!strings.Contains(r.Warnings[0], "cannot be excluded") {
				t.Errorf("report %+v", r)
			}
			appendTo(t, open(t, path), timeline.Entry{Kind: timeline.KindNote})
			if r := verify(t, path); !r.OK() || r.HeadFile == nil {
				t.Errorf("after an append: %+v", r)
			}
		})
	}
}

func TestAHeadLeftBehindByACrashIsNoProblem(t *testing.T) {
	path := journal(t, 2)
	head := timeline.HeadPath(path)
	old := readFile(t, head)
	l := open(t, path)
	for range 3 {
		appendTo(t, l, timeline.Entry{Kind: timeline.KindNote})
	}
	l.Close()
	writeFile(t, head, old)
	writeFile(t, head+".tmp", []byte("left by a kill"))
	if r := verify(t, path); !r.OK() || r.HeadFile.Seq != 5 || r.Head.Seq != 8 {
		t.Errorf("report %+v", r)
	}
	appendTo(t, open(t, path), timeline.Entry{Kind: timeline.KindNote})
	if r := verify(t, path); !r.OK() || r.HeadFile.Seq != 9 {
		t.Errorf("after an append: %+v", r)
	}
}

func TestClockThatGoesBackIsAWarning(t *testing.T) {
	path := journal(t, 1)
	l := open(t, path) // its clock starts anew
	appendTo(t, l, timeline.Entry{Kind: timeline.KindNote})
	r := verify(t, path)
	if !r.OK() || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0],
		"line 4 (seq 4): the clock went back by 2s") {
		t.Errorf("report %+v", r)
	}
}

// TestTornLastLineIsRecovered cuts a journal at every byte of its last line,
// as a kill in the middle of the write would: the entry was not acknowledged,
// so the head file names the one before.
func TestTornLastLineIsRecovered(t *testing.T) {
	path := journal(t, 1)
	l := open(t, path)
	before, head := readFile(t, path), readFile(t, timeline.HeadPath(path))
	appendTo(t, l, timeline.Entry{Kind: timeline.KindNote, Summary: "torn \u00e4 \x1b"})
	l.Close()
	whole := readFile(t, path)

	for cut := len(before); cut < len(whole); cut++ {
		writeFile(t, path, whole[:cut])
		writeFile(t, timeline.HeadPath(path), head)
		torn := whole[len(before):cut]

		if entries, err := timeline.Read(path); err != nil || len(entries) != 3 {
			t.Fatalf("cut at %d: Read: %d entries, %v", cut, len(entries), err)
		}
		if r := verify(t, path); r.OK() != (len(torn) == 0) || len(torn) > 0 && r.Problems[0].Damage != timeline.Torn {
			t.Fatalf("cut at %d: report %+v", cut, r)
		}
		l, err := timeline.Open(path, options())
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		entries := l.Entries()
		l.Close()
		if r := verify(t, path); !r.OK() {
			t.Fatalf("cut at %d: after Open: %v", cut, r.Problems)
		}
		if len(torn) == 0 {
			if len(entries) != 3 {
				t.Fatalf("cut at %d: %d entries", cut, len(entries))
			}
			continue
		}
		if len(entries) != 4 || entries[3].Kind != timeline.KindRecovered {
			t.Fatalf("cut at %d: %d entries, last %+v", cut, len(entries), entries[len(entries)-1])
		}
		var kept struct {
			Bytes int
			Text  string
		}
		if err := json.Unmarshal([]byte(entries[3].Data.String()), &kept); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%+q", torn); kept.Text != want || kept.Bytes != len(torn) {
			t.Fatalf("cut at %d: kept %d bytes %s, want %s", cut, kept.Bytes, kept.Text, want)
		}
	}
}

func TestHugeTornLineIsKeptInPart(t *testing.T) {
	path := journal(t, 1)
	text := readFile(t, path)
	writeFile(t, path, append(bytes.Clone(text), bytes.Repeat([]byte{0}, timeline.MaxLine)...))
	l := open(t, path)
	if n := len(l.Entries()); n != 4 {
		t.Errorf("%d entries", n)
	}
	if r := verify(t, path); !r.OK() {
		t.Errorf("problems %v", r.Problems)
	}

	writeFile(t, path, append(text, bytes.Repeat([]byte{0}, timeline.MaxLine+1)...))
	var chain *timeline.ChainError
	if _, err := timeline.Open(path, options()); !errors.As(err, &chain) {
		t.Errorf("more than a writer can leave: %v", err)
	}
}

func TestTornLineThatHadBeenAcknowledgedIsATruncation(t *testing.T) {
	path := journal(t, 1)
	text := readFile(t, path)
	writeFile(t, path, text[:len(text)-5])
	var chain *timeline.ChainError
	if _, err := timeline.Open(path, options()); !errors.As(err, &chain) || chain.Damage != timeline.Truncated {
		t.Errorf("error %v", err)
	}
	if got := readFile(t, path); !bytes.Equal(got, text[:len(text)-5]) {
		t.Error("Open changed a journal that it refused")
	}
}

func TestReadOfWhatIsNotThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "timeline.jsonl")
	if _, err := timeline.Read(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Read: %v", err)
	}
	if _, err := timeline.Verify(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Verify: %v", err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("reading created the file")
	}
}

// TestHugeJournalIsRefusedUnread: by its size, and by a line that no entry can have.
func TestHugeJournalIsRefusedUnread(t *testing.T) {
	for _, size := range []int64{timeline.MaxFile + 1, 1 << 40, timeline.MaxFile - 1} {
		path := filepath.Join(t.TempDir(), "timeline.jsonl")
		writeFile(t, path, nil)
		if err := os.Truncate(path, size); err != nil {
			t.Skip("no file system for holes:", err)
		}
		begun := time.Now()
		if _, err := timeline.Read(path); !errors.Is(err, timeline.ErrTooLarge) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("%d bytes: refused after %s", size, took)
		}
	}
}
