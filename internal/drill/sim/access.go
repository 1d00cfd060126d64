package sim

import (
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Rule denies requests; "*" or "" stands for all of them.
type Rule struct{ Verb, Group, Resource, Namespace string }

func (r Rule) covers(q Request) bool {
	for _, p := range [][2]string{{r.Verb, q.Verb}, {r.Group, q.Group}, {r.Resource, q.Resource},
		{r.Namespace, q.Namespace}} {
		if p[0] != "" && p[0] != "*" && p[0] != p[1] {
			return false
		}
	}
	return true
}

// Deny takes a right away, from now on.
func (c *Cluster) Deny(r Rule) {
	c.authMu.Lock()
	defer c.authMu.Unlock()
	c.denied = append(c.denied, r)
}

// Expire makes the credentials worthless, from now on.
func (c *Cluster) Expire() {
	c.authMu.Lock()
	defer c.authMu.Unlock()
	c.expired = true
}

func (c *Cluster) authenticate(hr *http.Request) error {
	c.authMu.Lock()
	defer c.authMu.Unlock()
	if c.expired || c.opts.Token != "" && hr.Header.Get("Authorization") != "Bearer "+c.opts.Token {
		return apierrors.NewUnauthorized("Unauthorized")
	}
	return nil
}

func (c *Cluster) forbidden(q Request) bool {
	c.authMu.Lock()
	defer c.authMu.Unlock()
	for _, r := range c.denied {
		if r.covers(q) {
			return true
		}
	}
	return false
}

// errForbidden has the words of the real server's RBAC authorizer.
func (c *Cluster) errForbidden(q Request) error {
	where := fmt.Sprintf("in the namespace %q", q.Namespace)
	if q.Namespace == "" {
		where = "at the cluster scope"
	}
	resource, _, _ := strings.Cut(q.Resource, "/")
	return apierrors.NewForbidden(schema.GroupResource{Group: q.Group, Resource: resource}, q.Name,
		fmt.Errorf("User %q cannot %s resource %q in API group %q %s", c.opts.User, q.Verb, q.Resource, q.Group, where))
}

// Throttled is a 429 that asks to come again after some seconds.
func Throttled(seconds int) *apierrors.StatusError {
	return apierrors.NewTooManyRequests("too many requests, please try again later", seconds)
}

// Broken is a 500.
func Broken() *apierrors.StatusError {
	return apierrors.NewInternalError(fmt.Errorf("etcdserver: leader changed"))
}

// Unavailable is a 503.
func Unavailable() *apierrors.StatusError {
	return apierrors.NewServiceUnavailable("the server is currently unable to handle the request")
}

// Denied is the answer of an admission webhook that says no.
func Denied(webhook, why string) *apierrors.StatusError {
	e := apierrors.NewBadRequest(fmt.Sprintf("admission webhook %q denied the request: %s", webhook, why))
	e.ErrStatus.Reason, e.ErrStatus.Code = "", http.StatusForbidden
	return e
}

// Kubeconfig is one that leads to the server at a URL, with the authority
// that signed its certificate, PEM encoded; "" where it has none.
func (c *Cluster) Kubeconfig(url, authority string) string {
	trust := ""
	if authority != "" {
		trust = fmt.Sprintf(", certificate-authority-data: %s", base64Text(authority))
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: %[1]s
clusters:
- {name: %[1]s, cluster: {server: %[2]q%[3]s}}
users:
- {name: responder, user: {token: %[4]q}}
contexts:
- {name: %[1]s, context: {cluster: %[1]s, user: responder, namespace: todo-app}}
`, c.opts.Name, url, trust, c.opts.Token)
}
