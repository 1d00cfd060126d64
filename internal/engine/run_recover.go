package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"irctl/internal/runbook"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
	recovery "irctl/internal/steps/recover"
)

func recoverVerdicts() runbook.Domain {
	return runbook.OneOf(string(Recovered), string(RecoveredOpen), string(NotRecovered), string(NothingRecovered))
}

func suspectInput() runbook.Field {
	return runbook.Field{Name: "suspect", Domain: runbook.OneOf(string(recovery.Keep), string(recovery.Deleted)),
		Doc: "What becomes of the suspects; else they are kept. They are deleted only once evidence of each is " +
			"sealed in this incident, and lies on disk as it was sealed. For good."}
}

func restoreOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "restore", Asks: true, Doc: "Put the workloads back as they were before " +
			"containment, wait for the rollouts, and go through the post-deployment checklist. As irctl recover, " +
			"without what release does. An image that is the suspects' is refused; the eradication deploys another.",
			Inputs: []runbook.Field{
				{Name: "sameImage", Domain: runbook.Of(runbook.Boolean),
					Doc: "Also onto the suspects' image. Then it is recorded that the way in is still open."},
				{Name: "wait", Domain: runbook.Of(runbook.Duration), Doc: "How long the rollouts may take; else 5m."},
				{Name: "suspect", Domain: runbook.OneOf(string(recovery.Keep), string(recovery.Deleted)),
					Doc: "With delete, a suspect that has the name of a StatefulSet's pod is deleted first, if its " +
						"evidence is sealed; else the StatefulSet is not restored."},
			},
			Results: []runbook.Result{
				{Name: "verdict", Domain: recoverVerdicts(), Doc: "The verdict on the workloads."},
				{Name: "wayIn", Domain: runbook.OneOf(string(recovery.Closed), string(recovery.Open),
					string(recovery.Unknown)),
					Doc: "Whether the way in is closed: open, if a workload has the suspects' image."},
				{Name: "failed", Domain: runbook.ListOf(runbook.String),
					Doc: "Codes of the checks that failed: rollout, non-root, capabilities…"},
				{Name: "unknown", Domain: runbook.ListOf(runbook.String),
					Doc: "Codes of the checks that could not be made."},
			}},
		plans:    true,
		describe: constantly("put the workloads back into service, wait for them, and check them"),
		do:       func(ctx context.Context, w *work) (outcome, error) { return w.recover(ctx, PartRestore, false) },
		plan:     func(ctx context.Context, w *work) (outcome, error) { return w.recover(ctx, PartRestore, true) },
	}
}

func releaseOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "release", Asks: true, Doc: "Keep or delete the suspects, take back the " +
			"quarantine where none is left, and resume what containment suspended. As irctl recover, after what " +
			"restore does.",
			Inputs: []runbook.Field{
				suspectInput(),
				{Name: "allowEvidenceLoss", Domain: runbook.Of(runbook.Boolean),
					Doc: "Delete suspects also where no evidence of them is sealed."},
				{Name: "uncordon", Domain: runbook.Of(runbook.Boolean), Doc: "Take the suspects' nodes back into use."},
			},
			Results: []runbook.Result{
				{Name: "deleted", Domain: runbook.Of(runbook.Integer), Doc: "How many suspects were deleted."},
				{Name: "kept", Domain: runbook.Of(runbook.Integer), Doc: "How many are still there."},
				{Name: "stays", Domain: runbook.ListOf(runbook.Text), Doc: "What of the containment stays, and why."},
			}},
		plans: true,
		describe: func(in runbook.Inputs) string {
			if in.Text("suspect") == string(recovery.Deleted) {
				return "delete the suspects whose evidence is sealed, lift the quarantine, resume what was suspended"
			}
			return "keep the suspects cut off, resume what was suspended"
		},
		do:   func(ctx context.Context, w *work) (outcome, error) { return w.recover(ctx, PartRelease, false) },
		plan: func(ctx context.Context, w *work) (outcome, error) { return w.recover(ctx, PartRelease, true) },
	}
}

// recover does a part of a recovery; nothing of it before there is an incident.
func (w *work) recover(ctx context.Context, part RecoverPart, dryRun bool) (outcome, error) {
	if w.id == "" {
		return outcome{summary: "put back what this run will have taken down"}, nil
	}
	in := w.in
	res, err := w.engine.Recover(ctx, RecoverRequest{Incident: w.id, Part: part, SameImage: in.Yes("sameImage", false),
		Suspect:           recovery.Fate(in.Text("suspect")),
		AllowEvidenceLoss: in.Yes("allowEvidenceLoss", false), Uncordon: in.Yes("uncordon", false),
		Wait: in.Duration("wait"), DryRun: dryRun})
	if err != nil {
		return outcome{}, err
	}
	if dryRun {
		return outcome{summary: fmt.Sprintf("%d changes would be made", len(res.Actions)), detail: res}, nil
	}
	return recoverOutcome(res, part)
}

func recoverOutcome(res *RecoverResult, part RecoverPart) (outcome, error) {
	o := outcome{detail: res}
	if res.Cancelled {
		o.summary = "nothing was put back"
		return o, fmt.Errorf("%w: the answer was no", ErrRefused)
	}
	var first error
	for _, a := range res.Actions {
		first = firstOf(first, a)
	}
	switch {
	case len(res.Refusals) > 0:
		first = fmt.Errorf("%w: %s: %s (%s would allow it)", ErrRefused, res.Refusals[0].Object, res.Refusals[0].Reason,
			res.Refusals[0].Override)
	case first == nil && len(res.Failures) > 0:
		first = errors.New(strings.Join(res.Failures, "; "))
	}
	if part == PartRelease {
		deleted, kept := int64(0), int64(0)
		for _, s := range res.Suspects {
			switch s.Fate {
			case "deleted":
				deleted++
			case "kept":
				kept++
			case "unknown":
				kept++ // as far as anybody knows
				if first == nil {
					first = fmt.Errorf("%w what became of the suspect %s/%s: %s", ErrUndetermined, s.Namespace, s.Pod,
						s.Text)
				}
			}
		}
		stays := append([]string{}, res.Stays...)
		o.summary = fmt.Sprintf("%d suspects deleted, %d kept", deleted, kept)
		o.results = map[string]any{"deleted": deleted, "kept": kept, "stays": stays}
		return o, first
	}
	failed, unknown := res.Codes(recovery.Failed), res.Codes(recovery.NotKnown)
	o.summary = string(res.Verdict)
	o.results = map[string]any{"verdict": string(res.Verdict), "wayIn": string(res.WayIn()), "failed": failed,
		"unknown": unknown}
	if first == nil && res.Verdict == NothingRecovered {
		// Nothing failed, and nothing was done: the run goes on.
		o.summary, o.skipped, o.passed = "could not tell: there was no workload to put back", true, true
	}
	if first == nil && res.Verdict == NotRecovered {
		first = fmt.Errorf("checks failed: %s", strings.Join(failed, ", "))
	}
	return o, first
}

func monitorOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "monitor", Doc: "Watch for the attacker's return: the suspects' image or " +
			"name, what of the incident somebody takes back, new pods with signs of an attack, alerts. It ends at " +
			"the first sign, which is a failure. What ran before the watch began is none. As irctl recover " +
			"--monitor; it changes nothing, unless recontain.",
			Inputs: []runbook.Field{
				{Name: "for", Domain: runbook.Of(runbook.Duration), Required: true, Doc: "How long."},
				{Name: "every", Domain: runbook.Of(runbook.Duration),
					Doc: "How long to wait between two looks; else 15s."},
				{Name: "falco", Domain: runbook.ListOf(runbook.Path),
					Doc: "Files of Falco's alerts, as JSON lines, that are followed."},
				{Name: "auditLog", Domain: runbook.ListOf(runbook.Path),
					Doc: "Files of the API server's audit log that are followed."},
				{Name: "recontain", Domain: runbook.Of(runbook.Boolean), Doc: "On a sign, contain the pods that it " +
					"is about: those that came up since the watch began, in the incident's namespaces, five an hour " +
					"at most. A workload that is not the incident's is not scaled."},
				{Name: "recontainNamespaces", Domain: runbook.ListOf(runbook.Name),
					Doc: "Further namespaces where it may; kube-*, openshift-* and irctl's own only if they are " +
						"named here."},
			},
			Results: []runbook.Result{
				{Name: "hit", Domain: runbook.Of(runbook.Boolean), Doc: "There was a sign."},
				{Name: "hits", Domain: runbook.ListOf(runbook.String),
					Doc: "Codes of the signs: image, name, released, reverted, detected, alert."},
				{Name: "contained", Domain: runbook.Of(runbook.Boolean), Doc: "The pods of the signs were contained."},
			}},
		intrusive: func(in runbook.Inputs) bool { return in.Yes("recontain", false) },
		describe: func(in runbook.Inputs) string {
			text := fmt.Sprintf("watch for %s for the attacker's return", runbook.Format(in.Duration("for")))
			if in.Yes("recontain", false) {
				text += ", and contain what is hit"
			}
			return text
		},
		do: doMonitor,
	}
}

// cutOff: as far as this cluster can do it, the suspects are contained.
func cutOff(v contain.Verdict) bool { return v == contain.Contained || v == contain.Exposed }

func doMonitor(ctx context.Context, w *work) (outcome, error) {
	in := w.in
	req := MonitorRequest{Incident: w.id, For: in.Duration("for"), Every: in.Duration("every"),
		Recontain:           in.Yes("recontain", false),
		RecontainNamespaces: in.Texts("recontainNamespaces"), Snapshot: w.req.Snapshot,
		EvidenceNote: w.req.EvidenceNote}
	for source, paths := range map[detect.Source][]string{detect.SourceFalco: in.Texts("falco"),
		detect.SourceAudit: in.Texts("auditLog")} {
		for _, path := range paths {
			req.Inputs = append(req.Inputs, detect.Input{Source: source, Path: path})
		}
	}
	res, err := w.engine.Monitor(ctx, req)
	codes := []string{}
	for _, h := range res.Hits {
		codes = append(codes, h.Code)
	}
	slices.Sort(codes)
	codes = slices.Compact(codes)
	o := outcome{detail: res, summary: "nothing was seen", results: map[string]any{"hit": len(codes) > 0, "hits": codes,
		"contained": res.Contained != nil && cutOff(res.Contained.Verdict) && res.Failure == ""}}
	switch {
	case err != nil:
		return o, err
	case len(res.Hits) > 0:
		o.summary = "signs of the attacker's return"
		return o, errors.New(res.Hits[0].Text)
	case res.Interrupted:
		return o, context.Cause(ctx)
	case res.Failure != "":
		o.summary = "it could not be watched"
		return o, errors.New(res.Failure)
	case res.Undetermined != "":
		o.summary = "the pods could not be looked at"
		return o, fmt.Errorf("%w whether the attacker returned: %s", ErrUndetermined, res.Undetermined)
	}
	return o, nil
}
