"""Volumes and storage pools as libvirt describes them, and as we ask for them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import StoragePool, Volume
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.volume_xml import (
    new_volume,
    parse_storage_pool,
    parse_volume,
)

OVERLAY = """<volume type='file'>
  <name>web-1.root.1.qcow2</name>
  <key>/pool/web-1.root.1.qcow2</key>
  <capacity unit='bytes'>2147483648</capacity>
  <allocation unit='bytes'>200704</allocation>
  <physical unit='bytes'>196768</physical>
  <target>
    <path>/pool/web-1.root.1.qcow2</path>
    <format type='qcow2'/>
    <permissions><mode>0600</mode><owner>0</owner><group>0</group></permissions>
    <compat>1.1</compat>
  </target>
  <backingStore>
    <path>/pool/web.v1.qcow2</path>
    <format type='qcow2'/>
  </backingStore>
</volume>"""
POOL = """<pool type='{type}'><name>default</name><capacity unit='bytes'>1000</capacity>
  <allocation unit='bytes'>300</allocation><available unit='bytes'>700</available>
  <target><path>/pool</path></target></pool>"""
IMAGE = Volume("web.v1.qcow2", "default", "/pool/web.v1.qcow2", "file", "qcow2", 2 * 1024**3, 4096)


def test_an_overlay() -> None:
    assert parse_volume(OVERLAY, "default") == Volume(
        name="web-1.root.1.qcow2",
        storage_pool="default",
        path="/pool/web-1.root.1.qcow2",
        type="file",
        format="qcow2",
        capacity=2147483648,
        allocation=200704,
        backing_path="/pool/web.v1.qcow2",
        backing_format="qcow2",
    )


def test_a_volume_of_a_block_pool_is_raw_and_has_nothing_below() -> None:
    xml = "<volume type='block'><name>lv</name><capacity>8</capacity><target><path>/dev/vg/lv</path></target></volume>"
    assert parse_volume(xml, "vg") == Volume("lv", "vg", "/dev/vg/lv", "block", "raw", 8, 0, "", "raw")


@pytest.mark.parametrize(("unit", "size"), [("bytes", 2), ("B", 2), ("KiB", 2048), ("MiB", 2 << 20), ("GiB", 2 << 30)])
def test_units_of_a_capacity(unit: str, size: int) -> None:
    assert parse_volume(f"<volume><capacity unit='{unit}'>2</capacity></volume>", "p").capacity == size


def test_an_unknown_unit_is_not_guessed_at() -> None:
    with pytest.raises(InvalidError, match="unknown unit 'furlong'"):
        parse_volume("<volume><capacity unit='furlong'>2</capacity></volume>", "p")


@pytest.mark.parametrize(("kind", "files"), [("dir", True), ("netfs", True), ("logical", False), ("rbd", False)])
def test_a_storage_pool(kind: str, files: bool) -> None:
    pool = parse_storage_pool(POOL.format(type=kind), active=True)
    assert pool == StoragePool("default", kind, True, "/pool", 1000, 300, 700)
    assert pool.file_based is files


def test_a_new_overlay_names_the_format_of_what_it_lies_on() -> None:
    xml = ET.fromstring(new_volume("web-1.root.1.qcow2", 3 * 1024**3, "qcow2", IMAGE))
    assert xml.findtext("name") == "web-1.root.1.qcow2"
    assert xml.find("capacity[@unit='bytes']") is not None
    assert xml.findtext("capacity") == str(3 * 1024**3)
    assert xml.findtext("allocation") == "0"
    assert xml.findtext("backingStore/path") == "/pool/web.v1.qcow2"
    assert xml.find("backingStore/format[@type='qcow2']") is not None
    assert xml.findtext("target/compat") == "1.1"
    assert xml.find("target/permissions") is None


def test_a_new_raw_volume_that_nobody_may_write_to() -> None:
    xml = ET.fromstring(new_volume("web.v1", 512, "raw", mode="0444"))
    assert xml.findtext("target/permissions/mode") == "0444"
    assert xml.find("target/format[@type='raw']") is not None
    assert xml.find("target/compat") is None
    assert xml.find("backingStore") is None


def test_a_name_is_never_taken_for_xml() -> None:
    assert ET.fromstring(new_volume("a<b>&'", 1, "raw")).findtext("name") == "a<b>&'"
