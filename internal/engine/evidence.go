package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/restmapper"

	"irctl/internal/casefile"
	"irctl/internal/cluster"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

// Sealing says how evidence is kept: who can open it, who signs for it, with
// what it is collected, and within what bounds.
type Sealing struct {
	Recipients []evidence.Recipient
	// Signer of receipts; nil: nobody signs. While it is locked evidence goes
	// unsigned, which is said: nothing waits for a passphrase here.
	Signer *evidence.Signer
	Tool   evidence.Tool
	// Limits that are zero are those of what is collected.
	Limits evidence.Limits
}

// Bounds of collecting evidence, where nobody says otherwise.
const (
	// containSnapshotTime is less than that of a step of its own: containment
	// must not wait for a log that never ends.
	containSnapshotTime = 10 * time.Second
	snapshotTime        = 30 * time.Second
	investigateTime     = 10 * time.Minute
	// logBytes is kept of each log.
	logBytes = 256 << 20
	// evidenceStall is how long a request may bring nothing.
	evidenceStall = 30 * time.Second
)

// collection is one bundle of an incident.
type collection struct {
	Sealing
	// purpose begins the bundle's name.
	purpose string
	// brief: only what is lost first, and nothing that scope names.
	brief bool
	// phase and step of the journal's entries.
	phase, step string
	targets     []*cluster.Target
	scope       evidence.Scope
	redact      bool
	// name of the bundle or a folder for it; "": the incident's directory.
	name string
}

// request is what package evidence is asked for, as far as it does not depend
// on the incident.
func (e *Engine) request(c collection) evidence.Request {
	// Not the client's connection: it tries again what an upgrade to a stream
	// must do once.
	req := evidence.Request{Client: e.Client.Kube, Dynamic: e.Client.Dynamic, Config: e.Client.Config,
		Mapper:     restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(e.Client.Discovery)),
		Recipients: c.Recipients, Signer: c.Signer, Limits: c.Limits, Scope: c.scope, Now: e.Now}
	for _, t := range c.targets {
		req.Pods = append(req.Pods, evidence.PodRef{Namespace: t.Pod.Namespace, Name: t.Pod.Name, UID: t.Pod.UID})
	}
	return req
}

// collect seals a bundle into an incident that is open. It journals traces that
// are left in the suspects, but not the receipt.
func (e *Engine) collect(ctx context.Context, h *incident.Handle, c collection) (evidence.Result, error) {
	e.begin(Collecting, h.Incident().ID)
	req := e.request(c)
	path, err := e.bundlePath(h, c)
	if err != nil {
		return evidence.Result{}, err
	}
	if err := noteElsewhere(h, c, path); err != nil {
		return evidence.Result{}, err
	}
	req.Path = path
	if c.redact {
		req.Scope.Shared = strings.TrimSuffix(path, evidence.Extension) + "-redacted" + evidence.Extension
	}
	journal, err := os.Open(h.Log.Path())
	if err != nil {
		return evidence.Result{}, fmt.Errorf("reading the timeline: %w", err)
	}
	defer func() { _ = journal.Close() }() // only read
	req.Timeline, req.Meta = journal, e.evidenceMeta(h, c.Tool)
	req.Progress = func(p evidence.Progress) {
		e.Front.Observe(Event{Kind: Progressed, Step: c.step, Text: p.Current, Done: p.Artefacts, Bytes: p.Bytes})
	}
	if c.brief {
		receipt, err := evidence.Snapshot(ctx, req)
		return evidence.Result{Receipt: receipt}, err
	}
	req.Announce = func(_ context.Context, what string, trace record.Trace) (func(error), error) {
		return e.announce(h, c, what, trace)
	}
	return evidence.Investigate(ctx, req)
}

// bundlePath takes the collection's name for a file or a folder.
func (e *Engine) bundlePath(h *incident.Handle, c collection) (string, error) {
	path, name := c.name, evidence.FileName(c.purpose, e.Now())
	if h.Incident().Drill {
		name = "DRILL-" + name // also where it lies on its own
	}
	switch {
	case path == "":
		path = filepath.Join(h.Dir(), name)
	case !strings.HasSuffix(path, evidence.Extension):
		path = filepath.Join(path, name)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("the bundle's folder: %w", err)
	}
	return path, nil
}

// evidenceMeta says, for a bundle, who collects with what, of which cluster, in
// which incident, and where its journal stood.
func (e *Engine) evidenceMeta(h *incident.Handle, tool evidence.Tool) evidence.Meta {
	id, actor, head := e.identity, e.Actor(), h.Log.Head()
	m := evidence.Meta{Incident: string(h.Incident().ID), Drill: h.Incident().Drill,
		Actor:   evidence.Actor{OSUser: actor.OSUser, Host: actor.Host, User: id.User, Groups: id.Groups},
		Cluster: evidence.Cluster{Server: id.Server, UID: id.ClusterUID, Version: id.Version, Context: e.Context},
		Tool:    tool, Timeline: &evidence.ChainHead{Seq: head.Seq, SHA256: head.SHA256}}
	if offset, known := e.Client.ClockOffset(); known {
		seconds := offset.Seconds()
		m.Cluster.ClockOffset = &seconds
	}
	return m
}

// announce journals a trace before it is left, and what came of it.
func (e *Engine) announce(h *incident.Handle, c collection, what string, trace record.Trace) (func(error), error) {
	entry, err := timeline.Entry{Kind: timeline.KindObservation, Phase: c.phase, Step: c.step,
		Summary: casefile.AboutToMake + what}.With(trace)
	if err == nil {
		_, err = h.Log.Append(entry)
	}
	if err != nil {
		return nil, fmt.Errorf("it is not done, since it could not be journaled: %w", err)
	}
	return func(err error) {
		entry.Summary, entry.Outcome = what, timeline.OutcomeDone
		if err != nil {
			entry.Outcome, entry.Error = timeline.OutcomeFailed, err.Error()
			if cluster.FailureOf(err).Denied() {
				entry.Outcome = timeline.OutcomeDenied
			}
		}
		if _, err := h.Log.Append(entry); err != nil {
			e.Front.Observe(Event{Kind: Noticed, Step: c.step, Text: "what came of it could not be journaled: " +
				err.Error(), Err: err})
		}
	}, nil
}

// journalEvidence records what was sealed, or that nothing could be.
func journalEvidence(h *incident.Handle, c collection, result evidence.Result, failure error) error {
	e := timeline.Entry{Kind: timeline.KindObservation, Phase: c.phase, Step: c.step, Outcome: timeline.OutcomeDone,
		Summary: c.what() + " could not be sealed"}
	for _, t := range c.targets {
		e.Targets = append(e.Targets, t.Key())
	}
	if failure != nil {
		e.Outcome, e.Error = timeline.OutcomeFailed, failure.Error()
	}
	var payload any
	if r := result.Receipt; r.Path != "" {
		payload, e.Summary = journaledReceipt(r), sealedText(c, r)
	}
	if _, err := h.Log.AppendWith(e, payload); err != nil {
		return fmt.Errorf("the evidence could not be journaled: %w", err)
	}
	if result.Shared == nil {
		return nil
	}
	e.Summary, e.Outcome, e.Error = fmt.Sprintf("the same to be shared, redacted, sealed in %s, sha256 %s",
		filepath.Base(result.Shared.Path), result.Shared.SHA256), timeline.OutcomeDone, ""
	if _, err := h.Log.AppendWith(e, journaledReceipt(*result.Shared)); err != nil {
		return fmt.Errorf("the evidence could not be journaled: %w", err)
	}
	return nil
}

// journaledReceipt is a receipt as the journal keeps it: the digests of the
// segments are in the file beside the bundle.
func journaledReceipt(r evidence.Receipt) evidence.Receipt {
	r.Segments = nil
	return r
}

func (c collection) what() string {
	what, n := "evidence", len(c.targets)
	if c.brief {
		what = "snapshot"
	}
	if n == 1 {
		return what + " of 1 pod"
	}
	return fmt.Sprintf("%s of %d pods", what, n)
}

func sealedText(c collection, r evidence.Receipt) string {
	return c.what() + " " + c.sealed(r)
}

// sealed says where it is, and that nobody signed for it who could have.
func (c collection) sealed(r evidence.Receipt) string {
	text := fmt.Sprintf("sealed in %s, sha256 %s", filepath.Base(r.Path), r.SHA256)
	if c.Signer != nil && r.Signer == "" {
		text += "; its receipt is not signed"
	}
	return text
}

// Snapshot seals the suspects' evidence before a containment's first write.
func (s Sealing) Snapshot() Snapshot {
	return func(ctx context.Context, e *Engine, h *incident.Handle, targets []*cluster.Target) (*evidence.Receipt,
		string, error) {
		c := collection{Sealing: s, purpose: "snapshot", brief: true, phase: "contain", step: "snapshot",
			targets: targets}
		c.Limits = evidence.Limits{Time: containSnapshotTime, BundleBytes: s.Limits.BundleBytes,
			Concurrency: s.Limits.Concurrency}
		result, err := e.collect(ctx, h, c)
		r := result.Receipt
		if unsigned := errors.Is(err, evidence.ErrNotSigned) && r.Path != ""; err != nil && !unsigned {
			return nil, "", err
		}
		text := sealedText(c, r)
		if !r.Complete {
			text += "; incomplete, its INDEX.md says what is missing"
		}
		r = journaledReceipt(r)
		return &r, text, nil
	}
}
