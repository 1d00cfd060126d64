package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// A component is one program of the cluster. It ends with the node.
type component struct {
	name    string
	log     string // path
	ended   chan struct{}
	problem error // why it ended; read it after ended is closed
}

// run starts a program on the node, with its output in log/NAME.log.
func (c *Cluster) run(name string, args ...string) (*component, error) {
	part := &component{name: name, log: c.path("log", name+".log"), ended: make(chan struct{})}
	output, err := os.Create(part.log)
	if err != nil {
		return nil, err
	}
	// The programs live as long as the node, not as long as a start's context.
	command := c.NodeCommand(context.Background(), filepath.Join(c.bin, name), args...)
	command.Stdout, command.Stderr = output, output
	if err := command.Start(); err != nil {
		_ = output.Close() // the program has its own
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		part.problem = command.Wait()
		_ = output.Close() // the program has its own
		close(part.ended)
	}()
	c.parts = append(c.parts, part)
	return part, nil
}

// await waits until the program has ended, which it does when the node is gone.
func (p *component) await() {
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
	}
}

// awaitHealthy calls probe until it succeeds. When that takes too long, or the
// component ends, it tells the last failure and the end of the component's log.
func (p *component) awaitHealthy(ctx context.Context, limit time.Duration, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // not the one that only says that time is up
		}
		select {
		case <-ticker.C:
		case <-p.ended:
			return fmt.Errorf("%s ended (%w); its log ends with:\n%s", p.name, p.problem, tail(p.log))
		case <-ctx.Done():
			return fmt.Errorf("%s not healthy within %s: %w; its log (%s) ends with:\n%s", p.name, limit, last, p.log,
				tail(p.log))
		}
	}
}

// tail is the end of a file, for an error message.
func tail(path string) string {
	const size, lines = 16 << 10, 25
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = file.Close() }() // it was only read
	if end, err := file.Seek(0, io.SeekEnd); err == nil {
		_, err = file.Seek(max(0, end-size), io.SeekStart)
		if err != nil {
			return err.Error()
		}
	}
	data, err := io.ReadAll(file)
	if err != nil && !errors.Is(err, io.EOF) {
		return err.Error()
	}
	split := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(split[max(0, len(split)-lines):], []byte("\n")))
}
