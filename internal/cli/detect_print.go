package cli

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"irctl/internal/plural"
	"irctl/internal/sanitize"
	"irctl/internal/steps/detect"
)

func (a *App) printSuspects(found detectResult, top int) error {
	found.Top(top)
	a.printReading(found.Result)
	names := named(found.Suspects, func(s detect.Suspect) string { return s.Kind + "/" + s.Name })
	if found.Incident != "" {
		names = []string{"incident/" + found.Incident}
	}
	if done, err := a.printNamed(found, names...); done || err != nil {
		return err
	}
	st := a.style(a.OutTerminal)
	habits := 0
	for _, s := range found.Suspects {
		if !s.Score.Sign() && !a.verbose {
			habits++
			continue
		}
		a.printSuspect(s, st)
	}
	if habits == len(found.Suspects) {
		sign := st.good("✓")
		if found.incomplete() {
			sign = st.warn("!")
		}
		fmt.Fprintf(a.Out, "%s %s\n", sign, noSign(found.Result))
	}
	if habits > 0 {
		fmt.Fprintf(a.Out, "%s\n", st.dim(fmt.Sprintf("· %s of less weight, with no sign of an attack (-v shows them)",
			plural.Count(habits, "suspect"))))
	}
	if found.More > 0 {
		fmt.Fprintf(a.Out, "%s\n", st.dim(fmt.Sprintf("· %d more, all of less weight (--top 0 shows all)", found.More)))
	}
	if found.Incident != "" {
		a.printOpened(found.Suspects[0], found.Incident, found.Opened)
	}
	return nil
}

// incomplete: not everything could be looked at, or read.
func (d detectResult) incomplete() bool { return len(d.Gaps) > 0 || d.Err() != nil }

// noSign says that nothing was found, and in how much.
func noSign(res *detect.Result) string {
	if (detectResult{Result: res}).incomplete() {
		return "no sign of an attack in what could be looked at; what could not be is named above"
	}
	return "no sign of an attack"
}

// printReading tells what could not be looked at, and what could not be read.
func (a *App) printReading(res *detect.Result) {
	st := a.style(a.ErrTerminal)
	lines, errs := res.Gaps.Lines()
	for i, line := range lines {
		fmt.Fprintf(a.Err, "%s %s\n", st.warn("!"), sanitize.Line(line))
		if hint := explain(errs[i]); hint != "" && a.verbose {
			fmt.Fprintf(a.Err, "    %s %s\n", st.dim("→"), sanitize.Line(hint))
		}
	}
	for _, s := range res.Sources {
		var notes []string
		if s.Malformed > 0 && s.Malformed < s.Lines { // else it is a gap, and told above
			notes = append(notes, fmt.Sprintf("%s passed over (the first: %s)",
				plural.Count(int(s.Malformed), "malformed line"), s.Example))
		}
		if s.Long > 0 {
			notes = append(notes, fmt.Sprintf("%s judged by the first megabyte, if at all",
				plural.Count(int(s.Long), "line")))
		}
		if s.Old > 0 {
			notes = append(notes, fmt.Sprintf("%s older than --since", plural.Count(int(s.Old), "finding")))
		}
		if len(notes) > 0 || a.verbose {
			fmt.Fprintf(a.Err, "%s %s\n", st.warn("!"),
				sanitize.Line(fmt.Sprintf("%s: %s read; %s", s.Path, plural.Count(int(s.Lines), "line"),
					strings.Join(notes, ", "))))
		}
	}
	if res.Dropped > 0 {
		fmt.Fprintf(a.Err, "%s %s of the least weight left out: there were too many\n", st.warn("!"),
			plural.Count(int(res.Dropped), "finding"))
	}
}

// manyFindings is from how many on those of a suspect are cut, unless -v.
const manyFindings = 8

func (a *App) printSuspect(s detect.Suspect, st style) {
	about := []string{}
	for _, part := range []string{s.Subject.Workload, s.Subject.Node} {
		if part != "" && s.Kind == "pod" {
			about = append(about, part)
		}
	}
	switch {
	case s.Incident != "":
		about = append(about, "contained in incident "+s.Incident)
	case s.Gone:
		about = append(about, "it is gone")
	}
	tail := ""
	if len(about) > 0 {
		tail = "  (" + sanitize.Line(strings.Join(about, ", ")) + ")"
	}
	fmt.Fprintf(a.Out, "%d. %s %s%s\n", s.Rank, severityText(st, s.Severity, fmt.Sprintf("%s %d", s.Severity, s.Score)),
		st.bold(sanitize.Line(s.Kind+" "+s.Name)), tail)
	shown, habits := 0, 0
	for _, f := range s.Findings {
		if !a.verbose && (!f.Score.Sign() || shown == manyFindings) {
			habits++
			continue
		}
		shown++
		a.printFinding(f, st)
	}
	if habits > 0 {
		fmt.Fprintf(a.Out, "   %s\n", st.dim(fmt.Sprintf("· %s of less weight (-v shows them)",
			plural.Count(habits, "finding"))))
	}
}

func (a *App) printFinding(f detect.Finding, st style) {
	sign := st.warn("!")
	if f.Score.AtLeastHigh() {
		sign = st.bad("✗")
	}
	if !f.Score.Sign() {
		sign = st.dim("·")
	}
	fmt.Fprintf(a.Out, "   %s %s\n     %s\n", sign, sanitize.Line(f.Reason), st.dim(sanitize.Line(findingNote(f))))
}

// findingNote says from where a finding is, when it was, and what technique.
func findingNote(f detect.Finding) string {
	parts := []string{string(f.Source)}
	if f.Code != string(f.Source) {
		parts[0] += " " + f.Code
	}
	if f.Technique.ID != "" {
		parts = append(parts, f.Technique.ID+" "+f.Technique.Name)
	}
	if !f.FirstSeen.IsZero() {
		parts = append(parts, f.FirstSeen.Format(time.RFC3339))
	}
	if f.Count > 1 {
		times := fmt.Sprintf("%d times", f.Count)
		if f.LastSeen.After(f.FirstSeen) {
			times += ", last " + f.LastSeen.Format(time.RFC3339)
		}
		parts = append(parts, times)
	}
	return strings.Join(parts, " · ")
}

func severityText(st style, s detect.Severity, text string) string {
	switch s {
	case detect.Critical, detect.High:
		return st.bad(text)
	case detect.Medium:
		return st.warn(text)
	}
	return st.dim(text)
}

// printOpened says what was opened, and what comes next.
func (a *App) printOpened(s detect.Suspect, id string, created bool) {
	st := a.style(a.OutTerminal)
	did := "opened"
	if !created {
		did = "joined: it is open already"
	}
	fmt.Fprintf(a.Out, "%s incident %s %s\n", st.good("✓"), id, did)
	if s.Kind == "pod" && !s.Gone {
		fmt.Fprintf(a.Out, "  %s irctl contain --pod %s -n %s --incident %s --dry-run\n", st.dim("→"),
			sanitize.Line(s.Subject.Pod), sanitize.Line(s.Subject.Namespace), id)
	}
}

// printAsItComes prints one finding on one line; those that are no sign of an
// attack with -v only.
func (a *App) printAsItComes(f detect.Finding) {
	if !f.Score.Sign() && !a.verbose {
		return
	}
	kind, name := f.Subject.Suspect()
	switch a.output {
	case asJSON, asYAML: // a stream of documents is JSON lines in either
		if err := a.printLine(f); err != nil {
			fmt.Fprintf(a.Err, "error: %s\n", sanitize.Line(err.Error()))
		}
	case asName:
		fmt.Fprintln(a.Out, sanitize.Line(kind+"/"+name))
	default:
		st := a.style(a.OutTerminal)
		fmt.Fprintf(a.Out, "%s %s\n  %s\n  %s\n",
			severityText(st, f.Severity, fmt.Sprintf("%s %d", f.Severity, f.Score)),
			st.bold(sanitize.Line(kind+" "+name)),
			sanitize.Line(f.Reason), st.dim(sanitize.Line(findingNote(f))))
	}
}

// printLine prints a finding as one line of JSON.
func (a *App) printLine(f detect.Finding) error {
	text, err := objectText(kindFinding, f)
	if err != nil {
		return err
	}
	_, err = a.Out.Write(append(bytes.TrimSpace(sanitize.JSON(text)), '\n'))
	return err
}
