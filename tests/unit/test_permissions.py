"""What plans need of libvirt's access control, and how a user is told what is missing."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core import permissions
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import (
    DeniedError,
    HypervisorError,
    ReadOnlyError,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import Shutdown, Volume
from ansible_collections.golden.libvirt.plugins.module_utils._core.permissions import Need, denied
from ansible_collections.golden.libvirt.plugins.module_utils._core.plan import Plan, Step, nothing
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.source import Hardware
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_request import Size, WantedVolume
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import permissions as asking
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor.connection import translated

from support.fake import FakeHypervisor
from unit.world import (
    GIB,
    Task,
    deleting,
    do,
    ensuring,
    ensuring_pool,
    plan,
    publishing,
    qcow2,
    refused,
    relabelling,
    restoring,
    rolling_back,
    with_vm,
)

POLICY = Path("/usr/share/polkit-1/actions/org.libvirt.api.policy")


def all_needs() -> set[Need]:
    """Return what every helper says, and what can be asked for."""
    vm = [
        permissions.may_define("a"),
        permissions.may_write("a"),
        permissions.may_start("a"),
        permissions.may_resize_disk("a"),
        permissions.may_drop_managed_save("a"),
        permissions.may_undefine("a"),
        *(permissions.may_stop("a", mode) for mode in ("graceful", "force", "graceful_then_force")),
    ]
    volume = [
        permissions.may_create_volume("p", "v"),
        permissions.may_write_volume("p", "v"),
        permissions.may_resize_volume("p", "v"),
        permissions.may_delete_volume("p", "v"),
    ]
    return {*itertools.chain(*vm, *volume), *(Need(kind, "x", permission) for kind, permission in asking._ASK)}


@pytest.mark.skipif(not POLICY.exists(), reason="libvirt's list of actions is not installed here")
def test_the_actions_are_those_of_libvirt() -> None:
    known = POLICY.read_text()
    assert [need.action for need in all_needs() if f'id="{need.action}"' not in known] == []


@pytest.mark.parametrize(
    ("need", "said"),
    [
        (Need("domain", "web", "init_control"), "org.libvirt.api.domain.init-control on VM 'web'"),
        (
            Need("storage_vol", "v", "data_write", "p"),
            "org.libvirt.api.storage-vol.data-write on volume 'v' in storage pool 'p'",
        ),
        (Need("storage_pool", "p", "getattr"), "org.libvirt.api.storage-pool.getattr on storage pool 'p'"),
        (Need("secret", "", "write"), "org.libvirt.api.secret.write on a secret"),
        (Need("connect", "", "write"), "org.libvirt.api.connect.write on the hypervisor"),
    ],
)
def test_a_need_in_words(need: Need, said: str) -> None:
    assert str(need) == said
    assert said in denied([need]).message


def test_the_error_names_each_missing_permission_once_and_the_remedy() -> None:
    error = denied([*permissions.may_start("a"), *permissions.may_start("b"), *permissions.may_start("a")])
    assert error.message == (
        "nothing has been changed: libvirt's access control does not allow org.libvirt.api.domain.start on VM 'a', "
        "org.libvirt.api.domain.start on VM 'b'; let a polkit rule on the hypervisor allow it to the user that "
        "connects, or connect as another user"
    )
    assert [missing["name"] for missing in error.facts["missing_permissions"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("graceful", {"init_control"}), ("force", {"stop"}), ("graceful_then_force", {"init_control", "stop"})],
)
def test_stopping_needs_what_its_mode_does(mode: str, wanted: set[str]) -> None:
    assert {need.permission for need in permissions.may_stop("a", Shutdown(mode).mode)} == wanted


def test_a_plan_needs_what_its_steps_need_each_once_in_their_order() -> None:
    steps = (
        Step("one", nothing, needs=permissions.may_write("a")),
        Step("two", nothing),
        Step("three", nothing, needs=(*permissions.may_start("a"), *permissions.may_write("a"))),
    )
    plan = Plan({}, {}, steps)
    assert plan.needs == (*permissions.may_write("a"), *permissions.may_start("a"))
    assert replace(plan, steps=()).needs == ()


def test_nothing_is_asked_where_nothing_is_needed_or_no_access_control_can_be() -> None:
    with LibvirtHypervisor("test:///default") as hv:
        hv.check_allowed(())
        hv.check_allowed(tuple(all_needs()))
        assert [domain.name for domain in hv.domains()] == ["test"]
        assert "v/" not in hv.volume_names("default-pool")


# --- a plan names all that its steps need -----------------------------------------------------------------------------


class Strict(FakeHypervisor):
    """A hypervisor that refuses every change for which the permission was not named before."""

    granted: permissions.Needs | None = None

    def _take(self, needs: permissions.Needs) -> None:
        missing = [need for need in needs if self.granted is not None and need not in self.granted]
        if missing:
            raise denied(missing, "not named before")

    def define(self, xml: str) -> None:
        self._take(permissions.may_write(ET.fromstring(xml).findtext("name", "")))
        super().define(xml)

    def set_metadata(self, name: str, xml: str) -> None:
        self._take(permissions.may_write(name))
        super().set_metadata(name, xml)

    def set_autostart(self, name: str, autostart: bool) -> None:
        self._take((Need("domain", name, "write"),))
        super().set_autostart(name, autostart)

    def attach_device(self, name: str, xml: str, *, live: bool, stored: bool) -> None:
        self._take(permissions.may_write(name))
        super().attach_device(name, xml, live=live, stored=stored)

    def start(self, name: str) -> None:
        self._take(permissions.may_start(name))
        super().start(name)

    def stop(self, name: str, shutdown: Shutdown) -> None:
        self._take(permissions.may_stop(name, shutdown.mode))
        super().stop(name, shutdown)

    def undefine(self, name: str) -> None:
        self._take(permissions.may_undefine(name))
        super().undefine(name)

    def drop_managed_save(self, name: str) -> None:
        self._take(permissions.may_drop_managed_save(name))
        super().drop_managed_save(name)

    def virt_type(self) -> str:
        self._take((Need("connect", "", "write"),))
        return super().virt_type()

    def create_volume(self, storage_pool: str, xml: str) -> Volume:
        self._take(permissions.may_create_volume(storage_pool, ET.fromstring(xml).findtext("name", "")))
        return super().create_volume(storage_pool, xml)

    def copy_volume(self, storage_pool: str, xml: str, source: Volume) -> Volume:
        self._take(permissions.may_create_volume(storage_pool, ET.fromstring(xml).findtext("name", "")))
        return super().copy_volume(storage_pool, xml, source)

    def delete_volume(self, storage_pool: str, name: str) -> None:
        self._take(permissions.may_delete_volume(storage_pool, name))
        super().delete_volume(storage_pool, name)

    def resize_volume(self, storage_pool: str, name: str, capacity: int) -> None:
        self._take(permissions.may_resize_volume(storage_pool, name))
        super().resize_volume(storage_pool, name, capacity)

    def resize_disk(self, name: str, target: str, capacity: int) -> None:
        self._take(permissions.may_resize_disk(name))
        super().resize_disk(name, target, capacity)

    def write_volume(self, storage_pool: str, name: str, content: bytes) -> None:
        self._take(permissions.may_write_volume(storage_pool, name))
        super().write_volume(storage_pool, name, content)

    def upload(self, storage_pool: str, name: str, path: str, sparse: bool = False) -> str:
        self._take(permissions.may_write_volume(storage_pool, name))
        return super().upload(storage_pool, name, path, sparse)


LARGER = Size(storage=3 * GIB)
TASKS: dict[str, tuple[Task, ...]] = {
    "publish a file": (publishing(path="/images/new.raw"),),
    "publish a qcow2 file": (publishing(path="/images/new.qcow2"),),
    "publish a VM": (ensuring(state="stopped"), publishing(vm="web-1")),
    "save a version as": (publishing(version="1", hardware=Hardware(cpus=7)),),
    "relabel": (relabelling("2", description="x"),),
    "delete a version": (deleting("2"),),
    "make a VM": (ensuring("web-2", template="web", state="started", autostart=True),),
    "make a VM with data": (ensuring("web-2", template="web", volumes=(WantedVolume(GIB, 1),)),),
    "give a running VM data": (ensuring(volumes=(WantedVolume(GIB, 1),)),),
    "change a VM": (ensuring(size=Size(cpus=3), autostart=True),),
    "stop a VM": (ensuring(state="stopped"),),
    "start a VM": (ensuring(state="stopped"), ensuring(state="started")),
    "grow the root of a running VM": (ensuring(size=LARGER),),
    "grow the root of a stopped VM": (ensuring(state="stopped"), ensuring(size=LARGER)),
    "remove a VM": (ensuring(state="absent"),),
    "restore": (restoring(template_version="2"),),
    "restore by force": (restoring(force=True, shutdown=Shutdown("force")),),
    "restore without going back": (restoring(template_version="2", on_failure="keep"),),
    "roll back": (restoring(template_version="2", keep_previous=True), rolling_back()),
    "make a pool": (ensuring_pool(template="web", count=2, prestarted=1),),
    "make a pool larger": (ensuring_pool(template="web", count=1), ensuring_pool(count=2, prestarted=2)),
    "make a pool smaller": (ensuring_pool(template="web", count=3, prestarted=3), ensuring_pool(count=1, prestarted=1)),
}


@pytest.fixture
def strict() -> Strict:
    """A strict hypervisor with the running VM ``web-1`` on version 1 of two."""
    hv = with_vm()
    hv.files["/images/new.qcow2"] = qcow2("new")
    hv.files["/images/new.raw"] = bytes(510) + b"\x55\xaa" + bytes(1024**2)
    hv.__class__ = Strict
    assert isinstance(hv, Strict)
    return hv


@pytest.mark.parametrize("tasks", TASKS.values(), ids=TASKS)
def test_a_plan_names_all_that_its_steps_need(strict: Strict, tasks: tuple[Task, ...]) -> None:
    *first, last = tasks
    for task in first:
        do(strict, task)
    planned = plan(strict, last)
    assert planned.needs
    strict.granted = planned.needs
    planned.apply(lambda: 0.0)


@pytest.mark.parametrize("permission", ["domain.stop", "domain.start", "domain.write", "storage_vol.delete"])
def test_what_is_missing_is_told_before_the_first_step(strict: Strict, permission: str) -> None:
    strict.denied = {permission}
    refused(strict, lambda hv: hv.check_allowed(restoring(force=True)(hv).needs), "web-1", DeniedError)


# --- libvirt's errors ------------------------------------------------------------------------------------------------


class _Error(libvirt.libvirtError):  # type: ignore[misc]
    """An error of libvirt's with this code: what denies is on another machine, see tests/system."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.err = (code, 0, said, 2, "", None, -1, -1, -1)


def test_an_unknown_call_that_is_denied_is_told_all_the_same() -> None:
    said = "cannot do it: libvirt's access control does not allow it;"
    with pytest.raises(DeniedError, match=said) as failure, translated("cannot do it"):
        raise _Error(libvirt.VIR_ERR_ACCESS_DENIED, "access denied")
    assert failure.value.facts["missing_permissions"] == []


def test_a_read_only_connection_that_is_not_enough_is_told() -> None:
    said = r"cannot do it: .*read only access prevents.* org\.libvirt\.unix\.manage"
    with pytest.raises(ReadOnlyError, match=said), translated("cannot do it"):
        raise _Error(libvirt.VIR_ERR_OPERATION_DENIED, "operation forbidden: read only access prevents it")


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(HypervisorError, match="cannot do it: no such thing"), translated("cannot do it"):
        raise _Error(libvirt.VIR_ERR_NO_DOMAIN, "no such thing")


def test_a_real_read_only_connection_refuses_what_changes_things() -> None:
    with LibvirtHypervisor("test:///default") as hv:
        hv.connection.libvirt.close()
        hv.connection.libvirt = libvirt.openReadOnly("test:///default")
        with pytest.raises(ReadOnlyError, match="cannot set autostart of VM 'test'"):
            hv.set_autostart("test", True)
