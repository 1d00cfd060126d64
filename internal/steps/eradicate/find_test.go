package eradicate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/cluster/apifake"
	"irctl/internal/rotate"
)

// Which rule lets one read Secrets: by each of the verbs, and by stars.
func TestWhichRuleReadsSecrets(t *testing.T) {
	t.Parallel()
	of := func(group, resource, verb string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{"x", group}, Resources: []string{"pods", resource},
			Verbs: []string{"create", verb}}
	}
	for name, c := range map[string]struct {
		rule rbacv1.PolicyRule
		want bool
	}{
		"get": {of("", "secrets", "get"), true}, "list": {of("", "secrets", "list"), true},
		"watch": {of("", "secrets", "watch"), true}, "all verbs": {of("", "secrets", "*"), true},
		"all groups": {of("*", "secrets", "get"), true}, "all resources": {of("", "*", "get"), true},
		"write only": {of("", "secrets", "delete"), false}, "of another group": {of("apps", "secrets", "get"), false},
		"another resource": {of("", "configmaps", "get"), false},
	} {
		if got := readsSecrets(c.rule); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Every place of a pod's spec that names a Secret.
func TestEveryPlaceThatNamesASecret(t *testing.T) {
	t.Parallel()
	spec := map[string]any{
		"imagePullSecrets": []any{map[string]any{"name": "pull"}},
		"containers": []any{map[string]any{"name": "web",
			"env": []any{map[string]any{"name": "A",
				"valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": "env", "key": "k"}}}},
			"envFrom": []any{map[string]any{"secretRef": map[string]any{"name": "from"}}}}},
		"initContainers": []any{map[string]any{"name": "init",
			"envFrom": []any{map[string]any{"secretRef": map[string]any{"name": "init"}},
				map[string]any{"configMapRef": map[string]any{"name": "no"}}}}},
		"volumes": []any{map[string]any{"name": "v", "secret": map[string]any{"secretName": "volume"}},
			map[string]any{"name": "p",
				"projected": map[string]any{
					"sources": []any{map[string]any{"secret": map[string]any{"name": "projected"}},
						map[string]any{"configMap": map[string]any{"name": "no"}}}}},
			map[string]any{"name": "c", "csi": map[string]any{"nodePublishSecretRef": map[string]any{"name": "csi"}}},
			map[string]any{"name": "a", "azureFile": map[string]any{"secretName": "azure"}},
			map[string]any{"name": "e", "emptyDir": map[string]any{}},
			map[string]any{"name": "r", "cephfs": map[string]any{"secretRef": map[string]any{"name": "ceph"}}},
			map[string]any{"name": "x", "secret": map[string]any{"secretName": int64(3)}}},
	}
	var got []string
	for _, r := range references(spec) {
		got = append(got, fmt.Sprint(r.name, " ", r.where, " ", r.pull))
	}
	want := []string{"from containers[web].envFrom false", "env containers[web].env[A] false",
		"pull imagePullSecrets true", "init initContainers[init].envFrom false",
		"azure volumes[a] false", "csi volumes[c] false", "projected volumes[p].sources false", "ceph volumes[r] false",
		"volume volumes[v] false"}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%q\nexpected\n%q", got, want)
	}
	next := repointed(spec, map[string]string{"volume": "volume-2", "projected": "projected-2", "pull": "pull-2"})
	var names []string
	for _, r := range references(next) {
		names = append(names, r.name)
	}
	slices.Sort(names)
	if want := []string{"azure", "ceph", "csi", "env", "from", "init", "projected-2", "pull-2",
		"volume-2"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	if len(references(spec)) != 9 || references(spec)[0].name == "" ||
		slices.ContainsFunc(references(spec), func(r reference) bool { return strings.HasSuffix(r.name, "-2") }) {
		t.Error("the spec itself was changed")
	}
}

// Whether a pod has a token: its own word counts before its account's, and a
// projected one before both.
func TestWhoHasAToken(t *testing.T) {
	t.Parallel()
	projected := []any{map[string]any{"name": "other"},
		map[string]any{"name": "p",
			"projected": map[string]any{"sources": []any{map[string]any{"secret": map[string]any{}},
				map[string]any{"serviceAccountToken": map[string]any{}}}}}}
	for name, c := range map[string]struct {
		spec   map[string]any
		mounts bool
		who    string
		token  bool
	}{
		"by default":           {map[string]any{}, true, "default", true},
		"not by default":       {map[string]any{"serviceAccountName": "a"}, false, "a", false},
		"its own word":         {map[string]any{"automountServiceAccountToken": true}, false, "default", true},
		"its own word against": {map[string]any{"automountServiceAccountToken": false}, true, "default", false},
		"projected": {map[string]any{"automountServiceAccountToken": false, "volumes": projected}, false,
			"default", true},
		"projected other": {map[string]any{"volumes": []any{
			map[string]any{"projected": map[string]any{"sources": []any{map[string]any{"secret": map[string]any{}}}}}}},
			false, "default", false},
	} {
		if who, token := account(c.spec, c.mounts); who != c.who || token != c.token {
			t.Errorf("%s: %s %v", name, who, token)
		}
	}
}

// exposure is what was found, by kind and name, and how it was exposed.
func exposure(r *Radius) []string {
	var list []string
	for _, i := range r.Items {
		list = append(list, fmt.Sprintf("%s: %s", i.Key(), strings.Join(i.Exposed, " + ")))
	}
	return list
}

// codes are the warnings, by code and beginning.
func warned(r *Radius, code string) (texts []string) {
	for _, w := range r.Warnings {
		if w.Code == code {
			texts = append(texts, w.Text)
		}
	}
	return texts
}

// What the suspects could read: what they mount, the token, what its account may
// read, by every suspect, every namespace and every page of a list.
func TestWhatTheSuspectsCouldRead(t *testing.T) {
	t.Parallel()
	first := pod("s1", naming("mounted", "missing"))
	first.Spec.ServiceAccountName = "reader"
	second := pod("s2", naming("other"))
	second.Spec.AutomountServiceAccountToken = truth(false)
	far := secret("far")
	far.Namespace = "far"
	named := secret("named")
	objects := []runtime.Object{first, second, secret("mounted", "a=1"), secret("other"), secret("by-list-1"),
		secret("by-list-2"), secret("zz"), far, named, serviceAccount("reader", nil),
		serviceAccount("legacy-owner", nil), token("legacy", "reader"), token("strange", "legacy-owner"),
		secret("unrelated"), secret("outside")}
	objects = append(objects, bind("lists", "reader", "app",
		rule("watch", "by-list-1", "by-list-2", "zz", "strange"))...)
	objects = append(objects, bind("far", "reader", "far", rule("list"))...)
	objects = append(objects, bind("other", "somebody", "app", rule("get"))...)
	f := newFake(t, objects...)
	target := func(p *corev1.Pod) *cluster.Target { return &cluster.Target{Pod: p} }
	r, err := Find(t.Context(), f.scene(target(first), target(second)),
		Beside{Named: []cluster.Ref{rotate.SecretRef.Named("app", "outside", "")}})
	if err != nil {
		t.Fatal(err)
	}
	may := "app/s1 may read it by its service account"
	want := []string{"app/by-list-1: " + may, "app/by-list-2: " + may,
		"app/legacy: it holds a token of ServiceAccount app/reader",
		"app/mounted: app/s1 mounts it: containers[c].envFrom",
		"app/other: app/s2 mounts it: containers[c].envFrom", "app/outside: named by the responder", "app/strange: " +
			may, "app/zz: " + may, "far/far: " + may,
		"serviceaccount:app/legacy-owner: a token of it is in Secret app/strange",
		"serviceaccount:app/reader: app/s1 has its token + a token of it is in Secret app/legacy"}
	if got := exposure(r); !slices.Equal(got, want) {
		t.Errorf("%q\nexpected\n%q", got, want)
	}
	for n, i := range r.Items {
		if i.Order != n+1 || i.unread || i.Problem != "" {
			t.Errorf("%+v", i)
		}
	}
	if len(r.gone) != 1 || r.gone[0].Name != "missing" {
		t.Errorf("gone: %+v", r.gone)
	}
	if got := r.Unlooked(); len(got) > 0 || r.Blind() {
		t.Errorf("not looked at: %q", got)
	}
	if !r.suspects["uid-s1"] || !r.suspects["uid-s2"] || len(r.suspects) != 2 {
		t.Errorf("%v", r.suspects)
	}
	if len(r.Bindings) != 2 {
		t.Errorf("%d bindings", len(r.Bindings))
	}
}

// Rights of the whole cluster reach every namespace; one named there is known
// without a list only where the namespace is.
func TestRightsOfTheWholeCluster(t *testing.T) {
	t.Parallel()
	p := pod("s", naming())
	far := secret("far")
	far.Namespace = "far"
	f := newFake(t, append([]runtime.Object{p, far, secret("near"), serviceAccount("default", nil)},
		append(bind("all", "default", "", rule("get")), bind("here", "default", "app", rule("get", "near"))...)...)...)
	r, err := Find(t.Context(), f.scene(&cluster.Target{Pod: p}), Beside{})
	if err != nil {
		t.Fatal(err)
	}
	if got := exposure(r); len(got) != 3 || !strings.HasPrefix(got[1], "far/far") {
		t.Errorf("%q", got)
	}
	// What a namespaced rule names is known also where nothing may be listed.
	f = newFake(t, append([]runtime.Object{p, secret("near"), serviceAccount("default", nil)},
		append(bind("here", "default", "app", rule("get", "near"),
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"},
				ResourceNames: []string{"map"}}),
			bind("maps", "default", "app", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"},
				Verbs: []string{"get"}, ResourceNames: []string{"other"}})...)...)...)
	f.deny("/secrets$")
	if r, err = Find(t.Context(), f.scene(&cluster.Target{Pod: p}), Beside{}); err != nil {
		t.Fatal(err)
	}
	if got := exposure(r); len(got) != 2 || !strings.HasPrefix(got[0], "app/near") {
		t.Errorf("%q", got)
	}
	if got := warned(r, unreadable); len(got) != 2 || !strings.Contains(got[0], "which there are is not known") ||
		!strings.Contains(got[1], "legacy token") {
		t.Errorf("%q", got)
	}
}

// What cannot be read is said, and is never taken for nothing to rotate.
func TestWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	p := pod("s", naming("mounted"))
	gone := &corev1.Pod{ObjectMeta: meta("gone")}
	objects := append([]runtime.Object{p, secret("mounted"), serviceAccount("default", truth(false)),
		controller(cluster.Deployment, "user", naming("mounted"), nil)},
		bind("reads", "default", "app", rule("get"))...)
	for name, c := range map[string]struct {
		deny   []string
		target *cluster.Target
		warned string
		items  []string
		unread bool
	}{
		"all can": {nil, &cluster.Target{Pod: p}, "", []string{"app/mounted"}, false},
		"the account: a token is": {[]string{"GET /api/v1/namespaces/app/serviceaccounts/default$"},
			&cluster.Target{Pod: p}, "you may not", []string{"app/mounted", "serviceaccount:app/default"}, true},
		"the roles": {[]string{"/clusterrolebindings"}, &cluster.Target{Pod: p},
			"may read is not known", []string{"app/mounted"}, false},
		"the Secret": {[]string{"/secrets/mounted"}, &cluster.Target{Pod: p},
			"Secret app/mounted could not be read", []string{"app/mounted"}, true},
		"its keeper": {[]string{"/externalsecrets"}, &cluster.Target{Pod: p},
			"whether an ExternalSecret writes it", []string{"app/mounted"}, true},
		"what uses it": {[]string{"/deployments"}, &cluster.Target{Pod: p},
			"what uses the secrets is not fully known", []string{"app/mounted"}, false},
		"Ingresses": {[]string{"/ingresses"}, &cluster.Target{Pod: p}, "which Ingresses use",
			[]string{"app/mounted"}, false},
		"the pod, which is gone": {nil, &cluster.Target{Pod: gone},
			"neither the pod nor its workload can be read, so what it could read is not known", nil, false},
		"the pod, which may be read": {[]string{"/pods/gone"}, &cluster.Target{Pod: gone}, "is not known: ", nil,
			false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, objects...)
			f.deny(c.deny...)
			other := pod("x", naming())
			other.Spec.AutomountServiceAccountToken = truth(false)
			r, err := Find(t.Context(), f.scene(&cluster.Target{Pod: other}, c.target), Beside{})
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(r.Unlooked(), "\n")
			if (got != "") != (c.warned != "") || !strings.Contains(got, c.warned) {
				t.Errorf("not looked at: %q, expected %q", got, c.warned)
			}
			var items []string
			unread := false
			for _, i := range r.Items {
				items, unread = append(items, i.Key()), unread || i.unread
			}
			if !slices.Equal(items, c.items) || unread != c.unread {
				t.Errorf("%q, unread: %v", items, unread)
			}
			if want := c.warned != "" && (len(c.items) == 0 || len(c.items) == 1 && c.unread); r.Blind() != want {
				t.Errorf("blind: %v", r.Blind())
			}
		})
	}
}

// Of a pod that is gone, its workload tells; the first of the chain that can.
func TestWhatAGonePodCouldRead(t *testing.T) {
	t.Parallel()
	gone := &corev1.Pod{ObjectMeta: meta("gone")}
	f := newFake(t, secret("a"), secret("b"), secret("c"))
	no := naming("b")
	no.AutomountServiceAccountToken = truth(false)
	target := &cluster.Target{Pod: gone, Owners: []*cluster.Owner{{Ref: cluster.ReplicaSet},
		owner(cluster.ReplicaSet, "rs", no, nil), owner(cluster.Deployment, "d", naming("a"), nil)}}
	scene := f.scene(target)
	scene.Workloads = [][]*cluster.Owner{{{Ref: cluster.Deployment}}, {owner(cluster.CronJob, "cj", naming("c"), nil)}}
	r, err := Find(t.Context(), scene, Beside{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range r.Items {
		got = append(got, i.Key())
	}
	if want := []string{"app/b", "app/c", "serviceaccount:app/default"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if held := heldBy(scene); !held["uid-rs"] || !held["uid-d"] || !held["uid-cj"] {
		t.Errorf("%v", held)
	}
}

// The ways to more secrets than those that one may read are said.
func TestIndirectWaysAreSaid(t *testing.T) {
	t.Parallel()
	p := pod("s", naming())
	f := newFake(t, append([]runtime.Object{p, serviceAccount("default", nil)},
		bind("makes", "default", "app", rule("get"),
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"create"}})...)...)
	r, err := Find(t.Context(), f.scene(&cluster.Target{Pod: p}), Beside{})
	if err != nil {
		t.Fatal(err)
	}
	if got := warned(r, "indirect"); len(got) != 1 ||
		!strings.Contains(got[0], "by what its service account may do: ") || strings.Contains(got[0], "read secrets") {
		t.Errorf("%q", got)
	}
}

// What an account could read before the incident took its rights counts, and
// until when is said; what can no longer be told is said, too.
func TestWhatWasReadBeforeTheRightsWereTaken(t *testing.T) {
	t.Parallel()
	p := pod("s", naming())
	after := bind("reads", "default", "app", rule("get"))
	binding := after[1].(*rbacv1.RoleBinding)
	binding.UID = "uid-binding"
	subjects := []any{map[string]any{"kind": "ServiceAccount", "namespace": "app", "name": "default"}}
	ref := roleBinding.Named("app", "reads", "uid-binding")
	taken, _ := change.NewEdit(ref, "", "", change.Field{Path: []string{"subjects"}, Before: subjects, After: []any{}})
	lost := taken
	lost.Object = roleBinding.Named("app", "lost", "uid-lost")
	cluster1 := taken
	cluster1.Object = clusterRoleBinding.Named("", "lost-too", "uid-lost-too")
	others := lost
	others.Object, others.Fields = roleBinding.Named("app", "others", "uid-others"),
		[]change.Field{{Path: []string{"subjects"},
			Before: []any{map[string]any{"kind": "ServiceAccount", "namespace": "app", "name": "x"}}}}
	role := lost
	role.Object = cluster.Ref{Group: rbacv1.GroupName, Version: "v1", Resource: "roles", Kind: "Role", Namespace: "app",
		Name: "gone-role", UID: "u"}
	created := change.NewCreate(ref, map[string]any{"a": "b"})
	scale := taken
	scale.Object = cluster.Deployment.Named("app", "x", "u")
	binding.Subjects = nil
	f := newFake(t, append([]runtime.Object{p, secret("a"), serviceAccount("default", nil)}, after...)...)
	r, err := Find(t.Context(), f.scene(&cluster.Target{Pod: p}),
		Beside{Changed: []Changed{{3, taken}, {4, lost}, {5, others}, {6, role}, {7, created}, {8, scale},
			{9, cluster1}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"app/a: app/s could read it by its service account until RoleBinding app/reads was changed " +
		"(entry 3 of the timeline)", "serviceaccount:app/default: app/s has its token"}
	if got := exposure(r); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	var unknown []string
	for _, text := range warned(r, unreadable) {
		_, what, _ := strings.Cut(text, "not fully known: ")
		what, _, _ = strings.Cut(what, " was changed")
		unknown = append(unknown, what)
	}
	if want := []string{"ClusterRoleBinding lost-too", "Role app/gone-role", "RoleBinding app/lost"}; !slices.Equal(
		unknown, want) {
		t.Errorf("%q", unknown)
	}
	if len(r.Bindings) != 0 {
		t.Errorf("a binding that gives nothing any more: %+v", r.Bindings[0])
	}
	// Without the right to read them nothing of before is known, either.
	f.deny("/rolebindings")
	r, err = Find(t.Context(), f.scene(&cluster.Target{Pod: p}), Beside{Changed: []Changed{{4, lost}}})
	if got := warned(r, unreadable); err != nil || len(got) != 1 {
		t.Errorf("%q, %v", got, err)
	}
}

// Roles of every kind are taken back to what they were, the last change first.
func TestRolesAsTheyWere(t *testing.T) {
	t.Parallel()
	rules := func(verb string) []any {
		return []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"secrets"}, "verbs": []any{verb}}}
	}
	for kind, resource := range map[string]string{"Role": "roles", "ClusterRole": "clusterroles"} {
		p := pod("s", naming())
		scope := map[string]string{"Role": "app", "ClusterRole": ""}[kind]
		f := newFake(t, append([]runtime.Object{p, secret("a"), serviceAccount("default", nil)},
			bind("reads", "default", scope, rule("delete"))...)...)
		ref := cluster.Ref{Group: rbacv1.GroupName, Version: "v1", Resource: resource, Kind: kind, Namespace: scope,
			Name: "reads"}
		first, _ := change.NewEdit(ref, "", "", change.Field{Path: []string{"rules"}, Before: rules("get"),
			After: rules("create")})
		second, _ := change.NewEdit(ref, "", "", change.Field{Path: []string{"rules"}, Before: rules("create"),
			After: rules("delete")})
		r, err := Find(t.Context(), f.scene(&cluster.Target{Pod: p}),
			Beside{Changed: []Changed{{1, first}, {2, second}}})
		if err != nil || len(r.Items) != 2 || !strings.Contains(r.Items[0].Exposed[0], "until "+kind) {
			t.Errorf("%s: %q, %v", kind, exposure(r), err)
		}
		other := first
		other.Object.UID = "uid-of-another"
		r, err = Find(t.Context(), f.scene(&cluster.Target{Pod: p}), Beside{Changed: []Changed{{1, other}}})
		if err != nil || len(r.Items) != 1 || len(warned(r, unreadable)) != 1 {
			t.Errorf("%s: another of its name: %q, %v", kind, exposure(r), err)
		}
	}
}

// What uses each secret: every workload, by its topmost controller, and how.
func TestWhatUsesASecret(t *testing.T) {
	t.Parallel()
	suspect := pod("s", naming("app", "tls", "immutable"))
	pulling := naming()
	pulling.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "app"}}
	both := naming("app")
	both.ImagePullSecrets = pulling.ImagePullSecrets
	immutable := secret("immutable")
	immutable.Immutable = truth(true)
	pullsImmutable := naming()
	pullsImmutable.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "immutable"}}
	bareToken := pod("token", naming())
	bareToken.Spec.AutomountServiceAccountToken = truth(true)
	over := pod("over", naming("app"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
	in := func(name, ns string, secrets ...string) *networkingv1.Ingress {
		i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
		for _, s := range secrets {
			i.Spec.TLS = append(i.Spec.TLS, networkingv1.IngressTLS{SecretName: s})
		}
		return i
	}
	f := newFake(t, suspect, secret("app"), secret("tls"), immutable, serviceAccount("default", truth(true)),
		controller(cluster.Deployment, "d1", naming("app"), nil),
		controller(cluster.Deployment, "d2", naming("other"), nil),
		controller(cluster.StatefulSet, "st", naming("tls", "app"), nil),
		controller(cluster.DaemonSet, "pull", pulling, nil), controller(cluster.DaemonSet, "both", both, nil),
		controller(cluster.Deployment, "pull-immutable", pullsImmutable, nil),
		pod("of-d1", naming("app"), ownedBy("Deployment", "d1")), pod("bare", naming("app")), over,
		in("in", "app", "", "tls", "tls"), in("in2", "app", "tls"), in("in3", "far", "tls"))
	r, err := Find(t.Context(), f.scene(&cluster.Target{Pod: suspect}), Beside{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range r.Items {
		for _, u := range i.Users {
			got = append(got, fmt.Sprintf("%s: %s %s restart %v", i.Key(), u.Object, strings.Join(u.Where, "+"),
				u.Restart))
		}
		var users []string
		for _, w := range i.users {
			users = append(users, w.Name)
		}
		got = append(got, fmt.Sprintf("%s is restarted for: %s", i.Key(), strings.Join(users, " ")))
	}
	want := []string{"app/app: StatefulSet app/st containers[c].envFrom restart true",
		"app/app: Deployment app/d1 containers[c].envFrom restart true",
		"app/app: DaemonSet app/both containers[c].envFrom+imagePullSecrets restart true",
		"app/app: DaemonSet app/pull imagePullSecrets restart false",
		"app/app: Pod app/bare containers[c].envFrom restart false", "app/app is restarted for: st d1 both bare",
		"app/immutable: Deployment app/pull-immutable imagePullSecrets restart false",
		"app/immutable is restarted for: pull-immutable",
		"app/tls: StatefulSet app/st containers[c].envFrom restart true",
		"app/tls: Ingress app/in spec.tls restart false", "app/tls: Ingress app/in2 spec.tls restart false",
		"app/tls is restarted for: st",
		"serviceaccount:app/default: StatefulSet app/st serviceAccountName restart true",
		"serviceaccount:app/default: Deployment app/d1 serviceAccountName restart true",
		"serviceaccount:app/default: Deployment app/d2 serviceAccountName restart true",
		"serviceaccount:app/default: Deployment app/pull-immutable serviceAccountName restart true",
		"serviceaccount:app/default: DaemonSet app/both serviceAccountName restart true",
		"serviceaccount:app/default: DaemonSet app/pull serviceAccountName restart true",
		"serviceaccount:app/default: Pod app/bare serviceAccountName restart false",
		"serviceaccount:app/default is restarted for: st d1 d2 pull-immutable both pull bare"}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// An account whose pods get no token is used by those that ask for one.
	f = newFake(t, bareToken, controller(cluster.Deployment, "d1", naming(), nil),
		serviceAccount("default", truth(false)))
	if r, err = Find(t.Context(), f.scene(&cluster.Target{Pod: bareToken}), Beside{}); err != nil ||
		len(r.Items) != 1 || len(r.Items[0].Users) != 0 {
		t.Errorf("%+v, %v", r.Items, err)
	}
}

// What keeps a Secret is what says the same of it as the Secret.
func TestWhatKeepsASecret(t *testing.T) {
	t.Parallel()
	object := func(kind, group, name string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": group + "/v1", "kind": kind,
			"metadata": map[string]any{"namespace": "app", "name": name}, "spec": spec}}
	}
	es := func(name string, target map[string]any) *unstructured.Unstructured {
		return object("ExternalSecret", "external-secrets.io", name, map[string]any{"target": target})
	}
	cert := func(secret string) *unstructured.Unstructured {
		return object("Certificate", "cert-manager.io", "c",
			map[string]any{"secretName": secret, "privateKey": map[string]any{"rotationPolicy": "Always"}})
	}
	annotated := secret("s")
	annotated.Annotations = map[string]string{rotate.CertificateName: "c"}
	ownedSecret := secret("s")
	ownedSecret.OwnerReferences = []metav1.OwnerReference{{Kind: "Foo", Name: "foo", Controller: truth(true)}}
	for name, c := range map[string]struct {
		secret  *corev1.Secret
		objects []runtime.Object
		deny    string
		kinds   []apifake.Kind
		want    string
		err     string
	}{
		"nobody":       {secret("s"), nil, "nowhere", operators, "", ""},
		"a controller": {ownedSecret, nil, "nowhere", operators, "Foo app/foo ", ""},
		"a Certificate": {annotated, []runtime.Object{cert("s")}, "nowhere", operators,
			"Certificate app/c cert-manager", ""},
		"a Certificate of another Secret": {annotated, []runtime.Object{cert("other")}, "nowhere", operators, "", ""},
		"a Certificate that is gone":      {annotated, nil, "nowhere", operators, "", ""},
		"a Certificate that may not be": {annotated, []runtime.Object{cert("s")}, "/certificates", operators, "",
			"reading Certificate app/c"},
		"an ExternalSecret by its target": {secret("s"), []runtime.Object{es("a", map[string]any{"name": "x"}),
			es("b", map[string]any{"name": "s"})}, "nowhere", operators, "ExternalSecret app/b external-secret", ""},
		"an ExternalSecret by its name": {secret("s"), []runtime.Object{es("s", nil)}, "nowhere", operators,
			"ExternalSecret app/s external-secret", ""},
		"an ExternalSecret with another": {secret("s"), []runtime.Object{es("s", map[string]any{"name": "x"})},
			"nowhere", operators, "", ""},
		"an ExternalSecret that makes none": {secret("s"),
			[]runtime.Object{es("s", map[string]any{"creationPolicy": "None"})}, "nowhere", operators, "", ""},
		"ExternalSecrets may not be read": {secret("s"), nil, "/externalsecrets", operators, "", "finding out whether"},
		"the operator is not there":       {secret("s"), nil, "nowhere", nil, "", ""},
		"both it and a controller": {ownedSecret, []runtime.Object{es("s", nil)}, "nowhere", operators,
			"ExternalSecret app/s external-secret", ""},
	} {
		f := newFakeOf(t, c.kinds, c.objects...)
		f.deny(c.deny)
		ks := newKeepers(f.client)
		for range 2 { // the second answer is of what was kept of the first
			k, err := ks.of(t.Context(), c.secret)
			got := ""
			if k != nil {
				got = k.Ref.String() + " " + k.rotator
			}
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
	}
}

// What takes the rights away names the account alone, and leaves the others in.
func TestTakingAccountsOutOfBindings(t *testing.T) {
	t.Parallel()
	p := pod("s", naming())
	group := bind("group", "x", "app", rule("get"))
	group[1].(*rbacv1.RoleBinding).Subjects = []rbacv1.Subject{{Kind: rbacv1.GroupKind,
		Name: "system:serviceaccounts:app"}}
	shared := bind("shared", "default", "", rule("list"))
	b := shared[1].(*rbacv1.ClusterRoleBinding)
	b.Subjects = append([]rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "jane"}},
		append(b.Subjects, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "app", Name: "other"},
			rbacv1.Subject{Kind: rbacv1.UserKind, Name: "system:serviceaccount:app:default"})...)
	objects := append([]runtime.Object{p, serviceAccount("default", nil)}, append(group, shared...)...)
	objects = append(objects, bind("alone", "default", "app", rule("get"))...)
	objects = append(objects, bind("nothing", "default", "app")...)
	missing := bind("missing", "default", "app")
	objects = append(objects, missing[1])
	f := newFake(t, objects...)
	r, err := Find(t.Context(), f.scene(&cluster.Target{Pod: p}), Beside{})
	if err != nil {
		t.Fatal(err)
	}
	plan := PlanBindings(r)
	var got []string
	for _, a := range plan.Actions {
		got = append(got, fmt.Sprintf("%s keeps %d", a.Change.Object, len(a.Change.Fields[0].After.([]any))))
	}
	slices.Sort(got)
	if want := []string{"ClusterRoleBinding shared keeps 2", "RoleBinding app/alone keeps 0",
		"RoleBinding app/missing keeps 0"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if len(plan.Refusals) != 1 || plan.Refusals[0].Object != "RoleBinding app/group" {
		t.Errorf("%+v", plan.Refusals)
	}
	for _, b := range r.Bindings {
		if b.Object == "ClusterRoleBinding shared" && (b.Others != 2 || b.Group || b.Role != "ClusterRole shared" ||
			!slices.Equal(b.Accounts, []string{"app/default"})) {
			t.Errorf("%+v", b)
		}
	}
	f.deny("/clusterroles")
	if r, err = Find(t.Context(), f.scene(&cluster.Target{Pod: p}), Beside{}); err != nil ||
		len(PlanBindings(r).Refusals) == 0 || !strings.Contains(PlanBindings(r).Refusals[0].Reason, "you may not") {
		t.Errorf("%+v, %v", r, err)
	}
}
