package sanitize

import (
	"strings"
	"testing"
)

// No character that acts on a terminal passes, in one line or in several: a
// carriage return would have a line written over, a backspace one's end.
func TestNothingActsOnATerminal(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	for text, c := range map[string]struct{ line, text string }{
		"a\rb":      {`a\rb`, `a\rb`},
		"a\r\nb":    {`a\r\nb`, `a\r` + "\nb"},
		"a\n\tb":    {`a\n\tb`, "a\n\tb"},
		"a\bb":      {`a\x08b`, `a\x08b`},
		"a\x1b[2Jb": {`a\x1b[2Jb`, `a\x1b[2Jb`},
		"a\u009bb":  {`a\x9bb`, `a\x9bb`},
		"a\vb\fc":   {`a\x0bb\x0cc`, `a\x0bb\x0cc`},
		"a\x7fb":    {`a\x7fb`, `a\x7fb`},
		"a\u202eb":  {`a\u202eb`, `a\u202eb`},
		"a\u2028b":  {`a\u2028b`, `a\u2028b`},
		"a\u3164b":  {`a\u3164b`, `a\u3164b`},
		"a\xffb":    {`a\xffb`, `a\xffb`},
		"ä – ok":    {"ä – ok", "ä – ok"},
		"":          {"", ""},
		long:        {long, long},
		long + "\r": {long + "…", long + "…"},
	} {
		if got := Line(text); got != c.line {
			t.Errorf("a line of %.30q: %.40q, expected %.40q", text, got, c.line)
		}
		if got := Text(text); got != c.text {
			t.Errorf("a text of %.30q: %.40q, expected %.40q", text, got, c.text)
		}
	}
	// So also in a text that is cut by its lines.
	many := Text(strings.Repeat("a\rb\n", MaxLine))
	if strings.ContainsRune(many, '\r') || strings.Count(many, "\n") != 1024 ||
		!strings.HasSuffix(many, "…(more lines cut)") {
		t.Errorf("%d lines, the end is %q", strings.Count(many, "\n"), many[len(many)-20:])
	}
	if got := Short("abc\r", 3); got != "abc…" {
		t.Errorf("%q", got)
	}
}
