package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// In the node's own /run: sockets have short names or none.
const containerdSocket = "/run/containerd/containerd.sock"

// startStorage starts what keeps objects (etcd) and images (containerd).
func (c *Cluster) startStorage(ctx context.Context) error {
	if _, err := c.run("etcd",
		"--name=e2e",
		"--data-dir="+c.path("etcd"),
		// Nobody misses the data of a test after a power cut.
		"--unsafe-no-fsync",
		"--log-level=warn",
		"--listen-client-urls=http://127.0.0.1:2379",
		"--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=e2e=http://127.0.0.1:2380",
	); err != nil {
		return err
	}
	for _, file := range [][2]string{
		{"cni.conflist", "cni/10-pods.conflist"},
		{"resolv.conf", "resolv.conf"},
	} {
		if _, err := c.writeConfig(file[0], file[1]); err != nil {
			return err
		}
	}
	config, err := c.writeConfig("containerd.toml", "containerd.toml")
	if err != nil {
		return err
	}
	containerd, err := c.run("containerd", "--config", config)
	if err != nil {
		return err
	}
	// Whether etcd is well shows in the API server.
	return containerd.awaitHealthy(ctx, 30*time.Second, func(ctx context.Context) error {
		return c.ctr(ctx, "version")
	})
}

// ctr runs containerd's own client on the node.
func (c *Cluster) ctr(ctx context.Context, args ...string) error {
	args = append([]string{"--address", containerdSocket, "--namespace", "k8s.io"}, args...)
	if output, err := c.NodeCommand(ctx, filepath.Join(c.bin, "ctr"), args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ctr: %w: %s", err, output)
	}
	return nil
}

func (c *Cluster) loadImages(ctx context.Context) error {
	for _, archive := range imageArchives {
		if err := c.ctr(ctx, "images", "import", "--local", "--snapshotter", "native",
			c.path("images", archive.file)); err != nil {
			return fmt.Errorf("load %s: %w", archive.file, err)
		}
	}
	return nil
}

// ImageByDigest is an image of the node under the name that no push can move,
// NAME@sha256:…, under which the node has it from now on, too.
func (c *Cluster) ImageByDigest(ctx context.Context, reference string) (string, error) {
	output, err := c.NodeCommand(ctx, filepath.Join(c.bin, "ctr"), "--address", containerdSocket, "--namespace",
		"k8s.io", "images", "list", "name=="+reference).Output()
	if err != nil {
		return "", fmt.Errorf("list images: %w", err)
	}
	for _, field := range strings.Fields(string(output)) {
		if strings.HasPrefix(field, "sha256:") {
			name, _, _ := strings.Cut(reference, ":")
			pinned := name + "@" + field
			return pinned, c.ctr(ctx, "images", "tag", "--force", reference, pinned)
		}
	}
	return "", fmt.Errorf("the node has no image %s", reference)
}
