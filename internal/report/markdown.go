package report

import (
	"fmt"
	"io"
	"strings"

	"irctl/internal/incident"
)

// maxRows bounds a table of the renderings for people; the JSON has all.
const maxRows = 10_000

// Markdown writes the report for a code host or a wiki: CommonMark with the
// tables and task lists of GitHub and GitLab.
func (r *Report) Markdown(w io.Writer) error {
	d := &document{}
	if r.Incident.Drill {
		d.printf("# DRILL: post-mortem of incident %s\n\n> **This was a drill, on a simulated cluster: nothing in "+
			"this report happened.**\n", r.Incident.ID)
	} else {
		d.printf("# Post-mortem of incident %s\n", r.Incident.ID)
	}
	d.integrityWarning(r.Chain)
	d.doubts(r.Doubts)
	d.facts(r)
	d.printf("\n## Summary\n\n")
	for _, s := range r.Summary {
		d.printf("- %s\n", s)
	}
	d.times(r)
	d.people(r)
	d.exposures(r.Exposures, r.WayIn)
	d.observed("Put back by somebody", r.PutBack, "Nothing was seen to be put back by a controller or a person.")
	d.evidence(r.Evidence)
	d.rotations(r.Rotations)
	d.deviations(r.Deviations)
	d.lessons(r.ActionItems)
	d.actions(r.Actions)
	d.timeline(r.Timeline)
	for _, c := range r.Checklists {
		d.printf("\n## Checklist: %s\n\n", c.Title)
		for _, item := range c.Items {
			d.printf("- [ ] %s\n", item)
		}
	}
	d.integrity(r)
	_, err := io.WriteString(w, d.String())
	return err
}

// document is Markdown being written.
type document struct{ strings.Builder }

// printf is fmt.Fprintf, but that a Text among the values, also an empty one,
// is escaped.
func (d *document) printf(format string, values ...any) {
	for i, v := range values {
		if t, ok := v.(Text); ok {
			values[i] = EscapeMarkdown(t.String())
		}
	}
	fmt.Fprintf(d, format, values...)
}

// table writes the rows for which fill returns cells, at most maxRows.
func (d *document) table(header []string, n int, fill func(i int) []any) {
	d.printf("| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat(" --- |", len(header)))
	for i := range min(n, maxRows) {
		for _, cell := range fill(i) {
			d.printf("| %v ", cell)
		}
		d.printf("|\n")
	}
	if n > maxRows {
		d.printf("\n%d more are not shown: see `irctl report --format json`.\n", n-maxRows)
	}
}

func (d *document) integrityWarning(c Chain) {
	switch c.State {
	case Broken:
		d.printf("\n> **The record of this incident cannot be trusted: the chain of its journal is broken.**\n")
		d.printf("> This report is made from the %s before the break; whatever came after it is missing here.\n>\n",
			entries(c.Used))
		for _, p := range c.Problems {
			d.printf("> - %s\n", p)
		}
	case Torn:
		d.printf("\n> The last line of the journal is torn: its writer was killed, or is writing now. It was never " +
			"acknowledged.\n")
	}
}

// doubts come before everything that may be less than all.
func (d *document) doubts(list []Doubt) {
	if len(list) == 0 {
		return
	}
	title := "What the files of this incident do not tell, or tell otherwise than they should:"
	if doubtsWeigh(list) {
		title = "More may stand, or have been done, than this report tells:"
	}
	d.printf("\n> **%s**\n>\n", title)
	for _, t := range list {
		d.printf("> - %s\n", t.Text)
	}
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

func (d *document) facts(r *Report) {
	i := r.Incident
	rows := [][2]any{{"Title", orNot(i.Title, "not recorded")}, {"Severity", orNot(i.Severity, "not recorded")},
		{"Impact", orNot(i.Impact, "not recorded")},
		{"State", string(i.State)}, {"Opened", when(i.OpenedAt)}}
	if i.ClosedAt != nil {
		rows = append(rows, [2]any{"Closed", when(*i.ClosedAt)})
	}
	rows = append(rows, [2]any{"Verdict", verdictText(r)}, [2]any{"Cluster", clusterText(i)})
	if r.LeftStanding != nil {
		rows = append(rows, [2]any{"Containment left standing", Text(r.LeftStanding.String())})
	}
	for _, t := range i.Targets[:min(len(i.Targets), maxRows)] {
		text := t.Label()
		if t.Workload != "" {
			text += " of " + t.Workload
		}
		rows = append(rows, [2]any{"Suspect", text})
	}
	d.printf("\n")
	d.table([]string{"", ""}, len(rows), func(n int) []any { return rows[n][:] })
}

func orNot(t, otherwise Text) Text {
	if t == "" {
		return otherwise
	}
	return t
}

func verdictText(r *Report) Text {
	if r.Verdict == nil {
		return "none is recorded"
	}
	v := r.Verdict
	text := v.Words() + Text(" ("+when(v.Time)+")")
	switch {
	case v.Last != "":
		text = v.Words() + ": " + Text(v.Since) + "; the last verdict: " + v.Last + Text(" ("+when(v.Time)+")")
	case v.Since != "":
		text = v.Words() + ": " + Text(v.Since)
	}
	if r.Verdict.NotLooked != "" {
		text += "; the cluster was not looked at for this report: " + r.Verdict.NotLooked
	}
	return text
}

func clusterText(i Incident) Text {
	switch {
	case i.Context != "" && i.Server != "":
		return i.Context + " (" + i.Server + ")"
	case i.Server != "":
		return i.Server
	}
	return orNot(i.Context, "not recorded")
}

func (d *document) times(r *Report) {
	d.printf("\n## Times\n\n")
	d.table([]string{"time to", "took", "from", "to", "note"}, len(r.Durations), func(n int) []any {
		t := r.Durations[n]
		return []any{t.Name, t.Text(), t.From, t.To, Text(t.Note)}
	})
	d.printf("\n")
	d.table([]string{"moment", "when", "known from"}, len(r.Moments), func(n int) []any {
		m := r.Moments[n]
		return []any{m.Name, m.When(), m.Source}
	})
}

func (d *document) people(r *Report) {
	roles := r.roles()
	d.printf("\n## Roles and contacts\n\n")
	d.table([]string{"role", "who"}, len(roles), func(n int) []any {
		return []any{roles[n].Role, orNot(roles[n].Who, "not recorded")}
	})
	if len(r.Contacts) > 0 {
		d.printf("\nWhom the team has agreed to call:\n\n")
		d.table([]string{"role", "name", "e-mail", "phone", "chat"}, len(r.Contacts), func(n int) []any {
			c := r.Contacts[n]
			return []any{c.Role, c.Name, c.Email, c.Phone, c.Chat}
		})
	}
	if len(r.People) > 0 {
		d.printf("\nWho is in the journal:\n\n")
		d.table([]string{"who", "entries", "first", "last"}, len(r.People), func(n int) []any {
			p := r.People[n]
			return []any{p.Who, p.Entries, when(p.First), when(p.Last)}
		})
	}
}

// roles are the commander and the roles that were recorded.
func (r *Report) roles() []Role {
	return append([]Role{{"incident commander", r.Incident.Commander}}, r.Incident.Roles...)
}

func (d *document) exposures(list []Exposure, ways []WayIn) {
	d.printf("\n## What remained exposed\n\n")
	if len(ways) > 0 {
		d.table([]string{"the way in", "recorded", "what the record tells"}, len(ways), func(n int) []any {
			w := ways[n]
			recorded := "-"
			if w.Seq != 0 {
				recorded = when(w.At)
			}
			return []any{w.State, recorded, w.Text}
		})
		d.printf("\n")
	}
	if len(list) == 0 {
		d.printf("No verdict names anything.\n")
		return
	}
	d.printf("From the first verdict that names it to the first that no longer does. Before that first look all of " +
		"it was open too.\n\n")
	list = byWeight(list)
	d.table([]string{"weight", "what", "suspect", "first seen", "gone by", "how long", "what closes it"}, len(list),
		func(n int) []any {
			x := list[n]
			gone := "-"
			if !x.Open() {
				gone = when(x.GoneBy)
			}
			return []any{x.Severity, x.Code + ": " + x.Text, x.Target, when(x.FirstSeen), gone, x.Fate(), x.Close}
		})
}

func (d *document) observed(title string, list []Observed, none string) {
	d.printf("\n## %s\n\n", title)
	if len(list) == 0 {
		d.printf("%s\n", none)
		return
	}
	d.table([]string{"when", "what"}, len(list), func(n int) []any { return []any{when(list[n].Time), list[n].Text} })
}

func (d *document) evidence(list []Evidence) {
	d.printf("\n## Evidence\n\n")
	if len(list) == 0 {
		d.printf("No sealed evidence is recorded.\n")
		return
	}
	d.table([]string{"no.", "sealed", "file", "SHA-256", "size", "opened by", "state"}, len(list), func(n int) []any {
		e := list[n]
		return []any{fmt.Sprintf("E%d", e.Number), when(e.Time), e.File, e.SHA256, size(e.Size),
			Text(joined(e.Recipients)), e.State()}
	})
}

func joined(list []Text) string {
	parts := make([]string, len(list))
	for i, t := range list {
		parts[i] = string(t)
	}
	return strings.Join(parts, ", ")
}

// State is whether all is in the bundle that was to be.
func (e Evidence) State() Text {
	switch {
	case e.Complete:
		return "complete"
	case e.Incomplete != "":
		return "incomplete: " + e.Incomplete
	}
	return "incomplete: its INDEX.md says what is missing"
}

func (d *document) rotations(list []Action) {
	d.printf("\n## Secrets rotated\n\n")
	if len(list) == 0 {
		d.printf("None is recorded. Whatever a suspect could read must be taken for known to the attacker.\n")
		return
	}
	d.table([]string{"when", "what", "object", "result"}, len(list), func(n int) []any {
		a := list[n]
		return []any{when(a.Time), a.Summary, a.Object, a.Result()}
	})
}

func (d *document) deviations(list []Deviation) {
	d.printf("\n## Deviations\n\n")
	if len(list) == 0 {
		d.printf("Everything that was begun went as it was meant to.\n")
		return
	}
	d.table([]string{"when", "entry", "what", "outcome", "why"}, len(list), func(n int) []any {
		v := list[n]
		return []any{when(v.Time), v.Seq, v.What, Text(v.Outcome), v.Reason}
	})
}

func (d *document) lessons(items []ActionItem) {
	d.printf("\n## Lessons\n")
	for _, l := range lessons {
		d.printf("\n### %s\n\n%s\n\n- \n", l.Title, l.Hint)
	}
	d.printf("\n## Action items\n\n")
	d.table([]string{"what", "how", "who", "until"}, len(items)+1, func(n int) []any {
		if n == len(items) {
			return []any{"", "", "", ""}
		}
		return []any{items[n].Text, items[n].How, "", ""}
	})
}

func (d *document) actions(list []Action) {
	d.printf("\n## Actions\n\n")
	if len(list) == 0 {
		d.printf("None is recorded.\n")
		return
	}
	d.table([]string{"entry", "when", "who", "step", "what", "result"}, len(list), func(n int) []any {
		a := list[n]
		return []any{a.Seq, when(a.Time), a.Who, a.Step, a.Summary, a.Result()}
	})
	d.commands(list[:min(len(list), maxRows)])
}

// commands are the kubectl equivalents, to be read and copied: in a block that
// none of them can end.
func (d *document) commands(list []Action) {
	var b strings.Builder
	for _, a := range list {
		for _, c := range a.commands() {
			fmt.Fprintf(&b, "# %s\n%s\n", c.About, c.Command)
		}
	}
	if b.Len() == 0 {
		return
	}
	fence := "```"
	for strings.Contains(b.String(), fence) {
		fence += "`"
	}
	d.printf("\nThe kubectl commands that would have done the same:\n\n%ssh\n%s%s\n", fence, b.String(), fence)
}

// equivalent is a command and what it would have done.
type equivalent struct{ About, Command Text }

// commands of an action and of its undo. Templates and commands alike print
// them as one line each.
func (a Action) commands() []equivalent {
	var list []equivalent
	// What irctl alone can do says so in parentheses.
	if a.Command != "" && !strings.HasPrefix(string(a.Command), "(") {
		list = append(list, equivalent{Text(fmt.Sprintf("%d: ", a.Seq)) + a.Outcome + ": " + a.Summary, a.Command})
	}
	if a.Undo != nil && a.Undo.Command != "" {
		list = append(list, equivalent{Text(fmt.Sprintf("%d: undo: ", a.Undo.Seq)) + a.Summary, a.Undo.Command})
	}
	return list
}

func (d *document) timeline(list []Event) {
	d.printf("\n## Timeline\n\n")
	if len(list) == 0 {
		d.printf("Nothing is recorded.\n")
		return
	}
	d.table([]string{"entry", "when", "who", "phase", "what", "outcome", "evidence"}, len(list), func(n int) []any {
		e := list[n]
		link := ""
		if e.Evidence > 0 {
			link = fmt.Sprintf("[E%d](#evidence)", e.Evidence)
		}
		return []any{e.Seq, when(e.Time), e.Who, e.Phase, e.What, e.Result(), link}
	})
}

func (d *document) integrity(r *Report) {
	c := r.Chain
	d.printf("\n## Record\n\n")
	d.table([]string{"", ""}, 4, func(n int) []any {
		return [][]any{{"Chain of the journal", c.Text()}, {"Head", fmt.Sprintf("entry %d", c.Head.Seq)},
			{"SHA-256 of the head", Text(c.Head.SHA256)},
			{"Report", fmt.Sprintf("made %s by ", when(r.GeneratedAt)) + EscapeMarkdown(r.Tool.String())}}[n]
	})
	for _, w := range c.Warnings {
		d.printf("\n- %s", w)
	}
	if len(c.Warnings) > 0 {
		d.printf("\n")
	}
	d.printf(
		"\nThe head stands for the whole journal: where it was noted elsewhere at the time, it proves this record.\n")
	if r.Incident.State == incident.StateOpen {
		d.printf("The incident is open: entries made since this report are not in it.\n")
	}
}

// Text says how the verification ended.
func (c Chain) Text() Text {
	switch {
	case c.State == Broken:
		return Text(fmt.Sprintf("BROKEN: %s before the break are used here", entries(c.Used)))
	case c.State == Torn:
		return Text(fmt.Sprintf("verified, %s; the last line is torn", entries(int(c.Entries))))
	case !c.EndKnown:
		return Text(fmt.Sprintf("verified, %s; whether some were cut off the end cannot be told",
			entries(int(c.Entries))))
	}
	return Text(fmt.Sprintf("verified, %s, unbroken", entries(int(c.Entries))))
}
