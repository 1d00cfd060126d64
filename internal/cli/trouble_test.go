package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"irctl/internal/cli"
	"irctl/internal/engine"
	"irctl/internal/fixture"
)

// What a command reads. For whatever is read, the trouble with it applies.
const (
	theCluster = "cluster"
	theRecord  = "record" // of an incident: its files
	aFile      = "file"
)

// The troubles.
const (
	noNamespace = "a namespace that is not there"
	forbidden   = "all reads forbidden"
	fullDisk    = "/dev/full"
	emptyInput  = "an empty input"
)

var troubles = []string{noNamespace, forbidden, fullDisk, emptyInput}

// instead is a command line that takes the place of the row's own in a trouble; it
// holds the trouble in itself.
func instead(line string) string { return "irctl " + line }

// stress is a row of the table of troubles: a command line that ends well in a
// fixture, and what each trouble is for it. Without a text the trouble applies as
// it stands: -n nonesuch is added, every read is forbidden, standard output is
// full, the incident's journal is emptied. Else the text is another line, see
// instead, or the reason why the trouble does not apply, which nothing that reads
// a cluster, a file or a record can have.
type stress struct {
	line  string
	uses  string // the operation of the runbook that the line runs
	with  string // its inputs
	state string // the fixture; "": contained
	reads []string

	namespace, forbid, full, empty string

	// formats, if not all that the command has.
	formats []string
	// cause is what is said of an empty input; "": that the journal is damaged.
	cause string
	// seen says why ✓ may stand where a read is forbidden: it was looked at.
	seen string
	// json: what is printed is no object of the schema, but this.
	json string
}

// Reasons for a trouble that does not apply.
const (
	readsNothing = "it reads no cluster, no file and no record"
	notOfCluster = "it talks to no cluster"
	onlyRecords  = "it writes into the record, and reads none of the cluster"
)

func reads(what ...string) []string { return what }

// plain is a command that only prints.
func plain(line, json string) stress {
	return stress{line: line, namespace: readsNothing, forbid: readsNothing, empty: readsNothing, json: json}
}

// ofRecord is a command that reads the files of an incident alone.
func ofRecord(line string) stress {
	return stress{line: line, reads: reads(theRecord), namespace: notOfCluster, forbid: notOfCluster}
}

// ofFile is a command that reads a file alone. empty is its line with an empty one.
func ofFile(line, empty, cause string) stress {
	return stress{line: line, reads: reads(aFile), namespace: notOfCluster, forbid: notOfCluster, empty: instead(empty),
		cause: cause}
}

// ofBoth is a command that reads the cluster and the record.
func ofBoth(state, line string) stress {
	return stress{line: line, state: state, reads: reads(theCluster, theRecord)}
}

// operation is a run of a runbook with one step.
func operation(state, uses, with string) stress {
	s := ofBoth(state, "run HOME/operation.yaml --incident INCIDENT --yes")
	s.uses, s.with = uses, with
	return s
}

// recording is an operation that reads nothing of the cluster.
func recording(uses, with string) stress {
	s := operation("", uses, with)
	s.reads, s.forbid = reads(theRecord), onlyRecords
	return s
}

const key = " --key HOME/keys/responder.secret.asc"

var stresses = []stress{
	plain("", aGroup),
	{line: "detect", reads: reads(theCluster, aFile), empty: instead("detect --no-cluster --falco HOME/empty"),
		cause: "empty|no line"},
	{line: "detect --no-cluster --falco HOME/alerts.jsonl", reads: reads(aFile), namespace: notOfCluster,
		forbid: notOfCluster,
		empty:  instead("detect --no-cluster --audit-log HOME/empty"), cause: "empty|no line"},
	ofBoth("open", "contain --pod SUSPECT --incident INCIDENT --yes"),
	ofBoth("open", "contain --pod SUSPECT --incident INCIDENT --dry-run"),
	ofBoth("", "investigate --pod SUSPECT --yes"),
	ofBoth("", "investigate --pod SUSPECT --dry-run --incident INCIDENT"),
	ofBoth("", "eradicate --plan"),
	ofBoth("", "eradicate --remove-bindings --yes"),
	ofBoth("", "eradicate --remove-bindings --dry-run"),
	ofBoth("rotated", "recover --wait 3s --yes"),
	ofBoth("rotated", "recover --dry-run"),
	ofBoth("", "undo --all --yes"),
	ofBoth("", "undo --all --dry-run"),
	ofBoth("", "status"),
	ofBoth("", "status INCIDENT"),
	ofBoth("open", "run cut-off --runbook-dir HOME/runbooks --set pod=SUSPECT --incident INCIDENT --yes"),
	ofBoth("", "report INCIDENT"),
	ofBoth("", "report INCIDENT --format json"),
	ofRecord("report INCIDENT --offline"),
	ofBoth("exposed", "accept"),
	ofBoth("exposed", "accept token --reason revoked"),
	plain("incident", aGroup),
	{line: "incident list", reads: reads(theRecord), namespace: notOfCluster, forbid: notOfCluster,
		cause: "broken|not as it was written"},
	ofRecord("incident show INCIDENT"),
	{line: "incident open --title Another", namespace: "",
		forbid: "it asks the cluster for its name alone, and does without",
		empty:  "it makes a new record"},
	ofRecord("incident set INCIDENT severity=sev1"),
	{line: "incident close INCIDENT --leave-standing evidence", reads: reads(theCluster, theRecord),
		forbid: instead("incident close INCIDENT")},
	{line: "incident reopen INCIDENT", state: "closed", reads: reads(theRecord), namespace: notOfCluster,
		forbid: notOfCluster},
	{line: "incident repair INCIDENT --reason looked", reads: reads(theRecord),
		forbid: "that an incident needs no repair is in its files"},
	plain("timeline", aGroup),
	ofRecord("timeline show INCIDENT"),
	ofRecord("timeline note --incident INCIDENT seen"),
	ofRecord("timeline verify incident/INCIDENT"),
	ofRecord("timeline export INCIDENT --format csv"),
	plain("evidence", aGroup),
	ofFile("evidence verify BUNDLE", "evidence verify HOME/empty", "empty|receipt|bundle"),
	ofFile("evidence ls BUNDLE"+key, "evidence ls HOME/empty"+key, "empty|bundle|EOF|encrypted|OpenPGP"),
	ofFile("evidence cat BUNDLE manifest-sha256.txt"+key, "evidence cat HOME/empty x"+key,
		"empty|bundle|EOF|encrypted|OpenPGP"),
	{line: "evidence extract BUNDLE HOME/extracted" + key, reads: reads(aFile), namespace: notOfCluster,
		forbid: notOfCluster,
		full:   instead("evidence extract BUNDLE /dev/full/extracted" + key),
		empty:  instead("evidence extract HOME/empty HOME/x" + key),
		cause:  "empty|bundle|EOF|encrypted|OpenPGP"},
	ofRecord("evidence clean INCIDENT --yes"),
	plain("evidence custody", aGroup),
	ofFile("evidence custody add BUNDLE --from responder --to forensics",
		"evidence custody add HOME/empty --from a --to b", "receipt|empty|bundle"),
	ofFile("evidence custody list BUNDLE", "evidence custody list HOME/empty", "receipt|empty|bundle"),
	ofFile("evidence timestamp BUNDLE --tsa-query", "evidence timestamp HOME/empty --tsa-query",
		"receipt|empty|bundle"),
	{line: "doctor", reads: reads(theCluster), empty: instead("doctor --apply HOME/empty"),
		cause: "empty|no object|nothing",
		seen:  "that the server answers, and the files of this machine, was looked at"},
	{line: "doctor --roles", formats: []string{"table", "yaml"}, namespace: readsNothing, forbid: readsNothing,
		empty: readsNothing, json: "YAML"},
	plain("runbook", aGroup),
	{line: "runbook list --runbook-dir HOME/runbooks", reads: reads(aFile), namespace: notOfCluster,
		forbid: notOfCluster,
		empty:  instead("runbook list --runbook-dir HOME/nowhere"), cause: "nowhere"},
	ofFile("runbook lint HOME/runbooks/cut-off.yaml", "runbook lint HOME/empty.yaml", "empty"),
	ofFile("runbook show HOME/runbooks/cut-off.yaml", "runbook show HOME/empty.yaml", "empty"),
	ofFile("runbook graph HOME/runbooks/cut-off.yaml", "runbook graph HOME/empty.yaml", "empty"),
	plain("runbook new ours -f HOME/ours.yaml", ""),
	plain("runbook operations", ""),
	plain("runbook schema", "a JSON Schema"),
	plain("config", aGroup),
	ofFile("config view", "config view --config HOME/nowhere", "nowhere: no such file"),
	ofFile("config validate", "config validate --config HOME/empty", "nothing"),
	{line: "drill", namespace: readsNothing, forbid: readsNothing, empty: readsNothing, json: noTerminal,
		full: "the score comes at the end of a whole drill, which is played elsewhere"},
	plain("drill list", ""),
	plain("drill schema", "a JSON Schema"),
	{line: "drill serve", namespace: readsNothing, forbid: readsNothing, empty: readsNothing,
		json: "it serves until it is stopped"},
	plain("version", ""),
	plain("completion bash", "a script"),
	plain("options", "text"),

	{line: "run HOME/operation.yaml --incident INCIDENT --yes", uses: "detect", with: "falco: [HOME/alerts.jsonl]",
		reads: reads(theCluster, theRecord, aFile)},
	operation("open", "contain", "pods: [SUSPECT]"),
	operation("", "undo", ""),
	operation("", "status", ""),
	operation("", "snapshot", ""),
	operation("", "investigate", ""),
	operation("", "eradicate", "removeBindings: true"),
	operation("rotated", "restore", "wait: 3s"),
	operation("rotated", "release", ""),
	operation("recovered", "monitor", "{for: 300ms, every: 100ms}"),
	recording("report", ""),
	recording("manual", "{instruction: Look, unattended: done}"),
	recording("command", "argv: [echo, seen]"),
	recording("note", "text: seen"),
	operation("", "close", ""),
}

// TestTroubles: nothing ends with 0 or ✓ that could not be read, was not there or
// could not be written, in any format of any command.
func TestTroubles(t *testing.T) {
	fixtures := load(t)
	var all sync.WaitGroup
	free := make(chan struct{}, 8)
	for i, s := range stresses {
		for j, trouble := range troubles {
			if reason, applies := s.reason(trouble); !applies && reason != "" {
				continue
			}
			for k, format := range s.inFormats(t) {
				if testing.Short() && (i+j+k)%3 != 0 {
					continue
				}
				free <- struct{}{}
				all.Go(func() {
					defer func() { <-free }()
					s.check(t, fixtures, trouble, format)
				})
			}
		}
	}
	all.Wait()
}

func (s stress) inFormats(t *testing.T) []string {
	if s.formats != nil {
		return s.formats
	}
	return cli.FormatsOf(s.command(t))
}

func (s stress) command(t *testing.T) *cobra.Command {
	c, _, err := cli.Commands().Find(strings.Fields(s.line))
	if err != nil {
		t.Fatalf("%q: %v", s.line, err)
	}
	return c
}

// reason is the text of a trouble that is no line, and whether it applies.
func (s stress) reason(trouble string) (text string, applies bool) {
	text = map[string]string{noNamespace: s.namespace, forbidden: s.forbid, fullDisk: s.full,
		emptyInput: s.empty}[trouble]
	return text, text == "" || strings.HasPrefix(text, "irctl ")
}

func (s stress) check(t *testing.T, fixtures map[string]*fixture.Fixture, trouble, format string) {
	d := newDesk(t, fixtures[s.inState()])
	line, cause := s.line, ""
	d.operation = s.operation()
	text, _ := s.reason(trouble)
	switch trouble {
	case noNamespace:
		line, cause = line+" -n nonesuch", `there is no namespace \\?"nonesuch`
	case forbidden:
		d.forbid, cause = true, `forbidden|may not|not allowed`
	case fullDisk:
		d.out, cause = full{}, "writing to standard output: no space left on device"
	case emptyInput:
		d.emptied, cause = "timeline.jsonl", "journal|timeline"
		if s.cause != "" {
			cause = s.cause
		}
	}
	switch other, replaced := strings.CutPrefix(text, "irctl "); {
	case replaced:
		line, d.emptied = other, ""
		if strings.Contains(other, "/dev/full") {
			d.out, cause = nil, "/dev/full"
		}
	case text != "":
		d.emptied = text
	}
	line = strings.TrimSpace(line + " -o " + format)
	code, out, errs := d.irctl(line)
	name := strings.TrimSpace("irctl " + line + " " + s.uses)
	if code == 0 && trouble == fullDisk && s.printsNothing(t, fixtures, line) {
		return // so nothing is lost
	}
	if code == 0 {
		t.Errorf("%s: %s: exit code %d\n%s%s", trouble, name, code, out, errs)
	}
	if s.seen == "" && (strings.Contains(out, "✓") || trouble != fullDisk && strings.Contains(errs, "✓")) {
		t.Errorf("%s: %s: it says ✓\n%s%s", trouble, name, out, errs)
	}
	if !regexp.MustCompile(cause).MatchString(out + errs) {
		t.Errorf("%s: %s: it does not say %s\n%s%s", trouble, name, cause, out, errs)
	}
}

// printsNothing tells whether there is nothing on standard output, as where -o
// name has nothing to name.
func (s stress) printsNothing(t *testing.T, fixtures map[string]*fixture.Fixture, line string) bool {
	d := newDesk(t, fixtures[s.inState()])
	d.operation = s.operation()
	_, out, _ := d.irctl(line)
	return out == ""
}

func (s stress) inState() string {
	if s.state == "" {
		return "contained"
	}
	return s.state
}

// operation is a runbook of one step; "": none.
func (s stress) operation() string {
	if s.uses == "" {
		return ""
	}
	with := ""
	if s.with != "" {
		with = "\n        with:\n          " + s.with
		if strings.HasPrefix(s.with, "{") {
			with = "\n        with: " + s.with
		}
	}
	return fmt.Sprintf(`apiVersion: irctl/v1
kind: Runbook
name: operation
version: 1.0.0
title: One step
severity: sev3
phases:
  - name: contain
    steps:
      - name: only
        uses: %s
        title: The only step%s
`, s.uses, with)
}

// full is a disk on which there is no room.
type full struct{}

func (full) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}
}

// TestTroublesHasEverything: every command and every operation of a runbook is in
// the table, and no trouble is left out for what reads something.
func TestTroublesHasEverything(t *testing.T) {
	commands, operations := map[string]bool{}, map[string]bool{}
	for _, s := range stresses {
		commands[s.command(t).CommandPath()] = true
		operations[s.uses] = true
		must := map[string]bool{noNamespace: slices.Contains(s.reads, theCluster),
			forbidden: slices.Contains(s.reads, theCluster),
			fullDisk:  len(s.reads) > 0, emptyInput: len(s.reads) > 0}
		for _, trouble := range troubles {
			if text, applies := s.reason(trouble); must[trouble] && !applies {
				t.Errorf("irctl %s reads %v, so %s applies: %q is no reason", s.line, s.reads, trouble, text)
			}
		}
	}
	for _, c := range everyCommand() {
		if !commands[c.CommandPath()] {
			t.Errorf("%s is not in the table: say what it reads, and what each trouble is for it", c.CommandPath())
		}
	}
	for _, op := range engine.Operations() {
		if !operations[op.Name] {
			t.Errorf("the operation %s is not in the table", op.Name)
		}
	}
}

// What every command prints as JSON is as its schema says.
func TestOutputIsAsTheSchemaSays(t *testing.T) {
	fixtures := load(t)
	var all sync.WaitGroup
	free := make(chan struct{}, 8)
	for _, s := range stresses {
		c := s.command(t)
		if s.json != "" || !slices.Contains(cli.FormatsOf(c), "json") {
			continue
		}
		kind := cli.KindOf(c)
		if kind == "Investigation" && strings.Contains(s.line, "--dry-run") {
			kind = "CollectionPlan"
		}
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			d := newDesk(t, fixtures[s.inState()])
			d.operation = s.operation()
			code, out, errs := d.irctl(s.line + " -o json")
			if code == cli.ExitUsage || out == "" {
				t.Errorf("irctl %s: exit code %d\n%s", s.line, code, errs)
			}
			t.Run(strings.TrimSpace(s.line+" "+s.uses), func(t *testing.T) { checkOutput(t, kind, out) })
		})
	}
	all.Wait()
}

// emptyFiles are empty, under the names that commands insist on.
func emptyFiles(home string) error {
	for _, name := range []string{"empty", "empty.yaml"} {
		if err := os.WriteFile(filepath.Join(home, name), nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// A dry run has done nothing, so nothing of it has the mark of what is done.
func TestADryRunHasNoMarkOfWhatIsDone(t *testing.T) {
	fixtures := load(t)
	for _, s := range stresses {
		if !strings.Contains(s.line, "--dry-run") {
			continue
		}
		if _, out, errs := newDesk(t, fixtures[s.inState()]).irctl(s.line); strings.Contains(out+errs, "✓") {
			t.Errorf("irctl %s:\n%s%s", s.line, out, errs)
		}
	}
}

// What a command cannot print is refused, and not left out in silence.
func TestAFormatThatACommandDoesNotHaveIsRefused(t *testing.T) {
	d := newDesk(t, load(t)["contained"])
	for _, s := range stresses {
		for _, format := range []string{"table", "json", "yaml", "name", "wide"} {
			if slices.Contains(cli.FormatsOf(s.command(t)), format) &&
				(s.formats == nil || slices.Contains(s.formats, format)) {
				continue
			}
			line := strings.TrimSpace(s.line + " -o " + format)
			if code, out, errs := d.irctl(line); code != cli.ExitUsage || !strings.Contains(errs, "-o "+format) ||
				out != "" {
				t.Errorf("irctl %s: exit code %d\n%s%s", line, code, out, errs)
			}
		}
	}
}
