"""The data volumes that a VM is to have: attached or made where they are missing, grown where they are too small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from ..errors import ExistsError, InvalidError, RefusedError
from ..hypervisor import Hypervisor, Volume
from ..libvirt_xml import disk_xml
from ..permissions import may_create_volume, may_resize_disk, may_resize_volume, may_write
from ..plan import Step
from ..units import human_size
from ..vm.vm_request import WantedVolume
from .allocation import Allocation, NewVolume, data_format
from .attach_steps import attach_steps, claimed, take_back
from .attachment import Attachment, AttachRequest, Place, choose, volume_of
from .volume_use import DiskUsers


@dataclass(frozen=True)
class DataVolumes:
    """What is to be done for the data volumes of a VM; ``xml`` is its definition as it is going to be."""

    steps: tuple[Step, ...]
    xml: str


def plan_data_volumes(
    hv: Hypervisor, place: Place, wanted: tuple[WantedVolume, ...], storage_pools: list[str]
) -> DataVolumes:
    """Return what gives a VM its data volumes."""
    _check_wanted(place.vm.name, wanted)
    present = place.ids()
    steps: list[Step] = []
    for volume in wanted:
        if volume.device_id in present:
            disk = present[volume.device_id]
            steps += grow_steps(hv, place, volume_of(hv, disk), disk.target, volume.size)
    missing = [volume for volume in wanted if volume.device_id not in present]
    xml = place.vm.domain.xml
    if missing:
        allocation = Allocation.read(hv, place.vm.name, storage_pools)
        for volume in missing:
            taking = _Taking(hv, place, allocation, volume)
            steps += taking.steps()
            xml = disk_xml.with_disk(xml, taking.expected.xml)
    return DataVolumes(tuple(steps), xml)


def grow_steps(hv: Hypervisor, place: Place, volume: Volume, target: str, wanted: int) -> Iterator[Step]:
    """Yield the step that grows a volume of a VM, stopped or running; none where it has the size."""
    name = place.vm.name
    if wanted < volume.capacity:
        raise RefusedError(
            f"volume {volume.name!r} of VM {name!r} has {human_size(volume.capacity)}, more than the "
            f"{human_size(wanted)} that are wanted; a disk cannot be made smaller without losing what is on it"
        )
    if wanted == volume.capacity:
        return
    say = f"grow volume {volume.name!r} of VM {name!r} from {human_size(volume.capacity)} to {human_size(wanted)}"
    if place.live_disk(target) is not None:
        yield Step(say, lambda: hv.resize_disk(name, target, wanted), final=True, needs=may_resize_disk(name))
    else:
        needs = may_resize_volume(volume.storage_pool, volume.name)
        yield Step(say, lambda: hv.resize_volume(volume.storage_pool, volume.name, wanted), final=True, needs=needs)


def _check_wanted(vm: str, wanted: tuple[WantedVolume, ...]) -> None:
    ids = [volume.device_id for volume in wanted]
    for number in ids:
        if number < 1:
            raise InvalidError(f"volumes of VM {vm!r}: device_id {number}: data volumes begin at 1, 0 is the root")
        if ids.count(number) > 1:
            raise InvalidError(f"volumes of VM {vm!r}: device_id {number} is wanted twice")


class _Taking:
    """One data volume that a VM gets: from the place that was found for it, else from the next that there is."""

    def __init__(self, hv: Hypervisor, place: Place, allocation: Allocation, wanted: WantedVolume) -> None:
        self.hv = hv
        self.place = place
        self.allocation = allocation
        self.wanted = wanted
        self.found = allocation.find(wanted.size)
        self.created: list[Volume] = []
        self.attachment: Attachment | None = None
        self.expected = self._attachment(self._expected_volume())

    def steps(self) -> Iterator[Step]:
        """Yield the steps that attach it."""
        name, size = self.place.vm.name, human_size(self.wanted.size)
        if isinstance(self.found, Volume):
            what = f"the free volume {self.found.name!r} of storage pool {self.found.storage_pool!r}"
            needs = may_write(name)
        else:
            what = f"the new volume {self.found.name!r} in storage pool {self.found.pool.name!r}"
            needs = (*may_write(name), *may_create_volume(self.found.pool.name, self.found.name))
        say = f"give VM {name!r} {what} ({size}) as {self.expected.target} (device id {self.wanted.device_id})"
        yield Step(say, self._take, self._give_back, needs=needs)

    def _take(self) -> None:
        found = self.found
        while True:
            try:
                self._attach(found)
                return
            except ExistsError:
                found = self.allocation.find(self.wanted.size)  # another task was quicker

    def _attach(self, found: Volume | NewVolume) -> None:
        if isinstance(found, NewVolume):
            volume = self.allocation.create(found)
            self.created.append(volume)
        else:
            volume = found
        self.attachment = self._attachment(volume)
        for step in attach_steps(self.hv, self.attachment):
            step.do()

    def _give_back(self) -> None:
        if self.attachment is not None:
            take_back(self.hv, self.place.vm.name, self.attachment.volume, self.attachment.target)
        for volume in self.created:
            # Another task may have claimed it to give it to its VM: then it is that one's.
            with suppress(ExistsError), claimed(self.hv, volume, self.place.vm.name):
                if not DiskUsers.read(self.hv).of(volume):
                    self.hv.delete_volume(volume.storage_pool, volume.name)

    def _attachment(self, volume: Volume) -> Attachment:
        request = AttachRequest(
            self.place.vm.name, device_id=self.wanted.device_id, bus=self.wanted.bus, serial=self.wanted.serial
        )
        return choose(self.place, volume, request)

    def _expected_volume(self) -> Volume:
        """Return the volume that is found, or what the new one is going to be like."""
        if isinstance(self.found, Volume):
            return self.found
        name, pool = self.found.name, self.found.pool
        path = f"{pool.path.rstrip('/')}/{name}"
        kind = "file" if pool.file_based else "block"
        return Volume(name, pool.name, path, kind, data_format(pool), self.found.size, 0)
