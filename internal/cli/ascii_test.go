package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

func TestAnASCIITerminalGetsNothingElse(t *testing.T) {
	for _, c := range []struct{ locale, want string }{
		{"C", `+ x > ~ . \u00fc`},
		{"", `+ x > ~ . \u00fc`},
		{"de_DE.UTF-8", "✓ ✗ → … · ü"},
	} {
		var out bytes.Buffer
		a := &App{Streams: Streams{Out: &out, OutTerminal: true}, Getenv: func(k string) string {
			return map[string]string{"LANG": c.locale}[k]
		}}
		a.plainly()
		for _, piece := range []string{"✓ ✗ → … · \xc3", "\xbc"} { // a character in two pieces
			if n, err := a.Out.Write([]byte(piece)); n != len(piece) || err != nil {
				t.Fatal(n, err)
			}
		}
		if out.String() != c.want {
			t.Errorf("LANG=%s: %q, not %q", c.locale, out.String(), c.want)
		}
	}
}

func TestOnlyATerminalGetsASCII(t *testing.T) {
	getenv := func(k string) string { return map[string]string{"LANG": "C", "IRCTL_STATE_DIR": t.TempDir()}[k] }
	for _, terminal := range []bool{true, false} {
		var out, errs bytes.Buffer
		code := Main(context.Background(), []string{"runbook", "lint", "ü.yaml"},
			Streams{In: strings.NewReader(""), Out: &out, Err: &errs, OutTerminal: terminal, ErrTerminal: terminal},
			getenv)
		if code == ExitDone || strings.Contains(errs.String(), "ü") == terminal ||
			!strings.Contains(errs.String(), map[bool]string{true: `\u00fc.yaml`, false: "ü.yaml"}[terminal]) {
			t.Errorf("terminal: %v: exit %d, %q", terminal, code, errs.String())
		}
	}
}
