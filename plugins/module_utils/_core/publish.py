"""Publishing a template version: from a VM, a volume, a file, or another version of the template."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Callable

from . import domain_xml, image_format, manifest, names, relabel
from .catalog import Entry, Template, describe_version, read_manifest, read_template
from .domain_xml import Network
from .errors import ExistsError, InvalidError, NotFoundError, RefusedError
from .hypervisor import Hypervisor, ImageFile, Volume
from .manifest import Image, Manifest
from .plan import Plan, Step
from .relabel import Labels
from .units import human_size
from .volume_xml import new_volume

READ_ONLY = "0444"
"""Mode of an image: no VM can open it for writing, while overlays on it work."""


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
        return domain_xml.with_changes(template, cpus=self.cpus, memory=self.memory, networks=self.networks)


@dataclass(frozen=True)
class Source:
    """Where a version comes from: exactly one of the four is given."""

    vm: str | None = None
    volume: str | None = None
    storage_pool: str | None = None
    path: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class Request:
    """What the user wants published."""

    template: str
    storage_pool: str
    source: Source
    hardware: Hardware
    labels: Labels
    create_base: bool = False


@dataclass(frozen=True)
class _Content:
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


def plan_publish(hv: Hypervisor, request: Request) -> Plan:
    """Return the plan that publishes the next version, or that leaves an equal one as it is."""
    template = read_template(hv, request.storage_pool, request.template)
    if not template.entries and not request.create_base:
        raise NotFoundError(
            f"there is no template {request.template!r} in storage pool {request.storage_pool!r}; "
            "set 'create_base: true' to make it with this version as its first"
        )
    if request.source.version is not None and not template.entries:
        raise NotFoundError(
            f"template {request.template!r} has no version {request.source.version!r} to take as source"
        )
    named = _version_of_name(template, request.labels.version_name)
    if named is not None and not _digest_is_cheap(request.source):
        return relabel.plan_relabel(hv, template, named, request.labels)
    content = _look_at(hv, template, request)
    if named is not None:
        _check_same(named, content)
        return relabel.plan_relabel(hv, template, named, request.labels)
    equal = _equal_version(template, content) if not request.labels.version_name else None
    if equal is not None:
        return relabel.plan_relabel(hv, template, equal, request.labels)
    return _plan_new(hv, template, request, content)


# --- is it there already? --------------------------------------------------------------------------------------------


def _version_of_name(template: Template, version_name: str | None) -> Manifest | None:
    if not version_name:
        return None
    return next((version for version in template.ready if version.version_name == version_name), None)


def _digest_is_cheap(source: Source) -> bool:
    """Whether the content can be compared without a VM that is shut off or a volume read whole."""
    return source.path is not None or source.version is not None


def _check_same(named: Manifest, content: _Content) -> None:
    if content.capacity == named.image.capacity and content.digest() in _digests(named):
        return
    raise RefusedError(
        f"version {named.version} of template {named.template!r} is named {named.version_name!r} already and has other "
        "content than this source; versions never change, so publish this one under another version_name"
    )


def _equal_version(template: Template, content: _Content) -> Manifest | None:
    """Return the newest version, or latest, if it has this content and hardware."""
    candidates = [version for version in template.ready[-1:] if version.lifecycle != manifest.REVOKED]
    if template.latest is not None and template.latest not in candidates:
        candidates.append(template.latest)
    hardware = domain_xml.canonical(content.domain_xml)
    for version in candidates:
        if (
            version.image.capacity == content.capacity
            and domain_xml.canonical(version.domain_xml) == hardware
            and content.digest() in _digests(version)
        ):
            return version
    return None


def _digests(version: Manifest) -> tuple[str, ...]:
    return version.image.sha256, version.source.get("sha256", "")


# --- the sources -----------------------------------------------------------------------------------------------------


def _look_at(hv: Hypervisor, template: Template, request: Request) -> _Content:
    source = request.source
    if source.version is not None:
        return _from_version(template, template.select(source.version), request.hardware)
    if source.vm is not None:
        return _from_vm(hv, template, source.vm, request)
    if source.volume is not None:
        return _from_volume(hv, template, source, request)
    return _from_path(hv, template, source.path or "", request)


def _from_version(template: Template, version: Manifest, hardware: Hardware) -> _Content:
    if hardware.firmware is not None or hardware.graphics is not None:
        raise InvalidError("hardware: firmware and graphics can be given only for a source that is a path or a volume")
    return _Content(
        described={"kind": "version", "name": str(version.version), "sha256": version.image.sha256},
        domain_xml=hardware.applied_to(version.domain_xml),
        capacity=version.image.capacity,
        space=0,
        digest=lambda: version.image.sha256,
        copy=lambda name: (version.image.sha256, version.image.sha256),
    )


def _from_vm(hv: Hypervisor, template: Template, name: str, request: Request) -> _Content:
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
    if request.hardware.firmware is not None or request.hardware.graphics is not None:
        raise InvalidError("hardware: firmware and graphics can be given only for a source that is a path or a volume")
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
    hardware = request.hardware.applied_to(domain_xml.template_of(vm))
    return _from_chain(hv, template, {"kind": "vm", "name": name}, volume, hardware)


def _from_volume(hv: Hypervisor, template: Template, source: Source, request: Request) -> _Content:
    storage_pool = source.storage_pool or request.storage_pool
    hv.storage_pool(storage_pool)
    volume = hv.volume(storage_pool, source.volume or "")
    if volume is None:
        raise NotFoundError(f"there is no volume {source.volume!r} in storage pool {storage_pool!r}")
    for domain in hv.domains():
        if domain.active and any(disk.source == volume.path for disk in domain_xml.read(domain).disks):
            raise RefusedError(
                f"volume {volume.name!r} is in use by the running VM {domain.name!r}; shut it down first"
            )
    described = {"kind": "volume", "name": volume.name, "storage_pool": storage_pool}
    return _from_chain(hv, template, described, volume, _default_hardware(hv, request.hardware))


def _from_chain(
    hv: Hypervisor, template: Template, described: dict[str, str], volume: Volume, hardware: str
) -> _Content:
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

    return _Content(
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
        domain_xml.check_bootable(chain[-1].name, chain[-1].format)
        below = hv.volume_at(chain[-1].backing_path)
        if below is None or below in chain:
            raise RefusedError(
                f"volume {chain[-1].name!r} refers to {chain[-1].backing_path}, which is no volume of an "
                "active storage "
                "pool; a source must not read other files of the host: flatten it, or define a storage pool "
                "for that folder"
            )
        chain.append(below)
    domain_xml.check_bootable(chain[-1].name, chain[-1].format)
    return chain


def _layer_digest(hv: Hypervisor, layer: Volume) -> Callable[[], str]:
    """Return how to get the digest of one layer: from its manifest if it is an image of ours, else by reading it."""

    def digest() -> str:
        stem = layer.name.removesuffix(".qcow2")
        parsed = names.parse_manifest_volume(stem + ".json")
        stored = read_manifest(hv, layer.storage_pool, *parsed) if parsed else None
        if stored is not None and stored.ready and stored.image.volume == layer.name:
            return stored.image.sha256
        return hv.volume_digest(layer.storage_pool, layer.name)

    return digest


def _from_path(hv: Hypervisor, template: Template, path: str, request: Request) -> _Content:
    file = hv.image_file(path)
    found = image_format.recognise(file)
    file_based = hv.storage_pool(template.storage_pool).file_based
    if not file_based and found.format != "raw":
        raise RefusedError(
            f"storage pool {template.storage_pool!r} holds raw volumes, and {path} is {found.format}; "
            "convert it with 'qemu-img convert -O raw' first"
        )

    def copy(name: str) -> tuple[str, str]:
        if file_based and found.format == "raw":
            return _upload_raw(hv, template.storage_pool, name, file)
        uploaded = _upload(hv, template.storage_pool, name, file)
        return uploaded, uploaded

    return _Content(
        described={"kind": "path", "name": path},
        domain_xml=_default_hardware(hv, request.hardware),
        capacity=found.capacity,
        space=file.allocation * (2 if file_based and found.format == "raw" else 1),
        digest=lambda: hv.file_digest(path),
        copy=copy,
    )


def _default_hardware(hv: Hypervisor, hardware: Hardware) -> str:
    template = domain_xml.default_template(
        hv.host().arch, hardware.firmware or domain_xml.BIOS, hardware.graphics or "vnc"
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
    beside = raw_upload(name)
    try:
        raw = hv.create_volume(storage_pool, new_volume(beside, file.size, "raw"))
        uploaded = hv.upload(storage_pool, beside, file.path)
        _copy_image(hv, storage_pool, name, raw)
    finally:
        hv.delete_volume(storage_pool, beside)
    return hv.volume_digest(storage_pool, name), uploaded


def raw_upload(image: str) -> str:
    """Return the name of the volume that a raw file is uploaded to before it becomes the image."""
    return image.removesuffix(".qcow2") + ".upload"


# --- the new version -------------------------------------------------------------------------------------------------


@dataclass
class _Publication:
    """A version on its way: the claim may get a higher number than planned when others publish at the same time."""

    hv: Hypervisor
    storage_pool: str
    draft: Manifest
    content: _Content
    claimed: bool = False
    image_made: bool = False
    shared_image: str = field(default="")

    def claim(self) -> None:
        while not self.claimed:
            volume = names.manifest_volume(self.draft.template, self.draft.version)
            try:
                self.hv.create_volume(self.storage_pool, new_volume(volume, manifest.CAPACITY, "raw"))
                self.claimed = True
            except ExistsError:
                self.draft = self._numbered(self.draft.version + 1)
        self._write()

    def _numbered(self, version: int) -> Manifest:
        image = self.draft.image
        if not self.shared_image:
            file_based = image.format == "qcow2"
            image = Image(names.image_volume(self.draft.template, version, file_based), image.format, image.capacity)
        return self.draft.revised(version=version, image=image)

    def _check_name_is_free(self) -> None:
        """Of two tasks that publish one version name at once, the one with the lower number has it."""
        for other in read_template(self.hv, self.storage_pool, self.draft.template).ready:
            same = self.draft.version_name and other.version_name == self.draft.version_name
            if same and other.version < self.draft.version:
                raise ExistsError(
                    f"another task has just published {other.version_name!r} as version {other.version} of template "
                    f"{self.draft.template!r}; run this task again to see whether it is the same"
                )

    def give_up_claim(self) -> None:
        if self.claimed:
            self.hv.delete_volume(self.storage_pool, names.manifest_volume(self.draft.template, self.draft.version))

    def make_image(self) -> None:
        self.image_made = True
        digest, source_digest = self.content.copy(self.draft.image.volume)
        self.draft = self.draft.revised(
            image=replace(self.draft.image, sha256=digest), source={**self.draft.source, "sha256": source_digest}
        )

    def remove_image(self) -> None:
        if self.image_made:
            for volume in (self.draft.image.volume, raw_upload(self.draft.image.volume)):
                self.hv.delete_volume(self.storage_pool, volume)

    def finish(self) -> None:
        self.draft = self.draft.revised(status=manifest.READY)
        self._write()
        self._check_name_is_free()

    def _write(self) -> None:
        volume = names.manifest_volume(self.draft.template, self.draft.version)
        self.hv.write_volume(self.storage_pool, volume, self.draft.to_bytes())

    def result(self) -> dict[str, Any]:
        latest = read_template(self.hv, self.storage_pool, self.draft.template).latest
        return describe_version(self.draft, self.storage_pool, latest.version if latest else None)


def _plan_new(hv: Hypervisor, template: Template, request: Request, content: _Content) -> Plan:
    storage_pool = hv.storage_pool(template.storage_pool)
    if content.space > storage_pool.available:
        raise RefusedError(
            f"storage pool {storage_pool.name!r} has {human_size(storage_pool.available)} available, and the "
            "image takes "
            f"up to {human_size(content.space)}; free some space (playbook prune), or publish into another storage pool"
        )
    shared = _shared_image(template, request.source)
    number = template.next_number
    image = shared or Image(
        names.image_volume(template.name, number, storage_pool.file_based),
        "qcow2" if storage_pool.file_based else "raw",
        content.capacity,
    )
    draft = Manifest(
        template=template.name,
        version=number,
        created=hv.now(),
        source=content.described,
        image=image,
        domain_xml=content.domain_xml,
        **request.labels.given(),
    )
    draft.to_bytes()  # does it fit?
    publication = _Publication(hv, storage_pool.name, draft, content, shared_image=shared.volume if shared else "")
    after = describe_version(
        draft.revised(status=manifest.READY), storage_pool.name, _latest_after(template.latest, draft)
    )
    steps = [
        Step(
            f"claim version {number} of template {template.name!r}",
            publication.claim,
            publication.give_up_claim,
        )
    ]
    if shared is None:
        say = f"make the image {image.volume!r} in storage pool {storage_pool.name!r}"
        steps.append(Step(say, publication.make_image, publication.remove_image))
    steps.append(Step(f"make version {number} ready", publication.finish))
    return Plan(before={}, after=after, steps=tuple(steps), look=publication.result)


def _shared_image(template: Template, source: Source) -> Image | None:
    return template.select(source.version).image if source.version is not None else None


def _latest_after(latest: Manifest | None, draft: Manifest) -> int | None:
    if draft.lifecycle == manifest.ACTIVE:
        return draft.version
    return latest.version if latest else None


def stored_image(entry: Entry, file_based: bool) -> str:
    """Return the name of the image volume of a stored version, whole or not."""
    if entry.manifest is not None:
        return entry.manifest.image.volume
    return names.image_volume(entry.template, entry.version, file_based)
