package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"irctl/internal/casefile"
	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// AcceptRequest takes a finding upon the one who asks, or takes that back.
type AcceptRequest struct {
	// Code is the finding's; Object is what it is about, "namespace/pod" or as an
	// unsettled change names it; "": wherever it is found.
	Code, Object string
	Reason       string
	// Withdraw takes an acceptance back: the finding weighs again.
	Withdraw bool
}

// Acceptable is a finding that a person can take upon himself. Its JSON form is
// documented and stable.
type Acceptable struct {
	Code     string           `json:"code"`
	Object   string           `json:"object"`
	Text     string           `json:"text"`
	Accepted *record.Accepted `json:"accepted,omitempty"`
}

// Named is how irctl accept is told of it.
func (a Acceptable) Named() string { return a.Code + "=" + a.Object }

// Acceptables are the findings of a status that a person can accept: what remains
// open beside what irctl was to do, and what it was to do and could not, but for the
// cut itself. A check that failed is not among them: nothing that a person says makes
// it so.
func (r *StatusResult) Acceptables() []Acceptable {
	list := []Acceptable{}
	for _, f := range r.Targets {
		for _, x := range f.Exposures {
			if x.Severity != contain.Note || x.Accepted != nil {
				list = append(list, Acceptable{x.Code, f.Namespace + "/" + f.Pod, x.Text, x.Accepted})
			}
		}
	}
	for _, u := range r.Unsettled {
		if !casefile.Bearable(u.Step) {
			continue
		}
		list = append(list, Acceptable{casefile.Unsettled, u.Object, "not done: " + u.Summary, u.Accepted})
	}
	for _, t := range r.Strays {
		list = append(list, Acceptable{casefile.Stray, t.Object,
			"it carries the incident's label, and the journal does not know it", t.Accepted})
	}
	return list
}

// Accept journals that a person takes a finding of a containment upon himself: it
// was closed where irctl cannot look, or is borne. It must be there; what it is
// about is in the result.
func (e *Engine) Accept(ctx context.Context, h *incident.Handle, req AcceptRequest) ([]Acceptable, error) {
	if err := e.usable(h.Incident()); err != nil {
		return nil, err
	}
	if strings.TrimSpace(req.Reason) == "" && !req.Withdraw {
		return nil, fmt.Errorf("%w: an acceptance needs a reason: --reason TEXT", ErrRefused)
	}
	looking, cancel := e.within(ctx)
	defer cancel()
	if req.Withdraw {
		if err := withdraw(h, req); err != nil {
			return nil, err
		}
		return nil, e.judgeAnew(looking, h)
	}
	all := e.Status(looking, h.Incident(), h.Log.Entries()).Acceptables()
	found := slices.DeleteFunc(slices.Clone(all), func(a Acceptable) bool {
		return a.Code != req.Code || req.Object != "" && a.Object != req.Object
	})
	if len(found) == 0 {
		return nil, unknownFinding(req, all)
	}
	var objects []string
	for _, a := range found {
		objects = append(objects, a.Object)
	}
	entry := timeline.Entry{Kind: timeline.KindObservation, Phase: contain.Phase, Action: casefile.ActionAccepted,
		Summary: fmt.Sprintf("accepted: %s of %s: %s", req.Code, summarize(objects), req.Reason)}
	if _, err := h.Log.AppendWith(entry, record.Acceptance{Code: req.Code, Object: req.Object,
		Reason: req.Reason}); err != nil {
		return nil, fmt.Errorf("the acceptance could not be journaled: %w", err)
	}
	told := casefile.Of(h.Log.Entries())
	for i := range found {
		found[i].Accepted = acceptedIn(told)(found[i].Code, found[i].Object)
	}
	return found, e.judgeAnew(looking, h)
}

// judgeAnew journals how the containment stands with what is accepted now, so that who
// reads the journal alone is told the same.
func (e *Engine) judgeAnew(ctx context.Context, h *incident.Handle) error {
	s := e.Status(ctx, h.Incident(), h.Log.Entries())
	if len(s.Targets) == 0 {
		return nil
	}
	if err := appendVerdict(h, s.assessment(), "accept", 0); err != nil {
		return fmt.Errorf("it is journaled, but the verdict that follows could not be: %w", err)
	}
	return nil
}

// Acceptables looks what of an incident weighs and can be accepted, and what is.
func (e *Engine) Acceptables(ctx context.Context, i incident.Incident, entries []timeline.Entry) ([]Acceptable, error) {
	if err := e.notHere(i); err != nil {
		return nil, err
	}
	looking, cancel := e.within(ctx)
	defer cancel()
	return e.Status(looking, i, entries).Acceptables(), nil
}

// unknownFinding says that there is nothing of the kind to accept, and what there is.
func unknownFinding(req AcceptRequest, all []Acceptable) error {
	what := req.Code
	if req.Object != "" {
		what += "=" + req.Object
	}
	var codes []string
	for _, a := range all {
		if a.Accepted == nil && !slices.Contains(codes, a.Code) {
			codes = append(codes, a.Code)
		}
	}
	if len(codes) == 0 {
		return fmt.Errorf("no finding %s is open: there is nothing to accept", what)
	}
	if near := cluster.Near(req.Code, codes); len(near) > 0 {
		return fmt.Errorf("no finding %s is open: did you mean %s? (open are %s)", what, strings.Join(near, " or "),
			strings.Join(codes, ", "))
	}
	return fmt.Errorf("no finding %s is open: open are %s", what, strings.Join(codes, ", "))
}

func withdraw(h *incident.Handle, req AcceptRequest) error {
	told := casefile.Of(h.Log.Entries())
	known := slices.ContainsFunc(told.Accepted, func(a casefile.Acceptance) bool {
		return a.Code == req.Code && a.Object == req.Object
	})
	if !known {
		var names []string
		for _, a := range told.Accepted {
			names = append(names, strings.TrimSuffix(a.Code+"="+a.Object, "="))
		}
		if len(names) == 0 {
			return fmt.Errorf("nothing is accepted in incident %s", h.Incident().ID)
		}
		return fmt.Errorf("%s is not accepted in incident %s: accepted are %s",
			strings.TrimSuffix(req.Code+"="+req.Object, "="), h.Incident().ID, strings.Join(names, ", "))
	}
	summary := fmt.Sprintf("no longer accepted: %s", strings.TrimSuffix(req.Code+" of "+req.Object, " of "))
	if req.Reason != "" {
		summary += ": " + req.Reason
	}
	entry := timeline.Entry{Kind: timeline.KindObservation, Phase: contain.Phase, Action: casefile.ActionWithdrawn,
		Summary: summary}
	if _, err := h.Log.AppendWith(entry, record.Acceptance{Code: req.Code, Object: req.Object, Reason: req.Reason,
		Withdrawn: true}); err != nil {
		return fmt.Errorf("that it is withdrawn could not be journaled: %w", err)
	}
	return nil
}
