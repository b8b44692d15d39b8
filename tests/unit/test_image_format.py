"""What a file is, told from its beginning."""

from __future__ import annotations

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import ImageFile
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.image_format import (
    HEAD_SIZE,
    ImageFormat,
    recognise,
)
from hypothesis import given
from hypothesis import strategies as st

from unit.world import GIB, MIB, qcow2


def file(content: bytes, size: int | None = None) -> ImageFile:
    """Return a file that begins with this content."""
    return ImageFile("/images/x", len(content) if size is None else size, len(content), content[:HEAD_SIZE])


def at(offset: int, mark: bytes) -> bytes:
    """Return bytes with a mark at an offset, of whole sectors."""
    return (bytes(offset) + mark).ljust(HEAD_SIZE, b"\0")


@pytest.mark.parametrize("version", [2, 3])
def test_qcow2(version: int) -> None:
    assert recognise(file(qcow2(capacity=20 * GIB, version=version))) == ImageFormat("qcow2", 20 * GIB)


@pytest.mark.parametrize(
    "content",
    [
        at(510, b"\x55\xaa"),
        at(512, b"EFI PART"),
        at(4096, b"EFI PART"),
        at(1080, b"\x53\xef"),
        at(0, b"XFSB"),
        at(65600, b"_BHRfS_M"),
        at(0, b"LUKS\xba\xbe"),
    ],
    ids=["MBR", "GPT", "GPT 4K", "ext4", "xfs", "btrfs", "LUKS"],
)
def test_raw_by_its_partition_table_or_file_system(content: bytes) -> None:
    assert recognise(file(content, 64 * MIB)) == ImageFormat("raw", 64 * MIB)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (qcow2(backing=0x200, backing_size=20), "is an overlay: it refers to a backing file; convert it"),
        (qcow2(incompatible=4), "external data file; convert it"),
        (qcow2(encryption=1), "is encrypted; decrypt it first"),
        (qcow2(encryption=2), "is encrypted; decrypt it first"),
        (qcow2(version=4), "unknown version 4"),
        (qcow2(version=1), "unknown version 1"),
        (qcow2(capacity=0), "damaged qcow2 image"),
        (qcow2(cluster_bits=40), "damaged qcow2 image"),
        (qcow2()[:60], "truncated qcow2 image"),
        (qcow2()[:0x2000], "truncated qcow2 image: its tables lie behind its end"),
        (qcow2(l1_size=2**30), "truncated qcow2 image: its tables lie behind its end"),
    ],
)
def test_a_qcow2_image_that_is_not_whole_or_not_alone(image: bytes, said: str) -> None:
    with pytest.raises(InvalidError, match=rf"/images/x .*{said}"):
        recognise(file(image))


def test_version_2_has_no_flags() -> None:
    assert recognise(file(qcow2(version=2, incompatible=4))).format == "qcow2"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (at(0, b"KDMV"), "vmdk"),
        (at(0, b"# Disk DescriptorFile\n"), "vmdk"),
        (at(0x40, b"\x7f\x10\xda\xbe"), "vdi"),
        (at(0, b"vhdxfile"), "vhdx"),
        (at(0, b"conectix"), "vhd"),
        (at(0, b"QED\0"), "QED"),
        (at(0, b"\x1f\x8b\x08"), "gzip"),
        (at(0, b"\xfd7zXZ\0"), "xz"),
        (at(0, b"\x28\xb5\x2f\xfd"), "zstd"),
        (at(0, b"PK\x03\x04"), "zip"),
    ],
)
def test_other_formats_are_named_with_the_way_to_convert_them(content: bytes, kind: str) -> None:
    with pytest.raises(InvalidError, match=rf"format .*{kind}.*, not qcow2 or raw; convert it with 'qemu-img convert"):
        recognise(file(content))


def test_a_vmdk_with_the_mark_of_a_boot_sector_is_a_vmdk() -> None:
    content = bytearray(at(510, b"\x55\xaa"))
    content[:4] = b"KDMV"
    with pytest.raises(InvalidError, match="vmdk"):
        recognise(file(bytes(content)))


@pytest.mark.parametrize("hybrid", [b"\0\0", b"\x55\xaa"], ids=["plain", "hybrid"])
def test_a_cd_image_is_no_disk(hybrid: bytes) -> None:
    content = bytearray(at(32769, b"CD001"))
    content[510:512] = hybrid
    with pytest.raises(InvalidError, match=r"is a CD image \(ISO\)"):
        recognise(file(bytes(content)))


def test_an_empty_file() -> None:
    with pytest.raises(InvalidError, match="is empty"):
        recognise(file(b""))


@pytest.mark.parametrize(
    "image",
    [file(b"hello"), file(bytes(4096)), file(b"#!/bin/sh\n".ljust(1024)), file(at(510, b"\x55\xaa"), 1000)],
    ids=["text", "zeros", "script", "odd size"],
)
def test_noise_is_no_disk(image: ImageFile) -> None:
    with pytest.raises(InvalidError, match="is no disk image"):
        recognise(image)


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_whatever_a_file_holds_the_answer_is_a_format_or_a_reason(content: bytes, size: int) -> None:
    for beginning in (content, b"QFI\xfb" + content, (b"QFI\xfb\0\0\0\x03" + content).ljust(104, b"\0")):
        try:
            said = recognise(file(beginning, max(size, len(beginning)))).format
        except InvalidError as error:
            said = error.message.split()[0]
        assert said in ("qcow2", "raw", "/images/x")
