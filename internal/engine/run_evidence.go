package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/runbook"
)

func snapshotOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "snapshot", Doc: "Seal what is lost first: the suspects' objects, logs, " +
			"events and owners. It changes nothing. It needs recipients: irctl run -r KEY.",
			Inputs:  evidenceInputs(),
			Results: evidenceResults(), Check: checkSuspects},
		seals:    true,
		describe: func(in runbook.Inputs) string { return "seal a snapshot of " + suspectsText(in) },
		do: func(ctx context.Context, w *work) (outcome, error) {
			return w.collect(ctx, collection{purpose: "snapshot", brief: true,
				Sealing: Sealing{Limits: evidence.Limits{Time: snapshotTime}}})
		},
	}
}

func investigateOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "investigate", Doc: "Collect everything the cluster can tell of the " +
			"suspects and seal it. As irctl investigate. It reads only, unless live, files or checkpoint allow more; " +
			"then a person is asked. It needs recipients: irctl run -r KEY.",
			Inputs: append(evidenceInputs(), []runbook.Field{
				{Name: "live", Domain: runbook.Of(runbook.Boolean),
					Doc: "Run commands in the containers: processes, sockets, mounts, environment, recent files."},
				{Name: "debugImage", Domain: runbook.Of(runbook.Image), Doc: "With live or files: image of an " +
					"ephemeral container, for containers without a shell; it cannot be removed again."},
				{Name: "checkpoint", Domain: runbook.Of(runbook.Boolean),
					Doc: "Have the kubelet write a checkpoint of the containers' memory to the node's disk."},
				{Name: "files", Domain: runbook.ListOf(runbook.Path), Doc: "Files and directories in the containers."},
				{Name: "since", Domain: runbook.Of(runbook.Duration),
					Doc: "Only logs and audit entries of so long ago until now."},
				{Name: "auditLog", Domain: runbook.Of(runbook.Path),
					Doc: "File of the API server's audit log on this machine."},
				{Name: "redact", Domain: runbook.Of(runbook.Boolean),
					Doc: "Also write a bundle to be shared, without what looks like a secret."},
			}...),
			Results: evidenceResults(), Check: checkSuspects},
		seals: true,
		intrusive: func(in runbook.Inputs) bool {
			return Traces(scopeOf(in))
		},
		describe: func(in runbook.Inputs) string { return "collect and seal evidence of " + suspectsText(in) },
		do: func(ctx context.Context, w *work) (outcome, error) {
			in := w.in
			c := collection{purpose: "investigation", redact: in.Yes("redact", false),
				Sealing: Sealing{Limits: evidence.Limits{Time: investigateTime}}, scope: scopeOf(in)}
			if since := in.Duration("since"); since > 0 {
				c.scope.Since = w.Now().Add(-since)
			}
			return w.collect(ctx, c)
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

func evidenceInputs() []runbook.Field {
	inputs := suspectInputs()
	inputs[0].Doc = "The suspects as NAMESPACE/NAME; with no labels either, those of the incident."
	return inputs
}

func suspectsText(in runbook.Inputs) string {
	if pods := in.Texts("pods"); len(pods) > 0 {
		return strings.Join(pods, ", ")
	}
	if labels := in.Texts("labels"); len(labels) > 0 {
		return "pods with " + strings.Join(labels, ", ") + " in " + in.Text("namespace")
	}
	return "the incident's suspects"
}

// errNoRecipients: evidence is only ever kept encrypted.
var errNoRecipients = fmt.Errorf(
	"%w: nobody could open the evidence, and it is only ever kept encrypted; give -r KEY, or configure recipients",
	ErrRefused)

func scopeOf(in runbook.Inputs) evidence.Scope {
	return evidence.Scope{Live: in.Yes("live", false), DebugImage: in.Text("debugImage"),
		Checkpoint: in.Yes("checkpoint", false),
		Files:      in.Texts("files"), AuditLog: in.Text("auditLog")}
}

// witnesses are the pods of which evidence is collected: those that the step names,
// or the incident's.
func (w *work) witnesses(ctx context.Context) (*Suspects, error) {
	q := w.named(ctx)
	if len(q.Pods) == 0 && q.Selector == "" {
		i, err := w.Store.Load(w.id)
		if err != nil {
			return nil, err
		}
		for _, t := range i.Targets {
			if t.Kind == "Pod" {
				q.Pods = append(q.Pods, t.Namespace+"/"+t.Name)
			}
		}
		if len(q.Pods) == 0 {
			return nil, fmt.Errorf("%w: incident %s has no suspects yet: contain them first, or name them with pods",
				ErrRefused, w.id)
		}
	}
	return w.engine.Suspects(ctx, q)
}

// collect seals evidence of the step's suspects into the incident's directory,
// and journals the receipt. The lock is held meanwhile: the journal's head is in
// the receipt. What is given of the collection are its limits, but for those
// that the step and the run have.
func (w *work) collect(ctx context.Context, c collection) (outcome, error) {
	if w.req.Evidence == nil {
		return outcome{summary: "no evidence was sealed"}, errNoRecipients
	}
	if err := c.scope.CheckFiles(); err != nil {
		return outcome{}, err
	}
	looking, cancel := w.engine.within(ctx)
	found, err := w.witnesses(looking)
	cancel()
	if err != nil {
		return outcome{}, err
	}
	limit := cmp.Or(w.step.Limit(), c.Limits.Time)
	c.Sealing, c.targets = *w.req.Evidence, found.Pods
	c.Limits.Time = limit
	c.fillLimits()
	c.phase, c.step = string(w.step.Phase()), w.step.Name
	// Of a process that was killed while it sealed, a bundle of that second may be left.
	c.purpose += "-" + w.session[:8]
	var result evidence.Result
	err = w.journal(ctx, func(h *incident.Handle) (err error) {
		result, err = w.engine.collect(ctx, h, c)
		return errors.Join(err, journalEvidence(h, c, result, err))
	})
	r := result.Receipt
	o := outcome{summary: "no evidence was sealed", detail: result,
		results: map[string]any{"sealed": r.Path != "", "complete": r.Complete, "file": r.Path, "sha256": r.SHA256}}
	if r.Path != "" {
		o.summary = c.sealed(r)
	}
	if err == nil && len(found.Failures) > 0 {
		err = errors.New(strings.Join(found.Failures, "; "))
	}
	return o, err
}
