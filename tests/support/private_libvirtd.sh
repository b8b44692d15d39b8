#!/bin/bash
# A libvirtd with folders of its own, beside the one of the machine: run in a mount namespace of its own, and with
# "polkit" in a network namespace of its own. Arguments: the folder, with etc/ in it, and what there is besides the
# daemon: "tls" (it listens), or "polkit" (a D-Bus and a polkitd, with the folder's rules/). All of it ends with the
# standard input: so also when the tests are killed.
set -eu
base=$1
mkdir -p "$base"/{run/dbus,lib,log,cache}
cp -a /var/cache/libvirt/. "$base/cache" # what QEMU can do is examined for long otherwise
mount --bind "$base/run" /run
mount --bind "$base/etc" /etc/libvirt
mount --bind "$base/lib" /var/lib/libvirt
mount --bind "$base/log" /var/log/libvirt
mount --bind "$base/cache" /var/cache/libvirt
case $2 in
tls)
    libvirtd --listen &
    ;;
polkit)
    mount --bind "$base/rules" /etc/polkit-1/rules.d
    dbus-daemon --system --nofork --nopidfile &
    until [[ -S /run/dbus/system_bus_socket ]]; do sleep 0.05; done
    /usr/lib/polkit-1/polkitd --no-debug &
    libvirtd &
    ;;
esac
cat >/dev/null
trap : TERM
kill 0
wait
