package cluster

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"text/template"
)

//go:embed config
var configFiles embed.FS

// writeConfig fills in one of the files of config/ and returns where it is.
func (c *Cluster) writeConfig(name, as string) (path string, err error) {
	parsed, err := template.ParseFS(configFiles, "config/"+name)
	if err != nil {
		return "", err
	}
	var content bytes.Buffer
	err = parsed.Execute(&content, map[string]string{
		"Dir":     c.dir,
		"NodeIP":  c.node.ip,
		"Cgroup":  c.node.cgroup(),
		"PodCIDR": podCIDR,
		"DNSIP":   dnsIP,
		"Socket":  containerdSocket,
		"Pause":   PauseImage,
	})
	if err != nil {
		return "", fmt.Errorf("fill in %s: %w", name, err)
	}
	path = c.path("config", as)
	return path, os.WriteFile(path, content.Bytes(), 0o600)
}
