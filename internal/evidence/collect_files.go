package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// fileCollector takes the files and directories that the responder named from
// every running container that has them: as a tar, with owners and times, made
// by the container's own tar; or, if it has none, the bare content. From a
// container that has no commands at all they are taken by an ephemeral one.
type fileCollector struct {
	*inquiry
	pod *pod
}

func (c *fileCollector) Name() string { return "files" }

func (c *fileCollector) Collect(ctx context.Context, out *Output) error {
	facts, err := c.pod.read(ctx)
	if err != nil {
		return err
	}
	out = out.Confidential() // it is in a form that cannot be redacted
	for _, of := range facts.containers {
		if !of.running {
			continue
		}
		for _, file := range c.scope.Files {
			c.collect(ctx, out, of, cleaned(file))
		}
	}
	return facts.tooMany
}

// cleaned is the one way in which a path is written.
func cleaned(file string) string { return path.Clean(file) }

// CheckFiles refuses paths that cannot be meant.
func (s Scope) CheckFiles() error {
	for _, file := range s.Files {
		if !path.IsAbs(file) || strings.ContainsRune(file, 0) {
			return fmt.Errorf("--file %q: it must be an absolute path in the container", file)
		}
	}
	return nil
}

func (c *fileCollector) collect(ctx context.Context, out *Output, of container, file string) {
	bare := file == "/proc" || strings.HasPrefix(file, "/proc/") // has no sizes that tar could use
	switch {
	case !bare && !isNoShell(c.probe(ctx, of.name, "tar", "--help")):
		// The path is an argument of its own, never a shell's text; "./" keeps it
		// from being taken for an option.
		c.run(ctx, out, of.name, of.name, file, ".tar", "tar", "cf", "-", "-C", "/", "./"+strings.TrimPrefix(file, "/"))
	case !isNoShell(c.probe(ctx, of.name, "cat", "/dev/null")):
		c.run(ctx, out, of.name, of.name, file, "", "cat", file)
	case c.scope.DebugImage == "":
		out.Fail(fmt.Sprintf("exec in container %s: tar, cat", of.name),
			errors.New("the container has neither tar nor cat; --debug-image would add a container that has"),
			c.names(of.name, file)...)
	default:
		c.beside(ctx, out, of, file, bare)
	}
}

// beside takes a file by an ephemeral container.
func (c *fileCollector) beside(ctx context.Context, out *Output, of container, file string, bare bool) {
	debug, err := c.debugContainer(ctx, c.pod, of)
	if err != nil {
		out.Fail("PATCH "+objectPath(podsResource, c.pod.Namespace, c.pod.Name)+"/ephemeralcontainers", err,
			c.names(of.name, file)...)
		return
	}
	suffix, how := ".tar", "tar"
	if bare {
		suffix, how = "", "cat"
	}
	c.run(ctx, out, debug, of.name, file, suffix, "sh", "-c", besideScript, "sh", debugRoot, file, how)
}

// besideScript reads $2 of the container whose files are at $1. It follows the
// symbolic links on the way itself: left to the kernel, an absolute one would
// lead into the files of the container that it runs in. The last name is not
// followed, as tar does not.
const besideScript = `rest=$2 done= links=0
while [ -n "$rest" ]; do
  name=${rest%%/*}
  case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
  case $name in ''|.) continue ;; ..) done=${done%/*}; continue ;; esac
  if [ -n "$rest" ] && [ -L "$1$done/$name" ]; then
    links=$((links + 1))
    [ $links -le 40 ] || { echo "too many symbolic links in $2" >&2; exit 1; }
    to=$(readlink "$1$done/$name") || exit 1
    case $to in /*) done= ;; esac
    rest=$to/$rest
    continue
  fi
  done=$done/$name
done
case $3 in cat) exec cat "$1$done" ;; esac
exec tar cf - -C "$1" ".$done"`

func (c *fileCollector) probe(ctx context.Context, container string, command ...string) error {
	return c.api.requests.do(ctx, func(ctx context.Context) (io.ReadCloser, error) {
		return c.api.exec(ctx, c.pod.PodRef, container, command...)
	}, func(body io.Reader) error {
		return copyLimited(io.Discard, body, maxLive)
	})
}

func (c *fileCollector) names(container, as string) []string {
	return []string{"files", container, strings.TrimPrefix(as, "/")}
}

// run records what a command in a container gives of a file of the same or
// another one, and the end of it if it was cut.
func (c *fileCollector) run(ctx context.Context, out *Output, in, of, file, suffix string, command ...string) {
	source := fmt.Sprintf("exec in container %s: %s", in, strings.Join(command, " "))
	names := c.names(of, file+suffix)
	err := out.Stream(ctx, source, c.limits.LogBytes, func(ctx context.Context) (io.ReadCloser, error) {
		return c.api.exec(ctx, c.pod.PodRef, in, command...)
	}, names...)
	if err == nil || errors.Is(err, errLimit) {
		c.asked.took(file)
	}
	if !errors.Is(err, errLimit) || command[0] != "cat" {
		return
	}
	names[2] += tailSuffix
	_ = out.Stream(ctx, fmt.Sprintf("exec in container %s: tail -c %d %s", in, tailBytes, file), tailBytes,
		func(ctx context.Context) (io.ReadCloser, error) {
			return c.api.exec(ctx, c.pod.PodRef, in, "tail", "-c", fmt.Sprint(tailBytes), file)
		}, names...) // recorded
}
