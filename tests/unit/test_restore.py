"""Restoring a VM and rolling it back."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import (
    ExistsError,
    GoldenError,
    HypervisorError,
    InvalidError,
    NotFoundError,
    RefusedError,
    TimedOutError,
    UnhealthyError,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import Health, Shutdown
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.domain_edit import with_record
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.domain_xml import canonical
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.catalog import read_template
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import Lease, Pending

from support.fake import FakeHypervisor
from unit.world import (
    GIB,
    MIB,
    changes,
    deleting,
    do,
    ensuring,
    plan,
    publishing,
    qcow2,
    record,
    refused,
    relabelling,
    restoring,
    rolling_back,
    root_chain,
    roots,
    set_record,
    settling,
    with_vm,
    write_on_root,
)

AGENT = Health("agent")


@pytest.fixture
def hv() -> FakeHypervisor:
    """A hypervisor with the running VM ``web-1`` on version 1 of two."""
    return with_vm()


def failed(hv: FakeHypervisor, task: Any, kind: type[GoldenError]) -> GoldenError:
    """Carry out a task that fails, and return the error."""
    planned = plan(hv, task)
    with pytest.raises(kind) as caught:
        planned.apply(lambda: 0.0)
    return caught.value


# --- what changes and what stays -------------------------------------------------------------------------------------


def test_the_root_is_a_fresh_one_of_the_version(hv: FakeHypervisor) -> None:
    returned = do(hv, restoring(template_version="2", health=AGENT))
    assert root_chain(hv) == ["web-1.root.2.qcow2", "web.v2.qcow2"]
    assert hv.chain(hv.disk_paths("web-1")[0])[0].content == b""
    assert roots(hv) == ["web-1.root.2.qcow2"]
    assert (returned["template_version"], returned["state"], returned["previous"]) == (2, "running", None)
    assert hv.disk_paths("web-1", live=True) == hv.disk_paths("web-1")


def test_all_else_stays(hv: FakeHypervisor) -> None:
    do(hv, ensuring(description="of Bob", autostart=True))
    before = hv.vms["web-1"]
    kept = record(hv)
    xml, uuid = before.stored, before.uuid
    do(hv, restoring(template_version="2"))
    after = hv.vms["web-1"]
    assert (after.uuid, after.autostart) == (uuid, True)
    back = with_record(after.stored.replace("web-1.root.2.qcow2", "web-1.root.1.qcow2"), kept)
    assert canonical(back) == canonical(xml)


def test_the_metadata_of_others_stay(hv: FakeHypervisor) -> None:
    xml = ET.fromstring(hv.vms["web-1"].stored)
    metadata = xml.find("metadata")
    assert metadata is not None
    ET.SubElement(metadata, "{http://other}note").text = "keep me"
    hv.define(ET.tostring(xml, encoding="unicode"))
    do(hv, restoring(template_version="2"))
    assert "keep me" in hv.vms["web-1"].stored


def test_again_is_no_change(hv: FakeHypervisor) -> None:
    do(hv, restoring(template_version="2"))
    assert not changes(hv, restoring(template_version="2"))
    assert not changes(hv, restoring())


def test_the_new_root_is_made_while_the_vm_still_runs(hv: FakeHypervisor) -> None:
    seen: list[Any] = []
    planned = plan(hv, restoring(template_version="2"))
    hv.meanwhile("stop", lambda: seen.append((hv.vms["web-1"].state, roots(hv))))
    hv.meanwhile("delete_volume", lambda: seen.append((hv.vms["web-1"].state, record(hv).root.volume)))
    planned.apply(lambda: 0.0)
    assert seen == [
        ("running", ["web-1.root.1.qcow2", "web-1.root.2.qcow2"]),
        ("running", "web-1.root.2.qcow2"),
    ]


def test_the_switch_is_one_define_that_notes_the_way_back(hv: FakeHypervisor) -> None:
    planned = plan(hv, restoring(template_version="2"))
    seen = []
    hv.meanwhile("start", lambda: seen.append((record(hv), hv.disk_paths("web-1"))))
    planned.apply(lambda: 0.0)
    noted, paths = seen[0]
    assert paths == ["/pools/default/web-1.root.2.qcow2"]
    assert (noted.root.volume, noted.root.version) == ("web-1.root.2.qcow2", 2)
    assert noted.previous is not None
    assert (noted.previous.volume, noted.previous.version) == ("web-1.root.1.qcow2", 1)
    assert noted.pending == Pending("settle", True, (noted.previous,))
    assert record(hv).pending is None


def test_phases_and_downtime(hv: FakeHypervisor) -> None:
    ticks = iter(range(100))
    planned = plan(hv, restoring(template_version="2", health=AGENT))
    phases = planned.apply(lambda: float(next(ticks)))
    assert phases == {"prepare": 1.0, "stop": 1.0, "switch": 1.0, "boot": 1.0, "verify": 1.0, "settle": 1.0}
    facts = planned.facts(phases)
    assert facts["downtime"] == 4.0
    assert facts["previous"] == {"volume": "web-1.root.1.qcow2", "storage_pool": "default", "template_version": 1}


# --- which version ---------------------------------------------------------------------------------------------------


def test_a_pinned_vm_stays_on_its_version(hv: FakeHypervisor) -> None:
    assert not changes(hv, restoring())
    do(hv, restoring(force=True))
    assert (record(hv).root.version, record(hv).follows) == (1, "1")


def test_a_vm_that_was_moved_stays_where_it_was_put(hv: FakeHypervisor) -> None:
    do(hv, restoring(template_version="latest"))
    assert (record(hv).root.version, record(hv).follows) == (2, "2")
    do(hv, restoring(template_version="r1"))
    assert (record(hv).root.version, record(hv).follows) == (1, "1")


def test_a_vm_that_follows_latest_goes_there_and_goes_on_following() -> None:
    hv = with_vm(versions=1, stateless=True, use_latest_template_version=True)
    hv.files["/images/new"] = qcow2("new")
    do(hv, publishing(path="/images/new"))
    do(hv, restoring())
    assert (record(hv).root.version, record(hv).follows) == (2, "latest")
    do(hv, restoring(template_version="1"))
    assert (record(hv).root.version, record(hv).follows) == (1, "latest")


def test_another_template(hv: FakeHypervisor) -> None:
    hv.files["/images/db"] = qcow2("db")
    do(hv, publishing("db", path="/images/db"))
    returned = do(hv, restoring(template="db"))
    assert (returned["template"], returned["template_version"]) == ("db", 1)
    refused(hv, restoring(template="none"), "there is no template 'none' in any active storage pool", NotFoundError)


@pytest.mark.parametrize(
    ("change", "wanted", "said", "kind"),
    [
        (relabelling("2", lifecycle="revoked"), {"template_version": "2"}, "version 2 .* is revoked", RefusedError),
        (deleting("2"), {"template_version": "2"}, "version 2 of template 'web' was deleted", NotFoundError),
        (None, {"template_version": "7"}, "template 'web' has no version '7'", NotFoundError),
        (None, {"template_version": "2", "root_size": GIB}, "root_size: 1GiB is less than the 2GiB of", InvalidError),
    ],
)
def test_a_version_that_cannot_be_used(hv: FakeHypervisor, change: Any, wanted: Any, said: str, kind: Any) -> None:
    if change is not None:
        do(hv, change)
    refused(hv, restoring(**wanted), said, kind)


@pytest.mark.parametrize(
    ("present", "wanted", "size"),
    [(2 * GIB, None, 2 * GIB), (10 * GIB, None, 10 * GIB), (10 * GIB, 4 * GIB, 4 * GIB), (2 * GIB, 20 * GIB, 20 * GIB)],
)
def test_the_size_of_the_root(hv: FakeHypervisor, present: int, wanted: int | None, size: int) -> None:
    hv.resize_volume("default", "web-1.root.1.qcow2", present)
    do(hv, restoring(template_version="2", root_size=wanted))
    assert hv.chain(hv.disk_paths("web-1")[0])[0].capacity == size


def test_a_root_that_was_smaller_than_the_new_version_grows(hv: FakeHypervisor) -> None:
    hv.files["/images/big"] = qcow2("big", capacity=8 * GIB)
    do(hv, publishing(path="/images/big"))
    do(hv, restoring(template_version="3"))
    assert hv.chain(hv.disk_paths("web-1")[0])[0].capacity == 8 * GIB


# --- refusals --------------------------------------------------------------------------------------------------------


def _full(hv: FakeHypervisor) -> None:
    hv.pools["default"].capacity = hv.pools["default"].allocation + 10 * MIB


@pytest.mark.parametrize(
    ("change", "said", "kind"),
    [
        (lambda hv: hv.vms["web-1"].snapshots.extend("ab"), r"snapshots or checkpoints \(a, b\).*delete", RefusedError),
        (lambda hv: setattr(hv.vms["web-1"], "managed_save", True), "managed save image.*'force: true'", RefusedError),
        (lambda hv: set_record(hv, lease=Lease("anna", "today")), "is taken by 'anna' since today", RefusedError),
        (lambda hv: hv.undefine("web-1"), "VM 'web-1' is transient", RefusedError),
        (lambda hv: set_record(hv, pending=Pending("create", False)), "is not complete.*run that task", RefusedError),
        (_full, "10MiB available of the 64MiB that a new root of VM 'web-1' needs", RefusedError),
        (lambda hv: hv.define(hv.vms["web-1"].stored.replace("/pools/default/web-1.root.1.qcow2", "/other")),
         "the root 'web-1.root.1.qcow2' of VM 'web-1' is detached; attach it at device id 0", RefusedError),
        (lambda hv: hv.vms.pop("web-1"), "there is no VM 'web-1'; make it with the module vm", NotFoundError),
    ],
)  # fmt: skip
def test_a_vm_that_cannot_be_restored_keeps_running(hv: FakeHypervisor, change: Any, said: str, kind: Any) -> None:
    change(hv)
    refused(hv, restoring(template_version="2"), said, kind)


def test_a_vm_of_others_is_not_restored(hv: FakeHypervisor) -> None:
    hv.define("<domain type='qemu'><name>db</name><memory>1024</memory><devices/></domain>")
    refused(hv, restoring("db"), "VM 'db' was not made from a template by this collection")


@pytest.mark.parametrize(("stateless", "force"), [(True, False), (False, True)])
def test_a_saved_memory_is_dropped_with_force_or_from_a_stateless_vm(stateless: bool, force: bool) -> None:
    hv = with_vm(state="present", stateless=stateless)
    hv.vms["web-1"].managed_save = True
    do(hv, restoring(template_version="2", force=force))
    assert not hv.vms["web-1"].managed_save
    assert record(hv).root.version == 2


def test_a_guest_that_does_not_shut_down(hv: FakeHypervisor) -> None:
    hv.stubborn.add("web-1")
    before = hv.state()
    error = failed(hv, restoring(template_version="2", shutdown=Shutdown("graceful", 5)), TimedOutError)
    assert "did not shut down within 5 seconds" in error.message
    assert error.facts["rolled_back"] is True
    assert hv.state() == before
    do(hv, restoring(template_version="2", shutdown=Shutdown("graceful_then_force", 5)))


# --- up or not -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "start", "after"),
    [
        ("started", "as_before", "running"), ("started", "yes", "running"), ("started", "no", "shut off"),
        ("present", "as_before", "shut off"), ("present", "yes", "running"), ("present", "no", "shut off"),
    ],
)  # fmt: skip
def test_whether_it_runs_afterwards(state: str, start: str, after: str) -> None:
    hv = with_vm(state=state)
    assert do(hv, restoring(template_version="2", start=start))["state"] == after


def test_a_paused_vm_is_restored_and_runs() -> None:
    hv = with_vm()
    hv.vms["web-1"].paused = True
    assert do(hv, restoring(template_version="2"))["state"] == "running"


@pytest.mark.parametrize("broken", ["unhealthy", "unstartable"])
def test_a_vm_that_does_not_come_up_is_put_back(hv: FakeHypervisor, broken: str) -> None:
    getattr(hv, broken).add("web.v2.qcow2")
    before = hv.state()
    kind: type[GoldenError] = UnhealthyError if broken == "unhealthy" else HypervisorError
    error = failed(hv, restoring(template_version="2", health=AGENT), kind)
    assert error.facts["rolled_back"] is True
    assert error.facts["previous"]["template_version"] == 1
    assert hv.state() == before


def test_a_vm_that_does_not_come_up_is_kept_to_be_looked_at(hv: FakeHypervisor) -> None:
    hv.unhealthy.add("web.v2.qcow2")
    task = restoring(template_version="2", health=AGENT, on_failure="keep")
    error = failed(hv, task, UnhealthyError)
    assert error.facts["rolled_back"] is False
    assert (hv.vms["web-1"].state, root_chain(hv)) == ("running", ["web-1.root.2.qcow2", "web.v2.qcow2"])
    assert roots(hv) == ["web-1.root.1.qcow2", "web-1.root.2.qcow2"]
    hv.unhealthy.clear()
    do(hv, task)
    assert roots(hv) == ["web-1.root.2.qcow2"]
    assert record(hv).pending is None


def test_a_kept_one_can_be_put_back(hv: FakeHypervisor) -> None:
    hv.unhealthy.add("web.v2.qcow2")
    failed(hv, restoring(template_version="2", health=AGENT, on_failure="keep"), UnhealthyError)
    do(hv, rolling_back(health=AGENT))
    assert root_chain(hv) == ["web-1.root.1.qcow2", "web.v1.qcow2"]
    assert roots(hv) == ["web-1.root.1.qcow2"]
    assert hv.chain(hv.disk_paths("web-1")[0])[0].content == b"the guest's own"


def test_a_kept_one_can_be_restored_to_a_better_version(hv: FakeHypervisor) -> None:
    hv.unhealthy.add("web.v2.qcow2")
    failed(hv, restoring(template_version="2", health=AGENT, on_failure="keep"), UnhealthyError)
    hv.files["/images/fixed"] = qcow2("fixed")
    do(hv, publishing(path="/images/fixed"))
    do(hv, restoring(template_version="3", health=AGENT))
    assert (root_chain(hv)[1], roots(hv)) == ("web.v3.qcow2", ["web-1.root.3.qcow2"])


def test_no_health_check_of_a_vm_that_is_not_started() -> None:
    hv = with_vm(state="present")
    hv.unhealthy.add("web.v2.qcow2")
    do(hv, restoring(template_version="2", health=AGENT))


# --- the previous root -----------------------------------------------------------------------------------------------


def test_the_previous_root_is_kept_and_can_come_back(hv: FakeHypervisor) -> None:
    returned = do(hv, restoring(template_version="2", keep_previous=True))
    assert returned["previous"] == {"volume": "web-1.root.1.qcow2", "storage_pool": "default", "template_version": 1}
    assert roots(hv) == ["web-1.root.1.qcow2", "web-1.root.2.qcow2"]
    write_on_root(hv)
    returned = do(hv, rolling_back())
    assert (returned["template_version"], returned["previous"]) == (1, None)
    assert roots(hv) == ["web-1.root.1.qcow2"]
    assert hv.chain(hv.disk_paths("web-1")[0])[0].content == b"the guest's own"
    assert not changes(hv, rolling_back())


def test_only_one_previous_root_is_kept(hv: FakeHypervisor) -> None:
    do(hv, restoring(template_version="2", keep_previous=True))
    do(hv, restoring(template_version="1", keep_previous=True))
    assert roots(hv) == ["web-1.root.2.qcow2", "web-1.root.3.qcow2"]
    do(hv, restoring(template_version="2"))
    assert roots(hv) == ["web-1.root.4.qcow2"]


def test_a_rollback_that_keeps_the_other_root_is_done_once(hv: FakeHypervisor) -> None:
    do(hv, restoring(template_version="2", keep_previous=True))
    do(hv, rolling_back(keep_previous=True))
    assert (record(hv).root.version, roots(hv)) == (1, ["web-1.root.1.qcow2", "web-1.root.2.qcow2"])
    assert not changes(hv, rolling_back(keep_previous=True))


def test_a_rollback_without_a_previous_root(hv: FakeHypervisor) -> None:
    refused(hv, rolling_back(), r"has no previous root to go back to.*\(keep_previous: true\); restore it to an older")
    do(hv, restoring(template_version="2", keep_previous=True))
    hv.delete_volume("default", "web-1.root.1.qcow2")
    refused(hv, rolling_back(), "the previous root 'web-1.root.1.qcow2' .* is not in storage pool", NotFoundError)


def test_a_rollback_that_does_not_come_up_is_put_back(hv: FakeHypervisor) -> None:
    do(hv, restoring(template_version="2", keep_previous=True))
    hv.unhealthy.add("web.v1.qcow2")
    before = hv.state()
    assert failed(hv, rolling_back(health=AGENT), UnhealthyError).facts["rolled_back"] is True
    assert hv.state() == before


def test_a_vm_that_was_rolled_back_says_so_until_it_is_restored(hv: FakeHypervisor) -> None:
    do(hv, restoring(template_version="2", keep_previous=True))
    assert not record(hv).rolled_back
    do(hv, rolling_back())
    assert record(hv).rolled_back
    do(hv, restoring(template_version="2"))
    assert not record(hv).rolled_back


def test_settling_deletes_the_kept_root(hv: FakeHypervisor) -> None:
    do(hv, restoring(template_version="2", keep_previous=True))
    write_on_root(hv)
    returned = do(hv, settling())
    assert (returned["template_version"], returned["state"], returned["previous"]) == (2, "running", None)
    assert roots(hv) == ["web-1.root.2.qcow2"]
    assert hv.chain(hv.disk_paths("web-1")[0])[0].content == b"the guest's own"
    assert not changes(hv, settling())
    refused(hv, rolling_back(), "has no previous root to go back to")
    do(hv, deleting("1"))


def test_settling_tells_what_it_frees(hv: FakeHypervisor) -> None:
    do(hv, restoring(template_version="2", keep_previous=True))
    root = {"volume": "web-1.root.1.qcow2", "storage_pool": "default", "template_version": 1}
    told = plan(hv, settling()).facts({})
    assert told == {"previous": root, "freed": len(b"the guest's own"), "downtime": 0.0, "phases": {}}
    do(hv, settling())
    assert plan(hv, settling()).facts({}) == {"previous": None, "freed": 0, "downtime": 0.0, "phases": {}}


def test_settling_after_going_back_and_of_a_root_that_is_gone(hv: FakeHypervisor) -> None:
    do(hv, restoring(template_version="2", keep_previous=True))
    do(hv, rolling_back(keep_previous=True))
    do(hv, settling())
    assert (record(hv).root.version, roots(hv)) == (1, ["web-1.root.1.qcow2"])
    assert not changes(hv, rolling_back())
    do(hv, restoring(template_version="2", keep_previous=True))
    hv.delete_volume("default", "web-1.root.1.qcow2")
    assert do(hv, settling())["previous"] is None


def test_a_taken_vm_is_settled_and_stays_taken(hv: FakeHypervisor) -> None:
    do(hv, restoring(template_version="2", keep_previous=True))
    set_record(hv, lease=Lease("anna", "today"))
    do(hv, settling())
    assert record(hv).lease == Lease("anna", "today")
    assert roots(hv) == ["web-1.root.2.qcow2"]


def test_what_is_not_settled(hv: FakeHypervisor) -> None:
    refused(hv, settling("none"), "there is no VM 'none'", NotFoundError)
    do(hv, restoring(template_version="2", keep_previous=True))
    for job in ("switch", "settle"):
        set_record(hv, pending=Pending(job, True))
        refused(hv, settling(), rf"has an unfinished restore \({job}\).*run the task that began it \(vm_restore\)")
    set_record(hv, pending=None)
    do(hv, ensuring("web-2", template="web"))
    kept = "/pools/default/web-1.root.1.qcow2"
    hv.define(hv.vms["web-2"].stored.replace(hv.disk_paths("web-2")[0], kept))
    refused(hv, settling(), "the previous root 'web-1.root.1.qcow2' of VM 'web-1' is in use by VM 'web-2'; detach it")


def test_a_vm_that_changes_meanwhile_is_not_settled(hv: FakeHypervisor) -> None:
    do(hv, restoring(template_version="2", keep_previous=True))
    planned = plan(hv, settling())
    set_record(hv, lease=Lease("anna", "today"))
    with pytest.raises(ExistsError, match="another task has changed VM 'web-1' in the meantime") as caught:
        planned.apply(lambda: 0.0)
    assert caught.value.facts["rolled_back"] is True
    assert roots(hv) == ["web-1.root.1.qcow2", "web-1.root.2.qcow2"]


# --- others at the same time -----------------------------------------------------------------------------------------


def test_of_two_restores_the_later_stops_and_loses_nothing(hv: FakeHypervisor) -> None:
    planned = plan(hv, restoring(template_version="2"))
    hv.meanwhile("stop", lambda: restoring(template_version="2")(hv).apply(lambda: 0.0))
    with pytest.raises(GoldenError) as caught:
        planned.apply(lambda: 0.0)
    assert isinstance(caught.value, (ExistsError, NotFoundError))
    assert root_chain(hv)[1] == "web.v2.qcow2"
    assert hv.vms["web-1"].state == "running"


def test_a_vm_that_is_started_meanwhile_is_not_switched(hv: FakeHypervisor) -> None:
    do(hv, ensuring(state="stopped"))
    planned = plan(hv, restoring(template_version="2"))
    hv.meanwhile("create_volume", lambda: hv.start("web-1"))
    with pytest.raises(RefusedError, match="VM 'web-1' was started by someone in the meantime; run this task again"):
        planned.apply(lambda: 0.0)
    assert (root_chain(hv)[1], roots(hv)) == ("web.v1.qcow2", ["web-1.root.1.qcow2"])


def test_a_version_that_is_deleted_meanwhile_is_not_used(hv: FakeHypervisor) -> None:
    planned = plan(hv, restoring(template_version="2"))
    hv.meanwhile("create_volume", lambda: deleting("2")(hv).apply(lambda: 0.0))
    with pytest.raises(GoldenError) as caught:
        planned.apply(lambda: 0.0)
    assert caught.value.facts["rolled_back"] is True
    assert (hv.vms["web-1"].state, roots(hv)) == ("running", ["web-1.root.1.qcow2"])


def test_a_version_that_is_marked_as_deleted_meanwhile_is_not_used(hv: FakeHypervisor) -> None:
    version = read_template(hv, "default", "web").select("2")
    planned = plan(hv, restoring(template_version="2"))
    deleted = version.revised(status="deleted").to_bytes()
    hv.meanwhile("create_volume", lambda: hv.write_volume("default", "web.v2.json", deleted))
    with pytest.raises(NotFoundError, match="version 2 of template 'web' was deleted in the meantime"):
        planned.apply(lambda: 0.0)
    assert (hv.vms["web-1"].state, roots(hv)) == ("running", ["web-1.root.1.qcow2"])


def test_roots_of_runs_that_died_are_removed(hv: FakeHypervisor) -> None:
    image = hv.volume("default", "web.v1.qcow2")
    assert image is not None
    from_template = f"<volume><name>web-1.root.7.qcow2</name><capacity unit='bytes'>{GIB}</capacity></volume>"
    hv.create_volume("default", from_template)
    hv.create_volume("default", from_template.replace("web-1.", "web-10."))
    do(hv, restoring(template_version="2"))
    assert roots(hv) == ["web-1.root.8.qcow2"]
    assert roots(hv, "web-10") == ["web-10.root.7.qcow2"]
