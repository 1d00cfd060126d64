package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestNoFlagTellsASecret: the words that the journal keeps of a command line hold
// the value of no flag but of those that are known to hold none.
func TestNoFlagTellsASecret(t *testing.T) {
	t.Parallel()
	const marker = "s3cret-marker"
	for _, f := range []string{"set", "set-from", "store-command", "postgres-admin", "listen-token-file", "token",
		"generate", "title", "recipient", "key"} {
		if slices.Contains(toldFlags, f) {
			t.Errorf("--%s is told as it was typed", f)
		}
	}
	flags := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		c.InheritedFlags() // merged into Flags
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if slices.Contains(toldFlags, f.Name) || c.Flags().Set(f.Name, marker) != nil {
				return
			}
			flags++
		})
		if words := strings.Join(wordsOf(c, nil), " "); strings.Contains(words, marker) {
			t.Errorf("%s: %s", c.CommandPath(), words)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&App{}).root())
	if flags < 30 {
		t.Errorf("only %d flags were given", flags)
	}
}
