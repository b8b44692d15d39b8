"""What a version can be made of: a VM, a volume, a file, or another version of the template."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Callable

from .. import names
from ..errors import InvalidError, NotFoundError, RefusedError
from ..hypervisor import Hypervisor, ImageFile, Volume
from ..libvirt_xml import domain_xml, hardware_xml
from ..libvirt_xml.domain_edit import with_changes
from ..libvirt_xml.domain_xml import Disk, Network
from ..libvirt_xml.volume_xml import new_volume
from . import image_format
from .catalog import Template, read_manifest
from .manifest import Manifest

READ_ONLY = "0440"
"""Mode of an image: no VM can open it for writing, while overlays on it work, as libvirt makes it QEMU's."""


@dataclass(frozen=True)
class Hardware:
    """What is to differ from the hardware of the source; ``memory`` is in KiB, None leaves a part as it is."""

    cpus: int | None = None
    memory: int | None = None
    networks: tuple[Network, ...] | None = None
    firmware: str | None = None
    graphics: str | None = None

    def applied_to(self, template: str) -> str:
        """Return a hardware description with the overrides in it."""
        return with_changes(template, cpus=self.cpus, memory=self.memory, networks=self.networks)

    def check_fits_a_source_with_hardware(self) -> None:
        """Refuse what can be chosen only for an image that comes without hardware."""
        if self.firmware is not None or self.graphics is not None:
            raise InvalidError(
                "hardware: firmware and graphics can be given only for a source that is a path or a volume"
            )


@dataclass(frozen=True)
class Source:
    """Where a version comes from: exactly one of the four is given."""

    vm: str | None = None
    volume: str | None = None
    storage_pool: str | None = None
    path: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class Content:
    """A source that was looked at: its image, its hardware, and how to get a copy of it.

    ``digest`` tells equal content from other content; it is a function because it may have to read all of it.
    ``copy`` makes the image volume of the given name and returns the SHA-256 of its bytes, and ``digest``.
    """

    described: dict[str, str]
    domain_xml: str
    capacity: int
    space: int
    digest: Callable[[], str]
    copy: Callable[[str], tuple[str, str]]


def look_at(hv: Hypervisor, template: Template, source: Source, hardware: Hardware) -> Content:
    """Return what a source has to give, or say why it cannot be one."""
    if source.version is not None:
        return _from_version(template, template.select(source.version), hardware)
    if source.vm is not None:
        return _from_vm(hv, template, source.vm, hardware)
    if source.volume is not None:
        return _from_volume(hv, template, source, hardware)
    return _from_path(hv, template, source.path or "", hardware)


def _from_version(template: Template, version: Manifest, hardware: Hardware) -> Content:
    hardware.check_fits_a_source_with_hardware()
    return Content(
        described={"kind": "version", "name": str(version.version)},
        domain_xml=hardware.applied_to(version.domain_xml),
        capacity=version.image.capacity,
        space=0,
        digest=lambda: version.image.sha256,
        copy=lambda name: (version.image.sha256, version.image.sha256),
    )


def _from_vm(hv: Hypervisor, template: Template, name: str, hardware: Hardware) -> Content:
    domain = hv.domain(name)
    if domain is None:
        raise NotFoundError(f"there is no VM {name!r} to publish")
    if domain.active:
        raise RefusedError(
            f"VM {name!r} is {domain.state}; shut it down first, as the disk of a running VM is not at rest"
        )
    if domain.managed_save:
        raise RefusedError(
            f"VM {name!r} has a managed save image, so its disk is not at rest; start it and shut it down, "
            f"or drop the image with 'virsh managedsave-remove {name}'"
        )
    hardware.check_fits_a_source_with_hardware()
    vm = domain_xml.read(domain)
    root = vm.root_disk
    if root is None or not root.source:
        raise NotFoundError(f"VM {name!r} has no root disk; attach one before it is published")
    volume = hv.volume_at(root.source)
    if volume is None:
        raise NotFoundError(
            f"the root disk {root.source} of VM {name!r} is in no active storage pool; "
            "define (and refresh) a storage pool for its folder"
        )
    _check_format(volume, vm.name, root)
    xml = hardware.applied_to(hardware_xml.template_of(vm))
    return _from_chain(hv, template, {"kind": "vm", "name": name}, volume, xml)


def _from_volume(hv: Hypervisor, template: Template, source: Source, hardware: Hardware) -> Content:
    storage_pool = source.storage_pool or template.storage_pool
    hv.storage_pool(storage_pool)
    volume = hv.volume(storage_pool, source.volume or "")
    if volume is None:
        raise NotFoundError(f"there is no volume {source.volume!r} in storage pool {storage_pool!r}")
    for domain in hv.domains():
        for disk in domain_xml.disks_of(domain.xml):
            if disk.source == volume.path and domain.active:
                raise RefusedError(
                    f"volume {volume.name!r} is in use by the running VM {domain.name!r}; shut it down first"
                )
            if disk.source == volume.path:
                _check_format(volume, domain.name, disk)
    described = {"kind": "volume", "name": volume.name, "storage_pool": storage_pool}
    return _from_chain(hv, template, described, volume, _default_hardware(hv, hardware))


def _check_format(volume: Volume, vm: str, disk: Disk) -> None:
    """Refuse a raw disk that has the beginning of another format: what that is to refer to, its guest has written."""
    if volume.type == "file" and disk.device == "disk" and disk.format != volume.format:
        raise RefusedError(
            f"volume {volume.name!r} is a {disk.format} disk of VM {vm!r}, and to libvirt it looks like "
            f"{volume.format}: its guest may have made it look so to read other files of the host; copy what is on it "
            "to another disk"
        )


def _from_chain(
    hv: Hypervisor, template: Template, described: dict[str, str], volume: Volume, hardware: str
) -> Content:
    """Return a volume, and all that backs it, as content: the copy is stand-alone."""
    chain = _chain(hv, volume)
    layers = [_layer_digest(hv, layer) for layer in reversed(chain)]

    @cache
    def digest() -> str:
        known = [layer() for layer in layers]
        return known[0] if len(known) == 1 else hashlib.sha256(" ".join(known).encode()).hexdigest()

    def copy(name: str) -> tuple[str, str]:
        _copy_image(hv, template.storage_pool, name, volume)
        return hv.volume_digest(template.storage_pool, name), digest()

    return Content(
        described=described,
        domain_xml=hardware,
        capacity=volume.capacity,
        space=sum(layer.allocation for layer in chain),
        digest=digest,
        copy=copy,
    )


def _chain(hv: Hypervisor, volume: Volume) -> list[Volume]:
    """Return a volume and those that back it, top first; each must be a volume that libvirt knows."""
    chain = [volume]
    while chain[-1].backing_path:
        _check_layer(hv, chain[-1])
        below = hv.volume_at(chain[-1].backing_path)
        if below is None or below in chain:
            raise RefusedError(
                f"volume {chain[-1].name!r} refers to {chain[-1].backing_path}, which is no volume of an active "
                "storage pool; a source must not read other files of the host: flatten it, or define a storage pool "
                "for that folder"
            )
        chain.append(below)
    _check_layer(hv, chain[-1])
    return chain


def _check_layer(hv: Hypervisor, layer: Volume) -> None:
    hardware_xml.check_bootable(layer.name, layer.format)
    if layer.type == "file" and layer.format == "qcow2":
        head = hv.read_volume(layer.storage_pool, layer.name, image_format.QCOW2_HEADER)
        image_format.check_self_contained(head, f"volume {layer.name!r}")


def _layer_digest(hv: Hypervisor, layer: Volume) -> Callable[[], str]:
    """Return how to get the digest of one layer: from its manifest if it is an image of ours, else by reading it."""

    def digest() -> str:
        stem = layer.name.removesuffix(".qcow2")
        parsed = names.parse_manifest_volume(stem + ".json")
        stored = read_manifest(hv, layer.storage_pool, *parsed) if parsed else None
        if stored is not None and stored.ready and stored.image.volume == layer.name:
            return stored.image.sha256
        return hv.volume_digest(layer.storage_pool, layer.name, sparse=layer.format == "raw")

    return digest


def _from_path(hv: Hypervisor, template: Template, path: str, hardware: Hardware) -> Content:
    file = hv.image_file(path)
    found = image_format.recognise(file)
    file_based = hv.storage_pool(template.storage_pool).file_based
    if not file_based and found.format != "raw":
        raise RefusedError(
            f"storage pool {template.storage_pool!r} holds raw volumes, and {path} is {found.format}; "
            "convert it with 'qemu-img convert -O raw' first"
        )

    converted = file_based and found.format == "raw"

    def copy(name: str) -> tuple[str, str]:
        if converted:
            return _upload_raw(hv, template.storage_pool, name, file)
        uploaded = _upload(hv, template.storage_pool, name, file)
        return uploaded, uploaded

    return Content(
        described={"kind": "path", "name": path},
        domain_xml=_default_hardware(hv, hardware),
        capacity=found.capacity,
        space=file.allocation * (2 if converted else 1),
        digest=lambda: hv.file_digest(path, sparse=converted),
        copy=copy,
    )


def _default_hardware(hv: Hypervisor, hardware: Hardware) -> str:
    template = hardware_xml.default_template(
        hv.host().arch, hardware.firmware or hardware_xml.BIOS, hardware.graphics or "vnc"
    )
    return hardware.applied_to(template)


# --- the image -------------------------------------------------------------------------------------------------------


def _copy_image(hv: Hypervisor, storage_pool: str, name: str, source: Volume) -> None:
    image_format_ = "qcow2" if hv.storage_pool(storage_pool).file_based else "raw"
    hv.copy_volume(storage_pool, new_volume(name, source.capacity, image_format_, mode=READ_ONLY), source)


def _upload(hv: Hypervisor, storage_pool: str, name: str, file: ImageFile) -> str:
    # Created as raw, whatever is in it: so the volume gets exactly the bytes of the file.
    hv.create_volume(storage_pool, new_volume(name, file.size, "raw", mode=READ_ONLY))
    return hv.upload(storage_pool, name, file.path)


def _upload_raw(hv: Hypervisor, storage_pool: str, name: str, file: ImageFile) -> tuple[str, str]:
    """Bring a raw file into a storage pool whose images are qcow2: upload it beside, and let libvirt convert it."""
    beside = names.upload_volume(name)
    try:
        raw = hv.create_volume(storage_pool, new_volume(beside, file.size, "raw"))
        uploaded = hv.upload(storage_pool, beside, file.path, sparse=True)
        _copy_image(hv, storage_pool, name, raw)
    finally:
        hv.delete_volume(storage_pool, beside)
    return hv.volume_digest(storage_pool, name), uploaded
