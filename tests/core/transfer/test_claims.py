"""What a receiver claims to hold fits into messages, however torn it is."""

from __future__ import annotations

import pytest

from p2pxfer.core.framing import CONTROL_CAP
from p2pxfer.core.session.wire import MAX_CHUNK, PEER, Listed
from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.claims import claims
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.ranges import RangeSet

MANY = 2**32 - 1
"""The largest handle, which takes most."""


def every_second(files: int, size: int, first: int, stop: int) -> tuple[ChunkTable, RangeSet]:
    """Files of which every second chunk from ``first`` to ``stop`` is here."""
    table = ChunkTable(Manifest([Entry(f"f{number:05}", FILE, size) for number in range(files)]))
    have = RangeSet()
    for file in range(files):
        start, _ = table.file_range(file)
        for number in range(start + first, start + stop, 2):
            table.set_hash(number, number.to_bytes(32, "big"))
            have.add(number, number + 1)
    return table, have


@pytest.mark.parametrize(
    ("files", "size", "first", "stop"),
    [
        pytest.param(1, 2**40, 200_000, 233_000, id="one file, far in"),
        pytest.param(70, 511 * MAX_CHUNK, 0, 511, id="many files"),
        pytest.param(1000, 1, 0, 1, id="small files"),
    ],
)
def test_every_page_fits_into_a_message_and_nothing_is_left_out(files: int, size: int, first: int, stop: int) -> None:
    table, have = every_second(files, size, first, stop)
    told: list[int] = []
    for part in claims(table, have, 0, table.total):
        message = Listed(handle=MANY, page=MANY, have=part, last=False)
        assert len(PEER.encode(message)) <= CONTROL_CAP
        told += [number for claim in part for span in claim.ranges for number in range(*span)]
    assert told == [number for span in have.overlap(0, table.total) for number in range(*span)]


def test_a_receiver_that_has_nothing_says_so_in_one_page() -> None:
    table, have = every_second(3, 1, 0, 0)
    assert claims(table, have, 0, 3) == [[]]
