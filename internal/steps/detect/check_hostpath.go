package detect

import (
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// sensitivePaths are those of a node that give it away.
var sensitivePaths = []string{"/etc", "/root", "/home", "/proc", "/sys", "/boot", "/dev", "/var/run", "/run",
	"/var/lib/kubelet", "/var/lib/docker", "/var/lib/containerd", "/var/lib/etcd", "/var/log"}

// checkHostPath finds directories of the node mounted into pods.
var checkHostPath = checkPods("host-path", func(p *corev1.Pod, report func(Finding)) {
	for _, v := range p.Spec.Volumes {
		if v.HostPath == nil {
			continue
		}
		host := path.Clean("/" + v.HostPath.Path)
		f := Finding{Code: "host-path", Score: 24, Technique: escapeToHost, Subject: subjectOf(p), Object: host,
			Reason: "mounts " + host + " of its node"}
		if host == "/" {
			f.Score = 36
		}
		for _, s := range sensitivePaths {
			if host == s || strings.HasPrefix(host, s+"/") {
				f.Score = 32
			}
		}
		if strings.HasSuffix(host, ".sock") {
			f.Score, f.Reason = 36, f.Reason+", through which a program there can be ordered about"
		}
		report(f)
	}
})
