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
// by the container's own tar; or, if it has none, the bare content.
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
			c.collect(ctx, out, of.name, file)
		}
	}
	return facts.tooMany
}

// CheckFiles refuses paths that cannot be meant.
func (s Scope) CheckFiles() error {
	for _, file := range s.Files {
		if !path.IsAbs(file) || strings.ContainsRune(file, 0) {
			return fmt.Errorf("--file %q: it must be an absolute path in the container", file)
		}
	}
	return nil
}

func (c *fileCollector) collect(ctx context.Context, out *Output, container, file string) {
	file = path.Clean(file)
	// The path is an argument of its own, never a shell's text; "./" keeps it
	// from being taken for an option.
	tar := []string{"tar", "cf", "-", "-C", "/", "./" + strings.TrimPrefix(file, "/")}
	if file == "/proc" || strings.HasPrefix(file, "/proc/") { // has no sizes that tar could use
		c.content(ctx, out, container, file)
		return
	}
	err := c.probeTar(ctx, container)
	if isNoShell(err) {
		c.content(ctx, out, container, file)
		return
	}
	c.run(ctx, out, container, file+".tar", tar...)
}

func (c *fileCollector) probeTar(ctx context.Context, container string) error {
	return c.api.requests.do(ctx, func(ctx context.Context) (io.ReadCloser, error) {
		return c.api.exec(ctx, c.pod.PodRef, container, "tar", "--help")
	}, func(body io.Reader) error {
		return copyLimited(io.Discard, body, maxLive)
	})
}

func (c *fileCollector) content(ctx context.Context, out *Output, container, file string) {
	c.run(ctx, out, container, file, "cat", file)
}

// run records what a command gives, and the end of it if it was cut.
func (c *fileCollector) run(ctx context.Context, out *Output, container, as string, command ...string) {
	source := fmt.Sprintf("exec in container %s: %s", container, strings.Join(command, " "))
	names := []string{"files", container, strings.TrimPrefix(as, "/")}
	err := out.Stream(ctx, source, c.limits.LogBytes, func(ctx context.Context) (io.ReadCloser, error) {
		return c.api.exec(ctx, c.pod.PodRef, container, command...)
	}, names...)
	if !errors.Is(err, errLimit) || command[0] != "cat" {
		return
	}
	names[2] += tailSuffix
	file := command[len(command)-1]
	_ = out.Stream(ctx, fmt.Sprintf("exec in container %s: tail -c %d %s", container, tailBytes, file), tailBytes, func(ctx context.Context) (io.ReadCloser, error) {
		return c.api.exec(ctx, c.pod.PodRef, container, "tail", "-c", fmt.Sprint(tailBytes), file)
	}, names...) // recorded
}
