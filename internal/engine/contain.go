package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/casefile"
	"irctl/internal/cluster"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// ContainRequest says what to contain and how.
type ContainRequest struct {
	Targets   []*cluster.Target
	Workloads [][]*cluster.Owner
	Options   contain.Options
	// Incident is the one to join; "" joins the open incident of the same
	// target, or opens one.
	Incident incident.ID
	Title    string
	Severity incident.Severity
	// DryRun plans, asks the server what it would say, and changes nothing.
	DryRun bool
	// Snapshot, if not nil, seals the suspects' evidence before the first
	// write and says where; EvidenceNote is shown when it is nil.
	Snapshot     Snapshot
	EvidenceNote string
	// SecondLook is how long after the verification to look again; 0: not.
	SecondLook time.Duration
	// Query is what named the suspects, for the record: the same request later goes
	// on from this one.
	Query SuspectQuery
	// Failures are targets that were named and could not be found; they are
	// reported with the others.
	Failures []string

	resolved []record.Ref // what the same request came to before
}

// Of is the request for suspects that were found.
func (r ContainRequest) Of(s *Suspects) ContainRequest {
	r.Targets, r.Workloads, r.Failures, r.Query, r.resolved = s.Pods, s.Workloads, s.Failures, s.Query, s.resolved
	return r
}

// Snapshot seals the evidence of the targets into a file of the incident, and
// returns its receipt and one line about it.
type Snapshot func(ctx context.Context, e *Engine, h *incident.Handle,
	targets []*cluster.Target) (receipt *evidence.Receipt, text string, err error)

// ContainResult is what came of it. Its JSON form is documented and stable.
type ContainResult struct {
	Incident  string            `json:"incident"`
	Opened    bool              `json:"opened"`
	DryRun    bool              `json:"dryRun,omitempty"`
	Cancelled bool              `json:"cancelled,omitempty"`
	Verdict   contain.Verdict   `json:"verdict,omitempty"`
	Targets   []contain.Finding `json:"targets"`
	Workloads []contain.Check   `json:"workloads,omitempty"`
	// Unsettled are the changes that were meant, by this run or an earlier one,
	// and did not happen.
	Unsettled []Unsettled     `json:"unsettled,omitempty"`
	Actions   []ActionResult  `json:"actions"`
	Refusals  []steps.Refusal `json:"refusals,omitempty"`
	Warnings  []steps.Warning `json:"warnings,omitempty"`
	PutBack   []string        `json:"putBack,omitempty"`
	Evidence  *SnapshotResult `json:"evidence,omitempty"`
	Failures  []string        `json:"failures,omitempty"`
	Directory string          `json:"directory,omitempty"`
}

// SnapshotResult is what came of the snapshot before the first write.
type SnapshotResult struct {
	Taken   bool              `json:"taken"`
	Text    string            `json:"text"`
	Receipt *evidence.Receipt `json:"receipt,omitempty"`
}

// ErrRefused means that irctl would not do something that was asked for.
var ErrRefused = errors.New("refused")

// ErrUndetermined means that irctl could not tell: nothing matched, was
// understood, or could be read, so that there is nothing to judge.
var ErrUndetermined = errors.New("could not tell")

// containment is one run of Contain.
type containment struct {
	*Engine
	req    ContainRequest
	scene  *steps.Scene
	handle *incident.Handle // nil until the incident exists
	id     incident.ID
	plans  []StepPlan
	warn   []steps.Warning
	facts  chan *contain.Facts
	result *ContainResult
}

// Contain plans, asks, and contains. The error is what kept it from running;
// what failed within it is in the result.
func (e *Engine) Contain(ctx context.Context, req ContainRequest) (*ContainResult, error) {
	c := &containment{Engine: e, req: req, result: &ContainResult{DryRun: req.DryRun, Failures: req.Failures,
		Actions: []ActionResult{}, Targets: []contain.Finding{}}}
	defer c.close()
	// A second process may open an incident for the same target between our
	// look and our own opening; then its incident is joined and planned anew.
	for range 3 {
		joined, err := c.try(ctx)
		if err != nil || !joined {
			return c.result, err
		}
	}
	return c.result, fmt.Errorf(
		"%w: other processes keep opening incidents for the same target; wait for them, then run it again", ErrRefused)
}

func (c *containment) close() {
	if c.handle != nil {
		_ = c.handle.Close() // every entry is on disk already
	}
}

// try is one attempt; again tells that an incident appeared that was not
// there when it was planned.
func (c *containment) try(ctx context.Context) (again bool, err error) {
	planning, cancel := c.within(ctx)
	defer cancel()
	if err := c.join(planning); err != nil {
		return false, err
	}
	if err := c.plan(planning); err != nil {
		return false, err
	}
	proposal := Proposal{Incident: string(c.id), Opens: c.handle == nil, Server: c.identity.Server, Context: c.Context,
		Targets: c.scene.Targets, Steps: c.plans, Warnings: c.warn, Evidence: c.req.EvidenceNote,
		Sealed: c.req.Snapshot != nil}
	if c.req.DryRun {
		c.dryRun(planning)
		return false, nil
	}
	if proposal.Actions() > 0 {
		decision, err := c.Front.Approve(ctx, proposal)
		if err != nil {
			return false, err
		}
		if decision != Yes {
			c.result.Cancelled = true
			return false, nil
		}
	}
	c.begin(Changing, c.id)
	doing, cancel := c.within(ctx)
	defer cancel()
	if c.handle == nil && len(c.scene.Targets) == 0 && proposal.Actions()+len(c.result.Refusals) == 0 {
		c.result.Incident = "" // there is nothing to open one for
		c.assess(doing)
		return false, nil
	}
	if again, err := c.open(doing); again || err != nil {
		return again, err
	}
	c.run(doing)
	return false, nil
}

// join finds the incident to work in, and settles what an earlier run left.
func (c *containment) join(ctx context.Context) error {
	id, err := c.find(ctx)
	if err != nil {
		return err
	}
	if id == "" {
		c.id, err = incident.NewID(c.Now(), c.Random)
		return err
	}
	c.id = id
	if c.req.DryRun {
		// A dry run takes no lock and writes nothing, not even a journal.
		i, err := c.Store.Load(id)
		if err == nil {
			err = c.usable(i)
		}
		if err != nil {
			return err
		}
		c.restoreOwners(ctx, i)
		return nil
	}
	if c.handle, err = c.Store.Open(ctx, id, c.Actor()); err != nil {
		return err
	}
	if err := c.usable(c.handle.Incident()); err != nil {
		return err
	}
	if err := c.resume(ctx, c.handle); err != nil {
		return err
	}
	c.restoreOwners(ctx, c.handle.Incident())
	return nil
}

func (e *Engine) usable(i incident.Incident) error {
	if i.State != incident.StateOpen {
		return errClosed(i.ID)
	}
	return e.notHere(i)
}

// errClosed refuses to work on an incident that is over, and says what opens it.
func errClosed(id incident.ID) error {
	return fmt.Errorf("%w: incident %s is closed; irctl incident reopen %s opens it again", ErrRefused, id, id)
}

// overrideOf makes what is said to allow a refused action true: an incident in
// which nothing can be done does not take the pod.
func (c *containment) overrideOf(r steps.Refusal) string {
	other, named := strings.CutPrefix(r.Override, "--incident ")
	if !named {
		return r.Override
	}
	i, err := c.Store.Load(incident.ID(other))
	switch {
	case err != nil:
		return fmt.Sprintf("a copy of the directory of incident %s, from the machine that has it, in %s; then %s",
			other,
			filepath.Join(c.Store.Dir(), "incidents"), r.Override)
	case i.State == incident.StateClosed:
		return fmt.Sprintf("irctl incident reopen %s, then %s", other, r.Override)
	}
	return r.Override
}

// find looks for the open incident of the targets.
func (c *containment) find(ctx context.Context) (incident.ID, error) {
	if c.req.Incident != "" {
		return c.req.Incident, nil
	}
	found, errs := c.Store.FindOpen(ctx, c.matches)
	for _, err := range errs {
		c.Front.Observe(Event{Kind: Noticed, Text: err.Error(), Err: err})
	}
	switch len(found) {
	case 0:
		return "", c.foreign()
	case 1:
		return found[0].ID, nil
	}
	var names []string
	for _, i := range found {
		names = append(names, string(i.ID))
	}
	return "", fmt.Errorf("%w: the targets belong to several open incidents (%s): name one with --incident", ErrRefused,
		strings.Join(names, ", "))
}

// matches: an incident of this cluster that has one of the targets, or a pod
// of a workload that is named.
func (c *containment) matches(i incident.Incident) bool {
	if c.other(i) {
		return false
	}
	return slices.ContainsFunc(i.Targets, func(known incident.Target) bool {
		for _, t := range c.req.Targets {
			if known.UID == string(t.Pod.UID) {
				return true
			}
		}
		for _, chain := range c.req.Workloads {
			for _, o := range chain[:min(1, len(chain))] {
				if known.UID == string(o.UID) || slices.ContainsFunc(known.Owners, func(k incident.Owner) bool {
					return k.UID == string(o.UID)
				}) {
					return true
				}
			}
		}
		return false
	})
}

// foreign refuses pods that were contained from elsewhere: without that
// journal irctl could not know what to restore.
func (c *containment) foreign() error {
	for _, t := range c.req.Targets {
		if other := t.Pod.Labels[contain.IncidentLabel]; other != "" {
			switch i, err := c.Store.Load(incident.ID(other)); {
			case err == nil && i.State == incident.StateClosed:
				return fmt.Errorf(
					"%w: pod %s is contained in incident %s, which is closed; irctl incident reopen %s opens it again",
					ErrRefused, t.Key(), i.ID, i.ID)
			case err == nil:
				return fmt.Errorf(
					"%w: pod %s is contained in incident %s: irctl contain --pod %s -n %s --incident %s joins it",
					ErrRefused, t.Key(), i.ID, t.Pod.Name, t.Pod.Namespace, i.ID)
			}
			return fmt.Errorf("%w: pod %s is contained in incident %q, which is not on this machine (%s): to join "+
				"it, put a copy of its directory, "+
				"from the machine that has it, into %s, and name it with --incident; if there is no such incident, "+
				"%s takes the pod out of it",
				ErrRefused, t.Key(), other, labelledBy(t.Pod), filepath.Join(c.Store.Dir(), "incidents"),
				byHand(t.Ref(), t.Pod))
		}
	}
	return nil
}

// labelledBy says by which program, and when, a pod was labelled with its incident.
func labelledBy(pod *corev1.Pod) string {
	for _, m := range pod.ManagedFields {
		if m.FieldsV1 != nil && strings.Contains(string(m.FieldsV1.GetRawBytes()), `"f:`+contain.IncidentLabel+`"`) &&
			m.Time != nil {
			return fmt.Sprintf("labelled by %s at %s; the audit log says for whom", m.Manager,
				m.Time.UTC().Format(time.RFC3339))
		}
	}
	return "the audit log says by whom"
}

// restoreOwners gives detached suspects the chain of owners that the incident
// remembers, so that what is left to do to their workloads can still be done.
func (c *containment) restoreOwners(ctx context.Context, i incident.Incident) {
	c.req.Targets = slices.Clone(c.req.Targets) // an earlier try may still be reading them
	for n, t := range c.req.Targets {
		if len(t.Owners) > 0 {
			continue
		}
		for _, known := range i.Targets {
			if known.UID == string(t.Pod.UID) && len(known.Owners) > 0 {
				c.req.Targets[n] = c.Client.WithOwners(ctx, t.Pod, refsOf(known))
			}
		}
	}
}

// refsOf are the controllers of a target; a target that is a workload is the
// first of its own chain.
func refsOf(t incident.Target) []cluster.Ref {
	chain := t.Owners
	if t.Kind != cluster.Pod.Kind {
		chain = append([]incident.Owner{{APIVersion: t.APIVersion, Kind: t.Kind, Name: t.Name, UID: t.UID}}, chain...)
	}
	var refs []cluster.Ref
	for _, o := range chain {
		gv, _ := schema.ParseGroupVersion(o.APIVersion) // a malformed one finds no kind, and that is reported
		refs = append(refs, cluster.Ref{Group: gv.Group, Version: gv.Version, Kind: o.Kind, Namespace: t.Namespace,
			Name: o.Name, UID: types.UID(o.UID)})
	}
	return refs
}

// plan makes the scene and every step's plan.
func (c *containment) plan(ctx context.Context) error {
	list, err := contain.Steps(c.req.Options)
	if err != nil {
		return err
	}
	namespaces := map[string]bool{}
	for _, t := range c.req.Targets {
		namespaces[t.Pod.Namespace] = true
	}
	for _, chain := range c.req.Workloads {
		for _, o := range chain {
			namespaces[o.Namespace] = true
		}
	}
	c.scene = &steps.Scene{Client: c.Client, Incident: string(c.id), Targets: c.req.Targets, Workloads: c.req.Workloads,
		Now: c.Now}
	c.facts = make(chan *contain.Facts, 1)
	if !c.req.DryRun {
		scene := *c.scene // the survey is still to be filled in
		go func() { c.facts <- contain.Gather(ctx, &scene, c.identity.Version) }()
	}
	names := sorted(namespaces)
	c.scene.Around = c.Client.Survey(ctx, names)
	c.warn = nil
	for _, n := range names {
		for _, g := range c.scene.Around[n].Gaps {
			c.warn = append(c.warn, steps.Warning{Code: "unreadable", Text: g.String(),
				Fix: "the labels by which these select the pods are unknown; " +
					cluster.ToRead(g.Err, "get the right to list them")})
		}
	}
	if !slices.Contains(c.req.Options.Steps, contain.StepSuspend) {
		for _, o := range contain.Opponents(ctx, c.scene) {
			c.warn = append(c.warn, o.Warning())
		}
	}
	c.plans, c.result.Refusals = nil, nil
	for _, s := range list {
		p, err := s.Plan(ctx, c.scene)
		if err != nil {
			return err
		}
		c.warn = append(c.warn, p.Warnings...)
		for _, r := range p.Refusals {
			r.Override = c.overrideOf(r)
			c.result.Refusals = append(c.result.Refusals, r)
		}
		for i := range p.Actions {
			p.Actions[i].Diff = p.Actions[i].Change.Diff()
		}
		c.plans = append(c.plans, StepPlan{Step: s.Info(), Plan: p})
	}
	c.result.Incident, c.result.Warnings = string(c.id), c.warn
	return ctx.Err()
}

// dryRun asks the server of every change what it would say to it.
func (c *containment) dryRun(ctx context.Context) {
	for _, p := range c.plans {
		results := make([]ActionResult, len(p.Plan.Actions))
		cluster.Parallel(len(results), func(i int) {
			a := p.Plan.Actions[i]
			r := ActionResult{Step: p.Step.Name, Action: a.Name, Object: a.Change.Object.String(), Targets: a.Targets,
				Summary: a.Summary, Command: a.Command, Diff: a.Diff, Outcome: timeline.OutcomeSkipped}
			if err := a.Change.DryRun(ctx, c.Client.Dynamic); err != nil {
				r.Outcome, r.Error, r.err = notDone(err), err.Error(), err
			}
			results[i] = r
		})
		c.result.Actions = append(c.result.Actions, results...)
	}
}

// open makes sure that the incident exists and knows its targets before the
// first write. again: another process opened one for the same target first.
func (c *containment) open(ctx context.Context) (again bool, err error) {
	targets := c.records()
	if c.handle == nil {
		h, created, err := c.Store.Join(ctx, c.matches,
			incident.New{ID: c.id, Title: c.req.Title, Severity: c.req.Severity, Actor: c.Actor(), Targets: targets,
				Cluster: c.cluster()})
		if err != nil {
			return false, err
		}
		if !created {
			return true, h.Close()
		}
		c.handle, c.result.Opened = h, true
	} else if err := c.handle.AddTargets(targets); err != nil {
		return false, err
	}
	c.result.Directory = c.handle.Dir()
	return false, c.journalRequest(c.handle, c.asked())
}

// records are the targets as the incident remembers them.
func (c *containment) records() []incident.Target {
	targets := slices.Clone(c.req.Targets)
	for n, t := range targets {
		if c.req.Options.Isolated[t.Pod.UID] {
			targets[n] = &cluster.Target{Pod: t.Pod} // its workload does not become the incident's
		}
	}
	return recordsOf(targets, c.req.Workloads)
}

func recordsOf(targets []*cluster.Target, workloads [][]*cluster.Owner) []incident.Target {
	var list []incident.Target
	for _, t := range targets {
		list = append(list, incident.Target{APIVersion: cluster.Pod.APIVersion(), Namespace: t.Pod.Namespace,
			Kind: cluster.Pod.Kind, Name: t.Pod.Name, UID: string(t.Pod.UID), Owners: ownersOf(t.Owners)})
	}
	for _, chain := range workloads {
		if len(chain) > 0 {
			o := chain[0]
			list = append(list, incident.Target{APIVersion: o.APIVersion(), Namespace: o.Namespace, Kind: o.Kind,
				Name: o.Name, UID: string(o.UID), Owners: ownersOf(chain[1:])})
		}
	}
	return list
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

func ownersOf(chain []*cluster.Owner) []incident.Owner {
	var list []incident.Owner
	for _, o := range chain {
		list = append(list, incident.Owner{APIVersion: o.APIVersion(), Kind: o.Kind, Name: o.Name, UID: string(o.UID)})
	}
	return list
}

// run takes the snapshot, does the actions, and judges.
func (c *containment) run(ctx context.Context) {
	if err := errors.Join(journalRefusals(c.handle, contain.Phase, c.result.Refusals), c.journalSkipped()); err != nil {
		c.result.Failures = append(c.result.Failures, err.Error())
	}
	if n := (Proposal{Steps: c.plans}).Actions(); n > 0 {
		c.snapshot(ctx)
	}
	r := &run{Engine: c.Engine, handle: c.handle, failed: map[string]string{}}
	r.execute(ctx, c.plans)
	c.result.Actions = append(c.result.Actions, r.results...)
	c.scene.Failed = map[string]bool{}
	for id := range r.failed {
		c.scene.Failed[id] = true
	}
	for _, refusal := range c.result.Refusals {
		c.scene.Failed[refusal.ID] = true
	}
	c.assess(ctx)
}

// journalSkipped notes the steps that are left out, as was asked for.
func (c *containment) journalSkipped() error {
	var errs []error
	for _, step := range contain.DefaultSteps {
		if !slices.Contains(c.req.Options.Steps, step) {
			errs = append(errs, noteOnce(c.handle, timeline.Entry{Kind: timeline.KindObservation, Phase: contain.Phase,
				Step: step, Action: casefile.ActionLeftOut,
				Summary: "left out: the step " + step, Outcome: timeline.OutcomeSkipped, Error: "as was asked for"}))
		}
	}
	return errors.Join(errs...)
}

func (c *containment) assess(ctx context.Context) {
	var facts *contain.Facts
	select {
	case facts = <-c.facts:
	case <-ctx.Done():
		facts = &contain.Facts{Gaps: []contain.Gap{{Gap: cluster.Gap{What: "gathering facts",
			Err: context.Cause(ctx)}}}}
	}
	started := c.Now()
	a := contain.Assess(ctx, c.scene, c.req.Options, facts, func(p string) {
		c.Front.Observe(Event{Kind: Waiting, Step: "verify", Text: p, Left: timeLeft(ctx)})
	})
	if c.req.SecondLook > 0 && ctx.Err() == nil {
		a = contain.SecondLook(ctx, c.scene, c.req.Options, facts, c.Pace.Here(c.req.SecondLook), a)
	}
	if c.handle != nil {
		c.result.Unsettled = c.grade(context.WithoutCancel(ctx), casefile.Of(c.handle.Log.Entries()),
			c.handle.Incident(), &a)
	}
	c.result.Verdict, c.result.Targets, c.result.Workloads, c.result.PutBack = a.Verdict, a.Findings, a.Workloads,
		a.PutBack
	if len(a.Findings) == 0 {
		c.result.Targets = []contain.Finding{} // JSON has a list
	}
	c.recordVerdict(a, c.Now().Sub(started))
}

// recordVerdict journals a verdict. That there was nothing to judge is none, and
// must not take the place of one that was drawn earlier.
func (c *containment) recordVerdict(a contain.Assessment, took time.Duration) {
	if c.handle == nil {
		return
	}
	if len(a.Findings) == 0 && a.Verdict == contain.Undetermined {
		if err := noteOnce(c.handle, timeline.Entry{Kind: timeline.KindObservation, Phase: contain.Phase,
			Step: "verify", Action: "nothing-to-judge",
			Summary: "no verdict: there was no suspect to judge", Outcome: timeline.OutcomeUnknown}); err != nil {
			c.result.Failures = append(c.result.Failures, err.Error())
		}
		return
	}
	if err := appendVerdict(c.handle, a, "verify", took); err != nil {
		c.result.Failures = append(c.result.Failures, "the verdict could not be journaled: "+err.Error())
	}
}

// appendVerdict journals a verdict on the suspects.
func appendVerdict(h *incident.Handle, a contain.Assessment, step string, took time.Duration) error {
	outcome := timeline.OutcomeDone
	switch a.Verdict {
	case contain.NotContained:
		outcome = timeline.OutcomeFailed
	case contain.Undetermined:
		outcome = timeline.OutcomeUnknown
	}
	keys := make([]string, 0, len(a.Findings))
	for _, f := range a.Findings {
		keys = append(keys, f.Namespace+"/"+f.Pod)
	}
	summary := fmt.Sprintf("%s: %s", a.Verdict, summarize(keys))
	if len(a.PutBack) > 0 {
		summary += "; put back by somebody: " + strings.Join(a.PutBack, "; ")
	}
	e := timeline.Entry{Kind: timeline.KindVerdict, Phase: contain.Phase, Step: step, Summary: summary,
		Targets: keys, Outcome: outcome, DurationMS: took.Milliseconds()}
	_, err := h.Log.AppendWith(e, a, contain.Assessment{Verdict: a.Verdict, PutBack: a.PutBack, Cut: true})
	return err
}

func summarize(keys []string) string {
	if len(keys) <= 3 {
		return strings.Join(keys, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(keys[:3], ", "), len(keys)-3)
}

// snapshot seals the evidence before the first write. That it fails does not
// keep the containment back: the suspect stays alive to be collected from.
func (c *containment) snapshot(ctx context.Context) {
	told := func(s *SnapshotResult, outcome timeline.Outcome, err error) {
		c.result.Evidence = s
		e := timeline.Entry{Kind: timeline.KindObservation, Phase: contain.Phase, Step: "snapshot", Summary: s.Text,
			Outcome: outcome}
		for _, t := range c.scene.Targets {
			e.Targets = append(e.Targets, t.Key())
		}
		if err != nil {
			e.Error = err.Error()
		}
		var payload any
		if s.Receipt != nil {
			payload = *s.Receipt
		}
		if _, appendErr := c.handle.Log.AppendWith(e, payload); appendErr != nil {
			c.result.Failures = append(c.result.Failures, "the snapshot could not be journaled: "+appendErr.Error())
		}
	}
	if c.req.Snapshot == nil {
		told(&SnapshotResult{Text: c.req.EvidenceNote}, timeline.OutcomeSkipped, nil)
		return
	}
	c.Front.Observe(Event{Kind: Started, Step: "snapshot",
		Text: "seal the suspects' state and logs before anything is changed"})
	receipt, text, err := c.req.Snapshot(ctx, c.Engine, c.handle, c.scene.Targets)
	if err != nil {
		c.Front.Observe(Event{Kind: Failed, Step: "snapshot",
			Text: "the snapshot failed; containment goes on, since the suspect is kept alive", Err: err})
		told(&SnapshotResult{Text: "no snapshot was taken: " + err.Error()}, timeline.OutcomeFailed, err)
		c.result.Failures = append(c.result.Failures, "no snapshot was taken: "+err.Error())
		return
	}
	c.Front.Observe(Event{Kind: Finished, Step: "snapshot", Text: text})
	told(&SnapshotResult{Taken: true, Text: text, Receipt: receipt}, timeline.OutcomeDone, nil)
}
