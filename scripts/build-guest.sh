#!/usr/bin/env bash
# Builds a tiny guest for the tests and the demo: Debian's kernel, busybox, DHCP and the guest agent; it boots with
# BIOS and UEFI in some seconds even without KVM, in 96 MiB. Needs no root and no mounts.
#
#   scripts/build-guest.sh [--version VERSION] [--output FILE.qcow2] [--cache FOLDER] [--broken]
#
# --broken makes a version whose kernel starts and nothing else: it never answers.
#
# In the guest:
#   /etc/golden-version     VERSION, also shown at http://GUEST/
#   /var/lib/machine        an id made at the first boot of this root
#   /var/lib/boots          how many times this root has booted
#   /run/payload/list       a line "DEVICE PATH SIZE SHA256" for each file on the CD (sr0) and the floppy (fd0),
#                           which are mounted at /run/payload/DEVICE
#   /run/payload/net/       user-data from the seed of an SMBIOS serial number ds=nocloud;s=URL
#   /var/lib/payload-ran    a line "BOOT DEVICE rc=CODE" for each run.sh found on a CD or floppy and run
# It has e2fsck and fsck.vfat, so that it can mend the disks of others.
#
# All versions are made from one base disk, which the cache keeps.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

version=1.0.0 output=guest.qcow2 cache=$CACHE/guest broken=
while (($#)); do
  case $1 in
    --version) version=$2; shift ;;
    --output) output=$2; shift ;;
    --cache) cache=$2; shift ;;
    --broken) broken=yes ;;
    *) sed -n '2,/^$/s/^# \?//p' "$0" >&2; exit 2 ;;
  esac
  shift
done
guest=$ROOT/scripts/guest
boot_mib=64 root_mib=48
root_offset=$(((1 + boot_mib) * 1024 * 1024))

# Make the Debian package available, unpacked, in $cache/PACKAGE.
fetch() (
  [[ ! -e $cache/$1 ]] || exit 0
  cd "$(mktemp --directory --tmpdir="$work")"
  download() { apt-get -qq -o APT::Sandbox::User=root download "$1"; }
  download "$1" || { as_root apt-get -qq update && download "$1"; }
  dpkg-deb --extract ./*.deb unpacked
  mv unpacked "$cache/$1"
)

# Print the name of Debian's current kernel package.
kernel_package() {
  apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1
}

# Copy kernel modules, and those that they need, into a folder whose file "order" says in which order they load.
add_modules() {
  local folder=$1 file
  shift
  mkdir -p "$folder"
  modprobe --dirname "$kernel" --set-version "$release" --show-depends --all "$@" |
    sed -n 's/^insmod \(.*\.ko\).*/\1/p' | awk '!seen[$0]++' |
    while read -r file; do
      objcopy --strip-debug "$file" "$folder/${file##*/}"  # without the signature: checking it takes time
      echo "${file##*/}" >>"$folder/order"
    done
}

# Put busybox, with links for all of its commands, into a folder.
add_busybox() {
  mkdir -p "$1/bin"
  cp /bin/busybox "$1/bin"
  busybox --list | while read -r name; do [[ -e $1/bin/$name ]] || ln -s busybox "$1/bin/$name"; done
}

make_initrd() {
  local tree=$work/initrd
  mkdir -p "$tree"/{dev,proc,root}
  cp "$guest/initrd/init" "$tree"
  add_busybox "$tree"
  add_modules "$tree/modules/virtio" virtio_pci virtio_blk ext4
  add_modules "$tree/modules/other" virtio_scsi ahci ata_piix sd_mod
  (cd "$tree" && find . | cpio --quiet --create --format=newc --owner=0:0) >"$work/initrd.img"
}

make_root() {
  local tree=$work/root library program
  mkdir -p "$tree"/{dev,proc,sys,run,tmp,root,mnt,srv,var/lib,usr/sbin,usr/share}
  cp -r "$guest/root/." "$tree"
  add_busybox "$tree"
  ln -s ../bin/busybox "$tree/sbin/init"
  ln -s /run/resolv.conf "$tree/etc/resolv.conf"
  ln -s /etc/golden-version "$tree/srv/index.html"
  echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
  echo 'root:x:0:' >"$tree/etc/group"
  for program in "$cache/qemu-guest-agent/usr/sbin/qemu-ga" /sbin/e2fsck /sbin/fsck.vfat; do
    install -D --target-directory "$tree/usr/sbin" "$program"
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do install -D "$library" "$tree$library"; done
  done
  add_modules "$tree/lib/modules/always" virtio_pci virtio_net virtio_console button evdev ahci ata_piix virtio_scsi \
    sr_mod sd_mod isofs nls_ascii nls_utf8 qemu_fw_cfg
  add_modules "$tree/lib/modules/floppy" floppy vfat nls_cp437 nls_ascii
  truncate --size "${root_mib}M" "$work/root.img"
  mke2fs -q -t ext4 -b 1024 -O '^64bit,^metadata_csum' -J size=1 -m 0 -E root_owner=0:0,lazy_itable_init=0 \
    -d "$tree" "$work/root.img"
}

# The boot partition, for BIOS (syslinux, a kernel that is quickly unpacked) and UEFI (systemd-boot).
make_boot() {
  local image=$work/boot.img
  "$ROOT/scripts/guest_kernel.py" "$kernel/boot/vmlinuz-$release" "$work/kernel"
  local options="quiet loglevel=3 console=ttyS0 net.ifnames=0 panic=5 nokaslr mitigations=off cryptomgr.notests"
  options+=" no_timer_check tsc=reliable audit=0 apparmor=0 selinux=0 random.trust_cpu=on noreplace-smp"
  options+=" 8250.nr_uarts=1 rodata=off initcall_blacklist=init_kprobe_trace,crypto_kdf108_init"
  printf '%s\n' 'DEFAULT guest' 'LABEL guest' 'KERNEL kernel' 'INITRD initrd.img' "APPEND $options" >"$work/syslinux.cfg"
  printf '%s\n' 'timeout 0' 'default guest' >"$work/loader.conf"
  printf '%s\n' 'title guest' 'linux /vmlinuz' 'initrd /initrd.img' "options $options" >"$work/guest.conf"
  truncate --size "${boot_mib}M" "$image"
  mkfs.vfat "$image" >/dev/null
  mmd -i "$image" ::EFI ::EFI/BOOT ::loader ::loader/entries
  mcopy -i "$image" "$kernel/boot/vmlinuz-$release" ::vmlinuz
  mcopy -i "$image" "$work/kernel" "$work/initrd.img" "$work/syslinux.cfg" ::
  mcopy -i "$image" "$cache/systemd-boot-efi/usr/lib/systemd/boot/efi/systemd-bootx64.efi" ::EFI/BOOT/BOOTX64.EFI
  mcopy -i "$image" "$work/loader.conf" ::loader
  mcopy -i "$image" "$work/guest.conf" ::loader/entries
  syslinux --install "$image"
}

# The disk that all versions have in common.
make_base() {
  local package
  package=$(kernel_package)
  if [[ -z $package ]]; then
    as_root apt-get -qq update
    package=$(kernel_package)
  fi
  fetch "$package"
  fetch qemu-guest-agent
  fetch systemd-boot-efi
  kernel=$cache/$package release=${package#linux-image-}
  depmod --basedir "$kernel" "$release"
  make_initrd
  make_root
  make_boot
  truncate --size $((root_offset + root_mib * 1024 * 1024)) "$work/base"
  printf '%s\n' 'label: dos' "start=1MiB, size=${boot_mib}MiB, type=ef, bootable" "type=83" | sfdisk --quiet "$work/base"
  dd if=/usr/lib/syslinux/mbr/mbr.bin of="$work/base" bs=440 count=1 conv=notrunc status=none
  dd if="$work/boot.img" of="$work/base" bs=1M seek=1 conv=notrunc,sparse status=none
  dd if="$work/root.img" of="$work/base" bs=1M seek=$((1 + boot_mib)) conv=notrunc,sparse status=none
}

# Make the disk of this version: a copy of the base with its own files written into the root file system.
make_version() (
  cd "$work"
  cp --sparse=always "$base" disk
  cp "$guest/broken-init" .
  echo "$version" >golden-version
  printf 'ID=tiny\nNAME=tiny\nVERSION_ID="%s"\nPRETTY_NAME="tiny %s"\n' "$version" "$version" >os-release
  printf '%s\n' 'write golden-version /etc/golden-version' 'write os-release /etc/os-release' \
    ${broken:+'rm /sbin/init' 'write broken-init /sbin/init'} >commands
  debugfs -w -f commands "disk?offset=$root_offset" >log 2>&1
  [[ $(debugfs -R 'cat /etc/golden-version' "disk?offset=$root_offset" 2>>log) == "$version" ]] || { cat log >&2; exit 1; }
)

mkdir -p "$cache" "$(dirname "$output")"
cache=$(realpath "$cache")
work=$(mktemp --directory "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
base=$cache/base-$({ cat "$0" "$ROOT/scripts/guest_kernel.py"; tar --create --mtime=@0 --owner=0 --group=0 --sort=name --directory "$guest" .; } | sha256sum | head -c 16)
(
  flock 9  # of several that run at once, one makes the base
  if [[ ! -e $base ]]; then
    make_base
    mv "$work/base" "$base"
  fi
) 9>"$cache/lock"
make_version
qemu-img convert -O qcow2 "$work/disk" "$output.$$"  # of several that make it at once, each makes a whole one
mv "$output.$$" "$output"
