"""What the journal claims while threads write and one makes durable: no claim is false at any moment.

Laws:

- Whoever writes says so first, by :meth:`Claiming.writing`.  Where that is over something claimed, or written and not
  journalled yet, it waits for the sync under way and withdraws the claim (:mod:`p2pxfer.core.transfer.overwriting`).
- :attr:`Claiming.syncing` is held by whoever writes to the journal, the other lock for a look at the table only; who
  wants both takes them in this order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from msgspec import Struct

from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.journal import Claim
from p2pxfer.core.transfer.overwriting import Overwriting


class Held(Struct, frozen=True):
    """Claims that are true, and for each the same with chunk numbers: (first, the one behind the last, hash)."""

    claims: list[Claim]
    runs: list[tuple[int, int, bytes]]


class Claiming:
    """Of the chunks in ``table``; ``withdraw`` journals, durably, that claims hold no more."""

    def __init__(self, table: ChunkTable, withdraw: Callable[[list[tuple[int, int, int]]], None]) -> None:
        self.syncing = threading.Lock()
        self._looking = threading.Lock()
        self._table = table
        self._overwriting = Overwriting(table)
        self._withdraw = withdraw

    def writing(self, file: int, first: int, stop: int, files: int = 1) -> None:
        """Chunks of a file from ``first`` to before ``stop`` are about to be written, or those of as many ``files``.

        These follow one another from ``file`` on, and have one chunk each.

        Raises:
            ChunkRefused: there are no such chunks.
            DiskError: a claim could not be withdrawn.
        """
        with self._looking:
            self._table.grow()
            start = self._table.numbers(file, first, stop).start
            behind = start + (stop - first) * files
            if self._overwriting.is_first(start, behind):
                return
        with self.syncing:
            with self._looking:
                withdrawn = self._overwriting.replace(start, behind)
            if withdrawn:
                self._withdraw(withdrawn)

    def holding(self, claims: Iterable[Claim]) -> Held:
        """What is still true of ``claims``, which are the next in the order of the writing; while :attr:`syncing`.

        Raises:
            ChunkRefused: no such chunk.
        """
        held = Held([], [])
        with self._looking:
            self._table.grow()
            replaces = self._overwriting.replaces
            for claim in claims:
                file, first, stop, digest = claim
                run = self._table.numbers(file, first, stop)
                if not replaces:
                    held.claims.append(claim)
                    held.runs.append((run.start, run.stop, digest))
                    continue
                for begin, end in self._overwriting.holding(run.start, run.stop):
                    held.claims.append((file, first + begin - run.start, first + end - run.start, digest))
                    held.runs.append((begin, end, digest))
        return held

    def journalled(self, held: Held) -> None:
        """The journal has these by now."""
        with self._looking:
            self._overwriting.journalled(held.runs)
