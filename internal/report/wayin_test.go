package report_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/report"
	"irctl/internal/timeline"
)

// TestWayIn: a containment without a patched image leaves the way in open,
// until an image is changed, and again once that is taken back.
func TestWayIn(t *testing.T) {
	backend := &timeline.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "todo-app", Name: "backend"}
	contained := timeline.Entry{Kind: timeline.KindIntent, Phase: "contain", Step: "detach"}
	change := func(step, after string, object *timeline.Object) timeline.Entry {
		return timeline.Entry{Kind: timeline.KindIntent, Phase: "eradicate", Step: step, Object: object,
			Summary: "change it",
			Data: record.Verbatim(
				[]byte(fmt.Sprintf(
					`{"object":{"group":"apps","version":"v1","resource":"deployments","kind":"Deployment",`+
						`"namespace":"todo-app","name":"backend"},"fields":[{"path":["spec","template","spec",`+
						`"containers"],"before":[{"name":"backend","image":"old"}],"after":[%s]}]}`, after)))}
	}
	done := func(intent int64, outcome timeline.Outcome) timeline.Entry {
		return timeline.Entry{Kind: timeline.KindOutcome, Intent: intent, Outcome: outcome}
	}
	recovery := func(state string, sameImage bool) timeline.Entry {
		return timeline.Entry{Kind: timeline.KindObservation, Phase: "recover", Action: "way-in",
			Data: record.Verbatim([]byte(fmt.Sprintf(`{"sameImage":%v,"wayIn":[{"workload":"Deployment `+
				`todo-app/backend","state":%q,"text":"what was found"}]}`, sameImage, state)))}
	}
	patched := `{"name":"backend","image":"new"}`
	for name, tc := range map[string]struct {
		entries []timeline.Entry
		state   string // "": the report has nothing to say
		text    string
	}{
		"nothing contained": {nil, "", ""},
		"contained alone":   {[]timeline.Entry{contained}, "open", "no patched image is recorded"},
		"patched": {[]timeline.Entry{contained, change("image", patched, backend),
			done(2, timeline.OutcomeDone)}, "closed", "change it"},
		"patched by a manifest": {[]timeline.Entry{contained, change("apply", patched, backend),
			done(2, timeline.OutcomeDone)}, "closed", "change it"},
		"a manifest without image": {[]timeline.Entry{contained,
			change("apply", `{"name":"backend","image":"old","tty":true}`, backend), done(2, timeline.OutcomeDone)},
			"open", ""},
		"of another workload": {[]timeline.Entry{contained,
			change("image", patched, &timeline.Object{Kind: "Deployment", Namespace: "todo-app", Name: "x"}),
			done(2, timeline.OutcomeDone)}, "open", ""},
		"tried": {[]timeline.Entry{contained, change("image", patched, backend),
			done(2, timeline.OutcomeFailed)}, "open", ""},
		"killed meanwhile": {[]timeline.Entry{contained, change("image", patched, backend)}, "open", ""},
		"recovered on the same": {[]timeline.Entry{contained, recovery("open", true)}, "open",
			"went back into service so, as was decided"},
		"recovered on another": {[]timeline.Entry{contained, recovery("closed", false)}, "closed",
			"what was found"},
		"not known at the recovery": {[]timeline.Entry{contained, recovery("unknown", false)}, "open",
			"what was found"},
		"taken back": {[]timeline.Entry{contained, change("image", patched, backend), done(2, timeline.OutcomeDone),
			{Kind: timeline.KindIntent, Undoes: 2, Phase: "eradicate", Step: "image", Object: backend},
			done(4, timeline.OutcomeDone)}, "open", "was taken back"},
	} {
		t.Run(name, func(t *testing.T) {
			in := report.Input{Incident: incident.Incident{ID: "inc-1", Targets: []incident.Target{
				{Kind: "Pod", Namespace: "todo-app", Name: "backend-1",
					Owners: []incident.Owner{{Kind: "ReplicaSet", Name: "backend-7"},
						{Kind: "Deployment", Name: "backend"}}},
				{Kind: "Pod", Namespace: "todo-app", Name: "alone"}}}}
			for i, e := range tc.entries {
				e.Seq, e.Time = int64(i+1), time.Date(2026, 2, 12, 8, i, 0, 0, time.UTC)
				in.Entries = append(in.Entries, e)
			}
			r := report.New(in)
			if tc.state == "" {
				if len(r.WayIn) != 0 {
					t.Errorf("%+v", r.WayIn)
				}
				return
			}
			if len(r.WayIn) != 1 || r.WayIn[0].State != tc.state ||
				!strings.Contains(string(r.WayIn[0].Text), tc.text) {
				t.Fatalf("%+v", r.WayIn)
			}
			told := fmt.Sprint(r.Summary, r.ActionItems)
			if strings.Contains(told, "The way in is still open") != (tc.state == "open") ||
				strings.Contains(told, "Close the way in") != (tc.state == "open") {
				t.Error(told)
			}
		})
	}
}

// What could not be looked at is not gone.
func TestWhatCouldNotBeLookedAtIsNotGone(t *testing.T) {
	judged := func(verdict, rest string) timeline.Entry {
		return timeline.Entry{Kind: timeline.KindVerdict, Phase: "contain", Summary: verdict,
			Data: record.Verbatim([]byte(fmt.Sprintf(
				`{"verdict":%q,"targets":[{"namespace":"shop","pod":"cart-1","uid":"u","verdict":%q,%s}]}`, verdict,
				verdict, rest)))}
	}
	open := judged("contained with exposures",
		`"checks":[],"exposures":[{"code":"token","severity":"risk","text":"its token"}]`)
	unread := judged("could not tell",
		`"checks":[{"code":"pod","ok":false,"unknown":true,"text":"the pod could not be read"}]`)
	closed := judged("contained", `"checks":[]`)
	for name, tc := range map[string]struct {
		second timeline.Entry
		gone   bool
	}{"it could not be looked at": {unread, false}, "it was looked at": {closed, true}} {
		t.Run(name, func(t *testing.T) {
			in := report.Input{Incident: incident.Incident{ID: "inc-1"}}
			for i, e := range []timeline.Entry{open, tc.second} {
				e.Seq, e.Time, e.Outcome = int64(i+1), time.Date(2026, 2, 12, 8, i, 0, 0, time.UTC),
					timeline.OutcomeDone
				in.Entries = append(in.Entries, e)
			}
			r := report.New(in)
			if len(r.Exposures) != 1 || r.Exposures[0].GoneBy.IsZero() == tc.gone {
				t.Errorf("exposures: %+v", r.Exposures)
			}
			if said := strings.Contains(fmt.Sprint(r.Deviations), "the pod could not be read"); said == tc.gone {
				t.Errorf("deviations: %+v", r.Deviations)
			}
		})
	}
}
