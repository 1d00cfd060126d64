package cluster

import (
	"os"
	"strings"
)

// ownNamespaceFile is where a pod with a service account finds its namespace.
const ownNamespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// OwnNamespaces are where this program runs, if it runs in a cluster: as its
// service account says, and the variable that manifests set from the downward API.
func OwnNamespaces() []string {
	var own []string
	if data, err := os.ReadFile(ownNamespaceFile); err == nil {
		own = append(own, strings.TrimSpace(string(data)))
	}
	if ns := os.Getenv("POD_NAMESPACE"); ns != "" {
		own = append(own, ns)
	}
	return own
}
