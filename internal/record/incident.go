package record

import (
	"encoding/json"
	"time"
)

// Changed is what became of one field of the incident's record.
type Changed struct {
	Key    string `json:"key"` // severity, or the name of a moment, say
	Before string `json:"before"`
	After  string `json:"after"` // empty: it is no longer known
	// Targets are those that were added, or of which more became known, as
	// incident.yaml has them, in JSON.
	Targets json.RawMessage `json:"targets,omitempty"`
}

// Detection is what an entry of the phase detect tells of times. An alert may
// have waited for hours until somebody opened an incident; the time of the entry
// says nothing of that.
type Detection struct {
	// StartedAt is the first sign of the attack; AlertedAt is when something
	// first raised the alarm. In the zones of those who reported them.
	StartedAt time.Time `json:"startedAt,omitzero"`
	AlertedAt time.Time `json:"alertedAt,omitzero"`
	// Suspect is what speaks against it, as irctl detect -o json tells it.
	Suspect json.RawMessage `json:"suspect,omitzero"`
}

// Closing is what had become of an incident's changes when it was closed; they
// are named by their intents.
type Closing struct {
	LeaveStanding string  `json:"leaveStanding,omitempty"`
	Containment   []int64 `json:"containment,omitempty"`
	OnPurpose     []int64 `json:"onPurpose,omitempty"`
	Gone          []int64 `json:"gone,omitempty"`
	Unseen        string  `json:"unseen,omitempty"`
	// Strays carry the incident's label, and the journal does not know them.
	Strays []string `json:"strays,omitempty"`
	// Made is what irctl put into the cluster besides changes and does not take away.
	Made []string `json:"made,omitempty"`
	// Unlooked is why more may be left than is said here.
	Unlooked []string `json:"unlooked,omitempty"`
}

// Opened is the record of an incident when its journal began, so that the journal
// alone is enough to make incident.yaml anew: as that has it, in JSON.
type Opened struct {
	Incident json.RawMessage `json:"incident,omitempty"`
}

// Rebuilt is that incident.yaml was made anew from the journal.
type Rebuilt struct {
	Unknown []string `json:"unknown,omitempty"` // what matters for a verdict
}

// Request is who asked for what, in which words, and what that came to when it
// was asked: it stands in front of the first write. The same request is told by
// what it resolves to, not by its words.
type Request struct {
	// Command is what is to be done: contain, undo, eradicate, recover, run.
	Command string `json:"command"`
	// Words are what was asked for: the arguments as they were typed, without what
	// may hold a secret.
	Words []string `json:"words,omitempty"`
	// From is where it was asked: cli, ui, or a step of a runbook.
	From string `json:"from,omitempty"`
	// Selector and Namespace are those of a request by selector.
	Selector  string `json:"selector,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	// Options by name, those that are not as they are without being given.
	Options map[string]string `json:"options,omitempty"`
	// Targets are what it resolved to.
	Targets []Ref `json:"targets,omitempty"`
	// Steps are those that are to be done.
	Steps []string `json:"steps,omitempty"`
}

// Acceptance is that somebody took a finding upon himself, or took that back.
type Acceptance struct {
	// Code is the finding's, Object what it is about; "": wherever it is.
	Code   string `json:"code"`
	Object string `json:"object,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Withdrawn: it weighs again.
	Withdrawn bool `json:"withdrawn,omitempty"`
}

// Torn is a last line of the journal that was cut off, since its writer was
// killed before it was acknowledged.
type Torn struct {
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
	Text   string `json:"text"` // quoted as in Go; perhaps only the beginning
}
