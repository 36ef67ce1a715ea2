"""The half-open sockets of one punch: from which port each leaves, and who hears of its end."""

from __future__ import annotations

import errno
import socket

import pytest
import pytest_twisted

from p2pxfer.core.traversal.dials import Dial
from p2pxfer.net.traversal import attempts as module
from p2pxfer.net.traversal.attempts import FRESH_TRIES, Attempts
from p2pxfer.net.traversal.halfopen import HalfOpen
from tests.net.reactors import reactor, until
from tests.net.serverkit import free_port

HOST = "127.0.0.1"


class Ends:
    """What was told of the ends of dials."""

    def __init__(self) -> None:
        self.stand: list[Dial] = []
        self.failures: list[tuple[Dial, int]] = []

    def stands(self, dial: Dial, half_open: HalfOpen) -> None:
        self.stand.append(dial)
        half_open.take().close()

    def failed(self, dial: Dial, code: int, icmp: bool) -> None:
        self.failures.append((dial, code))


def draw(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Have these ports be drawn, in this order."""
    left = iter(ports)
    monkeypatch.setattr(module, "fresh_port", lambda: next(left))


@pytest_twisted.ensureDeferred
async def test_a_fresh_port_is_neither_that_of_the_punch_nor_one_that_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, free = free_port(), free_port()
    ends = Ends()
    attempts = Attempts(reactor, own, ends.stands, ends.failed)
    with socket.create_server((HOST, 0)) as far, socket.create_server((HOST, 0)) as other:
        draw(monkeypatch, own, other.getsockname()[1], free)
        dial = Dial("fresh", HOST, far.getsockname()[1], 1)
        attempts.begin(dial)
        assert attempts.under_way == {dial}
        await until(lambda: ends.stand == [dial])
        connection, (_, port) = far.accept()
        connection.close()
    assert port == free
    assert not attempts.under_way
    assert not ends.failures


def test_where_no_fresh_port_is_free_the_dial_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends()
    own = free_port()
    attempts = Attempts(reactor, own, ends.stands, ends.failed)
    draw(monkeypatch, *[own] * FRESH_TRIES)
    with pytest.raises(OSError) as caught:
        attempts.begin(Dial("fresh", HOST, free_port(), 1))
    assert caught.value.errno == errno.EADDRINUSE
    assert not attempts.under_way


@pytest_twisted.ensureDeferred
async def test_of_a_dial_that_was_dropped_no_end_is_told() -> None:
    """Another one that is refused after it tells that the reactor came round."""
    ends = Ends()
    dropped, kept = Dial(free_port(), HOST, free_port()), Dial(free_port(), HOST, free_port())
    attempts = Attempts(reactor, free_port(), ends.stands, ends.failed)
    attempts.begin(dropped)
    attempts.begin(kept)
    attempts.drop([dropped])
    await until(lambda: not attempts.under_way)
    assert ends.failures == [(kept, errno.ECONNREFUSED)]
    assert not attempts.drop_all()
