package sim

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// TodoApp is the todo-app in its namespace todo-app: frontend, backend,
// mcp-server and postgres, with Services, service account, roles and secrets,
// and the NetworkPolicies of the security guide it comes with.
//
//go:embed todoapp.yaml
var TodoApp string

// Apply creates the objects of YAML documents, as somebody else would do it.
func (c *Cluster) Apply(manifests string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	docs := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096)
	for {
		var raw runtime.RawExtension
		if err := docs.Decode(&raw); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading a manifest: %w", err)
		}
		if len(raw.Raw) == 0 || string(raw.Raw) == "null" {
			continue // a document of comments only
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(raw.Raw); err != nil { // it keeps whole numbers whole
			return fmt.Errorf("reading a manifest: %w", err)
		}
		k := c.kindOf(c.gvrOf(o))
		if k.Kind == "" {
			return fmt.Errorf("the simulated cluster does not serve %s of %s", o.GetKind(), o.GetAPIVersion())
		}
		if _, err := c.create(k, o, false); err != nil {
			return fmt.Errorf("creating %s %s/%s: %w", o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
		if err := c.settle(o.GetNamespace()); err != nil {
			return err
		}
	}
}
