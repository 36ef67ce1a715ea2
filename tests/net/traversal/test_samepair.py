"""Dialling an endpoint twice on loopback; what NATs make of it is in ``tests/lab/test_discovery.py``.

On loopback a reset always arrives, so every second dial is answered at once.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater

from p2pxfer.core.addresses import parse_endpoint
from p2pxfer.net.connection.tcpinfo import retransmissions
from p2pxfer.net.traversal import samepair
from p2pxfer.net.traversal.freshports import fresh_ports
from p2pxfer.net.traversal.samepair import CHECK_S, SamePairCheck, forsake, is_quiet

SERVER_LIKE: Any = reactor


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def check(listener: socket.socket, on: Any = SERVER_LIKE) -> SamePairCheck:
    return SamePairCheck(on, parse_endpoint("{}:{}".format(*listener.getsockname())), fresh_ports(3))


@pytest_twisted.ensureDeferred
async def test_every_port_is_dialled_twice(listener: socket.socket) -> None:
    going = check(listener)
    going.start()
    assert await going.done == [True] * 3
    guests = [listener.accept() for _ in range(6)]
    assert sorted(port for _, (_, port) in guests) == sorted(list(going._ports) * 2)
    for sock, _ in guests:
        sock.settimeout(5)
        with pytest.raises(ConnectionResetError):  # nothing is left open here
            sock.recv(1)
        sock.close()


@pytest_twisted.ensureDeferred
async def test_a_server_that_refuses_shows_nothing(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes each connection as soon as it stands, so the next one would be answered at once in any case."""
    waited: list[float] = []

    def turn_away(clock: Any, seconds: float) -> Any:
        waited.append(seconds)
        listener.accept()[0].close()
        return real(clock, seconds)

    real = deferLater
    monkeypatch.setattr(samepair, "deferLater", turn_away)
    going = check(listener)
    going.start()
    assert await going.done == [None] * 3
    assert len(waited) == 3


@pytest_twisted.ensureDeferred
async def test_where_nobody_listens_nothing_is_known(listener: socket.socket) -> None:
    going = check(listener)
    listener.close()
    going.start()
    assert await going.done == [None] * 3


@pytest_twisted.ensureDeferred
async def test_without_the_option_nothing_is_known(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samepair, "_DEVICE", None)
    going = check(listener)
    going.start()
    assert await going.done == [None] * 3


class Deaf(Clock):
    """A reactor that never hears of a socket."""

    def addWriter(self, writer: Any) -> None:
        """Never tells it anything."""

    def removeWriter(self, writer: Any) -> None:
        """Nothing was added."""


@pytest.mark.parametrize("stopped", [True, False])
def test_it_ends_in_time_or_when_it_is_stopped(listener: socket.socket, stopped: bool) -> None:
    clock = Deaf()
    going = check(listener, clock)
    found: list[list[bool | None]] = []
    going.done.addCallback(found.append)
    going.start()
    assert not found
    if stopped:
        going.stop()
    else:
        clock.advance(CHECK_S)
    assert found == [[None] * 3]
    assert not clock.getDelayedCalls()


def test_a_connection_is_quiet_until_something_comes(listener: socket.socket) -> None:
    sock = socket.create_connection(listener.getsockname())
    sock.setblocking(False)
    other = listener.accept()[0]
    assert is_quiet(sock)
    assert retransmissions(sock) == 0
    other.close()
    sock.setblocking(True)
    assert sock.recv(1, socket.MSG_PEEK) == b""  # it has come now
    sock.setblocking(False)
    assert not is_quiet(sock)
    assert forsake(sock)
    assert sock.fileno() == -1
