// Package incident owns an incident and its files on disk: one directory an
// incident, below the state directory, with
//
//	incident.yaml    what it is about; replaced as a whole, atomically
//	timeline.jsonl   its journal, see package timeline
//	timeline.head    the journal's head
//	lock             held by the one process that works on it
//
// Directories are 0700 and files 0600: they name what is under attack. The
// journal is the truth, and enough: where incident.yaml is behind it, damaged
// or gone, the record is made from the journal, and [Incident.Doubts] says so. The package knows nothing of Kubernetes.
//
// A [Store] finds, creates and opens incidents. A [Handle] is an incident that
// is open for writing by this process and no other.
package incident

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"sigs.k8s.io/yaml"

	"irctl/internal/timeline"
)

// Incident is the content of incident.yaml.
type Incident struct {
	APIVersion string     `json:"apiVersion"` // irctl/v1
	Kind       string     `json:"kind"`       // Incident
	ID         ID         `json:"id"`
	Title      string     `json:"title,omitempty"`
	Severity   Severity   `json:"severity,omitempty"`
	Commander  string     `json:"commander,omitempty"`
	Impact     string     `json:"impact,omitempty"` // who and what suffered, and how
	State      State      `json:"state"`
	OpenedAt   time.Time  `json:"openedAt"`           // UTC
	ClosedAt   *time.Time `json:"closedAt,omitempty"` // UTC; nil while open
	Cluster    Cluster    `json:"cluster"`
	// Drill: the cluster is a simulated one, and nothing of it happened.
	Drill   bool     `json:"drill,omitempty"`
	Targets []Target `json:"targets,omitempty"`
	// Roles say who fills which role, and how to reach them: "communications" → "press@example.com".
	Roles map[string]string `json:"roles,omitempty"`
	// Moments are those that a person has said, in the zone in which they said them.
	Moments map[timeline.Moment]time.Time `json:"moments,omitempty"`

	// Doubts are what its files do not tell, or tell in contradiction; none of a
	// sound incident.
	Doubts []Doubt `json:"-"`
}

// State is open or closed.
type State string

// The states.
const (
	StateOpen   State = "open"
	StateClosed State = "closed"
)

// Severity is how bad it is, sev1 being the worst. Empty: nobody said yet.
type Severity string

// The severities.
const (
	Sev1 Severity = "sev1"
	Sev2 Severity = "sev2"
	Sev3 Severity = "sev3"
	Sev4 Severity = "sev4"
)

// ParseSeverity accepts the empty text and sev1 to sev4.
func ParseSeverity(s string) (Severity, error) {
	if !slices.Contains([]Severity{"", Sev1, Sev2, Sev3, Sev4}, Severity(s)) {
		return "", fmt.Errorf("severity %q: use sev1, sev2, sev3 or sev4", s)
	}
	return Severity(s), nil
}

// Cluster is where the incident happens. The UID is the one thing that no two
// clusters share.
type Cluster struct {
	Server  string `json:"server,omitempty"`
	UID     string `json:"uid,omitempty"`
	Context string `json:"context,omitempty"` // of the kubeconfig
}

// Target is a suspect and the workload it belongs to.
type Target struct {
	Cluster    string `json:"cluster,omitempty"` // UID; empty: the incident's
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
	// Owners is the chain of its controllers when it became a target, its own
	// first: a suspect that was detached since no longer names them.
	Owners []Owner `json:"owners,omitempty"`
}

// Owner is one controller in a target's chain of owners.
type Owner struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
}

// ErrInvalid says that an incident is not one this version of irctl can keep.
var (
	ErrInvalid = errors.New("invalid incident")
	errNewer   = errors.New("another irctl made it")
)

const (
	apiVersion = "irctl/v1"
	kind       = "Incident"

	// maxYAML bounds incident.yaml in bytes, written and read: some 20,000
	// targets.
	maxYAML = 8 << 20
)

// clone returns a copy that shares nothing with i.
func (i Incident) clone() Incident {
	i.Targets = slices.Clone(i.Targets)
	for n := range i.Targets {
		i.Targets[n].Owners = slices.Clone(i.Targets[n].Owners)
	}
	i.Roles, i.Moments, i.Doubts = maps.Clone(i.Roles), maps.Clone(i.Moments), slices.Clone(i.Doubts)
	if i.ClosedAt != nil {
		at := *i.ClosedAt
		i.ClosedAt = &at
	}
	return i
}

// printable returns a copy of i in which every text is one line that can be
// shown: names come from a cluster, and not every control character survives
// YAML (U+0085 is a line break to it).
func (i Incident) printable() Incident {
	i = i.clone()
	for role, who := range i.Roles {
		i.Roles[role] = printable(who)
	}
	texts := []*string{&i.Title, &i.Commander, &i.Impact, &i.Cluster.Server, &i.Cluster.UID, &i.Cluster.Context}
	for n := range i.Targets {
		t := &i.Targets[n]
		texts = append(texts, &t.Cluster, &t.APIVersion, &t.Namespace, &t.Kind, &t.Name, &t.UID)
		for m := range t.Owners {
			o := &t.Owners[m]
			texts = append(texts, &o.APIVersion, &o.Kind, &o.Name, &o.UID)
		}
	}
	for _, text := range texts {
		*text = printable(*text)
	}
	return i
}

func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

func (i Incident) validate() error {
	if i.APIVersion != apiVersion && strings.HasPrefix(i.APIVersion, "irctl/") {
		return fmt.Errorf("%w: %w: it is of %q; this irctl reads %q", ErrInvalid, errNewer, i.APIVersion, apiVersion)
	}
	if i.APIVersion != apiVersion || i.Kind != kind {
		return fmt.Errorf("%w: it is %q of %q; this irctl reads %q of %q", ErrInvalid, i.Kind, i.APIVersion, kind,
			apiVersion)
	}
	if _, err := ParseID(string(i.ID)); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := ParseSeverity(string(i.Severity)); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch {
	case i.State != StateOpen && i.State != StateClosed:
		return fmt.Errorf("%w: state %q is neither open nor closed", ErrInvalid, i.State)
	case (i.State == StateClosed) != (i.ClosedAt != nil):
		return fmt.Errorf("%w: closedAt does not fit state %q", ErrInvalid, i.State)
	case i.OpenedAt.IsZero():
		return fmt.Errorf("%w: openedAt is missing", ErrInvalid)
	}
	for n, t := range i.Targets {
		if t.Kind == "" || t.Name == "" {
			return fmt.Errorf("%w: target %d has no kind or no name", ErrInvalid, n+1)
		}
	}
	for role := range i.Roles {
		if !rolePattern.MatchString(role) {
			return fmt.Errorf("%w: %.64q is no name of a role", ErrInvalid, role)
		}
	}
	for moment := range i.Moments {
		if !slices.Contains(timeline.Moments, moment) {
			return fmt.Errorf("%w: %.64q is no moment", ErrInvalid, moment)
		}
	}
	return nil
}

func (i Incident) encode() ([]byte, error) {
	if err := i.validate(); err != nil {
		return nil, err
	}
	text, err := yaml.Marshal(i)
	if err != nil {
		return nil, err
	}
	if len(text) > maxYAML {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, len(text), maxYAML)
	}
	return text, nil
}

// decode refuses fields it does not know: they may mean that something must
// not be done. Of a file that it refuses it returns what it could read.
func decode(text []byte) (Incident, error) {
	var i Incident
	if err := yaml.UnmarshalStrict(text, &i); err != nil {
		var known Incident
		if yaml.Unmarshal(text, &known) != nil {
			known = Incident{} // a part of it might be anything
		}
		return known, fmt.Errorf("%w: %w (written by a newer irctl, or by hand?)", ErrInvalid, err)
	}
	return i, i.validate()
}
