package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"regexp"
	"strings"
	"syscall"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// Failure is what kind of thing went wrong with a call of the API: it is told
// once, here, and whether a call is repeated, what becomes of an action, what is
// said and what is advised all follow from it.
type Failure struct {
	Kind FailureKind
	// By names who denied it, or what is in the way: a policy, a webhook, a right,
	// a quota; "": it is not told.
	By string
}

// FailureKind tells failures apart.
type FailureKind string

// The kinds of failures.
const (
	// The API server will not do it: it is denied, by RBAC or by admission.
	DeniedByRight       FailureKind = "right"       // a right is missing
	DeniedByPolicy      FailureKind = "policy"      // a ValidatingAdmissionPolicy, or one that mutates
	DeniedByWebhook     FailureKind = "webhook"     // an admission webhook that answered no
	DeniedByPodSecurity FailureKind = "podsecurity" // the pod security standard of the namespace
	DeniedByQuota       FailureKind = "quota"       // a ResourceQuota
	DeniedByAdmission   FailureKind = "admission"   // an admission plugin of the server's
	// It has nothing against it, and cannot do it now: it may go away by itself.
	BudgetSpent  FailureKind = "budget"       // an eviction that a PodDisruptionBudget does not allow now
	Throttled    FailureKind = "throttled"    // 429
	WebhookDown  FailureKind = "webhook-down" // an admission webhook that must be asked and cannot
	ServerFailed FailureKind = "server"       // any other 5xx
	Conflicted   FailureKind = "conflict"     // 409: the object was changed meanwhile
	RanOut       FailureKind = "ran-out"      // a wait that ran out, an answer that did not come
	Unreachable  FailureKind = "unreachable"  // no connection, or one that broke
	Untrusted    FailureKind = "certificate"  // the certificate is not trusted
	NotSignedIn  FailureKind = "credentials"  // 401, or no credentials to be had
	NotTheServer FailureKind = "not-the-api"  // answered, but not by an API server: a proxy
	Invalid      FailureKind = "invalid"      // the object or the request is wrong by itself
	NotThere     FailureKind = "not-found"    // 404
	Interrupted  FailureKind = "interrupted"  // the caller ended it
	Other        FailureKind = ""             // not a failure of the API
)

// Messages of Kubernetes, in its own words. They were read from its source:
// staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/validating/dispatcher.go and …/policy/mutating,
// …/admission/plugin/webhook/errors/statuserror.go, …/apiserver/pkg/util/webhook/error.go,
// …/admission/plugin/resourcequota/controller.go, …/pod-security-admission/admission/admission.go,
// apimachinery/pkg/util/managedfields/internal/structuredmerge.go.
var (
	policyDenied = regexp.MustCompile(
		`((?:Validating|Mutating)AdmissionPolicy) '([^']{1,253})'(?: with binding '([^']{1,253})')? denied request`)
	hookDenied  = regexp.MustCompile(`admission webhook "([^"]{1,253})" denied the request`)
	hookFailed  = regexp.MustCompile(`failed calling webhook "([^"]{1,253})"`)
	quotaDenied = regexp.MustCompile(`(?:exceeded|failed) quota: ([^\s,:]{1,253})`)
	podSecurity = regexp.MustCompile(`violates PodSecurity "([^"]{1,100})"`)
	// Of a server-side apply whose fields have the wrong type, which the server
	// answers with 500: the same request is answered so for ever.
	wrongType = regexp.MustCompile(
		`failed to (?:create typed patch object|convert new object|convert new typed object) \(`)
)

// FailureOf tells what kind of failure an error is.
func FailureOf(err error) Failure {
	if err == nil {
		return Failure{}
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		if f := answered(err, status.Status()); f.Kind != Other {
			return f
		}
	}
	return unanswered(err)
}

// answered tells it from an answer. What admission says comes first: it may
// carry any code, 400, 401, 403, 413 or 422, as whoever wrote the policy chose.
func answered(err error, s metav1.Status) Failure {
	if f := denied(s.Message); f.Kind != Other {
		return f
	}
	switch {
	case apierrors.IsUnauthorized(err):
		return Failure{Kind: NotSignedIn}
	case apierrors.IsNotFound(err):
		return Failure{Kind: NotThere} // of a group that is not served the API server itself says so in plain text
	case unexpected(s) && s.Code < 500 && s.Code != 429:
		return Failure{Kind: NotTheServer}
	case apierrors.IsForbidden(err):
		if m := cannot.FindStringSubmatch(s.Message); m != nil && len(m[0]) <= maxRight {
			return Failure{DeniedByRight, missingRight{verb: m[2], resource: m[3], group: m[4]}.what()}
		}
		if notHeld.MatchString(s.Message) || aboutRights.MatchString(s.Message) {
			return Failure{Kind: DeniedByRight}
		}
		return Failure{Kind: DeniedByAdmission}
	case apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause),
		strings.Contains(s.Message, "violate the pod's disruption budget"):
		return Failure{Kind: BudgetSpent}
	case apierrors.IsTooManyRequests(err):
		return Failure{Kind: Throttled}
	case apierrors.IsConflict(err):
		return Failure{Kind: Conflicted}
	case wrongType.MatchString(s.Message):
		return Failure{Kind: Invalid}
	case hookFailed.MatchString(s.Message):
		return Failure{WebhookDown, hookFailed.FindStringSubmatch(s.Message)[1]}
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return Failure{Kind: RanOut}
	case s.Code >= 500, apierrors.IsInternalError(err), apierrors.IsServiceUnavailable(err):
		return Failure{Kind: ServerFailed}
	case s.Code >= 400:
		return Failure{Kind: Invalid}
	}
	return Failure{}
}

// denied is what an answer says of admission.
func denied(message string) Failure {
	if m := policyDenied.FindStringSubmatch(message); m != nil {
		by := m[1] + " " + m[2]
		if m[3] != "" {
			by += " (binding " + m[3] + ")"
		}
		return Failure{DeniedByPolicy, by}
	}
	if m := hookDenied.FindStringSubmatch(message); m != nil {
		return Failure{DeniedByWebhook, m[1]}
	}
	if m := podSecurity.FindStringSubmatch(message); m != nil {
		return Failure{DeniedByPodSecurity, m[1]}
	}
	if m := quotaDenied.FindStringSubmatch(message); m != nil {
		return Failure{DeniedByQuota, m[1]}
	}
	return Failure{}
}

// notHeld is what one reads who would give others rights that one has not.
var notHeld = regexp.MustCompile(`attempting to grant RBAC permissions not currently held`)

// aboutRights are messages of authorizers that say no more: a 403 of admission
// always says why.
var aboutRights = regexp.MustCompile(`(?:cannot [a-z]+ (?:resource|path) |forbidden: User "|^forbidden$|^unknown$|^$)`)

// unexpected: the answer was no Status of the API, so client-go made one up.
func unexpected(s metav1.Status) bool {
	if s.Details != nil {
		for _, c := range s.Details.Causes {
			if c.Type == metav1.CauseTypeUnexpectedServerResponse {
				return true
			}
		}
	}
	return false
}

// noCredentials is how client-go says that an exec plugin gave none; it has no
// type (client-go/plugin/pkg/client/auth/exec).
const noCredentials = "getting credentials: "

func unanswered(err error) Failure {
	var dns *net.DNSError
	var op *net.OpError
	var link *url.Error
	var unknownCA x509.UnknownAuthorityError
	var badCert x509.CertificateInvalidError
	var badHost x509.HostnameError
	var wait *WaitError
	switch {
	case errors.As(err, &wait):
		if errors.Is(wait.cause, context.Canceled) {
			return Failure{Kind: Interrupted}
		}
		return Failure{Kind: RanOut}
	case strings.Contains(err.Error(), noCredentials):
		return Failure{Kind: NotSignedIn}
	case errors.As(err, &unknownCA), errors.As(err, &badCert), errors.As(err, &badHost),
		strings.Contains(err.Error(), "x509: "):
		return Failure{Kind: Untrusted}
	case errors.Is(err, context.Canceled):
		return Failure{Kind: Interrupted}
	case errors.Is(err, ErrSilent), errors.Is(err, context.DeadlineExceeded):
		return Failure{Kind: RanOut}
	case errors.As(err, &dns):
		return Failure{Kind: Unreachable}
	case utilnet.IsTimeout(err):
		return Failure{Kind: RanOut}
	case utilnet.IsConnectionRefused(err), errors.Is(err, ErrBrokenOff), utilnet.IsConnectionReset(err),
		utilnet.IsProbableEOF(err), utilnet.IsHTTP2ConnectionLost(err), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.EPIPE),
		errors.As(err, &op), errors.As(err, &link):
		return Failure{Kind: Unreachable}
	}
	return Failure{}
}

// Denied: the API server would not do it.
func (f Failure) Denied() bool {
	switch f.Kind {
	case DeniedByRight, DeniedByPolicy, DeniedByWebhook, DeniedByPodSecurity, DeniedByQuota, DeniedByAdmission:
		return true
	}
	return false
}

// Passes: it may go away by itself, so that the call is worth repeating.
func (f Failure) Passes() bool {
	switch f.Kind {
	case BudgetSpent, Throttled, WebhookDown, ServerFailed, Conflicted, RanOut, Unreachable:
		return true
	}
	return false
}

// Lasts: no repetition makes it go away, only a person does.
func (f Failure) Lasts() bool {
	return f.Denied() || f.Kind == NotSignedIn || f.Kind == Untrusted || f.Kind == NotTheServer
}

// ToRead is what to do about something that could not be read: right, where it may
// not be; where it merely did not come, to ask again.
func ToRead(err error, right string) string {
	switch f := FailureOf(err); {
	case f.Passes():
		return "the API server did not give it now, and may later: look again"
	case f.Kind == NotSignedIn:
		return "log in again, and look again"
	}
	return right
}

// String says in a few words what it was; "": the error speaks for itself.
func (f Failure) String() string {
	switch f.Kind {
	case DeniedByRight:
		if f.By == "" {
			return "denied for want of a right"
		}
		return "denied for want of the right to " + f.By
	case DeniedByPolicy:
		return "denied by " + f.By
	case DeniedByWebhook:
		return "denied by the admission webhook " + f.By
	case DeniedByPodSecurity:
		return "denied by the pod security standard " + f.By + " of the namespace"
	case DeniedByQuota:
		return "denied by the ResourceQuota " + f.By
	case DeniedByAdmission:
		return "denied by the API server's admission"
	case BudgetSpent:
		return "a PodDisruptionBudget does not allow the eviction now"
	case Throttled:
		return "the API server throttles"
	case WebhookDown:
		return "the admission webhook " + f.By + " cannot be called"
	case ServerFailed:
		return "the API server failed"
	case Conflicted:
		return "the object was changed meanwhile"
	case RanOut:
		return "no answer came in time"
	case Unreachable:
		return "the connection failed"
	case Untrusted:
		return "the server's certificate is not trusted"
	case NotSignedIn:
		return "the credentials are not accepted"
	case NotTheServer:
		return "something else than the API server answered"
	case Invalid:
		return "the request is invalid"
	}
	return ""
}
