"""Batches of what was written, with a clock and a disk that the test moves."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from p2pxfer.core.transfer.journal import Claim
from p2pxfer.errors import DiskError
from p2pxfer.net.transfer.syncing import SYNC_BYTES, SYNC_S, Syncing

Begun = tuple[list[Claim], list[int]]


class Disk:
    """What was begun there, and whom it answers."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.begun: list[Begun] = []
        self.answers: list[Deferred[None]] = []
        self.under_way = 0
        self.failures: list[Failure] = []
        reactor: Any = self.clock
        self.syncing = Syncing(reactor, self._sync, lambda: self._count(1), lambda: self._count(-1), self._fail)

    def _sync(self, claims: list[Claim], pages: list[int]) -> Deferred[None]:
        self.begun.append((claims, pages))
        self.answers.append(Deferred())
        return self.answers[-1]

    def _count(self, more: int) -> None:
        self.under_way += more

    def _fail(self, failure: Failure) -> None:
        self.failures.append(failure)


@pytest.fixture
def disk() -> Disk:
    return Disk()


def claim(number: int) -> Claim:
    return number, 0, 1, bytes(32)


def test_what_is_written_while_a_batch_is_synced_waits_for_the_next_one(disk: Disk) -> None:
    disk.syncing.written([claim(0)], SYNC_BYTES)
    disk.syncing.listed(7)
    disk.syncing.written([claim(1)], SYNC_BYTES)
    assert disk.begun == [([claim(0)], [])]
    assert disk.syncing.unsafe == 2 * SYNC_BYTES
    disk.answers[0].callback(None)
    assert disk.begun[1:] == [([claim(1)], [7])]
    assert (disk.syncing.unsafe, disk.under_way) == (SYNC_BYTES, 1)
    disk.answers[1].callback(None)
    assert (disk.syncing.unsafe, disk.under_way, disk.syncing.waits) == (0, 0, False)


def test_a_little_waits_for_more_but_not_for_long(disk: Disk) -> None:
    disk.syncing.written([claim(0)], 1)
    disk.clock.advance(SYNC_S / 2)
    disk.syncing.written([claim(1)], 1)
    assert not disk.begun
    disk.clock.advance(SYNC_S / 2)
    assert disk.begun == [([claim(0), claim(1)], [])]


def test_after_a_failure_nothing_is_synced_of_itself(disk: Disk) -> None:
    disk.syncing.written([claim(0)], SYNC_BYTES)
    disk.syncing.written([claim(1)], SYNC_BYTES)
    disk.answers[0].errback(DiskError("no"))
    disk.syncing.written([claim(2)], SYNC_BYTES)
    assert len(disk.begun) == len(disk.failures) == 1
    assert disk.syncing.failure is disk.failures[0]
    assert (disk.under_way, disk.clock.getDelayedCalls()) == (0, [])


@pytest.mark.parametrize("under_way", [False, True])
def test_when_the_place_is_closed_nothing_more_is_synced_of_itself(disk: Disk, under_way: bool) -> None:
    disk.syncing.written([claim(0)], SYNC_BYTES if under_way else 1)
    disk.syncing.written([claim(1)], 1)
    disk.syncing.stop()
    for answer in disk.answers:
        answer.callback(None)
    disk.clock.advance(2 * SYNC_S)
    assert len(disk.begun) == int(under_way)
    assert disk.syncing.waits
    assert (disk.under_way, disk.clock.getDelayedCalls()) == (0, [])
