#!/bin/bash
# A libvirtd with polkit access control, with a D-Bus and a polkitd of its own, beside the one of the machine: run in a
# mount and a network namespace of its own. Argument: a folder, with rules/ for polkit in it. All of it ends with the
# standard input: so also when the tests are killed.
set -eu
base=$1
mkdir -p "$base"/{run/dbus,etc,lib,log,cache}
cp /etc/libvirt/*.conf "$base/etc"
{ echo 'access_drivers = ["polkit"]'; cat "$base/settings"; } >>"$base/etc/libvirtd.conf"
cp -a /var/cache/libvirt/. "$base/cache" # what QEMU can do is examined for long otherwise
mount --bind "$base/run" /run
mount --bind "$base/etc" /etc/libvirt
mount --bind "$base/lib" /var/lib/libvirt
mount --bind "$base/log" /var/log/libvirt
mount --bind "$base/cache" /var/cache/libvirt
mount --bind "$base/rules" /etc/polkit-1/rules.d
dbus-daemon --system --nofork --nopidfile &
until [[ -S /run/dbus/system_bus_socket ]]; do sleep 0.05; done
/usr/lib/polkit-1/polkitd --no-debug &
libvirtd &
cat >/dev/null
trap : TERM
kill 0
wait
