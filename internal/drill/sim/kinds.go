package sim

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kind is a kind of object that a cluster serves.
type Kind struct {
	Group, Version, Resource, Kind string
	ShortNames                     []string
	// Cluster: it has no namespace.
	Cluster bool
	// Scale: it has a scale subresource, at spec.replicas, status.replicas and
	// status.selector.
	Scale bool
}

// GVR is the resource as clients name it.
func (k Kind) GVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.Group, Version: k.Version, Resource: k.Resource}
}

// view: the kind shows the objects of another one in its own way.
func (k Kind) view() bool { return k.Group == "events.k8s.io" }

// stored is the kind whose objects are kept.
func (k Kind) stored() Kind {
	if k.view() {
		return Kind{Version: Events.Version, Resource: Events.Resource, Kind: "Event"}
	}
	return k
}

// shown is an object that is kept, as this kind shows it.
func (k Kind) shown(o *unstructured.Unstructured) *unstructured.Unstructured {
	if k.view() {
		return asNewEvent(o)
	}
	return o
}

// The kinds that a test or a drill names.
var (
	Pods                   = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	Nodes                  = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	Namespaces             = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	Services               = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	ReplicationControllers = schema.GroupVersionResource{Version: "v1", Resource: "replicationcontrollers"}
	Deployments            = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	ReplicaSets            = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}
	StatefulSets           = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"}
	DaemonSets             = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}
	Jobs                   = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
	CronJobs               = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "cronjobs"}
	EndpointSlices         = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1",
		Resource: "endpointslices"}
	NetworkPolicies = schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1",
		Resource: "networkpolicies"}
)

// The kinds of others that irctl knows, for Options.Kinds.
var (
	Gadget        = Kind{Group: "example.com", Version: "v1", Resource: "gadgets", Kind: "Gadget", Scale: true}
	ScaledObject  = Kind{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects", Kind: "ScaledObject"}
	Application   = Kind{Group: "argoproj.io", Version: "v1alpha1", Resource: "applications", Kind: "Application"}
	Kustomization = Kind{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Resource: "kustomizations",
		Kind: "Kustomization"}
	HelmRelease = Kind{Group: "helm.toolkit.fluxcd.io", Version: "v2", Resource: "helmreleases", Kind: "HelmRelease"}
)

var builtinKinds = []Kind{
	{Version: "v1", Resource: "namespaces", Kind: "Namespace", ShortNames: []string{"ns"}, Cluster: true},
	{Version: "v1", Resource: "nodes", Kind: "Node", ShortNames: []string{"no"}, Cluster: true},
	{Version: "v1", Resource: "configmaps", Kind: "ConfigMap", ShortNames: []string{"cm"}},
	{Version: "v1", Resource: "secrets", Kind: "Secret"},
	{Version: "v1", Resource: "serviceaccounts", Kind: "ServiceAccount", ShortNames: []string{"sa"}},
	{Version: "v1", Resource: "services", Kind: "Service", ShortNames: []string{"svc"}},
	{Version: "v1", Resource: "pods", Kind: "Pod", ShortNames: []string{"po"}},
	{Version: "v1", Resource: "replicationcontrollers", Kind: "ReplicationController", ShortNames: []string{"rc"},
		Scale: true},
	{Version: "v1", Resource: "events", Kind: "Event", ShortNames: []string{"ev"}},
	{Group: "events.k8s.io", Version: "v1", Resource: "events", Kind: "Event", ShortNames: []string{"ev"}},
	{Group: "apps", Version: "v1", Resource: "deployments", Kind: "Deployment", ShortNames: []string{"deploy"},
		Scale: true},
	{Group: "apps", Version: "v1", Resource: "replicasets", Kind: "ReplicaSet", ShortNames: []string{"rs"},
		Scale: true},
	{Group: "apps", Version: "v1", Resource: "statefulsets", Kind: "StatefulSet", ShortNames: []string{"sts"},
		Scale: true},
	{Group: "apps", Version: "v1", Resource: "daemonsets", Kind: "DaemonSet", ShortNames: []string{"ds"}},
	{Group: "apps", Version: "v1", Resource: "controllerrevisions", Kind: "ControllerRevision"},
	{Group: "batch", Version: "v1", Resource: "jobs", Kind: "Job"},
	{Group: "batch", Version: "v1", Resource: "cronjobs", Kind: "CronJob", ShortNames: []string{"cj"}},
	{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers", Kind: "HorizontalPodAutoscaler",
		ShortNames: []string{"hpa"}},
	{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices", Kind: "EndpointSlice"},
	{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies", Kind: "NetworkPolicy",
		ShortNames: []string{"netpol"}},
	{Group: "networking.k8s.io", Version: "v1", Resource: "ingresses", Kind: "Ingress", ShortNames: []string{"ing"}},
	{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets", Kind: "PodDisruptionBudget",
		ShortNames: []string{"pdb"}},
	{Version: "v1", Resource: "resourcequotas", Kind: "ResourceQuota", ShortNames: []string{"quota"}},
	{Version: "v1", Resource: "limitranges", Kind: "LimitRange", ShortNames: []string{"limits"}},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles", Kind: "Role"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings", Kind: "RoleBinding"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles", Kind: "ClusterRole", Cluster: true},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings", Kind: "ClusterRoleBinding",
		Cluster: true},
}

// defaults fills in the few defaults without which objects would not work.
func (k Kind) defaults(o *unstructured.Unstructured) {
	set := func(v any, path ...string) {
		if _, found, _ := unstructured.NestedFieldNoCopy(o.Object, path...); !found {
			_ = unstructured.SetNestedField(o.Object, v, path...) // the path leads through objects
		}
	}
	switch k.Kind {
	case "Namespace":
		set(o.GetName(), "metadata", "labels", "kubernetes.io/metadata.name")
		set("Active", "status", "phase")
	case "Service":
		set("ClusterIP", "spec", "type")
		defaultProtocol(o)
	case "Pod":
		set("Pending", "status", "phase")
		mountToken(o)
	case "Deployment":
		set(int64(1), "spec", "replicas")
		set("1", "metadata", "annotations", "deployment.kubernetes.io/revision")
	case "ReplicaSet", "StatefulSet", "ReplicationController", "Gadget":
		set(int64(1), "spec", "replicas")
	case "DaemonSet":
		set(map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxUnavailable": int64(1),
			"maxSurge": int64(0)}}, "spec", "updateStrategy")
	case "Job":
		uid := string(o.GetUID())
		set(int64(1), "spec", "parallelism")
		set(false, "spec", "suspend")
		set(map[string]any{"matchLabels": map[string]any{"batch.kubernetes.io/controller-uid": uid}}, "spec",
			"selector")
		set(uid, "spec", "template", "metadata", "labels", "batch.kubernetes.io/controller-uid")
	case "CronJob":
		set(false, "spec", "suspend")
	}
}

// defaultProtocol: the ports of a Service are TCP where nothing is said.
func defaultProtocol(o *unstructured.Unstructured) {
	ports, _, _ := unstructured.NestedSlice(o.Object, "spec", "ports")
	for _, raw := range ports {
		if p, ok := raw.(map[string]any); ok && p["protocol"] == nil {
			p["protocol"] = "TCP"
		}
	}
	if len(ports) > 0 {
		_ = unstructured.SetNestedSlice(o.Object, ports, "spec", "ports") // spec is an object
	}
}

// TokenVolume is where a pod has the token of its service account.
const TokenVolume = "kube-api-access"

// mountToken does what the ServiceAccount admission plugin does.
func mountToken(o *unstructured.Unstructured) {
	if mount, found, _ := unstructured.NestedBool(o.Object, "spec", "automountServiceAccountToken"); found && !mount {
		return
	}
	volumes, _, _ := unstructured.NestedSlice(o.Object, "spec", "volumes")
	volumes = append(volumes, map[string]any{"name": TokenVolume,
		"projected": map[string]any{"sources": []any{
			map[string]any{"serviceAccountToken": map[string]any{"path": "token", "expirationSeconds": int64(3607)}}}}})
	_ = unstructured.SetNestedSlice(o.Object, volumes, "spec", "volumes") // spec is an object
}

// groups is the answer to /apis.
func (c *Cluster) groups() *metav1.APIGroupList {
	list := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for _, k := range c.kinds {
		if k.Group == "" || slices.ContainsFunc(list.Groups, func(g metav1.APIGroup) bool {
			return g.Name == k.Group
		}) {
			continue
		}
		v := metav1.GroupVersionForDiscovery{GroupVersion: k.Group + "/" + k.Version, Version: k.Version}
		list.Groups = append(list.Groups, metav1.APIGroup{Name: k.Group, Versions: []metav1.GroupVersionForDiscovery{v},
			PreferredVersion: v})
	}
	return list
}

// categories: kubectl get all shows these.
func (k Kind) categories() []string {
	switch k.Group {
	case "", "apps", "batch", "autoscaling":
		if k.Scale || slices.Contains([]string{"Pod", "Service", "DaemonSet", "Job", "CronJob",
			"HorizontalPodAutoscaler"}, k.Kind) {
			return []string{"all"}
		}
	}
	return nil
}

// resources is the answer to /apis/GROUP/VERSION; nil: there is no such group.
func (c *Cluster) resources(gv schema.GroupVersion) *metav1.APIResourceList {
	list := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
		GroupVersion: gv.String()}
	for _, k := range c.kinds {
		if k.Group != gv.Group || k.Version != gv.Version {
			continue
		}
		list.APIResources = append(list.APIResources,
			metav1.APIResource{Name: k.Resource, SingularName: strings.ToLower(k.Kind), Kind: k.Kind,
				Namespaced: !k.Cluster, ShortNames: k.ShortNames, Categories: k.categories(),
				Verbs: metav1.Verbs{"create", "delete", "get", "list", "patch", "update", "watch"}})
		if k.Scale {
			list.APIResources = append(list.APIResources,
				metav1.APIResource{Name: k.Resource + "/scale", Namespaced: !k.Cluster,
					Group: "autoscaling", Version: "v1", Kind: "Scale", Verbs: metav1.Verbs{"get", "patch"}})
		}
		if k.GVR() == Pods {
			list.APIResources = append(list.APIResources,
				metav1.APIResource{Name: "pods/log", Namespaced: true, Kind: "Pod", Verbs: metav1.Verbs{"get"}},
				metav1.APIResource{Name: "pods/exec", Namespaced: true, Kind: "PodExecOptions",
					Verbs: metav1.Verbs{"create", "get"}},
				metav1.APIResource{Name: "pods/attach", Namespaced: true, Kind: "PodAttachOptions",
					Verbs: metav1.Verbs{"create", "get"}},
				metav1.APIResource{Name: "pods/ephemeralcontainers", Namespaced: true, Kind: "Pod",
					Verbs: metav1.Verbs{"get", "patch", "update"}})
		}
	}
	if list.APIResources == nil {
		return nil
	}
	return list
}

// equalJSON compares what would be written, so that 1 and 1.0 are the same.
func equalJSON(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
