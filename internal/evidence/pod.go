package evidence

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// PodRef names a pod. With a UID, another pod that has taken the name since is
// not mistaken for it.
type PodRef struct {
	Namespace, Name string
	UID             types.UID
}

func (r PodRef) String() string { return r.Namespace + "/" + r.Name }

// pod is a subject of the collection. Its collectors share one read of it.
type pod struct {
	PodRef
	api    *api
	memo   *memos
	once   sync.Once
	facts  podFacts
	err    error
	mu     sync.Mutex
	served []byte
}

// podFacts is what collectors need to know of a pod, a fraction of the object,
// since it is kept for every pod of a collection.
type podFacts struct {
	uid        types.UID
	owners     []metav1.OwnerReference
	containers []container
	// tooMany says that the pod has more containers than are listed here.
	tooMany error
}

// container is one of a pod, with what the kubelet says of it.
type container struct {
	name string
	// restarted: there was an instance before the present one.
	restarted bool
	// neverStarted: there has been no instance.
	neverStarted bool
}

// maxContainers is more than any node runs for one pod.
const maxContainers = 256

// source is the request that reads the pod.
func (p *pod) source() string { return "GET " + objectPath(podsResource, p.Namespace, p.Name) }

// read fetches the pod, once for all of its collectors.
func (p *pod) read(ctx context.Context) (*podFacts, error) {
	p.once.Do(func() {
		body, err := p.api.get(ctx, podsResource, p.Namespace, p.Name)
		if err == nil {
			p.facts, err = parsePod(body)
		}
		if err == nil && p.UID != "" && p.facts.uid != p.UID {
			err = fmt.Errorf("the pod is gone: the one of that name now has UID %s, not %s", p.facts.uid, p.UID)
		}
		p.err = err
		p.mu.Lock()
		p.served = body
		p.mu.Unlock()
	})
	return &p.facts, p.err
}

// takeServed hands over the pod as it was served, which is then forgotten here.
func (p *pod) takeServed() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	body := p.served
	p.served = nil
	return body
}

// parsePod reads the facts out of a pod as it was served.
func parsePod(body []byte) (podFacts, error) {
	type named struct{ Name string }
	var p struct {
		Metadata struct {
			UID             types.UID
			OwnerReferences []metav1.OwnerReference
		}
		Spec struct {
			InitContainers, Containers, EphemeralContainers []named
		}
		Status struct {
			InitContainerStatuses, ContainerStatuses, EphemeralContainerStatuses []corev1.ContainerStatus
		}
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return podFacts{}, fmt.Errorf("the answer is not a pod: %w", err)
	}
	facts := podFacts{uid: p.Metadata.UID, owners: p.Metadata.OwnerReferences[:min(len(p.Metadata.OwnerReferences), maxOwners)]}
	statuses := map[string]*corev1.ContainerStatus{} // the names of all three kinds are distinct
	for _, group := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for i := range group {
			statuses[group[i].Name] = &group[i]
		}
	}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers, p.Spec.EphemeralContainers) {
		if len(facts.containers) == maxContainers {
			facts.tooMany = fmt.Errorf("the pod has more than %d containers", maxContainers)
			break
		}
		facts.containers = append(facts.containers, newContainer(c.Name, statuses[c.Name]))
	}
	return facts, nil
}

// newContainer: without a status the kubelet has said nothing yet, and nothing
// is taken for granted.
func newContainer(name string, s *corev1.ContainerStatus) container {
	if s == nil {
		return container{name: name}
	}
	return container{
		name:         name,
		restarted:    s.RestartCount > 0 || s.LastTerminationState.Terminated != nil,
		neverStarted: s.ContainerID == "" && s.State.Running == nil && s.State.Terminated == nil && s.RestartCount == 0,
	}
}
