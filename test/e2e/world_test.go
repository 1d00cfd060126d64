package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"irctl/test/e2e/cluster"
	"irctl/test/e2e/lab"
	"irctl/test/e2e/manifest"
	"irctl/test/e2e/todoapp"
)

// The people who run irctl. Each is bound to the ClusterRole of that name that
// irctl ships, and to nothing else, but for the responder's right to the tests'
// own custom resource.
const (
	responder    = "responder"
	investigator = "investigator"
	// nobody may do what a test lets them.
	nobody = "nobody"
	// admin does not run irctl, but what irctl asks an administrator for.
	admin = "admin"
)

// A World is a cluster, the irctl under test, and the people who use both.
type World struct {
	Admin   *rest.Config
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
	// Irctl is the path of the binary under test.
	Irctl string
	// Enforced tells whether something in the cluster makes NetworkPolicies bite.
	Enforced bool
	// Cluster is nil when the tests run on a cluster of somebody else's making.
	Cluster *cluster.Cluster

	dir         string
	kubeconfigs map[string]string // by person
	namespaced  []schema.GroupVersionResource
	close       []func() error // last first
}

// NewWorld starts a cluster of our own; or, if kubeconfig is given, uses that
// cluster; or, if dir is given, uses the one that `e2ecluster up --dir` runs there.
func NewWorld(ctx context.Context, kubeconfig, dir string) (*World, error) {
	w := &World{kubeconfigs: map[string]string{}}
	if err := w.begin(ctx, kubeconfig, dir); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *World) begin(ctx context.Context, kubeconfig, dir string) error {
	var err error
	if w.dir, err = os.MkdirTemp("", "irctl-e2e-suite-"); err != nil {
		return err
	}
	w.close = append(w.close, func() error { return os.RemoveAll(w.dir) })
	if err := w.buildIrctl(ctx); err != nil {
		return err
	}
	switch {
	case kubeconfig != "":
		err = w.useForeign(ctx, kubeconfig)
	case dir != "":
		err = w.attach(dir)
	default:
		err = w.startLab(ctx)
	}
	if err != nil {
		return err
	}
	if err := w.grant(ctx); err != nil {
		return err
	}
	return w.discover()
}

// Close undoes everything that NewWorld did, the last thing first.
func (w *World) Close() error {
	var errs []error
	for _, undo := range slices.Backward(w.close) {
		errs = append(errs, undo())
	}
	w.close = nil
	return errors.Join(errs...)
}

// buildIrctl builds the program of this checkout, unless IRCTL_E2E_BINARY names one.
func (w *World) buildIrctl(ctx context.Context) error {
	if given := os.Getenv("IRCTL_E2E_BINARY"); given != "" {
		var err error
		w.Irctl, err = filepath.Abs(given)
		return err
	}
	w.Irctl = filepath.Join(w.dir, "irctl")
	build := exec.CommandContext(ctx, "go", "build", "-o", w.Irctl, "./cmd/irctl")
	build.Dir = checkout
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build irctl: %w: %s", err, output)
	}
	return nil
}

// checkout is the root of the repository: tests run in their package's folder.
const checkout = "../.."

func (w *World) startLab(ctx context.Context) error {
	l, err := lab.Start(ctx, lab.Options{Bare: true,
		Cluster: cluster.Options{Dir: os.Getenv("IRCTL_E2E_LOGS"), Log: os.Stderr}})
	if err != nil {
		return err
	}
	w.close = append(w.close, l.Stop)
	return w.useOwn(l.Cluster)
}

func (w *World) attach(dir string) error {
	c, err := cluster.Attach(dir)
	if err != nil {
		return err
	}
	return w.useOwn(c)
}

func (w *World) useOwn(c *cluster.Cluster) error {
	w.Cluster, w.Enforced = c, true
	for _, person := range []string{responder, investigator, nobody} {
		w.kubeconfigs[person] = c.Kubeconfig(person)
	}
	return w.connect(c.Kubeconfig("admin"))
}

// useForeign makes the people of the tests out of one administrator, who may
// impersonate them.
func (w *World) useForeign(ctx context.Context, kubeconfig string) (err error) {
	if err := w.connect(kubeconfig); err != nil {
		return err
	}
	for _, person := range []string{responder, investigator, nobody} {
		config, err := clientcmd.LoadFromFile(kubeconfig)
		if err != nil {
			return err
		}
		if err := clientcmd.ResolveLocalPaths(config); err != nil { //nolint:staticcheck // the copy lies elsewhere
			return err
		}
		for _, credentials := range config.AuthInfos {
			credentials.Impersonate = person
		}
		w.kubeconfigs[person] = filepath.Join(w.dir, person+".yaml")
		if err := clientcmd.WriteToFile(*config, w.kubeconfigs[person]); err != nil {
			return err
		}
	}
	var gadgets sync.WaitGroup
	background, cancel := context.WithCancel(context.Background())
	w.close = append(w.close, func() error {
		cancel()
		gadgets.Wait()
		return nil
	})
	if err := lab.StartGadgets(ctx, background, w.Admin, io.Discard, &gadgets); err != nil {
		return err
	}
	w.Enforced, err = w.tryEnforcement(ctx)
	return err
}

// tryEnforcement finds out by experiment whether a pod that a policy cuts off
// can be reached all the same.
func (w *World) tryEnforcement(ctx context.Context) (bool, error) {
	const namespace = "irctl-e2e-probe"
	err := manifest.Apply(ctx, w.Admin, "", []byte("{apiVersion: v1, kind: Namespace, metadata: {name: "+namespace+
		"}}"))
	if err != nil {
		return false, err
	}
	//nolint:errcheck // it only lies there
	defer w.Client.CoreV1().Namespaces().Delete(context.WithoutCancel(ctx), namespace, metav1.DeleteOptions{})
	for _, data := range [][]byte{todoapp.Workload("deployment", namespace), todoapp.Policies()} {
		if err := manifest.Apply(ctx, w.Admin, namespace, data); err != nil {
			return false, err
		}
	}
	if err := todoapp.AwaitPods(ctx, w.Client, namespace, "app=deployment", 2); err != nil {
		return false, fmt.Errorf("%w (are the images loaded that `e2ecluster images` writes?)", err)
	}
	pods, err := w.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	from, to := pods.Items[0], pods.Items[1]
	// A plugin may take a moment to learn of a policy, but not this long.
	err = wait.PollUntilContextTimeout(ctx, time.Second, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		_, code, err := w.exec(ctx, &from, "netbox", "dial", to.Status.PodIP+":8080", "1s")
		return code != 0, err
	})
	if wait.Interrupted(err) {
		return false, ctx.Err()
	}
	return err == nil, err
}

func (w *World) connect(kubeconfig string) error {
	var err error
	w.kubeconfigs[admin] = kubeconfig
	if w.Admin, err = lab.Config(kubeconfig); err != nil {
		return err
	}
	if w.Client, err = kubernetes.NewForConfig(w.Admin); err != nil {
		return err
	}
	w.Dynamic, err = dynamic.NewForConfig(w.Admin)
	return err
}

// gadgetRights is what a cluster's administrator adds for a kind of workload
// that irctl's own role cannot know.
const gadgetRights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: irctl-e2e-gadgets}
rules:
- {apiGroups: [example.com], resources: [gadgets], verbs: [get, list]}
- {apiGroups: [example.com], resources: [gadgets/scale], verbs: [get, patch]}
`

// binding gives a person a ClusterRole.
const binding = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: irctl-e2e-%[1]s-%[2]s}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: %[1]s}]
roleRef: {kind: ClusterRole, apiGroup: rbac.authorization.k8s.io, name: %[2]s}
`

// grant installs the roles as they ship and binds the people to them.
func (w *World) grant(ctx context.Context) error {
	manifests := [][]byte{[]byte(gadgetRights)}
	shipped, err := filepath.Glob(filepath.Join(checkout, "deploy", "*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range shipped {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		manifests = append(manifests, data)
	}
	for _, bound := range [][2]string{
		{responder, "irctl-responder"},
		{responder, "irctl-e2e-gadgets"},
		{investigator, "irctl-investigator"},
	} {
		manifests = append(manifests, fmt.Appendf(nil, binding, bound[0], bound[1]))
		w.close = append(w.close, func() error {
			name := "irctl-e2e-" + bound[0] + "-" + bound[1]
			return w.Client.RbacV1().ClusterRoleBindings().Delete(context.Background(), name, metav1.DeleteOptions{})
		})
	}
	for _, data := range manifests {
		if err := manifest.Apply(ctx, w.Admin, "", data); err != nil {
			return err
		}
	}
	return nil
}

// discover finds every kind of object that lives in a namespace.
func (w *World) discover() error {
	finder, err := discovery.NewDiscoveryClientForConfig(w.Admin)
	if err != nil {
		return err
	}
	lists, err := finder.ServerPreferredNamespacedResources()
	if err != nil {
		return fmt.Errorf("discover the kinds of objects: %w", err)
	}
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list"}}, lists) {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return err
		}
		for _, resource := range list.APIResources {
			w.namespaced = append(w.namespaced, group.WithResource(resource.Name))
		}
	}
	return nil
}
