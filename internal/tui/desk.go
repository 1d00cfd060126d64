package tui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"irctl/internal/casefile"
	"irctl/internal/cluster"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/report"
	"irctl/internal/runbook"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
	"irctl/internal/timeline"
)

// desk is where all input and output of the UI is done. Its methods make
// commands; what comes of them arrives as messages.
type desk struct {
	ctx   context.Context
	o     Options
	inbox *inbox
	glass *glass
}

// bounded is the program's context for as long as one thing may take.
func (d *desk) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(d.ctx, d.o.Timeout,
		fmt.Errorf("it took longer than %s: %w", d.o.Timeout, context.DeadlineExceeded))
}

// connected is a cluster that was reached, or not.
type connected struct {
	engine *engine.Engine
	err    error
}

func (d *desk) connect() tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := d.bounded()
		defer cancel()
		e, err := d.o.Connect(ctx, quiet{})
		return connected{e, err}
	}
}

// quiet is the front end of an engine at which nothing is done yet.
type quiet struct{}

func (quiet) Approve(context.Context, engine.Proposal) (engine.Decision, error) {
	return engine.No, nil
}
func (quiet) Observe(engine.Event) {}

// listed are the open incidents of this machine.
type listed struct {
	open []summary
	errs []error
}

// summary is an incident as the list shows it.
type summary struct {
	incident.Incident
	metrics timeline.Metrics
	judged  judged
	walk    *engine.Walk       // the last one; nil: there is none
	recent  []timeline.Entry   // what happened last, the newest first
	sealed  []evidence.Receipt // the newest first
}

// maxRecent is how much of a journal a summary has.
const maxRecent = 20

// remember takes the end of the journal, and what evidence was sealed.
func (s *summary) remember(entries []timeline.Entry) {
	for i := range slices.Backward(entries) {
		e := &entries[i]
		if e.Kind != timeline.KindIntent && e.Summary != "" && len(s.recent) < maxRecent {
			s.recent = append(s.recent, *e)
		}
		if r, ok := timeline.Payload[record.Receipt](e); ok {
			s.sealed = append(s.sealed, *r)
		}
	}
}

func (d *desk) list() tea.Cmd {
	return func() tea.Msg {
		open, errs := d.o.Store.FindOpen(d.ctx, func(incident.Incident) bool { return true })
		var l listed
		for _, i := range open {
			s := summary{Incident: i}
			entries, err := d.entries(i.ID)
			if err != nil {
				errs = append(errs, err)
			}
			s.metrics = timeline.MetricsOf(entries)
			s.judged = judgedBy(entries).doubted(incident.Doubts(s.Doubts), incident.Weighs(s.Doubts))
			s.remember(entries)
			if walks := engine.WalksOf(entries); len(walks) > 0 {
				s.walk = &walks[len(walks)-1]
			}
			l.open = append(l.open, s)
		}
		l.errs = errs
		return l
	}
}

func (d *desk) entries(id incident.ID) ([]timeline.Entry, error) {
	entries, err := d.o.Store.Entries(id)
	if err != nil {
		return nil, fmt.Errorf("incident %s: %w", id, err)
	}
	return entries, nil
}

// file is everything that the journal tells of an incident.
type file struct {
	incident.Incident
	entries  []timeline.Entry
	metrics  timeline.Metrics
	standing []timeline.Action
	judged   judged
	walk     *engine.Walk // the last one; nil: there is none
	dir      string
	size     int64
}

// filed is a file that was read; nil: nothing in it changed.
type filed struct {
	file *file
	err  error
}

// read reads an incident; of one of which so many bytes are known only if there are others now.
func (d *desk) read(id incident.ID, known int64) tea.Cmd {
	return func() tea.Msg {
		path, err := d.o.Store.TimelinePath(id)
		if err != nil {
			return filed{err: err}
		}
		info, err := os.Stat(path)
		if err != nil {
			return filed{err: fmt.Errorf("incident %s: %w", id, err)}
		}
		if info.Size() == known {
			return filed{}
		}
		i, err := d.o.Store.Load(id)
		if err != nil {
			return filed{err: err}
		}
		entries, err := d.entries(id)
		if err != nil {
			return filed{err: err}
		}
		return filed{file: fileOf(i, entries, filepath.Dir(path), info.Size())}
	}
}

func fileOf(i incident.Incident, entries []timeline.Entry, dir string, size int64) *file {
	f := &file{Incident: i, entries: entries, metrics: timeline.MetricsOf(entries),
		standing: timeline.Standing(entries), dir: dir, size: size}
	f.judged = judgedBy(entries).doubted(incident.Doubts(i.Doubts), incident.Weighs(i.Doubts))
	if walks := engine.WalksOf(entries); len(walks) > 0 {
		f.walk = &walks[len(walks)-1]
	}
	return f
}

// found are suspects.
type found struct {
	result *detect.Result
	err    error
	number int // of the look: one that took longer must not hide a later one
}

// detectNew is since when what is found in a cluster is new.
const detectNew = 24 * time.Hour

func (d *desk) detect(e *engine.Engine, alerts []byte, number int) tea.Cmd {
	return func() tea.Msg {
		req := detect.Request{Namespace: d.o.Only, Timeout: d.o.Timeout, NewSince: d.o.Now().Add(-detectNew)}
		if e != nil {
			req.Client = e.Client
		}
		if len(alerts) > 0 {
			req.Inputs = []detect.Input{{Source: detect.SourceFalco, Path: "the alerts",
				Reader: bytes.NewReader(alerts)}}
		}
		ctx, cancel := d.bounded()
		defer cancel()
		res, err := detect.Find(ctx, req)
		return found{res, err, number}
	}
}

// portrayed is what the cluster says of pods.
type portrayed map[string]podRow

// maxPortrayed bounds how many suspects are looked at one by one.
const maxPortrayed = 12

// portray looks at the first suspects that are pods. It only adds to what is
// shown of them: what cannot be read is left out.
func (d *desk) portray(e *engine.Engine, suspects []detect.Suspect) tea.Cmd {
	var pods []detect.Subject
	for _, s := range suspects {
		if s.Kind == "pod" && !s.Gone && len(pods) < maxPortrayed {
			pods = append(pods, s.Subject)
		}
	}
	return func() tea.Msg {
		ctx, cancel := d.bounded()
		defer cancel()
		rows := make([]podRow, len(pods))
		cluster.Parallel(len(pods), func(i int) {
			p, err := e.Client.Kube.CoreV1().Pods(pods[i].Namespace).Get(ctx, pods[i].Pod, metav1.GetOptions{})
			if err == nil {
				rows[i] = rowOf(p)
			}
		})
		known := portrayed{}
		for _, r := range rows {
			if r.name != "" {
				known[r.key()] = r
			}
		}
		return known
	}
}

// beginning is what a walk begins with.
type beginning struct {
	book      *runbook.Runbook
	given     map[string]string
	suspect   *detect.Suspect // nil: the pod was picked by hand
	incident  incident.ID     // "": the open one of the same, or a new one
	title     string
	severity  incident.Severity
	commander string
}

// opened is an incident that was opened for a suspect, before its walk.
type opened struct {
	begin beginning
	err   error
}

// open opens the incident of a suspect that detect found: so the times of its
// alerts are in the journal, from which the time to detect is counted.
func (d *desk) open(e *engine.Engine, b beginning) tea.Cmd {
	return func() tea.Msg {
		if b.suspect == nil || b.incident != "" || len(b.suspect.Findings) == 0 {
			return opened{begin: b}
		}
		ctx, cancel := d.bounded()
		defer cancel()
		id := e.Identity()
		o, err := detect.Open(ctx, d.o.Store, detect.Opening{Suspect: *b.suspect, Client: e.Client, Actor: e.Actor(),
			Now:     d.o.Now,
			Cluster: incident.Cluster{Server: id.Server, UID: id.ClusterUID, Context: e.Context},
			Title:   d.titled(b.title), Severity: b.severity})
		b.incident = o.Incident.ID
		return opened{b, err}
	}
}

// titled is the title of an incident that is opened; "": the engine finds one.
func (d *desk) titled(typed string) string {
	if d.o.Title == nil {
		return typed
	}
	return d.o.Title(typed)
}

// ended is a run that is over, for now.
type ended struct {
	guide  int
	result *engine.RunResult
	err    error
}

// run goes through a runbook until it ends, or is paused by its context. That it
// is over comes by the inbox, behind the events that led there: in front of them
// it would have them left aside as those of a run that is over.
func (d *desk) run(ctx context.Context, e *engine.Engine, b beginning, number int) tea.Cmd {
	return d.delivered(func() tea.Msg {
		req := engine.RunRequest{Runbook: b.book, Given: b.given, Namespace: d.o.Namespace, Incident: b.incident,
			Title: d.titled(b.title), Severity: b.severity,
			StepByStep: true, Guide: d.guide(number), Contacts: d.o.Contacts, Tool: d.o.Tool}
		if d.o.Prepare != nil {
			if err := d.o.Prepare(ctx, &req); err != nil {
				return ended{number, nil, err}
			}
		}
		res, err := e.Run(ctx, req)
		return ended{number, res, err}
	})
}

// delivered puts what a command brings into the inbox.
func (d *desk) delivered(cmd tea.Cmd) tea.Cmd {
	return func() tea.Msg { d.inbox.put(cmd()); return nil }
}

func (d *desk) guide(number int) *guide {
	return &guide{inbox: d.inbox, number: number, now: d.o.Now, told: d.o.OnEvent}
}

// undone is what came of an undo.
type undone struct {
	guide  int
	result *engine.UndoResult
	err    error
}

// undo puts changes back, and reopens the steps of a walk that made them.
func (d *desk) undo(ctx context.Context, e *engine.Engine, id incident.ID, req engine.UndoRequest,
	book *runbook.Runbook, number int) tea.Cmd {
	return d.delivered(func() tea.Msg {
		with := *e
		with.Front = d.guide(number)
		res, err := with.UndoWithin(ctx, id, book, req)
		return undone{number, res, err}
	})
}

// reopened is a step that is to be done again, or not.
type reopened struct {
	step string
	err  error
}

func (d *desk) reopen(e *engine.Engine, id incident.ID, book *runbook.Runbook, step, why string) tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := d.bounded()
		defer cancel()
		return reopened{step, e.Reopen(ctx, id, book, []string{step}, why)}
	}
}

// noted is a note that is in the timeline, or not.
type noted struct {
	text string
	err  error
}

// note writes one. While a step has the incident it waits, for as long as the
// program runs.
func (d *desk) note(actor timeline.Actor, id incident.ID, step, text string) tea.Cmd {
	return func() tea.Msg {
		_, err := d.o.Store.Append(id, actor, timeline.Entry{Kind: timeline.KindNote, Step: step, Summary: text})
		return noted{text, err}
	}
}

// command records who commands the incident.
func (d *desk) command(actor timeline.Actor, id incident.ID, who string) tea.Cmd {
	return func() tea.Msg {
		h, err := d.o.Store.Open(d.ctx, id, actor)
		if err != nil {
			return failed{fmt.Errorf("the commander was not recorded: %w", err)}
		}
		_, err = h.Set(incident.Setting{Key: "commander", Value: who})
		if err = errors.Join(err, h.Close()); err != nil {
			return failed{fmt.Errorf("the commander was not recorded: %w", err)}
		}
		return nil
	}
}

// failed is an error to be shown in passing.
type failed struct{ err error }

// looked is how the incident stands in the cluster; nil: it could not be seen in time.
type looked struct {
	status *engine.StatusResult
	at     time.Time
	seq    int64 // the last entry of the journal that it was judged by
}

func (d *desk) status(e *engine.Engine, f *file) tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := d.bounded()
		defer cancel()
		res := e.Status(ctx, f.Incident, f.entries)
		if ctx.Err() != nil {
			return looked{at: d.o.Now()} // what could not be looked at in time says nothing
		}
		return looked{res, d.o.Now(), lastOf(f.entries)}
	}
}

// lastOf is the number of the last entry.
func lastOf(entries []timeline.Entry) int64 {
	if len(entries) == 0 {
		return 0
	}
	return entries[len(entries)-1].Seq
}

// reported is the post-mortem as it stands.
type reported struct {
	incident incident.ID
	text     string
	report   *report.Report
	err      error
}

// report makes the post-mortem. looked is how the incident stands in the cluster;
// nil: nobody has looked.
func (d *desk) report(id incident.ID, looked *looked) tea.Cmd {
	return func() tea.Msg {
		in, err := report.Read(d.o.Store, id)
		if err != nil {
			return reported{id, "", nil, err}
		}
		in.Now, in.Tool, in.Contacts = d.o.Now(), d.o.Tool, d.o.Contacts
		if looked != nil {
			looked.status.Tell(&in, looked.at)
		}
		r := report.New(in)
		var text bytes.Buffer
		err = r.Markdown(&text)
		return reported{id, text.String(), r, err}
	}
}

// judged is how the containment stands.
type judged struct {
	verdict  contain.Verdict // "": nothing is contained
	open     []contain.Exposure
	unmet    []contain.Check
	accepted int
	// doubts are why more may stand than the journal says.
	doubts []string
	at     time.Time
	seq    int64 // the last entry of the journal that bears on it
}

// doubted is a judgement of an incident of whose files, or of what carries its label,
// something is not known: no good verdict is drawn where that weighs.
func (j judged) doubted(doubts []string, weighs bool) judged {
	j.doubts = doubts
	if weighs && (j.verdict == contain.Contained || j.verdict == contain.Exposed) {
		j.verdict = contain.Undetermined
	}
	return j
}

// doubtsOf are the doubts of a status in words, and what carries the label unknown.
func doubtsOf(s *engine.StatusResult) []string {
	list := slices.Clone(s.Doubts)
	for _, t := range s.Strays {
		if t.Accepted == nil {
			list = append(list, t.Object+" carries the incident's label, and the journal does not know it: "+t.Undo)
		}
	}
	return list
}

// judgedBy is what the journal alone tells.
func judgedBy(entries []timeline.Entry) judged {
	told := casefile.Of(entries)
	g := told.Contained()
	var findings []contain.Finding
	if g.Assessment != nil {
		findings = g.Assessment.Findings
	}
	j := judgement(g.Verdict, findings, nil)
	for _, a := range g.Unsettled {
		j.unmet = append(j.unmet, contain.Check{Text: "not done: " + a.Intent.Summary})
	}
	j.accepted += g.Accepted
	j.at, j.seq = g.At, g.Last
	return j
}

func judgement(v contain.Verdict, findings []contain.Finding, unsettled []engine.Unsettled) judged {
	j := judged{verdict: v, accepted: engine.Accepted(findings, unsettled)}
	for _, f := range findings {
		for _, c := range f.Checks {
			if !c.OK {
				j.unmet = append(j.unmet, c)
			}
		}
		for _, x := range f.Exposures {
			if x.Severity != contain.Note && x.Accepted == nil {
				j.open = append(j.open, x)
			}
		}
	}
	for _, u := range unsettled {
		if u.Accepted == nil {
			j.unmet = append(j.unmet, contain.Check{Text: "not done: " + u.Summary})
		}
	}
	return j
}

// tick is the clocks' second.
type tick time.Time

func (d *desk) second() tea.Cmd {
	return func() tea.Msg {
		select {
		case t := <-time.After(time.Second):
			return tick(t)
		case <-d.ctx.Done():
			return nil
		}
	}
}
