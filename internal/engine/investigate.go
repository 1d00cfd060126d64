package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"irctl/internal/cluster"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/record"
)

// InvestigateRequest says of what evidence is collected, and how far it goes.
type InvestigateRequest struct {
	Targets []*cluster.Target
	// Failures are targets that were named and could not be found.
	Failures []string
	// Scope is what is collected beyond what always is. Redact decides about a
	// second bundle, to be shared.
	Scope  evidence.Scope
	Redact bool
	Sealing
	// Bundle is a name for it, or a folder; "": the incident's directory.
	Bundle string
	// Incident is the one to collect for; "" joins the open incident of one of
	// the targets, or opens one.
	Incident incident.ID
	Title    string
	Severity incident.Severity
	// DryRun plans and collects nothing.
	DryRun bool
	// Stamp has a time-stamping authority vouch for the receipt, the one at
	// StampURL, or writes the question to one if that is empty.
	Stamp    bool
	StampURL string
}

// InvestigateResult is what came of it. Its JSON form is documented and stable.
type InvestigateResult struct {
	Incident string `json:"incident"`
	evidence.Result
	Timestamp string   `json:"timestamp,omitempty"`
	Failures  []string `json:"failures,omitempty"`

	// Plan is what was proposed.
	Plan evidence.Plan `json:"-"`
	// Cancelled: the answer was no.
	Cancelled bool `json:"-"`
}

// Traces reports whether collecting leaves traces in the suspects, about which
// a person is asked first.
func Traces(s evidence.Scope) bool { return s.Live || s.Checkpoint || len(s.Files) > 0 }

// Investigate collects all that the cluster can tell of the targets and seals it
// into an incident: plan → ask → join → collect → journal. If it ends early, what
// there is by then is sealed, and the result comes with the error.
func (e *Engine) Investigate(ctx context.Context, req InvestigateRequest) (*InvestigateResult, error) {
	if len(req.Targets) == 0 {
		return nil, fmt.Errorf(
			"%w: what was named has no pods to collect evidence of; irctl status names the suspects of an open "+
				"incident", ErrUndetermined)
	}
	if err := req.Scope.CheckFiles(); err != nil {
		return nil, err
	}
	c := collection{Sealing: req.Sealing, purpose: "investigation", phase: "investigate", step: "collect",
		targets: req.Targets, scope: req.Scope, redact: req.Redact, name: req.Bundle}
	c.Limits.Time = cmp.Or(c.Limits.Time, investigateTime)
	c.fillLimits()
	res := &InvestigateResult{Failures: req.Failures}
	planning, cancel := e.within(ctx)
	res.Plan = evidence.PlanInvestigation(planning, e.request(c))
	cancel()
	if req.DryRun {
		return res, nil
	}
	answer, err := e.Front.Approve(ctx, Proposal{Server: e.identity.Server, Context: e.Context, Targets: req.Targets,
		Collection: &res.Plan, Traces: Traces(req.Scope)})
	if err != nil {
		return nil, err
	}
	if answer != Yes {
		res.Cancelled = true
		return res, nil
	}
	h, err := e.investigated(ctx, req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.Close() }() // every entry is on disk already
	res.Incident = string(h.Incident().ID)
	return res, e.investigate(ctx, h, c, req, res)
}

func (e *Engine) investigate(ctx context.Context, h *incident.Handle, c collection, req InvestigateRequest,
	res *InvestigateResult) error {
	var err error
	res.Result, err = e.collect(ctx, h, c)
	if path := res.Receipt.Path; path != "" && req.Stamp {
		// Ctrl-C ends the collection; what there is, is still vouched for.
		text, stampErr := evidence.Stamp(context.WithoutCancel(ctx), path, req.StampURL)
		if res.Timestamp = text; stampErr != nil {
			res.Failures = append(res.Failures, stampErr.Error())
		}
	}
	return errors.Join(err, journalEvidence(h, c, res.Result, err))
}

// fillLimits makes bounds that are not given those of an investigation.
func (c *collection) fillLimits() {
	c.Limits.LogBytes = cmp.Or(c.Limits.LogBytes, logBytes)
	c.Limits.Stall = cmp.Or(c.Limits.Stall, evidenceStall)
}

// investigated opens the incident that the request names, or that of the
// targets, or a new one.
func (e *Engine) investigated(ctx context.Context, req InvestigateRequest) (*incident.Handle, error) {
	if req.Incident != "" {
		h, err := e.Store.Open(ctx, req.Incident, e.Actor())
		if err != nil {
			return nil, err
		}
		if err := e.notHere(h.Incident()); err != nil {
			_ = h.Close() // nothing was written
			return nil, err
		}
		return h, nil
	}
	h, _, err := e.Store.Join(ctx, func(i incident.Incident) bool { return !e.other(i) && isAboutAny(i, req.Targets) },
		incident.New{Title: req.Title, Severity: req.Severity, Actor: e.Actor(), Targets: recordsOf(req.Targets, nil),
			Cluster: e.cluster()})
	return h, err
}

// cluster is how an incident remembers this one.
func (e *Engine) cluster() incident.Cluster {
	return incident.Cluster{Server: e.identity.Server, UID: e.identity.ClusterUID, Context: e.Context}
}

func isAboutAny(i incident.Incident, targets []*cluster.Target) bool {
	for _, known := range i.Targets {
		for _, t := range targets {
			if known.UID == string(t.Pod.UID) {
				return true
			}
		}
	}
	return false
}

// Suspects are pods and workloads as they were found.
type Suspects struct {
	Pods      []*cluster.Target
	Workloads [][]*cluster.Owner
	// Failures are those that were not.
	Failures []string
	// Query is what named them.
	Query SuspectQuery

	resolved []record.Ref // of the same request before
}

// SuspectQuery names suspects as a person, or a runbook, does.
type SuspectQuery struct {
	// Namespace of what is named without one, and of the selection.
	Namespace string
	Pods      []string // [NAMESPACE/]NAME
	Workloads []Named
	// Selector selects pods by their labels, in AllNamespaces or one; All selects
	// every pod of the namespace.
	Selector           string
	AllNamespaces, All bool
	// IncludeNew takes in what matches now and did not when the same was asked for.
	IncludeNew bool
	// Known are suspects already.
	Known []*cluster.Target
}

// Named is an object as a person names it: of a type in any of its spellings.
type Named struct{ Namespace, Type, Name string }

// Suspects finds what a query names. One that cannot be found among several is a
// failure of its own; the only one is an error.
func (e *Engine) Suspects(ctx context.Context, q SuspectQuery) (*Suspects, error) {
	s := &Suspects{Query: q}
	s.add(q.Known...)
	var errs []error
	for _, w := range q.Workloads {
		kind, err := e.Client.ResourceType(ctx, w.Type)
		switch {
		case err != nil:
		case kind.Kind == cluster.Pod.Kind && kind.Group == "":
			q.Pods = append(q.Pods[:len(q.Pods):len(q.Pods)], cmp.Or(w.Namespace, q.Namespace)+"/"+w.Name)
		default:
			err = s.workload(ctx, e.Client, kind.Named(cmp.Or(w.Namespace, q.Namespace), w.Name, ""))
			err = e.orNoNamespace(ctx, cmp.Or(w.Namespace, q.Namespace), err)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	found, failed := make([]*cluster.Target, len(q.Pods)), make([]error, len(q.Pods))
	cluster.Parallel(len(q.Pods), func(i int) {
		namespace, name, ok := strings.Cut(q.Pods[i], "/")
		if !ok {
			namespace, name = q.Namespace, q.Pods[i]
		}
		found[i], failed[i] = e.Client.GetTarget(ctx, namespace, name)
		failed[i] = e.orNoNamespace(ctx, namespace, failed[i])
	})
	for i, t := range found {
		if failed[i] != nil {
			errs = append(errs, failed[i])
			continue
		}
		s.add(t)
	}
	if q.Selector != "" || q.All {
		if err := s.selected(ctx, e.Client, q); err != nil {
			errs = append(errs, e.orNoNamespace(ctx, q.selects(), err))
		}
	}
	if len(s.Pods)+len(s.Workloads) == 0 {
		if len(errs) == 0 {
			errs = append(errs, errors.New("no suspect is named"))
		}
		return nil, errors.Join(errs...)
	}
	for _, err := range errs {
		s.Failures = append(s.Failures, err.Error())
	}
	return s, nil
}

// orNoNamespace is the error of looking for something in a namespace, or, if it
// was not found since there is no such namespace, that.
func (e *Engine) orNoNamespace(ctx context.Context, namespace string, err error) error {
	var noPod *cluster.NotFoundError
	if errors.As(err, &noPod) || apierrors.IsNotFound(err) || errors.Is(err, ErrUndetermined) {
		return cmp.Or(e.Client.CheckNamespace(ctx, namespace), err)
	}
	return err
}

// selects is the namespace of the selection; "": all.
func (q SuspectQuery) selects() string {
	if q.AllNamespaces {
		return ""
	}
	return q.Namespace
}

func (s *Suspects) add(targets ...*cluster.Target) {
	for _, t := range targets {
		known := false
		for _, k := range s.Pods {
			known = known || k.Pod.UID == t.Pod.UID
		}
		if !known {
			s.Pods = append(s.Pods, t)
		}
	}
}

// remember adds the suspects that an incident remembers. One that could not be read
// is a failure; those that are gone are left out, and counted.
func (s *Suspects) remember(targets []*cluster.Target) (gone int) {
	for _, t := range targets {
		switch {
		case t.Err != nil:
			s.Failures = append(s.Failures, fmt.Sprintf("pod %s: %v", t.Key(), t.Err))
		case t.Pod.ResourceVersion != "":
			s.add(t)
		default:
			gone++
		}
	}
	return gone
}

// workload adds the pods of a workload, and the workload itself, which is
// taken down also if it has none now.
func (s *Suspects) workload(ctx context.Context, client *cluster.Client, ref cluster.Ref) error {
	chain, err := client.Owner(ctx, ref)
	if err != nil {
		return err
	}
	s.Workloads = append(s.Workloads, chain)
	pods, err := client.WorkloadTargets(ctx, chain[0].Ref)
	s.add(pods...)
	return err
}

func (s *Suspects) selected(ctx context.Context, client *cluster.Client, q SuspectQuery) error {
	namespace := q.selects()
	pods, err := client.SelectTargets(ctx, namespace, q.Selector)
	switch {
	case err != nil:
		return err
	case len(pods) == 0 && q.Selector == "":
		return fmt.Errorf("%w: there are no pods in namespace %s", ErrUndetermined, namespace)
	case len(pods) == 0 && len(q.Known) == 0:
		where := "in namespace " + namespace
		if namespace == "" {
			where = "in any namespace"
		}
		return fmt.Errorf("%w: no pod matches -l %s %s", ErrUndetermined, q.Selector, where)
	}
	s.add(pods...)
	return nil
}
