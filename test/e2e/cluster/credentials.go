package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"

	"k8s.io/client-go/tools/clientcmd"
	clientapi "k8s.io/client-go/tools/clientcmd/api"
)

// An account is one line of the API server's token file, and a kubeconfig.
type account struct{ file, user, group string }

func accounts() []account {
	all := []account{
		{"controller-manager", "system:kube-controller-manager", ""},
		{"scheduler", "system:kube-scheduler", ""},
		{"kubelet", "system:node:" + nodeName, "system:nodes"},
	}
	for _, user := range Users {
		group := ""
		if user == "admin" {
			group = "system:masters"
		}
		all = append(all, account{user, user, group})
	}
	return all
}

func (c *Cluster) writeCredentials(context.Context) error {
	if err := c.newPKI(); err != nil {
		return err
	}
	var tokens bytes.Buffer
	for _, account := range accounts() {
		secret := make([]byte, 16)
		if _, err := rand.Read(secret); err != nil {
			return err
		}
		token := hex.EncodeToString(secret)
		fmt.Fprintf(&tokens, "%s,%s,%s", token, account.user, account.user)
		if account.group != "" {
			fmt.Fprintf(&tokens, ",%q", account.group)
		}
		fmt.Fprintln(&tokens)
		if err := c.writeKubeconfig(account, token); err != nil {
			return fmt.Errorf("kubeconfig of %s: %w", account.user, err)
		}
	}
	return os.WriteFile(c.path("pki", "tokens.csv"), tokens.Bytes(), 0o600)
}

func (c *Cluster) writeKubeconfig(account account, token string) error {
	config := clientapi.NewConfig()
	config.Clusters["irctl-e2e"] = &clientapi.Cluster{Server: c.node.server(), CertificateAuthorityData: c.pki.caPEM}
	config.AuthInfos[account.user] = &clientapi.AuthInfo{Token: token}
	config.Contexts["irctl-e2e"] = &clientapi.Context{Cluster: "irctl-e2e", AuthInfo: account.user}
	config.CurrentContext = "irctl-e2e"
	return clientcmd.WriteToFile(*config, c.path("kubeconfig", account.file+".yaml"))
}
