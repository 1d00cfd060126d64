package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// client talks to the API server as the person does, without irctl.
func (p *Person) client() kubernetes.Interface {
	p.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", p.kubeconfig)
	if err != nil {
		p.t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		p.t.Fatal(err)
	}
	return client
}

// docs/rights.md says that a responder may run anything as anybody: the API
// server accepts a pod template of theirs. Once it does not, the page is wrong.
func TestAResponderMayRunAnythingAsAnybody(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.apply(`
apiVersion: batch/v1
kind: CronJob
metadata: {name: innocent}
spec:
  schedule: "0 0 1 1 *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never,
      containers: [{name: c, image: example.com/innocent:1}]}}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: innocent}
spec:
  selector: {matchLabels: {app: innocent}}
  template:
    metadata: {labels: {app: innocent}}
    spec: {nodeSelector: {nowhere: "true"}, containers: [{name: c, image: example.com/innocent:1}]}
`)
	const pod = `{"serviceAccountName":"default","hostPID":true,
		"volumes":[{"name":"root","hostPath":{"path":"/"}}],
		"containers":[{"name":"c","image":"example.com/theirs:1","securityContext":{"privileged":true},
			"env":[{"name":"S","valueFrom":{"secretKeyRef":{"name":"any","key":"password"}}}]}]}`
	api, dry := newPerson(t, responder).client(), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}
	if _, err := api.AppsV1().DaemonSets(n.name).Patch(n.ctx(), "innocent", types.StrategicMergePatchType,
		[]byte(`{"spec":{"template":{"spec":`+pod+`}}}`), dry); err != nil {
		t.Errorf("a DaemonSet: %v", err)
	}
	if _, err := api.BatchV1().CronJobs(n.name).Patch(n.ctx(), "innocent", types.StrategicMergePatchType,
		[]byte(`{"spec":{"jobTemplate":{"spec":{"template":{"spec":`+pod+`}}}}}`), dry); err != nil {
		t.Errorf("a CronJob: %v", err)
	}
}

// docs/rights.md says that an eradicator has the token of every service account
// of the namespaces in which the role is bound.
func TestAnEradicatorMayBecomeAnyServiceAccount(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.grant("irctl-eradicator")
	n.apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: powerful}}")
	secrets := newPerson(t, responder).client().CoreV1().Secrets(n.name)
	token := &corev1.Secret{Type: corev1.SecretTypeServiceAccountToken,
		ObjectMeta: metav1.ObjectMeta{Name: "theirs",
			Annotations: map[string]string{corev1.ServiceAccountNameKey: "powerful"}}}
	if _, err := secrets.Create(n.ctx(), token, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.await("the token", func(ctx context.Context) (bool, error) {
		s, err := secrets.Get(ctx, "theirs", metav1.GetOptions{})
		return err == nil && len(s.Data[corev1.ServiceAccountTokenKey]) > 0, err
	})
}

var hint = regexp.MustCompile(`kubectl create rolebinding .*`)

// The command that irctl prints for a missing right grants it, in that namespace
// and in no other.
func TestTheHintGrantsWhatWasMissing(t *testing.T) {
	t.Parallel()
	kubectl, err := exec.LookPath("kubectl")
	if world.Cluster != nil {
		kubectl, err = world.Cluster.Kubectl(), nil
	}
	if err != nil {
		t.Skip("there is no kubectl to run the command with")
	}
	n, other := newNamespace(t), newNamespace(t)
	n.workload("pod", 1)
	suspect := n.pod("app=pod").Name
	jack := newPerson(t, nobody)
	denied := func(namespace string) *Run {
		return jack.irctl("contain", "--dry-run", "--pod", suspect, "-n", namespace).exits(exitError)
	}
	const right = "the right to get pods is missing"
	r := denied(n.name)
	command := hint.FindString(r.stderr)
	if !strings.Contains(r.stderr, right) || command == "" {
		t.Fatalf("no command grants the right%s", r)
	}
	shell := exec.CommandContext(n.ctx(), "sh", "-c", command)
	shell.Env = append(os.Environ(), "KUBECONFIG="+world.kubeconfigs[admin], "PATH="+filepath.Dir(kubectl)+":"+
		os.Getenv("PATH"))
	if output, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, output)
	}
	if r := denied(n.name); strings.Contains(r.stderr, right) {
		t.Errorf("the right is still missing%s", r)
	}
	if r := denied(other.name); !strings.Contains(r.stderr, right) {
		t.Errorf("the right was granted elsewhere, too%s", r)
	}
}
