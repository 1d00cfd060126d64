package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"irctl/internal/cluster"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
)

// noRecipients is shown by contain when it cannot take a snapshot.
const noRecipients = "no snapshot is taken before the first write, since no recipients are configured (-r KEY, or recipients in irctl.yaml): evidence is only ever kept encrypted"

// snapshotFor loads the recipients, the configured ones if none are named, and
// returns what seals the suspects' evidence for them; nil if there are none.
// The note says who will be able to open it, or why there is none.
func (a *App) snapshotFor(ctx context.Context, named []string) (take engine.Snapshot, note string, err error) {
	refs := named
	if len(refs) == 0 {
		conf, err := a.configuration()
		if err != nil {
			return nil, "", err
		}
		refs = conf.Refs()
	}
	if len(refs) == 0 {
		return nil, noRecipients, nil
	}
	recipients, err := evidence.LoadRecipients(ctx, refs)
	if err != nil {
		return nil, "", fmt.Errorf("the evidence could not be sealed: %w", err)
	}
	var names []string
	for _, r := range recipients {
		names = append(names, r.Fingerprint())
	}
	return func(ctx context.Context, e *engine.Engine, h *incident.Handle, targets []*cluster.Target) (json.RawMessage, string, error) {
		return takeSnapshot(ctx, e, h, targets, recipients)
	}, "evidence will be sealed to " + strings.Join(names, ", "), nil
}

// snapshot is snapshotFor, but that configured recipients who cannot be used
// do not keep anybody from containing: the suspect stays alive to be collected
// from. Those that were named on the command line do.
func (a *App) snapshot(ctx context.Context, named []string) (engine.Snapshot, string, error) {
	take, note, err := a.snapshotFor(ctx, named)
	if err != nil && len(named) == 0 {
		return nil, fmt.Sprintf("no snapshot is taken before the first write: %v", err), nil
	}
	return take, note, err
}

func takeSnapshot(ctx context.Context, e *engine.Engine, h *incident.Handle, targets []*cluster.Target, recipients []evidence.Recipient) (json.RawMessage, string, error) {
	path := filepath.Join(h.Dir(), evidence.FileName("snapshot", e.Now()))
	req := evidence.Request{Client: e.Client.Kube, Dynamic: e.Client.Dynamic, Path: path, Recipients: recipients,
		Meta: evidenceMeta(e, h), Limits: evidence.Limits{Time: snapshotTime}, Now: e.Now}
	for _, t := range targets {
		req.Pods = append(req.Pods, evidence.PodRef{Namespace: t.Pod.Namespace, Name: t.Pod.Name})
	}
	journal, err := os.Open(h.Log.Path())
	if err != nil {
		return nil, "", fmt.Errorf("reading the timeline for the snapshot: %w", err)
	}
	defer func() { _ = journal.Close() }() // it was only read
	req.Timeline = journal
	receipt, err := evidence.Snapshot(ctx, req)
	if err != nil {
		return nil, "", err
	}
	data, err := json.Marshal(receipt)
	if err != nil {
		return nil, "", fmt.Errorf("encoding the receipt of %s: %w", path, err)
	}
	text := fmt.Sprintf("snapshot of %s sealed in %s, sha256 %s", count(len(targets), "pod"), filepath.Base(path), receipt.SHA256)
	if !receipt.Complete {
		text += "; incomplete, its INDEX.md says what is missing"
	}
	return data, text, nil
}

func evidenceMeta(e *engine.Engine, h *incident.Handle) evidence.Meta {
	return e.EvidenceMeta(h, evidence.RunningTool("irctl", versionText()))
}
