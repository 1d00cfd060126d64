package contain

import (
	"slices"

	"irctl/internal/record"
)

// Verdict is whether a suspect is cut off.
type Verdict = record.Verdict

// The verdicts. What was seen to be open outweighs what could not be looked at,
// see byWeight.
const (
	// Contained: what was meant was observed, and nothing is known to be open.
	Contained = record.Contained
	// Exposed: contained as far as this cluster's API can do it, but there are
	// other ways in or out, each named.
	Exposed = record.Exposed
	// NotContained: something that was meant was not observed, or a policy
	// still lets traffic in or out.
	NotContained = record.NotContained
	// Undetermined is no verdict: the suspect itself, or its NetworkPolicies,
	// could not be read, or there was nothing to judge.
	Undetermined = record.Undetermined
)

// Severity is how much an exposure weighs in the verdict.
type Severity = record.Severity

// The severities of exposures.
const (
	// Open: a way to the network. The verdict is "not contained".
	Open Severity = "open"
	// Risk: a way that containment of the pod does not close. The verdict is
	// "contained with exposures".
	Risk Severity = "risk"
	// Note: true of every contained pod, or asked for. It does not change the verdict.
	Note Severity = "note"
)

// Exposure is a way in or out that remains, and what would close it.
type Exposure = record.Exposure

// Check is something that was meant, and whether it was observed.
type Check = record.Check

// decisive are the codes of the checks without which there is no verdict on a
// suspect: on the suspect itself and on its NetworkPolicies.
var decisive = []string{"pod", "policy"}

// Finding is the verdict on one suspect with its grounds.
type Finding = record.Finding

// conclude draws the verdict from checks and exposures.
func conclude(f *Finding) {
	f.Verdict = Contained
	for _, e := range f.Exposures {
		if e.Accepted == nil {
			f.Verdict = Worse(f.Verdict, ofSeverity(e.Severity))
		}
	}
	for _, c := range f.Checks {
		f.Verdict = Worse(f.Verdict, ofCheck(c))
	}
}

// ofSeverity is the best that a suspect with such an exposure can have.
func ofSeverity(s Severity) Verdict {
	switch s {
	case Open:
		return NotContained
	case Risk:
		return Exposed
	}
	return Contained
}

// ofCheck is the best that a suspect with such a check can have. One that could
// not be made weighs as a risk, unless the verdict rests on it.
func ofCheck(c Check) Verdict {
	switch {
	case c.OK:
		return Contained
	case !c.Unknown:
		return NotContained
	case slices.Contains(decisive, c.Code):
		return Undetermined
	}
	return Exposed
}

// byWeight are the verdicts from the one that weighs least to the one that
// weighs most: what was seen to be open stays so, whatever else could not be seen.
var byWeight = []Verdict{"", Contained, Exposed, Undetermined, NotContained}

// Worse is the one of two verdicts that weighs more: not contained, could not
// tell, contained with exposures, contained, none at all.
func Worse(a, b Verdict) Verdict {
	if slices.Index(byWeight, b) > slices.Index(byWeight, a) {
		return b
	}
	return a
}

// Worst is the verdict on several suspects: the worst of theirs. On none there
// is nothing to tell.
func Worst(findings []Finding) Verdict {
	if len(findings) == 0 {
		return Undetermined
	}
	worst := Contained
	for _, f := range findings {
		worst = Worse(worst, f.Verdict)
	}
	return worst
}
