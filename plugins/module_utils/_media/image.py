"""The image of a payload: checked, then built."""

from __future__ import annotations

from collections.abc import Sequence

from .._core.payload.payload_files import CDROM, PayloadFile, check_files, check_volume_id
from .cd_image import build_cd
from .floppy_image import build_floppy
from .library import PYCDLIB_IMPORT_ERROR, PYFATFS_IMPORT_ERROR


def missing_library(medium: str) -> tuple[str, str] | None:
    """Return the name of the library that this medium needs and why it cannot be imported, or None when it can."""
    library, error = ("pycdlib", PYCDLIB_IMPORT_ERROR) if medium == CDROM else ("pyfatfs", PYFATFS_IMPORT_ERROR)
    return None if error is None else (library, error)


def build_image(files: Sequence[PayloadFile], medium: str, volume_id: str, max_file_size: int) -> bytes:
    """Return the bytes of a CD or a floppy with these files; nothing is built of what the medium cannot hold.

    The same files, in any order, under the same volume id give the same bytes on every machine.
    """
    check_volume_id(volume_id, medium)
    check_files(files, medium, max_file_size)
    return build_cd(files, volume_id) if medium == CDROM else build_floppy(files, volume_id)
