package netpol_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"irctl/internal/cluster/netpol"
)

// pods of the tests: the suspect, and those it may talk with.
var (
	suspect = netpol.Pod{Namespace: "todo-app", NamespaceLabels: map[string]string{"team": "todo"},
		Labels: map[string]string{"app": "backend", "tier": "api"}, IP: "10.0.0.5",
		Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080},
			{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}}}
	frontend = netpol.Pod{Namespace: "todo-app", NamespaceLabels: map[string]string{"team": "todo"},
		Labels: map[string]string{"app": "frontend"}, IP: "10.0.0.6",
		Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80}}}
	stranger = netpol.Pod{Namespace: "other", NamespaceLabels: map[string]string{"team": "other"},
		Labels: map[string]string{"app": "frontend"}, IP: "10.0.9.6"}
	outside = netpol.Pod{IP: "203.0.113.7"}
)

func policies(t *testing.T, specs ...string) []networkingv1.NetworkPolicy {
	t.Helper()
	var list []networkingv1.NetworkPolicy
	for i, s := range specs {
		p := networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "todo-app",
			Name: string(rune('a' + i))}}
		if err := yaml.UnmarshalStrict([]byte(s), &p.Spec); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		list = append(list, p)
	}
	return list
}

// TestSemantics is a truth table: which of the peers may connect to the
// suspect (port 8080), and which it may connect to (port 80).
func TestSemantics(t *testing.T) {
	const none, all = "", "frontend stranger outside"
	for name, c := range map[string]struct {
		policies []string
		in, out  string
	}{
		"no policy": {nil, all, all},
		"a policy for others": {[]string{`{podSelector: {matchLabels: {app: frontend}}}`}, all,
			all},
		"an empty selector selects every pod":        {[]string{`{podSelector: {}}`}, none, all},
		"no types and no egress rules: ingress only": {[]string{`{podSelector: {}, ingress: [{}]}`}, all, all},
		"no types and egress rules: both":            {[]string{`{podSelector: {}, egress: [{}]}`}, none, all},
		"no types and an empty egress: ingress only": {[]string{`{podSelector: {}, egress: []}`}, none, all},
		"egress alone": {[]string{`{podSelector: {}, policyTypes: [Egress]}`}, all, none},
		"egress alone ignores ingress rules": {[]string{`{podSelector: {}, policyTypes: [Egress], ingress: ` +
			`[{from: [{podSelector: {}}]}]}`}, all, none},
		"both": {[]string{`{podSelector: {}, policyTypes: [Ingress, Egress]}`},
			none, none},
		"policies add up": {[]string{`{podSelector: {}, policyTypes: [Ingress, Egress]}`,
			`{podSelector: {matchLabels: {app: backend}}, ingress: [{from: [{podSelector: {matchLabels: {app: ` +
				`frontend}}}]}]}`}, "frontend", none},
		"an empty rule lets everyone in": {[]string{`{podSelector: {}, ingress: [{}]}`}, all, all},
		"an empty from lets everyone in": {[]string{`{podSelector: {}, ingress: [{from: []}]}`}, all, all},
		"pods of the same namespace": {[]string{`{podSelector: {}, ingress: [{from: [{podSelector: ` +
			`{}}]}]}`}, "frontend", all},
		"pods of any namespace": {[]string{`{podSelector: {}, ingress: [{from: ` +
			`[{namespaceSelector: {}}]}]}`}, "frontend stranger", all},
		"pods of a namespace by its labels": {[]string{`{podSelector: {}, ingress: [{from: ` +
			`[{namespaceSelector: {matchLabels: {team: other}}}]}]}`}, "stranger", all},
		"both selectors must match": {[]string{`{podSelector: {}, ingress: [{from: ` +
			`[{namespaceSelector: {matchLabels: {team: other}}, podSelector: {matchLabels: {app: db}}}]}]}`}, none,
			all},
		"two peers are alternatives": {[]string{`{podSelector: {}, ingress: [{from: ` +
			`[{namespaceSelector: {matchLabels: {team: other}}}, {podSelector: {matchLabels: {app: frontend}}}]}]}`},
			"frontend stranger", all},
		"an address range": {[]string{`{podSelector: {}, policyTypes: [Egress], egress: ` +
			`[{to: [{ipBlock: {cidr: 10.0.0.0/16}}]}]}`}, all, "frontend stranger"},
		"an address range with an exception": {[]string{`{podSelector: {}, policyTypes: [Egress], egress: ` +
			`[{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/16]}}]}]}`}, all, "outside"},
		"an address range of the other family": {[]string{`{podSelector: {}, policyTypes: [Egress], egress: ` +
			`[{to: [{ipBlock: {cidr: "::/0"}}]}]}`}, all, none},
		"the port": {[]string{`{podSelector: {}, policyTypes: [Ingress, Egress], ` +
			`ingress: [{ports: [{port: 8080}]}], egress: [{ports: [{port: 80}]}]}`}, all, all},
		"another port": {[]string{`{podSelector: {}, policyTypes: [Ingress, Egress], ` +
			`ingress: [{ports: [{port: 8081}]}], egress: [{ports: [{port: 8080}]}]}`}, none, none},
		"another protocol": {[]string{`{podSelector: {}, policyTypes: [Ingress], ingress: ` +
			`[{ports: [{port: 8080, protocol: UDP}]}]}`}, none, all},
		"every port of a protocol": {[]string{`{podSelector: {}, policyTypes: [Ingress], ingress: ` +
			`[{ports: [{protocol: TCP}]}]}`}, all, all},
		"a range of ports": {[]string{`{podSelector: {}, policyTypes: [Ingress, Egress], ` +
			`ingress: [{ports: [{port: 8000, endPort: 8080}]}], egress: [{ports: [{port: 81, endPort: 90}]}]}`}, all,
			none},
		"a named port is the receiver's": {[]string{`{podSelector: {}, policyTypes: [Ingress, Egress], ` +
			`ingress: [{ports: [{port: web}]}], egress: [{ports: [{port: web}]}]}`}, all, "frontend"},
		"a named port of another protocol": {[]string{`{podSelector: {}, policyTypes: [Ingress], ingress: ` +
			`[{ports: [{port: dns, protocol: UDP}]}]}`}, none, all},
		"peer and port of one rule must both match": {[]string{`{podSelector: {}, ingress: [{from: [{podSelector: ` +
			`{}}], ports: [{port: 1}]}, {from: [{namespaceSelector: {matchLabels: {team: other}}}], ports: [{port: ` +
			`8080}]}]}`}, "stranger", all},
		"selected by an expression": {[]string{`{podSelector: {matchExpressions: [{key: app, operator: In, ` +
			`values: [backend, db]}, {key: quarantine, operator: DoesNotExist}]}}`}, none, all},
		"not selected by an expression": {[]string{`{podSelector: {matchExpressions: [{key: app, operator: NotIn, ` +
			`values: [backend]}]}}`}, all, all},
	} {
		t.Run(name, func(t *testing.T) {
			v := netpol.Evaluate(suspect, policies(t, c.policies...))
			var in, out []string
			for _, peer := range []struct {
				name string
				pod  netpol.Pod
			}{{"frontend", frontend}, {"stranger", stranger}, {"outside", outside}} {
				if v.Admits(suspect, peer.pod, corev1.ProtocolTCP, 8080) {
					in = append(in, peer.name)
				}
				if v.Reaches(suspect, peer.pod, corev1.ProtocolTCP, 80) {
					out = append(out, peer.name)
				}
			}
			if got := strings.Join(in, " "); got != c.in {
				t.Errorf("in: %q; want %q", got, c.in)
			}
			if got := strings.Join(out, " "); got != c.out {
				t.Errorf("out: %q; want %q", got, c.out)
			}
			if closed := c.in == none && c.out == none &&
				!strings.Contains(strings.Join(c.policies, ""), "ports"); closed != v.Closed() {
				t.Errorf("closed: %t", v.Closed())
			}
		})
	}
}

func TestPoliciesOfOtherNamespacesSayNothing(t *testing.T) {
	list := policies(t, `{podSelector: {}}`)
	list[0].Namespace = "other"
	if v := netpol.Evaluate(suspect, list); v.Ingress.Isolated || len(v.Selecting) != 0 {
		t.Errorf("%+v", v)
	}
}

func TestAnUnreadableSelectorIsAnOpening(t *testing.T) {
	v := netpol.Evaluate(suspect, policies(t, `{podSelector: {}, policyTypes: [Ingress, Egress]}`,
		`{podSelector: {matchExpressions: [{key: app, operator: Like, values: [x]}]}}`))
	if v.Closed() || len(v.Ingress.Open) != 1 || len(v.Egress.Open) != 1 || !cmp.Equal(v.Unreadable, []string{"b"}) {
		t.Errorf("%+v", v)
	}
}

func TestOpeningsSayWhatIsOpenAndWhatWouldCloseIt(t *testing.T) {
	for name, c := range map[string]struct {
		spec             string
		peers, ports, by string
		keys             []string
	}{
		"everyone": {`{podSelector: {}, ingress: [{}]}`, "everyone", "all ports", "every pod of the namespace", nil},
		"by a label": {`{podSelector: {matchLabels: {app: backend}}, ingress: [{from: [{podSelector: {matchLabels: ` +
			`{app: frontend}}}], ports: [{port: 80}, {port: web, protocol: TCP}, {protocol: UDP, port: 1, endPort: ` +
			`9}, {protocol: SCTP}]}]}`,
			"pods app=frontend in namespace todo-app", "TCP/80, TCP/web, UDP/1-9, SCTP, every port", "app=backend",
			[]string{"app"}},
		"by a label that is there and one that is not": {`{podSelector: {matchExpressions: [{key: tier, operator: ` +
			`Exists}, {key: quarantine, operator: DoesNotExist}]}, ingress: [{from: [{namespaceSelector: {}}]}]}`,
			"all pods in any namespace", "all ports", "!quarantine,tier", []string{"tier"}},
		"by what is not there": {`{podSelector: {matchExpressions: [{key: safe, operator: DoesNotExist}]}, ingress: ` +
			`[{from: [{namespaceSelector: {matchLabels: {a: b}}, podSelector: {matchLabels: {c: d}}}]}]}`,
			"pods c=d in namespaces a=b", "all ports", "!safe", nil},
		"addresses": {`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, ` +
			`192.168.0.0/16]}}, {ipBlock: {cidr: 10.1.0.0/16}}]}]}`,
			"0.0.0.0/0 except 10.0.0.0/8, 192.168.0.0/16, 10.1.0.0/16", "all ports", "every pod of the namespace", nil},
	} {
		t.Run(name, func(t *testing.T) {
			open := netpol.Evaluate(suspect, policies(t, c.spec)).Ingress.Open
			if len(open) != 1 {
				t.Fatalf("%+v", open)
			}
			o := open[0]
			for got, want := range map[string]string{o.Peers: c.peers, o.Ports: c.ports, o.SelectedBy: c.by} {
				if got != want {
					t.Errorf("got %q; want %q", got, want)
				}
			}
			if !slices.Equal(o.LabelKeys, c.keys) {
				t.Errorf("label keys %q; want %q", o.LabelKeys, c.keys)
			}
		})
	}
}

func TestTextsAreBounded(t *testing.T) {
	p := networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "todo-app", Name: "huge"}}
	var rule networkingv1.NetworkPolicyIngressRule
	for range 1000 {
		port := intstr.FromString(strings.Repeat("ж", 1000))
		rule.Ports = append(rule.Ports, networkingv1.NetworkPolicyPort{Port: &port})
		rule.From = append(rule.From, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8",
			Except: slices.Repeat([]string{"10.1.0.0/16"}, 1000)}})
	}
	p.Spec.Ingress = append(p.Spec.Ingress, rule)
	o := netpol.Evaluate(suspect, []networkingv1.NetworkPolicy{p}).Ingress.Open[0]
	for _, text := range []string{o.Peers, o.Ports, o.SelectedBy} {
		if n := len([]rune(text)); n > 301 {
			t.Errorf("%d runes", n)
		}
	}
}

func TestKeysToRemove(t *testing.T) {
	set := labels.Set{"app": "backend", "tier": "api", "n": "5"}
	for selector, c := range map[string]struct {
		keys []string
		ok   bool
	}{
		"":                               {nil, false},
		"app=backend":                    {[]string{"app"}, true},
		"app in (backend,db),tier":       {[]string{"app", "tier"}, true},
		"app!=frontend":                  {nil, false},
		"!quarantine":                    {nil, false},
		"app notin (db)":                 {nil, false},
		"app=backend,!quarantine":        {[]string{"app"}, true},
		"app=backend,app in (x,backend)": {[]string{"app"}, true},
		"n>3":                            {[]string{"n"}, true},
		"n<9,app":                        {[]string{"app", "n"}, true},
		"not-there=x":                    {nil, true},
	} {
		t.Run(selector, func(t *testing.T) {
			sel, err := labels.Parse(selector)
			if err != nil {
				t.Fatal(err)
			}
			keys, ok := netpol.KeysToRemove(sel, set)
			if ok != c.ok || !slices.Equal(keys, c.keys) {
				t.Errorf("got %q, %t; want %q, %t", keys, ok, c.keys, c.ok)
			}
			left := labels.Set{}
			for k, v := range set {
				if !slices.Contains(keys, k) {
					left[k] = v
				}
			}
			if ok && sel.Matches(left) {
				t.Error("it matches still")
			}
		})
	}
	if keys, ok := netpol.KeysToRemove(labels.Nothing(), set); !ok || keys != nil {
		t.Error("what selects nothing needs no removal")
	}
}

func TestPodOf(t *testing.T) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Labels: map[string]string{"a": "b"}},
		Status: corev1.PodStatus{PodIP: "10.0.0.1"},
		Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "sidecar"}}}},
			Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web"}}}}}}
	want := netpol.Pod{Namespace: "n", Labels: map[string]string{"a": "b"}, IP: "10.0.0.1",
		Ports: []corev1.ContainerPort{{Name: "sidecar"}, {Name: "web"}}}
	if diff := cmp.Diff(want, netpol.PodOf(p)); diff != "" {
		t.Error(diff)
	}
}
