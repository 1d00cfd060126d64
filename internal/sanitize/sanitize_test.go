package sanitize

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain text is untouched", "backend-688d67cddc-dxv5m", "backend-688d67cddc-dxv5m"},
		{"letters of any script are untouched", "größe 名前 اسم", "größe 名前 اسم"},
		{"colour sequence", "\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		{"8-bit control sequence introducer", "a\u009b2Jb", `a\x9b2Jb`},
		{"window title", "\x1b]0;owned\a", `\x1b]0;owned\x07`},
		{"line break cannot forge a second line", "ok\nverdict: contained", `ok\nverdict: contained`},
		{"carriage return cannot overwrite", "evil\rgood", `evil\rgood`},
		{"direction override", "a\u202egnp.exe", `a\u202egnp.exe`},
		{"zero-width joiner and space", "a\u200bb\u200dc", `a\u200bb\u200dc`},
		{"tag characters", "a\U000e0041", `a\U000e0041`},
		{"invalid UTF-8", "a\xff\xfe", `a\xff\xfe`},
		{"delete", "a\x7f", `a\x7f`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Line(c.in); got != c.want {
				t.Errorf("Line(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func TestTextKeepsLinesAndBoundsThem(t *testing.T) {
	if got := Text("a\tb\n\x1bc\n"); got != "a\tb\n\\x1bc\n" {
		t.Errorf("got %q", got)
	}
	long := Text(strings.Repeat("x", 10*MaxLine) + "\nnext\n")
	if !strings.HasSuffix(long, "…\nnext\n") || len(long) > 2*MaxLine {
		t.Errorf("a long line is not cut at its own end: %d bytes, ends %q", len(long), long[max(0, len(long)-20):])
	}
	if many := Text(strings.Repeat("line\n", 1<<20)); len(many) > 65*MaxLine {
		t.Errorf("%d bytes let through", len(many))
	}
}

func TestShort(t *testing.T) {
	if got := Short("名前名前名前", 4); got != "名前名前…" {
		t.Errorf("got %q", got)
	}
}

func FuzzText(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b[2J\u202e\u009b\xff")
	f.Fuzz(func(t *testing.T, s string) {
		for name, got := range map[string]string{"Line": Line(s), "Text": Text(s)} {
			if !utf8.ValidString(got) {
				t.Errorf("%s(%q) is not valid UTF-8", name, s)
			}
			for _, r := range got {
				if name == "Text" && (r == '\n' || r == '\t') {
					continue
				}
				if r != '…' && unsafe(r) {
					t.Errorf("%s(%q) lets %U through", name, s, r)
				}
			}
		}
	})
}

func TestJSONKeepsItsMeaningAndShowsNothingATerminalActsOn(t *testing.T) {
	value := "a\x7f\u009b31m\u202eb\U000e0001 <&> ünï"
	text, err := json.Marshal(map[string]string{"k": value})
	if err != nil {
		t.Fatal(err)
	}
	safe := JSON(text)
	var back map[string]string
	if err := json.Unmarshal(safe, &back); err != nil || back["k"] != value {
		t.Errorf("%s reads back as %q (%v)", safe, back, err)
	}
	if i := bytes.IndexFunc(safe, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("%q holds an unprintable rune at %d", safe, i)
	}
	lines := []byte("{\n  \"a\": 1\n}\n")
	if got := JSON(lines); !bytes.Equal(got, lines) {
		t.Errorf("%q became %q", lines, got)
	}
}
