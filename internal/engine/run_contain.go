package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"irctl/internal/cluster"
	"irctl/internal/runbook"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

func containOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "contain", Asks: true, Doc: "Cut suspects off, keep them alive as " +
			"evidence, take their workload down. As irctl contain; done twice, it changes nothing the second time.",
			Inputs: append(suspectInputs(), []runbook.Field{
				{Name: "workloads", Domain: runbook.ListOf(runbook.Workload),
					Doc: "Workloads as NAMESPACE/TYPE/NAME: all their pods are suspects."},
				{Name: "steps", Domain: runbook.Domain{Type: runbook.String, List: true, Choices: contain.AllSteps},
					Doc: "Which steps of containment are done; else quarantine, detach and scale."},
				{Name: "suspendControllers", Domain: runbook.Of(runbook.Boolean),
					Doc: "Also suspend what would put the workload back: KEDA, Argo CD, Flux."},
				{Name: "keepLabels", Domain: runbook.Of(runbook.Boolean),
					Doc: "Mark the pod, but leave it with its controller and Services."},
				{Name: "removeLabels", Domain: runbook.ListOf(runbook.Key),
					Doc: "Further labels to take off, by which an allowing policy selects the pod."},
				{Name: "allowDNS", Domain: runbook.Of(runbook.Boolean),
					Doc: "Let the suspect reach the cluster's DNS."},
				{Name: "allowNamespaces", Domain: runbook.ListOf(runbook.Name),
					Doc: "Forensics namespaces that may talk with the suspect."},
				{Name: "allowCIDRs", Domain: runbook.ListOf(runbook.CIDR),
					Doc: "Address ranges that may talk with the suspect."},
				{Name: "allowEvidenceLoss", Domain: runbook.Of(runbook.Boolean),
					Doc: "Scale down even if that destroys a suspect, or its volumes."},
				{Name: "secondLook", Domain: runbook.Of(runbook.Duration),
					Doc: "How long after the verification to look again whether somebody put something back."},
			}...),
			Results: []runbook.Result{
				{Name: "verdict", Domain: verdicts(), Doc: "The verdict on the suspects."},
				{Name: "open", Domain: runbook.ListOf(runbook.String),
					Doc: "Codes of what is open, as of irctl contain: token, host-network, node-traffic…"},
				{Name: "putBack", Domain: runbook.Of(runbook.Integer),
					Doc: "How much somebody put back while irctl looked."},
				{Name: "evidence", Domain: runbook.Of(runbook.Boolean),
					Doc: "A snapshot was sealed before the first change."},
				{Name: "workloads", Domain: runbook.ListOf(runbook.String), Doc: "The suspects' workloads."},
			},
			Check: func(in runbook.Literals) (string, string) {
				if !in.Given("pods") && !in.Given("workloads") && !in.Given("labels") {
					return "", "contain needs suspects: pods, workloads, or labels in a namespace"
				}
				return checkSuspects(in)
			}},
		plans: true,
		describe: func(in runbook.Inputs) string {
			return "contain " + strings.Join(append(in.Texts("pods"), in.Texts("workloads")...), ", ")
		},
		do:   doContain,
		plan: planContain,
	}
}

// suspectInputs are how pods are named. They are the same for every operation.
func suspectInputs() []runbook.Field {
	return []runbook.Field{
		{Name: "pods", Domain: runbook.ListOf(runbook.Pod), Doc: "The suspects as NAMESPACE/NAME."},
		{Name: "labels", Domain: runbook.ListOf(runbook.Key),
			Doc: "Suspects by their labels, each KEY=VALUE; all must match."},
		{Name: "namespace", Domain: runbook.Of(runbook.Name), Doc: "Where to look for them by labels."},
	}
}

func checkSuspects(in runbook.Literals) (input, problem string) {
	if in.Given("labels") && !in.Given("namespace") {
		return "labels", "labels select pods in a namespace: give namespace, too"
	}
	return "", ""
}

func (w *work) named(ctx context.Context) SuspectQuery {
	q := SuspectQuery{Namespace: w.in.Text("namespace"), Pods: w.in.Texts("pods"), Known: w.begunWith(ctx),
		// Each is a key and a value, and none has a comma in it.
		Selector: strings.Join(w.in.Texts("labels"), ",")}
	for _, ref := range w.in.Texts("workloads") {
		parts := strings.Split(ref, "/") // the format has checked that there are three
		q.Workloads = append(q.Workloads, Named{Namespace: parts[0], Type: parts[1], Name: parts[2]})
	}
	return q
}

// begunWith are the suspects that an interrupted attempt at this step has marked
// already: detached as they are, neither their workload nor their labels lead to
// them any more.
func (w *work) begunWith(ctx context.Context) []*cluster.Target {
	if w.past.begun[w.step.Name] == 0 {
		return nil
	}
	i, err := w.Store.Load(w.id)
	if err != nil {
		return nil // whoever opens it next says so
	}
	namespaces := map[string]bool{}
	for _, t := range i.Targets {
		namespaces[t.Namespace] = true
	}
	var found []*cluster.Target
	for _, namespace := range sorted(namespaces) {
		list, err := w.Client.SelectTargets(ctx, namespace, contain.IncidentLabel+"="+string(w.id))
		if err != nil {
			w.Front.Observe(Event{Kind: Noticed, Step: w.step.Name,
				Text: "which suspects are marked already could not be read: " + err.Error(), Err: err})
		}
		found = append(found, list...)
	}
	return found
}

// containment makes the request of a step.
func (w *work) containment(ctx context.Context) (ContainRequest, error) {
	looking, cancel := w.engine.within(ctx)
	defer cancel()
	q := w.named(ctx)
	q.IncludeNew = true // a step of a run says by its inputs who is a suspect
	found, _, err := w.engine.Recall(looking, q, w.id)
	if err != nil {
		return ContainRequest{}, err
	}
	in := w.in
	o := contain.Options{Steps: in.Texts("steps"), KeepLabels: in.Yes("keepLabels", false),
		RemoveLabels: in.Texts("removeLabels"), AllowDNS: in.Yes("allowDNS", false),
		AllowNamespaces: in.Texts("allowNamespaces"), AllowCIDRs: in.Texts("allowCIDRs"),
		AllowEvidenceLoss: in.Yes("allowEvidenceLoss", false)}
	if len(o.Steps) == 0 {
		o.Steps = contain.DefaultSteps
	}
	if in.Yes("suspendControllers", false) && !slices.Contains(o.Steps, contain.StepSuspend) {
		o.Steps = append(slices.Clone(o.Steps), contain.StepSuspend)
	}
	return ContainRequest{Options: o, Incident: w.id,
			Snapshot: w.req.Snapshot, EvidenceNote: w.req.EvidenceNote, SecondLook: in.Duration("secondLook")}.Of(
			found),
		nil
}

func doContain(ctx context.Context, w *work) (outcome, error) {
	req, err := w.containment(ctx)
	if err != nil {
		return outcome{}, err
	}
	res, err := w.engine.Contain(ctx, req)
	if err != nil {
		return outcome{}, err
	}
	return containOutcome(res)
}

func planContain(ctx context.Context, w *work) (outcome, error) {
	req, err := w.containment(ctx)
	if err != nil {
		return outcome{}, err
	}
	req.DryRun = true
	res, err := w.engine.Contain(ctx, req)
	if err != nil {
		return outcome{}, err
	}
	o, err := containOutcome(res)
	o.summary = fmt.Sprintf("%d changes would be made", len(res.Actions))
	return o, err
}

func containOutcome(res *ContainResult) (outcome, error) {
	workloads := []string{}
	for _, f := range res.Targets {
		if f.Workload != "" {
			workloads = append(workloads, f.Workload)
		}
	}
	o := outcome{detail: res, results: map[string]any{"verdict": string(res.Verdict), "open": openCodes(res.Targets),
		"putBack":  int64(len(res.PutBack)),
		"evidence": res.Evidence != nil && res.Evidence.Taken, "workloads": workloads}}
	if res.Cancelled {
		return outcome{summary: "not contained", detail: res}, fmt.Errorf("%w: the answer was no", ErrRefused)
	}
	changed := 0
	var first error
	for _, a := range res.Actions {
		if a.Outcome == timeline.OutcomeDone {
			changed++
		}
		first = firstOf(first, a)
	}
	o.summary = fmt.Sprintf("%s, %d changed", res.Verdict, changed)
	switch {
	case first != nil:
	case !res.DryRun && len(res.Targets) == 0 && res.Verdict == contain.Undetermined:
		first = fmt.Errorf("%w: there was no suspect to contain", ErrUndetermined)
	case len(res.Failures) > 0:
		first = errors.New(strings.Join(res.Failures, "; "))
	case len(res.Refusals) > 0:
		r := res.Refusals[0]
		first = fmt.Errorf("%w: %s: %s (%s would allow it)", ErrRefused, r.Object, r.Reason, r.Override)
	}
	return o, first
}
