package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

// suspectImage is what the suspects of the todo-app run.
const suspectImage = "registry.example.com/todo-backend:1.4.2"

// during has something happen once the watch has begun.
func (p *process) during(happen func()) {
	var once sync.Once
	p.front.waiting = func(e engine.Event) {
		if e.Step == recovery.StepMonitor || e.Step == "verify" {
			once.Do(happen)
		}
	}
}

// runs is a Deployment of the suspects' image.
func (w *downWorld) runs(t testing.TB, namespace, name string, replicas int) {
	t.Helper()
	err := w.Apply(fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec: {containers: [{name: c, image: "%[4]s"}]}
`, namespace, name, replicas, suspectImage))
	if err != nil {
		t.Fatal(err)
	}
}

// bare is a pod without a controller.
func (w *downWorld) bare(t testing.TB, namespace, name, image string) {
	t.Helper()
	err := w.Apply(fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: %s}\nspec: {containers: "+
		"[{name: c, image: \"%s\"}]}\n", name, namespace, image))
	if err != nil {
		t.Fatal(err)
	}
}

// newWatched is a recovered incident, with a namespace each for bystanders.
func newWatched(t *testing.T, change ...func(*engine.RecoverRequest)) (*downWorld, *process) {
	t.Helper()
	w := newDown(t)
	for _, ns := range []string{"shop", "billing", "openshift-ingress", "tools"} {
		if err := w.Apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + ns + "}\n"); err != nil {
			t.Fatal(err)
		}
	}
	p := w.mustStart(t, w.dir)
	p.mustRecover(t, change...)
	return w, p
}

// cutOff are the pods that carry the labels of the quarantine.
func (w *downWorld) cutOff() (names []string) {
	for _, o := range w.State() {
		if o.GetKind() == "Pod" && o.GetLabels()[contain.QuarantineLabel] == contain.QuarantineValue {
			names = append(names, o.GetNamespace()+"/"+o.GetName())
		}
	}
	return names
}

// atZero are the Deployments that are scaled to zero.
func (w *downWorld) atZero() (names []string) {
	for _, o := range w.State() {
		if n, found, _ := unstructured.NestedInt64(o.Object, "spec", "replicas"); o.GetKind() == "Deployment" &&
			found && n == 0 {
			names = append(names, o.GetNamespace()+"/"+o.GetName())
		}
	}
	return names
}

func recontaining(namespaces ...string) func(*engine.MonitorRequest) {
	return func(r *engine.MonitorRequest) { r.Recontain, r.RecontainNamespaces = true, namespaces }
}

func briefly(r *engine.MonitorRequest) { r.For = 2 * time.Second }

func codesOf(hits []recovery.Hit) (codes []string) {
	for _, h := range hits {
		codes = append(codes, h.Code+" "+h.Namespace+"/"+h.Pod)
	}
	return codes
}

func (p *process) mustMonitor(t *testing.T, change ...func(*engine.MonitorRequest)) *engine.MonitorResult {
	t.Helper()
	res, err := p.monitorNow(t.Context(), change...)
	if err != nil || res.Failure != "" {
		t.Fatalf("%v, %s", err, res.Failure)
	}
	return res
}

func entriesOf(entries []timeline.Entry, action string) (list []timeline.Entry) {
	for _, e := range entries {
		if e.Step == recovery.StepMonitor && e.Action == action {
			list = append(list, e)
		}
	}
	return list
}

// Who has run the same image all along is exposed too, and not the attacker:
// only what came since is a sign, and only that is contained.
func TestBystandersAreNoSignOfAReturn(t *testing.T) {
	w, p := newWatched(t, deleting)
	for _, ns := range []string{"shop", "billing", "todo-app"} {
		w.runs(t, ns, "reports", 2)
	}
	res := p.mustMonitor(t, recontaining(), briefly)
	if len(res.Hits) > 0 || len(res.Exposed) != 6 || res.Contained != nil || len(w.cutOff())+len(w.atZero()) > 0 {
		t.Fatalf("hits %v, exposed %v, cut off %v, at zero %v", codesOf(res.Hits), codesOf(res.Exposed), w.cutOff(),
			w.atZero())
	}
	p.during(func() { w.bare(t, "todo-app", "again", suspectImage) })
	res = p.mustMonitor(t, recontaining())
	if got := codesOf(res.Hits); !slices.Equal(got, []string{"image todo-app/again"}) {
		t.Errorf("signs: %v", got)
	}
	if got := w.cutOff(); !slices.Equal(got, []string{"todo-app/again"}) || len(w.atZero()) > 0 {
		t.Errorf("cut off are %v, at zero %v", got, w.atZero())
	}
	if said := entriesOf(journal(t, w.dir), "exposed"); len(said) != 1 {
		t.Errorf("the journal says %d times who is exposed too", len(said))
	}
}

// A watch that was killed and is started again does not take for old what came
// up in between, unless it is told to.
func TestAWatchStartedAgainContinues(t *testing.T) {
	w, p := newWatched(t, deleting)
	w.runs(t, "shop", "reports", 2)
	p.mustMonitor(t, briefly)
	w.bare(t, "todo-app", "between", suspectImage)
	for name, tc := range map[string]struct {
		change  func(*engine.MonitorRequest)
		signs   []string
		exposed int
	}{
		"again":                 {func(*engine.MonitorRequest) {}, []string{"image todo-app/between"}, 2},
		"with a new baseline":   {func(r *engine.MonitorRequest) { r.NewBaseline = true }, nil, 3},
		"again, by a new irctl": {func(r *engine.MonitorRequest) {}, []string{"image todo-app/between"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			v := &downWorld{world: w.world, dir: copyState(t, w.dir)}
			res := v.mustStart(t, v.dir).mustMonitor(t, tc.change, briefly)
			if got := codesOf(res.Hits); !slices.Equal(got, tc.signs) || len(res.Exposed) != tc.exposed {
				t.Errorf("signs %v, exposed %v", got, codesOf(res.Exposed))
			}
		})
	}
}

// What the watch may touch by itself is bounded; what it leaves alone is named,
// with the reason and the command.
func TestRecontainTouchesOnlyTheIncidents(t *testing.T) {
	elsewhere := func(ns string) func(*testing.T, *downWorld) {
		return func(t *testing.T, w *downWorld) { w.bare(t, ns, "again", suspectImage) }
	}
	for name, tc := range map[string]struct {
		happens func(*testing.T, *downWorld)
		named   []string
		cut     string // the one pod, by the beginning of its name
		reason  string // of what is left alone
		command string
	}{
		"the incident's namespace": {elsewhere("todo-app"), nil, "todo-app/again", "", ""},
		"another": {elsewhere("shop"), nil, "", "namespace shop is not the incident's",
			"irctl contain --pod again -n shop --incident inc-"},
		"another that is named": {elsewhere("shop"), []string{"shop"}, "shop/again", "", ""},
		"the cluster's": {elsewhere("kube-system"), nil, "",
			"kube-system is a namespace of the cluster itself", "irctl contain --pod again -n kube-system"},
		"the cluster's that is named": {elsewhere("kube-system"), []string{"kube-system"}, "kube-system/again", "", ""},
		"OpenShift's": {elsewhere("openshift-ingress"), nil, "",
			"openshift-ingress is a namespace of the cluster itself", "irctl contain"},
		"irctl's":               {elsewhere("tools"), nil, "", "irctl itself runs in namespace tools", "irctl contain"},
		"irctl's that is named": {elsewhere("tools"), []string{"tools"}, "tools/again", "", ""},
		"a workload of others": {func(t *testing.T, w *downWorld) {
			w.runs(t, "todo-app", "reports", 1)
		}, nil, "todo-app/reports-",
			"it is not the incident's workload: its pod reports-", "irctl contain --pod reports-"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("POD_NAMESPACE", "tools")
			w, p := newWatched(t, deleting)
			p.during(func() { tc.happens(t, w) })
			res := p.mustMonitor(t, recontaining(tc.named...))
			if got := w.cutOff(); (len(got) == 1) != (tc.cut != "") ||
				tc.cut != "" && !strings.HasPrefix(got[0], tc.cut) {
				t.Errorf("cut off are %v, expected %q", got, tc.cut)
			}
			if got := w.atZero(); len(got) > 0 || len(res.Hits) != 1 {
				t.Errorf("at zero are %v; signs %v", got, codesOf(res.Hits))
			}
			left := slices.ContainsFunc(res.NotTouched, func(n engine.NotTouched) bool {
				return strings.HasPrefix(n.Reason, tc.reason) && strings.HasPrefix(n.Command, tc.command)
			})
			if left != (tc.reason != "") {
				t.Errorf("left alone are %+v", res.NotTouched)
			}
		})
	}
}

// A pod of a workload of others is cut off and stays where it is, so that nothing
// starts in its place; status says that it is as it was meant, and the workload
// does not become the incident's by it.
func TestAPodOfOthersIsOnlyIsolated(t *testing.T) {
	w, p := newWatched(t) // the suspect is kept, and was detached
	p.during(func() { w.runs(t, "todo-app", "reports", 1) })
	res := p.mustMonitor(t, recontaining())
	name := firstPod(t, w.Cluster, "todo-app", "reports-")
	pod, _ := w.Get(sim.Pods, "todo-app", name)
	if pod.GetLabels()["app"] != "reports" || len(pod.GetOwnerReferences()) != 1 ||
		pod.GetLabels()[contain.QuarantineLabel] == "" {
		t.Errorf("the pod has labels %v and owners %v", pod.GetLabels(), pod.GetOwnerReferences())
	}
	if len(res.Contained.Targets) != 1 || res.Contained.Verdict == contain.NotContained {
		t.Errorf("%s: %+v", res.Contained.Verdict, res.Contained.Targets)
	}
	status := p.Status(t.Context(), mustLoad(t, p), journal(t, w.dir))
	for _, f := range status.Targets {
		for _, c := range f.Checks {
			if f.Pod == name && !c.OK {
				t.Errorf("status: %s: %s", c.Code, c.Text)
			}
		}
	}
	// A second pod of it comes up: it is isolated as well.
	p.during(func() {
		w.edit(t, sim.Deployments, "reports", func(o *unstructured.Unstructured) {
			_ = unstructured.SetNestedField(o.Object, int64(2), "spec", "replicas")
		})
	})
	res = p.mustMonitor(t, recontaining())
	if got := w.cutOff(); len(got) != 3 || len(w.atZero()) > 0 {
		t.Errorf("cut off are %v, at zero %v: %+v", got, w.atZero(), res)
	}
}

// What was contained beyond the incident widens nothing: neither are its other
// images signs from then on, nor is its namespace the incident's.
func TestWhatWasIsolatedWidensNothing(t *testing.T) {
	const proxy = "registry.example.com/todo-mcp-server:1.4.2"
	w, p := newWatched(t, deleting)
	p.during(func() {
		w.bare(t, "shop", "again", suspectImage+`"}, {name: proxy, image: "`+proxy)
	})
	if p.mustMonitor(t, recontaining("shop")); !slices.Equal(w.cutOff(), []string{"shop/again"}) {
		t.Fatalf("cut off are %v", w.cutOff())
	}
	p.during(func() {
		w.bare(t, "todo-app", "proxy", proxy)
		w.bare(t, "shop", "more", suspectImage)
	})
	res := p.mustMonitor(t, recontaining())
	if got := codesOf(res.Hits); !slices.Equal(got, []string{"image shop/more"}) || len(w.cutOff()) != 1 {
		t.Errorf("signs %v, cut off %v", got, w.cutOff())
	}
}

// Five an hour, whatever the number of watches; then nothing is touched, and the
// journal says so.
func TestFiveContainmentsAnHour(t *testing.T) {
	w, p := newWatched(t, deleting)
	come := func(names ...string) {
		for _, name := range names {
			w.bare(t, "todo-app", name, suspectImage)
		}
	}
	p.during(func() { come("a", "b", "c") })
	if p.mustMonitor(t, recontaining()); len(w.cutOff()) != 3 {
		t.Fatalf("cut off are %v", w.cutOff())
	}
	p = w.mustStart(t, w.dir)
	p.during(func() { come("d", "e", "f") })
	res := p.mustMonitor(t, recontaining())
	if got := w.cutOff(); len(got) != 5 || len(res.NotTouched) != 1 ||
		!strings.Contains(res.NotTouched[0].Reason, "contained 5 pods within the hour") {
		t.Errorf("cut off are %v; left alone %+v", got, res.NotTouched)
	}
	written := p.server.Written()
	res = p.mustMonitor(t, recontaining())
	if len(res.Hits) == 0 || res.Contained != nil || p.server.Written() != written ||
		len(entriesOf(journal(t, w.dir), "recontain-limit")) != 2 {
		t.Errorf("%d signs, %d writes more, %+v", len(res.Hits), p.server.Written()-written, res.NotTouched)
	}
	// An hour later there is room again.
	p.Now = func() time.Time { return clock().Add(time.Hour + time.Minute) }
	if p.mustMonitor(t, recontaining()); len(w.cutOff()) != 6 {
		t.Errorf("cut off are %v", w.cutOff())
	}
}

// What was answered no was not contained, and does not count.
func TestANoIsNoContainment(t *testing.T) {
	w, p := newWatched(t, deleting)
	p.during(func() {
		for n := range 5 {
			w.bare(t, "todo-app", fmt.Sprintf("again-%d", n), suspectImage)
		}
		p.front.answer = engine.No
	})
	if res := p.mustMonitor(t, recontaining()); !res.Contained.Cancelled || len(res.NotTouched) != 5 {
		t.Errorf("%+v", res)
	}
	p.front.answer = engine.Yes
	if p.mustMonitor(t, recontaining()); len(w.cutOff()) != 5 {
		t.Errorf("cut off are %v", w.cutOff())
	}
}

// An alert about a bystander is a sign, and no reason to touch it.
func TestAnAlertAboutABystanderTouchesNothing(t *testing.T) {
	w, p := newWatched(t, deleting)
	w.runs(t, "todo-app", "reports", 1)
	name := firstPod(t, w.Cluster, "todo-app", "reports-")
	alert := fmt.Sprintf(`{"time":"2026-02-12T09:30:05Z","rule":"Terminal shell in `+
		`container","priority":"Critical","output":"shell","output_fields":{"k8s.ns.name":"todo-app",`+
		`"k8s.pod.name":"%s"}}`+"\n", name)
	res := p.mustMonitor(t, recontaining(), func(r *engine.MonitorRequest) {
		r.Inputs = []detect.Input{{Source: detect.SourceFalco, Path: "alerts", Reader: strings.NewReader(alert)}}
	})
	if got := codesOf(res.Hits); !slices.Equal(got, []string{"alert todo-app/" + name}) || len(w.cutOff())+
		len(w.atZero()) > 0 {
		t.Errorf("signs %v, cut off %v, at zero %v", got, w.cutOff(), w.atZero())
	}
	if len(res.NotTouched) != 1 || res.NotTouched[0].Reason != "it ran before the watch began" {
		t.Errorf("left alone: %+v", res.NotTouched)
	}
}

// Pods that could not be listed when the watch began may be old or new: that is
// a gap, no sign, and nothing is done to them.
func TestWhatCouldNotBeListedIsNoSign(t *testing.T) {
	w, p := newWatched(t, deleting)
	w.runs(t, "shop", "reports", 1)
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("not in all namespaces"))
	restricted, err := w.start(t, t.Context(), w.dir, func(r sim.Request) sim.Fault {
		if r.Verb == "list" && r.Resource == "pods" && r.Namespace == "" {
			return sim.Fault{Error: forbidden}
		}
		return sim.Fault{}
	})
	if err != nil {
		t.Fatal(err)
	}
	if res := restricted.mustMonitor(t, recontaining("shop"), briefly); len(res.Hits) > 0 || len(res.Gaps) == 0 {
		t.Fatalf("%+v", res)
	}
	p.during(func() { w.bare(t, "shop", "later", suspectImage) })
	res := p.mustMonitor(t, recontaining("shop"))
	told := slices.ContainsFunc(res.Gaps, func(g string) bool {
		return strings.Contains(g, "pods of namespace shop that look like the suspects, such as reports-")
	})
	if got := codesOf(res.Hits); !slices.Equal(got, []string{"image shop/later"}) || !told ||
		!slices.Equal(w.cutOff(), []string{"shop/later"}) {
		t.Errorf("signs %v, gaps %v, cut off %v", got, res.Gaps, w.cutOff())
	}
}

// A watch that could not look at the pods has not seen nothing.
func TestAWatchThatCouldNotLookSawNotNothing(t *testing.T) {
	w, p := newWatched(t, deleting)
	w.Deny(sim.Rule{Verb: "list", Resource: "pods"})
	res := p.mustMonitor(t, briefly)
	last := journal(t, w.dir)[len(journal(t, w.dir))-1]
	if res.Undetermined == "" || last.Outcome != timeline.OutcomeFailed ||
		!strings.Contains(last.Summary, "could not look at the pods") {
		t.Errorf("%+v; the journal ends with %+v", res, last)
	}
}
