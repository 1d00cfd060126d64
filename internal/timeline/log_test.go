package timeline_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"irctl/internal/record"
	"irctl/internal/timeline"
)

const incident = "inc-20260102-150405-abcd"

var actor = timeline.Actor{OSUser: "alice", Host: "bastion", PID: 42}

// clock returns a time that goes on by a second with every look at it.
func clock() func() time.Time {
	var mu sync.Mutex
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Second)
		return now
	}
}

func options() timeline.Options {
	return timeline.Options{Incident: incident, Actor: actor, Now: clock()}
}

func open(t *testing.T, path string) *timeline.Log {
	t.Helper()
	l, err := timeline.Open(path, options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func appendTo(t *testing.T, l *timeline.Log, e timeline.Entry) timeline.Entry {
	t.Helper()
	got, err := l.Append(e)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// journal writes a closed journal: opened, then n pairs of intent and outcome.
func journal(t *testing.T, n int) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "timeline.jsonl")
	l := open(t, path)
	appendTo(t, l, timeline.Entry{Kind: timeline.KindOpened, Summary: "incident opened"})
	for i := range n {
		intent := appendTo(t, l, timeline.Entry{Kind: timeline.KindIntent, Phase: "contain", Step: "quarantine",
			Action: "label", Summary: fmt.Sprintf("label pod backend-%d", i),
			Object: &timeline.Object{APIVersion: "v1", Kind: "Pod", Namespace: "todo-app",
				Name: fmt.Sprintf("backend-%d", i)}})
		appendTo(t, l, timeline.Entry{Kind: timeline.KindOutcome, Intent: intent.Seq, Summary: "labelled",
			Outcome: timeline.OutcomeDone, Data: record.Verbatim([]byte(`{"before": {"app": "backend"}}`))})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func verify(t *testing.T, path string) timeline.Report {
	t.Helper()
	r, err := timeline.Verify(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func writeFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAppendFillsWhatTheCallerDoesNotKnow(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "timeline.jsonl"))
	first := appendTo(t, l, timeline.Entry{Kind: timeline.KindOpened, Summary: "x", Seq: 99, Incident: "forged",
		Prev: "forged"})
	second := appendTo(t, l, timeline.Entry{Kind: timeline.KindNote, Summary: "y",
		Actor: timeline.Actor{Identity: "system:admin", OSUser: "bob"}})

	if first.Seq != 1 || second.Seq != 2 {
		t.Errorf("seq %d, %d; want 1, 2", first.Seq, second.Seq)
	}
	if first.Incident != incident || first.Time.Location() != time.UTC || first.Time.IsZero() {
		t.Errorf("incident %q, time %v", first.Incident, first.Time)
	}
	if first.Actor != actor {
		t.Errorf("actor %+v, want the log's %+v", first.Actor, actor)
	}
	if want := (timeline.Actor{OSUser: "bob", Host: "bastion", Identity: "system:admin",
		PID: 42}); second.Actor != want {
		t.Errorf("actor %+v, want %+v", second.Actor, want)
	}
	if l.Head().Seq != 2 {
		t.Errorf("head %+v", l.Head())
	}
}

func TestWhatWasAppendedIsWhatIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "timeline.jsonl")
	l := open(t, path)
	hostile := timeline.Entry{
		Kind: timeline.KindIntent, Phase: "contain", Step: "s", Action: "a<b>&c",
		Object:  &timeline.Object{Kind: "Pod", Name: "evil\xff\x1b[2J\u009b2J\u202e", Namespace: "n"},
		Targets: []string{"n/\xc3\x28", "n/ok"},
		Summary: "line\nbreak \u2028 \U000E0041 \x7f",
		Command: `kubectl label pod x 'quarantine=true' > /dev/null && echo "ok"`,
		Data:    record.Verbatim([]byte("{\n  \"b\": [1, 2.50, \"\xff\u009b\"]\n}")),
		Error:   "e", DurationMS: 12,
	}
	appended := []timeline.Entry{appendTo(t, l, hostile)}
	appended = append(appended, appendTo(t, l, timeline.Entry{Kind: timeline.KindOutcome, Intent: 1,
		Outcome: timeline.OutcomeFailed}))

	read, err := timeline.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(appended, read); diff != "" {
		t.Errorf("read differs from what Append returned:\n%s", diff)
	}
	if diff := cmp.Diff(appended, l.Entries()); diff != "" {
		t.Errorf("Entries differs from what Append returned:\n%s", diff)
	}
	for i, b := range readFile(t, path) {
		if b != '\n' && (b < ' ' || b == 0x7f) {
			t.Errorf("byte %d of the file is the control character %#x", i, b)
		}
	}
	for _, r := range string(readFile(t, path)) {
		if strings.ContainsRune("\u009b\u202e\u2028\U000E0041", r) {
			t.Errorf("the file holds %U as it is", r)
		}
	}
	if !bytes.Contains(readFile(t, path), []byte(`> /dev/null && echo`)) {
		t.Error("a command is not readable in the file")
	}
}

func TestAppendedEntrySharesNothingWithTheCaller(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "timeline.jsonl"))
	raw := []byte(`{"a":1}`)
	e := timeline.Entry{Kind: timeline.KindNote, Object: &timeline.Object{Kind: "Pod", Name: "a"},
		Targets: []string{"n/a"}, Data: record.Verbatim(raw)}
	appendTo(t, l, e)
	e.Object.Name, e.Targets[0] = "changed", "changed"
	copy(raw, `{"b":2}`)
	got := l.Entries()[0]
	if got.Object.Name != "a" || got.Targets[0] != "n/a" || got.Data.String() != `{"a":1}` {
		t.Errorf("the recorded entry changed: %+v", got)
	}
}

func TestAppendRefuses(t *testing.T) {
	tests := map[string]struct {
		entry timeline.Entry
		want  error
	}{
		"no kind":                {timeline.Entry{}, timeline.ErrInvalid},
		"unknown kind":           {timeline.Entry{Kind: "surprise"}, timeline.ErrInvalid},
		"outcome without result": {timeline.Entry{Kind: timeline.KindOutcome, Intent: 2}, timeline.ErrInvalid},
		"outcome with unknown result": {timeline.Entry{Kind: timeline.KindOutcome, Intent: 2, Outcome: "fine"},
			timeline.ErrInvalid},
		"outcome of nothing": {timeline.Entry{Kind: timeline.KindOutcome, Outcome: timeline.OutcomeDone},
			timeline.ErrInvalid},
		"outcome of a later entry": {timeline.Entry{Kind: timeline.KindOutcome, Intent: 9,
			Outcome: timeline.OutcomeDone}, timeline.ErrInvalid},
		"outcome of what is no intent": {timeline.Entry{Kind: timeline.KindOutcome, Intent: 1,
			Outcome: timeline.OutcomeDone}, timeline.ErrInvalid},
		"verdict without result":    {timeline.Entry{Kind: timeline.KindVerdict}, timeline.ErrInvalid},
		"note that answers":         {timeline.Entry{Kind: timeline.KindNote, Intent: 2}, timeline.ErrInvalid},
		"note that undoes":          {timeline.Entry{Kind: timeline.KindNote, Undoes: 2}, timeline.ErrInvalid},
		"undo of what is no intent": {timeline.Entry{Kind: timeline.KindIntent, Undoes: 3}, timeline.ErrInvalid},
		"undo of an undo":           {timeline.Entry{Kind: timeline.KindIntent, Undoes: 4}, timeline.ErrInvalid},
		"data that is no JSON": {timeline.Entry{Kind: timeline.KindNote,
			Data: record.Verbatim([]byte(`{"a":`))}, timeline.ErrInvalid},
		"data that would end the line": {timeline.Entry{Kind: timeline.KindNote,
			Data: record.Verbatim([]byte("1\n{}"))}, timeline.ErrInvalid},
		"more than a line may hold": {timeline.Entry{Kind: timeline.KindNote,
			Summary: strings.Repeat("x", timeline.MaxLine)}, timeline.ErrTooLarge},
		"more than a line once escaped": {timeline.Entry{Kind: timeline.KindNote,
			Summary: strings.Repeat("\u009b", timeline.MaxLine/6)}, timeline.ErrTooLarge},
		"more than a line in its data": {timeline.Entry{Kind: timeline.KindNote,
			Data: record.Verbatim([]byte(`"` + strings.Repeat("x", timeline.MaxLine) + `"`))}, timeline.ErrTooLarge},
		"more than a line in its object": {timeline.Entry{Kind: timeline.KindNote,
			Object: &timeline.Object{Name: strings.Repeat("x", timeline.MaxLine)}}, timeline.ErrTooLarge},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := journal(t, 1)
			l := open(t, path)
			appendTo(t, l, timeline.Entry{Kind: timeline.KindIntent, Undoes: 2})
			before := readFile(t, path)
			_, err := l.Append(tt.entry)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "nothing was recorded") {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if !bytes.Equal(before, readFile(t, path)) {
				t.Error("the file changed")
			}
			appendTo(t, l, timeline.Entry{Kind: timeline.KindNote, Summary: "still works"})
			if r := verify(t, path); !r.OK() {
				t.Errorf("problems: %v", r.Problems)
			}
		})
	}
}

func TestTheLargestEntryIsWrittenAndReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "timeline.jsonl")
	l := open(t, path)
	appendTo(t, l, timeline.Entry{Kind: timeline.KindNote})
	room := timeline.MaxLine - (len(readFile(t, path)) - 1)
	probe := appendTo(t, l, timeline.Entry{Kind: timeline.KindNote, Summary: strings.Repeat("x", room)})
	if _, err := l.Append(timeline.Entry{Kind: timeline.KindNote, Summary: strings.Repeat("x", room+1)}); !errors.Is(
		err, timeline.ErrTooLarge) {
		t.Errorf("one byte more: %v", err)
	}
	entries, err := timeline.Read(path)
	if err != nil || len(entries) != 2 || entries[1].Summary != probe.Summary {
		t.Errorf("read %d entries, %v", len(entries), err)
	}
}

func TestReopenedLogContinuesTheChain(t *testing.T) {
	path := journal(t, 2)
	l := open(t, path)
	if got := len(l.Entries()); got != 5 {
		t.Fatalf("%d entries after reopening, want 5", got)
	}
	if e := appendTo(t, l, timeline.Entry{Kind: timeline.KindNote}); e.Seq != 6 {
		t.Errorf("seq %d, want 6", e.Seq)
	}
	r := verify(t, path)
	if !r.OK() || r.Entries != 6 || r.Head != l.Head() || r.HeadFile == nil || *r.HeadFile != l.Head() ||
		r.Incident != incident {
		t.Errorf("report %+v", r)
	}
}

func TestOpenRefusesTheJournalOfAnotherIncident(t *testing.T) {
	_, err := timeline.Open(journal(t, 1), timeline.Options{Incident: "inc-20260102-150405-zzzz"})
	var chain *timeline.ChainError
	if !errors.As(err, &chain) || !strings.Contains(err.Error(), incident) {
		t.Errorf("error %v", err)
	}
}

func TestOpenRefusesWhatIsNoRegularFile(t *testing.T) {
	path := journal(t, 1)
	link := filepath.Join(t.TempDir(), "timeline.jsonl")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{link, t.TempDir()} {
		if _, err := timeline.Open(p, options()); err == nil {
			t.Errorf("opened %s", p)
		}
		if _, err := timeline.Read(p); err == nil {
			t.Errorf("read %s", p)
		}
	}
}

func TestConcurrentAppendsKeepTheChain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "timeline.jsonl")
	l := open(t, path)
	const writers, each = 32, 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[int64]string{}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				intent, err := l.Append(timeline.Entry{Kind: timeline.KindIntent, Summary: fmt.Sprintf("%d/%d", w, i)})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := l.Append(timeline.Entry{Kind: timeline.KindOutcome, Intent: intent.Seq,
					Outcome: timeline.OutcomeDone}); err != nil {
					t.Error(err)
				}
				mu.Lock()
				got[intent.Seq] = intent.Summary
				mu.Unlock()
				l.Entries()
				l.Head()
			}
		})
	}
	wg.Wait()
	if r := verify(t, path); !r.OK() || len(r.Warnings) > 0 || r.Entries != 2*writers*each {
		t.Errorf("report %+v", r)
	}
	entries, err := timeline.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	for seq, summary := range got {
		if entries[seq-1].Summary != summary {
			t.Errorf("seq %d is %q on disk, Append said %q", seq, entries[seq-1].Summary, summary)
		}
	}
	if pending := timeline.Pending(entries); len(got) != writers*each || len(pending) != 0 {
		t.Errorf("%d intents, %d pending", len(got), len(pending))
	}
	if diff := cmp.Diff(entries, l.Entries()); diff != "" {
		t.Errorf("memory differs from disk:\n%s", diff)
	}
}

func TestReadersNeverSeeABrokenChainWhileAWriterIsAtWork(t *testing.T) {
	path := filepath.Join(t.TempDir(), "timeline.jsonl")
	l := open(t, path)
	written := make(chan error)
	go func() {
		for range 200 {
			if _, err := l.Append(timeline.Entry{Kind: timeline.KindNote,
				Summary: strings.Repeat("x", 10_000)}); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	for {
		select {
		case err := <-written:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
		if _, err := timeline.Read(path); err != nil {
			t.Error(err)
		}
		for _, p := range verify(t, path).Problems {
			if p.Damage != timeline.Torn {
				t.Error(p)
			}
		}
	}
}

func TestAppendAfterCloseFails(t *testing.T) {
	l := open(t, journal(t, 1))
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(timeline.Entry{Kind: timeline.KindNote}); !errors.Is(err, timeline.ErrClosed) {
		t.Errorf("error %v", err)
	}
}

func TestAppendNoticesWhatHappensToTheFileUnderIt(t *testing.T) {
	tests := map[string]func(t *testing.T, path string){
		"removed": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"replaced": func(t *testing.T, path string) {
			text := readFile(t, path)
			writeFile(t, path+".new", text)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		},
		"written to": func(t *testing.T, path string) { writeFile(t, path, append(readFile(t, path), "x\n"...)) },
		"made shorter": func(t *testing.T, path string) {
			if err := os.Truncate(path, 10); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, interfere := range tests {
		t.Run(name, func(t *testing.T) {
			path := journal(t, 1)
			l := open(t, path)
			interfere(t, path)
			if _, err := l.Append(timeline.Entry{Kind: timeline.KindNote}); err == nil {
				t.Error("Append says that it recorded the entry")
			}
		})
	}
}

// TestRecipeOfTheDocumentation runs the shell commands of the package comment.
func TestRecipeOfTheDocumentation(t *testing.T) {
	if _, err := exec.LookPath("sha256sum"); err != nil {
		t.Skip("sha256sum is not installed")
	}
	const recipe = `
want=$(printf 'irctl timeline v1 %s' "$id" | sha256sum | cut -d' ' -f1)
while IFS= read -r line; do
  case $line in
    *"\"prev\":\"$want\"}") ;;
    *) echo "broken here: $line"; break ;;
  esac
  want=$(printf '%s' "$line" | sha256sum | cut -d' ' -f1)
done <timeline.jsonl
echo "$want"; cat timeline.head
sed -n 2p timeline.jsonl | tr -d '\n' | sha256sum | cut -d' ' -f1
`
	doc := string(readFile(t, "doc.go"))
	for _, command := range strings.Split(strings.TrimSpace(recipe), "\n") {
		command = strings.TrimSuffix(strings.TrimSpace(command), " | cut -d' ' -f1")
		if !strings.Contains(doc, strings.Replace(command, "2p", "6p", 1)) {
			t.Errorf("the package comment does not show: %s", command)
		}
	}
	path := journal(t, 2)
	cmd := exec.Command("sh", "-c", recipe)
	cmd.Dir, cmd.Env = filepath.Dir(path), append(os.Environ(), "id="+incident)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	entries, err := timeline.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	head := verify(t, path).Head
	want := fmt.Sprintf("%s\n{\"seq\":5,\"sha256\":\"%s\"}\n%s\n", head.SHA256, head.SHA256, entries[2].Prev)
	if string(out) != want {
		t.Errorf("the shell says\n%swant\n%s", out, want)
	}
}

// TestAppendWith: of several payloads an entry has the first that it can hold.
func TestAppendWith(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "timeline.jsonl"))
	huge, small := record.Kept{Kept: make([]int64, record.Most)}, record.Kept{Kept: []int64{7}}
	for name, tt := range map[string]struct {
		payloads []any
		form     string
		fails    error
	}{
		"one":                       {[]any{small}, "kept/1", nil},
		"none":                      {[]any{nil}, "", nil},
		"one that is too large":     {[]any{huge}, "", record.ErrTooLarge},
		"a smaller one behind it":   {[]any{huge, small}, "kept/1", nil},
		"none behind it":            {[]any{huge, nil}, "", nil},
		"the first that can be had": {[]any{small, huge}, "kept/1", nil},
	} {
		before := len(l.Entries())
		e, err := l.AppendWith(timeline.Entry{Kind: timeline.KindObservation}, tt.payloads...)
		if !errors.Is(err, tt.fails) || e.Payload != tt.form || (len(l.Entries()) > before) != (tt.fails == nil) {
			t.Errorf("%s: %q, %v, %d entries more", name, e.Payload, err, len(l.Entries())-before)
		}
	}
	if _, err := l.AppendWith(timeline.Entry{Kind: timeline.KindObservation}, struct{}{}, small); err == nil {
		t.Error("what is no payload is passed over")
	}
}
