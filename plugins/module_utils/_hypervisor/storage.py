"""Storage pools and volumes: looking, creating, deleting, and streaming their bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .._core.errors import ExistsError, InvalidError, NotFoundError, RefusedError
from .._core.hypervisor import StoragePool, Volume
from .._core.libvirt_xml import volume_xml
from .connection import Connection, translated
from .denials import told
from .library import libvirt

_CHUNK = 256 * 1000
"""Bytes that are sent at once; libvirt's messages have room for some more."""
_AT_HOLE = -3
_ZEROS = bytes(1024 * 1024)


class StorageCalls:
    """The calls of ``_core.hypervisor.Hypervisor`` that are about storage."""

    connection: Connection

    def __init__(self) -> None:
        self._pools: dict[str, Any] = {}

    def storage_pools(self) -> list[StoragePool]:
        found = []
        with translated("cannot list the storage pools"):
            for pool in self.connection.libvirt.listAllStoragePools():
                with _unless_gone(pool=True):
                    found.append(_pool_value(pool))
        return sorted(found, key=lambda pool: pool.name)

    def storage_pool(self, name: str) -> StoragePool:
        with translated(f"cannot look at storage pool {name!r}"):
            self._pools.pop(name, None)  # it may have been stopped since it was looked up
            return _pool_value(self._pool(name))

    def volume_names(self, storage_pool: str) -> list[str]:
        with translated(f"cannot list the volumes of storage pool {storage_pool!r}"):
            return sorted(self._pool(storage_pool).listVolumes())

    def volumes(self, storage_pool: str) -> list[Volume]:
        with translated(f"cannot list the volumes of storage pool {storage_pool!r}"):
            found = []
            for volume in self._pool(storage_pool).listAllVolumes():
                with _unless_gone():
                    found.append(volume_xml.parse_volume(volume.XMLDesc(), storage_pool))
            return sorted(found, key=lambda volume: volume.name)

    def volume(self, storage_pool: str, name: str) -> Volume | None:
        with translated(f"cannot look at volume {name!r} in storage pool {storage_pool!r}"), _unless_gone():
            return volume_xml.parse_volume(self._volume(storage_pool, name).XMLDesc(), storage_pool)
        return None

    def volume_at(self, path: str) -> Volume | None:
        with translated(f"cannot look for the volume at {path!r}"), _unless_gone():
            volume = self.connection.libvirt.storageVolLookupByPath(path)
            return volume_xml.parse_volume(volume.XMLDesc(), volume.storagePoolLookupByVolume().name())
        return None

    def create_volume(self, storage_pool: str, xml: str) -> Volume:
        with _creating(storage_pool):
            volume = self._pool(storage_pool).createXML(xml, 0)
            return volume_xml.parse_volume(volume.XMLDesc(), storage_pool)

    def copy_volume(self, storage_pool: str, xml: str, source: Volume) -> Volume:
        with _creating(storage_pool):
            original = self._volume(source.storage_pool, source.name)
            volume = self._pool(storage_pool).createXMLFrom(xml, original, 0)
            return volume_xml.parse_volume(volume.XMLDesc(), storage_pool)

    def delete_volume(self, storage_pool: str, name: str) -> None:
        with translated(f"cannot delete volume {name!r} in storage pool {storage_pool!r}"), _unless_gone():
            self._volume(storage_pool, name).delete(0)

    def resize_volume(self, storage_pool: str, name: str, capacity: int) -> None:
        with translated(f"cannot grow volume {name!r} in storage pool {storage_pool!r}"):
            self._volume(storage_pool, name).resize(capacity)

    def read_volume(self, storage_pool: str, name: str, size: int) -> bytes:
        with translated(f"cannot read volume {name!r} in storage pool {storage_pool!r}"):
            try:
                with self._download(storage_pool, name, size) as pieces:
                    return b"".join(pieces)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
                    raise NotFoundError(f"there is no volume {name!r} in storage pool {storage_pool!r}") from error
                if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:
                    return b""  # it is being created: nothing to read yet
                raise

    def write_volume(self, storage_pool: str, name: str, content: bytes) -> None:
        with translated(f"cannot write volume {name!r} in storage pool {storage_pool!r}"):
            volume = self._volume(storage_pool, name)
            with self._stream() as stream:
                volume.upload(stream, 0, len(content), 0)
                _send(stream, content)

    def volume_digest(self, storage_pool: str, name: str) -> str:
        digest = hashlib.sha256()
        doing = f"cannot read volume {name!r} in storage pool {storage_pool!r}"
        with translated(doing), self._download(storage_pool, name, 0) as pieces:
            for piece in pieces:
                digest.update(piece)
        return digest.hexdigest()

    def upload(self, storage_pool: str, name: str, path: str) -> str:
        digest = hashlib.sha256()
        with translated(f"cannot upload {path!r} into volume {name!r} of storage pool {storage_pool!r}"):
            volume = self._volume(storage_pool, name)
            with _readable(path) as file, self._stream() as stream:
                volume.upload(stream, 0, 0, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)
                for hole, length in _extents(file.fileno()):
                    if hole:
                        stream.sendHole(length, 0)
                        _hash_zeros(digest, length)
                    else:
                        _send_file(stream, file, length, digest)
        return digest.hexdigest()

    # --- parts -----------------------------------------------------------------------------------------------------

    def _pool(self, name: str) -> Any:
        """Return libvirt's handle of an active storage pool, looked up once."""
        if name not in self._pools:
            self._pools[name] = self._look_up_pool(name)
        return self._pools[name]

    def _look_up_pool(self, name: str) -> Any:
        try:
            pool = self.connection.libvirt.storagePoolLookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise NotFoundError(
                    f"there is no storage pool {name!r}; 'virsh pool-list --all' shows those that there are"
                ) from error
            raise
        if not pool.isActive():
            raise RefusedError(f"storage pool {name!r} is inactive; start it with 'virsh pool-start {name}'")
        return pool

    def _volume(self, storage_pool: str, name: str) -> Any:
        return self._pool(storage_pool).storageVolLookupByName(name)

    @contextmanager
    def _stream(self) -> Iterator[Any]:
        stream = self.connection.libvirt.newStream(0)
        finished = False
        try:
            yield stream
            stream.finish()
            finished = True
        finally:
            if not finished:
                _abort(stream)

    @contextmanager
    def _download(self, storage_pool: str, name: str, size: int) -> Iterator[Iterator[bytes]]:
        """Yield the first ``size`` bytes of a volume in pieces, 0 for all; holes are not sent over the wire."""
        volume = self._volume(storage_pool, name)
        with self._stream() as stream:
            volume.download(stream, 0, size, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)
            yield _received(stream)


def _received(stream: Any) -> Iterator[bytes]:
    while True:
        piece = stream.recvFlags(_CHUNK, libvirt.VIR_STREAM_RECV_STOP_AT_HOLE)
        if piece == _AT_HOLE:
            yield from _zeros(stream.recvHole(0))
        elif piece:
            yield piece
        else:
            return


def _pool_value(pool: Any) -> StoragePool:
    return volume_xml.parse_storage_pool(pool.XMLDesc(), bool(pool.isActive()))


def _abort(stream: Any) -> None:
    try:
        stream.abort()
    except libvirt.libvirtError:
        return  # it ended by itself; the error that led here is the one to tell


@contextmanager
def _unless_gone(*, pool: bool = False) -> Iterator[None]:
    """Leave the block when the volume, or the storage pool, does not exist (any more)."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != (libvirt.VIR_ERR_NO_STORAGE_POOL if pool else libvirt.VIR_ERR_NO_STORAGE_VOL):
            raise


@contextmanager
def _creating(storage_pool: str) -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        message = error.get_error_message() or ""
        taken = (
            error.get_error_code() == libvirt.VIR_ERR_STORAGE_VOL_EXIST
            or "already in use" in message
            or "already exists" in message
        )
        doing = f"cannot create a volume in storage pool {storage_pool!r}"
        raise (ExistsError(f"{doing}: {message}") if taken else told(doing, error)) from error


@contextmanager
def _readable(path: str) -> Iterator[Any]:
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise InvalidError(f"cannot read {path}: {error.strerror}") from error


def _extents(fd: int) -> Iterator[tuple[bool, int]]:
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


def _send_file(stream: Any, file: Any, length: int, digest: Any) -> None:
    while length:
        piece = file.read(min(_CHUNK, length))
        if not piece:
            raise InvalidError(f"{file.name} became shorter while it was uploaded; try again when nothing writes to it")
        digest.update(piece)
        _send(stream, piece)
        length -= len(piece)


def _send(stream: Any, content: bytes) -> None:
    view = memoryview(content)
    while view:
        sent = stream.send(bytes(view[:_CHUNK]))
        view = view[sent:]


def _zeros(length: int) -> Iterator[bytes]:
    while length:
        piece = _ZEROS[: min(length, len(_ZEROS))]
        yield piece
        length -= len(piece)


def _hash_zeros(digest: Any, length: int) -> None:
    for piece in _zeros(length):
        digest.update(piece)
