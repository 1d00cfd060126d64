package recover

import (
	"slices"
	"testing"
	"time"

	"irctl/internal/record"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What a baseline takes in, of which pods of which namespaces.
func TestWhatABaselineTakesIn(t *testing.T) {
	t.Parallel()
	bad := digest("b")
	a, b, c := podOf("app", "a", bad), podOf("app", "b", digest("c")), podOf("web", "c", bad)
	base := &Baseline{Baseline: record.Baseline{Digests: []string{digest("0"), bad}}}
	if !base.extend(podList{pods: []corev1.Pod{a, b}, namespaces: []string{"app"}}, true) {
		t.Error("the first list is nothing new")
	}
	if base.All || !slices.Equal(base.Exposed, []string{"uid-a"}) || !slices.Equal(base.Others, []string{"uid-b"}) ||
		len(base.Untold) > 0 {
		t.Errorf("%+v", base)
	}
	late := podOf("app", "late", bad)
	if base.extend(podList{pods: []corev1.Pod{a, late}, namespaces: []string{"app"}}, false) || len(base.Untold) > 0 {
		t.Errorf("the same namespaces again: %+v", base)
	}
	if !base.extend(podList{pods: []corev1.Pod{late, c, a}, namespaces: []string{"web", "app"}}, false) ||
		!slices.Equal(base.Untold, []string{"uid-c"}) {
		t.Errorf("one namespace more: %+v", base)
	}
	if !slices.Equal(base.Namespaces, []string{"app", "web"}) {
		t.Errorf("%v", base.Namespaces)
	}
	if !base.extend(podList{pods: []corev1.Pod{a, podOf("far", "f", bad)}, all: true}, false) || !base.All ||
		base.Namespaces != nil {
		t.Errorf("all of them: %+v", base)
	}
	if !slices.Equal(base.Untold, []string{"uid-c", "uid-f"}) {
		t.Errorf("%v", base.Untold)
	}
	if base.extend(podList{all: true}, false) {
		t.Error("all, once more")
	}
	if got := base.TenureOf(&late); got != Came {
		t.Errorf("one that came since: %s", got)
	}
}

// A pod that was not recorded for want of room is told by the server's clock alone.
func TestTenureBeyondWhatIsRecorded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		b       Baseline
		created time.Time
		want    Tenure
	}{
		"later": {Baseline{Baseline: record.Baseline{All: true, Cut: true, Clock: ClockServer}},
			began.Add(3 * time.Second), Came},
		"at the blur": {Baseline{Baseline: record.Baseline{All: true, Cut: true, Clock: ClockServer}},
			began.Add(clockBlur), Untold},
		"at the blur, before": {Baseline{Baseline: record.Baseline{All: true, Cut: true, Clock: ClockServer}},
			began.Add(-clockBlur), Untold},
		"before": {Baseline{Baseline: record.Baseline{All: true, Cut: true, Clock: ClockServer}},
			began.Add(-3 * time.Second), Exposed},
		"no time": {Baseline{Baseline: record.Baseline{All: true, Cut: true, Clock: ClockServer}},
			time.Time{}, Untold},
		"this machine's clock": {Baseline{Baseline: record.Baseline{All: true, Cut: true, Clock: ClockLocal}},
			began.Add(-time.Hour), Untold},
		"not cut": {Baseline{Baseline: record.Baseline{All: true, Clock: ClockServer}},
			began.Add(-time.Hour), Came},
		"of another namespace": {Baseline{Baseline: record.Baseline{Namespaces: []string{"x"}, Cut: true,
			Clock: ClockServer}}, began.Add(time.Hour), Untold},
		"of one of the namespace": {Baseline{Baseline: record.Baseline{Namespaces: []string{"x", "app"}, Cut: true,
			Clock: ClockServer}}, began.Add(time.Hour), Came},
	} {
		p := podOf("app", "p", "")
		p.CreationTimestamp = metav1.NewTime(c.created)
		c.b.At = began
		if got := c.b.TenureOf(&p); got != c.want {
			t.Errorf("%s: %s, expected %s", name, got, c.want)
		}
	}
}

// Of what does not fit, the pods that ran the image are kept first.
func TestWhatIsKeptOfALargeBaseline(t *testing.T) {
	t.Parallel()
	list := func(prefix string, n int) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = prefix
		}
		return out
	}
	for name, c := range map[string]struct {
		exposed, untold, others int
		want                    [3]int
		cut                     bool
	}{
		"all fits":          {maxBaseline - 2, 1, 1, [3]int{maxBaseline - 2, 1, 1}, false},
		"the others do not": {maxBaseline - 2, 1, 2, [3]int{maxBaseline - 2, 1, 1}, true},
		"the untold do not": {maxBaseline - 2, 3, 2, [3]int{maxBaseline - 2, 2, 0}, true},
		"the exposed alone": {maxBaseline + 1, 3, 2, [3]int{maxBaseline, 0, 0}, true},
	} {
		b := &Baseline{Baseline: record.Baseline{Exposed: list("e", c.exposed), Untold: list("u", c.untold),
			Others: list("o", c.others)}}
		r := b.Recorded()
		if got := [3]int{len(r.Exposed), len(r.Untold), len(r.Others)}; got != c.want || r.Cut != c.cut ||
			len(b.Others) != c.others {
			t.Errorf("%s: %v, cut: %v", name, got, r.Cut)
		}
	}
}

// The digests of a pod are those of all its containers, also of ones that the
// node has not pulled yet.
func TestDigestsOfAPod(t *testing.T) {
	t.Parallel()
	pod := func(edit func(*corev1.Pod)) *corev1.Pod {
		p := sound("p")
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{
			{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "debug"}}}
		p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "debug", ImageID: "x@" + digest("e")}}
		edit(&p)
		return &p
	}
	for name, c := range map[string]struct {
		edit func(*corev1.Pod)
		want []string
		all  bool
	}{
		"all": {func(*corev1.Pod) {}, []string{"1", "1", "2", "2", "3", "e"}, true},
		"an ephemeral one is unknown": {func(p *corev1.Pod) { p.Status.EphemeralContainerStatuses = nil },
			[]string{"1", "1", "2", "2", "3"}, false},
		"one of several is unknown": {func(p *corev1.Pod) { p.Status.ContainerStatuses[1].ImageID = "" },
			[]string{"1", "1", "2", "2", "e"}, false},
		"named, and not pulled": {func(p *corev1.Pod) { p.Status.ContainerStatuses[0].ImageID = "" },
			[]string{"1", "1", "2", "3", "e"}, true},
		"the init one is not pulled": {func(p *corev1.Pod) { p.Status.InitContainerStatuses = nil },
			[]string{"1", "2", "2", "3", "e"}, true},
	} {
		got, all := digestsOf(pod(c.edit))
		var want []string
		for _, d := range c.want {
			want = append(want, digest(d))
		}
		if slices.Sort(got); !slices.Equal(got, want) || all != c.all {
			t.Errorf("%s: %v, all: %v", name, got, all)
		}
	}
}
