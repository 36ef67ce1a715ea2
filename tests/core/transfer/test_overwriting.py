"""Which claims are withdrawn, and which are never made, when chunks are written over others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.geometry import MIN_CHUNK
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.overwriting import Overwriting

ONE, OTHER = bytes([1]) * 32, bytes([2]) * 32


def made() -> tuple[ChunkTable, Overwriting]:
    """Five chunks: three of a file, none of the next, two of the last."""
    table = ChunkTable(
        Manifest([Entry("a", FILE, 3 * MIN_CHUNK), Entry("b", FILE, 0), Entry("c", FILE, 2 * MIN_CHUNK)])
    )
    return table, Overwriting(table)


def test_what_is_written_once_is_claimed() -> None:
    table, over = made()
    assert over.is_first(0, 2)
    assert over.holding(0, 2) == [(0, 2)]
    over.journalled([(0, 2, ONE)])
    assert list(table.known) == [(0, 2)]
    assert over.is_first(2, 5)


def test_what_is_claimed_is_withdrawn_file_by_file() -> None:
    table, over = made()
    assert over.is_first(0, 5)
    over.journalled([(0, 5, ONE)])
    assert not over.is_first(2, 4)
    assert over.replace(2, 4) == [(0, 2, 3), (2, 0, 1)]
    assert list(table.known) == [(0, 2), (4, 5)]
    assert over.holding(2, 4) == [(2, 4)]


def test_of_what_is_written_three_times_the_last_is_claimed() -> None:
    table, over = made()
    assert over.is_first(0, 3)
    for _ in range(2):
        assert not over.is_first(1, 2)
        assert over.replace(1, 2) == []
    assert over.holding(0, 3) == [(0, 1), (2, 3)]
    over.journalled([(0, 1, ONE)])
    over.journalled([(2, 3, ONE)])
    assert over.holding(1, 2) == []
    assert not over.is_first(1, 2), "it waits"
    assert over.replace(1, 2) == []
    assert over.holding(1, 2) == []
    assert over.holding(1, 2) == [(1, 2)]
    over.journalled([(1, 2, OTHER)])
    assert [table.hash(number) for number in range(3)] == [ONE, OTHER, ONE]
    assert over.replace(1, 2) == [(0, 1, 2)]


class Counted(dict[int, int]):
    """Counts the keys that are looked at."""

    looks = 0

    def __iter__(self) -> Iterator[int]:
        for key in super().__iter__():
            self.looks += 1
            yield key

    def __contains__(self, key: object) -> bool:
        self.looks += 1
        return super().__contains__(key)


FILES = 2000


@pytest.mark.parametrize("claims", [pytest.param(FILES, id="small files"), pytest.param(1, id="one hole")])
def test_a_claim_is_looked_up_in_what_it_has_or_in_what_was_replaced_whichever_is_less(claims: int) -> None:
    """Many small files that are told twice in one batch are as many claims, while all transfers wait."""
    table = ChunkTable(Manifest([Entry(f"{number:04}", FILE, 1) for number in range(FILES)]))
    over = Overwriting(table)
    assert over.is_first(0, FILES)
    replaced = FILES if claims > 1 else 2
    assert over.replace(0, replaced) == []
    over._replaced = counted = Counted(over._replaced)
    length = FILES // claims
    kept = [part for start in range(0, FILES, length) for part in over.holding(start, start + length)]
    assert kept == ([] if claims > 1 else [(2, FILES)])
    assert counted.looks <= replaced
    assert not over._replaced


def test_claims_in_any_order_are_taken_in() -> None:
    """Rows of single chunks, runs of one hash, and what stands alone."""
    table = ChunkTable(Manifest([Entry("a", FILE, 8 * MIN_CHUNK)]))
    over = Overwriting(table)
    digests = [bytes([number + 1]) * 32 for number in range(7)]
    assert over.is_first(0, 7)
    run = bytes([9]) * 32
    over.journalled([(1, 2, digests[1]), (2, 3, digests[2]), (4, 6, run), (6, 7, digests[6]), (0, 1, digests[0])])
    assert [table.hash(number) for number in (0, 1, 2, 4, 5, 6)] == [*digests[:3], run, run, digests[6]]
    assert list(table.known) == [(0, 3), (4, 7)]
    assert over.is_first(7, 8) and not over.is_first(3, 4)
