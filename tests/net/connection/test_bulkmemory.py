"""Both ways to read and to drain OpenSSL give the same bytes and the same reasons to stop."""

from __future__ import annotations

import os

import pytest
from OpenSSL import SSL

from p2pxfer.core.messages import ALPN_PEER
from p2pxfer.net.connection import bulkmemory
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.private.identity import new_identity

PIECE = 16 * 1024


def joined() -> tuple[SSL.Connection, SSL.Connection]:
    """Two connections on memory BIOs after their handshake."""
    client = PeerTLS(new_identity(), None, ALPN_PEER).link(True)
    server = PeerTLS(new_identity(), None, ALPN_PEER).link(False)
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            carry(one, other)
    return client, server


def carry(one: SSL.Connection, other: SSL.Connection) -> None:
    try:
        while True:
            other.bio_write(one.bio_read(1 << 16))
    except SSL.WantReadError:
        pass


@pytest.mark.parametrize("fill", [bulkmemory.fill_by_copy, bulkmemory.fill_in_place])
@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, 100_000])
def test_what_was_sent_is_in_the_memory(fill: bulkmemory.Fill, size: int) -> None:
    client, server = joined()
    data = os.urandom(size)
    client.sendall(data)
    carry(client, server)
    memory = bytearray(b"\xee" * 200_000)
    got, stop = fill(server, memoryview(memory), PIECE)
    assert got == size
    assert isinstance(stop, SSL.WantReadError)
    assert bytes(memory[:size]) == data
    assert set(memory[size + PIECE :]) <= {0xEE}


@pytest.mark.parametrize("fill", [bulkmemory.fill_by_copy, bulkmemory.fill_in_place])
def test_full_memory_is_no_reason_to_stop(fill: bulkmemory.Fill) -> None:
    client, server = joined()
    client.sendall(bytes(PIECE * 3))
    carry(client, server)
    assert fill(server, memoryview(bytearray(PIECE * 2)), PIECE) == (PIECE * 2, None)


@pytest.mark.parametrize("fill", [bulkmemory.fill_by_copy, bulkmemory.fill_in_place])
def test_an_orderly_end_is_told(fill: bulkmemory.Fill) -> None:
    client, server = joined()
    client.sendall(b"last words")
    client.shutdown()
    carry(client, server)
    got, stop = fill(server, memoryview(bytearray(PIECE * 2)), PIECE)
    assert got == 10
    assert isinstance(stop, SSL.ZeroReturnError)


@pytest.mark.parametrize("fill", [bulkmemory.fill_by_copy, bulkmemory.fill_in_place])
def test_a_flipped_byte_is_told(fill: bulkmemory.Fill) -> None:
    client, server = joined()
    client.sendall(b"x" * 100)
    record = bytearray(client.bio_read(1 << 16))
    record[-1] ^= 1
    server.bio_write(bytes(record))
    got, stop = fill(server, memoryview(bytearray(PIECE * 2)), PIECE)
    assert got == 0
    assert isinstance(stop, SSL.Error)
    assert not isinstance(stop, SSL.WantReadError)


@pytest.mark.parametrize(
    ("lend", "take_back"),
    [
        (bulkmemory.lend_by_copy, bulkmemory.take_back_by_copy),
        (bulkmemory.lend_in_place, bulkmemory.take_back_in_place),
    ],
)
@pytest.mark.parametrize("read_before", range(5))
def test_memory_that_was_lent_may_be_taken_back_at_any_point(
    lend: bulkmemory.Lend, take_back: bulkmemory.TakeBack, read_before: int
) -> None:
    client, server = joined()
    shared = bytearray(100_000)
    for _ in range(3):
        data = os.urandom(PIECE * 4)
        client.sendall(data)
        arrived = client.bio_read(len(shared))
        shared[: len(arrived)] = arrived
        lend(server, memoryview(shared)[: len(arrived)])
        memory = memoryview(bytearray(PIECE * 8))
        early, _ = bulkmemory.fill(server, memory[: PIECE * read_before], PIECE)
        take_back(server)
        shared[:] = bytes(len(shared))
        late, stop = bulkmemory.fill(server, memory[early:], PIECE)
        assert early == PIECE * read_before
        assert bytes(memory[: early + late]) == data
        assert isinstance(stop, SSL.WantReadError)


def test_a_record_that_came_in_two_loans_is_whole() -> None:
    client, server = joined()
    client.sendall(b"x" * PIECE)
    record = bytearray(client.bio_read(1 << 16))
    memory = bytearray(PIECE * 2)
    for part in (record[:1000], record[1000:]):
        bulkmemory.lend(server, memoryview(part))
        got, stop = bulkmemory.fill(server, memoryview(memory), PIECE)
        bulkmemory.take_back(server)
        assert isinstance(stop, SSL.WantReadError)
    assert (got, bytes(memory[:PIECE])) == (PIECE, b"x" * PIECE)


def test_this_pyopenssl_allows_the_faster_way() -> None:
    assert bulkmemory.fill is bulkmemory.fill_in_place
    assert bulkmemory.drain is bulkmemory.drain_in_place
    assert bulkmemory.lend is bulkmemory.lend_in_place
    assert bulkmemory.take_back is bulkmemory.take_back_in_place


@pytest.mark.parametrize("drain", [bulkmemory.drain_by_copy, bulkmemory.drain_in_place])
def test_what_is_to_be_sent_is_moved_in_order(drain: bulkmemory.Drain) -> None:
    client, server = joined()
    client.sendall(b"x" * 100_000)
    memory = memoryview(bytearray(30_000))
    while size := drain(client, memory):
        assert size <= len(memory)
        server.bio_write(memory[:size])
    assert fill_all(server) == b"x" * 100_000
    assert drain(client, memory) == 0


def fill_all(link: SSL.Connection) -> bytes:
    memory = bytearray(200_000)
    size, _ = bulkmemory.fill(link, memoryview(memory), PIECE)
    return bytes(memory[:size])
