package eradicate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"irctl/internal/cluster"
)

func digest(of string) string { return "sha256:" + strings.Repeat(of, 64) }

// What a suspect ran, in any container and under any name of it, is no patch.
func TestWhatASuspectRanIsNoPatch(t *testing.T) {
	pod := &corev1.Pod{}
	pod.Spec.Containers = []corev1.Container{{Name: "web", Image: "web:1"}, {Name: "proxy", Image: "quay.io/proxy:2"}}
	pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "tools"}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", ImageID: "docker.io/library/web@" +
		digest("a")}}
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "init", ImageID: "x@" + digest("b")}}
	pod.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "debug", ImageID: "x@" + digest("c")}}
	before := ranBy([]*cluster.Target{{Pod: pod}})
	for ref, want := range map[string]bool{
		"web:1": true, "docker.io/library/web:1": true, "docker.io/web:1": false, "tools:latest": true,
		"quay.io/proxy:2":    true,
		"web@" + digest("a"): true, "other/name@" + digest("a"): true, "web:9@" + digest("a"): true,
		"x@" + digest("b"): true, "x@" + digest("c"): true,
		"web:2": false, "web@" + digest("d"): false, "mirror.example.com/web:1": false,
	} {
		if before.has(ref) != want {
			t.Errorf("a suspect ran %s: %v", ref, !want)
		}
	}
	spec := map[string]any{
		"containers": []any{map[string]any{"name": "web", "image": "web@" + digest("d")},
			map[string]any{"name": "proxy", "image": "quay.io/proxy:2"}},
		"initContainers": []any{map[string]any{"name": "init", "image": "tools:2"}},
	}
	if diff := cmp.Diff([]string{"proxy=quay.io/proxy:2"}, before.still(spec)); diff != "" {
		t.Errorf("the way in stays open by: %s", diff)
	}
}

// Two images for one container are a slip: neither is taken.
func TestTwoImagesForOneContainer(t *testing.T) {
	a, b := "x/web@"+digest("a"), "x/web@"+digest("b")
	for name, c := range map[string]struct {
		images []string
		ok     bool
	}{
		"the same container": {[]string{"web=" + a, "web=" + b}, false},
		"twice the same":     {[]string{"web=" + a, "web=" + a}, false},
		"one repository":     {[]string{a, b}, false}, "two containers": {[]string{"web=" + a, "worker=" + b}, true},
		"two repositories": {[]string{a, "x/worker@" + digest("b")}, true},
	} {
		_, err := Inputs{Images: c.images}.Options(t.Context(), nil)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
