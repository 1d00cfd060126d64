// Command irctl automates incident response for Kubernetes.
package main

import (
	"os"

	// The authentication plugins that kubeconfigs name.
	_ "k8s.io/client-go/plugin/pkg/client/auth"

	"irctl/internal/cli"
)

func main() { os.Exit(cli.Process()) }
