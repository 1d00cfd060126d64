package eradicate

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// reference is a place in a pod's spec that names a Secret.
type reference struct {
	name, where string
	// pull: it is an imagePullSecret, which only the kubelet reads, at the pull.
	pull bool

	holder map[string]any
	field  string
}

// references finds every place of a pod's spec that names a Secret: env,
// envFrom, volumes of all kinds, projected ones, and imagePullSecrets.
func references(spec map[string]any) []reference {
	var found []reference
	walk(spec, "", "", func(r reference) { found = append(found, r) })
	slices.SortStableFunc(found, func(a, b reference) int { return strings.Compare(a.where, b.where) })
	return found
}

// walk visits maps and lists; key is that under which v stands.
func walk(v any, key, where string, visit func(reference)) {
	switch v := v.(type) {
	case map[string]any:
		if field := secretField(key, v); field != "" {
			name, _ := v[field].(string)
			visit(reference{name: name, where: where, pull: key == "imagePullSecrets", holder: v, field: field})
		}
		for k, e := range v {
			walk(e, k, where, visit)
		}
	case []any:
		for _, e := range v {
			m, _ := e.(map[string]any)
			at := key
			if name, ok := m["name"].(string); ok && key != "imagePullSecrets" {
				at = key + "[" + name + "]"
			}
			if where != "" {
				at = where + "." + at
			}
			walk(e, key, at, visit)
		}
	}
}

// secretField is the field of m that names a Secret, if m is one of the places
// of the API that do; "": it is none.
func secretField(key string, m map[string]any) string {
	field := ""
	switch key {
	case "secretKeyRef", "secretRef", "nodePublishSecretRef", "imagePullSecrets":
		field = "name"
	case "secret": // a volume, or a source of a projected one
		if field = "secretName"; m[field] == nil {
			field = "name"
		}
	case "azureFile":
		field = "secretName"
	}
	if _, ok := m[field].(string); !ok {
		return ""
	}
	return field
}

// repointed is a copy of a pod's spec in which the Secrets of next are named
// instead of those they take the place of.
func repointed(spec map[string]any, next map[string]string) map[string]any {
	spec = runtime.DeepCopyJSON(spec)
	for _, r := range references(spec) {
		if to, ok := next[r.name]; ok {
			r.holder[r.field] = to
		}
	}
	return spec
}

// account is the service account of a pod's spec, and whether the pod has a
// token of it.
func account(spec map[string]any, mountsByDefault bool) (name string, token bool) {
	name, _ = spec["serviceAccountName"].(string)
	if name == "" {
		name = "default"
	}
	token = mountsByDefault
	if mount, ok := spec["automountServiceAccountToken"].(bool); ok {
		token = mount
	}
	volumes, _ := spec["volumes"].([]any)
	for _, v := range volumes {
		volume, _ := v.(map[string]any)
		projected, _ := volume["projected"].(map[string]any)
		sources, _ := projected["sources"].([]any)
		for _, s := range sources {
			source, _ := s.(map[string]any)
			if _, ok := source["serviceAccountToken"]; ok {
				token = true
			}
		}
	}
	return name, token
}
