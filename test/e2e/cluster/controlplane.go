package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func (c *Cluster) startAPIServer(ctx context.Context) error {
	policy, err := c.writeConfig("audit-policy.yaml", "audit-policy.yaml")
	if err != nil {
		return err
	}
	server, err := c.run("kube-apiserver",
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=0.0.0.0",
		"--secure-port=6443",
		"--advertise-address="+c.node.ip,
		"--tls-cert-file="+c.path("pki", "apiserver.crt"),
		"--tls-private-key-file="+c.path("pki", "apiserver.key"),
		"--cert-dir="+c.path("pki"),
		"--token-auth-file="+c.path("pki", "tokens.csv"),
		"--authorization-mode=Node,RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+c.path("pki", "service-accounts.key"),
		"--service-account-signing-key-file="+c.path("pki", "service-accounts.key"),
		"--service-cluster-ip-range="+serviceCIDR,
		"--allow-privileged",
		"--endpoint-reconciler-type=none",
		"--kubelet-preferred-address-types=InternalIP",
		"--audit-policy-file="+policy,
		"--audit-log-path="+c.AuditLog(),
		// Tests read the log soon after the deed.
		"--audit-log-mode=blocking",
	)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 2 * time.Second, Transport: c.anonymousTransport()}
	return server.awaitHealthy(ctx, 90*time.Second, func(ctx context.Context) error {
		return get(ctx, client, c.node.server()+"/readyz")
	})
}

func (c *Cluster) startControllers(ctx context.Context) error {
	manager, err := c.run("kube-controller-manager",
		"--kubeconfig="+c.path("kubeconfig", "controller-manager.yaml"),
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--use-service-account-credentials",
		// At the default of 20 requests a second it takes 6 s to start.
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		"--service-account-private-key-file="+c.path("pki", "service-accounts.key"),
		"--root-ca-file="+c.path("pki", "ca.crt"),
		"--cert-dir="+c.path("pki"),
	)
	if err != nil {
		return err
	}
	if _, err := c.run("kube-scheduler",
		"--kubeconfig="+c.path("kubeconfig", "scheduler.yaml"),
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--cert-dir="+c.path("pki"),
	); err != nil {
		return err
	}
	config, err := c.writeConfig("kubelet.yaml", "kubelet.yaml")
	if err != nil {
		return err
	}
	if _, err := c.run("kubelet",
		"--config="+config,
		"--kubeconfig="+c.path("kubeconfig", "kubelet.yaml"),
		"--node-ip="+c.node.ip,
		"--hostname-override="+nodeName,
		"--root-dir="+c.path("kubelet"),
		"--cert-dir="+c.path("kubelet", "pki"),
	); err != nil {
		return err
	}
	// No pod can be made in a namespace before it has its service account.
	return manager.awaitHealthy(ctx, 60*time.Second, func(ctx context.Context) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		_, err = client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

func (c *Cluster) awaitReady(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	kubelet := c.part("kubelet")
	return kubelet.awaitHealthy(ctx, 90*time.Second, func(ctx context.Context) error {
		node, err := client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue {
				return fmt.Errorf("node not ready: %s: %s", condition.Reason, condition.Message)
			}
		}
		for _, taint := range node.Spec.Taints {
			if strings.HasPrefix(taint.Key, corev1.TaintNodeNotReady) {
				return fmt.Errorf("node is still tainted %s", taint.Key)
			}
		}
		if len(node.Status.Conditions) == 0 {
			return fmt.Errorf("node has no conditions yet")
		}
		return nil
	})
}

func (c *Cluster) part(name string) *component {
	for _, part := range c.parts {
		if part.name == name {
			return part
		}
	}
	panic("cluster: no component " + name)
}

func (c *Cluster) client() (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig("admin"))
	if err != nil {
		return nil, err
	}
	config.Timeout = 5 * time.Second
	return kubernetes.NewForConfig(config)
}

// get succeeds if url answers 200.
func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
		return fmt.Errorf("%s: %s: %s", url, response.Status, body)
	}
	return nil
}
