package eradicate

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/rotate"
	"irctl/internal/steps"
)

// containers is a pod's spec, "name=image" each; a name that begins with "init" is
// that of an init container, with "side" of one that runs on.
func containers(list ...string) corev1.PodSpec {
	var spec corev1.PodSpec
	always := corev1.ContainerRestartPolicyAlways
	for _, text := range list {
		name, image, _ := strings.Cut(text, "=")
		c := corev1.Container{Name: name, Image: image}
		switch {
		case strings.HasPrefix(name, "side"):
			c.RestartPolicy = &always
			spec.InitContainers = append(spec.InitContainers, c)
		case strings.HasPrefix(name, "init"):
			spec.InitContainers = append(spec.InitContainers, c)
		default:
			spec.Containers = append(spec.Containers, c)
		}
	}
	return spec
}

// Which image is taken: by its content, or by a tag where that was allowed.
func TestParseImage(t *testing.T) {
	t.Parallel()
	pinned := "registry.example.com:5000/a/web@" + digest("a")
	for text, c := range map[string]struct {
		tags bool
		want Image
		ok   bool
	}{
		pinned: {false, Image{"", pinned}, true}, "web=" + pinned: {false, Image{"web", pinned}, true},
		"web:1": {false, Image{}, false}, "c=web:1": {true, Image{"c", "web:1"}, true},
		"=web:1": {true, Image{}, false}, "c=": {true, Image{}, false}, "": {true, Image{}, false},
		"web": {true, Image{}, false}, "web@sha256:ab": {true, Image{}, false}, "-web:1": {true, Image{}, false},
	} {
		got, err := ParseImage(text, c.tags)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestReferencesAsNodesResolveThem(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{
		"web": "docker.io/library/web:latest", "web:1": "docker.io/library/web:1", "a/web": "docker.io/a/web:latest",
		"index.docker.io/a/web:1": "docker.io/a/web:1",
		"localhost/web":           "localhost/web:latest", "localhost:5000/web": "localhost:5000/web:latest",
		"r.io/web@" + digest("a"): "r.io/web@" + digest("a"), "r:5000/web:1": "r:5000/web:1",
	} {
		if got := fullReference(ref); got != want {
			t.Errorf("%s: %s", ref, got)
		}
	}
	for ref, want := range map[string]string{"web:1@" + digest("a"): "web", "r:5000/web": "r:5000/web",
		"r:5000/web:1": "r:5000/web"} {
		if got := repository(ref); got != want {
			t.Errorf("%s: %s", ref, got)
		}
	}
	for ref, want := range map[string]string{"x@" + digest("a"): digest("a"), "x@sha256:ab": "", "web:1": "",
		digest("a") + "x": ""} {
		if got := imageDigest(ref); got != want {
			t.Errorf("%s: %s", ref, got)
		}
	}
}

// What the suspects ran, of a pod that is gone by what made it.
func TestWhatTheSuspectsRan(t *testing.T) {
	t.Parallel()
	gone := &corev1.Pod{}
	chain := func(owners ...*cluster.Owner) *cluster.Target { return &cluster.Target{Pod: gone, Owners: owners} }
	top := owner(cluster.Deployment, "d", containers("web=new:1"), nil)
	r := ranBy([]*cluster.Target{chain(owner(cluster.ReplicaSet, "rs",
		containers("web=bad:1", "init=tools:1", "side=mesh:1"), nil), top), chain(top), chain(),
		chain(&cluster.Owner{Ref: cluster.Ref{Kind: "Gadget"}}, top),
		{Pod: pod("s", containers("web=alive:1", "init=first:1", "side=other:1", "none=")),
			Owners: []*cluster.Owner{owner(cluster.ReplicaSet, "rs2", containers("web=made:1"), nil), top}}})
	for ref, want := range map[string][2]bool{"bad:1": {true, true}, "tools:1": {true, false}, "mesh:1": {true, true},
		"alive:1": {true, true}, "first:1": {true, false}, "other:1": {true, true},
		"made:1": {false, false}, "new:1": {false, false}} {
		if got := [2]bool{r.has(ref), r.running[fullReference(ref)]}; got != want {
			t.Errorf("%s: ran, and beside others: %v", ref, got)
		}
	}
	if r.has("") || r.has("x@sha256:ab") {
		t.Error("no image is one that ran")
	}
	spec := workload(cluster.Deployment, "x", containers("web=good:1", "init=tools:1", "init2=bad:1", "side=tools:1",
		"app=first:1"), nil).spec()
	if got := r.still(spec); strings.Join(got, " ") != "app=first:1 init2=bad:1 side=tools:1" {
		t.Errorf("%q", got)
	}
}

// Which containers of which workloads get which image.
func TestWhereImagesGo(t *testing.T) {
	t.Parallel()
	web, proxy := "r.io/web@"+digest("a"), "r.io/proxy@"+digest("b")
	one := []*cluster.Owner{owner(cluster.Deployment, "d1",
		containers("web=r.io/web:1", "proxy=r.io/proxy:1", "init=r.io/init:1"), nil)}
	two := []*cluster.Owner{owner(cluster.StatefulSet, "d2", containers("app=r.io/app:1"), nil)}
	none := map[string]any{"spec.replicas": 0}
	for name, c := range map[string]struct {
		chains  [][]*cluster.Owner
		images  []Image
		want    string // workload: container=image …
		left    int
		refused int
		err     string
	}{
		"by its repository":         {[][]*cluster.Owner{one}, []Image{{"", web}}, "d1: web=a", 0, 0, ""},
		"by its name":               {[][]*cluster.Owner{one}, []Image{{"proxy", web}}, "d1: proxy=a", 0, 0, ""},
		"an init container by name": {[][]*cluster.Owner{one}, []Image{{"init", web}}, "d1: init=a", 0, 0, ""},
		"two of them": {[][]*cluster.Owner{one}, []Image{{"", web}, {"", proxy}}, "d1: web=a proxy=b",
			0, 0, ""},
		"the only one there is": {[][]*cluster.Owner{two}, []Image{{"", web}}, "d2: app=a", 0, 0, ""},
		"the only one of one of two": {[][]*cluster.Owner{two,
			{owner(cluster.Deployment, "d3", containers("x=r.io/x:1"), nil)}}, []Image{{"", web}}, "", 0, 0,
			"which container is to run"},
		"of one workload of two": {[][]*cluster.Owner{two, one}, []Image{{"", web}}, "d1: web=a", 0, 0, ""},
		"of both": {[][]*cluster.Owner{two, one}, []Image{{"", web}, {"app", proxy}},
			"d2: app=b; d1: web=a", 0, 0, ""},
		"the same workload twice": {[][]*cluster.Owner{one, one}, []Image{{"", web}}, "d1: web=a", 0, 0, ""},
		"a repository of several": {[][]*cluster.Owner{{owner(cluster.Deployment, "d3",
			containers("a=r.io/web:1", "b=r.io/web:2"), nil)}}, []Image{{"", web}}, "", 0, 0, "or of several"},
		"a repository of none": {[][]*cluster.Owner{one}, []Image{{"", "r.io/x@" + digest("a")}}, "", 0, 0,
			"of no container"},
		"a container of none": {[][]*cluster.Owner{one}, []Image{{"x", web}}, "", 0, 0,
			`no workload of the incident has a container "x"`},
		"one of two is of none": {[][]*cluster.Owner{one}, []Image{{"", proxy}, {"x", web}}, "", 0, 0,
			`has a container "x"`},
		"one container, two images": {[][]*cluster.Owner{one}, []Image{{"web", proxy}, {"", web}}, "", 0, 0,
			"container web of Deployment app/d1 was given two images"},
		"a suspect's image": {[][]*cluster.Owner{one},
			[]Image{{"", proxy}, {"web", "r.io/bad@" + digest("f")}}, "", 0, 0, "to deploy it closes no way in"},
		"the suspect's is left beside": {[][]*cluster.Owner{{owner(cluster.Deployment, "d4",
			containers("web=r.io/web:1", "bad=bad:1"), nil)}}, []Image{{"", web}}, "d4: web=a", 1, 0, ""},
		"it runs it already": {[][]*cluster.Owner{{owner(cluster.Deployment, "d5", containers("web="+web),
			nil)}}, []Image{{"", web}}, "d5: -", 0, 0, ""},
		"a Job": {[][]*cluster.Owner{{owner(cluster.Job, "j", containers("web=r.io/web:1"),
			nil)}}, []Image{{"", web}}, "", 0, 1, ""},
		"of a kind that is not known": {[][]*cluster.Owner{{owner(cluster.ReplicaSet, "rs",
			containers("web=r.io/web:1"), nil), {Ref: cluster.Ref{Kind: "Gadget", UID: "u"}}}}, []Image{{"", web}}, "",
			0, 1, ""},
		"the top of the chain": {[][]*cluster.Owner{{owner(cluster.ReplicaSet, "rs",
			containers("web=r.io/web:1"), nil), one[0]}, nil}, []Image{{"", web}}, "d1: web=a", 0, 0, ""},
		"one that the incident holds": {[][]*cluster.Owner{{owner(cluster.Deployment, "d6",
			containers("web=r.io/web:1"), none)}}, []Image{{"", web}}, "d6: web=a the incident holds it", 0, 0, ""},
		"a CronJob, at its next run": {[][]*cluster.Owner{{owner(cluster.CronJob, "cj", containers("web=r.io/web:1"),
			nil)}}, []Image{{"", web}}, "cj: web=a it takes the new value at its next run", 0, 0, ""},
		"one is refused, one is served": {[][]*cluster.Owner{{owner(cluster.Job, "j", containers("web=r.io/web:1"),
			nil)}, one}, []Image{{"", web}, {"x", web}}, "d1: web=a", 0, 1, ""},
	} {
		suspect := &cluster.Target{Pod: pod("s", containers("bad=bad:1"))}
		suspect.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "bad", ImageID: "x@" + digest("f")}}
		suspect.Owners = c.chains[0]
		radius := &Radius{}
		plan, rollouts, left, err := PlanImages(&steps.Scene{Targets: []*cluster.Target{suspect},
			Workloads: c.chains[1:]}, radius, c.images)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		var got []string
		for _, r := range rollouts {
			text := r.Name + ":"
			changed := slices.ContainsFunc(plan.Actions, func(a steps.Action) bool {
				return a.ID == StepImage+" "+string(r.UID)
			})
			for _, i := range r.images {
				if changed {
					text += " " + i.Container + "=" + strings.TrimPrefix(imageDigest(i.Ref), "sha256:")[:1]
				}
			}
			if !changed {
				text += " -"
			}
			if r.Why != "" {
				why, _, _ := strings.Cut(r.Why, " at zero")
				text += " " + why
			}
			got = append(got, text)
		}
		slices.Sort(got)
		want := strings.Split(c.want, "; ")
		slices.Sort(want)
		if strings.Join(got, "; ") != strings.Join(want, "; ") || len(left) != c.left ||
			len(plan.Refusals) != c.refused {
			t.Errorf("%s: %q, left %q, refused %v", name, got, left, plan.Refusals)
		}
		if len(radius.imaged) != len(rollouts) {
			t.Errorf("%s: %d workloads are known to get an image", name, len(radius.imaged))
		}
	}
}

// A rollout of images is verified by what the new pods run: under each name, and
// by its content.
func TestImagesAreVerified(t *testing.T) {
	t.Parallel()
	image := "r.io/web@" + digest("a")
	for name, c := range map[string]struct {
		spec corev1.PodSpec
		id   string
		deny string
		want string
	}{
		"another content": {containers("web="+image, "proxy=p:1"), "x@" + digest("a"), "nowhere", ""},
		"the suspects' again": {containers("web="+image, "proxy=p:1"), "x@" + digest("f"), "nowhere",
			"the same content under another name"},
		"it may not be looked": {containers("web="+image, "proxy=p:1"), "x@" + digest("a"), "/pods", "listing pods"},
	} {
		p := pod("p", c.spec)
		p.Labels = map[string]string{"app": "x"}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "proxy", ImageID: "x@" + digest("f")},
			{Name: "web", ImageID: c.id}}
		suspect := pod("suspect", containers("web=bad:1"))
		suspect.Labels = p.Labels
		suspect.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", ImageID: "x@" + digest("f")}}
		f := newFake(t, controller(cluster.Deployment, "x", c.spec, nil), suspect, p)
		f.deny(c.deny)
		r := &Rollout{Restart: &Restart{Workload: workload(cluster.Deployment, "x", c.spec, nil)},
			images: []Image{{"web", image}}, ran: ran{digests: map[string]bool{digest("f"): true}}}
		suspects := map[types.UID]bool{"uid-suspect": true}
		for _, err := range []error{r.sameContent(t.Context(), f.client, suspects),
			r.VerifyImages(t.Context(), f.client, suspects, func(string) {})} {
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	r := &Rollout{images: []Image{{"init", "i:2"}, {"web", "w:2"}}}
	for name, c := range map[string]struct {
		spec corev1.PodSpec
		want bool
	}{
		"both":             {containers("init=i:2", "web=w:2", "other=x"), true},
		"one is of before": {containers("init=i:2", "web=w:1"), false},
		"the init one is":  {containers("init=i:1", "web=w:2"), false}, "others": {containers("x=w:1"), true},
	} {
		if got := r.Fresh(pod("p", c.spec)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	noSelector := &Rollout{Restart: &Restart{Workload: bare(pod("x", naming()))}}
	if err := noSelector.sameContent(t.Context(), nil, nil); err == nil {
		t.Error("what cannot be selected is verified")
	}
}

func manifest(apiVersion, kind, namespace, name string) Manifest {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind,
		"metadata": map[string]any{"name": name}}}
	if namespace != "" {
		o.SetNamespace(namespace)
	}
	return Manifest{Source: "f.yaml", Object: o}
}

// Which manifests cannot be applied, each by itself and with the reason.
func TestWhichManifestsAreRefused(t *testing.T) {
	t.Parallel()
	large := manifest("v1", "ConfigMap", "app", "large")
	large.Object.Object["data"] = map[string]any{"a": strings.Repeat("x", maxConfig)}
	for name, c := range map[string]struct {
		m         Manifest
		namespace string
		want      string
	}{
		"a Secret":                  {manifest("v1", "Secret", "app", "s"), "", "have no place in the journal"},
		"its namespace is not said": {manifest("v1", "ConfigMap", "", "m"), "", "it has no namespace"},
		"of the cluster, with one": {manifest("rbac.authorization.k8s.io/v1", "ClusterRole", "app", "c"), "",
			"take the namespace out"},
		"of the cluster, with -n": {manifest("rbac.authorization.k8s.io/v1", "ClusterRole", "", "c"), "app", ""},
		"of a kind that is not":   {manifest("x.io/v1", "X", "app", "x"), "", "x.io"},
		"too large":               {large, "", "larger than"},
		"of a workload that --image": {manifest("apps/v1", "Deployment", "app", "imaged"), "",
			"--image changes it, too"},
		"with its namespace":        {manifest("v1", "ConfigMap", "app", "m"), "", ""},
		"with -n":                   {manifest("v1", "ConfigMap", "", "m"), "app", ""},
		"another kind of that name": {manifest("apps/v1", "StatefulSet", "app", "imaged"), "", ""},
		"another namespace's":       {manifest("apps/v1", "Deployment", "far", "imaged"), "", ""},
		"another name":              {manifest("apps/v1", "Deployment", "app", "other"), "", ""},
	} {
		f := newFake(t)
		a := &applier{Radius: &Radius{client: f.client,
			imaged: []*Workload{workload(cluster.StatefulSet, "x", naming(), nil),
				workload(cluster.Deployment, "imaged", naming(), nil)}}, Options: Options{Namespace: c.namespace},
			kinds: kindsSeen{}, seen: map[cluster.Ref]bool{}}
		ref, err := a.refOf(t.Context(), c.m.Object)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			if c.m.Object.GetKind() == "ConfigMap" && ref.Namespace != "app" ||
				c.m.Object.GetKind() == "ClusterRole" && ref.Namespace != "" {
				t.Errorf("%s: %s", name, ref)
			}
			if _, err := a.refOf(t.Context(), c.m.Object); err == nil || !strings.Contains(err.Error(), "twice") {
				t.Errorf("%s: given twice: %v", name, err)
			}
		}
	}
	f := newFake(t)
	plan, applied := PlanManifests(t.Context(), &Radius{client: f.client},
		Options{Manifests: []Manifest{manifest("v1", "Secret", "app", "s"), manifest("v1", "ConfigMap", "", "m")}},
		func(cluster.Ref) [][]string { return nil })
	if len(plan.Refusals) != 2 || len(plan.Actions)+len(applied) > 0 ||
		!strings.Contains(plan.Refusals[1].Reason, "(f.yaml)") {
		t.Errorf("%+v", plan)
	}
	list, errs := AccessToApply(t.Context(), f.client,
		[]Manifest{manifest("v1", "ConfigMap", "app", "a"), manifest("v1", "Secret", "app", "s"),
			manifest("v1", "ConfigMap", "app", "b"), manifest("v1", "ConfigMap", "", "c")}, "far")
	var got []string
	for _, q := range list {
		got = append(got, q.Verb+" "+q.Namespace)
	}
	if want := []string{"get app", "patch app", "create app", "delete app", "get far", "patch far", "create far",
		"delete far"}; !slices.Equal(got, want) || len(errs) != 1 {
		t.Errorf("%q, %v", got, errs)
	}
}

// Which workloads roll out by what is applied.
func TestWhatRollsOutByAManifest(t *testing.T) {
	t.Parallel()
	edit := func(ref cluster.Ref, paths ...string) change.Change {
		c := change.Change{Object: ref.Named("app", "x", "")}
		for _, p := range paths {
			c.Fields = append(c.Fields, change.Field{Path: strings.Split(p, "."), After: 1})
		}
		return c
	}
	other := cluster.Deployment
	other.Group = "example.com"
	create := change.NewCreate(cluster.Deployment.Named("app", "x", ""), map[string]any{"spec": map[string]any{}})
	for name, c := range map[string]struct {
		change change.Change
		want   bool
	}{
		"its template":  {edit(cluster.Deployment, "spec.replicas", "spec.template.spec.containers"), true},
		"its replicas":  {edit(cluster.Deployment, "spec.replicas"), false},
		"what is above": {edit(cluster.Deployment, "spec"), false},
		"it is made":    {create, true}, "of another group": {edit(other, "spec.template.spec"), false},
		"a Job": {edit(cluster.Job, "spec.template.spec"), false}, "a pod": {edit(cluster.Pod, "spec.template"), false},
		"a DaemonSet": {edit(cluster.DaemonSet, "spec.template.metadata"), true},
		"a CronJob":   {edit(cluster.CronJob, "spec.jobTemplate.spec.template.spec"), false},
	} {
		if got := templated(c.change) != nil; got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := summaryOf(create); !strings.HasPrefix(got, "create Deployment app/x") {
		t.Error(got)
	}
	if got := summaryOf(edit(cluster.Deployment, "a", "b", "c", "d", "e", "f")); !strings.HasSuffix(got,
		"a, b, c, d, e, and 1 more") {
		t.Error(got)
	}
	if got := summaryOf(edit(cluster.Deployment, "a", "b", "c", "d", "e")); strings.Contains(got, "more") {
		t.Error(got)
	}
	c := edit(cluster.Deployment, "a")
	c.Apply = &change.Apply{Force: true}
	if got := commandOf(c,
		"a b"); got != "kubectl apply --server-side --field-manager=irctl --force-conflicts -n app -f 'a b'" {
		t.Error(got)
	}
	c.Apply.Force, c.Object.Namespace = false, ""
	if got := commandOf(c, "f"); got != "kubectl apply --server-side --field-manager=irctl -f f" {
		t.Error(got)
	}
	if size(c) < 10 || size(change.Change{Manifest: map[string]any{"a": func() {}}}) <= maxConfig*4 {
		t.Error("the size of a change")
	}
}

// Inputs are checked before anything is read from the cluster; what is wrong is
// told by the flag, and never by a value.
func TestInputs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	value, empty, admin := file("value", "s3cret\n"), file("empty", "\n"),
		file("admin", "postgres://admin:pw@db.example.com/x")
	huge := file("huge", strings.Repeat("x", maxValue+1))
	exact := file("exact", strings.Repeat("x", maxValue))
	for name, c := range map[string]struct {
		in   Inputs
		want string // "": fine
	}{
		"nothing":                 {Inputs{}, ""},
		"both names and all":      {Inputs{All: true, Secrets: []string{"a"}}, "--secret: give either"},
		"all":                     {Inputs{All: true}, ""},
		"names":                   {Inputs{Secrets: []string{"a"}}, ""},
		"the rest at random":      {Inputs{GenerateRest: "random"}, ""},
		"the rest as passwords":   {Inputs{GenerateRest: "password"}, ""},
		"the rest as a key":       {Inputs{GenerateRest: "rsa"}, "--generate-rest rsa"},
		"a kind":                  {Inputs{Generate: []string{"a=rsa:b"}}, ""},
		"a kind that is none":     {Inputs{Generate: []string{"a=x"}}, "--generate a=x"},
		"a kind that is not made": {Inputs{Generate: []string{"a=keep"}}, "--generate a=keep"},
		"no kind":                 {Inputs{Generate: []string{"a"}}, "--generate a"},
		"no key":                  {Inputs{Generate: []string{"=random"}}, "--generate =random"},
		"a key twice": {Inputs{Generate: []string{"a=random"}, Keep: []string{"a"}},
			"--keep a: the key was given already"},
		"a kind twice": {Inputs{Generate: []string{"a=random", "a=random"}},
			"--generate a: the key was given already"},
		"a role": {Inputs{Postgres: []string{"a=r"}}, ""},
		"a role and a key": {Inputs{Postgres: []string{"a=r"}, Keep: []string{"a"}},
			"--postgres a: the key was given already"},
		"no role":             {Inputs{Postgres: []string{"a="}}, "--postgres a="},
		"a file":              {Inputs{SetFrom: []string{"a=" + value}}, ""},
		"a file of the bound": {Inputs{SetFrom: []string{"a=" + exact}}, ""},
		"a file and a kind": {Inputs{SetFrom: []string{"a=" + value}, Generate: []string{"a=random"}},
			"--set-from a: the key was given already"},
		"no file": {Inputs{SetFrom: []string{"s3cret"}}, "--set-from: it needs"},
		"a value where a file is due": {Inputs{SetFrom: []string{"a=s3cret"}},
			"--set-from a: its second half must be a file"},
		"an empty file":        {Inputs{SetFrom: []string{"a=" + empty}}, "empty or larger"},
		"a huge file":          {Inputs{SetFrom: []string{"a=" + huge}}, "larger than"},
		"standard input":       {Inputs{SetFrom: []string{"a=-"}}, ""},
		"standard input twice": {Inputs{SetFrom: []string{"a=-", "b=-"}}, "can hold one value only"},
		"a folder":             {Inputs{SetFrom: []string{"a=" + dir}}, "--set-from a"},
		"a command": {Inputs{Generate: []string{"a=random"}, StoreCommands: []string{`a=["x"]`}},
			""},
		"a command for a file": {Inputs{SetFrom: []string{"a=" + value}, StoreCommands: []string{`a=["x"]`}},
			""},
		"a command for nothing": {Inputs{StoreCommands: []string{`a=["x"]`}}, "say with --generate"},
		"a command for what is kept": {Inputs{Keep: []string{"a"}, StoreCommands: []string{`a=["x"]`}},
			"say with --generate"},
		"a command for a role": {Inputs{Postgres: []string{"a=r"}, StoreCommands: []string{`a=["x"]`}},
			"say with --generate"},
		"a command that is none": {Inputs{Generate: []string{"a=random"}, StoreCommands: []string{`a=x`}},
			"--store-command a"},
		"an empty command": {Inputs{Generate: []string{"a=random"}, StoreCommands: []string{`a=[]`}},
			"--store-command a"},
		"a command of nothing": {Inputs{Generate: []string{"a=random"}, StoreCommands: []string{`a=[""]`}},
			"--store-command a"},
		"no command": {Inputs{Generate: []string{"a=random"}, StoreCommands: []string{`["x"]`}},
			"--store-command"},
		"a database":            {Inputs{PostgresAdmin: admin}, ""},
		"a way to no database":  {Inputs{PostgresForward: "pod/x"}, "--postgres-forward: it is the way"},
		"a database, and a way": {Inputs{PostgresAdmin: admin, PostgresForward: "pod/x", Context: "app"}, ""},
		"a way that is none": {Inputs{PostgresAdmin: admin, PostgresForward: "x", Context: "app"},
			"--postgres-forward"},
		"a database that is a value": {Inputs{PostgresAdmin: "postgres://admin:pw@db/x"},
			"--postgres-admin: it must be a file"},
		"a database that is none":        {Inputs{PostgresAdmin: value}, "--postgres-admin"},
		"an image":                       {Inputs{Images: []string{"web:1"}, AllowTag: true}, ""},
		"an image by a tag":              {Inputs{Images: []string{"web:1"}}, "--image web:1"},
		"force without manifests":        {Inputs{ForceConflicts: true}, "--force-conflicts: it goes with --apply"},
		"manifests that are not there":   {Inputs{Apply: []string{filepath.Join(dir, "none")}}, "--apply"},
		"no manifests, and no force":     {Inputs{}, ""},
		"manifests that are no manifest": {Inputs{Apply: []string{value}, ForceConflicts: true}, "--apply"},
	} {
		_, err := c.in.Options(t.Context(), strings.NewReader("from stdin\n"))
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(),
			strings.TrimPrefix(c.want, "~")) && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), ":pw@")) {
			t.Errorf("%s: the value is told: %v", name, err)
		}
	}
	if _, err := (Inputs{SetFrom: []string{"a=-"}}).Options(t.Context(), nil); err == nil ||
		!strings.Contains(err.Error(), "no standard input") {
		t.Errorf("%v", err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"a line":           {"word\r\n", "word"},
		"several lines":    {"a\nb\n", "a\nb\n"},
		"without line end": {"word", "word"},
		"binary":           {"\xff\xfe\n", "\xff\xfe\n"},
	} {
		o, err := Inputs{SetFrom: []string{"a=" + file("v", c.text)}}.Options(t.Context(), nil)
		if err != nil || string(o.Sources["a"].Value.Reveal()) != c.want || o.Sources["a"].Kind != rotate.Supplied {
			t.Errorf("%s: %q, %v", name, o.Sources["a"].Value.Reveal(), err)
		}
	}
	o, err := Inputs{Generate: []string{"a=rsa:b"}, StoreCommands: []string{`a=["x", "y"]`}, Revoked: []string{"r"},
		Again: true, Namespace: "n", RemoveBindings: true, GenerateRest: "password", Secrets: []string{"s"},
		Apply: []string{file("m.yaml", configMapText)}, ForceConflicts: true}.Options(t.Context(), nil)
	a := o.Sources["a"]
	if err != nil || a.Kind != rotate.RSA || a.Public != "b" || len(a.Command) != 2 ||
		!slices.Equal(o.Revoked, []string{"r"}) || !o.Again || o.Namespace != "n" || !o.RemoveBindings ||
		o.Rest != rotate.Password || len(o.Secrets) != 1 || len(o.Manifests) != 1 || !o.ForceConflicts {
		t.Errorf("%+v, %v", o, err)
	}
	if got := (&InputError{Input: "x", Err: fmt.Errorf("why")}).Error(); got != "--x: why" {
		t.Error(got)
	}
}

const configMapText = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: prod}\n"
