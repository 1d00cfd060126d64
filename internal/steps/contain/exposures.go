package contain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/cluster/netpol"
	"irctl/internal/cluster/rights"
	"irctl/internal/steps"
)

// The codes of exposures, by which they are accepted.
const (
	codeHostNetwork        = "host-network"
	codePolicyUnknown      = "policy-unknown"
	codeOtherPolicies      = "other-policies"
	codeEnforcementUnknown = "enforcement-unknown"
	codeNodeTraffic        = "node-traffic"
	codeEstablished        = "established-connections"
	codeIngressOpen        = "ingress-open"
	codeEgressOpen         = "egress-open"
	codeHostPort           = "host-port"
	codeExternalService    = "external-service"
	codeExternalBefore     = "external-service-before"
	codeNodeSuspect        = "node-suspect"
	codeToken              = "token"
	codeCloudIdentity      = "cloud-identity"
	codeUnknown            = "unknown"
	// CodeNewMatch is of a pod that the selector of a containment matches by now.
	CodeNewMatch = "new-match"

	asAsked = "-as-asked" // added to the code of an opening that somebody asked for
)

// Codes are those of the exposures that weigh, so that they can be accepted.
var Codes = []string{codeHostNetwork, codePolicyUnknown, codeOtherPolicies, codeEnforcementUnknown, codeIngressOpen,
	codeEgressOpen,
	codeHostPort, codeExternalService, codeNodeSuspect, codeToken, codeCloudIdentity, codeUnknown, CodeNewMatch}

// exposures lists every way in or out of a suspect that containment did not
// close. pod is the pod as it is now, policyErr why its policies could not be read.
func exposures(scene *steps.Scene, t *cluster.Target, pod *corev1.Pod, policy *effective, policyErr error,
	facts *Facts) []Exposure {
	about := suspect{scene.Incident, pod}
	var list []Exposure
	list = append(list, about.network(policy, policyErr, facts)...)
	list = append(list, about.entrances(t, scene.Around[pod.Namespace])...)
	list = append(list, about.node()...)
	return append(list, about.identities(facts, scene.Now)...)
}

// suspect is what the remedies name. A remedy is of one of two kinds. Either irctl
// sees that it was carried out: then the finding is gone. Or it is done where irctl
// cannot look, and a person has to say so: see elsewhere.
type suspect struct {
	incident string
	*corev1.Pod
}

// contain is the command that does steps of containment on it again.
func (s suspect) contain(more ...string) string {
	words := []string{"irctl", "contain", "--incident", s.incident, "--pod", s.Name, "-n", s.Namespace}
	for _, w := range more {
		words = append(words, change.ShellQuote(w))
	}
	return strings.Join(words, " ")
}

// elsewhere is a remedy whose effect irctl cannot see, with what closes the finding.
func (s suspect) elsewhere(code, remedy string) string {
	return remedy + "; irctl cannot see that: once it is done, irctl accept " + code + "=" + s.Namespace + "/" +
		s.Name +
		" --incident " + s.incident + " --reason … closes it"
}

func (s suspect) network(policy *effective, policyErr error, facts *Facts) []Exposure {
	pod := s.Pod
	if pod.Spec.HostNetwork {
		return []Exposure{{Code: codeHostNetwork, Severity: Open,
			Text: "the pod uses its node's network: NetworkPolicies do not apply to it",
			Close: s.elsewhere(codeHostNetwork, "cut node "+pod.Spec.NodeName+
				" off at its own firewall or security group")}}
	}
	var list []Exposure
	if policy == nil {
		list = append(list, Exposure{Code: codePolicyUnknown, Severity: Risk,
			Text:  "the effective policy could not be determined, since the NetworkPolicies could not be read",
			Close: cluster.ToRead(policyErr, "get the right to list NetworkPolicies, and look again")})
	} else {
		list = append(list, s.openings(policy)...)
	}
	if other := append(slices.Clone(facts.OtherPolicies[""]), facts.OtherPolicies[pod.Namespace]...); len(other) > 0 {
		list = append(list, Exposure{Code: codeOtherPolicies, Severity: Risk,
			Text: "policies of other kinds may allow or override, and are not evaluated: " + bounded(other),
			Close: s.elsewhere(codeOtherPolicies, "make sure that none of them lets anything to or from a pod with "+
				QuarantineLabel+"="+QuarantineValue)})
	}
	if len(facts.Enforcers) == 0 {
		tried := s.elsewhere(codeEnforcementUnknown,
			"try a connection from and to the pod; if it succeeds, isolate the node")
		x := Exposure{Code: codeEnforcementUnknown, Severity: Risk, Close: tried,
			Text: "nothing was recognised in this cluster that enforces NetworkPolicy: the policies may be without " +
				"effect"}
		if err := facts.enforcersErr; err != nil {
			x.Text = "what enforces NetworkPolicy could not be looked for, so the policies may be without effect: " +
				err.Error()
			x.Close = cluster.ToRead(err, "get the right to list DaemonSets, and look again") + "; or " + tried
		}
		list = append(list, x)
	}
	return append(list,
		Exposure{Code: codeNodeTraffic, Severity: Note, Text: "traffic between the pod and its own node (" +
			pod.Spec.NodeName + ") is not bound by NetworkPolicies"},
		Exposure{Code: codeEstablished, Severity: Note,
			Text: "connections that were open before may live on: some network plugins apply policies to new " +
				"connections only",
			Close: "on node " + pod.Spec.NodeName + ": conntrack -D -s " + podIP(pod) + "; conntrack -D -d " +
				podIP(pod) +
				" (irctl cannot see that, and it does not weigh in the verdict)"})
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
func (s suspect) openings(v *effective) []Exposure {
	var list []Exposure
	own := PolicyName(s.incident)
	for _, d := range []struct {
		code, text string
		dir        netpol.Direction
	}{{codeIngressOpen, "in", v.Ingress}, {codeEgressOpen, "out", v.Egress}} {
		if !d.dir.Isolated {
			list = append(list, Exposure{Code: d.code, Severity: Open,
				Text:  "no NetworkPolicy isolates the pod: everything is let " + d.text,
				Close: s.contain("--steps", StepQuarantine+","+StepDetach)})
			continue
		}
		for _, opening := range d.dir.Open {
			text := fmt.Sprintf("NetworkPolicy %s still lets %s: %s, %s", opening.Policy, d.text, opening.Peers,
				opening.Ports)
			switch opening.Policy {
			case v.quarantine:
				list = append(list, Exposure{Code: d.code + asAsked, Severity: Note, Text: text + " (as asked for)"})
			case own:
				list = append(list, Exposure{Code: d.code, Severity: Open, Text: text +
					": it is this incident's quarantine, and somebody changed it",
					Close: s.contain("--steps", StepQuarantine) + " sets it right; find out who changed it"})
			default:
				list = append(list, Exposure{Code: d.code, Severity: Open, Text: text + "; it selects the pod by " +
					opening.SelectedBy,
					Close: s.closeOpening(v, opening)})
			}
		}
	}
	return list
}

// closeOpening is the command by which a policy no longer selects the pod: the pod
// loses the labels that it selects by, or, if that cannot be, the policy leaves out
// the suspects of this incident, and nobody else.
func (s suspect) closeOpening(v *effective, opening netpol.Opening) string {
	if slices.Contains(v.Unreadable, opening.Policy) {
		return "set its podSelector right: " + kubectl("edit", "networkpolicy", opening.Policy, "-n", s.Namespace)
	}
	keys := slices.DeleteFunc(slices.Clone(opening.LabelKeys), func(k string) bool {
		return k == QuarantineLabel || k == IncidentLabel
	})
	if len(keys) == 0 {
		expressions := append(slices.Clone(opening.Selector.MatchExpressions),
			metav1.LabelSelectorRequirement{Key: IncidentLabel, Operator: metav1.LabelSelectorOpNotIn,
				Values: []string{s.incident}})
		patch := map[string]any{"spec": map[string]any{"podSelector": map[string]any{"matchExpressions": expressions}}}
		return kubectl("patch", "networkpolicy", opening.Policy, "-n", s.Namespace, "--type=merge", "-p",
			jsonText(patch))
	}
	words := []string{"--steps", StepDetach}
	for _, k := range keys {
		words = append(words, "--remove-label", k)
	}
	return s.contain(words...)
}

// entrances are the ways from outside the cluster that lead, or led, to the pod.
func (s suspect) entrances(t *cluster.Target, around *cluster.Namespace) []Exposure {
	pod := s.Pod
	var list []Exposure
	for _, c := range allContainers(pod) {
		for _, p := range c.Ports {
			if p.HostPort != 0 && !pod.Spec.HostNetwork {
				list = append(list, Exposure{Code: codeHostPort, Severity: Risk,
					Text: fmt.Sprintf("port %d of node %s leads straight to the pod, without a Service; not every "+
						"network plugin applies policies there", p.HostPort, pod.Spec.NodeName),
					Close: s.elsewhere(codeHostPort, "close that port at the node's firewall or security group")})
			}
		}
	}
	if around == nil {
		return list
	}
	for i := range around.Services {
		svc := &around.Services[i]
		sel := labels.Set(svc.Spec.Selector).AsSelector()
		external := svc.Spec.Type == corev1.ServiceTypeLoadBalancer || svc.Spec.Type == corev1.ServiceTypeNodePort ||
			len(svc.Spec.ExternalIPs) > 0
		if len(svc.Spec.Selector) == 0 || !external {
			continue
		}
		switch {
		case sel.Matches(labels.Set(pod.Labels)):
			x := Exposure{Code: codeExternalService, Severity: Risk,
				Close: s.contain("--steps", StepQuarantine+","+StepDetach),
				Text: fmt.Sprintf("Service %s (%s) leads to the pod from outside the cluster", svc.Name,
					svc.Spec.Type)}
			if _, ok := removable(sel, pod.Labels); !ok {
				x.Close = "if nobody else needs the Service: " +
					kubectl("delete", "service", svc.Name, "-n", svc.Namespace)
			}
			list = append(list, x)
		case sel.Matches(labels.Set(t.Pod.Labels)):
			list = append(list, Exposure{Code: codeExternalBefore, Severity: Note,
				Text: fmt.Sprintf("Service %s (%s) led to the pod from outside the cluster until it was detached: "+
					"whoever attacked may know "+
					"this way to its successors", svc.Name, svc.Spec.Type)})
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
var escapes = []corev1.Capability{"ALL", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "SYS_RAWIO", "DAC_READ_SEARCH",
	"NET_ADMIN", "BPF"}

// node says why the node is suspect too. The sources are the baseline
// profile of the Pod Security Standards:
// https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline
func (s suspect) node() []Exposure {
	pod := s.Pod
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
	return []Exposure{{Code: codeNodeSuspect, Severity: Risk,
		Text: fmt.Sprintf("node %s is suspect too: the pod could leave its container (%s)", pod.Spec.NodeName,
			bounded(why)),
		Close: s.elsewhere(codeNodeSuspect, s.contain("--steps", StepCordon)+
			" lets nothing new start there; treat the node as compromised, its kubelet credentials and every secret "+
			"of its pods too")}}
}

// identities are those that the pod holds, which whoever was in it can use from
// elsewhere.
func (s suspect) identities(facts *Facts, now func() time.Time) []Exposure {
	var list []Exposure
	name := cmp.Or(s.Spec.ServiceAccountName, "default")
	key := s.Namespace + "/" + name
	sa := facts.accounts[key]
	err := facts.accountErrs[key]
	if holdsToken(s.Pod) {
		ended := ""
		switch deleted := s.DeletionTimestamp; {
		case apierrors.IsNotFound(err):
			ended = "the account does not exist any more"
		case sa != nil && sa.CreationTimestamp.After(s.CreationTimestamp.Time):
			ended = "the account was made anew since"
		case deleted != nil && now().After(deleted.Add(tokenOutlives)):
			ended = "the time by which the pod was to be gone is more than a minute ago"
		}
		if ended != "" {
			list = append(list, Exposure{Code: codeToken, Severity: Note,
				Text: fmt.Sprintf("its token of service account %s is not accepted any more: %s", key, ended)})
		} else {
			list = append(list, s.token(name, facts))
		}
	}
	if sa != nil {
		list = append(list, s.cloud(key, sa.Annotations)...)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		list = append(list, Gap{cluster.Gap{What: "reading ServiceAccount " + key, Err: err}}.exposure())
	}
	return append(list, s.podIdentity(key)...)
}

// tokenOutlives is how long the token of a pod is accepted after the moment at which
// the pod was to be gone (its deletionTimestamp), though the pod may still be there.
// Validate of kubernetes/pkg/serviceaccount/claims.go: jwt.DefaultLeeway.
const tokenOutlives = time.Minute

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

func (s suspect) token(account string, facts *Facts) Exposure {
	key := s.Namespace + "/" + account
	until := "while the pod exists"
	if d := s.DeletionTimestamp; d != nil {
		until = "until " + d.Add(tokenOutlives).UTC().Format(time.RFC3339) + ", a minute after the pod is to be gone"
	}
	valid := fmt.Sprintf("its token of service account %s is valid %s", key, until)
	end := "end every token of the account, which is to be created again then: " +
		kubectl("delete", "serviceaccount", account, "-n", s.Namespace)
	if facts.rbacErr != nil {
		return Exposure{Code: codeToken, Severity: Risk, Close: end,
			Text: fmt.Sprintf("%s; what it may do is unknown: %v", valid, facts.rbacErr)}
	}
	r := rights.For(rights.Subject{Namespace: s.Namespace, Name: account}, facts.rbac)
	may := r.Summary(5)
	if len(may) == 0 {
		return Exposure{Code: codeToken, Severity: Note, Text: valid +
			"; it grants nothing beyond what every account may do"}
	}
	return Exposure{Code: codeToken, Severity: Risk, Close: "take it out of " + bounded(r.Bindings()) + "; or " + end,
		Text: fmt.Sprintf("%s, and works from elsewhere; it may: %s", valid, strings.Join(may, "; "))}
}

// cloud names the cloud identity that is bound to a service account.
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
func (s suspect) cloud(account string, annotations map[string]string) []Exposure {
	var list []Exposure
	subject := "system:serviceaccount:" + strings.Replace(account, "/", ":", 1)
	if arn := annotations["eks.amazonaws.com/role-arn"]; arn != "" {
		role := arn[strings.LastIndex(arn, "/")+1:]
		list = append(list, Exposure{Code: codeCloudIdentity, Severity: Risk,
			Text: fmt.Sprintf("service account %s acts as the AWS role %s; credentials taken from the pod work from "+
				"anywhere until they expire, and "+
				"the pod's web-identity token (AWS_WEB_IDENTITY_TOKEN_FILE, audience sts.amazonaws.com) makes new "+
				"ones until it expires itself, "+
				"24 hours after it was issued by default", account, arn),
			Close: s.elsewhere(codeCloudIdentity, fmt.Sprintf("first take %s out of the trust policy of role %s (aws "+
				"iam update-assume-role-policy --role-name %s --policy-document …), "+
				"since who has the token gets new sessions else; then revoke the role's sessions (in IAM: Revoke "+
				"sessions; or aws iam put-role-policy with a "+
				"policy AWSRevokeOlderSessions that denies * where aws:TokenIssueTime is before now). To delete the "+
				"service account does not end it: STS "+
				"checks the token's signature, not the cluster", subject, role, change.ShellQuote(role)))})
	}
	if email := annotations["iam.gke.io/gcp-service-account"]; email != "" {
		list = append(list, Exposure{Code: codeCloudIdentity, Severity: Risk,
			Text: fmt.Sprintf("service account %s acts as the Google service account %s; an access token taken from "+
				"the pod works from anywhere "+
				"until it expires (an hour by default)", account, email),
			Close: s.elsewhere(codeCloudIdentity, "gcloud iam service-accounts disable "+change.ShellQuote(email)+
				", which rejects the tokens that were issued, too; before it is "+
				"enabled again remove its roles/iam.workloadIdentityUser binding to the Kubernetes service account. "+
				"Roles that were given to that account "+
				"itself (principal://iam.googleapis.com/…/subject/ns/NAMESPACE/sa/NAME) stay until they are removed")})
	}
	if client := annotations["azure.workload.identity/client-id"]; client != "" {
		list = append(list, Exposure{Code: codeCloudIdentity, Severity: Risk,
			Text: fmt.Sprintf("service account %s acts as the Azure identity with client ID %s; an access token "+
				"taken from the pod works from anywhere "+
				"until it expires, and the pod's federated token (AZURE_FEDERATED_TOKEN_FILE) makes new ones until "+
				"it expires itself", account, client),
			Close: s.elsewhere(codeCloudIdentity, "delete the federated credential of that identity with the subject "+
				subject+" (az identity federated-credential delete), so that the "+
				"token makes no new ones; and remove its role assignments, since access tokens that were issued "+
				"cannot be recalled. To delete the service "+
				"account does not end it")})
	}
	return list
}

// podIdentityAudience is that of the token by which EKS Pod Identity knows a pod.
const podIdentityAudience = "pods.eks.amazonaws.com"

// podIdentity names the cloud identity of a pod that no annotation tells of. EKS
// Pod Identity binds a role to a service account by an association, which is
// kept by AWS; the pod shows it by the variable and the token that are injected.
//
//   - https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html
//   - https://docs.aws.amazon.com/eks/latest/APIReference/API_DeletePodIdentityAssociation.html: sessions
//     outlive the association
func (s suspect) podIdentity(account string) []Exposure {
	pod := s.Pod
	injected := slices.ContainsFunc(allContainers(pod), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
			return e.Name == "AWS_CONTAINER_CREDENTIALS_FULL_URI"
		})
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
	return []Exposure{{Code: codeCloudIdentity, Severity: Risk,
		Text: fmt.Sprintf("service account %s acts as an AWS role by EKS Pod Identity, which AWS knows and irctl "+
			"cannot see; credentials taken from the "+
			"pod work from anywhere until they expire, and its token (audience %s) makes new ones", account,
			podIdentityAudience),
		Close: s.elsewhere(codeCloudIdentity, fmt.Sprintf("find the association (aws eks "+
			"list-pod-identity-associations --cluster-name CLUSTER --namespace %s --service-account %s) and "+
			"delete it (aws eks delete-pod-identity-association --cluster-name CLUSTER --association-id ID), so that "+
			"the token makes no new sessions; then "+
			"revoke the role's sessions in IAM, since those outlive the association", change.ShellQuote(namespace),
			change.ShellQuote(name)))}}
}
