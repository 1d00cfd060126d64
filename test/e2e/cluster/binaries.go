package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// requiredTools come with the Debian packages of install-deps.sh.
var requiredTools = []string{"busybox", "conntrack", "ip", "iptables", "iptables-restore", "mount", "nsenter", "runc"}

// findBinaries has build.sh build what is missing, which the first time takes
// minutes and after that nothing.
func (c *Cluster) findBinaries(ctx context.Context) error {
	for _, tool := range requiredTools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: run test/e2e/install-deps.sh", err)
		}
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	output, err := c.build(exec.CommandContext(ctx, filepath.Join(root, "build.sh")))
	if err != nil {
		return fmt.Errorf("build the cluster's binaries: %w", err)
	}
	c.bin = strings.TrimSpace(output)
	return nil
}

// buildTools builds the test images' programs into dir.
func (c *Cluster) buildTools(ctx context.Context, dir string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/",
		"./images/pause", "./images/netbox", "./images/backend")
	command.Dir = root
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
	if _, err := c.build(command); err != nil {
		return fmt.Errorf("build the test images' programs: %w", err)
	}
	return nil
}

// build runs a build, whose standard error is progress, and returns its output.
func (c *Cluster) build(command *exec.Cmd) (string, error) {
	var output, problems bytes.Buffer
	command.Stdout, command.Stderr = &output, &teeLog{c, &problems}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 2 * time.Second
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(problems.String()))
	}
	return output.String(), nil
}

// teeLog shows what is written as the cluster's progress, and keeps it.
type teeLog struct {
	c    *Cluster
	keep *bytes.Buffer
}

func (t *teeLog) Write(p []byte) (int, error) {
	if _, err := t.c.log.Write(p); err != nil {
		return 0, err
	}
	return t.keep.Write(p)
}

// moduleRoot is the folder test/e2e of the source this was built from.
func moduleRoot() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	root := filepath.Dir(filepath.Dir(file))
	if _, err := os.Stat(filepath.Join(root, "build.sh")); !ok || err != nil {
		return "", errors.New("the source of test/e2e is not where it was built from: use `go run` or `go test` in a " +
			"checkout, without -trimpath")
	}
	return root, nil
}
