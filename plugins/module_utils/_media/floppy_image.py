"""The image of a 1.44 MB floppy: FAT12 with long names."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from .._core.payload.payload_files import (
    FLOPPY_CLUSTER,
    FLOPPY_NAME_PART,
    FLOPPY_ROOT_ENTRIES,
    Folder,
    PayloadFile,
    describe,
    floppy_entries,
    folder_of,
)
from .library import pyfatfs_entry, pyfatfs_fat, pyfatfs_short_name
from .short_names import short_names

_SECTORS, _FAT_SECTORS, _MEDIA = 2880, 9, 0xF0
_DATE = (2000 - 1980) << 9 | 1 << 5 | 1
_DIRECTORY, _FILE, _VOLUME, _LONG_NAME = 0x10, 0x20, 0x08, 0x0F
_LAST_PART = 0x40


def build_floppy(files: Sequence[PayloadFile], volume_id: str) -> bytes:
    """Return the image of a floppy with these files, which ``check_files`` has let pass: same files, same bytes."""
    label = volume_id.upper().encode("ascii").ljust(11)
    boot_sector = _boot_sector(label, _serial(files))
    fats = 2 * (bytes([_MEDIA, 0xFF, 0xFF])).ljust(_FAT_SECTORS * FLOPPY_CLUSTER, b"\0")
    image = BytesIO((boot_sector + fats).ljust(_SECTORS * FLOPPY_CLUSTER, b"\0"))
    fat = pyfatfs_fat.PyFat()
    fat.set_fp(image)
    fat.root_dir.add_subdirectory(_entry(label, _VOLUME))
    _add(fat, fat.root_dir, folder_of(files), 0)
    fat.flush_fat()
    # while it is open the library has a mark in the boot sector, and closing it closes the image
    content = boot_sector + image.getvalue()[FLOPPY_CLUSTER:]
    fat.close()
    return content


def _serial(files: Sequence[PayloadFile]) -> int:
    """Return the number by which a guest notices that another floppy is in the drive."""
    description = "".join(f"{file['name']}\n{file['sha256']}\n" for file in describe(files))
    return int.from_bytes(hashlib.sha256(description.encode("utf-8")).digest()[:4], "little")


def _boot_sector(label: bytes, serial: int) -> bytes:
    """Return the first sector as every 1.44 MB floppy has it; the library writes one that other readers refuse."""
    head = struct.pack(
        "<3s8sHBHBHHBHHHLLBBBL11s8s",
        b"\xeb\x3c\x90", b"MSWIN4.1", FLOPPY_CLUSTER, 1, 1, 2, FLOPPY_ROOT_ENTRIES, _SECTORS, _MEDIA, _FAT_SECTORS,
        18, 2, 0, 0, 0, 0, 0x29, serial, label, b"FAT12   ",
    )  # fmt: skip
    return head.ljust(FLOPPY_CLUSTER - 2, b"\0") + b"\x55\xaa"


def _add(fat: Any, directory: Any, folder: Folder, cluster: int) -> None:
    """Fill a directory, whose first cluster is this, and write it."""
    shorts = {name: _short_name(*parts) for name, parts in short_names(folder).items()}
    for name, content in folder.files.items():
        first = 0
        if content:
            first = fat.allocate_bytes(len(content))[0]
            fat.write_data_to_cluster(content, first)
        directory.add_subdirectory(_entry(shorts[name], _FILE, first, len(content), name))
    for name, inner in folder.folders.items():
        size = sum(floppy_entries(each) for each in (*inner.folders, *inner.files)) + 2
        first = fat.allocate_bytes(size * 32, erase=True)[0]
        entry = _entry(shorts[name], _DIRECTORY, first, name=name)
        directory.add_subdirectory(entry)
        entry.add_subdirectory(_entry(b".".ljust(11), _DIRECTORY, first))
        entry.add_subdirectory(_entry(b"..".ljust(11), _DIRECTORY, cluster))
        _add(fat, entry, inner, first)
    fat.update_directory_entry(directory)


def _short_name(base: str, extension: str) -> bytes:
    return base.encode("ascii").ljust(8) + extension.encode("ascii").ljust(3)


def _entry(short_name: bytes, attributes: int, cluster: int = 0, size: int = 0, name: str | None = None) -> Any:
    short = pyfatfs_short_name.EightDotThree()
    short.set_byte_name(short_name)
    return pyfatfs_entry.FATDirectoryEntry(
        DIR_Name=short,
        DIR_Attr=attributes,
        DIR_NTRes=0,
        DIR_CrtTimeTenth=0,
        DIR_CrtTime=0,
        DIR_CrtDate=_DATE,
        DIR_LstAccessDate=_DATE,
        DIR_FstClusHI=0,
        DIR_WrtTime=0,
        DIR_WrtDate=_DATE,
        DIR_FstClusLO=cluster,
        DIR_FileSize=size,
        lfn_entry=None if name is None else _long_name(name, short.checksum()),
    )


def _long_name(name: str, checksum: int) -> Any:
    """Return the entries of a long name; the library makes them for no more than 127 UTF-16 units."""
    units = name.encode("utf-16-le")
    part_size = 2 * FLOPPY_NAME_PART
    if len(units) % part_size:
        units += b"\0\0"
    units = units.ljust(-(-len(units) // part_size) * part_size, b"\xff")
    long_name = pyfatfs_entry.FATLongDirectoryEntry()
    count = len(units) // part_size
    for number in range(1, count + 1):
        part = units[(number - 1) * part_size : number * part_size]
        long_name.add_lfn_entry(
            LDIR_Ord=number | (_LAST_PART if number == count else 0),
            LDIR_Name1=part[:10],
            LDIR_Attr=_LONG_NAME,
            LDIR_Type=0,
            LDIR_Chksum=checksum,
            LDIR_Name2=part[10:22],
            LDIR_FstClusLO=0,
            LDIR_Name3=part[22:],
        )
    return long_name
