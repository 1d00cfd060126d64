package cluster_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/deploy"
	"irctl/internal/cluster"
)

// status is an answer of the API server.
func status(code int32, reason metav1.StatusReason, message string, causes ...metav1.StatusCause) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason,
		Message: message,
		Details: &metav1.StatusDetails{Causes: causes}}}
}

func TestFailureOf(t *testing.T) {
	const policy = `pods "p" is forbidden: ValidatingAdmissionPolicy 'no-labels' with binding 'no-labels-all' denied ` +
		`request: labels stay`
	dial := func(err error) error { return &url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: err}} }
	for name, c := range map[string]struct {
		err  error
		want cluster.Failure
		said string
	}{
		"no right": {status(403, metav1.StatusReasonForbidden, `deployments.apps "d" is forbidden: User "jane" `+
			`cannot patch resource "deployments/scale" in API group "apps" in the namespace "n"`),
			cluster.Failure{Kind: cluster.DeniedByRight, By: "patch deployments.apps/scale"},
			"denied for want of the right to patch deployments.apps/scale"},
		"no right to a path": {status(403, metav1.StatusReasonForbidden,
			`forbidden: User "jane" cannot get path "/metrics"`), cluster.Failure{Kind: cluster.DeniedByRight},
			"denied for want of a right"},
		"a policy, as it is by itself": {status(422, metav1.StatusReasonInvalid, policy),
			cluster.Failure{Kind: cluster.DeniedByPolicy,
				By: "ValidatingAdmissionPolicy no-labels (binding no-labels-all)"},
			"denied by ValidatingAdmissionPolicy no-labels (binding no-labels-all)"},
		"a policy that says 403": {status(403, metav1.StatusReasonForbidden, policy),
			cluster.Failure{Kind: cluster.DeniedByPolicy,
				By: "ValidatingAdmissionPolicy no-labels (binding no-labels-all)"}, "denied by"},
		"a policy that says 401": {status(401, metav1.StatusReasonUnauthorized, policy),
			cluster.Failure{Kind: cluster.DeniedByPolicy,
				By: "ValidatingAdmissionPolicy no-labels (binding no-labels-all)"}, "denied by"},
		"a policy that says 413": {status(413, metav1.StatusReasonRequestEntityTooLarge, policy),
			cluster.Failure{Kind: cluster.DeniedByPolicy,
				By: "ValidatingAdmissionPolicy no-labels (binding no-labels-all)"}, "denied by"},
		"a policy without a binding": {status(422, metav1.StatusReasonInvalid,
			`x is forbidden: ValidatingAdmissionPolicy 'p' denied request: no`),
			cluster.Failure{Kind: cluster.DeniedByPolicy, By: "ValidatingAdmissionPolicy p"}, "denied by"},
		"a webhook, 403": {status(403, metav1.StatusReasonForbidden,
			`admission webhook "w.example.com" denied the request: change freeze`),
			cluster.Failure{Kind: cluster.DeniedByWebhook, By: "w.example.com"},
			"denied by the admission webhook w.example.com"},
		"a webhook, 400": {status(400, metav1.StatusReasonBadRequest,
			`admission webhook "w.example.com" denied the request without explanation`),
			cluster.Failure{Kind: cluster.DeniedByWebhook, By: "w.example.com"}, "denied by"},
		"a webhook, 500": {status(500, "", `admission webhook "w.example.com" denied the request: no`),
			cluster.Failure{Kind: cluster.DeniedByWebhook, By: "w.example.com"}, "denied by"},
		"pod security": {status(403, metav1.StatusReasonForbidden,
			`pods "p" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true`),
			cluster.Failure{Kind: cluster.DeniedByPodSecurity, By: "restricted:latest"},
			"denied by the pod security standard restricted:latest"},
		"a quota": {status(403, metav1.StatusReasonForbidden,
			`pods "p" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=9, limited: pods=9`),
			cluster.Failure{Kind: cluster.DeniedByQuota, By: "compute"}, "denied by the ResourceQuota compute"},
		"a quota that wants limits": {status(403, metav1.StatusReasonForbidden,
			`pods "p" is forbidden: failed quota: compute: must specify limits.cpu`),
			cluster.Failure{Kind: cluster.DeniedByQuota, By: "compute"}, "denied by"},
		"a namespace that ends": {status(403, metav1.StatusReasonForbidden, `networkpolicies.networking.k8s.io "q" `+
			`is forbidden: unable to create new content in namespace n because it is being terminated`),
			cluster.Failure{Kind: cluster.DeniedByAdmission}, "denied by the API server's admission"},

		"an eviction": {status(429, metav1.StatusReasonTooManyRequests,
			"Cannot evict pod as it would violate the pod's disruption budget.",
			metav1.StatusCause{Type: policyv1.DisruptionBudgetCause}), cluster.Failure{Kind: cluster.BudgetSpent},
			"PodDisruptionBudget"},
		"429": {apierrors.NewTooManyRequests("Too many requests, please try again later.", 1),
			cluster.Failure{Kind: cluster.Throttled}, "throttles"},
		"429 in plain text": {apierrors.NewGenericServerResponse(429, "get", schema.GroupResource{}, "",
			"Too many requests, please try again later.", 1, true), cluster.Failure{Kind: cluster.Throttled},
			"throttles"},
		"a webhook that is down": {apierrors.NewInternalError(errors.New(`failed calling webhook "w.example.com": ` +
			`failed to call webhook: Post "https://w.n.svc:443/?timeout=10s": dial tcp 10.0.0.1:443: connect: ` +
			`connection refused`)),
			cluster.Failure{Kind: cluster.WebhookDown, By: "w.example.com"},
			"the admission webhook w.example.com cannot be called"},
		"500": {apierrors.NewInternalError(errors.New("etcdserver: leader changed")),
			cluster.Failure{Kind: cluster.ServerFailed}, "the API server failed"},
		"502": {apierrors.NewGenericServerResponse(502, "get", schema.GroupResource{}, "", "bad gateway", 0, true),
			cluster.Failure{Kind: cluster.ServerFailed}, "the API server failed"},
		"503": {apierrors.NewServiceUnavailable("no"), cluster.Failure{Kind: cluster.ServerFailed},
			"the API server failed"},
		"504": {apierrors.NewTimeoutError("etcdserver: request timed out", 1), cluster.Failure{Kind: cluster.RanOut},
			"no answer came in time"},
		"409": {apierrors.NewConflict(schema.GroupResource{}, "p", errors.New("modified")),
			cluster.Failure{Kind: cluster.Conflicted}, "changed meanwhile"},

		"422": {apierrors.NewInvalid(schema.GroupKind{}, "p", nil),
			cluster.Failure{Kind: cluster.Invalid}, "invalid"},
		"400": {apierrors.NewBadRequest("no"), cluster.Failure{Kind: cluster.Invalid},
			"invalid"},
		"a field of the wrong type": {status(500, "", `failed to create typed patch object (n/d; apps/v1, `+
			`Kind=Deployment): .spec.replicas: expected numeric (int or float), got string`),
			cluster.Failure{Kind: cluster.Invalid}, "invalid"},
		"404": {apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "p"),
			cluster.Failure{Kind: cluster.NotThere}, ""},
		"a group that is not served": {apierrors.NewGenericServerResponse(404, "get", schema.GroupResource{}, "",
			"404 page not found", 0, true), cluster.Failure{Kind: cluster.NotThere}, ""},
		"401": {apierrors.NewUnauthorized("Unauthorized"),
			cluster.Failure{Kind: cluster.NotSignedIn}, "the credentials are not accepted"},
		"no credentials to be had": {&url.Error{Op: "Get",
			Err: errors.New("getting credentials: exec: executable aws failed with exit code 255")},
			cluster.Failure{Kind: cluster.NotSignedIn}, "the credentials are not accepted"},
		"a proxy's 403": {apierrors.NewGenericServerResponse(403, "get", schema.GroupResource{}, "",
			"<html>Access denied by corporate policy", 0, true), cluster.Failure{Kind: cluster.NotTheServer},
			"something else than the API server answered"},
		"a proxy's 407": {apierrors.NewGenericServerResponse(407, "get", schema.GroupResource{}, "",
			"log in", 0, true), cluster.Failure{Kind: cluster.NotTheServer}, "something else"},
		"an unknown CA": {&url.Error{Err: x509.UnknownAuthorityError{}},
			cluster.Failure{Kind: cluster.Untrusted}, "certificate"},
		"nobody listens": {dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)),
			cluster.Failure{Kind: cluster.Unreachable}, "the connection failed"},
		"no such name": {dial(&net.DNSError{Name: "x"}), cluster.Failure{Kind: cluster.Unreachable},
			"the connection failed"},
		"a connection that breaks": {&url.Error{Err: io.EOF}, cluster.Failure{Kind: cluster.Unreachable},
			"the connection failed"},
		"a dial that takes too long": {dial(os.ErrDeadlineExceeded), cluster.Failure{Kind: cluster.RanOut},
			"no answer came in time"},
		"silence": {&url.Error{Err: fmt.Errorf("%w: nothing came for 10s", cluster.ErrSilent)},
			cluster.Failure{Kind: cluster.RanOut}, "no answer came in time"},
		"the end of the time": {context.DeadlineExceeded, cluster.Failure{Kind: cluster.RanOut},
			"no answer came in time"},
		"an interruption": {&url.Error{Err: context.Canceled}, cluster.Failure{Kind: cluster.Interrupted},
			""},
		"what is no failure of the API": {errors.New("no such step"), cluster.Failure{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, err := range []error{c.err, fmt.Errorf("doing something: %w", c.err)} {
				got := cluster.FailureOf(err)
				if got != c.want || !strings.Contains(got.String(), c.said) || c.said == "" && got.String() != "" {
					t.Errorf("%v: got %#v %q; want %#v %q", err, got, got, c.want, c.said)
				}
				if got.Denied() && (got.Passes() || !got.Lasts()) {
					t.Errorf("%#v is denied, and passes", got)
				}
			}
			switch f := cluster.FailureOf(c.err); {
			case f.Denied() != strings.HasPrefix(f.String(), "denied"):
				t.Errorf("%q, denied %t", f, f.Denied())
			case strings.Contains(f.String(), "refused"):
				t.Errorf("%q: that is what irctl would not do", f)
			case f.Kind != cluster.Other && f.Kind != cluster.Interrupted && f.Kind != cluster.NotThere &&
				f.Kind != cluster.Conflicted &&
				f.Kind != cluster.Invalid && f.Kind != cluster.ServerFailed &&
				cluster.Explain(c.err, deploy.RoleFor) == "":
				t.Errorf("%q: nobody is told what to do", f)
			}
		})
	}
}

// TestWhatPasses: those are repeated, and no others.
func TestWhatPasses(t *testing.T) {
	passing := map[cluster.FailureKind]bool{cluster.BudgetSpent: true, cluster.Throttled: true,
		cluster.WebhookDown: true, cluster.ServerFailed: true,
		cluster.Conflicted: true, cluster.RanOut: true, cluster.Unreachable: true}
	for _, k := range []cluster.FailureKind{cluster.DeniedByRight, cluster.DeniedByPolicy, cluster.DeniedByWebhook,
		cluster.DeniedByPodSecurity,
		cluster.DeniedByQuota, cluster.DeniedByAdmission, cluster.BudgetSpent, cluster.Throttled, cluster.WebhookDown,
		cluster.ServerFailed,
		cluster.Conflicted, cluster.RanOut, cluster.Unreachable, cluster.Untrusted, cluster.NotSignedIn,
		cluster.NotTheServer, cluster.Invalid,
		cluster.NotThere, cluster.Interrupted, cluster.Other} {
		if got := (cluster.Failure{Kind: k}).Passes(); got != passing[k] {
			t.Errorf("%q passes: %t", k, got)
		}
	}
	if code := http.StatusUnprocessableEntity; cluster.FailureOf(status(int32(code), metav1.StatusReasonInvalid, "no")).
		Passes() {
		t.Error("an object that is invalid is sent again")
	}
}
