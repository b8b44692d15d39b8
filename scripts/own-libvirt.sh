#!/usr/bin/env bash
# Runs a command with a libvirtd of its own, in namespaces of its own: it sees neither the VMs, networks and processes
# of the machine nor those of another such command, and nothing of libvirt's is left when it ends. Needs root.
#
#   scripts/own-libvirt.sh COMMAND [ARGUMENT ...]
#
# Standard input and output are the command's. libvirt's files are in memory; it is set up as on this machine, with the
# payload hook of the role hypervisor, and without cgroups, which two libvirtds would make in the same places.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

# Give these namespaces what libvirt writes to, empty, and with what it knows about QEMU already.
make_places() {
  local place own=/var/lib/libvirt/own
  mount -t tmpfs -o mode=0755 tmpfs /var/lib/libvirt
  mkdir -p "$own"/{run/lock,run/sshd,log}
  cp -a /var/cache/libvirt "$own/cache"
  cp -a /etc/libvirt "$own/etc"
  rm -rf "$own"/etc/{qemu,storage,nwfilter,secrets}
  printf '%s\n' 'cgroup_controllers = []' 'security_driver = "none"' >>"$own/etc/qemu.conf"
  mkdir -p "$own/etc/hooks/qemu.d"
  { echo '#!/usr/bin/python3 -IS'; cat "$ROOT/roles/hypervisor/files/payload_hook.py"; } >"$own/etc/hooks/qemu.d/golden-payload"
  chmod 0755 "$own/etc/hooks/qemu.d/golden-payload"
  cp "$ROOT/roles/hypervisor/files/payload_service.py" "$own/etc/hooks/golden-payload-service"
  for place in etc:/etc/libvirt log:/var/log/libvirt cache:/var/cache/libvirt run:/run; do
    mount --bind "$own/${place%%:*}" "${place#*:}"
  done
}

# Run libvirtd, and again whenever it ends, as systemd does: tests kill it, and it has been seen to end at its start.
keep_libvirtd() {
  while :; do
    libvirtd || true
    sleep 0.05
  done
}

# Being the first process of the namespaces, this shell also collects those that lost their parent; all end with it.
inside() {
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  ip link set lo up
  make_places
  virtlogd >/var/log/libvirt/virtlogd.log 2>&1 </dev/null &
  keep_libvirtd >/var/log/libvirt/libvirtd.log 2>&1 </dev/null &
  for _ in {1..300}; do
    if libvirt_answers; then
      "$@"
      exit
    fi
    sleep 0.1
  done
  echo "libvirt does not answer in its own namespaces:" >&2
  cat /var/log/libvirt/libvirtd.log >&2
  exit 1
}

if [[ ${1-} == --inside ]]; then
  shift
  inside "$@"
else
  exec unshare --mount --pid --net --propagation private --fork --kill-child "$0" --inside "$@"
fi
