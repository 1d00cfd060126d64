package tui

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"irctl/internal/cluster"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/sanitize"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
)

// screen is what fills the middle.
type screen int

// The screens.
const (
	onHome screen = iota
	onPods
	onAlert
	onPrepare
	onWalk
	onEnd
)

// root is the whole program: it has the screens, gives each what is its, and
// shows around them what must always be seen.
type root struct {
	*desk
	theme
	w, h int
	now  time.Time
	spin int

	engine     *engine.Engine
	connecting bool
	connectErr error

	screen    screen
	home      home
	pods      pods
	alert     alert
	library   library
	prepare   prepare
	walk      walk
	endScroll int
	report    *reported
	overlay   overlay

	file    *file // the incident at hand
	status  *looked
	looking bool
	stale   bool // something was done since the cluster was looked at
	touched bool // by somebody else
	changes []changed
	numbers int // of guides so far
	// confirmations are counted, so that each is told from the one before.
	confirmations int
	looks         int // for suspects, so far
	seen          int // the last look that is over
	notes         int // being written
	spinning      bool
	leaving       bool
	asking        string // a question of our own, answered by confirmKey
	toast         toast

	stopPods, stopWatch context.CancelFunc
	watching            incident.ID
	last                *engine.RunResult
	lastID              incident.ID
}

// toast is said in passing.
type toast struct {
	text  string
	style style
	until time.Time
}

func newRoot(ctx context.Context, o Options) root {
	m := root{desk: &desk{ctx: ctx, o: o, inbox: newInbox(), glass: &glass{}}, theme: newTheme(o.NoColor, o.ASCII),
		now: o.Now(), w: usualWidth, h: usualHeight, connecting: true}
	m.home.looking = true
	if o.Briefing != "" {
		m.overlay.kind = actBriefing
	}
	return m
}

func (m root) result() Result { return Result{Incident: m.lastID, Run: m.last} }

// Init reads what is on this machine, and reaches for the cluster.
func (m root) Init() tea.Cmd {
	cmds := []tea.Cmd{m.inbox.wait(m.ctx), m.list(), m.loadRunbooks(), m.connect(), m.second()}
	if len(m.o.Alerts) > 0 {
		cmds = append(cmds, m.detect(nil, m.o.Alerts, 0))
	}
	return tea.Batch(cmds...)
}

// Update takes a message. Everything that takes time is in the command.
func (m root) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	cmd := m.take(msg)
	m.settle()
	if m.walk.busy() && !m.spinning {
		m.spinning = true
		cmd = tea.Batch(cmd, spin())
	}
	return m, cmd
}

type spun struct{}

func spin() tea.Cmd {
	return tea.Tick(150*time.Millisecond, func(time.Time) tea.Msg { return spun{} })
}

func (m *root) take(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.w, m.h = msg.Width, msg.Height
		if m.w <= 0 || m.h <= 0 {
			m.w, m.h = usualWidth, usualHeight
		}
	case tea.KeyMsg:
		return m.pressed(msg)
	case arrived:
		cmds := []tea.Cmd{m.inbox.wait(m.ctx)}
		for _, one := range msg {
			cmds = append(cmds, m.take(one))
		}
		return tea.Batch(cmds...)
	case tick:
		return m.ticked()
	case spun:
		m.spin++
		m.now = m.o.Now()
		m.spinning = false
	case connected:
		return m.connected(msg)
	case listed:
		m.home = m.home.listed1(msg)
		return m.begun()
	case library:
		m.library = msg
		m.home.books = msg.books
		if m.screen == onPrepare && !m.prepare.loaded {
			m.prepare = m.prepare.with(msg)
		}
		return tea.Batch(m.begun(), m.startAtLast())
	case found:
		if msg.number < m.seen {
			return nil
		}
		m.seen = msg.number
		m.home = m.home.found(msg, m.now)
		m.home.looking = m.seen < m.looks
		m.pods = m.pods.suspected(m.home.suspects)
		if m.engine != nil && len(m.home.suspects) > 0 {
			return m.portray(m.engine, m.home.suspects)
		}
	case portrayed:
		m.home.pods = msg
	case podList:
		m.pods = m.pods.with(msg)
	case alertRead:
		m.alert = m.alert.read(msg)
	case filed:
		return m.filed(msg)
	case tried:
		return m.tried(msg)
	case reopened:
		return m.reopened(msg)
	case undoable:
		return m.offerUndo(msg)
	case looked:
		return m.looked(msg)
	case lookAgain:
		return m.lookNow()
	case changed:
		if msg.incident == m.watching {
			// Where the server does not tell who wrote, what happens while we write is ours.
			if msg.writer == "" && (m.walk.busy() || m.now.Sub(m.walk.worked) < 5*time.Second) {
				msg.ours = true
			}
			m.changes = append(slices.Clip(m.changes), msg)
			m.changes = m.changes[max(0, len(m.changes)-maxChanges):]
			if !msg.ours {
				m.touched = true
				m.say(warning, "the cluster: "+msg.object+": "+msg.text)
			}
		}
	case reported:
		m.report = &msg
	case noted:
		m.notes--
		if msg.err != nil {
			m.say(bad, "the note was not written: "+msg.err.Error())
		} else {
			m.say(good, "noted: "+msg.text)
		}
		return tea.Batch(m.reread(), m.leave())
	case failed:
		m.say(bad, msg.err.Error())
	case copied:
		m.say(good, "copied to the clipboard, if the terminal allows it: "+plural.Count(int(msg), "line"))
	case opened:
		return m.opened(msg)
	case proposed, asked, happened, ended, undone:
		return m.walked(msg)
	case told:
		return m.told(msg)
	}
	return nil
}

func (m *root) say(st style, text string) {
	m.toast = toast{text, st, m.now.Add(8 * time.Second)}
}

// begun chooses what the program was started with, once it can.
func (m *root) begun() tea.Cmd {
	if len(m.library.books) == 0 || !m.home.listed || m.screen != onHome {
		return nil
	}
	pod, id := m.o.Pod, m.o.Incident
	m.desk = &desk{ctx: m.ctx, o: m.o, inbox: m.inbox, glass: m.glass}
	m.o.Pod, m.o.Incident = "", ""
	switch {
	case id != "":
		if s := m.home.openIncident(id); s != nil {
			return m.enter(s)
		}
		m.say(warning, "incident "+string(id)+" is not open")
	case pod != "":
		m.prepare = newPrepare(m.library, m.o)
		m.prepare.pods = []string{pod}
		m.screen = onPrepare
	}
	return nil
}

func (m *root) connected(c connected) tea.Cmd {
	m.connecting, m.connectErr = false, c.err
	if c.err != nil {
		m.home.looking = false
		m.home.lookErr = c.err
		if m.screen == onWalk && m.walk.number == 0 {
			m.walk.stopped = &ended{err: c.err}
		}
		return nil
	}
	m.engine = c.engine
	m.home.looking = true
	return tea.Batch(m.look(), m.watchTargets(), m.startAtLast())
}

// look looks for suspects.
func (m *root) look() tea.Cmd {
	m.looks++
	m.home.looking = true
	return m.detect(m.engine, m.o.Alerts, m.looks)
}

// startAtLast starts what a person has started before it could be.
func (m *root) startAtLast() tea.Cmd {
	switch {
	case m.screen == onPrepare && m.prepare.starting && m.prepare.loaded:
		return m.preparePressed(actStart)
	case m.screen == onWalk && m.walk.number == 0 && m.walk.stopped == nil && m.engine != nil:
		return m.open(m.engine, m.walk.begin)
	}
	return nil
}

// ticked is once in a second.
func (m *root) ticked() tea.Cmd {
	m.now = m.o.Now()
	if m.toast.text != "" && m.now.After(m.toast.until) {
		m.toast = toast{}
	}
	cmds := []tea.Cmd{m.second()}
	n := m.now.Unix()
	if m.file != nil && n%2 == 0 {
		cmds = append(cmds, m.read(m.file.ID, m.file.size))
	}
	if m.screen == onHome && n%5 == 0 {
		cmds = append(cmds, m.list())
	}
	// The cluster is looked at while nothing else is asked of it.
	if m.file != nil && m.engine != nil && len(m.file.standing) > 0 && !m.looking && !m.walk.busy() &&
		(m.status == nil || m.touched || m.now.Sub(m.status.at) > 20*time.Second) {
		cmds = append(cmds, m.lookNow())
	}
	return tea.Batch(cmds...)
}

// lookAgain is that it is time to look at the cluster again.
type lookAgain struct{}

const (
	// againEvery and mostAgain are how long a step is given until the cluster
	// shows what it did: pods that are scaled away take half a minute to end.
	againEvery = 2 * time.Second
	mostAgain  = 20
)

// lookNow looks at how the incident stands in the cluster. One look at a time:
// what is done meanwhile is looked at after it.
func (m *root) lookNow() tea.Cmd {
	if m.file == nil || m.engine == nil || m.looking {
		return nil
	}
	m.stale, m.touched = false, false
	if len(m.file.standing) == 0 && m.file.judged.verdict == "" {
		return nil
	}
	m.looking = true
	return m.desk.status(m.engine, m.file)
}

// looked takes what a look found. What came of a step, if it is still on the
// screen, is judged anew by it.
func (m *root) looked(l looked) tea.Cmd {
	m.looking = false
	if s := l.status; s != nil && m.file != nil && s.Incident.ID == m.file.ID {
		m.status = &l
		m.walk.judged(s)
	}
	switch {
	case m.stale:
		return m.lookNow()
	case m.walk.again > 0 && l.status != nil && l.status.Verdict == contain.NotContained:
		m.walk.again--
		return tea.Tick(againEvery, func(time.Time) tea.Msg { return lookAgain{} })
	}
	m.walk.again = 0
	return nil
}

func (m *root) reread() tea.Cmd {
	if m.file == nil {
		return nil
	}
	return m.read(m.file.ID, 0)
}

func (m *root) filed(f filed) tea.Cmd {
	switch {
	case f.err != nil:
		m.say(bad, f.err.Error())
		return nil
	case f.file == nil:
		return nil
	case m.file != nil && m.file.ID == f.file.ID && f.file.size < m.file.size:
		return nil // it was read before what is shown: a journal only grows
	}
	m.file = f.file
	m.lastID = f.file.ID
	m.walk.recorded(f.file)
	cmds := []tea.Cmd{m.watchTargets()}
	if m.stale {
		cmds = append(cmds, m.lookNow())
	}
	if who := m.walk.begin.commander; who != "" && f.file.ID == m.walk.begin.incident && m.engine != nil {
		m.walk.begin.commander = ""
		cmds = append(cmds, m.command(m.engine.Actor(), f.file.ID, who))
	}
	return tea.Batch(cmds...)
}

// watchTargets follows the targets of the incident at hand.
func (m *root) watchTargets() tea.Cmd {
	if m.file == nil || m.engine == nil || m.watching == m.file.ID && m.stopWatch != nil || len(m.file.Targets) == 0 {
		return nil
	}
	if m.stopWatch != nil {
		m.stopWatch()
	}
	var ctx context.Context
	ctx, m.stopWatch = context.WithCancel(m.ctx)
	m.watching, m.changes = m.file.ID, nil
	return m.watch(ctx, m.engine, m.file)
}

// containment is what is known of it now: what was last seen in the cluster, or
// what the journal's last look found.
func (m *root) containment() judged {
	if m.file == nil {
		return judged{}
	}
	if s := m.lastLook(); s != nil {
		j := judgement(s.status.Verdict, s.status.Targets, s.status.Unsettled)
		return j.doubted(doubtsOf(s.status), s.status.Weighs())
	}
	return m.file.judged
}

// lastLook is the last one at the cluster, if it has a verdict, and nothing was
// changed, judged or accepted since; nil: there is none such.
func (m *root) lastLook() *looked {
	s := m.status
	switch {
	case s == nil, m.file == nil, s.status.Incident.ID != m.file.ID, s.seq < m.file.judged.seq, s.status.Verdict == "":
		return nil
	}
	return s
}

// leave quits, once nothing is under way any more.
func (m *root) leave() tea.Cmd {
	if m.leaving && m.walk.number == 0 && m.notes == 0 {
		return tea.Quit
	}
	return nil
}

// quit lets go of the run and waits for what is being written.
func (m *root) quit() tea.Cmd {
	if m.leaving {
		return tea.Quit // asked for twice
	}
	m.leaving = true
	if m.walk.number != 0 {
		return m.walk.pause()
	}
	return m.leave()
}

// copied is how many lines were copied.
type copied int

// copyText puts a text into the clipboard, by way of the terminal (OSC 52). It
// is made safe first: it will be pasted into a shell.
func (d *desk) copyText(text string) tea.Cmd {
	if text == "" {
		return nil
	}
	return func() tea.Msg {
		text = sanitize.Text(text)
		if d.o.Out == nil {
			return nil
		}
		if _, err := fmt.Fprint(d.o.Out, ansi.SetSystemClipboard(text)); err != nil {
			return failed{fmt.Errorf("copying: %w", err)}
		}
		return copied(strings.Count(strings.TrimRight(text, "\n"), "\n") + 1)
	}
}

// isProduction tells from a name that it is production.
var productionName = regexp.MustCompile(`(?i)(^|[^a-z])(prod|production|prd|live)([^a-z]|$)`)
var nonProduction = regexp.MustCompile(`(?i)(non|pre)[-_. ]?prod`)

func isProduction(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		n = n[:min(len(n), 512)]
		return productionName.MatchString(nonProduction.ReplaceAllString(n, ""))
	})
}

// cluster is the cluster as people tell it from others.
func (m *root) cluster() (name string, production bool) {
	server := ""
	if m.engine != nil {
		server = m.engine.Identity().Server
	}
	return cmp.Or(m.o.Context, server, "no cluster"), isProduction(m.o.Context, server)
}

// target is what a plan changes, by name, and where; what is named has so many
// columns.
func (m *root) target(width int) string {
	var names []string
	if plan := m.walk.plan; plan != nil {
		names = changedBy(&plan.proposal)
	} else if m.file != nil {
		for _, t := range m.file.Targets {
			names = append(names, t.Kind+" "+t.Namespace+"/"+t.Name)
		}
	}
	name, production := m.cluster()
	if production {
		name = "PRODUCTION " + name
	}
	const most = 80
	return strings.TrimPrefix(some(names, min(width, most))+", cluster "+name, ", ")
}

// some are as many names as have room, at least one, and how many more there are.
func some(names []string, width int) string {
	for n := len(names); n > 0; n-- {
		text := strings.Join(names[:n], ", ")
		if more := len(names) - n; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		if n == 1 || ansi.StringWidth(text) <= width {
			return text
		}
	}
	return ""
}

// changedBy names the objects that a plan changes, those of a service first.
func changedBy(p *engine.Proposal) (names []string) {
	var objects []cluster.Ref
	for _, s := range p.Steps {
		for i := range s.Plan.Actions {
			objects = append(objects, s.Plan.Actions[i].Change.Object)
		}
	}
	slices.SortStableFunc(objects, func(a, b cluster.Ref) int { return cmp.Compare(rank(a), rank(b)) })
	for _, o := range objects {
		if text := o.String(); !slices.Contains(names, text) {
			names = append(names, text)
		}
	}
	return names
}

// suspectChosen begins with a suspect.
func (m *root) suspectChosen(s *detect.Suspect) {
	m.prepare = newPrepare(m.library, m.o).about(s)
	m.screen = onPrepare
}
