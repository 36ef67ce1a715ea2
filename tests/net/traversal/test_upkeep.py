"""Staying connected: how the pauses grow."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock, deferLater

from p2pxfer.core.backoff import STEADY_S
from p2pxfer.errors import P2pxferError, Unreachable
from p2pxfer.net.traversal.upkeep import Upkeep

TIMEOUT_S = STEADY_S + 5


@pytest.mark.parametrize("stood", [None, STEADY_S - 1, STEADY_S + 1])
def test_pauses_grow_unless_a_connection_stood_for_a_while(stood: float | None) -> None:
    """The first one stands and is lost; every later attempt takes as long as a server that does not answer."""
    clock: Any = Clock()
    begun: list[float] = []
    ended: list[float] = []

    async def connect() -> P2pxferError:
        begun.append(clock.seconds())
        if len(begun) > 1:
            await deferLater(clock, TIMEOUT_S)
        if len(begun) == 1 or stood is not None:
            upkeep.stands("it")
            await deferLater(clock, stood or 1.0)
        ended.append(clock.seconds())
        return Unreachable("no answer")

    upkeep: Upkeep[str] = Upkeep(clock, connect)
    upkeep.start()
    while len(begun) < 16:
        clock.advance(0.125)
    pause = begun[-1] - ended[len(begun) - 2]
    upkeep.stop()
    if stood is not None and stood > STEADY_S:
        assert pause <= 0.625
    else:
        # A tenth of the longest pause at least.
        assert pause >= 3.0
