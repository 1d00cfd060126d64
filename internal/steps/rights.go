package steps

// Right is a right on the cluster that a phase needs.
type Right struct {
	Phase string `json:"phase"`
	Verb  string `json:"verb"`
	Group string `json:"group,omitempty"`
	// Resource may have a subresource: "pods/log".
	Resource string `json:"resource"`
	// For says what it is for.
	For string `json:"for"`
	// Optional: without it the phase does its work, and says what it could not find out.
	Optional bool `json:"optional,omitempty"`
	// ClusterWide: it is needed on the whole cluster, not in one namespace.
	ClusterWide bool `json:"clusterWide,omitempty"`
}

// The phases that have rights.
const (
	PhaseDetect      = "detect"
	PhaseContain     = "contain"
	PhaseInvestigate = "investigate"
	PhaseEradicate   = "eradicate"
	PhaseRecover     = "recover"
)

const rbac = "rbac.authorization.k8s.io"

// Role is the ClusterRole in deploy/ that grants it; "": none does, since who
// may bind every role may do everything.
func (r Right) Role() string {
	switch {
	case r.Verb == "bind":
		return ""
	case r.Phase == PhaseEradicate && r.Group == rbac:
		return "irctl-unbinder"
	case r.Phase == PhaseEradicate:
		return "irctl-eradicator"
	case r.Phase == PhaseRecover && r.Verb == "delete" && r.Resource == "pods":
		return "irctl-recoverer"
	case r.Phase == PhaseContain, r.Phase == PhaseRecover:
		return "irctl-responder"
	}
	return "irctl-investigator"
}

// Rights are what each phase needs. The ClusterRoles in deploy/ grant them,
// and a test sees to it that they do. What manifests of the team need is not
// here: it depends on their kinds.
var Rights = []Right{
	{PhaseContain, "get", "", "pods", "find the suspect", false, false},
	{PhaseContain, "list", "", "pods", "find suspects by label, and see that their siblings are gone", false, false},
	{PhaseContain, "patch", "", "pods", "label and detach the suspect", false, false},
	{PhaseContain, "create", "networking.k8s.io", "networkpolicies", "create the quarantine policy", false, false},
	{PhaseContain, "list", "networking.k8s.io", "networkpolicies", "judge the effective policy", false, false},
	{PhaseContain, "get", "networking.k8s.io", "networkpolicies", "undo: see that the policy is still ours", false,
		false},
	{PhaseContain, "patch", "networking.k8s.io", "networkpolicies", "change what the quarantine allows", false, false},
	{PhaseContain, "delete", "networking.k8s.io", "networkpolicies", "undo: delete the quarantine policy", false,
		false},
	{PhaseContain, "list", "", "services", "know the labels by which Services select the suspect", false, false},
	{PhaseContain, "list", "discovery.k8s.io", "endpointslices", "see that no Service sends to the suspect", false,
		false},
	{PhaseContain, "get", "apps", "deployments", "follow the chain of owners", false, false},
	{PhaseContain, "get", "apps", "replicasets", "follow the chain of owners", false, false},
	{PhaseContain, "list", "apps", "replicasets", "see that no other controller adopts the suspect", false, false},
	{PhaseContain, "get", "apps", "statefulsets", "follow the chain of owners", false, false},
	{PhaseContain, "list", "apps", "statefulsets", "see that no other controller adopts the suspect", false, false},
	{PhaseContain, "get", "apps", "daemonsets", "follow the chain of owners", false, false},
	{PhaseContain, "list", "apps", "daemonsets",
		"see that no other controller adopts the suspect, and what enforces policies", false, false},
	{PhaseContain, "get", "", "replicationcontrollers", "follow the chain of owners", false, false},
	{PhaseContain, "list", "", "replicationcontrollers", "see that no other controller adopts the suspect", false,
		false},
	{PhaseContain, "get", "batch", "jobs", "follow the chain of owners", false, false},
	{PhaseContain, "list", "batch", "jobs", "see that no other controller adopts the suspect", false, false},
	{PhaseContain, "get", "batch", "cronjobs", "follow the chain of owners", false, false},
	{PhaseContain, "get", "apps", "deployments/scale", "undo: read the replicas", false, false},
	{PhaseContain, "patch", "apps", "deployments/scale", "scale to zero", false, false},
	{PhaseContain, "get", "apps", "statefulsets/scale", "undo: read the replicas", false, false},
	{PhaseContain, "patch", "apps", "statefulsets/scale", "scale to zero", false, false},
	{PhaseContain, "get", "apps", "replicasets/scale", "undo: read the replicas", false, false},
	{PhaseContain, "patch", "apps", "replicasets/scale", "scale to zero", false, false},
	{PhaseContain, "get", "", "replicationcontrollers/scale", "undo: read the replicas", false, false},
	{PhaseContain, "patch", "", "replicationcontrollers/scale", "scale to zero", false, false},
	{PhaseContain, "patch", "apps", "daemonsets", "keep a DaemonSet off the suspect's node", false, false},
	{PhaseContain, "patch", "batch", "jobs", "suspend a Job", false, false},
	{PhaseContain, "patch", "batch", "cronjobs", "suspend a CronJob", false, false},
	{PhaseContain, "list", "autoscaling", "horizontalpodautoscalers", "find autoscalers that scale it up again", true,
		false},
	{PhaseContain, "get", "", "serviceaccounts", "find a cloud identity of the suspect", true, false},
	{PhaseContain, "list", "rbac.authorization.k8s.io", "roles", "know what the suspect's token may do", true, true},
	{PhaseContain, "list", "rbac.authorization.k8s.io", "rolebindings", "know what the suspect's token may do", true,
		true},
	{PhaseContain, "list", "rbac.authorization.k8s.io", "clusterroles", "know what the suspect's token may do", true,
		true},
	{PhaseContain, "list", "rbac.authorization.k8s.io", "clusterrolebindings", "know what the suspect's token may do",
		true, true},
	{PhaseContain, "list", "apps", "daemonsets", "find what enforces NetworkPolicy", true, true},
	{PhaseContain, "get", "", "namespaces", "identify the cluster by its kube-system namespace", true, true},
	{PhaseContain, "get", "", "nodes", "--cordon", true, true},
	{PhaseContain, "patch", "", "nodes", "--cordon", true, true},
	{PhaseDetect, "list", "", "pods", "look at pods for signs of an attack, and tell whom alerts are about", true,
		true},
	{PhaseDetect, "list", "", "events", "see what the cluster's events tell of pods", true, true},
	{PhaseDetect, "list", "networking.k8s.io", "networkpolicies", "find pods that no policy governs", true, true},
	{PhaseDetect, "list", "rbac.authorization.k8s.io", "clusterrolebindings", "find new bindings", true, true},
	{PhaseDetect, "list", "apps", "deployments", "find workloads in kube-system that nobody's chart owns", true, true},
	{PhaseDetect, "list", "apps", "daemonsets", "find workloads in kube-system that nobody's chart owns", true, true},
	{PhaseDetect, "list", "apps", "statefulsets", "find workloads in kube-system that nobody's chart owns", true, true},
	{PhaseDetect, "list", "batch", "cronjobs", "find workloads in kube-system that nobody's chart owns", true, true},
	{PhaseDetect, "get", "", "namespaces", "know how old the cluster is", true, true},
	{PhaseInvestigate, "get", "", "pods/log", "collect the suspect's logs", false, false},
	{PhaseInvestigate, "list", "", "events", "collect events", false, false},
	{PhaseInvestigate, "list", "events.k8s.io", "events", "collect events", false, false},
	{PhaseInvestigate, "get", "", "configmaps", "collect what the suspect mounts", true, false},
	{PhaseInvestigate, "get", "", "persistentvolumeclaims", "collect the suspect's volumes", true, false},
	{PhaseInvestigate, "get", "", "persistentvolumes", "collect the suspect's volumes", true, true},
	{PhaseInvestigate, "get", "storage.k8s.io", "storageclasses", "collect the suspect's volumes", true, true},
	{PhaseInvestigate, "list", "networking.k8s.io", "ingresses", "collect what leads to the suspect", true, false},
	{PhaseInvestigate, "list", "apps", "controllerrevisions", "collect the rollout history", true, false},
	{PhaseInvestigate, "list", "policy", "poddisruptionbudgets", "collect what governs the workload", true, false},
	{PhaseInvestigate, "list", "", "resourcequotas", "collect what governs the namespace", true, false},
	{PhaseInvestigate, "list", "", "limitranges", "collect what governs the namespace", true, false},
	{PhaseEradicate, "list", "", "secrets", "find the secrets that the suspect's account may read (their metadata)",
		true, false},
	{PhaseEradicate, "get", "", "secrets", "know the keys of a secret", true, false},
	{PhaseEradicate, "patch", "", "secrets", "replace a secret", true, false},
	{PhaseEradicate, "create", "", "secrets", "replace an immutable secret by another", true, false},
	{PhaseEradicate, "delete", "", "secrets", "delete what was replaced, and legacy tokens", true, false},
	{PhaseEradicate, "delete", "", "serviceaccounts", "invalidate every token of an account", true, false},
	{PhaseEradicate, "create", "", "serviceaccounts", "make the account anew", true, false},
	{PhaseEradicate, "patch", "", "serviceaccounts", "make the default account what it was", true, false},
	{PhaseEradicate, "list", "apps", "deployments", "find what uses a secret", true, false},
	{PhaseEradicate, "patch", "apps", "deployments", "restart what uses a secret", true, false},
	{PhaseEradicate, "patch", "apps", "statefulsets", "restart what uses a secret", true, false},
	{PhaseEradicate, "patch", "apps", "daemonsets", "restart what uses a secret", true, false},
	{PhaseEradicate, "patch", "apps", "replicasets", "point it at the successor of an immutable secret", true, false},
	{PhaseEradicate, "patch", "", "replicationcontrollers", "point it at the successor of an immutable secret", true,
		false},
	{PhaseEradicate, "list", "batch", "cronjobs", "find what uses a secret", true, false},
	{PhaseEradicate, "patch", "batch", "cronjobs", "point it at the successor of an immutable secret", true, false},
	{PhaseEradicate, "list", "networking.k8s.io", "ingresses", "find what uses a secret", true, false},
	{PhaseEradicate, "get", "", "pods/portforward", "reach a database in the cluster, to change a password there", true,
		false},
	{PhaseEradicate, "create", "", "pods/portforward", "reach a database in the cluster, to change a password there",
		true, false},
	{PhaseEradicate, "get", rbac, "rolebindings", "--remove-bindings", true, false},
	{PhaseEradicate, "patch", rbac, "rolebindings", "--remove-bindings", true, false},
	{PhaseEradicate, "get", rbac, "clusterrolebindings", "--remove-bindings", true, true},
	{PhaseEradicate, "patch", rbac, "clusterrolebindings", "--remove-bindings", true, true},
	{PhaseEradicate, "bind", rbac, "roles", "--remove-bindings where the role allows more than oneself may", true,
		false},
	{PhaseEradicate, "bind", rbac, "clusterroles", "--remove-bindings where the role allows more than oneself may",
		true, true},
	{PhaseRecover, "get", "", "pods", "see what has become of the suspect", false, false},
	{PhaseRecover, "list", "", "pods", "look at the new pods", false, false},
	{PhaseRecover, "get", "apps", "deployments/scale", "restore the replicas", false, false},
	{PhaseRecover, "patch", "apps", "deployments/scale", "restore the replicas", false, false},
	{PhaseRecover, "get", "apps", "statefulsets/scale", "restore the replicas", false, false},
	{PhaseRecover, "patch", "apps", "statefulsets/scale", "restore the replicas", false, false},
	{PhaseRecover, "get", "apps", "replicasets/scale", "restore the replicas", false, false},
	{PhaseRecover, "patch", "apps", "replicasets/scale", "restore the replicas", false, false},
	{PhaseRecover, "get", "", "replicationcontrollers/scale", "restore the replicas", false, false},
	{PhaseRecover, "patch", "", "replicationcontrollers/scale", "restore the replicas", false, false},
	{PhaseRecover, "patch", "apps", "daemonsets", "let a DaemonSet run on the suspect's node again", false, false},
	{PhaseRecover, "patch", "batch", "jobs", "resume a Job", false, false},
	{PhaseRecover, "patch", "batch", "cronjobs", "resume a CronJob", false, false},
	{PhaseRecover, "list", "networking.k8s.io", "networkpolicies", "see that policies govern the new pods", false,
		false},
	{PhaseRecover, "get", "networking.k8s.io", "networkpolicies",
		"lift the quarantine: see that the policy is still ours", false, false},
	{PhaseRecover, "delete", "networking.k8s.io", "networkpolicies", "lift the quarantine", false, false},
	{PhaseRecover, "list", "", "services", "see that the Services reach the new pods", false, false},
	{PhaseRecover, "list", "discovery.k8s.io", "endpointslices", "see that the Services reach the new pods", false,
		false},
	{PhaseRecover, "get", "", "pods/log", "look for secrets in the new logs", false, false},
	{PhaseRecover, "list", "", "events", "say why a rollout fails", true, false},
	{PhaseRecover, "list", "apps", "replicasets", "say why a rollout fails", true, false},
	{PhaseRecover, "list", "apps", "daemonsets", "find what enforces NetworkPolicy", true, true},
	{PhaseRecover, "delete", "", "pods", "--suspect delete", true, false},
	{PhaseRecover, "list", "", "pods", "--monitor: see the suspect's image anywhere in the cluster", true, true},
	{PhaseRecover, "patch", "", "nodes", "--uncordon", true, true},
}
