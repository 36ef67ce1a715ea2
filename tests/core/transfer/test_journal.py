"""The receiver's journal as bytes."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.transfer.journal import (
    AGREED,
    CHUNKS,
    PUBLISHED,
    PUBLISHING,
    Agreed,
    JournalState,
    Publication,
    pack_agreed,
    pack_chunks,
    pack_header,
    pack_page,
    pack_published,
    pack_publishing,
    pack_record,
    pack_withdrawn,
    read_journal,
)
from p2pxfer.errors import DiskError

SENDER, TRANSFER = bytes([1]) * 32, bytes([2]) * 32
HEADER = pack_header(SENDER, TRANSFER)
FIRST = [(0, 0, bytes([3]) * 32), (0, 1, bytes([4]) * 32)]
GONE = [(0, 1, 2), (7, 0, 2)]
NO_MORE = [(0, 1, None), (7, 0, None), (7, 1, None)]
SECOND = [(2**32 - 1, 2**32 - 1, bytes([5]) * 32)]
NAMES = [Publication("a", "a (1)", 2**64 - 1, 7), Publication("\u00fc", "\u00fc", 1, 2)]
WITHOUT = Agreed(bytes([6]) * 32, (0, 7, 2**32 - 1))
RECORDS = [
    pack_page(b"the first page", more=True), pack_chunks(FIRST), pack_page(b"the last page", more=False),
    b"".join(pack_withdrawn(GONE)), pack_chunks(SECOND), pack_agreed(WITHOUT), pack_publishing(NAMES),
    pack_published(bytes([6]) * 32, ["a (1)"]),
]  # fmt: skip
WHOLE = HEADER + b"".join(RECORDS)


def read(data: bytes) -> JournalState:
    state = read_journal(data)
    assert state is not None
    return state


def facts(state: JournalState) -> tuple[object, ...]:
    return (
        state.pages,
        state.more,
        list(state.chunks()),
        state.agreed,
        state.publishing,
        state.published_root,
        state.published_names,
    )


PAGES = [b"the first page", b"the last page"]
ALL = [*FIRST, *NO_MORE, *SECOND]
AFTER = [
    ([], True, [], None, [], None, []),
    (PAGES[:1], True, [], None, [], None, []),
    (PAGES[:1], True, FIRST, None, [], None, []),
    (PAGES, False, FIRST, None, [], None, []),
    (PAGES, False, [*FIRST, *NO_MORE], None, [], None, []),
    (PAGES, False, ALL, None, [], None, []),
    (PAGES, False, ALL, WITHOUT, [], None, []),
    (PAGES, False, ALL, WITHOUT, NAMES, None, []),
    (PAGES, False, ALL, WITHOUT, NAMES, bytes([6]) * 32, ["a (1)"]),
]
BORDERS = [len(HEADER) + sum(map(len, RECORDS[:number])) for number in range(len(RECORDS) + 1)]


def records_within(length: int) -> int:
    return sum(border <= length for border in BORDERS) - 1


def test_everything_comes_back() -> None:
    state = read(WHOLE)
    assert (state.sender, state.transfer) == (SENDER, TRANSFER)
    assert facts(state) == AFTER[-1]
    assert state.valid == len(WHOLE)


def test_m41_truncated_at_every_byte() -> None:
    for length in range(len(WHOLE)):
        state = read_journal(WHOLE[:length])
        if length < len(HEADER):
            assert state is None
            continue
        assert state is not None
        whole = records_within(length)
        assert facts(state) == AFTER[whole]
        assert state.valid == BORDERS[whole]


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_byte_flipped(flip: int) -> None:
    for at in range(len(WHOLE)):
        damaged = bytearray(WHOLE)
        damaged[at] ^= flip
        state = read_journal(bytes(damaged))
        if at < len(HEADER):
            assert state is None
            continue
        assert state is not None
        whole = records_within(at)
        assert facts(state) == AFTER[whole]
        assert state.valid == BORDERS[whole]


def test_m42_a_newer_version_is_not_touched() -> None:
    head = b"P2PXJRNL" + struct.pack(">H", 3)
    with pytest.raises(DiskError, match="version 3"):
        read_journal(head + struct.pack(">I", zlib.crc32(head)) + b"whatever it may hold")


@pytest.mark.parametrize("tail", [bytes(100), b"\xff" * 100, b"\x01" + bytes(8)])
def test_a_tail_of_zeros_or_ones_is_dropped(tail: bytes) -> None:
    state = read(WHOLE + tail)
    assert facts(state) == AFTER[-1]
    assert state.valid == len(WHOLE)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(pack_record(0, b""), id="kind 0"),
        pytest.param(pack_record(9, b"x"), id="unknown kind"),
        pytest.param(pack_record(CHUNKS, bytes(41)), id="a chunk and a byte"),
        pytest.param(pack_record(PUBLISHING, b"\0\5abc"), id="name cut"),
        pytest.param(pack_record(PUBLISHING, b"\0\1a\0\1b" + bytes(15)), id="inode cut"),
        pytest.param(pack_record(PUBLISHING, b"\0\1\xff\0\1b" + bytes(16)), id="name not UTF-8"),
        pytest.param(pack_record(AGREED, bytes(31)), id="agreed root cut"),
        pytest.param(pack_record(AGREED, bytes(35)), id="file cut"),
        pytest.param(pack_record(PUBLISHED, bytes(31)), id="root cut"),
        pytest.param(pack_record(PUBLISHED, bytes(32) + b"\0"), id="final name cut"),
    ],
)
def test_a_record_without_sense_ends_the_journal(record: bytes) -> None:
    state = read(HEADER + RECORDS[0] + record + RECORDS[1])
    assert facts(state) == AFTER[1]
    assert state.valid == BORDERS[1]


def test_a_long_withdrawal_is_of_records_of_a_bounded_size() -> None:
    """Each is a claim to a hash of 32 zeros, which programs that do not know of withdrawals take for one."""
    first, second = pack_withdrawn([(0, 0, 8191), (3, 7, 9)])
    assert first == pack_record(
        CHUNKS, b"".join(struct.pack(">II32x", 0, index) for index in range(8191)) + struct.pack(">II32x", 3, 7)
    )
    assert second == pack_record(CHUNKS, struct.pack(">II32x", 3, 8))


def test_a_failed_record_of_publication_leaves_nothing_behind() -> None:
    good = pack_publishing(NAMES)[9:]
    state = read(HEADER + pack_record(PUBLISHING, good + b"\0\5abc"))
    assert state.publishing == []


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    assert read_journal(data) is None
    assert read(HEADER + data).valid <= len(HEADER) + len(data)


CHUNK = st.tuples(
    st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(min_size=32, max_size=32) | st.just(bytes(32))
)


@given(st.lists(st.lists(CHUNK, max_size=5), max_size=5), st.binary(min_size=1, max_size=40), st.booleans())
def test_chunks_come_back_in_order(batches: list[list[tuple[int, int, bytes]]], page: bytes, more: bool) -> None:
    data = HEADER + pack_page(page, more=more) + b"".join(map(pack_chunks, batches))
    state = read(data)
    told = [chunk for batch in batches for chunk in batch]
    assert list(state.chunks()) == [
        (file, index, None if digest == bytes(32) else digest) for file, index, digest in told
    ]
    assert (state.pages, state.more) == ([page], more)
