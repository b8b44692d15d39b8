"""Where the data and the holes of a sparse file are."""

from __future__ import annotations

import os
from collections.abc import Iterator


def extents(fd: int) -> Iterator[tuple[bool, int]]:
    """Yield whether it is a hole, and the length, of each part of a file; the file position follows."""
    end = os.fstat(fd).st_size
    at = 0
    while at < end:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            data = end
        if data > at:
            yield True, data - at
        if data < end:
            at = os.lseek(fd, data, os.SEEK_HOLE)
            os.lseek(fd, data, os.SEEK_SET)
            yield False, at - data
        else:
            at = end
