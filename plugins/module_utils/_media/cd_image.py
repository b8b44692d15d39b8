"""The image of a CD: ISO 9660 with Joliet and Rock Ridge."""

from __future__ import annotations

import sys
import time as _time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from .._core.payload.payload_files import Folder, PayloadFile, folder_of
from .library import pycdlib
from .short_names import short_names

_DATE = 946684800  # the beginning of 2000, in UTC
_PLAIN_NAMES = 1
_JOLIET = 3


class _StandingClock:
    """What pycdlib takes for the module ``time``: always the same moment, in no time zone."""

    gmtime = localtime = staticmethod(_time.gmtime)
    strftime = staticmethod(_time.strftime)

    @staticmethod
    def time() -> float:
        return float(_DATE)


def build_cd(files: Sequence[PayloadFile], volume_id: str) -> bytes:
    """Return the image of a CD with these files, which ``check_files`` has let pass: same files, same bytes."""
    with _clock_stands_still():
        cd = _cd_class()()
        cd.new(
            interchange_level=_PLAIN_NAMES,
            joliet=_JOLIET,
            rock_ridge="1.09",
            vol_ident=volume_id,
            sys_ident="",
            app_ident_str="",
        )
        _add(cd, folder_of(files), "", "")
        image = BytesIO()
        cd.write_fp(image)
        cd.close()
    return image.getvalue()


def _add(cd: Any, folder: Folder, plain_path: str, real_path: str) -> None:
    plain = short_names(folder)
    for name, inner in folder.folders.items():
        plain_inner, real_inner = f"{plain_path}/{plain[name][0]}", f"{real_path}/{name}"
        cd.add_directory(plain_inner, rr_name=name, joliet_path=real_inner)
        _add(cd, inner, plain_inner, real_inner)
    for name, content in folder.files.items():
        base, extension = plain[name]
        cd.add_fp(
            BytesIO(content),
            len(content),
            f"{plain_path}/{base}.{extension};1",
            rr_name=name,
            joliet_path=f"{real_path}/{name}",
        )


def _cd_class() -> Any:
    class Cd(pycdlib.PyCdlib):
        """A CD with names of up to 64 UTF-16 units, as Joliet has it; the library stops at 64 bytes of UTF-8."""

        def _joliet_name_and_parent_from_path(self, joliet_path: bytes) -> tuple[bytes, Any]:
            folder, _slash, name = joliet_path.rpartition(b"/")
            _name, parent = super()._joliet_name_and_parent_from_path(folder + b"/_")
            return name.decode("utf-8").encode("utf-16_be"), parent

    return Cd


@contextmanager
def _clock_stands_still() -> Iterator[None]:
    """Have the library write one date everywhere; it would take the local time, and offers nothing else."""
    parts = [part for name, part in sys.modules.items() if name.startswith("pycdlib.") and hasattr(part, "time")]
    for part in parts:
        vars(part)["time"] = _StandingClock
    try:
        yield
    finally:
        for part in parts:
            vars(part)["time"] = _time
