package e2e

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"irctl/test/e2e/todoapp"
)

// Before there is anything to collect: the todo-app has logs of containers that
// run, ran before them, and crashed, and takes commands. If this fails, look at
// the cluster and not at irctl.
func TestTheTodoAppHasEvidence(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.todoApp()
	backend := n.pod("app=backend")

	n.logs(backend, "backend", false, "listening on :8000")
	n.logs(backend, "migrate", false, "migrations: nothing to do")
	output, code, err := world.exec(t.Context(), backend, "id", "-u")
	if err != nil || code != 0 || output != "1000\n" {
		t.Errorf("id -u: %q, exit code %d, %v; want user 1000", output, code, err)
	}
}

// A container that crashed leaves the log of its last life.
func TestACrashedContainerHasAPreviousLog(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.crashed()
	n.logs(n.pod("app=crash"), "main", true, "crash line 5 of 5")
}

// crashed deploys a pod that keeps crashing and waits until it has done so.
func (n *Namespace) crashed() {
	n.t.Helper()
	n.apply(string(todoapp.Workload("crash", n.name)))
	n.await("the container to be restarted", func(context.Context) (bool, error) {
		pods := n.pods("app=crash")
		return len(pods) == 1 && len(pods[0].Status.ContainerStatuses) == 1 && pods[0].Status.ContainerStatuses[0].RestartCount > 0, nil
	})
}

// logs fails the test unless a container's log holds a text.
func (n *Namespace) logs(pod *corev1.Pod, container string, previous bool, want string) {
	n.t.Helper()
	n.await("the log of "+container+" to hold "+want, func(ctx context.Context) (bool, error) {
		log, err := world.Client.CoreV1().Pods(n.name).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container, Previous: previous}).DoRaw(ctx)
		return strings.Contains(string(log), want), err
	})
}
