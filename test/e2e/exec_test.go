package e2e

import (
	"bytes"
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

// exec runs a command in a pod's first container and returns its output and
// exit code.
func (w *World) exec(ctx context.Context, pod *corev1.Pod, command ...string) (output string, code int, err error) {
	request := w.Client.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).
		SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: pod.Spec.Containers[0].Name, Command: command, Stdout: true,
			Stderr: true}, scheme.ParameterCodec)
	modern, err := remotecommand.NewWebSocketExecutor(w.Admin, "GET", request.URL().String())
	if err != nil {
		return "", 0, err
	}
	old, err := remotecommand.NewSPDYExecutor(w.Admin, "POST", request.URL())
	if err != nil {
		return "", 0, err
	}
	executor, err := remotecommand.NewFallbackExecutor(modern, old, httpstream.IsUpgradeFailure)
	if err != nil {
		return "", 0, err
	}
	var stdout, stderr bytes.Buffer // not one for both: they are written at the same time
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr})
	output = stdout.String() + stderr.String()
	var exit utilexec.ExitError
	if errors.As(err, &exit) {
		return output, exit.ExitStatus(), nil
	}
	return output, 0, err
}
