package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/runbook"
	"irctl/internal/timeline"
)

// candidate is an incident in which a run may go on.
type candidate struct {
	incident.Incident
	past progress
}

// join finds the incident to work in, completes the parameters, and journals
// that the run begins, or goes on.
func (r *runner) join(ctx context.Context) error {
	given, err := r.book.Given(r.req.Given, r.req.Namespace)
	if err != nil {
		return err
	}
	r.params = given
	looking, cancel := r.within(ctx)
	defer cancel()
	found, err := r.find(looking)
	if err != nil {
		return err
	}
	if found != nil {
		r.id, r.severity = found.ID, found.Severity
		if err := r.take(found.past); err != nil {
			return err
		}
	}
	if err := r.complete(ctx); err != nil || r.req.DryRun {
		return err
	}
	return r.open(ctx)
}

// take goes on with the parameters of a run that was begun.
func (r *runner) take(past progress) error {
	r.past = past
	if !past.exists() {
		return nil
	}
	if past.sha256 != r.book.SHA256 && !r.finished() && !r.req.AcceptChanged {
		return fmt.Errorf("%w: runbook %s was changed since this run of incident %s began (sha256 %.12s then, %.12s "+
			"now); take the one of then, or go on with this one by --accept-changed-runbook",
			ErrRefused, r.book.Name, r.id, past.sha256, r.book.SHA256)
	}
	for name, rec := range past.edited {
		if s := r.book.Step(name); s != nil && !past.steps[name].Passed && len(rec.Edited) > 0 {
			// What the journal keeps untold is as the runbook has it, until somebody says it again.
			r.edits[name] = s.Recorded(rec.Inputs, slices.DeleteFunc(slices.Clone(rec.Edited), func(input string) bool {
				return rec.Inputs[input] == given
			}))
		}
	}
	for name, text := range past.params {
		p := r.book.Parameter(name)
		if p == nil {
			continue // of the runbook as it was
		}
		v, err := p.Parse(text, "")
		if err != nil {
			return fmt.Errorf("incident %s: the run's own %w", r.id, err)
		}
		r.params[name] = v
	}
	return nil
}

// finished tells whether no step is left to do.
func (r *runner) finished() bool {
	return !slices.ContainsFunc(r.book.Steps(), func(s *runbook.Step) bool { return !r.past.steps[s.Name].Passed })
}

// find looks for the open incident in which this runbook is under way with
// these parameters, or which is about the same pods.
func (r *runner) find(ctx context.Context) (*candidate, error) {
	if r.req.Incident != "" {
		return r.named(r.req.Incident)
	}
	open, errs := r.Store.FindOpen(ctx, func(i incident.Incident) bool { return !r.other(i) })
	var running, about []candidate
	for _, i := range open {
		past, err := r.pastOf(i.ID)
		switch {
		case err != nil:
			errs = append(errs, err)
		case past.exists() && r.compatible(past) == nil:
			running = append(running, candidate{i, past})
		case r.isAbout(i, past):
			about = append(about, candidate{i, past})
		}
	}
	for _, err := range errs {
		r.Front.Observe(Event{Kind: Noticed, Text: err.Error(), Err: err})
	}
	if len(running) == 0 {
		running = about
	}
	switch len(running) {
	case 0:
		return nil, nil
	case 1:
		return &running[0], r.compatible(running[0].past)
	}
	var names []string
	for _, c := range running {
		names = append(names, string(c.ID))
	}
	return nil, fmt.Errorf("%w: several open incidents fit (%s): name one with --incident", ErrRefused,
		strings.Join(names, ", "))
}

func (r *runner) named(id incident.ID) (*candidate, error) {
	i, err := r.Store.Load(id)
	if err == nil {
		err = r.usable(i)
	}
	if err != nil {
		return nil, err
	}
	past, err := r.pastOf(id)
	if err == nil {
		err = r.compatible(past)
	}
	return &candidate{i, past}, err
}

func (r *runner) pastOf(id incident.ID) (progress, error) {
	entries, err := r.Store.Entries(id)
	if err != nil {
		return progress{}, fmt.Errorf("incident %s: %w", id, err)
	}
	return progressOf(entries, r.book.Name), nil
}

// compatible: no parameter that was given is another one in the run.
func (r *runner) compatible(past progress) error {
	if !past.exists() {
		return nil
	}
	for name, v := range r.params {
		was, known := past.params[name]
		if now := runbook.Format(v); known && was != now {
			return fmt.Errorf("%w: this run began with %s=%.80s; a parameter cannot become %.80s on the way",
				ErrRefused, name, was, now)
		}
	}
	return nil
}

// isAbout: one of the pods that were given is a target of the incident; or it
// was opened for this run by a process that was killed before anything else.
func (r *runner) isAbout(i incident.Incident, past progress) bool {
	if past.entries == 1 && i.Title == r.title() {
		return true
	}
	for _, pod := range r.pods() {
		for _, t := range i.Targets {
			if t.Kind == cluster.Pod.Kind && t.Namespace+"/"+t.Name == pod {
				return true
			}
		}
	}
	return false
}

// pods are the pods among the parameters.
func (r *runner) pods() []string {
	var pods []string
	for i := range r.book.Parameters {
		p := &r.book.Parameters[i]
		if p.Domain().Type != runbook.Pod {
			continue
		}
		switch v := r.params[p.Name].(type) {
		case string:
			pods = append(pods, v)
		case []string:
			pods = append(pods, v...)
		}
	}
	return pods
}

// complete asks for what is missing, and fills in the defaults.
func (r *runner) complete(ctx context.Context) error {
	for _, p := range r.book.Missing(r.params) {
		v, err := r.ask(ctx, p)
		if err != nil {
			return err
		}
		r.params[p.Name] = v
	}
	for i := range r.book.Parameters {
		if p := &r.book.Parameters[i]; r.params[p.Name] == nil {
			r.params[p.Name] = p.Fallback()
		}
	}
	r.result.Params = plainMap(r.params)
	return nil
}

// maxAsked is how often a parameter is asked for before irctl gives up.
const maxAsked = 5

func (r *runner) ask(ctx context.Context, p *runbook.Parameter) (any, error) {
	text := p.Question()
	if p.Doc != "" {
		text = p.Doc + "\n" + text
	}
	for range maxAsked {
		a, err := r.req.Guide.Ask(ctx, Question{Kind: AskParameter, Parameter: p, Text: text, Choices: p.Choices})
		if errors.Is(err, ErrUnattended) {
			return nil, fmt.Errorf("%w: %s is required: give --set %s=… (%s)", runbook.ErrParameter, p.Name, p.Name,
				p.Question())
		}
		if err != nil {
			return nil, err
		}
		v, err := p.Parse(a.Choice, r.req.Namespace)
		if err == nil {
			return v, nil
		}
		r.Front.Observe(Event{Kind: Noticed, Text: err.Error(), Err: err})
	}
	return nil, fmt.Errorf("%w: %s was not answered", runbook.ErrParameter, p.Name)
}

// open opens the incident, or a new one, and journals that the run begins or
// goes on.
func (r *runner) open(ctx context.Context) error {
	h, err := r.handle(ctx)
	if err != nil {
		return err
	}
	r.id, r.severity = h.Incident().ID, h.Incident().Severity
	err = r.begin(h)
	r.result.Incident, r.result.Directory = string(r.id), h.Dir()
	return errors.Join(err, h.Close())
}

func (r *runner) handle(ctx context.Context) (*incident.Handle, error) {
	if r.id != "" {
		return r.Store.Open(ctx, r.id, r.Actor())
	}
	id, err := incident.NewID(r.Now(), r.Random)
	if err != nil {
		return nil, err
	}
	targets := r.targets(ctx)
	// A second process may have opened one meanwhile.
	h, created, err := r.Store.Join(ctx, func(i incident.Incident) bool {
		past, err := r.pastOf(i.ID)
		return err == nil && !r.other(i) && (past.exists() && r.compatible(past) == nil || r.isAbout(i, past))
	}, incident.New{ID: id, Title: r.title(), Severity: r.severityOfNew(), Actor: r.Actor(), Targets: targets,
		Cluster: r.cluster()})
	r.result.Opened = created
	return h, err
}

// targets are the pods among the parameters, as far as they can be found: a
// step that needs one says so itself.
func (r *runner) targets(ctx context.Context) []incident.Target {
	looking, cancel := r.within(ctx)
	defer cancel()
	var found []*cluster.Target
	for _, pod := range r.pods() {
		namespace, name, _ := strings.Cut(pod, "/")
		if t, err := r.Client.GetTarget(looking, namespace, name); err == nil {
			found = append(found, t)
		}
	}
	return recordsOf(found, nil)
}

func (r *runner) title() string {
	title := r.req.Title
	if title == "" {
		title = r.book.Title
		if pods := r.pods(); len(pods) > 0 {
			title += ": " + summarize(pods)
		}
	}
	return title
}

func (r *runner) severityOfNew() incident.Severity {
	if r.req.Severity != "" {
		return r.req.Severity
	}
	return incident.Severity(r.book.Severity)
}

// begin is under the incident's lock: what others did meanwhile counts.
func (r *runner) begin(h *incident.Handle) error {
	if err := r.usable(h.Incident()); err != nil {
		return err
	}
	past := progressOf(h.Log.Entries(), r.book.Name)
	if err := r.compatible(past); err != nil {
		return err
	}
	if err := r.take(past); err != nil {
		return err
	}
	session := make([]byte, 8)
	if _, err := io.ReadFull(r.Random, session); err != nil {
		return err
	}
	r.session = hex.EncodeToString(session)
	rec := runRecord{Event: runBegun, Source: r.book.Source, Params: map[string]string{}}
	for name, v := range r.params {
		rec.Params[name] = runbook.Format(v)
	}
	summary := fmt.Sprintf("runbook %s %s begins", r.book.Name, r.book.Version)
	if past.exists() {
		rec.Event, summary = runResumed, fmt.Sprintf("runbook %s %s goes on", r.book.Name, r.book.Version)
		r.result.Resumed = true
		if past.sha256 != r.book.SHA256 {
			rec.Accepted = past.sha256
			summary += fmt.Sprintf("; it was changed since it began, and the change accepted (sha256 %.12s, now %.12s)",
				past.sha256, r.book.SHA256)
		}
	}
	if past.exists() && past.ended && r.finished() {
		return nil // there is nothing to go on with
	}
	return r.append(h, rec, timeline.Entry{Summary: summary})
}
