"""Storage pools and volumes: looking, creating, deleting, and streaming their bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Union

from .._core.errors import ExistsError, HypervisorError, InvalidError, NotFoundError, RefusedError
from .._core.hypervisor import StoragePool, Volume
from .._core.libvirt_xml import volume_xml
from .._core.template.digest import Digest, new_digest
from .connection import Connection, translated
from .denials import told
from .extents import extents
from .library import libvirt

_CHUNK = 256 * 1000
"""Bytes that are received at once; libvirt's messages have room for some more."""
_PIECE = 64 * 1000
"""Bytes that are sent at once. A socket takes a message of that size whole or not at all: of a larger one, libvirt's
client leaves the rest out when the storage pool is full just then; it hangs, or its connection is cut (seen on 9.0)."""
_IN_USE_FOR = 30.0
"""Seconds to wait for a volume that another task reads at this moment."""
_AT_HOLE = -3
_MIXED_UP = ("Unexpected message type", "no call waiting for reply")
"""What libvirt's client says of a stream whose error comes when it waits for none; asked again, it tells the error."""

Piece = Union[bytes, int]
"""Some data of a volume, or the length of a hole."""


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
            # Not listVolumes: it asks for their number first, and leaves some out where one more came in between.
            return sorted(volume.name() for volume in self._pool(storage_pool).listAllVolumes())

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
            return _made(self._pool(storage_pool).createXML(xml, 0), storage_pool)

    def copy_volume(self, storage_pool: str, xml: str, source: Volume) -> Volume:
        with _creating(storage_pool):
            original = self._volume(source.storage_pool, source.name)
            return _made(self._pool(storage_pool).createXMLFrom(xml, original, 0), storage_pool)

    def delete_volume(self, storage_pool: str, name: str) -> None:
        with translated(f"cannot delete volume {name!r} in storage pool {storage_pool!r}"), _unless_gone():
            volume = self._volume(storage_pool, name)
            _when_unused(lambda: volume.delete(0))

    def resize_volume(self, storage_pool: str, name: str, capacity: int) -> None:
        with translated(f"cannot grow volume {name!r} in storage pool {storage_pool!r}"):
            volume = self._volume(storage_pool, name)
            _when_unused(lambda: volume.resize(capacity))

    def read_volume(self, storage_pool: str, name: str, size: int) -> bytes:
        with translated(f"cannot read volume {name!r} in storage pool {storage_pool!r}"):
            try:
                return self._read(storage_pool, name, size)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
                    raise NotFoundError(f"there is no volume {name!r} in storage pool {storage_pool!r}") from error
                if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:
                    return b""  # it is being created: nothing to read yet
                if _is_of_the_file(error):
                    raise InvalidError(f"volume {name!r}: {error.get_error_message()}") from error
                raise

    def write_volume(self, storage_pool: str, name: str, content: bytes) -> None:
        with translated(f"cannot write volume {name!r} in storage pool {storage_pool!r}"):
            volume = self._volume(storage_pool, name)
            with self._stream() as stream:
                _when_unused(lambda: volume.upload(stream, 0, len(content), 0))
                _send(stream, content)
            length = len(content)
            arrived = _allocated(volume) >= length or self.read_volume(storage_pool, name, length) == content
        _check_arrived(arrived, storage_pool, name)

    def volume_digest(self, storage_pool: str, name: str, sparse: bool = False) -> str:
        return self._digest(storage_pool, name, 0, sparse)

    def upload(self, storage_pool: str, name: str, path: str, sparse: bool = False) -> str:
        digest = new_digest(sparse, self.connection.stay_alive)
        data = 0
        with translated(f"cannot upload {path!r} into volume {name!r} of storage pool {storage_pool!r}"):
            volume = self._volume(storage_pool, name)
            with _readable(path) as file, self._stream() as stream:
                _when_unused(lambda: volume.upload(stream, 0, 0, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM))
                for hole, length in extents(file.fileno()):
                    if hole:
                        stream.sendHole(length, 0)
                        digest.hole(length)
                    else:
                        _send_file(stream, file, length, digest)
                        data += length
                size = os.fstat(file.fileno()).st_size
            arrived = _allocated(volume) >= data or self._digest(storage_pool, name, size, sparse) == digest.hexdigest()
        _check_arrived(arrived, storage_pool, name)
        return digest.hexdigest()

    # --- parts -----------------------------------------------------------------------------------------------------

    def _digest(self, storage_pool: str, name: str, size: int, sparse: bool) -> str:
        """Return the digest of the first ``size`` bytes of a volume, 0 for all."""
        digest = new_digest(sparse, self.connection.stay_alive)
        doing = f"cannot read volume {name!r} in storage pool {storage_pool!r}"
        with translated(doing), self._download(storage_pool, name, size) as pieces:
            for piece in pieces:
                if isinstance(piece, int):
                    digest.hole(piece)
                else:
                    digest.data(piece)
                    self.connection.stay_alive()
        return digest.hexdigest()

    def _read(self, storage_pool: str, name: str, size: int) -> bytes:
        def read() -> bytes:
            with self._download(storage_pool, name, size) as pieces:
                return b"".join(bytes(piece) for piece in pieces)  # bytes(5) are five zeros

        try:
            return read()
        except libvirt.libvirtError as error:
            if not any(said in str(error) for said in _MIXED_UP):
                raise
        return read()

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
    def _download(self, storage_pool: str, name: str, size: int) -> Iterator[Iterator[Piece]]:
        """Yield the first ``size`` bytes of a volume in pieces, 0 for all; holes are not sent over the wire."""
        volume = self._volume(storage_pool, name)
        with self._stream() as stream:
            volume.download(stream, 0, size, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)
            yield _received(stream)


def _received(stream: Any) -> Iterator[Piece]:
    while True:
        piece = stream.recvFlags(_CHUNK, libvirt.VIR_STREAM_RECV_STOP_AT_HOLE)
        if piece == _AT_HOLE:
            yield int(stream.recvHole(0))
        elif piece:
            yield piece
        else:
            return


def _is_of_the_file(error: Any) -> bool:
    """Whether it is the file itself that cannot be read, and not the connection: a folder with the name of a volume."""
    return (error.get_error_code(), error.get_error_domain()) == (
        libvirt.VIR_ERR_SYSTEM_ERROR,
        libvirt.VIR_FROM_STREAMS,
    )


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


def _when_unused(call: Callable[[], Any]) -> None:
    """Make a call that libvirt refuses while somebody else reads the volume: again and again, for some time.

    One that is being made is not waited for: by then, its maker uses it. libvirt sends no event when a volume falls
    out of use, so there is nothing to wait for but the next try.
    """
    deadline = time.monotonic() + _IN_USE_FOR
    while True:
        try:
            call()
            return
        except libvirt.libvirtError as error:
            in_use = error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID and "in use" in str(error)
            if not in_use or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _made(volume: Any, storage_pool: str) -> Volume:
    """Return what a volume is that was just made; one of which that cannot be told is not left behind."""
    try:
        return volume_xml.parse_volume(volume.XMLDesc(), storage_pool)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise NotFoundError(
                f"volume {volume.name()!r} in storage pool {storage_pool!r} was deleted by another task in the "
                "meantime; run this task again"
            ) from error
        volume.delete(0)
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


def _send_file(stream: Any, file: Any, length: int, digest: Digest) -> None:
    while length:
        piece = file.read(min(_PIECE, length))
        if not piece:
            raise InvalidError(f"{file.name} became shorter while it was uploaded; try again when nothing writes to it")
        digest.data(piece)
        _send(stream, piece)
        length -= len(piece)


def _send(stream: Any, content: bytes) -> None:
    view = memoryview(content)
    while view:
        sent = stream.send(bytes(view[:_PIECE]))
        view = view[sent:]


def _allocated(volume: Any) -> int:
    """Return the bytes that a volume really takes in its storage pool now."""
    return int(volume.info()[2])


def _check_arrived(arrived: bool, storage_pool: str, name: str) -> None:
    """Refuse a volume whose content did not arrive: of a stream's last bytes, libvirt does not say that they were lost.

    Where a volume takes as much as was sent, all has arrived; else, as where storage is compressed, it is read again.
    """
    if not arrived:
        raise HypervisorError(
            f"not all of what was written arrived in volume {name!r}: No space left in storage pool {storage_pool!r}; "
            "delete what is not needed there, and run this task again"
        )
