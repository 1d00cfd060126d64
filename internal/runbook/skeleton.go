package runbook

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed skeleton.yaml
var skeleton string

var runbookName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// New is the text of a new runbook: commented, and sound.
func New(name string) (string, error) {
	if !runbookName.MatchString(name) {
		return "", fmt.Errorf("a runbook's name is made of a-z, 0-9 and dashes, and begins with a letter; %.80q is not",
			name)
	}
	return strings.ReplaceAll(skeleton, "NAME", name), nil
}
