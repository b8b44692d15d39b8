"""The networks of VMs: one that is missing is found before anything changes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import DeniedError, NotFoundError
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.domain_xml import Network

from support.fake import FakeHypervisor
from unit.world import changes, do, ensuring, ensuring_pool, refused, restoring, rolling_back, with_template, with_vm

LAB = (Network("lab"),)


def vm_on_lab(state: str = "started") -> FakeHypervisor:
    """Return a hypervisor with the network ``lab`` and a VM on it."""
    hv = with_template()
    hv.networks["lab"] = ""
    do(hv, ensuring(template="web", template_version="1", networks=LAB, state=state))
    return hv


@pytest.mark.parametrize("state", ["started", "present"])
def test_no_vm_is_made_on_a_network_that_is_not_there(state: str) -> None:
    hv = with_template()
    refused(hv, ensuring(template="web", networks=LAB, state=state), "no network 'lab' for VM 'web-1'", NotFoundError)
    refused(hv, ensuring_pool(template="web", count=2, networks=LAB), "no network 'lab'", NotFoundError)


def test_the_networks_of_the_template_are_looked_for_when_the_vm_starts() -> None:
    hv = with_template()
    hv.networks.clear()
    refused(hv, ensuring(template="web", state="started"), "no network 'default' for VM 'web-1'", NotFoundError)
    do(hv, ensuring(template="web", state="present"))  # it is given others before it starts
    do(hv, ensuring(networks=()))
    do(hv, ensuring(state="started"))


def test_no_vm_is_moved_to_a_network_that_is_not_there() -> None:
    hv = with_vm(state="present")
    refused(hv, ensuring(networks=LAB), "no network 'lab' for VM 'web-1'", NotFoundError)


@pytest.mark.parametrize("task", [restoring(template_version="2"), rolling_back()], ids=["restored", "rolled back"])
def test_a_running_vm_whose_network_has_gone_keeps_running(task: Any) -> None:
    hv = vm_on_lab()
    do(hv, restoring(template_version="2"))
    do(hv, restoring(template_version="1", keep_previous=True))
    del hv.networks["lab"]
    refused(hv, task, "no network 'lab' for VM 'web-1'", NotFoundError)
    hv.networks["lab"] = ""
    hv.inactive_networks.add("lab")
    refused(hv, task, "network 'lab' is not active.*virsh net-start lab")
    hv.inactive_networks.clear()
    do(hv, task)


def test_a_vm_that_is_not_to_start_needs_no_active_network() -> None:
    hv = vm_on_lab(state="present")
    hv.inactive_networks.add("lab")
    do(hv, restoring(template_version="2"))
    refused(hv, ensuring(state="started"), "network 'lab' is not active, so VM 'web-1' cannot start")
    refused(hv, restoring(template_version="1", start="yes"), "network 'lab' is not active")
    do(hv, ensuring("web-2", template="web", networks=LAB, state="present"))


def test_a_vm_that_runs_as_it_is_to_is_left_alone() -> None:
    hv = vm_on_lab()
    hv.networks.clear()
    assert not changes(hv, ensuring(state="started"))


def test_what_may_not_be_looked_at_is_left_to_libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    hv = with_template()

    def forbidden(_name: str) -> None:
        raise DeniedError("you may not look at networks")

    monkeypatch.setattr(hv, "network", forbidden)
    do(hv, ensuring(template="web", networks=LAB))
