package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The exit codes, as docs/cli.md promises them.
const (
	exitDone         = 0
	exitError        = 1
	exitUsage        = 2
	exitNotContained = 3
	exitRefused      = 4
)

// The verdicts, as JSON has them.
const (
	contained    = "contained"
	exposed      = "contained with exposures"
	notContained = "not contained"
)

// A Person runs irctl: an identity in the cluster, and a home directory of
// their own, where irctl keeps their incidents.
type Person struct {
	t          *testing.T
	kubeconfig string
	home       string
}

// newPerson returns somebody who has never run irctl before.
func newPerson(t *testing.T, identity string) *Person {
	t.Helper()
	return &Person{t: t, kubeconfig: world.kubeconfigs[identity], home: t.TempDir()}
}

// state is where irctl keeps this person's incidents.
func (p *Person) state() string { return filepath.Join(p.home, "state", "irctl") }

// incidents are the directories of this person's incidents.
func (p *Person) incidents() []string {
	p.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(p.state(), "incidents", "inc-*"))
	if err != nil {
		p.t.Fatal(err)
	}
	return dirs
}

// A Run is what came of one irctl command.
type Run struct {
	t              *testing.T
	command        string
	code           int
	stdout, stderr string
}

// runLimit bounds one command. irctl's own --timeout is shorter.
const runLimit = 3 * time.Minute

// irctl runs a command to its end. There is no terminal and no standard input.
func (p *Person) irctl(args ...string) *Run {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := p.prepare(ctx, args...)
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		p.t.Fatalf("irctl %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return &Run{t: p.t, command: "irctl " + strings.Join(args, " "), code: command.ProcessState.ExitCode(),
		stdout: stdout.String(), stderr: stderr.String()}
}

func (p *Person) prepare(ctx context.Context, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, world.Irctl, args...)
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + p.home,
		"XDG_STATE_HOME=" + filepath.Join(p.home, "state"),
		"XDG_CONFIG_HOME=" + filepath.Join(p.home, "config"),
		"KUBECONFIG=" + p.kubeconfig,
	}
	command.Dir = p.home
	return command
}

// peak runs a command, which must succeed, and returns how much memory it had at
// most. The kernel's account of a process that ended is of no use: it counts
// the memory of the one that started it.
func (p *Person) peak(args ...string) int64 {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	var output bytes.Buffer
	command := p.prepare(ctx, args...)
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	most := int64(0)
	for {
		select {
		case err := <-ended:
			if err != nil {
				p.t.Fatalf("irctl %s: %v\n%s", strings.Join(args, " "), err, output.String())
			}
			return most
		case <-time.After(20 * time.Millisecond):
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", command.Process.Pid)) // it may have ended
			if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
				var kib int64
				if _, err := fmt.Sscan(rest, &kib); err == nil {
					most = max(most, kib<<10)
				}
			}
		}
	}
}

// kill runs a command and kills it after a while, unless it has ended by then.
func (p *Person) kill(after time.Duration, args ...string) {
	p.t.Helper()
	command := p.prepare(context.Background(), args...)
	if err := command.Start(); err != nil {
		p.t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { _ = command.Process.Kill() }) // it may have ended
	defer timer.Stop()
	_ = command.Wait() // how it ended is the caller's to find out
}

// exits fails the test unless the command ended with this code.
func (r *Run) exits(code int) *Run {
	r.t.Helper()
	if r.code != code {
		r.t.Fatalf("%s: exit code %d, want %d%s", r.command, r.code, code, r)
	}
	return r
}

func (r *Run) String() string {
	return "\n--- standard output\n" + r.stdout + "\n--- standard error\n" + r.stderr
}

// decode reads standard output, which must be one JSON value and nothing else.
func (r *Run) decode(value any) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.stdout), value); err != nil {
		r.t.Fatalf("%s: standard output is not JSON: %v%s", r.command, err, r)
	}
}

// A Containment is the JSON of contain.
type Containment struct {
	*Run      `json:"-"`
	Incident  string    `json:"incident"`
	Opened    bool      `json:"opened"`
	Verdict   string    `json:"verdict"`
	Targets   []Finding `json:"targets"`
	Actions   []Action  `json:"actions"`
	Refusals  []Refusal `json:"refusals"`
	Warnings  []Warning `json:"warnings"`
	PutBack   []string  `json:"putBack"`
	Failures  []string  `json:"failures"`
	Directory string    `json:"directory"`
	Evidence  *struct {
		Taken bool `json:"taken"`
	} `json:"evidence"`
}

// A Finding is the verdict on one suspect.
type Finding struct {
	Namespace string     `json:"namespace"`
	Pod       string     `json:"pod"`
	Workload  string     `json:"workload"`
	Verdict   string     `json:"verdict"`
	Checks    []Check    `json:"checks"`
	Exposures []Exposure `json:"exposures"`
	Policies  []string   `json:"policies"`
}

// A Check is something that was meant, and whether it was observed.
type Check struct {
	Code string `json:"code"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// An Exposure is what remains open.
type Exposure struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	Text     string `json:"text"`
}

// An Action is one change, and what came of it.
type Action struct {
	Step    string `json:"step"`
	Action  string `json:"action"`
	Object  string `json:"object"`
	Outcome string `json:"outcome"`
	Error   string `json:"error"`
}

// A Refusal is a change that irctl would not make.
type Refusal struct {
	Action   string `json:"action"`
	Reason   string `json:"reason"`
	Override string `json:"override"`
}

// A Warning is what a plan will not achieve.
type Warning struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

func (c *Containment) exits(code int) *Containment {
	c.t.Helper()
	c.Run.exits(code)
	return c
}

// contain runs irctl contain without asking, and reads what it prints.
func (p *Person) contain(args ...string) *Containment {
	p.t.Helper()
	c := &Containment{Run: p.irctl(append([]string{"contain", "--yes", "-o", "json"}, args...)...)}
	if c.stdout != "" {
		c.decode(c)
	}
	return c
}

// finding is the verdict on the only suspect.
func (c *Containment) finding() Finding {
	c.t.Helper()
	if len(c.Targets) != 1 {
		c.t.Fatalf("%s: %d suspects, want 1%s", c.command, len(c.Targets), c)
	}
	return c.Targets[0]
}

// outcomes are those of the actions of a step, in order.
func (c *Containment) outcomes(step string) []string {
	var found []string
	for _, action := range c.Actions {
		if action.Step == step {
			found = append(found, action.Outcome)
		}
	}
	return found
}

// exposure returns the exposure of a code, or fails the test.
func (f Finding) exposure(t *testing.T, code string) Exposure {
	t.Helper()
	for _, exposure := range f.Exposures {
		if exposure.Code == code {
			return exposure
		}
	}
	t.Fatalf("no exposure %q among %+v", code, f.Exposures)
	return Exposure{}
}

// warned tells whether there is a warning of a code.
func (c *Containment) warned(code string) bool {
	for _, warning := range c.Warnings {
		if warning.Code == code {
			return true
		}
	}
	return false
}

// An Undoing is the JSON of undo.
type Undoing struct {
	*Run     `json:"-"`
	Incident string   `json:"incident"`
	Actions  []Action `json:"actions"`
}

func (u *Undoing) exits(code int) *Undoing {
	u.t.Helper()
	u.Run.exits(code)
	return u
}

// undo runs irctl undo without asking, and reads what it prints.
func (p *Person) undo(args ...string) *Undoing {
	p.t.Helper()
	u := &Undoing{Run: p.irctl(append([]string{"undo", "--yes", "-o", "json"}, args...)...)}
	if u.stdout != "" {
		u.decode(u)
	}
	return u
}

// A Status is what status tells of one incident.
type Status struct {
	Incident struct {
		ID string `json:"id"`
	} `json:"incident"`
	Verdict  string    `json:"verdict"`
	Targets  []Finding `json:"targets"`
	Standing []struct {
		Summary string `json:"summary"`
		State   string `json:"state"`
	} `json:"standing"`
}

// status runs irctl status, and reads what it prints of the only incident.
func (p *Person) status(code int) Status {
	p.t.Helper()
	var printed struct {
		Incidents []Status `json:"incidents"`
	}
	run := p.irctl("status", "-o", "json").exits(code)
	run.decode(&printed)
	if len(printed.Incidents) != 1 {
		p.t.Fatalf("status tells of %d incidents, want 1%s", len(printed.Incidents), run)
	}
	return printed.Incidents[0]
}

// exitsContained fails the test unless everything that was to be done was: the
// verdict may at most name exposures, as it must where the enforcer of a
// cluster is not recognised.
func (c *Containment) exitsContained() *Containment {
	c.t.Helper()
	if c.code != exitDone && (c.code != exitNotContained || c.Verdict != exposed) {
		c.t.Fatalf("%s: exit code %d, verdict %q%s", c.command, c.code, c.Verdict, c)
	}
	return c
}
