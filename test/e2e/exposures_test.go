package e2e

import "testing"

// A pod on its node's network is bound by no policy, whatever irctl does.
func TestHostNetworkPodIsNotContained(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.apply(`
apiVersion: v1
kind: Pod
metadata: {name: host, labels: {app: host}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  containers: [{name: main, image: irctl.test/netbox:1, args: [sleep]}]
`)
	n.awaitPods("app=host", 1)

	c := newPerson(t, responder).contain("--pod", "host", "-n", n.name).exits(exitNotContained)

	if c.Verdict != notContained {
		t.Errorf("verdict %q, want %q", c.Verdict, notContained)
	}
	if exposure := c.finding().exposure(t, "host-network"); exposure.Severity != "open" {
		t.Errorf("the host network is %s, want open", exposure.Severity)
	}
	c.finding().exposure(t, "node-suspect")
}

// Ways around the containment are found and named, each by its code.
func TestExposuresAreNamed(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.apply(`
apiVersion: v1
kind: ServiceAccount
metadata:
  name: cloudy
  annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::123456789012:role/todo-backend"}
---
apiVersion: v1
kind: Pod
metadata: {name: exposed, labels: {app: exposed}}
spec:
  serviceAccountName: cloudy
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: irctl.test/netbox:1
    args: [serve, ":8080"]
    securityContext: {privileged: true}
    volumeMounts: [{name: host, mountPath: /host, readOnly: true}]
  volumes: [{name: host, hostPath: {path: /etc}}]
---
apiVersion: v1
kind: Service
metadata: {name: exposed}
spec:
  type: NodePort
  selector: {app: exposed}
  ports: [{port: 80, targetPort: 8080}]
`)
	n.awaitPods("app=exposed", 1)

	c := newPerson(t, responder).contain("--pod", "exposed", "-n", n.name).exits(exitNotContained)

	if c.Verdict != exposed {
		t.Errorf("verdict %q, want %q", c.Verdict, exposed)
	}
	for code, severity := range map[string]string{
		"node-suspect":            "risk",
		"cloud-identity":          "risk",
		"external-service-before": "note",
		"established-connections": "note",
		"node-traffic":            "note",
	} {
		if exposure := c.finding().exposure(t, code); exposure.Severity != severity {
			t.Errorf("%s is a %s, want a %s: %s", code, exposure.Severity, severity, exposure.Text)
		}
	}
	if served := n.endpoints("exposed"); len(served) > 0 {
		t.Errorf("the Service still sends to %v", served)
	}
}

// A policy that selects the suspect by a label that no controller knows lets
// traffic through all the same: irctl finds it, and says what closes it.
func TestPolicyThatOpensTheQuarantineIsFound(t *testing.T) {
	t.Parallel()
	needsEnforcement(t)
	n := newNamespace(t)
	n.workload("deployment", 2)
	n.apply(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: everybody-welcome}
spec:
  podSelector: {}
  ingress: [{}]
`)
	neighbour, suspect := n.neighbour(), n.pod("app=deployment")
	in, out := flow(neighbour, suspect, 8080), flow(suspect, neighbour, 8080)

	c := newPerson(t, responder).contain("--pod", suspect.Name, "-n", n.name).exits(exitNotContained)

	if c.Verdict != notContained {
		t.Errorf("verdict %q, want %q", c.Verdict, notContained)
	}
	if exposure := c.finding().exposure(t, "ingress-open"); exposure.Severity != "open" {
		t.Errorf("ingress is %s, want open", exposure.Severity)
	}
	n.stopped(out)
	n.flows(in)
}

// The token of an account that was given no rights is nothing to worry about.
func TestTokenWithoutRightsIsNoExposure(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.apply(`
apiVersion: v1
kind: Pod
metadata: {name: plain, labels: {app: plain}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: irctl.test/netbox:1, args: [sleep]}]
`)
	n.awaitPods("app=plain", 1)

	c := newPerson(t, responder).contain("--pod", "plain", "-n", n.name).exitsContained()

	if token := c.finding().exposure(t, "token"); token.Severity != "note" {
		t.Errorf("the token is a %s, want a note: %s", token.Severity, token.Text)
	}
}
