package evidence

import (
	"context"
	"io"
)

// podCollector takes the pod as the API serves it, in JSON and in YAML.
// managedFields are kept: they name who changed what, and when.
type podCollector struct{ pod *pod }

func (c *podCollector) Name() string { return "pod" }

func (c *podCollector) Collect(ctx context.Context, out *Output) error {
	_, err := c.pod.read(ctx)
	// A pod that is not the one that was meant is kept, with the reason, for
	// what it tells of the one that is gone.
	out.Bytes(c.pod.source()+" (Accept: "+asJSON+")", c.pod.takeServed(), err, "pod.json")
	if err != nil {
		return nil // recorded
	}
	_ = out.Stream(ctx, c.pod.source()+" (Accept: "+asYAML+")", maxObject,
		func(ctx context.Context) (io.ReadCloser, error) {
			return c.pod.api.open(ctx, podsResource, c.pod.Namespace, c.pod.Name, asYAML)
		}, "pod.yaml") // recorded
	return nil
}
