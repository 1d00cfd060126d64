package detect

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/pager"

	"irctl/internal/cluster"
)

// Snapshot is a cluster, or a namespace of it, as the detectors look at it.
type Snapshot struct {
	// Namespace is the only one that was looked at; "": all.
	Namespace string
	// Since is from when on what is new counts as new.
	Since time.Time
	// Born is when the cluster was made; zero if that is not known.
	Born time.Time

	Pods      []corev1.Pod
	Policies  []networkingv1.NetworkPolicy
	Bindings  []rbacv1.ClusterRoleBinding
	Events    []Event
	Workloads []Workload // of kube-system

	unread map[list]error
	byName map[types.NamespacedName]*corev1.Pod
}

// Event is what an event of the cluster tells of a pod, its repetitions summed up.
type Event struct {
	Namespace, Pod, Reason, Message string
	First, Last                     time.Time
	Count                           int64
}

// Workload is a controller, and what says who put it there.
type Workload struct {
	cluster.Ref
	Labels, Annotations map[string]string
	Created             time.Time
	Owned               bool // by another controller
}

// list is one kind of object that is read.
type list string

// The lists, in the words of a gap.
const (
	pods      list = "pods"
	policies  list = "network policies"
	bindings  list = "cluster role bindings"
	events    list = "events"
	workloads list = "the workloads of kube-system"
)

// Gap is a look that could not be taken.
type Gap struct {
	// Check is the detector that had to go without.
	Check string `json:"check"`
	Text  string `json:"text"`

	err error
	// source: it is about a file or a listener, and its text says all; partial:
	// some of it was understood.
	source, partial bool
}

// Err is why.
func (g Gap) Err() error { return g.err }

// Gaps are all there are, one line for each reason: a cluster that cannot be
// reached is told of once.
type Gaps []Gap

// Lines say which checks cannot be made, of which sources nothing is known, and
// why. Of a source that was understood in part the InputReport tells.
func (g Gaps) Lines() (lines []string, errs []error) {
	var texts []string
	names := map[string][]string{}
	for _, gap := range g {
		if gap.source && !gap.partial {
			lines, errs = append(lines, gap.Text), append(errs, gap.err)
		}
	}
	for _, gap := range g {
		if gap.source {
			continue
		}
		if names[gap.Text] == nil {
			texts, errs = append(texts, gap.Text), append(errs, gap.err)
		}
		names[gap.Text] = append(names[gap.Text], gap.Check)
	}
	for _, text := range texts { // errs has them in the same order
		lines = append(lines, strings.Join(names[text], ", ")+" cannot be checked: "+text)
	}
	return lines, errs
}

// Look reads a cluster, all lists in parallel. A list that cannot be read
// costs the detectors that need it.
func Look(ctx context.Context, client *cluster.Client, namespace string, since time.Time) *Snapshot {
	s := &Snapshot{Namespace: namespace, Since: since, unread: map[list]error{},
		byName: map[types.NamespacedName]*corev1.Pod{}}
	reads := []struct {
		list
		read func() error
	}{
		{pods, func() error {
			return each(ctx, client.Kube.CoreV1().Pods(namespace).List, "", func(p *corev1.Pod) {
				s.Pods = append(s.Pods, *p)
			})
		}},
		{policies, func() error {
			return each(ctx, client.Kube.NetworkingV1().NetworkPolicies(namespace).List, "",
				func(p *networkingv1.NetworkPolicy) { s.Policies = append(s.Policies, *p) })
		}},
		{bindings, func() error {
			return each(ctx, client.Kube.RbacV1().ClusterRoleBindings().List, "", func(b *rbacv1.ClusterRoleBinding) {
				s.Bindings = append(s.Bindings, *b)
			})
		}},
		{events, func() error { return s.readEvents(ctx, client) }},
		{workloads, func() error { return s.readWorkloads(ctx, client) }},
	}
	errs := make([]error, len(reads))
	cluster.Parallel(len(reads)+1, func(i int) {
		if i < len(reads) {
			errs[i] = reads[i].read()
			return
		}
		// Without it the bindings of a young cluster's own are reported too.
		if ns, err := client.Kube.CoreV1().Namespaces().
			Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{}); err == nil {
			s.Born = ns.CreationTimestamp.Time
		}
	})
	for i, err := range errs {
		if err != nil {
			s.unread[reads[i].list] = fmt.Errorf("listing %s: %w", reads[i].list, err)
		}
	}
	for i := range s.Pods {
		p := &s.Pods[i]
		s.byName[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = p
	}
	return s
}

// each calls visit for every object of a list, which is read in pages.
func each[L runtime.Object, O runtime.Object](ctx context.Context,
	read func(context.Context, metav1.ListOptions) (L, error), fields string, visit func(O)) error {
	p := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return read(ctx, o) })
	return p.EachListItem(ctx, metav1.ListOptions{FieldSelector: fields}, func(o runtime.Object) error {
		if typed, ok := o.(O); ok {
			visit(typed)
		}
		return nil
	})
}

// readEvents keeps the reasons that somebody asked for, summed up by pod:
// there may be very many events.
func (s *Snapshot) readEvents(ctx context.Context, client *cluster.Client) error {
	index := map[[3]string]int{}
	err := each(ctx, client.Kube.CoreV1().Events(s.Namespace).List, "involvedObject.kind=Pod", func(e *corev1.Event) {
		if _, wanted := eventScores[e.Reason]; !wanted {
			return
		}
		first, last, count := timesOf(e)
		if last.Before(s.Since) {
			return
		}
		key := [3]string{e.InvolvedObject.Namespace, e.InvolvedObject.Name, e.Reason}
		i, known := index[key]
		if !known {
			if len(s.Events) >= maxFindings {
				return
			}
			i = len(s.Events)
			index[key] = i
			s.Events = append(s.Events, Event{Namespace: key[0], Pod: key[1], Reason: key[2],
				Message: cut(e.Message, maxObject), First: first, Last: last})
		}
		sum := &s.Events[i]
		sum.Count += count
		if first.Before(sum.First) {
			sum.First = first
		}
		if last.After(sum.Last) {
			sum.Last = last
		}
	})
	return err
}

// timesOf reads both shapes of an event: with counts, or with a series.
func timesOf(e *corev1.Event) (first, last time.Time, count int64) {
	first, last, count = e.FirstTimestamp.Time, e.LastTimestamp.Time, int64(max(e.Count, 1))
	if first.IsZero() {
		first = e.EventTime.Time
	}
	if e.Series != nil {
		last, count = e.Series.LastObservedTime.Time, int64(max(e.Series.Count, 1))
	}
	if first.IsZero() {
		first = e.CreationTimestamp.Time
	}
	if last.IsZero() {
		last = first
	}
	return first, last, count
}

// readWorkloads reads the controllers of kube-system, if it is looked at.
func (s *Snapshot) readWorkloads(ctx context.Context, client *cluster.Client) error {
	if s.Namespace != "" && s.Namespace != metav1.NamespaceSystem {
		return nil
	}
	apps, batch := client.Kube.AppsV1(), client.Kube.BatchV1()
	for _, read := range []func() error{
		func() error {
			return each(ctx, apps.Deployments(metav1.NamespaceSystem).List, "", func(o *appsv1.Deployment) {
				s.workload(cluster.Deployment, &o.ObjectMeta)
			})
		},
		func() error {
			return each(ctx, apps.DaemonSets(metav1.NamespaceSystem).List, "", func(o *appsv1.DaemonSet) {
				s.workload(cluster.DaemonSet, &o.ObjectMeta)
			})
		},
		func() error {
			return each(ctx, apps.StatefulSets(metav1.NamespaceSystem).List, "", func(o *appsv1.StatefulSet) {
				s.workload(cluster.StatefulSet, &o.ObjectMeta)
			})
		},
		func() error {
			return each(ctx, batch.CronJobs(metav1.NamespaceSystem).List, "", func(o *batchv1.CronJob) {
				s.workload(cluster.CronJob, &o.ObjectMeta)
			})
		},
	} {
		if err := read(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Snapshot) workload(kind cluster.Ref, m *metav1.ObjectMeta) {
	s.Workloads = append(s.Workloads, Workload{Ref: kind.Named(m.Namespace, m.Name, m.UID), Labels: m.Labels,
		Annotations: m.Annotations,
		Created:     m.CreationTimestamp.Time, Owned: metav1.GetControllerOf(m) != nil})
}

// Pod is a pod of the snapshot by its name; nil if there is none.
func (s *Snapshot) Pod(namespace, name string) *corev1.Pod {
	return s.byName[types.NamespacedName{Namespace: namespace, Name: name}]
}

// subjectOf is a pod as the subject of a finding.
func subjectOf(p *corev1.Pod) Subject {
	return Subject{Namespace: p.Namespace, Pod: p.Name, PodUID: string(p.UID), Workload: workloadOf(p),
		ServiceAccount: p.Spec.ServiceAccountName, Node: p.Spec.NodeName}
}

// workloadOf names the controller of a pod, and of a ReplicaSet that carries
// its template's hash the Deployment. It is for people: what is acted on is
// found through the owners.
func workloadOf(p *corev1.Pod) string {
	owner := metav1.GetControllerOf(p)
	if owner == nil || owner.Kind == "Node" {
		return ""
	}
	if hash := p.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; owner.Kind == cluster.ReplicaSet.Kind && hash != "" {
		if name, ok := strings.CutSuffix(owner.Name, "-"+hash); ok {
			return cluster.Deployment.Kind + "/" + name
		}
	}
	return owner.Kind + "/" + owner.Name
}

// complete adds to a subject what the cluster knows of it: the pod of a
// container, what the pod belongs to, where it runs.
func (s *Snapshot) complete(subject *Subject) {
	if subject.Pod == "" && subject.containerID != "" {
		subject.Namespace, subject.Pod = s.podOf(subject.containerID)
	}
	p := s.Pod(subject.Namespace, subject.Pod)
	if p == nil || subject.PodUID != "" && subject.PodUID != string(p.UID) {
		return
	}
	known := subjectOf(p)
	known.Container = ""
	subject.fill(known)
}

// shortID is how many characters of a container's ID Falco gives.
const shortID = 12

func (s *Snapshot) podOf(containerID string) (namespace, name string) {
	if len(containerID) < shortID {
		return "", ""
	}
	for i := range s.Pods {
		p := &s.Pods[i]
		for _, c := range statuses(p) {
			if _, id, ok := strings.Cut(c.ContainerID, "://"); ok && strings.HasPrefix(id, containerID) {
				return p.Namespace, p.Name
			}
		}
	}
	return "", ""
}
