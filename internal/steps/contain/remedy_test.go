package contain_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"irctl/internal/cluster/apifake"
	"irctl/internal/record"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
)

// remedied is how a finding is cleared.
type remedied string

const (
	// observed: what is printed is carried out to the letter, and irctl no longer finds it.
	observed remedied = "observed"
	// granted: the right that is missing is given, and irctl looks again.
	granted remedied = "granted"
	// included: by contain, with what the engine adds; its test carries that out.
	included remedied = "included"
	// accepted: irctl cannot see it, says so, and names what closes it.
	accepted remedied = "accepted"
	// weightless: it weighs nothing, so there is nothing to clear.
	weightless remedied = "weightless"
)

// remedyCase is a finding and the way to clear it.
type remedyCase struct {
	name    string
	by      remedied
	pod     func(*corev1.Pod)
	objects []runtime.Object
	options func(*contain.Options)
	// unread: paths that end so may not be read.
	unread string
	// meddle is what somebody does after the containment.
	meddle func(*lab)
}

func mounted(p *corev1.Pod) {
	p.Spec.Volumes = []corev1.Volume{{Name: "token",
		VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}}}}}}
}

func accountWith(annotations map[string]string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default",
		Annotations: annotations}}
}

func publicService(selector map[string]string) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta("Service", "public"),
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Selector: selector}}
}

func toAll(name string, pods map[string]string) runtime.Object {
	p := policyFor(name, selector(pods))
	p.Spec.PodSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "exempt",
		Operator: metav1.LabelSelectorOpDoesNotExist}}
	p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	return p
}

func bound(role string) runtime.Object {
	return &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"},
		RoleRef:  rbacv1.RoleRef{Kind: "ClusterRole", Name: role},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: ns, Name: "default"}}}
}

func editPolicy(l *lab) {
	l.Edit(policies, ns, contain.PolicyName(incident), func(m map[string]any) {
		m["spec"].(map[string]any)["ingress"], m["spec"].(map[string]any)["egress"] = []any{map[string]any{}},
			[]any{map[string]any{}}
	})
}

func dropPolicy(l *lab) { l.Delete(policies, ns, contain.PolicyName(incident)) }

func keepLabels(o *contain.Options) { o.KeepLabels = true }

// remedies are all findings, by code, each with the ways in which it comes about.
var remedies = map[string][]remedyCase{
	"host-network":   {{by: accepted, pod: func(p *corev1.Pod) { p.Spec.HostNetwork = true }}},
	"policy-unknown": {{by: granted, unread: "/networkpolicies"}},
	"other-policies": {{by: accepted,
		objects: []runtime.Object{object("cilium.io/v2", "CiliumNetworkPolicy", ns, "here", nil)}}},
	"enforcement-unknown": {{name: "none known", by: accepted},
		{name: "not read", by: accepted, unread: "/daemonsets"}},
	"node-traffic":            {{by: weightless}},
	"established-connections": {{by: weightless}},
	"ingress-open": {
		{name: "no policy", by: observed, meddle: dropPolicy},
		{name: "changed by somebody", by: observed, meddle: editPolicy},
		{name: "by a label", by: observed,
			objects: []runtime.Object{toAll("by-tier", map[string]string{"tier": "api"})}},
		{name: "by a label that is kept", by: observed, options: keepLabels,
			objects: []runtime.Object{toAll("by-app", map[string]string{"app": "backend"})}},
		{name: "of everybody", by: observed, objects: []runtime.Object{toAll("everything", nil)}},
		{name: "of what is quarantined", by: observed,
			objects: []runtime.Object{toAll("forensics", map[string]string{"quarantine": "true"})}},
	},
	"egress-open": {
		{name: "no policy", by: observed, meddle: dropPolicy},
		{name: "changed by somebody", by: observed, meddle: editPolicy},
		{name: "of everybody", by: observed, objects: []runtime.Object{outward()}},
	},
	"ingress-open-as-asked": {{by: weightless, options: func(o *contain.Options) {
		o.AllowNamespaces = []string{"forensics"}
	}}},
	"egress-open-as-asked": {{by: weightless, options: func(o *contain.Options) { o.AllowDNS = true }}},
	"host-port": {{by: accepted, pod: func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 8080, ContainerPort: 80}}
	}}},
	"external-service": {
		{name: "labels kept", by: observed, options: keepLabels,
			objects: []runtime.Object{publicService(map[string]string{"app": "backend"})}},
		{name: "of what is quarantined", by: observed,
			objects: []runtime.Object{publicService(map[string]string{"quarantine": "true"})}},
	},
	"external-service-before": {{by: weightless,
		objects: []runtime.Object{publicService(map[string]string{"app": "backend"})}}},
	"node-suspect": {{by: accepted, pod: func(p *corev1.Pod) { p.Spec.HostPID = true }}},
	"token": {
		{name: "with rights", by: observed, pod: mounted,
			objects: []runtime.Object{accountWith(nil), bound("not-there")}},
		{name: "rights unknown", by: observed, pod: mounted, objects: []runtime.Object{accountWith(nil)},
			unread: "/clusterroles"},
	},
	"cloud-identity": {
		{name: "AWS", by: accepted, objects: []runtime.Object{accountWith(
			map[string]string{"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"})}},
		{name: "Google", by: accepted,
			objects: []runtime.Object{accountWith(map[string]string{"iam.gke.io/gcp-service-account": "x@y"})}},
		{name: "Azure", by: accepted,
			objects: []runtime.Object{accountWith(map[string]string{"azure.workload.identity/client-id": "1"})}},
		{name: "EKS Pod Identity", by: accepted, pod: func(p *corev1.Pod) {
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "AWS_CONTAINER_CREDENTIALS_FULL_URI"}}
		}},
	},
	contain.CodeNewMatch: {{by: included}},
	"unknown": {
		{name: "Services", by: granted, unread: "/services"},
		{name: "the account", by: granted, unread: "/serviceaccounts/default",
			objects: []runtime.Object{accountWith(nil)}},
		{name: "policies of other kinds", by: granted, unread: "/ciliumnetworkpolicies"},
	},
}

func outward() runtime.Object {
	p := policyFor("outward", &metav1.LabelSelector{})
	p.Spec.Ingress, p.Spec.Egress = nil, []networkingv1.NetworkPolicyEgressRule{{}}
	p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
	return p
}

// Each finding has a remedy of one of two kinds: irctl sees that it is carried out,
// or says that it cannot, and how a person closes it.
func TestEveryFindingCanBeCleared(t *testing.T) {
	for code, cases := range remedies {
		for _, c := range cases {
			if c.by == included {
				continue
			}
			t.Run(strings.TrimSuffix(code+"/"+c.name, "/"), func(t *testing.T) { c.clear(t, code) })
		}
	}
}

func (c remedyCase) clear(t *testing.T, code string) {
	objects := deployment()
	for _, o := range objects {
		if p, ok := o.(*corev1.Pod); ok && p.Name == "backend-1" && c.pod != nil {
			c.pod(p)
		}
	}
	for _, o := range c.objects {
		objects = append(objects, o.DeepCopyObject())
	}
	l := newLab(t, objects...)
	o := contain.Options{Steps: contain.DefaultSteps[:2]}
	if c.options != nil {
		c.options(&o)
	}
	scene := l.scene(incident, "backend-1")
	plans, _ := plan(t, scene, o)
	do(t, l, plans)
	if c.meddle != nil {
		c.meddle(l)
	}
	l.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if c.unread != "" && strings.HasSuffix(r.URL.Path, c.unread) {
			apifake.Fail(w, http.StatusForbidden, metav1.StatusReasonForbidden, "no right")
			return
		}
		serve(w, r)
	}
	a := l.look(t, scene, o)
	found := withCode(a, code)
	if found == nil {
		t.Fatalf("it is not found: %+v", a.Findings[0].Exposures)
	}
	object := ns + "/backend-1"
	switch c.by {
	case weightless:
		if found.Severity != contain.Note || found.Close != "" && !strings.Contains(found.Close,
			"does not weigh in the verdict") {
			t.Errorf("%s: %q", found.Severity, found.Close)
		}
		return
	case accepted:
		want := "irctl cannot see that: once it is done, irctl accept " + code + "=" + object + " --incident " +
			incident + " --reason … closes it"
		if found.Severity == contain.Note || !strings.HasSuffix(found.Close, want) {
			t.Fatalf("%s: %q, expected it to end with %q", found.Severity, found.Close, want)
		}
		contain.Accept(&a, func(c, o string) *record.Accepted {
			if c != code || o != object {
				return nil
			}
			return &record.Accepted{By: "ops", Reason: "done"}
		})
		if withCode(a, code).Accepted == nil {
			t.Error("it cannot be accepted by what is printed")
		}
		return
	case granted:
		if !strings.Contains(found.Close, "get the right to") || !strings.HasSuffix(found.Close, "look again") {
			t.Errorf("the remedy is %q", found.Close)
		}
		l.Intercept = nil
	case observed:
		o = l.carryOut(t, o, found.Close)
	}
	if left := withCode(l.look(t, l.scene(incident, "backend-1"), o), code); left != nil &&
		left.Severity != contain.Note {
		t.Errorf("after %q it is found still: %s", found.Close, left.Text)
	}
}

func withCode(a contain.Assessment, code string) *contain.Exposure {
	for n := range a.Findings[0].Exposures {
		if x := &a.Findings[0].Exposures[n]; x.Code == code {
			return x
		}
	}
	return nil
}

// look is a look at a scene with what surrounds it now.
func (l *lab) look(t *testing.T, scene *steps.Scene, o contain.Options) contain.Assessment {
	t.Helper()
	scene.Around = l.client.Survey(bounded(t), []string{ns})
	return contain.Look(bounded(t), scene, o, contain.Gather(bounded(t), scene, "v1.37.2"))
}

var printed = regexp.MustCompile(
	`irctl contain --incident (\S+) --pod (\S+) -n (\S+) --steps (\S+)((?: --remove-label \S+)*)|kubectl [^;]*`)

// carryOut does what a remedy says, word by word, and returns the options as the
// journal would then tell them.
func (l *lab) carryOut(t *testing.T, o contain.Options, remedy string) contain.Options {
	t.Helper()
	command := printed.FindStringSubmatch(remedy)
	switch {
	case command == nil:
		t.Fatalf("there is no command in %q", remedy)
	case command[1] == "":
		if err := apifake.Kubectl(bounded(t), l.Config(), command[0]); err != nil {
			t.Fatal(err)
		}
		return o
	}
	again := contain.Options{Steps: strings.Split(command[4], ",")}
	if words := strings.Fields(command[5]); len(words) > 0 {
		again.RemoveLabels = slices.DeleteFunc(words, func(w string) bool { return w == "--remove-label" })
	}
	if command[1] != incident || command[3] != ns {
		t.Fatalf("it is about something else: %q", remedy)
	}
	scene := l.scene(command[1], command[2])
	plans, _ := plan(t, scene, again)
	do(t, l, plans)
	if slices.Contains(again.Steps, contain.StepDetach) {
		o.KeepLabels = false
	}
	return o
}

// A code that nobody says of how it is cleared fails here.
func TestEveryCodeHasARemedy(t *testing.T) {
	codes := map[string]bool{}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if len(n.Values) != 1 || !strings.HasPrefix(strings.ToLower(n.Names[0].Name), "code") {
					return true
				}
				if value, ok := n.Values[0].(*ast.BasicLit); ok {
					text, err := strconv.Unquote(value.Value)
					if err != nil {
						t.Fatal(err)
					}
					codes[text] = true
				}
			case *ast.CompositeLit:
				if name, ok := n.Type.(*ast.Ident); !ok || name.Name != "Exposure" {
					return true
				}
				for _, e := range n.Elts {
					kv := e.(*ast.KeyValueExpr)
					if _, literal := kv.Value.(*ast.BasicLit); literal && kv.Key.(*ast.Ident).Name == "Code" {
						t.Errorf("a code that is not among the constants: %s", kv.Value.(*ast.BasicLit).Value)
					}
				}
			}
			return true
		})
	}
	codes["ingress-open-as-asked"], codes["egress-open-as-asked"] = true, true
	var weighs []string
	for code := range codes {
		if len(remedies[code]) == 0 {
			t.Errorf("of %s nobody says how it is cleared", code)
		} else if remedies[code][0].by != weightless {
			weighs = append(weighs, code)
		}
	}
	for code := range remedies {
		if !codes[code] {
			t.Errorf("there is no finding %s", code)
		}
	}
	known := slices.Sorted(slices.Values(contain.Codes))
	if slices.Sort(weighs); !slices.Equal(weighs, known) {
		t.Errorf("can be accepted: %q, weigh: %q", known, weighs)
	}
}

// What a plan warns of, and has a command for, is not warned of once that is carried out.
func TestAWarningsCommandEndsIt(t *testing.T) {
	for name, objects := range map[string][]runtime.Object{
		"what puts the workload back":      opposed(),
		"a Service of what is quarantined": append(deployment(), lure()...),
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, objects...)
			command := regexp.MustCompile(`kubectl .*`)
			warned := func() (fixes []string) {
				_, text := plan(t, l.scene(incident, "backend-1"), all())
				for _, o := range contain.Opponents(bounded(t), l.scene(incident, "backend-1")) {
					fixes = append(fixes, command.FindString(o.Warning().Fix))
				}
				for line := range strings.Lines(text) {
					if strings.HasPrefix(line, "warning service:") {
						fixes = append(fixes, strings.TrimSuffix(command.FindString(line), ")"))
					}
				}
				return slices.DeleteFunc(fixes, func(f string) bool { return f == "" })
			}
			fixes := warned()
			if len(fixes) == 0 {
				t.Fatal("there is nothing to try")
			}
			for _, f := range fixes {
				if err := apifake.Kubectl(bounded(t), l.Config(), f); err != nil {
					t.Error(err)
				}
			}
			if left := warned(); len(left) > 0 {
				t.Errorf("after %q it says still: %q", fixes, left)
			}
		})
	}
}
