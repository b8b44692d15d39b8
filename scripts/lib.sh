# shellcheck shell=bash
# Sourced by the other scripts: brings a machine, down to a bare Debian 12, to where the collection can be
# built and tested. Everything that it makes is in .cache, apart from Debian packages.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=$ROOT/.cache
# shellcheck disable=SC2034 # for the scripts that source this
VENV=$CACHE/venv
export UV_PYTHON_DOWNLOADS=never UV_NATIVE_TLS=true
# What Python has compiled is kept, and kept in one place: without that each start of Ansible takes twice as long.
export PYTHONPYCACHEPREFIX=$CACHE/pycache
unset PYTHONDONTWRITEBYTECODE
export PATH=$PATH:/usr/sbin:/sbin

# shellcheck disable=SC2034 # for the scripts that source this
PACKAGES=(
  # Python, and what compiles libvirt-python
  ca-certificates git python3 python3-dev python3-venv gcc pkg-config libvirt-dev
  # the hypervisor, with networks and UEFI
  libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-daemon-config-network libvirt-clients
  qemu-system-x86 qemu-utils ipxe-qemu ovmf dnsmasq-base iptables nftables iproute2
  # the guest (build-guest.sh)
  binutils busybox-static cpio dosfstools e2fsprogs fdisk kmod lz4 mtools syslinux syslinux-common
)

# Run a command as root.
as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# Install those of these Debian packages that are missing.
install_packages() {
  local installed missing
  # dpkg-query fails when one of the names is new to it
  installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "$@" 2>/dev/null | sed -n 's/^ii //p') || true
  mapfile -t missing < <(printf '%s\n' "$@" | grep -vxF "$installed")
  ((${#missing[@]})) || return 0
  echo "installing ${missing[*]}"
  as_root apt-get -qq update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qqy install --no-install-recommends "${missing[@]}" >/dev/null
}

# True when libvirt answers.
libvirt_answers() {
  virsh -q -c qemu:///system uri >/dev/null 2>&1
}

# Make libvirt work in a chroot: there it cannot give QEMU a /dev of its own; and a /dev/kvm from outside, of a group
# with another number, would make it examine QEMU anew at each call, for 4 s.
adapt_to_chroot() {
  local group
  as_root unshare --mount true 2>/dev/null ||
    echo 'namespaces = []' | as_root tee -a /etc/libvirt/qemu.conf >/dev/null
  group=$(stat -c %g /dev/kvm 2>/dev/null || echo 0)
  ((group == 0)) || as_root groupmod --non-unique --gid "$group" kvm
}

# Start libvirt unless it runs, with systemd or without, and wait for it.
start_libvirt() {
  libvirt_answers && return
  if [[ -d /run/systemd/system ]]; then
    as_root systemctl start libvirtd
  else
    adapt_to_chroot
    # as udev would: libvirt asks a QEMU that may not use KVM about it again at every start of a VM, half a minute long
    if [[ -c /dev/kvm && ! -d /run/udev ]]; then as_root chgrp kvm /dev/kvm && as_root chmod 0660 /dev/kvm; fi
    as_root virtlogd -d
    as_root libvirtd -d
  fi
  for _ in {1..100}; do
    libvirt_answers && return
    sleep 0.1
  done
  echo "libvirt does not answer at qemu:///system" >&2
  return 1
}

# Print the path of a real, complete Python of this version. A shim of pyenv may be there and yet exit 127: so each
# one found is run, and pyenv's own folders are looked into.
find_python() {
  local version=$1 python
  for python in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/"python$version" $(type -aP "python$version"); do
    "$python" -c '
import ensurepip, os, sys, sysconfig
assert sys.prefix == sys.base_prefix  # not a virtual environment
os.stat(sysconfig.get_path("include") + "/Python.h")
print(os.path.realpath(sys.executable))' 2>/dev/null && return
  done
  return 1
}

# Print the newest Python that a supported ansible-core runs on.
newest_python() {
  find_python 3.13 || find_python 3.12 || find_python 3.11
}

# Make a virtual environment with these requirements (arguments of `uv pip install`), once for each set of them, and
# show it the repository as the collection golden.libvirt, whatever the name of its folder.
make_venv() {
  local venv=$1 python=$2 stamp site
  shift 2
  stamp=$({ echo "$venv" "$python" "$@"; cat "$ROOT"/requirements-dev.txt "$ROOT"/meta/ee-requirements.txt; } | sha256sum)
  [[ -e $venv/stamp && $(<"$venv/stamp") == "$stamp" ]] && return
  echo "making ${venv#"$ROOT"/} with $python"
  if [[ ! -x $CACHE/uv/bin/uv ]]; then
    "$python" -m venv --clear "$CACHE/uv"
    "$CACHE/uv/bin/python" -m pip -q --disable-pip-version-check install uv
  fi
  "$CACHE/uv/bin/uv" -q venv --clear --python "$python" "$venv"
  (cd "$ROOT" && "$CACHE/uv/bin/uv" -q pip install --python "$venv/bin/python" "$@")
  for site in "$venv"/lib/python3*/site-packages; do
    mkdir -p "$site/ansible_collections/golden"
    ln -sfn "$ROOT" "$site/ansible_collections/golden/libvirt"
  done
  echo "$stamp" >"$venv/stamp"
}
