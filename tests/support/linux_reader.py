"""What the Linux kernel reads of a CD and a floppy: it runs in QEMU with a shell and nothing else, without libvirt."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from .fixtures import REPOSITORY

MODULES = ["ata_piix", "sr_mod", "isofs", "floppy", "vfat", "nls_utf8", "nls_cp437", "nls_ascii"]
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs d /dev
while read -r module; do $b insmod "/m/$module"; done </m/order
until $b dd if=/dev/sr0 of=/dev/null bs=2048 count=1 2>/dev/null; do $b sleep 1; done
look() {
  $b mount -t "$2" -o "$3" "$4" /mnt || return
  cd /mnt
  $b find . -type f -exec $b sha256sum {} + | $b sed "s|^|=$1 |"
  cd /
  $b umount /mnt
}
look rock_ridge iso9660 ro /dev/sr0
look joliet iso9660 ro,norock,utf8 /dev/sr0
look vfat vfat ro,utf8 /dev/fd0
$b poweroff -f
"""


def read_by_linux(cd: Path, floppy: Path, folder: Path) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of each file by its name, as read by ``rock_ridge``, ``joliet`` and ``vfat``.

    The kernel is the one that build-guest.sh has fetched for the guests; ``folder`` is for what is made on the way.
    """
    kernel = max((REPOSITORY / ".cache" / "guest").glob("linux-image-*"))
    release = kernel.name.removeprefix("linux-image-")
    tree = folder / "initrd"
    for name in ("bin", "dev", "m", "mnt"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin")
    _copy_modules(kernel, release, tree / "m")
    (tree / "init").write_text(INIT)
    (tree / "init").chmod(0o755)
    initrd = folder / "initrd.img"
    with initrd.open("wb") as packed:
        names = "\n".join(path.relative_to(tree).as_posix() for path in sorted(tree.rglob("*")))
        subprocess.run(
            ["cpio", "--create", "--format=newc", "--quiet"], cwd=tree, input=names.encode(), stdout=packed, check=True
        )
    done = subprocess.run(
        [
            "qemu-system-x86_64", "-m", "256", "-display", "none", "-serial", "stdio", "-no-reboot", "-nic", "none",
            "-kernel", kernel / "boot" / f"vmlinuz-{release}", "-initrd", initrd,
            "-append", "console=ttyS0 quiet panic=-1", "-cdrom", cd,
            "-drive", f"if=floppy,format=raw,readonly=on,file={floppy}",
        ],
        stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=180,
    )  # fmt: skip
    found: dict[str, dict[str, str]] = {"rock_ridge": {}, "joliet": {}, "vfat": {}}
    for line in done.stdout.decode("utf-8").splitlines():
        match = re.fullmatch(r"=(\w+) ([0-9a-f]{64})  \./(.*)", line)
        if match is not None:
            found[match[1]][match[3]] = match[2]
    return found


def _copy_modules(kernel: Path, release: str, target: Path) -> None:
    """Copy the modules and what they need, without the signatures that a machine without KVM checks for long."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    listed = subprocess.run(
        ["modprobe", "--dirname", kernel, "--set-version", release, "--show-depends", "--all", *MODULES],
        capture_output=True, check=True, text=True, env={**os.environ, "PATH": path},
    )  # fmt: skip
    order = []
    for file in dict.fromkeys(re.findall(r"^insmod (.+\.ko)", listed.stdout, re.MULTILINE)):
        subprocess.run(["objcopy", "--strip-debug", file, target / Path(file).name], check=True)
        order.append(Path(file).name)
    (target / "order").write_text("".join(f"{name}\n" for name in order))
