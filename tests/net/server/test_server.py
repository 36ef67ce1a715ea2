from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from msgspec.structs import replace
from OpenSSL import SSL
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from zope.interface import implementer

from p2pxfer.core.framing import encode_frame, frame_header
from p2pxfer.core.messages import (
    ALPN_SERVER,
    SERVER,
    Failure,
    Introduce,
    Introduction,
    JoinRelay,
    Observe,
    Observed,
    Ping,
    Pong,
    Register,
    Registered,
)
from p2pxfer.core.server.effects import ServerSettings
from p2pxfer.net.private.identity import new_identity
from p2pxfer.net.server.relay import LINGER_S, STALL_S
from tests.net.reactors import quiet, sleep, until
from tests.net.serverkit import LIMITS, Client, site

MIB = 1024 * 1024


@pytest_twisted.ensureDeferred
async def test_two_clients_meet(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        bob = await here.client()
        bob.send(Register(version=1, tag=bob.port, name="bob", lan=["192.168.1.9:20001"]))
        answer = await bob.expect(Registered)
        assert answer.id == bob.identity.id.digest
        assert answer.observed == f"127.0.0.1:{bob.port}"
        assert answer.observers == [f"127.0.0.1:{here.ports[1]}"]
        watching = await here.client(bob.identity, second=True)
        watching.send(Observe(version=1, tag=bob.port))
        assert (await watching.expect(Observed)).observed == f"127.0.0.1:{watching.port}"

        alice = await here.registered()
        alice.send(Introduce(to="bob", tag=alice.port))
        mine, theirs = await alice.expect(Introduction), await bob.expect(Introduction)
        assert mine.session == theirs.session
        assert mine.peer_id == bob.identity.id.digest
        assert mine.observed == [f"127.0.0.1:{bob.port}", f"127.0.0.1:{watching.port}"]
        assert mine.lan == ["192.168.1.9:20001"]
        assert (mine.peer_nat.mapping, mine.peer_nat.ports) == ("port-dependent", "changed")
        assert theirs.observed == [f"127.0.0.1:{alice.port}"]
        bob.send(Ping())
        await bob.expect(Pong)


async def test_who_waits_at_the_server_is_met_by_the_peers_registration(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        alice = await here.registered()
        alice.send(Introduce(to="bob", tag=alice.port, wait_s=30))
        await until(lambda: here.counts["waiting"] == 1)
        bob = await here.registered("bob")
        mine, theirs = await alice.expect(Introduction), await bob.expect(Introduction)
        assert (mine.session, mine.peer_id) == (theirs.session, bob.identity.id.digest)
        assert here.counts["waiting"] == 0


@pytest_twisted.ensureDeferred
async def test_names_outlive_the_server_and_stay_with_their_key(tmp_path: Path) -> None:
    identity = new_identity()
    for _ in range(2):
        async with site(tmp_path) as here:
            await here.registered("bob", identity)
            thief = await here.client()
            thief.send(Register(version=1, tag=1, name="bob"))
            assert (await thief.expect(Failure)).word == "E_NAME"
            await thief.gone


@pytest_twisted.ensureDeferred
async def test_a_newer_connection_replaces_the_older_one(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        old = await here.registered("bob")
        await here.registered("bob", old.identity)
        assert "replaced" in (await old.expect(Failure)).message
        await old.gone
        assert here.counts["names"] == 1


# -- relay -------------------------------------------------------------------------------------------------------


@implementer(IPushProducer)
class Fountain:
    """Writes random bytes as fast as the transport takes them, up to `total`."""

    def __init__(self, leg: Client, total: float) -> None:
        self.sent = 0
        self.hash = hashlib.sha256()
        self._leg = leg
        self._total = total
        self._running = False
        self._piece = os.urandom(64 * 1024)
        leg.tls.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        if self._running:
            return
        self._running = True
        while self._running and self.sent < self._total:
            self.sent += len(self._piece)
            self.hash.update(self._piece)
            self._leg.tls.write(self._piece)
        if self.sent >= self._total:
            self._leg.tls.unregisterProducer()

    def pauseProducing(self) -> None:
        self._running = False

    def stopProducing(self) -> None:
        self._running = False
        self.sent = 1 << 62


@pytest_twisted.ensureDeferred
async def test_bytes_pass_both_ways_and_the_rest_is_flushed_at_the_end(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        one, other = await here.legs()
        assert here.counts["relays"] == 1
        forth, back = Fountain(one, 8 * MIB), Fountain(other, 3 * MIB)
        await until(lambda: one.taken == 3 * MIB)
        assert one.hash.digest() == back.hash.digest()
        one.tls.loseConnection()
        await other.gone
        assert other.taken == forth.sent == 8 * MIB
        assert other.hash.digest() == forth.hash.digest()
        await until(lambda: not here.server.relays)
        assert here.server.relayed_bytes == 11 * MIB
        await until(lambda: here.counts["relays"] == 0)


@pytest_twisted.ensureDeferred
async def test_f44_a_relay_with_a_limit_passes_on_what_it_took_and_ends(tmp_path: Path) -> None:
    """Both directions count, in the server's memory nothing is lost, and the legs were told of it."""
    limit = 5 * MIB
    async with site(tmp_path, settings=ServerSettings(relay_bytes=limit)) as here:
        one, other = await here.legs(limit)
        back = Fountain(other, MIB)
        await until(lambda: one.taken == back.sent)
        (relay,) = here.server.relays
        Fountain(one, float("inf"))
        await one.gone
        await other.gone
        await until(lambda: not here.server.relays)
        assert relay.why == "all that a session may carry"
        assert (other.taken, one.taken) == relay.counts
        assert limit <= sum(relay.counts) <= limit + MIB


@pytest_twisted.ensureDeferred
async def test_a_reader_that_stops_stops_the_writer_and_memory_is_bounded(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        one, other = await here.legs()
        other.tls.pauseProducing()
        fountain = Fountain(one, float("inf"))
        (relay,) = here.server.relays
        await quiet(lambda: relay.counts[0])
        sent = fountain.sent
        await sleep(0.3)
        assert fountain.sent == sent
        # What the server accepted is in the kernel's buffers towards the reader or in the server's own.
        in_kernel = 8 * MIB
        assert relay.counts[0] <= in_kernel + 2 * MIB
        other.tls.resumeProducing()
        await until(lambda: other.taken > sent)
        one.abort()


@pytest_twisted.ensureDeferred
async def test_t_x8_a_reader_that_stays_away_ends_the_relay(tmp_path: Path) -> None:
    clock = Clock()
    async with site(tmp_path, clock=clock) as here:
        one, other = await here.legs()
        other.tls.pauseProducing()
        Fountain(one, float("inf"))
        (relay,) = here.server.relays
        await until(lambda: relay.counts[0] > MIB)
        await quiet(lambda: relay.counts[0])
        clock.advance(STALL_S - 1)
        assert here.server.relays
        clock.advance(2)  # the kernel took some of it behind the moment from which the server waits
        clock.advance(STALL_S)
        assert relay.why == "one side took no data"
        await one.gone
        other.tls.resumeProducing()
        await other.gone
        assert not here.server.relays


@pytest_twisted.ensureDeferred
async def test_a_survivor_that_does_not_close_is_cut(tmp_path: Path) -> None:
    clock = Clock()
    async with site(tmp_path, clock=clock) as here:
        one, other = await here.legs()
        other.tls.pauseProducing()
        one.abort()
        await until(lambda: not here.server.relays)
        clock.advance(LINGER_S + 1)
        other.tls.resumeProducing()
        await other.gone


@pytest_twisted.ensureDeferred
async def test_what_the_peers_say_on_the_relay_is_theirs(tmp_path: Path) -> None:  # S17
    async with site(tmp_path) as here:
        one, other = await here.legs()
        one.send(JoinRelay(version=1, token=bytes(32)), Ping())
        await until(lambda: other.taken == len(SERVER.encode(JoinRelay(version=1, token=bytes(32)))) + 5 + 1)
        assert not one.lost


@pytest_twisted.ensureDeferred
async def test_s10_s16_s18_bad_legs(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        guess = await here.client()
        guess.send(JoinRelay(version=1, token=bytes(32)))
        assert (await guess.expect(Failure)).word == "E_DENIED"
        await guess.gone
        bob, alice = await here.registered("bob"), await here.registered()
        alice.send(Introduce(to="bob", tag=alice.port))
        mine, theirs = await alice.expect(Introduction), await bob.expect(Introduction)
        assert mine.relay_token is not None
        assert theirs.relay_token is not None
        waiting = await here.client(alice.identity)
        waiting.send(JoinRelay(version=1, token=mine.relay_token))
        await until(lambda: here.counts["relays"] == 1)
        waiting.send(Ping())  # impatient
        assert (await waiting.expect(Failure)).word == "E_STATE"
        await waiting.gone

        alice.send(Introduce(to="bob", tag=alice.port))
        mine, theirs = await alice.expect(Introduction), await bob.expect(Introduction)
        assert mine.relay_token is not None
        assert theirs.relay_token is not None
        first = await here.client(alice.identity)
        first.send(JoinRelay(version=1, token=mine.relay_token))
        await until(lambda: here.counts["relays"] == 1)
        second = await here.client(bob.identity)
        second.send(JoinRelay(version=1, token=theirs.relay_token), Ping())  # impatient in the same segment
        await second.gone
        await first.gone
        assert not here.server.relays
        assert await here.works()


@pytest_twisted.ensureDeferred
async def test_a_leg_does_not_wait_for_ever(tmp_path: Path) -> None:
    clock = Clock()
    async with site(tmp_path, clock=clock) as here:
        bob, alice = await here.registered("bob"), await here.registered()
        alice.send(Introduce(to="bob", tag=alice.port))
        token = (await alice.expect(Introduction)).relay_token
        await bob.expect(Introduction)
        assert token is not None
        leg = await here.client(alice.identity)
        leg.send(JoinRelay(version=1, token=token))
        await until(lambda: here.counts["relays"] == 1)
        clock.pump([1] * 31)
        assert (await leg.expect(Failure)).word == "E_PEER_GONE"


# -- strangers (W) -----------------------------------------------------------------------------------------------


def client_hello(**options: Any) -> bytes:
    context = SSL.Context(SSL.TLS_METHOD)
    if "max_version" in options:
        context.set_max_proto_version(options["max_version"])
    if "alpn" in options:
        context.set_alpn_protos([options["alpn"]])
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(65536)


@pytest_twisted.ensureDeferred
async def test_w01_w02_silence_and_trickle_end_after_ten_seconds(tmp_path: Path) -> None:
    clock = Clock()
    hello = client_hello(alpn=ALPN_SERVER)
    async with site(tmp_path, clock=clock) as here:
        silent, trickle = await here.stranger(), await here.stranger()
        await until(lambda: here.server.admission.pending == 2)
        for n in range(9):
            trickle.write(hello[n : n + 1])
            await sleep(0.02)
            clock.advance(1)
        assert not silent.lost
        assert not trickle.lost
        clock.advance(1.1)
        await silent.gone
        await trickle.gone
        assert silent.answer == trickle.answer == b""


@pytest_twisted.ensureDeferred
async def test_a_client_that_is_only_known_has_five_seconds_for_its_first_message(tmp_path: Path) -> None:
    clock = Clock()
    async with site(tmp_path, clock=clock) as here:
        client = await here.client()
        await until(lambda: here.counts["connections"] == 1)
        for byte in SERVER.encode(Register(version=1, tag=1))[:4]:
            client.tls.write(bytes([byte]))
            await sleep(0.02)
            clock.advance(1.2)
        assert not client.lost
        clock.advance(0.5)
        await client.gone


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",  # W03
        b"SSH-2.0-x\r\n",  # W04
        random.Random(5).randbytes(65_536),  # W05
        client_hello(max_version=SSL.TLS1_2_VERSION, alpn=ALPN_SERVER),  # W06
        client_hello(alpn=b"h2"),  # W08
        b"\x00" * 100,
    ],
    ids=["http", "ssh", "random", "tls12", "other-alpn", "zeros"],
)
@pytest_twisted.ensureDeferred
async def test_w03_to_w06_w08_other_protocols_are_closed(tmp_path: Path, data: bytes) -> None:
    async with site(tmp_path) as here:
        stranger = await here.stranger()
        stranger.write(data)
        await stranger.gone
        assert len(stranger.answer) < 64  # an alert at most
        assert await here.works()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x00\x00\x00\x00", "E_FRAME"),  # W18
        (b"\xff\xff\xff\xff", "E_FRAME"),  # W19
        (frame_header(1, 4097), "E_FRAME"),  # W20
        (encode_frame(0xEE, b""), "E_FRAME"),  # W23
        (SERVER.encode(Registered(id=bytes(32), observed="x")), "E_FRAME"),
        (encode_frame(1, b"\x93" + b"\x92" * 4000), "E_FRAME"),  # W26
        (encode_frame(1, b"not msgpack"), "E_FRAME"),
        (encode_frame(1, b"\x82\xa7version\xa21\xa3tag\x01"), "E_FRAME"),  # W38
        (encode_frame(1, b"\x82\xa7version\x00\xa3tag\x01"), "E_FRAME"),  # W24
        (SERVER.encode(Register(version=65535, tag=1)), "E_STATE"),  # W25
        (SERVER.encode(Introduce(to="bob", tag=1)), "E_STATE"),  # S01
        (SERVER.encode(Ping()), "E_STATE"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_first_frames(tmp_path: Path, data: bytes, word: str) -> None:
    async with site(tmp_path) as here:
        client = await here.client()
        client.tls.write(data + b"more bytes that nobody reads")  # W41
        failure = await client.expect(Failure)
        assert (failure.word, failure.fatal) == (word, True)
        await client.gone
        assert client.messages == []
        assert await here.works()


@pytest_twisted.ensureDeferred
async def test_w20_w21_the_largest_frames_before_and_after(tmp_path: Path) -> None:
    def padded(size: int) -> bytes:
        """A Register with an unknown field (W37), `size` bytes of body."""
        head = b"\x83\xa7version\x01\xa3tag\x01\xa1x\xc5"
        return encode_frame(1, head + (size - len(head) - 2).to_bytes(2, "big") + bytes(size - len(head) - 2))

    def ping(size: int) -> bytes:
        head = b"\x81\xa1x\xc6"
        return encode_frame(5, head + (size - len(head) - 4).to_bytes(4, "big") + bytes(size - len(head) - 4))

    async with site(tmp_path) as here:
        client = await here.client()
        client.tls.write(padded(4096))
        await client.expect(Registered)
        client.tls.write(ping(65_536))
        await client.expect(Pong)
        client.tls.write(frame_header(5, 65_537))
        assert (await client.expect(Failure)).word == "E_FRAME"
        await client.gone


@pytest_twisted.ensureDeferred
async def test_w22_a_frame_that_is_cut_has_no_effect(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        client = await here.client()
        client.tls.write(SERVER.encode(Register(version=1, tag=1, name="bob"))[:-3])
        client.tls.loseConnection()
        await client.gone
        await until(lambda: here.counts["connections"] == 0)
        assert here.counts["names"] == 0


@pytest_twisted.ensureDeferred
async def test_w39_one_byte_segments(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        client = await here.client()
        for byte in SERVER.encode(Register(version=1, tag=1, name="bob")) + SERVER.encode(Ping()):
            client.tls.write(bytes([byte]))
            await sleep(0)
        await client.expect(Registered)
        await client.expect(Pong)


@pytest_twisted.ensureDeferred
async def test_w40_five_hundred_frames_in_one_segment_keep_their_order(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        client = await here.client()
        frames: list[Any] = [Register(version=1, tag=1)]
        for _ in range(250):
            frames += [Ping(), Introduce(to="nobody", tag=1)]
        client.send(*frames)
        await until(lambda: len(client.messages) == 501)
        kinds = [type(message) for message in client.messages]
        assert kinds == [Registered, *[Pong, Failure] * 250]
        assert not client.lost


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_nothing_is_cut(tmp_path: Path) -> None:
    clock = Clock()
    async with site(tmp_path, clock=clock) as here:
        client = await here.registered("bob")
        client.tls.pauseProducing()
        connection = next(iter(here.server._connections.values()))
        connection.pauseProducing()  # as its transport does when the buffer is full
        clock.pump([1] * 59)
        assert here.counts["connections"] == 1
        clock.advance(2)
        client.tls.resumeProducing()
        await client.gone
        await until(lambda: here.counts["names"] == 0)


@pytest.mark.deadline(60)
@pytest_twisted.ensureDeferred
async def test_t_x1_hundreds_of_silent_connections_do_not_stop_others(tmp_path: Path) -> None:
    async with site(tmp_path, limits=replace(LIMITS, pending=150)) as here:
        strangers = [await here.stranger() for _ in range(200)]
        await until(lambda: here.server.admission.evicted >= 50)
        assert here.server.admission.pending <= 150
        assert await here.works()
        assert sum(stranger.lost for stranger in strangers) >= 50


@pytest_twisted.ensureDeferred
async def test_a_source_with_too_many_connections_is_refused(tmp_path: Path) -> None:
    async with site(tmp_path, limits=replace(LIMITS, per_source=2)) as here:
        await here.registered()
        last = await here.registered()
        stranger = await here.stranger()
        await stranger.gone
        assert here.server.admission.refused == 1
        last.abort()
        await until(lambda: here.server.admission.total == 1)
        assert await here.works()


@pytest_twisted.ensureDeferred
async def test_a_dead_control_connection_is_cut(tmp_path: Path) -> None:
    clock = Clock()
    async with site(tmp_path, clock=clock) as here:
        dead = await here.registered("bob")
        clock.pump([1] * 80)
        await dead.gone
        assert here.counts["names"] == 0
