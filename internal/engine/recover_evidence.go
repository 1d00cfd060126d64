package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"irctl/internal/cluster"
	"irctl/internal/evidence"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

// sealed finds the bundle of this incident in which there is evidence of a pod,
// by its UID, and compares its digest, as it lies on disk, with that of the
// journal. It returns the bundle's name.
func (x *recovering) sealed(ctx context.Context, t *cluster.Target) (string, error) {
	entries, dir := x.entries, ""
	if x.handle != nil {
		entries, dir = x.handle.Log.Entries(), x.handle.Dir()
	} else if path, err := x.Store.TimelinePath(x.incident.ID); err == nil {
		dir = filepath.Dir(path)
	}
	var last error
	for _, r := range slices.Backward(receiptsOf(entries)) {
		if r.Redacted != "" || !slices.ContainsFunc(r.Pods, func(p evidence.SealedPod) bool {
			return p.UID == string(t.Pod.UID)
		}) {
			continue
		}
		if err := x.intact(ctx, dir, r); err != nil {
			if last == nil {
				last = err
			}
			continue
		}
		return filepath.Base(r.Path), nil
	}
	if last != nil {
		return "", fmt.Errorf("its evidence cannot be relied on: %w", last)
	}
	return "", fmt.Errorf("no evidence of pod %s (uid %s) is sealed in incident %s", t.Key(), t.Pod.UID, x.incident.ID)
}

// receiptsOf are the bundles of which a journal tells.
func receiptsOf(entries []timeline.Entry) []evidence.Receipt {
	var list []evidence.Receipt
	for _, e := range entries {
		if r, ok := timeline.Payload[record.Receipt](&e); ok && r.Path != "" && r.SHA256 != "" {
			list = append(list, *r)
		}
	}
	return list
}

// intact: the bundle lies in the incident's directory, or where it was sealed,
// and is what the journal says. A copy of the incident has it in its directory.
func (x *recovering) intact(ctx context.Context, dir string, r evidence.Receipt) error {
	var first error
	for _, path := range []string{filepath.Join(dir, filepath.Base(r.Path)), r.Path} {
		v, err := evidence.VerifyBundle(ctx, path, evidence.VerifyOptions{})
		switch {
		case err == nil && v.SHA256 == r.SHA256:
			return nil
		case err == nil:
			err = fmt.Errorf("%s is not what was sealed: its SHA-256 is %s, the journal says %s", path, v.SHA256,
				r.SHA256)
		}
		if first == nil {
			first = err
		}
	}
	return first
}
