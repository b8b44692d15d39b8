"""Sizes as people write them."""

from __future__ import annotations

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError
from ansible_collections.golden.libvirt.plugins.module_utils._core.units import human_size, parse_memory, parse_size
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1B", 1),
        ("20GiB", 20 * 1024**3),
        ("20 GiB", 20 * 1024**3),
        (" 512MiB ", 512 * 1024**2),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("1KB", 1000),
        ("2MB", 2_000_000),
        ("3GB", 3_000_000_000),
        ("1TB", 10**12),
        ("1TiB", 1024**4),
    ],
)
def test_a_size_is_read_in_its_unit(text: str, size: int) -> None:
    assert parse_size(text, "root_size") == size


@pytest.mark.parametrize(
    "text", ["", "20", "20G", "20gib", "GiB", "-1GiB", "1,5GiB", "1e3GiB", "10 Mib", "1 0GiB", "1.GiB", "٣GiB"]
)
def test_what_is_no_size_is_refused_with_the_units_that_there_are(text: str) -> None:
    with pytest.raises(InvalidError, match=r"root_size: .* is no size; write a number with one of the units .*GiB"):
        parse_size(text, "root_size")


@pytest.mark.parametrize("text", ["0GiB", "0.5B", "0.3KiB"])
def test_a_size_must_be_a_whole_and_positive_number_of_bytes(text: str) -> None:
    with pytest.raises(InvalidError, match="not a whole, positive number of bytes"):
        parse_size(text, "root_size")


@pytest.mark.parametrize(
    ("value", "kib"), [("1048576", 1048576), (2048, 2048), ("512MiB", 524288), ("2GiB", 2097152), ("1MB", 977)]
)
def test_memory_is_a_size_or_a_number_of_kib(value: str | int, kib: int) -> None:
    assert parse_memory(value, "size.memory") == kib


@pytest.mark.parametrize("value", ["0", 0, "-5", "512M", "much"])
def test_what_is_no_amount_of_memory_is_refused(value: str | int) -> None:
    with pytest.raises(InvalidError, match=r"size\.memory: "):
        parse_memory(value, "size.memory")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1.5KiB"), (20 * 1024**3, "20GiB"), (5 * 1024**4, "5TiB")],
)
def test_a_size_is_told_in_the_largest_unit(size: int, text: str) -> None:
    assert human_size(size) == text


@given(st.integers(1, 1023), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB"]))
def test_what_is_told_can_be_written(number: int, unit: str) -> None:
    assert human_size(parse_size(f"{number}{unit}", "x")) == f"{number}{unit}"


@given(st.integers(1, 2**50))
def test_no_byte_is_lost(size: int) -> None:
    assert parse_size(f"{size}B", "x") == size
