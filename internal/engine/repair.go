package engine

import (
	"context"
	"fmt"
	"strings"

	"irctl/internal/casefile"
	"irctl/internal/incident"
	"irctl/internal/timeline"
)

// Seen is what was seen of an incident before it is repaired. Its JSON form is
// documented and stable.
type Seen struct {
	// Already: the head of its journal is there.
	Already bool `json:"already,omitempty"`
	doubtful
}

// Repair looks what the cluster has of an incident that its journal does not know, and,
// if there is a reason to, makes the incident usable again. What was seen is in the
// result also where that is refused.
func (e *Engine) Repair(ctx context.Context, id incident.ID, reason string) (*Seen, error) {
	i, err := e.Store.Load(id)
	if err != nil {
		return nil, err
	}
	var entries []timeline.Entry
	if entries, err = e.Store.Entries(id); err != nil {
		return nil, fmt.Errorf("incident %s cannot be repaired: %w", id, err)
	}
	seen := &Seen{doubtful: e.doubtsOf(ctx, i, casefile.Of(entries), ofAll)}
	repairs := false
	for _, d := range i.Doubts {
		repairs = repairs || d.Repair
	}
	if seen.Already = !repairs; seen.Already {
		return seen, nil
	}
	if err := e.notHere(i); err != nil {
		return seen, err
	}
	reason = strings.TrimSpace(reason)
	if reason == "" {
		return seen, fmt.Errorf(
			"%w: nothing was changed: give --reason to go on in incident %s with what its journal has (%d lines)",
			ErrRefused, id, len(entries))
	}
	what := fmt.Sprintf(
		"the head of the journal was lost, and entries may be missing before this one; it is gone on with: %s", reason)
	for _, s := range seen.Strays {
		what += fmt.Sprintf("; %s carries the incident's label, and is not known", s.Object)
	}
	_, err = e.Store.Repair(ctx, id, e.Actor(), what)
	return seen, err
}
