package record

// Run is what an entry says of a run of a runbook.
type Run struct {
	Event RunEvent `json:"run"`
}

// RunEvent is the whole memory of a run: whoever goes on with it reads these.
// They are observations, not intents: the intents of a step are those of its
// changes.
type RunEvent struct {
	Event   string `json:"event"`
	Runbook string `json:"runbook"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
	// Session tells processes apart: the last one that began or resumed the
	// run goes on with it, and any other stops.
	Session string `json:"session"`
	// Source, Params and Accepted are of the run's begin. Accepted is the SHA-256
	// of the runbook before, where a changed one was accepted.
	Source   string            `json:"source,omitempty"`
	Params   map[string]string `json:"params,omitempty"`
	Accepted string            `json:"accepted,omitempty"`
	// Of a step.
	Phase     string         `json:"phase,omitempty"`
	Step      string         `json:"step,omitempty"`
	Uses      string         `json:"uses,omitempty"`
	Inputs    map[string]any `json:"inputs,omitempty"`
	Edited    []string       `json:"edited,omitempty"` // inputs that a person changed
	Outcome   string         `json:"outcome,omitempty"`
	NotNeeded bool           `json:"notNeeded,omitempty"`
	// Passed: the run went on after it.
	Passed bool `json:"passed,omitempty"`
	// Left is what of it is left to a person.
	Left    []string       `json:"left,omitempty"`
	Results map[string]any `json:"results,omitempty"`
	Detail  any            `json:"detail,omitempty"`
}
