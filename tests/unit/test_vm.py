"""Making, changing and removing a VM."""

from __future__ import annotations

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
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.domain_xml import Network, Nic, read
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.volume_xml import new_volume
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import (
    Lease,
    Payload,
    Pending,
    Record,
    Root,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_list import Filters, list_vms
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_request import Size

from support.fake import Died, FakeHypervisor, FakePool
from unit.world import (
    GIB,
    MIB,
    changes,
    do,
    ensuring,
    plan,
    publishing,
    qcow2,
    record,
    refused,
    relabelling,
    restoring,
    root_chain,
    roots,
    set_record,
    with_template,
    with_vm,
)


@pytest.fixture
def hv() -> FakeHypervisor:
    """A hypervisor with two versions of the template ``web``."""
    return with_template()


def nics(hv: FakeHypervisor) -> tuple[Nic, ...]:
    """Return the network cards of ``web-1``."""
    domain = hv.domain("web-1")
    assert domain is not None
    return read(domain).nics


# --- making ----------------------------------------------------------------------------------------------------------


def test_a_new_vm(hv: FakeHypervisor) -> None:
    returned = do(hv, ensuring(template="web"))
    assert (returned["state"], returned["template_version"], returned["outdated"]) == ("shut off", 2, False)
    assert root_chain(hv) == ["web-1.root.1.qcow2", "web.v2.qcow2"]
    root = Root("web-1.root.1.qcow2", "default", "web", "default", 2)
    assert record(hv) == Record(root, 1, "2", vm=hv.vms["web-1"].uuid)
    assert not changes(hv, ensuring(template="web"))


def test_a_new_vm_with_all_that_can_be_wanted(hv: FakeHypervisor) -> None:
    hv.pools |= {"small": FakePool("small", capacity=10 * MIB), "big": FakePool("big")}
    hv.networks |= {"lab": "", "dmz": ""}
    networks = (Network("lab", "52:54:00:00:00:01"), Network("dmz", model="e1000e"))
    wanted: dict[str, Any] = {
        "template": "web",
        "template_version": "r1",
        "stateless": True,
        "size": Size(cpus=4, memory=4194304, storage=20 * GIB),
        "networks": networks,
        "storage_pools": ("small", "big"),
        "description": "of Bob",
        "autostart": True,
        "state": "started",
    }
    returned = do(hv, ensuring(**wanted))
    assert (returned["cpus"], returned["memory"], returned["description"]) == (4, 4194304, "of Bob")
    assert (returned["autostart"], returned["state"], returned["stateless"]) == (True, "running", True)
    assert [(n["network"], n["model"]) for n in returned["networks"]] == [("lab", "virtio"), ("dmz", "e1000e")]
    assert returned["root"] == {"volume": "web-1.root.1.qcow2", "storage_pool": "big", "template_version": 1}
    assert hv.chain(hv.disk_paths("web-1")[0])[0].capacity == 20 * GIB
    assert not changes(hv, ensuring(**wanted))


@pytest.mark.parametrize(
    ("wanted", "said", "kind"),
    [
        ({}, "there is no VM 'web-1'; to make it, say from which template", NotFoundError),
        ({"template": "none"}, "there is no template 'none' in any active storage pool", NotFoundError),
        ({"template": "web", "template_version": "9"}, "template 'web' has no version '9'", NotFoundError),
        ({"template": "web.v1"}, "looks like a version of a template", InvalidError),
        ({"template": "web", "size": Size(storage=GIB)}, "of VM 'web-1': 1GiB is less than the 2GiB", InvalidError),
        ({"template": "web", "use_latest_template_version": True}, "needs 'stateless: true'", InvalidError),
        (
            {"template": "web", "use_latest_template_version": True, "stateless": False},
            "is not stateless, so it cannot follow the latest version.*vm_restore",
            InvalidError,
        ),
        (
            {"template": "web", "storage_pools": ("vg", "small")},
            "no storage pool can take the root volume: vg: its type 'logical' cannot hold qcow2 overlays; "
            "small: has 10MiB available of the 64MiB",
            RefusedError,
        ),
        ({"template": "web", "storage_pools": ("nowhere",)}, "no storage pool 'nowhere'", NotFoundError),
    ],
)
def test_a_vm_that_cannot_be_made(hv: FakeHypervisor, wanted: Any, said: str, kind: type[GoldenError]) -> None:
    hv.pools |= {"small": FakePool("small", capacity=10 * MIB), "vg": FakePool("vg", type="logical")}
    refused(hv, ensuring(**wanted), said, kind)


def test_a_vm_name_is_checked() -> None:
    refused(FakeHypervisor(), ensuring("../x", template="web"), "is not valid", InvalidError)


def test_a_revoked_version_makes_no_vm(hv: FakeHypervisor) -> None:
    do(hv, relabelling("2", lifecycle="revoked"))
    refused(hv, ensuring(template="web", template_version="2"), "version 2 of template 'web' is revoked")
    do(hv, ensuring(template="web"))
    assert record(hv).root.version == 1


def test_a_template_in_another_storage_pool_is_found(hv: FakeHypervisor) -> None:
    hv.pools |= {"vms": FakePool("vms"), "off": FakePool("off", active=False)}
    do(hv, ensuring(template="web", storage_pools=("vms",)))
    assert root_chain(hv) == ["web-1.root.1.qcow2", "web.v2.qcow2"]
    assert hv.names("vms") == ["web-1.root.1.qcow2"]
    assert record(hv).root.template_storage_pool == "default"


def test_a_template_in_two_storage_pools_must_be_chosen(hv: FakeHypervisor) -> None:
    hv.pools |= {"other": FakePool("other"), "vms": FakePool("vms")}
    do(hv, publishing(path="/images/web-1.qcow2", storage_pool="other"))
    task = ensuring(template="web", storage_pools=("vms",))
    refused(hv, task, r"template 'web' is in more than one storage pool \(default, other\)", InvalidError)
    do(hv, ensuring(template="web", storage_pools=("other",)))
    assert record(hv).root.template_storage_pool == "other"


def test_an_old_root_of_that_name_is_not_touched(hv: FakeHypervisor) -> None:
    hv.create_volume("default", new_volume("web-1.root.3.qcow2", GIB, "qcow2"))
    do(hv, ensuring(template="web"))
    assert roots(hv) == ["web-1.root.3.qcow2", "web-1.root.4.qcow2"]
    assert record(hv).generation == 4


def test_of_two_that_make_a_vm_the_first_keeps_it(hv: FakeHypervisor) -> None:
    planned = plan(hv, ensuring(template="web"))
    hv.meanwhile("define", lambda: ensuring(template="web")(hv).apply(lambda: 0.0))
    with pytest.raises(ExistsError, match="VM 'web-1' was made by another task in the meantime; run this task again"):
        planned.apply(lambda: 0.0)
    assert root_chain(hv) == ["web-1.root.1.qcow2", "web.v2.qcow2"]


def test_a_vm_whose_maker_died_is_completed(hv: FakeHypervisor) -> None:
    planned = plan(hv, ensuring(template="web", template_version="1"))
    hv.meanwhile("create_volume", lambda: hv.die_at(0))
    with pytest.raises(Died):
        planned.apply(lambda: 0.0)
    hv.revive()
    assert record(hv).pending == Pending("create", False)
    refused(hv, restoring(), "is not complete: the task that made it died")
    assert plan(hv, ensuring(template="web", template_version="1")).after["unfinished"] is None
    do(hv, ensuring(template="web", template_version="1", state="started"))
    assert (record(hv).pending, hv.vms["web-1"].state) == (None, "running")
    assert root_chain(hv) == ["web-1.root.1.qcow2", "web.v1.qcow2"]


def test_a_vm_that_does_not_start_is_not_made(hv: FakeHypervisor) -> None:
    hv.unstartable.add("web.v2.qcow2")
    before = hv.state()
    with pytest.raises(HypervisorError) as caught:
        plan(hv, ensuring(template="web", state="started")).apply(lambda: 0.0)
    assert caught.value.facts["rolled_back"] is True
    assert hv.state() == before


# --- changing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "field", "value"),
    [
        ({"size": Size(cpus=4)}, "cpus", 4),
        ({"size": Size(memory=2097152)}, "memory", 2097152),
        ({"description": "new"}, "description", "new"),
        ({"autostart": True}, "autostart", True),
        ({"state": "started"}, "state", "running"),
        ({"stateless": True}, "stateless", True),
        ({"stateless": True, "use_latest_template_version": True}, "wanted_version", 2),
    ],
)
def test_one_thing_is_changed_and_then_it_is_so(wanted: dict[str, Any], field: str, value: Any) -> None:
    hv = with_vm(state="present")
    before = plan(hv, ensuring()).after
    after = do(hv, ensuring(**wanted))
    assert after[field] == value
    assert {key for key in after if after[key] != before[key]} - {
        "outdated",
        "use_latest_template_version",
        "stateless",
    } <= {field}
    assert not changes(hv, ensuring(**wanted))


def test_what_is_not_given_stays() -> None:
    hv = with_vm(description="of Bob", autostart=True, size=Size(cpus=4))
    assert not changes(hv, ensuring())
    assert not changes(hv, ensuring(template="web"))
    assert not changes(hv, ensuring(template="web", template_version="r1"))


def test_networks_are_changed_in_their_places() -> None:
    hv = with_vm(state="present")
    hv.networks |= {"lab": "", "dmz": ""}
    do(hv, ensuring(networks=(Network("lab"), Network("dmz"))))
    macs = [nic.mac for nic in nics(hv)]
    do(hv, ensuring(networks=(Network("lab"), Network("default"))))
    assert nics(hv) == (Nic(macs[0], "lab", "virtio"), Nic(macs[1], "default", "virtio"))
    assert not changes(hv, ensuring(networks=(Network("lab", macs[0].upper()), Network("default"))))
    do(hv, ensuring(networks=(Network("lab"),)))
    assert nics(hv) == (Nic(macs[0], "lab", "virtio"),)


def test_hardware_of_a_running_vm_changes_at_its_next_start() -> None:
    hv = with_vm()
    planned = plan(hv, ensuring(size=Size(cpus=4)))
    assert planned.warnings == ("VM 'web-1' runs: its changed hardware takes effect when it is next started",)
    assert plan(hv, ensuring(description="new")).warnings == ()


def test_the_root_grows_and_never_shrinks() -> None:
    hv = with_vm(state="present")
    do(hv, ensuring(size=Size(storage=10 * GIB)))
    assert hv.chain(hv.disk_paths("web-1")[0])[0].capacity == 10 * GIB
    assert not changes(hv, ensuring(size=Size(storage=10 * GIB)))
    refused(hv, ensuring(size=Size(storage=5 * GIB)), "has 10GiB, more than the 5GiB that are wanted; a disk cannot")
    do(hv, ensuring(state="started"))
    do(hv, ensuring(size=Size(storage=20 * GIB)))
    assert hv.chain(hv.disk_paths("web-1")[0])[0].capacity == 20 * GIB


def test_it_is_stopped() -> None:
    hv = with_vm()
    hv.stubborn.add("web-1")
    assert do(hv, ensuring(state="stopped"))["state"] == "shut off"
    assert not changes(hv, ensuring(state="stopped"))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"template": "db"}, r"is made from template 'web', not 'db'; move it with vm_restore \(template: db\)"),
        ({"template_version": "2"}, r"is on version 1 of template 'web', not 2; move it with vm_restore"),
        ({"template_version": "r2"}, r"move it with vm_restore \(template_version: 2\)"),
    ],
)
def test_another_version_is_a_matter_of_vm_restore(wanted: dict[str, Any], said: str) -> None:
    refused(with_vm(), ensuring(**wanted), said)


def test_a_version_that_was_deleted_or_never_was_is_said_to_be_so() -> None:
    refused(with_vm(), ensuring(template_version="9"), "template 'web' has no version '9'", NotFoundError)


def test_a_vm_that_keeps_its_root_does_not_follow_latest() -> None:
    refused(
        with_vm(), ensuring(use_latest_template_version=True), "needs 'stateless: true'|is not stateless", InvalidError
    )
    hv = with_vm(stateless=True, use_latest_template_version=True)
    refused(hv, ensuring(stateless=False), "is not stateless, so it cannot follow the latest version", InvalidError)
    do(hv, ensuring(stateless=False, use_latest_template_version=False))
    assert (record(hv).stateless, record(hv).follows) == (False, "1")


def test_a_paused_vm_is_not_started() -> None:
    hv = with_vm()
    hv.vms["web-1"].paused = True
    refused(hv, ensuring(state="started"), r"VM 'web-1' is paused; go on with it \('virsh resume web-1'\) or stop it")


def test_a_vm_of_others_is_not_changed(hv: FakeHypervisor) -> None:
    hv.define("<domain type='qemu'><name>db</name><memory>1024</memory><devices/></domain>")
    for state in ("present", "absent"):
        refused(
            hv, ensuring("db", template="web", state=state), "VM 'db' was not made from a template by this collection"
        )


def test_what_was_changed_is_taken_back_when_it_does_not_start() -> None:
    hv = with_vm(state="present")
    hv.unstartable.add("web.v1.qcow2")
    before = hv.state()
    with pytest.raises(HypervisorError):
        plan(hv, ensuring(description="new", autostart=True, state="started")).apply(lambda: 0.0)
    assert hv.state() == before


# --- removing --------------------------------------------------------------------------------------------------------


def _with_data() -> FakeHypervisor:
    hv = with_vm()
    data = hv.create_volume("default", new_volume("logs.qcow2", GIB, "qcow2"))
    disk = (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{data.path}'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
    )
    hv.define(hv.vms["web-1"].stored.replace("</devices>", f"{disk}</devices>"))
    return hv


def test_a_vm_goes_with_its_roots_and_leaves_its_data() -> None:
    hv = _with_data()
    do(hv, restoring(template_version="2", keep_previous=True))
    hv.create_volume("default", new_volume("web-1.root.9.qcow2", GIB, "qcow2"))
    hv.create_volume("default", new_volume("web-1.payload.iso", MIB, "raw"))
    set_record(hv, payload=Payload("web-1.payload.iso", "default", "cdrom", "permanent", ""))
    planned = plan(hv, ensuring(state="absent"))
    assert do(hv, ensuring(state="absent")) == {}
    assert planned.facts({}) == {"data_volumes_kept": [{"storage_pool": "default", "volume": "logs.qcow2"}]}
    assert hv.vms == {}
    assert [name for name in hv.names() if not name.startswith("web.v")] == ["logs.qcow2"]
    assert not changes(hv, ensuring(state="absent"))


def test_its_data_go_when_asked_for() -> None:
    hv = _with_data()
    planned = plan(hv, ensuring(state="absent", delete_data_volumes=True))
    assert planned.facts({}) == {"data_volumes_kept": []}
    planned.apply(lambda: 0.0)
    assert [name for name in hv.names() if not name.startswith("web.v")] == []


def test_data_that_another_vm_uses_stay() -> None:
    hv = _with_data()
    path = hv.disk_paths("web-1")[1]
    hv.define(
        "<domain type='qemu'><name>db</name><memory>1024</memory><devices><disk type='file' device='disk'>"
        f"<source file='{path}'/><target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    refused(
        hv,
        ensuring(state="absent", delete_data_volumes=True),
        "volume 'logs.qcow2' of VM 'web-1' is in use by VM 'db', too",
    )
    do(hv, ensuring(state="absent"))
    assert "logs.qcow2" in hv.names()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda hv: set_record(hv, lease=Lease("anna", "today")),
            "is taken by 'anna' since today; it must be returned",
        ),
        (lambda hv: hv.vms["web-1"].snapshots.append("a"), r"has snapshots or checkpoints \(a\); delete them first"),
    ],
)
def test_a_vm_that_is_not_removed(change: Any, said: str) -> None:
    hv = with_vm()
    change(hv)
    refused(hv, ensuring(state="absent"), said)


# --- listing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (Filters(), ["web-1", "web-2", "web-3"]),
        (Filters(name="web-2"), ["web-2"]),
        (Filters(template="web"), ["web-1", "web-2", "web-3"]),
        (Filters(template="db"), []),
        (Filters(template_version=1), ["web-1", "web-2"]),
        (Filters(outdated=True), ["web-2"]),
        (Filters(outdated=False), ["web-1", "web-3"]),
        (Filters(state="running"), ["web-1"]),
        (Filters(vm_pool="desk"), []),
        (Filters(template_version=1, outdated=True), ["web-2"]),
    ],
)
def test_a_list_of_vms(filters: Filters, found: list[str]) -> None:
    hv = with_vm()
    follow = {"stateless": True, "use_latest_template_version": True}
    do(hv, ensuring("web-2", template="web", template_version="1", **follow))
    do(hv, ensuring("web-3", template="web", **follow))
    hv.define("<domain type='qemu'><name>db</name><memory>1024</memory><devices/></domain>")
    assert [vm["name"] for vm in list_vms(hv, filters)] == found


def test_addresses_are_those_of_a_running_vm() -> None:
    hv = with_vm()
    hv.files["/images/db"] = qcow2("db")
    listed = list_vms(hv, Filters())[0]
    assert list(listed["addresses"]) == [listed["networks"][0]["mac"]]
    do(hv, ensuring(state="stopped"))
    assert list_vms(hv, Filters())[0]["addresses"] == {}
