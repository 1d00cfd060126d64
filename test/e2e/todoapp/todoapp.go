// Package todoapp holds the application that the tests attack and defend, and
// one workload of every kind that can own a pod.
package todoapp

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"irctl/test/e2e/manifest"
)

// Namespace is where the app lives unless a test wants one of its own.
const Namespace = "todo-app"

//go:embed *.yaml workloads/*.yaml
var files embed.FS

// App is the manifest of the todo-app and its network policies for a namespace,
// the namespace included.
func App(namespace string) []byte {
	var all bytes.Buffer
	fmt.Fprintf(&all, "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %[1]s\n  labels: {name: %[1]s}\n", namespace)
	for _, name := range []string{"app.yaml", "policies.yaml"} {
		all.WriteString("---\n")
		all.Write(inNamespace(read(name), namespace))
	}
	return all.Bytes()
}

// Policies is the manifest of the app's network policies alone.
func Policies() []byte { return read("policies.yaml") }

// Workload is the manifest of one of the extra workloads, by its file's name:
// cronjob, crash, daemonset, deployment, gadget, job, pod, replicaset,
// replicationcontroller, statefulset, or static.
func Workload(name, namespace string) []byte {
	return inNamespace(read("workloads/"+name+".yaml"), namespace)
}

// GadgetDefinition is the manifest of the custom resource definition.
func GadgetDefinition() []byte { return read("gadget-crd.yaml") }

func read(name string) []byte {
	data, err := files.ReadFile(name)
	if err != nil {
		panic("todoapp: " + err.Error())
	}
	return data
}

func inNamespace(data []byte, namespace string) []byte {
	return bytes.ReplaceAll(data, []byte("namespace: "+Namespace+"\n"), []byte("namespace: "+namespace+"\n"))
}

// Deploy puts the todo-app in a namespace and waits until its pods are ready.
func Deploy(ctx context.Context, config *rest.Config, namespace string) error {
	if err := manifest.Apply(ctx, config, namespace, App(namespace)); err != nil {
		return fmt.Errorf("deploy todo-app: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("deploy todo-app: %w", err)
	}
	// frontend 1, backend 2, mcp-server 1, postgres 1
	if err := AwaitPods(ctx, client, namespace, "", 5); err != nil {
		return fmt.Errorf("deploy todo-app: %w", err)
	}
	return nil
}

// AwaitPods waits until at least count pods match the label selector, and all
// that do are ready.
func AwaitPods(ctx context.Context, client kubernetes.Interface, namespace, selector string, count int) error {
	last := errors.New("nothing seen yet")
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 60*time.Second, true,
		func(ctx context.Context) (bool, error) {
			pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
			if err != nil {
				last = err
				return false, nil
			}
			last = unready(pods.Items, count)
			return last == nil, nil
		})
	if err != nil {
		return fmt.Errorf("wait for pods of %s (%s): %w", namespace, selector, last)
	}
	return nil
}

// unready says which pods are not ready, or nil.
func unready(pods []corev1.Pod, count int) error {
	var waiting []string
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil || !ready(&pod) {
			waiting = append(waiting, fmt.Sprintf("%s is %s", pod.Name, reason(&pod)))
		}
	}
	if len(pods) < count || len(waiting) > 0 {
		return fmt.Errorf("%d of %d pods, %s", len(pods), count, strings.Join(waiting, ", "))
	}
	return nil
}

func ready(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func reason(pod *corev1.Pod) string {
	for _, status := range pod.Status.ContainerStatuses {
		if waiting := status.State.Waiting; waiting != nil {
			return fmt.Sprintf("waiting: %s %s", waiting.Reason, waiting.Message)
		}
	}
	return string(pod.Status.Phase)
}

// StartCronJob makes a Job from a CronJob at once, as its controller would at
// the next full minute.
func StartCronJob(ctx context.Context, client kubernetes.Interface, namespace, name string) (*batchv1.Job, error) {
	owner, err := client.BatchV1().CronJobs(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("start cron job: %w", err)
	}
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: name + "-",
			Labels:       owner.Spec.JobTemplate.Labels,
			Annotations:  owner.Spec.JobTemplate.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner,
				batchv1.SchemeGroupVersion.WithKind("CronJob"))},
		},
		Spec: owner.Spec.JobTemplate.Spec,
	}
	made, err := client.BatchV1().Jobs(namespace).Create(ctx, job, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("start cron job: %w", err)
	}
	return made, nil
}
