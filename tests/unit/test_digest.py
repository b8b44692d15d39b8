"""Digests of images: the same for the same content, however it comes."""

from __future__ import annotations

import hashlib
import random

from ansible_collections.golden.libvirt.plugins.module_utils._core.template.digest import (
    BLOCK,
    SparseDigest,
    WholeDigest,
    new_digest,
)
from hypothesis import given
from hypothesis import strategies as st

LENGTHS = st.one_of(st.integers(1, 10), st.integers(BLOCK - 2, BLOCK + 2), st.integers(2 * BLOCK, 3 * BLOCK))
PARTS = st.lists(st.tuples(st.sampled_from([b"\0", b"a", b"b"]), LENGTHS), max_size=6)


def sparse(content: bytes) -> str:
    digest = SparseDigest()
    digest.data(content)
    return digest.hexdigest()


@given(PARTS, st.randoms(use_true_random=False))
def test_holes_are_zeros_and_pieces_do_not_matter(parts: list[tuple[bytes, int]], dice: random.Random) -> None:
    content = b"".join(byte * length for byte, length in parts)
    for digest, expected in ((SparseDigest(), sparse(content)), (WholeDigest(), hashlib.sha256(content).hexdigest())):
        for byte, length in parts:
            cut = dice.randint(0, length)
            for size in (cut, length - cut):
                if byte == b"\0" and dice.random() < 0.7:
                    digest.hole(size)
                else:
                    digest.data(byte * size)
            digest.hexdigest()  # to ask in between changes nothing
        assert digest.hexdigest() == expected


@given(PARTS, PARTS)
def test_other_content_has_another_digest(one: list[tuple[bytes, int]], other: list[tuple[bytes, int]]) -> None:
    first, second = (b"".join(byte * length for byte, length in parts) for parts in (one, other))
    assert (sparse(first) == sparse(second)) == (first == second)


def test_a_moved_block_and_a_longer_end_are_seen() -> None:
    block, zeros = b"x" * BLOCK, bytes(BLOCK)
    digests = {
        sparse(content) for content in (block, block + zeros, zeros + block, block + b"\0", b"", zeros, block * 2)
    }
    assert len(digests) == 7


def test_a_large_hole_takes_no_time_in_one_and_says_that_it_works_in_the_other() -> None:
    digest = new_digest(sparse=True)
    digest.hole(2**60)
    assert len(digest.hexdigest()) == 64
    worked = []
    whole = new_digest(sparse=False, working=lambda: worked.append(1))
    whole.hole(5 * 1024**2)
    assert len(worked) == 5
    assert whole.hexdigest() == hashlib.sha256(bytes(5 * 1024**2)).hexdigest()
