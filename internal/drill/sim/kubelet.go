package sim

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// answerKubelet is what a node's kubelet answers through the API server: its
// pods, and what they use.
func (c *Cluster) answerKubelet(req Request) (any, error) {
	if _, err := c.Get(Nodes, "", req.Name); err != nil {
		return nil, err
	}
	pods := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "v1", "kind": "PodList",
		"metadata": map[string]any{}}}
	for _, p := range c.List(Pods, "") {
		if node, _, _ := unstructured.NestedString(p.Object, "spec", "nodeName"); node == req.Name {
			pods.Items = append(pods.Items, p)
		}
	}
	_, path, _ := strings.Cut(req.Path, "/proxy/")
	if parts := strings.Split(path, "/"); req.Verb == "create" && parts[0] == "checkpoint" && len(parts) == 4 {
		return map[string]any{"items": []any{"/var/lib/kubelet/checkpoints/checkpoint-" + strings.Join(parts[1:], "-") +
			".tar"}}, nil
	}
	switch strings.Trim(path, "/") {
	case "pods":
		return pods, nil
	case "stats/summary":
		return c.summary(req.Name, pods.Items), nil
	}
	return nil, errNotServed
}

// summary is the part of the kubelet's that a simulation knows: who uses a
// processor.
func (c *Cluster) summary(node string, pods []unstructured.Unstructured) map[string]any {
	used := []any{}
	for i := range pods {
		var pod corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(pods[i].Object, &pod); err != nil {
			continue // it came from that type
		}
		containers := []any{}
		for _, container := range pod.Spec.Containers {
			containers = append(containers, map[string]any{"name": container.Name,
				"cpu": map[string]any{"time": metav1.NewTime(c.opts.Now().UTC()),
					"usageNanoCores": c.usage(&pod, container.Name)}})
		}
		used = append(used, map[string]any{"podRef": map[string]any{"name": pod.Name, "namespace": pod.Namespace,
			"uid": pod.UID}, "startTime": pod.Status.StartTime, "containers": containers})
	}
	return map[string]any{"node": map[string]any{"nodeName": node}, "pods": used}
}

// usage is how much of a processor a container uses, in billionths.
func (c *Cluster) usage(pod *corev1.Pod, container string) (n int64) {
	if c.opts.Within == nil || pod.Status.Phase != corev1.PodRunning {
		return 0
	}
	b := c.opts.Within(pod, container)
	if b == nil {
		return 0
	}
	const percent = 10_000_000
	for _, p := range b.Processes {
		n += int64(p.CPU) * percent
	}
	return n
}
