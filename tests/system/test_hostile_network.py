"""Modules on a hypervisor far away: over TLS with certificates that are checked on both sides, and over SSH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fixtures import Site
from support.modules import ModuleFailed, run_module
from support.ssh import ssh_uri
from support.tls import POOL, TlsHost, tls_host
from support.virsh import metadata

VM = "gldtest-tls-1"
HARDWARE = {"memory": "64MiB", "networks": [], "graphics": "none"}
PUBLISH = {"template": "web", "create_base": True, "hardware": HARDWARE}


@pytest.fixture(scope="module")
def host() -> Iterator[TlsHost]:
    """Yield the daemon behind TLS."""
    with tls_host() as made:
        yield made


def test_modules_work_over_tls(host: TlsHost, empty_disk: Path) -> None:
    uri = host.uri()
    source = {"path": str(empty_disk)}
    run_module("template_version", uri=uri, storage_pool=POOL, source=source, **PUBLISH)
    volume = {"size": "8MiB", "device_id": 1}
    made = run_module("vm", uri=uri, name=VM, template="web", storage_pools=[POOL], volumes=[volume])
    assert made["vm"]["name"] == VM
    assert host.daemon.virsh("list", "--all", "--name").split() == [VM]
    assert (host.daemon.folder / "pool" / "web.v1.qcow2").read_bytes() == empty_disk.read_bytes()
    assert run_module("vm_restore", uri=uri, vm=VM, force=True)["vm"]["root"]["volume"] == f"{VM}.root.2.qcow2"
    files = [{"name": "a", "content": "b"}]
    assert run_module("vm_payload", uri=uri, vm=VM, files=files)["changed"]
    assert run_module("vm_payload", uri=uri, vm=VM, files=files)["changed"] is False
    assert [vm["name"] for vm in run_module("vm_info", uri=uri)["vms"]] == [VM]
    run_module("vm", uri=uri, name=VM, state="absent", delete_data_volumes=True)
    run_module("template_version", uri=uri, storage_pool=POOL, template="web", state="absent")
    assert host.daemon.virsh("vol-list", POOL) == ""


@pytest.mark.parametrize("client", ["stranger", "nobody"])
def test_who_has_no_certificate_of_the_authority_is_refused(host: TlsHost, client: str) -> None:
    uri = host.uri(client)
    with pytest.raises(ModuleFailed, match="cannot connect to") as failure:
        run_module("vm_info", uri=uri)
    assert uri in str(failure.value)


def test_a_server_of_another_authority_is_not_trusted(host: TlsHost) -> None:
    trusting = host.daemon.folder / "client" / "cacert.pem"
    right = trusting.read_bytes()
    trusting.write_bytes((host.daemon.folder / "other.pem").read_bytes())
    try:
        with pytest.raises(ModuleFailed, match="cannot connect to"):
            run_module("vm_info", uri=host.uri())
    finally:
        trusting.write_bytes(right)
    assert run_module("vm_info", uri=host.uri())["vms"] == []


def test_modules_work_over_ssh(site: Site, empty_disk: Path, tmp_path: Path) -> None:
    with ssh_uri(tmp_path) as uri:
        source = {"path": str(empty_disk)}
        run_module("template_version", uri=uri, storage_pool=site.storage_pool, source=source, **PUBLISH)
        run_module("vm", uri=uri, name=site.vm("a"), template="web", storage_pools=[site.storage_pool])
        assert run_module("vm_restore", uri=uri, vm=site.vm("a"), force=True)["changed"]
    assert metadata(site.vm("a")).attrib["generation"] == "2"
    assert (site.folder / "web.v1.qcow2").read_bytes() == empty_disk.read_bytes()
