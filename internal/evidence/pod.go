package evidence

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
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
	debugs map[string]*debugging // by the container they are beside
}

// podFacts is what collectors need to know of a pod, a fraction of the object,
// since it is kept for every pod of a collection.
type podFacts struct {
	uid        types.UID
	owners     []metav1.OwnerReference
	containers []container
	// tooMany says that the pod has more of something than is listed here.
	tooMany error

	labels         map[string]string
	ip             string
	ports          []corev1.ContainerPort
	node           string
	hostNetwork    bool
	serviceAccount string
	// What the pod names, by name.
	configMaps, secrets, claims []string
}

// container is one of a pod, with what the kubelet says of it.
type container struct {
	name string
	// image as the pod names it, and as the node resolved it.
	image, imageID string
	id             string
	running        bool
	// restarted: there was an instance before the present one.
	restarted bool
	// neverStarted: there has been no instance.
	neverStarted bool
	// security is what another container has to be to see its files, unless it
	// sharesProcesses with all of the pod.
	security        *corev1.SecurityContext
	sharesProcesses bool
}

// maxReferences is more names of any kind than a pod uses.
const maxReferences = 1024

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
	var p corev1.Pod
	if err := json.Unmarshal(body, &p); err != nil {
		return podFacts{}, fmt.Errorf("the answer is not a pod: %w", err)
	}
	facts := podFacts{
		uid: p.UID, owners: p.OwnerReferences[:min(len(p.OwnerReferences), maxOwners)],
		labels: p.Labels, ip: p.Status.PodIP, node: p.Spec.NodeName, hostNetwork: p.Spec.HostNetwork,
		serviceAccount: p.Spec.ServiceAccountName,
	}
	facts.readContainers(&p)
	facts.readReferences(&p)
	return facts, nil
}

func (f *podFacts) readContainers(p *corev1.Pod) {
	statuses := map[string]*corev1.ContainerStatus{} // the names of all three kinds are distinct
	for _, group := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses,
		p.Status.EphemeralContainerStatuses} {
		for i := range group {
			statuses[group[i].Name] = &group[i]
		}
	}
	for c := range containersOf(p) {
		if len(f.containers) == maxContainers {
			f.tooMany = fmt.Errorf("the pod has more than %d containers", maxContainers)
			return
		}
		of := newContainer(c.Name, c.Image, statuses[c.Name])
		of.security = debugSecurity(c.SecurityContext, statuses[c.Name])
		of.sharesProcesses = p.Spec.ShareProcessNamespace != nil && *p.Spec.ShareProcessNamespace
		f.containers = append(f.containers, of)
		f.ports = append(f.ports, c.Ports[:min(len(c.Ports), maxReferences)]...)
	}
}

// containersOf goes through init, usual and ephemeral containers.
func containersOf(p *corev1.Pod) iter.Seq[corev1.Container] {
	return func(yield func(corev1.Container) bool) {
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			if !yield(c) {
				return
			}
		}
		for _, c := range p.Spec.EphemeralContainers {
			if !yield(corev1.Container(c.EphemeralContainerCommon)) {
				return
			}
		}
	}
}

// newContainer: without a status the kubelet has said nothing yet, and nothing
// is taken for granted.
func newContainer(name, image string, s *corev1.ContainerStatus) container {
	c := container{name: name, image: image}
	if s == nil {
		return c
	}
	c.imageID, c.id, c.running = s.ImageID, s.ContainerID, s.State.Running != nil
	c.restarted = s.RestartCount > 0 || s.LastTerminationState.Terminated != nil
	c.neverStarted = s.ContainerID == "" && s.State.Running == nil && s.State.Terminated == nil && s.RestartCount == 0
	return c
}

// readReferences finds what the pod mounts, reads its environment from, or
// pulls its images with.
func (f *podFacts) readReferences(p *corev1.Pod) {
	for _, s := range p.Spec.ImagePullSecrets {
		f.secrets = append(f.secrets, s.Name)
	}
	for c := range containersOf(p) {
		for _, from := range c.EnvFrom {
			if from.ConfigMapRef != nil {
				f.configMaps = append(f.configMaps, from.ConfigMapRef.Name)
			}
			if from.SecretRef != nil {
				f.secrets = append(f.secrets, from.SecretRef.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
				f.configMaps = append(f.configMaps, e.ValueFrom.ConfigMapKeyRef.Name)
			}
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				f.secrets = append(f.secrets, e.ValueFrom.SecretKeyRef.Name)
			}
		}
	}
	for _, v := range p.Spec.Volumes {
		f.readVolume(p.Name, &v)
	}
	for _, list := range []*[]string{&f.configMaps, &f.secrets, &f.claims} {
		slices.Sort(*list)
		if *list = slices.Compact(*list); len(*list) > maxReferences {
			*list, f.tooMany = (*list)[:maxReferences],
				fmt.Errorf("the pod uses more than %d objects of a kind", maxReferences)
		}
	}
}

func (f *podFacts) readVolume(pod string, v *corev1.Volume) {
	switch {
	case v.ConfigMap != nil:
		f.configMaps = append(f.configMaps, v.ConfigMap.Name)
	case v.Secret != nil:
		f.secrets = append(f.secrets, v.Secret.SecretName)
	case v.PersistentVolumeClaim != nil:
		f.claims = append(f.claims, v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil:
		f.claims = append(f.claims, pod+"-"+v.Name) // the name that Kubernetes gives it
	case v.CSI != nil && v.CSI.NodePublishSecretRef != nil:
		f.secrets = append(f.secrets, v.CSI.NodePublishSecretRef.Name)
	case v.Projected != nil:
		for _, source := range v.Projected.Sources {
			if source.ConfigMap != nil {
				f.configMaps = append(f.configMaps, source.ConfigMap.Name)
			}
			if source.Secret != nil {
				f.secrets = append(f.secrets, source.Secret.Name)
			}
		}
	}
}
