package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// apiVersion is that of every JSON object which irctl prints, as of the files
// that it reads.
const apiVersion = "irctl/v1"

// The formats of -o.
const (
	asTable = "table"
	asJSON  = "json"
	asYAML  = "yaml"
	asName  = "name"
)

var outputs = []string{asTable, asJSON, asYAML, asName}

// A result is what a command prints with -o.
type result struct {
	// kind of its JSON object; docs/schema has a schema for each.
	kind string
	// named: -o name prints names.
	named bool
}

// Kinds that are not those of a command, but of something that it prints beside.
const (
	kindFinding        = "Finding"        // of detect --watch, as it comes
	kindCollectionPlan = "CollectionPlan" // of investigate --dry-run
)

// results of the commands, by their paths. What is not here prints text alone.
var results = map[string]result{
	"irctl detect":                {"Detection", true},
	"irctl contain":               {"Containment", true},
	"irctl investigate":           {"Investigation", true},
	"irctl eradicate":             {"Eradication", true},
	"irctl recover":               {"Recovery", true},
	"irctl undo":                  {"Undo", true},
	"irctl status":                {"Status", true},
	"irctl run":                   {"Run", true},
	"irctl report":                {"Report", false},
	"irctl doctor":                {"Diagnosis", false},
	"irctl version":               {"Version", false},
	"irctl incident open":         {"IncidentDetails", true},
	"irctl incident list":         {"IncidentList", true},
	"irctl incident show":         {"IncidentDetails", true},
	"irctl incident set":          {"IncidentDetails", true},
	"irctl incident close":        {"IncidentDetails", true},
	"irctl incident reopen":       {"IncidentDetails", true},
	"irctl timeline show":         {"Timeline", false},
	"irctl timeline note":         {"Timeline", false},
	"irctl timeline verify":       {"TimelineVerification", false},
	"irctl evidence verify":       {"BundleVerification", true},
	"irctl evidence ls":           {"BundleContents", true},
	"irctl evidence clean":        {"EvidenceCleaning", true},
	"irctl evidence custody add":  {"Custody", false},
	"irctl evidence custody list": {"Custody", false},
	"irctl runbook list":          {"RunbookList", true},
	"irctl runbook show":          {"Runbook", true},
	"irctl runbook lint":          {"RunbookProblems", false},
	"irctl runbook new":           {"NewRunbook", true},
	"irctl runbook operations":    {"OperationList", true},
	"irctl config view":           {"Config", false},
	"irctl config validate":       {"ConfigValidation", false},
	"irctl drill":                 {"DrillScore", false},
	"irctl drill serve":           {"DrillScore", false},
	"irctl drill list":            {"ScenarioList", true},
}

// formatsOf are what -o can be for a command.
func formatsOf(path string) []string {
	switch r, known := results[path]; {
	case strings.HasSuffix(path, " schema"): // it is JSON as it is
		return []string{asTable, asJSON}
	case path == "irctl report": // the other formats are those of --format
		return []string{asTable, asJSON}
	case !known:
		return []string{asTable}
	case r.named:
		return outputs
	}
	return []string{asTable, asJSON, asYAML}
}

// checkOutput refuses a format that a command does not have: what was asked for
// must not be left out in silence.
func (a *App) checkOutput(c *cobra.Command) error {
	formats := formatsOf(c.CommandPath())
	switch {
	case slices.Contains(formats, a.output):
	case !slices.Contains(outputs, a.output):
		return usagef("-o %s: use table, json, yaml or name", a.output)
	case len(formats) == 1:
		return usagef("-o %s: %s prints text alone; leave -o out", a.output, c.CommandPath())
	default:
		return usagef("-o %s does not fit %s; use %s", a.output, c.CommandPath(), strings.Join(formats, " or "))
	}
	a.kind = results[c.CommandPath()].kind
	return nil
}

// enveloped puts apiVersion and kind before the keys of a JSON object, which stay
// where they are. One that says already what it is, as a runbook does, stays as it is.
func enveloped(kind string, object []byte) ([]byte, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(object, &keys); err != nil {
		return nil, fmt.Errorf("what is printed as %s is no JSON object: %w", kind, err)
	}
	if _, says := keys["apiVersion"]; says {
		return object, nil
	}
	if _, taken := keys["kind"]; taken || kind == "" {
		return nil, fmt.Errorf("what is printed as %q has a kind of its own, or none", kind)
	}
	head := fmt.Sprintf(`{"apiVersion":%q,"kind":%q`, apiVersion, kind)
	if len(keys) > 0 {
		head += ","
	}
	return append([]byte(head), bytes.TrimLeft(object, " \n")[1:]...), nil
}

// explained has what a table says on standard error, where -o name left it out and
// the end alone says that not all is well.
func (a *App) explained(end error, print func(people *App) error) error {
	if a.output != asName || end == nil || end.Error() != "" {
		return end
	}
	people := *a
	people.output, people.Out, people.OutTerminal = asTable, a.Err, a.ErrTerminal
	if err := print(&people); err != nil {
		return errors.Join(err, end)
	}
	return end
}

// objectText is v as the JSON object that is printed, on one line.
func objectText(kind string, v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // commands hold < > & and are read by people
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return enveloped(kind, b.Bytes())
}
