package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"irctl/test/e2e/cluster"
)

// A Recovery is the JSON of recover.
type Recovery struct {
	*Run      `json:"-"`
	Verdict   string `json:"verdict"`
	Workloads []struct {
		Object string `json:"object"`
		OK     bool   `json:"ok"`
		WayIn  struct {
			State string `json:"state"`
		} `json:"wayIn"`
		Checks []struct {
			Code, Result, Text string
		} `json:"checks"`
	} `json:"workloads"`
	Suspects []struct {
		Fate, Text string
	} `json:"suspects"`
	Refusals []Refusal `json:"refusals"`
	Monitor  *struct {
		Hits []struct {
			Code, Text string
		} `json:"hits"`
	} `json:"monitor"`
}

func (p *Person) recover(args ...string) *Recovery {
	p.t.Helper()
	r := &Recovery{Run: p.irctl(append([]string{"recover", "--yes", "-o", "json"}, args...)...)}
	if r.code != exitUsage && r.code != exitError {
		r.decode(r)
	}
	return r
}

// setImage changes the image of the backend, as a deployment pipeline would.
func (n *Namespace) setImage(image string) error {
	patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"backend","image":%q}]}}}}`, image)
	_, err := world.Client.AppsV1().Deployments(n.name).
		Patch(context.Background(), "backend", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// After a containment the service comes back on another image than the
// suspect's, and on no other; the suspect goes once its evidence is sealed; and
// when its image comes back, the watch sees it. It runs alone: the same image that
// comes up in another test is a sign, too, and ends the watch.
func TestTheServiceRecovers(t *testing.T) {
	n := newNamespace(t)
	n.todoApp()
	suspect := n.pod("app=backend")
	before := len(n.pods("app=backend"))
	keys := newKeyring(t)
	jane := newPerson(t, responder)
	jane.contain("--pod", suspect.Name, "-n", n.name, "-r", keys.public).exits(exitNotContained)

	r := jane.recover("--suspect", "delete")
	r.exits(exitRefused)
	if len(r.Refusals) == 0 || len(n.pods("app=backend")) != 0 {
		t.Fatalf("the suspect's image was put back%s", r)
	}
	n.survives(suspect)

	if err := n.setImage(cluster.PatchedImage); err != nil {
		t.Fatal(err)
	}
	// The responder may not delete pods: that costs the deletion, and no more.
	r = jane.recover("--suspect", "delete")
	r.exits(exitError)
	n.survives(suspect)
	n.awaitPods("app=backend", before)

	n.grant("irctl-recoverer")
	r = jane.recover("--suspect", "delete")
	if (r.code != exitDone && r.code != exitNotContained) || len(r.Workloads) != 1 || !r.Workloads[0].OK ||
		r.Workloads[0].WayIn.State != "closed" {
		t.Fatalf("not recovered%s", r)
	}
	for _, c := range r.Workloads[0].Checks {
		if slices.Contains([]string{"ready", "non-root", "suspect-image", "quarantine-labels", "network-policy",
			"endpoints", "log-secrets"}, c.Code) && c.Result != "passed" {
			t.Errorf("%s is %s: %s", c.Code, c.Result, c.Text)
		}
	}
	if _, err := world.Client.CoreV1().Pods(n.name).Get(t.Context(), suspect.Name, metav1.GetOptions{}); err == nil ||
		len(n.quarantines()) != 0 {
		t.Errorf("the suspect (%v) or its quarantine (%v) is left%s", err, n.quarantines(), r)
	}
	if got := n.endpoints("backend"); len(got) != before {
		t.Errorf("the Service has the endpoints %v, want %d", got, before)
	}

	// The image comes back once the watch has begun: what was there before is no return.
	journal := filepath.Join(jane.incidents()[0], "timeline.jsonl")
	back := make(chan error, 1)
	go func() {
		back <- wait.PollUntilContextTimeout(n.ctx(), 200*time.Millisecond, runLimit, true,
			func(context.Context) (bool, error) {
				text, err := os.ReadFile(journal)
				if err != nil || !bytes.Contains(text, []byte(`"step":"monitor"`)) {
					return false, err
				}
				return true, n.setImage(cluster.BackendImage)
			})
	}()
	watched := &Recovery{Run: jane.irctl("recover", "--yes", "-o", "json", "--monitor", "90s", "--every", "1s")}
	if err := <-back; err != nil {
		t.Fatal(err)
	}
	watched.exits(exitNotContained)
	if err := json.Unmarshal([]byte(watched.stdout), watched); err != nil {
		t.Fatal(err)
	}
	if watched.Monitor == nil || !slices.ContainsFunc(watched.Monitor.Hits, func(h struct{ Code, Text string }) bool {
		return h.Code == "image" && strings.Contains(h.Text, n.name)
	}) {
		t.Errorf("the watch did not see the suspect's image%s", watched)
	}
}
