package e2e

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// However a cluster ends, nothing of it goes on running or stays connected to
// the machine; and what a killed one left on the disk the next one removes.
func TestAClusterLeavesNothingBehind(t *testing.T) {
	if world.Cluster == nil {
		t.Skip("a cluster of somebody else's")
	}
	program := filepath.Join(t.TempDir(), "e2ecluster")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/e2ecluster").
		CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}

	killed := startCluster(t, program)
	killed.end(syscall.SIGKILL)
	if _, err := os.Stat(killed.dir); err != nil {
		t.Fatalf("a killed cluster cannot clean up, and yet: %v", err)
	}

	stopped := startCluster(t, program)
	if _, err := os.Stat(killed.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s of the killed cluster is still there: %v", killed.dir, err)
	}
	stopped.end(syscall.SIGTERM)
	if _, err := os.Stat(stopped.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s of the stopped cluster is still there: %v", stopped.dir, err)
	}
}

// A runningCluster is one that another process runs.
type runningCluster struct {
	t       *testing.T
	process *exec.Cmd
	dir     string
}

func startCluster(t *testing.T, program string) *runningCluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	process := exec.CommandContext(ctx, program, "up", "--no-app")
	process.Stderr = os.Stderr
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if kubeconfig, found := strings.CutPrefix(lines.Text(), "export KUBECONFIG="); found {
			return &runningCluster{t: t, process: process, dir: filepath.Dir(filepath.Dir(kubeconfig))}
		}
	}
	t.Fatalf("the cluster does not start: %v", process.Wait())
	return nil
}

// end ends the cluster's process, and fails the test unless everything that ran
// in the cluster ends with it.
func (c *runningCluster) end(signal syscall.Signal) {
	c.t.Helper()
	if len(processesOf(c.dir)) == 0 {
		c.t.Fatalf("no process of the cluster in %s is found while it runs", c.dir)
	}
	if err := c.process.Process.Signal(signal); err != nil {
		c.t.Fatal(err)
	}
	_ = c.process.Wait() // that it was killed is no news
	err := wait.PollUntilContextTimeout(c.t.Context(), 100*time.Millisecond, 20*time.Second, true,
		func(context.Context) (bool, error) {
			return len(processesOf(c.dir)) == 0, nil
		})
	if err != nil {
		c.t.Errorf("after %s these still run: %q", signal, processesOf(c.dir))
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		c.t.Fatal(err)
	}
	if strings.Contains(string(mounts), c.dir) {
		c.t.Errorf("after %s there are mounts in %s", signal, c.dir)
	}
}

// processesOf are the command lines that name a folder.
func processesOf(dir string) []string {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is right
	var found []string
	for _, file := range files {
		command, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(command), dir) {
			found = append(found, strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return found
}
