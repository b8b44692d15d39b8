"""Whether KVM can be trusted, told from what libvirt says."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.domain_capabilities import (
    kvm_probe,
    kvm_usable,
)


def capabilities(kind: str, arch: str, **models: str) -> str:
    """Return domain capabilities with these processor models."""
    listed = "".join(f"<model usable='{usable}'>{name}</model>" for name, usable in models.items())
    return (
        f"<domainCapabilities><domain>{kind}</domain><arch>{arch}</arch>"
        f"<cpu><mode name='custom' supported='yes'>{listed}</mode></cpu></domainCapabilities>"
    )


@pytest.mark.parametrize(
    ("told", "usable"),
    [
        (capabilities("kvm", "x86_64", kvm64="yes", Haswell="no"), True),
        (capabilities("kvm", "x86_64", qemu64="yes"), True),
        (capabilities("kvm", "x86_64", kvm64="no", qemu64="no", **{"486": "yes"}), False),
        (capabilities("kvm", "x86_64"), False),
        (capabilities("qemu", "x86_64", kvm64="yes"), False),
        (capabilities("kvm", "aarch64"), True),
    ],
)
def test_kvm_is_usable_where_a_current_guest_runs(told: str, usable: bool) -> None:
    assert kvm_usable(told) is usable


def test_the_probe_is_a_kvm_domain_of_its_own_name() -> None:
    first, second = (ET.fromstring(kvm_probe()) for _ in range(2))
    assert (first.get("type"), first.findtext("os/type")) == ("kvm", "hvm")
    assert first.findtext("name") != second.findtext("name")
