package detect

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/sanitize"
	"irctl/internal/timeline"
)

// Phase is the name of this phase in the journal.
const Phase = "detect"

// Opening is what an incident is opened with.
type Opening struct {
	Suspect Suspect
	// Client of the suspect's cluster; nil: what the alerts say of a pod is all
	// that is known of it.
	Client  *cluster.Client
	Cluster incident.Cluster
	Actor   timeline.Actor
	Now     func() time.Time
	// Title and Severity, if the incident is new; empty: what the findings suggest.
	Title    string
	Severity incident.Severity
}

// Opened is what came of it.
type Opened struct {
	Incident incident.Incident
	// Created: there was no open incident of the same suspect.
	Created   bool
	Directory string
}

// Open opens an incident of a suspect, or joins the one that is open, and
// records in its journal what speaks against the suspect, with the times that
// the alerts themselves give: from these the time to detect is counted.
func Open(ctx context.Context, store *incident.Store, o Opening) (_ Opened, err error) {
	found := o.Now()
	targets, err := o.targets(ctx)
	if err != nil {
		return Opened{}, err
	}
	// Printable, or it would not read back from the incident as it is.
	title := sanitize.Line(cmp.Or(o.Title, o.title()))
	h, created, err := store.Join(ctx, o.matches(targets, title),
		incident.New{Title: title, Severity: cmp.Or(o.Severity, suggested[o.Suspect.Severity]),
			Cluster: o.Cluster, Targets: targets, Actor: o.Actor})
	if err != nil {
		return Opened{}, fmt.Errorf("opening an incident of %s %s: %w", o.Suspect.Kind, o.Suspect.Name, err)
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := note(h, o.Suspect, found); err != nil {
		return Opened{}, err
	}
	return Opened{Incident: h.Incident(), Created: created, Directory: h.Dir()}, nil
}

// suggested are the severities of incidents until somebody knows better.
var suggested = map[Severity]incident.Severity{Critical: incident.Sev1, High: incident.Sev2, Medium: incident.Sev3,
	Low: incident.Sev4, Info: incident.Sev4}

// maxTitle bounds the title in bytes.
const maxTitle = 160

func (o Opening) title() string {
	f := o.Suspect.Findings[0]
	return cut(fmt.Sprintf("%s on %s %s", cmp.Or(f.Rule, f.Code), o.Suspect.Kind, o.Suspect.Name), maxTitle)
}

// targets are what can be contained: the pod, with its chain of owners while
// it has one. A user or a service account cannot be, so there are none.
func (o Opening) targets(ctx context.Context) ([]incident.Target, error) {
	s := o.Suspect
	if s.Kind != "pod" {
		return nil, nil
	}
	t := incident.Target{APIVersion: cluster.Pod.APIVersion(), Kind: cluster.Pod.Kind, Namespace: s.Subject.Namespace,
		Name: s.Subject.Pod, UID: s.Subject.PodUID}
	if o.Client == nil || s.Gone {
		return []incident.Target{t}, nil
	}
	live, err := o.Client.GetTarget(ctx, t.Namespace, t.Name)
	var gone *cluster.NotFoundError
	switch {
	case errors.As(err, &gone):
		return []incident.Target{t}, nil
	case err != nil:
		return nil, err
	}
	t.UID = string(live.Pod.UID)
	for _, owner := range live.Owners {
		t.Owners = append(t.Owners, incident.Owner{APIVersion: owner.APIVersion(), Kind: owner.Kind, Name: owner.Name,
			UID: string(owner.UID)})
	}
	return []incident.Target{t}, nil
}

// matches finds the open incident of the same suspect of the same cluster;
// where that is not a pod, by the title that it would get.
func (o Opening) matches(targets []incident.Target, title string) func(incident.Incident) bool {
	return func(i incident.Incident) bool {
		if !agree(i.Cluster.UID, o.Cluster.UID) || o.Cluster.UID == "" && i.Cluster.Server != o.Cluster.Server {
			return false
		}
		if len(targets) == 0 {
			return len(i.Targets) == 0 && i.Title == title
		}
		return slices.ContainsFunc(i.Targets, func(known incident.Target) bool {
			t := targets[0]
			return known.Kind == t.Kind && known.Namespace == t.Namespace && known.Name == t.Name &&
				agree(known.UID, t.UID)
		})
	}
}

// agree: what one of them does not know is no contradiction.
func agree(a, b string) bool { return a == "" || b == "" || a == b }

// maxRecorded is how many findings an entry of the journal holds, the worst
// first; the number of all is in its summary.
const maxRecorded = 30

func note(h *incident.Handle, s Suspect, found time.Time) error {
	worst := s
	worst.Findings = s.Findings[:min(len(s.Findings), maxRecorded)]
	d := timesOfSuspect(s, found)
	var err error
	if d.Suspect, err = json.Marshal(worst); err != nil {
		return fmt.Errorf("recording what speaks against %s %s: %w", s.Kind, s.Name, err)
	}
	e := timeline.Entry{Kind: timeline.KindObservation, Phase: Phase, Action: "detect", Targets: []string{s.Name},
		Summary: fmt.Sprintf("%s %s is suspect (%s, score %d, %s): %s",
			s.Kind, s.Name, s.Severity, s.Score, numberOf(len(s.Findings)), s.Findings[0].Reason)}
	if _, err := h.Log.AppendWith(e, d); err != nil {
		return fmt.Errorf("recording what speaks against %s %s: %w", s.Kind, s.Name, err)
	}
	return nil
}

func numberOf(n int) string {
	if n == 1 {
		return "1 finding"
	}
	return fmt.Sprintf("%d findings", n)
}

// timesOfSuspect: it began with the first sign that has a time, and was
// detected when Falco first raised the alarm, or else now.
func timesOfSuspect(s Suspect, found time.Time) record.Detection {
	d := record.Detection{StartedAt: s.FirstSeen, AlertedAt: found}
	for _, f := range s.Findings {
		if f.Source == SourceFalco && f.Score.Sign() && !f.FirstSeen.IsZero() && f.FirstSeen.Before(d.AlertedAt) {
			d.AlertedAt = f.FirstSeen
		}
	}
	return d
}
