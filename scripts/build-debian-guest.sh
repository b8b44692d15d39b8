#!/usr/bin/env bash
# Builds a Debian guest with systemd, cloud-init and the guest agent for the tests of payloads, from Debian packages;
# it boots with BIOS from a virtio disk, in half a minute without KVM, in 512 MiB. Needs root.
#
#   scripts/build-debian-guest.sh --output FILE.qcow2 [--version VERSION] [--cache FOLDER]
#
# In the guest: /etc/golden-version holds VERSION. It has no user and no network but those that cloud-init makes.
# All versions are made from one base disk, which the cache keeps.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

version=1.0.0 output='' cache=$CACHE/debian-guest
while (($#)); do
  case $1 in
    --version) version=$2; shift ;;
    --output) output=$2; shift ;;
    --cache) cache=$2; shift ;;
    *) sed -n '2,/^$/s/^# \?//p' "$0" >&2; exit 2 ;;
  esac
  shift
done
[[ -n $output ]] || { echo "--output is missing" >&2; exit 2; }
boot_mib=64 root_mib=900
root_offset=$(((1 + boot_mib) * 1024 * 1024))

# What the installed system needs beyond its packages, written into the folder $1.
settle() {
  local tree=$1
  rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale,info}/*
  : >"$tree/etc/machine-id"  # made at the first boot
  echo '/dev/vda2 / ext4 rw,noatime 0 1' >"$tree/etc/fstab"
  # of what it does at the end of the boot, most is slow and of no use here: keyboards, grub, apt, other init systems
  printf '%s\n' 'datasource_list: [NoCloud, None]' 'locale: C.UTF-8' 'cloud_config_modules: [runcmd]' \
    'cloud_final_modules: [write-files-deferred, scripts-user, final-message]' \
    >"$tree/etc/cloud/cloud.cfg.d/90-nocloud.cfg"
  ln -sf /run/systemd/resolve/stub-resolv.conf "$tree/etc/resolv.conf"
  chroot "$tree" systemctl --quiet enable systemd-networkd
  # what only costs time in a guest that a test looks at
  chroot "$tree" systemctl --quiet mask systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer \
    e2scrub_reap fstrim.timer dpkg-db-backup.timer modprobe@drm dev-hugepages.mount sys-kernel-debug.mount \
    sys-kernel-tracing.mount proc-sys-fs-binfmt_misc.automount
}

# The disk that all versions have in common.
make_base() {
  local tree=$work/tree options folder
  local unused=()  # Debian's cloud kernel would be smaller, but reads no SATA drives
  for folder in arch/x86/{kvm,platform} drivers/{cpufreq,gpu,i2c,iio,infiniband,input/{misc,mouse},isdn,media,mfd} \
    drivers/{mtd,net/{ethernet,usb,wireless},platform,staging,usb,video,watchdog} net/{bluetooth,mac80211,wireless} sound; do
    unused+=(--dpkgopt="path-exclude=/lib/modules/*/kernel/$folder/*")
  done
  # the initrd holds only what finds the root; $1 is for mmdebstrap
  # shellcheck disable=SC2016
  mmdebstrap --quiet --variant=minbase --mode=root \
    --include=linux-image-amd64,initramfs-tools,systemd-sysv,udev,dbus,cloud-init,qemu-guest-agent,iproute2,netplan.io \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' "${unused[@]}" \
    --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
    --essential-hook='printf "MODULES=list\nCOMPRESS=lz4\n" >"$1/etc/initramfs-tools/conf.d/golden"' \
    --essential-hook='printf "virtio_pci\nvirtio_blk\next4\n" >"$1/etc/initramfs-tools/modules"' \
    bookworm "$tree"
  settle "$tree"
  options="root=/dev/vda2 rw quiet loglevel=3 console=ttyS0 net.ifnames=0 mitigations=off cryptomgr.notests"
  options+=" no_timer_check tsc=reliable audit=0 apparmor=0 selinux=0 random.trust_cpu=on systemd.show_status=0"
  printf '%s\n' 'DEFAULT guest' 'LABEL guest' 'KERNEL kernel' 'INITRD initrd.img' "APPEND $options" >"$work/syslinux.cfg"
  truncate --size "${boot_mib}M" "$work/boot.img"
  mkfs.vfat "$work/boot.img" >/dev/null
  "$ROOT/scripts/guest_kernel.py" "$tree"/boot/vmlinuz-* "$work/kernel"
  mcopy -i "$work/boot.img" "$work/kernel" ::
  mcopy -i "$work/boot.img" "$tree"/boot/initrd.img-* ::initrd.img
  mcopy -i "$work/boot.img" "$work/syslinux.cfg" ::
  syslinux --install "$work/boot.img"
  rm -rf "${tree:?}"/boot/*
  truncate --size "${root_mib}M" "$work/root.img"
  mke2fs -q -t ext4 -m 0 -E lazy_itable_init=0 -d "$tree" "$work/root.img"
  truncate --size $((root_offset + root_mib * 1024 * 1024)) "$work/base"
  printf '%s\n' 'label: dos' "start=1MiB, size=${boot_mib}MiB, type=ef, bootable" "type=83" | sfdisk --quiet "$work/base"
  dd if=/usr/lib/syslinux/mbr/mbr.bin of="$work/base" bs=440 count=1 conv=notrunc status=none
  dd if="$work/boot.img" of="$work/base" bs=1M seek=1 conv=notrunc,sparse status=none
  dd if="$work/root.img" of="$work/base" bs=1M seek=$((1 + boot_mib)) conv=notrunc,sparse status=none
}

mkdir -p "$cache" "$(dirname "$output")"
cache=$(realpath "$cache")
work=$(mktemp --directory "$cache/work.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
base=$cache/base-$(cat "$0" "$ROOT"/scripts/{guest_kernel.py,guest/kernel.S} | sha256sum | head -c 16)
(
  flock 9  # of several that run at once, one makes the base
  if [[ ! -e $base ]]; then
    make_base
    mv "$work/base" "$base"
  fi
) 9>"$cache/lock"
cp --sparse=always "$base" "$work/disk"
echo "$version" >"$work/golden-version"
(cd "$work" && debugfs -w -R 'write golden-version /etc/golden-version' "disk?offset=$root_offset" >log 2>&1)
[[ $(debugfs -R 'cat /etc/golden-version' "$work/disk?offset=$root_offset" 2>>"$work/log") == "$version" ]] || { cat "$work/log" >&2; exit 1; }
qemu-img convert -O qcow2 "$work/disk" "$output.$$"  # of several that make it at once, each makes a whole one
mv "$output.$$" "$output"
