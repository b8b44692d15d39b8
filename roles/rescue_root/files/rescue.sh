#!/bin/sh
# Runs in the guest of the rescue VM, with busybox or with a whole distribution around it.
#
#   rescue.sh SERIAL [COMMANDS]
#
# Finds the disk with this serial number and lets the shell run the commands, which find the disk in $disk. Without
# commands it checks and mends every file system that it finds there. What the commands have mounted from the disk is
# unmounted at the end, so that the disk can be taken away.
exec 2>&1
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin
export PATH
serial=$1 commands=$2

# Only one at a time: after a run that was interrupted, its commands may still be writing on the disk.
folder=/run
[ -w $folder ] || folder=/tmp
lock=$folder/rescue_root.$serial
until ln -s $$ "$lock" 2>/dev/null; do
  owner=$(readlink "$lock") || continue
  if kill -0 "$owner" 2>/dev/null; then sleep 1; else rm -f "$lock"; fi
done
trap 'rm -f "$lock"' EXIT

# Print the disk with the serial number. SCSI disks have it between other bytes.
find_disk() {
  for device in /sys/block/*; do
    for file in "$device/serial" "$device/device/vpd_pg80"; do
      if grep -q "$serial" "$file" 2>/dev/null && [ -b "/dev/${device##*/}" ]; then
        echo "/dev/${device##*/}"
        return
      fi
    done
  done
}

# Print the partitions of the disk, or the disk itself where it has none.
find_parts() {
  set --
  for part in "/sys/block/${disk##*/}/${disk##*/}"*; do
    [ -d "$part" ] && set -- "$@" "/dev/${part##*/}"
  done
  [ $# -gt 0 ] || set -- "$disk"
  echo "$@"
}

# Print the bytes of a device at an offset, in hexadecimal digits.
bytes_at() { dd if="$1" bs=1 skip="$2" count="$3" 2>/dev/null | od -A n -t x1 | tr -d ' \n'; }

# Print which file system a device has: busybox has no blkid.
type_of() {
  if [ "$(bytes_at "$1" 1080 2)" = 53ef ]; then echo ext
  elif [ "$(bytes_at "$1" 0 4)" = 58465342 ]; then echo xfs
  elif [ "$(bytes_at "$1" 65600 8)" = 5f42485266535f4d ]; then echo btrfs
  elif [ "$(bytes_at "$1" 510 2)" = 55aa ]; then
    case $(bytes_at "$1" 54 3),$(bytes_at "$1" 82 3) in *464154*) echo vfat ;; esac
  fi
}

# Run a check of a device, and count it by its code: up to $1 the file system is well now.
run_check() {
  best=$1
  shift
  if ! command -v "$1" >/dev/null; then
    echo "$1 is not installed here: not checked"
    missing=$((missing + 1))
    return
  fi
  echo "+ $*"
  "$@" </dev/null
  code=$?
  if [ $code -le "$best" ]; then
    good=$((good + 1))
  else
    echo "$1 ended with $code: not well"
    bad=$((bad + 1))
  fi
}

# An XFS that was not unmounted must be mounted once, or xfs_repair refuses it.
replay_xfs() {
  mkdir -p "$lock.d"
  mount -t xfs -o nouuid "$1" "$lock.d" && umount "$lock.d"
  rmdir "$lock.d"
}

check() {
  type=$(type_of "$1")
  echo "== $1: ${type:-no file system that is known here}"
  case $type in
    ext) run_check 3 e2fsck -f -y "$1" ;;
    vfat) run_check 1 fsck.vfat -a "$1" ;;
    xfs)
      replay_xfs "$1"
      run_check 0 xfs_repair "$1"
      ;;
    btrfs) run_check 0 btrfs check --readonly "$1" ;;
    *) ! command -v blkid >/dev/null || blkid "$1" ;;
  esac
}

check_all() {
  good=0 bad=0 missing=0
  for part in $(find_parts); do
    check "$part"
  done
  echo "== $good well, $bad not well, $missing not checked"
  [ $bad -eq 0 ] && [ $good -gt 0 ]
}

# Unmount what is mounted from the disk, and what is mounted below that; the last comes first.
unmount_all() {
  sed '1!G;h;$!d' /proc/mounts | while read -r source place _rest; do
    below=
    while read -r other root _rest; do
      case $other in "$disk" | "$disk"[0-9]* | "$disk"p[0-9]*)
        case $place in "$root" | "$root"/*) below=yes ;; esac ;;
      esac
    done </proc/mounts
    [ -z "$below" ] || { echo "unmounting $place ($source)"; umount "$place" || umount -l "$place"; }
  done
}

tries=0
until disk=$(find_disk) && [ -n "$disk" ] || [ $tries -ge 20 ]; do
  tries=$((tries + 1))
  sleep 1
done
if [ -z "$disk" ]; then
  echo "the guest sees no disk with serial number $serial; has it a driver for the bus, and hot plug?"
  exit 1
fi
! command -v udevadm >/dev/null || udevadm settle --timeout=20
export disk
echo "the root is $disk: $(find_parts)"
if [ -n "$commands" ]; then
  sh -c "$commands" </dev/null
else
  check_all
fi
code=$?
sync
unmount_all
exit $code
