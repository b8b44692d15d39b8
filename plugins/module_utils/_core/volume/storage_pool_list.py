"""The storage pools, and what of them a VM can get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..hypervisor import CREATING_POOLS, Hypervisor, StoragePool, Volume
from .volume_use import DiskUsers, free_volumes


@dataclass(frozen=True)
class StoragePoolQuery:
    """What is asked for: one storage pool or all of them, and room for a volume of this many bytes."""

    storage_pool: str | None = None
    size: int | None = None


def list_storage_pools(hv: Hypervisor, query: StoragePoolQuery) -> list[dict[str, Any]]:
    """Return the storage pools with the free volumes in them."""
    pools = [pool for pool in hv.storage_pools() if query.storage_pool in (None, pool.name)]
    free = free_volumes(hv, [pool.name for pool in pools if pool.active], DiskUsers.read(hv))
    candidates = [volume for volume in free if query.size in (None, volume.capacity)]
    return [_describe(pool, query, candidates) for pool in pools]


def _describe(pool: StoragePool, query: StoragePoolQuery, candidates: list[Volume]) -> dict[str, Any]:
    return {
        "name": pool.name,
        "type": pool.type,
        "active": pool.active,
        "path": pool.path,
        "capacity": pool.capacity,
        "allocation": pool.allocation,
        "available": pool.available,
        "can_create": pool.active and pool.type in CREATING_POOLS and pool.available >= (query.size or 1),
        "holds_roots": pool.active and pool.file_based,
        "candidates": [
            {"name": volume.name, "format": volume.format, "capacity": volume.capacity, "allocation": volume.allocation}
            for volume in candidates
            if volume.storage_pool == pool.name
        ],
    }
