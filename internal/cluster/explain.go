package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"regexp"
	"strings"
	"syscall"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// cannot finds the right, and where it is missing, in the API server's own words:
// … is forbidden: User "jane" cannot patch resource "pods" in API group "" in the namespace "todo-app"
var cannot = regexp.MustCompile(
	`User "([^"]+)" cannot ([a-z]+) resource "([^"]+)" in API group "([^"]*)"(?: in the namespace "([^"]+)")?`)

// maxRight is how long a right is said at the most.
const maxRight = 900

// Explain says what to do about an error of the API server or of reaching
// it, in one sentence without a full stop; "" where the error speaks for itself.
// roleFor names the ClusterRole that grants a right, or none.
func Explain(err error, roleFor func(verb, group, resource string) string) string {
	f := FailureOf(err)
	var wait *WaitError
	if errors.As(err, &wait) && wait.last != nil {
		f = FailureOf(wait.last) // what stood in the way all the time
	}
	var dns *net.DNSError
	switch f.Kind {
	case DeniedByPolicy:
		return "the " + f.By + " forbids it: ask whoever owns that policy for an exception for irctl, or do it with " +
			"an identity that is exempt; " +
			"then run the same command again"
	case DeniedByWebhook:
		return "the admission webhook " + f.By +
			" forbids it: ask whoever owns that policy for an exception for irctl, or do it with an identity " +
			"that is exempt; then run the same command again"
	case DeniedByPodSecurity:
		return "the namespace enforces the pod security standard " + f.By +
			": whoever owns it can relax the label pod-security.kubernetes.io/enforce, " +
			"or change the pods to comply"
	case DeniedByQuota:
		return "a ResourceQuota of the namespace, " + f.By +
			", forbids it: raise it, or delete what is not needed there"
	case DeniedByAdmission:
		return "an admission plugin of the API server forbids it, and its message says why: whoever runs the cluster " +
			"can say what would be allowed"
	case DeniedByRight:
		if notHeld.MatchString(err.Error()) {
			return "only somebody may change a binding who holds all that its role allows, or may bind that role: " +
				"ask them, or for the right to bind it by its name (irctl doctor --roles says how)"
		}
		if m := cannot.FindStringSubmatch(err.Error()); m != nil && len(m[0]) <= maxRight {
			right := missingRight{user: m[1], verb: m[2], resource: m[3], group: m[4], namespace: m[5]}
			return right.remedy(roleFor(m[2], m[4], m[3]))
		}
		return "a right is missing; irctl doctor lists which"
	case NotSignedIn:
		return signIn(err)
	case NotTheServer:
		return "what answered is no Kubernetes API: a proxy, VPN portal or load balancer on the way, which has its " +
			"own rules or wants a login; " +
			"no right of the cluster is missing"
	case Untrusted:
		return "the API server's certificate is not trusted: check the server address and the certificate authority " +
			"in the kubeconfig; " +
			"do not turn verification off during an incident"
	case BudgetSpent:
		return "a PodDisruptionBudget protects the pod: let the workload have more ready pods, or change the budget; " +
			"then run the same command again"
	case Throttled:
		return "the API server throttles: try again, with a longer --timeout"
	case WebhookDown:
		return "the API server must ask the webhook " + f.By +
			" and gets no answer from it: have it run again, or its owner set its failurePolicy " +
			"to Ignore meanwhile (kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations); then " +
			"run the same command again"
	case Unreachable:
		switch {
		case errors.As(err, &dns):
			return "the API server's name cannot be resolved: check the network (VPN?) and the kubeconfig's server " +
				"address"
		case utilnet.IsConnectionRefused(err):
			return "nothing listens there: check the kubeconfig's server address, and whether the API server runs"
		case errors.Is(err, ErrBrokenOff):
			return "something takes the connection and drops it: check that the API server runs, and the proxy, VPN " +
				"or load balancer on the way to it"
		}
		return "the connection to the API server failed: check the network (VPN?), and whether the API server runs; " +
			"then run the same command again"
	case RanOut:
		if errors.Is(err, ErrSilent) {
			return "the API server took the request and did not answer: check that it is well, and the proxy, VPN or " +
				"load balancer on the way to it; " +
				"then run the same command again"
		}
		return "it took too long: try again, with a longer --timeout; check that the API server is well"
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "the disk is full: make room, or set IRCTL_STATE_DIR to a place that has some"
	case errors.Is(err, syscall.EROFS):
		return "the file system is read-only: set IRCTL_STATE_DIR to a place that can be written"
	}
	return ""
}

// missingRight is a right that the API server says somebody lacks.
type missingRight struct {
	user, verb, group, resource string
	// namespace is where; "": on the whole cluster.
	namespace string
}

// what is the right in short: patch deployments.apps/scale.
func (r missingRight) what() string {
	resource, sub, _ := strings.Cut(r.resource, "/")
	if r.group != "" {
		resource += "." + r.group
	}
	if sub != "" {
		resource += "/" + sub
	}
	return r.verb + " " + resource
}

// remedy is the command that grants it, and binds no more than it takes: in a
// namespace a role of irctl's is bound there alone, and what is missing on the
// whole cluster is granted by itself, since a whole role there may be all that
// it takes to own the cluster (docs/rights.md).
func (r missingRight) remedy(role string) string {
	resource := strings.TrimPrefix(r.what(), r.verb+" ")
	missing := "the right to " + r.what() + " is missing"
	user := " --user=" + quoteName(r.user)
	switch {
	case role == "":
		return missing + "; no ClusterRole of irctl's has it"
	case r.namespace != "":
		return missing + " in namespace " + r.namespace + "; the ClusterRole " + role +
			" has it (irctl doctor --roles prints it): " +
			"kubectl create rolebinding " + r.bindingName(role) + " --clusterrole=" + role + user + " -n " +
			quoteName(r.namespace)
	}
	alone := "irctl-" + r.verb + "-" + strings.ReplaceAll(resource, "/", "-")
	return missing + " cluster-wide; the ClusterRole " + role + " has it, and more; this right alone: " +
		"kubectl create clusterrole " + alone + " --verb=" + r.verb + " --resource=" + resource +
		"; kubectl create clusterrolebinding " + r.bindingName(alone) + " --clusterrole=" + alone + user
}

// bindingName names the binding of a role to the user: not as the documented
// bindings, which are other people's. Of a name that cannot be one of an object
// a digest tells it from others alike.
func (r missingRight) bindingName(role string) string {
	const longest = 40
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' {
			return c
		}
		return '-'
	}, strings.ToLower(r.user))
	if name != r.user || len(name) > longest {
		digest := sha256.Sum256([]byte(r.user))
		name = name[:min(len(name), longest)] + "-" + hex.EncodeToString(digest[:4])
	}
	return role + "-" + name
}

// quoteName quotes a user name for a shell; it may hold anything.
func quoteName(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:@") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
