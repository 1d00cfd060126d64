package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"irctl/internal/cluster"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/runbook"
	"irctl/internal/timeline"
)

// Bounds of collecting evidence, where a step has none of its own.
const (
	snapshotTime    = 30 * time.Second
	investigateTime = 10 * time.Minute
	// logBytes is kept of each log.
	logBytes = 256 << 20
	// evidenceStall is how long a request may bring nothing.
	evidenceStall = 30 * time.Second
)

func snapshotOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "snapshot", Doc: "Seal what is lost first: the suspects' objects, logs, events and owners. It changes nothing. It needs recipients: irctl run -r KEY.",
			Inputs:  suspectInputs(),
			Results: evidenceResults(), Check: checkEvidence},
		describe: func(in runbook.Inputs) string { return "seal a snapshot of " + suspectsText(in) },
		do: func(ctx context.Context, w *work) (outcome, error) {
			return w.collect(ctx, "snapshot", snapshotTime, func(ctx context.Context, req evidence.Request) (evidence.Result, error) {
				receipt, err := evidence.Snapshot(ctx, req)
				return evidence.Result{Receipt: receipt}, err
			})
		},
	}
}

func investigateOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "investigate", Doc: "Collect everything the cluster can tell of the suspects and seal it. As irctl investigate. It reads only, unless live, files or checkpoint allow more; then a person is asked. It needs recipients: irctl run -r KEY.",
			Inputs: append(suspectInputs(), []runbook.Field{
				{Name: "live", Domain: runbook.Of(runbook.Boolean), Doc: "Run commands in the containers: processes, sockets, mounts, environment, recent files."},
				{Name: "debugImage", Domain: runbook.Of(runbook.Image), Doc: "With live: image of an ephemeral container, for containers without a shell; it cannot be removed again."},
				{Name: "checkpoint", Domain: runbook.Of(runbook.Boolean), Doc: "Have the kubelet write a checkpoint of the containers' memory to the node's disk."},
				{Name: "files", Domain: runbook.ListOf(runbook.Path), Doc: "Files and directories in the containers."},
				{Name: "since", Domain: runbook.Of(runbook.Duration), Doc: "Only logs and audit entries of so long ago until now."},
				{Name: "auditLog", Domain: runbook.Of(runbook.Path), Doc: "File of the API server's audit log on this machine."},
				{Name: "redact", Domain: runbook.Of(runbook.Boolean), Doc: "Also write a bundle to be shared, without what looks like a secret."},
			}...),
			Results: evidenceResults(), Check: checkEvidence},
		intrusive: func(in runbook.Inputs) bool {
			return in.Yes("live", false) || in.Yes("checkpoint", false) || len(in.Texts("files")) > 0
		},
		describe: func(in runbook.Inputs) string { return "collect and seal evidence of " + suspectsText(in) },
		do: func(ctx context.Context, w *work) (outcome, error) {
			return w.collect(ctx, "investigation", investigateTime, evidence.Investigate)
		},
	}
}

func evidenceResults() []runbook.Result {
	return []runbook.Result{
		{Name: "sealed", Domain: runbook.Of(runbook.Boolean), Doc: "There is a bundle."},
		{Name: "complete", Domain: runbook.Of(runbook.Boolean), Doc: "Nothing is missing in it."},
		{Name: "file", Domain: runbook.Of(runbook.String), Doc: "The bundle's path."},
		{Name: "sha256", Domain: runbook.Of(runbook.String), Doc: "Its digest."},
	}
}

func checkEvidence(in runbook.Literals) (input, problem string) {
	if !in.Given("pods") && !in.Given("labels") {
		return "", "evidence of what? give pods, or labels in a namespace"
	}
	return checkSuspects(in)
}

func suspectsText(in runbook.Inputs) string {
	if pods := in.Texts("pods"); len(pods) > 0 {
		return strings.Join(pods, ", ")
	}
	return "pods with " + strings.Join(in.Texts("labels"), ", ") + " in " + in.Text("namespace")
}

// errNoRecipients: evidence is only ever kept encrypted.
var errNoRecipients = fmt.Errorf("%w: nobody could open the evidence, and it is only ever kept encrypted; give -r KEY, or configure recipients", ErrRefused)

// collector is evidence.Investigate, or what is like it.
type collector func(context.Context, evidence.Request) (evidence.Result, error)

// collect seals evidence into the incident's directory, and journals the
// receipt. The lock is held meanwhile: the journal's head is in the receipt.
func (w *work) collect(ctx context.Context, purpose string, fallback time.Duration, gather collector) (outcome, error) {
	if w.req.Evidence == nil {
		return outcome{summary: "no evidence was sealed"}, errNoRecipients
	}
	looking, cancel := w.engine.within(ctx)
	pods, _, failures, err := w.suspects(looking)
	cancel()
	if err != nil {
		return outcome{}, err
	}
	limit := w.step.Limit()
	if limit == 0 {
		limit = fallback
	}
	var result evidence.Result
	err = w.journal(ctx, func(h *incident.Handle) error {
		req, err := w.evidenceRequest(h, purpose, pods, limit)
		if err != nil {
			return err
		}
		timelineFile, err := os.Open(h.Log.Path())
		if err != nil {
			return fmt.Errorf("reading the timeline: %w", err)
		}
		defer func() { _ = timelineFile.Close() }() // only read
		req.Timeline = timelineFile
		result, err = gather(ctx, req)
		return errors.Join(err, w.receipt(h, purpose, pods, result, err))
	})
	r := result.Receipt
	o := outcome{summary: "no evidence was sealed", detail: result, results: map[string]any{"sealed": r.Path != "", "complete": r.Complete, "file": r.Path, "sha256": r.SHA256}}
	if r.Path != "" {
		o.summary = fmt.Sprintf("sealed in %s, sha256 %s", filepath.Base(r.Path), r.SHA256)
	}
	if err == nil && len(failures) > 0 {
		err = errors.New(strings.Join(failures, "; "))
	}
	return o, err
}

func (w *work) evidenceRequest(h *incident.Handle, purpose string, pods []*cluster.Target, limit time.Duration) (evidence.Request, error) {
	req := *w.req.Evidence
	req.Client, req.Dynamic, req.Now = w.Client.Kube, w.Client.Dynamic, w.Now
	// Of a process that was killed while it sealed, a bundle of that second may be left.
	req.Path = filepath.Join(h.Dir(), evidence.FileName(purpose+"-"+w.session[:8], w.Now()))
	req.Meta = w.EvidenceMeta(h, req.Meta.Tool)
	req.Limits.Time = limit
	if req.Limits.LogBytes == 0 {
		req.Limits.LogBytes = logBytes
	}
	if req.Limits.Stall == 0 {
		req.Limits.Stall = evidenceStall
	}
	for _, t := range pods {
		req.Pods = append(req.Pods, evidence.PodRef{Namespace: t.Pod.Namespace, Name: t.Pod.Name, UID: t.Pod.UID})
	}
	in := w.in
	req.Scope = evidence.Scope{Live: in.Yes("live", false), DebugImage: in.Text("debugImage"), Checkpoint: in.Yes("checkpoint", false),
		Files: in.Texts("files"), AuditLog: in.Text("auditLog")}
	if since := in.Duration("since"); since > 0 {
		req.Scope.Since = w.Now().Add(-since)
	}
	if in.Yes("redact", false) {
		req.Scope.Shared = strings.TrimSuffix(req.Path, evidence.Extension) + "-redacted" + evidence.Extension
	}
	req.Announce = func(_ context.Context, change string) (func(error), error) { return w.announce(h, change) }
	return req, req.Scope.CheckFiles()
}

// announce journals a trace before it is left, and what came of it.
func (w *work) announce(h *incident.Handle, change string) (func(error), error) {
	entry := timeline.Entry{Kind: timeline.KindObservation, Phase: string(w.step.Phase()), Step: w.step.Name, Summary: "about to make: " + change}
	if _, err := h.Log.Append(entry); err != nil {
		return nil, fmt.Errorf("it is not done, since it could not be journaled: %w", err)
	}
	return func(err error) {
		entry.Summary, entry.Outcome = change, timeline.OutcomeDone
		if err != nil {
			entry.Outcome, entry.Error = timeline.OutcomeFailed, err.Error()
		}
		if _, err := h.Log.Append(entry); err != nil {
			w.Front.Observe(Event{Kind: Noticed, Step: w.step.Name, Text: "what came of it could not be journaled: " + err.Error(), Err: err})
		}
	}, nil
}

// receipt journals what was sealed, as irctl investigate does.
func (w *work) receipt(h *incident.Handle, purpose string, pods []*cluster.Target, result evidence.Result, failure error) error {
	e := timeline.Entry{Kind: timeline.KindObservation, Phase: string(w.step.Phase()), Step: w.step.Name, Outcome: timeline.OutcomeDone, Summary: "no evidence could be sealed"}
	for _, t := range pods {
		e.Targets = append(e.Targets, t.Key())
	}
	if failure != nil {
		e.Outcome, e.Error = timeline.OutcomeFailed, failure.Error()
	}
	if r := result.Receipt; r.Path != "" {
		r.Segments = nil // they are in the file beside the bundle
		data, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encoding the receipt: %w", err)
		}
		e.Data = data
		e.Summary = fmt.Sprintf("%s sealed in %s, sha256 %s", purpose, filepath.Base(r.Path), r.SHA256)
	}
	if _, err := h.Log.Append(e); err != nil {
		return fmt.Errorf("the evidence could not be journaled: %w", err)
	}
	return nil
}
