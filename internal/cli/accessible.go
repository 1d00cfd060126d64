package cli

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/runbook"
	"irctl/internal/sanitize"
	"irctl/internal/steps/detect"
)

// accessible is the UI for those who cannot see a screen, or have none that
// can be drawn on: the same walk, asked and told line by line.
type accessible struct {
	*App
	*guide
	engine *engine.Engine
}

// start is what a walk begins with.
type start struct {
	incident *incident.Incident // nil: a new one
	walk     *engine.Walk       // nil: none is under way
	suspect  *detect.Suspect    // nil: none was found, pod was picked
	pod      string
}

func (a *App) runAccessible(ctx context.Context, o *uiOptions) error {
	conf, err := a.configuration()
	if err != nil {
		return err
	}
	signer, err := a.signer(ctx, "", -1)
	if err != nil {
		return err
	}
	front := a.frontEnd(false)
	front.st = style{}
	m := &accessible{App: a, guide: &guide{front}}
	fmt.Fprintln(m.out, "irctl, line by line. Ctrl-C leaves at any time; irctl goes on there the next time.")
	bounded, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if m.engine, err = a.engine(bounded, m.guide); err != nil {
		return err
	}
	fmt.Fprintf(m.out, "Cluster: %s\n", sanitize.Line(clusterName(m.engine.Context, m.engine.Identity().Server)))
	s, err := m.where(ctx, o)
	if err != nil || s == nil {
		return err
	}
	req, err := m.request(ctx, o, s)
	if err != nil {
		return err
	}
	a.evidenceOf(ctx, req, conf, signer)
	if req.Contacts, err = a.contacts(); err != nil {
		return err
	}
	fmt.Fprintln(m.out, "Whom to call:")
	a.printContacts(req.Runbook, conf)
	res, err := m.engine.Run(ctx, *req)
	if err != nil {
		if res != nil && res.Incident != "" {
			fmt.Fprintf(m.out, "incident %s: irctl --accessible goes on where it stopped\n", res.Incident)
		}
		return err
	}
	if err := a.printRun(res); err != nil {
		return err
	}
	fmt.Fprintf(m.out, "The incident's files are in %s\n", sanitize.Line(res.Directory))
	return runExit(res)
}

// where asks what to begin with: an incident, a suspect, or a pod.
func (m *accessible) where(ctx context.Context, o *uiOptions) (*start, error) {
	open, errs := m.engine.Store.FindOpen(ctx, func(incident.Incident) bool { return true })
	for _, err := range errs {
		fmt.Fprintln(m.out, sanitize.Line(err.Error()))
	}
	if o.incident != "" {
		id, err := m.engine.Store.Find(o.incident)
		if err != nil {
			return nil, err
		}
		i, err := m.engine.Store.Load(id)
		return m.goingOn(i), err
	}
	if o.pod != "" {
		return &start{pod: o.pod}, nil
	}
	fmt.Fprintln(m.out, "Looking for suspects.")
	found, err := detect.Find(ctx, detect.Request{Client: m.engine.Client, Namespace: *m.kube.Namespace, Timeout: m.timeout, NewSince: time.Now().Add(-newSince)})
	if err != nil {
		fmt.Fprintf(m.out, "They could not be looked for: %s\n", sanitize.Line(err.Error()))
		found = &detect.Result{}
	}
	const most = 20
	found.Top(most)
	var rows []string
	for _, i := range open {
		rows = append(rows, fmt.Sprintf("Open incident %s: %s %s", i.ID, i.Severity, i.Title))
	}
	for _, s := range found.Suspects {
		rows = append(rows, fmt.Sprintf("Suspect, %s, score %d: %s %s: %s", s.Severity, s.Score, s.Kind, s.Name, reasons(s)))
	}
	rows = append(rows, "Another pod, which you name")
	n, err := m.number(ctx, "What is it about?", rows)
	switch {
	case err != nil || n < 0:
		return nil, err
	case n < len(open):
		return m.goingOn(open[n]), nil
	case n < len(open)+len(found.Suspects):
		s := found.Suspects[n-len(open)]
		for _, i := range open {
			if string(i.ID) == s.Incident {
				return m.goingOn(i), nil
			}
		}
		begin := &start{suspect: &s}
		if s.Kind == "pod" {
			begin.pod = s.Name
		}
		return begin, nil
	}
	pod, err := m.line(ctx, "Which pod, as NAMESPACE/NAME or a name in the namespace at hand?")
	return &start{pod: pod}, err
}

func reasons(s detect.Suspect) string {
	const most = 3
	var list []string
	for _, f := range s.Findings[:min(most, len(s.Findings))] {
		list = append(list, f.Reason)
	}
	return strings.Join(list, "; ")
}

// goingOn is an incident with the run that is under way in it.
func (m *accessible) goingOn(i incident.Incident) *start {
	s := &start{incident: &i}
	entries, err := m.engine.Store.Entries(i.ID)
	if err != nil {
		return s // whoever opens it says so
	}
	if walks := engine.WalksOf(entries); len(walks) > 0 {
		s.walk = &walks[len(walks)-1]
	}
	for _, t := range i.Targets {
		if t.Kind == "Pod" && s.pod == "" {
			s.pod = t.Namespace + "/" + t.Name
		}
	}
	return s
}

// number has one of the rows chosen; -1: none.
func (m *accessible) number(ctx context.Context, prompt string, rows []string) (int, error) {
	const most = 5
	for i, r := range rows {
		fmt.Fprintf(m.out, "%d. %s\n", i+1, sanitize.Line(r))
	}
	for range most {
		text, err := m.line(ctx, fmt.Sprintf("%s 1 to %d, or q to leave", prompt, len(rows)))
		if err != nil {
			return -1, err
		}
		if text == "q" {
			return -1, nil
		}
		if n, err := strconv.Atoi(text); err == nil && n >= 1 && n <= len(rows) {
			return n - 1, nil
		}
		fmt.Fprintf(m.out, "That is none of the numbers.\n")
	}
	return -1, fmt.Errorf("%w: no answer was given", engine.ErrRefused)
}

// request has the runbook chosen, unless one is under way, and opens the
// incident of a suspect that was found.
func (m *accessible) request(ctx context.Context, o *uiOptions, s *start) (*engine.RunRequest, error) {
	namespace, err := m.namespace()
	if err != nil {
		return nil, err
	}
	req := &engine.RunRequest{Given: map[string]string{}, Namespace: namespace, Guide: m.guide, StepByStep: true, Environ: os.Environ(), Tool: "irctl " + versionText()}
	if s.incident != nil {
		req.Incident = s.incident.ID
	}
	library := m.library(o.dir)
	if s.walk != nil {
		ref := s.walk.Runbook.Name
		if runbook.IsPath(s.walk.Runbook.Source) {
			ref = s.walk.Runbook.Source
		}
		req.Runbook, err = library.Find(ref)
		return req, err
	}
	listed, err := library.List()
	if err != nil {
		return nil, err
	}
	var rows, names []string
	for _, l := range listed {
		if l.Error != "" {
			fmt.Fprintf(m.out, "%s cannot be used: %s\n", sanitize.Line(l.Name), sanitize.Line(l.Error))
			continue
		}
		rows, names = append(rows, l.Name+": "+l.Title), append(names, l.Name)
	}
	n, err := m.number(ctx, "Which runbook?", rows)
	if err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, fmt.Errorf("%w: no runbook was chosen", engine.ErrRefused)
	}
	if req.Runbook, err = library.Find(names[n]); err != nil {
		return nil, err
	}
	for i := range req.Runbook.Parameters {
		p := &req.Runbook.Parameters[i]
		if v, err := p.Parse(s.pod, namespace); err == nil && s.pod != "" && p.Domain().Type == runbook.Pod {
			req.Given[p.Name] = runbook.Format(v)
		}
	}
	if s.suspect == nil {
		return req, nil
	}
	id := m.engine.Identity()
	opened, err := detect.Open(ctx, m.engine.Store, detect.Opening{Suspect: *s.suspect, Client: m.engine.Client, Actor: m.engine.Actor(), Now: time.Now,
		Cluster: incident.Cluster{Server: id.Server, UID: id.ClusterUID, Context: m.engine.Context}})
	req.Incident = opened.Incident.ID
	return req, err
}
