package detect

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// event is an audit event of kubectl's on behalf of a user, changed by edits of
// the form path=value, which are what the API server would have logged instead.
func event(t *testing.T, user string, edits map[string]any) []byte {
	t.Helper()
	e := map[string]any{"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "a",
		"stage": "ResponseComplete", "requestURI": "/", "verb": "get",
		"user":      map[string]any{"username": user, "groups": []string{"system:authenticated"}},
		"sourceIPs": []string{"10.213.0.1"}, "userAgent": "kubectl/v1.37.2",
		"responseStatus":           map[string]any{"metadata": map[string]any{}, "code": 200},
		"requestReceivedTimestamp": "2026-02-12T09:35:37.175874Z"}
	for k, v := range edits {
		e[k] = v
	}
	line, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func object(resource, namespace, name, subresource string) map[string]any {
	return map[string]any{"resource": resource, "namespace": namespace, "name": name, "subresource": subresource,
		"apiVersion": "v1"}
}

func rbac(resource, name string) map[string]any {
	return map[string]any{"resource": resource, "name": name, "apiGroup": "rbac.authorization.k8s.io",
		"apiVersion": "v1"}
}

func status(code int) map[string]any { return map[string]any{"code": code} }

func TestAuditDetectors(t *testing.T) {
	const account, controller, node = "system:serviceaccount:shop:cart",
		"system:serviceaccount:kube-system:generic-garbage-collector", "system:node:node-1"
	bound := map[string]any{"username": account, "groups": []string{"system:serviceaccounts"}, "extra": map[string]any{
		"authentication.kubernetes.io/pod-name":  []string{"cart-1"},
		"authentication.kubernetes.io/pod-uid":   []string{"u-1"},
		"authentication.kubernetes.io/node-name": []string{"node-1"}}}
	anonymous := map[string]any{"username": "system:anonymous", "groups": []string{"system:unauthenticated"}}
	type edits = map[string]any
	binding := func(role string, subjects ...string) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"roleRef":{"kind":"ClusterRole","name":%q},"subjects":[%s]}`, role,
			strings.Join(subjects, ",")))
	}
	for name, tt := range map[string]struct {
		user  string
		edits edits
		want  string // "code severity suspect-kind suspect", several joined by "; "
	}{
		"exec by a person": {"jane",
			edits{"objectRef": object("pods", "shop", "cart-1", "exec"),
				"requestURI": "/x/exec?command=sh&command=-c&command=id&container=cart", "responseStatus": status(101)},
			"exec medium pod shop/cart-1"},
		"exec with create, as of old": {"jane",
			edits{"verb": "create", "objectRef": object("pods", "shop", "cart-1", "exec")},
			"exec medium pod shop/cart-1"},
		"exec by a program": {account, edits{"objectRef": object("pods", "shop", "db-0", "exec")},
			"exec high pod shop/db-0"},
		"exec that was refused": {account, edits{"objectRef": object("pods", "shop", "db-0", "exec"),
			"responseStatus": status(403)}, "exec high pod shop/db-0"},
		"attach": {"jane", edits{"objectRef": object("pods", "shop", "cart-1", "attach")},
			"attach medium pod shop/cart-1"},
		"port-forward": {"jane", edits{"objectRef": object("pods", "shop", "cart-1", "portforward")},
			"port-forward medium pod shop/cart-1"},
		"reading logs is harmless": {"jane", edits{"objectRef": object("pods", "shop", "cart-1", "log")}, ""},
		"an ephemeral container": {"jane",
			edits{"verb": "patch", "objectRef": object("pods", "shop", "cart-1", "ephemeralcontainers")},
			"debug-container medium pod shop/cart-1"},
		"an ephemeral one by a program": {account,
			edits{"verb": "patch", "objectRef": object("pods", "shop", "db-0", "ephemeralcontainers")},
			"debug-container high pod shop/db-0"},
		"through the kubelet": {"jane", edits{"objectRef": object("nodes", "", "node-1", "proxy"),
			"requestURI": "/api/v1/nodes/node-1/proxy/run/shop/db-0/postgres?cmd=id"}, "node-proxy high pod shop/db-0"},
		"metrics of a kubelet": {account, edits{"objectRef": object("nodes", "", "node-1", "proxy"),
			"requestURI": "/api/v1/nodes/node-1/proxy/metrics"}, ""},
		"a secret, read by a person": {"jane", edits{"objectRef": object("secrets", "shop", "db", "")},
			"secret-read low user jane"},
		"a secret, read by a program": {account, edits{"objectRef": object("secrets", "shop", "db", "")},
			"secret-read medium serviceaccount shop/cart"},
		"secrets of a namespace": {"jane",
			edits{"verb": "list", "objectRef": object("secrets", "shop", "", "")}, "secret-read medium user jane"},
		"secrets of the cluster": {account, edits{"verb": "list", "objectRef": object("secrets", "", "", "")},
			"secret-read medium serviceaccount shop/cart"},
		"secrets that a program may not": {account, edits{"verb": "list", "objectRef": object("secrets", "", "", ""),
			"responseStatus": status(403)}, "secret-denied high serviceaccount shop/cart"},
		"a pod's own token tells the pod": {"",
			edits{"user": bound, "verb": "list", "objectRef": object("secrets", "", "", ""),
				"responseStatus": status(403)}, "secret-denied high pod shop/cart-1"},
		"a controller's daily work": {controller,
			edits{"verb": "watch", "objectRef": object("secrets", "", "", "")},
			"secret-read info serviceaccount kube-system/generic-garbage-collector"},
		"the kubelet's daily work": {node,
			edits{"verb": "get", "objectRef": object("secrets", "shop", "db", "")}, ""},
		"a secret is written": {"jane",
			edits{"verb": "create", "objectRef": object("secrets", "shop", "db", "")}, ""},
		"a role": {"jane",
			edits{"verb": "create", "objectRef": map[string]any{"resource": "roles", "namespace": "shop", "name": "r",
				"apiGroup": "rbac.authorization.k8s.io"}}, "rbac-change medium user jane"},
		"a cluster role with everything": {"jane",
			edits{"verb": "patch", "objectRef": rbac("clusterroles", "r"),
				"requestObject": json.RawMessage(`{"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}`)},
			"rbac-change high user jane"},
		"cluster-admin is bound": {account,
			edits{"verb": "create", "objectRef": rbac("clusterrolebindings", "b"),
				"requestObject": binding("cluster-admin", `{"kind":"ServiceAccount","name":"x"}`)},
			"rbac-change high serviceaccount shop/cart"},
		"something is bound to everybody": {"jane",
			edits{"verb": "create", "objectRef": rbac("clusterrolebindings", "b"),
				"requestObject": binding("view", `{"kind":"Group","name":"system:unauthenticated"}`)},
			"rbac-change critical user jane"},
		"cluster-admin, refused": {"jane",
			edits{"verb": "create", "objectRef": rbac("clusterrolebindings", "b"),
				"requestObject": binding("cluster-admin"), "responseStatus": status(403)},
			"rbac-change medium user jane"},
		"reading roles is harmless": {"jane", edits{"verb": "list", "objectRef": rbac("clusterroles", "")}, ""},
		"the API server's own roles": {"system:apiserver",
			edits{"verb": "create", "objectRef": rbac("clusterroles", "view")}, ""},
		"anonymous, and it was answered": {"",
			edits{"user": anonymous, "requestURI": "/api/v1/namespaces/shop/configmaps",
				"objectRef": object("configmaps", "shop", "", "")}, "anonymous high user system:anonymous"},
		"anonymous, and refused": {"", edits{"user": anonymous, "requestURI": "/api",
			"responseStatus": status(403)}, "anonymous low user system:anonymous"},
		"a probe": {"", edits{"user": anonymous, "requestURI": "/livez?verbose"}, ""},
		"a probe of one check": {"", edits{"user": anonymous, "requestURI": "/readyz/etcd",
			"responseStatus": status(500)}, ""},
		"something that begins like one": {"", edits{"user": anonymous, "requestURI": "/livezz",
			"responseStatus": status(403)}, "anonymous low user system:anonymous"},
		"a node that joins": {"",
			edits{"user": anonymous, "requestURI": "/api/v1/namespaces/kube-public/configmaps/cluster-info",
				"objectRef": object("configmaps", "kube-public", "cluster-info", "")}, ""},
		"a token, by a person": {"jane",
			edits{"verb": "create", "objectRef": object("serviceaccounts", "shop", "cart", "token")},
			"token-request medium user jane"},
		"a token, by a program": {account,
			edits{"verb": "create", "objectRef": object("serviceaccounts", "kube-system", "admin", "token")},
			"token-request high serviceaccount shop/cart"},
		"a token for a pod": {node,
			edits{"verb": "create", "objectRef": object("serviceaccounts", "shop", "cart", "token")}, ""},
		"from outside, a person": {"jane", edits{"sourceIPs": []string{"203.0.113.9"}},
			"outside-address low user jane"},
		"from outside, a program": {account, edits{"sourceIPs": []string{"203.0.113.9"}},
			"outside-address medium serviceaccount shop/cart"},
		"from outside, a pod's token": {"", edits{"user": bound, "sourceIPs": []string{"203.0.113.9"}},
			"outside-address critical pod shop/cart-1"},
		"what a client claims is ignored": {"jane", edits{"sourceIPs": []string{"203.0.113.9", "10.0.0.7"}}, ""},
		"and cannot hide the truth": {"jane", edits{"sourceIPs": []string{"10.0.0.7", "2001:db8::1"}},
			"outside-address low user jane"},
		"a known network":               {"jane", edits{"sourceIPs": []string{"198.51.100.7"}}, ""},
		"an address in a longer form":   {"jane", edits{"sourceIPs": []string{"::ffff:10.0.0.7"}}, ""},
		"no address, malformed address": {"jane", edits{"sourceIPs": []string{"somewhere"}}, ""},
		"two things at once": {"jane", edits{"objectRef": object("pods", "shop", "cart-1", "exec"),
			"sourceIPs": []string{"203.0.113.9"}}, "exec medium pod shop/cart-1; outside-address low user jane"},
		"it was only received yet": {"jane", edits{"stage": "RequestReceived",
			"objectRef": object("pods", "shop", "cart-1", "exec")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			r := newAuditReader(append(Inside[:len(Inside):len(Inside)], netip.MustParsePrefix("198.51.100.0/24")))
			err := r.parse(event(t, tt.user, tt.edits), true, func(f Finding) {
				if f.Technique.ID == "" || f.FirstSeen.IsZero() || f.Reason == "" {
					t.Errorf("%+v is incomplete", f)
				}
				kind, name := f.Subject.Suspect()
				got = append(got, fmt.Sprintf("%s %s %s %s", f.Code, f.Score.Severity(), kind, name))
			})
			if text := strings.Join(got, "; "); err != nil || text != tt.want {
				t.Errorf("got %q (%v), want %q", text, err, tt.want)
			}
		})
	}
}

func TestALastingRequestIsCountedOnce(t *testing.T) {
	r := newAuditReader(Inside)
	n := 0
	for _, e := range []struct{ id, stage string }{{"a", "ResponseStarted"}, {"b", "ResponseStarted"},
		{"a", "ResponseComplete"}, {"b", "ResponseComplete"}, {"c", "ResponseComplete"}, {"d", "Panic"}} {
		line := event(t, "jane", map[string]any{"auditID": e.id, "stage": e.stage,
			"objectRef": object("pods", "shop", "cart-1", "exec")})
		if err := r.parse(line, true, func(Finding) { n++ }); err != nil {
			t.Fatal(err)
		}
	}
	if n != 4 {
		t.Errorf("4 requests were counted as %d", n)
	}
}

func TestPaddingHidesNothing(t *testing.T) {
	// What comes after the first megabyte is not read: here, the rules, and the time.
	line := event(t, "jane", map[string]any{"verb": "create", "objectRef": rbac("clusterroles", "r"),
		"requestObject": map[string]any{"padding": strings.Repeat("x", MaxLine)}})
	var found []Finding
	r := NewRun(Request{Inputs: []Input{{Source: SourceAudit, Path: "log",
		Reader: strings.NewReader(string(reorder(line)) + "\n")}}}, func(f Finding) { found = append(found, f) })
	r.ReadInputs(t.Context())
	if report := r.Result().Sources[0]; report.Long != 1 || report.Malformed != 0 || len(found) != 1 ||
		found[0].Code != "rbac-change" {
		t.Errorf("%+v, %+v", report, found)
	}
}

// reorder puts the members of an event into the order of the API server's own type.
func reorder(line []byte) []byte {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(line, &m); err != nil {
		panic(err)
	}
	var parts []string
	for _, k := range []string{"kind", "apiVersion", "level", "auditID", "stage", "requestURI", "verb", "user",
		"sourceIPs", "userAgent", "objectRef", "responseStatus", "requestObject", "requestReceivedTimestamp"} {
		parts = append(parts, fmt.Sprintf("%q:%s", k, m[k]))
	}
	return []byte("{" + strings.Join(parts, ",") + "}")
}

func TestWhatIsNoAuditEvent(t *testing.T) {
	for _, line := range []string{``, `x`, `{}`, `[]`, `null`, `{"kind":"Event","apiVersion":"v1"}`, `{"kind":"Event"`,
		`{"kind":"Event","apiVersion":"audit.k8s.io/v1"} trailing`,
		`{"kind":"Event","apiVersion":"audit.k8s.io/v1","user":{"username":"system:anonymous","groups":7},` +
			`"requestURI":"/api"}`} {
		if err := newAuditReader(Inside).parse([]byte(line), true, func(f Finding) {
			t.Errorf("%q: %+v", line, f)
		}); err == nil {
			t.Errorf("%q was taken for one", line)
		}
	}
}
