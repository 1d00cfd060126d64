package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"irctl/internal/config"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/runbook"
	"irctl/internal/sanitize"
	"irctl/internal/steps/contain"
)

// runOptions are the flags of run.
type runOptions struct {
	dir             string
	set             []string
	incident        string
	title, severity string
	recipients      []string
	signWith        string
	fd              int
	acceptChanged   bool
	dryRun, yes     bool
}

func (a *App) run() *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run RUNBOOK",
		Short: "Go through a runbook, from the alert to the post-mortem",
		Long: `Go through a runbook, step by step. Every step is journaled before and after it is
done: the same command goes on where a run was stopped, or killed. RUNBOOK is a name
(irctl runbook list) or a path.

What only a person can do, or decide, is asked. Without a terminal, or with --yes,
nobody is: a step that a person has to do is recorded as not done, unless the runbook
has an answer for that case, and the step's onError says whether the run goes on.

Exit codes: 0 all is done; 1 a step failed; 2 usage; 3 something was left undone, or the
suspects are not fully contained; 4 refused; 5 could not tell.`,
		Example: `  irctl run compromised-pod --set pod=backend-688d67cddc-dxv5m -n todo-app -r responder@example.org
  irctl run compromised-pod --set pod=todo-app/backend-0 --dry-run
  irctl run ./runbooks/ours.yaml --set pod=web-0 --yes -o json`,
		ValidArgsFunction: a.completeRunbooks,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("which runbook? irctl runbook list shows them")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return a.runRunbook(c, runbookRef(args[0]), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "runbook-dir", "",
		"a folder of runbooks, which come before those of the configuration and the built-in ones")
	f.StringArrayVar(&o.set, "set", nil, "a parameter of the runbook, NAME=VALUE; may be repeated")
	takesIncident(cmd, &o.incident,
		"the incident to work in (default: the open one of this run or of the same pods, or a new one)")
	f.StringVar(&o.title, "title", "", "title of a new incident")
	f.StringVar(&o.severity, "severity", "", "severity of a new incident: sev1 to sev4 (default: the runbook's)")
	f.StringSliceVarP(&o.recipients, "recipient", "r", nil, "who can open the evidence: an OpenPGP key file, or an "+
		"e-mail or fingerprint of the GnuPG keyring (default: the configured ones)")
	signerFlags(cmd, &o.signWith, &o.fd)
	f.BoolVar(&o.acceptChanged, "accept-changed-runbook", false,
		"go on with a runbook that was changed since the run began; it is recorded")
	f.BoolVar(&o.dryRun, "dry-run", false,
		"show what every step would do, and ask the server whether it would; change nothing")
	f.BoolVarP(&o.yes, "yes", "y", false,
		"do not ask: what is to be approved is, and what only a person can do is not done")
	a.mustComplete(cmd, "incident", a.completeOpenIncidents)
	return cmd
}

func (a *App) library(dir string) *runbook.Library {
	return runbook.NewLibrary(dir, runbook.UserDir(a.Getenv), builtInRunbooks, engine.Operations())
}

func (a *App) runRunbook(c *cobra.Command, ref string, o *runOptions) error {
	book, err := a.library(o.dir).Find(ref)
	if errors.Is(err, runbook.ErrNotFound) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	given, err := assignments(o.set)
	if err != nil {
		return err
	}
	severity, err := incident.ParseSeverity(o.severity)
	if err != nil {
		return usageError{err}
	}
	namespace, err := a.namespace()
	if err != nil {
		return err
	}
	// Before a cluster is asked: what is misspelt is found out at once.
	if _, err := book.Given(given, namespace); err != nil {
		return usageError{err}
	}
	conf, err := a.configuration()
	if err != nil {
		return err
	}
	req := engine.RunRequest{Runbook: book, Given: given, Namespace: namespace, Title: o.title, Severity: severity,
		DryRun:        o.dryRun,
		AcceptChanged: o.acceptChanged, Unattended: a.hands == nil && (o.yes || !a.InTerminal), Environ: os.Environ(),
		Tool: "irctl " + versionText()}
	if req.Contacts, err = a.contacts(); err != nil {
		return err
	}
	e, err := a.prepareRun(c.Context(), &req, o, conf)
	if err != nil {
		return err
	}
	a.printContacts(book, conf)
	res, err := e.Run(c.Context(), req) // it bounds itself, without the time for answers
	if errors.Is(err, runbook.ErrParameter) {
		return usageError{err}
	}
	if err != nil {
		if res.Incident != "" && !o.dryRun {
			fmt.Fprintf(a.Err, "incident %s: the same command goes on where it stopped\n", res.Incident)
		}
		return err
	}
	if err := a.printRun(res); err != nil {
		return err
	}
	return a.explained(runExit(res), func(people *App) error { return people.printRun(res) })
}

// prepareRun loads the keys and connects: a key that cannot be used must not
// be found out afterwards.
func (a *App) prepareRun(ctx context.Context, req *engine.RunRequest, o *runOptions,
	conf config.Config) (*engine.Engine, error) {
	guide := &guide{a.frontEnd(o.yes)}
	req.Guide = guide
	if a.hands != nil {
		req.Guide = &player{guide, a.hands}
	}
	var err error
	if req.Evidence, err = a.sealing(ctx, o.recipients, conf); err != nil {
		return nil, err
	}
	req.Snapshot, req.EvidenceNote = snapshotOf(req.Evidence)
	if req.Evidence != nil {
		if req.Evidence.Signer, err = a.signer(ctx, o.signWith, o.fd); err != nil {
			return nil, err
		}
	}
	bounded, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	e, err := a.engineFor(bounded, guide, o.dryRun)
	if err != nil {
		return nil, err
	}
	req.Incident, err = toJoin(e.Store, o.incident)
	return e, err
}

// assignments reads NAME=VALUE.
func assignments(set []string) (map[string]string, error) {
	values := map[string]string{}
	for _, s := range set {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, usagef("--set %s: give it as NAME=VALUE", s)
		}
		if _, twice := values[name]; twice {
			return nil, usagef("--set %s is given twice; a list is NAME=a,b", name)
		}
		values[name] = value
	}
	return values, nil
}

// printContacts says whom to call, before anything happens.
func (a *App) printContacts(book *runbook.Runbook, conf config.Config) {
	for _, c := range contactsOf(book, conf) {
		fmt.Fprintf(a.Err, "  %s\n", sanitize.Line(c))
	}
}

// contactsOf are a runbook's contacts in one line each; of a role that
// irctl.yaml knows it says how to reach it.
func contactsOf(book *runbook.Runbook, conf config.Config) []string {
	var lines []string
	for _, c := range book.Contacts {
		name, email, phone, chat := c.Name, c.Email, c.Phone, c.Chat
		for _, known := range conf.Contacts {
			if strings.EqualFold(known.Role, c.Role) {
				name, email, phone, chat = known.Name, known.Email, known.Phone, known.Chat
				break
			}
		}
		line := c.Role
		if reach := strings.Join(slices.DeleteFunc([]string{name, email, phone, chat}, func(s string) bool {
			return s == ""
		}), ", "); reach != "" {
			line += ": " + reach
		}
		if c.For != "" {
			line += " (" + c.For + ")"
		}
		lines = append(lines, line)
	}
	return lines
}

// runExit turns a result into the exit code: that of the weightiest of its steps, and
// of the verdict on the suspects.
func runExit(res *engine.RunResult) error {
	var grounds []exitError
	for _, s := range res.Steps {
		grounds = append(grounds, stepGround(s, res.DryRun))
	}
	if !res.DryRun {
		grounds = append(grounds, exitError{code: verdictCode(res.Verdict)})
	}
	if !res.DryRun && res.State != engine.RunFinished && ended(grounds...) == nil {
		grounds = append(grounds, exitError{code: ExitNotContained}) // something was left undone
	}
	return ended(grounds...)
}

// stepGround is what a step of a run ends with.
func stepGround(s engine.StepResult, dryRun bool) exitError {
	switch {
	case blind(s):
		return exitError{code: ExitUndetermined}
	case s.Done() || dryRun && s.Err() == nil:
		return exitError{code: ExitDone}
	case s.Outcome == "failed" && errors.Is(s.Err(), engine.ErrUndetermined),
		s.Results["verdict"] == string(contain.Undetermined):
		return exitError{code: ExitUndetermined}
	case s.Outcome == "failed":
		return exitError{ExitError, s.Err()}
	case s.Outcome == "refused":
		return exitError{code: ExitRefused}
	}
	return exitError{code: ExitNotContained}
}

// blind: the step is done, and not everything that it was to look at could be.
func blind(s engine.StepResult) bool {
	return s.Done() && (s.Results["verdict"] == string(contain.Undetermined) ||
		s.Uses == "detect" && s.Results["complete"] == false)
}

func (a *App) printRun(res *engine.RunResult) error {
	if a.hands != nil {
		return nil // it was shown as it happened, and is scored
	}
	if done, err := a.printNamed(res, "incident/"+res.Incident); done || err != nil {
		return err
	}
	st := a.style(a.OutTerminal)
	if res.DryRun {
		a.printRehearsal(res, st)
		return nil
	}
	for _, s := range res.Steps {
		fmt.Fprintf(a.Out, "%s %-11s  %-16s  %s\n", stepMark(st, s), s.Phase, s.Name, sanitize.Line(stepText(s)))
	}
	a.printRunEnd(res, st)
	return nil
}

// printRunEnd says where a run stands, and what is left to a person.
func (a *App) printRunEnd(res *engine.RunResult, st style) {
	for _, what := range res.Assumed {
		fmt.Fprintf(a.Out, "%s decided by the runbook, since nobody was there: %s\n", st.dim("·"), sanitize.Line(what))
	}
	for _, what := range res.Left {
		fmt.Fprintf(a.Out, "%s left to you: %s\n", st.warn("!"), sanitize.Line(what))
	}
	switch {
	case res.State == engine.RunFinished:
		fmt.Fprintf(a.Out, "%s  runbook %s of incident %s", st.bold("FINISHED"), res.Runbook.Name, res.Incident)
	default:
		fmt.Fprintf(a.Out, "%s  runbook %s of incident %s, at step %s; the same command goes on there",
			st.bold("STOPPED"), res.Runbook.Name, res.Incident, res.Stopped)
	}
	if res.Verdict != "" {
		fmt.Fprintf(a.Out, "  %s", verdictText(st, res.Verdict, res.Accepted))
	}
	fmt.Fprintln(a.Out)
}

func stepMark(st style, s engine.StepResult) string {
	switch {
	case s.NotNeeded:
		return st.dim("·")
	case blind(s):
		return st.warn("?")
	case s.Outcome == "done":
		return st.good("✓")
	case s.Outcome == "failed":
		return st.bad("✗")
	}
	return st.warn("–")
}

func stepText(s engine.StepResult) string {
	text := s.Summary
	if s.Error != "" {
		text += ": " + s.Error
	}
	return text
}

// printRehearsal shows what every step would do.
func (a *App) printRehearsal(res *engine.RunResult, st style) {
	fmt.Fprintf(a.Out, "dry run: nothing was changed; this is what %s %s would do\n", res.Runbook.Name,
		res.Runbook.Version)
	phase := ""
	for _, s := range res.Steps {
		if s.Phase != phase {
			phase = s.Phase
			fmt.Fprintf(a.Out, "%s\n", st.bold(phase))
		}
		fmt.Fprintf(a.Out, "  %s %s  %s: %s\n", stepMark(st, s), s.Name, s.Uses, sanitize.Line(s.Title))
		if s.When != "" {
			fmt.Fprintf(a.Out, "      only if %s\n", sanitize.Line(strings.Join(strings.Fields(s.When), " ")))
		}
		for line := range strings.Lines(strings.TrimRight(stepText(s), "\n")) {
			fmt.Fprintf(a.Out, "      %s\n", st.dim(sanitize.Line(strings.TrimRight(line, "\n"))))
		}
		switch d := s.Detail.(type) {
		case *engine.ContainResult:
			a.printPlanned(d.Actions, st)
		case *engine.UndoResult:
			a.printPlanned(d.Actions, st)
		case *engine.EradicateResult:
			a.printPlanned(d.Actions, st)
		}
		for _, what := range s.Left {
			fmt.Fprintf(a.Out, "      %s would be left to you: %s\n", st.warn("!"), sanitize.Line(what))
		}
	}
}

// guide is the line printer that also asks what a runbook asks.
type guide struct{ *lines }

// Observe prints how the run gets on.
func (g *guide) Observe(e engine.Event) {
	if e.Kind != engine.Entered && e.Kind != engine.Left {
		g.lines.Observe(e)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.endProgress()
	switch {
	case e.Kind == engine.Entered:
		fmt.Fprintf(g.out, "%s %s\n", g.st.dim(fmt.Sprintf("── %s %d/%d", e.Action, e.Done, e.Total)),
			g.st.bold(sanitize.Line(e.Text)))
	case e.Err != nil:
		g.tell(g.st.bad("✗"), sanitize.Line(e.Text)+": "+sanitize.Line(e.Err.Error()))
	default:
		g.tell(g.st.dim("→"), sanitize.Line(e.Text))
	}
}

// Ask asks on the terminal. With --yes what is to be confirmed is; what only a
// person can know is not known then, nor without a terminal.
func (g *guide) Ask(ctx context.Context, q engine.Question) (engine.Answer, error) {
	switch {
	case q.Kind == engine.AskConfirm && g.yes:
		fmt.Fprintf(g.out, "%s\n", g.instruction(q.Text))
		return engine.Answer{Choice: engine.AnswerDo}, nil
	case q.Kind == engine.AskConfirm && !g.app.InTerminal:
		return engine.Answer{}, fmt.Errorf(
			"%w: step %s asks before it is done, and there is no terminal to ask on; give --yes to go ahead without",
			engine.ErrRefused, q.Step.Name)
	case g.yes || !g.app.InTerminal:
		if q.Kind == engine.AskManual {
			fmt.Fprintf(g.out, "%s\n", g.instruction(q.Text))
		}
		return engine.Answer{}, engine.ErrUnattended
	}
	fmt.Fprintf(g.out, "%s\n", g.instruction(q.Text))
	choice, err := g.choose(ctx, q)
	if err != nil || q.Kind == engine.AskParameter {
		return engine.Answer{Choice: choice}, err
	}
	a := engine.Answer{Choice: choice}
	if q.Kind == engine.AskManual {
		if a.By, err = g.line(ctx, "Who? (empty: you)"); err != nil {
			return a, err
		}
	}
	if q.Kind == engine.AskManual || choice == engine.AnswerSkip {
		a.Note, err = g.line(ctx, "Note, or why? (empty: none)")
	}
	return a, err
}

// choose asks until the answer is one of the choices, or so much of one that
// it is no other.
func (g *guide) choose(ctx context.Context, q engine.Question) (string, error) {
	const most = 5
	prompt := strings.Join(q.Choices, " / ")
	if prompt == "" {
		prompt = "Answer"
	}
	for range most {
		text, err := g.line(ctx, prompt)
		if err != nil {
			return "", err
		}
		if len(q.Choices) == 0 {
			return text, nil
		}
		var fits []string
		for _, c := range q.Choices {
			if c == text {
				return c, nil
			}
			if text != "" && strings.HasPrefix(c, text) {
				fits = append(fits, c)
			}
		}
		if len(fits) == 1 {
			return fits[0], nil
		}
	}
	return "", fmt.Errorf("%w: no answer was given", engine.ErrRefused)
}

func (g *guide) line(ctx context.Context, prompt string) (string, error) {
	text, err := g.app.question(ctx, g.st.bold(sanitize.Line(prompt))+": ")
	return strings.TrimSpace(text), err
}
