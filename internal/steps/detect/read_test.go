package detect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares what was found with a file that is reviewed like code.
func golden(t *testing.T, name string, got any) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(got); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s differs (-update rewrites it); got\n%s", path, b.Bytes())
	}
}

// find reads inputs without a cluster. The alerts as they came are left out:
// they are the fixtures.
func find(t *testing.T, req Request) *Result {
	t.Helper()
	res, err := Find(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for i := range res.Suspects {
		for j := range res.Suspects[i].Findings {
			f := &res.Suspects[i].Findings[j]
			if len(f.Alert) == 0 && f.Source != SourceCluster {
				t.Errorf("%s of %s has no alert", f.Code, res.Suspects[i].Name)
			}
			f.Alert = nil
		}
	}
	return res
}

func TestFalcoAlerts(t *testing.T) {
	golden(t, "falco.golden.json", find(t,
		Request{Inputs: []Input{{Source: SourceFalco, Path: "testdata/falco.jsonl"}}}))
}

func TestAuditLog(t *testing.T) {
	golden(t, "audit.golden.json", find(t,
		Request{Inputs: []Input{{Source: SourceAudit, Path: "testdata/audit.jsonl"}}}))
}

func TestAnAlertKeepsItsZone(t *testing.T) {
	f, err := parseFalco([]byte(`{"rule":"x","priority":"Warning","time":"2026-02-12T10:32:00.25+01:00"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.FirstSeen.MarshalText(); err != nil || string(got) != "2026-02-12T10:32:00.25+01:00" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestOldAlertsAreLeftOut(t *testing.T) {
	since := time.Date(2026, 2, 12, 9, 33, 0, 0, time.UTC)
	res := find(t, Request{AlertsSince: since, Inputs: []Input{{Source: SourceFalco, Path: "testdata/falco.jsonl"}}})
	if res.Sources[0].Old != 5 {
		t.Errorf("%d are old", res.Sources[0].Old)
	}
	for _, s := range res.Suspects {
		if s.FirstSeen.Before(since) {
			t.Errorf("%s is from %v", s.Name, s.FirstSeen)
		}
	}
}

func TestOnlyTheNamespaceThatIsAskedFor(t *testing.T) {
	res := find(t, Request{Namespace: "shop", Inputs: []Input{{Source: SourceAudit, Path: "testdata/audit.jsonl"},
		{Source: SourceFalco, Path: "testdata/falco.jsonl"}}})
	if len(res.Suspects) == 0 {
		t.Error("nobody is suspect")
	}
	for _, s := range res.Suspects {
		if s.Subject.Namespace != "shop" {
			t.Errorf("%s %s is of another", s.Kind, s.Name)
		}
	}
}

func TestAnInputThatCannotBeReadIsNamedAndTheOthersAreRead(t *testing.T) {
	res := find(t, Request{Inputs: []Input{{Source: SourceFalco, Path: "testdata/no-such-file"},
		{Source: SourceFalco, Path: "testdata/falco.jsonl"}}})
	if err := res.Err(); err == nil || !strings.Contains(err.Error(), "no-such-file") {
		t.Errorf("the error is %v", err)
	}
	if len(res.Suspects) == 0 {
		t.Error("the other input was not read")
	}
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 3*MaxLine)
	type line struct {
		text  string
		whole bool
	}
	for name, tt := range map[string]struct {
		in   string
		want []line
	}{
		"nothing":               {"", nil},
		"empty lines":           {"\n\n \r\n", nil},
		"with and without end":  {"a\nb", []line{{"a", true}, {"b", true}}},
		"carriage returns":      {"a\r\nb\r\n", []line{{"a", true}, {"b", true}}},
		"too long":              {"a\n" + long + "\nb\n", []line{{"a", true}, {long[:MaxLine], false}, {"b", true}}},
		"too long, without end": {long, []line{{long[:MaxLine], false}}},
		"as long as can be":     {long[:MaxLine-1] + "\nb", []line{{long[:MaxLine-1], true}, {"b", true}}},
		"one more than can be":  {long[:MaxLine] + "\nb", []line{{long[:MaxLine], false}, {"b", true}}},
		"two that are too long": {long + "\n" + long + "\nc",
			[]line{{long[:MaxLine], false}, {long[:MaxLine], false}, {"c", true}}},
		"an end within the rest": {long + "\nb\n" + long,
			[]line{{long[:MaxLine], false}, {"b", true}, {long[:MaxLine], false}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newLineReader(strings.NewReader(tt.in))
			for i := 0; ; i++ {
				got, whole, err := r.next()
				if errors.Is(err, io.EOF) {
					if i != len(tt.want) {
						t.Errorf("%d lines, want %d", i, len(tt.want))
					}
					return
				}
				if err != nil || i >= len(tt.want) || string(got) != tt.want[i].text || whole != tt.want[i].whole {
					t.Fatalf("line %d: %d bytes, whole %v, %v", i, len(got), whole, err)
				}
			}
		})
	}
}

func TestASourceThatNeverEndsDoes(t *testing.T) {
	r := newLineReader(strings.NewReader(strings.Repeat("line\n", 100)))
	r.max = 50
	n := 0
	var err error
	for err == nil {
		_, _, err = r.next()
		n++
	}
	if !errors.Is(err, errTooMuch) || n > 15 {
		t.Errorf("after %d lines: %v", n, err)
	}
}

// endless repeats a text for so many bytes.
type endless struct {
	text []byte
	left int64
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := copy(p, e.text[e.at:])
	e.at = (e.at + n) % len(e.text)
	e.left -= int64(n)
	return n, nil
}

func TestMemoryDoesNotDependOnTheLengthOfALog(t *testing.T) {
	text, err := os.ReadFile("testdata/audit.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	size := int64(128 << 20)
	if testing.Short() {
		size = 32 << 20
	}
	defer debug.SetGCPercent(debug.SetGCPercent(100)) // as irctl runs, whatever GOGC the tests have
	peak := uint64(0)
	stop := make(chan struct{})
	sampled := make(chan struct{})
	go func() {
		defer close(sampled)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapInuse)
			}
		}
	}()
	res, err := Find(t.Context(),
		Request{Inputs: []Input{{Source: SourceAudit, Path: "log", Reader: &endless{text: text, left: size}}}})
	close(stop)
	<-sampled
	if err != nil || len(res.Suspects) == 0 {
		t.Fatalf("%v, %d suspects", err, len(res.Suspects))
	}
	t.Logf("%d MiB, %d lines; heap at most %d MiB", size>>20, res.Sources[0].Lines, peak>>20)
	if peak > 100<<20 {
		t.Errorf("the heap grew to %d MiB", peak>>20)
	}
}

func TestReadingStopsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	never, w := io.Pipe()
	defer func() { _ = w.Close() }()
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := Find(ctx, Request{Inputs: []Input{{Source: SourceAudit, Path: "a terminal",
		Reader: never}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func FuzzFalco(f *testing.F) {
	text, err := os.ReadFile("testdata/falco.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		finding, err := parseFalco(line)
		if err != nil {
			return
		}
		if finding.Code == "" || finding.Reason == "" || finding.Score <= 0 {
			t.Errorf("%q became %+v", line, finding)
		}
		keep(t, finding)
	})
}

func FuzzAudit(f *testing.F) {
	text, err := os.ReadFile("testdata/audit.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		f.Add(line, true)
		f.Add(line[:len(line)/2], false)
	}
	f.Fuzz(func(t *testing.T, line []byte, whole bool) {
		// malformed ones are counted
		_ = newAuditReader(Inside).parse(line, whole, func(finding Finding) { keep(t, finding) })
	})
}

// keep takes a finding through all that is done with one.
func keep(t *testing.T, f Finding) {
	t.Helper()
	tally := NewTally()
	tally.Add(f)
	tally.Add(f)
	suspects := Rank(tally.Findings())
	if len(suspects) != 1 || suspects[0].Findings[0].Count != 2 {
		t.Fatalf("%+v is %+v", f, suspects)
	}
	text, err := json.Marshal(suspects)
	if err != nil {
		t.Fatalf("%+v: %v", f, err)
	}
	if len(text) > 64<<10 {
		t.Errorf("a finding of %d bytes", len(text))
	}
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte(`{"a": "b\\\"", "c": [1, {"d": null}], "e": -1.5e3, "f": {}}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"a":`))
	f.Fuzz(func(t *testing.T, line []byte) {
		got := map[string]string{}
		err := members(line, func(name, value []byte) {
			var key string
			if json.Unmarshal(append(append([]byte{'"'}, name...), '"'), &key) == nil {
				got[key] = string(value)
			}
		})
		var want map[string]json.RawMessage
		if json.Unmarshal(line, &want) != nil || want == nil {
			return // more lenient it may be
		}
		if err != nil || len(got) != len(want) {
			t.Fatalf("%q: %v, %q", line, err, got)
		}
		for k, v := range want {
			if got[k] != string(v) {
				t.Errorf("%q: %q is %q, not %q", line, k, got[k], v)
			}
		}
	})
}

// BenchmarkAuditLog reads what an API server writes most of: requests that are
// of no interest.
func BenchmarkAuditLog(b *testing.B) {
	text := bench(b)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Find(b.Context(),
			Request{Inputs: []Input{{Source: SourceAudit, Path: "log", Reader: bytes.NewReader(text)}}}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecoding is what it would take to decode every line instead.
func BenchmarkDecoding(b *testing.B) {
	text := bench(b)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		for line := range bytes.Lines(text) {
			var e auditEvent
			if err := json.Unmarshal(line, &e); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func bench(b *testing.B) []byte {
	b.Helper()
	line := `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request",` +
		`"auditID":"94b71d2e-0e7b-4a38-a202-ca02a26cd6bf","stage":"ResponseComplete",` +
		`"requestURI":"/api/v1/namespaces/todo-app/pods/backend-1/status","verb":"patch",` +
		`"user":{"username":"system:node:node-1","uid":"system:node:node-1","groups":["system:nodes",` +
		`"system:authenticated"]},"sourceIPs":["10.213.0.2"],"userAgent":"kubelet/v1.37.2 (linux/amd64) ` +
		`kubernetes/unknown","objectRef":{"resource":"pods","namespace":"todo-app","name":"backend-1",` +
		`"apiVersion":"v1","subresource":"status"},"responseStatus":{"metadata":{},"code":200},` +
		`"requestObject":{"metadata":{"uid":"1e848c39-bfb0-46d1-b7be-868df7215516"},` +
		`"status":{"$setElementOrder/conditions":[{"type":"PodReadyToStartContainers"},{"type":"Initialized"},` +
		`{"type":"Ready"}],"conditions":[{"lastTransitionTime":"2026-02-12T09:20:01Z","status":"True",` +
		`"type":"Ready"}],` +
		`"containerStatuses":[{"containerID":` +
		`"containerd://90016f4ba374e5da8fb2d49954c0cf08d7642ba64eec5fa406442b6262c3c1ce",` +
		`"image":"registry.example.com/todo-backend:1.4.2","name":"backend","ready":true,"restartCount":0}]}},` +
		`"requestReceivedTimestamp":"2026-02-12T09:14:22.596878Z",` +
		`"stageTimestamp":"2026-02-12T09:14:22.622172Z","annotations":{"authorization.k8s.io/decision":"allow",` +
		`"authorization.k8s.io/reason":""}}` + "\n"
	return bytes.Repeat([]byte(line), 20_000)
}

func TestEveryCodeIsDocumented(t *testing.T) {
	docs, err := os.ReadFile("../../../docs/detect.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`(?:Code: |f\.Code,[^=\n]*= )"([a-z-]+)"|"((?:event|host)-[a-z-]+)"`)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") ||
			!strings.HasPrefix(file, "check_") && !strings.HasPrefix(file, "audit_") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range codes.FindAllSubmatch(text, -1) {
			if name := string(m[1]) + string(m[2]); name != "host-namespaces" &&
				!bytes.Contains(docs, []byte("`"+name+"`")) {
				t.Errorf("%s: the code %s is not in docs/detect.md", file, name)
			}
		}
	}
}
