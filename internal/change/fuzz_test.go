package change_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"irctl/internal/change"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

// What comes out of Parse is safe to show, and the same again after another
// round trip.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"object":{"version":"v1","resource":"pods","kind":"Pod","namespace":"n","name":"p","uid":"u"},` +
			`"resourceVersion":"7","fields":[{"path":["metadata","labels","app"],"before":"x","after":null}]}`,
		`{"object":{"group":"networking.k8s.io","version":"v1","resource":"networkpolicies","kind":"NetworkPolicy",` +
			`"name":"p"},"manifest":{"spec":{"podSelector":{},"ingress":[{}]}}}`,
		`{"object":{"version":"v1","resource":"pods","kind":"Pod","name":"p"},"fields":[{"path":["a"],"before":1e400,` +
			`"after":[[[]]]},{"path":["a","b"],"before":{},"after":1}]}`,
		`{"object":{"version":"v1","resource":"pods","kind":"Pod","name":"p"},"fields":[{"path":["a"],"after":1}],` +
			`"apply":{"config":{"a":1},"force":true,"taken":[],"owned":{}}}`,
		`{"object":{"version":"v1","resource":"pods","kind":"Pod","name":"p"},"manifest":{"a":1},"apply":{}}`,
		`null`, `{}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, ok := change.In(&timeline.Entry{Kind: timeline.KindIntent, Data: record.Verbatim(data)})
		if !ok {
			return
		}
		_, _, _, _ = c.Diff(), c.UndoDiff(), c.Command(), c.UndoCommand()
		if diff := cmp.Diff(c, journaled(t, c)); diff != "" {
			t.Error(diff)
		}
	})
}

// A real shell reads back the very bytes that were quoted, as one word.
func FuzzShellQuote(f *testing.F) {
	for _, seed := range []string{"", "plain", "-n", "it's", "'", "''", "$(reboot)", "`id`", "a b\tc\nd", `\`, `"`,
		"~root", "=ls", "*", "!!", "a;b|c&d<e>f", "#", "{a,b}", "é世\xff", "\x1b[31m"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		if strings.ContainsRune(word, 0) {
			t.Skip("no argument can hold a NUL")
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf '[%s]' "+change.ShellQuote(word)).Output()
		if err != nil {
			t.Fatal(err)
		}
		if want := "[" + word + "]"; string(out) != want {
			t.Errorf("%q became %q", want, out)
		}
	})
}
