package cluster

import (
	"context"
	"fmt"
	"sort"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Namespace is what surrounds the targets in one namespace: everything that
// selects pods by their labels, and everything that changes workloads.
type Namespace struct {
	Name        string
	Services    []corev1.Service
	Policies    []networkingv1.NetworkPolicy
	Controllers []Controller
	Autoscalers []autoscalingv2.HorizontalPodAutoscaler
	// ScaledObjects are KEDA's autoscalers; empty where KEDA is not installed.
	ScaledObjects []unstructured.Unstructured
	// Gaps are the lists that could not be read.
	Gaps []Gap
}

// Controller is a workload controller and the pods it takes for its own.
type Controller struct {
	Ref
	Selector labels.Selector
}

// Gap is something that could not be read, and why.
type Gap struct {
	What string
	Err  error
	// List is what a survey could not list; "": it is no gap of a survey.
	List string
}

func (g Gap) String() string { return fmt.Sprintf("%s: %v", g.What, g.Err) }

// PolicyList is the List of a gap about NetworkPolicies.
const PolicyList = "network policies"

const kedaObjects = "KEDA scaled objects"

var scaledObjects = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}

// manyNamespaces is from how many namespaces on one list of the whole cluster
// is cheaper than a list for each namespace.
const manyNamespaces = 4

// Survey reads what surrounds the targets, all lists in parallel. A list that
// cannot be read is a gap in the namespace, not an error; so is one that does not
// come for so long that it would hold up what the survey is for.
func (c *Client) Survey(ctx context.Context, namespaces []string) map[string]*Namespace {
	ctx, cancel := c.Briefly(ctx)
	defer cancel()
	s := &surveyor{found: map[string]*Namespace{}}
	for _, n := range namespaces {
		s.found[n] = &Namespace{Name: n}
	}
	core, apps := c.Kube.CoreV1(), c.Kube.AppsV1()
	lists := []func(ns string) error{
		func(ns string) error {
			return each(ctx, core.Services(ns).List, func(l *corev1.ServiceList) {
				for _, o := range l.Items {
					s.in(o.Namespace, func(n *Namespace) { n.Services = append(n.Services, o) })
				}
			})
		},
		func(ns string) error {
			return each(ctx, c.Kube.NetworkingV1().NetworkPolicies(ns).List, func(l *networkingv1.NetworkPolicyList) {
				for _, o := range l.Items {
					s.in(o.Namespace, func(n *Namespace) { n.Policies = append(n.Policies, o) })
				}
			})
		},
		func(ns string) error {
			return each(ctx, apps.ReplicaSets(ns).List, func(l *appsv1.ReplicaSetList) {
				for _, o := range l.Items {
					s.controller(ReplicaSet, &o.ObjectMeta, o.Spec.Selector)
				}
			})
		},
		func(ns string) error {
			return each(ctx, apps.StatefulSets(ns).List, func(l *appsv1.StatefulSetList) {
				for _, o := range l.Items {
					s.controller(StatefulSet, &o.ObjectMeta, o.Spec.Selector)
				}
			})
		},
		func(ns string) error {
			return each(ctx, apps.DaemonSets(ns).List, func(l *appsv1.DaemonSetList) {
				for _, o := range l.Items {
					s.controller(DaemonSet, &o.ObjectMeta, o.Spec.Selector)
				}
			})
		},
		func(ns string) error {
			return each(ctx, c.Kube.BatchV1().Jobs(ns).List, func(l *batchv1.JobList) {
				for _, o := range l.Items {
					s.controller(Job, &o.ObjectMeta, o.Spec.Selector)
				}
			})
		},
		func(ns string) error {
			return each(ctx, core.ReplicationControllers(ns).List, func(l *corev1.ReplicationControllerList) {
				for _, o := range l.Items {
					if len(o.Spec.Selector) > 0 {
						s.controller(ReplicationController, &o.ObjectMeta,
							&metav1.LabelSelector{MatchLabels: o.Spec.Selector})
					}
				}
			})
		},
		func(ns string) error {
			return each(ctx, c.Kube.AutoscalingV2().HorizontalPodAutoscalers(ns).List,
				func(l *autoscalingv2.HorizontalPodAutoscalerList) {
					for _, o := range l.Items {
						s.in(o.Namespace, func(n *Namespace) { n.Autoscalers = append(n.Autoscalers, o) })
					}
				})
		},
		func(ns string) error {
			err := each(ctx, c.Dynamic.Resource(scaledObjects).Namespace(ns).List,
				func(l *unstructured.UnstructuredList) {
					for _, o := range l.Items {
						s.in(o.GetNamespace(), func(n *Namespace) { n.ScaledObjects = append(n.ScaledObjects, o) })
					}
				})
			if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) && !c.Serves(ctx, scaledObjects.Group) {
				return nil // KEDA is not installed; the server forbids what it does not serve, too
			}
			return err
		},
	}
	names := []string{"services", PolicyList, "replica sets", "stateful sets", "daemon sets", "jobs",
		"replication controllers", "autoscalers", kedaObjects}
	Parallel(len(lists), func(i int) { s.list(names[i], namespaces, lists[i]) })
	return s.found
}

type surveyor struct {
	mu    sync.Mutex
	found map[string]*Namespace
}

func (s *surveyor) in(namespace string, add func(*Namespace)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.found[namespace]; n != nil {
		add(n)
	}
}

func (s *surveyor) controller(kind Ref, meta *metav1.ObjectMeta, selector *metav1.LabelSelector) {
	sel, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil || selector == nil {
		return // it cannot select anything
	}
	s.in(meta.Namespace, func(n *Namespace) {
		n.Controllers = append(n.Controllers, Controller{Ref: kind.Named(meta.Namespace, meta.Name, meta.UID),
			Selector: sel})
	})
}

func (s *surveyor) list(what string, namespaces []string, list func(ns string) error) {
	if len(namespaces) >= manyNamespaces {
		if err := list(metav1.NamespaceAll); err == nil || !apierrors.IsForbidden(err) {
			for _, ns := range namespaces {
				s.gap(ns, what, err)
			}
			return
		}
	}
	Parallel(len(namespaces), func(i int) { s.gap(namespaces[i], what, list(namespaces[i])) })
}

func (s *surveyor) gap(namespace, what string, err error) {
	if err != nil {
		s.in(namespace, func(n *Namespace) {
			n.Gaps = append(n.Gaps, Gap{What: "listing " + what + " in namespace " + namespace, Err: err, List: what})
			sort.Slice(n.Gaps, func(i, j int) bool { return n.Gaps[i].What < n.Gaps[j].What })
		})
	}
}

// each calls page for every page of a list.
func each[L metav1.ListInterface](ctx context.Context, list func(context.Context, metav1.ListOptions) (L, error),
	page func(L)) error {
	return Pages(ctx, list, metav1.ListOptions{}, page)
}

// Endpoints lists the EndpointSlices of a namespace.
func (c *Client) Endpoints(ctx context.Context, namespace string) ([]discoveryv1.EndpointSlice, error) {
	var slices []discoveryv1.EndpointSlice
	err := each(ctx, c.Kube.DiscoveryV1().EndpointSlices(namespace).List, func(l *discoveryv1.EndpointSliceList) {
		slices = append(slices, l.Items...)
	})
	if err != nil {
		return nil, fmt.Errorf("listing endpoint slices in namespace %s: %w", namespace, err)
	}
	return slices, nil
}

// Policies lists the NetworkPolicies of a namespace.
func (c *Client) Policies(ctx context.Context, namespace string) ([]networkingv1.NetworkPolicy, error) {
	var policies []networkingv1.NetworkPolicy
	err := each(ctx, c.Kube.NetworkingV1().NetworkPolicies(namespace).List, func(l *networkingv1.NetworkPolicyList) {
		policies = append(policies, l.Items...)
	})
	if err != nil {
		return nil, fmt.Errorf("listing network policies in namespace %s: %w", namespace, err)
	}
	return policies, nil
}
