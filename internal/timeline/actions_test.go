package timeline_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"irctl/internal/record"
	"irctl/internal/timeline"
)

func intent(undoes int64) timeline.Entry {
	return timeline.Entry{Kind: timeline.KindIntent, Undoes: undoes}
}

func outcome(of int64, o timeline.Outcome) timeline.Entry {
	return timeline.Entry{Kind: timeline.KindOutcome, Intent: of, Outcome: o}
}

func receipt(of int64, o timeline.Outcome) timeline.Entry {
	e := outcome(of, o)
	e.Data = record.Verbatim([]byte(`{}`))
	return e
}

func TestActions(t *testing.T) {
	const done, failed, unknown = timeline.OutcomeDone, timeline.OutcomeFailed, timeline.OutcomeUnknown
	tests := map[string]struct {
		entries  []timeline.Entry // Seq counts from 1
		actions  []string         // intent, outcome, undo state, intent of the last undo
		standing []int64
		pending  []int64
	}{
		"nothing": {},
		"done": {entries: []timeline.Entry{intent(0), outcome(1, done)}, actions: []string{"1 done  0"},
			standing: []int64{1}},
		"killed": {entries: []timeline.Entry{intent(0)}, actions: []string{"1 -  0"}, standing: []int64{1},
			pending: []int64{1}},
		"no answer, then seen to be done": {entries: []timeline.Entry{intent(0), outcome(1, unknown), outcome(1, done)},
			actions: []string{"1 done  0"}, standing: []int64{1}},
		"no answer": {entries: []timeline.Entry{intent(0), outcome(1, unknown)}, actions: []string{"1 unknown  0"},
			standing: []int64{1}},
		"changed nothing": {entries: []timeline.Entry{intent(0), outcome(1, timeline.OutcomeAlready), intent(0),
			outcome(3, timeline.OutcomeRefused),
			intent(0), outcome(5, timeline.OutcomeSkipped), intent(0), outcome(7, failed), intent(0),
			outcome(9, timeline.OutcomeDenied)},
			actions: []string{"1 already  0", "3 refused  0", "5 skipped  0", "7 failed  0", "9 denied  0"}},
		"denied after a change": {entries: []timeline.Entry{intent(0), receipt(1, timeline.OutcomeDenied)},
			actions: []string{"1 denied  0"}, standing: []int64{1}},
		"undo denied": {entries: []timeline.Entry{intent(0), outcome(1, done), intent(1),
			outcome(3, timeline.OutcomeDenied)},
			actions: []string{"1 done failed 3"}, standing: []int64{1}},
		"failed after a change": {entries: []timeline.Entry{intent(0), receipt(1, failed)},
			actions: []string{"1 failed  0"}, standing: []int64{1}},
		"undone": {entries: []timeline.Entry{intent(0), outcome(1, done), intent(1), outcome(3, done)},
			actions: []string{"1 done undone 3"}},
		"undone by somebody else before": {entries: []timeline.Entry{intent(0), outcome(1, done), intent(1),
			outcome(3, timeline.OutcomeAlready)},
			actions: []string{"1 done undone 3"}},
		"killed in the undo": {entries: []timeline.Entry{intent(0), outcome(1, done), intent(1)},
			actions: []string{"1 done pending 3"}, standing: []int64{1}, pending: []int64{3}},
		"undo without answer": {entries: []timeline.Entry{intent(0), outcome(1, done), intent(1), outcome(3, unknown)},
			actions: []string{"1 done pending 3"}, standing: []int64{1}},
		"undo refused, then done": {entries: []timeline.Entry{intent(0), outcome(1, done), intent(1),
			outcome(3, timeline.OutcomeRefused), intent(1), outcome(5, done)},
			actions: []string{"1 done undone 5"}},
		"undo failed": {entries: []timeline.Entry{intent(0), outcome(1, done), intent(1), outcome(3, failed)},
			actions: []string{"1 done failed 3"}, standing: []int64{1}},
		"undo skipped": {entries: []timeline.Entry{intent(0), outcome(1, done), intent(1),
			outcome(3, timeline.OutcomeSkipped)},
			actions: []string{"1 done  0"}, standing: []int64{1}},
		"undone twice": {entries: []timeline.Entry{intent(0), outcome(1, done), intent(1), outcome(3, done), intent(1),
			outcome(5, failed)},
			actions: []string{"1 done undone 3"}},
		"undone and done again": {entries: []timeline.Entry{intent(0), outcome(1, done), intent(1), outcome(3, done),
			intent(0), outcome(5, done)},
			actions: []string{"1 done undone 3", "5 done  0"}, standing: []int64{5}},
		"in parallel": {entries: []timeline.Entry{intent(0), intent(0), outcome(2, done), outcome(1, done), intent(2),
			outcome(5, done)},
			actions: []string{"1 done  0", "2 done undone 5"}, standing: []int64{1}},
		"undo of nothing, from a hostile journal": {entries: []timeline.Entry{intent(7), outcome(9, done)},
			pending: []int64{1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for i := range tt.entries {
				tt.entries[i].Seq = int64(i + 1)
			}
			var actions []string
			for _, a := range timeline.Actions(tt.entries) {
				result, undo := "-", int64(0)
				if a.Outcome != nil {
					result = string(a.Outcome.Outcome)
				}
				if a.UndoIntent != nil {
					undo = a.UndoIntent.Seq
				}
				actions = append(actions, fmt.Sprintf("%d %s %s %d", a.Intent.Seq, result, a.Undo, undo))
			}
			if !slices.Equal(actions, tt.actions) {
				t.Errorf("actions %q, want %q", actions, tt.actions)
			}
			var standing, pending []int64
			for _, a := range timeline.Standing(tt.entries) {
				standing = append(standing, a.Intent.Seq)
			}
			if !slices.Equal(standing, tt.standing) {
				t.Errorf("standing %v, want %v", standing, tt.standing)
			}
			for _, e := range timeline.Pending(tt.entries) {
				pending = append(pending, e.Seq)
			}
			if !slices.Equal(pending, tt.pending) {
				t.Errorf("pending %v, want %v", pending, tt.pending)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	at := func(minute int, e timeline.Entry) timeline.Entry {
		e.Time = time.Date(2026, 1, 2, 15, minute, 0, 0, time.UTC)
		return e
	}
	opened := timeline.Entry{Kind: timeline.KindOpened}
	seen := timeline.Entry{Kind: timeline.KindObservation, Phase: "detect"}
	not := timeline.Entry{Kind: timeline.KindVerdict, Phase: "contain", Outcome: timeline.OutcomeFailed}
	contained := timeline.Entry{Kind: timeline.KindVerdict, Phase: "contain", Outcome: timeline.OutcomeDone}
	closed := timeline.Entry{Kind: timeline.KindClosed}
	reopened := timeline.Entry{Kind: timeline.KindReopened}

	tests := map[string]struct {
		entries        []timeline.Entry
		contain, close time.Duration // -1: not yet
	}{
		"empty":         {nil, -1, -1},
		"opened":        {[]timeline.Entry{at(1, opened)}, -1, -1},
		"not contained": {[]timeline.Entry{at(1, opened), at(2, not)}, -1, -1},
		"contained": {[]timeline.Entry{at(1, opened), at(2, not), at(4, contained), at(9, contained)},
			3 * time.Minute, -1},
		"detected earlier": {[]timeline.Entry{at(1, seen), at(3, opened), at(4, contained)}, 3 * time.Minute, -1},
		"closed": {[]timeline.Entry{at(1, opened), at(4, contained), at(9, closed)}, 3 * time.Minute,
			8 * time.Minute},
		"reopened": {[]timeline.Entry{at(1, opened), at(9, closed), at(10, reopened)}, -1, -1},
		"closed once more": {[]timeline.Entry{at(1, opened), at(9, closed), at(10, reopened), at(21, closed)}, -1,
			20 * time.Minute},
		"another's verdict": {[]timeline.Entry{at(1, opened),
			at(2, timeline.Entry{Kind: timeline.KindVerdict, Phase: "recover", Outcome: timeline.OutcomeDone})}, -1,
			-1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := timeline.MetricsOf(tt.entries)
			if d, ok := m.TimeToContain(); ok != (tt.contain >= 0) || ok && d != tt.contain {
				t.Errorf("time to contain %v, %v", d, ok)
			}
			if d, ok := m.TimeToClose(); ok != (tt.close >= 0) || ok && d != tt.close {
				t.Errorf("time to close %v, %v", d, ok)
			}
		})
	}
}

func TestAnAlertKeepsItsOwnTime(t *testing.T) {
	recorded := time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
	berlin := time.FixedZone("", 3600)
	sign, alert := recorded.Add(-3*time.Hour).In(berlin), recorded.Add(-2*time.Hour).In(berlin)
	for name, tt := range map[string]struct {
		data              string
		started, detected time.Time
	}{
		"no data":              {``, time.Time{}, recorded},
		"somebody else's data": {`["an", "array"]`, time.Time{}, recorded},
		"a sign, then the alert": {`{"startedAt":"2026-01-02T13:00:00+01:00","alertedAt":"2026-01-02T14:00:00+01:00"}`,
			sign, alert},
		"a sign, and no alert":   {`{"startedAt":"2026-01-02T13:00:00+01:00"}`, sign, recorded},
		"an alert of the future": {`{"alertedAt":"2036-01-02T14:00:00Z"}`, time.Time{}, recorded},
		"a sign from after the alert": {`{"startedAt":"2026-01-02T14:30:00Z","alertedAt":"2026-01-02T14:00:00+01:00"}`,
			time.Time{}, alert},
	} {
		t.Run(name, func(t *testing.T) {
			m := timeline.MetricsOf([]timeline.Entry{{Seq: 1, Time: recorded, Kind: timeline.KindObservation,
				Phase: "detect", Data: record.Verbatim([]byte(tt.data))}})
			if !m.StartedAt.Equal(tt.started) || !m.DetectedAt.Equal(tt.detected) {
				t.Errorf("started %v, detected %v", m.StartedAt, m.DetectedAt)
			}
			if d, ok := m.TimeToDetect(); ok != !tt.started.IsZero() || ok && d != tt.detected.Sub(tt.started) {
				t.Errorf("time to detect %v, %v", d, ok)
			}
			if _, offset := m.DetectedAt.Zone(); m.DetectedAt.Equal(alert) && offset != 3600 {
				t.Errorf("the zone of the alert was lost: %v", m.DetectedAt)
			}
		})
	}
}

func TestMoments(t *testing.T) {
	day := time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
	at := func(minute int) time.Time { return day.Add(time.Duration(minute) * time.Minute) }
	set := func(key, after string) timeline.Entry {
		data, err := json.Marshal(record.Changed{Key: key, After: after})
		if err != nil {
			t.Fatal(err)
		}
		return timeline.Entry{Kind: timeline.KindChanged, Data: record.Verbatim(data)}
	}
	opened := timeline.Entry{Kind: timeline.KindOpened}
	seen := timeline.Entry{Kind: timeline.KindObservation, Phase: "detect"}
	reached := func(phase string) timeline.Entry {
		return timeline.Entry{Kind: timeline.KindVerdict, Phase: phase, Outcome: timeline.OutcomeDone}
	}
	tests := map[string]struct {
		entries []timeline.Entry // minutes and Seq count from 1
		want    timeline.Metrics
	}{
		"opened by hand: when it was detected is not known": {[]timeline.Entry{opened},
			timeline.Metrics{OpenedAt: at(1), DetectedAt: at(1), Sources: map[timeline.Moment]int64{}}},
		"an alert, then the opening": {[]timeline.Entry{seen, opened},
			timeline.Metrics{DetectedAt: at(1), OpenedAt: at(2), AcknowledgedAt: at(2),
				Sources: map[timeline.Moment]int64{timeline.Detected: 1, timeline.Acknowledged: 2}}},
		"every phase": {[]timeline.Entry{seen, opened, reached("contain"), reached("eradicate"), reached("recover"),
			reached("recover")},
			timeline.Metrics{DetectedAt: at(1), OpenedAt: at(2), AcknowledgedAt: at(2), ContainedAt: at(3),
				EradicatedAt: at(4), RecoveredAt: at(5), Sources: map[timeline.Moment]int64{
					timeline.Detected: 1, timeline.Acknowledged: 2, timeline.Contained: 3, timeline.Eradicated: 4,
					timeline.Recovered: 5}}},
		"what a person says counts for more": {[]timeline.Entry{opened, reached("contain"),
			set("started", "2026-01-02T15:00:00+01:00"), set("detected", "2026-01-02T14:30:00Z"),
			set("contained", "2026-01-02T15:00:30Z")},
			timeline.Metrics{StartedAt: at(-60), DetectedAt: at(-30), OpenedAt: at(1), AcknowledgedAt: at(1),
				ContainedAt: day.Add(30 * time.Second), Sources: map[timeline.Moment]int64{
					timeline.Started: 3, timeline.Detected: 4, timeline.Acknowledged: 1, timeline.Contained: 5}}},
		"and can be taken back": {[]timeline.Entry{seen, opened, set("detected", "2026-01-02T14:30:00Z"),
			set("detected", ""), set("severity", "sev1")},
			timeline.Metrics{DetectedAt: at(1), OpenedAt: at(2), AcknowledgedAt: at(2),
				Sources: map[timeline.Moment]int64{timeline.Detected: 1, timeline.Acknowledged: 2}}},
		"a journal that was tampered with": {[]timeline.Entry{opened, set("no moment", "2026-01-02T14:30:00Z"),
			{Kind: timeline.KindChanged, Data: record.Verbatim([]byte(`[]`))},
			set("detected", "2026-01-02T14:30:00+24:00")},
			timeline.Metrics{OpenedAt: at(1), DetectedAt: at(1), Sources: map[timeline.Moment]int64{}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for i := range tt.entries {
				tt.entries[i].Seq, tt.entries[i].Time = int64(i+1), at(i+1)
			}
			if diff := cmp.Diff(tt.want, timeline.MetricsOf(tt.entries)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
