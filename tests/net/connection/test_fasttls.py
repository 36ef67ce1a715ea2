from __future__ import annotations

import os
import random
import socket
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet.defer import gatherResults
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReadWriteDescriptor
from zope.interface.verify import verifyObject

from p2pxfer.core.messages import ALPN_PEER, ALPN_SERVER
from p2pxfer.errors import ConfigError, IdentityMismatch, P2pxferError, Unreachable
from p2pxfer.net.connection import delivery, fasttls, wire
from p2pxfer.net.connection.bulktls import BLOCK
from p2pxfer.net.connection.outbuffer import RECORD
from p2pxfer.net.connection.securing import can_take_over, start_tls, take_over
from p2pxfer.net.connection.streamtls import TLSStreamTransport
from p2pxfer.net.connection.tls import Link, PeerTLS, Vanished, exporter
from p2pxfer.net.private.identity import Identity, new_identity
from tests.moments import for_now
from tests.net.flowkit import Source, stopped_and_going_on
from tests.net.keychange import RECORD_SIZE, KeyChanger
from tests.net.reactors import sleep
from tests.net.tlskit import STACKS, Pair, Plain, Upper, by_hand, reactor, tcp_pair, tls_pair

ANN, BOB, EVE = new_identity(), new_identity(), new_identity()
ANN_TLS = PeerTLS(ANN, BOB.id.digest, ALPN_PEER)
BOB_TLS = PeerTLS(BOB, ANN.id.digest, ALPN_PEER)


async def joined(**options: Any) -> Pair:
    pair = await tls_pair(ANN_TLS, BOB_TLS, **options)
    assert await pair.client.secured and await pair.server.secured
    return pair


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


# -- the handshake -----------------------------------------------------------------------------------------------


@STACKS
@pytest.mark.parametrize("dialler_is_client", [True, False])
@pytest_twisted.ensureDeferred
async def test_both_ends_learn_that_they_are_safe(on_socket: tuple[bool, bool], dialler_is_client: bool) -> None:
    pair = await joined(on_socket=on_socket, dialler_is_client=dialler_is_client)
    client, server = pair.client.transport, pair.server.transport
    assert [not isinstance(each, TLSStreamTransport) for each in (client, server)] == list(on_socket)
    assert (client.getHandle().peer, server.getHandle().peer) == (BOB.id.digest, ANN.id.digest)
    assert exporter(client.getHandle(), b"EXPORTER-t", b"c", 16) == exporter(
        server.getHandle(), b"EXPORTER-t", b"c", 16
    )
    assert (client.getHost().port, client.getPeer().port) == (server.getPeer().port, server.getHost().port)
    assert pair.plain[0].heard == pair.plain[1].heard == []
    await pair.close()
    assert pair.plain[0].heard == pair.plain[1].heard == []


@STACKS
@pytest_twisted.ensureDeferred
async def test_a_client_refuses_a_wrong_key_and_sends_nothing(on_socket: tuple[bool, bool]) -> None:
    client, server = Writer(), Upper()
    pair = await tls_pair(ANN_TLS, PeerTLS(EVE, None, ALPN_PEER), on_socket=on_socket, client=client, server=server)
    error = await pair.client.ended
    assert type(error) is IdentityMismatch and str(EVE.id) in error.message
    assert type(await pair.server.ended) is Unreachable
    assert not client.is_secured and not server.is_secured and not server.received


class Writer(Upper):
    """Writes as soon as there is a transport, without waiting for anything."""

    def connectionMade(self) -> None:
        self.transport.write(b"secret")


@STACKS
@pytest_twisted.ensureDeferred
async def test_a_server_refuses_a_wrong_key_and_the_client_learns_why(on_socket: tuple[bool, bool]) -> None:
    pair = await tls_pair(
        PeerTLS(EVE, BOB.id.digest, ALPN_PEER), BOB_TLS, on_socket=on_socket, client=Writer(), server=Upper()
    )
    told = await pair.client.ended
    assert pair.client.is_secured
    assert isinstance(told, IdentityMismatch | Unreachable)
    if on_socket[1]:
        assert type(told) is IdentityMismatch and "refuses the key" in told.message
    error = await pair.server.ended
    assert type(error) is IdentityMismatch and str(EVE.id) in error.message
    assert not pair.server.is_secured and not pair.server.received


@STACKS
@pytest_twisted.ensureDeferred
async def test_what_is_written_early_arrives_after_the_handshake(on_socket: tuple[bool, bool]) -> None:
    pair = await joined(on_socket=on_socket, client=Writer())
    await pair.server.got(6)
    assert pair.server.received == b"secret"
    await pair.close()


@pytest.mark.parametrize("on_socket", [True, False])
@pytest.mark.parametrize("is_client", [True, False])
@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 500, bytes(70000)])
@pytest_twisted.ensureDeferred
async def test_garbage_ends_the_handshake(garbage: bytes, is_client: bool, on_socket: bool) -> None:
    raw, plain = await tcp_pair()
    upper = Upper()
    start_tls(plain.transport, upper, BOB_TLS, is_client=is_client, reactor=reactor, on_socket=on_socket)
    raw.transport.write(garbage)
    raw.transport.loseWriteConnection()
    assert type(await upper.ended) is Unreachable
    assert not upper.is_secured
    raw.transport.abortConnection()
    await sleep(0.01)


@pytest.mark.parametrize("on_socket", [True, False])
@pytest.mark.parametrize("how", ["loseConnection", "abortConnection"])
@pytest.mark.parametrize("hello", [0, 1, 100])
@pytest_twisted.ensureDeferred
async def test_a_peer_that_vanishes_in_the_handshake_is_unreachable(hello: int, how: str, on_socket: bool) -> None:
    raw, plain = await tcp_pair()
    client = ANN_TLS.link(True)
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    upper = Upper()
    start_tls(plain.transport, upper, BOB_TLS, is_client=False, reactor=reactor, on_socket=on_socket)
    if hello:
        raw.transport.write(client.bio_read(65536)[:hello])
        await sleep(0.01)
    getattr(raw.transport, how)()
    assert type(await upper.ended) is Vanished


@pytest.mark.parametrize("on_socket", [True, False])
@pytest.mark.parametrize("how", ["loseConnection", "abortConnection"])
@pytest_twisted.ensureDeferred
async def test_the_protocol_may_give_up_during_the_handshake(how: str, on_socket: bool) -> None:
    raw, plain = await tcp_pair()
    upper = Upper()
    transport = start_tls(plain.transport, upper, BOB_TLS, is_client=True, reactor=reactor, on_socket=on_socket)
    await sleep(0.01)
    getattr(transport, how)()
    assert not upper.lost, "the end must not be told from inside the call"
    assert type(await upper.ended) is ConnectionAborted
    transport.abortConnection()
    transport.loseConnection()
    await sleep(0.01)
    assert isinstance(raw.heard[-1], ConnectionLost), "an abort is a reset"


@pytest_twisted.ensureDeferred
async def test_a_bad_key_of_ours_leaves_the_transport_alone() -> None:
    raw, plain = await tcp_pair()
    bad = PeerTLS(Identity(EVE.key, BOB.certificate), None, ALPN_PEER)
    with pytest.raises(ConfigError):
        start_tls(plain.transport, Upper(), bad, is_client=True, reactor=reactor)
    plain.transport.write(b"still mine")
    await sleep(0.02)
    assert raw.heard == [b"still mine"]
    raw.transport.abortConnection()
    plain.transport.abortConnection()
    await sleep(0.01)


# -- bytes -------------------------------------------------------------------------------------------------------


@STACKS
@pytest_twisted.ensureDeferred
async def test_any_segmentation_of_writes_arrives_unchanged(on_socket: tuple[bool, bool]) -> None:
    pair = await joined(on_socket=on_socket)
    dice = random.Random(7)
    expected = []
    for sender in (pair.client, pair.server):
        data = dice.randbytes(3_000_000)
        expected.append(data)
        at = 0
        while at < len(data):
            size = dice.choice([0, 1, 5, 53, 4000, 16383, 16384, 16385, 70_000, 1 << 20])
            piece: Any = data[at : at + size]
            kind = dice.choice([bytes, bytearray, memoryview])
            if dice.random() < 0.3:
                sender.transport.writeSequence([piece[:3], kind(piece[3:]), b""])
            else:
                sender.transport.write(kind(piece))
            at += size
            if dice.random() < 0.2:
                await sleep(0)
    await gatherResults([pair.server.got(3_000_000), pair.client.got(3_000_000)])
    assert [pair.server.received == expected[0], pair.client.received == expected[1]] == [True, True]
    await pair.close()


@pytest_twisted.ensureDeferred
async def test_large_data_is_delivered_in_large_pieces() -> None:
    pair = await tls_pair(PeerTLS(ANN, BOB.id.digest, ALPN_SERVER), PeerTLS(BOB, ANN.id.digest, ALPN_SERVER))
    pair.client.transport.write(bytes(8 << 20))
    await pair.server.got(8 << 20)
    assert max(pair.server.sizes) >= 4 * RECORD
    assert max(pair.server.sizes) <= delivery.DELIVERY
    await pair.close()


@pytest_twisted.ensureDeferred
async def test_small_writes_share_records(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = await joined()
    link = pair.client.transport.getHandle()
    sizes: list[int] = []
    send = link.send

    def counted(data: memoryview) -> Any:
        sizes.append(len(data))
        return send(data)

    monkeypatch.setattr(link, "send", counted)
    pair.client.transport.writeSequence([b"head"] * 1000 + [bytes(100_000)])
    await pair.server.got(104_000)
    assert sizes[0] == 4000 and len(sizes) < 12
    await pair.close()


@pytest_twisted.ensureDeferred
async def test_bytes_inside_openssl_are_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading less than a record at a time leaves bytes for which the socket causes no event."""
    monkeypatch.setattr(wire, "RECORD", 1000)
    monkeypatch.setattr(fasttls, "TURN", 2000)

    class Pausing(Upper):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.pauseProducing()
            reactor.callLater(0.001, self.transport.resumeProducing)

    monkeypatch.setattr(delivery, "DELIVERY", 3000)
    pair = await joined(server=Pausing())
    data = random.Random(3).randbytes(60_000)
    pair.client.transport.write(data)
    await pair.server.got(len(data))
    assert pair.server.received == data and max(pair.server.sizes) <= 3000
    await sleep(0.01)
    await pair.close()


@pytest_twisted.ensureDeferred
async def test_a_busy_connection_lets_others_have_their_turn() -> None:
    busy, other = await joined(), await joined()
    busy.client.transport.write(bytes(64 << 20))
    other.client.transport.write(b"now")
    await other.server.got(3)
    assert len(busy.server.received) < 32 << 20
    await busy.close()
    await other.close()


@pytest_twisted.ensureDeferred
async def test_one_turn_reads_and_writes_a_bounded_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = await joined(server=Deaf())
    pair.client.transport.write(bytes(2 << 20))
    await sleep(0.05)
    monkeypatch.setattr(fasttls, "TURN", 64 * 1024)
    monkeypatch.setattr(delivery, "DELIVERY", 32 * 1024)
    pair.server.transport.resumeProducing()
    pair.server.transport.doRead()
    assert len(pair.server.received) == 64 * 1024
    pair.server.transport.write(bytes(1 << 20))
    pair.server.transport.doWrite()
    assert pair.server.transport._out.unsent == (1 << 20) - 64 * 1024
    await pair.close()


@STACKS
@pytest_twisted.ensureDeferred
async def test_a_stopped_reader_stops_the_writer(on_socket: tuple[bool, bool]) -> None:
    pair = await joined(on_socket=on_socket)
    await stopped_and_going_on(pair)
    await pair.close()


@pytest_twisted.ensureDeferred
async def test_a_paused_connection_still_finishes_its_handshake() -> None:
    class Shy(Upper):
        def connectionMade(self) -> None:
            self.transport.pauseProducing()

    pair = await joined(client=Writer(), server=Shy())
    await sleep(0.02)
    assert not pair.server.received
    pair.server.transport.resumeProducing()
    await pair.server.got(6)
    await pair.close()


@pytest_twisted.ensureDeferred
async def test_a_pull_producer_is_asked_whenever_there_is_room() -> None:
    pair = await joined()

    class Puller:
        asked = 0

        def resumeProducing(self) -> None:
            self.asked += 1
            if self.asked <= 5:
                pair.client.transport.write(bytes(50_000))
            else:
                pair.client.transport.unregisterProducer()

        def stopProducing(self) -> None:
            raise AssertionError

    puller = Puller()
    pair.client.transport.registerProducer(puller, False)
    await pair.server.got(250_000)
    assert puller.asked >= 5
    await pair.close()


@pytest_twisted.ensureDeferred
async def test_only_one_producer_at_a_time_and_none_after_the_end() -> None:
    pair = await joined()
    first, second = (Source(pair.client.transport, b"", 0) for _ in range(2))
    pair.client.transport.registerProducer(first, True)
    with pytest.raises(RuntimeError):
        pair.client.transport.registerProducer(second, True)
    await pair.close()
    assert first.stopped == 1
    pair.client.transport.registerProducer(second, True)
    assert second.stopped == 1


# -- the end -----------------------------------------------------------------------------------------------------


@STACKS
@pytest.mark.parametrize("size", [0, 1, 5_000_000])
@pytest_twisted.ensureDeferred
async def test_a_close_delivers_everything_first(size: int, on_socket: tuple[bool, bool]) -> None:
    pair = await joined(on_socket=on_socket)
    data = random.Random(1).randbytes(size)
    pair.client.transport.write(data)
    pair.client.transport.loseConnection()
    pair.client.transport.write(b"too late")
    assert type(await pair.server.ended) is ConnectionDone
    assert type(await pair.client.ended) is ConnectionDone
    assert pair.server.received == data


@pytest_twisted.ensureDeferred
async def test_bytes_on_their_way_do_not_destroy_what_a_close_still_sends() -> None:
    """Closing a socket with unread bytes resets the connection; what the other end had not read yet would be lost."""
    pair = await joined()
    pair.server.transport.pauseProducing()
    pair.client.transport.write(bytes(3_000_000))
    await sleep(0.05)
    pair.server.transport.write(b"a farewell" * 100_000)
    pair.server.transport.loseConnection()
    await pair.client.got(1_000_000)
    assert type(await pair.client.ended) is ConnectionDone
    assert type(await pair.server.ended) is ConnectionDone
    assert not pair.server.received, "after its close a protocol hears nothing"


@STACKS
@pytest_twisted.ensureDeferred
async def test_an_abort_is_told_apart_at_both_ends(on_socket: tuple[bool, bool]) -> None:
    before = descriptors()
    pair = await joined(on_socket=on_socket)
    pair.client.transport.write(bytes(5_000_000))
    pair.client.transport.abortConnection()
    assert for_now(pair.client.lost) == 0
    assert type(await pair.client.ended) is ConnectionAborted
    assert type(await pair.server.ended) is Vanished
    assert len(pair.server.received) < 5_000_000
    pair.client.transport.write(b"x")
    pair.client.transport.pauseProducing()
    pair.client.transport.resumeProducing()
    pair.client.transport.loseConnection()
    pair.client.transport.abortConnection()
    await sleep(0.01)
    assert pair.client.lost == pair.server.lost == 1
    assert descriptors() == before


@STACKS
@pytest_twisted.ensureDeferred
async def test_a_cut_without_goodbye_is_no_orderly_end(on_socket: tuple[bool, bool]) -> None:
    pair = await joined(on_socket=on_socket)
    if on_socket[0]:
        pair.client.transport._socket.shutdown(socket.SHUT_WR)
    else:
        pair.client.transport._socket.transport.loseWriteConnection()
    assert type(await pair.server.ended) is Vanished
    await pair.close()


@STACKS
@pytest_twisted.ensureDeferred
async def test_nothing_is_delivered_after_the_protocol_gave_up(on_socket: tuple[bool, bool]) -> None:
    class Once(Upper):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.abortConnection()

    pair = await joined(on_socket=on_socket, server=Once())
    pair.client.transport.write(bytes(10_000_000))
    assert type(await pair.server.ended) is ConnectionAborted
    assert len(pair.server.sizes) == 1
    assert type(await pair.client.ended) is Vanished


@pytest.mark.parametrize("piece", [RECORD, 1])
@pytest_twisted.ensureDeferred
async def test_an_exception_in_the_protocol_ends_the_connection_and_is_logged(
    piece: int, lost_errors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when OpenSSL held the bytes and no event of the socket brought them."""

    class Broken(Upper):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            if self.sizes[1:] or piece > 1:
                raise ZeroDivisionError

    monkeypatch.setattr(wire, "RECORD", piece)
    monkeypatch.setattr(fasttls, "TURN", 1)
    monkeypatch.setattr(delivery, "DELIVERY", piece)
    before = descriptors()
    pair = await joined(server=Broken())
    pair.client.transport.write(b"xy")
    assert type(await pair.server.ended) is Vanished
    assert isinstance(await pair.client.ended, Unreachable | ConnectionDone)
    assert len(lost_errors.complaints()) == 1 and "ZeroDivisionError" in lost_errors.complaints()[0]
    lost_errors.flush()
    assert descriptors() == before


@pytest_twisted.ensureDeferred
async def test_a_reset_is_noticed_while_reading_is_paused() -> None:
    pair = await joined()
    pair.client.transport.pauseProducing()
    pair.server.transport.pauseProducing()
    pair.client.transport.write(bytes(32 << 20))
    await sleep(0.05)
    pair.server.transport.abortConnection()
    assert type(await pair.client.ended) is Vanished
    await pair.server.ended


@pytest_twisted.ensureDeferred
async def test_a_close_waits_for_the_producer() -> None:
    pair = await joined()
    source = Source(pair.client.transport, bytes(50_000), 5_000_000)
    source.start()
    pair.client.transport.loseConnection()
    assert type(await pair.server.ended) is ConnectionDone
    assert len(pair.server.received) == 5_000_000
    await pair.client.ended


@pytest_twisted.ensureDeferred
async def test_a_close_does_not_wait_for_a_silent_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fasttls, "LINGER_S", 0.1)
    pair = await joined()
    pair.server.transport.pauseProducing()
    pair.client.transport.loseConnection()
    assert type(await pair.client.ended) is ConnectionDone
    await pair.close()


@pytest_twisted.ensureDeferred
async def test_a_close_ends_the_stream_for_a_peer_that_knows_no_close_notify() -> None:
    raw, server, _ = await _by_hand()
    server.transport.loseConnection()
    await sleep(0.05)
    assert isinstance(raw.heard[-1], ConnectionDone)
    assert type(await server.ended) is ConnectionDone


@pytest_twisted.ensureDeferred
async def test_a_refusal_is_read_even_if_writing_fails_first() -> None:
    pair = await tls_pair(PeerTLS(EVE, BOB.id.digest, ALPN_PEER), BOB_TLS, client=Deaf())
    assert type(await pair.server.ended) is IdentityMismatch
    await sleep(0.02)
    assert pair.client.is_secured and not pair.client.lost
    for _ in range(3):
        if not pair.client.lost:
            pair.client.transport.write(bytes(100_000))
            await sleep(0.02)
    error = await pair.client.ended
    assert type(error) is IdentityMismatch and "refuses the key" in error.message


class Deaf(Upper):
    """Stops reading as soon as it may."""

    def handshakeCompleted(self) -> None:
        super().handshakeCompleted()
        self.transport.pauseProducing()


@pytest_twisted.ensureDeferred
async def test_two_closes_at_once_are_orderly() -> None:
    for _ in range(5):
        pair = await joined()
        pair.client.transport.loseConnection()
        pair.server.transport.loseConnection()
        assert type(await pair.client.ended) is ConnectionDone
        assert type(await pair.server.ended) is ConnectionDone


@pytest_twisted.ensureDeferred
async def test_many_connections_leave_no_descriptor() -> None:
    before = descriptors()
    for number in range(30):
        pair = await tls_pair(ANN_TLS, BOB_TLS if number % 3 else PeerTLS(EVE, None, ALPN_PEER))
        if number % 2:
            await pair.server.secured
            pair.server.transport.write(bytes(300_000))
        for upper in (pair.client, pair.server)[:: 1 if number % 5 else -1]:
            upper.transport.abortConnection() if number % 4 else upper.transport.loseConnection()
        await pair.close()
        await gatherResults([upper.ended for upper in (pair.client, pair.server) if not upper.ended.called])
    assert descriptors() == before


@pytest_twisted.ensureDeferred
async def test_flipped_bits_end_the_connection() -> None:
    """Whatever is changed on the line, the receiver sees a prefix of the truth and then the end."""
    for bit in (0, 7, 40, 41, 1000, 8 * 20_000):
        dialling, server, link = await _by_hand()
        for _ in range(3):
            link.send(b"A" * 10_000)
        records = bytearray(link.bio_read(65536))
        records[bit // 8] ^= 1 << bit % 8
        dialling.transport.write(bytes(records))
        dialling.transport.loseWriteConnection()
        assert isinstance(await server.ended, P2pxferError)
        assert set(server.received) <= {ord("A")} and len(server.received) < 30_000
        dialling.transport.abortConnection()
        await sleep(0.01)


class Arrived:
    """Stands for a socket that ``given`` has reached already."""

    def __init__(self, given: bytes) -> None:
        self.given = memoryview(given)

    def recv_into(self, memory: memoryview) -> int:
        some, self.given = self.given[: len(memory)], self.given[len(memory) :]
        if not some:
            raise BlockingIOError
        memory[: len(some)] = some
        return len(some)

    def send(self, data: memoryview) -> int:
        return len(data)


@pytest_twisted.ensureDeferred
async def test_changes_of_keys_without_end_do_not_hold_the_reactor(monkeypatch: pytest.MonkeyPatch) -> None:
    """They bring no data, so counting data would never end the turn."""
    monkeypatch.setattr(delivery, "DELIVERY", RECORD)
    monkeypatch.setattr(fasttls, "TURN", 2 * BLOCK)
    changer = KeyChanger(ANN, ALPN_PEER)
    dialling, server, _ = await _by_hand(changer.link)
    flood = changer.change(20 * BLOCK // RECORD_SIZE, asks=False) + changer.data(b"now")
    arrived = Arrived(flood)
    server.transport._wire._tls._socket = arrived
    server.transport.doRead()
    # A turn, a block, and what the last call takes: as much as its memory holds and two blocks.
    assert len(flood) - len(arrived.given) <= fasttls.TURN + 3 * BLOCK + RECORD
    assert not server.received
    await server.got(3)
    assert server.received == b"now"
    server.transport.abortConnection()
    await server.ended
    dialling.transport.abortConnection()
    await sleep(0.01)


async def _by_hand(link: Link | None = None) -> tuple[Plain, Upper, Link]:
    server = Upper()
    link = link or ANN_TLS.link(True)
    return await by_hand(link, server, BOB_TLS), server, link


# -- TLS inside TLS, and other transports ------------------------------------------------------------------------


@STACKS
@pytest_twisted.ensureDeferred
async def test_tls_runs_inside_tls(on_socket: tuple[bool, bool]) -> None:
    outer = await joined(on_socket=on_socket)
    client, server = Upper(), Upper()
    inner_client = PeerTLS(EVE, ANN.id.digest, b"inner/1")
    inner_server = PeerTLS(ANN, EVE.id.digest, b"inner/1")
    start_tls(outer.server.transport, server, inner_server, is_client=False, reactor=reactor)
    start_tls(outer.client.transport, client, inner_client, is_client=True, reactor=reactor)
    assert await client.secured and await server.secured
    assert client.transport.getHandle().peer == ANN.id.digest
    assert client.transport.getPeer() == outer.client.transport.getPeer()
    data = random.Random(2).randbytes(2_000_000)
    source = Source(client.transport, data[:100_000], 2_000_000)
    source.start()
    server.transport.write(data)
    await gatherResults([server.got(2_000_000), client.got(2_000_000)])
    assert client.received == data and server.received == data[:100_000] * 20
    client.transport.loseConnection()
    assert type(await server.ended) is ConnectionDone
    assert type(await client.ended) is ConnectionDone
    assert not outer.client.received and not outer.client.lost


@STACKS
@pytest_twisted.ensureDeferred
async def test_tls_inside_tls_may_be_aborted(on_socket: tuple[bool, bool]) -> None:
    outer = await joined(on_socket=on_socket)
    client, server = Upper(), Upper()
    start_tls(outer.server.transport, server, BOB_TLS, is_client=False, reactor=reactor)
    start_tls(outer.client.transport, client, ANN_TLS, is_client=True, reactor=reactor)
    await client.secured
    client.transport.abortConnection()
    assert type(await client.ended) is ConnectionAborted
    assert type(await server.ended) is Vanished


@pytest_twisted.ensureDeferred
async def test_early_bytes_belong_to_the_handshake() -> None:
    outer = await joined()
    client, server = Upper(), Upper()
    start_tls(outer.client.transport, client, ANN_TLS, is_client=True, reactor=reactor)
    await outer.server.got(100)
    early, outer.server.received = bytes(outer.server.received), bytearray()
    start_tls(outer.server.transport, server, BOB_TLS, is_client=False, reactor=reactor, early=early)
    assert await client.secured and await server.secured
    client.transport.abortConnection()
    await gatherResults([client.ended, server.ended])


@pytest_twisted.ensureDeferred
async def test_a_socket_with_unsent_bytes_is_not_taken_over() -> None:
    raw, plain = await tcp_pair()
    assert can_take_over(plain.transport, reactor)
    plain.transport.write(b"unsent")
    assert not can_take_over(plain.transport, reactor)
    plain.transport.abortConnection()
    await sleep(0.02)
    assert not can_take_over(plain.transport, reactor)
    assert not can_take_over(raw, reactor)


@pytest_twisted.ensureDeferred
async def test_a_taken_socket_keeps_its_connection_and_number() -> None:
    before = descriptors()
    raw, plain = await tcp_pair()
    number = plain.transport.fileno()
    sock = take_over(plain.transport)
    assert sock.fileno() == number
    sock.send(b"alive")
    await sleep(0.02)
    assert raw.heard == [b"alive"] and plain.heard == []
    sock.close()
    await sleep(0.02)
    assert isinstance(raw.heard[-1], ConnectionDone)
    assert descriptors() == before


@pytest_twisted.ensureDeferred
async def test_the_transport_is_a_descriptor_for_the_reactor() -> None:
    pair = await joined()
    assert verifyObject(IReadWriteDescriptor, pair.client.transport)
    assert "Upper" in pair.client.transport.logPrefix()
    pair.client.transport.stopProducing()
    await gatherResults([pair.client.ended, pair.server.ended])
    assert pair.client.transport.fileno() == -1


@pytest_twisted.ensureDeferred
async def test_a_socket_that_is_left_to_its_transport_is_reached_by_memory_buffers() -> None:
    dialling, listening = await tcp_pair()
    client, server = Upper(), Upper()
    start_tls(listening.transport, server, BOB_TLS, is_client=False, reactor=reactor, on_socket=False)
    start_tls(dialling.transport, client, ANN_TLS, is_client=True, reactor=reactor, on_socket=False)
    assert await client.secured and await server.secured
    assert isinstance(client.transport, TLSStreamTransport)
    client.transport.abortConnection()
    await gatherResults([client.ended, server.ended])


@pytest_twisted.ensureDeferred
async def test_the_transport_that_lost_its_socket_ignores_the_rest_of_an_event() -> None:
    """A dial becomes readable and writable at once: the reactor calls both, and the first takes the socket away."""
    pair = await joined()
    for plain in pair.plain:
        assert plain.transport.doRead() is None
        assert plain.transport.doWrite() is None
    await pair.close()
