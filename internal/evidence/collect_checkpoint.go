package evidence

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"irctl/internal/record"
)

// checkpointCollector has the kubelet write a checkpoint of each running
// container, with its memory, to the node's disk
// (https://kubernetes.io/docs/reference/node/kubelet-checkpoint-api/). The API
// has no way to fetch it: the artefact is the kubelet's answer, which says
// where on the node it lies.
type checkpointCollector struct {
	*inquiry
	pod *pod
}

func (c *checkpointCollector) Name() string { return "checkpoint" }

func (c *checkpointCollector) Collect(ctx context.Context, out *Output) error {
	facts, err := c.pod.read(ctx)
	if err != nil {
		return err
	}
	for _, of := range facts.containers {
		if !of.running {
			continue
		}
		path := fmt.Sprintf("/api/v1/nodes/%s/proxy/checkpoint/%s/%s/%s", facts.node, c.pod.Namespace, c.pod.Name,
			of.name)
		done, err := c.change(ctx, fmt.Sprintf("checkpoint of container %s of pod %s, written to the disk of node %s",
			of.name, c.pod, facts.node),
			record.Trace{Kind: record.Checkpoint, Namespace: c.pod.Namespace, Pod: c.pod.Name, UID: string(c.pod.UID),
				Container: of.name, Node: facts.node})
		if err == nil {
			err = out.Stream(ctx, "POST "+path, maxObject, func(ctx context.Context) (io.ReadCloser, error) {
				return c.api.openPath(ctx, http.MethodPost, path)
			}, "checkpoint", of.name+".json")
			done(err)
			continue
		}
		out.Fail("POST "+path, err, "checkpoint", of.name+".json")
	}
	return facts.tooMany
}

// Announce tells in words, and for the record, what is about to be left in the cluster.
type Announce func(ctx context.Context, what string, trace record.Trace) (done func(error), err error)

// change announces a change to the cluster. Nothing is changed in an incident
// without a record of it.
func (q *inquiry) change(ctx context.Context, what string, trace record.Trace) (done func(error), err error) {
	if q.announce == nil {
		return nil, fmt.Errorf("%w: that would change something in the cluster, which this collection may not",
			ErrAbsent)
	}
	return q.announce(ctx, what, trace)
}
