package cli

import (
	"context"
	"fmt"
	"strings"

	"irctl/internal/config"
	"irctl/internal/engine"
	"irctl/internal/evidence"
)

// noRecipients is shown by contain when it cannot take a snapshot.
const noRecipients = "no snapshot is taken before the first write, since no recipients are configured (-r KEY, or " +
	"recipients in irctl.yaml): evidence is only ever kept encrypted"

// sealing loads the keys of recipients, who are named or configured, so that
// one that cannot be used is not found out afterwards. It is nil if there are none.
func (a *App) sealing(ctx context.Context, named []string, conf config.Config) (*engine.Sealing, error) {
	refs := named
	if len(refs) == 0 {
		refs = conf.Refs()
	}
	if len(refs) == 0 {
		return nil, nil
	}
	recipients, err := evidence.LoadRecipients(ctx, refs)
	if err != nil {
		return nil, fmt.Errorf("the evidence could not be sealed: %w", err)
	}
	return &engine.Sealing{Recipients: recipients, Tool: evidence.RunningTool("irctl", versionText()),
		Limits: evidence.Limits{LogBytes: int64(conf.Limits.LogBytes), BundleBytes: int64(conf.Limits.BundleBytes),
			Concurrency: int(conf.Limits.Concurrency)}}, nil
}

// snapshot is snapshotOf the recipients who are named or configured. That
// configured ones cannot be used does not keep anybody from containing: the
// suspect stays alive to be collected from. Those that were named on the command
// line do.
func (a *App) snapshot(ctx context.Context, named []string) (take engine.Snapshot, note string, err error) {
	conf, err := a.configuration()
	if err != nil && len(named) == 0 {
		return nil, fmt.Sprintf("no snapshot is taken before the first write: %v", err), nil
	}
	if err != nil {
		return nil, "", err
	}
	s, err := a.sealing(ctx, named, conf)
	switch {
	case err != nil && len(named) == 0:
		return nil, fmt.Sprintf("no snapshot is taken before the first write: %v", err), nil
	case err != nil:
		return nil, "", err
	}
	take, note = snapshotOf(s)
	return take, note, nil
}

// snapshotOf seals the suspects' evidence before the first write; nil without
// recipients. The note says who will be able to open it, or why there is none.
func snapshotOf(s *engine.Sealing) (engine.Snapshot, string) {
	if s == nil {
		return nil, noRecipients
	}
	var names []string
	for _, r := range s.Recipients {
		names = append(names, r.Fingerprint())
	}
	return s.Snapshot(), "evidence will be sealed to " + strings.Join(names, ", ")
}
