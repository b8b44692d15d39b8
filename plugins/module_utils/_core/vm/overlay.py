"""Whether a guest has ever written on a root: told by the root itself, whoever has started the VM."""

from __future__ import annotations

import struct

from ..hypervisor import Hypervisor
from .record import Root

_TABLE = 0x30000
"""Where the table of what an overlay holds itself begins, as libvirt makes overlays."""
_MOST = 2**20
"""Bytes of a header and its table that are read; with a larger one, an overlay counts as written."""


def is_unwritten(hv: Hypervisor, root: Root) -> bool:
    """Whether no guest has ever written on a root, whoever started it: then it holds nothing that is not its
    template's."""
    head = hv.read_volume(root.storage_pool, root.volume, _TABLE + 4096)
    end = _table_end(head)
    if len(head) < end <= _MOST:
        head = hv.read_volume(root.storage_pool, root.volume, end)
    return is_unwritten_overlay(head)


def is_unwritten_overlay(head: bytes) -> bool:
    """Whether a qcow2 overlay holds nothing itself, by its beginning: none of its clusters has a place."""
    end = _table_end(head)
    if not 0 < end <= min(len(head), _MOST):
        return False
    begin = struct.unpack_from(">Q", head, 40)[0]
    (snapshots,) = struct.unpack_from(">I", head, 60)
    return snapshots == 0 and not any(head[begin:end])


def _table_end(head: bytes) -> int:
    """Return where the first table of a qcow2 image ends, or 0 for what is no qcow2 overlay."""
    if len(head) < 72 or not head.startswith(b"QFI\xfb") or not struct.unpack_from(">Q", head, 8)[0]:
        return 0
    (entries,), (begin,) = struct.unpack_from(">I", head, 36), struct.unpack_from(">Q", head, 40)
    return int(begin + 8 * entries)
