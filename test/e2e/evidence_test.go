package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
		return len(pods) == 1 && len(pods[0].Status.ContainerStatuses) == 1 &&
			pods[0].Status.ContainerStatuses[0].RestartCount > 0, nil
	})
}

// logs fails the test unless a container's log holds a text.
func (n *Namespace) logs(pod *corev1.Pod, container string, previous bool, want string) {
	n.t.Helper()
	n.await("the log of "+container+" to hold "+want, func(ctx context.Context) (bool, error) {
		log, err := world.Client.CoreV1().Pods(n.name).
			GetLogs(pod.Name, &corev1.PodLogOptions{Container: container, Previous: previous}).DoRaw(ctx)
		return strings.Contains(string(log), want), err
	})
}

// With somebody to seal it to, the suspect's state and logs are in a file that
// stock tools open before anything is changed; and in no other file.
func TestSnapshotIsSealedBeforeTheFirstWrite(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.todoApp()
	suspect := n.pod("app=backend")
	keys := newKeyring(t)
	jane := newPerson(t, responder)

	c := jane.contain("--pod", suspect.Name, "-n", n.name, "-r", keys.public).exits(exitNotContained)

	if c.Evidence == nil || !c.Evidence.Taken {
		t.Fatalf("no evidence was taken%s", c)
	}
	bundles, err := filepath.Glob(filepath.Join(c.Directory, "*.tar.gz.gpg"))
	if err != nil || len(bundles) != 1 {
		t.Fatalf("bundles: %v, %v; want one", bundles, err)
	}
	bag := keys.open(bundles[0])
	if !holds(t, bag, "listening on :8000") {
		t.Error("the log of the suspect is not in the bundle")
	}
	if taken := podIn(t, bag); taken.UID != suspect.UID || !maps.Equal(taken.Labels, suspect.Labels) ||
		len(taken.OwnerReferences) != 1 {
		t.Errorf("the suspect in the bundle is not as it was before it was detached: labels %v, owners %v",
			taken.Labels, taken.OwnerReferences)
	}
	if holds(t, jane.home, "listening on :8000") {
		t.Error("the log is on the disk in plain text")
	}
}

// What an investigator collects holds the logs of containers that run, ran
// before and crashed, and every digest is right: by gpg, tar and sha256sum.
func TestInvestigateIsOpenedByStockTools(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.todoApp()
	n.crashed()
	suspect := n.pod("app=backend")
	keys := newKeyring(t)
	jack := newPerson(t, investigator)
	bundle := filepath.Join(jack.home, "evidence.tar.gz.gpg")

	jack.irctl("investigate", "--yes", "-o", "json", "--pod", suspect.Name, "--pod", "crash", "-n", n.name, "-r",
		keys.public, "--bundle", bundle).exits(exitDone)

	bag := keys.open(bundle)
	for _, want := range []string{"listening on :8000", "migrations: nothing to do", "crash line 5 of 5"} {
		if !holds(t, bag, want) {
			t.Errorf("no log holds %q", want)
		}
	}
	manifests, err := filepath.Glob(filepath.Join(bag, "*", "manifest-sha256.txt"))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("manifests: %v, %v; want one", manifests, err)
	}
	check := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "--quiet",
		filepath.Base(manifests[0]))
	check.Dir = filepath.Dir(manifests[0])
	if output, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

// Who may hardly do anything takes what there is; what is missing, and for want
// of what, is in the bundle.
func TestACollectorWithFewRights(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.todoApp()
	n.apply(mayRead)
	suspect := n.pod("app=backend")
	keys := newKeyring(t)
	joe := newPerson(t, nobody)
	bundle := filepath.Join(joe.home, "few.tar.gz.gpg")

	var result struct {
		Receipt struct {
			Complete  bool           `json:"complete"`
			Artefacts map[string]int `json:"artefacts"`
		} `json:"receipt"`
	}
	joe.irctl("investigate", "--yes", "-o", "json", "--pod", suspect.Name, "-n", n.name, "-r", keys.public, "--bundle",
		bundle, "--live").exits(exitDone).decode(&result)

	if a := result.Receipt.Artefacts; result.Receipt.Complete || a["forbidden"] == 0 || a["complete"] == 0 {
		t.Errorf("%+v", result)
	}
	bag := keys.open(bundle)
	if !holds(t, bag, "listening on :8000") || podIn(t, bag).UID != suspect.UID {
		t.Error("what was permitted is not in the bundle")
	}
	if !holds(t, bag, "pods/exec") || !holds(t, bag, "is forbidden") {
		t.Error("the bundle does not say what was forbidden")
	}
}

// mayRead is about the least that one can collect with.
const mayRead = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: may-read}
rules:
- {apiGroups: [""], resources: [pods, pods/log], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: may-read}
subjects: [{kind: User, name: nobody, apiGroup: rbac.authorization.k8s.io}]
roleRef: {kind: Role, name: may-read, apiGroup: rbac.authorization.k8s.io}
`

// Who may run commands in the suspect takes its live state and files with them;
// and one flipped byte of the bundle is told.
func TestLiveStateAndFilesAreCollected(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.todoApp()
	n.apply(mayExec)
	suspect := n.pod("app=backend")
	keys := newKeyring(t)
	jack := newPerson(t, investigator)
	bundle := filepath.Join(jack.home, "live.tar.gz.gpg")

	jack.irctl("investigate", "--yes", "--pod", suspect.Name, "-n", n.name, "-r", keys.public, "--bundle", bundle,
		"--live", "--file", "/etc/hostname").exits(exitDone)

	bag := keys.open(bundle)
	for _, pattern := range []string{"live/backend/*", "files/backend/*"} {
		found, err := filepath.Glob(filepath.Join(bag, "*", "data", "pods", "*", suspect.Name, pattern))
		if err != nil || len(found) == 0 {
			t.Errorf("%s: %v, %v; want some", pattern, found, err)
		}
	}
	if !holds(t, filepath.Join(bag), suspect.Name+"\n") {
		t.Error("the suspect's /etc/hostname is not in the bundle")
	}

	jack.irctl("evidence", "verify", bundle).exits(exitDone)
	data, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(bundle, data, 0o600); err != nil {
		t.Fatal(err)
	}
	jack.irctl("evidence", "verify", bundle).exits(exitError)
}

// A container that has no shell, and no tar, is looked at by an ephemeral one,
// which sees its processes and its files.
func TestAContainerWithoutAShellIsCollectedFrom(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.apply(mayExec)
	n.apply(noShell)
	n.awaitPods("app=no-shell", 1)
	suspect := n.pod("app=no-shell")
	keys := newKeyring(t)
	jack := newPerson(t, investigator)
	bundle := filepath.Join(jack.home, "debug.tar.gz.gpg")

	jack.irctl("investigate", "--yes", "--pod", suspect.Name, "-n", n.name, "-r", keys.public, "--bundle", bundle,
		"--live", "--file", "/etc/app/secret.txt", "--file", "/etc/hostname", "--file", "/proc/1/status",
		"--debug-image", "irctl.test/netbox:1").exits(exitDone)

	if after := n.again(suspect); len(after.Spec.EphemeralContainers) != 1 {
		t.Errorf("%d ephemeral containers; want one for all questions", len(after.Spec.EphemeralContainers))
	}
	bag := keys.open(bundle)
	files, err := filepath.Glob(filepath.Join(bag, "*", "data", "pods", "*", suspect.Name, "files", "main", "*"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v; want three files", files, err)
	}
	for what, want := range map[string]string{"its ConfigMap through two symbolic links": "..data",
		"its host name": suspect.Name + "\n", "its first process": "Name:\tpause\n"} {
		if !slices.ContainsFunc(files, func(path string) bool {
			data, err := os.ReadFile(path)
			return err == nil && bytes.Contains(data, []byte(want))
		}) {
			t.Errorf("%s is not in the bundle", what)
		}
	}
	if !holds(t, bag, "== /proc/1\n/bin/pause") {
		t.Error("the live state does not show the suspect's process")
	}
}

// noShell is a pod of the strict kind: no user but its own, no capabilities, and
// an image that holds one program.
const noShell = `
apiVersion: v1
kind: ConfigMap
metadata: {name: app}
data: {secret.txt: "found by the debug container"}
---
apiVersion: v1
kind: Pod
metadata:
  name: no-shell
  labels: {app: no-shell}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  containers:
  - name: main
    image: irctl.test/pause:1
    securityContext:
      runAsUser: 1000
      runAsNonRoot: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
    volumeMounts:
    - {name: app, mountPath: /etc/app}
  volumes:
  - name: app
    configMap: {name: app}
`

// manyPods is how many an investigation of a namespace has to take. It needs
// some 2 GB of memory and five minutes; .ci/run sets IRCTL_E2E_MANY.
const manyPods = 200

// Of 200 pods every log is in the bundle, and memory stays what it is for one.
func TestTwoHundredPods(t *testing.T) {
	if os.Getenv("IRCTL_E2E_MANY") == "" {
		t.Skip("it takes some minutes; IRCTL_E2E_MANY=1 runs it")
	}
	n := newNamespace(t)
	started := time.Now()
	n.apply(fmt.Sprintf(chatty, manyPods))
	n.awaitFor(5*time.Minute, "200 pods", func(context.Context) (bool, error) {
		return len(slices.DeleteFunc(n.pods("app=chatty"), func(p corev1.Pod) bool {
			return p.Status.Phase != corev1.PodRunning
		})) == manyPods, nil
	})
	t.Logf("%d pods run after %s", manyPods, time.Since(started).Round(time.Second))
	// Not in the way of the tests that come next.
	defer func() {
		if err := world.Client.AppsV1().Deployments(n.name).
			Delete(t.Context(), "chatty", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
		n.awaitFor(5*time.Minute, "the pods to be gone", func(context.Context) (bool, error) {
			return len(n.pods("")) == 0, nil
		})
	}()
	pods := n.pods("app=chatty")
	keys := newKeyring(t)
	jack := newPerson(t, investigator)
	bundle := filepath.Join(jack.home, "many.tar.gz.gpg")

	one := jack.peak("investigate", "--yes", "--pod", pods[0].Name, "-n", n.name, "-r", keys.public, "--bundle",
		filepath.Join(jack.home, "one.tar.gz.gpg"))
	started = time.Now()
	all := jack.peak("investigate", "--yes", "--all-pods", "-n", n.name, "-r", keys.public, "--bundle", bundle)
	t.Logf("collected in %s; peak memory %d MiB, of one pod %d MiB", time.Since(started).Round(100*time.Millisecond),
		all>>20, one>>20)
	if all-one > 100<<20 {
		t.Errorf("memory grew by %d MiB", (all-one)>>20)
	}

	logs, err := filepath.Glob(filepath.Join(keys.open(bundle), "*", "data", "pods", "*", "*", "logs", "main",
		"current.log"))
	if err != nil || len(logs) != manyPods {
		t.Fatalf("%d logs, %v", len(logs), err)
	}
	for _, pod := range pods {
		found := slices.ContainsFunc(logs, func(path string) bool {
			if !strings.Contains(path, pod.Name) {
				return false
			}
			data, err := os.ReadFile(path)
			return err == nil && len(data) > 1_000_000 && bytes.Contains(data, []byte("the end of "+pod.Name+"\n"))
		})
		if !found {
			t.Errorf("the log of %s is not whole", pod.Name)
		}
	}
	jack.irctl("evidence", "verify", bundle).exits(exitDone)
}

// chatty pods log a million bytes each, and sleep. The kubelet sends a log line by
// line, so what it takes is counted in lines.
const chatty = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: chatty}
spec:
  replicas: %d
  selector: {matchLabels: {app: chatty}}
  template:
    metadata: {labels: {app: chatty}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      enableServiceLinks: false
      containers:
      - name: main
        image: irctl.test/netbox:1
        command: [sh, -c, 'yes "$(seq -s " " 60) is what $HOSTNAME says" | head -c 1000000; echo;
          echo "the end of $HOSTNAME"; exec sleep 100000']
`

// mayExec lets the investigator run commands in the pods of one namespace.
const mayExec = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: may-exec}
rules:
- {apiGroups: [""], resources: [pods/exec], verbs: [create, get]}
- {apiGroups: [""], resources: [pods/ephemeralcontainers], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: may-exec}
subjects: [{kind: User, name: investigator, apiGroup: rbac.authorization.k8s.io}]
roleRef: {kind: Role, name: may-exec, apiGroup: rbac.authorization.k8s.io}
`

// A Keyring is a GnuPG home with one key, made for a test.
type Keyring struct {
	t      *testing.T
	home   string
	public string // file
}

func newKeyring(t *testing.T) *Keyring {
	t.Helper()
	// Not the test's own folder: the path of a socket must be short.
	home, err := os.MkdirTemp("", "irctl-e2e-gpg-")
	if err != nil {
		t.Fatal(err)
	}
	k := &Keyring{t: t, home: home, public: filepath.Join(home, "public.asc")}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() // it ends with its folder, too
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	k.gpg("--passphrase", "", "--quick-gen-key", "e2e@example.org", "default", "default", "never")
	k.gpg("--armor", "--output", k.public, "--export", "e2e@example.org")
	return k
}

func (k *Keyring) gpg(args ...string) {
	k.t.Helper()
	command := exec.CommandContext(k.t.Context(), "gpg", append([]string{"--homedir", k.home, "--batch"}, args...)...)
	if output, err := command.CombinedOutput(); err != nil {
		k.t.Fatalf("gpg %s: %v: %s", strings.Join(args, " "), err, output)
	}
}

// open decrypts and unpacks a bundle, and returns the folder it is in.
func (k *Keyring) open(bundle string) (folder string) {
	k.t.Helper()
	folder = k.t.TempDir()
	plain := filepath.Join(folder, "bundle.tar.gz")
	k.gpg("--output", plain, "--decrypt", bundle)
	if output, err := exec.CommandContext(k.t.Context(), "tar", "-xzf", plain, "-C", folder).
		CombinedOutput(); err != nil {
		k.t.Fatalf("tar: %v: %s", err, output)
	}
	return folder
}

// podIn reads the only pod of a bag, as the API served it.
func podIn(t *testing.T, bag string) (pod corev1.Pod) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(bag, "*", "data", "pods", "*", "*", "pod.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("pods: %v, %v; want one", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// holds tells whether a text is in any file of a folder.
func holds(t *testing.T, folder, text string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || found || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		found = bytes.Contains(data, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
