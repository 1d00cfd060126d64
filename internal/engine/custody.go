package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

// HandOverResult is a hand-over, and where it is journaled.
type HandOverResult struct {
	Entry evidence.CustodyEntry
	// Incident is that of the bundle; "": it is none of this state directory,
	// which is all that Note says.
	Incident incident.ID
	Note     string
}

// HandOver signs for a hand-over and journals it in the bundle's incident, if
// that is one of the store's: whoever has the journal knows of all entries, so
// that none can be cut off the end of the chain unnoticed. It needs no cluster.
//
// Entries that the journal does not know yet are taken down with it: those of a
// process that was killed in between, or of the bundle's time elsewhere. An
// error after the entry was signed comes with the result.
func HandOver(ctx context.Context, store *incident.Store, bundle string, h evidence.HandOver, signer *evidence.Signer,
	now func() time.Time) (*HandOverResult, error) {
	actor := timeline.LocalActor()
	res := &HandOverResult{}
	// Its lock comes first: who cannot journal should know before signing.
	handle, note, err := incidentOf(ctx, store, bundle, actor)
	if err != nil {
		return nil, err
	}
	if res.Note = note; handle != nil {
		defer func() { _ = handle.Close() }() // every entry is on disk already
		res.Incident = handle.Incident().ID
	}
	res.Entry, err = evidence.AddCustody(ctx, bundle, h, evidence.Actor{OSUser: actor.OSUser, Host: actor.Host}, signer,
		now())
	if err != nil {
		return nil, err
	}
	if handle != nil {
		err = journalCustody(ctx, handle, bundle)
	}
	return res, err
}

// incidentOf opens the incident in which a bundle was sealed, if it is there and
// its journal says so too; else the note says why not.
func incidentOf(ctx context.Context, store *incident.Store, bundle string, actor timeline.Actor) (*incident.Handle,
	string, error) {
	receipt, err := evidence.ReadReceipt(ctx, bundle)
	if err != nil {
		return nil, "", err
	}
	id, err := incident.ParseID(receipt.Incident)
	if err != nil {
		return nil, "not journaled: the bundle is of no incident", nil
	}
	h, err := store.Open(ctx, id, actor)
	if errors.Is(err, incident.ErrNotFound) {
		return nil, fmt.Sprintf("not journaled: incident %s is not in the state directory %s", id, store.Dir()), nil
	}
	if err != nil {
		return nil, "", err
	}
	if known, _ := receiptAmong(h.Log.Entries(), func(r evidence.Receipt) bool {
		return r.SHA256 == receipt.SHA256
	}); known != nil {
		return h, "", nil
	}
	// Anybody can write an incident's ID into a receipt.
	return nil, fmt.Sprintf("not journaled: incident %s knows of no such bundle", id), h.Close()
}

// journalCustody takes down the entries of a bundle's chain that the journal
// does not have.
func journalCustody(ctx context.Context, h *incident.Handle, bundle string) error {
	chain, err := evidence.Custody(ctx, bundle)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, e := range h.Log.Entries() {
		if f, ok := timeline.Payload[record.Custody](&e); ok {
			known[f.SHA256] = true
		}
	}
	for _, f := range chain {
		if known[f.SHA256] {
			continue
		}
		e := timeline.Entry{Kind: timeline.KindObservation, Phase: "investigate", Step: "custody",
			Outcome: timeline.OutcomeDone,
			Summary: fmt.Sprintf("%s was handed over from %s to %s, signed by %s (custody entry %d)", f.Bundle, f.From,
				f.To, f.Signer, f.Seq)}
		if _, err := h.Log.AppendWith(e, f); err != nil {
			return fmt.Errorf(
				"the hand-over is signed, but it could not be journaled; the next one will journal it too: %w", err)
		}
	}
	return nil
}
