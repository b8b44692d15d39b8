#!/bin/bash
# A libvirtd that listens for TLS, beside the one of the machine: run in a mount namespace of its own. Arguments: a
# folder, with the certificates and etc/ in it, and the port. It ends with the standard input: so also when the tests
# are killed.
set -eu
base=$1
mkdir -p "$base"/{run,lib,log,cache}
cp -a /var/cache/libvirt/. "$base/cache" # what QEMU can do is examined for long otherwise
mount --bind "$base/run" /run
mount --bind "$base/etc" /etc/libvirt
mount --bind "$base/lib" /var/lib/libvirt
mount --bind "$base/log" /var/log/libvirt
mount --bind "$base/cache" /var/cache/libvirt
libvirtd --listen &
cat >/dev/null
trap : TERM
kill 0
wait
