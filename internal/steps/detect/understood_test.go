package detect_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
	"irctl/internal/steps/detect"
)

const (
	anAlert = `{"rule":"r","priority":"Critical","time":"2026-02-12T09:26:00Z","output_fields":{"k8s.ns.name":"shop",` +
		`"k8s.pod.name":"cart-1"}}` + "\n"
	anEvent = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","stage":"ResponseComplete","verb":"list",` +
		`"user":{"username":"jane"},` +
		`"objectRef":{"resource":"pods"},"requestReceivedTimestamp":"2026-02-12T09:30:37Z"}` + "\n"
)

// counted counts the bytes that are read.
type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// What of a source is not understood is a gap.
func TestWhatIsNotUnderstoodIsAGap(t *testing.T) {
	for name, c := range map[string]struct {
		source detect.Source
		text   string
		gap    string // "": none
	}{
		"alerts":      {detect.SourceFalco, anAlert, ""},
		"events":      {detect.SourceAudit, anEvent, ""},
		"nothing":     {detect.SourceFalco, "", "it.log is empty"},
		"blank lines": {detect.SourceAudit, "\n \n", "it.log is empty"},
		"other text": {detect.SourceFalco, "root:x:0\nbin:x:1\n",
			"nothing of it.log was understood: 2 lines"},
		"events as alerts": {detect.SourceFalco, anEvent,
			"nothing of it.log was understood: 1 line, and the first: it is no alert of Falco"},
		"alerts as events": {detect.SourceAudit, anAlert,
			"nothing of it.log was understood: 1 line, and the first: it is no event"},
		"an array": {detect.SourceFalco, "[" + strings.TrimSpace(anAlert) + "]",
			"nothing of it.log was understood: 1 line"},
		"alerts after other text": {detect.SourceFalco, "Falco initialized\n" + anAlert,
			"1 of 2 lines of it.log were not understood; the first: reading an alert"},
		"gzip": {detect.SourceAudit, "\x1f\x8b\x08\x00\n\n",
			"it is compressed with gzip: give it uncompressed, as from zcat"},
		"zstd":                    {detect.SourceAudit, "\x28\xb5\x2f\xfd", "compressed with zstd"},
		"UTF-16":                  {detect.SourceAudit, "\xff\xfe{\x00\"\x00", "it is in UTF-16: convert it to UTF-8"},
		"UTF-16 without its mark": {detect.SourceFalco, "{\x00\"\x00", "it is no text"},
		"compressed, cut in lines": {detect.SourceFalco, "\x1f\x8b\n" + strings.Repeat("x\n", 1<<21),
			"compressed with gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			text := &counted{Reader: strings.NewReader(c.text)}
			res, err := detect.Find(t.Context(),
				detect.Request{Inputs: []detect.Input{{Source: c.source, Path: "it.log", Reader: text}}})
			if err != nil || res.Err() != nil {
				t.Fatal(err, res.Err())
			}
			switch {
			case c.gap == "" && len(res.Gaps) == 0:
			case c.gap == "" || len(res.Gaps) != 1 || !strings.Contains(res.Gaps[0].Text, c.gap) ||
				res.Gaps[0].Check != string(c.source) || res.Gaps[0].Err() == nil:
				t.Errorf("gaps: %+v, expected %q", res.Gaps, c.gap)
			}
			if text.n > detect.MaxLine {
				t.Errorf("%d bytes were read of what is no text", text.n)
			}
		})
	}
}

// A look that is interrupted is no look. One that was taken before stands.
func TestAnInterruptedLookIsNone(t *testing.T) {
	w := newWorld(t)
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	res, err := detect.Watch(stopped, detect.Request{Client: w.client},
		detect.Watching{Every: time.Hour, Found: func(detect.Finding) {}, Noticed: func(string) {}})
	if err != nil || len(res.Gaps) == 0 {
		t.Errorf("interrupted in the first look: %v, gaps %+v", err, res.Gaps)
	}
	r := detect.NewRun(detect.Request{Client: w.client}, nil)
	if err := errors.Join(r.LookOnce(t.Context()), r.LookOnce(stopped)); err != nil {
		t.Fatal(err)
	}
	if res := r.Result(); len(res.Gaps) != 0 {
		t.Errorf("interrupted in the second look: gaps %+v", res.Gaps)
	}
}

func TestAnInputThatIsNotReadToItsEndIsAGap(t *testing.T) {
	never, _ := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	r := detect.NewRun(detect.Request{Inputs: []detect.Input{{Source: detect.SourceFalco, Path: "it.log",
		Reader: never}}}, nil)
	cancel()
	r.ReadInputs(ctx)
	if res := r.Result(); len(res.Gaps) != 1 || !strings.Contains(res.Gaps[0].Text, "it.log was not read to its end") {
		t.Errorf("gaps: %+v", res.Gaps)
	}
}

// An empty source that is waited for is judged at the end, and so is a listener
// to which nothing came.
func TestWhatIsWaitedForIsJudgedAtTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	res, err := detect.Watch(ctx, detect.Request{Inputs: []detect.Input{{Source: detect.SourceFalco, Path: "it.log",
		Reader: strings.NewReader("")}}},
		detect.Watching{Every: time.Hour, Listener: &detect.Listener{Now: time.Now}, Address: "127.0.0.1:0",
			Found: func(detect.Finding) {},
			Noticed: func(text string) {
				if strings.Contains(text, "empty") {
					t.Errorf("judged before the end: %s", text)
				}
				cancel() // it listens
			}})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, g := range res.Gaps {
		texts = append(texts, g.Text)
	}
	if got := strings.Join(texts, "; "); got != "it.log is empty; no alert came to 127.0.0.1:0" {
		t.Errorf("gaps: %s", got)
	}
}

func TestANamespaceThatDoesNotExistIsAnError(t *testing.T) {
	w := newWorld(t)
	req := detect.Request{Client: w.client, Namespace: "todo-ap",
		Inputs: []detect.Input{{Source: detect.SourceFalco, Path: "it.log", Reader: strings.NewReader(anAlert)}}}
	_, err := detect.Find(t.Context(), req)
	var none *cluster.NoNamespaceError
	if !errors.As(err, &none) || len(none.Near) == 0 || none.Near[0] != "todo-app" {
		t.Errorf("error %v", err)
	}
	// Who may not read namespaces is told of what else could not be read.
	w.Deny(sim.Rule{Verb: "get", Resource: "namespaces"})
	if _, err := detect.Find(t.Context(), req); err != nil {
		t.Errorf("error %v", err)
	}
}
