package sim

import (
	"cmp"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// asTable is how a client wants objects to be answered: as kubectl get prints
// them.
type asTable struct {
	kind    Kind
	include metav1.IncludeObjectPolicy
	now     time.Time
	// headed: the columns were told already. A watch tells them once.
	headed bool
}

// tableWanted reads from a request whether it is tables that are wanted; nil:
// objects as they are.
func (c *Cluster) tableWanted(hr *http.Request, k Kind) (*asTable, error) {
	for accept := range strings.SplitSeq(hr.Header.Get("Accept"), ",") {
		kind, params, err := mime.ParseMediaType(accept)
		if err != nil || kind != "application/json" {
			continue
		}
		if params["as"] == "" {
			return nil, nil
		}
		if params["as"] != "Table" || params["g"] != metav1.GroupName || params["v"] != "v1" {
			continue
		}
		t := &asTable{kind: k, include: metav1.IncludeObjectPolicy(hr.URL.Query().Get("includeObject")),
			now: c.opts.Now()}
		switch t.include {
		case "":
			t.include = metav1.IncludeMetadata
		case metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
		default:
			return nil, apierrors.NewBadRequest(fmt.Sprintf("unrecognized includeObject value: %q", t.include))
		}
		return t, nil
	}
	return nil, nil
}

// of makes a table of an object or a list.
func (t *asTable) of(answer any) (*metav1.Table, error) {
	table := &metav1.Table{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "Table"},
		Rows: []metav1.TableRow{}}
	var items []unstructured.Unstructured
	switch o := answer.(type) {
	case *unstructured.UnstructuredList:
		table.ResourceVersion, table.Continue, items = o.GetResourceVersion(), o.GetContinue(), o.Items
	case *unstructured.Unstructured:
		table.ResourceVersion, items = o.GetResourceVersion(), []unstructured.Unstructured{*o}
	}
	p, known := printers[t.kind.Kind]
	if !known {
		p = customPrinter
	}
	if !t.headed {
		table.ColumnDefinitions, t.headed = p.columns(), true
	}
	for i := range items {
		row, err := t.row(p, &items[i])
		if err != nil {
			return nil, err
		}
		table.Rows = append(table.Rows, row)
	}
	return table, nil
}

func (t *asTable) row(p printer, o *unstructured.Unstructured) (metav1.TableRow, error) {
	printed := o
	if t.kind.view() {
		printed = asOldEvent(o)
	}
	cells, err := p.cells(printed, t.now)
	if err != nil {
		return metav1.TableRow{}, apierrors.NewInternalError(fmt.Errorf("printing %s %s: %w", o.GetKind(), o.GetName(),
			err))
	}
	row := metav1.TableRow{Cells: cells}
	switch t.include {
	case metav1.IncludeObject:
		row.Object.Object = o
	case metav1.IncludeMetadata:
		partial := meta.AsPartialObjectMetadata(o)
		partial.TypeMeta = metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"}
		row.Object.Object = partial
	}
	return row, nil
}

// printer prints a kind. Its columns are separated by |; * marks those that
// are printed with -o wide only, # numbers.
type printer struct {
	names string
	cells func(o *unstructured.Unstructured, now time.Time) ([]any, error)
}

func (p printer) columns() []metav1.TableColumnDefinition {
	var columns []metav1.TableColumnDefinition
	for name := range strings.SplitSeq(p.names, "|") {
		c := metav1.TableColumnDefinition{Name: strings.TrimRight(name, "*#"), Type: "string"}
		if strings.Contains(name, "*") {
			c.Priority = 1
		}
		if strings.Contains(name, "#") {
			c.Type = "integer"
		}
		if len(columns) == 0 && c.Name == "Name" {
			c.Format = "name"
		}
		columns = append(columns, c)
	}
	return columns
}

// prints makes a printer of a type: the cells are those of its columns, in order.
func prints[T any](names string, cells func(o *T, age func(metav1.Time) string) []any) printer {
	return printer{names, func(u *unstructured.Unstructured, now time.Time) ([]any, error) {
		o := new(T)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, o); err != nil {
			return nil, err
		}
		return cells(o, func(at metav1.Time) string { return ageText(at, now) }), nil
	}}
}

func ageText(at metav1.Time, now time.Time) string {
	if at.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(at.Time))
}

// customPrinter is for kinds that say nothing of columns, as those of a
// CustomResourceDefinition without any. The others of the server's own kinds
// that have none are printed with the time of their creation.
var (
	customPrinter = prints("Name|Age", func(o *metav1.PartialObjectMetadata, age func(metav1.Time) string) []any {
		return []any{o.Name, age(o.CreationTimestamp)}
	})
	plainPrinter = printer{"Name|Created At", func(o *unstructured.Unstructured, _ time.Time) ([]any, error) {
		return []any{o.GetName(), o.GetCreationTimestamp().UTC().Format(time.RFC3339)}, nil
	}}
)

// printers have the columns of the real server (pkg/printers/internalversion).
var printers = map[string]printer{
	"Role": plainPrinter, "ClusterRole": plainPrinter, "LimitRange": plainPrinter,
	"Pod": prints("Name|Ready|Status|Restarts|Age|IP*|Node*|Nominated Node*|Readiness Gates*", podCells),
	"Deployment": prints("Name|Ready|Up-to-date|Available|Age|Containers*|Images*|Selector*",
		func(o *appsv1.Deployment, age func(metav1.Time) string) []any {
			cells := []any{o.Name, outOf(o.Status.ReadyReplicas, o.Spec.Replicas), o.Status.UpdatedReplicas,
				o.Status.AvailableReplicas, age(o.CreationTimestamp)}
			return append(cells, templateCells(o.Spec.Template, o.Spec.Selector)...)
		}),
	"ReplicaSet": prints(replicasColumns, func(o *appsv1.ReplicaSet, age func(metav1.Time) string) []any {
		cells := []any{o.Name, number(o.Spec.Replicas), o.Status.Replicas, o.Status.ReadyReplicas,
			age(o.CreationTimestamp)}
		return append(cells, templateCells(o.Spec.Template, o.Spec.Selector)...)
	}),
	"ReplicationController": prints(replicasColumns,
		func(o *corev1.ReplicationController, age func(metav1.Time) string) []any {
			cells := []any{o.Name, number(o.Spec.Replicas), o.Status.Replicas, o.Status.ReadyReplicas,
				age(o.CreationTimestamp)}
			var template corev1.PodTemplateSpec
			if o.Spec.Template != nil {
				template = *o.Spec.Template
			}
			return append(cells, templateCells(template, &metav1.LabelSelector{MatchLabels: o.Spec.Selector})...)
		}),
	"StatefulSet": prints("Name|Ready|Age|Containers*|Images*",
		func(o *appsv1.StatefulSet, age func(metav1.Time) string) []any {
			cells := []any{o.Name, outOf(o.Status.ReadyReplicas, o.Spec.Replicas), age(o.CreationTimestamp)}
			return append(cells, templateCells(o.Spec.Template, nil)[:2]...)
		}),
	"DaemonSet": prints(
		"Name|Desired#|Current#|Ready#|Up-to-date#|Available#|Node Selector|Age|Containers*|Images*|Selector*",
		func(o *appsv1.DaemonSet, age func(metav1.Time) string) []any {
			s := o.Status
			cells := []any{o.Name, s.DesiredNumberScheduled, s.CurrentNumberScheduled, s.NumberReady,
				s.UpdatedNumberScheduled, s.NumberAvailable,
				labels.FormatLabels(o.Spec.Template.Spec.NodeSelector), age(o.CreationTimestamp)}
			return append(cells, templateCells(o.Spec.Template, o.Spec.Selector)...)
		}),
	"Job": prints("Name|Status|Completions|Duration|Age|Containers*|Images*|Selector*",
		func(o *batchv1.Job, age func(metav1.Time) string) []any {
			status, took := "Running", ""
			if o.Spec.Suspend != nil && *o.Spec.Suspend {
				status = "Suspended"
			}
			if o.Status.StartTime != nil {
				took = age(*o.Status.StartTime)
			}
			completions := fmt.Sprintf("%d/1", o.Status.Succeeded)
			switch n := number(o.Spec.Parallelism); {
			case o.Spec.Completions != nil:
				completions = outOf(o.Status.Succeeded, o.Spec.Completions)
			case n > 1:
				completions += fmt.Sprintf(" of %d", n)
			}
			return append([]any{o.Name, status, completions, took, age(o.CreationTimestamp)},
				templateCells(o.Spec.Template, o.Spec.Selector)...)
		}),
	"CronJob": prints("Name|Schedule|Timezone|Suspend|Active#|Last Schedule|Age|Containers*|Images*|Selector*",
		func(o *batchv1.CronJob, age func(metav1.Time) string) []any {
			last, zone, suspend := "<none>", "<none>", "False"
			if o.Status.LastScheduleTime != nil {
				last = age(*o.Status.LastScheduleTime)
			}
			if o.Spec.TimeZone != nil {
				zone = *o.Spec.TimeZone
			}
			if o.Spec.Suspend != nil && *o.Spec.Suspend {
				suspend = "True"
			}
			job := o.Spec.JobTemplate.Spec
			return append([]any{o.Name, o.Spec.Schedule, zone, suspend, len(o.Status.Active), last,
				age(o.CreationTimestamp)}, templateCells(job.Template, job.Selector)...)
		}),
	"Service": prints("Name|Type|Cluster-IP|External-IP|Port(s)|Age|Selector*",
		func(o *corev1.Service, age func(metav1.Time) string) []any {
			return []any{o.Name, string(o.Spec.Type), cmp.Or(o.Spec.ClusterIP, none),
				cmp.Or(strings.Join(o.Spec.ExternalIPs, ","), none),
				cmp.Or(joined(o.Spec.Ports, ",", portText), none), age(o.CreationTimestamp),
				labels.FormatLabels(o.Spec.Selector)}
		}),
	"EndpointSlice": prints("Name|AddressType|Ports|Endpoints|Age",
		func(o *discoveryv1.EndpointSlice, age func(metav1.Time) string) []any {
			var ports, addresses []string
			for _, p := range o.Ports {
				if p.Port == nil {
					ports = append(ports, "*")
					continue
				}
				ports = append(ports, fmt.Sprint(*p.Port))
			}
			for _, e := range o.Endpoints {
				addresses = append(addresses, e.Addresses...)
			}
			return []any{o.Name, string(o.AddressType), firstThree(ports), firstThree(addresses),
				age(o.CreationTimestamp)}
		}),
	"NetworkPolicy": prints("Name|Pod-Selector|Age",
		func(o *networkingv1.NetworkPolicy, age func(metav1.Time) string) []any {
			return []any{o.Name, metav1.FormatLabelSelector(&o.Spec.PodSelector), age(o.CreationTimestamp)}
		}),
	"Ingress": prints("Name|Class|Hosts|Address|Ports|Age",
		func(o *networkingv1.Ingress, age func(metav1.Time) string) []any {
			class, ports := none, "80"
			if o.Spec.IngressClassName != nil {
				class = *o.Spec.IngressClassName
			}
			if len(o.Spec.TLS) > 0 {
				ports = "80, 443"
			}
			hosts := joined(o.Spec.Rules, ",", func(r networkingv1.IngressRule) string { return cmp.Or(r.Host, "*") })
			return []any{o.Name, class, cmp.Or(hosts, "*"), "", ports, age(o.CreationTimestamp)}
		}),
	"PodDisruptionBudget": prints("Name|Min Available|Max Unavailable|Allowed Disruptions#|Age",
		func(o *policyv1.PodDisruptionBudget, age func(metav1.Time) string) []any {
			text := func(n *intstr.IntOrString) string {
				if n == nil {
					return "N/A"
				}
				return n.String()
			}
			return []any{o.Name, text(o.Spec.MinAvailable), text(o.Spec.MaxUnavailable), o.Status.DisruptionsAllowed,
				age(o.CreationTimestamp)}
		}),
	"ControllerRevision": prints("Name|Controller|Revision|Age",
		func(o *appsv1.ControllerRevision, age func(metav1.Time) string) []any {
			by := none
			if r := metav1.GetControllerOf(o); r != nil {
				by = strings.ToLower(r.Kind) + "/" + r.Name
			}
			return []any{o.Name, by, fmt.Sprint(o.Revision), age(o.CreationTimestamp)}
		}),
	"ResourceQuota": prints("Name|Request|Limit|Age",
		func(o *corev1.ResourceQuota, age func(metav1.Time) string) []any {
			var requests, limits []string
			for _, name := range slices.Sorted(maps.Keys(o.Status.Hard)) {
				used, hard := o.Status.Used[name], o.Status.Hard[name]
				text := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
				if strings.HasPrefix(string(name), "limits.") {
					limits = append(limits, text)
				} else {
					requests = append(requests, text)
				}
			}
			return []any{o.Name, strings.Join(requests, ", "), strings.Join(limits, ", "), age(o.CreationTimestamp)}
		}),
	"Namespace": prints("Name|Status|Age", func(o *corev1.Namespace, age func(metav1.Time) string) []any {
		return []any{o.Name, string(o.Status.Phase), age(o.CreationTimestamp)}
	}),
	"Secret": prints("Name|Type|Data|Age", func(o *corev1.Secret, age func(metav1.Time) string) []any {
		return []any{o.Name, string(o.Type), len(o.Data), age(o.CreationTimestamp)}
	}),
	"ConfigMap": prints("Name|Data|Age", func(o *corev1.ConfigMap, age func(metav1.Time) string) []any {
		return []any{o.Name, len(o.Data) + len(o.BinaryData), age(o.CreationTimestamp)}
	}),
	"ServiceAccount": prints("Name|Age", func(o *corev1.ServiceAccount, age func(metav1.Time) string) []any {
		return []any{o.Name, age(o.CreationTimestamp)}
	}),
	"RoleBinding": prints(bindingColumns, func(o *rbacv1.RoleBinding, age func(metav1.Time) string) []any {
		return bindingCells(o.ObjectMeta, o.RoleRef, o.Subjects, age)
	}),
	"ClusterRoleBinding": prints(bindingColumns,
		func(o *rbacv1.ClusterRoleBinding, age func(metav1.Time) string) []any {
			return bindingCells(o.ObjectMeta, o.RoleRef, o.Subjects, age)
		}),
	"HorizontalPodAutoscaler": prints("Name|Reference|Targets|MinPods|MaxPods|Replicas|Age",
		func(o *autoscalingv2.HorizontalPodAutoscaler, age func(metav1.Time) string) []any {
			targets, least := none, "<unset>"
			if len(o.Spec.Metrics) > 0 {
				targets = "<unknown>" // nobody measures here
			}
			if o.Spec.MinReplicas != nil {
				least = fmt.Sprint(*o.Spec.MinReplicas)
			}
			ref := o.Spec.ScaleTargetRef
			return []any{o.Name, ref.Kind + "/" + ref.Name, targets, least, o.Spec.MaxReplicas,
				o.Status.CurrentReplicas, age(o.CreationTimestamp)}
		}),
	"Node": prints(
		"Name|Status|Roles|Age|Version|Internal-IP*|External-IP*|OS-Image*|Kernel-Version*|Container-Runtime*",
		nodeCells),
	"Event": prints("Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count*|Name*", eventCells),
}

const (
	none            = "<none>"
	replicasColumns = "Name|Desired#|Current#|Ready#|Age|Containers*|Images*|Selector*"
	bindingColumns  = "Name|Role|Age|Users*|Groups*|ServiceAccounts*"
)

func number(n *int32) int32 {
	if n == nil {
		return 0
	}
	return *n
}

func outOf(n int32, of *int32) string { return fmt.Sprintf("%d/%d", n, number(of)) }

func joined[T any](list []T, separator string, text func(T) string) string {
	var out []string
	for _, v := range list {
		out = append(out, text(v))
	}
	return strings.Join(out, separator)
}

// firstThree of a list, and how many more there are.
func firstThree(list []string) string {
	const most = 3
	if len(list) > most {
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:most], ","), len(list)-most)
	}
	return cmp.Or(strings.Join(list, ","), "<unset>")
}

func portText(p corev1.ServicePort) string {
	if p.NodePort > 0 {
		return fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
	}
	return fmt.Sprintf("%d/%s", p.Port, p.Protocol)
}

// templateCells are those that workloads have in common: containers, images, selector.
func templateCells(t corev1.PodTemplateSpec, selector *metav1.LabelSelector) []any {
	return []any{joined(t.Spec.Containers, ",", func(c corev1.Container) string { return c.Name }),
		joined(t.Spec.Containers, ",", func(c corev1.Container) string { return c.Image }),
		metav1.FormatLabelSelector(selector)}
}

func bindingCells(o metav1.ObjectMeta, role rbacv1.RoleRef, subjects []rbacv1.Subject,
	age func(metav1.Time) string) []any {
	by := map[string][]string{}
	for _, s := range subjects {
		name := s.Name
		if s.Kind == rbacv1.ServiceAccountKind {
			name = s.Namespace + "/" + s.Name
		}
		by[s.Kind] = append(by[s.Kind], name)
	}
	return []any{o.Name, role.Kind + "/" + role.Name, age(o.CreationTimestamp), strings.Join(by[rbacv1.UserKind], ", "),
		strings.Join(by[rbacv1.GroupKind], ", "), strings.Join(by[rbacv1.ServiceAccountKind], ", ")}
}

func podCells(o *corev1.Pod, age func(metav1.Time) string) []any {
	status, ready, restarts := cmp.Or(o.Status.Reason, string(o.Status.Phase)), 0, int32(0)
	var last metav1.Time // restart
	for _, s := range slices.Backward(o.Status.ContainerStatuses) {
		restarts += s.RestartCount
		if t := s.LastTerminationState.Terminated; t != nil && last.Before(&t.FinishedAt) {
			last = t.FinishedAt
		}
		switch {
		case s.State.Waiting != nil && s.State.Waiting.Reason != "":
			status = s.State.Waiting.Reason
		case s.State.Terminated != nil:
			status = cmp.Or(s.State.Terminated.Reason, fmt.Sprintf("ExitCode:%d", s.State.Terminated.ExitCode))
		case s.Ready && s.State.Running != nil:
			ready++
		}
	}
	again := strconv.Itoa(int(restarts))
	if restarts > 0 && !last.IsZero() {
		again += " (" + age(last) + " ago)"
	}
	ip := ""
	if len(o.Status.PodIPs) > 0 {
		ip = o.Status.PodIPs[0].IP
	}
	return []any{o.Name, fmt.Sprintf("%d/%d", ready, len(o.Spec.Containers)), status, again, age(o.CreationTimestamp),
		cmp.Or(ip, none), cmp.Or(o.Spec.NodeName, none), cmp.Or(o.Status.NominatedNodeName, none), none}
}

func nodeCells(o *corev1.Node, age func(metav1.Time) string) []any {
	status := "Unknown"
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status = "NotReady"
			if c.Status == corev1.ConditionTrue {
				status = "Ready"
			}
		}
	}
	if o.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	var roles []string
	for _, label := range slices.Sorted(maps.Keys(o.Labels)) {
		if role, ok := strings.CutPrefix(label, "node-role.kubernetes.io/"); ok && role != "" {
			roles = append(roles, role)
		}
	}
	address := func(kind corev1.NodeAddressType) string {
		for _, a := range o.Status.Addresses {
			if a.Type == kind {
				return a.Address
			}
		}
		return none
	}
	info := o.Status.NodeInfo
	return []any{o.Name, status, cmp.Or(strings.Join(roles, ","), none), age(o.CreationTimestamp), info.KubeletVersion,
		address(corev1.NodeInternalIP),
		address(corev1.NodeExternalIP), cmp.Or(info.OSImage, "<unknown>"), cmp.Or(info.KernelVersion, "<unknown>"),
		cmp.Or(info.ContainerRuntimeVersion, "<unknown>")}
}

func eventCells(o *corev1.Event, age func(metav1.Time) string) []any {
	object := strings.ToLower(o.InvolvedObject.Kind) + "/" + o.InvolvedObject.Name
	return []any{age(o.LastTimestamp), o.Type, o.Reason, object, o.InvolvedObject.FieldPath,
		cmp.Or(o.Source.Component, o.ReportingController),
		strings.TrimSpace(o.Message), age(o.FirstTimestamp), max(1, o.Count), o.Name}
}
