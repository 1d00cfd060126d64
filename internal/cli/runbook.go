package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"irctl/internal/engine"
	"irctl/internal/plural"
	"irctl/internal/runbook"
	"irctl/internal/sanitize"
	"irctl/runbooks"
)

var builtInRunbooks = runbooks.Files

func (a *App) runbookCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "runbook", Short: "List, show, check, write and draw runbooks", RunE: needsSubcommand}
	var dir string
	cmd.PersistentFlags().StringVar(&dir, "runbook-dir", "",
		"a folder of runbooks, which come before those of the configuration and the built-in ones")
	cmd.AddCommand(a.runbookList(&dir), a.runbookShow(&dir), a.runbookLint(&dir), a.runbookNew(&dir),
		a.runbookGraph(&dir), a.runbookOperations(), a.runbookSchema())
	return cmd
}

func (a *App) completeRunbooks(_ *cobra.Command, args []string, _ string) ([]cobra.Completion,
	cobra.ShellCompDirective) {
	list, err := a.library("").List()
	if err != nil || len(args) > 0 {
		return nil, noFiles
	}
	var found []cobra.Completion
	for _, r := range list {
		found = append(found, cobra.CompletionWithDesc(r.Name, sanitize.Line(r.Title)))
	}
	return found, cobra.ShellCompDirectiveDefault // a path will do as well
}

func (a *App) runbookList(dir *string) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the runbooks there are, and where they come from", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			list, err := a.library(*dir).List()
			if err != nil {
				return err
			}
			names := named(list, func(r runbook.Listed) string { return runbookPrefix + r.Name })
			if done, err := a.printNamed(map[string]any{"runbooks": list}, names...); done || err != nil {
				return err
			}
			rows := [][]string{{"RUNBOOK", "VERSION", "TITLE", "SOURCE"}}
			for _, r := range list {
				source := r.Source
				if len(r.Hides) > 0 {
					source += " (instead of " + strings.Join(r.Hides, ", ") + ")"
				}
				title := r.Title
				if r.Error != "" {
					title = "cannot be run: " + r.Error
				}
				rows = append(rows, []string{r.Name, dash(r.Version), sanitize.Short(title, 80), source})
			}
			return table(a.Out, rows)
		}}
}

func (a *App) oneRunbook(cmd *cobra.Command, run func(ref string) error) *cobra.Command {
	cmd.ValidArgsFunction = a.completeRunbooks
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("which runbook? irctl runbook list shows them")
		}
		return nil
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		err := run(runbookRef(args[0]))
		if errors.Is(err, runbook.ErrNotFound) {
			return usageError{err}
		}
		return err
	}
	return cmd
}

func (a *App) runbookShow(dir *string) *cobra.Command {
	cmd := &cobra.Command{Use: "show RUNBOOK",
		Short: "Show a runbook: parameters, contacts, steps; -o yaml prints its file"}
	return a.oneRunbook(cmd, func(ref string) error {
		l := a.library(*dir)
		if a.output == asYAML {
			text, err := l.Text(ref)
			if err == nil {
				_, err = a.Out.Write(text)
			}
			return err
		}
		r, err := l.Find(ref)
		if err != nil {
			return err
		}
		if done, err := a.printNamed(r, runbookPrefix+r.Name); done || err != nil {
			return err
		}
		return a.showRunbook(r)
	})
}

func (a *App) showRunbook(r *runbook.Runbook) error {
	conf, err := a.configuration()
	if err != nil {
		return err
	}
	st := a.style(a.OutTerminal)
	p := func(indent, text string) {
		for line := range strings.Lines(strings.TrimRight(text, "\n")) {
			fmt.Fprintf(a.Out, "%s%s\n", indent, sanitize.Line(strings.TrimRight(line, "\n")))
		}
	}
	fmt.Fprintf(a.Out, "%s %s  %s\n", st.bold(r.Name), r.Version, sanitize.Line(r.Title))
	p("  ", fmt.Sprintf("%s, sha256 %s", r.Source, r.SHA256))
	p("  ", r.Summary)
	if len(r.Contacts) > 0 {
		fmt.Fprintln(a.Out, st.bold("contacts"))
		p("  ", strings.Join(contactsOf(r, conf), "\n"))
	}
	if len(r.Parameters) > 0 {
		fmt.Fprintln(a.Out, st.bold("parameters"))
	}
	for i := range r.Parameters {
		param := &r.Parameters[i]
		note := "default " + dash(runbook.Format(param.Fallback()))
		if param.Required {
			note = "required"
		}
		p("  ", fmt.Sprintf("%s  %s, %s", param.Name, param.Domain(), note))
		p("      ", strings.TrimSpace(param.Question()+"\n"+param.Doc))
	}
	for _, phase := range r.Phases {
		fmt.Fprintln(a.Out, st.bold(string(phase.Name)))
		for i := range phase.Steps {
			a.showStep(&phase.Steps[i], p)
		}
	}
	return nil
}

func (a *App) showStep(s *runbook.Step, p func(indent, text string)) {
	p("  ", fmt.Sprintf("%s  %s: %s", s.Name, s.Uses, s.Label()))
	if s.When != "" {
		p("      ", "only if "+strings.Join(strings.Fields(s.When), " "))
	}
	p("      ", s.Why)
	if s.Handling() != runbook.Stop {
		p("      ", "if it is not done: "+string(s.Handling()))
	}
}

func (a *App) runbookLint(dir *string) *cobra.Command {
	return &cobra.Command{Use: "lint FILE…", Short: "Check runbooks; what is wrong is told with line and column",
		ValidArgsFunction: a.completeRunbooks,
		Long: `Check runbooks: against the schema, and every input, expression, type and name in them.
Each argument is a file, or the name of a runbook. Exit code 1 if one cannot be run;
warnings do not count.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which files?")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.lint(*dir, args) }}
}

// runbookRef is how a runbook is named, without what -o name prints before it,
// unless there is a file of that path.
func runbookRef(ref string) string {
	name, printed := strings.CutPrefix(ref, runbookPrefix)
	if _, err := os.Lstat(ref); !printed || err == nil || runbook.IsPath(name) {
		return ref
	}
	return name
}

// runbookPrefix is before a runbook's name where -o name prints it.
const runbookPrefix = "runbook/"

func (a *App) lint(dir string, refs []string) error {
	problems := []runbook.Problem{}
	bad := 0
	for _, ref := range refs {
		found, err := a.problemsOf(dir, runbookRef(ref))
		if err != nil {
			return err
		}
		if slices.ContainsFunc(found, func(p runbook.Problem) bool { return !p.Warning }) {
			bad++
		}
		problems = append(problems, found...)
	}
	done, err := a.printObject(map[string]any{"ok": bad == 0, "problems": problems})
	if err != nil {
		return err
	}
	if !done {
		for _, p := range problems {
			fmt.Fprintln(a.Out, sanitize.Line(p.String()))
		}
		if bad == 0 {
			fmt.Fprintf(a.Err, "%s can be run\n", plural.Count(len(refs), "runbook"))
		}
	}
	if bad > 0 {
		return exitError{code: ExitError}
	}
	return nil
}

func (a *App) problemsOf(dir, ref string) ([]runbook.Problem, error) {
	if runbook.IsPath(ref) {
		data, err := runbook.ReadFile(ref)
		if err != nil {
			return nil, err
		}
		_, problems := runbook.Parse(data, ref, engine.Operations())
		return problems, nil
	}
	_, err := a.library(dir).Find(ref)
	var invalid *runbook.InvalidError
	if errors.As(err, &invalid) {
		return invalid.Problems, nil
	}
	if errors.Is(err, runbook.ErrNotFound) {
		return nil, usageError{err}
	}
	return nil, err
}

func (a *App) runbookNew(dir *string) *cobra.Command {
	var file, from string
	cmd := &cobra.Command{Use: "new NAME", Short: "Write a new runbook to begin with",
		Long: `Write a new runbook, commented, or a copy of another one: with --from compromised-pod
a team makes that one its own. The file must not exist yet; -f - prints it.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("what is it to be called?")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.newRunbook(*dir, args[0], from, file) }}
	cmd.Flags().StringVarP(&file, "file", "f", "",
		"the file to write (default: NAME.yaml in --runbook-dir, or in the configuration's folder of runbooks)")
	cmd.Flags().StringVar(&from, "from", "", "the runbook to copy, by name or path")
	return cmd
}

func (a *App) newRunbook(dir, name, from, file string) error {
	text, err := runbook.New(name)
	if err != nil {
		return usageError{err}
	}
	if from != "" {
		original, err := a.library(dir).Text(runbookRef(from))
		if err != nil {
			return err
		}
		text = renamed(string(original), name)
	}
	if file == "-" {
		if a.output != asTable {
			return usagef("-o %s does not go with -f -, which prints the runbook", a.output)
		}
		_, err := io.WriteString(a.Out, text)
		return err
	}
	if file == "" {
		if dir == "" {
			dir = runbook.UserDir(a.Getenv)
		}
		if dir == "" {
			return usagef("where to? give -f FILE, since there is no folder of configuration")
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("the folder of runbooks: %w", err)
		}
		file = filepath.Join(dir, name+".yaml")
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("writing the runbook: %w", err)
	}
	_, err = io.WriteString(f, text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing the runbook %s: %w", file, err)
	}
	if done, err := a.printNamed(map[string]any{"name": name, "file": file}, file); done || err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.Out, sanitize.Line(file))
	return err
}

// renamed is a runbook under another name; its comments stay.
func renamed(text, name string) string {
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "name:") {
			lines[i] = "name: " + name + "\n"
			break
		}
	}
	return strings.Join(lines, "")
}

func (a *App) runbookGraph(dir *string) *cobra.Command {
	var format string
	cmd := &cobra.Command{Use: "graph RUNBOOK", Short: "Draw a runbook: as a tree, or for Mermaid"}
	cmd.Flags().StringVar(&format, "format", "tree", "tree or mermaid")
	a.mustComplete(cmd, "format", cobra.FixedCompletions([]string{"tree", "mermaid"},
		cobra.ShellCompDirectiveNoFileComp))
	return a.oneRunbook(cmd, func(ref string) error {
		r, err := a.library(*dir).Find(ref)
		if err != nil {
			return err
		}
		var text string
		switch format {
		case "tree":
			text = r.Tree()
		case "mermaid":
			text = r.Mermaid()
		default:
			return usagef("--format %s: use tree or mermaid", format)
		}
		for line := range strings.Lines(text) {
			fmt.Fprintln(a.Out, sanitize.Line(strings.TrimRight(line, "\n")))
		}
		return nil
	})
}

func (a *App) runbookOperations() *cobra.Command {
	return &cobra.Command{Use: "operations", Short: "List what a step can use, with inputs and results", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			list := engine.Operations()
			names := named(list, func(s runbook.Signature) string { return s.Name })
			if done, err := a.printNamed(map[string]any{"operations": list}, names...); done || err != nil {
				return err
			}
			_, err := io.WriteString(a.Out, runbook.Reference(list))
			return err
		}}
}

func (a *App) runbookSchema() *cobra.Command {
	return &cobra.Command{Use: "schema", Short: "Print the JSON Schema of runbooks, for editors", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.printSchema(runbook.SchemaOf(engine.Operations()))
		}}
}

func (a *App) printSchema(s *runbook.Schema) error {
	text, err := s.JSON()
	if err == nil {
		_, err = a.Out.Write(text)
	}
	return err
}
