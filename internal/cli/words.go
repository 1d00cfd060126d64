package cli

import (
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// toldFlags are the flags whose values the journal may keep as they were typed. Of
// any other flag, today's or a later one, it keeps only that it was given: a value
// may be a token, a connection string, a header, or a command that holds one.
var toldFlags = []string{"again", "all", "all-namespaces", "all-secrets", "allow-cidr", "allow-dns",
	"allow-evidence-loss", "allow-namespace",
	"allow-tag", "context", "cordon", "dry-run", "every", "force-conflicts", "image", "incident", "include-new",
	"keep-labels", "keep-replicas",
	"monitor", "namespace", "new-baseline", "plan", "pod", "recontain", "recontain-namespace", "remove-bindings",
	"remove-label", "same-image",
	"second-look", "secret", "selector", "severity", "skip", "step", "steps", "suspect", "suspend-controllers",
	"timeout", "uncordon", "wait", "yes"}

// wordsOf are the words of a command line, for the record.
func wordsOf(c *cobra.Command, args []string) []string {
	var words []string
	for at := c; at.HasParent(); at = at.Parent() {
		words = append([]string{at.Name()}, words...)
	}
	words = append(words, args...)
	c.Flags().Visit(func(f *pflag.Flag) {
		value := "given"
		if slices.Contains(toldFlags, f.Name) {
			value = f.Value.String()
		}
		if value == "true" && f.Value.Type() == "bool" {
			words = append(words, "--"+f.Name)
			return
		}
		words = append(words, "--"+f.Name+"="+value)
	})
	return words
}
