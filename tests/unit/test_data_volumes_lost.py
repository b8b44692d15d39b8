"""A new data volume that another task claims before it is attached: nobody's when that one gives it up."""

from __future__ import annotations

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import HypervisorError
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_request import WantedVolume

from support.fake import FakeHypervisor
from unit.world import GIB, ensuring, plan, with_template

LOST = "db-1.data.1.qcow2"
CLAIM = f"volume /pools/default/{LOST}"


def _fails_to_start(hv: FakeHypervisor, *, still_claimed: bool) -> None:
    """Make a VM that loses its new data volume to another task, gets another one, and cannot be started."""

    def fail() -> None:
        if not still_claimed:
            del hv.claims[CLAIM]
        hv.fail_at(0)

    planned = plan(hv, ensuring("db-1", template="web", volumes=(WantedVolume(GIB, 1),), state="started"))
    hv.meanwhile("claim", lambda: hv.claims.update({CLAIM: "web-2"}))
    hv.meanwhile("start", fail)
    with pytest.raises(HypervisorError) as failure:
        planned.apply(lambda: 0.0)
    hv.revive()
    assert failure.value.facts["rolled_back"] is True


def test_one_that_was_given_up_is_deleted() -> None:
    hv = with_template()
    before = hv.names()
    _fails_to_start(hv, still_claimed=False)
    assert hv.names() == before


def test_one_that_is_about_to_be_attached_elsewhere_is_left_alone() -> None:
    hv = with_template()
    before = hv.names()
    _fails_to_start(hv, still_claimed=True)
    assert sorted(set(hv.names()) - set(before)) == [LOST]
