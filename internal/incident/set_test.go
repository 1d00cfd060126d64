package incident_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

func settings(t *testing.T, texts ...string) []incident.Setting {
	t.Helper()
	var list []incident.Setting
	for _, text := range texts {
		s, err := incident.ParseSetting(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func TestSetRecordsWhoChangedWhat(t *testing.T) {
	s := store(t)
	h := create(t, s)
	entries, err := h.Set(settings(t, "severity=sev1", "impact= customers could not log in ", "commander=alice",
		"role.communications=press@example.com", "detected=2026-01-02T15:50:00+01:00", "title=")...)
	if err != nil {
		t.Fatal(err)
	}
	var summaries []string
	for _, e := range entries {
		if e.Kind != timeline.KindChanged || e.Actor != alice {
			t.Errorf("entry %+v", e)
		}
		summaries = append(summaries, e.Summary)
	}
	want := []string{"severity: sev1; it was sev2", "impact: customers could not log in",
		"role.communications: press@example.com",
		"detected: 2026-01-02T15:50:00+01:00", "title: no longer known; it was crypto miner"}
	if diff := cmp.Diff(want, summaries); diff != "" {
		t.Error(diff)
	}
	got, err := s.Load(h.Incident().ID)
	if diff := cmp.Diff(h.Incident(), got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if got.Severity != incident.Sev1 || got.Impact != "customers could not log in" ||
		got.Roles["communications"] != "press@example.com" || got.Title != "" {
		t.Errorf("%+v", got)
	}
	if _, offset := got.Moments[timeline.Detected].Zone(); offset != 3600 {
		t.Errorf("the zone got lost: %v", got.Moments)
	}
	if again, err := h.Set(settings(t, "severity=sev1", "detected=2026-01-02T15:50:00+01:00")...); err != nil ||
		len(again) != 0 {
		t.Errorf("what is so already was recorded again: %v, %v", again, err)
	}
	if _, err := h.Set(settings(t, "role.communications=", "detected=")...); err != nil || len(h.Incident().Roles)+
		len(h.Incident().Moments) != 0 {
		t.Errorf("not taken back: %+v, %v", h.Incident(), err)
	}
}

func TestSetAlsoWhenClosed(t *testing.T) {
	h := create(t, store(t))
	if err := h.CloseIncident(""); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Set(settings(t, "impact=none")...); err != nil || h.Incident().Impact != "none" ||
		h.Incident().State != incident.StateClosed {
		t.Errorf("%+v, %v", h.Incident(), err)
	}
}

func TestWhatCannotBeSet(t *testing.T) {
	for _, text := range []string{"", "severity", "=", "id=inc-20260102-150405-abcd", "severity=sev5", "state=closed",
		"role.=x", "role.../x=y", "role.A=b",
		"detected=yesterday", "detected=2026-02-12", "detected=2026-02-12T09:30:00",
		"detected=2026-02-12T09:30:00+24:00", "impact=" + strings.Repeat("x", 4097), "impact=\xff"} {
		if _, err := incident.ParseSetting(text); !errors.Is(err, incident.ErrSetting) || len(err.Error()) > 400 {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	h := create(t, store(t))
	before := h.Incident()
	// the clock says 15:04
	bad := []incident.Setting{{Key: "impact", Value: "x"}, {Key: "detected", Value: "2026-01-02T16:00:00Z"}}
	if _, err := h.Set(bad...); !errors.Is(err, incident.ErrSetting) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, h.Incident()); diff != "" || len(h.Log.Entries()) != 1 {
		t.Errorf("half of it was set: %s", diff)
	}
}

func TestSetNeutralisesControlCharacters(t *testing.T) {
	h := create(t, store(t))
	if _, err := h.Set(incident.Setting{Key: "impact", Value: "a\x1b[31m\nb\u202ec"}); err != nil ||
		strings.ContainsAny(h.Incident().Impact, "\x1b\n\u202e") {
		t.Errorf("%q, %v", h.Incident().Impact, err)
	}
}

func TestOpenCatchesUpWithWhatWasSet(t *testing.T) {
	s := store(t)
	h := create(t, s)
	path := filepath.Join(h.Dir(), "incident.yaml")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Set(settings(t, "severity=sev3", "severity=sev4", "started=2026-01-02T14:00:00Z")...); err != nil {
		t.Fatal(err)
	}
	want := h.Incident()
	// A newer irctl can set more.
	if _, err := h.Log.Append(timeline.Entry{Kind: timeline.KindChanged,
		Data: record.Verbatim([]byte(`{"key":"mood","before":"","after":"good"}`))}); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, before, 0o600); err != nil { // as a kill between the two leaves it
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, reopen(t, s, want.ID).Incident()); diff != "" {
		t.Error(diff)
	}
}
