package evidence

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// rolloutCollector takes the revisions of the pods' workloads: the ReplicaSets
// of a Deployment, the ControllerRevisions of a StatefulSet or DaemonSet, and
// the history that they make.
type rolloutCollector struct{ *inquiry }

func (c *rolloutCollector) Name() string { return "rollout" }

var (
	replicaSets         = grouped("apps", "replicasets", "ReplicaSet")
	controllerRevisions = grouped("apps", "controllerrevisions", "ControllerRevision")
)

func (c *rolloutCollector) Collect(ctx context.Context, out *Output) error {
	for _, ns := range c.namespaces() {
		owners := c.workloads(ctx, ns)
		if len(owners) == 0 {
			continue
		}
		h := &history{owners: owners}
		for _, r := range []resource{replicaSets, controllerRevisions} {
			err := out.List(ctx, listing{resource: r, namespace: ns}, h.keep, "namespaces", ns, r.gvr.Resource+".json")
			h.failed = cmpError(h.failed, err)
		}
		slices.SortStableFunc(h.revisions, func(x, y revision) int {
			return cmp.Or(cmp.Compare(x.Workload, y.Workload), x.Created.Compare(y.Created.Time),
				cmp.Compare(x.Name, y.Name))
		})
		out.JSON("concluded from the lists beside it", h.revisions, h.failed, "namespaces", ns, "rollout-history.json")
	}
	return nil
}

// workloads are the owners of the namespace's pods, by UID.
func (c *rolloutCollector) workloads(ctx context.Context, ns string) map[types.UID]string {
	found := map[types.UID]string{}
	for _, facts := range c.podsIn(ctx, ns) {
		for _, o := range c.memos.chain(ctx, ns, facts.owners) {
			found[o.ref.UID] = o.ref.Kind + "/" + o.ref.Name
		}
	}
	return found
}

// history is what the revisions tell, newest last.
type history struct {
	owners    map[types.UID]string
	revisions []revision
	failed    error
}

type revision struct {
	Workload string      `json:"workload"`
	Revision string      `json:"revision"`
	Name     string      `json:"name"`
	Created  metav1.Time `json:"created"`
	Replicas *int32      `json:"replicas,omitempty"`
	Images   []string    `json:"images,omitempty"`
	Cause    string      `json:"changeCause,omitempty"`
}

// maxRevisions bounds the history; Kubernetes keeps ten of a workload.
const maxRevisions = 10_000

// keep what one of the workloads owns.
func (h *history) keep(item json.RawMessage) (bool, error) {
	var o struct {
		metav1.ObjectMeta `json:"metadata"`
		Revision          json.Number           `json:"revision"`
		Spec              appsv1.ReplicaSetSpec `json:"spec"`
	}
	if json.Unmarshal(item, &o) != nil {
		return false, nil
	}
	controller := metav1.GetControllerOf(&o)
	if controller == nil || h.owners[controller.UID] == "" {
		return false, nil
	}
	if len(h.revisions) == maxRevisions {
		return false, errLimit
	}
	r := revision{Workload: h.owners[controller.UID], Name: o.Name, Created: o.CreationTimestamp,
		Replicas: o.Spec.Replicas, Cause: o.Annotations["kubernetes.io/change-cause"]}
	r.Revision = cmp.Or(o.Annotations["deployment.kubernetes.io/revision"], o.Revision.String())
	for _, c := range slices.Concat(o.Spec.Template.Spec.InitContainers, o.Spec.Template.Spec.Containers) {
		r.Images = append(r.Images, c.Image)
	}
	h.revisions = append(h.revisions, r)
	return true, nil
}
