"""Files where the module runs, and its clock."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from .._core.errors import InvalidError
from .._core.hypervisor import ImageFile
from .._core.template.digest import Digest, new_digest
from .._core.template.image_format import HEAD_SIZE
from .connection import Connection
from .extents import extents

_CHUNK = 1024 * 1024
_BLOCK = 512


class LocalFiles:
    """The calls of ``_core.hypervisor.Hypervisor`` that are about the machine of the module itself."""

    connection: Connection

    def image_file(self, path: str) -> ImageFile:
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                return ImageFile(path, status.st_size, status.st_blocks * _BLOCK, file.read(HEAD_SIZE))
        except OSError as error:
            raise InvalidError(
                f"cannot read {path}: {error.strerror}; the path is one where the module runs"
            ) from error

    def file_digest(self, path: str, sparse: bool = False) -> str:
        digest = new_digest(sparse, self.connection.stay_alive)
        try:
            with open(path, "rb") as file:
                for hole, length in extents(file.fileno()):
                    if hole:
                        digest.hole(length)
                    else:
                        self._digest_data(file, length, digest)
        except OSError as error:
            raise InvalidError(f"cannot read {path}: {error.strerror}") from error
        return digest.hexdigest()

    def _digest_data(self, file: BinaryIO, length: int, digest: Digest) -> None:
        while length and (piece := file.read(min(_CHUNK, length))):
            digest.data(piece)
            self.connection.stay_alive()
            length -= len(piece)

    def newest_files(self, folder: str, suffix: str, count: int) -> list[str]:
        try:
            with os.scandir(folder) as entries:
                found = [entry for entry in entries if entry.name.endswith(suffix) and entry.is_file()]
            newest = sorted(found, key=lambda entry: entry.stat().st_mtime, reverse=True)[:count]
            return [Path(entry.path).read_text(encoding="utf-8", errors="replace") for entry in newest]
        except OSError:  # not there, not ours, or a file that goes meanwhile
            return []

    def now(self) -> str:
        return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def local_time(self) -> str:
        return datetime.now().astimezone().isoformat(timespec="seconds")
