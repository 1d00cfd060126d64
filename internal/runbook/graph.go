package runbook

import (
	"fmt"
	"strings"
)

// Mermaid draws the runbook as a flowchart: a subgraph a phase, a node a step,
// a rhombus where a person decides. A step with a condition has a dashed border
// and the condition on the edge that leads to it; if it does not hold, the step
// is passed over.
func (r *Runbook) Mermaid() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%%%% %s %s\nflowchart TD\n", r.Name, r.Version)
	for _, phase := range r.Phases {
		fmt.Fprintf(&b, "  subgraph phase_%s [%s]\n", strings.ReplaceAll(string(phase.Name), "-", "_"), phase.Name)
		for i := range phase.Steps {
			s := &phase.Steps[i]
			left, right := s.shape()
			fmt.Fprintf(&b, "    %s%s\"%s<br/><small>%s</small>\"%s\n", s.Name, left, mermaid(s.Label()),
				mermaid(s.Uses), right)
		}
		b.WriteString("  end\n")
	}
	var before *Step
	for _, s := range r.Steps() {
		switch {
		case before == nil:
		case s.When != "":
			fmt.Fprintf(&b, "  %s -->|\"if %s\"| %s\n", before.Name, mermaid(s.When), s.Name)
		default:
			fmt.Fprintf(&b, "  %s --> %s\n", before.Name, s.Name)
		}
		before = s
	}
	b.WriteString("  classDef conditional stroke-dasharray: 5 5\n")
	for _, s := range r.Steps() {
		if s.When != "" {
			fmt.Fprintf(&b, "  class %s conditional\n", s.Name)
		}
	}
	return b.String()
}

// shape is how a step is drawn.
func (s *Step) shape() (left, right string) {
	switch {
	case s.Uses == "manual" && s.inputs["answers"] != nil:
		return "{", "}"
	case s.Uses == "manual":
		return "[/", "/]"
	case s.Uses == "command":
		return "[[", "]]"
	}
	return "[", "]"
}

// mermaid escapes a text for a quoted label.
func mermaid(s string) string {
	return strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "&", "#amp;", "`", "#96;", "\n",
		" ").Replace(s)
}

// Tree draws the runbook for a terminal.
func (r *Runbook) Tree() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s  %s\n", r.Name, r.Version, r.Title)
	for i, phase := range r.Phases {
		branch, below := "├─ ", "│  "
		if i == len(r.Phases)-1 {
			branch, below = "└─ ", "   "
		}
		fmt.Fprintf(&b, "%s%s\n", branch, phase.Name)
		for j := range phase.Steps {
			s := &phase.Steps[j]
			leaf, rest := "├─ ", "│  "
			if j == len(phase.Steps)-1 {
				leaf, rest = "└─ ", "   "
			}
			fmt.Fprintf(&b, "%s%s%s  %s: %s\n", below, leaf, s.Name, s.Uses, s.Label())
			if s.When != "" {
				fmt.Fprintf(&b, "%s%s    when %s\n", below, rest, strings.Join(strings.Fields(s.When), " "))
			}
			if s.Handling() != Stop {
				fmt.Fprintf(&b, "%s%s    on error: %s\n", below, rest, s.Handling())
			}
		}
	}
	return b.String()
}
