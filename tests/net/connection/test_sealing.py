"""From TLS to sealed records and on, over real connections."""

from __future__ import annotations

import random
import socket
from typing import Any

import pytest
import pytest_twisted
from blake3 import blake3
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionAborted, ConnectionDone

from p2pxfer.core.messages import ALPN_PEER
from p2pxfer.core.session.farewell import problem
from p2pxfer.core.session.hello import Terms
from p2pxfer.core.session.recordblocks import BLOCK, MOST_RECORDS
from p2pxfer.core.session.records import MAX_RECORD, OVERHEAD, Direction, Opener, RecordBroken, Sealer
from p2pxfer.core.session.transferwire import Chunk, chunk_prefix
from p2pxfer.core.session.wire import PEER, Ping
from p2pxfer.errors import DiskError, P2pxferError, PeerStopped, ProtocolBreach
from p2pxfer.net.connection import delivery, fasttls
from p2pxfer.net.connection.tls import Vanished
from p2pxfer.net.private.identity import Identity
from p2pxfer.net.session.path import PathFacts, PeerPath
from tests.net.flowkit import stopped_and_going_on
from tests.net.keychange import KeyChanger
from tests.net.reactors import quiet, sleep, until
from tests.net.sealkit import (
    ANN,
    ANN_TLS,
    BOB,
    BOB_TLS,
    LAST_IN_TLS,
    SECRETS,
    SUITE,
    Changing,
    changed_pair,
    changing_pair,
)
from tests.net.tlskit import STACKS, Upper, by_hand, flush, reactor

# -- the change ----------------------------------------------------------------------------------------------------


@STACKS
@pytest.mark.parametrize("first", [b"", b"at once, in the same segment", bytes(400_000)], ids=["", "small", "large"])
@pytest_twisted.ensureDeferred
async def test_each_direction_changes_at_its_own_byte(on_socket: tuple[bool, bool], first: bytes) -> None:
    """What follows at once was read by nobody but the records' own reader."""
    client, server = Changing("initiator", first), Changing("responder", first)
    pair = await changing_pair(on_socket, client=client, server=server)
    await gatherResults([pair.client.secured, pair.server.secured])
    await gatherResults([pair.client.got(len(first)), pair.server.got(len(first))])
    pair.client.transport.write(b"and on")
    await pair.server.got(len(first) + 6)
    assert server.received == first + b"and on" and client.received == first
    await pair.close()


@STACKS
@pytest_twisted.ensureDeferred
async def test_one_direction_alone_may_have_changed(on_socket: tuple[bool, bool]) -> None:
    """The server still speaks TLS while the client's records are read."""

    class Late(Changing):
        def handshakeCompleted(self) -> None:
            Upper.handshakeCompleted(self)

        def change(self) -> None:
            self.transport.write(LAST_IN_TLS)
            self.transport.seal_from_here(Sealer(SECRETS[self.role], SUITE))

    server = Late("responder")
    pair = await changing_pair(on_socket, client=Changing("initiator", b"early"), server=server)
    await server.got(5)
    server.change()
    server.transport.write(b"late")
    await pair.client.got(4)
    assert pair.client.received == b"late"
    await pair.close()


@STACKS
@pytest_twisted.ensureDeferred
async def test_more_in_tls_than_the_greeting_ends_the_connection(on_socket: tuple[bool, bool]) -> None:
    class Talkative(Changing):
        def handshakeCompleted(self) -> None:
            self.transport.write(LAST_IN_TLS)
            Upper.handshakeCompleted(self)

    server = Changing("responder")
    pair = await changing_pair(on_socket, client=Talkative("initiator"), server=server)
    while not server.opens:
        await sleep(0.005)
    pair.client.transport.write(b"still TLS")
    assert type(await pair.server.ended) is not ConnectionDone
    assert not pair.server.received
    await pair.close()


@pytest_twisted.ensureDeferred
async def test_changes_of_keys_in_tls_put_nothing_between_the_records() -> None:
    """OpenSSL answers them in TLS; a direction that has changed has no room for that."""
    changer = KeyChanger(ANN, ALPN_PEER)
    server = Changing("responder")
    link = changer.link
    dialling = await by_hand(link, server, BOB_TLS)
    heard = bytearray()
    dialling.transport.write(changer.change(500, asks=True) + changer.data(LAST_IN_TLS))
    sealer = Sealer(SECRETS["initiator"], SUITE)
    record = memoryview(bytearray(100))
    dialling.transport.write(bytes(record[: sealer.seal(b"hello", record)]))
    await server.got(5)
    server.transport.write(b"first record")
    server.transport.loseConnection()
    await sleep(0.05)
    for piece in dialling.heard:
        if isinstance(piece, bytes):
            heard += piece
    link.bio_write(heard)
    assert link.recv(100) == LAST_IN_TLS
    size = len(b"first record") + 2 * OVERHEAD
    opener, memory = Opener(SECRETS["responder"], SUITE), memoryview(bytearray(12))
    opener.open(memoryview(heard)[-size:-OVERHEAD], memory)
    assert bytes(memory) == b"first record"
    dialling.transport.abortConnection()
    await server.ended


# -- bytes ---------------------------------------------------------------------------------------------------------


@STACKS
@pytest_twisted.ensureDeferred
async def test_any_segmentation_of_writes_arrives_unchanged(on_socket: tuple[bool, bool]) -> None:
    pair = await changed_pair(on_socket)
    dice = random.Random(7)
    expected = []
    for sender in (pair.client, pair.server):
        data = dice.randbytes(5_000_000)
        expected.append(data)
        at = 0
        while at < len(data):
            size = dice.choice([0, 1, 5, 53, 4000, 16383, 16384, MAX_RECORD - 1, MAX_RECORD, MAX_RECORD + 1, 1 << 21])
            piece: Any = data[at : at + size]
            sender.transport.writeSequence([piece[:3], memoryview(piece)[3:], b""])
            at += size
            if dice.random() < 0.2:
                await sleep(0)
    await gatherResults([pair.server.got(5_000_000), pair.client.got(5_000_000)])
    assert [pair.server.received == expected[0], pair.client.received == expected[1]] == [True, True]
    await pair.close()


class InPlace(Changing):
    """Has memory of its own for what comes, as a path has while a chunk arrives."""

    def __init__(self, role: Any, size: int) -> None:
        super().__init__(role)
        self.memory = bytearray(size)
        self.filled = 0
        self.through_shared = 0

    def memory_for_input(self) -> memoryview | None:
        return memoryview(self.memory)[self.filled :] if self.opens else None

    def input_arrived(self, size: int) -> None:
        self.filled += size
        self.lively += not size

    def dataReceived(self, data: bytes) -> None:
        if self.opens:
            self.memory[self.filled : self.filled + len(data)] = data
            self.filled += len(data)
            self.through_shared += len(data)
        else:
            super().dataReceived(data)


@STACKS
@pytest_twisted.ensureDeferred
async def test_large_pieces_are_opened_where_they_belong(on_socket: tuple[bool, bool]) -> None:
    """The head of a chunk does not shift the records of its payload."""
    data = random.Random(3).randbytes(3_000_000)
    server = InPlace("responder", 49 + len(data))
    pair = await changing_pair(on_socket, server=server)
    await pair.client.secured
    pair.client.transport.writeSequence([b"h" * 49, data])
    while server.filled < len(server.memory):
        await sleep(0.01)
    assert server.memory == b"h" * 49 + data
    assert not server.through_shared
    await pair.close()


@STACKS
@pytest_twisted.ensureDeferred
async def test_a_stopped_reader_stops_the_writer(on_socket: tuple[bool, bool]) -> None:
    pair = await changed_pair(on_socket)
    await stopped_and_going_on(pair)
    await pair.close()


@pytest_twisted.ensureDeferred
async def test_part_of_a_record_is_a_sign_of_life() -> None:
    """On a slow line the rest of a large record takes longer than a path may be silent."""
    held = bytearray()

    def drop_by_drop(data: bytes) -> bytes:
        nonlocal held
        if not slow:
            return data
        held += data
        some, held = bytes(held[:100]), held[100:]
        return some

    slow = False
    server = InPlace("responder", 200_000)
    pair = await changing_pair(between=drop_by_drop, server=server)
    await pair.client.secured
    pair.client.transport.write(b"x")
    while not server.filled:
        await sleep(0.01)
    before, slow = server.lively, True
    pair.client.transport.write(bytes(100_000))
    while server.lively == before:
        await sleep(0.01)
    assert server.filled == 1
    await pair.close()


@pytest_twisted.ensureDeferred
async def test_a_flood_of_tiny_records_is_read_in_many_turns() -> None:
    server = Changing("responder")
    link = ANN_TLS.link(True)
    dialling = await by_hand(link, server, BOB_TLS)
    link.send(LAST_IN_TLS)
    flush(link, dialling.transport)
    while not server.opens:
        await sleep(0.005)
    server.transport.pauseProducing()
    most = fasttls.TURN // fasttls.PIECE_COST * MOST_RECORDS
    sealer, record = Sealer(SECRETS["initiator"], SUITE), memoryview(bytearray(OVERHEAD + 1))
    dialling.transport.write(b"".join(bytes(record[: sealer.seal(b"x", record)]) for _ in range(2 * most)))
    await sleep(0.05)
    server.transport.resumeProducing()
    server.transport.doRead()
    assert 0 < len(server.received) <= most
    await server.got(2 * most)
    server.transport.abortConnection()
    await server.ended
    dialling.transport.abortConnection()
    await sleep(0.01)


@pytest_twisted.ensureDeferred
async def test_a_paused_end_keeps_one_block_at_most() -> None:
    class Once(Changing):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            if len(self.received) > 1:
                self.transport.pauseProducing()

    pair = await changed_pair(server=Once("responder"))
    pair.client.transport.write(bytes(8 << 20))
    while not pair.server.received:
        await sleep(0.01)
    await sleep(0.05)
    assert len(pair.server.received) <= delivery.DELIVERY
    assert pair.server.transport._wire.taken <= 2 * BLOCK
    await pair.close()


# -- the end -------------------------------------------------------------------------------------------------------


@STACKS
@pytest.mark.parametrize("size", [0, 1, 5_000_000])
@pytest_twisted.ensureDeferred
async def test_a_close_delivers_everything_and_is_orderly(on_socket: tuple[bool, bool], size: int) -> None:
    pair = await changed_pair(on_socket)
    pair.client.transport.write(bytes(size))
    pair.client.transport.loseConnection()
    assert type(await pair.server.ended) is ConnectionDone
    assert type(await pair.client.ended) is ConnectionDone
    assert len(pair.server.received) == size


@STACKS
@pytest.mark.parametrize("cut", ["between", "inside"])
@pytest_twisted.ensureDeferred
async def test_a_cut_is_no_orderly_end(on_socket: tuple[bool, bool], cut: str) -> None:
    pair = await changed_pair(on_socket)
    wire = pair.client.transport._wire
    wire._outlet.seal(b"whole")
    if cut == "inside":
        wire._outlet.seal(b"half of it")
        wire._outlet._end -= 5
    wire.flush()
    await pair.server.got(5)
    sock = pair.client.transport._socket
    sock.shutdown(socket.SHUT_WR) if on_socket[0] else sock.transport.loseWriteConnection()
    assert type(await pair.server.ended) is Vanished
    assert pair.server.received == b"whole"
    await pair.close()


@STACKS
@pytest_twisted.ensureDeferred
async def test_an_abort_is_told_apart_at_both_ends(on_socket: tuple[bool, bool]) -> None:
    pair = await changed_pair(on_socket)
    pair.client.transport.write(bytes(5_000_000))
    pair.client.transport.abortConnection()
    assert type(await pair.client.ended) is ConnectionAborted
    assert type(await pair.server.ended) is Vanished
    assert len(pair.server.received) < 5_000_000


@STACKS
@pytest_twisted.ensureDeferred
async def test_two_closes_at_once_are_orderly(on_socket: tuple[bool, bool]) -> None:
    for _ in range(3):
        pair = await changed_pair(on_socket)
        pair.client.transport.loseConnection()
        pair.server.transport.loseConnection()
        assert type(await pair.client.ended) is ConnectionDone
        assert type(await pair.server.ended) is ConnectionDone


@STACKS
@pytest_twisted.ensureDeferred
async def test_last_words_overtake_what_is_not_encrypted_yet(on_socket: tuple[bool, bool]) -> None:
    """The other end gets a begin of what was written, then the words, apart from it, and an orderly end."""
    pair = await changed_pair(on_socket)
    pair.server.transport.pauseProducing()
    data = random.Random(3).randbytes(64 << 20)
    pair.client.transport.write(data)
    await sleep(0.2)
    assert pair.client.transport._out, "the test needs a line that is full"
    assert pair.client.transport.end_with(b"farewell")
    pair.client.transport.write(b"too late")
    pair.server.transport.resumeProducing()
    assert type(await pair.server.ended) is ConnectionDone
    assert type(await pair.client.ended) is ConnectionDone
    assert len(pair.server.received) < len(data) and data.startswith(pair.server.received)
    assert pair.server.transport.last_words == b"farewell"


@STACKS
@pytest_twisted.ensureDeferred
async def test_there_are_no_last_words_in_tls(on_socket: tuple[bool, bool]) -> None:
    """Nor once the end is on its way; what was written is not dropped for them then."""
    pair = await changing_pair(on_socket)
    assert not pair.client.transport.end_with(b"farewell")
    await gatherResults([pair.client.secured, pair.server.secured])
    pair.client.transport.write(bytes(100_000))
    pair.client.transport.loseConnection()
    assert not pair.client.transport.end_with(b"farewell")
    assert type(await pair.server.ended) is ConnectionDone
    assert len(pair.server.received) == 100_000 and pair.server.transport.last_words == b""
    await pair.close()


@pytest_twisted.ensureDeferred
async def test_what_follows_the_last_record_is_an_error() -> None:
    pair = await changed_pair()
    wire = pair.client.transport._wire
    wire._outlet.seal(b"text")
    wire._outlet.seal_last()
    wire._socket.send(bytes(wire._outlet.waiting) + b"\0")
    error = await pair.server.ended
    assert type(error) is RecordBroken and "follows the end" in error.message
    assert pair.server.received == b"text"
    await pair.close()


# -- somebody between ------------------------------------------------------------------------------------------------


class Meddler:
    """Changes what comes behind the change to records: ``how`` gets the whole stream so far and returns another."""

    def __init__(self, how: Any) -> None:
        self.how = how
        self.active = False
        self.held = b""

    def __call__(self, data: bytes) -> bytes:
        if not self.active:
            return data
        self.held += data
        if len(self.held) < 3 * (1000 + OVERHEAD):
            return b""
        changed: bytes = self.how(self.held)
        self.held = b""
        return changed


SIZE = 1000 + OVERHEAD
FLIPS = {f"bit-{bit}": bit for bit in (0, 7, 9, 31, 32, 4000, 8 * SIZE - 1, 8 * SIZE, 8 * SIZE + 31, 8 * 2 * SIZE + 70)}


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed) + bytes(0x20000)  # a larger size is not waited for in vain


@pytest.mark.parametrize("bit", FLIPS.values(), ids=FLIPS)
@pytest_twisted.ensureDeferred
async def test_flipped_bits_end_the_connection(bit: int) -> None:
    await meddled(lambda data: flip(data, bit), whole=bit // 8 // SIZE)


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 0, 1, 2), (0, 2), (1, 2)])
@pytest_twisted.ensureDeferred
async def test_records_that_are_swapped_repeated_or_missing_end_the_connection(order: tuple[int, ...]) -> None:
    right = next((number for number, record in enumerate(order) if record != number), len(order))
    await meddled(lambda data: b"".join(data[SIZE * record : SIZE * (record + 1)] for record in order), whole=right)


async def meddled(how: Any, whole: int) -> None:
    """Whatever is changed on the line, the receiver sees a prefix of the truth and then the end."""
    meddler = Meddler(how)
    pair = await changed_pair(between=meddler)
    meddler.active = True
    wire = pair.client.transport._wire
    for text in (b"A", b"B", b"C"):
        wire._outlet.seal(text * 1000)
    wire.flush()
    assert isinstance(await pair.server.ended, P2pxferError)
    assert pair.server.received == (b"A" * 1000 + b"B" * 1000 + b"C" * 1000)[: 1000 * whole]
    await pair.close()


# -- two paths -------------------------------------------------------------------------------------------------------


def terms(role: Direction, mine: Identity, theirs: Identity) -> Terms:
    return Terms(
        role=role, introduction=b"i" * 32, path="direct", my_name=role, peer_name=None,
        my_key=mine.id.digest, peer_key=theirs.id.digest, random=b"r" * 32,
    )  # fmt: skip


class Owner:
    """Notes what a path tells."""

    def __init__(self) -> None:
        self.greeted: Deferred[PeerPath] = Deferred()
        self.lost: Deferred[P2pxferError] = Deferred()
        self.chunks: list[bytes] = []
        self.found: list[bytes | None] = []

    def path_greeted(self, path: PeerPath) -> None:
        path.open_session()
        self.greeted.callback(path)

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        self.chunks.append(bytes(chunk.payload))
        self.found.append(chunk.found)

    def path_message(self, path: PeerPath, message: object) -> None:
        raise AssertionError(message)

    def path_writable(self, path: PeerPath) -> None:
        pass

    def path_lost(self, path: PeerPath, error: P2pxferError) -> None:
        self.lost.callback(error)


def path(role: Direction, mine: Identity, theirs: Identity) -> tuple[PeerPath, Owner]:
    owner = Owner()
    return PeerPath(PathFacts(1, "direct", "", ""), terms(role, mine, theirs), owner, reactor), owner


async def greeted_pair(on_socket: tuple[bool, bool] = (True, True)) -> tuple[PeerPath, Owner, PeerPath, Owner]:
    """Both ends of a path, each with who is told of it."""
    client, ann = path("initiator", ANN, BOB)
    server, bob = path("responder", BOB, ANN)
    await changing_pair(on_socket, client=client, server=server)
    await gatherResults([ann.greeted, bob.greeted])
    return client, ann, server, bob


@STACKS
@pytest_twisted.ensureDeferred
async def test_two_paths_speak_in_records_once_they_greeted(on_socket: tuple[bool, bool]) -> None:
    client, ann, server, bob = await greeted_pair(on_socket)
    said: list[bytes] = []
    for end in (client, server):
        transport: Any = end.transport
        link = transport.getHandle()
        link.send = said.append
        link.recv_into = said.append
    payload = random.Random(1).randbytes(1 << 20)
    client.send_frame([chunk_prefix(1, 0, 0, bytes(32), len(payload)), payload])
    server.send_frame([chunk_prefix(1, 0, 0, bytes(32), 3), b"abc"])
    while not ann.chunks or not bob.chunks:
        await sleep(0.01)
    assert bob.chunks == [payload] and ann.chunks == [b"abc"]
    assert bob.found == [blake3(payload).digest()] and ann.found == [None]
    assert not said, "something went through OpenSSL"
    client.close()
    await gatherResults([ann.lost, bob.lost])


@pytest_twisted.ensureDeferred
async def test_who_is_refused_for_a_disk_reads_what_is_for_the_other_end() -> None:
    _client, ann, server, bob = await greeted_pair()
    server.refuse(DiskError("'/mnt' is full", "its disk is full"))
    assert (await ann.lost).message == "the peer reports: its disk is full"
    assert (await bob.lost).message == "'/mnt' is full"


@STACKS
@pytest_twisted.ensureDeferred
async def test_who_asks_for_signs_of_life_and_reads_none_fills_no_memory(on_socket: tuple[bool, bool]) -> None:
    """What is on its way to it is a sign of life already."""
    client, ann, server, bob = await greeted_pair(on_socket)
    transport: Any = server.transport
    client.pause_reading()
    server.send_frame([chunk_prefix(1, 0, 0, bytes(32), 4 << 20), bytes(4 << 20)])
    server.send_frame([chunk_prefix(1, 0, 0, bytes(32), 4 << 20), bytes(4 << 20)])
    await until(lambda: not server.writable)
    await quiet(lambda: transport._out.unsent)
    before, taken = transport._out.unsent, transport._wire.taken
    for _ in range(20):
        client.send_frame([PEER.encode(Ping(number=7)) * 1000])
        await until(lambda: client.writable)
    await until(lambda: transport._wire.taken > taken + 20_000 * len(PEER.encode(Ping(number=7))))
    assert transport._out.unsent <= before
    client.resume_reading()
    await until(lambda: len(ann.chunks) == 2)
    client.close()
    await gatherResults([ann.lost, bob.lost])


@STACKS
@pytest_twisted.ensureDeferred
async def test_a_farewell_overtakes_the_chunk_under_way(on_socket: tuple[bool, bool]) -> None:
    """What came of the chunk is there for its rest."""
    client, ann, server, bob = await greeted_pair(on_socket)
    server.pause_reading()
    size = 4 << 20
    for _ in range(8):
        client.send_frame([chunk_prefix(1, 0, 0, bytes(32), size), bytes(size)])
    await sleep(0.2)
    client.leave(problem(PeerStopped("the sender was stopped")))
    server.resume_reading()
    error = await bob.lost
    assert isinstance(error, PeerStopped) and error.message == "the peer reports: the sender was stopped"
    assert len(bob.chunks) < 8 and server.begun is not None
    await ann.lost


@pytest_twisted.ensureDeferred
async def test_a_farewell_before_the_greeting_is_said_in_tls() -> None:
    """Nobody is known then, and nothing waits."""
    client, ann = path("initiator", ANN, BOB)
    server, bob = path("responder", BOB, ANN)
    await changing_pair(client=client, server=server)
    await ann.greeted
    client.leave(problem(PeerStopped("the sender was stopped")))
    assert isinstance(await bob.lost, PeerStopped)
    await ann.lost


@pytest_twisted.ensureDeferred
async def test_a_peer_that_goes_on_in_tls_behind_its_greeting_is_refused() -> None:
    """In the same TLS record as its HelloOk, where no byte count of OpenSSL shows it."""

    class Chatty(PeerPath):
        def _write(self, data: bytes) -> None:
            hello_ok = data and self._greeting is not None and self._greeting.said_ok
            super()._write(data + PEER.encode(Ping(number=1)) if hello_ok else data)

    owner, (server, bob) = Owner(), path("responder", BOB, ANN)
    client = Chatty(PathFacts(1, "direct", "", ""), terms("initiator", ANN, BOB), owner, reactor)
    await changing_pair(client=client, server=server)
    error = await bob.lost
    assert isinstance(error, ProtocolBreach) and "more in TLS" in error.message
    await owner.lost


@pytest_twisted.ensureDeferred
async def test_each_direction_of_each_connection_has_a_secret_of_its_own() -> None:
    secrets = []
    for _ in range(2):
        client, ann, server, bob = await greeted_pair()
        for direction in ("initiator", "responder"):
            mine, theirs = client._record_secret(direction)[0], server._record_secret(direction)[0]
            assert mine == theirs
            secrets.append(mine)
        client.close()
        await gatherResults([ann.lost, bob.lost])
    assert len(set(secrets)) == 4
