"""Who writes as long as it may, and what must happen when the other end stops to read."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from p2pxfer.net.connection.outbuffer import BUFFERED
from tests.net.reactors import quiet
from tests.net.tlskit import Pair

PIECE = 100_000
"""Bytes in one write."""
MUCH = 64 << 20
"""More than any kernel takes for a connection whose reader stopped."""


@implementer(IPushProducer)
class Source:
    """A push producer that writes pieces as long as it may."""

    def __init__(self, transport: Any, piece: bytes, total: int) -> None:
        self.transport, self.piece, self.left = transport, piece, total
        self.running = True
        self.pauses = self.stopped = self.highest = 0

    def start(self) -> None:
        self.transport.registerProducer(self, True)
        self.pump()

    def pump(self) -> None:
        while self.running and self.left > 0:
            self.left -= len(self.piece)
            self.transport.write(self.piece)
            self.highest = max(self.highest, getattr(getattr(self.transport, "_out", None), "unsent", 0))
        if self.left <= 0 and not self.stopped:
            self.stopped += 1
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        assert self.running
        self.running = False
        self.pauses += 1

    def resumeProducing(self) -> None:
        assert not self.running
        self.running = True
        self.pump()

    def stopProducing(self) -> None:
        self.stopped += 1


async def stopped_and_going_on(pair: Pair) -> None:
    """The server reads nothing: the client's producer is paused and little is kept; then everything arrives."""
    pair.server.transport.pauseProducing()
    source = Source(pair.client.transport, bytes(PIECE), MUCH)
    source.start()
    left = await quiet(lambda: source.left)
    assert source.pauses and not source.running
    assert left > MUCH // 2, "the kernel takes some, but not this much"
    assert not pair.server.received
    assert source.highest <= BUFFERED + PIECE
    pair.server.transport.resumeProducing()
    total = -(-MUCH // PIECE) * PIECE
    await pair.server.got(total)
    assert len(pair.server.received) == total and source.pauses > 1
