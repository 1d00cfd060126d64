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
	// Gaps are what could not be read.
	Gaps []cluster.Gap
	// OtherPolicies are policies of other kinds, which irctl does not evaluate, by namespace.
	OtherPolicies map[string][]string

	accounts map[string]*corev1.ServiceAccount
	rbac     rights.Sources
	rbacErr  error
}

// Gather reads the facts, all requests in parallel.
func Gather(ctx context.Context, scene *steps.Scene, serverVersion string) *Facts {
	f := &Facts{OtherPolicies: map[string][]string{}, accounts: map[string]*corev1.ServiceAccount{}}
	var mu sync.Mutex
	gap := func(what string, err error) {
		if err == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		f.Gaps = append(f.Gaps, cluster.Gap{What: what, Err: err})
	}
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
		func() {
			enforcers, err := Enforcers(ctx, scene.Client, serverVersion)
			gap("looking for what enforces NetworkPolicy", err)
			f.Enforcers = enforcers
		},
		func() { f.rbac, f.rbacErr = scene.Client.RBAC(ctx) },
		func() {
			other, err := otherPolicies(ctx, scene)
			gap("looking for policies of other kinds", err)
			f.OtherPolicies = other
		},
	}
	for _, key := range sortedKeys(accounts) {
		a := accounts[key]
		tasks = append(tasks, func() {
			sa, err := kube.CoreV1().ServiceAccounts(a[0]).Get(ctx, a[1], metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return
			}
			gap("reading ServiceAccount "+key, err)
			if err == nil {
				mu.Lock()
				f.accounts[key] = sa
				mu.Unlock()
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
	{"calico-node", "Calico"}, {"canal", "Canal"}, {"cilium", "Cilium"}, {"antrea-agent", "Antrea"}, {"weave-net", "Weave Net"},
	{"kube-router", "kube-router"}, {"ovnkube-node", "OVN-Kubernetes"}, {"kube-network-policies", "kube-network-policies"},
	{"anetd", "GKE Dataplane V2"}, {"azure-npm", "Azure NPM"}, {"kube-ovn-cni", "Kube-OVN"}, {"romana-agent", "Romana"}, {"sdn", "OpenShift SDN"},
	{"terway", "Terway"},
}

// Enforcers names what in the cluster is known to enforce NetworkPolicy. Not
// to find any proves nothing: it may run outside of pods.
func Enforcers(ctx context.Context, client *cluster.Client, serverVersion string) ([]string, error) {
	found := map[string]bool{}
	if strings.Contains(serverVersion, "+k3s") {
		found["the network policy controller inside k3s"] = true
	}
	list, err := client.Kube.AppsV1().DaemonSets("").List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		list, err = client.Kube.AppsV1().DaemonSets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{})
	}
	if err != nil {
		return sortedKeys(found), fmt.Errorf("listing DaemonSets: %w", err)
	}
	for i := range list.Items {
		if title := enforcer(&list.Items[i]); title != "" {
			found[title] = true
		}
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
	{schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumnetworkpolicies"}, "CiliumNetworkPolicy", true},
	{schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumclusterwidenetworkpolicies"}, "CiliumClusterwideNetworkPolicy", false},
	{schema.GroupVersionResource{Group: "crd.projectcalico.org", Version: "v1", Resource: "networkpolicies"}, "Calico NetworkPolicy", true},
	{schema.GroupVersionResource{Group: "crd.projectcalico.org", Version: "v1", Resource: "globalnetworkpolicies"}, "Calico GlobalNetworkPolicy", false},
	{schema.GroupVersionResource{Group: "policy.networking.k8s.io", Version: "v1alpha1", Resource: "adminnetworkpolicies"}, "AdminNetworkPolicy", false},
}

// otherPolicies lists those of the whole cluster (under "") and those of the
// suspects' namespaces. One page of each is enough to say that there are some.
func otherPolicies(ctx context.Context, scene *steps.Scene) (map[string][]string, error) {
	groups := &metav1.APIGroupList{}
	if err := scene.Client.Kube.Discovery().RESTClient().Get().AbsPath("/apis").SetHeader("Accept", "application/json").Do(ctx).Into(groups); err != nil {
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
			list, err := scene.Client.Dynamic.Resource(k.gvr).Namespace(ns).List(ctx, metav1.ListOptions{Limit: 500})
			if apierrors.IsNotFound(err) {
				continue // the group has other kinds
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("listing %s: %w", k.gvr.GroupResource(), err))
				continue
			}
			for _, o := range list.Items {
				found[ns] = append(found[ns], k.kind+" "+o.GetName())
			}
		}
	}
	return found, errors.Join(errs...)
}
