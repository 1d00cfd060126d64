// Package cli is the command line: flags in, engine calls, printers out; one
// file per command. It holds no logic of its own.
//
// Results go to standard output, progress and questions to standard error.
// Exit codes are an interface, see Exit.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"

	"irctl/deploy"
	"irctl/internal/cluster"
	"irctl/internal/drill"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/sanitize"
	"irctl/internal/timeline"
)

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Terminal tells which of them are terminals.
	InTerminal, OutTerminal, ErrTerminal bool
	// Width of the terminal that Out is, in columns; 0: it is none.
	Width int
}

// System is the process's own streams.
func System() Streams {
	width, _, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		width = 0
	}
	return Streams{In: os.Stdin, Width: width, Out: os.Stdout, Err: os.Stderr,
		InTerminal: term.IsTerminal(int(os.Stdin.Fd())), OutTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		ErrTerminal: term.IsTerminal(int(os.Stderr.Fd()))}
}

// App is what commands share.
type App struct {
	Streams
	Getenv func(string) string

	kube     *genericclioptions.ConfigFlags
	timeout  time.Duration
	output   string
	stateDir string
	config   string
	verbose  bool
	kind     string // of the JSON object that the command prints
	warned   bool   // that the state directory is not private

	clock drill.Clock
	hands *drill.Hands // play a drill's runbook; nil: a person is asked

	asked engine.Asked // how it was started
}

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, args []string, streams Streams, getenv func(string) string) int {
	return (&App{Streams: streams, Getenv: getenv, clock: drill.RealClock{}}).main(ctx, args)
}

func (a *App) main(ctx context.Context, args []string) int {
	a.plainly()
	out := &output{to: a.Out}
	a.Out = out
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	err := out.whole(root.ExecuteContext(ctx))
	if err == nil {
		return ExitDone
	}
	code := exitCode(err)
	if err.Error() != "" {
		style := a.style(a.ErrTerminal)
		for _, text := range messages(err) {
			fmt.Fprintf(a.Err, "%s %s\n", style.bad("error:"), sanitize.Line(text))
		}
		if hint := explain(err); hint != "" {
			fmt.Fprintf(a.Err, "  %s %s\n", style.dim("→"), sanitize.Line(hint))
		}
		if code == ExitUsage {
			fmt.Fprintf(a.Err, "  %s see: irctl --help\n", style.dim("→"))
		}
	}
	return code
}

// messages are what an error says; where it is several that were joined, what
// each of them says.
func messages(err error) []string {
	several := joined(err)
	if several == nil {
		return []string{err.Error()}
	}
	var all []string
	for _, e := range several {
		all = append(all, messages(e)...)
	}
	return all
}

// joined are the errors of one that is several; nil: it is one, if perhaps a
// sentence about several.
func joined(err error) []error {
	var several interface{ Unwrap() []error }
	if !errors.As(err, &several) {
		return nil
	}
	var whole []string
	for _, e := range several.Unwrap() {
		whole = append(whole, e.Error())
	}
	if strings.Join(whole, "\n") != err.Error() {
		return nil
	}
	return several.Unwrap()
}

func (a *App) root() *cobra.Command {
	ui := &uiOptions{}
	root := &cobra.Command{
		Use:   "irctl",
		Short: "Incident response for Kubernetes: contain, prove, undo",
		Long: `irctl takes a responder through a security incident in a Kubernetes cluster.
Every change is planned, shown, done, checked, recorded and reversible.

  irctl                                          on a terminal: be led through an incident
  irctl doctor                                   before the incident: rights, clock, policy enforcement
  irctl contain --pod NAME -n NAMESPACE          cut a pod off, keep it alive, take its workload down
  irctl timeline show                            what was done, by whom, when
  irctl undo --all                               put everything back as it was`,
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return a.ui(c, ui) },
	}
	root.Flags().BoolVar(&ui.accessible, "accessible", false,
		"ask line by line, for screen readers and simple terminals")
	root.Flags().StringVar(&ui.dir, "runbook-dir", "",
		"a folder of runbooks, which come before those of the configuration and the built-in ones")
	root.Flags().StringVar(&ui.pod, "pod", "", "begin with this suspect")
	takesIncident(root, &ui.incident, "go on with this incident")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	a.kube = genericclioptions.NewConfigFlags(true).WithWrapConfigFn(func(c *rest.Config) *rest.Config {
		c.WarningHandler = rest.NoWarnings{} // their text is the server's, and may hold escape sequences
		return c
	})
	a.kube.AddFlags(root.PersistentFlags())
	f := root.PersistentFlags()
	f.DurationVar(&a.timeout, "timeout", 2*time.Minute,
		"how long looking, and doing, may take each; your time to answer does not count")
	f.StringVarP(&a.output, "output", "o", "table", "output format: table, json, yaml or name")
	f.StringVar(&a.stateDir, "state-dir", "",
		"where incidents are kept (default $IRCTL_STATE_DIR, $XDG_STATE_HOME/irctl or ~/.local/state/irctl)")
	f.StringVar(&a.config, "config", "", "configuration file (default $XDG_CONFIG_HOME/irctl/irctl.yaml)")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "show more: every diff and kubectl equivalent, every wait")
	// the flag exists
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(outputs, cobra.ShellCompDirectiveNoFileComp))
	_ = root.RegisterFlagCompletionFunc("namespace", a.completeNamespaces)
	root.PersistentPreRunE = func(c *cobra.Command, args []string) error {
		a.asked = engine.Asked{Words: wordsOf(c, args), From: "cli"}
		if len(a.asked.Words) == 0 {
			a.asked.From = "ui"
		}
		if err := a.checkOutput(c); err != nil {
			return err
		}
		if a.timeout <= 0 {
			return usagef("--timeout must be positive")
		}
		return a.checkKubeconfigNames()
	}
	root.AddCommand(a.detect(), a.contain(), a.eradicate(), a.recover(), a.undo(), a.accept(), a.status(),
		a.incidentCommand(), a.timelineCommand(), a.report(), a.doctor(), a.version(), a.completion(root), options(),
		a.investigate(), a.evidenceCommand(), a.configCommand())
	root.AddCommand(a.run(), a.runbookCommand(), a.drill())
	root.SetUsageTemplate(usageTemplate)
	return root
}

// explain says what to do about an error, or "".
func explain(err error) string {
	var unwritten *outputError
	if errors.As(err, &unwritten) {
		return "what is printed is not complete: make room where it goes, or send it elsewhere, and run the same " +
			"command again"
	}
	return cluster.Explain(err, deploy.RoleFor)
}

// usageTemplate is cobra's, but that the flags of all commands, most of them
// kubectl's, are left to the command options: they would bury those at hand.
const usageTemplate = `Usage:{{if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} [command]{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if and .HasParent .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}

"irctl options" lists the flags of all commands: -n, --context, -o, --timeout, -v and others.
`

func options() *cobra.Command {
	cmd := &cobra.Command{Use: "options", Short: "List the flags that all commands have", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "These flags can be given to every command:\n\n%s",
				c.InheritedFlags().FlagUsages())
			return err
		}}
	return cmd
}

// context is the command's, bounded by --timeout.
func (a *App) context(c *cobra.Command) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(c.Context(), a.timeout,
		fmt.Errorf("--timeout of %s is over: %w", a.timeout, context.DeadlineExceeded))
}

func (a *App) client() (*cluster.Client, error) {
	config, err := a.kube.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("no cluster to talk to: %w; name one with --kubeconfig, --context or --server", err)
	}
	// Without any configuration the library assumes an unprotected server on
	// this machine, which is not where an incident is.
	if raw, err := a.kube.ToRawKubeConfigLoader().RawConfig(); err == nil && len(raw.Clusters) == 0 &&
		*a.kube.APIServer == "" && config.BearerTokenFile == "" {
		return nil, fmt.Errorf("no cluster to talk to: there is no kubeconfig (KUBECONFIG is %q, else "+
			"~/.kube/config); name one with --kubeconfig, or a server with --server", a.Getenv("KUBECONFIG"))
	}
	return cluster.New(config)
}

// namespace is the one of -n, of the kubeconfig's context, or "default".
func (a *App) namespace() (string, error) {
	ns, _, err := a.kube.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return "", fmt.Errorf("reading the kubeconfig: %w", err)
	}
	return ns, nil
}

// givenNamespace is that of -n; "": it was not given. The kubeconfig's own is
// no answer where a wrong one would do harm.
func (a *App) givenNamespace() string {
	if a.kube.Namespace == nil {
		return ""
	}
	return *a.kube.Namespace
}

func (a *App) kubeContext() string {
	if *a.kube.Context != "" {
		return *a.kube.Context
	}
	raw, err := a.kube.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return ""
	}
	return raw.CurrentContext
}

// store is the state directory, for reading: nothing is made or changed there.
func (a *App) store() (*incident.Store, error) {
	store, err := a.quietStore()
	if err != nil {
		return nil, err
	}
	if err := store.CheckPrivate(); err != nil && !a.warned {
		a.warned = true
		fmt.Fprintln(a.Err, "! it can be read, but", sanitize.Line(err.Error()))
	}
	return store, nil
}

func (a *App) quietStore() (*incident.Store, error) {
	dir, err := a.stateHome()
	if err != nil {
		return nil, err
	}
	_, drilled := a.drillMark()
	return incident.NewStore(dir, incident.Options{Now: a.clock.Now, Drill: drilled})
}

// storeToWrite is the state directory for a command that will write: what it
// would be refused for is said before anything else is done.
func (a *App) storeToWrite() (*incident.Store, error) {
	store, err := a.quietStore()
	if err != nil {
		return nil, err
	}
	return store, store.CheckWritable()
}

// drillMark tells whether the kubeconfig's context is that of a drill.
func (a *App) drillMark() (drill.Mark, bool) {
	raw, err := a.kube.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return drill.Mark{}, false // whoever connects says what is wrong with it
	}
	return drill.MarkOf(raw, *a.kube.Context)
}

// engineToWrite is engine for a command that will write.
func (a *App) engineToWrite(ctx context.Context, front engine.FrontEnd) (*engine.Engine, error) {
	if _, err := a.storeToWrite(); err != nil {
		return nil, err
	}
	return a.engine(ctx, front)
}

// engineFor is engine, or engineToWrite if the command is not a dry run.
func (a *App) engineFor(ctx context.Context, front engine.FrontEnd, dryRun bool) (*engine.Engine, error) {
	if dryRun {
		return a.engine(ctx, front)
	}
	return a.engineToWrite(ctx, front)
}

// engine connects to the cluster, with the incidents of the state directory.
func (a *App) engine(ctx context.Context, front engine.FrontEnd) (*engine.Engine, error) {
	store, err := a.store()
	if err != nil {
		return nil, err
	}
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	e, err := engine.New(ctx, client, store, front, a.kubeContext())
	if err != nil {
		return nil, err
	}
	if err := client.CheckNamespace(ctx, a.givenNamespace()); err != nil {
		return nil, err
	}
	e.Timeout, e.Now, e.Begun, e.Asked = a.timeout, a.clock.Now, signalsOf(ctx).begin, a.asked
	if mark, drilled := a.drillMark(); drilled {
		e.Pace = engine.Pace(mark.Speed)
	}
	return e, nil
}

// findIncident is the incident of a (prefix of an) ID, or the only open one.
func findIncident(ctx context.Context, store *incident.Store, prefix string) (incident.ID, error) {
	if prefix != "" {
		return lookUp(store, prefix)
	}
	open, _ := store.FindOpen(ctx, func(incident.Incident) bool { return true })
	return only(open)
}

// storeOf is where the incident of an ID is kept, and its whole ID.
func (a *App) storeOf(ctx context.Context, prefix string) (*incident.Store, incident.ID, error) {
	store, err := a.store()
	if err != nil {
		return nil, "", err
	}
	id, err := findIncident(ctx, store, prefix)
	return store, id, err
}

// recorded is an incident as its files tell it.
func recorded(store *incident.Store, id incident.ID) (incident.Incident, []timeline.Entry, error) {
	i, err := store.Load(id)
	if err != nil {
		return i, nil, err
	}
	entries, err := store.Entries(id)
	return i, entries, err
}

// tellDoubts says what an incident's files do not tell, or tell in contradiction.
func (a *App) tellDoubts(i incident.Incident) {
	for _, d := range i.Doubts {
		fmt.Fprintf(a.Err, "! incident %s: %s\n", i.ID, sanitize.Line(d.Text))
	}
	a.printRepair(a.Err, i)
}

// only is the one incident there is; several are named, with what they are about.
func only(open []incident.Incident) (incident.ID, error) {
	switch len(open) {
	case 0:
		return "", fmt.Errorf(
			"%w is open; name one (irctl incident list --all shows all; irctl incident reopen opens a closed one "+
				"again)",
			incident.ErrNotFound)
	case 1:
		return open[0].ID, nil
	}
	const most = 10
	var names []string
	for _, i := range open[:min(len(open), most)] {
		names = append(names, fmt.Sprintf("%s (%s)", i.ID, targetNames(i)))
	}
	if len(open) > most {
		names = append(names, fmt.Sprintf("and %d more", len(open)-most))
	}
	return "", usagef("%d incidents are open: name one: %s", len(open), strings.Join(names, ", "))
}
