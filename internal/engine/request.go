package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"irctl/internal/casefile"
	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// Asked is how a front end was asked for a run, for the record.
type Asked struct {
	// Words are those that were typed, without what may hold a secret.
	Words []string
	// From is where: "cli", "ui", or a step of a runbook.
	From string
}

// journalRequest journals who asked for what before anything is written. The same request
// as the last one of its command is not journaled again: it goes on from there.
func (e *Engine) journalRequest(h *incident.Handle, r record.Request) error {
	told := casefile.Of(h.Log.Entries())
	for _, last := range slices.Backward(told.Requests) {
		if last.Command != r.Command {
			continue
		}
		if sameRequest(last.Request, r) {
			return nil
		}
		break
	}
	r.Words, r.From = e.Asked.Words, e.Asked.From
	entry := timeline.Entry{Kind: timeline.KindObservation, Action: casefile.ActionRequested, Summary: requested(r)}
	if _, err := h.Log.AppendWith(entry, r); err != nil {
		return fmt.Errorf("nothing was changed, since what was asked for could not be journaled: %w", err)
	}
	return nil
}

// sameRequest compares what two requests come to; the words do not count.
func sameRequest(a, b record.Request) bool {
	for _, r := range []*record.Request{&a, &b} {
		r.Words, r.From = nil, ""
		r.Targets = slices.Clone(r.Targets)
		slices.SortFunc(r.Targets, func(x, y record.Ref) int {
			return cmp.Or(strings.Compare(x.Kind, y.Kind), strings.Compare(x.Namespace, y.Namespace),
				strings.Compare(x.Name, y.Name))
		})
	}
	return reflect.DeepEqual(a, b)
}

// requested is a request in a line of the timeline.
func requested(r record.Request) string {
	var about []string
	for _, t := range r.Targets {
		about = append(about, strings.TrimPrefix(t.Kind+" "+t.Namespace+"/"+t.Name, "Pod "))
	}
	text := "asked for: " + r.Command
	if len(about) > 0 {
		text += " " + summarize(about)
	}
	if len(r.Steps) > 0 {
		text += ": " + strings.Join(r.Steps, ", ")
	}
	if len(r.Words) > 0 {
		text += " (irctl " + strings.Join(r.Words, " ") + ")"
	}
	return text
}

// asked is the request of a containment.
func (c *containment) asked() record.Request {
	q, o := c.req.Query, c.req.Options
	r := record.Request{Command: contain.Phase, Selector: q.Selector, Steps: slices.Clone(o.Steps),
		Options: optionsOf(o)}
	if q.Selector != "" {
		r.Namespace = q.selects()
	}
	r.Targets = append(r.Targets, c.req.resolved...)
	for _, t := range c.req.Targets {
		r.Targets = append(r.Targets, c.recorded(t.Ref()))
	}
	for _, chain := range c.req.Workloads {
		if len(chain) > 0 {
			r.Targets = append(r.Targets, c.recorded(chain[0].Ref))
		}
	}
	r.Targets = unique(r.Targets)
	return r
}

// askedFor is the request of a run that a proposal shows.
func (e *Engine) askedFor(command string, p Proposal) record.Request {
	r := record.Request{Command: command}
	for _, s := range p.Steps {
		if len(s.Plan.Actions) > 0 {
			r.Steps = append(r.Steps, s.Step.Name)
		}
		for _, a := range s.Plan.Actions {
			r.Targets = append(r.Targets, e.recorded(a.Change.Object))
		}
	}
	r.Targets = unique(r.Targets)
	return r
}

func (e *Engine) recorded(r cluster.Ref) record.Ref {
	return change.Change{Object: r}.Record(e.identity.ClusterUID).Object
}

func unique(list []record.Ref) []record.Ref {
	var out []record.Ref
	for _, r := range list {
		if !slices.ContainsFunc(out, func(k record.Ref) bool { return sameRef(k, r) }) {
			out = append(out, r)
		}
	}
	return out
}

func sameRef(a, b record.Ref) bool {
	return a.Kind == b.Kind && a.Namespace == b.Namespace && a.Name == b.Name &&
		(a.UID == b.UID || a.UID == "" || b.UID == "")
}

// optionsOf are the options of a containment that are not as they are by default.
func optionsOf(o contain.Options) map[string]string {
	all := map[string]string{"removeLabels": strings.Join(o.RemoveLabels, ","),
		"allowNamespaces": strings.Join(o.AllowNamespaces, ","),
		"allowCIDRs":      strings.Join(o.AllowCIDRs, ",")}
	for name, on := range map[string]bool{"keepLabels": o.KeepLabels, "allowDNS": o.AllowDNS,
		"allowEvidenceLoss": o.AllowEvidenceLoss} {
		if on {
			all[name] = "true"
		}
	}
	for name, value := range all {
		if value == "" {
			delete(all, name)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// Recall finds what a query names as Suspects does, and besides what an open
// incident remembers of the same request: of a containment that was ended half-way
// the labels by which its suspects were named are gone. What matches now and was
// not meant then is left out, unless the query includes it; the verdict names it.
// The incident is the one to join; "" if no request of the kind is known.
func (e *Engine) Recall(ctx context.Context, q SuspectQuery, in incident.ID) (*Suspects, incident.ID, error) {
	s, err := e.Suspects(ctx, q)
	if q.Selector == "" && len(q.Workloads) == 0 {
		return s, in, err
	}
	var named []record.Ref // the workloads, as they are
	if s != nil {
		for _, chain := range s.Workloads {
			named = append(named, e.recorded(chain[0].Ref))
		}
	}
	id, requests, recallErr := e.recalled(ctx, q, named, in)
	switch {
	case recallErr != nil:
		return nil, in, recallErr
	case id == "":
		if in != "" {
			return s, in, err
		}
		if err != nil && errors.Is(err, ErrUndetermined) {
			return nil, in, cmp.Or(e.selectedByAnother(ctx, q), err)
		}
		if s != nil && len(s.Pods) == 0 {
			err = cmp.Or(err, e.ownedByAnother(ctx, s.Workloads))
		}
		return s, in, err
	case err != nil && !errors.Is(err, ErrUndetermined):
		return nil, in, err
	case s == nil:
		s = &Suspects{Query: q}
	}
	i, loadErr := e.Store.Load(id)
	if loadErr != nil {
		return nil, in, loadErr
	}
	known := func(uid string) bool {
		return slices.ContainsFunc(i.Targets, func(t incident.Target) bool { return t.UID == uid })
	}
	if !q.IncludeNew {
		s.Pods = slices.DeleteFunc(s.Pods, func(t *cluster.Target) bool { return !known(string(t.Pod.UID)) })
	}
	meant := func(t incident.Target) bool {
		return slices.ContainsFunc(requests, func(r record.Request) bool {
			return slices.ContainsFunc(r.Targets, func(ref record.Ref) bool { return ref.UID == t.UID })
		})
	}
	pods, _ := e.targetsOf(ctx, slices.DeleteFunc(slices.Clone(i.Targets), func(t incident.Target) bool {
		return t.Kind != cluster.Pod.Kind || !meant(t)
	}))
	gone := s.remember(pods)
	for _, r := range requests {
		s.resolved = append(s.resolved, r.Targets...)
	}
	if len(s.Pods)+len(s.Workloads)+gone == 0 {
		return nil, id, cmp.Or(err, fmt.Errorf("%w: nothing of the request is left in incident %s (irctl status %s)",
			ErrUndetermined, id, id))
	}
	return s, id, nil
}

// recalled is the open incident in which the same was asked for, with its requests.
func (e *Engine) recalled(ctx context.Context, q SuspectQuery, named []record.Ref, in incident.ID) (incident.ID,
	[]record.Request, error) {
	open, errs := e.Store.FindOpen(ctx, func(i incident.Incident) bool {
		return !e.other(i) && (in == "" || i.ID == in)
	})
	for _, err := range errs {
		e.Front.Observe(Event{Kind: Noticed, Text: err.Error(), Err: err})
	}
	found := map[incident.ID][]record.Request{}
	var ids []string
	for _, i := range open {
		entries, err := e.Store.Entries(i.ID)
		if err != nil {
			e.Front.Observe(Event{Kind: Noticed, Text: err.Error(), Err: err})
			continue
		}
		for _, r := range casefile.Of(entries).Requests {
			if r.Command != contain.Phase || !(sameSelection(r.Request, q) || sameWorkload(r.Request, named)) {
				continue
			}
			if found[i.ID] == nil {
				ids = append(ids, string(i.ID))
			}
			found[i.ID] = append(found[i.ID], r.Request)
		}
	}
	switch len(ids) {
	case 0:
		return "", nil, nil
	case 1:
		return incident.ID(ids[0]), found[incident.ID(ids[0])], nil
	}
	return "", nil, fmt.Errorf("%w: the same was asked for in several open incidents (%s): name one with --incident",
		ErrRefused, strings.Join(ids, ", "))
}

func sameSelection(r record.Request, q SuspectQuery) bool {
	if q.Selector == "" || r.Namespace != q.selects() {
		return false
	}
	a, errA := labels.Parse(r.Selector)
	b, errB := labels.Parse(q.Selector)
	return errA == nil && errB == nil && r.Selector != "" && a.String() == b.String()
}

func sameWorkload(r record.Request, named []record.Ref) bool {
	return slices.ContainsFunc(named, func(n record.Ref) bool {
		return slices.ContainsFunc(r.Targets, func(t record.Ref) bool {
			return t.Kind != cluster.Pod.Kind && sameRef(t, n)
		})
	})
}

// selectedByAnother says of a selection that matches nothing that pods with these
// labels were contained by an incident that this machine does not have; nil: none
// was, as far as can be told.
func (e *Engine) selectedByAnother(ctx context.Context, q SuspectQuery) error {
	selector, err := labels.Parse(q.Selector)
	if err != nil || q.Selector == "" {
		return nil
	}
	return e.takenByAnother(ctx, q.selects(), selector)
}

// ownedByAnother says the same of workloads that have no pod.
func (e *Engine) ownedByAnother(ctx context.Context, workloads [][]*cluster.Owner) error {
	for _, chain := range workloads {
		selector, err := chain[0].PodSelector()
		if err != nil || selector == nil || selector.Empty() {
			continue // then nobody can tell which pods were its
		}
		if err := e.takenByAnother(ctx, chain[0].Namespace, selector); err != nil {
			return err
		}
	}
	return nil
}

// takenByAnother looks for a contained pod that had labels which a selector matches.
// What the annotation remembers may be an attacker's: only a refusal comes of it.
func (e *Engine) takenByAnother(ctx context.Context, namespace string, selector labels.Selector) error {
	pods, err := e.Client.ListPods(ctx, namespace, contain.IncidentLabel)
	if err != nil {
		return nil // that nothing matches is said all the same
	}
	for _, p := range pods {
		had, ok := contain.MemoryOf(p.Annotations)
		if !ok {
			continue
		}
		if _, err := e.Store.Load(incident.ID(p.Labels[contain.IncidentLabel])); err == nil {
			continue // it is here, and what was asked for then is not known: of an irctl that did not journal it
		}
		if selector.Matches(labels.Merge(p.Labels, had.Labels)) {
			c := &containment{Engine: e, req: ContainRequest{Targets: []*cluster.Target{{Pod: &p}}}}
			return c.foreign()
		}
	}
	return nil
}

// newMatches are pods that match the selection of a containment now, and were not
// in it when it was asked for. Each is an exposure until it is contained, or
// somebody accepts that it is not.
func (e *Engine) newMatches(ctx context.Context, c *casefile.Case, i incident.Incident) ([]contain.Finding, error) {
	var list []contain.Finding
	var errs []error
	for _, r := range c.Requests {
		if r.Command != contain.Phase || r.Selector == "" {
			continue
		}
		pods, err := e.Client.ListPods(ctx, r.Namespace, r.Selector)
		if err != nil {
			errs = append(errs, fmt.Errorf("whether more pods match -l %s now: %w", r.Selector, err))
			continue
		}
		for n := range pods {
			p := &pods[n]
			known := slices.ContainsFunc(i.Targets, func(t incident.Target) bool { return t.UID == string(p.UID) })
			listed := slices.ContainsFunc(list, func(f contain.Finding) bool { return f.UID == string(p.UID) })
			if known || listed || p.DeletionTimestamp != nil || p.Labels[contain.IncidentLabel] != "" {
				continue
			}
			where := "-n " + change.ShellQuote(r.Namespace)
			if r.Namespace == "" {
				where = "-A"
			}
			list = append(list, contain.Finding{Namespace: p.Namespace, Pod: p.Name, UID: string(p.UID),
				Node: p.Spec.NodeName, Checks: []contain.Check{},
				Exposures: []contain.Exposure{{Code: contain.CodeNewMatch, Severity: contain.Risk,
					Text: fmt.Sprintf(
						"it matches -l %s now, and did not when the containment was asked for: it is not contained",
						r.Selector),
					Close: fmt.Sprintf("irctl contain -l %s %s --incident %s --include-new",
						change.ShellQuote(r.Selector), where, i.ID)}}})
		}
	}
	return list, errors.Join(errs...)
}
