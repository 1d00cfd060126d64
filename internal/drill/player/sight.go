package player

import (
	"regexp"
	"strings"
)

// Kind is what a screen of the terminal UI asks of who looks at it.
type Kind string

// The kinds.
const (
	Busy     Kind = ""         // nothing: it is at work, or no screen of the UI
	Briefing Kind = "briefing" // to read what the person on call is told
	Home     Kind = "home"     // to choose an incident or a suspect
	Prepare  Kind = "prepare"  // to check the runbook's parameters
	Question Kind = "question" // to answer, with a number
	Plan     Kind = "plan"     // to make the changes that are shown
	Ready    Kind = "ready"    // to run a step that changes nothing
	Armed    Kind = "armed"    // to confirm
	After    Kind = "after"    // to read what came of a step
	Failed   Kind = "failed"   // to try it again, or go on without it
	Paused   Kind = "paused"   // to go on with a walk that stopped
	End      Kind = "end"      // to leave
)

// signs are the words by which a kind is told, the first that is there.
var signs = []struct {
	kind  Kind
	words *regexp.Regexp
}{
	{End, regexp.MustCompile(`THE WALK IS GONE THROUGH`)},
	{Briefing, regexp.MustCompile(`Enter begins\.`)},
	{Armed, regexp.MustCompile(`Press Y to `)},
	{After, regexp.MustCompile(`Enter goes on\.`)},
	{Plan, regexp.MustCompile(`\(asks once more\)`)},
	{Ready, regexp.MustCompile(`r: run this step`)},
	{Question, regexp.MustCompile(`answer: `)},
	{Failed, regexp.MustCompile(`r tries it again`)},
	{Paused, regexp.MustCompile(`THE WALK (STOPPED|IS PAUSED)`)},
	{Prepare, regexp.MustCompile(` s: start;`)},
	{Home, regexp.MustCompile(`Suspects ([0-9-]+ of \d+, )?as of `)}, // and not while it is looking for them
}

// Sight is what a person reads on a screen.
type Sight struct {
	Kind Kind
	// Step is the name of the step at hand, where it is shown, and Title what is
	// said instead after a step.
	Step, Title string
	// Answers are those of a question; the number of the first is 1.
	Answers []string
	// Incident is the ID of the incident at hand; "": there is none yet.
	Incident string
	// Screen is all of it, with its colours as escape sequences.
	Screen string
}

var (
	stepAtHand     = regexp.MustCompile(`(?:detect|contain|investigate|eradicate|recover|post-mortem) / (\w+)`)
	incidentAtHand = regexp.MustCompile(`inc-\d{8}-\d{6}-\w{4}`)
	answerGiven    = regexp.MustCompile(`\b\d  ([a-z-]+)`)
	outcome        = regexp.MustCompile(`(?m)^ [A-Z0-9, ']+?  +(\S.*?) *$`)
)

// headLines are always on the screen, and ask nothing.
const headLines = 3

// look reads a screen without colours.
func look(text string) Sight {
	s := Sight{Incident: incidentAtHand.FindString(text)}
	all := joined(text)
	for _, sign := range signs {
		if sign.words.MatchString(all) {
			s.Kind = sign.kind
			break
		}
	}
	if m := stepAtHand.FindStringSubmatch(text); m != nil {
		s.Step = m[1]
	}
	switch s.Kind {
	case After:
		lines := strings.SplitAfterN(text, "\n", headLines+1)
		if m := outcome.FindStringSubmatch(lines[len(lines)-1]); m != nil {
			s.Title = m[1]
		}
	case Question:
		_, answers, _ := strings.Cut(text, "answer: ")
		for _, m := range answerGiven.FindAllStringSubmatch(answers, -1) {
			s.Answers = append(s.Answers, m[1])
		}
	}
	return s
}

// same tells whether a screen asks what another asked.
func (s Sight) same(as Sight) bool {
	return s.Kind == as.Kind && s.Step == as.Step && s.Title == as.Title
}
