"""Finding a place for data volumes: a free volume of the right size, else a new one where there is room.

All places are found before anything changes. Two tasks that want volumes at once may find the same place: the one that
comes second takes its next choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from .. import names
from ..errors import ExistsError, GoldenError, RefusedError
from ..hypervisor import CREATING_POOLS, Hypervisor, StoragePool, Volume
from ..libvirt_xml.volume_xml import new_volume
from ..units import human_size
from .volume_use import DiskUsers, check_readable, free_volumes


@dataclass(frozen=True)
class NewVolume:
    """A volume that is to be made; its name may be another one if a task is quicker that makes that one, too."""

    name: str
    pool: StoragePool
    size: int


@dataclass
class Allocation:
    """The storage that one task has to choose from for one VM; what it has given away once it does not give again."""

    hv: Hypervisor
    vm: str
    free: list[Volume]
    pools: list[StoragePool]
    promised: list[NewVolume] = field(default_factory=list)

    @classmethod
    def read(cls, hv: Hypervisor, vm: str, storage_pools: list[str]) -> Allocation:
        """Look at the candidate storage pools, in their order."""
        pools = [hv.storage_pool(name) for name in dict.fromkeys(storage_pools)]
        free = free_volumes(hv, [pool.name for pool in pools], DiskUsers.read(hv))
        # What was made for this very VM, and was kept when it was removed, comes first.
        free.sort(key=lambda volume: not names.is_data_volume_of(vm, volume.name))
        return cls(hv, vm, free, pools)

    def find(self, size: int) -> Volume | NewVolume:
        """Return the place for a volume of this many bytes: a free one, or the one that can be made."""
        for volume in self.free:
            if volume.capacity == size and self._readable(volume):
                self.free.remove(volume)
                return volume
        for pool in self.pools:
            if not self._lack(pool, size):
                new = NewVolume(self._new_name(pool), pool, size)
                self.promised.append(new)
                return new
        lacks = "; ".join(f"{pool.name}: {self._lack(pool, size)}" for pool in self.pools)
        raise RefusedError(
            f"there is no place for a data volume of {human_size(size)} for VM {self.vm!r}: no free volume of exactly "
            f"that size, and none can be made: {lacks}"
        )

    def create(self, new: NewVolume) -> Volume:
        """Make a new data volume: the first name that no other task makes is its own."""
        name = new.name
        while True:
            try:
                return self.hv.create_volume(new.pool.name, new_volume(name, new.size, data_format(new.pool)))
            except ExistsError:
                name = self._new_name(new.pool)

    def _readable(self, volume: Volume) -> bool:
        try:
            check_readable(self.hv, volume)
        except GoldenError:
            return False
        return True

    def _new_name(self, pool: StoragePool) -> str:
        taken = {*self.hv.volume_names(pool.name), *(new.name for new in self.promised if new.pool == pool)}
        numbered = (names.data_volume(self.vm, number, pool.file_based) for number in count(1))
        return next(name for name in numbered if name not in taken)

    def _lack(self, pool: StoragePool, size: int) -> str:
        """Return what a storage pool lacks for a new volume, or an empty text."""
        if pool.type not in CREATING_POOLS:
            return f"volumes cannot be made in its type {pool.type!r}"
        available = pool.available - sum(new.size for new in self.promised if new.pool == pool)
        return "" if available >= size else f"has {human_size(max(available, 0))} available of {human_size(size)}"


def data_format(pool: StoragePool) -> str:
    """Return the format of a new data volume."""
    return "qcow2" if pool.file_based else "raw"
