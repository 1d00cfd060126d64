package tui

import (
	"errors"
	"slices"

	"github.com/charmbracelet/bubbles/textinput"
	tea "github.com/charmbracelet/bubbletea"

	"irctl/internal/evidence"
)

// unlocking is what is asked between a person's yes to a step that seals
// evidence and its begin, if the key that signs is locked. It is asked this late
// so that nothing waits for a passphrase before it is of use, and the step is
// done with or without it.
type unlocking struct {
	number int // of the question: what comes of an earlier one is left aside
	// begin does what was agreed to.
	begin func(*walk) tea.Cmd
	field *input // nil: the key is being tried, or cannot be used
	err   error  // of the last try; nil: it is the first
}

// tried is whether the key is unlocked.
type tried struct {
	number int
	err    error
}

// signing has the key unlocked before a step that seals evidence begins.
func (m *root) signing(seals bool, begin func(*walk) tea.Cmd) tea.Cmd {
	if !seals || m.o.Signer == nil {
		return begin(&m.walk)
	}
	m.numbers++
	m.walk.unlocking = &unlocking{number: m.numbers, begin: begin}
	return m.unlock(m.numbers, nil)
}

// unlock tries the key, and wipes the passphrase.
func (d *desk) unlock(number int, passphrase []byte) tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := d.bounded()
		defer cancel()
		defer clear(passphrase)
		return tried{number, d.o.Signer.Unlock(ctx, passphrase)}
	}
}

func (m *root) tried(t tried) tea.Cmd {
	u := m.walk.unlocking
	switch {
	case u == nil || u.number != t.number:
		return nil
	case t.err == nil:
		return m.sealed()
	}
	next := *u
	if next.err = t.err; errors.Is(t.err, evidence.ErrKeyLocked) {
		next.field = newInput("Passphrase:", "")
		next.field.line.EchoMode = textinput.EchoPassword
	}
	m.walk.unlocking = &next
	return nil
}

// sealed begins the step, whether or not somebody signs.
func (m *root) sealed() tea.Cmd {
	begin := m.walk.unlocking.begin
	m.walk.unlocking = nil
	return begin(&m.walk)
}

// unlockTyped takes a key of the passphrase. A paste is welcome here.
func (m *root) unlockTyped(key tea.KeyMsg) tea.Cmd {
	next := *m.walk.unlocking
	m.walk.unlocking = &next
	switch a := actionOf(key, inUnlock); {
	case a == actBack:
		m.say(warning, "the evidence is sealed, and not signed")
		return m.sealed()
	case a == actChoose && next.field == nil && next.err != nil:
		next.err = nil
		return m.unlock(next.number, nil)
	case a == actChoose && next.field != nil && next.field.line.Value() != "":
		passphrase := []byte(next.field.line.Value())
		next.field, next.err = nil, nil
		return m.unlock(next.number, passphrase)
	case a == "" && next.field != nil:
		for key.Paste && len(key.Runes) > 0 && slices.Contains([]rune{'\n', '\r'}, key.Runes[len(key.Runes)-1]) {
			key.Runes = key.Runes[:len(key.Runes)-1] // the end of the line that was copied
		}
		next.field = next.field.typed(key)
	}
	return nil
}

func (u *unlocking) view(g, b *page, p place, signer *evidence.Signer) {
	switch {
	case u.err == nil:
		g.line(p.paint(faint, "trying the key that signs"+p.g.more))
		return
	case u.field == nil:
		g.line(p.paint(notice, " THE KEY THAT SIGNS CANNOT BE USED "))
		g.blank()
		g.text(bad, p.g.failed+" ", u.err.Error())
	case errors.Is(u.err, evidence.ErrPassphrase):
		g.line(p.paint(danger, " THAT IS NOT ITS PASSPHRASE "))
	default:
		g.line(p.paint(notice, " THE KEY THAT SIGNS IS LOCKED "))
	}
	g.blank()
	g.text(none, "", "This step seals evidence, and "+signer.Ref()+
		" is to sign for it. Nothing is done yet: the step begins with your answer.")
	g.blank()
	if u.field != nil {
		g.text(none, p.paint(strong, "Enter")+"  ",
			"signs with it. The passphrase is not shown, not recorded, and forgotten once the key is unlocked.")
		b.line(u.field.view(p.theme, p.w))
	} else {
		g.text(none, p.paint(strong, "Enter")+"  ", "tries the key again.")
	}
	g.text(none, p.paint(strong, "Esc")+"    ", "goes on without a signature. The evidence is sealed all the same, "+
		"and its digest is in the timeline; but nobody signs for its receipt, and that cannot be made up for. You "+
		"are asked again before the next evidence.")
}
