package change

import (
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// Diff is what the change does, as lines that begin with "+" or "-".
func (c Change) Diff() []string {
	if c.IsCreate() {
		return manifestLines("+ ", c.Manifest)
	}
	return fieldLines(c.Fields)
}

// UndoDiff is what undoing the change does.
func (c Change) UndoDiff() []string {
	if c.IsCreate() {
		return manifestLines("- ", c.Manifest)
	}
	return fieldLines(reversed(c.Fields))
}

func manifestLines(sign string, manifest map[string]any) []string {
	text, err := yaml.Marshal(manifest)
	if err != nil {
		return []string{sign + show(manifest)}
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	for i, l := range lines {
		lines[i] = sign + l
	}
	return lines
}

func fieldLines(fields []Field) []string {
	var lines []string
	for _, f := range fields {
		if f.Before != nil {
			lines = append(lines, fmt.Sprintf("- %s: %s", f.Name(), show(f.Before)))
		}
		if f.After != nil {
			lines = append(lines, fmt.Sprintf("+ %s: %s", f.Name(), show(f.After)))
		}
	}
	return lines
}

// Command is the kubectl command that would do the same, for changes that
// have no shorter one.
func (c Change) Command() string {
	if c.Apply != nil {
		verb := "apply --server-side --field-manager=" + FieldManager
		if c.Apply.Force {
			verb += " --force-conflicts"
		}
		return piped(c.config(), verb)
	}
	if c.IsCreate() {
		return piped(c.Manifest, "create")
	}
	return c.patchCommand(c.Fields)
}

// piped is kubectl with a manifest on its standard input.
func piped(manifest map[string]any, verb string) string {
	text, err := json.Marshal(manifest)
	if err != nil {
		return ""
	}
	return "printf %s " + ShellQuote(string(text)) + " | kubectl " + verb + " -f -"
}

// UndoCommand is the kubectl command that would undo the change.
func (c Change) UndoCommand() string {
	if c.IsCreate() {
		return strings.Join(c.kubectl("delete"), " ")
	}
	return c.patchCommand(reversed(c.Fields))
}

func (c Change) patchCommand(fields []Field) string {
	patch, err := mergePatch(fields, "", "")
	if err != nil {
		return ""
	}
	words := c.kubectl("patch")
	if c.Subresource != "" {
		words = append(words, ShellQuote("--subresource="+c.Subresource))
	}
	return strings.Join(append(words, "--type=merge", "-p", ShellQuote(string(patch))), " ")
}

// kubectl is the beginning of a command about the object.
func (c Change) kubectl(verb string) []string {
	words := []string{"kubectl", verb, ShellQuote(c.Object.KubectlName())}
	if c.Object.Namespace != "" {
		words = append(words, "-n", ShellQuote(c.Object.Namespace))
	}
	return words
}

// ShellQuote makes s one word of a POSIX shell. What it quotes comes from the
// cluster, and people paste the commands that are shown to them.
func ShellQuote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,@%+"
	// zsh expands a word that begins with "=".
	if s != "" && s[0] != '=' && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
