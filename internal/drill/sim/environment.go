package sim

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// environments are what containers read when their pod started, NAME=VALUE, by
// pod and container: what changes in a Secret afterwards, they do not see.
type environments map[types.UID]map[string][]string

// Environment is that of a pod's container.
func (c *Cluster) Environment(pod types.UID, container string) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clone(c.environments[pod][container])
}

// readEnvironment is what the kubelet does when it starts a pod.
func (c *Cluster) readEnvironment(pod *unstructured.Unstructured) {
	of := map[string][]string{}
	containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "containers")
	for _, raw := range containers {
		container, _ := raw.(map[string]any)
		var env []string
		from, _, _ := unstructured.NestedSlice(container, "envFrom")
		for _, raw := range from {
			source, _ := raw.(map[string]any)
			values := c.valuesOf(pod.GetNamespace(), source, "secretRef", "configMapRef")
			for _, k := range slices.Sorted(maps.Keys(values)) {
				env = append(env, k+"="+values[k])
			}
		}
		list, _, _ := unstructured.NestedSlice(container, "env")
		for _, raw := range list {
			e, _ := raw.(map[string]any)
			value, _ := e["value"].(string)
			source, _ := e["valueFrom"].(map[string]any)
			for _, field := range []string{"secretKeyRef", "configMapKeyRef"} {
				if key, found, _ := unstructured.NestedString(source, field, "key"); found {
					value = c.valuesOf(pod.GetNamespace(), source, "secretKeyRef", "configMapKeyRef")[key]
				}
			}
			env = append(env, fmt.Sprintf("%v=%s", e["name"], value))
		}
		of[fmt.Sprint(container["name"])] = env
	}
	if c.environments == nil {
		c.environments = environments{}
	}
	c.environments[pod.GetUID()] = of
}

// valuesOf are the values of the Secret, or of the ConfigMap, that is referred to
// in one of two fields.
func (c *Cluster) valuesOf(namespace string, source map[string]any, secret, config string) map[string]string {
	values := map[string]string{}
	if name, found, _ := unstructured.NestedString(source, secret, "name"); found {
		if o, err := c.get(secrets, namespace, name); err == nil {
			data, _, _ := unstructured.NestedStringMap(o.Object, "data")
			for k, v := range data {
				text, _ := base64.StdEncoding.DecodeString(v) // the type has checked it
				values[k] = string(text)
			}
		}
	}
	if name, found, _ := unstructured.NestedString(source, config, "name"); found {
		if o, err := c.get(configMaps, namespace, name); err == nil {
			data, _, _ := unstructured.NestedStringMap(o.Object, "data")
			maps.Copy(values, data)
		}
	}
	return values
}

var (
	secrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
)
