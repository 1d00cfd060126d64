package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"irctl/internal/change"
	"irctl/internal/drill"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/sanitize"
	"irctl/internal/tui"
)

// drillOptions are the flags of drill.
type drillOptions struct {
	scenario string
	speed    float64
	dir      string
	auto     bool
	// accessible is the walk line by line.
	accessible bool
}

// podStartup is how long a pod of a drill takes to start.
const podStartup = 5 * time.Second

func (a *App) drill() *cobra.Command {
	o := &drillOptions{}
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Practise an incident on a simulated cluster under attack",
		Long: `Practise an incident: a simulated cluster inside this program, an attacker who goes on
while you work, and a score at the end. It needs no cluster, no kubeconfig, no rights
and no network. Evidence and reports are real ones, marked DRILL, in a directory apart
from that of real incidents.

On a terminal it opens the terminal UI on that cluster. --auto plays it unattended,
by the scenario's runbook, and prints what happens.
irctl drill serve keeps the simulated cluster up, for the ordinary commands and kubectl.

Exit codes: 0; 1 error; 2 usage; 3 points were lost.`,
		Example: `  irctl drill
  irctl drill list
  irctl drill --auto --speed 30
  irctl drill serve --scenario gitops
  irctl drill --scenario ./ours.yaml`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.auto {
				return a.drillAuto(c.Context(), o)
			}
			return a.drillPlay(c.Context(), o)
		},
	}
	a.drillFlags(cmd, o, 1)
	cmd.Flags().BoolVar(&o.accessible, "accessible", false,
		"line by line, for screen readers, dumb terminals and serial consoles")
	cmd.Flags().BoolVar(&o.auto, "auto", false, "play it unattended, well, and print what happens")
	serve := &drillOptions{}
	served := &cobra.Command{Use: "serve", Short: "Keep the simulated cluster up, and print how to reach it",
		Args: noArgs,
		Long: `Keep the simulated cluster up until Ctrl-C, and print what to export so that irctl and
kubectl work on it. The score is printed at the end.`,
		RunE: func(c *cobra.Command, _ []string) error { return a.drillServe(c.Context(), serve) }}
	a.drillFlags(served, serve, 1)
	cmd.AddCommand(served, &cobra.Command{Use: "list", Short: "List the scenarios", Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return a.drillList() }},
		&cobra.Command{Use: "schema", Short: "Print the JSON Schema of scenarios, for editors", Args: noArgs,
			RunE: func(*cobra.Command, []string) error { return a.printSchema(drill.Schema()) }})
	return cmd
}

func (a *App) drillFlags(cmd *cobra.Command, o *drillOptions, speed float64) {
	f := cmd.Flags()
	f.StringVar(&o.scenario, "scenario", drill.First, "which scenario: a name (irctl drill list), or a file")
	f.Float64Var(&o.speed, "speed", speed, "how many seconds of the drill pass in one")
	f.StringVar(&o.dir, "dir", "",
		"a new directory for everything of the drill (default: below drill in the state directory)")
	a.mustComplete(cmd, "scenario", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		all, _ := drill.BuiltIn()
		var names []string
		for _, s := range all {
			names = append(names, s.Name+"\t"+s.Title)
		}
		return names, cobra.ShellCompDirectiveDefault
	})
}

// scenarioInfo is what drill list tells of a scenario.
type scenarioInfo struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	Teaches string `json:"teaches"`
	Runbook string `json:"runbook"`
}

func (a *App) drillList() error {
	all, err := drill.BuiltIn()
	if err != nil {
		return err
	}
	rows, list := [][]string{{"SCENARIO", "WHAT HAPPENS", "WHAT IT TEACHES"}}, []scenarioInfo{}
	for _, s := range all {
		rows = append(rows, []string{s.Name, s.Title, s.Teaches})
		list = append(list, scenarioInfo{s.Name, s.Title, s.Teaches, s.Runbook})
	}
	names := named(list, func(s scenarioInfo) string { return s.Name })
	if done, err := a.printNamed(map[string]any{"scenarios": list}, names...); done || err != nil {
		return err
	}
	return table(a.Out, rows)
}

// startDrill sets the scene.
func (a *App) startDrill(ctx context.Context, o *drillOptions, told func(drill.Deed)) (*drill.Session, error) {
	if o.speed <= 0 || o.speed > drill.MaxSpeed {
		return nil, usagef("--speed must be more than 0, and at most %d", drill.MaxSpeed)
	}
	s, err := drill.Find(ctx, o.scenario)
	if errors.Is(err, drill.ErrScenario) {
		return nil, usageError{err}
	}
	if err != nil {
		return nil, err
	}
	dir := o.dir
	if dir == "" {
		state, err := a.stateHome()
		if err != nil {
			return nil, err
		}
		if _, err := a.storeToWrite(); err != nil {
			return nil, err
		}
		dir = drill.DirFor(state, s.Name, a.clock.Now())
	} else if _, err := os.Lstat(dir); err == nil {
		return nil, usagef("--dir %s: it exists already; a drill begins in a new one", dir)
	}
	signals := signalsOf(ctx)
	signals.begin(engine.Collecting, "") // of points
	signals.hush()
	return drill.Start(ctx, dir, s, drill.WorldOptions{Clock: a.clock, Speed: o.speed, Startup: podStartup, Told: told})
}

func (a *App) stateHome() (string, error) {
	if a.stateDir != "" {
		return a.stateDir, nil
	}
	return incident.StateDir(a.Getenv)
}

// stage prints what happens in a drill, between what irctl prints.
type stage struct {
	app     *App
	session *drill.Session
	st      style

	mu sync.Mutex
}

func (s *stage) told(d drill.Deed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mark, text := "☠", sanitize.Line(d.Text)
	switch {
	case d.Who == "cluster":
		mark, text = "⎈", s.st.dim(text)
	case d.Failed:
		text = s.st.good(text)
	default:
		text = s.st.bad(text)
	}
	fmt.Fprintf(s.app.Err, "   %s %s %s\n", s.st.dim(clockText(d.At)), mark, text)
}

func (s *stage) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.app.Err, format, args...)
}

// clockText is the drill's time, as minutes and seconds after the alert.
func clockText(d time.Duration) string {
	d = d.Round(time.Second)
	return fmt.Sprintf("+%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// drillAuto plays a scenario well.
func (a *App) drillAuto(ctx context.Context, o *drillOptions) error {
	stage := &stage{app: a, st: a.style(a.ErrTerminal)}
	session, err := a.startDrill(ctx, o, stage.told)
	if err != nil {
		return err
	}
	stage.session = session
	if err := a.playWell(ctx, stage); err != nil && ctx.Err() == nil {
		return errors.Join(err, session.Close())
	}
	return a.endDrill(session)
}

func (a *App) playWell(ctx context.Context, stage *stage) error {
	session, scenario := stage.session, stage.session.World.Scenario
	stage.say("%s", a.briefing(session))
	hands := &drill.Hands{World: session.World, Dir: session.Dir, Incident: func() string {
		return session.Incident(ctx)
	},
		Irctl: func(ctx context.Context, args []string) error { return a.inDrill(ctx, session, nil, args) },
		Typed: func(line string) { stage.say("\n%s %s\n", stage.st.dim("$"), stage.st.bold(sanitize.Line(line))) }}
	if err := hands.Do(ctx, scenario.Play.Before); err != nil {
		return err
	}
	args := []string{"run", scenario.Runbook, "--title", "DRILL: " + scenario.Title, "--yes", "-n", "todo-app"}
	given := hands.Params()
	for _, name := range slices.Sorted(maps.Keys(given)) {
		args = append(args, "--set", name+"="+given[name])
	}
	stage.say("\n%s %s\n", stage.st.dim("$"),
		stage.st.bold(sanitize.Line(strings.TrimSpace("irctl run "+scenario.Runbook+" "+params(given)))))
	var exit exitError
	if err := a.inDrill(ctx, session, hands, args); err != nil && !(errors.As(err, &exit) && exit.code != ExitRefused) {
		return err // what a step failed at, the score tells
	}
	return hands.Do(ctx, scenario.Play.After)
}

// drillPlay opens the terminal UI on a drill.
func (a *App) drillPlay(ctx context.Context, o *drillOptions) error {
	o.accessible = o.accessible || a.dumb()
	if !a.InTerminal || !a.OutTerminal && !o.accessible {
		return usagef("a drill is played on a terminal; without one, give --auto, or: irctl drill serve")
	}
	session, err := a.startDrill(ctx, o, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Err, "%s%s\n  . %s\n\n", a.briefing(session),
		prose(a.columns(), "  ", "For irctl and kubectl in another terminal, there:"),
		change.ShellQuote(session.Environment()))
	if err := a.drillUI(ctx, session, o); err != nil && ctx.Err() == nil {
		return errors.Join(err, session.Close())
	}
	return a.endDrill(session)
}

func (a *App) drillUI(ctx context.Context, session *drill.Session, o *drillOptions) error {
	sub := &App{Streams: a.Streams, Getenv: a.Getenv, clock: a.clock}
	if err := sub.root().ParseFlags(drillArgs(session)); err != nil {
		return err
	}
	if o.accessible {
		var exit exitError
		s := &staged{runbook: session.World.Scenario.Runbook, suggested: suggested(session), title: "DRILL: " +
			session.World.Scenario.Title, alerts: session.World.Alerts}
		// what is left open, the score tells
		if err := sub.runAccessible(ctx, &uiOptions{drill: s}); err != nil && !errors.As(err, &exit) {
			return err
		}
		return nil
	}
	t, err := sub.uiRequest(&uiOptions{})
	if err != nil {
		return err
	}
	t.Banner, t.Alerts, t.Now = "DRILL", session.World.Alerts(), a.clock.Now
	t.Runbook, t.Suggested = session.World.Scenario.Runbook, suggested(session)
	t.Briefing = session.World.Scenario.Title + "\n\n" + session.World.Briefing() +
		"\n\nFor irctl and kubectl in another terminal, there:\n  . " + change.ShellQuote(session.Environment()) +
		"\n\n" + firstKeys(session.World.Scenario)
	t.Title = func(typed string) string {
		return "DRILL: " + cmp.Or(strings.TrimPrefix(typed, "DRILL: "), session.World.Scenario.Title)
	}
	t.Gone = signalsOf(ctx).hangup()
	_, err = tui.Run(ctx, t)
	return err
}

// firstKeys is how a player of the terminal UI begins.
func firstKeys(s *drill.Scenario) string {
	begin := "Pick the first suspect"
	if len(s.Compromised) == 0 {
		begin = "No pod is to blame here: n begins without one"
	}
	return begin + ". Then follow the walk: every screen names its next key in its last lines. Quitting ends the " +
		"drill, and tells the score."
}

// suggested are the parameters with which the drill is played well, so that
// nobody types digests to practise. What plays by itself does not watch for the
// attacker's return; a person does, as long as one has patience for in a drill.
func suggested(session *drill.Session) map[string]string {
	values := (&drill.Hands{World: session.World, Dir: session.Dir}).Params()
	values["watch"] = "1m"
	return values
}

// drillArgs lead irctl to a drill instead of to what is real.
func drillArgs(s *drill.Session) []string {
	return []string{"--kubeconfig", s.Kubeconfig(), "--state-dir", s.StateDir(), "--config", s.Config()}
}

// inDrill runs irctl on the drill's cluster, with the drill's configuration and
// state directory. What it leaves open, the score tells.
func (a *App) inDrill(ctx context.Context, s *drill.Session, hands *drill.Hands, args []string) error {
	sub := &App{Streams: a.Streams, Getenv: a.Getenv, clock: a.clock, hands: hands}
	sub.In, sub.InTerminal, sub.Out, sub.OutTerminal = strings.NewReader(""), false, a.Err, a.ErrTerminal
	root := sub.root()
	root.SetArgs(append(drillArgs(s), args...))
	root.SetOut(sub.Out)
	root.SetErr(sub.Err)
	err := root.ExecuteContext(ctx)
	var exit exitError
	// exitSuspects is the former
	if errors.As(err, &exit) && exit.err == nil && (exit.code == ExitNotContained || exit.code == ExitUndetermined) {
		return nil
	}
	return err
}

// endDrill prints the score, and closes the session.
func (a *App) endDrill(session *drill.Session) error {
	score, err := session.Score()
	if err := errors.Join(err, session.Close()); err != nil {
		return err
	}
	if done, err := a.printObject(score); err != nil {
		return err
	} else if !done {
		a.printScore(score, session)
	}
	if score.Points < score.Of {
		return exitError{code: ExitNotContained}
	}
	return nil
}

// isCommand tells a line to be typed from one to be read.
func isCommand(line string) bool {
	return strings.HasPrefix(line, "irctl ") || strings.HasPrefix(line, "kubectl ")
}

// briefing is what the player is told, for the terminal.
func (a *App) briefing(session *drill.Session) string {
	st := a.style(a.ErrTerminal)
	return fmt.Sprintf("%s  %s\n\n%s\n\n", st.bold("DRILL"), st.bold(sanitize.Line(session.World.Scenario.Title)),
		prose(a.columns(), "  ", session.World.Briefing()))
}

func (a *App) printScore(s drill.Score, session *drill.Session) {
	st := a.style(a.OutTerminal)
	contained := "the attacker was never cut off"
	if s.TimeToContainSeconds != nil {
		contained = "cut off " + (time.Duration(*s.TimeToContainSeconds) * time.Second).String() + " after the alert"
	}
	columns := a.columns()
	fmt.Fprintf(a.Out, "\n%s\n\n", wrap(columns, st.bold(fmt.Sprintf("SCORE %d of %d", s.Points, s.Of))+"  ",
		fmt.Sprintf("%s: %s; %d KiB got out", sanitize.Line(s.Title), contained, s.LeakedKiB)))
	for _, i := range s.Items {
		mark := st.good("✓")
		if i.Points < i.Of {
			mark = st.bad("✗")
		}
		before := fmt.Sprintf("%s %2d/%-2d  %-18s  ", mark, i.Points, i.Of, i.Title)
		for _, why := range i.Why {
			fmt.Fprintln(a.Out, wrap(columns, before, sanitize.Line(why)))
			before = strings.Repeat(" ", 29)
		}
		label := "better:"
		for _, b := range i.Better {
			// A command stays whole, so that it can be copied.
			command, about, _ := strings.Cut(sanitize.Line(b), "   # ")
			if isCommand(command) {
				fmt.Fprintf(a.Out, "%20s%s  %s\n", "", st.dim(fmt.Sprintf("%7s", label)), st.bold(command))
			} else {
				about = strings.TrimSpace(command + " " + about)
			}
			if about != "" {
				if isCommand(command) {
					label = ""
				}
				fmt.Fprintln(a.Out, wrap(columns, fmt.Sprintf("%20s%s  ", "", st.dim(fmt.Sprintf("%7s", label))),
					about))
			}
			label = ""
		}
	}
	fmt.Fprintf(a.Out,
		"\nEverything of the drill (incidents, report, sealed evidence, the key that opens it) is in\n  %s\n",
		sanitize.Line(session.Dir))
}

// drillServe keeps a drill up until the context ends.
func (a *App) drillServe(ctx context.Context, o *drillOptions) error {
	stage := &stage{app: a, st: a.style(a.ErrTerminal)}
	session, err := a.startDrill(ctx, o, nil)
	if err != nil {
		return err
	}
	stage.say("%s", a.briefing(session))
	if _, err := fmt.Fprint(a.Out, session.Exports()); err != nil {
		return errors.Join(err, session.Close())
	}
	signalsOf(ctx).expected()
	stage.say("\nIn another terminal, after\n  . %s\nbegin with\n  irctl detect --falco %s --audit-log %s\n  irctl "+
		"run %s %s\nCtrl-C here ends the drill, and gives the score.\n", change.ShellQuote(session.Environment()),
		change.ShellQuote(session.AlertsFile()), change.ShellQuote(session.AuditFile()), session.World.Scenario.Runbook,
		params(session.World.Params()))
	select {
	case <-ctx.Done():
	case err := <-session.Failed():
		return errors.Join(err, session.Close())
	}
	return a.endDrill(session)
}

func params(of map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		words = append(words, "--set "+change.ShellQuote(name+"="+of[name]))
	}
	return strings.Join(words, " ")
}

// player is a guide by which a drill plays itself.
type player struct {
	*guide
	hands *drill.Hands
}

// Ask has the drill's hands do what a person is asked to do.
func (p *player) Ask(ctx context.Context, q engine.Question) (engine.Answer, error) {
	if q.Kind != engine.AskManual {
		return p.guide.Ask(ctx, q)
	}
	answer, err := p.hands.Answer(ctx, q)
	if errors.Is(err, engine.ErrUnattended) {
		return p.guide.Ask(ctx, q)
	}
	if err != nil {
		return answer, err
	}
	text := answer.Choice
	if answer.Note != "" {
		text += ": " + answer.Note
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "  %s\n", sanitize.Line(text))
	return answer, nil
}
