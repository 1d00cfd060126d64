package detect

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRepeatedFindingsAreCounted(t *testing.T) {
	at := func(minute int) time.Time { return now.Add(time.Duration(minute) * time.Minute) }
	tally := NewTally()
	for _, minute := range []int{5, 1, 9} {
		tally.Add(Finding{Code: "exec", Score: 50, Source: SourceAudit, FirstSeen: at(minute),
			Subject: Subject{Pod: "p"}})
	}
	for range 3 {
		tally.Add(Finding{Code: "privileged", Score: 36, Source: SourceCluster, Subject: Subject{Pod: "p"}})
	}
	tally.Add(Finding{Code: "exec", Score: 50, Source: SourceAudit, Subject: Subject{Pod: "q"}})
	want := []string{"exec p 3", "exec q 1", "privileged p 1"}
	var got []string
	for _, f := range tally.Findings() {
		got = append(got, fmt.Sprintf("%s %s %d", f.Code, f.Subject.Pod, f.Count))
		if f.Count == 3 && (!f.FirstSeen.Equal(at(1)) || !f.LastSeen.Equal(at(9))) {
			t.Errorf("seen from %v to %v", f.FirstSeen, f.LastSeen)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAFloodOfSmallFindingsHidesNoLargeOne(t *testing.T) {
	tally := NewTally()
	tally.max = 100
	add := func(n int, score Score) {
		for i := range n {
			tally.Add(Finding{Code: fmt.Sprint(score), Score: score, Object: fmt.Sprint(i)})
		}
	}
	add(60, 10)
	add(1, 90)
	add(1000, 20)
	add(1, 80)
	add(1000, 20)
	list := tally.Findings()
	if len(list) != 100 || list[0].Score != 90 || list[1].Score != 80 || list[2].Score != 20 || list[99].Score != 20 ||
		tally.Dropped() == 0 {
		t.Errorf("%d kept, %d dropped: %+v", len(list), tally.Dropped(), list[:3])
	}
}

func TestTextsAreBounded(t *testing.T) {
	long := strings.Repeat("ü", 1<<20)
	tally := NewTally()
	kept, _ := tally.Add(Finding{Code: "x", Reason: long, Object: long, Rule: long, Alert: []byte(`"` + long + `"`),
		Subject: Subject{Namespace: long, Pod: long, User: long, Workload: long}})
	if n := len(fmt.Sprintf("%+v", kept)); n > 8<<10 {
		t.Errorf("%d bytes are kept", n)
	}
	if kept.Alert != nil {
		t.Error("a large alert is kept")
	}
}

func TestRanking(t *testing.T) {
	pod := func(name string) Subject { return Subject{Namespace: "n", Pod: name} }
	var findings []Finding
	for i := range 60 { // every bad habit there is, and more
		findings = append(findings, Finding{Code: fmt.Sprintf("habit-%d", i), Score: 39, Subject: pod("untidy")})
	}
	findings = append(findings,
		Finding{Code: "exec", Score: 40, Subject: pod("entered")},
		Finding{Code: "falco", Score: 90, Subject: pod("mining")},
		Finding{Code: "exec", Score: 50, Subject: pod("mining")},
		Finding{Code: "falco", Score: 90, Subject: pod("alarmed")},
		Finding{Code: "secret-read", Score: 56, Subject: Subject{User: "jane"}},
		Finding{Code: "secret-read", Score: 56, Subject: Subject{Namespace: "n", ServiceAccount: "sa"}})
	want := []string{"pod n/mining critical 93", "pod n/alarmed critical 90", "serviceaccount n/sa medium 56",
		"user jane medium 56", "pod n/entered medium 40", "pod n/untidy low 39"}
	for range 20 {
		rand.Shuffle(len(findings), func(i, j int) { findings[i], findings[j] = findings[j], findings[i] })
		var got []string
		for _, s := range Rank(findings) {
			got = append(got, fmt.Sprintf("%s %s %s %d", s.Kind, s.Name, s.Severity, s.Score))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestSeveritiesAreRangesOfTheScore(t *testing.T) {
	for score := Score(0); score <= maxScore; score++ {
		if c := ceiling(score); c < score || c.Severity() != score.Severity() || c < maxScore && (c+1).
			Severity() == c.Severity() {
			t.Errorf("%d: %s up to %d", score, score.Severity(), c)
		}
	}
}

func TestTechniqueOfFalcosTags(t *testing.T) {
	for name, tt := range map[string]struct {
		tags []string
		want string
	}{
		"one of the matrix":           {[]string{"container", "mitre_impact", "T1496"}, "T1496"},
		"another: its tactic":         {[]string{"T1565", "mitre_discovery"}, "T1613"},
		"a tactic alone":              {[]string{"TA0003", "mitre_persistence"}, "T1543.005"},
		"a tactic without containers": {[]string{"mitre_command_and_control"}, ""},
		"none":                        {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := techniqueOf(tt.tags); got.ID != tt.want || (got.ID == "") != (got.Name == "") {
				t.Errorf("%+v", got)
			}
		})
	}
}
