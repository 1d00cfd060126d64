package cluster

import (
	"context"
	"fmt"
	"sort"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NoNamespaceError says that a namespace does not exist, and which names are near.
type NoNamespaceError struct {
	Name string
	Near []string
}

func (e *NoNamespaceError) Error() string {
	msg := fmt.Sprintf("there is no namespace %q", e.Name)
	if len(e.Near) > 0 {
		msg += "; did you mean " + strings.Join(e.Near, ", ") + "?"
	}
	return msg
}

// CheckNamespace returns a NoNamespaceError if a namespace does not exist. Where
// that cannot be read, as by people with rights in their namespace only, nothing
// is said: whatever is looked for there says more.
func (c *Client) CheckNamespace(ctx context.Context, name string) error {
	if name == metav1.NamespaceAll {
		return nil
	}
	if _, err := c.Kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return nil
	}
	names, err := c.Names(ctx, NamespaceRef, "")
	if err != nil {
		return &NoNamespaceError{Name: name}
	}
	return &NoNamespaceError{Name: name, Near: Near(name, names)}
}

// nearPods names up to three pods of the namespace whose names are close to
// one that does not exist: the same workload's, or a slip of the fingers.
func (c *Client) nearPods(ctx context.Context, namespace, name string) ([]string, error) {
	names, err := c.Names(ctx, Pod, namespace)
	if err != nil {
		return nil, err
	}
	return Near(name, names), nil
}

// Near returns up to three of the names that are close to name, closest first.
func Near(name string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	name = name[:min(len(name), longestName)]
	var near []candidate
	for _, n := range names {
		d := distance(name, n)
		if common := commonPrefix(name, n); common >= 4 && (common*2 >= len(name) || common*2 >= len(n)) {
			d = min(d, 3)
		}
		if strings.Contains(n, name) {
			d = min(d, 2)
		}
		if d <= max(3, len(name)/4) {
			near = append(near, candidate{n, d})
		}
	}
	sort.Slice(near, func(i, j int) bool {
		if near[i].distance != near[j].distance {
			return near[i].distance < near[j].distance
		}
		return near[i].name < near[j].name
	})
	var out []string
	for _, c := range near[:min(3, len(near))] {
		out = append(out, c.name)
	}
	return out
}

func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// longestName is the limit of Kubernetes; what a person types may be longer.
const longestName = 253

// distance is the Levenshtein distance of two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		previous := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			previous, row[j] = row[j], min(row[j]+1, row[j-1]+1, previous+cost)
		}
	}
	return row[len(b)]
}
