package sim_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"irctl/internal/drill/sim"
)

// tables is what kubectl get asks for.
const tables = "application/json;as=Table;v=v1;g=meta.k8s.io," +
	"application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"

func tableOf(t *testing.T, kube *kubernetes.Clientset, path, include string) metav1.Table {
	t.Helper()
	r := kube.RESTClient().Get().AbsPath(path).SetHeader("Accept", tables)
	if include != "" {
		r = r.Param("includeObject", include)
	}
	body, err := r.DoRaw(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var table metav1.Table
	if err := json.Unmarshal(body, &table); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if table.Kind != "Table" || table.APIVersion != "meta.k8s.io/v1" || table.ResourceVersion == "" {
		t.Errorf("%s: %s of %s, version %q", path, table.Kind, table.APIVersion, table.ResourceVersion)
	}
	return table
}

// printed is the first row, as -o wide shows it.
func printed(table metav1.Table) (string, string) {
	var head, row []string
	for i, c := range table.ColumnDefinitions {
		head = append(head, strings.ToUpper(c.Name))
		if len(table.Rows) > 0 {
			row = append(row, fmt.Sprint(table.Rows[0].Cells[i]))
		}
	}
	return strings.Join(head, "|"), strings.Join(row, "|")
}

// TestTables: kubectl get shows what it does on a real server.
func TestTables(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 12, 9, 30, 0, 0, time.UTC)
	c, kube := serve(t, sim.Options{Now: func() time.Time { return now }, Events: true,
		Kinds: []sim.Kind{sim.Kustomization}})
	if err := c.Apply(`
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: apps, namespace: todo-app}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: todo-app}
spec: {schedule: 0 3 * * *, jobTemplate: {spec: {template: {spec: {containers: [{name: dump,
    image: registry.example.com/dump:1}]}}}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: backend, namespace: todo-app}
spec: {minReplicas: 2, maxReplicas: 5, scaleTargetRef: {kind: Deployment, name: backend, apiVersion: apps/v1}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: todo-app}
spec: {ingressClassName: nginx, tls: [{}], rules: [{host: todo.example.com}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: backend, namespace: todo-app}
spec: {minAvailable: 50%}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: all, namespace: todo-app}
status: {hard: {pods: "20", limits.cpu: "4"}, used: {pods: "7", limits.cpu: "1"}}
---
apiVersion: apps/v1
kind: ControllerRevision
metadata: {name: postgres-1, namespace: todo-app, ownerReferences: [{apiVersion: apps/v1, kind: Node,
    name: node-1, uid: u, controller: true}]}
revision: 1
`); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RunCronJob("todo-app", "nightly"); err != nil {
		t.Fatal(err)
	}
	backend := podOf(t, c, "backend")
	if err := c.RestartContainers("todo-app", backend, "OOMKilled", 137); err != nil {
		t.Fatal(err)
	}
	now = now.Add(90 * time.Minute)
	for _, tc := range []struct{ path, head, row string }{
		{"/api/v1/namespaces/todo-app/pods/" + backend,
			"NAME|READY|STATUS|RESTARTS|AGE|IP|NODE|NOMINATED NODE|READINESS GATES",
			backend + "|1/1|Running|1 (90m ago)|90m|10.244.0.27|node-1|<none>|<none>"},
		{"/apis/apps/v1/namespaces/todo-app/deployments/backend",
			"NAME|READY|UP-TO-DATE|AVAILABLE|AGE|CONTAINERS|IMAGES|SELECTOR",
			"backend|3/3|3|3|90m|backend|registry.example.com/todo-backend:1.4.2|app=backend"},
		{"/apis/apps/v1/namespaces/todo-app/replicasets", "NAME|DESIRED|CURRENT|READY|AGE|CONTAINERS|IMAGES|SELECTOR",
			""},
		{"/api/v1/replicationcontrollers", "NAME|DESIRED|CURRENT|READY|AGE|CONTAINERS|IMAGES|SELECTOR", ""},
		{"/apis/apps/v1/namespaces/todo-app/statefulsets", "NAME|READY|AGE|CONTAINERS|IMAGES",
			"postgres|1/1|90m|postgres|registry.example.com/postgres:16-alpine"},
		{"/apis/apps/v1/daemonsets",
			"NAME|DESIRED|CURRENT|READY|UP-TO-DATE|AVAILABLE|NODE SELECTOR|AGE|CONTAINERS|IMAGES|SELECTOR",
			"kube-router|2|2|2|2|2|<none>|90m|kube-router|registry.example.com/kube-router:2|k8s-app=kube-router"},
		{"/apis/batch/v1/jobs", "NAME|STATUS|COMPLETIONS|DURATION|AGE|CONTAINERS|IMAGES|SELECTOR", ""},
		{"/apis/batch/v1/cronjobs",
			"NAME|SCHEDULE|TIMEZONE|SUSPEND|ACTIVE|LAST SCHEDULE|AGE|CONTAINERS|IMAGES|SELECTOR",
			"nightly|0 3 * * *|<none>|False|0|<none>|90m|dump|registry.example.com/dump:1|<none>"},
		{"/api/v1/namespaces/todo-app/services", "NAME|TYPE|CLUSTER-IP|EXTERNAL-IP|PORT(S)|AGE|SELECTOR",
			"backend|ClusterIP|<none>|<none>|8000/TCP|90m|app=backend"},
		{"/apis/discovery.k8s.io/v1/endpointslices", "NAME|ADDRESSTYPE|PORTS|ENDPOINTS|AGE", ""},
		{"/apis/networking.k8s.io/v1/networkpolicies", "NAME|POD-SELECTOR|AGE",
			"backend-network-policy|app=backend|90m"},
		{"/api/v1/namespaces/todo-app", "NAME|STATUS|AGE", "todo-app|Active|90m"},
		{"/api/v1/secrets", "NAME|TYPE|DATA|AGE", "backend-secret|Opaque|2|90m"},
		{"/api/v1/configmaps", "NAME|DATA|AGE", "backend-config|1|90m"},
		{"/api/v1/namespaces/todo-app/serviceaccounts", "NAME|AGE", "backend-sa|90m"},
		{"/apis/rbac.authorization.k8s.io/v1/roles", "NAME|CREATED AT", "backend-role|2026-02-12T09:30:00Z"},
		{"/apis/rbac.authorization.k8s.io/v1/rolebindings", "NAME|ROLE|AGE|USERS|GROUPS|SERVICEACCOUNTS",
			"backend-rolebinding|Role/backend-role|90m|||todo-app/backend-sa"},
		{"/apis/autoscaling/v2/horizontalpodautoscalers", "NAME|REFERENCE|TARGETS|MINPODS|MAXPODS|REPLICAS|AGE",
			"backend|Deployment/backend|<none>|2|5|0|90m"},
		{"/apis/networking.k8s.io/v1/ingresses", "NAME|CLASS|HOSTS|ADDRESS|PORTS|AGE",
			"web|nginx|todo.example.com||80, 443|90m"},
		{"/apis/policy/v1/poddisruptionbudgets", "NAME|MIN AVAILABLE|MAX UNAVAILABLE|ALLOWED DISRUPTIONS|AGE",
			"backend|50%|N/A|0|90m"},
		{"/api/v1/resourcequotas", "NAME|REQUEST|LIMIT|AGE", "all|pods: 7/20|limits.cpu: 1/4|90m"},
		{"/apis/apps/v1/controllerrevisions", "NAME|CONTROLLER|REVISION|AGE", "postgres-1|node/node-1|1|90m"},
		{"/api/v1/limitranges", "NAME|CREATED AT", ""},
		{"/api/v1/nodes/node-1",
			"NAME|STATUS|ROLES|AGE|VERSION|INTERNAL-IP|EXTERNAL-IP|OS-IMAGE|KERNEL-VERSION|CONTAINER-RUNTIME",
			"node-1|Ready|<none>|90m|v1.37.2|10.0.0.10|<none>|<unknown>|<unknown>|<unknown>"},
		{"/api/v1/namespaces/todo-app/events",
			"LAST SEEN|TYPE|REASON|OBJECT|SUBOBJECT|SOURCE|MESSAGE|FIRST SEEN|COUNT|NAME", ""},
		{"/apis/kustomize.toolkit.fluxcd.io/v1/kustomizations", "NAME|AGE", "apps|90m"},
	} {
		table := tableOf(t, kube, tc.path, "")
		head, row := printed(table)
		if head != tc.head {
			t.Errorf("%s: columns %s, expected %s", tc.path, head, tc.head)
		}
		if tc.row != "" && row != tc.row {
			t.Errorf("%s: %s, expected %s", tc.path, row, tc.row)
		}
		for _, r := range table.Rows {
			var meta metav1.PartialObjectMetadata
			if err := json.Unmarshal(r.Object.Raw, &meta); err != nil || meta.Kind != "PartialObjectMetadata" ||
				meta.UID == "" {
				t.Errorf("%s: a row is of %s %q (%v)", tc.path, meta.Kind, meta.UID, err)
			}
			if len(r.Cells) != len(table.ColumnDefinitions) {
				t.Errorf("%s: %d cells in %d columns", tc.path, len(r.Cells), len(table.ColumnDefinitions))
			}
		}
	}
	_, old := printed(tableOf(t, kube, "/api/v1/namespaces/todo-app/events", ""))
	_, newer := printed(tableOf(t, kube, "/apis/events.k8s.io/v1/namespaces/todo-app/events", ""))
	if old != newer || !strings.HasPrefix(old, "90m|Normal|Scheduled|pod/backend-") {
		t.Errorf("events:\n%s\n%s", old, newer)
	}
}

func TestTablesIncludeWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	_, kube := serve(t, sim.Options{})
	const path = "/apis/apps/v1/namespaces/todo-app/deployments"
	for include, want := range map[string]string{"Object": `"kind":"Deployment"`,
		"Metadata": `"kind":"PartialObjectMetadata"`, "None": ""} {
		if raw := string(tableOf(t, kube, path, include).Rows[0].Object.Raw); !strings.Contains(raw, want) ||
			(raw == "") != (want == "") {
			t.Errorf("includeObject=%s: %s", include, raw)
		}
	}
	err := kube.RESTClient().Get().AbsPath(path).SetHeader("Accept", tables).Param("includeObject", "Some").
		Do(t.Context()).Error()
	if err == nil || !strings.Contains(err.Error(), `unrecognized includeObject value: "Some"`) {
		t.Errorf("%v", err)
	}
}

// TestWatchOfTables: a watch tells its columns once.
func TestWatchOfTables(t *testing.T) {
	t.Parallel()
	c, kube := serve(t, sim.Options{})
	body, err := kube.RESTClient().Get().AbsPath("/api/v1/namespaces/todo-app/pods").SetHeader("Accept", tables).
		Param("watch", "true").
		Param("fieldSelector", "metadata.name=postgres-0").Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	if err := c.Delete(sim.Pods, "todo-app", "postgres-0"); err != nil {
		t.Fatal(err)
	}
	events := json.NewDecoder(body)
	for i, want := range []string{"ADDED", "DELETED"} {
		var e struct {
			Type   string
			Object metav1.Table
		}
		if err := events.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if e.Type != want || (len(e.Object.ColumnDefinitions) > 0) != (i == 0) || len(e.Object.Rows) != 1 ||
			e.Object.Rows[0].Cells[0] != "postgres-0" {
			t.Errorf("%s: %+v", e.Type, e.Object)
		}
	}
}
