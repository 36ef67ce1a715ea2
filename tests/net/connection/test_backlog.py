"""What may wait on a connection for which nothing can be taken back: what its line takes in half a second."""

from __future__ import annotations

import socket
import sys

import pytest

from p2pxfer.net.connection.backlog import Backlog
from p2pxfer.net.connection.outbuffer import BUFFERED
from p2pxfer.net.connection.recordsize import AGAIN_S, LEAST, RECORD_S


@pytest.mark.parametrize(
    ("rate", "size"),
    [
        (None, BUFFERED),
        (0, LEAST),
        (25_000, LEAST),
        (200_000, int(200_000 * RECORD_S)),
        (10**9, BUFFERED),
    ],
)
def test_half_a_second_of_the_line_may_wait_and_never_more_than_before(rate: int | None, size: int) -> None:
    assert Backlog(None, lambda: 0.0, lambda sock: rate).most() == size


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_NOTSENT_LOWAT of other systems is not used")
def test_the_kernel_takes_no_more_than_that_while_the_line_is_slow() -> None:
    now, rate = [0.0], [25_000]

    def held(sock: socket.socket) -> int:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)

    with socket.socket() as sock:
        usual = held(sock)
        backlog = Backlog(sock, lambda: now[0], lambda sock: rate[0])
        backlog.most()
        assert held(sock) == LEAST
        rate[0] = 100_000_000
        now[0] += AGAIN_S
        backlog.most()
        assert held(sock) == usual


def test_what_is_no_socket_is_not_held() -> None:
    closed = socket.socket()
    closed.close()
    assert Backlog(closed, lambda: 0.0, lambda sock: 0).most() == LEAST
    assert Backlog(object(), lambda: 0.0, lambda sock: 0).most() == LEAST
