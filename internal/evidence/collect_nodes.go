package evidence

import "context"

// nodeCollector takes the nodes that the pods run on: their addresses, kernel,
// runtime, conditions and the images that they hold.
type nodeCollector struct{ *inquiry }

func (c *nodeCollector) Name() string { return "nodes" }

func (c *nodeCollector) Collect(ctx context.Context, out *Output) error {
	for _, node := range c.nodes(ctx) {
		out.Object(ctx, core("nodes", "Node"), "", node, "nodes", node, "node.json")
	}
	return nil
}
