package report_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/report"
	"irctl/internal/timeline"
)

// golden are the renderings, by the name of the file that each is to be like.
func golden(r *report.Report) map[string]func(io.Writer) error {
	return map[string]func(io.Writer) error{"report.md": r.Markdown, "report.html": r.HTML, "report.json": r.JSON}
}

func TestGolden(t *testing.T) {
	if *update {
		p := newPlay(t)
		p.run()
		p.keep("testdata/state")
	}
	for name, write := range golden(report.New(fixture(t))) {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := write(&got); err != nil {
				t.Fatal(err)
			}
			path := "testdata/" + name
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("run with -update if this is meant (-want +got):\n%s", diff)
			}
		})
	}
}

// TestARealRun: what the engine writes today is understood, whatever its
// words are; the golden files are of a run that was kept.
func TestARealRun(t *testing.T) {
	p := newPlay(t)
	p.run()
	r := report.New(read(t, p.dir))
	if r.Chain.State != report.Verified || !r.Chain.EndKnown {
		t.Errorf("chain %+v", r.Chain)
	}
	var outcomes []string
	for _, a := range r.Actions {
		if a.Command == "" || a.Object == "" || len(a.Targets) != 1 || a.Standing {
			t.Errorf("action %+v", a)
		}
		state := "-"
		if a.Undo != nil {
			state = string(a.Undo.State)
		}
		outcomes = append(outcomes, fmt.Sprintf("%s %s %s", a.Step, a.Outcome, state))
	}
	if diff := cmp.Diff([]string{"quarantine done undone", "detach done undone", "scale denied -", "scale done undone"},
		outcomes); diff != "" {
		t.Error(diff)
	}
	var deviations []string
	for _, d := range r.Deviations {
		deviations = append(deviations, string(d.Outcome))
	}
	// No snapshot, no scaling, and so not contained; put back, and so not contained; an undo in whose way somebody was.
	if diff := cmp.Diff([]string{"failed", "denied", "failed", "failed", "refused"}, deviations); diff != "" {
		t.Error(diff)
	}
	gone, left := 0, 0
	for _, x := range r.Exposures {
		switch {
		case !x.Open() && x.Severity == "unmet" && x.GoneBy.After(x.LastSeen):
			gone++
		case x.Open() && x.LastSeen.After(x.FirstSeen):
			left++
		default:
			t.Errorf("exposure %+v", x)
		}
	}
	if gone == 0 || left == 0 || len(r.PutBack) == 0 || len(r.Evidence) != 1 ||
		r.Evidence[0].File != "snapshot-20260212T083420Z.tar.gz.gpg" {
		t.Errorf("%d exposures gone, %d left, put back %v, evidence %+v", gone, left, r.PutBack, r.Evidence)
	}
	known := map[string]bool{}
	for _, d := range r.Durations {
		known[d.Name] = d.Seconds != nil
	}
	if diff := cmp.Diff(map[string]bool{"detect": true, "acknowledge": true, "contain": true, "eradicate": false,
		"recover": true}, known); diff != "" {
		t.Error(diff)
	}
}

func TestABrokenChainIsSaidAtTheTop(t *testing.T) {
	for name, tt := range map[string]struct {
		damage func(lines []string) []string
		state  string
		used   int
	}{
		"edited": {func(l []string) []string {
			l[9] = strings.Replace(l[9], "sev2", "sev4", 1)
			return l
		}, report.Broken, 9},
		"deleted": {func(l []string) []string { return append(l[:4], l[5:]...) }, report.Broken, 4},
		"cut off": {func(l []string) []string { return l[:20] }, report.Broken, 20},
		"of another incident": {func(l []string) []string {
			for i := range l {
				l[i] = strings.ReplaceAll(l[i], string(fixtureID), "inc-20260212-083000-evil")
			}
			return l
		}, report.Broken, 0},
		"torn": {func(l []string) []string { l[len(l)-1] += `{"seq":`; return l }, report.Torn, 32},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			if err := os.CopyFS(dir, os.DirFS("testdata/state")); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "incidents", string(fixtureID), "timeline.jsonl")
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines := tt.damage(strings.SplitAfter(strings.TrimSuffix(string(text), "\n")+"\n", "\n")[:32])
			if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
				t.Fatal(err)
			}
			in := read(t, dir)
			r := report.New(in)
			if r.Chain.State != tt.state || r.Chain.Used != tt.used || len(in.Entries) != tt.used ||
				len(r.Chain.Problems) == 0 {
				t.Errorf("%s, %d entries used, problems %v", r.Chain.State, r.Chain.Used, r.Chain.Problems)
			}
			for name, text := range render(t, in) {
				word := map[string]string{report.Broken: "is broken", report.Torn: "is torn"}[tt.state]
				if top, _, _ := strings.Cut(text, "opened at"); name != "report.json" && !strings.Contains(top, word) {
					t.Errorf("%s does not begin with it", name)
				}
			}
		})
	}
}

func TestTimesThatAreNotKnown(t *testing.T) {
	at := time.Date(2026, 2, 12, 8, 30, 0, 0, time.UTC)
	opened := timeline.Entry{Seq: 1, Time: at, Kind: timeline.KindOpened}
	contained := timeline.Entry{Seq: 2, Time: at.Add(time.Minute), Kind: timeline.KindVerdict, Phase: "contain",
		Outcome: timeline.OutcomeDone}
	later := timeline.Entry{Seq: 3, Time: at.Add(time.Hour), Kind: timeline.KindChanged,
		Data: record.Verbatim([]byte(`{"key":"detected","after":"2026-02-12T09:00:00Z"}`))}
	for name, tt := range map[string]struct {
		entries []timeline.Entry
		want    []string
	}{
		"nothing": {nil, []string{"detect: not known", "acknowledge: not known", "contain: not known",
			"eradicate: not known", "recover: not known"}},
		"opened by hand": {[]timeline.Entry{opened, contained}, []string{"detect: not known", "acknowledge: not known",
			"contain: 1 min", "eradicate: not known", "recover: not known"}},
		// Somebody mistyped; a negative time would be a lie, and so would zero.
		"contradictory": {[]timeline.Entry{opened, contained, later},
			[]string{"detect: not known", "acknowledge: not known", "contain: not known", "eradicate: not known",
				"recover: not known"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, d := range report.New(report.Input{Entries: tt.entries}).Durations {
				got = append(got, d.Name+": "+d.Text())
				if d.Seconds == nil && d.Note == "" {
					t.Errorf("why is %s not known?", d.Name)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What a later verdict, or a watch, takes back has not happened: the summary does not
// say it of the phase, and no time to it is told.
func TestWhatALaterLookTakesBack(t *testing.T) {
	t.Parallel()
	verdict := func(phase string, outcome timeline.Outcome, summary string, payload any) timeline.Entry {
		return carry(t, timeline.Entry{Kind: timeline.KindVerdict, Phase: phase, Outcome: outcome, Summary: summary},
			payload)
	}
	contained := func(v record.Verdict, outcome timeline.Outcome) timeline.Entry {
		return verdict("contain", outcome, string(v)+": a/p", record.Assessment{Verdict: v})
	}
	recovered := verdict("recover", timeline.OutcomeDone, "recovered: 3 checks", record.Recovery{Verdict: "recovered"})
	eradicated := verdict("eradicate", timeline.OutcomeDone, "eradicated: 2 of 2", record.Eradication{})
	not := verdict("eradicate", timeline.OutcomeFailed, "not eradicated: 1 of 2", record.Eradication{})
	phaseEnd := func(outcome timeline.Outcome, summary string) timeline.Entry {
		return verdict("eradicate", outcome, summary,
			record.Run{Event: record.RunEvent{Event: "phase-ended", Phase: "eradicate"}})
	}
	watch := func(hits ...record.Hit) timeline.Entry {
		at := time.Date(2026, 2, 12, 9, 0, 0, 0, time.UTC)
		return carry(t, timeline.Entry{Kind: timeline.KindObservation, Phase: "recover", Step: "monitor",
			Action: "ended"},
			record.Watched{From: at, Until: at, Hits: hits})
	}
	sign := record.Hit{Code: "image", Text: "a pod runs the suspects' image"}
	for name, tt := range map[string]struct {
		entries []timeline.Entry
		known   string // the durations that are
		says    string
		not     string
	}{
		"recovered":              {[]timeline.Entry{recovered}, "recover", "It was recovered", "sign"},
		"recovered, and a watch": {[]timeline.Entry{recovered, watch()}, "recover", "It was recovered", "sign"},
		"recovered, and a return": {[]timeline.Entry{recovered, watch(sign)}, "",
			"saw 1 sign of the attacker's return, such as: a pod runs", "It was recovered"},
		"a return, and recovered": {[]timeline.Entry{recovered, watch(sign), recovered}, "recover",
			"It was recovered", "sign"},
		"eradicated": {[]timeline.Entry{eradicated}, "eradicate", "It was eradicated",
			"not eradicated"},
		"eradicated, then not": {[]timeline.Entry{eradicated, not}, "", "not eradicated: 1 of 2",
			"It was eradicated"},
		"not, then eradicated": {[]timeline.Entry{not, eradicated}, "eradicate", "It was eradicated",
			"not eradicated"},
		"a step of the runbook skipped": {[]timeline.Entry{eradicated,
			phaseEnd(timeline.OutcomeFailed, "eradicate: not all is done: deactivate")}, "",
			"not all is done: deactivate", "It was eradicated"},
		"all steps done, and not eradicated": {[]timeline.Entry{not,
			phaseEnd(timeline.OutcomeDone, "eradicate: all steps of the runbook are done")},
			"", "not eradicated: 1 of 2", "It was eradicated"},
		"all steps done": {[]timeline.Entry{phaseEnd(timeline.OutcomeDone,
			"eradicate: all steps of the runbook are done")}, "eradicate", "It was eradicated", ""},
		"contained": {[]timeline.Entry{contained(record.Contained, timeline.OutcomeDone)}, "contain",
			"contained. It took", "had been"},
		"not contained": {[]timeline.Entry{contained(record.NotContained, timeline.OutcomeFailed)}, "",
			"not contained.", "It took"},
		"contained, then not": {[]timeline.Entry{contained(record.Contained, timeline.OutcomeDone),
			contained(record.NotContained, timeline.OutcomeFailed)},
			"", "not contained.", "It took"},
		"contained, then could not tell": {[]timeline.Entry{contained(record.Contained, timeline.OutcomeDone),
			contained(record.Undetermined, timeline.OutcomeUnknown)},
			"contain", "could not tell. It had been contained", "It took"},
	} {
		t.Run(name, func(t *testing.T) {
			entries := append([]timeline.Entry{{Kind: timeline.KindObservation, Phase: "detect"},
				{Kind: timeline.KindOpened},
				{Kind: timeline.KindIntent, Phase: "contain", Step: "detach", Action: "detach"},
				{Kind: timeline.KindOutcome, Intent: 3, Outcome: timeline.OutcomeDone}}, tt.entries...)
			for i := range entries {
				entries[i].Seq, entries[i].Time = int64(i+1), time.Date(2026, 2, 12, 8, i, 0, 0, time.UTC)
			}
			r := report.New(report.Input{Entries: entries})
			var known []string
			for _, d := range r.Durations {
				if d.Seconds != nil && d.Name != "acknowledge" {
					known = append(known, d.Name)
				}
			}
			text := fmt.Sprint(r.Summary)
			if strings.Join(known, " ") != tt.known || !strings.Contains(text, tt.says) ||
				tt.not != "" && strings.Contains(text, tt.not) {
				t.Errorf("known: %q, and it says: %s", known, text)
			}
		})
	}
}

// carry is an entry with a payload.
func carry(t *testing.T, e timeline.Entry, payload any) timeline.Entry {
	t.Helper()
	e, err := e.With(payload)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestExposuresComeAndGo(t *testing.T) {
	at := time.Date(2026, 2, 12, 8, 0, 0, 0, time.UTC)
	verdict := func(minute int, data string) timeline.Entry {
		return timeline.Entry{Seq: int64(minute), Time: at.Add(time.Duration(minute) * time.Minute),
			Kind: timeline.KindVerdict, Phase: "contain", Outcome: timeline.OutcomeDone,
			Data: record.Verbatim([]byte(data))}
	}
	of := func(pod string, texts ...string) string {
		var list []string
		for _, text := range texts {
			list = append(list, `{"code":"c","severity":"risk","text":"`+text+`"}`)
		}
		return `{"verdict":"x","targets":[{"namespace":"n","pod":"` + pod + `","uid":"` + pod + `","exposures":[` +
			strings.Join(list, ",") + `]}]}`
	}
	r := report.New(report.Input{Entries: []timeline.Entry{
		verdict(1, of("p", "a", "b", "a")), verdict(2, of("q", "a")), verdict(3, of("p", "b")),
		verdict(4, `{"verdict":"x","targets":1,"cut":true}`), verdict(5, `garbage`), verdict(6, of("p", "a")),
	}})
	var got []string
	for _, x := range r.Exposures {
		minute := func(t time.Time) int { return int(t.Sub(at).Minutes()) }
		text := fmt.Sprintf("%s %s %d-%d", x.Target, x.Text, minute(x.FirstSeen), minute(x.LastSeen))
		if !x.Open() {
			text += fmt.Sprintf(" gone %d", minute(x.GoneBy))
		}
		got = append(got, text)
	}
	want := []string{"n/p a 1-1 gone 3", "n/p b 1-3 gone 6", "n/q a 2-2", "n/p a 6-6"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(r.Deviations) != 2 {
		t.Errorf("verdicts that cannot be read: %+v", r.Deviations)
	}
}

// What eradication writes into the journal: the secrets are rotated, and what is
// prepared or verified is no change to the cluster.
func TestEradicationIsTold(t *testing.T) {
	at := time.Date(2026, 2, 12, 8, 0, 0, 0, time.UTC)
	var entries []timeline.Entry
	add := func(e timeline.Entry) int64 {
		e.Seq, e.Time = int64(len(entries)+1), at.Add(time.Duration(len(entries))*time.Second)
		entries = append(entries, e)
		return e.Seq
	}
	step := func(name, object string, outcome timeline.Outcome) {
		e := timeline.Entry{Phase: "eradicate", Step: name, Action: name, Summary: name + " " + object,
			Command: "(by irctl alone)",
			Object:  &timeline.Object{Kind: "Secret", Namespace: "n", Name: object}, Final: true}
		e.Kind = timeline.KindIntent
		e.Intent = add(e)
		e.Kind, e.Outcome = timeline.KindOutcome, outcome
		add(e)
	}
	add(timeline.Entry{Kind: timeline.KindOpened})
	add(timeline.Entry{Kind: timeline.KindObservation, Outcome: timeline.OutcomeSkipped, Summary: "passed over",
		Data: record.Verbatim([]byte(`{"run":{"event":"step-ended","notNeeded":true}}`))})
	add(timeline.Entry{Kind: timeline.KindObservation, Outcome: timeline.OutcomeSkipped, Summary: "left out",
		Data: record.Verbatim([]byte(`{"run":{"event":"step-ended","step":"x"}}`))})
	for _, object := range []string{"a", "b"} {
		for _, name := range []string{"new-value", "store", "update", "verify"} {
			step(name, object, timeline.OutcomeDone)
		}
	}
	step("deactivate", "a", timeline.OutcomeAlready)
	step("deactivate", "b", timeline.OutcomeFailed)

	r := report.New(report.Input{Entries: entries})

	if len(r.Rotations) != 4 {
		t.Errorf("rotations: %+v", r.Rotations)
	}
	for _, want := range []report.Text{"2 secrets replaced; of 1 the old value is worthless.",
		"4 changes to the cluster: 2 made, 1 already, 1 failed; 0 undone since, 0 still standing."} {
		if !slices.Contains(r.Summary, want) {
			t.Errorf("the summary does not say %q: %q", want, r.Summary)
		}
	}
	var strayed []string
	for _, d := range r.Deviations {
		strayed = append(strayed, string(d.What))
	}
	if diff := cmp.Diff([]string{"left out", "deactivate b"}, strayed); diff != "" {
		t.Error(diff)
	}
	if len(r.ActionItems) > 0 && strings.Contains(string(r.ActionItems[0].Text), "none is recorded") {
		t.Errorf("to be done: %+v", r.ActionItems)
	}
	var text strings.Builder
	if err := r.Markdown(&text); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text.String(), "(by irctl alone)") {
		t.Error("what is no command is in the block of commands")
	}
}

// TestDoubtsComeFirst: what the files of an incident do not tell is said before anything
// that may be less than all, in every format.
func TestDoubtsComeFirst(t *testing.T) {
	t.Parallel()
	in := read(t, filepath.Join("testdata", "state"))
	for weighs, title := range map[bool]string{true: "More may stand", false: "do not tell, or tell otherwise"} {
		in.Incident.Doubts = []incident.Doubt{{Text: "the head of its journal is lost", Weighs: weighs}}
		for name, text := range render(t, in) {
			top, _, _ := strings.Cut(text, "opened at")
			if !strings.Contains(top, "the head of its journal is lost") ||
				name != "report.json" && !strings.Contains(top, title) {
				t.Errorf("weighs %t: %s does not begin with it", weighs, name)
			}
		}
	}
	in.Incident.Doubts = nil
	closed, err := timeline.Entry{Seq: int64(len(in.Entries)) + 1, Kind: timeline.KindClosed}.With(
		record.Closing{Strays: []string{"Secret shop/copied"}, Unlooked: []string{"listing nodes: forbidden"}})
	if err != nil {
		t.Fatal(err)
	}
	in.Entries = append(in.Entries, closed)
	if r := report.New(in); len(r.Doubts) != 2 || !r.Doubts[0].Weighs || r.Doubts[1].Weighs {
		t.Errorf("%+v", r.Doubts)
	}
}
