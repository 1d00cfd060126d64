// Package cluster reads a Kubernetes cluster: clients, targets and the chain
// of their owners, the objects around them, the identity behind the
// credentials and the rights it has. It writes nothing, except the reviews
// with which one asks an API server about oneself.
package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Client holds the connections to one cluster.
type Client struct {
	// Config is the connection as it was given. The others try reads again, which
	// must not be done with what is upgraded to a stream.
	Config    *rest.Config
	Kube      kubernetes.Interface
	Dynamic   dynamic.Interface
	Discovery discovery.DiscoveryInterface
	// Limits bound every request, but those that stream.
	Limits Limits

	clock *serverClock
	waits *waits
}

// New makes a client. It does not connect. Client-side throttling is off:
// the server's own priority and fairness says when to slow down, and its
// Retry-After is obeyed. The config is copied.
func New(config *rest.Config) (*Client, error) { return NewWithin(config, DefaultLimits) }

// NewWithin is New with other limits.
func NewWithin(config *rest.Config, limits Limits) (*Client, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	if config.UserAgent == "" {
		config.UserAgent = "irctl"
	}
	given := rest.CopyConfig(config)
	clock, waits := &serverClock{}, &waits{}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			sent := time.Now()
			resp, err := next.RoundTrip(r)
			if err == nil {
				clock.observe(sent, time.Now(), resp.Header.Get("Date"))
			}
			return resp, err
		})
	})
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return retryReads(limits.bound(waits, next)) })
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", config.Host, err)
	}
	// Outside of what adds the credentials, so that the second attempt has new ones.
	httpClient = &http.Client{Transport: renewOnce(renews(config), howToSignIn(config), httpClient.Transport),
		Timeout: httpClient.Timeout}
	kube, err := kubernetes.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", config.Host, err)
	}
	dyn, err := dynamic.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", config.Host, err)
	}
	return &Client{Config: given, Kube: kube, Dynamic: dyn, Discovery: kube.Discovery(), Limits: limits, clock: clock,
		waits: waits}, nil
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// serverClock estimates how far the server's clock is from ours by the Date
// header of its answers, keeping the estimate with the shortest round trip.
type serverClock struct {
	mu     sync.Mutex
	trip   time.Duration
	offset time.Duration
	known  bool
}

func (c *serverClock) observe(sent, received time.Time, date string) {
	server, err := http.ParseTime(date)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	trip := received.Sub(sent)
	if c.known && trip >= c.trip {
		return
	}
	// Date has whole seconds, cut off: on average the truth is half a second later.
	c.known, c.trip = true, trip
	c.offset = server.Add(500 * time.Millisecond).Sub(sent.Add(trip / 2))
}

// ClockOffset is how much the API server's clock is ahead of this machine's,
// to within a second; known is false before the first answer.
func (c *Client) ClockOffset() (offset time.Duration, known bool) {
	c.clock.mu.Lock()
	defer c.clock.mu.Unlock()
	return c.clock.offset, c.clock.known
}

// Identity is who the API server says we are, and which cluster it is.
type Identity struct {
	// Server is the URL of the API server.
	Server string
	// ClusterUID is the UID of the kube-system namespace, the customary
	// identity of a cluster; empty if it may not be read.
	ClusterUID string
	// User and Groups are what SelfSubjectReview answers, empty where the
	// server does not know that API (before 1.28) or denies it.
	User   string
	Groups []string
	// Version is the server's version.
	Version string
}

// Identify asks the server who we are and which cluster it is. The error is
// that of reaching the server at all; what merely is forbidden stays empty.
func (c *Client) Identify(ctx context.Context) (Identity, error) {
	id := Identity{Server: c.Config.Host}
	var wg sync.WaitGroup
	var versionErr error
	wg.Go(func() {
		// Discovery's own ServerVersion takes no context.
		body, err := c.Kube.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
		if err != nil {
			versionErr = err
			return
		}
		var v version.Info
		if versionErr = json.Unmarshal(body, &v); versionErr == nil {
			id.Version = v.GitVersion
		}
	})
	wg.Go(func() {
		if ns, err := c.Kube.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{}); err == nil {
			id.ClusterUID = string(ns.UID)
		}
	})
	wg.Go(func() {
		review, err := c.Kube.AuthenticationV1().SelfSubjectReviews().
			Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err == nil {
			id.User, id.Groups = review.Status.UserInfo.Username, review.Status.UserInfo.Groups
		}
	})
	wg.Wait()
	if versionErr != nil && id.User == "" && id.ClusterUID == "" {
		return id, fmt.Errorf("reaching the API server %s: %w", id.Server, versionErr)
	}
	return id, nil
}
