package recover

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/cluster"
	"irctl/internal/steps/contain"
)

// sound is a pod with which every check is content.
func sound(name string) corev1.Pod {
	return owned(name, func(p *corev1.Pod) {
		security := func() *corev1.SecurityContext {
			return &corev1.SecurityContext{RunAsNonRoot: yes(), RunAsUser: number[int64](1000),
				AllowPrivilegeEscalation: no(), ReadOnlyRootFilesystem: yes(),
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
		}
		p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "tools@" + digest("1"),
			SecurityContext: security()}}
		p.Spec.Containers = []corev1.Container{{Name: "web", Image: "web@" + digest("2"), SecurityContext: security(),
			ReadinessProbe: &corev1.Probe{}},
			{Name: "proxy", Image: "proxy:3", SecurityContext: security(), ReadinessProbe: &corev1.Probe{}}}
		p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "init", ImageID: "x@" + digest("1")}}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", ImageID: "x@" + digest("2")},
			{Name: "proxy", ImageID: "x@" + digest("3")}}
	})
}

func templateOf(p *corev1.Pod) map[string]any {
	list := func(containers []corev1.Container) (out []any) {
		for _, c := range containers {
			out = append(out, map[string]any{"name": c.Name, "image": c.Image})
		}
		return out
	}
	return map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"initContainers": list(p.Spec.InitContainers), "containers": list(p.Spec.Containers)}}}}
}

// checkWorld is a workload with two new pods, with which every check is content.
type checkWorld struct {
	*fake
	pods    []corev1.Pod
	around  *cluster.Namespace
	want    Expected
	w       *Workload
	suspect *corev1.Pod
}

func ready(service string, pods ...types.UID) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: service + "-1",
		Labels: map[string]string{discoveryv1.LabelServiceName: service}}}
	for _, uid := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{TargetRef: &corev1.ObjectReference{Name: "pod " +
			string(uid), UID: uid}, Conditions: discoveryv1.EndpointConditions{Ready: yes()}})
	}
	return s
}

func service(name string, selector map[string]string) corev1.Service {
	return corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: name},
		Spec: corev1.ServiceSpec{Selector: selector}}
}

func policy(name string, selector map[string]string, types ...networkingv1.PolicyType) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: name},
		Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: selector},
			PolicyTypes: types}}
}

func enforcing(name string) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name},
		Status: appsv1.DaemonSetStatus{NumberReady: 1}}
}

func newCheckWorld(t *testing.T) *checkWorld {
	x := &checkWorld{fake: newFake(t, policy("deny", map[string]string{"app": "app"}, networkingv1.PolicyTypeIngress,
		networkingv1.PolicyTypeEgress), enforcing("calico-node")),
		pods: []corev1.Pod{sound("p1"), sound("p2")}}
	x.answers["/log?"] = "started\n"
	suspect := owned("suspect")
	x.suspect = &suspect
	x.w = &Workload{Owner: &cluster.Owner{Ref: cluster.Deployment.Named("app", "app", "uid-app"),
		Object: &unstructured.Unstructured{Object: templateOf(&x.pods[0])}},
		Suspects: []*cluster.Target{{Pod: x.suspect}}, WayIn: WayIn{State: Closed, Images: []string{"web=x"}}}
	x.around = &cluster.Namespace{Services: []corev1.Service{service("front", map[string]string{"app": "app"}),
		service("other", map[string]string{"app": "other"}), service("headless", nil)}}
	x.want = Expected{Indicators: Indicators{Digests: []string{digest("b")},
		Images: []string{"bad:1", "bad@" + digest("c")}}, Incident: "inc-1"}
	x.Add(t, ready("front", "uid-p1", "uid-p2"), ready("other", "uid-suspect"))
	return x
}

func (x *checkWorld) examine(ctx context.Context) map[string]Check {
	scene := x.scene()
	scene.Around["app"] = x.around
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // endpoints that never come are waited for in vain
	defer cancel()
	found := map[string]Check{}
	for _, c := range Examine(ctx, scene, x.w, Rollout{Pods: x.pods, Text: "why"}, x.want) {
		found[c.Code] = c
	}
	return found
}

// Every check, by what it takes to change its result, in one of two pods, and of
// what must not change it. All other checks must stay as they were.
func TestChecks(t *testing.T) {
	last := func(x *checkWorld) *corev1.Pod { return &x.pods[1] }
	web := func(x *checkWorld) *corev1.SecurityContext { return last(x).Spec.Containers[0].SecurityContext }
	initial := func(x *checkWorld) *corev1.SecurityContext { return last(x).Spec.InitContainers[0].SecurityContext }
	ephemeral := func(x *checkWorld, s *corev1.SecurityContext, id string) {
		last(x).
			Spec.EphemeralContainers = []corev1.EphemeralContainer{
			{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", SecurityContext: s}}}
		last(x).Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "debug", ImageID: id}}
	}
	restricted := &corev1.SecurityContext{RunAsUser: number[int64](1), AllowPrivilegeEscalation: no(),
		ReadOnlyRootFilesystem: yes(), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"all"}}}
	for _, c := range []struct {
		name string
		edit func(*checkWorld)
		code string
		want Result
		text string
	}{
		{"one pod is not ready", func(x *checkWorld) {
			last(x).Status.Conditions[0].Status = corev1.ConditionFalse
		}, "ready", Failed, "p2"},
		{"another condition is true", func(x *checkWorld) {
			last(x).Status.Conditions[0].Type = corev1.PodScheduled
		}, "ready", Failed, "p2"},
		{"one has succeeded", func(x *checkWorld) {
			last(x).Status.Conditions, last(x).Status.Phase = nil, corev1.PodSucceeded
		}, "ready", Passed, "all 2 pods"},
		{"one has restarted", func(x *checkWorld) { last(x).Status.ContainerStatuses[1].RestartCount = 3 }, "ready",
			Passed, "restarted: proxy (3 times)"},
		{"one has no probe", func(x *checkWorld) { last(x).Spec.Containers[1].ReadinessProbe = nil }, "ready", Passed,
			"says only that they run: proxy"},

		{"root by the container", func(x *checkWorld) { web(x).RunAsUser = number[int64](0) }, "non-root", Failed,
			"web"},
		{"root by an init container", func(x *checkWorld) { initial(x).RunAsUser = number[int64](0) }, "non-root",
			Failed, "init"},
		{"root by an ephemeral container", func(x *checkWorld) {
			s := *restricted
			s.RunAsUser = number[int64](0)
			ephemeral(x, &s, "x@"+digest("9"))
		}, "non-root", Failed, "debug"},
		{"root by the pod", func(x *checkWorld) {
			web(x).RunAsUser = nil
			last(x).Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: number[int64](0)}
		}, "non-root", Failed, "web"},
		{"root by the pod, not by the container", func(x *checkWorld) {
			last(x).Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: number[int64](0)}
		}, "non-root", Passed, ""},
		{"root by the node, whatever is said", func(x *checkWorld) {
			web(x).RunAsUser = nil
			last(x).Status.ContainerStatuses[0].User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: 0}}
		}, "non-root", Failed, "web"},
		{"not root by the node", func(x *checkWorld) {
			web(x).RunAsUser, web(x).RunAsNonRoot = nil, nil
			last(x).Status.ContainerStatuses[0].User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: 7}}
		}, "non-root", Passed, ""},
		{"a user that the node says nothing of", func(x *checkWorld) {
			web(x).RunAsUser, web(x).RunAsNonRoot = nil, nil
			last(x).Status.ContainerStatuses[0].User = &corev1.ContainerUser{}
		}, "non-root", NotKnown, "web"},
		{"nothing says who", func(x *checkWorld) { web(x).RunAsUser, web(x).RunAsNonRoot = nil, nil }, "non-root",
			NotKnown, "web"},
		{"root is allowed, nothing says who", func(x *checkWorld) { web(x).RunAsUser, web(x).RunAsNonRoot = nil, no() },
			"non-root", NotKnown, "web"},
		{"not root by the pod", func(x *checkWorld) {
			web(x).RunAsUser, web(x).RunAsNonRoot = nil, nil
			last(x).Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: yes()}
		}, "non-root", Passed, ""},
		{"the container takes back what the pod says", func(x *checkWorld) {
			web(x).RunAsUser, web(x).RunAsNonRoot = nil, no()
			last(x).Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: yes()}
		}, "non-root", NotKnown, "web"},
		{"not root is enough", func(x *checkWorld) { web(x).RunAsUser = nil }, "non-root", Passed, ""},
		{"root weighs more than not known", func(x *checkWorld) {
			web(x).RunAsUser, web(x).RunAsNonRoot = nil, nil
			initial(x).RunAsUser = number[int64](0)
		}, "non-root", Failed, "init"},

		{"privileged", func(x *checkWorld) { web(x).Privileged = yes() }, "privileged", Failed, "web is privileged"},
		{"privileged is false", func(x *checkWorld) { web(x).Privileged = no() }, "privileged", Passed, ""},
		{"an ephemeral one is privileged", func(x *checkWorld) {
			s := *restricted
			s.Privileged = yes()
			ephemeral(x, &s, "x@"+digest("9"))
		}, "privileged", Failed, "debug is privileged"},
		{"the node's processes", func(x *checkWorld) { last(x).Spec.HostPID = true }, "privileged", Failed,
			"processes"},
		{"the node's IPC", func(x *checkWorld) { last(x).Spec.HostIPC = true }, "privileged", Failed, "IPC"},
		{"no word of escalation", func(x *checkWorld) { initial(x).AllowPrivilegeEscalation = nil },
			"privilege-escalation", Failed, "init"},
		{"escalation", func(x *checkWorld) { web(x).AllowPrivilegeEscalation = yes() }, "privilege-escalation", Failed,
			"web"},
		{"no word of capabilities", func(x *checkWorld) { web(x).Capabilities = nil }, "capabilities", Failed,
			"web does not drop ALL"},
		{"drops some", func(x *checkWorld) { web(x).Capabilities.Drop[0] = "NET_RAW" }, "capabilities", Failed,
			"web does not drop ALL"},
		{"drops some, and all", func(x *checkWorld) {
			web(x).
				Capabilities.Drop = []corev1.Capability{"NET_RAW", "all"}
		}, "capabilities", Passed, ""},
		{"adds one", func(x *checkWorld) {
			web(x).Capabilities.Add = []corev1.Capability{"NET_BIND_SERVICE", "cap_sys_admin"}
		}, "capabilities", Failed, "web adds SYS_ADMIN"},
		{"adds the one that is let pass", func(x *checkWorld) {
			web(x).
				Capabilities.Add = []corev1.Capability{"CAP_NET_BIND_SERVICE"}
		}, "capabilities", Passed, ""},
		{"writes its root", func(x *checkWorld) { web(x).ReadOnlyRootFilesystem = no() }, "read-only-root", NotKnown,
			"web"},
		{"no word of its root", func(x *checkWorld) { initial(x).ReadOnlyRootFilesystem = nil }, "read-only-root",
			NotKnown, "init"},

		{"another image than meant", func(x *checkWorld) { last(x).Spec.Containers[1].Image = "proxy:4" },
			"image-digest", Failed, "proxy is proxy:4 in pod p2, not proxy:3"},
		{"an init container's image", func(x *checkWorld) { last(x).Spec.InitContainers[0].Image = "x" },
			"image-digest", Failed, "init is x"},
		{"an injected container", func(x *checkWorld) {
			last(x).Spec.Containers = append(last(x).Spec.Containers, corev1.Container{Name: "mesh", Image: "mesh:1",
				ReadinessProbe: &corev1.Probe{}, SecurityContext: restricted})
		}, "image-digest", Passed, ""},
		{"the node does not say", func(x *checkWorld) { last(x).Status.InitContainerStatuses[0].ImageID = "" },
			"image-digest", NotKnown, "init: the node of pod p2"},
		{"two of one", func(x *checkWorld) { last(x).Status.ContainerStatuses[1].ImageID = "x@" + digest("4") },
			"image-digest", Failed, "different images as proxy"},
		{"another digest", func(x *checkWorld) {
			for n := range x.pods {
				x.pods[n].Status.ContainerStatuses[0].ImageID = "x@" + digest("4")
			}
		}, "image-digest", NotKnown, "web: its node says " + digest("4")},
		{"known by its configuration only", func(x *checkWorld) {
			for n := range x.pods {
				x.pods[n].Status.ContainerStatuses[0].ImageID = digest("4")
			}
		}, "image-digest", NotKnown, "by its configuration only"},
		{"a tag", func(x *checkWorld) {}, "image-digest", Passed, "proxy runs " + digest("3") +
			" (its tag can be moved), web runs " + digest("2")},

		{"the suspects' image", func(x *checkWorld) {
			last(x).Status.ContainerStatuses[1].ImageID = "y@" +
				digest("b")
		}, "suspect-image", Failed, digest("b")},
		{"the suspects' image in an init container",
			func(x *checkWorld) { last(x).Status.InitContainerStatuses[0].ImageID = "y@" + digest("b") },
			"suspect-image", Failed, digest("b")},
		{"the suspects' image in an ephemeral one", func(x *checkWorld) { ephemeral(x, restricted, "y@"+digest("b")) },
			"suspect-image", Failed, digest("b")},
		{"the suspects' reference, by digest", func(x *checkWorld) {
			last(x).Spec.Containers[1].Image = "bad@" +
				digest("c")
		}, "suspect-image", Failed, digest("c")},
		{"the suspects' tag, which may be another image",
			func(x *checkWorld) { last(x).Spec.Containers[1].Image = "bad:1" }, "suspect-image", Passed, ""},
		{"by decision", func(x *checkWorld) {
			last(x).Status.ContainerStatuses[1].ImageID, x.want.SameImage = "y@"+digest("b"), true
		}, "suspect-image", Failed, "decided so"},
		{"the suspects' digest is not known", func(x *checkWorld) { x.want.Indicators.Digests = nil }, "suspect-image",
			NotKnown, "is not known"},
		{"the way in is open", func(x *checkWorld) { x.w.WayIn.State = Open }, "suspect-image", Failed, "web=x"},
		{"the way in is not known", func(x *checkWorld) { x.w.WayIn.State = Unknown }, "suspect-image", Passed, ""},

		{"the quarantine's label", func(x *checkWorld) {
			last(x).Labels = map[string]string{"app": "app", contain.QuarantineLabel: contain.QuarantineValue}
		}, "quarantine-labels", Failed, "p2"},
		{"an incident's label", func(x *checkWorld) {
			last(x).Labels = map[string]string{"app": "app", contain.IncidentLabel: "inc-2"}
		}, "quarantine-labels", Failed, "p2"},
		{"a label of that name", func(x *checkWorld) {
			last(x).Labels = map[string]string{"app": "app", contain.QuarantineLabel: "false"}
		}, "quarantine-labels", Passed, ""},

		{"no policy for one", func(x *checkWorld) { last(x).Labels = map[string]string{"app": "other"} },
			"network-policy", Failed, "everybody may connect to p2, p2 may connect to everything"},
		{"incoming only", func(x *checkWorld) {
			x.Delete("networkpolicies.networking.k8s.io", "app", "deny")
			x.Add(t, policy("deny", nil, networkingv1.PolicyTypeIngress))
		}, "network-policy", Failed, "p1 may connect to everything, p2"},
		{"outgoing only", func(x *checkWorld) {
			x.Delete("networkpolicies.networking.k8s.io", "app", "deny")
			x.Add(t, policy("deny", nil, networkingv1.PolicyTypeEgress))
		}, "network-policy", Failed, "everybody may connect to p1, everybody may connect to p2"},
		{"a policy that cannot be read", func(x *checkWorld) {
			bad := policy("bad", nil, networkingv1.PolicyTypeIngress)
			bad.Spec.PodSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}
			x.Add(t, bad)
		}, "network-policy", Failed, "policy bad"},
		{"policies may not be read", func(x *checkWorld) { x.deny("/networkpolicies") }, "network-policy", NotKnown,
			"you may not"},
		{"nothing enforces them", func(x *checkWorld) { x.Delete("daemonsets.apps", "kube-system", "calico-node") },
			"network-policy", NotKnown, "nothing that is known to enforce"},
		{"what enforces them may not be read", func(x *checkWorld) { x.deny("/daemonsets") }, "network-policy",
			NotKnown, "could not be looked for"},
		{"the server enforces them", func(x *checkWorld) {
			x.deny("/daemonsets")
			x.want.ServerVersion = "v1.37.2+k3s1"
		}, "network-policy", Passed, "enforced by"},

		{"no Service selects them", func(x *checkWorld) { x.around.Services = x.around.Services[1:] }, "endpoints",
			Passed, "no Service selects"},
		{"the namespace was not read", func(x *checkWorld) { x.around = nil }, "endpoints", NotKnown,
			"could not be read"},
		{"Services may not be read", func(x *checkWorld) {
			x.around.Gaps = []cluster.Gap{{What: "listing pods", Err: fmt.Errorf("no")},
				{What: "listing services", Err: fmt.Errorf("no services")}}
		}, "endpoints", NotKnown, "no services"},
		{"other lists may not be read", func(x *checkWorld) {
			x.around.Gaps = []cluster.Gap{{What: "listing pods", Err: fmt.Errorf("no")}}
		}, "endpoints", Passed, "front"},
		{"endpoints may not be read", func(x *checkWorld) { x.deny("/endpointslices") }, "endpoints", NotKnown,
			"you may not"},

		{"a secret in the last log", func(x *checkWorld) {
			x.answers["/pods/p2/log?container=proxy"] = "password=aVeryLongSecret123456\nAKIAIOSFODNN7EXAMPLE\n"
			delete(x.answers, "/log?")
			for _, log := range []string{"p1/log", "p2/log?container=init", "p2/log?container=web"} {
				x.answers["/pods/"+log] = "started\n"
			}
		}, "log-secrets", Failed, "container proxy of pod p2"},
		{"a secret in an init container's log", func(x *checkWorld) {
			delete(x.answers, "/log?")
			x.answers["log?container=init"] = "AKIAIOSFODNN7EXAMPLE\n"
			x.answers["log?container=web"], x.answers["log?container=proxy"] = "a", "b"
		}, "log-secrets", Failed, "container init of pod p1"},
		{"a log may not be read", func(x *checkWorld) { x.deny("/pods/p2/log") }, "log-secrets", NotKnown, "of pod p2"},
		{"one may not be read, one has a secret", func(x *checkWorld) {
			x.deny("/pods/p1/log")
			x.answers["/log?"] = "AKIAIOSFODNN7EXAMPLE\n"
		}, "log-secrets", Failed, "of pod p2"},
		{"no secrets", func(x *checkWorld) {}, "log-secrets", Passed, "of 6 logs shows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			x := newCheckWorld(t)
			c.edit(x)
			found := x.examine(t.Context())
			if got := found[c.code]; got.Result != c.want || !strings.Contains(got.Text, c.text) {
				t.Errorf("%+v, expected %s: … %s …", got, c.want, c.text)
			}
			if found["suspect-image"].Accepted != (x.want.SameImage && c.want == Failed) {
				t.Errorf("accepted: %+v", found["suspect-image"])
			}
			beside := map[string]string{"image-digest": "suspect-image", "suspect-image": "image-digest",
				"network-policy": "endpoints"}
			for code, other := range found {
				if code != c.code && code != beside[c.code] && other.Result != Passed {
					t.Errorf("beside: %+v", other)
				}
			}
			if len(found) != 12 {
				t.Errorf("%d checks were made", len(found))
			}
		})
	}
}

// A pod with its node's network is bound by no policy.
func TestPoliciesDoNotBindTheNodesNetwork(t *testing.T) {
	t.Parallel()
	x := newCheckWorld(t)
	x.pods[1].Spec.HostNetwork = true
	found := x.examine(t.Context())
	for code, want := range map[string]string{"network-policy": "no policy binds",
		"privileged": "shares the network of its node"} {
		if c := found[code]; c.Result != Failed || !strings.Contains(c.Text, want) {
			t.Errorf("%+v", c)
		}
	}
}

// No pods: there was nothing to look at, which is no check passed.
func TestNoPodsIsNotKnown(t *testing.T) {
	t.Parallel()
	list := Examine(t.Context(), nil, nil, Rollout{Text: "none came"}, Expected{})
	if len(list) != 1 || list[0].Result != NotKnown || !strings.Contains(list[0].Text, "none came") {
		t.Errorf("%+v", list)
	}
}

// Every Service that selects the pods sends to each of them, and none to a suspect.
func TestEndpointsOfEveryService(t *testing.T) {
	t.Parallel()
	x := newCheckWorld(t)
	notReady := func(s *discoveryv1.EndpointSlice, n int) *discoveryv1.EndpointSlice {
		s.Endpoints[n].Conditions.Ready = no()
		return s
	}
	unsaid := ready("back", "uid-p1", "uid-p2")
	unsaid.Endpoints[1].Conditions.Ready = nil
	unsaid.Endpoints = append(unsaid.Endpoints, discoveryv1.Endpoint{Addresses: []string{"192.0.2.1"}})
	split := func(s *discoveryv1.EndpointSlice, name string) *discoveryv1.EndpointSlice { s.Name = name; return s }
	for name, c := range map[string]struct {
		slices []*discoveryv1.EndpointSlice
		want   string
	}{
		"all": {[]*discoveryv1.EndpointSlice{ready("front", "uid-p1", "uid-p2"),
			ready("back", "uid-p1", "uid-p2")}, ""},
		"in two slices": {[]*discoveryv1.EndpointSlice{ready("front", "uid-p1", "uid-p2"),
			ready("back", "uid-p1"), split(ready("back", "uid-p2"), "back-2")}, ""},
		"no word of readiness": {[]*discoveryv1.EndpointSlice{ready("front", "uid-p1", "uid-p2"), unsaid},
			""},
		"the suspect": {[]*discoveryv1.EndpointSlice{ready("front", "uid-p1", "uid-p2"),
			ready("back", "uid-p1", "uid-p2", "uid-suspect")}, "Service back sends to the suspect"},
		"the suspect, not ready": {[]*discoveryv1.EndpointSlice{ready("front", "uid-p1", "uid-p2"),
			notReady(ready("back", "uid-p1", "uid-p2", "uid-suspect"), 2)}, "Service back sends to the suspect"},
		"another Service's suspect": {[]*discoveryv1.EndpointSlice{ready("front", "uid-p1", "uid-p2"),
			ready("back", "uid-p1", "uid-p2"), ready("other", "uid-suspect")}, ""},
		"one is missing in the last one": {[]*discoveryv1.EndpointSlice{ready("front", "uid-p1", "uid-p2"),
			ready("back", "uid-p1")}, "pod p2 is no ready endpoint of Service back"},
		"one is missing in the first one": {[]*discoveryv1.EndpointSlice{ready("front", "uid-p2"),
			ready("back", "uid-p1", "uid-p2")}, "pod p1 is no ready endpoint of Service front"},
		"one is not ready": {[]*discoveryv1.EndpointSlice{ready("front", "uid-p1", "uid-p2"),
			notReady(ready("back", "uid-p1", "uid-p2"), 1)}, "pod p2 is no ready endpoint of Service back"},
		"no slices": {nil, "pod p1 is no ready endpoint of Service front"},
	} {
		e := &examination{w: x.w, pods: x.pods}
		var list []discoveryv1.EndpointSlice
		for _, s := range c.slices {
			list = append(list, *s)
		}
		got := e.unserved([]string{"front", "back"}, list)
		if got != c.want && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %q, expected %q", name, got, c.want)
		}
	}
	unready := x.pods[0]
	unready.Status.Conditions = nil
	e := &examination{w: x.w, pods: []corev1.Pod{unready}}
	if got := e.unserved([]string{"front"}, nil); got != "" {
		t.Errorf("a pod that is not ready is expected to be an endpoint: %s", got)
	}
}

// Endpoints follow the pods with some delay: they are waited for, and what is
// left then is what the check says.
func TestEndpointsAreWaitedFor(t *testing.T) {
	t.Parallel()
	for name, comes := range map[string]bool{"they come": true, "they do not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newCheckWorld(t)
			x.Delete("endpointslices.discovery.k8s.io", "app", "front-1")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			looks := 0
			x.before = func(r *http.Request) {
				if !strings.Contains(r.URL.Path, "/endpointslices") {
					return
				}
				if looks++; looks < 3 {
					return
				}
				if comes {
					x.Add(t, ready("front", "uid-p1", "uid-p2"))
				} else {
					cancel()
				}
			}
			scene := x.scene()
			scene.Around["app"] = x.around
			e := &examination{scene: scene, client: x.client, w: x.w, pods: x.pods, namespace: "app"}
			want := Failed
			if comes {
				want = Passed
			}
			if c := e.endpoints(ctx)[0]; c.Result != want {
				t.Errorf("%+v", c)
			}
		})
	}
}

// Of many pods the logs of some are read, which is said.
func TestLogsOfManyPods(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answers["/log?"] = "fine\n"
	e := &examination{client: f.client, namespace: "app"}
	for n := range maxLogPods + 2 {
		e.pods = append(e.pods, sound(fmt.Sprint("p", n)))
	}
	c := e.logs(t.Context())[0]
	if c.Result != Passed || !strings.Contains(c.Text, "30 logs") || !strings.Contains(c.Text, "of 10 of 12 pods") {
		t.Errorf("%+v", c)
	}
	if got := len(f.Requests("/log")); got != 30 {
		t.Errorf("%d logs were read", got)
	}
	if got := listed([]string{"f", "e", "a", "a", "c", "b", "d"}); got != "a, b, c, d, e and 1 more" {
		t.Error(got)
	}
	if got := listed([]string{"e", "d", "c", "b", "a"}); got != "a, b, c, d, e" {
		t.Error(got)
	}
}
