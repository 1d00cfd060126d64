// Package cluster runs a real one-node Kubernetes on this machine, for tests.
//
// The node is a set of Linux namespaces (processes, mounts, network) of its own,
// so nothing of it shows on the machine but one network link and a cgroup, and
// everything in it dies with the process that called Start, however that ends.
// The control plane, the kubelet and containerd are the real programs, built
// from source by build.sh.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Users are the people who have a kubeconfig. Only admin may do anything at
// once; the others are authenticated and no more, for tests to bind roles to.
var Users = []string{"admin", "responder", "investigator", "nobody"}

const (
	nodeName = "node-1"

	// The pod and service networks live inside the node's own network namespace,
	// so every cluster on a machine can use the same.
	podCIDR     = "10.214.0.0/23"
	serviceCIDR = "10.215.0.0/16"
	serviceIP   = "10.215.0.1"
	dnsIP       = "10.215.0.10"
)

// Options say where a cluster keeps its files and where it tells its progress.
type Options struct {
	// Dir holds everything the cluster writes. Empty: a temporary folder that
	// Stop removes. After Stop, a named Dir keeps its logs and nothing else.
	Dir string
	// Log receives one line for each thing that happens. Nil: nobody is told.
	Log io.Writer
}

// A Cluster is a running one-node Kubernetes.
type Cluster struct {
	dir       string
	temporary bool
	attached  bool     // it belongs to another process
	lock      *os.File // held while this process owns dir
	log       io.Writer
	bin       string // the folder of the built binaries
	node      *node
	pki       *pki
	outside   *outside
	parts     []*component
}

// Start builds what is missing and starts a cluster. It returns when the node
// is ready and pods can be created.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("start cluster: it makes namespaces and cgroups: run as root, or point " +
			"IRCTL_E2E_KUBECONFIG at a cluster you have")
	}
	c := &Cluster{dir: options.Dir, log: options.Log}
	if c.log == nil {
		c.log = io.Discard
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster: %w", err), c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	began := time.Now()
	if err := c.prepareDir(); err != nil {
		return err
	}
	for _, stage := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"binaries", c.findBinaries},
		{"images", c.buildImages},
		{"node", c.startNode},
		{"credentials", c.writeCredentials},
		{"etcd and containerd", c.startStorage},
		{"kube-apiserver", c.startAPIServer},
		{"image load", c.loadImages},
		{"controllers and kubelet", c.startControllers},
		{"node ready", c.awaitReady},
	} {
		stageBegan := time.Now()
		if err := stage.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", stage.name, err)
		}
		c.logf("%s: %.1fs", stage.name, time.Since(stageBegan).Seconds())
	}
	c.logf("cluster up in %.1fs, %s, kubeconfig %s", time.Since(began).Seconds(), c.node.ip, c.Kubeconfig("admin"))
	return c.writeState(state{Slot: c.node.slot, NodePID: c.node.pid, Bin: c.bin})
}

// Stop ends every process of the cluster and removes what it made on the
// machine. It is safe to call more than once, and after a failed start.
func (c *Cluster) Stop() error {
	var errs []error
	if c.outside != nil {
		errs = append(errs, c.outside.stop())
		c.outside = nil
	}
	if c.node != nil {
		errs = append(errs, c.node.stop())
		c.node = nil
	}
	for _, part := range c.parts {
		part.await()
	}
	c.parts = nil
	if c.dir != "" && !c.attached {
		errs = append(errs, c.cleanDir())
	}
	if c.lock != nil {
		_ = c.lock.Close() // which unlocks it
		c.lock = nil
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop cluster: %w", err)
	}
	return nil
}

// Dir is the folder that holds the cluster's files.
func (c *Cluster) Dir() string { return c.dir }

// Kubeconfig is the path of the kubeconfig of one of Users.
func (c *Cluster) Kubeconfig(user string) (path string) {
	if !slices.Contains(Users, user) {
		panic(fmt.Sprintf("cluster: no user %q; there are %s", user, strings.Join(Users, ", ")))
	}
	return c.path("kubeconfig", user+".yaml")
}

// AuditLog is the path of the kube-apiserver's audit log, one JSON event a line.
func (c *Cluster) AuditLog() (path string) { return c.path("audit.log") }

// NodeName is the name of the only node.
func (c *Cluster) NodeName() string { return nodeName }

// NodeIP is the address of the node, where the API server listens too.
func (c *Cluster) NodeIP() string { return c.node.ip }

// PodCIDR is the range that pod addresses come from.
func (c *Cluster) PodCIDR() string { return podCIDR }

// OutsideAddr is the HOST:PORT of an HTTP server outside the cluster that pods
// can reach, unless a policy forbids it.
func (c *Cluster) OutsideAddr() string { return net.JoinHostPort(c.node.hostIP, outsidePort) }

// Kubectl is the path of the kubectl binary of the cluster's own version.
func (c *Cluster) Kubectl() (path string) { return filepath.Join(c.bin, "kubectl") }

// AddStaticPod gives the kubelet a pod that no API server manages. Its mirror
// appears in the API as NAME-<node name>.
func (c *Cluster) AddStaticPod(name string, manifest []byte) error {
	// The kubelet reads the folder at any moment: a file must appear there whole.
	temporary := c.path("." + name + ".tmp")
	if err := os.WriteFile(temporary, manifest, 0o600); err != nil {
		return fmt.Errorf("add static pod %s: %w", name, err)
	}
	if err := os.Rename(temporary, c.staticPod(name)); err != nil {
		return fmt.Errorf("add static pod %s: %w", name, err)
	}
	return nil
}

// RemoveStaticPod takes a static pod away from the kubelet.
func (c *Cluster) RemoveStaticPod(name string) error {
	if err := os.Remove(c.staticPod(name)); err != nil {
		return fmt.Errorf("remove static pod %s: %w", name, err)
	}
	return nil
}

func (c *Cluster) staticPod(name string) string { return c.path("static-pods", name+".yaml") }

func (c *Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

func (c *Cluster) logf(format string, args ...any) {
	fmt.Fprintf(c.log, format+"\n", args...)
}
