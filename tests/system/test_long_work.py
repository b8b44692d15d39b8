"""Work that makes no calls of libvirt for long, which closes connections that do not answer it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.volume_xml import new_volume
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor

from support.guarded import POOL, guarded_libvirtd

SIZE = 5 * 1024**3
"""Bytes, all of them zero, whose digest takes longer than this libvirtd is patient."""


@pytest.fixture(scope="module")
def impatient() -> Iterator[LibvirtHypervisor]:
    """Yield a connection to a libvirtd that closes it after two seconds without an answer; 30 are the default."""
    settings = "keepalive_interval = 1\nkeepalive_count = 1\n"
    with guarded_libvirtd(settings=settings) as libvirtd, LibvirtHypervisor(libvirtd.uri) as hypervisor:
        yield hypervisor


@pytest.fixture
def large(tmp_path: Path) -> str:
    """Return the path of a large file that takes no space."""
    path = tmp_path / "large.raw"
    with path.open("wb") as file:
        file.truncate(SIZE)
    return str(path)


def test_a_digest_of_a_large_file(impatient: LibvirtHypervisor, large: str) -> None:
    assert len(impatient.file_digest(large)) == 64
    assert [pool.name for pool in impatient.storage_pools()] == [POOL]


def test_an_upload_of_a_large_hole_and_its_digest(impatient: LibvirtHypervisor, large: str) -> None:
    impatient.create_volume(POOL, new_volume("large", SIZE, "raw"))
    uploaded = impatient.upload(POOL, "large", large)
    assert impatient.volume_digest(POOL, "large") == uploaded
