package recover

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
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
		*statuses = append(*statuses, corev1.ContainerStatus{Name: name, ImageID: "registry/x@" + id,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
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
			object := &unstructured.Unstructured{
				Object: map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
					"initContainers": []any{container("migrate", "tools:1")},
					"containers": []any{container("app", c.app), container("proxy", "proxy:1"),
						container("worker", "app:1")},
				}}}}}
			w := &Workload{Owner: &cluster.Owner{Object: object}, Suspects: []*cluster.Target{target}}
			Judge([]*Workload{w}, nil)
			if diff := cmp.Diff(c.want, IndicatorsOf(w.Suspects).Without([]*Workload{w}).Digests); diff != "" {
				t.Errorf("the way in is %s: %s", w.WayIn.State, diff)
			}
		})
	}
}

// The way in is closed once no container has an image that a suspect ran: not by
// another image for an init container or a sidecar, and not by another name.
func TestWayInIsClosedByEveryContainer(t *testing.T) {
	pod := &corev1.Pod{}
	pod.Status.Phase = corev1.PodRunning
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "tools:1"}}
	pod.Spec.Containers = []corev1.Container{{Name: "app", Image: "app:1"}, {Name: "proxy", Image: "proxy:1"}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", ImageID: "x@" + digest("a"), State: running}}
	pod.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "debug", ImageID: "x@" + digest("e")}}
	containers := func(images ...string) (list []any) {
		for _, image := range images {
			name, ref, _ := strings.Cut(image, "=")
			list = append(list, map[string]any{"name": name, "image": ref})
		}
		return list
	}
	for name, c := range map[string]struct {
		init, main []any
		gone       bool // the suspect: only the change of the images is known
		want       WayInState
	}{
		"nothing replaced": {containers("init=tools:1"), containers("app=app:1", "proxy=proxy:1"), false,
			Open},
		"an init container alone": {containers("init=tools:2"), containers("app=app:1", "proxy=proxy:1"), false,
			Open},
		"a sidecar alone": {containers("init=tools:2"), containers("app=app:1", "proxy=proxy:2"), false,
			Open},
		"all but a sidecar": {containers("init=tools:2"), containers("app=app:2", "proxy=proxy:1"), false,
			Open},
		"all but an init container": {containers("init=tools:1"), containers("app=app:2", "proxy=proxy:2"), false,
			Closed},
		"its image in an init one": {containers("init=app:1"), containers("app=app:2", "proxy=proxy:2"), false, Open},
		"another name of it": {containers("init=tools:2"), containers("web=app:1", "proxy=proxy:2"), false,
			Open},
		"its digest": {containers("init=tools:2"), containers("app=y@"+digest("a"), "proxy=proxy:2"),
			false, Open},
		"an ephemeral container's": {containers("init=tools:2"), containers("app=y@"+digest("e"), "proxy=proxy:2"),
			false, Open},
		"every container": {containers("init=tools:2"), containers("app=app:2", "proxy=proxy:2"), false,
			Closed},
		"gone, init container alone": {containers("init=tools:2"), containers("app=app:1", "proxy=proxy:1"), true,
			Open},
		"gone, every container": {containers("init=tools:2"), containers("app=app:2", "proxy=proxy:2"), true, Closed},
	} {
		t.Run(name, func(t *testing.T) {
			object := &unstructured.Unstructured{
				Object: map[string]any{"spec": map[string]any{"template": map[string]any{
					"spec": map[string]any{"initContainers": c.init, "containers": c.main}}}}}
			w := &Workload{Owner: &cluster.Owner{Object: object}, Suspects: []*cluster.Target{{Pod: pod}}}
			imaged := map[types.UID]change.Change{}
			if c.gone {
				w.Suspects = nil
				path := func(part string) []string { return []string{"spec", "template", "spec", part} }
				imaged[w.UID], _ = change.NewEdit(w.Ref, "", "",
					change.Field{Path: path("containers"), Before: containers("app=app:1", "proxy=proxy:1"),
						After: c.main},
					change.Field{Path: path("initContainers"), Before: containers("init=tools:1"), After: c.init})
			}
			Judge([]*Workload{w}, imaged)
			if w.WayIn.State != c.want {
				t.Errorf("%s: %s", w.WayIn.State, w.WayIn.Text)
			}
		})
	}
}
