package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// The images of the test pods. No registry has them.
const (
	PauseImage    = "irctl.test/pause:1"
	NetboxImage   = "irctl.test/netbox:1"
	PostgresImage = "irctl.test/postgres:15"
	// BackendImage is the one that is attacked, PatchedImage the one after it.
	BackendImage = "irctl.test/todo-backend:1.4.1"
	PatchedImage = "irctl.test/todo-backend:1.4.2"
)

// imageArchives are the files that WriteImages writes, by image.
var imageArchives = []struct{ file, reference string }{
	{"pause.tar", PauseImage},
	{"netbox.tar", NetboxImage},
	{"postgres.tar", PostgresImage},
	{"backend.tar", BackendImage},
	{"backend-patched.tar", PatchedImage},
}

// busyboxPath is where Debian's busybox-static puts it.
const busyboxPath = "/bin/busybox"

// WriteImages builds the images of the test pods as docker archives in dir, for
// loading into a cluster of another making, and returns their paths.
func WriteImages(ctx context.Context, dir string, log io.Writer) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write images: %w", err)
	}
	tools, err := os.MkdirTemp("", "irctl-e2e-images-")
	if err != nil {
		return nil, fmt.Errorf("write images: %w", err)
	}
	defer os.RemoveAll(tools)
	c := &Cluster{log: log}
	if err := c.buildTools(ctx, tools); err != nil {
		return nil, fmt.Errorf("write images: %w", err)
	}
	if err := writeImages(ctx, tools, dir); err != nil {
		return nil, fmt.Errorf("write images: %w", err)
	}
	var paths []string
	for _, archive := range imageArchives {
		paths = append(paths, filepath.Join(dir, archive.file))
	}
	return paths, nil
}

func (c *Cluster) buildImages(ctx context.Context) error {
	if err := c.buildTools(ctx, c.path("bin")); err != nil {
		return err
	}
	if err := os.MkdirAll(c.path("images"), 0o755); err != nil {
		return err
	}
	return writeImages(ctx, c.path("bin"), c.path("images"))
}

func writeImages(ctx context.Context, tools, dir string) error {
	for _, archive := range imageArchives {
		image := image{reference: archive.reference, path: []string{"/bin"}}
		var err error
		switch archive.reference {
		case PauseImage:
			image.layer.program("pause", filepath.Join(tools, "pause"))
			image.entrypoint = "/bin/pause"
		case NetboxImage:
			err = image.layer.netbox(ctx, tools)
			image.entrypoint = "/bin/netbox"
		case PostgresImage:
			err = image.postgres(ctx)
		default: // versions of the backend, with the tools to look around in it
			err = image.layer.netbox(ctx, tools)
			image.layer.program("backend", filepath.Join(tools, "backend"))
			_, version, _ := strings.Cut(archive.reference, ":")
			image.layer.text("etc/todo-backend-version", 0o644, version+"\n")
			image.entrypoint = "/bin/backend"
		}
		if err == nil {
			err = image.write(filepath.Join(dir, archive.file))
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", archive.reference, err)
		}
	}
	return nil
}

// netbox is what the test pods have in them: netbox, and busybox for people.
func (l *layer) netbox(ctx context.Context, tools string) error {
	l.program("netbox", filepath.Join(tools, "netbox"))
	if err := l.busybox(ctx); err != nil {
		return err
	}
	l.add(tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	l.add(tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	l.text("etc/passwd", 0o644, "root:x:0:0:root:/:/bin/sh\nappuser:x:1000:1000:appuser:/tmp:/bin/sh\n")
	return nil
}

// busybox is a shell and the usual tools.
func (l *layer) busybox(ctx context.Context) error {
	applets, err := exec.CommandContext(ctx, busyboxPath, "--list").Output()
	if err != nil {
		return fmt.Errorf("%w: run test/e2e/install-deps.sh", err)
	}
	l.program("busybox", busyboxPath)
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			l.add(tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	return nil
}

// A layer is a root file system in the making. The first error sticks.
type layer struct {
	content bytes.Buffer
	writer  *tar.Writer
	err     error
}

func (l *layer) add(header tar.Header, data []byte) {
	if l.writer == nil {
		l.writer = tar.NewWriter(&l.content)
		l.add(tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	if l.err != nil {
		return
	}
	header.Size = int64(len(data))
	if l.err = l.writer.WriteHeader(&header); l.err == nil {
		_, l.err = l.writer.Write(data)
	}
}

func (l *layer) program(name, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		l.err = errors.Join(l.err, err)
		return
	}
	l.add(tar.Header{Name: "bin/" + name, Typeflag: tar.TypeReg, Mode: 0o755}, data)
}

func (l *layer) text(name string, mode int64, content string) {
	l.add(tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode}, []byte(content))
}

// An image is a layer and how to start what is in it.
type image struct {
	reference  string
	entrypoint string
	path       []string // of programs
	layer      layer
}

// write writes the image in the format of `docker save`.
func (i *image) write(path string) error {
	l := &i.layer
	if l.err != nil {
		return l.err
	}
	if err := l.writer.Close(); err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config": map[string]any{"Entrypoint": []string{i.entrypoint},
			"Env": []string{"PATH=" + strings.Join(i.path, ":")}},
		"rootfs": map[string]any{
			"type":     "layers",
			"diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(l.content.Bytes()))},
		},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": "config.json", "RepoTags": []string{i.reference}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for _, file := range []struct {
		name string
		data []byte
	}{
		{"config.json", config},
		{"layer.tar", l.content.Bytes()},
		{"manifest.json", manifest},
	} {
		if err := writer.WriteHeader(&tar.Header{Name: file.name, Typeflag: tar.TypeReg, Mode: 0o644,
			Size: int64(len(file.data))}); err != nil {
			return err
		}
		if _, err := writer.Write(file.data); err != nil {
			return err
		}
	}
	if err := writer.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, archive.Bytes(), 0o644)
}
