#!/usr/bin/env bash
# Installs the Debian packages the one-node cluster needs, if they are missing.
# Enough on a Debian 12 image that has nothing but Go.
set -euo pipefail

packages=(
	busybox-static            # the shell and tools inside the test pods
	ca-certificates           # the Go module proxy is reached over TLS
	conntrack                 # the policy enforcer cuts established connections
	containernetworking-plugins
	gnupg                     # what irctl sealed is opened with stock tools
	iproute2
	ipset                     # the kubelet and the debugging of rules
	iptables
	kmod                      # containerd and the kubelet ask for kernel modules
	libc-bin                  # ldd: which libraries the database needs
	mount
	postgresql                # the todo-app's database
	procps
	runc
	tmux                      # the terminal of the UI
	util-linux                # nsenter, flock
)

missing=()
for package in "${packages[@]}"; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[[ $status == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

if ((EUID != 0)); then
	echo "install-deps.sh: run as root to install: ${missing[*]}" >&2
	exit 1
fi

echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install_missing() {
	apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1
}
# Package lists may be absent or stale: refresh them, then try again.
if ! install_missing; then
	if ! apt-get update -qq >"$log" 2>&1 || ! install_missing; then
		cat "$log" >&2
		echo "install-deps.sh: apt-get failed; check the package sources and run it again" >&2
		exit 1
	fi
fi
