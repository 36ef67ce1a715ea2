"""TLS on a socket in large blocks behaves as OpenSSL does on the socket itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import cast

import pytest
from OpenSSL import SSL

from p2pxfer.core.messages import ALPN_PEER
from p2pxfer.net.bulktls import BLOCK, BulkTLS
from p2pxfer.net.identity import new_identity
from p2pxfer.net.tls import PeerTLS

RECORD = 16 * 1024
PIECE = BLOCK - RECORD

Ends = tuple[BulkTLS, BulkTLS, socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Client and server after their handshake, and their sockets."""
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
    yield client, server, near, far
    near.close()
    far.close()


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
            some, stop = read(server, 2 * PIECE)
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
    client.shutdown()
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
