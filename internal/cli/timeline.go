package cli

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"irctl/internal/incident"
	"irctl/internal/report"
	"irctl/internal/sanitize"
	"irctl/internal/timeline"
)

func (a *App) timelineCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "timeline", Short: "Show, annotate, verify and export an incident's timeline",
		RunE: needsSubcommand}
	var id string
	cmd.PersistentFlags().StringVar(&id, "incident", "", onlyOpen)
	a.mustComplete(cmd, "incident", a.completeIncidents)
	cmd.AddCommand(a.timelineShow(&id), a.timelineNote(&id), a.timelineVerify(&id), a.timelineExport(&id))
	for _, sub := range cmd.Commands() {
		takesIncident(sub, &id, onlyOpen)
	}
	return cmd
}

func (a *App) timelineShow(prefix *string) *cobra.Command {
	return &cobra.Command{Use: "show [INCIDENT]", Short: "Show what was done, by whom, when", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			store, id, err := a.storeOf(c.Context(), *prefix)
			if err != nil {
				return err
			}
			if i, err := store.Load(id); err == nil {
				a.tellDoubts(i)
			}
			entries, readErr := store.Entries(id)
			if err := a.printTimeline(entries); err != nil {
				return err
			}
			return readErr // what is before a break was shown
		}}
}

func (a *App) printTimeline(entries []timeline.Entry) error {
	if done, err := a.printObject(map[string]any{"entries": entries}); done || err != nil {
		return err
	}
	rows := [][]string{{"TIME", "WHO", "STEP", "WHAT", "OUTCOME"}}
	for _, e := range entries {
		if e.Kind == timeline.KindIntent && !a.verbose && hasOutcome(entries, e.Seq) {
			continue // its outcome says the same
		}
		rows = append(rows, a.fitted(timelineRow(e)))
		if a.verbose && e.Command != "" {
			rows = append(rows, []string{"", "", "", "  $ " + e.Command})
		}
	}
	return table(a.Out, rows)
}

// fitted makes a row fit on one line of the terminal; -v and pipes get all of it.
func (a *App) fitted(row []string) []string {
	const gap, steps, outcome, least = 3, len("suspend-controllers"), 24, 20
	if a.Width == 0 || a.verbose {
		return row
	}
	row[4] = sanitize.Short(row[4], outcome)
	rest := a.Width - len(row[0]) - utf8.RuneCountInString(row[1]) - steps - outcome - 4*gap
	if rest < least {
		// The day is known, and who it was mostly too.
		if _, clock, ok := strings.Cut(row[0], "T"); ok {
			row[0], _, _ = strings.Cut(clock, ".")
		}
		row[1] = sanitize.Short(row[1], 8)
		row[4] = sanitize.Short(row[4], 10)
		rest = a.Width - len("15:04:05") - 9 - len("quarantine") - 11 - 4*gap
	}
	row[3] = sanitize.Short(row[3], max(rest, least))
	return row
}

func hasOutcome(entries []timeline.Entry, intent int64) bool {
	for _, e := range entries {
		if e.Kind == timeline.KindOutcome && e.Intent == intent {
			return true
		}
	}
	return false
}

func timelineRow(e timeline.Entry) []string {
	who := e.Actor.OSUser
	if e.Actor.Identity != "" {
		who += " as " + e.Actor.Identity
	}
	what := sanitize.Short(e.Summary, 160)
	outcome := string(e.Outcome)
	switch {
	case e.Kind == timeline.KindIntent:
		outcome = "begun"
	case e.Kind == timeline.KindVerdict:
		outcome = "verdict"
	case outcome == "":
		outcome = string(e.Kind)
	}
	if e.Error != "" {
		outcome += ": " + sanitize.Short(e.Error, 120)
	}
	return []string{e.Time.UTC().Format("2006-01-02T15:04:05.000Z"), dash(who), dash(e.Step), what, outcome}
}

func (a *App) timelineNote(prefix *string) *cobra.Command {
	return &cobra.Command{Use: "note TEXT…", Short: "Write a note into the timeline",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || strings.TrimSpace(strings.Join(args, " ")) == "" {
				return usagef("what is to be noted?")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := a.context(c)
			defer cancel()
			store, err := a.storeToWrite()
			if err != nil {
				return err
			}
			id, err := findIncident(ctx, store, *prefix)
			if err != nil {
				return err
			}
			signalsOf(ctx).changing(id)
			e, err := store.Append(id, timeline.LocalActor(),
				timeline.Entry{Kind: timeline.KindNote, Summary: strings.Join(args, " ")})
			if err != nil {
				return err
			}
			return a.printTimeline([]timeline.Entry{e})
		}}
}

func (a *App) timelineVerify(prefix *string) *cobra.Command {
	return &cobra.Command{Use: "verify [FILE | incident/ID]",
		Short: "Check that nothing in the timeline was edited, deleted or reordered", Args: atMostOneArg,
		Long: `Check the chain of digests of a timeline. Each entry carries the SHA-256 of the line
before it, so any edit, deletion or reorder breaks the chain where it was made. FILE is
a copy of a timeline.jsonl. Exit code 1 if anything is wrong.`,
		RunE: func(c *cobra.Command, args []string) error {
			report, err := a.verifyTimeline(c, *prefix, first(args))
			if err != nil {
				return err
			}
			return a.printReport(report)
		}}
}

func (a *App) verifyTimeline(c *cobra.Command, prefix, file string) (timeline.Report, error) {
	if file != "" && prefix != "" {
		return timeline.Report{}, usagef("give either a FILE or an incident")
	}
	if file != "" {
		return timeline.Verify(file)
	}
	store, id, err := a.storeOf(c.Context(), prefix)
	if err != nil {
		return timeline.Report{}, err
	}
	return store.Verify(id)
}

func (a *App) printReport(r timeline.Report) error {
	done, err := a.printObject(map[string]any{"ok": r.OK(), "report": r})
	if err != nil {
		return err
	}
	if !done {
		st := a.style(a.OutTerminal)
		for _, p := range r.Problems {
			fmt.Fprintf(a.Out, "%s %s\n", st.bad("✗"), sanitize.Line(p.String()))
		}
		if r.MoreProblems > 0 {
			fmt.Fprintf(a.Out, "%s and %d more\n", st.bad("✗"), r.MoreProblems)
		}
		for _, w := range r.Warnings {
			fmt.Fprintf(a.Out, "%s %s\n", st.warn("!"), sanitize.Line(w))
		}
		if r.OK() {
			fmt.Fprintf(a.Out, "%s %d entries, unbroken, from %s to %s\n", st.good("✓"), r.Entries,
				r.First.UTC().Format(time.RFC3339), r.Last.UTC().Format(time.RFC3339))
			if r.HeadFile == nil {
				fmt.Fprintf(a.Out, "%s no head file: whether entries are missing at the end cannot be told\n",
					st.warn("!"))
			}
		}
		fmt.Fprintf(a.Out, "  head: entry %d, sha256 %s\n", r.Head.Seq, r.Head.SHA256)
	}
	if !r.OK() {
		return exitError{code: ExitError, err: fmt.Errorf("the timeline of incident %s is not as it was written: %s",
			r.Incident, r.Problems[0])}
	}
	return nil
}

// exports are the formats of a timeline for others than irctl.
var exports = []string{"markdown", "csv", "jsonl"}

func (a *App) timelineExport(prefix *string) *cobra.Command {
	var format, path string
	cmd := &cobra.Command{Use: "export [INCIDENT]", Short: "Write the timeline as Markdown, CSV or JSON lines",
		Args: noArgs, RunE: func(c *cobra.Command, _ []string) error {
			if !slices.Contains(exports, format) {
				return usagef("--format %s: use markdown, csv or jsonl", format)
			}
			store, id, err := a.storeOf(c.Context(), *prefix)
			if err != nil {
				return err
			}
			i, entries, err := recorded(store, id)
			if err != nil {
				return err
			}
			a.tellDoubts(i)
			write := func(w io.Writer) error { return exportTimeline(w, format, i, entries) }
			if format == "jsonl" {
				// Byte for byte, so that the copy can be verified.
				write = func(w io.Writer) error { return copyTimeline(w, store, id) }
			}
			if path == "" || path == "-" {
				return write(a.Out)
			}
			return writeNew(path, write)
		}}
	cmd.Flags().StringVar(&format, "format", "markdown", "markdown, csv or jsonl")
	cmd.Flags().StringVarP(&path, "file", "f", "", "a new file to write to (default: standard output)")
	a.mustComplete(cmd, "format", cobra.FixedCompletions(exports, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// writeNew writes a file that must not exist.
func writeNew(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("exporting the timeline: %w", err)
	}
	err = write(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("exporting the timeline to %s: %w", path, err)
	}
	return nil
}

func copyTimeline(w io.Writer, store *incident.Store, id incident.ID) error {
	path, err := store.TimelinePath(id)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	_, err = io.Copy(w, f)
	return err
}

func exportTimeline(w io.Writer, format string, i incident.Incident, entries []timeline.Entry) error {
	if format == "csv" {
		return exportCSV(w, entries)
	}
	var b strings.Builder
	fmt.Fprintf(&b,
		"# Timeline of incident %s\n\n%s\n\n| time (UTC) | who | step | what | outcome |\n|---|---|---|---|---|\n",
		i.ID, report.EscapeMarkdown(i.Title))
	for _, e := range entries {
		if e.Kind == timeline.KindIntent && hasOutcome(entries, e.Seq) {
			continue
		}
		row := timelineRow(e)
		for n := range row {
			row[n] = report.EscapeMarkdown(row[n])
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func exportCSV(w io.Writer, entries []timeline.Entry) error {
	rows := [][]string{{"seq", "time", "kind", "who", "identity", "step", "action", "object", "summary", "outcome",
		"error", "command"}}
	for _, e := range entries {
		object := ""
		if e.Object != nil {
			object = e.Object.Kind + " " + e.Object.Namespace + "/" + e.Object.Name
		}
		cells := []string{strconv.FormatInt(e.Seq, 10), e.Time.UTC().Format(time.RFC3339Nano), string(e.Kind),
			e.Actor.OSUser, e.Actor.Identity,
			e.Step, e.Action, object, e.Summary, string(e.Outcome), e.Error, e.Command}
		for n := range cells {
			cells[n] = csvSafe(cells[n])
		}
		rows = append(rows, cells)
	}
	return csv.NewWriter(w).WriteAll(rows)
}

// csvSafe keeps a spreadsheet from taking what an attacker wrote for a formula.
// https://owasp.org/www-community/attacks/CSV_Injection
func csvSafe(s string) string {
	s = sanitize.Line(s)
	if s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
		return "'" + s
	}
	return s
}
