// Package report makes the post-mortem of an incident out of its record and
// its journal, and renders it as Markdown, HTML and JSON.
//
// It says only what is recorded. What is not known is said to be not known: a
// time to detect that was guessed is worse than none.
//
// Nearly everything in a report was written by somebody else: a pod's name, an
// API server's error, the attacker. Such text has the type [Text], which no
// renderer can print in a way that takes effect.
package report

import (
	"errors"
	"maps"
	"slices"
	"time"

	"irctl/internal/casefile"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

// Report is a post-mortem. Its JSON form is documented in docs/report.md and
// stable.
type Report struct {
	Format      string    `json:"format"`
	GeneratedAt time.Time `json:"generatedAt"`
	Tool        Text      `json:"tool"`

	Chain Chain `json:"chain"`
	// Doubts are what the incident's files do not tell, or tell otherwise than they
	// should, and what carried its label unknown to it when it was closed.
	Doubts   []Doubt  `json:"doubts"`
	Incident Incident `json:"incident"`
	// Summary is what happened, in sentences.
	Summary   []Text     `json:"summary"`
	Moments   []Moment   `json:"moments"`
	Durations []Duration `json:"durations"`
	Contacts  []Contact  `json:"contacts"`
	People    []Person   `json:"people"`
	// Verdict is the last one on containment; nil: there is none.
	Verdict *Verdict `json:"verdict,omitempty"`
	// LeftStanding is who closed the incident although containment stands, and why.
	LeftStanding *Accepted    `json:"leftStanding,omitempty"`
	Exposures    []Exposure   `json:"exposures"`
	WayIn        []WayIn      `json:"wayIn"`
	PutBack      []Observed   `json:"putBack"`
	Evidence     []Evidence   `json:"evidence"`
	Rotations    []Action     `json:"rotations"`
	Deviations   []Deviation  `json:"deviations"`
	ActionItems  []ActionItem `json:"actionItems"`
	Actions      []Action     `json:"actions"`
	Timeline     []Event      `json:"timeline"`
	Checklists   []Checklist  `json:"checklists"`

	phases []span // of the drawing
}

// Doubt is why more may stand, or have been done, than is told here.
type Doubt struct {
	Text Text `json:"text"`
	// Weighs: no good verdict is drawn with it.
	Weighs bool `json:"weighs"`
}

// doubtsOf are those of the incident's files, and of how it was closed.
func doubtsOf(in Input) []Doubt {
	list := []Doubt{}
	for _, d := range in.Incident.Doubts {
		list = append(list, Doubt{Text(d.Text), d.Weighs})
	}
	closing := casefile.Of(in.Entries).Closing
	if closing == nil {
		return list
	}
	for _, s := range closing.Strays {
		list = append(list, Doubt{Text("when it was closed, " + s +
			" carried its label, and the journal did not know it"), true})
	}
	for _, u := range closing.Unlooked {
		list = append(list, Doubt{Text("when it was closed: " + u), false})
	}
	return list
}

func doubtsWeigh(list []Doubt) bool {
	return slices.ContainsFunc(list, func(d Doubt) bool { return d.Weighs })
}

// Format is the value of Report.Format.
const Format = "irctl-report/1"

// Input is what a report is made from.
type Input struct {
	Incident incident.Incident
	// Chain is what the verification of the journal found, and Entries are
	// those before the first break.
	Chain   timeline.Report
	Entries []timeline.Entry
	// Contacts are those that the team has agreed on.
	Contacts []Contact
	// Look is how the containment stood when somebody looked at the cluster for this
	// report; nil: nobody did, and NotLooked is why, if that is worth saying.
	Look      *Look
	NotLooked string
	Now       time.Time
	// Tool is the name and version of what makes the report.
	Tool string
}

// Look is what a look at the cluster found of the containment.
type Look struct {
	At         time.Time
	Assessment record.Assessment
	// Unsettled is what was meant, did not happen, and weighs; Accepted is how many
	// findings weigh no more.
	Unsettled []string
	Accepted  int
}

// Read reads an incident and its journal, without a lock. That the chain is
// broken is no error: it is in the Input, with what is before the break.
func Read(store *incident.Store, id incident.ID) (Input, error) {
	i, err := store.Load(id)
	if err != nil {
		return Input{}, err
	}
	chain, err := store.Verify(id)
	if err != nil {
		return Input{}, err
	}
	entries, err := store.Entries(id)
	var broken *timeline.ChainError
	if err != nil && !errors.As(err, &broken) {
		return Input{}, err
	}
	if chain.Incident != string(id) {
		entries = nil // a sound journal, but of another incident
	}
	// A writer at work may have added some since they were verified.
	entries = entries[:min(int64(len(entries)), chain.Entries)]
	return Input{Incident: i, Chain: chain, Entries: entries}, nil
}

// New makes the report.
func New(in Input) *Report {
	in.Entries = slices.Clone(in.Entries)
	for i := range in.Entries {
		in.Entries[i].Time = writable(in.Entries[i].Time)
	}
	r := &Report{Format: Format, GeneratedAt: in.Now.Round(time.Second), Tool: Text(in.Tool),
		Chain:    chainOf(in.Chain, len(in.Entries)),
		Incident: incidentOf(in.Incident), Contacts: contactsOf(in.Contacts), People: people(in.Entries),
		Checklists: checklists}
	r.Doubts = doubtsOf(in)
	metrics := timeline.MetricsOf(in.Entries)
	r.Moments = moments(metrics, in.Entries)
	r.Durations = durations(metrics)
	r.phases = phases(in.Entries)
	h := &history{Report: r}
	h.read(in.Entries)
	h.stands(in)
	h.actions(in.Entries)
	r.Rotations = filter(r.Actions, Action.rotates)
	r.WayIn = waysIn(r, in.Entries)
	r.ActionItems = actionItems(r)
	r.Summary = summary(r, in.Entries)
	r.fillEmpty()
	return r
}

// writable is t, or no time if JSON cannot write it again: it can read a zone
// of +24:00, which somebody may have put into a journal.
func writable(t time.Time) time.Time {
	if _, err := t.MarshalText(); err != nil {
		return time.Time{}
	}
	return t
}

// fillEmpty makes lists that are empty [] in JSON, rather than null.
func (r *Report) fillEmpty() {
	orEmpty(&r.Contacts)
	orEmpty(&r.People)
	orEmpty(&r.Exposures)
	orEmpty(&r.WayIn)
	orEmpty(&r.PutBack)
	orEmpty(&r.Evidence)
	orEmpty(&r.Rotations)
	orEmpty(&r.Deviations)
	orEmpty(&r.ActionItems)
	orEmpty(&r.Actions)
	orEmpty(&r.Timeline)
}

func orEmpty[T any](list *[]T) {
	if *list == nil {
		*list = []T{}
	}
}

func filter[T any](list []T, want func(T) bool) []T {
	var out []T
	for _, v := range list {
		if want(v) {
			out = append(out, v)
		}
	}
	return out
}

// Incident is the incident's record.
type Incident struct {
	ID Text `json:"id"`
	// Drill: it is of a simulated cluster, and nothing of it happened.
	Drill     bool           `json:"drill,omitempty"`
	Title     Text           `json:"title,omitempty"`
	Severity  Text           `json:"severity,omitempty"`
	Impact    Text           `json:"impact,omitempty"`
	Commander Text           `json:"commander,omitempty"`
	Roles     []Role         `json:"roles"`
	State     incident.State `json:"state"`
	OpenedAt  time.Time      `json:"openedAt"`
	ClosedAt  *time.Time     `json:"closedAt,omitempty"`
	Context   Text           `json:"context,omitempty"`
	Server    Text           `json:"server,omitempty"`
	Cluster   Text           `json:"clusterUID,omitempty"`
	Targets   []Target       `json:"targets"`
}

// Role is who filled a role, and how to reach them.
type Role struct {
	Role Text `json:"role"`
	Who  Text `json:"who"`
}

// Target is a suspect, with the workload at the top of its chain of owners.
type Target struct {
	Kind      Text `json:"kind"`
	Namespace Text `json:"namespace,omitempty"`
	Name      Text `json:"name"`
	UID       Text `json:"uid,omitempty"`
	Workload  Text `json:"workload,omitempty"`
}

// Label names the target as people do: "Pod todo-app/backend-1".
func (t Target) Label() Text {
	name := t.Name
	if t.Namespace != "" {
		name = t.Namespace + "/" + name
	}
	return t.Kind + " " + name
}

func incidentOf(i incident.Incident) Incident {
	out := Incident{ID: Text(i.ID), Drill: i.Drill, Title: Text(i.Title), Severity: Text(i.Severity),
		Impact: Text(i.Impact), Commander: Text(i.Commander),
		Roles: []Role{}, State: i.State, OpenedAt: writable(i.OpenedAt),
		Context: Text(i.Cluster.Context), Server: Text(i.Cluster.Server), Cluster: Text(i.Cluster.UID),
		Targets: []Target{}}
	if i.ClosedAt != nil {
		at := writable(*i.ClosedAt)
		out.ClosedAt = &at
	}
	for _, role := range slices.Sorted(maps.Keys(i.Roles)) {
		out.Roles = append(out.Roles, Role{Text(role), Text(i.Roles[role])})
	}
	for _, t := range i.Targets {
		target := Target{Kind: Text(t.Kind), Namespace: Text(t.Namespace), Name: Text(t.Name), UID: Text(t.UID)}
		if n := len(t.Owners); n > 0 {
			target.Workload = Text(t.Owners[n-1].Kind + " " + t.Owners[n-1].Name)
		}
		out.Targets = append(out.Targets, target)
	}
	return out
}

// Contact is somebody whom the team has agreed to call.
type Contact struct {
	Role  Text `json:"role,omitempty"`
	Name  Text `json:"name"`
	Email Text `json:"email,omitempty"`
	Phone Text `json:"phone,omitempty"`
	Chat  Text `json:"chat,omitempty"`
}

func contactsOf(list []Contact) []Contact { return slices.Clone(list) }

// Person is somebody who made entries of the journal.
type Person struct {
	Who     Text      `json:"who"`
	Entries int       `json:"entries"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

func people(entries []timeline.Entry) []Person {
	var list []Person
	index := map[Text]int{}
	for _, e := range entries {
		name := who(e.Actor)
		at, known := index[name]
		if !known {
			at = len(list)
			index[name] = at
			list = append(list, Person{Who: name, First: e.Time})
		}
		list[at].Entries++
		list[at].Last = e.Time
	}
	return list
}

// who names an actor: the person at the machine, and as whom the cluster knew
// them.
func who(a timeline.Actor) Text {
	name := a.OSUser
	if name == "" {
		name = "unknown"
	}
	if a.Host != "" {
		name += "@" + a.Host
	}
	if a.Identity != "" {
		name += " as " + a.Identity
	}
	return Text(name)
}

// Chain is whether the journal is as its writers left it.
type Chain struct {
	// State is "verified", "torn" (the last line, never acknowledged, was cut
	// off by a kill) or "broken".
	State string `json:"state"`
	// Entries of the journal, and Used: those that the report is made from.
	Entries int64 `json:"entries"`
	Used    int   `json:"used"`
	// Head is the last entry: compare it with what was noted elsewhere.
	Head timeline.Head `json:"head"`
	// EndKnown: that entries were cut off the end can be excluded.
	EndKnown bool   `json:"endKnown"`
	Problems []Text `json:"problems,omitempty"`
	Warnings []Text `json:"warnings,omitempty"`
}

// The states of a chain.
const (
	Verified = "verified"
	Torn     = "torn"
	Broken   = "broken"
)

func chainOf(v timeline.Report, used int) Chain {
	c := Chain{State: Verified, Entries: v.Entries, Used: used, Head: v.Head, EndKnown: v.HeadFile != nil}
	for _, p := range v.Problems {
		switch {
		case p.Damage != timeline.Torn:
			c.State = Broken
		case c.State == Verified:
			c.State = Torn
		}
		c.Problems = append(c.Problems, Text(p.String()))
	}
	for _, w := range v.Warnings {
		c.Warnings = append(c.Warnings, Text(w))
	}
	return c
}
