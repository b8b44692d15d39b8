"""Publishing, relabelling and deleting versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import (
    ExistsError,
    GoldenError,
    HypervisorError,
    InvalidError,
    NotFoundError,
    RefusedError,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.domain_xml import Network
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.volume_xml import new_volume
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.catalog import read_template
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.source import Hardware

from support.fake import NOW, Died, FakeHypervisor, FakePool
from unit.world import (
    changes,
    deleting,
    do,
    ensuring,
    known_before,
    plan,
    publishing,
    qcow2,
    refused,
    relabelling,
    restoring,
    roots,
    with_template,
    with_vm,
)

DATA = Path(__file__).with_name("data")
RAW = (b"raw system".ljust(510, b"\0") + b"\x55\xaa").ljust(4096, b"\0")


@pytest.fixture
def hv() -> FakeHypervisor:
    """A hypervisor with two versions of the template ``web``, and files for more."""
    made = with_template()
    made.files |= {
        "/images/new": qcow2("new"),
        "/images/raw": RAW,
        "/images/copy-of-2": made.files["/images/web-2.qcow2"],
    }
    return made


def manifest(hv: FakeHypervisor, version: int, template: str = "web") -> dict[str, Any]:
    """Return a manifest as it is stored."""
    found: dict[str, Any] = json.loads(hv.pools["default"].volumes[f"{template}.v{version}.json"].content)
    return found


# --- from a file -----------------------------------------------------------------------------------------------------


def test_the_first_version_is_made_with_create_base_only() -> None:
    hv = FakeHypervisor()
    hv.files["/images/new"] = qcow2("new")
    task = publishing(path="/images/new", create_base=False)
    refused(hv, task, "there is no template 'web' in storage pool 'default'; set 'create_base: true'", NotFoundError)
    assert do(hv, publishing(path="/images/new"))["version"] == 1
    assert hv.names() == ["web.v1.json", "web.v1.qcow2"]


def test_a_published_file(hv: FakeHypervisor) -> None:
    labels = {"version_name": "r3", "description": "third", "labels": {"stage": "test"}, "lifecycle": "candidate"}
    returned = do(hv, publishing(path="/images/new", labels=labels, create_base=False))
    kept = manifest(hv, 3)
    assert {name: returned[name] for name in kept} == kept
    assert (returned["latest"], returned["complete"], returned["storage_pool"]) == (False, True, "default")
    assert kept["format"] == "golden.libvirt/template-version/1"
    assert (kept["version"], kept["status"], kept["created"], kept["lifecycle"]) == (3, "ready", NOW, "candidate")
    assert (kept["version_name"], kept["description"], kept["labels"]) == ("r3", "third", {"stage": "test"})
    assert known_before(kept["source"]) == {"kind": "path", "name": "/images/new"}
    image = hv.pools["default"].volumes["web.v3.qcow2"]
    assert image.content == hv.files["/images/new"]
    assert image.read_only
    assert kept["image"] == {
        "volume": "web.v3.qcow2",
        "format": "qcow2",
        "capacity": 2 * 1024**3,
        "sha256": hv.file_digest("/images/new"),
    }


def test_a_raw_file_becomes_a_qcow2_image(hv: FakeHypervisor) -> None:
    returned = do(hv, publishing(path="/images/raw"))
    image = hv.pools["default"].volumes["web.v3.qcow2"]
    assert (image.format, image.read_only, returned["image"]["capacity"]) == ("qcow2", True, 4096)
    assert image.content.startswith(b"raw system")
    assert "web.v3.upload" not in hv.names()


def test_a_block_pool_holds_raw_images(hv: FakeHypervisor) -> None:
    hv.pools["vg"] = FakePool("vg", type="logical")
    refused(hv, publishing(path="/images/new", storage_pool="vg"), "'vg' holds raw volumes, and /images/new is qcow2")
    assert do(hv, publishing(path="/images/raw", storage_pool="vg"))["image"]["volume"] == "web.v1"
    assert hv.names("vg") == ["web.v1", "web.v1.json"]


@pytest.mark.parametrize("same", ["/images/web-2.qcow2", "/images/copy-of-2"])
def test_the_same_content_is_not_published_again(hv: FakeHypervisor, same: str) -> None:
    assert not changes(hv, publishing(path=same))
    assert plan(hv, publishing(path=same)).after["version"] == 2


def test_the_same_content_with_other_hardware_is_another_version(hv: FakeHypervisor) -> None:
    assert do(hv, publishing(path="/images/copy-of-2", hardware=Hardware(cpus=4)))["version"] == 3


def test_the_content_of_an_older_version_is_a_new_version(hv: FakeHypervisor) -> None:
    assert do(hv, publishing(path="/images/web-1.qcow2"))["version"] == 3


def test_a_version_of_that_name_is_the_answer(hv: FakeHypervisor) -> None:
    task = publishing(path="/images/web-1.qcow2", labels={"version_name": "r1"})
    assert not changes(hv, task)
    assert plan(hv, task).after["version"] == 1


def test_other_content_under_the_same_name_is_refused(hv: FakeHypervisor) -> None:
    task = publishing(path="/images/new", labels={"version_name": "r1"})
    refused(hv, task, "version 1 of template 'web' is named 'r1' already and has other content .* another version_name")


def test_publishing_again_gives_the_labels_that_were_asked_for(hv: FakeHypervisor) -> None:
    task = publishing(path="/images/web-1.qcow2", labels={"version_name": "r1", "description": "first"})
    do(hv, task)
    assert manifest(hv, 1)["description"] == "first"
    assert not changes(hv, task)


@pytest.mark.parametrize(
    ("path", "said"),
    [("/images/none", "cannot read /images/none"), ("/images/text", "/images/text is no disk image")],
)
def test_a_file_that_is_none(hv: FakeHypervisor, path: str, said: str) -> None:
    hv.files["/images/text"] = b"hello"
    refused(hv, publishing(path=path), said, InvalidError)


def test_a_full_storage_pool_says_what_it_lacks(hv: FakeHypervisor) -> None:
    hv.pools["default"].capacity = hv.pools["default"].allocation + 1000
    refused(hv, publishing(path="/images/new"), "'default' has 1000B available, and the image takes up to 192")


@pytest.mark.parametrize("name", ["3", "latest", "0"])
def test_a_version_name_is_no_selector(name: str) -> None:
    with pytest.raises(InvalidError, match="would be taken for a version selector"):
        publishing(path="/images/new", labels={"version_name": name})


# --- from a VM, a volume, a version ----------------------------------------------------------------------------------


def test_a_vm_becomes_a_stand_alone_image_with_its_hardware() -> None:
    hv = with_vm(versions=1, state="present", description="Bob's own")
    returned = do(hv, publishing(vm="web-1"))
    image = hv.pools["default"].volumes["web.v2.qcow2"]
    assert image.backing == ""
    assert image.content == hv.pools["default"].volumes["web.v1.qcow2"].content + b"the guest's own"
    assert known_before(returned["source"]) == {"kind": "vm", "name": "web-1"}
    for secret in ("web-1", "52:54:00", "uuid", "golden", "Bob", "/pools"):
        assert secret not in returned["domain_xml"]


def test_an_unchanged_vm_is_not_published_again() -> None:
    hv = with_vm(versions=1, state="present")
    hv.chain(hv.disk_paths("web-1")[0])[0].content = b""
    do(hv, publishing(vm="web-1"))
    assert plan(hv, publishing(vm="web-1")).after["version"] == 2
    assert not changes(hv, publishing(vm="web-1"))


def test_a_changed_vm_is_published_again() -> None:
    hv = with_vm(versions=1, state="present")
    do(hv, publishing(vm="web-1"))
    hv.chain(hv.disk_paths("web-1")[0])[0].content = b"other"
    assert do(hv, publishing(vm="web-1"))["version"] == 3


def test_a_vm_that_is_not_ours_may_be_a_source() -> None:
    hv = FakeHypervisor(FakePool("default"))
    root = hv.create_volume("default", new_volume("server.qcow2", 1024, "qcow2"))
    xml = (DATA / "server.xml").read_text().replace("type='block'", "type='file'").replace("type='raw'", "type='qcow2'")
    hv.define(xml.replace("dev='/dev/vg0/server'", f"file='{root.path}'"))
    assert do(hv, publishing(vm="server"))["version"] == 1


def test_the_source_vm_needs_hardware_overrides_that_fit(hv: FakeHypervisor) -> None:
    do(hv, ensuring(template="web"))
    networks = (Network("lab"), Network("dmz"))
    wanted = Hardware(cpus=3, memory=4096, networks=networks)
    xml = do(hv, publishing(vm="web-1", hardware=wanted))["domain_xml"]
    assert "<vcpu>3</vcpu>" in xml
    assert ">4096<" in xml
    assert 'network="lab"' in xml
    task = publishing(vm="web-1", hardware=Hardware(firmware="efi"))
    refused(hv, task, "firmware and graphics can be given only for a source that is a path or a volume", InvalidError)


@pytest.mark.parametrize(
    ("change", "said", "kind"),
    [
        (lambda hv: hv.start("web-1"), "VM 'web-1' is running; shut it down first", RefusedError),
        (lambda hv: setattr(hv.vms["web-1"], "managed_save", True), "has a managed save image", RefusedError),
        (lambda hv: hv.undefine("web-1"), "there is no VM 'web-1' to publish", NotFoundError),
        (lambda hv: hv.pools.pop("default"), "no storage pool 'default'", NotFoundError),
    ],
)
def test_a_vm_that_cannot_be_a_source(change: Any, said: str, kind: type[GoldenError]) -> None:
    hv = with_vm(state="present")
    change(hv)
    refused(hv, publishing(vm="web-1"), said, kind)


def test_a_root_that_refers_to_a_file_of_the_host_is_not_read(hv: FakeHypervisor) -> None:
    do(hv, ensuring(template="web"))
    hv.pools["default"].volumes["web-1.root.1.qcow2"].backing = "/etc/shadow"
    refused(hv, publishing(vm="web-1"), "refers to /etc/shadow, which is no volume of an active storage pool")


def test_a_root_outside_of_the_storage_pools_is_not_read(hv: FakeHypervisor) -> None:
    do(hv, ensuring(template="web"))
    hv.define(hv.vms["web-1"].stored.replace("/pools/default/", "/home/me/"))
    refused(
        hv,
        publishing(vm="web-1"),
        "the root disk /home/me/web-1.root.1.qcow2 .* in no active storage pool",
        NotFoundError,
    )


def test_a_volume(hv: FakeHypervisor) -> None:
    do(hv, ensuring(template="web", state="started"))
    task = publishing(volume="web-1.root.1.qcow2", storage_pool="default")
    refused(hv, task, "volume 'web-1.root.1.qcow2' is in use by the running VM 'web-1'; shut it down first")
    do(hv, ensuring(state="stopped"))
    source = known_before(do(hv, task)["source"])
    assert source == {"kind": "volume", "name": "web-1.root.1.qcow2", "storage_pool": "default"}
    refused(hv, publishing(volume="none", storage_pool="default"), "no volume 'none' in storage pool", NotFoundError)


def test_a_volume_of_a_format_that_no_vm_is_run_from(hv: FakeHypervisor) -> None:
    hv.create_volume("default", new_volume("x.vmdk", 1024, "vmdk"))
    refused(hv, publishing(volume="x.vmdk", storage_pool="default"), "volume 'x.vmdk' is in the format 'vmdk'")


def test_a_version_saved_as_another_shares_its_image(hv: FakeHypervisor) -> None:
    returned = do(hv, publishing(version="r1", hardware=Hardware(memory=4096)))
    assert (returned["version"], returned["image"]["volume"]) == (3, "web.v1.qcow2")
    assert "web.v3.qcow2" not in hv.names()
    assert not changes(hv, publishing(version="r1", hardware=Hardware(memory=4096)))
    assert not changes(hv, publishing(version="3"))


def test_the_image_goes_with_the_last_version_that_names_it(hv: FakeHypervisor) -> None:
    do(hv, publishing(version="1", hardware=Hardware(memory=4096)))
    do(hv, deleting("1"))
    assert "web.v1.qcow2" in hv.names()
    do(hv, deleting("3"))
    assert "web.v1.qcow2" not in hv.names()
    assert [manifest(hv, number)["status"] for number in (1, 2, 3)] == ["deleted", "ready", "deleted"]


def test_a_vm_on_a_shared_image_is_a_user_of_its_own_version_only(hv: FakeHypervisor) -> None:
    do(hv, publishing(version="1", hardware=Hardware(memory=4096)))
    do(hv, ensuring(template="web", template_version="3"))
    do(hv, deleting("1"))
    refused(hv, deleting("3"), "version 3 of template 'web' is in use by VM 'web-1'")


def test_a_version_of_a_template_that_there_is_not() -> None:
    refused(
        FakeHypervisor(), publishing(version="1"), "template 'web' has no version '1' to take as source", NotFoundError
    )


# --- many at once ----------------------------------------------------------------------------------------------------


def test_of_two_publishers_each_gets_a_number(hv: FakeHypervisor) -> None:
    hv.files["/images/theirs"] = qcow2("theirs")
    planned = plan(hv, publishing(path="/images/new"))
    hv.meanwhile("create_volume", lambda: publishing(path="/images/theirs")(hv).apply(lambda: 0.0))
    planned.apply(lambda: 0.0)
    assert planned.look is not None
    returned = planned.look()
    assert (returned["version"], returned["image"]["volume"], returned["latest"]) == (4, "web.v4.qcow2", True)
    assert hv.pools["default"].volumes["web.v3.qcow2"].content == hv.files["/images/theirs"]
    assert hv.pools["default"].volumes["web.v4.qcow2"].content == hv.files["/images/new"]


def test_of_two_publishers_of_one_name_the_first_goes_on(hv: FakeHypervisor) -> None:
    labels = {"version_name": "r3"}
    planned = plan(hv, publishing(path="/images/new", labels=labels))
    hv.meanwhile("create_volume", lambda: publishing(path="/images/new", labels=labels)(hv).apply(lambda: 0.0))
    with pytest.raises(ExistsError, match="another task has just published 'r3' as version 3"):
        planned.apply(lambda: 0.0)
    assert [name for name in hv.names() if "v4" in name] == []
    assert not changes(hv, publishing(path="/images/new", labels=labels))


def test_a_dead_publisher_of_a_name_does_not_hold_up_the_next(hv: FakeHypervisor) -> None:
    task = publishing(path="/images/new", labels={"version_name": "r3"})
    planned = plan(hv, task)
    hv.meanwhile("upload", lambda: hv.die_at(0))
    with pytest.raises(Died):
        planned.apply(lambda: 0.0)
    hv.revive()
    assert manifest(hv, 3)["status"] == "creating"
    assert do(hv, task)["version"] == 4
    assert not changes(hv, task)


def test_a_failed_upload_leaves_nothing(hv: FakeHypervisor) -> None:
    before = hv.state()
    planned = plan(hv, publishing(path="/images/new"))
    hv.meanwhile("upload", lambda: hv.fail_at(0, after=True))
    with pytest.raises(HypervisorError) as caught:
        planned.apply(lambda: 0.0)
    assert caught.value.facts["rolled_back"] is True
    assert hv.state() == before


# --- relabelling -----------------------------------------------------------------------------------------------------


def test_what_may_change_is_changed_and_nothing_else(hv: FakeHypervisor) -> None:
    before = manifest(hv, 1)
    wanted: dict[str, Any] = {"version_name": "first", "description": "d", "labels": {"a": "b"}, "lifecycle": "revoked"}
    do(hv, relabelling("1", **wanted))
    assert manifest(hv, 1) == {**before, **wanted}
    assert not changes(hv, relabelling("first", **wanted))


def test_what_is_not_given_stays(hv: FakeHypervisor) -> None:
    do(hv, relabelling("1", description="d"))
    do(hv, relabelling("1", labels={"a": "b"}))
    assert (manifest(hv, 1)["description"], manifest(hv, 1)["version_name"]) == ("d", "r1")


def test_a_revoked_latest_makes_way(hv: FakeHypervisor) -> None:
    assert do(hv, relabelling("2", lifecycle="revoked"))["latest"] is False
    latest = read_template(hv, "default", "web").latest
    assert latest is not None
    assert latest.version == 1


def test_a_name_is_given_once(hv: FakeHypervisor) -> None:
    refused(
        hv, relabelling("1", version_name="r2"), "version 2 of template 'web' is named 'r2' already; rename that one"
    )


def test_an_unknown_lifecycle_names_those_that_there_are(hv: FakeHypervisor) -> None:
    refused(hv, relabelling("1", lifecycle="old"), "'old' is not one of active, candidate, revoked", InvalidError)


# --- deleting --------------------------------------------------------------------------------------------------------


def test_a_deleted_version_leaves_its_number(hv: FakeHypervisor) -> None:
    do(hv, deleting("2"))
    assert hv.names() == ["web.v1.json", "web.v1.qcow2", "web.v2.json"]
    assert manifest(hv, 2)["status"] == "deleted"
    assert not changes(hv, deleting("2"))
    assert do(hv, publishing(path="/images/new"))["version"] == 3


@pytest.mark.parametrize("selector", ["2", "r2", "latest"])
def test_a_version_is_deleted_by_number_name_or_as_latest(hv: FakeHypervisor, selector: str) -> None:
    do(hv, deleting(selector))
    assert manifest(hv, 2)["status"] == "deleted"
    assert manifest(hv, 1)["status"] == "ready"


@pytest.mark.parametrize("selector", ["9", "none"])
def test_a_version_that_there_is_not_is_deleted_already(hv: FakeHypervisor, selector: str) -> None:
    assert not changes(hv, deleting(selector))


def test_a_version_in_use_names_its_users(hv: FakeHypervisor) -> None:
    do(hv, ensuring("web-1", template="web", template_version="1"))
    do(hv, ensuring("web-2", template="web", template_version="1"))
    image = hv.volume("default", "web.v1.qcow2")
    hv.create_volume("default", new_volume("other-host.qcow2", 2 * 1024**3, "qcow2", image))
    with pytest.raises(RefusedError) as caught:
        deleting("1")(hv)
    users = ["VM 'web-1'", "VM 'web-2'", "volume 'other-host.qcow2' in storage pool 'default'"]
    assert caught.value.facts["users"] == users
    assert f"version 1 of template 'web' is in use by {', '.join(users)}; restore those" in caught.value.message
    do(hv, deleting("2"))


def test_a_kept_previous_root_keeps_its_version() -> None:
    hv = with_vm()
    do(hv, restoring(template_version="2", keep_previous=True))
    refused(hv, deleting("1"), "version 1 of template 'web' is in use by VM 'web-1'")
    do(hv, ensuring(state="absent"))
    do(hv, deleting("1"))


def test_a_vm_that_was_made_meanwhile_keeps_the_version(hv: FakeHypervisor) -> None:
    planned = plan(hv, deleting("1"))
    hv.meanwhile("write_volume", lambda: ensuring(template="web", template_version="1")(hv).apply(lambda: 0.0))
    with pytest.raises(RefusedError, match="in use by VM 'web-1'"):
        planned.apply(lambda: 0.0)
    assert manifest(hv, 1)["status"] == "ready"
    assert roots(hv) == ["web-1.root.1.qcow2"]


def test_a_template_goes_with_all_that_is_of_it(hv: FakeHypervisor) -> None:
    do(hv, deleting("1"))
    assert plan(hv, deleting()).before == {"template": "web", "storage_pool": "default", "versions": [1, 2]}
    do(hv, deleting())
    assert hv.names() == []
    assert not changes(hv, deleting())
    assert do(hv, publishing(path="/images/new"))["version"] == 1


def test_a_template_in_use_stays(hv: FakeHypervisor) -> None:
    do(hv, ensuring(template="web", template_version="1"))
    refused(hv, deleting(), "version 1 of template 'web' is in use by VM 'web-1'")


@pytest.mark.parametrize("written", [b"", b'{"format"'])
def test_a_half_done_claim_is_removed(hv: FakeHypervisor, written: bytes) -> None:
    hv.create_volume("default", new_volume("web.v3.json", 65536, "raw"))
    hv.create_volume("default", new_volume("web.v3.qcow2", 65536, "raw"))
    hv.create_volume("default", new_volume("web.v3.upload", 65536, "raw"))
    hv.write_volume("default", "web.v3.json", written)
    do(hv, deleting("3"))
    assert [name for name in hv.names() if "v3" in name] == ["web.v3.json"]
    assert manifest(hv, 3)["status"] == "deleted"
    assert not changes(hv, deleting("3"))
