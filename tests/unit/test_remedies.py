"""What users are told of libvirt's errors, and of a failure after the work is done."""

from __future__ import annotations

import libvirt
import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import HypervisorError
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor.denials import told
from ansible_collections.golden.libvirt.plugins.module_utils._runner import _looking_back


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("Cannot recv data: Connection reset by peer", "the connection to libvirt broke"),
        ("internal error: client socket is closed", "the connection to libvirt broke"),
        ("Unable to write /pool/a: No space left on device\n", "delete what is not needed"),
        ("cannot set up guest memory 'pc.ram': Cannot allocate memory", "size.memory"),
        ("Network not found: no network with matching name 'lab'", "virsh net-list"),
        ("Requested operation is not valid: network 'lab' is not active", "virsh net-start"),
    ],
)
def test_a_remedy_follows_what_libvirt_said(said: str, remedy: str) -> None:
    error = libvirt.libvirtError("")
    error.err = (libvirt.VIR_ERR_OPERATION_FAILED, 0, said, 0, "", "", "", 0, 0)
    message = told("cannot do it", error).message
    assert message.startswith(f"cannot do it: {said.strip()}; ")
    assert remedy in message


def test_an_error_after_the_work_says_that_it_is_done() -> None:
    with pytest.raises(HypervisorError, match="everything was done") as failure, _looking_back(done=True):
        raise HypervisorError("cannot look")
    assert failure.value.facts["rolled_back"] is False


def test_an_error_where_nothing_was_done_is_left_as_it_is() -> None:
    with pytest.raises(HypervisorError, match=r"^cannot look") as failure, _looking_back(done=False):
        raise HypervisorError("cannot look")
    assert failure.value.facts == {}
