"""What a disk image is, told from its first bytes, before anything trusts it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..errors import InvalidError
from ..hypervisor import ImageFile
from ..units import human_size

HEAD_SIZE = 68 * 1024
"""Bytes of an image that suffice to tell what it is (an ISO has its mark at 32 KiB, btrfs at 64 KiB)."""

_SECTOR = 512
_QCOW2 = b"QFI\xfb"
_EXTERNAL_DATA_FILE = 1 << 2
QCOW2_HEADER = 104
"""Bytes of the header of a qcow2 image (version 3)."""
_REMEDY = "convert it with 'qemu-img convert -O qcow2' and publish the result"

_FOREIGN = (
    (0, b"KDMV", "VMware (vmdk)"),
    (0, b"# Disk DescriptorFile", "VMware (vmdk)"),
    (0x40, b"\x7f\x10\xda\xbe", "VirtualBox (vdi)"),
    (0, b"vhdxfile", "Hyper-V (vhdx)"),
    (0, b"conectix", "Virtual PC (vhd)"),
    (0, b"QED\0", "QED"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"BZh", "bzip2"),
    (0, b"PK\x03\x04", "zip (or an OVA's part)"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
)

# Raw images have no mark of their own: what a bootable disk begins with is a partition table or a file system.
_DISK_MARKS = (
    (510, b"\x55\xaa"),
    (512, b"EFI PART"),
    (4096, b"EFI PART"),
    (1080, b"\x53\xef"),
    (0, b"XFSB"),
    (65600, b"_BHRfS_M"),
    (536, b"LVM2 001"),
    (0, b"LUKS\xba\xbe"),
)


@dataclass(frozen=True)
class ImageFormat:
    """The format of an image, and the bytes that a guest sees of it."""

    format: str
    capacity: int


def recognise(file: ImageFile) -> ImageFormat:
    """Return what kind of disk image a file is; what is none, or reads other files of its host, is an error."""
    if file.size == 0:
        raise InvalidError(f"{file.path} is empty; it is no disk image")
    if file.head.startswith(_QCOW2):
        return ImageFormat("qcow2", _qcow2_capacity(file))
    for offset, mark, kind in _FOREIGN:
        if file.head[offset : offset + len(mark)] == mark:
            raise InvalidError(f"{file.path} is of the format {kind}, not qcow2 or raw; {_REMEDY}")
    if file.head[32769:32774] == b"CD001":
        raise InvalidError(f"{file.path} is a CD image (ISO), not the disk of an installed system; install a VM")
    if file.size % _SECTOR or not any(file.head[at : at + len(mark)] == mark for at, mark in _DISK_MARKS):
        raise InvalidError(
            f"{file.path} is no disk image: it is not qcow2, and as a raw image ({human_size(file.size)}) it "
            "has neither "
            "a partition table nor a file system that is known"
        )
    return ImageFormat("raw", file.size)


def check_self_contained(head: bytes, name: str) -> None:
    """Refuse a qcow2 image whose header makes QEMU read its content from another file; ``head`` is its beginning."""
    if len(head) < QCOW2_HEADER or not head.startswith(_QCOW2):
        return
    if head[7] == 3 and struct.unpack_from(">Q", head, 72)[0] & _EXTERNAL_DATA_FILE:
        raise InvalidError(f"{name} keeps its content in an external data file; {_REMEDY}, which holds all of it")


def _qcow2_capacity(file: ImageFile) -> int:
    if len(file.head) < QCOW2_HEADER:
        raise InvalidError(f"{file.path} is a truncated qcow2 image; copy it again")
    version, backing_offset = struct.unpack_from(">IQ", file.head, 4)
    cluster_bits, capacity, encryption = struct.unpack_from(">IQI", file.head, 20)
    if version not in (2, 3):
        raise InvalidError(f"{file.path} is a qcow2 image of the unknown version {version}; {_REMEDY}")
    if backing_offset:
        raise InvalidError(f"{file.path} is an overlay: it refers to a backing file; {_REMEDY}, which holds all of it")
    check_self_contained(file.head, file.path)
    if encryption:
        raise InvalidError(f"{file.path} is encrypted; decrypt it first, for nobody could start VMs made from it")
    if not 9 <= cluster_bits <= 21 or capacity == 0:
        raise InvalidError(f"{file.path} is a damaged qcow2 image (its header makes no sense); copy it again")
    l1_size = struct.unpack_from(">I", file.head, 36)[0]
    l1_offset = struct.unpack_from(">Q", file.head, 40)[0]
    if l1_offset + 8 * l1_size > file.size:
        raise InvalidError(f"{file.path} is a truncated qcow2 image: its tables lie behind its end; copy it again")
    return int(capacity)
