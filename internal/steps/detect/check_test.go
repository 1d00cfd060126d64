package detect

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/cluster"
)

var now = time.Date(2026, 2, 12, 9, 30, 0, 0, time.UTC)

// hardened is a pod as the security document wants it, changed by edits.
func hardened(name string, edits ...func(*corev1.Pod)) corev1.Pod {
	yes, no, user := true, false, int64(1000)
	controller := metav1.OwnerReference{Kind: "ReplicaSet", Name: "cart-5f7b8d9c4", UID: "rs-1", Controller: &yes}
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name),
			Labels:            map[string]string{"app": "cart", "pod-template-hash": "5f7b8d9c4"},
			OwnerReferences:   []metav1.OwnerReference{controller},
			CreationTimestamp: metav1.NewTime(now.Add(-48 * time.Hour))},
		Spec: corev1.PodSpec{AutomountServiceAccountToken: &no, NodeName: "node-1",
			Containers: []corev1.Container{{Name: "cart", Image: "registry.example.com:5000/cart:1.2@sha256:" +
				strings.Repeat("a", 64),
				SecurityContext: &corev1.SecurityContext{RunAsNonRoot: &yes, RunAsUser: &user,
					AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning,
			ContainerStatuses: []corev1.ContainerStatus{{Name: "cart",
				ContainerID: "containerd://90016f4ba374e5da8fb2d49954c0cf08",
				ImageID:     "registry.example.com:5000/cart@sha256:" + strings.Repeat("a", 64)}}},
	}
	for _, edit := range edits {
		edit(&p)
	}
	return p
}

// examine runs all checks on pods that a policy closes in.
func examine(list []corev1.Pod, edits ...func(*Snapshot)) []string {
	s := &Snapshot{Since: now.Add(-24 * time.Hour), Born: now.Add(-720 * time.Hour), Pods: list,
		byName: map[types.NamespacedName]*corev1.Pod{},
		Policies: []networkingv1.NetworkPolicy{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "deny"},
			Spec: networkingv1.NetworkPolicySpec{
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress,
					networkingv1.PolicyTypeEgress}}}}}
	for i := range s.Pods {
		s.byName[types.NamespacedName{Namespace: s.Pods[i].Namespace, Name: s.Pods[i].Name}] = &s.Pods[i]
	}
	for _, edit := range edits {
		edit(s)
	}
	got := []string{}
	s.Examine(func(f Finding) {
		_, name := f.Subject.Suspect()
		got = append(got, fmt.Sprintf("%s %s %s", f.Code, f.Score.Severity(), name))
		if f.Technique.ID == "" || f.Reason == "" || f.Source != SourceCluster {
			got = append(got, fmt.Sprintf("incomplete: %+v", f))
		}
	})
	return got
}

func security(edit func(*corev1.SecurityContext)) func(*corev1.Pod) {
	return func(p *corev1.Pod) { edit(p.Spec.Containers[0].SecurityContext) }
}

func hostPath(path string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes,
			corev1.Volume{VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}}})
	}
}

func image(reference, id string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Image, p.Status.ContainerStatuses[0].ImageID = reference, id
	}
}

func TestChecksOfOnePod(t *testing.T) {
	yes, root := true, int64(0)
	capabilities := func(names ...corev1.Capability) func(*corev1.Pod) {
		return security(func(c *corev1.SecurityContext) { c.Capabilities.Add = names })
	}
	for name, tt := range map[string]struct {
		edit func(*corev1.Pod)
		want []string
	}{
		"as it should be": {func(*corev1.Pod) {}, nil},
		"privileged": {security(func(c *corev1.SecurityContext) { c.Privileged = &yes }),
			[]string{"privileged low"}},
		"host namespaces": {func(p *corev1.Pod) {
			p.Spec.HostPID, p.Spec.HostIPC,
				p.Spec.HostNetwork = true, true, true
		}, []string{"host-pid low", "host-ipc low", "host-network low"}},
		"a capability of the baseline": {capabilities("NET_BIND_SERVICE"), nil},
		"one beyond":                   {capabilities("CAP_NET_ADMIN"), []string{"capabilities low"}},
		"a way out":                    {capabilities("sys_admin", "CHOWN"), []string{"capabilities low"}},
		"a directory of the node":      {hostPath("/data"), []string{"host-path low"}},
		"a socket, by a detour":        {hostPath("/var/lib/../run/docker.sock"), []string{"host-path low"}},
		"runs as root": {security(func(c *corev1.SecurityContext) {
			c.RunAsUser = &root
		}), []string{"root info"}},
		"nothing said of root": {security(func(c *corev1.SecurityContext) { c.RunAsUser, c.RunAsNonRoot = nil, nil }),
			[]string{"root-possible info"}},
		"the pod says it for all": {func(p *corev1.Pod) {
			p.Spec.Containers[0].SecurityContext.RunAsNonRoot, p.Spec.Containers[0].SecurityContext.RunAsUser = nil, nil
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: &yes}
		}, nil},
		"may gain privileges": {security(func(c *corev1.SecurityContext) { c.AllowPrivilegeEscalation = nil }),
			[]string{"privilege-escalation info"}},
		"writable root": {security(func(c *corev1.SecurityContext) { c.ReadOnlyRootFilesystem = nil }),
			[]string{"writable-root info"}},
		"no security context at all": {func(p *corev1.Pod) { p.Spec.Containers[0].SecurityContext = nil },
			[]string{"root-possible info", "privilege-escalation info", "writable-root info"}},
		"latest": {image("registry.example.com:5000/cart", ""), []string{"image-latest info"}},
		"a tag":  {image("registry.example.com:5000/cart:1.2", ""), []string{"image-no-digest info"}},
		"a token": {func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{
				{VolumeSource: corev1.VolumeSource{
					Projected: &corev1.ProjectedVolumeSource{
						Sources: []corev1.VolumeProjection{
							{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}}}}}}
		}, []string{"token-mounted info"}},
		"a token for somebody else": {func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{
				{VolumeSource: corev1.VolumeSource{
					Projected: &corev1.ProjectedVolumeSource{
						Sources: []corev1.VolumeProjection{
							{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault"}}}}}}}
		}, nil},
		"an ephemeral container": {func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{
				{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "x@sha256:b",
					SecurityContext: p.Spec.Containers[0].SecurityContext}}}
		}, []string{"ephemeral-container medium"}},
		"no owner": {func(p *corev1.Pod) { p.OwnerReferences = nil }, []string{"unowned low"}},
		"no owner, new": {func(p *corev1.Pod) { p.OwnerReferences, p.CreationTimestamp = nil, metav1.NewTime(now) },
			[]string{"unowned medium"}},
		"no owner, a static pod": {func(p *corev1.Pod) {
			p.OwnerReferences = nil
			p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		}, nil},
		"no owner, since irctl detached": {func(p *corev1.Pod) {
			p.OwnerReferences = nil
			p.Labels["irctl/incident"] = "inc-1"
		}, nil},
		"restarted": {func(p *corev1.Pod) { p.Status.ContainerStatuses[0].RestartCount = 3 },
			[]string{"restarted info"}},
		"crashes": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0].RestartCount = 3
			p.Status.ContainerStatuses[0].State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
		}, []string{"crash-loop low"}},
		"no policy selects it": {func(p *corev1.Pod) { p.Namespace = "open" }, []string{"no-network-policy info"}},
		"it has ended": {func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodSucceeded
			p.Spec.HostPID = true
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := hardened("cart-1", tt.edit)
			want := []string{}
			for _, w := range tt.want {
				want = append(want, w+" "+p.Namespace+"/cart-1")
			}
			if got := examine([]corev1.Pod{p}); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestImagesOfSiblings(t *testing.T) {
	const ref = "registry.example.com/cart:1.2"
	digest := func(c string) string { return "registry.example.com/cart@sha256:" + strings.Repeat(c, 64) }
	younger := func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now) }
	other := func(p *corev1.Pod) { p.OwnerReferences[0].UID = "rs-2" }
	for name, tt := range map[string]struct {
		pods []corev1.Pod
		want []string
	}{
		"all the same": {[]corev1.Pod{hardened("a", image(ref, digest("a"))),
			hardened("b", image(ref, digest("a")))}, nil},
		"one differs": {[]corev1.Pod{hardened("a", image(ref, digest("a"))),
			hardened("b", image(ref, digest("b"))), hardened("c", image(ref, digest("a")))},
			[]string{"image-differs high shop/b"}},
		"one of two: the newer": {[]corev1.Pod{hardened("a", image(ref, digest("b")), younger),
			hardened("b", image(ref, digest("a")))}, []string{"image-differs high shop/a"}},
		"of another revision": {[]corev1.Pod{hardened("a", image(ref, digest("a"))),
			hardened("b", image(ref, digest("b")), other)}, nil},
		"the image was changed": {[]corev1.Pod{hardened("a", image(ref, digest("a"))),
			hardened("b", image("evil.example.net/cart:1.2", digest("e"))), hardened("c", image(ref, digest("a")))},
			[]string{"image-differs high shop/b"}},
		"Docker's form": {[]corev1.Pod{hardened("a", image(ref, "docker-pullable://"+digest("a"))),
			hardened("b", image(ref, digest("a")))}, nil},
		"not started yet": {[]corev1.Pod{hardened("a", image(ref, digest("a"))), hardened("b", image(ref, ""))},
			nil},
		"not from a registry": {[]corev1.Pod{hardened("a", image(ref, digest("a"))),
			hardened("b", image(ref, "sha256:"+strings.Repeat("c", 64))), hardened("c", image(ref, digest("a")))},
			[]string{"image-differs medium shop/b"}},
		"without a digest known": {[]corev1.Pod{hardened("a", image(ref, "")),
			hardened("b", image("evil.example.net/cart:1.2", ""), younger)}, []string{"image-differs medium shop/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := slices.DeleteFunc(examine(tt.pods), func(s string) bool {
				return strings.HasPrefix(s, "image-no-digest")
			})
			if !slices.Equal(got, tt.want) && len(got)+len(tt.want) > 0 {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestChecksOfTheCluster(t *testing.T) {
	binding := func(name string, age time.Duration, role string, labels map[string]string,
		subjects ...rbacv1.Subject) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Bindings = append(s.Bindings, rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name,
				Labels: labels, CreationTimestamp: metav1.NewTime(now.Add(-age))},
				RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: role}, Subjects: subjects})
		}
	}
	account := rbacv1.Subject{Kind: "ServiceAccount", Namespace: "shop", Name: "cart"}
	defaults := map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"}
	workload := func(labels, annotations map[string]string, age time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Workloads = append(s.Workloads, Workload{Ref: cluster.DaemonSet.Named("kube-system", "agent", ""),
				Labels: labels, Annotations: annotations, Created: now.Add(-age)})
		}
	}
	event := func(reason string) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Events = []Event{{Namespace: "shop", Pod: "cart-1", Reason: reason, Message: "m", First: now, Last: now,
				Count: 3}}
		}
	}
	const hour, week = time.Hour, 7 * 24 * time.Hour
	for name, tt := range map[string]struct {
		edit func(*Snapshot)
		want []string
	}{
		"an old binding": {binding("b", week, "cluster-admin", nil, account), nil},
		"a new one": {binding("b", hour, "view", nil, account),
			[]string{"new-cluster-role-binding medium shop/cart"}},
		"one of cluster-admin": {binding("b", hour, "cluster-admin", nil, account),
			[]string{"new-cluster-role-binding high shop/cart"}},
		"one for everybody": {binding("b", hour, "view", nil,
			rbacv1.Subject{Kind: "Group", Name: "system:authenticated"}),
			[]string{"new-cluster-role-binding critical ClusterRoleBinding/b"}},
		"one that pretends to be a default": {binding("system:x", hour, "cluster-admin", defaults, account),
			[]string{"new-cluster-role-binding high shop/cart"}},
		"the defaults of a young cluster": {func(s *Snapshot) {
			s.Born = now.Add(-2 * hour)
			binding("system:x", 2*hour, "system:x", defaults)(s)
		}, nil},
		"the chart of somebody": {workload(map[string]string{"app.kubernetes.io/managed-by": "Helm"},
			map[string]string{"meta.helm.sh/release-name": "x"}, week), nil},
		"a label without a release": {workload(map[string]string{"app.kubernetes.io/managed-by": "Helm"}, nil, week),
			[]string{"system-workload low kube-system/DaemonSet/agent"}},
		"nobody's": {workload(nil, nil, week),
			[]string{"system-workload low kube-system/DaemonSet/agent"}},
		"nobody's, and new": {workload(nil, nil, hour),
			[]string{"system-workload medium kube-system/DaemonSet/agent"}},
		"an event":                     {event("BackOff"), []string{"event-backoff info shop/cart-1"}},
		"a mount that fails":           {event("FailedMount"), []string{"event-failed-mount info shop/cart-1"}},
		"a container that was stopped": {event("Killing"), []string{"event-killing info shop/cart-1"}},
		"a policy for one direction": {func(
			s *Snapshot) {
			s.Policies[0].Spec.PolicyTypes = s.Policies[0].Spec.PolicyTypes[:1]
		}, []string{"no-egress-policy info shop/cart-1"}},
		"a policy for the other": {func(
			s *Snapshot) {
			s.Policies[0].Spec.PolicyTypes = s.Policies[0].Spec.PolicyTypes[1:]
		}, []string{"no-ingress-policy info shop/cart-1"}},
		"no right to list policies": {func(s *Snapshot) {
			s.Policies, s.unread = nil, map[list]error{policies: fmt.Errorf("forbidden")}
		}, nil},
		"no right to list, so no conclusion": {func(s *Snapshot) {
			s.unread = map[list]error{bindings: fmt.Errorf("forbidden")}
			binding("b", hour, "view", nil, account)(s)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := examine([]corev1.Pod{hardened("cart-1")}, tt.edit); !slices.Equal(got, tt.want) && len(got)+
				len(tt.want) > 0 {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAlertsAreCompletedFromTheCluster(t *testing.T) {
	s := &Snapshot{Pods: []corev1.Pod{hardened("cart-1")}, byName: map[types.NamespacedName]*corev1.Pod{}}
	s.byName[types.NamespacedName{Namespace: "shop", Name: "cart-1"}] = &s.Pods[0]
	for name, tt := range map[string]struct {
		in            Subject
		pod, workload string
	}{
		"by name":                     {Subject{Namespace: "shop", Pod: "cart-1"}, "cart-1", "Deployment/cart"},
		"by the container's short ID": {Subject{containerID: "90016f4ba374"}, "cart-1", "Deployment/cart"},
		"an ID that is too short":     {Subject{containerID: "9001"}, "", ""},
		"unknown":                     {Subject{Namespace: "shop", Pod: "cart-2"}, "cart-2", ""},
		"of that name, but another":   {Subject{Namespace: "shop", Pod: "cart-1", PodUID: "earlier"}, "cart-1", ""},
		"what the alert says is kept": {Subject{Namespace: "shop", Pod: "cart-1", Container: "sidecar"}, "cart-1",
			"Deployment/cart"},
	} {
		t.Run(name, func(t *testing.T) {
			got := tt.in
			s.complete(&got)
			if got.Pod != tt.pod || got.Workload != tt.workload || got.Container != tt.in.Container {
				t.Errorf("%+v", got)
			}
		})
	}
}
