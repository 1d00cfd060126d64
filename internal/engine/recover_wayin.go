package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

// recordWayIn puts down, before anything is done, whether the way in is open,
// and by what the attacker's return would be known: once the suspects are
// deleted nothing else tells.
func (x *recovering) recordWayIn() error {
	if x.changes() == 0 {
		return nil
	}
	rec := recoverRecord{WayIn: []recovery.WayIn{}, SameImage: x.sameImage, Indicators: &x.indicators}
	var open, texts []string
	for _, w := range x.workloads {
		if w.Gone() {
			continue
		}
		rec.WayIn = append(rec.WayIn, w.WayIn)
		if texts = append(texts, w.WayIn.Text); w.WayIn.State != recovery.Closed && x.sameImage {
			open = append(open, w.WayIn.Text)
		}
	}
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("journaling the way in: %w", err)
	}
	if earlier := wayIns(x.entries); len(earlier) > 0 && string(earlier[len(earlier)-1].Data) == string(data) {
		return nil // an earlier run has put down the same
	}
	e := timeline.Entry{Kind: timeline.KindObservation, Phase: recovery.Phase, Step: recovery.StepRestore, Action: actionWayIn, Summary: "the way in is closed, as far as irctl can tell: " + strings.Join(texts, "; "), Data: data}
	switch {
	case len(open) > 0:
		e.Summary = "the way in is still open, as was decided: " + strings.Join(open, "; ")
	case slices.ContainsFunc(rec.WayIn, func(in recovery.WayIn) bool { return in.State != recovery.Closed }):
		e.Summary = "the way in: " + strings.Join(texts, "; ")
	}
	if _, err := x.handle.Log.Append(e); err != nil {
		return fmt.Errorf("nothing was changed, since the journal could not be written: %w", err)
	}
	return nil
}

// wayIns are the entries in which runs put the way in down.
func wayIns(entries []timeline.Entry) []timeline.Entry {
	return slices.DeleteFunc(slices.Clone(entries), func(e timeline.Entry) bool { return e.Phase != recovery.Phase || e.Action != actionWayIn })
}

// wayInsOf are what earlier runs put down.
func wayInsOf(entries []timeline.Entry) []recoverRecord {
	var list []recoverRecord
	for _, e := range wayIns(entries) {
		var r recoverRecord
		if json.Unmarshal(e.Data, &r) == nil {
			list = append(list, r)
		}
	}
	return list
}

// decidedEarlier: the workloads run the same images for which it was decided
// that they may, although they are the suspects'.
func (x *recovering) decidedEarlier(earlier []recoverRecord) bool {
	if len(earlier) == 0 || !earlier[len(earlier)-1].SameImage {
		return false
	}
	last := earlier[len(earlier)-1]
	return !slices.ContainsFunc(x.workloads, func(w *recovery.Workload) bool {
		return w.WayIn.State != recovery.Closed && !slices.ContainsFunc(last.WayIn, func(in recovery.WayIn) bool {
			return in.Workload == w.WayIn.Workload && slices.Equal(in.Images, w.WayIn.Images)
		})
	})
}
