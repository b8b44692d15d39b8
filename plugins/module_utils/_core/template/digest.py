"""Digests of disk images, from their pieces: data and holes, in their order."""

from __future__ import annotations

import hashlib
from typing import Any, Callable, Union

BLOCK = 64 * 1024
_ZEROS = bytes(1024 * 1024)


class WholeDigest:
    """The SHA-256 of all bytes; ``working`` is called again and again while a hole is digested."""

    def __init__(self, working: Callable[[], None] = lambda: None) -> None:
        self._sha = hashlib.sha256()
        self._working = working

    def data(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._sha.update(piece)

    def hole(self, length: int) -> None:
        """Take so many bytes that are zero."""
        while length:
            part = min(length, len(_ZEROS))
            self._sha.update(_ZEROS[:part])
            self._working()
            length -= part

    def hexdigest(self) -> str:
        """Return the digest of what was taken so far."""
        return self._sha.hexdigest()


class SparseDigest:
    """A SHA-256 of the blocks that are not all zero, and where they are, and of the length of all.

    It is the same for the same content, whether its zeros are holes or written, and holes take no time: a large disk
    with little on it costs as much as a small one.
    """

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._at = 0
        self._rest = b""

    def data(self, piece: bytes) -> None:
        """Take the next bytes."""
        content = self._rest + piece
        whole = len(content) - len(content) % BLOCK
        for start in range(0, whole, BLOCK):
            _take(self._sha, self._at, content[start : start + BLOCK])
            self._at += BLOCK
        self._rest = content[whole:]

    def hole(self, length: int) -> None:
        """Take so many bytes that are zero."""
        begun = min(length, -len(self._rest) % BLOCK)
        self.data(bytes(begun))
        whole = (length - begun) // BLOCK * BLOCK
        self._at += whole
        self.data(bytes(length - begun - whole))

    def hexdigest(self) -> str:
        """Return the digest of what was taken so far."""
        sha = self._sha.copy()
        _take(sha, self._at, self._rest)
        sha.update((self._at + len(self._rest)).to_bytes(8, "big"))
        return sha.hexdigest()


Digest = Union[WholeDigest, SparseDigest]


def new_digest(sparse: bool, working: Callable[[], None] = lambda: None) -> Digest:
    """Return a digest that has taken nothing yet."""
    return SparseDigest() if sparse else WholeDigest(working)


def _take(sha: Any, at: int, block: bytes) -> None:
    if block != bytes(len(block)):
        sha.update(at.to_bytes(8, "big"))
        sha.update(block)
