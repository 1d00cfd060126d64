package evidence

import "context"

// configMapCollector takes the ConfigMaps that the pods mount or read their
// environment from.
type configMapCollector struct{ *inquiry }

func (c *configMapCollector) Name() string { return "configmaps" }

func (c *configMapCollector) Collect(ctx context.Context, out *Output) error {
	for _, n := range c.named(ctx, func(f *podFacts) []string { return f.configMaps }) {
		out.Object(ctx, core("configmaps", "ConfigMap"), n.namespace, n.name, "configmaps", n.namespace, n.name+".json")
	}
	return nil
}
