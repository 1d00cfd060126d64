package reflow

import (
	"slices"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	long := strings.Repeat("word ", 13) // a line that was broken for want of room
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty":              {"", []string{""}},
		"a sentence goes on": {long + "and\nmore of it\n", []string{long + "and more of it"}},
		"the next sentence":  {long + "ends.\nThe next one.", []string{long + "ends. The next one."}},
		"a name in a sentence": {strings.Repeat("word ", 16) + "in the\nDNS log: or\nnot.",
			[]string{strings.Repeat("word ", 16) + "in the DNS log: or", "not."}},
		"facts": {"Suspect: " + strings.Repeat("x", 90) + "\nAlert: none\nImage:",
			[]string{"Suspect: " + strings.Repeat("x", 90), "Alert: none", "Image:"}},
		"short lines are as meant": {"one\ntwo", []string{"one", "two"}},
		"a list":                   {long + "and\n- one\n2. two", []string{long + "and", "- one", "2. two"}},
		"commands": {long + "and\n  kubectl get pods\nand so on",
			[]string{long + "and", "  kubectl get pods", "and so on"}},
		"a command at the margin": {"irctl investigate " + long + "\nAnd the image:\n" + long +
			"with\nkubectl get pods", []string{"irctl investigate " + strings.TrimSpace(long), "And the image:",
			long + "with", "kubectl get pods"}},
		"what introduces something": {long + "this:\nlike that", []string{long + "this:", "like that"}},
		"paragraphs":                {long + "and\n\nthen", []string{long + "and", "", "then"}},
	} {
		if got := Lines(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
