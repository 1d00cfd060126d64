package detect

import (
	"encoding/json"
	"strings"
	"time"
)

// Finding is one thing that speaks against a suspect.
type Finding struct {
	// Code is stable, for scripts; docs/detect.md lists them.
	Code string `json:"code"`
	// Severity follows from the score.
	Severity Severity `json:"severity"`
	Score    Score    `json:"score"`
	// Reason is one line for people.
	Reason string `json:"reason"`
	// Technique is the one of MITRE ATT&CK for Containers; zero where none fits.
	Technique Technique `json:"technique,omitzero"`
	Subject   Subject   `json:"subject"`
	Source    Source    `json:"source"`
	// Rule is the alert's own, as of Falco.
	Rule string `json:"rule,omitempty"`
	// Object is what it was done with, or to, where that tells findings of one
	// subject apart: a command, a secret, an image.
	Object string `json:"object,omitempty"`
	// FirstSeen and LastSeen are the times that the alerts themselves give, in
	// their own zones; zero where what was found has no time.
	FirstSeen time.Time `json:"firstSeen,omitzero"`
	LastSeen  time.Time `json:"lastSeen,omitzero"`
	// Count is how often it was seen.
	Count int64 `json:"count"`
	// Alert is the first alert as it came, if it is not large; until a Tally
	// keeps it, a line that is still being read.
	Alert json.RawMessage `json:"alert,omitempty"`
}

// Source is where a finding comes from.
type Source string

// The sources.
const (
	SourceFalco   Source = "falco"
	SourceAudit   Source = "audit"
	SourceCluster Source = "cluster"
)

// Score is from 0 to 100; a severity is a range of it. Signs of an attack are
// 40 and more. What merely makes one easier is below that, so that no amount
// of it outranks a sign, see Rank.
type Score int

// Severity is how bad a finding, or a suspect, is.
type Severity string

// The severities, and the score that each begins at.
const (
	Critical Severity = "critical" // 80
	High     Severity = "high"     // 60
	Medium   Severity = "medium"   // 40
	Low      Severity = "low"      // 20
	Info     Severity = "info"     // 0
)

const (
	criticalScore Score = 80
	highScore     Score = 60
	mediumScore   Score = 40
	lowScore      Score = 20
	maxScore      Score = 100
)

// Severity of a score.
func (s Score) Severity() Severity {
	switch {
	case s >= criticalScore:
		return Critical
	case s >= highScore:
		return High
	case s >= mediumScore:
		return Medium
	case s >= lowScore:
		return Low
	}
	return Info
}

// AtLeastHigh reports what a script should be told of by the exit code.
func (s Score) AtLeastHigh() bool { return s >= highScore }

// Sign reports whether it is a sign of an attack, rather than of what makes
// one easier.
func (s Score) Sign() bool { return s >= mediumScore }

// Subject is whom a finding is about. Several fields may be set; the suspect
// is the most tangible of them, see Suspect.
type Subject struct {
	Namespace      string `json:"namespace,omitempty"`
	Pod            string `json:"pod,omitempty"`
	PodUID         string `json:"podUID,omitempty"`
	Container      string `json:"container,omitempty"`
	Workload       string `json:"workload,omitempty"` // "Deployment/backend"
	ServiceAccount string `json:"serviceAccount,omitempty"`
	User           string `json:"user,omitempty"`
	Object         string `json:"object,omitempty"` // "ClusterRoleBinding/x"
	Node           string `json:"node,omitempty"`

	containerID string // by which a pod is found whose name the alert does not tell
}

// Suspect is the kind and the name of what is suspected: the pod, since that
// is what can be contained; else the workload, the object, the service
// account, the user, the node.
func (s Subject) Suspect() (kind, name string) {
	in := func(name string) string {
		if s.Namespace == "" {
			return name
		}
		return s.Namespace + "/" + name
	}
	switch {
	case s.Pod != "":
		return "pod", in(s.Pod)
	case s.Workload != "":
		return "workload", in(s.Workload)
	case s.Object != "":
		return "object", s.Object
	case s.ServiceAccount != "":
		return "serviceaccount", in(s.ServiceAccount)
	case s.User != "":
		return "user", s.User
	case s.Node != "":
		return "node", s.Node
	}
	return "unknown", "unknown"
}

// The longest that texts of others may be, in bytes, so that what is kept of a
// flood of alerts is bounded.
const (
	maxReason = 400
	maxObject = 160
	maxName   = 253 // of an object, as Kubernetes has it
	maxAlert  = 4 << 10
)

// bound cuts everything that is not ours to a bearable length.
func (f *Finding) bound() {
	f.Reason, f.Object, f.Rule = cut(f.Reason, maxReason), cut(f.Object, maxObject), cut(f.Rule, maxObject)
	s := &f.Subject
	for _, name := range []*string{&s.Namespace, &s.Pod, &s.PodUID, &s.Container, &s.Workload, &s.ServiceAccount,
		&s.User, &s.Object, &s.Node, &s.containerID} {
		*name = cut(*name, maxName)
	}
}

// cut keeps at most n bytes, whole runes, and no memory of the rest.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// key tells findings apart: those with the same key are one that was repeated.
func (f *Finding) key() string {
	s := &f.Subject
	return strings.Join([]string{f.Code, string(f.Source), string(f.Severity), f.Rule, f.Object, s.Namespace, s.Pod,
		s.Container, s.Workload, s.ServiceAccount, s.User, s.Object, s.Node, s.containerID}, "\x00")
}
