package contain

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/cluster/netpol"
	"irctl/internal/cluster/rights"
	"irctl/internal/steps"
)

// exposures lists every way in or out of a suspect that containment did not
// close. pod is the pod as it is now.
func exposures(scene *steps.Scene, o Options, t *cluster.Target, pod *corev1.Pod, policy *effective, facts *Facts) []Exposure {
	var list []Exposure
	list = append(list, networkExposures(scene, o, pod, policy, facts)...)
	list = append(list, entranceExposures(t, pod, scene.Around[pod.Namespace])...)
	list = append(list, nodeExposures(pod)...)
	return append(list, identityExposures(pod, facts)...)
}

func networkExposures(scene *steps.Scene, o Options, pod *corev1.Pod, policy *effective, facts *Facts) []Exposure {
	if pod.Spec.HostNetwork {
		return []Exposure{{Code: "host-network", Severity: Open,
			Text:  "the pod uses its node's network: NetworkPolicies do not apply to it",
			Close: "cut node " + pod.Spec.NodeName + " off at its own firewall or security group; or delete the pod once its evidence is sealed"}}
	}
	var list []Exposure
	if policy == nil {
		list = append(list, Exposure{Code: "policy-unknown", Severity: Risk, Text: "the effective policy could not be determined, since the NetworkPolicies could not be read"})
	} else {
		list = append(list, openings(scene, o, pod, policy)...)
	}
	if other := append(slices.Clone(facts.OtherPolicies[""]), facts.OtherPolicies[pod.Namespace]...); len(other) > 0 {
		list = append(list, Exposure{Code: "other-policies", Severity: Risk,
			Text:  "policies of other kinds may allow or override, and are not evaluated: " + bounded(other),
			Close: "check that none of them selects a pod with " + QuarantineLabel + "=" + QuarantineValue})
	}
	if facts.enforcersErr != nil && len(facts.Enforcers) == 0 {
		list = append(list, Exposure{Code: "enforcement-unknown", Severity: Risk,
			Text:  "what enforces NetworkPolicy could not be looked for, so the policies may be without effect: " + facts.enforcersErr.Error(),
			Close: "try a connection from and to the pod; if it succeeds, isolate the node, or delete the pod once its evidence is sealed"})
	} else if len(facts.Enforcers) == 0 {
		list = append(list, Exposure{Code: "enforcement-unknown", Severity: Risk,
			Text:  "nothing was recognised in this cluster that enforces NetworkPolicy: the policies may be without effect",
			Close: "try a connection from and to the pod; if it succeeds, isolate the node, or delete the pod once its evidence is sealed"})
	}
	return append(list,
		Exposure{Code: "node-traffic", Severity: Note, Text: "traffic between the pod and its own node (" + pod.Spec.NodeName + ") is not bound by NetworkPolicies"},
		Exposure{Code: "established-connections", Severity: Note,
			Text:  "connections that were open before may live on: some network plugins apply policies to new connections only",
			Close: "on node " + pod.Spec.NodeName + ": conntrack -D -s " + podIP(pod) + "; conntrack -D -d " + podIP(pod)})
}

func podIP(pod *corev1.Pod) string {
	if pod.Status.PodIP == "" {
		return "POD-IP"
	}
	return pod.Status.PodIP
}

// effective is what the policies together let through to and from a suspect,
// and the name of the quarantine among them; "" where it is not there as it
// was asked for.
type effective struct {
	netpol.Verdict
	quarantine string
}

// openings are what the NetworkPolicies that select the pod together still allow.
func openings(scene *steps.Scene, o Options, pod *corev1.Pod, v *effective) []Exposure {
	var list []Exposure
	own := PolicyName(scene.Incident)
	for _, d := range []struct {
		code, text string
		dir        netpol.Direction
	}{{"ingress-open", "in", v.Ingress}, {"egress-open", "out", v.Egress}} {
		if !d.dir.Isolated {
			list = append(list, Exposure{Code: d.code, Severity: Open, Text: "no NetworkPolicy isolates the pod: everything is let " + d.text,
				Close: "run contain with the steps quarantine and detach"})
			continue
		}
		for _, opening := range d.dir.Open {
			text := fmt.Sprintf("NetworkPolicy %s still lets %s: %s, %s", opening.Policy, d.text, opening.Peers, opening.Ports)
			switch opening.Policy {
			case v.quarantine:
				list = append(list, Exposure{Code: d.code + "-as-asked", Severity: Note, Text: text + " (as asked for)"})
			case own:
				list = append(list, Exposure{Code: d.code, Severity: Open, Text: text + ": it is this incident's quarantine, and somebody changed it",
					Close: "irctl contain --incident " + scene.Incident + " --pod " + pod.Name + " -n " + pod.Namespace + " sets it right; find out who changed it"})
			default:
				list = append(list, Exposure{Code: d.code, Severity: Open, Text: text + "; it selects the pod by " + opening.SelectedBy, Close: closeOpening(pod, o, opening)})
			}
		}
	}
	return list
}

func closeOpening(pod *corev1.Pod, o Options, opening netpol.Opening) string {
	keys := slices.DeleteFunc(slices.Clone(opening.LabelKeys), func(k string) bool { return k == QuarantineLabel || k == IncidentLabel })
	if len(keys) == 0 {
		return fmt.Sprintf("change NetworkPolicy %s so that it does not select pods with %s=%s", opening.Policy, QuarantineLabel, QuarantineValue)
	}
	words := []string{"contain", "--pod", pod.Name, "-n", pod.Namespace}
	if o.keepsLabels(pod.UID) {
		return "contain it without --keep-labels, which takes off the labels it is selected by"
	}
	for _, k := range keys {
		words = append(words, "--remove-label", change.ShellQuote(k))
	}
	return "irctl " + strings.Join(words, " ")
}

// entranceExposures are the ways from outside the cluster that lead, or led, to the pod.
func entranceExposures(t *cluster.Target, pod *corev1.Pod, around *cluster.Namespace) []Exposure {
	var list []Exposure
	for _, c := range allContainers(pod) {
		for _, p := range c.Ports {
			if p.HostPort != 0 && !pod.Spec.HostNetwork {
				list = append(list, Exposure{Code: "host-port", Severity: Risk,
					Text:  fmt.Sprintf("port %d of node %s leads straight to the pod, without a Service; not every network plugin applies policies there", p.HostPort, pod.Spec.NodeName),
					Close: "close that port at the node's firewall or security group"})
			}
		}
	}
	if around == nil {
		return list
	}
	for i := range around.Services {
		s := &around.Services[i]
		sel := labels.Set(s.Spec.Selector).AsSelector()
		external := s.Spec.Type == corev1.ServiceTypeLoadBalancer || s.Spec.Type == corev1.ServiceTypeNodePort || len(s.Spec.ExternalIPs) > 0
		if len(s.Spec.Selector) == 0 || !external {
			continue
		}
		switch {
		case sel.Matches(labels.Set(pod.Labels)):
			list = append(list, Exposure{Code: "external-service", Severity: Risk,
				Text:  fmt.Sprintf("Service %s (%s) leads to the pod from outside the cluster", s.Name, s.Spec.Type),
				Close: "contain it without --keep-labels"})
		case sel.Matches(labels.Set(t.Pod.Labels)):
			list = append(list, Exposure{Code: "external-service-before", Severity: Note,
				Text: fmt.Sprintf("Service %s (%s) led to the pod from outside the cluster until it was detached: whoever attacked may know this way to its successors", s.Name, s.Spec.Type)})
		}
	}
	return list
}

func allContainers(pod *corev1.Pod) []corev1.Container {
	all := slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
	for _, e := range pod.Spec.EphemeralContainers {
		all = append(all, corev1.Container(e.EphemeralContainerCommon))
	}
	return all
}

// escapes are capabilities that are a way out of a container.
var escapes = []corev1.Capability{"ALL", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "SYS_RAWIO", "DAC_READ_SEARCH", "NET_ADMIN", "BPF"}

// nodeExposures say why the node is suspect too. The sources are the baseline
// profile of the Pod Security Standards:
// https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline
func nodeExposures(pod *corev1.Pod) []Exposure {
	var why []string
	for _, h := range []struct {
		set  bool
		name string
	}{{pod.Spec.HostPID, "hostPID"}, {pod.Spec.HostIPC, "hostIPC"}, {pod.Spec.HostNetwork, "hostNetwork"}} {
		if h.set {
			why = append(why, h.name)
		}
	}
	for _, v := range pod.Spec.Volumes {
		if v.HostPath != nil {
			why = append(why, "hostPath "+v.HostPath.Path)
		}
	}
	for _, c := range allContainers(pod) {
		sc := c.SecurityContext
		if sc == nil {
			continue
		}
		if sc.Privileged != nil && *sc.Privileged {
			why = append(why, "container "+c.Name+" is privileged")
		}
		if sc.Capabilities == nil {
			continue
		}
		for _, added := range sc.Capabilities.Add {
			if slices.Contains(escapes, corev1.Capability(strings.TrimPrefix(string(added), "CAP_"))) {
				why = append(why, "container "+c.Name+" has capability "+string(added))
			}
		}
	}
	if why == nil {
		return nil
	}
	return []Exposure{{Code: "node-suspect", Severity: Risk,
		Text:  fmt.Sprintf("node %s is suspect too: the pod could leave its container (%s)", pod.Spec.NodeName, bounded(why)),
		Close: "irctl contain --pod " + pod.Name + " -n " + pod.Namespace + " --steps cordon, and treat the node as compromised: its kubelet credentials and every secret of its pods"}}
}

// identityExposures are the identities that the pod holds, which whoever was
// in it can use from elsewhere.
func identityExposures(pod *corev1.Pod, facts *Facts) []Exposure {
	var list []Exposure
	name := pod.Spec.ServiceAccountName
	if name == "" {
		name = "default"
	}
	key := pod.Namespace + "/" + name
	sa := facts.accounts[key]
	switch {
	case holdsToken(pod) && sa != nil && sa.CreationTimestamp.After(pod.CreationTimestamp.Time):
		list = append(list, Exposure{Code: "token", Severity: Note, Text: fmt.Sprintf("its token is of a service account %s that does not exist any more: it was made anew since, and the token is not accepted any more", key)})
	case holdsToken(pod):
		list = append(list, tokenExposure(pod, name, facts))
	}
	if sa != nil {
		list = append(list, cloudExposures(key, sa.Annotations)...)
	}
	if err := facts.accountErrs[key]; err != nil {
		list = append(list, Gap{cluster.Gap{What: "reading ServiceAccount " + key, Err: err}}.exposure())
	}
	return append(list, podExposures(key, pod)...)
}

// holdsToken: a service account token is mounted into a container.
func holdsToken(pod *corev1.Pod) bool {
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil {
				return true
			}
		}
	}
	return false
}

func tokenExposure(pod *corev1.Pod, account string, facts *Facts) Exposure {
	key := pod.Namespace + "/" + account
	remedy := fmt.Sprintf("remove its role bindings; or delete and recreate the service account, which ends every token of it: kubectl delete serviceaccount %s -n %s", account, pod.Namespace)
	if facts.rbacErr != nil {
		return Exposure{Code: "token", Severity: Risk, Close: remedy,
			Text: fmt.Sprintf("its token of service account %s is valid while the pod exists; what it may do is unknown: %v", key, facts.rbacErr)}
	}
	r := rights.For(rights.Subject{Namespace: pod.Namespace, Name: account}, facts.rbac)
	may := r.Summary(5)
	if len(may) == 0 {
		return Exposure{Code: "token", Severity: Note,
			Text: fmt.Sprintf("its token of service account %s is valid while the pod exists; it grants nothing beyond what every account may do", key)}
	}
	return Exposure{Code: "token", Severity: Risk, Close: remedy,
		Text: fmt.Sprintf("its token of service account %s is valid while the pod exists, and works from elsewhere; it may: %s", key, strings.Join(may, "; "))}
}

// cloudExposures name the cloud identity that is bound to a service account.
// Sessions are one thing, and what makes new ones another: whoever has the pod's
// web-identity token exchanges it for new sessions until it expires, which the
// cloud checks by the issuer's public keys, without asking the cluster. Only the
// role's trust ends that.
//
//   - https://docs.aws.amazon.com/eks/latest/userguide/iam-roles-for-service-accounts.html and
//     https://github.com/aws/amazon-eks-pod-identity-webhook (the token lasts 24 hours by default)
//   - https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_revoke-sessions.html: who assumes the
//     role after the revocation is not denied
//   - https://docs.cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts/disable: tokens that
//     were issued are rejected, and new ones refused
//   - https://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity: roles can be given to the
//     Kubernetes account itself, without an annotation
//   - https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html
func cloudExposures(account string, annotations map[string]string) []Exposure {
	var list []Exposure
	subject := "system:serviceaccount:" + strings.Replace(account, "/", ":", 1)
	if arn := annotations["eks.amazonaws.com/role-arn"]; arn != "" {
		role := arn[strings.LastIndex(arn, "/")+1:]
		list = append(list, Exposure{Code: "cloud-identity", Severity: Risk,
			Text: fmt.Sprintf("service account %s acts as the AWS role %s; credentials taken from the pod work from anywhere until they expire, and "+
				"the pod's web-identity token (AWS_WEB_IDENTITY_TOKEN_FILE, audience sts.amazonaws.com) makes new ones until it expires itself, "+
				"24 hours after it was issued by default", account, arn),
			Close: fmt.Sprintf("first take %s out of the trust policy of role %s (aws iam update-assume-role-policy --role-name %s --policy-document …), "+
				"since who has the token gets new sessions else; then revoke the role's sessions (in IAM: Revoke sessions; or aws iam put-role-policy with a "+
				"policy AWSRevokeOlderSessions that denies * where aws:TokenIssueTime is before now). To delete the service account does not end it: STS "+
				"checks the token's signature, not the cluster. irctl cannot see any of this", subject, role, change.ShellQuote(role))})
	}
	if email := annotations["iam.gke.io/gcp-service-account"]; email != "" {
		list = append(list, Exposure{Code: "cloud-identity", Severity: Risk,
			Text: fmt.Sprintf("service account %s acts as the Google service account %s; an access token taken from the pod works from anywhere "+
				"until it expires (an hour by default)", account, email),
			Close: "gcloud iam service-accounts disable " + change.ShellQuote(email) + ", which rejects the tokens that were issued, too; before it is " +
				"enabled again remove its roles/iam.workloadIdentityUser binding to the Kubernetes service account. Roles that were given to that account " +
				"itself (principal://iam.googleapis.com/…/subject/ns/NAMESPACE/sa/NAME) stay until they are removed; irctl cannot see them"})
	}
	if client := annotations["azure.workload.identity/client-id"]; client != "" {
		list = append(list, Exposure{Code: "cloud-identity", Severity: Risk,
			Text: fmt.Sprintf("service account %s acts as the Azure identity with client ID %s; an access token taken from the pod works from anywhere "+
				"until it expires, and the pod's federated token (AZURE_FEDERATED_TOKEN_FILE) makes new ones until it expires itself", account, client),
			Close: "delete the federated credential of that identity with the subject " + subject + " (az identity federated-credential delete), so that the " +
				"token makes no new ones; and remove its role assignments, since access tokens that were issued cannot be recalled. To delete the service " +
				"account does not end it. irctl cannot see any of this"})
	}
	return list
}

// podIdentityAudience is that of the token by which EKS Pod Identity knows a pod.
const podIdentityAudience = "pods.eks.amazonaws.com"

// podExposures name the cloud identity of a pod that no annotation tells of. EKS
// Pod Identity binds a role to a service account by an association, which is
// kept by AWS; the pod shows it by the variable and the token that are injected.
//
//   - https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html
//   - https://docs.aws.amazon.com/eks/latest/APIReference/API_DeletePodIdentityAssociation.html: sessions
//     outlive the association
func podExposures(account string, pod *corev1.Pod) []Exposure {
	injected := slices.ContainsFunc(allContainers(pod), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "AWS_CONTAINER_CREDENTIALS_FULL_URI" })
	})
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		injected = injected || slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == podIdentityAudience
		})
	}
	if !injected {
		return nil
	}
	namespace, name, _ := strings.Cut(account, "/")
	return []Exposure{{Code: "cloud-identity", Severity: Risk,
		Text: fmt.Sprintf("service account %s acts as an AWS role by EKS Pod Identity, which AWS knows and irctl cannot see; credentials taken from the "+
			"pod work from anywhere until they expire, and its token (audience %s) makes new ones", account, podIdentityAudience),
		Close: fmt.Sprintf("find the association (aws eks list-pod-identity-associations --cluster-name CLUSTER --namespace %s --service-account %s) and "+
			"delete it (aws eks delete-pod-identity-association --cluster-name CLUSTER --association-id ID), so that the token makes no new sessions; then "+
			"revoke the role's sessions in IAM, since those outlive the association", change.ShellQuote(namespace), change.ShellQuote(name))}}
}
