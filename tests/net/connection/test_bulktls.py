"""TLS on a socket in large blocks behaves as OpenSSL does on the socket itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import cast

import pytest
from OpenSSL import SSL

from p2pxfer.core.messages import ALPN_PEER
from p2pxfer.net.connection.bulktls import BLOCK, BulkTLS
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.private.identity import new_identity
from tests.net.keychange import RECORD_SIZE, KeyChanger

RECORD = 16 * 1024
PIECE = BLOCK - RECORD

Ends = tuple[BulkTLS, BulkTLS, socket.socket, socket.socket]


def connected() -> Ends:
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setblocking(False)
    client = BulkTLS(PeerTLS(new_identity(), None, ALPN_PEER).link(True), near)
    server = BulkTLS(PeerTLS(new_identity(), None, ALPN_PEER).link(False), far)
    left = [client, server]
    for _ in range(6):
        for end in list(left):
            try:
                end.do_handshake()
            except SSL.WantReadError:
                continue
            left.remove(end)
    assert not left
    return client, server, near, far


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Client and server after their handshake, and their sockets."""
    made = connected()
    yield made
    for sock in made[2:]:
        sock.close()


@pytest.fixture
def other_ends() -> Iterator[Ends]:
    """Another such connection."""
    made = connected()
    yield made
    for sock in made[2:]:
        sock.close()


def read(end: BulkTLS, size: int) -> tuple[bytes, SSL.Error | None]:
    memory = bytearray(size + RECORD)
    got, stop = end.fill(memoryview(memory), RECORD)
    return bytes(memory[:got]), stop


def test_a_full_socket_is_told_and_nothing_is_lost_or_mixed_up(ends: Ends) -> None:
    client, server, _, _ = ends
    data = os.urandom(40 * PIECE)
    sent, received, full = 0, b"", 0
    while len(received) < len(data):
        try:
            if sent < len(data):
                sent += client.send(memoryview(data)[sent : sent + PIECE])
            client.flush()
        except SSL.WantWriteError:
            full += 1
        if client.unsent or sent == len(data):
            some, stop = read(server, RECORD)
            assert stop is None or isinstance(stop, SSL.WantReadError)
            received += some
    assert full, "the socket had room for everything: nothing was tried"
    assert received == data
    assert not client.unsent


def test_what_openssl_holds_is_known(ends: Ends) -> None:
    client, server, _, _ = ends
    client.send(b"x" * 3 * RECORD)
    some, stop = read(server, RECORD - 1)
    assert len(some) == RECORD and stop is None and server.unread
    some, stop = read(server, 4 * RECORD)
    assert len(some) == 2 * RECORD and isinstance(stop, SSL.WantReadError) and not server.unread


def test_what_waits_in_one_connection_is_not_touched_by_another(ends: Ends, other_ends: Ends) -> None:
    """All pass through the same memory."""
    said = [os.urandom(5 * RECORD), os.urandom(5 * RECORD)]
    heard = [b"", b""]
    for (client, _, _, _), words in zip((ends, other_ends), said, strict=True):
        client.send(words)
    for _ in range(5):
        for number, (_, server, _, _) in enumerate((ends, other_ends)):
            heard[number] += read(server, 1)[0]
            server.send(b"so far so good")
    assert heard == said


class Counting:
    """A socket that counts what is taken from it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.taken = 0

    def recv_into(self, memory: memoryview) -> int:
        size = self.sock.recv_into(memory)
        self.taken += size
        return size

    def send(self, data: memoryview) -> int:
        return self.sock.send(data)


def test_a_connection_takes_less_than_two_blocks_more_than_it_gives(ends: Ends) -> None:
    """What is not read stays in the socket, where it holds back the sender."""
    client, server, _, far = ends
    counting = Counting(far)
    server._socket = cast(socket.socket, counting)
    given = 0
    for _ in range(400):
        try:
            client.send(bytes(PIECE))
        except SSL.WantWriteError:
            pass
        given += len(read(server, RECORD)[0])
        assert counting.taken - given < 2 * BLOCK
    assert counting.taken > 4 * BLOCK


def test_the_last_words_come_before_the_goodbye(ends: Ends) -> None:
    client, server, _, _ = ends
    size = 0
    with pytest.raises(SSL.WantWriteError):
        while True:
            size += client.send(bytes(PIECE))
    client.say_goodbye()
    heard, stop = 0, None
    while not isinstance(stop, SSL.ZeroReturnError):
        some, stop = read(server, 8 * PIECE)
        assert stop is None or isinstance(stop, SSL.WantReadError | SSL.ZeroReturnError)
        heard += len(some)
        client.flush()
    assert heard == size


def test_the_end_of_the_socket_is_no_goodbye(ends: Ends) -> None:
    client, server, near, _ = ends
    client.send(b"and then")
    near.shutdown(socket.SHUT_WR)
    assert read(server, RECORD)[0] == b"and then"
    assert isinstance(read(server, RECORD)[1], SSL.SysCallError)


def test_a_broken_socket_is_an_error_of_the_system(ends: Ends) -> None:
    client, _, _, far = ends
    far.close()
    with pytest.raises(SSL.SysCallError) as caught:
        client.send(b"hello?")
        client.send(b"hello?")
    assert caught.value.args[0] > 0


# -- another end that has its keys changed again and again -------------------------------------------------------

Stranger = tuple[KeyChanger, socket.socket, BulkTLS]


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """A client that makes its own records, its socket, and the server it is connected to."""
    near, far = socket.socketpair()
    far.setblocking(False)
    near.setblocking(False)
    changer = KeyChanger(new_identity(), ALPN_PEER)
    client = BulkTLS(changer.link, near)
    server = BulkTLS(PeerTLS(new_identity(), None, ALPN_PEER).link(False), far)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except SSL.WantReadError:
            pass
    near.setblocking(True)
    yield changer, near, server
    near.close()
    far.close()


def waiting(end: BulkTLS) -> int:
    """Bytes that OpenSSL made and the socket has not taken; they are gone afterwards."""
    size = len(end._unsent)
    try:
        while True:
            size += len(end._link.bio_read(1 << 20))
    except SSL.WantReadError:
        return size


def test_changes_of_keys_are_followed_and_answered(stranger: Stranger) -> None:
    changer, near, server = stranger
    near.sendall(changer.change(100, asks=True) + changer.data(b"still"))
    near.sendall(changer.change(1, asks=False) + changer.data(b" here"))
    assert read(server, RECORD)[0] == b"still here"
    near.setblocking(False)
    assert len(near.recv(1 << 20)) >= 100 * RECORD_SIZE
    assert not server.unsent


def test_an_end_that_asks_for_answers_and_reads_none_is_dropped(stranger: Stranger) -> None:
    """Each change of keys makes OpenSSL say something; nothing but an end of the connection makes it stop."""
    changer, near, server = stranger
    assert isinstance(server._socket, socket.socket)
    server._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    stop: SSL.Error | None = None
    rounds = 0
    while stop is None or isinstance(stop, SSL.WantReadError):
        assert rounds < 12 * BLOCK // (500 * RECORD_SIZE), "nobody stopped it"
        near.sendall(changer.change(500, asks=True))
        _, stop = read(server, RECORD)
        rounds += 1
    assert "changes of keys" in str(stop)
    assert waiting(server) <= 3 * BLOCK + RECORD


def test_two_full_directions_go_on_reading(stranger: Stranger) -> None:
    """A server whose own bytes wait still reads: the other end may be waiting for that before it reads itself."""
    changer, near, server = stranger
    with pytest.raises(SSL.WantWriteError):
        while True:
            server.send(bytes(BLOCK - RECORD))
    assert server.unsent
    near.sendall(changer.change(100, asks=True) + changer.data(b"I read when I please"))
    text, stop = read(server, RECORD)
    assert text == b"I read when I please" and isinstance(stop, SSL.WantReadError)


class Endless:
    """A socket on which everything has arrived already; it takes everything."""

    def __init__(self, arrived: bytes) -> None:
        self.arrived = memoryview(arrived)
        self.taken = 0

    def recv_into(self, memory: memoryview) -> int:
        some = self.arrived[self.taken : self.taken + len(memory)]
        if not some:
            raise BlockingIOError
        memory[: len(some)] = some
        self.taken += len(some)
        return len(some)

    def send(self, data: memoryview) -> int:
        return len(data)


@pytest.mark.parametrize("asks", [True, False])
def test_one_call_takes_a_bounded_number_of_bytes(stranger: Stranger, asks: bool) -> None:
    """What holds no data fills no memory, so the memory alone is no bound: the reactor would never come back."""
    changer, _, server = stranger
    most = 2 * RECORD + 2 * BLOCK
    endless = Endless(changer.change(most // RECORD_SIZE + 1, asks=asks) + changer.data(b"the end"))
    server._socket = cast(socket.socket, endless)
    some, stop = read(server, RECORD)
    assert (some, stop) == (b"", None) and server.unread
    assert endless.taken < most
    assert read(server, RECORD)[0] == b"the end"
