package cluster

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed node.sh
var nodeScript string

// A node is the set of namespaces that everything else of a cluster runs in.
// Its process 1 holds them: when that one dies the kernel kills all the others,
// and with them go the mounts, links, routes and packet filter rules.
type node struct {
	slot   int
	pid    int
	ip     string
	hostIP string
	init   *exec.Cmd     // nil: another process owns the node
	ended  chan struct{} // closed when init has ended
}

// slots is how many clusters a machine can run at a time.
const slots = 8

func newNode(slot, pid int) *node {
	return &node{
		slot:   slot,
		pid:    pid,
		hostIP: fmt.Sprintf("10.213.%d.1", slot),
		ip:     fmt.Sprintf("10.213.%d.2", slot),
	}
}

// link is the machine's end of the cable to the node. Taking it takes the slot.
func (n *node) link() string   { return fmt.Sprintf("irctl-e2e-%d", n.slot) }
func (n *node) cgroup() string { return fmt.Sprintf("irctl-e2e-%d", n.slot) }
func (n *node) server() string { return "https://" + n.ip + ":6443" }

func (c *Cluster) startNode(ctx context.Context) error {
	init, ended, err := startInit(c.path("bin", "pause"))
	if err != nil {
		return err
	}
	c.node = newNode(-1, init.Process.Pid)
	c.node.init, c.node.ended = init, ended
	if err := c.takeSlot(ctx); err != nil {
		return err
	}
	if err := removeCgroup(c.node.cgroup()); err != nil {
		return fmt.Errorf("left by an earlier run: %w", err)
	}
	if err := makeCgroup(c.node.cgroup()); err != nil {
		return err
	}
	if err := c.connectNode(ctx); err != nil {
		return err
	}
	c.outside, err = startOutside(ctx, c.OutsideAddr())
	return err
}

// startInit starts the node's process 1 in new namespaces and waits until they
// are furnished.
func startInit(pause string) (*exec.Cmd, chan struct{}, error) {
	ready, output, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = ready.Close() }() // it was only read
	// It lives as long as the node, not as long as a start's context.
	init := exec.CommandContext(context.Background(), "/bin/sh", "-c", nodeScript, "node.sh", nodeName, pause)
	init.Stdout, init.Stderr = output, output
	init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS |
			syscall.CLONE_NEWIPC,
		Setpgid: true,
		// Whatever happens to this process, killed or crashed, the node goes too.
		Pdeathsig: syscall.SIGKILL,
	}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// Pdeathsig fires when the thread that forked ends, so that thread is kept
		// for as long as the node lives.
		runtime.LockOSThread()
		err := init.Start()
		started <- err
		if err == nil {
			_ = init.Wait()
		}
		close(ended)
	}()
	err = <-started
	_ = output.Close() // the script has its own
	if err != nil {
		return nil, nil, fmt.Errorf("make namespaces: %w", err)
	}
	var said []string
	for lines := bufio.NewScanner(ready); lines.Scan(); {
		if lines.Text() == "ready" {
			return init, ended, nil
		}
		said = append(said, lines.Text())
	}
	_ = init.Process.Kill()
	<-ended
	return nil, nil, fmt.Errorf("furnish namespaces: %s", strings.Join(said, "; "))
}

// takeSlot lays a cable to the node under the first name that is free. The
// kernel removes a cable with the node at its end, so a name that is taken is a
// cluster that runs.
func (c *Cluster) takeSlot(ctx context.Context) error {
	var last error
	for slot := range slots {
		candidate := newNode(slot, c.node.pid)
		err := machine(ctx, "ip", "link", "add", candidate.link(), "type", "veth", "peer", "name", "uplink", "netns",
			strconv.Itoa(c.node.pid))
		if err == nil {
			candidate.init, candidate.ended = c.node.init, c.node.ended
			c.node = candidate
			return nil
		}
		last = err
		if !strings.Contains(err.Error(), "File exists") {
			break
		}
	}
	return fmt.Errorf("connect the node to the machine (%d clusters at most): %w", slots, last)
}

func (c *Cluster) connectNode(ctx context.Context) error {
	n := c.node
	for _, args := range [][]string{
		{"ip", "address", "add", n.hostIP + "/30", "dev", n.link()},
		{"ip", "link", "set", n.link(), "up"},
	} {
		if err := machine(ctx, args[0], args[1:]...); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"ip", "address", "add", n.ip + "/30", "dev", "uplink"},
		{"ip", "link", "set", "uplink", "up"},
		// As in most clusters, pods leave it under the node's address.
		{"iptables", "-t", "nat", "-A", "POSTROUTING", "-s", podCIDR, "-o", "uplink", "-j", "MASQUERADE"},
	} {
		if output, err := c.NodeCommand(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s on the node: %w: %s", strings.Join(args, " "), err, output)
		}
	}
	return nil
}

// NodeCommand prepares a command that runs on the node: with its network, its
// mounts and its processes, but the machine's files.
func (c *Cluster) NodeCommand(ctx context.Context, name string, args ...string) *exec.Cmd {
	enter := []string{"-t", strconv.Itoa(c.node.pid), "-m", "-n", "-p", "-u", "-i", "--", name}
	command := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	// nsenter forks: both must go.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 2 * time.Second
	return command
}

// stop kills the node's process 1, and the kernel everything else in the node.
func (n *node) stop() error {
	if n.init == nil {
		return nil
	}
	var errs []error
	if err := n.init.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		errs = append(errs, err)
	}
	select {
	case <-n.ended:
	case <-time.After(20 * time.Second):
		errs = append(errs, fmt.Errorf("process %d of the node does not die: look for processes in state D", n.pid))
	}
	if n.slot >= 0 {
		// The kernel removes the link with the node, but takes its time.
		_ = machine(context.Background(), "ip", "link", "delete", n.link())
		errs = append(errs, removeCgroup(n.cgroup()))
	}
	return errors.Join(errs...)
}

// machine runs a command on the machine itself and says what it said if it fails.
func machine(ctx context.Context, name string, args ...string) error {
	output, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}
