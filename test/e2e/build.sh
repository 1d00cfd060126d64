#!/usr/bin/env bash
# Builds the binaries of the one-node cluster that are not built yet, from the
# versions pinned in k8s/go.mod and k8s/containerd/go.mod. They are kept by
# version, so a second run takes a second. Prints the folder that holds them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

export CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly

version_of() { # MODULE-FOLDER MODULE
	(cd "$1" && go list -m -f '{{.Version}}' "$2")
}
kubernetes=$(version_of k8s k8s.io/kubernetes)
etcd=$(version_of k8s go.etcd.io/etcd/server/v3)
containerd=$(version_of k8s/containerd github.com/containerd/containerd/v2)

cache=${IRCTL_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/irctl-e2e}
bin=$cache/kubernetes-$kubernetes-etcd-$etcd-containerd-$containerd-$(go env GOARCH)/bin
mkdir -p "$bin"

# Two builds at once would do the same ten minutes of work twice.
exec 9>"$bin/../lock"
flock 9

# Left behind by a build that was killed.
rm -rf "$bin"/../building.*
building=$(mktemp -d "$bin/../building.XXXXXX")
trap 'rm -rf "$building"' EXIT

minor=${kubernetes#v}
minor=${minor#*.}
minor=${minor%%.*}
major=${kubernetes#v}
major=${major%%.*}
kubernetes_flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	# Without these the server calls itself v0.0.0-master+$Format:%H$, which clients cannot parse.
	kubernetes_flags+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=$major -X $package.gitMinor=$minor"
	kubernetes_flags+=" -X $package.gitCommit=unknown -X $package.gitTreeState=archive -X $package.buildDate=1970-01-01T00:00:00Z"
done
containerd_flags="-s -w -X github.com/containerd/containerd/v2/version.Version=$containerd"

# Nothing under $bin is ever half written: a binary appears there by rename.
build() { # MODULE-FOLDER LDFLAGS NAME PACKAGE
	[[ -x $bin/$3 ]] && return
	echo "building $3" >&2
	(cd "$1" && nice -n 10 go build -trimpath -ldflags "$2" -o "$building/$3" "$4")
	mv "$building/$3" "$bin/$3"
}

for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
	build k8s "$kubernetes_flags" "$name" "k8s.io/kubernetes/cmd/$name"
done
build k8s "-s -w" etcd go.etcd.io/etcd/server/v3
for name in containerd containerd-shim-runc-v2 ctr; do
	build k8s/containerd "$containerd_flags" "$name" "github.com/containerd/containerd/v2/cmd/$name"
done

# The shell's own folder may hold "..", which a caller should not have to resolve.
cd "$bin" && pwd
