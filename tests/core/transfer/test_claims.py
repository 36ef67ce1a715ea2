"""What a receiver claims to hold fits into messages, however torn it is."""

from __future__ import annotations

import pytest

from p2pxfer.core.framing import CONTROL_CAP
from p2pxfer.core.session.transferwire import MAX_CHUNK, Accept, Listed
from p2pxfer.core.session.wire import PEER
from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.claims import SMALL_CHUNKS, claims
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.ranges import RangeSet
from p2pxfer.core.transfer.sendeffect import HashChunks
from p2pxfer.core.transfer.sender import SenderCore

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


CHUNK = 64 * 1024
SIZES = [CHUNK * count for count in (3, 100, 0, 1, 70, *[1] * 200, 2, 150, 5, 63, 64, 65)]


@pytest.mark.parametrize("step", [1, 2])
def test_a_claim_is_about_one_file_or_about_few_chunks(step: int) -> None:
    """Who cannot read a file of a claim cannot prove the rest of it either, which then comes again."""
    table = ChunkTable(Manifest([Entry(f"f{number:05}", FILE, size) for number, size in enumerate(SIZES)]))
    have = RangeSet()
    for number in range(0, table.total, step):
        table.set_hash(number, number.to_bytes(32, "big"))
        have.add(number, number + 1)
    told = [claim for part in claims(table, have, 0, table.total) for claim in part]
    assert RangeSet(span for claim in told for span in claim.ranges) == have
    for claim in told:
        first, last = claim.ranges[0][0], claim.ranges[-1][1] - 1
        assert table.address(first)[0] == table.address(last)[0] or last - first < SMALL_CHUNKS
    assert len(told) < 2 * len(SIZES) / SMALL_CHUNKS + 20


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_file_that_cannot_be_read_leaves_the_claims_to_others_alone(bad: int) -> None:
    """The sender's record is lost, so it reads what is claimed; one file has changed meanwhile."""
    manifest = Manifest([Entry(f"f{number}", FILE, 70 * CHUNK) for number in range(3)])
    table, have = ChunkTable(manifest), RangeSet([(0, 210)])
    for number in range(table.total):
        table.set_hash(number, number.to_bytes(32, "big"))
    sender = SenderCore(1, manifest, {})
    sender.open_path(1)
    sender.receive(1, Accept(handle=1, instance=bytes(16)))
    (portion,) = claims(table, have, 0, table.total)
    (lacking,) = sender.receive(1, Listed(handle=1, page=0, have=portion))
    assert isinstance(lacking, HashChunks)
    for file, index in lacking.addresses:
        if file != bad:
            sender.chunk_read((file, index), table.hash(table.number((file, index))))
    sender.leave_out(bad)
    sender.hashed()
    assert [file for file in range(3) if sender.is_there(file)] == [file for file in range(3) if file != bad]
    assert sender.next_chunk() is None


def test_a_receiver_that_has_nothing_says_so_in_one_page() -> None:
    table, have = every_second(3, 1, 0, 0)
    assert claims(table, have, 0, 3) == [[]]
