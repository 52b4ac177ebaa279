#!/usr/bin/env bash
# Builds and tests this tree on a bare Debian of its own: a root made by debootstrap, in which
# bootstrap.sh has to install everything. By hand, as root:
#
#   tests/fresh_debian.sh bookworm|trixie [ROOT [COMMAND...]]
#
# ROOT (/var/tmp/schedlab-<release>) is kept, so that a second run builds only what changed.
# COMMAND is run by bash in the tree; by default the unit tests and the labs, in short.
set -euo pipefail

fail() {
  printf 'fresh_debian.sh: %s\n' "$*" >&2
  exit 1
}

(($# >= 1)) || fail "which release? bookworm (12) or trixie (13)"
release=$1
root=${2:-/var/tmp/schedlab-$release}
command=${*:3}
: "${command:=./bootstrap.sh test --suite unit --suite smoke}"

((EUID == 0)) || fail "only root can make a root file system"
command -v debootstrap >/dev/null || fail "apt-get install debootstrap"
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [[ ! -e $root/complete ]]; then
  debootstrap --variant=minbase "$release" "$root" http://deb.debian.org/debian
  touch "$root/complete"
fi
mkdir -p "$root/src"
find "$root/src" -mindepth 1 -maxdepth 1 ! -name build -exec rm -r {} +
tar -C "$source" --exclude=./.git --exclude='./build*' -c . | tar -C "$root/src" -x
cp /etc/resolv.conf "$root/etc/resolv.conf"

# The mounts and whatever the tests start end with the namespaces.
# shellcheck disable=SC2016  # expanded by the inner shell
exec unshare --mount --pid --fork --kill-child bash -c '
  set -euo pipefail
  mount --bind "$1" "$1"
  cd "$1"
  mount -t proc proc "$1/proc"
  mount --rbind /sys "$1/sys"
  mount --rbind /dev "$1/dev"
  exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    bash -c "cd /src && $2"' inner "$root" "$command"
