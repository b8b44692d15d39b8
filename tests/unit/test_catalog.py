"""The catalogue: which versions there are, which one is meant, who uses it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import (
    InvalidError,
    NotFoundError,
    RefusedError,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.volume_xml import new_volume
from ansible_collections.golden.libvirt.plugins.module_utils._core.template import manifest
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.catalog import (
    Catalogue,
    Template,
    Usage,
    check_usable,
    look_at_templates,
    read_template,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.manifest import Image, Manifest
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.template_list import list_versions

from support.fake import FakeHypervisor, FakePool
from unit.world import deleting, do, ensuring, publishing, qcow2, record, relabelling, with_template, with_vm


def store(hv: FakeHypervisor, version: int, template: str = "web", pool: str = "default", **fields: Any) -> None:
    """Store a manifest."""
    image = Image(f"{template}.v{version}.qcow2", "qcow2", 1024, "ab" * 32)
    text = Manifest(
        template, version, "2026-11-20T07:00:00Z", {"kind": "vm", "name": "x"}, image, "<domain/>", **fields
    )
    claim(hv, version, template, pool)
    hv.write_volume(pool, f"{template}.v{version}.json", text.to_bytes())


def claim(hv: FakeHypervisor, version: int, template: str = "web", pool: str = "default") -> None:
    """Claim a number, as a publisher does that dies right after it."""
    hv.create_volume(pool, new_volume(f"{template}.v{version}.json", manifest.CAPACITY, "raw"))


def stored(*versions: dict[str, Any]) -> Template:
    """Return a template with these versions, numbered from 1."""
    hv = FakeHypervisor()
    for number, fields in enumerate(versions, 1):
        store(hv, number, **{"status": "ready", **fields})
    return read_template(hv, "default", "web")


@pytest.mark.parametrize(
    ("versions", "latest"),
    [
        ([], None),
        ([{}], 1),
        ([{}, {}, {}], 3),
        ([{}, {"lifecycle": "candidate"}], 1),
        ([{}, {}, {"lifecycle": "revoked"}], 2),
        ([{}, {"status": "creating"}], 1),
        ([{}, {"status": "deleted"}], 1),
        ([{"lifecycle": "candidate"}, {"status": "creating"}], None),
    ],
)
def test_latest_is_the_highest_active_one(versions: list[dict[str, Any]], latest: int | None) -> None:
    found = stored(*versions).latest
    assert (found.version if found else None) == latest


@pytest.mark.parametrize(
    ("versions", "number"), [([], 1), ([{}], 2), ([{}, {"status": "deleted"}], 3), ([{}, {"status": "creating"}], 3)]
)
def test_a_number_is_never_used_again(versions: list[dict[str, Any]], number: int) -> None:
    assert stored(*versions).next_number == number


def test_versions_are_in_the_order_of_their_numbers() -> None:
    hv = FakeHypervisor()
    for number in (10, 9, 2):
        store(hv, number, status="ready")
    template = read_template(hv, "default", "web")
    assert [version.version for version in template.ready] == [2, 9, 10]
    assert template.latest is not None
    assert template.latest.version == 10


@pytest.mark.parametrize(
    ("selector", "version"), [("1", 1), ("2", 2), ("autumn", 1), ("winter", 3), ("latest", 2), ("3", 3)]
)
def test_a_version_is_selected(selector: str, version: int) -> None:
    template = stored(
        {"version_name": "autumn"}, {"version_name": "x"}, {"version_name": "winter", "lifecycle": "candidate"}
    )
    assert template.select(selector).version == version


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("9", r"template 'web' has no version '9'; it has the versions 1 \(autumn\), 2"),
        ("spring", r"template 'web' has no version 'spring'; it has the versions 1 \(autumn\), 2"),
        ("", r"template 'web' has no version ''"),
        ("3", r"version 3 of template 'web' was deleted; it has the versions 1 \(autumn\), 2"),
        ("4", r"version 4 of template 'web' is not complete: it is being published, or its publisher died"),
        ("gone", r"template 'web' has no version 'gone'"),
    ],
)
def test_a_version_that_there_is_not(selector: str, said: str) -> None:
    template = stored(
        {"version_name": "autumn"}, {}, {"status": "deleted", "version_name": "gone"}, {"status": "creating"}
    )
    with pytest.raises(NotFoundError, match=said):
        template.select(selector)


def test_a_template_that_there_is_not() -> None:
    with pytest.raises(NotFoundError, match=r"there is no template 'web' in storage pool 'default'; see template_v"):
        stored().select("latest")


def test_a_template_without_a_latest_version() -> None:
    with pytest.raises(NotFoundError, match=r"template 'web' has no latest version, as none .* publish one, or name"):
        stored({"lifecycle": "candidate"}).select("latest")


@pytest.mark.parametrize("content", [b"", b'{"format": "golden.lib', b"\0" * 100], ids=["empty", "half", "zeros"])
def test_a_claim_is_not_ready_and_keeps_its_number(content: bytes) -> None:
    hv = with_template(1)
    claim(hv, 2)
    hv.write_volume("default", "web.v2.json", content)
    template = read_template(hv, "default", "web")
    assert [(e.version, e.ready, e.deleted) for e in template.entries] == [(1, True, False), (2, False, False)]
    assert template.latest is not None
    assert (template.latest.version, template.next_number) == (1, 3)


def test_templates_of_similar_names_are_apart() -> None:
    hv = FakeHypervisor()
    for name in ("web", "web.v", "web-2", "we"):
        store(hv, 1, name, status="ready")
    assert [t.name for t in look_at_templates(hv, "default")] == ["we", "web", "web-2", "web.v"]
    assert [e.template for e in read_template(hv, "default", "web").entries] == ["web"]


def test_a_manifest_under_another_name_is_not_used() -> None:
    hv = FakeHypervisor()
    store(hv, 1, status="ready")
    claim(hv, 5)
    hv.write_volume("default", "web.v5.json", hv.read_volume("default", "web.v1.json", 65536))
    with pytest.raises(
        InvalidError, match=r"'web\.v5\.json' in storage pool 'default' is that of 'web' version 1; it was"
    ):
        read_template(hv, "default", "web")


def test_a_damaged_manifest_is_named() -> None:
    hv = FakeHypervisor()
    claim(hv, 1)
    hv.write_volume("default", "web.v1.json", b"{}".ljust(65536))
    with pytest.raises(
        InvalidError, match=r"the manifest 'web\.v1\.json' in storage pool 'default' cannot be used: it is no"
    ):
        read_template(hv, "default", "web")


def test_a_manifest_that_goes_while_it_is_read_is_none() -> None:
    hv = with_template(1)
    hv.meanwhile("read_volume", lambda: hv.delete_volume("default", "web.v1.json"))
    assert read_template(hv, "default", "web").latest is None


@pytest.mark.parametrize(
    ("pool", "error", "said"),
    [("nowhere", NotFoundError, "no storage pool 'nowhere'"), ("off", RefusedError, "'off' is inactive")],
)
def test_a_storage_pool_that_cannot_be_read(pool: str, error: type[Exception], said: str) -> None:
    hv = FakeHypervisor(FakePool("off", active=False))
    with pytest.raises(error, match=said):
        read_template(hv, pool, "web")


def test_a_revoked_version_is_not_used() -> None:
    version = stored({"lifecycle": "revoked"}).select("1")
    with pytest.raises(RefusedError, match="version 1 of template 'web' is revoked; choose another version, or set"):
        check_usable(version)


# --- who uses it -----------------------------------------------------------------------------------------------------


def test_a_vm_that_follows_latest_is_outdated_by_a_new_version() -> None:
    hv = with_vm(versions=1, stateless=True, use_latest_template_version=True)
    assert not Catalogue(hv).outdated(record(hv))
    hv.files["/images/new"] = qcow2("new")
    do(hv, publishing(path="/images/new", labels={"lifecycle": "candidate"}))
    assert not Catalogue(hv).outdated(record(hv))
    do(hv, relabelling("2", lifecycle="active"))
    assert Catalogue(hv).outdated(record(hv))
    assert Catalogue(hv).wanted_version(record(hv)) == 2


def test_a_pinned_vm_is_not_outdated() -> None:
    hv = with_vm(on_version="1")
    assert Catalogue(hv).wanted_version(record(hv)) == 1
    assert not Catalogue(hv).outdated(record(hv))


def test_what_a_vm_follows_cannot_be_told_when_its_template_is_away() -> None:
    hv = with_vm(stateless=True, use_latest_template_version=True)
    found = record(hv)
    hv.pools["default"].active = False
    assert Catalogue(hv).wanted_version(found) is None
    assert not Catalogue(hv).outdated(found)


def test_users_are_vms_and_overlays() -> None:
    hv = with_vm()
    version = read_template(hv, "default", "web").select("1")
    assert Usage.read(hv).users(version, "default", "/pools/default/web.v1.qcow2") == ["VM 'web-1'"]
    image = hv.volume("default", "web.v1.qcow2")
    hv.create_volume("default", new_volume("foreign.qcow2", 2 * 1024**3, "qcow2", image))
    assert Usage.read(hv).users(version, "default", "/pools/default/web.v1.qcow2") == [
        "VM 'web-1'",
        "volume 'foreign.qcow2' in storage pool 'default'",
    ]


def test_the_list_of_latest_and_of_all_versions() -> None:
    hv = with_vm(versions=3, on_version="2")
    claim(hv, 4)
    do(hv, deleting("1"))
    latest = list_versions(hv, "default", None, all_versions=False)
    assert [(v["template"], v["version"], v["latest"], v["vms"]) for v in latest] == [("web", 3, True, [])]
    every = list_versions(hv, "default", "web", all_versions=True)
    assert [(v["version"], v["complete"], v["vms"]) for v in every] == [
        (2, True, ["web-1"]),
        (3, True, []),
        (4, False, []),
    ]
    assert {frozenset(v) for v in every[:2]} == {frozenset(every[0])}
    assert every[0]["disks"] == [{"device": "disk", "target": "vda", "bus": "virtio"}]
    assert every[0]["nics"] == [{"network": "default", "model": "virtio"}]
    assert every[0]["allocation"] > 0


def test_a_kept_previous_root_is_a_use() -> None:
    hv = with_vm()
    found = record(hv)
    assert Usage.read(hv).users(read_template(hv, "default", "web").select("2"), "default", "") == []
    do(hv, ensuring("web-2", template="web", template_version="2"))
    assert found.root.version == 1
    assert Usage.read(hv).users(read_template(hv, "default", "web").select("2"), "default", "") == ["VM 'web-2'"]
