package evidence

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// logCollector takes the logs of all containers, init and ephemeral ones too:
// of the running instance and, if there was one, of the instance before.
type logCollector struct {
	pod *pod
	// limit in bytes for each log.
	limit int64
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

// The two logs that a container can have, by the names of their files.
const (
	currentLog  = "current.log"
	previousLog = "previous.log"
)

// collect takes one log.
func (c *logCollector) collect(ctx context.Context, out *Output, of container, file string) {
	previous := file == previousLog
	// One byte more than is kept, to tell a log that ends at the limit from one
	// that goes on.
	limitBytes := c.limit + 1
	opts := &corev1.PodLogOptions{Container: of.name, Previous: previous, Timestamps: true, LimitBytes: &limitBytes}
	out.Stream(ctx, c.source(opts), c.limit, func(ctx context.Context) (io.ReadCloser, error) {
		if !previous && of.neverStarted {
			return nil, fmt.Errorf("%w: the container has not started", ErrAbsent)
		}
		body, err := c.pod.api.kube.CoreV1().Pods(c.pod.Namespace).GetLogs(c.pod.Name, opts).Stream(ctx)
		// The kubelet removes dead containers by its own rules.
		if previous && apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "previous terminated container") {
			return nil, fmt.Errorf("%w: the node has removed it: %w", ErrAbsent, err)
		}
		return body, err
	}, "logs", of.name, file)
}

func (c *logCollector) source(opts *corev1.PodLogOptions) string {
	query := url.Values{"container": {opts.Container}, "limitBytes": {fmt.Sprint(*opts.LimitBytes)}, "timestamps": {"true"}}
	if opts.Previous {
		query.Set("previous", "true")
	}
	return c.pod.source() + "/log?" + query.Encode()
}
