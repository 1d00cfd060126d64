package contain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/internal/cluster"
	"irctl/internal/cluster/rights"
	"irctl/internal/steps"
)

// Facts are what the verdict needs to know besides the suspects themselves.
// They do not depend on what containment changes, so they are gathered while
// it is under way.
type Facts struct {
	// Enforcers are what was recognised as enforcing NetworkPolicy.
	Enforcers []string
	// Gaps are what could not be read and concerns all suspects.
	Gaps []Gap
	// OtherPolicies are policies of other kinds, which irctl does not evaluate, by namespace.
	OtherPolicies map[string][]string

	accounts     map[string]*corev1.ServiceAccount
	accountErrs  map[string]error // also that there is none
	enforcersErr error
	rbac         rights.Sources
	rbacErr      error
}

// Gap is something that the verdict should have known and that could not be
// read. It weighs as what it may hide: policies of other kinds may let traffic
// through, an autoscaler or GitOps controller may put the workload back, a
// Service may lead in from outside, an annotation may name a cloud identity.
// Each of these is a risk once it is seen, so not to see it is one too.
type Gap struct{ cluster.Gap }

func (g Gap) exposure() Exposure {
	return Exposure{Code: codeUnknown, Severity: Risk, Text: "not checked: " + g.String(),
		Close: cluster.ToRead(g.Err, "get the right to read it, and look again")}
}

// around are the gaps of the survey of a suspect's namespace. Its NetworkPolicies
// are left out: they are read again for the verdict, which rests on them.
func (ob *observer) around(t *cluster.Target) []Gap {
	var list []Gap
	if ns := ob.scene.Around[t.Pod.Namespace]; ns != nil {
		for _, g := range ns.Gaps {
			if g.List != cluster.PolicyList {
				list = append(list, Gap{g})
			}
		}
	}
	return list
}

// unseen are the gaps about controllers that would put the workload back.
func unseen(opponents []Opponent) []Gap {
	var list []Gap
	for _, o := range opponents {
		if o.Err != nil {
			list = append(list, Gap{cluster.Gap{What: "reading " + o.Ref.String() + ", which would put back " + o.Of,
				Err: o.Err}})
		}
	}
	return list
}

// Gather reads the facts, all requests in parallel. The verdict does not wait for
// what does not come.
func Gather(ctx context.Context, scene *steps.Scene, serverVersion string) *Facts {
	ctx, cancel := scene.Client.Briefly(ctx)
	defer cancel()
	f := &Facts{OtherPolicies: map[string][]string{}, accounts: map[string]*corev1.ServiceAccount{},
		accountErrs: map[string]error{}}
	var mu sync.Mutex
	kube := scene.Client.Kube
	accounts := map[string][2]string{}
	for _, t := range scene.Targets {
		name := t.Pod.Spec.ServiceAccountName
		if name == "" {
			name = "default"
		}
		accounts[t.Pod.Namespace+"/"+name] = [2]string{t.Pod.Namespace, name}
	}
	tasks := []func(){
		func() { f.Enforcers, f.enforcersErr = Enforcers(ctx, scene.Client, serverVersion) },
		func() { f.rbac, f.rbacErr = scene.Client.RBAC(ctx) },
		func() {
			other, err := otherPolicies(ctx, scene)
			if f.OtherPolicies = other; err != nil {
				f.Gaps = []Gap{{cluster.Gap{What: "looking for policies of other kinds", Err: err}}}
			}
		},
	}
	for _, key := range sortedKeys(accounts) {
		a := accounts[key]
		tasks = append(tasks, func() {
			sa, err := kube.CoreV1().ServiceAccounts(a[0]).Get(ctx, a[1], metav1.GetOptions{})
			mu.Lock()
			defer mu.Unlock()
			if f.accountErrs[key] = err; err == nil {
				f.accounts[key] = sa
			}
		})
	}
	cluster.Parallel(len(tasks), func(i int) { tasks[i]() })
	return f
}

// knownEnforcers are DaemonSets that implement NetworkPolicy, by a part of
// their name. Flannel alone is not among them: it does not.
// https://kubernetes.io/docs/concepts/cluster-administration/addons/#networking-and-network-policy
var knownEnforcers = []struct{ part, title string }{
	{"calico-node", "Calico"}, {"canal", "Canal"}, {"cilium", "Cilium"}, {"antrea-agent", "Antrea"},
	{"weave-net", "Weave Net"},
	{"kube-router", "kube-router"}, {"ovnkube-node", "OVN-Kubernetes"},
	{"kube-network-policies", "kube-network-policies"},
	{"anetd", "GKE Dataplane V2"}, {"azure-npm", "Azure NPM"}, {"kube-ovn-cni", "Kube-OVN"}, {"romana-agent", "Romana"},
	{"sdn", "OpenShift SDN"},
	{"terway", "Terway"},
}

// Enforcers names what in the cluster is known to enforce NetworkPolicy. Not
// to find any proves nothing: it may run outside of pods.
func Enforcers(ctx context.Context, client *cluster.Client, serverVersion string) ([]string, error) {
	found := map[string]bool{}
	if strings.Contains(serverVersion, "+k3s") {
		found["the network policy controller inside k3s"] = true
	}
	list := func(namespace string) error {
		return cluster.Pages(ctx, client.Kube.AppsV1().DaemonSets(namespace).List, metav1.ListOptions{},
			func(page *appsv1.DaemonSetList) {
				for i := range page.Items {
					if title := enforcer(&page.Items[i]); title != "" {
						found[title] = true
					}
				}
			})
	}
	err := list(metav1.NamespaceAll)
	if apierrors.IsForbidden(err) {
		err = list(metav1.NamespaceSystem)
	}
	if err != nil {
		return sortedKeys(found), fmt.Errorf("listing DaemonSets: %w", err)
	}
	return sortedKeys(found), nil
}

func enforcer(d *appsv1.DaemonSet) string {
	if d.Status.NumberReady == 0 {
		return "" // installed, and running nowhere
	}
	for _, k := range knownEnforcers {
		if d.Name == k.part || strings.HasPrefix(d.Name, k.part+"-") || strings.HasSuffix(d.Name, "-"+k.part) {
			return k.title
		}
	}
	// The VPC CNI enforces with the agent beside it, when that is told to.
	for _, c := range d.Spec.Template.Spec.Containers {
		if d.Name != "aws-node" || c.Name != "aws-eks-nodeagent" {
			continue
		}
		for _, arg := range c.Args {
			if arg == "--enable-network-policy=true" {
				return "Amazon VPC CNI"
			}
		}
	}
	return ""
}

// otherKinds are policies that add to, or override, NetworkPolicy.
var otherKinds = []struct {
	gvr        schema.GroupVersionResource
	kind       string
	namespaced bool
}{
	{schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumnetworkpolicies"},
		"CiliumNetworkPolicy", true},
	{schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumclusterwidenetworkpolicies"},
		"CiliumClusterwideNetworkPolicy", false},
	{schema.GroupVersionResource{Group: "crd.projectcalico.org", Version: "v1", Resource: "networkpolicies"},
		"Calico NetworkPolicy", true},
	{schema.GroupVersionResource{Group: "crd.projectcalico.org", Version: "v1", Resource: "globalnetworkpolicies"},
		"Calico GlobalNetworkPolicy", false},
	{schema.GroupVersionResource{Group: "policy.networking.k8s.io", Version: "v1alpha1",
		Resource: "adminnetworkpolicies"}, "AdminNetworkPolicy", false},
}

// otherPolicies lists those of the whole cluster (under "") and those of the
// suspects' namespaces. One page of each is enough to say that there are some.
func otherPolicies(ctx context.Context, scene *steps.Scene) (map[string][]string, error) {
	groups := &metav1.APIGroupList{}
	if err := scene.Client.Kube.Discovery().RESTClient().Get().AbsPath("/apis").SetHeader("Accept", "application/json").
		Do(ctx).Into(groups); err != nil {
		return nil, err
	}
	served := map[string]bool{}
	for _, g := range groups.Groups {
		served[g.Name] = true
	}
	found := map[string][]string{}
	var errs []error
	for _, k := range otherKinds {
		if !served[k.gvr.Group] {
			continue
		}
		namespaces := []string{metav1.NamespaceAll}
		if k.namespaced {
			namespaces = namespacesOf(scene.Targets)
		}
		for _, ns := range namespaces {
			list := scene.Client.Dynamic.Resource(k.gvr).Namespace(ns).List
			err := cluster.Pages(ctx, list, metav1.ListOptions{}, func(page *unstructured.UnstructuredList) {
				for _, o := range page.Items {
					found[ns] = append(found[ns], k.kind+" "+o.GetName())
				}
			})
			if apierrors.IsNotFound(err) {
				continue // the group has other kinds
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("listing %s: %w", k.gvr.GroupResource(), err))
			}
		}
	}
	return found, errors.Join(errs...)
}
