"""The names of templates, their volumes, and VMs."""

from __future__ import annotations

import re

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core import names
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("name", ["web", "W", "9", "a.b-c_d", "web.v2x", "v3", "web.v", "x" * 64])
def test_a_template_may_be_called(name: str) -> None:
    assert names.check_template_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".web", "-web", "_web", "a/b", "../x", "a b", "wéb", "x" * 65, "web\n", "web;rm", "a:b"]
)
def test_a_template_may_not_be_called(name: str) -> None:
    with pytest.raises(InvalidError, match=re.escape(f"template {name!r} is no valid name; use 1 to 64 letters")):
        names.check_template_name(name)


@pytest.mark.parametrize("name", ["web.v1", "web.v007", "a.b.v12"])
def test_a_template_is_no_version_of_a_template(name: str) -> None:
    with pytest.raises(InvalidError, match=r"looks like a version of a template; .*without '\.v<number>'"):
        names.check_template_name(name)


@pytest.mark.parametrize("name", ["web-1", "1", "a.b+c_d-e", "x" * 128])
def test_a_vm_may_be_called(name: str) -> None:
    assert names.check_vm_name(name) == name


@pytest.mark.parametrize("name", ["", "-1", "a/b", "a b", "wéb", "x" * 129, "web\n", "../x"])
def test_a_vm_may_not_be_called(name: str) -> None:
    with pytest.raises(InvalidError, match="is not valid; use 1 to 128 letters"):
        names.check_vm_name(name)


def test_the_volumes_of_a_version() -> None:
    assert names.manifest_volume("web", 3) == "web.v3.json"
    assert names.image_volume("web", 3, file_based=True) == "web.v3.qcow2"
    assert names.image_volume("web", 3, file_based=False) == "web.v3"


@pytest.mark.parametrize(
    ("volume", "found"),
    [
        ("web.v3.json", ("web", 3)),
        ("a.b-c.v12.json", ("a.b-c", 12)),
        ("web.v3.qcow2", None),
        ("web.v0.json", None),
        ("web.v03.json", None),
        ("web.json", None),
        (".v3.json", None),
        ("-web.v3.json", None),
        ("web.v3.json.bak", None),
        ("web.v-3.json", None),
    ],
)
def test_a_manifest_is_recognised_by_its_name(volume: str, found: tuple[str, int] | None) -> None:
    assert names.parse_manifest_volume(volume) == found


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True), st.integers(1, 10**6))
def test_each_manifest_leads_back_to_its_version(template: str, version: int) -> None:
    assert names.parse_manifest_volume(names.manifest_volume(template, version)) == (template, version)


@pytest.mark.parametrize(
    ("vm", "volume", "generation"),
    [
        ("web-1", "web-1.root.4.qcow2", 4),
        ("web-1", "web-10.root.4.qcow2", None),
        ("web-1", "web-1.root.0.qcow2", None),
        ("web-1", "web-1.root.04.qcow2", None),
        ("web-1", "web-1.root.4", None),
        ("web-1", "web-1.data.qcow2", None),
        ("a.b", "aXb.root.1.qcow2", None),
        ("a", "a.root.1.qcow2.root.2.qcow2", None),
    ],
)
def test_a_root_is_recognised_by_its_name(vm: str, volume: str, generation: int | None) -> None:
    assert names.root_generation(vm, volume) == generation


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,30}", fullmatch=True), st.integers(1, 10**6))
def test_each_root_leads_back_to_its_generation(vm: str, generation: int) -> None:
    assert names.root_generation(vm, names.root_volume(vm, generation)) == generation
