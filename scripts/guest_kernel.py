#!/usr/bin/env python3
"""Makes of a Linux kernel one that is quickly unpacked: without KVM, a small guest spends half of its boot on that.

    scripts/guest_kernel.py VMLINUZ OUTPUT

With LZ4, as no compression at all would be more to read: without KVM, a BIOS on a busy machine waits some milliseconds
for each 32 KiB. A boot loader of a BIOS starts it as it does the original; UEFI does not. A kernel that is compressed
otherwise than Debian's, with xz, is copied as it is. Needs as and ld (binutils), and lz4.
"""

from __future__ import annotations

import lzma
import subprocess
import sys
import tempfile
from pathlib import Path
from struct import iter_unpack, pack_into, unpack_from

BEGINNING = Path(__file__).with_name("guest") / "kernel.S"
XZ = b"\xfd7zXZ\0"
LOADED = 0x100000
"""Where boot loaders put it."""

# where things are in the header: Linux, Documentation/arch/x86/boot.rst
SETUP_SECTORS, SIZE_IN_16, RELOCATABLE, PAYLOAD, ADDRESS = 0x1F1, 0x1F4, 0x234, 0x248, 0x258


def recompressed(image: bytes) -> bytes:
    """Return the kernel that unpacks itself otherwise."""
    header = bytearray(image[: (image[SETUP_SECTORS] + 1) * 512])
    offset, length = unpack_from("<II", image, PAYLOAD)
    payload = image[len(header) + offset :][:length]
    if not payload.startswith(XZ):
        return image
    (address,) = unpack_from("<Q", image, ADDRESS)
    content = beginning(address, memory(lzma.LZMADecompressor().decompress(payload), address))
    content += bytes(-len(content) % 16)
    pack_into("<I", header, SIZE_IN_16, len(content) // 16)
    header[RELOCATABLE] = 0
    return bytes(header) + content


def memory(elf: bytes, address: int) -> bytes:
    """Return what an ELF file has in memory from an address on, where it also begins to run."""
    entry, table = unpack_from("<QQ", elf, 0x18)
    size, count = unpack_from("<HH", elf, 0x36)
    if entry != address:
        raise SystemExit(f"the kernel begins at {entry:#x}, not where it is loaded, {address:#x}")
    segments = elf[table:][: size * count]
    found = bytearray()
    for kind, _flags, offset, _virtual, at, stored, wanted, _align in iter_unpack("<IIQQQQQQ", segments):
        if kind == 1:  # loaded
            found += bytes(at + wanted - address - len(found))
            found[at - address : at - address + stored] = elf[offset : offset + stored]
    return bytes(found) + bytes(-len(found) % 8)


def beginning(address: int, content: bytes) -> bytes:
    """Return a kernel with what unpacks it to its address."""
    stored = content.rstrip(b"\0")
    stored += bytes(-len(stored) % 8)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.bin").write_bytes(stored)
        subprocess.run(["lz4", "-q", "-l", "-9", "kernel.bin", "kernel.lz4"], cwd=folder, check=True)
        given = [f"--defsym=KERNEL={address}", f"--defsym=SIZE={len(content)}", "-I", folder]
        subprocess.run(["as", "--64", *given, "-o", "whole.o", BEGINNING.resolve()], cwd=folder, check=True)
        linked = ["--oformat=binary", f"-Ttext={LOADED:#x}", f"--entry={LOADED:#x}"]
        subprocess.run(["ld", *linked, "-o", "whole", "whole.o"], cwd=folder, check=True)
        whole = (Path(folder) / "whole").read_bytes()
    if LOADED + len(whole) > address:
        raise SystemExit(f"the kernel, {len(whole)} bytes, does not fit between {LOADED:#x} and {address:#x}")
    return whole


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    Path(sys.argv[2]).write_bytes(recompressed(Path(sys.argv[1]).read_bytes()))
