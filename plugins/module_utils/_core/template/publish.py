"""Publishing a template version: whether it is there already, and the steps that make it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from .. import names
from ..errors import ExistsError, NotFoundError, RefusedError
from ..hypervisor import Hypervisor
from ..libvirt_xml import domain_xml
from ..libvirt_xml.volume_xml import new_volume
from ..permissions import may_create_filled_volume, may_delete_volume
from ..plan import Plan, Step
from ..units import human_size
from . import manifest, relabel
from .catalog import Template, describe_version, read_template
from .manifest import Image, Manifest
from .relabel import Labels
from .source import Content, Hardware, Source, look_at


@dataclass(frozen=True)
class Request:
    """What the user wants published."""

    template: str
    storage_pool: str
    source: Source
    hardware: Hardware
    labels: Labels
    create_base: bool = False


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
    content = look_at(hv, template, request.source, request.hardware)
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


def _check_same(named: Manifest, content: Content) -> None:
    if content.capacity == named.image.capacity and content.digest() in _digests(named):
        return
    raise RefusedError(
        f"version {named.version} of template {named.template!r} is named {named.version_name!r} already and has other "
        "content than this source; versions never change, so publish this one under another version_name"
    )


def _equal_version(template: Template, content: Content) -> Manifest | None:
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
    return version.image.sha256, version.source_sha256 or version.image.sha256


# --- the new version -------------------------------------------------------------------------------------------------


@dataclass
class _Publication:
    """A version on its way: the claim may get a higher number than planned when others publish at the same time."""

    hv: Hypervisor
    storage_pool: str
    draft: Manifest
    content: Content
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
            image=replace(self.draft.image, sha256=digest),
            source_sha256=source_digest if source_digest != digest else "",
        )

    def remove_image(self) -> None:
        if self.image_made:
            for volume in (self.draft.image.volume, names.upload_volume(self.draft.image.volume)):
                self.hv.delete_volume(self.storage_pool, volume)

    def finish(self) -> None:
        if self.shared_image and not self._is_kept():
            raise NotFoundError(f"the image {self.shared_image!r} was deleted by another task in the meantime")
        self.draft = self.draft.revised(status=manifest.READY)
        self._write()
        self._check_name_is_free()

    def _is_kept(self) -> bool:
        """Whether the shared image stays: another version still has it.

        The claim names it already, and who deletes a version marks it first, then looks who names its image: so one of
        the two tasks sees the other.
        """
        others = read_template(self.hv, self.storage_pool, self.draft.template).ready
        return any(other.image.volume == self.shared_image for other in others if other.version != self.draft.version)

    def withdraw(self) -> None:
        """Offer the version to nobody any more, before its image goes."""
        self.draft = self.draft.revised(status=manifest.CREATING)
        self._write()

    def _write(self) -> None:
        volume = names.manifest_volume(self.draft.template, self.draft.version)
        self.hv.write_volume(self.storage_pool, volume, self.draft.to_bytes())

    def result(self) -> dict[str, Any]:
        latest = read_template(self.hv, self.storage_pool, self.draft.template).latest
        return describe_version(self.draft, self.storage_pool, latest.version if latest else None)


def _plan_new(hv: Hypervisor, template: Template, request: Request, content: Content) -> Plan:
    storage_pool = hv.storage_pool(template.storage_pool)
    if content.space > storage_pool.available:
        raise RefusedError(
            f"storage pool {storage_pool.name!r} has {human_size(storage_pool.available)} available, and the image "
            f"takes up to {human_size(content.space)}; delete what is not needed, or publish into another storage pool"
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
            needs=may_create_filled_volume(storage_pool.name, names.manifest_volume(template.name, number)),
        )
    ]
    if shared is None:
        say = f"make the image {image.volume!r} in storage pool {storage_pool.name!r}"
        needs = may_create_filled_volume(storage_pool.name, image.volume)
        if request.source.path is not None:  # a raw file is uploaded beside, and converted
            beside = names.upload_volume(image.volume)
            needs += may_create_filled_volume(storage_pool.name, beside)
            needs += may_delete_volume(storage_pool.name, beside)
        steps.append(Step(say, publication.make_image, publication.remove_image, needs=needs))
    steps.append(Step(f"make version {number} ready", publication.finish, publication.withdraw))
    return Plan(before={}, after=after, steps=tuple(steps), look=publication.result)


def _shared_image(template: Template, source: Source) -> Image | None:
    return template.select(source.version).image if source.version is not None else None


def _latest_after(latest: Manifest | None, draft: Manifest) -> int | None:
    if draft.lifecycle == manifest.ACTIVE:
        return draft.version
    return latest.version if latest else None
