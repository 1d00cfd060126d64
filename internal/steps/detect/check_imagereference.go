package detect

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// checkImageReference finds images whose name does not say what runs.
var checkImageReference = checkContainers("image-reference", func(_ *corev1.Pod, c container, report func(Finding)) {
	tag, digest := imageVersion(c.image)
	switch {
	case digest != "":
	case tag == "" || tag == "latest":
		report(Finding{Code: "image-latest", Score: 12, Technique: maliciousImage, Object: c.image,
			Reason: "container " + c.name + " runs whatever latest is: " + c.image})
	default:
		report(Finding{Code: "image-no-digest", Score: 3, Technique: maliciousImage, Object: c.image,
			Reason: "container " + c.name + " names its image by a tag, which can be moved: " + c.image})
	}
})

// imageVersion splits the tag and the digest off a reference; a port of the
// registry is no tag.
func imageVersion(image string) (tag, digest string) {
	name, digest, _ := strings.Cut(image, "@")
	last := name[strings.LastIndex(name, "/")+1:]
	_, tag, _ = strings.Cut(last, ":")
	return tag, digest
}
