package recover

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"irctl/internal/change"
	"irctl/internal/cluster"
)

// A good image that is named by its digest closes the way in like any other, and
// one with the digest of what ran does not, whatever its name.
func TestAWayInByDigests(t *testing.T) {
	t.Parallel()
	for now, want := range map[string]WayInState{"web=good@" + digest("d"): Closed, "web=mirror@" + digest("b"): Open} {
		suspect := target("s")
		suspect.Pod.Spec.Containers = []corev1.Container{{Name: "web", Image: "bad:1"}}
		suspect.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", ImageID: "x@" + digest("b")}}
		w := &Workload{Owner: &cluster.Owner{Ref: cluster.Deployment, Object: template(now)},
			Suspects: []*cluster.Target{suspect}}
		if Judge([]*Workload{w}, nil); w.WayIn.State != want {
			t.Errorf("%s: %+v", now, w.WayIn)
		}
	}
	// A field without a path is nobody's image.
	c := change.Change{Fields: []change.Field{{Before: []any{map[string]any{"name": "web", "image": "bad:1"}}}}}
	if same := unchangedBy(c, map[string]string{"web": "good:2"}, nil); len(same) != 1 {
		t.Errorf("%q", same)
	}
}

// Every ephemeral container of a pod counts.
func TestEveryEphemeralContainerCounts(t *testing.T) {
	t.Parallel()
	p := podOf("app", "p", digest("a"))
	for _, name := range []string{"one", "two"} {
		p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers,
			corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name,
				Image: name}})
	}
	p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "one", ImageID: "x@" + digest("1")},
		{Name: "two", ImageID: "x@" + digest("2")}}
	if digests, all := digestsOf(&p); !all || !slices.Equal(digests, []string{digest("a"), digest("1"), digest("2")}) {
		t.Errorf("%q, %v", digests, all)
	}
}

// Where no server answers, the watch begins by this machine's clock; what is
// listed only later is not said to have been there.
func TestAWatchThatBeginsBlind(t *testing.T) {
	t.Parallel()
	here := podOf("app", "here", digest("b"))
	f := newFake(t, &here)
	w := &Watched{Client: f.client, Namespaces: []string{"app"}, Since: began,
		Indicators: Indicators{Digests: []string{digest("b")}}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	gaps := w.Begin(ctx)
	if w.Baseline.Clock != ClockLocal || !w.Baseline.At.Equal(began) || len(gaps) != 1 || w.Baseline.All {
		t.Errorf("%+v, gaps %v", w.Baseline, gaps)
	}
	s := w.Look(t.Context())
	if !s.Grown || !slices.Equal(w.Baseline.Untold, []string{"uid-here"}) || len(s.Hits)+len(s.Exposed) > 0 ||
		len(s.Gaps) != 1 {
		t.Errorf("%+v, untold %v", s, w.Baseline.Untold)
	}
}
