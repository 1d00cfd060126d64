package engine

import (
	"errors"

	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

// note appends an entry with a payload of package record; nil: with none.
func note(h *incident.Handle, e timeline.Entry, payload any) (timeline.Entry, error) {
	if payload != nil {
		var err error
		if e, err = e.With(payload); err != nil {
			return e, err
		}
	}
	return h.Log.Append(e)
}

// carrying is an entry with a payload, or, where that is larger than an entry may
// be, with a smaller one that says what is left out of it.
func carrying(e timeline.Entry, payload, smaller any) (timeline.Entry, error) {
	whole, err := e.With(payload)
	if errors.Is(err, record.ErrTooLarge) {
		return e.With(smaller)
	}
	return whole, err
}
