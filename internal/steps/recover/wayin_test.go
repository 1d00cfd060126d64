package recover

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/cluster"
)

func digest(of string) string { return "sha256:" + strings.Repeat(of, 64) }

// A sidecar that half of the cluster runs is no sign of the attacker; what was
// replaced is, also where a container that stays has the same image.
func TestIndicatorsWithoutWhatStays(t *testing.T) {
	pod := &corev1.Pod{}
	pod.Status.Phase = corev1.PodRunning
	add := func(specs *[]corev1.Container, statuses *[]corev1.ContainerStatus, name, image, id string) {
		*specs = append(*specs, corev1.Container{Name: name, Image: image})
		*statuses = append(*statuses, corev1.ContainerStatus{Name: name, ImageID: "registry/x@" + id, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
	}
	add(&pod.Spec.InitContainers, &pod.Status.InitContainerStatuses, "migrate", "tools:1", digest("a"))
	add(&pod.Spec.Containers, &pod.Status.ContainerStatuses, "app", "app:1", digest("b"))
	add(&pod.Spec.Containers, &pod.Status.ContainerStatuses, "proxy", "proxy:1", digest("c"))
	add(&pod.Spec.Containers, &pod.Status.ContainerStatuses, "worker", "app:1", digest("b"))
	target := &cluster.Target{Pod: pod}
	all := []string{digest("a"), digest("b"), digest("c")}
	for name, c := range map[string]struct {
		app  string
		want []string
	}{
		"patched":     {"app:2", []string{digest("b")}},
		"not patched": {"app:1", all},
	} {
		t.Run(name, func(t *testing.T) {
			container := func(name, image string) any { return map[string]any{"name": name, "image": image} }
			object := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
				"initContainers": []any{container("migrate", "tools:1")},
				"containers":     []any{container("app", c.app), container("proxy", "proxy:1"), container("worker", "app:1")},
			}}}}}
			w := &Workload{Owner: &cluster.Owner{Object: object}, Suspects: []*cluster.Target{target}}
			Judge([]*Workload{w}, nil)
			if diff := cmp.Diff(c.want, IndicatorsOf(w.Suspects).Without([]*Workload{w}).Digests); diff != "" {
				t.Errorf("the way in is %s: %s", w.WayIn.State, diff)
			}
		})
	}
}
