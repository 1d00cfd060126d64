package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"irctl/internal/casefile"
	"irctl/internal/change"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// Again is a containment as its incident remembers it: its suspects and workloads, as
// they are now, and the steps that were to be done, in the way in which they were.
func (e *Engine) Again(ctx context.Context, id incident.ID) (ContainRequest, error) {
	i, entries, err := e.read(id)
	if err != nil {
		return ContainRequest{}, err
	}
	pods, workloads := e.targetsOf(ctx, i.Targets)
	s := &Suspects{Workloads: workloads}
	s.remember(pods)
	if len(s.Pods)+len(s.Workloads)+len(s.Failures) == 0 {
		return ContainRequest{}, fmt.Errorf("%w: no suspect of incident %s is there any more (irctl status %s); "+
			"give --pod NAME, -l SELECTOR or TYPE/NAME", ErrUndetermined, id, id)
	}
	return ContainRequest{Incident: id, Options: meantBy(entries)}.Of(s), nil
}

// meantBy are the steps of containment that are to be done by a journal, and how: as
// the last request for each step says, or, without requests, what was done.
func meantBy(entries []timeline.Entry) contain.Options {
	told := casefile.Of(entries)
	var o contain.Options
	asked := false
	for _, r := range told.Requests {
		if r.Command != contain.Phase {
			continue
		}
		asked = true
		list := func(name string) []string {
			return slices.DeleteFunc(strings.Split(r.Options[name], ","), func(s string) bool { return s == "" })
		}
		for _, step := range r.Steps {
			switch step {
			case contain.StepQuarantine:
				o.AllowDNS = r.Options["allowDNS"] != ""
				o.AllowNamespaces, o.AllowCIDRs = list("allowNamespaces"), list("allowCIDRs")
			case contain.StepDetach:
				o.KeepLabels, o.RemoveLabels = r.Options["keepLabels"] != "", list("removeLabels")
			case contain.StepScale:
				o.AllowEvidenceLoss = r.Options["allowEvidenceLoss"] != ""
			}
		}
	}
	if !asked {
		done := recordedBy(standing(told))
		o = contain.OptionsOf(done)
		o.KeepLabels = o.KeepLabels && slices.ContainsFunc(done, func(r contain.Recorded) bool {
			return r.Step == contain.StepDetach
		})
	}
	if o.Steps = told.Meant(); len(o.Steps) == 0 {
		o.Steps = contain.DefaultSteps
	}
	o.Isolated = isolatedPods(entries)
	return o
}

func recordedBy(list []StandingChange) []contain.Recorded {
	recorded := make([]contain.Recorded, len(list))
	for n, c := range list {
		recorded[n] = contain.Recorded{Step: c.Step, Change: c.change}
	}
	return recorded
}

// reopenedFirst makes advice on a closed incident true: it can be neither contained
// nor accepted.
func reopenedFirst(i incident.Incident, advice string) string {
	if i.State != incident.StateClosed || !strings.Contains(advice, "--incident "+string(i.ID)) {
		return advice
	}
	return fmt.Sprintf("irctl incident reopen %s; then %s", i.ID, advice)
}

// settling is what settles a change that was meant and did not happen.
func settling(id incident.ID, u Unsettled) string {
	again := fmt.Sprintf("irctl contain --incident %s does it again", id)
	if !casefile.Bearable(u.Step) {
		return again
	}
	return fmt.Sprintf("%s; irctl accept %s --incident %s --reason … leaves it so", again,
		change.ShellQuote(casefile.Unsettled+"="+u.Object), id)
}
