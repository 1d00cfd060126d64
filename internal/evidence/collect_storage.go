package evidence

import (
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
)

// storageCollector takes the claims that the pods mount, the volumes these are
// bound to, and the classes that made them.
type storageCollector struct{ *inquiry }

func (c *storageCollector) Name() string { return "storage" }

var (
	claims         = core("persistentvolumeclaims", "PersistentVolumeClaim")
	volumes        = core("persistentvolumes", "PersistentVolume")
	storageClasses = grouped("storage.k8s.io", "storageclasses", "StorageClass")
)

func (c *storageCollector) Collect(ctx context.Context, out *Output) error {
	classes := map[string]bool{}
	for _, n := range c.named(ctx, func(f *podFacts) []string { return f.claims }) {
		body, err := c.api.get(ctx, claims.gvr, n.namespace, n.name)
		out.Bytes("GET "+objectPath(claims.gvr, n.namespace, n.name), body, err, "storage", n.namespace, n.name+
			".claim.json")
		var claim corev1.PersistentVolumeClaim
		if err != nil || json.Unmarshal(body, &claim) != nil {
			continue // what was served is kept
		}
		if claim.Spec.VolumeName != "" {
			out.Object(ctx, volumes, "", claim.Spec.VolumeName, "storage", n.namespace, n.name+".volume.json")
		}
		if class := claim.Spec.StorageClassName; class != nil && *class != "" && !classes[*class] {
			classes[*class] = true
			out.Object(ctx, storageClasses, "", *class, "cluster", "storageclasses", *class+".json")
		}
	}
	return nil
}
