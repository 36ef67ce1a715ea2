"""Chunk geometry and root hashes."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.session.transferwire import MAX_CHUNK
from p2pxfer.core.transfer.geometry import (
    MIN_CHUNK,
    chunk_count,
    chunk_size,
    chunk_span,
    claim_digest,
    file_root,
    transfer_root,
)
from p2pxfer.errors import ChunkRefused

SIZES = st.integers(0, 2**63 - 1)
KIB, MIB, GIB = 2**10, 2**20, 2**30


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 64 * KIB),
        (1, 64 * KIB),
        (16 * MIB, 64 * KIB),
        (16 * MIB + 1, 128 * KIB),
        (32 * MIB, 128 * KIB),
        (512 * MIB, 2 * MIB),
        (GIB, 4 * MIB),
        (GIB + 1, 4 * MIB),
        (2**63 - 1, 4 * MIB),
    ],
)
def test_size_of_chunks(size: int, expected: int) -> None:
    assert chunk_size(size) == expected


@given(SIZES)
def test_chunk_size_is_the_smallest_that_gives_few_chunks(size: int) -> None:
    each = chunk_size(size)
    assert each & (each - 1) == 0
    assert MIN_CHUNK <= each <= MAX_CHUNK
    assert each == MAX_CHUNK or each * 256 >= size
    assert each == MIN_CHUNK or (each // 2) * 256 < size


@given(st.integers(0, 300 * MIB))
def test_chunks_tile_the_file(size: int) -> None:
    at = 0
    for index in range(chunk_count(size)):
        offset, length = chunk_span(size, index)
        assert offset == at
        assert 0 < length <= chunk_size(size)
        at += length
    assert at == size


@given(SIZES)
def test_nothing_lies_behind_the_last_chunk(size: int) -> None:
    count = chunk_count(size)
    for index in (-(2**64), -1, count, count + 1, 2**64):
        with pytest.raises(ChunkRefused):
            chunk_span(size, index)
    if count:
        offset, length = chunk_span(size, count - 1)
        assert offset + length == size


def test_roots_have_the_documented_layout() -> None:
    size = 64 * KIB + 1
    hashes = [blake3(b"one").digest(), blake3(b"two").digest()]
    root = blake3(struct.pack(">Q", size) + hashes[0] + hashes[1], derive_key_context="p2pxfer 1 file root").digest()
    assert file_root(size, b"".join(hashes)) == root
    transfer = bytes(range(32))
    assert transfer_root(transfer, root) == (
        blake3(transfer + b"\0\0\0\1" + root, derive_key_context="p2pxfer 1 transfer root").digest()
    )
    assert claim_digest(hashes) == blake3(b"".join(hashes), derive_key_context="p2pxfer 1 claimed chunks").digest()


def test_roots_of_nothing_differ() -> None:
    assert len({file_root(0, b""), transfer_root(bytes(32), b""), claim_digest([])}) == 3


@pytest.mark.parametrize(
    "fold",
    [
        pytest.param(lambda: file_root(1, b""), id="M13 too short"),
        pytest.param(lambda: file_root(1, bytes(64)), id="M13 too long"),
        pytest.param(lambda: file_root(0, bytes(32)), id="hash of an empty file"),
        pytest.param(lambda: file_root(1, bytes(31)), id="M14"),
        pytest.param(lambda: transfer_root(bytes(31), b""), id="short id"),
        pytest.param(lambda: transfer_root(bytes(32), bytes(33)), id="long root"),
        pytest.param(lambda: claim_digest([bytes(31), bytes(33)]), id="shifted"),
    ],
)
def test_wrong_numbers_of_hashes_are_refused(fold: Callable[[], bytes]) -> None:
    with pytest.raises(ChunkRefused):
        fold()
