package rotate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"irctl/internal/cluster"
	"irctl/internal/sanitize"
)

// Commander runs the team's own commands, by which a new value is put where
// irctl has no rotator for.
type Commander struct {
	// Incident is told to the commands.
	Incident string
	// Time bounds each; 0: one minute.
	Time time.Duration
}

// maxOutput bounds what is kept of a command's complaint.
const maxOutput = 2 << 10

// Run runs an argument vector, never a shell, with the new value on its
// standard input and nothing else. Its environment is irctl's own with
// IRCTL_INCIDENT, IRCTL_NAMESPACE, IRCTL_SECRET and IRCTL_KEY. What it prints
// is not shown, but for the end of its complaint when it fails, without any of
// the secrets.
func (c Commander) Run(ctx context.Context, argv []string, secret cluster.Ref, key string, value Value,
	secrets []Value) error {
	if c.Time == 0 {
		c.Time = time.Minute
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Time, fmt.Errorf("it took longer than %s", c.Time))
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) // what the responder asked to run
	cmd.Env = append(os.Environ(), "IRCTL_INCIDENT="+c.Incident, "IRCTL_NAMESPACE="+secret.Namespace, "IRCTL_SECRET="+
		secret.Name, "IRCTL_KEY="+key)
	cmd.Stdin = bytes.NewReader(value.Reveal())
	complaint := &tail{limit: maxOutput}
	cmd.Stderr = complaint
	cmd.WaitDelay = 2 * time.Second // for what it leaves behind holding its pipes
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = errors.Join(err, cause)
	}
	said := sanitize.Line(scrubText(string(complaint.kept), secrets...))
	return fmt.Errorf("the team's command %q for key %s of %s: %w: %s", argv[0], key, secret, scrub(err, secrets...),
		said)
}

// tail keeps the last bytes that were written.
type tail struct {
	kept  []byte
	limit int
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - t.limit; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}
