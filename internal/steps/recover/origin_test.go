package recover

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
)

// template is a workload's object with containers, "name=image" each; a name
// that begins with "init" is that of an init container, with "side" of one that
// runs on.
func template(images ...string) *unstructured.Unstructured {
	init, main := []any{}, []any{}
	for _, i := range images {
		name, image, _ := strings.Cut(i, "=")
		c := map[string]any{"name": name, "image": image}
		switch {
		case strings.HasPrefix(name, "side"):
			c["restartPolicy"] = "Always"
			init = append(init, c)
		case strings.HasPrefix(name, "init"):
			init = append(init, c)
		default:
			main = append(main, c)
		}
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"initContainers": init,
			"containers": main}}}}}
}

func gonePod(owners ...*cluster.Owner) *cluster.Target {
	return &cluster.Target{Pod: &corev1.Pod{}, Owners: owners}
}

// Of a suspect that is gone, what it ran is known only by what made it, if that
// cannot have been changed since: by its ReplicaSet, or its Job.
func TestWhatASuspectRan(t *testing.T) {
	t.Parallel()
	owner := func(ref cluster.Ref, uid types.UID, custom bool) *cluster.Owner {
		return &cluster.Owner{Ref: ref.Named("app", "x", uid), Object: template("web=bad:1"), Custom: custom}
	}
	unread := owner(cluster.ReplicaSet, "u", false)
	unread.Object = nil
	for name, c := range map[string]struct {
		target *cluster.Target
		known  bool
	}{
		"by its ReplicaSet": {gonePod(owner(cluster.ReplicaSet, "u", false)), true},
		"by its Job": {gonePod(owner(cluster.Job, "u", false), owner(cluster.CronJob, "v", false)),
			true},
		"nobody made it":                 {gonePod(), false},
		"its ReplicaSet is not readable": {gonePod(unread), false},
		"what made it is what changes":   {gonePod(owner(cluster.ReplicaSet, "u-w", false)), false},
		"of another group":               {gonePod(owner(cluster.ReplicaSet, "u", true)), false},
		"a StatefulSet, which can":       {gonePod(owner(cluster.StatefulSet, "u", false)), false},
	} {
		w := &Workload{Owner: &cluster.Owner{Ref: cluster.Deployment.Named("app", "x", "u-w"),
			Object: template("web=bad:1")}, Suspects: []*cluster.Target{c.target}}
		refs, _ := w.origin(c.target)
		if (refs["web"] == "bad:1") != c.known {
			t.Errorf("%s: %v", name, refs)
		}
		Judge([]*Workload{{Owner: w.Owner}, w}, nil)
		if want := map[bool]WayInState{true: Open, false: Unknown}[c.known]; w.WayIn.State != want ||
			w.WayIn.Workload != w.Ref.String() || !slices.Equal(w.WayIn.Images, []string{"web=bad:1"}) {
			t.Errorf("%s: %+v", name, w.WayIn)
		}
	}
	alive := target("s")
	alive.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", ImageID: "x@" + digest("a")},
		{Name: "d", ImageID: "cri-o://none"}}
	alive.Pod.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "y"},
		{Name: "e", ImageID: "x@" + digest("e")}, {Name: "f", ImageID: "x@" + digest("f")}}
	alive.Owners = []*cluster.Owner{owner(cluster.ReplicaSet, "u", false)}
	if refs, digests := (&Workload{}).origin(alive); refs["web"] != "" ||
		!slices.Equal(digests, []string{digest("a"), digest("e"), digest("f")}) {
		t.Errorf("%v %v", refs, digests)
	}
}

// The way in by all that decides about it: what every suspect ran, what runs now,
// and the change of images that stands.
func TestTheWayIn(t *testing.T) {
	t.Parallel()
	ran := func(images ...string) *cluster.Target {
		return gonePod(&cluster.Owner{Ref: cluster.ReplicaSet.Named("app", "x", "u-rs"), Object: template(images...)})
	}
	path := []string{"spec", "template", "spec", "containers"}
	main := func(images ...string) any {
		list, _, _ := unstructured.NestedSlice(template(images...).Object, path...)
		return list
	}
	imaged := func(fields ...change.Field) *change.Change {
		c := change.Change{Fields: fields}
		return &c
	}
	standing := imaged(change.Field{Path: path, Before: main("web=bad:1", "proxy=p:1"),
		After: main("web=good:2", "proxy=p:2")})
	some := imaged(change.Field{Path: path, Before: main("web=bad:1", "proxy=p:1"),
		After: main("web=good:2", "proxy=p:1")})
	for name, c := range map[string]struct {
		now      *unstructured.Unstructured
		suspects []*cluster.Target
		imaged   *change.Change
		want     WayInState
		text     string
	}{
		"not readable": {nil, []*cluster.Target{ran("web=bad:1")}, nil, Unknown, "cannot see"},
		"the second suspect's": {template("web=bad:1"),
			[]*cluster.Target{ran("web=other:1"), ran("web=bad:1")}, nil, Open,
			"still has the suspect's image (web=bad:1)"},
		"another than both": {template("web=good:2"),
			[]*cluster.Target{ran("web=other:1"), ran("web=bad:1")}, nil, Closed, "has another image than the suspect"},
		"one of two is not known": {template("web=good:2"), []*cluster.Target{gonePod(), ran("web=bad:1")},
			nil, Closed, "has another image"},
		"the last one is not known": {template("web=good:2"), []*cluster.Target{ran("web=bad:1"), gonePod()},
			nil, Closed, "has another image"},
		"none is known": {template("web=good:2"), []*cluster.Target{gonePod()}, nil, Unknown,
			"is not known any more"},
		"no suspects":      {template("web=good:2"), nil, nil, Unknown, "is not known any more"},
		"nothing runs now": {template(), []*cluster.Target{ran("web=bad:1")}, nil, Unknown, ""},
		"a sidecar's image is left": {template("web=good:2", "side=mesh:1"),
			[]*cluster.Target{ran("web=bad:1", "side=mesh:1")}, nil, Open, "still the suspect's for side=mesh:1"},
		"an init container's is left": {template("web=good:2", "init=tools:1"),
			[]*cluster.Target{ran("web=bad:1", "init=tools:1")}, nil, Closed, ""},
		"an init container has it now": {template("web=good:2", "init=bad:1"),
			[]*cluster.Target{ran("web=bad:1", "init=tools:1")}, nil, Open, "init=bad:1"},
		"an init container's runs now": {template("web=tools:1"),
			[]*cluster.Target{ran("web=bad:1", "init=tools:1")}, nil, Open, "web=tools:1"},
		"changed, nothing known": {template("web=good:2", "proxy=p:2"), nil, standing, Closed,
			"was changed since the containment"},
		"changed, and changed back since": {template("web=bad:1", "proxy=p:1"), nil, standing, Unknown,
			"no change of it is in the journal"},
		"changed, and by somebody since": {template("web=x:3", "proxy=p:2"), nil, standing, Unknown,
			"no change of it is in the journal"},
		"one was changed, nothing known": {template("web=good:2", "proxy=p:1"), nil, some, Open,
			"but not that of proxy=p:1"},
		"changed, but known to be bad": {template("web=good:2", "proxy=p:2"),
			[]*cluster.Target{ran("web=good:2", "x=p:2")}, standing, Open, "still has"},
		"another field was changed": {template("web=good:2"), nil,
			imaged(change.Field{Path: []string{"spec", "template", "spec", "volumes"},
				Before: []any{map[string]any{"name": "web", "image": "bad:1"}}}), Open, "but not that of web"},
		"an init container is not counted": {template("web=good:2", "init=tools:1"), nil,
			imaged(change.Field{Path: path, Before: main("web=bad:1"), After: main("web=good:2")}), Closed, ""},
		"two are left": {template("web=good:2", "a=a:1", "b=b:1"), nil,
			imaged(change.Field{Path: path, Before: main("web=bad:1", "a=a:1", "b=b:1"),
				After: main("web=good:2", "a=a:1", "b=b:1")}), Open, "a=a:1, b=b:1"},
		"in two fields": {template("web=good:2", "side=mesh:2"), nil,
			imaged(change.Field{Path: path, Before: main("web=bad:1"), After: main("web=good:2")},
				change.Field{Path: []string{"spec", "template", "spec", "initContainers"},
					Before: []any{map[string]any{"name": "side", "image": "mesh:1", "restartPolicy": "Always"}},
					After:  []any{map[string]any{"name": "side", "image": "mesh:2", "restartPolicy": "Always"}}}),
			Closed, ""},
	} {
		w := &Workload{Owner: &cluster.Owner{Ref: cluster.Deployment.Named("app", "x", "u-w"), Object: c.now},
			Suspects: c.suspects}
		all := map[types.UID]change.Change{}
		if c.imaged != nil {
			all[w.UID] = *c.imaged
		}
		Judge([]*Workload{w}, all)
		if n := len(containerImages(w.template())); len(w.WayIn.Images) != n {
			t.Errorf("%s: of %d containers it tells of %q", name, n, w.WayIn.Images)
		}
		if w.WayIn.State != c.want || !strings.Contains(w.WayIn.Text, c.text) || w.WayIn.Text == "" {
			t.Errorf("%s: %+v", name, w.WayIn)
		}
	}
}

func TestDigestOf(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{
		"web@" + digest("a"): digest("a"), digest("a"): digest("a"), "web:1": "", "web@sha256:short": "",
		"web@sha512:" + strings.Repeat("a", 64): "",
		strings.Repeat("x", len(digest("a"))):   "", digest("a") + "0": "", "a@b@" + digest("a"): "", "": "",
	} {
		if got := digestOf(ref); got != want {
			t.Errorf("%s: %q", ref, got)
		}
	}
	if pulled(digest("a")) || !pulled("x@"+digest("a")) {
		t.Error("what was pulled")
	}
}

// What is looked for is what all suspects ran, each thing once.
func TestIndicatorsOfAll(t *testing.T) {
	t.Parallel()
	of := func(name, image, d string) *cluster.Target {
		t := target(name)
		t.Pod.Spec.Containers[0].Image = image
		t.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", ImageID: "x@" + d}}
		return t
	}
	i := IndicatorsOf([]*cluster.Target{of("s2", "b:1", digest("b")), of("s1", "a:1", digest("a")),
		of("s3", "a:1", digest("a")), gonePod()})
	want := Indicators{Digests: []string{digest("a"), digest("b")}, Images: []string{"a:1", "b:1"},
		Pods: []SuspectPod{{Namespace: "app", Name: "s2", UID: "uid-s2"}, {Namespace: "app", Name: "s1", UID: "uid-s1"},
			{Namespace: "app", Name: "s3", UID: "uid-s3"}, {}}}
	if diff := cmp.Diff(want, i); diff != "" {
		t.Error(diff)
	}
	i = i.With(Indicators{Digests: []string{digest("0"), digest("a")}, Images: []string{"0:1", "b:1"},
		Pods: []SuspectPod{{Namespace: "app", Name: "s1", UID: "uid-s1"},
			{Namespace: "app", Name: "s1", UID: "uid-later"}, {Namespace: "app", Name: "s9", UID: "u"}}})
	want.Digests, want.Images, want.Pods = []string{digest("0"), digest("a"), digest("b")},
		[]string{"0:1", "a:1", "b:1"}, append(want.Pods, SuspectPod{Namespace: "app", Name: "s1", UID: "uid-later"},
			SuspectPod{Namespace: "app", Name: "s9", UID: "u"})
	if diff := cmp.Diff(want, i); diff != "" {
		t.Error(diff)
	}
}

// What stays is left out of the indicators only of workloads whose way in is
// closed, or was in part: of every suspect of theirs.
func TestIndicatorsWithoutWhatStaysOfWhom(t *testing.T) {
	t.Parallel()
	suspect := func(name, app, proxy string) *cluster.Target {
		t := target(name)
		t.Pod.Spec.Containers = []corev1.Container{{Name: "app", Image: "app:" + app},
			{Name: "proxy", Image: "proxy:" + proxy}}
		t.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", ImageID: "x@" + digest(app)},
			{Name: "proxy", ImageID: "x@" + digest(proxy)}}
		return t
	}
	all := Indicators{Digests: []string{digest("1"), digest("2"), digest("3"), digest("4")},
		Images: []string{"app:1", "proxy:2", "app:3", "proxy:4"}}
	for name, c := range map[string]struct {
		state  WayInState
		partly bool
		want   []string
	}{
		"closed":       {Closed, false, []string{digest("1"), digest("3")}},
		"open":         {Open, false, all.Digests},
		"open in part": {Open, true, []string{digest("1"), digest("3")}},
		"not known":    {Unknown, false, all.Digests},
	} {
		other := &Workload{Owner: &cluster.Owner{}, WayIn: WayIn{State: Open}}
		w := &Workload{Owner: &cluster.Owner{Object: template("app=app:9", "proxy=proxy:2")},
			WayIn: WayIn{State: c.state}, partly: c.partly, Suspects: []*cluster.Target{suspect("a", "1", "2")}}
		v := &Workload{Owner: &cluster.Owner{Object: template("app=app:9", "proxy=proxy:4")},
			WayIn: WayIn{State: c.state}, partly: c.partly,
			Suspects: []*cluster.Target{suspect("c", "3", "9"), suspect("d", "3", "4")}}
		got := all.Without([]*Workload{other, w, v})
		if !slices.Equal(got.Digests, c.want) || len(got.Images) != len(c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if len(all.Digests) != 4 {
		t.Error("what was given is changed")
	}
}
