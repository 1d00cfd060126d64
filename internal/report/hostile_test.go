package report_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/report"
	"irctl/internal/timeline"
)

// hostile are what an attacker may call a pod, or have an API server repeat.
var hostile = []string{
	"\x1b[2J\x1b]0;owned\x07", "\u009b31m", "a\nb\r\n| c | d |", "\u202egnp.exe", "\xff\xfe\x00",
	"\U000e0041\u2028\u200b",
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`,
	`</title></style></svg><script>`, `<![CDATA[x]]><!-- x -->`, `javascript:alert(1)`,
	`</text><foreignObject><iframe src="//evil.example">`, `url(https://evil.example/x)`,
	`}</style>body{background:url(//evil.example)}`,
	`{{.Incident}} {{define "x"}}{{end}} {% include "x" %} ${{ secrets.X }} <%= x %> $x^2$`, "`code` ```", "~~~",
	"| --- | --- |", "# heading", "- [x] done", "1. list", "> quote",
	`[click](https://evil.example) ![img](https://evil.example/x.png)`, "https://evil.example www.evil.example",
	"@team #1 *b* _i_ ~~s~~ <b>", "&lt;script&gt; &#64;", "\\", "\\|", "'; rm -rf / #", "%s%d%!v(MISSING)", "",
}

// dressed is an incident in which every text is s.
func dressed(s string) report.Input {
	day := time.Date(2026, 2, 12, 8, 0, 0, 0, time.UTC)
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string is always JSON
	}
	dress := func(data string) json.RawMessage {
		return json.RawMessage(strings.ReplaceAll(data, "§", string(quoted)))
	}
	verdict := dress(`{"verdict":§,"targets":[{"namespace":§,"pod":§,"uid":§,"checks":[{"code":§,"ok":false,"text":§}],
		"exposures":[{"code":§,"severity":"open","text":§,"close":§},{"code":"x","severity":§,"text":§}]}],
		"putBack":[§],"workloads":[{"code":§,"ok":false,"text":§}]}`)
	receipt := dress(
		`{"format":"irctl-receipt/1","path":§,"purpose":§,"sha256":§,"manifestSha256":§,"size":1,"recipients":[§],` +
			`"signer":§,"redactedFrom":§,"incomplete":§}`)
	base := timeline.Entry{Incident: s, Phase: s, Step: s, Action: s,
		Actor: timeline.Actor{OSUser: s, Host: s, Identity: s}, Targets: []string{s}, Summary: s, Command: s, Error: s,
		Object: &timeline.Object{Kind: s, Namespace: s, Name: s}}
	var entries []timeline.Entry
	add := func(change func(e *timeline.Entry)) {
		e := base
		e.Seq, e.Time = int64(len(entries)+1), day.Add(time.Duration(len(entries))*time.Minute)
		change(&e)
		entries = append(entries, e)
	}
	add(func(e *timeline.Entry) { e.Kind = timeline.KindOpened })
	add(func(e *timeline.Entry) { e.Kind, e.Outcome = timeline.KindObservation, timeline.OutcomeFailed })
	add(func(e *timeline.Entry) { e.Kind, e.Data = timeline.KindObservation, record.Verbatim(receipt) })
	add(func(e *timeline.Entry) { e.Kind = timeline.KindIntent })
	add(func(e *timeline.Entry) { e.Kind, e.Intent, e.Outcome = timeline.KindOutcome, 4, timeline.OutcomeDone })
	add(func(e *timeline.Entry) {
		e.Kind, e.Phase, e.Outcome, e.Data = timeline.KindVerdict, "contain", timeline.OutcomeFailed,
			record.Verbatim(verdict)
	})
	add(func(e *timeline.Entry) { e.Kind, e.Step = timeline.KindIntent, "rotate" })
	add(func(e *timeline.Entry) { e.Kind, e.Intent, e.Outcome = timeline.KindOutcome, 7, timeline.Outcome(s) })
	add(func(e *timeline.Entry) { e.Kind, e.Undoes = timeline.KindIntent, 4 })
	add(func(e *timeline.Entry) {
		e.Kind, e.Intent, e.Outcome = timeline.KindOutcome, 9, timeline.OutcomeRefused
	})
	add(func(e *timeline.Entry) { e.Kind = timeline.Kind("future" + s) })
	i := incident.Incident{ID: incident.ID(s), Title: s, Severity: incident.Severity(s), Commander: s, Impact: s,
		State: incident.StateOpen, OpenedAt: day,
		Cluster: incident.Cluster{Server: s, UID: s, Context: s}, Roles: map[string]string{s: s},
		Targets: []incident.Target{{Kind: s, Namespace: s, Name: s, UID: s,
			Owners: []incident.Owner{{Kind: s, Name: s}}}}}
	text := report.Text(s)
	return report.Input{Incident: i, Entries: entries, Now: day.Add(time.Hour), Tool: s,
		Chain: timeline.Report{Incident: s, Entries: int64(len(entries)), Head: timeline.Head{SHA256: s},
			Warnings: []string{s},
			Problems: []timeline.Problem{{Line: 99, Damage: timeline.Edited, Detail: s}}},
		Contacts: []report.Contact{{Role: text, Name: text, Email: text, Phone: text, Chat: text}}}
}

func render(t testing.TB, in report.Input) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, write := range golden(report.New(in)) {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = b.String()
	}
	return out
}

// harmless fails the test unless what s makes of a report has the structure
// of what a harmless word makes of it.
func harmless(t testing.TB, s string) {
	t.Helper()
	// Whether a text is there at all may change the structure; what it is may not.
	word := "word"
	if s == "" {
		word = ""
	}
	got, want := render(t, dressed(s)), render(t, dressed(word))
	for name, text := range got {
		for i, r := range text {
			if r != '\n' && r != ' ' && !unicode.IsPrint(r) && !(name == "report.html" && r == '\u00a0') {
				t.Fatalf("%q: %s holds %U at %d", s, name, r, i)
			}
		}
	}
	// In HTML nothing but the page itself may hold what markup is made of.
	for _, c := range []string{"<", ">", `"`, "'"} {
		if g, w := strings.Count(got["report.html"], c), strings.Count(want["report.html"], c); g != w {
			t.Errorf("%q: the page has %d of %s, not %d", s, g, c, w)
		}
	}
	markdownHarmless(t, s, got["report.md"], want["report.md"])
	var r report.Report
	if err := json.Unmarshal([]byte(got["report.json"]), &r); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	if len(r.Evidence) != 1 || len(r.Exposures) < 3 || len(r.Rotations) != 1 || len(r.PutBack) != 1 {
		t.Errorf("%q: not all of it is in the report: %+v", s, r)
	}
	if utf8.ValidString(s) && string(r.Incident.Title) != s {
		t.Errorf("%q became %q in JSON", s, r.Incident.Title)
	}
}

func markdownHarmless(t testing.TB, s, got, want string) {
	t.Helper()
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(want, "\n")
	if len(gotLines) != len(wantLines) {
		t.Fatalf("%q: %d lines of Markdown, not %d", s, len(gotLines), len(wantLines))
	}
	fence := ""
	for i, line := range gotLines {
		switch trimmed := strings.TrimSuffix(line, "sh"); {
		case fence == "" && strings.HasPrefix(line, "```") && strings.Trim(trimmed, "`") == "":
			fence = trimmed
			continue
		case fence != "" && line == fence:
			fence = ""
			continue
		case fence != "":
			if strings.Contains(line, fence) {
				t.Errorf("%q ends the block of commands: %s", s, line)
			}
			continue
		}
		for _, c := range []string{"|", "<", "`", "*", "[", "]", "{", "}", "$", "://", "@"} {
			if g, w := bare(line, c), bare(wantLines[i], c); g != w {
				t.Errorf("%q: %d bare %s, not %d, in: %s", s, g, c, w, line)
			}
		}
	}
}

// bare counts c where no backslash takes its meaning away.
func bare(line, c string) int {
	return strings.Count(strings.NewReplacer(`\\`, "", `\`+c, "").Replace(line), c)
}

func TestHostileText(t *testing.T) {
	for _, s := range hostile {
		harmless(t, s)
	}
	harmless(t, strings.Repeat("long | ", 10_000))
}

func FuzzReport(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { harmless(t, s) })
}

// FuzzJournal: whatever is in the data of an entry, a report can be made.
func FuzzJournal(f *testing.F) {
	for _, s := range []string{"", "null", "[]", `{"targets":3,"cut":true}`, `{"targets":[null],"putBack":null}`,
		`{"format":"irctl-receipt/1"}`, `{"key":"detected","after":"9999-12-31T23:59:59Z"}`,
		`{"key":"started","after":"0001-01-01T00:00:00Z"}`,
		`{"verdict":"x","targets":[{"exposures":[{"firstSeen":"2026-01-01T00:00:00Z"}]}]}`,
		`{"alertedAt":"1026-02-12T08:30:00+24:00"}`} {
		f.Add(s, int64(24), int64(1))
	}
	f.Fuzz(func(t *testing.T, data string, intent, at int64) {
		in := dressed("word")
		for n := range in.Entries {
			in.Entries[n].Data, in.Entries[n].Intent = record.Verbatim([]byte(data)), intent
			in.Entries[n].Time = time.Unix(at*int64(n)%60_000_000_000, 0) // years that a journal can hold
			if n%2 == 0 {
				in.Entries[n].Time = in.Entries[n].Time.In(time.FixedZone("", int(intent%100)*3600))
			}
			if in.Entries[n].Kind == timeline.KindOpened {
				in.Entries[n].Kind = timeline.KindChanged
			}
			if n%3 == 0 {
				in.Entries[n].Phase = "detect"
			}
		}
		render(t, in)
	})
}

func TestAnEmptyIncident(t *testing.T) {
	for name, text := range render(t, report.Input{}) {
		if !strings.Contains(text, "not known") && name != "report.json" {
			t.Errorf("%s does not say what is not known", name)
		}
	}
	var r map[string]any
	if err := json.Unmarshal([]byte(render(t, report.Input{})["report.json"]), &r); err != nil {
		t.Fatal(err)
	}
	for key, v := range r {
		if v == nil {
			t.Errorf("%s is null, not an empty list", key)
		}
	}
}

// TestAHugeIncident: the renderings take a second or two, where anything
// quadratic would take hours, and the tables that people read stay in bounds.
func TestAHugeIncident(t *testing.T) {
	in := dressed("word")
	day := in.Entries[0].Time
	for n := int64(len(in.Entries)); n < 30_000; n += 3 {
		at := day.Add(time.Duration(n) * time.Second)
		in.Entries = append(in.Entries,
			timeline.Entry{Seq: n + 1, Time: at, Kind: timeline.KindIntent, Phase: "contain", Step: "detach",
				Summary: fmt.Sprintf("detach pod-%d", n), Command: "kubectl label"},
			timeline.Entry{Seq: n + 2, Time: at, Kind: timeline.KindOutcome, Intent: n + 1,
				Outcome: timeline.OutcomeFailed, Error: "forbidden"},
			timeline.Entry{Seq: n + 3, Time: at, Kind: timeline.KindVerdict, Phase: "contain",
				Outcome: timeline.OutcomeFailed,
				Data: record.Verbatim([]byte(fmt.Sprintf(`{"verdict":"not `+
					`contained","targets":[{"namespace":"n","pod":"p%d","exposures":[{"code":"token",`+
					`"severity":"risk","text":"t%d"}]}]}`, n%500, n)))})
	}
	start := time.Now()
	out := render(t, in)
	// on a machine that has much else to do, with the race detector
	if took := time.Since(start); took > 5*time.Minute {
		t.Errorf("it took %s", took)
	}
	for name, text := range out {
		if name == "report.json" {
			continue
		}
		if !strings.Contains(text, "more are not shown") || len(text) > 64<<20 {
			t.Errorf("%s of %d bytes is not bounded", name, len(text))
		}
	}
	if rows := strings.Count(out["report.html"], "<circle"); rows > 1000 {
		t.Errorf("%d marks in the drawing", rows)
	}
}
