package tui

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"irctl/internal/steps/detect"
)

// alert is where an alert of Falco is pasted.
type alert struct {
	text     string
	suspects []detect.Suspect
	err      error
	list     list
}

// maxAlert bounds what is pasted, in bytes.
const maxAlert = 1 << 20

// alertRead is what a paste turned out to be.
type alertRead struct {
	text     string
	suspects []detect.Suspect
	err      error
}

func (m alert) typed(key tea.KeyMsg) (alert, bool) {
	switch key.Type {
	case tea.KeyRunes, tea.KeySpace:
		m.text += string(key.Runes)
	case tea.KeyEnter, tea.KeyTab, tea.KeyCtrlJ:
		m.text += "\n"
	case tea.KeyBackspace:
		if r := []rune(m.text); len(r) > 0 {
			m.text = string(r[:len(r)-1])
		}
	default:
		return m, false
	}
	if len(m.text) > maxAlert {
		m.text = m.text[:maxAlert]
	}
	return m, true
}

// lines makes JSON lines of whatever JSON there is: an alert that is pasted
// from a web page has many lines.
func alertLines(text string) ([]byte, error) {
	var out bytes.Buffer
	dec := json.NewDecoder(strings.NewReader(strings.ReplaceAll(text, "\r", "\n")))
	for {
		var v json.RawMessage
		err := dec.Decode(&v)
		if err == io.EOF {
			return out.Bytes(), nil
		}
		if err != nil {
			return out.Bytes(), err
		}
		if err := json.Compact(&out, v); err != nil {
			return out.Bytes(), err
		}
		out.WriteByte('\n')
	}
}

// parse reads the alerts; it needs no cluster.
func (d *desk) parse(text string) tea.Cmd {
	return func() tea.Msg {
		lines, err := alertLines(text)
		if len(lines) == 0 {
			return alertRead{text, nil, err}
		}
		res, err := detect.Find(d.ctx, detect.Request{Timeout: d.o.Timeout,
			Inputs: []detect.Input{{Source: detect.SourceFalco, Path: "the alert", Reader: bytes.NewReader(lines)}}})
		if err != nil {
			return alertRead{text, nil, err}
		}
		return alertRead{text, res.Suspects, res.Err()}
	}
}

func (m alert) read(r alertRead) alert {
	if r.text == m.text {
		m.suspects, m.err = r.suspects, r.err
		m.list = m.list.moved("", len(m.suspects), 1)
	}
	return m
}

func (m alert) view(p place) []string {
	g := p.page(p.w)
	g.line(p.title("An alert of Falco") + p.paint(faint, "  as JSON; several are fine"))
	if m.text == "" {
		g.text(faint, "",
			"Paste it here. Nothing of it is executed: it is read, and what it says is shown before anything begins.")
		return g.lines
	}
	shown := strings.Split(p.safeText(m.text), "\n")
	if most := max(3, p.h/3); len(shown) > most {
		shown = append(shown[:most-1], p.g.more)
	}
	for _, l := range shown {
		g.line(p.paint(faint, l))
	}
	g.blank()
	switch {
	case len(m.suspects) > 0:
		for i := range m.suspects {
			s := &m.suspects[i]
			g.line(home{}.row(p, i == m.list.at, p.w, p.severity(s.Severity)+" "+p.safe(suspectName(s))))
			for _, f := range s.Findings {
				g.text(none, "      ", f.Reason)
			}
		}
	case m.err != nil:
		g.text(warning, p.g.warn+" ", "not an alert yet: "+m.err.Error())
	default:
		g.text(faint, "", "no suspect is named in it yet")
	}
	return g.lines
}
