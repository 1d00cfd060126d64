package cluster

// ContainerParts are the parts of a pod's spec that list its containers, but
// for the ephemeral ones, which no template has.
var ContainerParts = []string{"containers", "initContainers"}

// EndsFirst: it is an init container that has ended before the others start. One
// that is restarted is a sidecar, which runs beside them:
// https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
func EndsFirst(part string, container map[string]any) bool {
	return part == "initContainers" && container["restartPolicy"] != "Always"
}

// EachContainer visits the containers of a pod's spec, each with the part that lists it.
func EachContainer(spec map[string]any, visit func(part string, container map[string]any)) {
	for _, part := range ContainerParts {
		list, _ := spec[part].([]any)
		for _, raw := range list {
			c, _ := raw.(map[string]any)
			visit(part, c)
		}
	}
}
