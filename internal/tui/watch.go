package tui

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"irctl/internal/cluster"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
)

// changed is something that became of a target in the cluster.
type changed struct {
	incident incident.ID
	at       time.Time
	object   string
	text     string
	// writer is who wrote it, as far as the server tells; ours: it was irctl.
	writer string
	ours   bool
}

const (
	pollEvery = 3 * time.Second
	pollMost  = 30 * time.Second
)

// watch follows the targets of an incident and their controllers. Where the
// server has no watch, they are looked at every few seconds.
func (d *desk) watch(ctx context.Context, e *engine.Engine, f *file) tea.Cmd {
	refs := watched(f.Incident)
	return func() tea.Msg {
		for _, r := range refs {
			go d.follow(ctx, e, f.ID, r)
		}
		return nil
	}
}

// maxWatched bounds how many objects are followed.
const maxWatched = 40

func watched(i incident.Incident) []cluster.Ref {
	var refs []cluster.Ref
	seen := map[cluster.Ref]bool{}
	add := func(apiVersion, kind, namespace, name string) {
		gv, _ := schema.ParseGroupVersion(apiVersion) // a malformed one is no built-in kind
		r, ok := builtinKinds[schema.GroupKind{Group: gv.Group, Kind: kind}]
		r = r.Named(namespace, name, "")
		if ok && !seen[r] && len(refs) < maxWatched {
			seen[r] = true
			refs = append(refs, r)
		}
	}
	for _, t := range i.Targets {
		add(cmp.Or(t.APIVersion, "v1"), t.Kind, t.Namespace, t.Name)
		for _, o := range t.Owners {
			add(o.APIVersion, o.Kind, t.Namespace, o.Name)
		}
	}
	return refs
}

var builtinKinds = func() map[schema.GroupKind]cluster.Ref {
	m := map[schema.GroupKind]cluster.Ref{}
	for _, r := range []cluster.Ref{cluster.Pod, cluster.Deployment, cluster.ReplicaSet, cluster.StatefulSet,
		cluster.DaemonSet, cluster.Job, cluster.CronJob, cluster.ReplicationController} {
		m[schema.GroupKind{Group: r.Group, Kind: r.Kind}] = r
	}
	return m
}()

// follow tells of an object until its context ends.
func (d *desk) follow(ctx context.Context, e *engine.Engine, id incident.ID, ref cluster.Ref) {
	api := e.Client.Dynamic.Resource(ref.GVR()).Namespace(ref.Namespace)
	var last *unstructured.Unstructured
	first := true
	see := func(now *unstructured.Unstructured) {
		texts, who := differences(last, now)
		if !first {
			for _, text := range texts {
				d.inbox.put(changed{id, d.o.Now(), ref.String(), text, who, strings.HasPrefix(who, "irctl")})
			}
		}
		last, first = now, false
	}
	pause := pollEvery
	for ctx.Err() == nil {
		now, err := api.Get(ctx, ref.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			see(nil)
			pause = pollEvery
		case err != nil:
			pause = min(2*pause, pollMost)
		default:
			see(now)
			pause = pollEvery
			d.watchOne(ctx, api, ref.Name, now.GetResourceVersion(), see)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// watchOne follows an object for as long as the server's watch goes on; false or
// malformed answers end it, and whoever called looks again after a pause.
func (d *desk) watchOne(ctx context.Context, api dynamic.ResourceInterface, name, version string,
	see func(*unstructured.Unstructured)) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	w, err := api.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name, ResourceVersion: version})
	if err != nil {
		return
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		u, ok := e.Object.(*unstructured.Unstructured)
		switch {
		case !ok || e.Type == watch.Error || u.GetName() != name:
			return
		case e.Type == watch.Deleted:
			see(nil)
		default:
			see(u)
		}
	}
}

// differences are what became of an object, in words.
func differences(before, after *unstructured.Unstructured) (texts []string, who string) {
	const somebody = "somebody"
	switch {
	case before == nil && after == nil:
		return nil, ""
	case after == nil:
		return []string{"it is gone"}, somebody
	case before == nil:
		return []string{"it is there"}, somebody
	case before.GetUID() != after.GetUID():
		return []string{"it was replaced by another of the same name"}, somebody
	case before.GetResourceVersion() == after.GetResourceVersion():
		return nil, ""
	}
	was, is := portrait(before), portrait(after)
	keys := slices.Sorted(maps.Keys(is))
	for k := range was {
		if _, ok := is[k]; !ok {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		if was[k] != is[k] {
			texts = append(texts, fmt.Sprintf("%s: %s → %s", k, cmp.Or(was[k], "none"), cmp.Or(is[k], "none")))
		}
	}
	who = writer(after)
	if who != "" && len(texts) > 0 {
		texts[0] += " (" + who + ")"
	}
	return texts, who
}

// portrait is what of an object a responder wants to know of.
func portrait(u *unstructured.Unstructured) map[string]string {
	p := map[string]string{}
	for name, path := range map[string][]string{"phase": {"status", "phase"}, "replicas wanted": {"spec", "replicas"},
		"ready":     {"status", "readyReplicas"},
		"suspended": {"spec", "suspend"}, "paused": {"spec", "paused"}, "node": {"spec", "nodeName"}} {
		if v, ok, _ := unstructured.NestedFieldNoCopy(u.Object, path...); ok {
			p[name] = fmt.Sprint(v)
		}
	}
	if u.GetDeletionTimestamp() != nil {
		p["being deleted"] = "yes"
	}
	if o := metav1.GetControllerOf(u); o != nil {
		p["controller"] = o.Kind + "/" + o.Name
	}
	for _, l := range []string{contain.QuarantineLabel, contain.IncidentLabel} {
		if v, ok := u.GetLabels()[l]; ok {
			p["label "+l] = v
		}
	}
	statuses, _, _ := unstructured.NestedSlice(u.Object, "status", "containerStatuses")
	for _, s := range statuses {
		m, ok := s.(map[string]any)
		if !ok {
			continue
		}
		name, _ := m["name"].(string)
		p["restarts of "+name] = fmt.Sprint(m["restartCount"])
		if state, ok := m["state"].(map[string]any); ok {
			p["container "+name] = strings.Join(slices.Sorted(maps.Keys(state)), ",")
		}
	}
	return p
}

// writer is who wrote last, as the managed fields tell; "": nobody says.
func writer(u *unstructured.Unstructured) string {
	who, last := "", time.Time{}
	for _, m := range u.GetManagedFields() {
		if m.Time != nil && !m.Time.Time.Before(last) {
			who, last = m.Manager, m.Time.Time
		}
	}
	return who
}

// podRow is a pod in the table.
type podRow struct {
	namespace, name, node, workload, image, phase, account string
	restarts                                               int32
	created                                                time.Time
	incident                                               string
}

func (r podRow) key() string { return r.namespace + "/" + r.name }

// podList is what pods there are.
type podList struct {
	rows []podRow
	err  error
}

// maxPods bounds the table.
const maxPods = 20000

// followPods keeps the table live until its context ends.
func (d *desk) followPods(ctx context.Context, e *engine.Engine) tea.Cmd {
	return func() tea.Msg {
		for ctx.Err() == nil {
			started := time.Now()
			rows, version, err := d.listPods(ctx, e)
			if ctx.Err() != nil {
				return nil
			}
			d.inbox.put(podList{sorted(rows), err})
			cost := time.Since(started)
			if err == nil {
				d.watchPods(ctx, e, rows, version)
			}
			select { // a large cluster is asked less often
			case <-ctx.Done():
			case <-time.After(max(pollEvery, min(20*cost, 2*time.Minute))):
			}
		}
		return nil
	}
}

func (d *desk) listPods(ctx context.Context, e *engine.Engine) (map[string]podRow, string, error) {
	rows := map[string]podRow{}
	version, read := "", 0
	list := func(ctx context.Context, o metav1.ListOptions) (*corev1.PodList, error) {
		if o.Continue == "" {
			read = 0 // it begins, perhaps anew
		}
		page, err := e.Client.Kube.CoreV1().Pods(d.o.Only).List(ctx, o)
		if err != nil {
			return nil, err
		}
		if read += len(page.Items); read >= maxPods {
			page.Continue = ""
		}
		return page, nil
	}
	err := cluster.Pages(ctx, list, metav1.ListOptions{}, func(page *corev1.PodList) {
		version = page.ResourceVersion
		for i := range page.Items {
			r := rowOf(&page.Items[i])
			rows[r.key()] = r
		}
	})
	if err != nil {
		return rows, "", fmt.Errorf("listing pods: %w", err)
	}
	return rows, version, nil
}

// watchPods applies what the server's watch tells, at most once in a second,
// and returns when it ends.
func (d *desk) watchPods(ctx context.Context, e *engine.Engine, rows map[string]podRow, version string) {
	w, err := e.Client.Kube.CoreV1().Pods(d.o.Only).Watch(ctx, metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		return
	}
	defer w.Stop()
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	dirty := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			if dirty {
				d.inbox.put(podList{rows: sorted(rows)})
				dirty = false
			}
		case ev, ok := <-w.ResultChan():
			p, isPod := ev.Object.(*corev1.Pod)
			if !ok || !isPod {
				return
			}
			dirty = true
			if ev.Type == watch.Deleted {
				delete(rows, p.Namespace+"/"+p.Name)
			} else if r := rowOf(p); len(rows) < maxPods {
				rows[r.key()] = r
			}
		}
	}
}

func sorted(rows map[string]podRow) []podRow {
	return slices.SortedFunc(maps.Values(rows), func(a, b podRow) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
}

func rowOf(p *corev1.Pod) podRow {
	r := podRow{namespace: p.Namespace, name: p.Name, node: p.Spec.NodeName, phase: string(p.Status.Phase),
		account: p.Spec.ServiceAccountName, created: p.CreationTimestamp.Time,
		incident: p.Labels[contain.IncidentLabel]}
	if o := metav1.GetControllerOf(p); o != nil {
		r.workload = o.Kind + "/" + o.Name
		// The ReplicaSet of a Deployment is named after it and the template's hash.
		if hash := p.Labels["pod-template-hash"]; o.Kind == "ReplicaSet" && hash != "" &&
			strings.HasSuffix(o.Name, "-"+hash) {
			r.workload = "Deployment/" + strings.TrimSuffix(o.Name, "-"+hash)
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		r.restarts += c.RestartCount
	}
	if len(p.Spec.Containers) > 0 {
		r.image = p.Spec.Containers[0].Image
	}
	if p.DeletionTimestamp != nil {
		r.phase = "Terminating"
	}
	return r
}
