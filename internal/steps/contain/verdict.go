package contain

// Verdict is whether a suspect is cut off.
type Verdict string

// The verdicts, from best to worst.
const (
	// Contained: what was meant was observed, and nothing is known to be open.
	Contained Verdict = "contained"
	// Exposed: contained as far as this cluster's API can do it, but there are
	// other ways in or out, each named.
	Exposed Verdict = "contained with exposures"
	// NotContained: something that was meant was not observed, or a policy
	// still lets traffic in or out.
	NotContained Verdict = "not contained"
	// Undetermined is no verdict: the suspect itself, or its NetworkPolicies,
	// could not be read, or there was nothing to judge.
	Undetermined Verdict = "could not tell"
)

// Severity is how much an exposure weighs in the verdict.
type Severity string

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
type Exposure struct {
	// Code is stable, for scripts.
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
	// Close is what would close it.
	Close string `json:"close,omitempty"`
}

// Check is something that was meant, and whether it was observed.
type Check struct {
	// Code is stable, for scripts: "labels", "released", "endpoints", "workload", "siblings", "policy".
	Code string `json:"code"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// Finding is the verdict on one suspect with its grounds.
type Finding struct {
	Namespace string     `json:"namespace"`
	Pod       string     `json:"pod"`
	UID       string     `json:"uid"`
	Node      string     `json:"node,omitempty"`
	Workload  string     `json:"workload,omitempty"`
	Verdict   Verdict    `json:"verdict"`
	Checks    []Check    `json:"checks"`
	Exposures []Exposure `json:"exposures,omitempty"`
	// Policies are the NetworkPolicies that select the pod now.
	Policies []string `json:"policies,omitempty"`
}

// conclude draws the verdict from checks and exposures.
func (f *Finding) conclude() {
	f.Verdict = Contained
	for _, e := range f.Exposures {
		switch {
		case e.Severity == Open:
			f.Verdict = NotContained
		case e.Severity == Risk && f.Verdict == Contained:
			f.Verdict = Exposed
		}
	}
	for _, c := range f.Checks {
		if !c.OK {
			f.Verdict = NotContained
		}
	}
}

// Worst is the verdict on several suspects: the worst of theirs.
func Worst(findings []Finding) Verdict {
	worst := Contained
	for _, f := range findings {
		if f.Verdict == NotContained || (f.Verdict == Exposed && worst == Contained) {
			worst = f.Verdict
		}
	}
	return worst
}
