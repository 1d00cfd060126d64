package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"irctl/internal/runbook"
)

// Limits of a team's command.
const (
	// commandTime is how long it may take unless the step says otherwise.
	commandTime = 5 * time.Minute
	// commandGrace is how long it has to end after it was told to.
	commandGrace = 5 * time.Second
	// keptOutput is how much of each stream is kept, in bytes; all of it is hashed.
	keptOutput = 32 << 10
)

// passedEnvironment is what a command gets of irctl's own environment: what it
// takes to run, to reach a cluster, and to get out through a proxy. Whatever
// else it needs the step names, so that no credential goes where it need not.
var passedEnvironment = []string{"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SYSTEMROOT",
	"KUBECONFIG", "XDG_CONFIG_HOME", "XDG_CACHE_HOME",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"}

func commandOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "command", Asks: true, Doc: "Run a command of the team's own: a program " +
			"and its arguments, never a shell. It has no standard input; time and output are bounded, and the output " +
			"is in the timeline, hashed. After a kill it is run again, so it should bear that.",
			Inputs: []runbook.Field{
				{Name: "argv", Domain: runbook.ListOf(runbook.Argument), Required: true, Doc: "The program, which no " +
					"expression can name, and its arguments. A program with a slash in it is looked for from the " +
					"runbook's folder."},
				{Name: "passEnv", Domain: runbook.ListOf(runbook.String),
					Doc: "Names of further environment variables that it is given."},
				{Name: "okExit", Domain: runbook.ListOf(runbook.Integer),
					Doc: "Exit codes besides 0 that are no failure."},
			},
			Results: []runbook.Result{
				{Name: "exitCode", Domain: runbook.Of(runbook.Integer),
					Doc: "Its exit code; -1 if it did not end by itself."},
				{Name: "output", Domain: runbook.Of(runbook.Text),
					Doc: "Its standard output, as far as it is kept, without the last line break."},
			},
			Check: func(in runbook.Literals) (string, string) {
				if argv := in.Texts("argv"); in["argv"] != nil && (len(argv) == 0 || argv[0] == "") {
					return "argv", "argv names no program"
				}
				return "", ""
			}},
		describe: func(in runbook.Inputs) string { return "run " + quoted(in.Texts("argv")) },
		do:       doCommand,
	}
}

// quoted shows arguments so that each can be told from the next.
func quoted(argv []string) string {
	out := make([]string, len(argv))
	for i, a := range argv {
		out[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\$`|&;<>()*?[]#~") {
			out[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(out, " ")
}

// commandDetail is what is kept of a command.
type commandDetail struct {
	Argv     []string     `json:"argv"`
	ExitCode int          `json:"exitCode"`
	Stdout   streamDetail `json:"stdout"`
	Stderr   streamDetail `json:"stderr"`
}

// streamDetail is a stream: hashed as a whole, kept to a bound.
type streamDetail struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	Text   string `json:"text"`
	Cut    bool   `json:"cut,omitempty"`
}

func (d *commandDetail) inJournal() any { return d }

func doCommand(ctx context.Context, w *work) (outcome, error) {
	argv := w.in.Texts("argv")
	program, err := w.program(argv[0])
	if err != nil {
		return outcome{}, err
	}
	bounded, cancel := w.bounded(ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(bounded, program, argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Env = w.environment(w.in.Texts("passEnv"))
	stdout, stderr := newStream(), newStream()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = commandGrace
	ownGroup(cmd)
	w.engine.begin(Changing, w.id)
	err = cmd.Run()
	d := &commandDetail{Argv: argv, ExitCode: cmd.ProcessState.ExitCode(), Stdout: stdout.detail(),
		Stderr: stderr.detail()}
	o := outcome{detail: d, summary: fmt.Sprintf("%s ended with exit code %d, %d bytes of output, sha256 %s", argv[0],
		d.ExitCode, d.Stdout.Bytes, d.Stdout.SHA256),
		results: map[string]any{"exitCode": int64(d.ExitCode),
			"output": printable(strings.TrimRight(d.Stdout.Text, "\n"))}}
	if cmd.ProcessState == nil {
		return outcome{}, fmt.Errorf("starting %s: %w", argv[0], err)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case bounded.Err() != nil:
		err = fmt.Errorf("%s: %w", argv[0], context.Cause(bounded))
	case errors.As(err, &exit) && exit.Exited() && slices.Contains(w.in.Numbers("okExit"), int64(exit.ExitCode())):
		err = nil
	case strings.TrimSpace(d.Stderr.Text) != "":
		err = fmt.Errorf("%s: %w: %s", argv[0], err, lastLine(d.Stderr.Text))
	default:
		err = fmt.Errorf("%s: %w", argv[0], err)
	}
	return o, err
}

// program is where the program is. One that the runbook brings along is named
// with a slash, from the runbook's folder.
func (w *work) program(name string) (string, error) {
	switch {
	case filepath.IsAbs(name):
	case strings.ContainsRune(name, '/') && w.book.Dir == "":
		return "", fmt.Errorf("%s: a built-in runbook has no folder in which to look for it", name)
	case strings.ContainsRune(name, '/'):
		name = filepath.Join(w.book.Dir, filepath.FromSlash(name))
	}
	return exec.LookPath(name)
}

// environment is a command's: part of irctl's own, and what it is about.
func (w *work) environment(more []string) []string {
	names := slices.Concat(passedEnvironment, more)
	var env []string
	for _, kv := range w.req.Environ {
		if name, _, ok := strings.Cut(kv, "="); ok && slices.Contains(names, name) {
			env = append(env, kv)
		}
	}
	set := func(name, value string) { env = append(env, name+"="+value) }
	set("IRCTL_INCIDENT", string(w.id))
	set("IRCTL_STATE_DIR", w.Store.Dir())
	set("IRCTL_RUNBOOK", w.book.Name)
	set("IRCTL_PHASE", string(w.step.Phase()))
	set("IRCTL_STEP", w.step.Name)
	set("IRCTL_CONTEXT", w.Context)
	for name, v := range w.params {
		set("IRCTL_PARAM_"+name, runbook.Format(v))
	}
	return env
}

// stream hashes what a command writes, and keeps its beginning.
type stream struct {
	hash hash.Hash
	n    int64
	kept []byte
}

func newStream() *stream { return &stream{hash: sha256.New()} }

func (s *stream) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	if room := keptOutput - len(s.kept); room > 0 {
		s.kept = append(s.kept, p[:min(room, len(p))]...)
	}
	return s.hash.Write(p)
}

func (s *stream) detail() streamDetail {
	return streamDetail{Bytes: s.n, SHA256: hex.EncodeToString(s.hash.Sum(nil)),
		Text: strings.ToValidUTF8(string(s.kept), string(utf8.RuneError)), Cut: s.n > int64(len(s.kept))}
}

// maxResult is how much of an output conditions can read, in bytes.
const maxResult = 4 << 10

// printable is a text as a runbook's text can be: without control characters.
func printable(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxResult)], string(utf8.RuneError))
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return utf8.RuneError
		}
		return r
	}, s)
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
