package evidence

import "context"

// imageCollector lists the images of a pod's containers: as the pod names them,
// and as the node resolved them, with their digests. That is what to pull, by
// digest, to examine what ran.
type imageCollector struct{ pod *pod }

func (c *imageCollector) Name() string { return "images" }

type imageOf struct {
	Container   string `json:"container"`
	Image       string `json:"image"`
	ImageID     string `json:"imageID"`
	ContainerID string `json:"containerID"`
}

func (c *imageCollector) Collect(ctx context.Context, out *Output) error {
	facts, err := c.pod.read(ctx)
	if err != nil {
		return err
	}
	images := []imageOf{}
	for _, of := range facts.containers {
		images = append(images, imageOf{of.name, of.image, of.imageID, of.id})
	}
	out.JSON("concluded from pod.json", images, facts.tooMany, "images.json")
	return nil
}
