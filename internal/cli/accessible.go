package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/plural"
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
	o      *uiOptions
	signs  *evidence.Signer // nil: nobody signs

	// The walk that is under way.
	incident incident.ID // "": it is not opened yet
	book     *runbook.Runbook
	// between is what a person wants in the middle of a step: the run is left
	// where it is, and gone on with afterwards.
	between func(context.Context) error
	// undoing: what is asked about is no step.
	undoing bool

	mu    sync.Mutex
	ready engine.Event // of the step at hand, with its inputs
}

// start is what a walk begins with.
type start struct {
	incident *incident.Incident // nil: a new one
	walk     *engine.Walk       // nil: none is under way
	suspect  *detect.Suspect    // nil: none was found, pods were picked
	pods     []string
}

func (a *App) runAccessible(ctx context.Context, o *uiOptions) error {
	front := a.frontEnd(false)
	front.st = style{}
	m := &accessible{App: a, guide: &guide{front}, o: o}
	fmt.Fprintln(m.out, "irctl, line by line. Ctrl-C leaves at any time; irctl goes on there the next time.")
	bounded, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	var err error
	if m.engine, err = a.engineToWrite(bounded, m); err != nil {
		return err
	}
	fmt.Fprintf(m.out, "Cluster: %s\n", sanitize.Line(clusterName(m.engine.Context, m.engine.Identity().Server)))
	for {
		err := m.walk(ctx)
		if o.drill == nil || ctx.Err() != nil || errors.Is(err, errLeave) {
			if errors.Is(err, errLeave) {
				err = nil
			}
			return err
		}
		// A drill is over when the player says so: what is still to be done may be
		// another run, or another suspect.
		if text := fmt.Sprint(err); err != nil && text != "" {
			fmt.Fprintf(m.out, "%s\n", sanitize.Line(text))
		}
		fmt.Fprintln(m.out)
		n, err := m.number(ctx, "What next?", []string{"Look again, and go on", "End the drill, and see the score"})
		if err != nil || n != 0 {
			return err
		}
	}
}

// errLeave: a person chose to leave.
var errLeave = errors.New("left")

// walk goes through one runbook.
func (m *accessible) walk(ctx context.Context) error {
	conf, err := m.configuration()
	if err != nil {
		return err
	}
	if m.signs == nil { // of an earlier walk it is unlocked already
		m.signs = lockedSigner(conf)
	}
	s, err := m.where(ctx)
	if err != nil {
		return err
	}
	req, err := m.request(ctx, s)
	if err != nil {
		return err
	}
	m.evidenceOf(ctx, req, conf, m.signs)
	if req.Contacts, err = m.contacts(); err != nil {
		return err
	}
	if len(req.Runbook.Contacts) > 0 {
		fmt.Fprintln(m.out, "Whom to call:")
		m.printContacts(req.Runbook, conf)
	}
	fmt.Fprintln(m.out, "At every question, ? says what else can be done there.")
	res, err := m.run(ctx, req)
	if err != nil {
		if res != nil && res.Incident != "" && m.o.drill == nil {
			fmt.Fprintf(m.out, "incident %s: irctl --accessible goes on where it stopped\n", res.Incident)
		}
		return err
	}
	m.printRunEnd(res, style{}) // each step was told as it ended
	fmt.Fprintf(m.out, "The incident's files are in %s\n", sanitize.Line(res.Directory))
	return runExit(res)
}

// run goes through the runbook; what a person wants in between is done when the
// run has let go of the incident.
func (m *accessible) run(ctx context.Context, req *engine.RunRequest) (*engine.RunResult, error) {
	m.book, m.incident = req.Runbook, req.Incident
	for {
		res, err := m.engine.Run(ctx, *req)
		if res != nil && res.Incident != "" {
			m.incident = incident.ID(res.Incident)
			req.Incident = m.incident
		}
		between := m.between
		m.between = nil
		if !errors.Is(err, engine.ErrPaused) || between == nil {
			return res, err
		}
		if err := between(ctx); err != nil {
			fmt.Fprintf(m.out, "That failed: %s\n", sanitize.Line(err.Error()))
		}
	}
}

// where asks what to begin with: an incident, a suspect, or a pod.
func (m *accessible) where(ctx context.Context) (*start, error) {
	open, errs := m.engine.Store.FindOpen(ctx, func(incident.Incident) bool { return true })
	for _, err := range errs {
		fmt.Fprintln(m.out, sanitize.Line(err.Error()))
	}
	if m.o.incident != "" {
		id, err := lookUp(m.engine.Store, m.o.incident)
		if err != nil {
			return nil, err
		}
		i, err := m.engine.Store.Load(id)
		return m.goingOn(i), err
	}
	if m.o.pod != "" {
		return &start{pods: []string{m.o.pod}}, nil
	}
	fmt.Fprintln(m.out, "Looking for suspects.")
	found := m.suspects(ctx)
	var rows []string
	for _, i := range open {
		rows = append(rows, fmt.Sprintf("Open incident %s: %s %s", i.ID, i.Severity, i.Title))
	}
	for _, s := range found {
		rows = append(rows, fmt.Sprintf("Suspect, %s, score %d: %s %s: %s", s.Severity, s.Score, s.Kind, s.Name,
			reasons(s)))
	}
	rows = append(rows, "Another pod, which you name", "No pod: a secret that leaked, a token that was stolen")
	n, err := m.number(ctx, "What is it about?", rows)
	switch {
	case err != nil:
		return nil, err
	case n < 0:
		return nil, errLeave
	case n < len(open):
		return m.goingOn(open[n]), nil
	case n < len(open)+len(found):
		s := found[n-len(open)]
		for _, i := range open {
			if string(i.ID) == s.Incident {
				return m.goingOn(i), nil
			}
		}
		begin := &start{suspect: &s}
		if s.Kind == "pod" {
			begin.pods = []string{s.Name}
		}
		return begin, nil
	case n == len(rows)-1:
		return &start{}, nil
	}
	pod, err := m.line(ctx, "Which pod, as NAMESPACE/NAME or a name in the namespace at hand?")
	return &start{pods: []string{pod}}, err
}

// suspects are the likeliest; where there are signs of an attack, only who shows them.
func (m *accessible) suspects(ctx context.Context) []detect.Suspect {
	const most = 20
	req := detect.Request{Client: m.engine.Client, Namespace: *m.kube.Namespace, Timeout: m.timeout,
		NewSince: time.Now().Add(-newSince)}
	if m.o.drill != nil {
		req.Inputs = []detect.Input{{Source: detect.SourceFalco, Path: "the alerts",
			Reader: bytes.NewReader(m.o.drill.alerts())}}
	}
	found, err := detect.Find(ctx, req)
	if err != nil {
		fmt.Fprintf(m.out, "They could not be looked for: %s\n", sanitize.Line(err.Error()))
		return nil
	}
	found.Top(most)
	var signs []detect.Suspect
	for _, s := range found.Suspects {
		if s.Score.Sign() {
			signs = append(signs, s)
		}
	}
	if len(signs) == 0 {
		return found.Suspects
	}
	if more := len(found.Suspects) - len(signs) + found.More; more > 0 {
		fmt.Fprintf(m.out, "%s of less weight, with no sign of an attack, are left out; irctl detect -v shows them.\n",
			plural.Count(more, "suspect"))
	}
	return signs
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
		if t.Kind == "Pod" {
			s.pods = append(s.pods, t.Namespace+"/"+t.Name)
		}
	}
	return s
}

// number has one of the rows chosen; -1: none.
func (m *accessible) number(ctx context.Context, prompt string, rows []string) (int, error) {
	const most = 5
	for i, r := range rows {
		fmt.Fprintf(m.out, "%s\n", wrap(m.columns(), fmt.Sprintf("%d. ", i+1), sanitize.Line(r)))
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

// request has the runbook chosen, unless one is under way, and its parameters,
// and opens the incident of a suspect that was found.
func (m *accessible) request(ctx context.Context, s *start) (*engine.RunRequest, error) {
	namespace, err := m.namespace()
	if err != nil {
		return nil, err
	}
	req := &engine.RunRequest{Given: map[string]string{}, Namespace: namespace, Guide: m, StepByStep: true,
		Environ: os.Environ(), Tool: "irctl " + versionText()}
	if d := m.o.drill; d != nil {
		req.Title = d.title
	}
	if s.incident != nil {
		req.Incident = s.incident.ID
	}
	library := m.library(m.o.dir)
	if s.walk != nil {
		ref := s.walk.Runbook.Name
		if runbook.IsPath(s.walk.Runbook.Source) {
			ref = s.walk.Runbook.Source
		}
		req.Runbook, err = library.Find(ref)
		return req, err
	}
	if req.Runbook, err = m.chooseRunbook(ctx, library); err != nil {
		return nil, err
	}
	if req.Given, err = m.parameters(ctx, req.Runbook, s, namespace); err != nil {
		return nil, err
	}
	if s.suspect == nil {
		return req, nil
	}
	id := m.engine.Identity()
	opened, err := detect.Open(ctx, m.engine.Store,
		detect.Opening{Suspect: *s.suspect, Client: m.engine.Client, Actor: m.engine.Actor(), Now: m.engine.Now,
			Cluster: incident.Cluster{Server: id.Server, UID: id.ClusterUID, Context: m.engine.Context},
			Title:   req.Title})
	req.Incident = opened.Incident.ID
	return req, err
}

// chooseRunbook asks which; the one that fits a drill comes first.
func (m *accessible) chooseRunbook(ctx context.Context, library *runbook.Library) (*runbook.Runbook, error) {
	listed, err := library.List()
	if err != nil {
		return nil, err
	}
	var rows, names []string
	for _, l := range listed {
		switch {
		case l.Error != "":
			fmt.Fprintf(m.out, "%s cannot be used: %s\n", sanitize.Line(l.Name), sanitize.Line(l.Error))
		case m.o.drill != nil && l.Name == m.o.drill.runbook:
			rows, names = append([]string{l.Name + ": " + l.Title + " (the one that fits this drill)"}, rows...),
				append([]string{l.Name}, names...)
		default:
			rows, names = append(rows, l.Name+": "+l.Title), append(names, l.Name)
		}
	}
	n, err := m.number(ctx, "Which runbook?", rows)
	if err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, errLeave
	}
	return library.Find(names[n])
}

// parameters shows those that have a value, and has them changed.
func (m *accessible) parameters(ctx context.Context, book *runbook.Runbook, s *start,
	namespace string) (map[string]string, error) {
	given := map[string]string{}
	set := func(p *runbook.Parameter, text string) {
		if v, err := p.Parse(text, namespace); err == nil && text != "" {
			given[p.Name] = runbook.Format(v)
		}
	}
	for i := range book.Parameters {
		p := &book.Parameters[i]
		if d := m.o.drill; d != nil && book.Name == d.runbook && (p.Domain().Type != runbook.Pod || len(s.pods) == 0) {
			set(p, d.suggested[p.Name])
		}
		set(p, engine.Fitting(p, s.pods, s.suspect))
	}
	if len(book.Parameters) == 0 {
		return given, nil
	}
	for {
		fmt.Fprintln(m.out, "The runbook's parameters:")
		rest := 0
		for i := range book.Parameters {
			p := &book.Parameters[i]
			value, ok := given[p.Name]
			switch {
			case ok:
				fmt.Fprintf(m.out, "  %s = %s\n", p.Name, sanitize.Line(value))
			case p.Required:
				fmt.Fprintf(m.out, "  %s: needed\n", p.Name)
			default:
				rest++
			}
		}
		if rest > 0 {
			fmt.Fprintf(m.out, "  %d more have their defaults\n", rest)
		}
		text, err := m.line(ctx, "Empty to begin, NAME=VALUE to change one, all to see all, or q to leave")
		switch {
		case err != nil:
			return nil, err
		case text == "":
			return given, nil
		case text == "q":
			return nil, errLeave
		case text == "all":
			m.describe(book, given)
			continue
		}
		name, value, ok := strings.Cut(text, "=")
		p := book.Parameter(strings.TrimSpace(name))
		if !ok || p == nil {
			fmt.Fprintln(m.out, "That is none of the parameters, as NAME=VALUE.")
			continue
		}
		if value = strings.TrimSpace(value); value == "" && !p.Required {
			delete(given, p.Name) // back to its default
		} else if v, err := p.Parse(value, namespace); err != nil {
			fmt.Fprintln(m.out, sanitize.Line(err.Error()))
		} else {
			given[p.Name] = runbook.Format(v)
		}
	}
}

// describe tells what the parameters are for.
func (m *accessible) describe(book *runbook.Runbook, given map[string]string) {
	for i := range book.Parameters {
		p := &book.Parameters[i]
		value, ok := given[p.Name]
		if !ok {
			value = runbook.Format(p.Fallback())
		}
		if value == "" {
			value = "empty"
		}
		fmt.Fprintf(m.out, "%s\n", wrap(m.columns(), "  ",
			sanitize.Line(fmt.Sprintf("%s, now %s: %s %s", p.Name, value, p.Prompt, p.Doc))))
	}
}
