#!/usr/bin/env bash
# Sees to it that the programs are there that the tests run beside irctl: GnuPG
# and OpenSSL open and check what irctl seals, PostgreSQL gets its password
# changed, tmux is the terminal of the UI. Installs what is missing on Debian as root; elsewhere it says what to
# install.
set -euo pipefail

declare -A packages=([gpg]=gnupg [openssl]=openssl [postgres]=postgresql [gcc]=gcc [tmux]=tmux)
missing=()
for program in "${!packages[@]}"; do
	# Debian keeps the server of PostgreSQL out of the PATH.
	if ! command -v "$program" >/dev/null && ! compgen -G "/usr/lib/postgresql/*/bin/$program" >/dev/null; then
		missing+=("${packages[$program]}")
	fi
done
((${#missing[@]})) || exit 0

if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
	echo "the tests need: ${missing[*]} (the names of Debian's packages); install them and run make test again" >&2
	exit 1
fi
echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
