package timeline

import (
	"errors"
	"path/filepath"
	"testing"
)

// TestFinal: what must not be undone is not offered for it, and an intent to
// undo it all the same is not recorded.
func TestFinal(t *testing.T) {
	log, err := Open(filepath.Join(t.TempDir(), "timeline.jsonl"), Options{Incident: "inc-20260102-150405-abcd"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	intent, err := log.Append(Entry{Kind: KindIntent, Final: true, Summary: "rotate"})
	if err != nil {
		t.Fatal(err)
	}
	if len(Pending(log.Entries())) != 1 {
		t.Error("a final intent without outcome is not pending")
	}
	if _, err := log.Append(Entry{Kind: KindOutcome, Intent: intent.Seq, Outcome: OutcomeDone}); err != nil {
		t.Fatal(err)
	}
	if n := len(Standing(log.Entries())); n != 0 {
		t.Errorf("%d actions stand, and could be undone", n)
	}
	for name, e := range map[string]Entry{
		"undoes a final intent": {Kind: KindIntent, Undoes: intent.Seq},
		"a final outcome":       {Kind: KindOutcome, Intent: intent.Seq, Outcome: OutcomeDone, Final: true},
	} {
		if _, err := log.Append(e); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: recorded (%v)", name, err)
		}
	}
}
