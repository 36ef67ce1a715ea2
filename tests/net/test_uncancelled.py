"""Work that goes on when whoever waits for it is cancelled."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from p2pxfer.net.uncancelled import uncancelled


@pytest.mark.parametrize("times", [0, 1, 3])
def test_what_is_cancelled_ends_as_if_nobody_had(times: int) -> None:
    gate: Deferred[int] = Deferred()

    @uncancelled
    async def work(more: int) -> int:
        return more + await gate

    waiting = Deferred.fromCoroutine(work(2))
    results: list[int] = []
    waiting.addCallback(results.append)
    for _ in range(times):
        waiting.cancel()
    assert not gate.called
    assert results == []
    gate.callback(3)
    assert results == [5]


def test_what_fails_does_so_for_whoever_waits() -> None:
    gate: Deferred[None] = Deferred()

    @uncancelled
    async def work() -> None:
        await gate

    waiting = Deferred.fromCoroutine(work())
    failures: list[Any] = []
    waiting.addErrback(lambda failure: failures.append(failure.value))
    waiting.cancel()
    error = OSError("the disk")
    gate.errback(error)
    assert failures == [error]


def test_what_is_over_at_once_is_not_waited_for() -> None:
    @uncancelled
    async def work() -> int:
        return 1

    assert Deferred.fromCoroutine(work()).result == 1
