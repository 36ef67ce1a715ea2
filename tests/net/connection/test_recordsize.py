"""How large sealed records are: as large as may be, unless the line is slow or not known."""

from __future__ import annotations

import socket
import sys

import pytest

from p2pxfer.core.session.records import MAX_RECORD
from p2pxfer.net.connection.recordsize import AGAIN, AGAIN_S, LEAST, RECORD_S, UNKNOWN, LineShare
from p2pxfer.net.connection.tcpinfo import delivery_rate


@pytest.mark.parametrize(
    ("rate", "size"),
    [
        (None, UNKNOWN),
        (0, LEAST),
        (50_000, LEAST),
        (400_000, int(400_000 * RECORD_S)),
        (10**9, MAX_RECORD),
    ],
)
def test_a_record_takes_no_longer_than_half_a_second(rate: int | None, size: int) -> None:
    assert LineShare(None, lambda: 0.0, lambda sock: rate).most() == size


def test_the_kernel_is_asked_now_and_then_and_the_size_follows() -> None:
    asked = [50_000]
    size = LineShare(None, lambda: 0.0, lambda sock: asked[0])
    assert size.most() == LEAST
    asked[0] = 10**9
    assert [size.most() for _ in range(AGAIN)] == [LEAST] * (AGAIN - 1) + [MAX_RECORD]


def test_a_line_that_became_slow_gets_small_records_after_a_second() -> None:
    """Eight of those of before would keep it for minutes."""
    now, asked = [0.0], [50_000_000]
    size = LineShare(None, lambda: now[0], lambda sock: asked[0])
    assert size.most() == MAX_RECORD
    asked[0] = 20_000
    now[0] += AGAIN_S / 2
    assert size.most() == MAX_RECORD
    now[0] += AGAIN_S / 2
    assert size.most() == LEAST


def test_what_is_no_tcp_connection_has_no_rate() -> None:
    closed = socket.socket()
    closed.close()
    assert delivery_rate(closed) is None
    no_socket: object = object()
    assert LineShare(no_socket, lambda: 0.0).most() == UNKNOWN


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")
def test_the_kernel_tells_what_a_connection_delivered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as mine:
        theirs, _ = listener.accept()
        with theirs:
            for _ in range(50):
                mine.sendall(bytes(1 << 14))
                left = 1 << 14
                while left:
                    left -= len(theirs.recv(left))
            rate = delivery_rate(mine)
            assert rate is not None
            assert rate > 0
