package casefile_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"irctl/internal/casefile"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

const phase = "contain"

var usual = []string{"quarantine", "detach", "scale"}

// play makes a journal of lines, with "; " between them. Each is one of
//
//	do STEP OBJECT OUTCOME      an action, and what came of it; STEP may be STEP:ACTION. OBJECT is NAME or
//	                            NAME#UID, /NAME where it is in no namespace, and -TARGET where there is none
//	do STEP OBJECT              an action whose process was killed
//	part STEP OBJECT OUTCOME    an action that did not go through, and changed something all the same
//	undo STEP OUTCOME           the last action of a step is put back, or not
//	undo STEP                   and irctl was killed meanwhile; STEP may be the number of an entry
//	ask STEP,STEP               what was asked for; another COMMAND: that of another
//	leave STEP                  a step is left out, as was asked for
//	verdict WORDS               on the containment; WORDS "?" cannot be read
//	accept CODE OBJECT          a person takes a finding upon himself; withdraw takes that back
//	eradicate STEP OBJECT OUTCOME   an action of another phase
func play(t *testing.T, journal string) []timeline.Entry {
	t.Helper()
	var entries []timeline.Entry
	last := map[string]timeline.Entry{} // intents, by step
	add := func(e timeline.Entry, payload any) timeline.Entry {
		t.Helper()
		e.Seq = int64(len(entries) + 1)
		e.Time = time.Date(2026, 2, 12, 8, 30, len(entries), 0, time.UTC)
		e.Actor = timeline.Actor{OSUser: "responder"}
		if payload != nil {
			var err error
			if e, err = e.With(payload); err != nil {
				t.Fatal(err)
			}
		}
		entries = append(entries, e)
		return e
	}
	for line := range strings.SplitSeq(journal, "; ") {
		if line == "" {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		f := strings.Fields(rest)
		switch word {
		case "do", "part", "eradicate":
			name, uid, _ := strings.Cut(f[1], "#")
			step, action, other := strings.Cut(f[0], ":")
			if !other {
				action = step
			}
			i := timeline.Entry{Kind: timeline.KindIntent, Phase: phase, Step: step, Action: action,
				Targets: []string{"a/suspect"}, Summary: f[0] + " " + name,
				Object: &timeline.Object{APIVersion: "v1", Kind: "Pod", Namespace: "a", Name: name, UID: uid}}
			if word == "eradicate" {
				i.Phase = word
			}
			if target, none := strings.CutPrefix(name, "-"); none {
				i.Object, i.Targets = nil, []string{target}
			}
			if cluster, ok := strings.CutPrefix(name, "/"); ok {
				i.Object.Namespace, i.Object.Name = "", cluster
			}
			i = add(i, nil)
			last[step], last[fmt.Sprint(i.Seq)] = i, i
			if len(f) < 3 {
				continue
			}
			var receipt any
			if word == "part" {
				receipt = record.Change{Object: record.Ref{Version: "v1", Resource: "pods", Name: name},
					Fields: []record.Field{{Path: []string{"metadata", "labels"}}}}
			}
			add(timeline.Entry{Kind: timeline.KindOutcome, Phase: i.Phase, Step: step, Intent: i.Seq,
				Outcome: timeline.Outcome(f[2])}, receipt)
		case "undo":
			i := add(timeline.Entry{Kind: timeline.KindIntent, Phase: phase, Step: f[0], Undoes: last[f[0]].Seq}, nil)
			if len(f) > 1 {
				add(timeline.Entry{Kind: timeline.KindOutcome, Phase: phase, Step: f[0], Intent: i.Seq,
					Outcome: timeline.Outcome(f[1])}, nil)
			}
		case "ask", "another":
			request := record.Request{Command: phase, Steps: strings.Split(rest, ",")}
			if word == "another" {
				request = record.Request{Command: rest, Steps: usual}
			}
			add(timeline.Entry{Kind: timeline.KindObservation, Phase: phase, Action: casefile.ActionRequested}, request)
		case "leave":
			add(timeline.Entry{Kind: timeline.KindObservation, Phase: phase, Step: rest, Action: casefile.ActionLeftOut,
				Outcome: timeline.OutcomeSkipped}, nil)
		case "verdict":
			e := timeline.Entry{Kind: timeline.KindVerdict, Phase: phase, Step: "verify", Summary: rest,
				Outcome: timeline.OutcomeDone}
			switch v := record.Verdict(rest); v {
			case "?":
				add(e, nil)
				continue
			case record.NotContained:
				e.Outcome = timeline.OutcomeFailed
			case record.Undetermined:
				e.Outcome = timeline.OutcomeUnknown
			}
			add(e, record.Assessment{Verdict: record.Verdict(rest)})
		case "accept", "withdraw":
			code, object, _ := strings.Cut(rest, " ")
			add(timeline.Entry{Kind: timeline.KindObservation, Phase: phase},
				record.Acceptance{Code: code, Object: object, Reason: line, Withdrawn: word == "withdraw"})
		default:
			t.Fatalf("no line of a journal: %q", line)
		}
	}
	return entries
}

// steps are actions, each with its object.
func steps(list []*timeline.Action) string {
	var out []string
	for _, a := range list {
		name := "-"
		if o := a.Intent.Object; o != nil {
			name = o.Name
			if o.UID != "" {
				name += "#" + o.UID
			}
		}
		out = append(out, fmt.Sprintf("%s %s @%d", a.Intent.Step, name, a.Intent.Seq))
	}
	return strings.Join(out, ", ")
}

// fixtures are the journals that a version of irctl left.
func fixtures(t *testing.T) map[string][]timeline.Entry {
	t.Helper()
	paths, err := filepath.Glob("../../testdata/v*/incidents/*/state/incidents/*/timeline.jsonl")
	if err != nil || len(paths) < 12 {
		t.Fatal(paths, err)
	}
	all := map[string][]timeline.Entry{}
	for _, path := range paths {
		entries, err := timeline.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		all[path] = entries
	}
	return all
}

// A case that is kept up entry by entry is the one that is folded of the whole
// journal, wherever that ends; and of no journal there is a payload that is not
// known.
func TestIncrementalEqualsWhole(t *testing.T) {
	t.Parallel()
	for path, entries := range fixtures(t) {
		kept := &casefile.Case{}
		for n := range len(entries) + 1 {
			kept.Take(entries[:n]) // also those that it has
			if whole := casefile.Of(entries[:n]); !reflect.DeepEqual(kept, whole) {
				t.Fatalf("%s: after %d entries\n%+v\nis not\n%+v", path, n, kept, whole)
			}
		}
		one := &casefile.Case{}
		for _, e := range entries {
			one.Apply(e)
		}
		if !reflect.DeepEqual(kept, one) || len(kept.Unread) > 0 {
			t.Errorf("%s: %+v", path, kept)
		}
		intents := slices.DeleteFunc(slices.Clone(entries), func(e timeline.Entry) bool {
			return e.Kind != timeline.KindIntent || e.Undoes != 0
		})
		if len(kept.Actions) != len(intents) {
			t.Errorf("%s: %d actions of %d intents", path, len(kept.Actions), len(intents))
		}
	}
}

// What an entry tells besides changes, and that the last word counts.
func TestWhatEntriesTell(t *testing.T) {
	t.Parallel()
	entries := play(t, "ask quarantine,detach; leave scale; verdict not contained; verdict contained")
	add := func(e timeline.Entry, payload any) {
		t.Helper()
		e.Seq = int64(len(entries) + 1)
		e, err := e.With(payload)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	add(timeline.Entry{Kind: timeline.KindObservation}, record.Receipt{Format: "irctl-receipt/1", SHA256: "ab"})
	add(timeline.Entry{Kind: timeline.KindObservation}, record.Kept{Kept: []int64{3}})
	add(timeline.Entry{Kind: timeline.KindClosed}, record.Closing{LeaveStanding: "evidence"})
	entries = append(entries,
		timeline.Entry{Seq: 8, Kind: timeline.KindNote, Payload: "tomorrow/7",
			Data: record.Verbatim([]byte(`{"a":1}`))},
		timeline.Entry{Seq: 9, Kind: timeline.KindVerdict, Phase: phase, Payload: "assessment/1",
			Data: record.Verbatim([]byte(`{"verdict":7}`))},
		timeline.Entry{Seq: 10, Kind: timeline.KindVerdict, Phase: "eradicate", Outcome: timeline.OutcomeDone})
	c := casefile.Of(entries)
	switch {
	case len(c.Requests) != 1 || c.Requests[0].Seq != 1 || c.Requests[0].Who.OSUser == "" ||
		c.Requests[0].Time.IsZero():
		t.Errorf("requests %+v", c.Requests)
	case !reflect.DeepEqual(c.LeftOut, map[string]int64{"scale": 2}):
		t.Errorf("left out %v", c.LeftOut)
	case len(c.Receipts) != 1 || c.Receipts[0].SHA256 != "ab":
		t.Errorf("receipts %+v", c.Receipts)
	case c.Kept == nil || !slices.Equal(c.Kept.Intents, []int64{3}):
		t.Errorf("kept %v", c.Kept)
	case c.Closing == nil || c.Closing.LeaveStanding != "evidence":
		t.Errorf("closing %+v", c.Closing)
	case !slices.Equal(c.Unread, []int64{8, 9}):
		t.Errorf("not read: %v", c.Unread)
	case c.Verdicts[phase].Seq != 9 || c.Verdicts[phase].Assessment != nil:
		t.Errorf("the last verdict is one that cannot be read: %+v", c.Verdicts[phase])
	case c.Verdicts["eradicate"].Seq != 10 || c.Verdicts["eradicate"].Outcome != timeline.OutcomeDone:
		t.Errorf("verdicts %+v", c.Verdicts)
	}
}

func TestStandingAndUnsettled(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		journal             string
		standing, unsettled string
	}{
		"nothing":                       {},
		"done":                          {"do detach p#1 done", "detach p#1 @1", ""},
		"so before":                     {"do detach p#1 already", "", ""},
		"denied":                        {"do detach p#1 denied", "", "detach p#1 @1"},
		"failed":                        {"do detach p#1 failed", "", "detach p#1 @1"},
		"refused":                       {"do detach p#1 refused", "", "detach p#1 @1"},
		"left out since the run ended":  {"do detach p#1 skipped", "", "detach p#1 @1"},
		"no answer":                     {"do detach p#1 unknown", "detach p#1 @1", "detach p#1 @1"},
		"killed":                        {"do detach p#1", "detach p#1 @1", "detach p#1 @1"},
		"of another phase":              {"eradicate image d#1 denied", "", ""},
		"denied, then done":             {"do detach p#1 denied; do detach p#1 done", "detach p#1 @3", ""},
		"denied, then so already":       {"do detach p#1 denied; do detach p#1 already", "", ""},
		"denied twice is one":           {"do detach p#1 denied; do detach p#1 denied", "", "detach p#1 @3"},
		"killed, then done":             {"do detach p#1; do detach p#1 done", "detach p#1 @1, detach p#1 @2", ""},
		"done, then denied":             {"do detach p#1 done; do detach p#1 denied", "detach p#1 @1", "detach p#1 @3"},
		"another object of the step":    {"do detach p#1 denied; do detach q#2 done", "detach q#2 @3", "detach p#1 @1"},
		"another step of the object":    {"do detach p#1 denied; do cordon p#1 done", "cordon p#1 @3", "detach p#1 @1"},
		"made anew, with another UID":   {"do detach p#1 denied; do detach p#2 done", "detach p#2 @3", "detach p#1 @1"},
		"created: its UID is not known": {"do quarantine n denied; do quarantine n#2 done", "quarantine n#2 @3", ""},
		"known, and not known later":    {"do quarantine n#2 denied; do quarantine n done", "quarantine n @3", ""},
		"another action of the step": {"do suspend:hpa k#1 denied; do suspend:keda k#1 done",
			"suspend k#1 @3", "suspend k#1 @1"},
		"the same action of two steps": {"do detach:label p#1 denied; " +
			"do cordon:label p#1 done", "cordon p#1 @3", "detach p#1 @1"},
		"without an object":            {"do wait -p failed; do wait -p done", "wait - @3", ""},
		"without, for another suspect": {"do wait -p failed; do wait -q done", "wait - @3", "wait - @1"},
		"without an object later":      {"do wait p failed; do wait -p done", "wait - @3", "wait p @1"},
		"with and without an object":   {"do wait -p failed; do wait p done", "wait p @3", "wait - @1"},

		"partly done and denied":   {"part detach p#1 denied", "detach p#1 @1", "detach p#1 @1"},
		"partly done, then undone": {"part detach p#1 denied; undo detach done", "", ""},
		"partly done, undone beside others": {"do quarantine n done; part detach p#1 denied; " +
			"undo detach done", "quarantine n @1", ""},
		"denied, then all undone": {"do quarantine n done; do detach p#1 denied; undo quarantine done", "", ""},
		"denied, and not all undone": {"do quarantine n done; do detach p#1 denied; do scale d#2 done; undo scale done",
			"quarantine n @1", "detach p#1 @3"},
		"denied, and the undo failed": {"do quarantine n done; do detach p#1 denied; undo quarantine failed",
			"quarantine n @1", "detach p#1 @3"},
		"denied, and the undo was killed": {"do quarantine n done; do detach p#1 denied; undo quarantine",
			"quarantine n @1", "detach p#1 @3"},
		"denied, all undone, denied again": {"do quarantine n done; do detach p#1 denied; undo quarantine done; " +
			"do detach p#1 denied",
			"", "detach p#1 @7"},
		"denied after all was undone": {"do quarantine n done; undo quarantine done; " +
			"do detach p#1 denied", "", "detach p#1 @5"},
		"what another phase leaves standing is not the containment's": {"do quarantine n done; " +
			"do detach p#1 denied; eradicate image d#2 done; undo quarantine done", "image d#2 @5", ""},
		"an undo that failed takes nothing back": {"do detach p#1 denied; do quarantine n already; undo quarantine " +
			"failed",
			"", "detach p#1 @1"},
		"an undo in another phase takes nothing back": {"eradicate image d#2 done; do detach p#1 denied; undo image " +
			"done",
			"", "detach p#1 @3"},
	} {
		c := casefile.Of(play(t, tt.journal))
		if got := steps(c.Standing()); got != tt.standing {
			t.Errorf("%s: standing %q, want %q", name, got, tt.standing)
		}
		if got := steps(c.Unsettled()); got != tt.unsettled {
			t.Errorf("%s: unsettled %q, want %q", name, got, tt.unsettled)
		}
	}
}

func TestMeant(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		journal string
		want    string
	}{
		"nothing":                  {"", ""},
		"asked for, and not begun": {"ask quarantine,detach", "quarantine detach"},
		"asked for and done": {"ask quarantine,detach; do quarantine n done; " +
			"do detach p#1 done", "quarantine detach"},
		"asked for and denied": {"ask quarantine,detach; do quarantine n done; " +
			"do detach p#1 denied", "quarantine detach"},
		"asked for twice, with more": {"ask quarantine; do quarantine n done; " +
			"ask quarantine,detach", "quarantine detach"},
		"done besides what is asked for": {"ask quarantine; do quarantine n done; " +
			"do suspend k#1 done", "quarantine suspend"},
		"what another phase did":         {"eradicate image d#1 done", ""},
		"what another command asked for": {"another eradicate", ""},

		"undone": {"ask quarantine,detach; do quarantine n done; do detach p#1 done; undo detach done", "quarantine"},
		"undone in part of a step": {"ask detach; do detach p#1 done; do detach q#2 done; " +
			"undo detach done", "detach"},
		"undone, and failed":              {"ask detach; do detach p#1 done; undo detach failed", "detach"},
		"so already, and the undo failed": {"ask detach; do detach p#1 already; undo detach failed", "detach"},
		"undone, and tried again": {"ask quarantine,detach; do quarantine n done; do detach p#1 done; " +
			"undo detach done; do detach p#1 denied", "quarantine detach"},
		"undone out of order, asked for in between": {"ask quarantine,detach; do quarantine n done; " +
			"do detach p#1 done; do detach q#2 done; undo 6 done; ask quarantine,detach; undo 4 done", "quarantine"},
		"all undone": {"ask quarantine,detach,scale; do quarantine n done; do detach p#1 denied; " +
			"undo quarantine done", ""},
		"all undone, of which one was denied, and one never begun": {"ask quarantine,detach,scale; " +
			"do quarantine n done; undo quarantine done", ""},
		"contained again after an undo": {"ask quarantine,detach; do quarantine n done; do detach p#1 done; " +
			"undo detach done; undo quarantine done; ask quarantine,detach; do quarantine n done", "quarantine detach"},
		"done again after an undo, without a request": {"do quarantine n done; do detach p#1 done; " +
			"do scale d#1 done; undo detach done; do detach p#1 done", "quarantine detach scale"},

		"left out": {"ask quarantine,detach; leave scale; do quarantine n done", "quarantine detach"},
		"left out later": {"ask quarantine,scale; do quarantine n done; do scale d#1 denied; " +
			"leave scale", "quarantine"},
		"left out later, and stands":      {"ask quarantine,scale; do scale d#1 done; leave scale", "scale quarantine"},
		"left out, and asked for later":   {"ask quarantine; leave scale; ask quarantine,scale", "quarantine scale"},
		"left out, and done all the same": {"ask quarantine; leave scale; do scale d#1 done", "scale quarantine"},

		"no request: what is usual":       {"do quarantine n done", "quarantine detach scale"},
		"no request, killed at the first": {"do quarantine n", "quarantine detach scale"},
		"no request, and nothing done":    {"leave scale", ""},
		"no request, left out beforehand": {"leave scale; do quarantine n done; " +
			"do detach p#1 done", "quarantine detach"},
		"no request, left out, and done later": {"leave scale; do quarantine n done; " +
			"do scale d#1 done", "quarantine scale detach"},
		"no request, left out, and denied later": {"leave scale; do quarantine n done; " +
			"do scale d#1 denied", "quarantine scale detach"},
		"no request, undone, and another denied": {"do quarantine n done; do detach p#1 done; undo detach done; " +
			"do scale d#1 denied",
			"quarantine scale"},
		"no request, what was to be done more":  {"do cordon n done", "cordon quarantine detach scale"},
		"no request, undone":                    {"do quarantine n done; undo quarantine done", ""},
		"no request: a verdict changes nothing": {"do quarantine n done; verdict contained", "quarantine detach scale"},
		"a request for what is less than usual": {"ask quarantine; do quarantine n done; verdict contained",
			"quarantine"},
	} {
		if got := strings.Join(casefile.Of(play(t, tt.journal)).Meant(), " "); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestContained(t *testing.T) {
	t.Parallel()
	const all = "do quarantine n done; do detach p#1 done; do scale d#2 done; "
	const denied = "do quarantine n done; do detach p#1 denied; "
	const left = "do quarantine n done; do scale p#1 denied; " // which a person can take upon himself
	for name, tt := range map[string]struct {
		journal   string
		want      record.Verdict
		unsettled string
		judged    int64 // the verdict that it has its grounds from
	}{
		"nothing":                {"", "", "", 0},
		"nothing, though judged": {"verdict contained", "", "", 0},
		"all undone, though judged": {"ask quarantine; do quarantine n done; verdict contained; " +
			"undo quarantine done", "", "", 0},
		"not judged":                 {all, record.Undetermined, "", 0},
		"contained":                  {all + "verdict contained", record.Contained, "", 7},
		"exposed":                    {all + "verdict contained with exposures", record.Exposed, "", 7},
		"not contained by a check":   {all + "verdict not contained", record.NotContained, "", 7},
		"could not tell":             {all + "verdict could not tell", record.Undetermined, "", 7},
		"judged twice":               {all + "verdict not contained; verdict contained", record.Contained, "", 8},
		"a verdict that is not read": {all + "verdict ?", record.Undetermined, "", 0},
		"a verdict without a word":   {all + "verdict ", record.Undetermined, "", 0},
		"changed since":              {all + "verdict contained; do suspend k#3 done", record.Undetermined, "", 7},
		"changed since by eradicate": {all + "verdict contained; eradicate image d#2 done", record.Contained, "", 7},
		"partly undone since":        {all + "verdict contained; undo scale done", record.Undetermined, "", 7},
		"an undo since was killed":   {all + "verdict contained; undo scale", record.Undetermined, "", 7},

		"denied":                      {denied, record.NotContained, "detach p#1 @3", 0},
		"denied, whatever was judged": {denied + "verdict contained", record.NotContained, "detach p#1 @3", 5},
		"the cut itself, accepted": {denied + "verdict contained; accept unsettled Pod a/p",
			record.NotContained, "detach p#1 @3", 5},
		"no quarantine, accepted": {"do quarantine n denied; do scale d done; verdict contained; accept unsettled",
			record.NotContained, "quarantine n @1", 5},
		"denied and accepted": {left + "verdict contained; accept unsettled Pod a/p", record.Contained, "",
			5},
		"denied and accepted everywhere": {left + "verdict contained; accept unsettled", record.Contained, "", 5},
		"denied, and another accepted": {left + "verdict contained; " +
			"accept unsettled Pod a/q", record.NotContained, "scale p#1 @3", 5},
		"denied on a node, and accepted": {"do cordon /n denied; verdict contained; " +
			"accept unsettled Pod n", record.Contained, "", 3},
		"accepted, and taken back": {left + "verdict contained; accept unsettled Pod a/p; withdraw unsettled Pod a/p",
			record.NotContained, "scale p#1 @3", 5},
		"denied, then done, not judged": {denied + "verdict not contained; do detach p#1 done", record.Undetermined, "",
			5},
		"denied, then done": {denied + "verdict not contained; do detach p#1 done; " +
			"verdict contained", record.Contained, "", 8},
		"killed": {"do quarantine n done; do detach p#1", record.NotContained, "detach p#1 @3", 0},
	} {
		g := casefile.Of(play(t, tt.journal)).Contained()
		if g.Verdict != tt.want || steps(g.Unsettled) != tt.unsettled || g.Seq != tt.judged {
			t.Errorf("%s: %q, unsettled %q, by @%d; want %q, %q, @%d", name,
				g.Verdict, steps(g.Unsettled), g.Seq, tt.want, tt.unsettled, tt.judged)
		}
		if judged := tt.judged > 0; (g.Assessment != nil) != judged || g.At.IsZero() == judged {
			t.Errorf("%s: %+v", name, g)
		}
	}
}

func TestAcceptances(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		journal string
		force   int    // how many are in force
		holds   string // the finding, and by what it is accepted: of token of Pod a/p
	}{
		"none":              {"", 0, ""},
		"wherever it is":    {"accept token", 1, "accept token"},
		"of the object":     {"accept token Pod a/p", 1, "accept token Pod a/p"},
		"of another object": {"accept token Pod a/q", 1, ""},
		"another code":      {"accept node Pod a/p", 1, ""},
		"taken back":        {"accept token; withdraw token", 0, ""},
		"of one object taken back": {"accept token; accept token Pod a/p; withdraw token Pod a/p", 1,
			"accept token"},
		"another taken back":             {"accept token Pod a/p; withdraw token Pod a/q", 1, "accept token Pod a/p"},
		"another code taken back":        {"accept token; withdraw node", 1, "accept token"},
		"taken back and accepted again":  {"accept token; withdraw token; accept token", 1, "accept token"},
		"twice is once":                  {"accept token; accept token", 1, "accept token"},
		"of two objects is twice":        {"accept token Pod a/q; accept token Pod a/p", 2, "accept token Pod a/p"},
		"what was never is taken back":   {"withdraw token", 0, ""},
		"two codes, one of them for all": {"accept node; accept token Pod a/p", 2, "accept token Pod a/p"},
	} {
		entries := play(t, tt.journal)
		c := casefile.Of(entries)
		got := ""
		if a := c.AcceptanceOf("token", "Pod a/p"); a != nil {
			got = a.Reason
			if a.Who.OSUser != "responder" || a.Time.IsZero() || a.Seq == 0 {
				t.Errorf("%s: who accepted it, and when? %+v", name, a)
			}
		}
		if got != tt.holds || len(c.Accepted) != tt.force {
			t.Errorf("%s: %q, %d in force; want %q, %d", name, got, len(c.Accepted), tt.holds, tt.force)
		}
	}
	// Of what is accepted twice, the last word counts.
	c := casefile.Of(play(t, "accept token; accept token"))
	if a := c.AcceptanceOf("token", ""); a == nil || a.Seq != 2 {
		t.Errorf("%+v", a)
	}
}

// Who closes an incident with containment left standing has accepted that, until it is
// opened again.
func TestWhatIsLeftStandingIsAccepted(t *testing.T) {
	t.Parallel()
	closed := timeline.Entry{Seq: 1, Kind: timeline.KindClosed, Actor: timeline.Actor{OSUser: "responder"}}
	left, err := closed.With(record.Closing{LeaveStanding: "evidence"})
	nothing, err2 := closed.With(record.Closing{})
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	reopened := timeline.Entry{Seq: 2, Kind: timeline.KindReopened}
	for name, tt := range map[string]struct {
		journal []timeline.Entry
		reason  string
	}{
		"closed":                 {[]timeline.Entry{nothing}, ""},
		"closed, and left":       {[]timeline.Entry{left}, "evidence"},
		"closed, left, reopened": {[]timeline.Entry{left, reopened}, ""},
	} {
		a := casefile.Of(tt.journal).AcceptanceOf(casefile.Standing, "")
		if (a != nil) != (tt.reason != "") || a != nil && a.Reason != tt.reason {
			t.Errorf("%s: %+v, want %q", name, a, tt.reason)
		}
	}
}

// A look at the cluster counts as long as nothing that bears on the grade is written
// after it.
func TestTheLastEntryThatBearsOnTheGrade(t *testing.T) {
	t.Parallel()
	const done = "do quarantine n done; " // entries 1 and 2
	for name, tt := range map[string]struct {
		journal        string
		last           int64
		accepted, open int
	}{
		"an outcome":              {done, 2, 0, 0},
		"an intent":               {done + "do detach p#1", 3, 0, 1},
		"a verdict":               {done + "verdict contained", 3, 0, 0},
		"an undo that was begun":  {done + "undo quarantine", 3, 0, 0},
		"an undo that failed":     {done + "undo quarantine failed", 4, 0, 0},
		"what was done elsewhere": {done + "eradicate image d#1 done", 2, 0, 0},
		"an acceptance":           {done + "do scale d#1 denied; eradicate image d#1 done; accept unsettled", 7, 1, 0},
		"one that is taken back":  {done + "do scale d#1 denied; accept unsettled; withdraw unsettled", 6, 0, 1},
	} {
		g := casefile.Of(play(t, tt.journal)).Contained()
		if g.Last != tt.last || g.Accepted != tt.accepted || len(g.Unsettled) != tt.open {
			t.Errorf("%s: @%d, %d accepted, %d unsettled", name, g.Last, g.Accepted, len(g.Unsettled))
		}
	}
}
