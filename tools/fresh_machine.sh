#!/usr/bin/env bash
# Proves the two commands on a machine with nothing installed: a bare Debian 12 chroot, a clone of HEAD, then
# `make demo`, `make demo` again, `make test`. Needs root, debootstrap, and this machine's package configuration
# (copied in: mirrors, certificates, pip's settings). Leaves logs in FOLDER/log; about 60 minutes on two cores.
#
#   tools/fresh_machine.sh [--dir FOLDER] [--only setup|demo|test] [--keep] [--ccache FOLDER]
#
# --ccache seeds the machine with a copy of a compiler cache: the same steps, without the 10 minutes of compiling.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=/var/tmp/saeloom-fresh only=all keep=0 ccache=""
while [ $# -gt 0 ]; do
  case "$1" in
    --dir) dir=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    --keep) keep=1; shift ;;
    --ccache) ccache=$2; shift 2 ;;
    -h|--help) sed -n '2,8p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) echo "fresh_machine: unknown option $1" >&2; exit 2 ;;
  esac
done
[ "$(id -u)" = 0 ] || { echo "fresh_machine: needs root (chroot, mounts)" >&2; exit 1; }
command -v debootstrap >/dev/null || apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
root=$dir/root
mkdir -p "$dir/log"

unmount_all() {
  for mount in dev/shm dev/pts dev sys proc; do
    mountpoint -q "$root/$mount" && umount -l "$root/$mount"
  done
  return 0
}
trap unmount_all EXIT
unmount_all
rm -rf "$root"

mirror=$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null | head -n 1 || true)
[ -n "$mirror" ] || { echo "fresh_machine: no Debian mirror found in apt's sources" >&2; exit 1; }
echo "fresh_machine: bootstrapping Debian 12 into $root"
debootstrap --variant=minbase --include=ca-certificates bookworm "$root" "$mirror" > "$dir/log/debootstrap.log" 2>&1

# The host's package configuration: mirrors, keys, certificates, pip.
rm -rf "$root/etc/apt/sources.list" "$root/etc/apt/sources.list.d"
for path in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d /etc/apt/keyrings /usr/share/keyrings \
            /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates /etc/pip.conf /etc/resolv.conf /etc/hosts /root/.config/pip; do
  [ -e "$path" ] || continue
  mkdir -p "$root$(dirname "$path")"
  cp -rL --remove-destination "$path" "$root$(dirname "$path")/"
done
for mount in proc sys dev dev/pts dev/shm; do
  mkdir -p "$root/$mount"
  case $mount in
    proc) mount -t proc proc "$root/proc" ;;
    sys) mount --rbind /sys "$root/sys" && mount --make-rslave "$root/sys" ;;
    dev/shm) mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm" ;;
    *) mount --bind "/$mount" "$root/$mount" ;;
  esac
done

inside() {  # LOG COMMAND: runs in the chroot with a clean environment plus pip's and the proxies' variables
  local log=$1 start=$SECONDS status=0
  shift
  env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb \
    $(env | grep -E '^(PIP_|[a-zA-Z]*_[pP][rR][oO][xX][yY]=|SSL_CERT)' || true) \
    chroot "$root" /bin/bash -c "$*" > "$dir/log/$log.log" 2>&1 || status=$?
  echo "fresh_machine: $log: exit $status after $(((SECONDS - start + 30) / 60)) minutes (log: $dir/log/$log.log)"
  [ "$status" = 0 ] || { tail -n 40 "$dir/log/$log.log"; exit "$status"; }
}

[ -z "$ccache" ] || { mkdir -p "$root/root/.cache" && cp -r "$ccache" "$root/root/.cache/ccache"; }
inside apt 'apt-get -qq update && apt-get -qq install -y --no-install-recommends git make'
git bundle create "$root/root/saeloom.bundle" HEAD --quiet 2>/dev/null || git bundle create "$root/root/saeloom.bundle" HEAD
inside clone 'cd /root && git clone -q saeloom.bundle saeloom && cd saeloom && (git checkout -q HEAD || true) && ls && test ! -e ../shared'
if [ "$only" = setup ]; then
  inside setup 'cd /root/saeloom && make setup && make setup'
  cat "$dir/log/setup.log"
fi
if [ "$only" = all ] || [ "$only" = demo ]; then
  inside demo 'cd /root/saeloom && make demo'
  tail -n 60 "$dir/log/demo.log"
  inside demo-again 'cd /root/saeloom && make demo'
  ! grep -q '^setup:' "$dir/log/demo-again.log" || { echo "fresh_machine: the second demo did set-up work again"; exit 1; }
fi
if [ "$only" = all ] || [ "$only" = test ]; then
  inside test 'cd /root/saeloom && make test'
  tail -n 12 "$dir/log/test.log"
fi
if pgrep -f "$root" >/dev/null || ls -l /proc/[0-9]*/root 2>/dev/null | grep -q "$root\$"; then
  echo "fresh_machine: processes were left behind in the chroot:"
  ls -l /proc/[0-9]*/root 2>/dev/null | grep "$root\$" | sed 's#.*/proc/\([0-9]*\)/.*#\1#' | xargs -r ps -o pid,args -p
  exit 1
fi
unmount_all
[ "$keep" = 1 ] || rm -rf "$root"
echo "fresh_machine: all good"
