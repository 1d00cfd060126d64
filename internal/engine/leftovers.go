package engine

import (
	"fmt"
	"path/filepath"
	"slices"

	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/record"
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
		folder := ""
		if r, ok := timeline.Payload[record.Receipt](&e); ok {
			folder = filepath.Dir(r.Path)
		} else if d, ok := timeline.Payload[record.Elsewhere](&e); ok {
			folder = d.Folder
		}
		if filepath.IsAbs(folder) && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	return evidence.Leftovers(folders...)
}

// actionElsewhere is of an observation that evidence is written to another
// folder than the incident's.
const actionElsewhere = "elsewhere"

// noteElsewhere journals the folder of a bundle before it is begun, so that it
// is known where to look for what a kill leaves of it.
func noteElsewhere(h *incident.Handle, c collection, bundle string) error {
	folder, err := filepath.Abs(filepath.Dir(bundle))
	if err != nil || folder == filepath.Dir(h.Log.Path()) {
		return err
	}
	e, err := timeline.Entry{Kind: timeline.KindObservation, Phase: c.phase, Step: c.step, Action: actionElsewhere,
		Summary: fmt.Sprintf("evidence is written to %s", folder)}.With(record.Elsewhere{Folder: folder})
	if err != nil {
		return err
	}
	return noteOnce(h, e)
}
