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
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/remotecommand"

	"irctl/deploy"
	"irctl/internal/cluster"
	"irctl/internal/cluster/apifake"
)

var custom = []apifake.Kind{
	{Group: "argoproj.io", Version: "v1alpha1", Resource: "rollouts", Kind: "Rollout", Scale: true,
		ShortNames: []string{"ro"}},
	{Group: "core.strimzi.io", Version: "v1beta2", Resource: "strimzipodsets", Kind: "StrimziPodSet"},
	{Group: "operator.example.com", Version: "v1", Resource: "installations", Kind: "Installation",
		ClusterScoped: true},
	{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects", Kind: "ScaledObject"},
}

func connect(t *testing.T, s *apifake.Server) *cluster.Client {
	t.Helper()
	c, err := cluster.New(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

const ns = "todo-app"

func ownedBy(kind, apiVersion, name string) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "not-a-controller", UID: "x"},
		{APIVersion: apiVersion, Kind: kind, Name: name, UID: types.UID(kind + "-" + name), Controller: &yes}}
}

func meta(kind, name string, owners ...metav1.OwnerReference) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID(kind + "-" + name), OwnerReferences: owners}
}

func pod(name string, owners ...metav1.OwnerReference) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: meta("Pod", name, owners...)}
}

func number(n int32) *int32 { return &n }

func object(apiVersion, kind, namespace, name string, owners []metav1.OwnerReference,
	spec map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind, "spec": spec}}
	u.SetNamespace(namespace)
	u.SetName(name)
	u.SetUID(types.UID(kind + "-" + name))
	u.SetOwnerReferences(owners)
	return u
}

func replicaSet(owners ...metav1.OwnerReference) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{ObjectMeta: meta("ReplicaSet", "rs", owners...),
		Spec: appsv1.ReplicaSetSpec{Replicas: number(2)}}
}

func TestTheChainOfOwnersIsFollowedToTheTop(t *testing.T) {
	rs := ownedBy("ReplicaSet", "apps/v1", "rs")
	forbid := func(path string) func(http.ResponseWriter, *http.Request, http.HandlerFunc) {
		return func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
			if strings.HasSuffix(r.URL.Path, path) {
				apifake.Fail(w, http.StatusForbidden, metav1.StatusReasonForbidden, "forbidden")
				return
			}
			serve(w, r)
		}
	}
	for name, c := range map[string]struct {
		owner     []metav1.OwnerReference
		objects   []runtime.Object
		intercept func(http.ResponseWriter, *http.Request, http.HandlerFunc)
		want      []string // kind/name how replicas: error
		workload  string
	}{
		"bare pod": {},
		"deployment": {owner: rs, objects: []runtime.Object{replicaSet(ownedBy("Deployment", "apps/v1", "d")...),
			&appsv1.Deployment{ObjectMeta: meta("Deployment", "d"), Spec: appsv1.DeploymentSpec{Replicas: number(3)}}},
			want:     []string{"ReplicaSet todo-app/rs scale 2", "Deployment todo-app/d scale 3"},
			workload: "Deployment todo-app/d"},
		"stateful set without replicas": {owner: ownedBy("StatefulSet", "apps/v1", "s"),
			objects: []runtime.Object{&appsv1.StatefulSet{ObjectMeta: meta("StatefulSet", "s")}},
			want:    []string{"StatefulSet todo-app/s scale 1"}, workload: "StatefulSet todo-app/s"},
		"replication controller": {owner: ownedBy("ReplicationController", "v1", "rc"),
			objects: []runtime.Object{&corev1.ReplicationController{ObjectMeta: meta("ReplicationController", "rc"),
				Spec: corev1.ReplicationControllerSpec{Replicas: number(0)}}},
			want: []string{"ReplicationController todo-app/rc scale 0"}, workload: "ReplicationController todo-app/rc"},
		"daemon set": {owner: ownedBy("DaemonSet", "apps/v1", "ds"),
			objects: []runtime.Object{&appsv1.DaemonSet{ObjectMeta: meta("DaemonSet", "ds")}},
			want:    []string{"DaemonSet todo-app/ds exclude 0"}, workload: "DaemonSet todo-app/ds"},
		"cron job": {owner: ownedBy("Job", "batch/v1", "j"),
			objects: []runtime.Object{&batchv1.Job{ObjectMeta: meta("Job", "j",
				ownedBy("CronJob", "batch/v1", "cj")...)}, &batchv1.CronJob{ObjectMeta: meta("CronJob", "cj")}},
			want:     []string{"Job todo-app/j suspend 0", "CronJob todo-app/cj suspend 0"},
			workload: "CronJob todo-app/cj"},
		"custom with a scale": {owner: rs,
			objects: []runtime.Object{replicaSet(ownedBy("Rollout", "argoproj.io/v1alpha1", "r")...),
				object("argoproj.io/v1alpha1", "Rollout", ns, "r", nil,
					map[string]any{"replicas": int64(4),
						"selector": map[string]any{"matchLabels": map[string]any{"app": "x"}}})},
			want:     []string{"ReplicaSet todo-app/rs scale 2", "Rollout todo-app/r scale 4 custom app=x"},
			workload: "Rollout todo-app/r"},
		"custom without a scale": {owner: ownedBy("StrimziPodSet", "core.strimzi.io/v1beta2", "k"),
			objects: []runtime.Object{object("core.strimzi.io/v1beta2", "StrimziPodSet", ns, "k", nil, nil)},
			want:    []string{"StrimziPodSet todo-app/k  0 custom"}},
		"custom of the whole cluster": {owner: rs,
			objects: []runtime.Object{replicaSet(ownedBy("Installation", "operator.example.com/v1", "default")...),
				object("operator.example.com/v1", "Installation", "", "default", nil, nil)},
			want:     []string{"ReplicaSet todo-app/rs scale 2", "Installation default  0 custom"},
			workload: "ReplicaSet todo-app/rs"},
		"a kind of a builtin's name": {owner: ownedBy("Deployment", "example.com/v1", "d"),
			want: []string{`Deployment todo-app/d  0 custom: looking up the kind Deployment of example.com/v1`}},
		"a loop": {owner: rs, objects: []runtime.Object{replicaSet(ownedBy("Deployment", "apps/v1", "d")...),
			&appsv1.Deployment{ObjectMeta: meta("Deployment", "d", rs...)}},
			want:     []string{"ReplicaSet todo-app/rs scale 2", "Deployment todo-app/d scale 1"},
			workload: "Deployment todo-app/d"},
		"its own owner": {owner: rs, objects: []runtime.Object{replicaSet(rs...)},
			want: []string{"ReplicaSet todo-app/rs scale 2"}, workload: "ReplicaSet todo-app/rs"},
		"forbidden": {owner: rs, objects: []runtime.Object{replicaSet(ownedBy("Deployment", "apps/v1", "d")...)},
			intercept: forbid("/deployments/d"),
			want: []string{"ReplicaSet todo-app/rs scale 2",
				"Deployment todo-app/d  0: reading Deployment todo-app/d: forbidden"},
			workload: "ReplicaSet todo-app/rs"},
		"scale forbidden": {owner: ownedBy("Rollout", "argoproj.io/v1alpha1", "r"),
			objects:   []runtime.Object{object("argoproj.io/v1alpha1", "Rollout", ns, "r", nil, nil)},
			intercept: forbid("/scale"),
			want:      []string{"Rollout todo-app/r  0 custom: reading the scale of Rollout todo-app/r: forbidden"}},
		"deleted": {owner: rs,
			want: []string{`ReplicaSet todo-app/rs  0: reading ReplicaSet todo-app/rs: replicasets "rs" not found`}},
		"deleted and recreated": {owner: rs,
			objects: []runtime.Object{&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "rs",
				UID: "another"}}},
			want: []string{"ReplicaSet todo-app/rs  0: ReplicaSet todo-app/rs: " + cluster.ErrReplaced.Error()}},
	} {
		t.Run(name, func(t *testing.T) {
			s := apifake.New(t, custom...)
			s.Add(t, append(c.objects, pod("p", c.owner...))...)
			s.Intercept = c.intercept
			target, err := connect(t, s).GetTarget(bounded(t), ns, "p")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range target.Owners {
				text := fmt.Sprintf("%s %s %d", o.Ref, o.Stop, o.Replicas)
				if o.Custom {
					text += " custom"
				}
				if o.Selector != "" {
					text += " " + o.Selector
				}
				if o.Err != nil {
					text += ": " + o.Err.Error()
				}
				got = append(got, text)
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %q; want %q", got, c.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], c.want[i]) {
					t.Errorf("got %q; want %q", got[i], c.want[i])
				}
			}
			workload := ""
			if w := target.Workload(); w != nil {
				workload = w.Ref.String()
			}
			if workload != c.workload {
				t.Errorf("workload %q; want %q", workload, c.workload)
			}
		})
	}
}

func TestAStaticPodsNodeIsNotItsWorkload(t *testing.T) {
	s := apifake.New(t)
	p := pod("p", ownedBy("Node", "v1", "node-1")...)
	p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	s.Add(t, p)
	target, err := connect(t, s).GetTarget(bounded(t), ns, "p")
	if err != nil || !target.Mirror() || len(target.Owners) != 0 {
		t.Errorf("%+v, %v", target, err)
	}
}

func TestEachOwnerIsReadOnce(t *testing.T) {
	s := apifake.New(t)
	s.Add(t, replicaSet(ownedBy("Deployment", "apps/v1", "d")...),
		&appsv1.Deployment{ObjectMeta: meta("Deployment", "d")})
	for i := range 40 {
		s.Add(t, pod(fmt.Sprint("p", i), ownedBy("ReplicaSet", "apps/v1", "rs")...))
	}
	targets, err := connect(t, s).SelectTargets(bounded(t), "", "")
	if err != nil || len(targets) != 40 {
		t.Fatalf("%d targets, %v", len(targets), err)
	}
	if got := s.Requests(); len(got) != 3 {
		t.Errorf("made %q", got)
	}
}

func TestAPodThatDoesNotExist(t *testing.T) {
	s := apifake.New(t)
	s.Add(t, pod("backend-688d67cddc-dxv5m"), pod("backend-688d67cddc-aaaaa"), pod("frontend-1"))
	_, err := connect(t, s).GetTarget(bounded(t), ns, "backend-688d67cddc-dxv5n")
	var notFound *cluster.NotFoundError
	if !errors.As(err, &notFound) || len(notFound.Near) != 2 || notFound.Near[0] != "backend-688d67cddc-dxv5m" {
		t.Errorf("got %v", err)
	}
}

func TestNear(t *testing.T) {
	names := []string{"backend-abc-1", "backend-abc-2", "backend-abc-3", "backend-abc-4", "frontend-1", "db-0"}
	for name, want := range map[string][]string{
		"backend":                  {"backend-abc-1", "backend-abc-2", "backend-abc-3"},
		"backend-abc-5":            {"backend-abc-1", "backend-abc-2", "backend-abc-3"},
		"db-1":                     {"db-0"},
		"fronted-1":                {"frontend-1"},
		"something-quite-else":     nil,
		strings.Repeat("x", 1<<16): nil,
	} {
		if diff := cmp.Diff(want, cluster.Near(name, names)); diff != "" {
			t.Errorf("%.20s: %s", name, diff)
		}
	}
}

func TestPodsOfAWorkload(t *testing.T) {
	s := apifake.New(t)
	s.Add(t, replicaSet(ownedBy("Deployment", "apps/v1", "d")...),
		&appsv1.Deployment{ObjectMeta: meta("Deployment", "d")}, pod("mine", ownedBy("ReplicaSet", "apps/v1", "rs")...),
		pod("stray"))
	targets, err := connect(t, s).WorkloadTargets(bounded(t), cluster.Deployment.Named(ns, "d", "Deployment-d"))
	if err != nil || len(targets) != 1 || targets[0].Key() != "todo-app/mine" {
		t.Errorf("%v, %v", targets, err)
	}
}

func TestOwnersOfARecord(t *testing.T) {
	s := apifake.New(t)
	s.Add(t, replicaSet())
	refs := []cluster.Ref{cluster.ReplicaSet.Named(ns, "rs", "ReplicaSet-rs"),
		cluster.Deployment.Named(ns, "gone", "x")}
	target := connect(t, s).WithOwners(bounded(t), pod("p"), refs)
	if !target.Detached || target.Owners[0].Err != nil || !apierrors.IsNotFound(target.Owners[1].Err) {
		t.Errorf("%+v", target.Owners)
	}
}

func TestResourceType(t *testing.T) {
	s := apifake.New(t, custom...)
	client := connect(t, s)
	for name, want := range map[string]string{
		"deployment": "Deployment", "deploy": "Deployment", "Deployments": "Deployment",
		"deployments.apps": "Deployment", "sts": "StatefulSet", "po": "Pod", "cj": "CronJob",
		"rollouts": "Rollout", "rollout": "Rollout", "ro": "Rollout", "rollouts.argoproj.io": "Rollout",
		"installation":            "Installation",
		"deployments.example.com": "", "wurst": "", "rollouts.example.com": "", "": "",
	} {
		ref, err := client.ResourceType(bounded(t), name)
		if ref.Kind != want || (want == "") != errors.Is(err, cluster.ErrUnknownType) {
			t.Errorf("%q is %q, %v; want %q", name, ref.Kind, err, want)
		}
	}
}

func TestRefNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{cluster.Deployment.Named(ns, "d", "").String(), "Deployment todo-app/d"},
		{cluster.Node.Named("", "n", "").String(), "Node n"},
		{cluster.Deployment.Named(ns, "d", "").KubectlName(), "deployment/d"},
		{cluster.Ref{Group: "argoproj.io", Version: "v1alpha1", Resource: "rollouts", Kind: "Rollout",
			Name: "r"}.KubectlName(), "rollouts.argoproj.io/r"},
		{cluster.Ref{Group: "example.com", Version: "v1", Resource: "deployments", Kind: "Deployment",
			Name: "d"}.KubectlName(), "deployments.example.com/d"},
		{cluster.Ref{Version: "v1", Resource: "configmaps", Kind: "ConfigMap", Name: "c"}.KubectlName(),
			"configmaps/c"},
		{cluster.Deployment.APIVersion(), "apps/v1"}, {cluster.Pod.APIVersion(), "v1"},
	} {
		if c.got != c.want {
			t.Errorf("got %q; want %q", c.got, c.want)
		}
	}
}

func TestExplain(t *testing.T) {
	gr := schema.GroupResource{Group: "apps", Resource: "deployments"}
	forbidden := func(message string) error { return apierrors.NewForbidden(gr, "d", errors.New(message)) }
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"webhook": {forbidden(`admission webhook "x" denied the request: no`), "the admission webhook x forbids it"},
		"quota":   {forbidden("exceeded quota: compute"), "a ResourceQuota"},
		"a right": {forbidden(`User "jane" cannot patch resource "pods" in API group "" in the namespace "n"`),
			"the right to patch pods is missing in namespace n; the ClusterRole irctl-responder has it (irctl doctor " +
				"--roles prints it): " +
				"kubectl create rolebinding irctl-responder-jane --clusterrole=irctl-responder --user=jane -n n"},
		"a right to read": {forbidden(`User "jane" cannot list resource "pods" in API group "" in the namespace "n"`),
			"kubectl create rolebinding irctl-investigator-jane --clusterrole=irctl-investigator --user=jane -n n"},
		"a right on the whole cluster": {forbidden(
			`User "jane" cannot patch resource "nodes" in API group "" at the cluster scope`),
			"the ClusterRole irctl-responder has it, and more; this right alone: kubectl create clusterrole " +
				"irctl-patch-nodes --verb=patch --resource=nodes; " +
				"kubectl create clusterrolebinding irctl-patch-nodes-jane --clusterrole=irctl-patch-nodes --user=jane"},
		"a right on a part, everywhere": {forbidden(
			`User "jane" cannot patch resource "deployments/scale" in API group "apps" at the cluster scope`),
			"kubectl create clusterrole irctl-patch-deployments.apps-scale --verb=patch " +
				"--resource=deployments.apps/scale; "},
		"a right without end": {forbidden(`User "` + strings.Repeat("j", 1000) +
			`" cannot patch resource "pods" in API group ""`), "a right is missing; irctl doctor lists which"},
		"a right of another": {forbidden(`User "jane" cannot patch resource "secrets" in API group ""`),
			"the ClusterRole irctl-eradicator has it"},
		"a right of nobody": {forbidden(`User "jane" cannot patch resource "widgets" in API group "example.com"`),
			"the right to patch widgets.example.com is missing; no ClusterRole of irctl's has it"},
		"a right on a part": {forbidden(
			`User "jane" cannot patch resource "deployments/scale" in API group "apps" in the namespace "n"`),
			"the right to patch deployments.apps/scale is missing in namespace n"},
		"of a hostile name": {forbidden(`User "a;reboot '" cannot patch resource "pods" in API group ""`),
			`--user='a;reboot '\'''`},
		"a service account": {forbidden(
			`User "system:serviceaccount:n:a" cannot get resource "pods" in API group "" in the namespace "n"`),
			"kubectl create rolebinding irctl-investigator-system-serviceaccount-n-a-420bff51 " +
				"--clusterrole=irctl-investigator --user=system:serviceaccount:n:a -n n"},
		"of a role's rights": {forbidden(
			`user "jane" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently ` +
				`held:` + "\n" + `{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}`),
			"only somebody may change a binding who holds all that its role allows"},
		"some right":     {forbidden(`User "jane" cannot get path "/metrics"`), "a right is missing"},
		"another plugin": {forbidden("because"), "an admission plugin of the API server forbids it"},
		"expired": {apierrors.NewUnauthorized("expired"),
			"the credentials are missing, wrong or expired"},
		"unknown CA": {&url.Error{Err: x509.UnknownAuthorityError{}}, "certificate is not trusted"},
		"wrong host": {&url.Error{Err: x509.HostnameError{Certificate: &x509.Certificate{}}},
			"certificate is not trusted"},
		"expired certificate": {&url.Error{Err: x509.CertificateInvalidError{Reason: x509.Expired}},
			"certificate is not trusted"},
		"name": {&net.OpError{Err: &net.DNSError{Name: "x"}}, "name cannot be resolved"},
		"refused": {&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
			"nothing listens there"},
		"dropped":                {&url.Error{Err: cluster.ErrBrokenOff}, "takes the connection and drops it"},
		"throttled":              {apierrors.NewTooManyRequests("slow", 1), "throttles"},
		"deadline":               {fmt.Errorf("x: %w", context.DeadlineExceeded), "took too long"},
		"timeout":                {apierrors.NewTimeoutError("x", 1), "took too long"},
		"disk":                   {&os.PathError{Err: syscall.ENOSPC}, "the disk is full"},
		"read-only":              {&os.PathError{Err: syscall.EROFS}, "read-only"},
		"what speaks for itself": {errors.New("no such pod"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, err := range []error{c.err, fmt.Errorf("doing something: %w", c.err)} {
				got := cluster.Explain(err, deploy.RoleFor)
				if !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
					t.Errorf("got %q; want %q", got, c.want)
				}
				if strings.HasSuffix(got, ".") {
					t.Error("ends with a full stop")
				}
			}
		})
	}
}

func TestReadsAreRepeatedAndWritesAreNot(t *testing.T) {
	answer := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	broken := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	get := func(ctx context.Context, c *cluster.Client) error {
		_, err := c.Kube.CoreV1().Pods(ns).Get(ctx, "p", metav1.GetOptions{})
		return err
	}
	review := func(ctx context.Context, c *cluster.Client) error {
		return c.Can(ctx, []cluster.Access{{Verb: "get", Resource: "pods"}})[0].Err
	}
	patch := func(ctx context.Context, c *cluster.Client) error {
		_, err := c.Kube.CoreV1().Pods(ns).Patch(ctx, "p", types.MergePatchType, []byte(`{}`), metav1.PatchOptions{})
		return err
	}
	command := func(ctx context.Context, c *cluster.Client) error {
		url := c.Kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(ns).Name("p").SubResource("exec").URL()
		executor, err := remotecommand.NewWebSocketExecutor(c.Config, "GET", url.String())
		if err != nil {
			return err
		}
		return executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.Discard})
	}
	for name, c := range map[string]struct {
		fails    http.HandlerFunc
		times    int
		do       func(context.Context, *cluster.Client) error
		requests int
		ok       bool
	}{
		"500":                  {answer(500), 2, get, 3, true},
		"503":                  {answer(503), 2, get, 3, true},
		"429":                  {answer(429), 2, get, 3, true},
		"broken":               {broken, 2, get, 3, true},
		"broken each time":     {broken, 100, get, 5, false},
		"404 is an answer":     {answer(404), 100, get, 1, false},
		"a question about us":  {answer(503), 2, review, 3, true},
		"a write":              {answer(503), 2, patch, 1, false},
		"a write that is lost": {broken, 2, patch, 1, false},
		"a command":            {answer(503), 2, command, 1, false}, // although it is a GET
		"a command, broken":    {broken, 2, command, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := apifake.New(t)
			s.Add(t, pod("p"))
			var n atomic.Int32
			s.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
				if int(n.Add(1)) <= c.times {
					c.fails(w, r)
					return
				}
				serve(w, r)
			}
			err := c.do(bounded(t), connect(t, s))
			if (err == nil) != c.ok {
				t.Errorf("got %v", err)
			}
			if got := len(s.Requests()); got != c.requests {
				t.Errorf("%d requests; want %d", got, c.requests)
			}
		})
	}
}

func TestAServerThatAsksToWaitIsNotAskedForever(t *testing.T) {
	s := apifake.New(t)
	s.Intercept = func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		w.Header().Set("Retry-After", "3600") // more than anybody waits
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	client := connect(t, s)
	if _, err := client.Kube.CoreV1().Pods(ns).Get(bounded(t), "p", metav1.GetOptions{}); err == nil {
		t.Error("no error")
	}
	if n := len(s.Requests()); n > 8 {
		t.Errorf("%d requests", n)
	}
	s.Forget()
	if _, err := client.Kube.CoreV1().Pods(ns).Create(bounded(t), pod("p"), metav1.CreateOptions{}); err == nil {
		t.Error("no error")
	}
	if n := len(s.Requests()); n != 1 {
		t.Errorf("a write was made %d times", n)
	}
}

func TestParallel(t *testing.T) {
	for _, n := range []int{0, 1, 2, 100} {
		var running, most, calls atomic.Int32
		var mu sync.Mutex
		seen := map[int]bool{}
		cluster.Parallel(n, func(i int) {
			r := running.Add(1)
			mu.Lock()
			seen[i] = true
			most.Store(max(most.Load(), r))
			mu.Unlock()
			calls.Add(1)
			running.Add(-1)
		})
		if len(seen) != n || int(calls.Load()) != n || most.Load() > cluster.Concurrency || running.Load() != 0 {
			t.Errorf("%d: called for %d, %d at once", n, len(seen), most.Load())
		}
	}
}

func TestIdentify(t *testing.T) {
	s := apifake.New(t)
	s.Add(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "cluster-uid"}})
	client := connect(t, s)
	if _, known := client.ClockOffset(); known {
		t.Error("the clock is known before the first answer")
	}
	got, err := client.Identify(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	want := cluster.Identity{Server: got.Server, ClusterUID: "cluster-uid", User: "jane",
		Groups: []string{"responders"}, Version: "v1.37.2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if offset, known := client.ClockOffset(); !known || offset.Abs() > 2*time.Second {
		t.Errorf("clock offset %v, %t", offset, known)
	}
}

func TestIdentifyWithoutRights(t *testing.T) {
	for code, ok := range map[int]bool{http.StatusForbidden: true, http.StatusUnauthorized: false} {
		s := apifake.New(t)
		s.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
			if r.URL.Path == "/version" && ok {
				serve(w, r)
				return
			}
			apifake.Fail(w, code, metav1.StatusReason(http.StatusText(code)), "no")
		}
		id, err := connect(t, s).Identify(bounded(t))
		if (err == nil) != ok || id.ClusterUID != "" || id.User != "" {
			t.Errorf("%d: %+v, %v", code, id, err)
		}
	}
}

func TestTheClockOffsetIsThatOfTheServer(t *testing.T) {
	s := apifake.New(t)
	s.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		serve(w, r)
	}
	client := connect(t, s)
	if _, err := client.Identify(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if offset, known := client.ClockOffset(); !known || (offset-time.Hour).Abs() > 2*time.Second {
		t.Errorf("clock offset %v, %t", offset, known)
	}
}

func TestCan(t *testing.T) {
	s := apifake.New(t)
	s.Allowed = func(verb, group, resource, sub, namespace string) bool {
		return verb == "patch" && group == "apps" && resource == "deployments" && sub == "scale" && namespace == ns
	}
	answers := connect(t, s).Can(bounded(t),
		[]cluster.Access{{Verb: "patch", Group: "apps", Resource: "deployments/scale", Namespace: ns},
			{Verb: "patch", Group: "apps", Resource: "deployments", Namespace: ns}})
	if !answers[0].Allowed || answers[1].Allowed || answers[0].Err != nil {
		t.Errorf("%+v", answers)
	}
}

func TestSurvey(t *testing.T) {
	s := apifake.New(t, custom...)
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}
	s.Add(t, &corev1.Service{ObjectMeta: meta("Service", "s")},
		&networkingv1.NetworkPolicy{ObjectMeta: meta("NetworkPolicy", "np")},
		&autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: meta("HPA", "hpa")},
		&appsv1.ReplicaSet{ObjectMeta: meta("ReplicaSet", "rs"), Spec: appsv1.ReplicaSetSpec{Selector: selector}},
		&appsv1.StatefulSet{ObjectMeta: meta("StatefulSet", "sts"), Spec: appsv1.StatefulSetSpec{Selector: selector}},
		&appsv1.DaemonSet{ObjectMeta: meta("DaemonSet", "ds"), Spec: appsv1.DaemonSetSpec{Selector: selector}},
		&batchv1.Job{ObjectMeta: meta("Job", "j"), Spec: batchv1.JobSpec{Selector: selector}},
		&corev1.ReplicationController{ObjectMeta: meta("ReplicationController", "rc"),
			Spec: corev1.ReplicationControllerSpec{Selector: map[string]string{"app": "x"}}},
		&appsv1.ReplicaSet{ObjectMeta: meta("ReplicaSet", "selects-nothing")},
		object("keda.sh/v1alpha1", "ScaledObject", ns, "so", nil, nil))
	for i := range 1200 { // several pages
		s.Add(t, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "big", Name: fmt.Sprint("s", i)}})
	}
	for name, namespaces := range map[string][]string{"few": {ns, "big"}, "many": {ns, "big", "a", "b", "c"}} {
		t.Run(name, func(t *testing.T) {
			found := connect(t, s).Survey(bounded(t), namespaces)
			n := found[ns]
			if len(found) != len(namespaces) || len(n.Services) != 1 || len(n.Policies) != 1 ||
				len(n.Autoscalers) != 1 || len(n.ScaledObjects) != 1 || len(n.Controllers) != 5 || len(n.Gaps) != 0 {
				t.Errorf("%+v", n)
			}
			if len(found["big"].Services) != 1200 {
				t.Errorf("%d services", len(found["big"].Services))
			}
		})
	}
}

func TestWhatCannotBeListedIsAGap(t *testing.T) {
	// Somebody who may list in one namespace of five, and nowhere else.
	s := apifake.New(t, custom...)
	s.Add(t, &corev1.Service{ObjectMeta: meta("Service", "s")},
		object("keda.sh/v1alpha1", "ScaledObject", ns, "so", nil, nil))
	s.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if !strings.Contains(r.URL.Path, "/namespaces/"+ns+"/") || strings.HasSuffix(r.URL.Path, "/jobs") {
			apifake.Fail(w, http.StatusForbidden, metav1.StatusReasonForbidden, "no")
			return
		}
		serve(w, r)
	}
	found := connect(t, s).Survey(bounded(t), []string{ns, "b", "c", "d", "e"})
	if n := found[ns]; len(n.Services) != 1 || len(n.ScaledObjects) != 1 || len(n.Gaps) != 1 ||
		n.Gaps[0].String() != "listing jobs in namespace todo-app: no" {
		t.Errorf("%+v", n)
	}
	if n := found["b"]; len(n.Gaps) != 9 {
		t.Errorf("%d gaps: %v", len(n.Gaps), n.Gaps)
	}
}

func TestWhatIsNotServedIsNoGap(t *testing.T) {
	// The server forbids what nobody was given, also where it does not serve it.
	forbidding := func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if strings.HasSuffix(r.URL.Path, "/scaledobjects") {
			apifake.Fail(w, http.StatusForbidden, metav1.StatusReasonForbidden, "no")
			return
		}
		serve(w, r)
	}
	for name, c := range map[string]struct {
		kinds []apifake.Kind
		gaps  int
	}{"KEDA is installed": {custom, 1}, "KEDA is not installed": {nil, 0}} {
		t.Run(name, func(t *testing.T) {
			s := apifake.New(t, c.kinds...)
			s.Intercept = forbidding
			if n := connect(t, s).Survey(bounded(t), []string{ns})[ns]; len(n.Gaps) != c.gaps {
				t.Errorf("%d gaps, expected %d: %v", len(n.Gaps), c.gaps, n.Gaps)
			}
		})
	}
}
