package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/client-go/util/exec"
)

// liveCollector runs commands in the running containers: what processes there
// are, what they have open, mounted and in their environment, and which files
// changed lately. It uses the container's own shell, which an attacker may have
// replaced; what it answers is to be compared with the node's view. Where there
// is no shell, it uses an ephemeral container that sees the same processes.
type liveCollector struct {
	*inquiry
	pod *pod
}

func (c *liveCollector) Name() string { return "live" }

// question is one script. $ROOT is where the container's files are.
type question struct{ name, script string }

// questions in the order of volatility. The scripts need a POSIX shell, and use
// what else there is; they take nothing from outside.
var questions = []question{
	{"processes.txt", `(ps -efww || ps -ef || ps) 2>/dev/null
for p in /proc/[0-9]*; do
  echo "== $p"
  (tr '\0' ' ' <"$p/cmdline" || cat "$p/cmdline") 2>/dev/null; echo
  cat "$p/status" 2>/dev/null
  ls -ld "$p/exe" "$p/cwd" "$p/root" 2>/dev/null
  ls -l "$p/fd" 2>/dev/null
done; true`},
	{"sockets.txt",
		`for f in tcp tcp6 udp udp6 raw raw6 unix route arp; do
  echo "== /proc/net/$f"; cat "/proc/net/$f" 2>/dev/null; done
(ss -anp || netstat -anp) 2>/dev/null; true`},
	{"mounts.txt", `for p in /proc/[0-9]*; do echo "== $p"; cat "$p/mountinfo" 2>/dev/null; done; true`},
	{"environment.txt", `for p in /proc/[0-9]*; do echo "== $p"; (tr '\0' '\n' <"$p/environ" || cat "$p/environ") ` +
		`2>/dev/null; done; true`},
	{"recent-files.txt", `find "$ROOT/" -xdev -type f -mtime -2 -exec ls -ldn {} + 2>/dev/null; true`},
}

// maxLive bounds each answer, in bytes.
const maxLive = 32 << 20

func (c *liveCollector) Collect(ctx context.Context, out *Output) error {
	facts, err := c.pod.read(ctx)
	if err != nil {
		return err
	}
	for _, of := range facts.containers {
		if of.running {
			c.ask(ctx, out, of)
		}
	}
	return facts.tooMany
}

// ask uses the first question to find out whether there is a shell.
func (c *liveCollector) ask(ctx context.Context, out *Output, of container) {
	shell, root := of.name, ""
	if err := c.probe(ctx, of.name); isNoShell(err) {
		if c.scope.DebugImage == "" {
			out.Fail(c.source(of.name, "sh"),
				fmt.Errorf("the container has no shell; --debug-image would add a container that has: %w", err), "live",
				of.name, "shell")
			return
		}
		debug, err := c.debugContainer(ctx, c.pod, of)
		if err != nil {
			out.Fail("PATCH "+objectPath(podsResource, c.pod.Namespace, c.pod.Name)+"/ephemeralcontainers", err, "live",
				of.name, "debug-container")
			return
		}
		shell, root = debug, debugRoot
	}
	for _, q := range questions {
		command := []string{"sh", "-c", "ROOT=" + root + "\n" + q.script}
		_ = out.Stream(ctx, c.source(shell, command...), maxLive, func(ctx context.Context) (io.ReadCloser, error) {
			return c.api.exec(ctx, c.pod.PodRef, shell, command...)
		}, "live", of.name, q.name) // recorded
	}
}

func (c *liveCollector) source(container string, command ...string) string {
	return fmt.Sprintf("exec in container %s: %s", container, strings.Join(command, " "))
}

func (c *liveCollector) probe(ctx context.Context, container string) error {
	return c.api.requests.do(ctx, func(ctx context.Context) (io.ReadCloser, error) {
		return c.api.exec(ctx, c.pod.PodRef, container, "sh", "-c", ":")
	}, func(body io.Reader) error {
		return copyLimited(io.Discard, body, maxLive)
	})
}

// isNoShell tells a command that is not there from one that failed. Runtimes
// differ: some say so with the exit code of a shell, some with an error.
func isNoShell(err error) bool {
	var exit exec.CodeExitError
	if errors.As(err, &exit) && (exit.Code == 126 || exit.Code == 127) {
		return true
	}
	return err != nil && (strings.Contains(err.Error(), "executable file not found") ||
		strings.Contains(err.Error(), "no such file or directory"))
}
