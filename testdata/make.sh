#!/bin/sh
# Makes the fixtures of one version of irctl anew, for a new folder beside v1:
#
#   testdata/make.sh IRCTL DIR
#
# IRCTL is the program of that version, DIR a folder that does not exist yet.
# Journals record host and user, so the program runs in namespaces of its own, as
# responder on responder-laptop. It needs Linux with unshare, and Go.
set -eu
if [ $# -ne 2 ]; then
	echo "usage: testdata/make.sh IRCTL DIR" >&2
	exit 2
fi
irctl=$(realpath "$1")
out=$(realpath -m "$2")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/make" ./testdata/make
echo "responder:x:0:0::/tmp/responder:/bin/sh" >"$work/passwd"
unshare --map-root-user --uts --mount sh -euc '
	hostname responder-laptop
	mount --bind "$1/passwd" /etc/passwd
	exec "$1/make" "$2" "$3"
' sh "$work" "$irctl" "$out"
