package engine

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"irctl/internal/record"
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
	indicators := record.Indicators(x.indicators)
	rec := record.Recovery{WayIn: []recovery.WayIn{}, SameImage: x.sameImage, Indicators: &indicators}
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
	if earlier := wayInsOf(x.entries); len(earlier) > 0 && reflect.DeepEqual(earlier[len(earlier)-1], rec) {
		return nil // an earlier run has put down the same
	}
	e := timeline.Entry{Kind: timeline.KindObservation, Phase: recovery.Phase, Step: recovery.StepRestore,
		Action: actionWayIn, Summary: "the way in is closed, as far as irctl can tell: " + strings.Join(texts, "; ")}
	switch {
	case len(open) > 0:
		e.Summary = "the way in is still open, as was decided: " + strings.Join(open, "; ")
	case slices.ContainsFunc(rec.WayIn, func(in recovery.WayIn) bool { return in.State != recovery.Closed }):
		e.Summary = "the way in: " + strings.Join(texts, "; ")
	}
	if _, err := x.handle.Log.AppendWith(e, rec); err != nil {
		return fmt.Errorf("nothing was changed, since the journal could not be written: %w", err)
	}
	return nil
}

// wayInsOf are what earlier runs put down of the way in.
func wayInsOf(entries []timeline.Entry) []record.Recovery {
	var list []record.Recovery
	for _, e := range entries {
		if r, ok := timeline.Payload[record.Recovery](&e); ok && e.Action == actionWayIn {
			list = append(list, *r)
		}
	}
	return list
}

// decidedEarlier: the workloads run the same images for which it was decided
// that they may, although they are the suspects'.
func (x *recovering) decidedEarlier(earlier []record.Recovery) bool {
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
