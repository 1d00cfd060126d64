package engine

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/timeline"
)

// Leftovers are what killed processes left unfinished of an incident's evidence,
// wherever its journal says that evidence was written to.
func Leftovers(store *incident.Store, id incident.ID, entries []timeline.Entry) ([]evidence.Leftover, error) {
	path, err := store.TimelinePath(id)
	if err != nil {
		return nil, err
	}
	folders := []string{filepath.Dir(path)}
	for _, e := range entries {
		var d elsewhere
		if r, ok := evidence.ReceiptIn(e.Data); ok {
			d.Folder = filepath.Dir(r.Path)
		} else if e.Action != actionElsewhere || json.Unmarshal(e.Data, &d) != nil {
			continue
		}
		if filepath.IsAbs(d.Folder) && !slices.Contains(folders, d.Folder) {
			folders = append(folders, d.Folder)
		}
	}
	return evidence.Leftovers(folders...)
}

// elsewhere is the data of an observation with actionElsewhere: evidence is
// written to another folder than the incident's.
type elsewhere struct {
	Folder string `json:"folder"`
}

const actionElsewhere = "elsewhere"

// noteElsewhere journals the folder of a bundle before it is begun, so that it
// is known where to look for what a kill leaves of it.
func noteElsewhere(h *incident.Handle, c collection, bundle string) error {
	folder, err := filepath.Abs(filepath.Dir(bundle))
	if err != nil || folder == filepath.Dir(h.Log.Path()) {
		return err
	}
	data, err := json.Marshal(elsewhere{folder})
	if err != nil {
		return err
	}
	return noteOnce(h, timeline.Entry{Kind: timeline.KindObservation, Phase: c.phase, Step: c.step, Action: actionElsewhere,
		Summary: fmt.Sprintf("evidence is written to %s", folder), Data: data})
}
