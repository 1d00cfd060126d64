package evidence

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"irctl/internal/record"
)

// A container without a shell is looked at by one ephemeral container, which has
// the rights of the one that it looks at.
func TestAContainerWithoutAShellIsLookedAtFromBeside(t *testing.T) {
	s, ref := suspect(t)
	recipient, keys := testKey(t)
	inner := s.exec
	s.exec = func(container string, command []string) (string, int) {
		if strings.HasPrefix(container, debugPrefix) && len(command) > 5 {
			return "by " + command[6] + " of " + command[4] + command[5], 0
		}
		return inner(container, command)
	}
	req := s.request(t, []Recipient{recipient}, ref)
	req.Scope = Scope{Live: true, DebugImage: "registry.example/debug",
		Files: []string{"/etc/shadow", "/proc/1/status"}}
	var announced []string
	req.Announce = func(_ context.Context, change string, _ record.Trace) (func(error), error) {
		announced = append(announced, change)
		return func(error) {}, nil
	}
	result, err := Investigate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(announced) != 1 || !strings.Contains(announced[0], "beside container sidecar") {
		t.Errorf("announced %q", announced)
	}
	files := opened(t, result.Receipt.Path, Key{keyring: keys})
	_, artefacts := collectionOf(t, files)
	want := map[string]bool{"by tar of /proc/1/root/etc/shadow": true, "by cat of /proc/1/root/proc/1/status": true}
	for path, a := range artefacts {
		if strings.Contains(path, "/files/sidecar/") {
			if !want[string(files[path])] || !strings.Contains(a.Source, debugPrefix) {
				t.Errorf("%s: %q", path, files[path])
			}
			delete(want, string(files[path]))
		}
	}
	if len(want) > 0 {
		t.Errorf("not there: %v", want)
	}

	// Without an image that is said, with what to do.
	s, ref = suspect(t)
	req = s.request(t, []Recipient{recipient}, ref)
	req.Scope = Scope{Files: []string{"/etc/shadow"}}
	if result, err = Investigate(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	_, artefacts = collectionOf(t, opened(t, result.Receipt.Path, Key{keyring: keys}))
	told := false
	for path, a := range artefacts {
		told = told || strings.Contains(path, "/files/sidecar/") && a.Status == Failed && strings.Contains(a.Reason,
			"--debug-image")
	}
	if !told {
		t.Error("it is not said that --debug-image would help")
	}
}

func TestTheSecurityOfADebugContainer(t *testing.T) {
	no, uid, gid := false, int64(1000), int64(3000)
	spec := &corev1.SecurityContext{AllowPrivilegeEscalation: &no,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
	status := &corev1.ContainerStatus{User: &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: uid,
		GID: gid}}}
	if got := debugSecurity(spec, nil); got != spec {
		t.Errorf("%+v", got)
	}
	if got := debugSecurity(nil, &corev1.ContainerStatus{}); got != nil {
		t.Errorf("%+v", got)
	}
	got := debugSecurity(spec, status)
	if *got.RunAsUser != uid || *got.RunAsGroup != gid || got.Capabilities.Drop[0] != "ALL" || spec.RunAsUser != nil {
		t.Errorf("%+v, from %+v", got, spec)
	}
	pod, err := json.Marshal(corev1.Pod{Spec: corev1.PodSpec{ShareProcessNamespace: new(bool),
		Containers: []corev1.Container{{Name: "a"}}}})
	if err != nil {
		t.Fatal(err)
	}
	shared := bytes.Replace(pod, []byte(`"shareProcessNamespace":false`), []byte(`"shareProcessNamespace":true`), 1)
	facts, err := parsePod(shared)
	if err != nil || !facts.containers[0].sharesProcesses {
		t.Fatalf("%v, %+v", err, facts)
	}
	if _, err := (&inquiry{}).debugContainer(t.Context(), &pod0, facts.containers[0]); !errors.Is(err,
		errSharedProcesses) {
		t.Error(err)
	}
}

var pod0 pod

// No symbolic link of the suspect's leads out of its files.
func TestTheScriptStaysInTheContainersFiles(t *testing.T) {
	dir := t.TempDir()
	root, outside := filepath.Join(dir, "root"), filepath.Join(dir, "outside")
	for _, d := range []string{root + "/run/secrets", root + "/etc", root + "/var", outside + "/secrets"} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{root + "/run/secrets/token": "inside", outside +
		"/secrets/token": "outside", root + "/etc/it's $(odd)\n": "odd"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"/var/run": "/run", "/var/up": "../../../../../../../../run",
		"/var/out": outside, "/loop": "/loop", "/last": outside + "/secrets/token", "/chain": "/var/run/secrets"} {
		if err := os.Symlink(to, root+link); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"/run/secrets/token":           "./run/secrets/token",
		"/var/run/secrets/token":       "./run/secrets/token",
		"/var/up/secrets/token":        "./run/secrets/token",
		"/chain/token":                 "./run/secrets/token",
		"/etc/it's $(odd)\n":           "./etc/it's $(odd)\n",
		"/var/out/secrets/token":       "", // is not there
		"/loop/x":                      "",
		"/last":                        "./last", // the link itself
		"/../../outside/secrets/token": "",
	} {
		out, err := exec.Command("sh", "-c", besideScript, "sh", root, path, "tar").Output()
		r := tar.NewReader(bytes.NewReader(out))
		h, tarErr := r.Next()
		if want == "" {
			if err == nil {
				t.Errorf("%s: %v", path, h)
			}
			continue
		}
		if err != nil || tarErr != nil || h.Name != want {
			t.Errorf("%s: %v, %v, %v", path, err, tarErr, h)
			continue
		}
		if content, err := io.ReadAll(r); err != nil || bytes.Contains(content, []byte("outside")) {
			t.Errorf("%s: %q, %v", path, content, err)
		}
	}
}
