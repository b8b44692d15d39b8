"""The manifest of a version: what is stored is what comes back, and what is not whole is not there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError
from ansible_collections.golden.libvirt.plugins.module_utils._core.template import manifest
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.manifest import Image, Manifest
from hypothesis import given
from hypothesis import strategies as st

EXAMPLE = Manifest(
    template="web",
    version=3,
    created="2026-11-20T07:00:00Z",
    source={"kind": "vm", "name": "web-builder"},
    image=Image("web.v3.qcow2", "qcow2", 2147483648, "ab" * 32),
    domain_xml="<domain/>",
    version_name="2026-11",
    description="größer",
    status=manifest.READY,
    labels={"stage": "test"},
)


def stored(**changes: Any) -> bytes:
    """Return the bytes of the example with these fields changed; None takes a field out."""
    fields = {**EXAMPLE.to_dict(), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def test_it_is_utf8_json_padded_with_spaces_to_its_capacity() -> None:
    text = EXAMPLE.to_bytes()
    assert len(text) == manifest.CAPACITY == 65536
    assert text.rstrip(b" ").endswith(b"}")
    assert "größer" in text.decode()
    assert json.loads(text)["format"] == "golden.libvirt/template-version/1"


def test_the_stored_fields_are_those_of_the_contract() -> None:
    assert list(json.loads(EXAMPLE.to_bytes())) == [
        "format", "template", "version", "version_name", "description", "status", "lifecycle", "labels", "created",
        "source", "image", "domain_xml",
    ]  # fmt: skip
    assert list(json.loads(EXAMPLE.to_bytes())["image"]) == ["volume", "format", "capacity", "sha256"]


def test_it_comes_back_as_it_was() -> None:
    assert manifest.parse(EXAMPLE.to_bytes()) == EXAMPLE


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(
    st.builds(
        Manifest,
        template=_TEXT,
        version=st.integers(1, 10**9),
        created=_TEXT,
        source=st.dictionaries(_TEXT, _TEXT, max_size=4),
        image=st.builds(Image, _TEXT, _TEXT, st.integers(0, 2**63), _TEXT),
        domain_xml=_TEXT,
        version_name=_TEXT,
        description=_TEXT,
        status=st.sampled_from(["creating", "ready", "deleted"]),
        lifecycle=st.sampled_from(["active", "candidate", "revoked"]),
        labels=st.dictionaries(_TEXT, _TEXT, max_size=4),
    )
)
def test_any_manifest_comes_back_as_it_was(any_manifest: Manifest) -> None:
    assert manifest.parse(any_manifest.to_bytes()) == any_manifest


@pytest.mark.parametrize("length", [0, 1, 20, 200, len(EXAMPLE.to_bytes().rstrip()) - 1])
@pytest.mark.parametrize("rest", [b"", b"\0"])
def test_one_that_is_half_written_is_not_there_yet(length: int, rest: bytes) -> None:
    text = EXAMPLE.to_bytes()[:length]
    assert manifest.parse(text.ljust(manifest.CAPACITY, rest) if rest else text) is None


def test_one_cut_within_a_character_is_not_there_yet() -> None:
    text = EXAMPLE.to_bytes()
    assert manifest.parse(text[: text.index("ö".encode()) + 1]) is None


def test_only_the_padding_missing_is_no_harm() -> None:
    assert manifest.parse(EXAMPLE.to_bytes().rstrip()) == EXAMPLE


@pytest.mark.parametrize("text", [b"[]", b"{}", b"3", b'"x"', b'{"template": "web"}'])
def test_other_json_is_no_manifest(text: bytes) -> None:
    with pytest.raises(InvalidError, match="it is no manifest of a template version"):
        manifest.parse(text)


def test_a_newer_format_is_not_guessed_at() -> None:
    with pytest.raises(
        InvalidError, match=r"'golden.libvirt/template-version/2' is not .*use the version of this collect"
    ):
        manifest.parse(stored(format="golden.libvirt/template-version/2"))


def test_unknown_fields_are_no_harm() -> None:
    assert manifest.parse(stored(invented="later")) == EXAMPLE


@pytest.mark.parametrize("name", [name for name in EXAMPLE.to_dict() if name != "format"])
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(InvalidError, match=rf"the field '?{name}'? of the manifest is missing"):
        manifest.parse(stored(**{name: None}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("template", 3), ("version", "3"), ("version_name", 3), ("description", []), ("status", 1), ("lifecycle", {}),
        ("labels", []), ("created", 1), ("source", "vm"), ("image", "web.v3.qcow2"), ("domain_xml", {}),
        ("version", 3.0),
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_type_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidError, match=rf"the field {name} of the manifest .* of the wrong type"):
        manifest.parse(stored(**{name: value}))


@pytest.mark.parametrize(
    "image",
    [
        {"volume": 3, "format": "qcow2", "capacity": 1, "sha256": ""},
        {"volume": "x", "format": "qcow2", "capacity": "1", "sha256": ""},
        {"volume": "x", "format": "qcow2", "sha256": ""},
        {"volume": "x", "format": None, "capacity": 1, "sha256": ""},
    ],
)
def test_a_damaged_image_is_not_used(image: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match="of the manifest is missing or of the wrong type"):
        manifest.parse(stored(image=image))


@pytest.mark.parametrize("field", [{"labels": {"stage": 3}}, {"source": {"kind": []}}])
def test_labels_and_source_are_of_strings(field: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match="of the manifest is missing or of the wrong type"):
        manifest.parse(stored(**field))


@pytest.mark.parametrize("field", [{"status": "done"}, {"lifecycle": "retired"}])
def test_an_unknown_status_or_lifecycle_is_not_guessed_at(field: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        manifest.parse(stored(**field))


def test_one_that_does_not_fit_says_what_to_shorten() -> None:
    with pytest.raises(InvalidError, match=r"web version 3 would take \d+ of 65536 bytes; shorten its description"):
        EXAMPLE.revised(description="x" * 70000).to_bytes()


def test_only_a_ready_one_may_be_used() -> None:
    assert [EXAMPLE.revised(status=s).ready for s in ("creating", "ready", "deleted")] == [False, True, False]
