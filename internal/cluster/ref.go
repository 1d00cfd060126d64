package cluster

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Ref names one object, enough to reach it without discovery.
type Ref struct {
	Group     string    `json:"group,omitempty"`
	Version   string    `json:"version"`
	Resource  string    `json:"resource"`
	Kind      string    `json:"kind"`
	Namespace string    `json:"namespace,omitempty"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid,omitempty"`
}

// GVR is the resource as the dynamic client wants it.
func (r Ref) GVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource}
}

// APIVersion is "group/version", or "version" for the core group.
func (r Ref) APIVersion() string {
	return schema.GroupVersion{Group: r.Group, Version: r.Version}.String()
}

// String is how people name the object: "Deployment todo-app/backend".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// KubectlName is how kubectl names the object: "deployment/backend", or
// "rollouts.argoproj.io/backend" for a kind of a group that kubectl could
// confuse with another.
func (r Ref) KubectlName() string {
	if builtin, ok := builtins[strings.ToLower(r.Kind)]; ok && builtin.Group == r.Group {
		return strings.ToLower(r.Kind) + "/" + r.Name
	}
	if r.Group == "" {
		return r.Resource + "/" + r.Name
	}
	return r.Resource + "." + r.Group + "/" + r.Name
}

// Named returns the reference with a namespace, a name and a UID filled in.
func (r Ref) Named(namespace, name string, uid types.UID) Ref {
	r.Namespace, r.Name, r.UID = namespace, name, uid
	return r
}

// The kinds that irctl knows without asking the server's discovery.
var (
	// Namespace is what surrounds a target
	NamespaceRef          = Ref{Version: "v1", Resource: "namespaces", Kind: "Namespace"}
	Pod                   = Ref{Version: "v1", Resource: "pods", Kind: "Pod"}
	Node                  = Ref{Version: "v1", Resource: "nodes", Kind: "Node"}
	ReplicationController = Ref{Version: "v1", Resource: "replicationcontrollers", Kind: "ReplicationController"}
	Deployment            = Ref{Group: "apps", Version: "v1", Resource: "deployments", Kind: "Deployment"}
	StatefulSet           = Ref{Group: "apps", Version: "v1", Resource: "statefulsets", Kind: "StatefulSet"}
	ReplicaSet            = Ref{Group: "apps", Version: "v1", Resource: "replicasets", Kind: "ReplicaSet"}
	DaemonSet             = Ref{Group: "apps", Version: "v1", Resource: "daemonsets", Kind: "DaemonSet"}
	Job                   = Ref{Group: "batch", Version: "v1", Resource: "jobs", Kind: "Job"}
	CronJob               = Ref{Group: "batch", Version: "v1", Resource: "cronjobs", Kind: "CronJob"}
	NetworkPolicy         = Ref{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies",
		Kind: "NetworkPolicy"}
	HorizontalPodAutoscaler = Ref{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers",
		Kind: "HorizontalPodAutoscaler"}
)

// builtins by every name that kubectl accepts for them, without the group.
var builtins = func() map[string]Ref {
	m := map[string]Ref{}
	for _, r := range []Ref{Pod, Node, ReplicationController, Deployment, StatefulSet, ReplicaSet, DaemonSet, Job,
		CronJob, NetworkPolicy, HorizontalPodAutoscaler} {
		m[strings.ToLower(r.Kind)], m[r.Resource] = r, r
	}
	for short, kind := range map[string]string{"po": "pod", "no": "node", "rc": "replicationcontroller",
		"deploy": "deployment", "sts": "statefulset",
		"rs": "replicaset", "ds": "daemonset", "cj": "cronjob", "netpol": "networkpolicy",
		"hpa": "horizontalpodautoscaler"} {
		m[short] = m[kind]
	}
	return m
}()
