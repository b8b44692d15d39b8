"""Tasks that are disturbed on a real libvirtd, each with the state that it begins in."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .fixtures import Site, make_disk
from .modules import run_module
from .tasks import Task, Tasks, task
from .virsh import root_path, virsh

HARDWARE = {"memory": "64MiB", "networks": [], "graphics": "none"}
FORCE = {"mode": "force"}
FILES = [{"name": "etc/motd", "content": "hello\n"}]


def nothing(_site: Site, _tasks: Tasks) -> None:
    """What is to be done after most tasks."""


@dataclass(frozen=True)
class Scenario:
    """A task, what is made before it, and what a user is told to do after its rerun.

    Of its calls at most ``most`` are tried unless all are: less where QEMU has to be started for each.
    """

    name: str
    prepare: Callable[[Site], None]
    task: Callable[[Site], Task]
    tidy: Callable[[Site, Tasks], None] = nothing
    most: int = 6


# --- what is made before ---------------------------------------------------------------------------------------------


def image(site: Site, mark: str) -> str:
    """Return the path of a disk image, made if it is not there."""
    path = site.folder.parent / f"{mark}.qcow2"
    if not path.exists():
        make_disk(path, "16M", mark=mark)
    return str(path)


def raw_image(site: Site) -> str:
    """Return the path of a raw disk image."""
    path = site.folder.parent / "new.raw"
    with path.open("wb") as file:
        file.truncate(4 * 1024**2)
        file.seek(510)
        file.write(b"\x55\xaa")
    return str(path)


def publish(site: Site, mark: str) -> None:
    """Publish the next version of the template web."""
    run_module(
        "template_version",
        template="web",
        storage_pool=site.storage_pool,
        create_base=True,
        source={"path": image(site, mark)},
        hardware=HARDWARE,
    )


def make_vm(site: Site, name: str = "a", *, state: str = "present", **options: Any) -> str:
    """Make a VM of version 1, write something on its root, and return its name."""
    vm = site.vm(name)
    made = {"template": "web", "template_version": "1", "storage_pools": [site.storage_pool], **options}
    run_module("vm", name=vm, **made)
    write_on(Path(root_path(vm)))
    if state == "started":
        virsh("start", vm)
    return vm


def write_on(path: Path) -> None:
    """Write on a volume of a VM that is down, as its guest would."""
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", path], check=True, capture_output=True)


def make_volume(site: Site, name: str = "data.qcow2") -> None:
    """Make a free volume with something on it."""
    virsh("vol-create-as", site.storage_pool, name, "8M", "--format", "qcow2")
    write_on(site.folder / name)


def one_version(site: Site) -> None:
    """One version of the template."""
    publish(site, "first")


def two_versions(site: Site) -> None:
    """Two versions of the template."""
    publish(site, "first")
    publish(site, "second")


def a_vm(state: str = "present", **options: Any) -> Callable[[Site], None]:
    """Return what makes a VM of version 1 of two."""

    def prepare(site: Site) -> None:
        two_versions(site)
        make_vm(site, state=state, **options)

    return prepare


def a_kept_root(state: str) -> Callable[[Site], None]:
    """Return what makes a VM that can be rolled back."""

    def prepare(site: Site) -> None:
        a_vm()(site)
        vm = site.vm("a")
        run_module("vm_restore", vm=vm, template_version="2", keep_previous=True)
        write_on(Path(root_path(vm)))
        if state == "started":
            virsh("start", vm)

    return prepare


def a_free_volume(state: str) -> Callable[[Site], None]:
    """Return what makes a VM and a volume that it can get."""

    def prepare(site: Site) -> None:
        a_vm(state)(site)
        make_volume(site)

    return prepare


def an_attached_volume(state: str) -> Callable[[Site], None]:
    """Return what makes a VM with a data volume; USB, as nothing in a guest has to let go of that."""

    def prepare(site: Site) -> None:
        a_vm()(site)
        make_volume(site)
        run_module(
            "volume_attach", vm=site.vm("a"), storage_pool=site.storage_pool, volume="data.qcow2", bus="usb",
            serial="s1",
        )  # fmt: skip
        if state == "started":
            virsh("start", site.vm("a"))

    return prepare


def a_detached_root(site: Site) -> None:
    """A VM whose root is detached, and another one that is to get it."""
    a_vm()(site)
    run_module("volume_attach", vm=site.vm("a"), device_id=0, state="detached")


def a_payload(state: str) -> Callable[[Site], None]:
    """Return what makes a VM with a payload."""

    def prepare(site: Site) -> None:
        a_vm()(site)
        run_module("vm_payload", vm=site.vm("a"), files=FILES)
        if state == "started":
            virsh("start", site.vm("a"))

    return prepare


def a_pool(taken: bool) -> Callable[[Site], None]:
    """Return what makes a pool of two VMs, of which one runs and may be taken."""

    def prepare(site: Site) -> None:
        publish(site, "first")
        pools = [site.storage_pool]
        run_module("vm_pool", vm_pool=site.vm("p"), template="web", count=2, storage_pools=pools)
        if taken:
            run_module("vm_lease", vm_pool=site.vm("p"), user="ada")

    return prepare


def three_members(site: Site) -> None:
    """A pool of three VMs that are down."""
    publish(site, "first")
    run_module("vm_pool", vm_pool=site.vm("p"), template="web", count=3, storage_pools=[site.storage_pool])


def a_rich_vm(site: Site) -> None:
    """A VM that has all that a VM can have."""
    a_kept_root("present")(site)
    vm = site.vm("a")
    make_volume(site)
    run_module("volume_attach", vm=vm, storage_pool=site.storage_pool, volume="data.qcow2")
    run_module("vm_payload", vm=vm, files=FILES)
    virsh("start", vm)


# --- the tasks -------------------------------------------------------------------------------------------------------


def publishing(**source: Callable[[Site], str]) -> Callable[[Site], Task]:
    """Return what publishes a version from this source."""
    return lambda site: task(
        "template_version",
        template="web",
        storage_pool=site.storage_pool,
        source={kind: where(site) for kind, where in source.items()},
        hardware={"memory": "64MiB"},
    )


def restoring(**options: Any) -> Callable[[Site], Task]:
    """Return what restores the VM."""
    return lambda site: task("vm_restore", vm=site.vm("a"), shutdown=FORCE, **options)


def attaching(**options: Any) -> Callable[[Site], Task]:
    """Return what attaches or detaches a volume of the VM."""
    return lambda site: task(
        "volume_attach", vm=site.vm("a"), storage_pool=site.storage_pool, wait_timeout=20, **options
    )


def paying_load(**options: Any) -> Callable[[Site], Task]:
    """Return what gives the VM its payload, or takes it away."""
    return lambda site: task("vm_payload", vm=site.vm("a"), **options)


def ensuring_pool(**options: Any) -> Callable[[Site], Task]:
    """Return what makes the pool, or changes it."""
    return lambda site: task("vm_pool", vm_pool=site.vm("p"), storage_pools=[site.storage_pool], **options)


def leasing(**options: Any) -> Callable[[Site], Task]:
    """Return what takes a VM of the pool, or returns it."""
    return lambda site: task("vm_lease", vm_pool=site.vm("p"), user="ada", **options)


def delete_dead_claims(site: Site, tasks: Tasks) -> None:
    """Delete the versions whose publisher was killed, as the info module shows them; then nothing is left of them."""
    listed = run_module("template_version_info", storage_pool=site.storage_pool, all_versions=True)["template_versions"]
    for dead in listed:
        if not dead["complete"]:
            tasks.run(
                task(
                    "template_version",
                    template="web",
                    storage_pool=site.storage_pool,
                    version=str(dead["version"]),
                    state="absent",
                )
            ).succeeded()


SCENARIOS = [
    Scenario("publish a file", one_version, publishing(path=lambda s: image(s, "third")), delete_dead_claims),
    Scenario("publish a raw file", one_version, publishing(path=raw_image), delete_dead_claims),
    Scenario("publish a VM", a_vm(), publishing(vm=lambda s: s.vm("a")), delete_dead_claims),
    Scenario("restore, stopped", a_vm(), restoring(template_version="2")),
    Scenario("restore, running", a_vm("started"), restoring(template_version="2"), most=2),
    Scenario(
        "restore, keeping the previous root",
        a_kept_root("started"),
        restoring(template_version="1", keep_previous=True),
        most=2,
    ),
    Scenario("roll back, stopped", a_kept_root("present"), restoring(state="rolled_back")),
    Scenario("roll back, running", a_kept_root("started"), restoring(state="rolled_back"), most=2),
    Scenario("attach, stopped", a_free_volume("present"), attaching(volume="data.qcow2")),
    Scenario("attach, running", a_free_volume("started"), attaching(volume="data.qcow2", bus="usb"), most=2),
    Scenario("detach, stopped", an_attached_volume("present"), attaching(volume="data.qcow2", state="detached")),
    Scenario(
        "detach, running", an_attached_volume("started"), attaching(volume="data.qcow2", state="detached"), most=2
    ),
    Scenario("detach the root", a_vm(), attaching(device_id=0, state="detached")),
    Scenario(
        "attach the root",
        a_detached_root,
        lambda s: attaching(device_id=0, volume=f"{s.vm('a')}.root.1.qcow2")(s),
    ),
    Scenario("payload, stopped", a_vm(), paying_load(files=FILES)),
    Scenario("payload, running", a_payload("started"), paying_load(files=[{"name": "other", "content": "x"}]), most=2),
    Scenario("payload absent, stopped", a_payload("present"), paying_load(state="absent")),
    Scenario("payload absent, running", a_payload("started"), paying_load(state="absent"), most=2),
    # By its name: else an error has the user get another one, which is no other end, but not an equal one.
    Scenario("take", a_pool(taken=False), lambda s: leasing(vm=f"{s.vm('p')}-1")(s), most=2),
    Scenario("return", a_pool(taken=True), leasing(state="returned", shutdown=FORCE), most=2),
    Scenario("make a pool", one_version, ensuring_pool(template="web", count=3)),
    Scenario("shrink a pool", three_members, ensuring_pool(count=1)),
    Scenario(
        "vm absent",
        a_rich_vm,
        lambda s: task("vm", name=s.vm("a"), state="absent", delete_data_volumes=True, wait_timeout=1),
        most=2,
    ),
]
