"""The peers' own connection inside a relay leg: TLS that ends with the connection, and their records in it."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from p2pxfer.core.messages import ALPN_SERVER
from p2pxfer.core.session.records import MAX_RECORD
from p2pxfer.errors import Unreachable
from p2pxfer.net.connection import fasttls
from p2pxfer.net.connection.backlog import Backlog
from p2pxfer.net.connection.recordsize import LEAST, RECORD_S, UNKNOWN, LineShare
from p2pxfer.net.connection.securing import start_tls
from p2pxfer.net.connection.streamsocket import StreamSocket
from p2pxfer.net.connection.tcpinfo import delivery_rate
from p2pxfer.net.connection.tls import PeerTLS
from tests.net.flowkit import MUCH
from tests.net.reactors import quiet, sleep, until
from tests.net.sealkit import ANN, ANN_TLS, BOB, BOB_TLS, Changing
from tests.net.tlskit import Pair, reactor, tls_pair


@dataclass
class Leg(Pair):
    """Two peers inside a leg whose own two ends are below them."""

    outer: Pair


async def leg(server: Changing | None = None, limit: int = 0) -> Leg:
    """Both directions have changed to records; the leg carries ``limit`` bytes, as many as there are if it is 0."""
    outer = await tls_pair(PeerTLS(ANN, BOB.id.digest, ALPN_SERVER), PeerTLS(BOB, ANN.id.digest, ALPN_SERVER))
    assert await outer.client.secured and await outer.server.secured
    found = Leg(Changing("initiator"), server or Changing("responder"), outer.plain, outer)
    start_tls(outer.server.transport, found.server, BOB_TLS, is_client=False, reactor=reactor, limit=limit)
    start_tls(outer.client.transport, found.client, ANN_TLS, is_client=True, reactor=reactor, limit=limit)
    await gatherResults([found.client.secured, found.server.secured])
    for one, other in ((found.client, found.server), (found.server, found.client)):
        one.transport.write(b"!")
        await other.got(1)
        other.received.clear()
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest_twisted.ensureDeferred
async def test_bursts_of_any_size_arrive_unchanged(seed: int) -> None:
    """What the inner connection has not read yet is not where the outer one puts the next bytes."""
    pair, dice = await leg(), random.Random(seed)
    expected = {}
    for sender, receiver in ((pair.client, pair.server), (pair.server, pair.client)):
        data = expected[receiver] = dice.randbytes(3_000_000)
        at = 0
        while at < len(data):
            size = dice.choice([1, 100, 5000, MAX_RECORD, MAX_RECORD + 1, 100_000, 270_000, 800_000])
            sender.transport.write(data[at : at + size])
            at += size
            if dice.random() < 0.3:
                await sleep(0)
    while any(not end.lost and len(end.received) < len(data) for end, data in expected.items()):
        await sleep(0.005)
    assert [receiver.received == data for receiver, data in expected.items()] == [True, True]
    await pair.close()


class Pausing(Changing):
    """Takes one record, and the next one a moment later; for none it has memory of its own."""

    def memory_for_input(self) -> None:
        """None just now, so that a record comes by itself."""

    def input_arrived(self, size: int) -> None:
        assert not size

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.pauseProducing()
        if self.opens:
            reactor.callLater(0, self.transport.resumeProducing)


@pytest_twisted.ensureDeferred
async def test_a_record_that_waits_is_not_opened_into_what_comes_meanwhile() -> None:
    """The outer connection's socket is read before the inner one's turn has come."""
    pair, data = await leg(Pausing("responder")), random.Random(1).randbytes(2_000_000)
    for at in range(0, len(data), 9000):
        pair.client.transport.write(data[at : at + 9000])
        if at % 45_000 == 0:
            await sleep(0)
    while not pair.server.lost and len(pair.server.received) < len(data):
        await sleep(0.005)
    assert pair.server.received == data
    await pair.close()


class Halting(Changing):
    """Reads nothing more after each piece."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self.opens and self.received:
            self.transport.pauseProducing()


@pytest_twisted.ensureDeferred
async def test_the_end_is_heard_where_it_came_with_the_last_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream itself has nothing more to tell then: unlike a socket it does not end when one direction does."""
    monkeypatch.setattr(fasttls, "LINGER_S", 1000.0)
    pair = await leg(Halting("responder"))
    pair.client.transport.write(b"the last words")
    pair.client.transport.loseConnection()
    below = pair.outer.client.transport
    await until(lambda: pair.client.transport._deadline is not None and not below.unsent and not below._wire.unsent)
    await sleep(0.02)  # the other end has read both
    pair.server.transport.resumeProducing()
    await until(lambda: len(pair.server.received) == 14)  # `got` would tell of it before it halts
    assert not pair.server.lost
    pair.server.transport.resumeProducing()
    await until(lambda: bool(pair.server.lost))
    assert type(await pair.server.ended) is ConnectionDone
    await pair.close()


@pytest_twisted.ensureDeferred
async def test_the_kernel_knows_nothing_of_what_is_inside_a_leg() -> None:
    """It may be asked all the same."""
    pair = await leg()
    inside: Any = pair.client.transport
    assert (inside.flow(), inside.governor, inside.govern("reno")) == (None, None, False)
    assert (inside.silent_for(), inside.round_trip) == (0.0, 0.0)
    await pair.close()


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")
@pytest_twisted.ensureDeferred
async def test_what_the_server_has_acknowledged_tells_of_the_progress_of_what_is_inside() -> None:
    """Bytes of the leg's own TLS and those of its start are among them."""
    pair = await leg()
    inside: Any = pair.client.transport
    before = inside.acked
    assert before > 0
    inside.write(bytes(100_000))
    await pair.server.got(100_000)
    await until(lambda: inside.acked >= before + 100_000)
    await pair.close()
    assert inside.acked == 0, "there is no connection any more"


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")
@pytest_twisted.ensureDeferred
async def test_on_a_slow_line_little_is_sealed_ahead_of_a_farewell() -> None:
    """What the leg has cannot be dropped; where 25 KB take a second, here and in the kernel it is a record or so each.

    No line is slow here, but one that is not read becomes full.
    """
    pair = await leg()
    inside: Any = pair.client.transport
    below: Any = pair.outer.client.transport
    inside._wire._size = LineShare(inside._socket, reactor.seconds, lambda sock: 25_000)
    below._wire._backlog = Backlog(below._socket, reactor.seconds, lambda sock: 25_000)
    pair.outer.server.transport.pauseProducing()
    inside.write(bytes(MUCH))
    await quiet(lambda: int(inside.unsent) + int(below.unsent))
    assert inside._out.unsent > MUCH // 2
    assert 0 < inside._wire.waiting + below.unsent <= 3 * LEAST
    assert below.flow().waiting <= 2 * LEAST
    await pair.close()


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")
@pytest_twisted.ensureDeferred
async def test_records_inside_a_leg_are_as_large_as_its_own_line_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel knows of the leg is the line to the server, which may be slow."""
    pair = await leg()
    inside: Any = pair.client.transport._socket
    assert delivery_rate(inside) is not None
    told = bytes(160) + (300_000).to_bytes(8, sys.byteorder)
    monkeypatch.setattr(pair.outer.client.transport, "getsockopt", lambda level, option, size: told[:size])
    assert LineShare(inside, lambda: 0.0).most() == 300_000 * RECORD_S
    await pair.close()
    nothing_below = StreamSocket(reactor)
    assert LineShare(nothing_below, lambda: 0.0).most() == UNKNOWN


@pytest.mark.parametrize(("limit", "why"), [(100_000, "relays 0.1 MiB a session and no more"), (10_000_000, "")])
@pytest_twisted.ensureDeferred
async def test_f44_a_leg_that_carried_all_that_it_may_says_so(limit: int, why: str) -> None:
    """Both directions count, whoever wrote; an end before that has another reason."""
    pair = await leg(limit=limit)
    for one, other in ((pair.client, pair.server), (pair.server, pair.client)):
        one.transport.write(bytes(60_000))
        await other.got(60_000)
    relay = pair.outer.server.transport
    relay.unregisterProducer()
    relay.loseConnection()
    reason = str(await pair.client.ended)
    assert why in reason
    assert bool(why) is ("relays" in reason)


class Carrier:
    """A stream below that takes everything and reads while it is let."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> None:
        self.written += data

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """It says when it is full."""

    def pauseProducing(self) -> None:
        """Nothing more comes."""

    def resumeProducing(self) -> None:
        """More may come."""


class Reader:
    """Reads all that is there whenever it is told of any."""

    def __init__(self, stream: StreamSocket) -> None:
        self._stream = stream
        self.read = bytearray()
        self.lost: list[Failure] = []

    def doRead(self) -> None:
        memory = bytearray(1000)
        while count := self._stream.recv_into(memoryview(memory)):
            self.read += memory[:count]
        self._stream.close()

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)


def used_up(limit: int, reason: Exception) -> tuple[StreamSocket, Reader, Clock]:
    """A stream that took and brought 2000 bytes, which nobody read before it ended for ``reason``."""
    clock = Clock()
    stream: Any = StreamSocket(clock, limit=limit)
    reader = Reader(stream)
    stream.makeConnection(Carrier())
    stream.watch(reader, (False, False))
    stream.send(memoryview(bytes(1000)))
    stream.dataReceived(bytes(1000))
    stream.connectionLost(Failure(reason))
    clock.advance(0)
    return stream, reader, clock


@pytest.mark.parametrize("limit", [0, 2000])
def test_f44_what_came_before_an_orderly_end_is_read_also_where_a_limit_was_reached(limit: int) -> None:
    """The limit is what is said of the end, and not how it came."""
    stream, reader, clock = used_up(limit, ConnectionDone())
    assert reader.lost == []
    stream.watch(reader, (True, False))
    clock.advance(0)
    assert reader.read == bytes(1000)
    assert stream.reason is not None
    assert bool(stream.reason.check(Unreachable)) is bool(limit)


@pytest.mark.parametrize("limit", [0, 2000])
def test_f44_of_a_break_whoever_reads_nothing_hears_at_once(limit: int) -> None:
    stream, reader, _ = used_up(limit, ConnectionLost())
    assert reader.lost == [stream.reason]
    assert bool(reader.lost[0].check(Unreachable)) is bool(limit)


def test_f44_what_is_not_taken_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(carrier: Carrier, data: bytes) -> None:
        raise MemoryError

    stream: Any = StreamSocket(Clock(), limit=2000)
    stream.makeConnection(Carrier())
    stream.watch(Reader(stream), (False, False))
    stream.send(memoryview(bytes(1000)))
    monkeypatch.setattr(Carrier, "write", starve)
    with pytest.raises(MemoryError):
        stream.send(memoryview(bytes(1000)))
    stream.connectionLost(Failure(ConnectionDone()))
    assert stream.reason is not None
    assert stream.reason.check(ConnectionDone)
