package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// logCollector takes the logs of all containers, init and ephemeral ones too:
// of the running instance and, if there was one, of the instance before.
type logCollector struct {
	pod *pod
	// limit in bytes for each log.
	limit int64
	since time.Time // zero: from the beginning
}

func (c *logCollector) Name() string { return "logs" }

// Collect asks for all logs at once, as far as requests are allowed at the same
// time: one that stalls does not keep back the others.
func (c *logCollector) Collect(ctx context.Context, out *Output) error {
	facts, err := c.pod.read(ctx)
	if err != nil {
		return err
	}
	var logs sync.WaitGroup
	for _, container := range facts.containers {
		logs.Go(func() { c.collect(ctx, out, container, currentLog) })
		if container.restarted {
			logs.Go(func() { c.collect(ctx, out, container, previousLog) })
		}
	}
	logs.Wait()
	return facts.tooMany
}

// The two logs that a container can have, by the names of their files, and
// what the end of one that was cut is called.
const (
	currentLog  = "current.log"
	previousLog = "previous.log"
	tailSuffix  = ".tail"
)

// collect takes one log: all of it or, if it is longer than the limit, its
// beginning and its end.
func (c *logCollector) collect(ctx context.Context, out *Output, of container, file string) {
	// One byte more than is kept, to tell a log that ends at the limit from one
	// that goes on.
	limitBytes := c.limit + 1
	opts := c.options(of, file)
	opts.LimitBytes = &limitBytes
	lines := &lineCounter{}
	err := out.Stream(ctx, c.source(opts), c.limit, func(ctx context.Context) (io.ReadCloser, error) {
		if file == currentLog && of.neverStarted {
			return nil, fmt.Errorf("%w: the container has not started", ErrAbsent)
		}
		body, err := c.open(ctx, opts)
		return lines.count(body), err
	}, "logs", of.name, file)
	if errors.Is(err, errLimit) {
		c.collectTail(ctx, out, of, file, lines.mean())
	}
}

func (c *logCollector) options(of container, file string) *corev1.PodLogOptions {
	opts := &corev1.PodLogOptions{Container: of.name, Previous: file == previousLog, Timestamps: true}
	if !c.since.IsZero() {
		since := metav1.NewTime(c.since)
		opts.SinceTime = &since
	}
	return opts
}

func (c *logCollector) open(ctx context.Context, opts *corev1.PodLogOptions) (io.ReadCloser, error) {
	body, err := c.pod.api.kube.CoreV1().Pods(c.pod.Namespace).GetLogs(c.pod.Name, opts).Stream(ctx)
	// The kubelet removes dead containers by its own rules.
	if opts.Previous && apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "previous terminated container") {
		return nil, fmt.Errorf("%w: the node has removed it: %w", ErrAbsent, err)
	}
	return body, err
}

const (
	// tailBytes is kept of the end of a log that is longer than the limit.
	tailBytes = 512 << 10
	// maxTailRead is what is read to find that end: the API counts lines.
	maxTailRead = 16 * tailBytes
)

// collectTail asks for so many lines from the end as make about tailBytes.
func (c *logCollector) collectTail(ctx context.Context, out *Output, of container, file string, line int64) {
	lines := max(tailBytes/max(line, 1), 1)
	opts := c.options(of, file)
	opts.TailLines = &lines
	names := []string{"logs", of.name, file + tailSuffix}
	source, recorded := c.source(opts), false
	err := out.api.requests.do(ctx, func(ctx context.Context) (io.ReadCloser, error) {
		return c.open(ctx, opts)
	}, func(body io.Reader) error {
		// Recorded here, while the request holds its slot: so few tails are in
		// memory at once.
		tail := newTail(tailBytes)
		err := copyLimited(tail, body, maxTailRead)
		if err == nil {
			err = fmt.Errorf("%w: the end of %s; what is between the two is not here", ErrTruncated, file)
		}
		recorded = true
		out.Bytes(source, tail.bytes(), err, names...)
		return nil
	})
	if !recorded {
		out.Fail(source, err, names...)
	}
}

func (c *logCollector) source(opts *corev1.PodLogOptions) string {
	query := url.Values{"container": {opts.Container}, "timestamps": {"true"}}
	if opts.LimitBytes != nil {
		query.Set("limitBytes", fmt.Sprint(*opts.LimitBytes))
	}
	if opts.TailLines != nil {
		query.Set("tailLines", fmt.Sprint(*opts.TailLines))
	}
	if opts.SinceTime != nil {
		query.Set("sinceTime", opts.SinceTime.UTC().Format(time.RFC3339))
	}
	if opts.Previous {
		query.Set("previous", "true")
	}
	return c.pod.source() + "/log?" + query.Encode()
}

// lineCounter knows how long the lines of what passes are.
type lineCounter struct {
	io.ReadCloser
	bytes, lines int64
}

func (l *lineCounter) count(body io.ReadCloser) io.ReadCloser {
	if body == nil {
		return nil
	}
	l.ReadCloser = body
	return l
}

func (l *lineCounter) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	l.bytes += int64(n)
	l.lines += int64(bytes.Count(p[:n], []byte{'\n'}))
	return n, err
}

func (l *lineCounter) mean() int64 { return l.bytes / max(l.lines, 1) }

// tail keeps the last bytes of what is written to it.
type tail struct {
	ring []byte
	size int64 // of all that was written
}

func newTail(limit int) *tail { return &tail{ring: make([]byte, limit)} }

func (t *tail) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		n := copy(t.ring[t.size%int64(len(t.ring)):], p)
		t.size += int64(n)
		p = p[n:]
	}
	return written, nil
}

func (t *tail) bytes() []byte {
	if t.size <= int64(len(t.ring)) {
		return t.ring[:t.size]
	}
	at := t.size % int64(len(t.ring))
	return slices.Concat(t.ring[at:], t.ring[:at])
}
