package tui

import (
	"slices"
	"strings"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
)

// action is what a key is for.
type action string

// The actions.
const (
	actUp       action = "up"
	actDown     action = "down"
	actPageUp   action = "page up"
	actPageDown action = "page down"
	actTop      action = "top"
	actBottom   action = "bottom"
	actChoose   action = "choose"
	actBack     action = "back"
	actQuit     action = "quit"
	actHelp     action = "help"
	actTimeline action = "timeline"
	actEvidence action = "evidence"
	actContacts action = "contacts"
	actChanges  action = "changes"
	actReport   action = "report"
	actOpen     action = "open"
	actBriefing action = "briefing"
	actSteps    action = "steps"
	actPods     action = "pods"
	actAlert    action = "alert"
	actNew      action = "new"
	actRefresh  action = "refresh"
	actFilter   action = "filter"
	actPrevious action = "previous"
	actNext     action = "next"
	actStart    action = "start"
	actRun      action = "run"
	actSkip     action = "skip"
	actEdit     action = "edit"
	actUndo     action = "undo"
	actNote     action = "note"
	actWho      action = "who"
	actCopy     action = "copy"
	actCancel   action = "cancel"
	actGoOn     action = "go on"
	actAgain    action = "again"
	actConfirm  action = "confirm"
	actEmpty    action = "empty"
)

// confirmKey goes ahead with what changes a cluster. It is a capital letter, and
// never the key that was asked with: nobody hits it by mistake.
const confirmKey = "Y"

// binding is a key with what it does.
type binding struct {
	do   action
	keys []string
	// hint is the word in the line of keys; "": it is only in the help.
	hint string
	help string
}

// keyContext is where keys mean something.
type keyContext string

// The contexts, in the order of the help.
const (
	inAll     keyContext = "Everywhere"
	inMoving  keyContext = "Lists and long texts"
	inHome    keyContext = "Incidents and suspects"
	inPods    keyContext = "Pods"
	inFilter  keyContext = "Pods, filtered"
	inAlert   keyContext = "An alert"
	inPrepare keyContext = "Runbook and parameters"
	inStep    keyContext = "A step at hand"
	inAnswer  keyContext = "A question"
	inArmed   keyContext = "Before something is changed"
	inWorking keyContext = "A step at work"
	inAfter   keyContext = "After a step"
	inPaused  keyContext = "A walk that stopped"
	inOverlay keyContext = "Timeline, evidence, contacts, changes, help"
	inBrief   keyContext = "The briefing"
	inEnd     keyContext = "The end"
	inTyping  keyContext = "A line that you type"
	inChoice  keyContext = "What to undo"
	inUndo    keyContext = "An undo, planned"
	inForm    keyContext = "The inputs of a step"
	inUnlock  keyContext = "The passphrase of the key that signs"
	inSteps   keyContext = "All steps"

	// These are no screens of their own, and not in the help.
	inTooSmall keyContext = "A terminal that is too small"
	inAsking   keyContext = "Before a step at work is left"
	inLeaving  keyContext = "Leaving"
)

// keyMap is every key there is. The line of keys, the help and docs/tui.md come from it.
var keyMap = map[keyContext][]binding{
	inAll: {
		{actHelp, []string{"?"}, "help", "this help"},
		{actTimeline, []string{"t"}, "timeline", "the incident's timeline"},
		{actEvidence, []string{"v"}, "evidence", "evidence that was sealed"},
		{actContacts, []string{"c"}, "", "whom to call"},
		{actChanges, []string{"w"}, "", "what the cluster does with the target meanwhile"},
		{actOpen, []string{"o"}, "", "what of the containment was verified, and what remains open"},
		{actReport, []string{"m"}, "", "the post-mortem as far as it is written"},
		{actBack, []string{"esc", "backspace"}, "", "back; a walk is paused and goes on later"},
		{actQuit, []string{"q", "ctrl+c"}, "quit", "quit; irctl goes on there next time (ctrl+c twice: at once)"},
	},
	inMoving: {
		{actUp, []string{"up", "k"}, "", "up"},
		{actDown, []string{"down", "j"}, "", "down"},
		{actPageUp, []string{"pgup", "ctrl+b", "ctrl+u"}, "", "a page up"},
		{actPageDown, []string{"pgdown", "ctrl+f", "ctrl+d", " "}, "", "a page down"},
		{actTop, []string{"home", "g"}, "", "to the top"},
		{actBottom, []string{"end", "G"}, "", "to the bottom"},
	},
	inHome: {
		{actChoose, []string{"enter"}, "choose", "go on with the incident, or begin one of the suspect"},
		{actPods, []string{"p"}, "pod", "begin with a pod of your choice"},
		{actAlert, []string{"a"}, "alert", "begin with an alert that you paste"},
		{actNew, []string{"n"}, "no pod", "begin without a suspect: a secret that leaked, a token that was stolen"},
		{actRefresh, []string{"R"}, "look again", "connect, and look for suspects, again"},
	},
	inPods: {
		{actChoose, []string{"enter"}, "choose", "begin an incident of the pod"},
		{actFilter, []string{"letters"}, "filter",
			"of a name, namespace, workload, node or image: only such pods are shown"},
		{actUp, []string{"up", "ctrl+p"}, "", "up"},
		{actDown, []string{"down", "ctrl+n", "tab"}, "", "down"},
		{actPageUp, []string{"pgup"}, "", "a page up"},
		{actPageDown, []string{"pgdown"}, "", "a page down"},
		{actBack, []string{"esc"}, "back", "back"},
	},
	inFilter: {
		{actEmpty, []string{"esc"}, "all pods", "all pods again"},
	},
	inAlert: {
		{actChoose, []string{"enter"}, "begin with it", "begin an incident of the suspect that the alert names"},
		{actEmpty, []string{"ctrl+u"}, "empty it", "forget what was pasted"},
		{actUp, []string{"up"}, "", "up"},
		{actDown, []string{"down"}, "", "down"},
		{actBack, []string{"esc"}, "back", "back"},
	},
	inPrepare: {
		{actStart, []string{"s"}, "start",
			"open the incident, if it is new, and begin; nothing is changed in the cluster by that"},
		{actChoose, []string{"enter"}, "change", "change the value"},
		{actPrevious, []string{"left", "h"}, "", "the value before"},
		{actNext, []string{"right", "l"}, "", "the next value"},
	},
	inStep: {
		{actRun, []string{"r"}, "run", "do it; what changes a cluster asks for " + confirmKey + " first"},
		{actSkip, []string{"s"}, "skip", "leave it out, with a reason"},
		{actEdit, []string{"e"}, "edit", "change what it is done with"},
		{actUndo, []string{"u"}, "undo", "put back what was changed before; do what was left out, or does not hold"},
		{actNote, []string{"n"}, "note", "write a note into the timeline"},
		{actCopy, []string{"y"}, "copy", "copy the kubectl commands, if the terminal lets us"},
		{actSteps, []string{"tab"}, "steps", "all steps with their state"},
	},
	inAnswer: {
		{actWho, []string{"b"}, "by whom", "who did it, or decided, if it was not you"},
	},
	inArmed: {
		{actConfirm, []string{confirmKey}, "do what is named", "do it; any other key: nothing is done"},
	},
	inSteps: {
		{actBack, []string{"tab", "esc", "backspace"}, "back", "back to the step at hand"},
	},
	inTooSmall: {
		{actQuit, []string{"q", "ctrl+c"}, "quit", "quit"},
	},
	inAsking: {
		{actConfirm, []string{confirmKey}, "stop it and quit", "stop the step, and quit"},
	},
	inLeaving: {
		{actQuit, []string{"ctrl+c"}, "leave at once", "leave at once"},
	},
	inWorking: {
		{actCancel, []string{"x"}, "cancel", "stop what is being done; what was done stays, and can be undone"},
		{actNote, []string{"n"}, "note", "write a note into the timeline"},
	},
	inAfter: {
		{actGoOn, []string{"enter"}, "go on", "to the next step"},
		{actAgain, []string{"r"}, "do it again",
			"do a containment again that did not hold, with other inputs if e says so"},
		{actUndo, []string{"u"}, "undo", "put back what was changed"},
		{actNote, []string{"n"}, "note", "write a note into the timeline"},
		{actCopy, []string{"y"}, "copy", "copy what would close what is open"},
	},
	inPaused: {
		{actRun, []string{"r"}, "go on", "go on with the walk"},
		{actUndo, []string{"u"}, "undo", "put back what was changed"},
		{actNote, []string{"n"}, "note", "write a note into the timeline"},
	},
	inOverlay: {
		{actBack, []string{"esc", "backspace", "q", "enter"}, "back", "back"},
	},
	inBrief: {
		{actBack, []string{"enter", "esc"}, "begin", "to the first screen; the help shows the briefing again"},
		{actQuit, []string{"q"}, "quit", "quit"},
	},
	inEnd: {
		{actCopy, []string{"y"}, "copy the path", "copy where the incident's files are"},
		{actGoOn, []string{"enter"}, "incidents", "back to the incidents"},
		{actUndo, []string{"u"}, "undo", "put back what was changed"},
	},
	inChoice: {
		{actChoose, []string{"enter"}, "show what it means", "plan it; nothing is done yet"},
		{actBack, []string{"esc", "backspace", "q"}, "leave", "leave everything as it is"},
	},
	inUndo: {
		{actRun, []string{"r"}, "put it back", "put it back; it asks for " + confirmKey + " first"},
		{actBack, []string{"esc", "backspace"}, "leave it as it is", "nothing is put back; the walk goes on"},
		{actNote, []string{"n"}, "note", "write a note into the timeline"},
		{actCopy, []string{"y"}, "copy", "copy the kubectl commands, if the terminal lets us"},
	},
	inForm: {
		{actChoose, []string{"enter"}, "change", "change the value"},
		{actRun, []string{"r"}, "plan anew", "plan the step with these inputs"},
		{actPrevious, []string{"left", "h"}, "", "the value before"},
		{actNext, []string{"right", "l"}, "", "the next value"},
		{actBack, []string{"esc", "backspace", "q"}, "leave", "leave everything as it was"},
	},
	inTyping: {
		{actChoose, []string{"enter"}, "take it", "take what was typed"},
		{actBack, []string{"esc"}, "leave", "leave it as it was"},
	},
	inUnlock: {
		{actChoose, []string{"enter"}, "sign with it", "unlock the key, and begin the step"},
		{actBack, []string{"esc"}, "without a signature", "begin the step; its evidence is sealed, and not signed"},
		{actQuit, []string{"ctrl+c"}, "quit", "quit; nothing of the step is done"},
	},
}

// contexts are all of them in the order of the help.
var contexts = []keyContext{inAll, inMoving, inHome, inPods, inFilter, inAlert, inPrepare, inStep, inAnswer, inArmed,
	inSteps, inWorking, inAfter, inPaused, inOverlay, inBrief, inEnd, inTyping, inUnlock, inChoice, inUndo, inForm}

// actionOf is what a key means in the contexts, the first of which counts. A
// key that was pasted, or came in one rush with others, means nothing: nobody
// pressed it.
func actionOf(key tea.KeyMsg, in ...keyContext) action {
	if !pressed(key) {
		return ""
	}
	name := key.String()
	for _, c := range in {
		for _, b := range keyMap[c] {
			if slices.Contains(b.keys, name) {
				return b.do
			}
		}
	}
	return ""
}

// pressed tells a key that somebody pressed from a paste.
func pressed(key tea.KeyMsg) bool { return !key.Paste && len(key.Runes) <= 1 }

// moving are the actions of keys that only move a cursor, or turn a value that
// is not used before somebody says so.
var moving = []action{actUp, actDown, actPageUp, actPageDown, actTop, actBottom, actPrevious, actNext}

// held is the key that was held, or pressed before the screen could follow, and
// how often: over a slow line such keys arrive together, and become one message.
// Of any other rush it is "not at all".
func held(key tea.KeyMsg, in ...keyContext) (one tea.KeyMsg, times int) {
	if key.Type != tea.KeyRunes || key.Paste || key.Alt || len(key.Runes) < 2 {
		return key, 0
	}
	for _, r := range key.Runes {
		if r != key.Runes[0] {
			return key, 0
		}
	}
	one = tea.KeyMsg{Type: tea.KeyRunes, Runes: key.Runes[:1]}
	if !slices.Contains(moving, actionOf(one, in...)) {
		return key, 0
	}
	return one, len(key.Runes)
}

// hints are the line of keys for contexts, without those that are of no use
// now, and without those that mean something else in a closer context; help and
// quit come last, and always have their room.
func (t theme) hints(width int, useless []action, in ...keyContext) string {
	var first, last []string
	taken := map[string]bool{}
	for _, c := range in {
		for _, b := range keyMap[c] {
			free := slices.DeleteFunc(slices.Clone(b.keys), func(k string) bool { return taken[k] })
			if len(free) == 0 || b.hint == "" || slices.Contains(useless, b.do) {
				continue
			}
			text := t.key(keyName(free[0]), b.hint)
			if c == inAll && (b.do == actHelp || b.do == actQuit) {
				last = append(last, text)
			} else {
				first = append(first, text)
			}
		}
		for _, b := range keyMap[c] {
			for _, k := range b.keys {
				taken[k] = true
			}
		}
	}
	room := width
	fits := func(all []string) (some []string) {
		for _, text := range all {
			if n := ansi.StringWidth(text) + 1; n <= room+1 {
				some = append(some, text)
				room -= n
			}
		}
		return some
	}
	last = fits(last)
	return strings.Join(append(fits(first), last...), " ")
}

func keyName(k string) string {
	switch k {
	case "enter":
		return "Enter"
	case " ":
		return "Space"
	case "esc":
		return "Esc"
	case "tab":
		return "Tab"
	}
	return k
}
