# Process 1 of the node, in new namespaces: furnishes them and becomes pause.
# Arguments: the node's name, and the path of the pause program.
set -eu
name=$1 pause=$2

# Nothing mounted from here on shows on the machine.
mount --make-rprivate /
mount -t proc proc /proc

# Sockets, runc state, network namespaces and container log links have fixed
# places here. Give them a place that goes away with the node.
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log

# The kubelet insists on these values and would change the whole machine.
mkdir /run/sysctl
pretend() {
	file=/run/sysctl/$(basename "$1")
	echo "$2" >"$file"
	mount --bind "$file" "/proc/sys/$1"
}
pretend vm/overcommit_memory 1
pretend vm/panic_on_oom 0
pretend kernel/panic 10
pretend kernel/panic_on_oops 1
pretend kernel/keys/root_maxkeys 1000000
pretend kernel/keys/root_maxbytes 25000000

# These belong to the network namespace.
echo 1 >/proc/sys/net/ipv4/ip_forward
ip link set lo up

busybox hostname "$name"
echo ready
exec "$pause" >/dev/null 2>&1
