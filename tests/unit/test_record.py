"""What is kept in the metadata of a domain."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm import record
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import (
    Lease,
    Payload,
    Pending,
    PoolSettings,
    Record,
    Root,
)
from hypothesis import given
from hypothesis import strategies as st

ROOT = Root("web-1.root.4.qcow2", "vms", "web", "default", 3)
LEAST = Record(root=ROOT, generation=4, follows="latest")
UUID = "11111111-2222-3333-4444-555555555555"
FULL = Record(
    vm=UUID,
    root=ROOT,
    generation=4,
    follows="3",
    stateless=True,
    previous=Root("web-1.root.3.qcow2", "vms", "web", "default", 2),
    pending=Pending("settle", True, (Root("web-1.root.2.qcow2", "vms", "web", "default", 1), ROOT)),
    rolled_back=True,
    vm_pool=PoolSettings("web", 10, 2, 3, False),
    lease=Lease('anna "a" <b>', "2026-11-20T07:00:00Z"),
    payload=Payload("web-1.payload.iso", "vms", "cdrom", "permanent", "ab" * 32),
    failed_starts=2,
    detached_disk="<disk><target dev='vda'/></disk>",
    stand_in="sda",
)
NS = "xmlns:golden='https://golden.libvirt/vm/1'"
WHOLE = (
    "<golden:vm follows='3' stateless='no' generation='4' rolled_back='no'><golden:root volume='r' storage_pool='p' "
    "template='web' template_storage_pool='p' version='3'/></golden:vm>"
)


def metadata(content: str, namespace: str = NS) -> ET.Element:
    """Return a metadata element with this in it."""
    return ET.fromstring(f"<metadata {namespace}>{content}</metadata>")


def there_and_back(kept: Record) -> Record | None:
    """Return a record as it is read from what is written."""
    element = ET.Element("metadata")
    element.append(ET.fromstring(ET.tostring(record.to_element(kept))))
    return record.from_metadata(element, "web-1", UUID)


@pytest.mark.parametrize("kept", [LEAST, FULL], ids=["least", "full"])
def test_it_comes_back_as_it_was(kept: Record) -> None:
    assert there_and_back(kept) == kept


def test_a_copy_that_another_tool_made_is_not_ours() -> None:
    element = ET.Element("metadata")
    element.append(record.to_element(FULL))
    assert record.from_metadata(element, "copy", UUID.replace("1", "9")) is None


_TEXT = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cn", "Co"]), max_size=20)
_ROOT = st.builds(Root, _TEXT, _TEXT, _TEXT, _TEXT, st.integers(1, 10**6))


@given(
    st.builds(
        Record,
        root=_ROOT,
        generation=st.integers(1, 10**6),
        follows=st.one_of(st.just("latest"), st.integers(1, 99).map(str)),
        stateless=st.booleans(),
        previous=st.none() | _ROOT,
        pending=st.none()
        | st.builds(
            Pending,
            st.sampled_from(["create", "switch", "settle", "remove"]),
            st.booleans(),
            st.lists(_ROOT, max_size=3).map(tuple),
        ),
        rolled_back=st.booleans(),
        vm_pool=st.none() | st.builds(PoolSettings, _TEXT, *[st.integers(0, 99)] * 3, st.booleans()),
        lease=st.none() | st.builds(Lease, _TEXT, _TEXT),
        payload=st.none() | st.builds(Payload, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT),
        failed_starts=st.integers(0, 99),
    )
)
def test_any_record_comes_back_as_it_was(kept: Record) -> None:
    assert there_and_back(kept) == kept


def test_the_text_for_libvirt_has_no_namespace_of_its_own() -> None:
    text = record.to_text(FULL)
    assert "golden" not in text
    assert ET.fromstring(text).tag == "vm"
    with_namespace = text.replace("<", "<golden:").replace("<golden:/", "</golden:")
    assert record.from_metadata(metadata(with_namespace), "web-1", UUID) == FULL


def test_the_element_is_that_of_the_contract() -> None:
    text = ET.tostring(record.to_element(LEAST), encoding="unicode")
    assert text.startswith('<golden:vm xmlns:golden="https://golden.libvirt/vm/1" ')


@pytest.mark.parametrize(
    "element",
    [None, metadata(""), ET.fromstring("<metadata xmlns:o='http://other'><o:vm/></metadata>"), metadata("<vm/>")],
    ids=["no metadata", "empty", "of another", "no namespace"],
)
def test_a_vm_of_others_has_none(element: ET.Element | None) -> None:
    assert record.from_metadata(element, "web-1", UUID) is None


def test_it_is_found_beside_the_metadata_of_others() -> None:
    found = record.from_metadata(metadata(f"<o:x xmlns:o='http://other'/>{WHOLE}"), "web-1", UUID)
    assert found == Record(root=Root("r", "p", "web", "p", 3), generation=4, follows="3")


def test_one_of_another_version_of_the_collection_is_not_guessed_at() -> None:
    with pytest.raises(InvalidError, match="VM 'web-1' was made by another version of this collection"):
        record.from_metadata(metadata(WHOLE, NS.replace("vm/1", "vm/2")), "web-1", UUID)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("follows='3'", ""),
        ("generation='4'", ""),
        ("generation='4'", "generation='four'"),
        ("stateless='no'", "stateless='maybe'"),
        ("rolled_back='no'", ""),
        ("version='3'", "version='three'"),
        ("version='3'", ""),
        ("volume='r'", ""),
        ("volume='r'", "volume='r' more='x'"),
        ("golden:root ", "golden:toor "),
        ("<golden:root", "<golden:pending job='settle'/><golden:root"),
        ("<golden:root", "<golden:pending was_running='no'/><golden:root"),
        ("<golden:root", "<golden:pending job='settle' was_running='no'><golden:doomed/></golden:pending><golden:root"),
        ("<golden:root", "<golden:lease user='anna'/><golden:root"),
        ("<golden:root", "<golden:payload volume='x'/><golden:root"),
        ("<golden:root", "<golden:previous volume='x'/><golden:root"),
        ("<golden:root", "<golden:vm_pool name='x' count='many'/><golden:root"),
        ("follows='3'", "follows='newest'"),
        ("<golden:root", "<golden:pending job='dance' was_running='no'/><golden:root"),
    ],
)
def test_a_damaged_one_says_how_to_look_at_it(old: str, new: str) -> None:
    with pytest.raises(InvalidError, match=r"metadata of VM 'web-1' is damaged \(.*'virsh dumpxml web-1'"):
        record.from_metadata(metadata(WHOLE.replace(old, new)), "web-1", UUID)


def test_following_latest() -> None:
    assert LEAST.follows_latest
    assert not FULL.follows_latest


def test_the_identity_of_a_version() -> None:
    assert ROOT.template_version == ("default", "web", 3)
