package evidence

import "context"

// governanceCollector takes what shapes the pods of a namespace from outside:
// the namespace with the labels that admission goes by, autoscalers,
// disruption budgets, quotas and limits.
type governanceCollector struct{ *inquiry }

func (c *governanceCollector) Name() string { return "governance" }

func (c *governanceCollector) Collect(ctx context.Context, out *Output) error {
	autoscalers := grouped("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
	autoscalers.gvr.Version = "v2"
	for _, ns := range c.namespaces() {
		out.Object(ctx, core("namespaces", "Namespace"), "", ns, "namespaces", ns, "namespace.json")
		for _, r := range []resource{
			autoscalers,
			grouped("policy", "poddisruptionbudgets", "PodDisruptionBudget"),
			core("resourcequotas", "ResourceQuota"),
			core("limitranges", "LimitRange"),
		} {
			// recorded
			_ = out.List(ctx, listing{resource: r, namespace: ns}, all, "namespaces", ns, r.gvr.Resource+".json")
		}
	}
	return nil
}
