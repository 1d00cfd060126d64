package engine

import (
	"context"

	"irctl/internal/incident"
	"irctl/internal/timeline"
)

// opened is the incident that a run is about.
type opened struct {
	*Engine
	incident incident.Incident
	handle   *incident.Handle // nil in a dry run
	entries  []timeline.Entry
}

// look reads the incident, for a run that writes nothing.
func (o *opened) look(id incident.ID) (err error) {
	o.incident, o.entries, err = o.read(id)
	return err
}

// take takes the incident's lock, and settles what an earlier run left.
func (o *opened) take(ctx context.Context, id incident.ID) (err error) {
	if o.handle, err = o.Store.Open(ctx, id, o.Actor()); err != nil {
		return err
	}
	o.incident = o.handle.Incident()
	if err := o.usable(o.incident); err != nil {
		return err
	}
	if err := o.resume(ctx, o.handle); err != nil {
		return err
	}
	o.entries = o.handle.Log.Entries()
	return nil
}

func (o *opened) close() {
	if o.handle != nil {
		_ = o.handle.Close() // every entry is on disk already
	}
}

// read reads an incident and its journal without its lock.
func (e *Engine) read(id incident.ID) (incident.Incident, []timeline.Entry, error) {
	i, err := e.Store.Load(id)
	if err != nil {
		return i, nil, err
	}
	entries, err := e.Store.Entries(id)
	if err != nil {
		return i, nil, err
	}
	return i, entries, e.usable(i)
}
