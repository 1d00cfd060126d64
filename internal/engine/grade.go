package engine

import (
	"context"
	"fmt"
	"time"

	"irctl/internal/casefile"
	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// Unsettled is a change that was meant and did not happen, or of which that is not
// known, and which nothing has settled since: no later attempt, and no look at its
// object. It weighs in the verdict for as long. Its JSON form is documented and
// stable.
type Unsettled struct {
	Seq     int64  `json:"seq"` // of the intent in the timeline
	Step    string `json:"step"`
	Action  string `json:"action"`
	Object  string `json:"object"`
	Summary string `json:"summary"`
	// Outcome is what came of the last attempt; "unknown" where nobody knows.
	Outcome timeline.Outcome `json:"outcome"`
	// Reason is why: what the API server answered, or irctl's own rule.
	Reason string `json:"reason,omitempty"`
	// State is where the object stands now with regard to the change.
	State change.State `json:"state"`
	// Close is what settles it.
	Close string `json:"close,omitempty"`
	// Accepted: somebody took it upon himself, and it weighs no more.
	Accepted *record.Accepted `json:"accepted,omitempty"`
}

// gradeTime bounds the look at what is unsettled; it is taken also where the run
// itself was ended.
const gradeTime = 10 * time.Second

// grade is the one verdict on a containment: from what was observed, what somebody
// accepted, and what was meant and did not happen. Whoever tells of a containment
// tells this one.
func (e *Engine) grade(ctx context.Context, c *casefile.Case, i incident.Incident, a *contain.Assessment) []Unsettled {
	looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), gradeTime)
	defer cancel()
	more, err := e.newMatches(looking, c, i)
	if err != nil {
		more = append(more, contain.Finding{Namespace: "", Pod: "",
			Checks: []contain.Check{{Code: "pod", Unknown: true, Text: err.Error()}}})
	}
	a.Findings = append(a.Findings, more...)
	open := c.Unsettled()
	seen := make([]*Unsettled, len(open))
	cluster.Parallel(len(open), func(n int) { seen[n] = e.unsettled(looking, c, open[n]) })
	var list []Unsettled
	for _, u := range seen {
		if u == nil {
			continue
		}
		u.Close = reopenedFirst(i, settling(i.ID, *u))
		if list = append(list, *u); u.Accepted != nil {
			contain.Leave(a, u.Object)
		}
	}
	contain.Accept(a, acceptedIn(c))
	for _, u := range list {
		switch {
		case u.Accepted != nil:
		case u.State == stateUnknown:
			a.Verdict = contain.Worse(a.Verdict, contain.Undetermined)
		default:
			a.Verdict = contain.Worse(a.Verdict, contain.NotContained)
		}
	}
	return list
}

// unsettled looks at the object of a change that did not happen; nil: it is as it
// was to be, or not there any more, so that nothing is left to do.
func (e *Engine) unsettled(ctx context.Context, c *casefile.Case, a *timeline.Action) *Unsettled {
	u := Unsettled{Seq: a.Intent.Seq, Step: a.Intent.Step, Action: a.Intent.Action, Summary: a.Intent.Summary,
		Outcome: timeline.OutcomeUnknown, Reason: "irctl was ended before it knew what became of it",
		State: stateUnknown}
	if a.Outcome != nil {
		u.Outcome, u.Reason = a.Outcome.Outcome, a.Outcome.Error
	}
	if made, ok := change.In(&a.Intent); ok {
		u.Object = made.Object.String()
		state, err := made.Observe(ctx, e.Client.Dynamic)
		switch {
		case err != nil:
			u.Reason = fmt.Sprintf("%s; whether it is so now could not be read: %v", u.Reason, err)
		case state == change.After, state == change.Missing:
			return nil
		default:
			u.State = state
		}
	}
	u.Accepted = acceptedBy(c.Borne(a))
	return &u
}

// acceptedIn tells of a finding who accepted it; nil: nobody did.
func acceptedIn(c *casefile.Case) func(code, object string) *record.Accepted {
	return func(code, object string) *record.Accepted {
		return acceptedBy(c.AcceptanceOf(code, object))
	}
}

func acceptedBy(a *casefile.Acceptance) *record.Accepted {
	if a == nil {
		return nil
	}
	return &record.Accepted{By: a.Who.Name(), At: a.Time, Reason: a.Reason}
}

// Accepted counts the findings that weigh no more, since somebody accepted them.
func Accepted(findings []contain.Finding, unsettled []Unsettled) int {
	n := 0
	for _, f := range findings {
		for _, x := range f.Exposures {
			if x.Accepted != nil {
				n++
			}
		}
	}
	for _, u := range unsettled {
		if u.Accepted != nil {
			n++
		}
	}
	return n
}
