package evidence

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/record"
)

const (
	// debugLife is how long an ephemeral container lives: it cannot be removed.
	debugLife    = 15 * time.Minute
	debugStart   = 45 * time.Second
	debugPoll    = 500 * time.Millisecond
	debugPrefix  = "irctl-debug-"
	debugLetters = "bcdfghjklmnpqrstvwxz"
	// debugRoot is where an ephemeral container finds the files of the one whose
	// processes it sees: that one's first process is number 1 there.
	debugRoot = "/proc/1/root"
)

// debugging is an ephemeral container beside another, of which there is one at
// most: it cannot be removed again.
type debugging struct {
	once sync.Once
	name string
	err  error
}

// errSharedProcesses: it is not known which processes are those of a container.
var errSharedProcesses = errors.New("the containers of the pod share their processes (shareProcessNamespace), so " +
	"process 1 is not that of the container; its files cannot be found from another one")

// debugContainer adds an ephemeral container that sees the processes of
// another, unless that is there already, waits until it runs, and returns its
// name.
func (q *inquiry) debugContainer(ctx context.Context, p *pod, of container) (string, error) {
	if of.sharesProcesses {
		return "", errSharedProcesses
	}
	d := p.debugging(of.name)
	d.once.Do(func() { d.name, d.err = q.newDebugContainer(ctx, p, of) })
	return d.name, d.err
}

func (q *inquiry) newDebugContainer(ctx context.Context, p *pod, of container) (string, error) {
	name := debugPrefix + randomWord(5)
	done, err := q.change(ctx, fmt.Sprintf(
		"ephemeral container %s (%s) in pod %s, beside container %s; it ends by itself and cannot be removed", name,
		q.scope.DebugImage, p, of.name),
		record.Trace{Kind: record.EphemeralContainer, Namespace: p.Namespace, Pod: p.Name, UID: string(p.UID),
			Container: name})
	if err != nil {
		return "", err
	}
	err = q.addDebugContainer(ctx, p, name, of)
	if err == nil {
		err = q.waitRunning(ctx, p, name)
	}
	done(err)
	return name, err
}

func (p *pod) debugging(container string) *debugging {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.debugs == nil {
		p.debugs = map[string]*debugging{}
	}
	if p.debugs[container] == nil {
		p.debugs[container] = &debugging{}
	}
	return p.debugs[container]
}

// debugSecurity lets an ephemeral container be what the one is that it looks at,
// no more and no less. Linux lets it see the files of a process only if it has
// the user and all capabilities of that, and admission the same that it allowed
// once. s is what the kubelet says of the user, which may be the image's.
func debugSecurity(c *corev1.SecurityContext, s *corev1.ContainerStatus) *corev1.SecurityContext {
	if s == nil || s.User == nil || s.User.Linux == nil {
		return c
	}
	if c == nil {
		c = &corev1.SecurityContext{}
	}
	c = c.DeepCopy()
	c.RunAsUser, c.RunAsGroup = &s.User.Linux.UID, &s.User.Linux.GID
	return c
}

func (q *inquiry) addDebugContainer(ctx context.Context, p *pod, name string, of container) error {
	patch, err := json.Marshal(
		map[string]any{"spec": map[string]any{"ephemeralContainers": []corev1.EphemeralContainer{{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: q.scope.DebugImage,
				Command:         []string{"sh", "-c", fmt.Sprintf("sleep %d", int(debugLife.Seconds()))},
				SecurityContext: of.security},
			TargetContainerName: of.name,
		}}}})
	if err != nil {
		return err
	}
	_, err = q.api.kube.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch,
		metav1.PatchOptions{FieldManager: "irctl"}, "ephemeralcontainers")
	if err != nil {
		return fmt.Errorf("adding the ephemeral container %s to pod %s: %w", name, p, err)
	}
	return nil
}

func (q *inquiry) waitRunning(ctx context.Context, p *pod, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, debugStart,
		fmt.Errorf("the ephemeral container %s did not start in %s", name, debugStart))
	defer cancel()
	for {
		got, err := q.api.kube.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
		if err == nil {
			i := slices.IndexFunc(got.Status.EphemeralContainerStatuses, func(s corev1.ContainerStatus) bool {
				return s.Name == name
			})
			if i >= 0 && got.Status.EphemeralContainerStatuses[i].State.Running != nil {
				return nil
			}
			if i >= 0 && got.Status.EphemeralContainerStatuses[i].State.Terminated != nil {
				return fmt.Errorf("the ephemeral container %s ended at once: %s", name,
					got.Status.EphemeralContainerStatuses[i].State.Terminated.Reason)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(debugPoll):
		}
	}
}

func randomWord(n int) string {
	word := make([]byte, n)
	_, _ = rand.Read(word) // never fails, by its documentation
	for i, b := range word {
		word[i] = debugLetters[int(b)%len(debugLetters)]
	}
	return string(word)
}
