"""A volume that another task deletes as a stray as soon as it is made, on libvirt's own test driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import NotFoundError
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.volume_xml import new_volume
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor

POOL = "default-pool"


def test_a_volume_that_is_deleted_as_soon_as_it_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    node = tmp_path / "node.xml"
    node.write_text(f"<node><pool type='dir'><name>{POOL}</name><target><path>/pool</path></target></pool></node>")
    create = libvirt.virStoragePool.createXML

    def create_and_delete(pool: Any, xml: str, flags: int) -> Any:
        volume = create(pool, xml, flags)
        pool.storageVolLookupByName(volume.name()).delete(0)
        return volume

    monkeypatch.setattr(libvirt.virStoragePool, "createXML", create_and_delete)
    with LibvirtHypervisor(f"test://{node}") as hypervisor:
        with pytest.raises(NotFoundError, match=r"'a\.raw'.* was deleted by another task in the meantime; run this"):
            hypervisor.create_volume(POOL, new_volume("a.raw", 1 << 20, "raw"))
        assert hypervisor.volume_names(POOL) == []
