package contain_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/steps/contain"
)

func TestASuspectGoesBackOnlyToControllersThatKeepIt(t *testing.T) {
	deploymentChain := []cluster.Ref{cluster.ReplicaSet.Named(ns, "backend-rs", "replicaset-backend-rs"),
		cluster.Deployment.Named(ns, "backend", "deployment-backend")}
	set := func(resource, name string, value any, path ...string) func(*lab) {
		return func(l *lab) {
			l.Edit(resource, ns, name, func(m map[string]any) {
				if err := unstructured.SetNestedField(m, value, path...); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	for name, c := range map[string]struct {
		scenario string
		chain    []cluster.Ref
		meddle   []func(*lab)
		want     string // "" it goes back
	}{
		"all run": {"deployment", deploymentChain, nil, ""},
		"the top is at zero": {"deployment", deploymentChain,
			[]func(*lab){set("deployments.apps", "backend", int64(0), "spec", "replicas")},
			"Deployment todo-app/backend has no replicas, and would delete the pod"},
		"an earlier revision": {"deployment", deploymentChain,
			[]func(*lab){set("replicasets.apps", "backend-rs", int64(0), "spec", "replicas")},
			"ReplicaSet todo-app/backend-rs has no replicas"},
		"the controller lags": {"deployment", deploymentChain,
			[]func(*lab){set("deployments.apps", "backend", int64(2), "metadata", "generation"),
				set("deployments.apps", "backend", int64(1), "status", "observedGeneration")},
			"has not taken note of its last change"},
		"the workload is gone": {"deployment", deploymentChain, []func(*lab){func(l *lab) {
			l.Delete("deployments.apps", ns, "backend")
			l.Delete("replicasets.apps", ns, "backend-rs")
		}}, ""},
		"the pod is gone": {"deployment", deploymentChain, []func(*lab){
			func(l *lab) { l.Delete("pods", ns, "backend-1") },
			set("deployments.apps", "backend", int64(0), "spec", "replicas")}, ""},
		"a suspended job": {"job", []cluster.Ref{cluster.Job.Named(ns, "nightly-1", "job-nightly-1")},
			[]func(*lab){set("jobs.batch", "nightly-1", true, "spec", "suspend")},
			"Job todo-app/nightly-1 is suspended"},
		"a daemon set on its node": {"daemonset",
			[]cluster.Ref{cluster.DaemonSet.Named(ns, "backend", "daemonset-backend")}, nil, ""},
		"a daemon set kept off it": {"daemonset",
			[]cluster.Ref{cluster.DaemonSet.Named(ns, "backend", "daemonset-backend")},
			[]func(*lab){func(l *lab) { exclude(t, l) }}, "DaemonSet todo-app/backend is kept off node node-1"},
		"an owner nobody may read": {"rollout-forbidden",
			[]cluster.Ref{{Group: "argoproj.io", Version: "v1alpha1", Kind: "Rollout", Namespace: ns, Name: "backend",
				UID: "rollout-backend"}}, nil, "whether Rollout todo-app/backend would keep it is unknown"},
		"bare": {"bare-pod", nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, _ := scenarios[c.scenario].lab(t)
			for _, m := range c.meddle {
				m(l)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if c.want == "" {
				ctx = bounded(t)
			}
			defer cancel()
			err := contain.AwaitReadmission(ctx, l.client, cluster.Pod.Named(ns, "backend-1", "pod-backend-1"), c.chain)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v; want %q", err, c.want)
			}
		})
	}
}

// exclude keeps the lab's DaemonSet off the suspect's node, as the step does.
func exclude(t *testing.T, l *lab) {
	t.Helper()
	plans, _ := plan(t, l.scene(incident, "backend-1"), all())
	if _, err := plans[2].Actions[0].Change.Do(bounded(t), l.client.Dynamic); err != nil {
		t.Fatal(err)
	}
}

func TestDetaches(t *testing.T) {
	edit := func(object cluster.Ref, path []string, before, after any) change.Change {
		c, _ := change.NewEdit(object, "", "", change.Field{Path: path, Before: before, After: after})
		return c
	}
	app := []string{"metadata", "labels", "app"}
	for name, c := range map[string]struct {
		change change.Change
		want   bool
	}{
		"a label taken off": {edit(cluster.Pod.Named(ns, "p", ""), app, "x", nil), true},
		"a label added":     {edit(cluster.Pod.Named(ns, "p", ""), app, nil, "x"), false},
		"an annotation taken off": {edit(cluster.Pod.Named(ns, "p", ""), []string{"metadata", "annotations", "a"}, "x",
			nil), false},
		"a node's label": {edit(cluster.Node.Named("", "n", ""), app, "x", nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := contain.Detaches(c.change); got != c.want {
				t.Errorf("detaches: %t", got)
			}
		})
	}
}
