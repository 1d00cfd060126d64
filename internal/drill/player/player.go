// Package player plays a drill in the terminal UI as a person does, who sees a
// screen and has a keyboard: the tests of the program that people start, and its
// moving picture, are made with it.
package player

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"irctl/internal/drill"
)

// Player answers what the terminal UI asks by the play of a scenario.
type Player struct {
	*Terminal
	Scenario *drill.Scenario
	// Params are typed into the form before the walk: names and values, in the
	// order of its rows.
	Params [][2]string
	// Second does a command of the play in a second terminal.
	Second func(ctx context.Context, line string) error
	// Instead are steps that are done in another way than by the play, when they
	// are first come to. A nil error goes on with what is on the screen then.
	Instead map[string]func(ctx context.Context, at Sight) error
	// Saw is told what is on the screen before anything is pressed; nil: nobody is.
	Saw func(ctx context.Context, at Sight) error
}

// Play plays from whatever is on the screen to the end of the walk, and returns
// how that looks.
func (p *Player) Play(ctx context.Context) (Sight, error) {
	for {
		at, err := p.Next(ctx)
		if err != nil {
			return at, err
		}
		if p.Saw != nil {
			if err := p.Saw(ctx, at); err != nil {
				return at, err
			}
		}
		if at.Kind == End {
			return at, nil
		}
		if err := p.react(ctx, at); err != nil {
			return at, err
		}
	}
}

// Next waits until something is asked.
func (p *Player) Next(ctx context.Context) (Sight, error) {
	return p.await(ctx, "a question", func(s Sight) bool { return s.Kind != Busy })
}

func (p *Player) await(ctx context.Context, what string, ok func(Sight) bool) (at Sight, err error) {
	screen, err := p.Until(ctx, what, func(text string) bool {
		at = look(text)
		return ok(at)
	})
	at.Screen = screen
	return at, err
}

// Answer presses a key, and waits until the screen asks something else.
func (p *Player) Answer(ctx context.Context, at Sight, key string) error {
	if err := p.Press(ctx, key); err != nil {
		return err
	}
	_, err := p.await(ctx, fmt.Sprintf("what %s brings at %s %s%s", key, at.Kind, at.Step, at.Title),
		func(s Sight) bool { return !s.same(at) })
	return err
}

func (p *Player) react(ctx context.Context, at Sight) error {
	if f := p.Instead[at.Step]; f != nil && (at.Kind == Question || at.Kind == Plan || at.Kind == Ready) {
		delete(p.Instead, at.Step)
		return f(ctx, at)
	}
	switch at.Kind {
	case Home:
		if len(p.Scenario.Compromised) == 0 {
			return p.Answer(ctx, at, "n") // without a suspect
		}
	case Prepare:
		return p.prepare(ctx, at)
	case Plan, Ready, Paused:
		return p.Answer(ctx, at, "r")
	case Armed:
		return p.Answer(ctx, at, "Y")
	case Question:
		return p.decide(ctx, at)
	case Failed:
		return fmt.Errorf("step %s failed:\n%s", at.Step, ansi.Strip(at.Screen))
	}
	return p.read(ctx, at)
}

// read is Enter on what only is to be read, such as what came of a step. It
// changes nothing, so that it is pressed again where what follows looks the same.
func (p *Player) read(ctx context.Context, at Sight) error {
	const enough = 15 * time.Second
	if err := p.Press(ctx, "Enter"); err != nil {
		return err
	}
	pressed := time.Now()
	var err error
	_, awaited := p.await(ctx, "what follows "+at.Title, func(s Sight) bool {
		if err == nil && s.same(at) && time.Since(pressed) > enough {
			pressed = time.Now()
			err = p.Press(ctx, "Enter")
		}
		return err != nil || !s.same(at)
	})
	return errors.Join(err, awaited)
}

// prepare chooses the runbook of the scenario, fills in what is to be, and starts.
func (p *Player) prepare(ctx context.Context, at Sight) error {
	for name := ""; name != p.Scenario.Runbook; {
		if name != "" {
			if err := p.Press(ctx, "Right"); err != nil {
				return err
			}
		}
		screen, err := p.Until(ctx, "a runbook after "+name, func(text string) bool {
			m := chosen.FindStringSubmatch(text)
			return m != nil && m[1] != name
		})
		if err != nil {
			return fmt.Errorf("looking for the runbook %s: %w", p.Scenario.Runbook, err)
		}
		name = chosen.FindStringSubmatch(ansi.Strip(screen))[1]
	}
	for _, v := range p.Params {
		if err := p.Fill(ctx, v[0], v[1]); err != nil {
			return err
		}
	}
	return p.Answer(ctx, at, "s")
}

// decide does what a step asks a person to do, notes what there is to note, and answers.
func (p *Player) decide(ctx context.Context, at Sight) error {
	turn, ok := p.Scenario.Play.Steps[at.Step]
	if !ok {
		return fmt.Errorf("the play of %s has no answer to step %q, which asks\n%s", p.Scenario.Name, at.Step,
			ansi.Strip(at.Screen))
	}
	for _, line := range turn.Do {
		if p.Second == nil {
			return errors.New("there is no second terminal for " + line)
		}
		if err := p.Second(ctx, strings.ReplaceAll(line, "${incident}", at.Incident)); err != nil {
			return fmt.Errorf("step %s: %s: %w", at.Step, line, err)
		}
	}
	if turn.Note != "" {
		if err := p.Enter(ctx, "n", "Note to your answer:", turn.Note); err != nil {
			return err
		}
	}
	answer := turn.Answer
	if answer == "" {
		answer = "done"
	}
	n := slices.Index(at.Answers, answer)
	if n < 0 {
		return fmt.Errorf("step %s does not offer %q, but %q", at.Step, answer, at.Answers)
	}
	return p.Answer(ctx, at, strconv.Itoa(n+1))
}

// Skip leaves the step at hand out.
func (p *Player) Skip(ctx context.Context, at Sight, reason string) error {
	if err := p.Enter(ctx, "s", "Why is it left out?", reason); err != nil {
		return err
	}
	_, err := p.await(ctx, "the next step", func(s Sight) bool { return !s.same(at) })
	return err
}

// Enter opens a line with a key, and types into it.
func (p *Player) Enter(ctx context.Context, key, prompt, text string) error {
	if err := p.Press(ctx, key); err != nil {
		return err
	}
	if _, err := p.Shows(ctx, prompt); err != nil {
		return err
	}
	if err := p.Press(ctx, "C-u"); err != nil { // what is there already
		return err
	}
	if err := p.Type(ctx, text); err != nil {
		return err
	}
	// The end of it, since a long one is shown in part.
	end := text[max(0, len(text)-20):]
	if _, err := p.Until(ctx, fmt.Sprintf("%q being typed", text), func(screen string) bool {
		return strings.Contains(screen, end)
	}); err != nil {
		return err
	}
	if err := p.Press(ctx, "Enter"); err != nil {
		return err
	}
	_, err := p.Until(ctx, fmt.Sprintf("the end of typing %q", prompt), func(screen string) bool {
		return !strings.Contains(joined(screen), prompt+" ")
	})
	return err
}

// chosen is the runbook of the form.
var chosen = regexp.MustCompile(`(?m)^▸ runbook +< (\S+) >`)

// cursor is the name of the row of a form that keys act on.
var cursor = regexp.MustCompile(`(?m)^▸ (\w+)`)

// Fill goes to a row of a form, and gives it another value.
func (p *Player) Fill(ctx context.Context, name, value string) error {
	// A screen that is being drawn may show the cursor on the row before, and the
	// key that is pressed then leads past the next one without its being seen: a row
	// counts once it was seen twice, and at the end of the form the way leads back.
	key, seen, still := "Down", "", 0
	var pressed error
	_, err := p.Until(ctx, fmt.Sprintf("the row %q", name), func(text string) bool {
		at := ""
		if m := cursor.FindStringSubmatch(text); m != nil {
			at = m[1]
		}
		if at != seen {
			seen, still = at, 0
			return false
		}
		still++
		if at == "" || at == name {
			return at != ""
		}
		const end = 40 // looks at a row that no key leads away from
		switch {
		case still == 1:
		case still%end == 0:
			key = map[string]string{"Down": "Up", "Up": "Down"}[key]
		default:
			return false
		}
		pressed = p.Press(ctx, key)
		return pressed != nil
	})
	if err := cmp.Or(err, pressed); err != nil {
		return err
	}
	return p.Enter(ctx, "Enter", name+":", value)
}
