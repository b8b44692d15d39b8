"""Template versions on a real libvirtd: published, relabelled, deleted; what is stored is read with other tools."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.fixtures import Site, make_disk
from support.modules import ModuleFailed, Result, run_module
from support.replay import replay
from support.virsh import image_info, virsh, volume_path

HARDWARE = {"memory": "64MiB", "networks": [], "graphics": "none"}


def publish(site: Site, path: Path, **options: Any) -> Result:
    """Publish a version of the template web from a file."""
    given = {
        "template": "web",
        "storage_pool": site.storage_pool,
        "create_base": True,
        "hardware": HARDWARE,
        "source": {"path": str(path)},
        **options,
    }
    version: Result = run_module("template_version", **given)["template_version"]
    return version


def manifest(site: Site, version: int, template: str = "web") -> dict[str, Any]:
    """Return a stored manifest, read without our code."""
    content = Path(volume_path(site.storage_pool, f"{template}.v{version}.json")).read_bytes()
    assert len(content) == 64 * 1024
    stored: dict[str, Any] = json.loads(content)
    return stored


def make_vm(site: Site, name: str, path: str) -> str:
    """Define a VM that this collection knows nothing of."""
    vm = site.vm(name)
    xml = f"""<domain type='qemu'><name>{vm}</name><memory unit='MiB'>64</memory>
      <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os>
      <devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>
      <target dev='vda' bus='virtio'/></disk><graphics type='vnc' passwd='sesame' autoport='yes'/></devices></domain>"""
    virsh("define", "/dev/stdin", stdin=xml)
    return vm


# --- publishing ------------------------------------------------------------------------------------------------------


def test_publish_from_a_file(site: Site, empty_disk: Path) -> None:
    done = replay(
        "template_version",
        template="web",
        storage_pool=site.storage_pool,
        create_base=True,
        source={"path": str(empty_disk)},
        hardware=HARDWARE,
        version_name="2026-11",
        description="Füße & <Hände>",
        labels={"os": "debian"},
    )
    version = done["template_version"]
    assert (version["version"], version["version_name"], version["latest"]) == (1, "2026-11", True)
    assert site.volumes == ["web.v1.json", "web.v1.qcow2"]
    stored = manifest(site, 1)
    assert (stored["format"], stored["status"]) == ("golden.libvirt/template-version/1", "ready")
    assert stored["description"] == "Füße & <Hände>"
    image = Path(volume_path(site.storage_pool, "web.v1.qcow2"))
    assert hashlib.sha256(image.read_bytes()).hexdigest() == stored["image"]["sha256"]
    assert image.read_bytes() == empty_disk.read_bytes()
    assert image.stat().st_mode & 0o777 == 0o440


def test_publish_a_raw_file(site: Site, tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(256 * 1024**2)
        file.seek(510)
        file.write(b"\x55\xaa")
        file.seek(200 * 1024**2)
        file.write(b"x" * 1024**2)
    given = {"template": "web", "storage_pool": site.storage_pool, "create_base": True, "hardware": HARDWARE}
    version = replay("template_version", source={"path": str(raw)}, **given)["template_version"]
    assert version["image"]["format"] == "qcow2"
    assert site.volumes == ["web.v1.json", "web.v1.qcow2"]
    info = image_info(site.storage_pool, "web.v1.qcow2")
    assert (info["format"], info["virtual-size"]) == ("qcow2", 256 * 1024**2)
    assert info["actual-size"] < 8 * 1024**2, "holes must stay holes"
    image = volume_path(site.storage_pool, "web.v1.qcow2")
    compared = subprocess.run(["qemu-img", "compare", str(raw), image], check=False, capture_output=True)
    assert compared.returncode == 0

    written = tmp_path / "written.raw"
    subprocess.run(["cp", "--sparse=never", raw, written], check=True)
    again = run_module("template_version", source={"path": str(written)}, **given)
    assert not again["changed"], "the same content is the same version, however its zeros are stored"
    with written.open("r+b") as file:
        file.seek(100 * 1024**2)
        file.write(b"y")
    assert run_module("template_version", source={"path": str(written)}, **given)["template_version"]["version"] == 2


def test_publish_from_a_vm_flattens_its_root(site: Site, empty_disk: Path) -> None:
    publish(site, empty_disk)
    run_module("vm", name=site.vm("builder"), template="web", storage_pools=[site.storage_pool])
    root = volume_path(site.storage_pool, f"{site.vm('builder')}.root.1.qcow2")
    subprocess.run(["qemu-io", "-c", "write -P 9 8M 1M", root], check=True, capture_output=True)
    done = replay("template_version", template="web", storage_pool=site.storage_pool, source={"vm": site.vm("builder")})
    version = done["template_version"]
    assert version["version"] == 2
    info = image_info(site.storage_pool, "web.v2.qcow2")
    assert "backing-filename" not in info
    image = volume_path(site.storage_pool, "web.v2.qcow2")
    assert subprocess.run(["qemu-img", "compare", root, image], check=False, capture_output=True).returncode == 0
    assert hashlib.sha256(Path(image).read_bytes()).hexdigest() == manifest(site, 2)["image"]["sha256"]


def test_publish_from_a_foreign_vm_takes_its_identity_out(site: Site, empty_disk: Path) -> None:
    disk = make_disk(site.folder / "foreign.qcow2", mark="foreign")
    virsh("pool-refresh", site.storage_pool)
    vm = make_vm(site, "foreign", str(disk))
    run_module("template_version", template="web", storage_pool=site.storage_pool, create_base=True, source={"vm": vm})
    xml = manifest(site, 1)["domain_xml"]
    for secret in (vm, virsh("domuuid", vm), "sesame", str(disk)):
        assert secret not in xml


def test_publish_from_a_volume(site: Site) -> None:
    make_disk(site.folder / "data.qcow2", mark="volume")
    virsh("pool-refresh", site.storage_pool)
    replay(
        "template_version",
        template="web",
        storage_pool=site.storage_pool,
        create_base=True,
        source={"volume": "data.qcow2"},
    )
    assert "web.v1.qcow2" in site.volumes


def test_save_as_version_shares_the_image(site: Site, empty_disk: Path) -> None:
    publish(site, empty_disk)
    done = replay(
        "template_version",
        template="web",
        storage_pool=site.storage_pool,
        source={"version": "1"},
        hardware={"memory": "96MiB"},
    )
    assert done["template_version"]["image"]["volume"] == "web.v1.qcow2"
    assert site.volumes == ["web.v1.json", "web.v1.qcow2", "web.v2.json"]
    run_module("template_version", template="web", storage_pool=site.storage_pool, version="1", state="absent")
    assert "web.v1.qcow2" in site.volumes, "version 2 still needs the image"
    run_module("template_version", template="web", storage_pool=site.storage_pool, version="2", state="absent")
    assert "web.v1.qcow2" not in site.volumes


def test_a_given_number_is_ignored_with_a_warning(site: Site, empty_disk: Path) -> None:
    done = run_module(
        "template_version",
        template="web",
        storage_pool=site.storage_pool,
        create_base=True,
        source={"path": str(empty_disk)},
        hardware=HARDWARE,
        version="7",
    )
    assert done["template_version"]["version"] == 1
    assert any("7 is ignored" in str(warning) for warning in done["warnings"])


def test_twenty_publishers_at_once_get_twenty_numbers(site: Site, tmp_path: Path) -> None:
    publish(site, make_disk(tmp_path / "base.qcow2"))
    disks = [make_disk(tmp_path / f"{index}.qcow2", mark=chr(40 + index)) for index in range(20)]
    script = (
        "import sys; from support.modules import run_module\n"
        "from pathlib import Path\n"
        "print(run_module('template_version', template='web', storage_pool=sys.argv[1], source={'path': sys.argv[2]},"
        " hardware={'memory': '64MiB', 'networks': [], 'graphics': 'none'})['template_version']['version'])"
    )
    tests = str(Path(__file__).parents[1])

    def publish_one(disk: Path) -> int:
        command = [sys.executable, "-c", script, site.storage_pool, str(disk)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env={"PYTHONPATH": tests})
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    with ThreadPoolExecutor(20) as executor:
        numbers = sorted(executor.map(publish_one, disks))
    assert numbers == list(range(2, 22))
    assert all(manifest(site, number)["status"] == "ready" for number in numbers)
    digests = {manifest(site, number)["image"]["sha256"] for number in numbers}
    assert digests == {hashlib.sha256(disk.read_bytes()).hexdigest() for disk in disks}


# --- what is refused, before anything has changed --------------------------------------------------------------------


def refused(site: Site, **options: Any) -> str:
    """Run template_version, which must fail and change nothing, and return its message."""
    before = site.volumes
    with pytest.raises(ModuleFailed) as failure:
        run_module("template_version", **{"template": "web", "storage_pool": site.storage_pool, **options})
    assert site.volumes == before
    return str(failure.value)


def test_an_unknown_template_is_refused(site: Site, empty_disk: Path) -> None:
    assert "create_base: true" in refused(site, source={"path": str(empty_disk)})


@pytest.mark.parametrize("name", ["", ".web", "we b", "web.v3", "a" * 65, "wéb", "../web"])
def test_bad_names_are_refused(site: Site, empty_disk: Path, name: str) -> None:
    message = refused(site, template=name, create_base=True, source={"path": str(empty_disk)})
    assert "template" in message


def test_a_running_vm_is_refused(site: Site, empty_disk: Path) -> None:
    publish(site, empty_disk)
    run_module("vm", name=site.vm("a"), template="web", storage_pools=[site.storage_pool], state="started")
    assert "shut it down first" in refused(site, source={"vm": site.vm("a")})
    virsh("managedsave", site.vm("a"))
    assert "managed save" in refused(site, source={"vm": site.vm("a")})


def test_other_content_under_a_used_name_is_refused(site: Site, empty_disk: Path, tmp_path: Path) -> None:
    publish(site, empty_disk, version_name="stable")
    other = make_disk(tmp_path / "other.qcow2", mark="other")
    assert "another version_name" in refused(site, source={"path": str(other)}, version_name="stable")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", "IMAGE", "1M"], "backing file"),
        (["create", "-f", "qcow2", "-o", "data_file=DATA", "IMAGE", "1M"], "external data file"),
        (["create", "-f", "vmdk", "IMAGE", "1M"], "vmdk"),
        (["create", "-f", "vdi", "IMAGE", "1M"], "vdi"),
        (["create", "-f", "vhdx", "IMAGE", "8M"], "vhdx"),
    ],
)
def test_images_that_are_not_stand_alone_or_of_another_format(
    site: Site, tmp_path: Path, arguments: list[str], words: str
) -> None:
    image = tmp_path / "image"
    given = [word.replace("IMAGE", str(image)).replace("DATA", str(tmp_path / "data")) for word in arguments]
    subprocess.run(["qemu-img", *given], check=True, capture_output=True)
    message = refused(site, create_base=True, source={"path": str(image)})
    assert words in message
    assert "qemu-img convert" in message


@pytest.mark.parametrize("content", [b"", b"\x9c" * 10**6, b"QFI\xfb\x00\x00\x00\x03", b"hello\n"])
def test_files_that_are_no_images(site: Site, tmp_path: Path, content: bytes) -> None:
    image = tmp_path / "image"
    image.write_bytes(content)
    assert str(image) in refused(site, create_base=True, source={"path": str(image)})


def test_a_volume_that_reads_files_of_the_host_is_refused(site: Site) -> None:
    image = site.folder / "sly.qcow2"
    command = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", str(image), "1M"]
    subprocess.run(command, check=True)
    virsh("pool-refresh", site.storage_pool)
    assert "/etc/shadow" in refused(site, create_base=True, source={"volume": "sly.qcow2"})


# --- relabelling -----------------------------------------------------------------------------------------------------


def test_relabel(site: Site, empty_disk: Path) -> None:
    publish(site, empty_disk)
    replay(
        "template_version",
        template="web",
        storage_pool=site.storage_pool,
        version="1",
        version_name="stable",
        description="tried",
        labels={"tier": "gold"},
        lifecycle="candidate",
    )
    stored = manifest(site, 1)
    assert (stored["version_name"], stored["lifecycle"], stored["labels"]) == ("stable", "candidate", {"tier": "gold"})


def test_latest_is_the_highest_active_version(site: Site, empty_disk: Path, tmp_path: Path) -> None:
    publish(site, empty_disk)
    publish(site, make_disk(tmp_path / "2.qcow2", mark="2"), lifecycle="candidate")
    listed = run_module("template_version_info", storage_pool=site.storage_pool)["template_versions"]
    assert [(entry["version"], entry["latest"]) for entry in listed] == [(1, True)]
    run_module("template_version", template="web", storage_pool=site.storage_pool, version="2", lifecycle="active")
    listed = run_module("template_version_info", storage_pool=site.storage_pool, all_versions=True)["template_versions"]
    assert [(entry["version"], entry["latest"]) for entry in listed] == [(1, False), (2, True)]


def test_a_revoked_version_makes_no_vm(site: Site, empty_disk: Path) -> None:
    publish(site, empty_disk)
    run_module("template_version", template="web", storage_pool=site.storage_pool, version="1", lifecycle="revoked")
    with pytest.raises(ModuleFailed, match="revoked"):
        run_module("vm", name=site.vm("a"), template="web", template_version="1", storage_pools=[site.storage_pool])
    assert site.vms == []


# --- deleting --------------------------------------------------------------------------------------------------------


def test_a_number_is_not_used_again(site: Site, empty_disk: Path, tmp_path: Path) -> None:
    publish(site, empty_disk)
    publish(site, make_disk(tmp_path / "2.qcow2", mark="2"))
    replay("template_version", template="web", storage_pool=site.storage_pool, version="2", state="absent")
    assert site.volumes == ["web.v1.json", "web.v1.qcow2", "web.v2.json"]
    assert manifest(site, 2)["status"] == "deleted"
    assert publish(site, make_disk(tmp_path / "3.qcow2", mark="3"))["version"] == 3
    replay("template_version", template="web", storage_pool=site.storage_pool, state="absent")
    assert site.volumes == []


def test_a_version_in_use_is_not_deleted(site: Site, empty_disk: Path) -> None:
    publish(site, empty_disk)
    run_module("vm", name=site.vm("a"), template="web", storage_pools=[site.storage_pool])
    for options in ({"version": "1"}, {}):
        with pytest.raises(ModuleFailed) as failure:
            run_module("template_version", template="web", storage_pool=site.storage_pool, state="absent", **options)
        assert failure.value.result["users"] == [f"VM {site.vm('a')!r}"]
    assert manifest(site, 1)["status"] == "ready"


def test_a_version_that_backs_a_foreign_volume_is_not_deleted(site: Site, empty_disk: Path) -> None:
    publish(site, empty_disk)
    image = volume_path(site.storage_pool, "web.v1.qcow2")
    command = ["vol-create-as", site.storage_pool, "other.qcow2", "64M", "--format", "qcow2"]
    virsh(*command, "--backing-vol", image, "--backing-vol-format", "qcow2")
    message = refused(site, version="1", state="absent")
    assert "volume 'other.qcow2'" in message


def test_a_claim_whose_publisher_died(site: Site, empty_disk: Path, tmp_path: Path) -> None:
    publish(site, empty_disk)
    virsh("vol-create-as", site.storage_pool, "web.v2.json", "65536", "--format", "raw")
    listed = run_module("template_version_info", storage_pool=site.storage_pool, all_versions=True)["template_versions"]
    assert [(entry["version"], entry["complete"], entry["latest"]) for entry in listed] == [
        (1, True, True),
        (2, False, False),
    ]
    assert publish(site, make_disk(tmp_path / "3.qcow2", mark="3"))["version"] == 3
    run_module("template_version", template="web", storage_pool=site.storage_pool, version="2", state="absent")
    assert manifest(site, 2)["status"] == "deleted"
