"""Which answers of the kernel mean that packets are lost, and what it says of real connections."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from typing import Any

import pytest

from p2pxfer.net.connection import tcpinfo
from p2pxfer.net.connection.descriptor import SocketDescriptor
from p2pxfer.net.session.tuning import BEARS_LOSS

LAYOUT = struct.Struct("=8B16I")


def answer(*, retransmits: int = 0, unacked: int = 0, last_ack_ms: int = 0) -> bytes:
    numbers = [0] * 16
    numbers[4], numbers[12] = unacked, last_ack_ms
    return LAYOUT.pack(1, 0, retransmits, 0, 0, 0, 0, 0, *numbers) + bytes(100)


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        (answer(retransmits=2, unacked=3, last_ack_ms=1500), 1.5),
        (answer(retransmits=7, unacked=1, last_ack_ms=20_000), 20.0),
        (answer(retransmits=1, unacked=3, last_ack_ms=1500), 0.0),  # one time-out may be one lost packet
        (answer(retransmits=2, unacked=0, last_ack_ms=1500), 0.0),  # a probe of a window that is shut
        (answer(unacked=50, last_ack_ms=9000), 0.0),
        (answer(retransmits=2, unacked=3, last_ack_ms=1500)[:60], 0.0),
        (b"", 0.0),
    ],
)
def test_what_counts_as_silence(raw: bytes, seconds: float) -> None:
    assert tcpinfo.judge(raw) == seconds


def test_a_peer_that_does_not_read_is_not_silent() -> None:
    """Its kernel shuts the window, and acknowledges that nothing more is wanted."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as mine:
        theirs, _ = listener.accept()
        with theirs:
            mine.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    mine.send(bytes(1 << 16))
            time.sleep(1.5)
            assert tcpinfo.silent_for(mine) == 0.0


def test_what_another_system_calls_by_the_same_name_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """FreeBSD's structure has another layout."""

    class Foreign:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            return b"\1" * size

    sock: Any = Foreign()
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert tcpinfo.flow(sock) is None
    assert tcpinfo.delivery_rate(sock) is None
    assert tcpinfo.retransmissions(sock) is None
    assert (tcpinfo.silent_for(sock), tcpinfo.round_trip(sock)) == (0.0, 0.0)


def test_a_closed_socket_says_nothing() -> None:
    sock = socket.socket()
    sock.close()
    assert tcpinfo.silent_for(sock) == 0.0
    assert tcpinfo.round_trip(sock) == 0.0


def test_the_round_trip_of_a_connection_is_known() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as mine:
        assert 0 < tcpinfo.round_trip(mine) < 1


def test_what_went_out_is_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as here:
        there, _ = listener.accept()
        with there:
            before = tcpinfo.flow(here)
            assert before is not None
            here.sendall(bytes(50_000))
            left = 50_000
            while left:
                left -= len(there.recv(left))
            end = time.monotonic() + 50
            while (after := tcpinfo.flow(here)) is not None and after.acked < before.acked + 50_000:
                assert time.monotonic() < end
                time.sleep(0.01)
            assert after is not None
            assert after.acked == before.acked + 50_000
            assert after.sent > before.sent
            assert (after.repeated, after.trip > 0) == (0, True)
            assert 0 < after.shortest <= after.trip
            usual = tcpinfo.governor(here)
            assert usual is not None
            assert tcpinfo.govern(here, usual)
            assert not tcpinfo.govern(here, "no such thing")
            assert tcpinfo.governor(here) == usual


@pytest.mark.skipif(sys.platform != "linux", reason="no other system is asked for it")
def test_the_pace_of_a_connection_is_capped_and_set_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as here:
        assert tcpinfo.cap_pace(here, 1_000_000)
        assert max_pace(here) == 1_000_000
        assert tcpinfo.cap_pace(here, 0)
        assert max_pace(here) == 2**64 - 1
    assert not tcpinfo.cap_pace(here, 1_000_000)


@pytest.mark.skipif(sys.platform != "linux", reason="no other system is asked for it")
def test_a_congestion_control_begins_anew() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as here:
        there, _ = listener.accept()
        with there:
            usual = tcpinfo.governor(here)
            assert not tcpinfo.begin_anew(here, "no such thing")
            assert tcpinfo.governor(here) == usual, "what is not allowed is not given up"
            if not tcpinfo.govern(here, BEARS_LOSS):
                pytest.skip(f"this kernel has no {BEARS_LOSS}, or does not allow it")
            end = time.monotonic() + 50
            while not learned(here):
                here.sendall(bytes(100_000))
                there.recv(100_000, socket.MSG_WAITALL)
                assert time.monotonic() < end
            assert tcpinfo.begin_anew(here, BEARS_LOSS)
            assert (tcpinfo.governor(here), learned(here)) == (BEARS_LOSS, 0)


def learned(sock: socket.socket) -> int:
    """``bbr_bw_lo`` and ``bbr_bw_hi``, the rate that it believes in: ``TCP_CC_INFO`` (linux/inet_diag.h), which Python
    has no name for."""
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, 26, 20)[:8], sys.byteorder)


def max_pace(sock: socket.socket) -> int:
    """``tcpi_max_pacing_rate``."""
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 120)[112:], sys.byteorder)


def test_an_older_kernel_counts_nothing() -> None:
    assert tcpinfo.counted(answer()[:159]) is None
    assert tcpinfo.counted(b"") is None


@pytest.mark.parametrize(("microseconds", "known"), [(80_000, 0.08), (2**32 - 1, 0.0)])
def test_the_shortest_round_trip_is_none_before_there_was_one(microseconds: int, known: float) -> None:
    raw = answer().ljust(160, b"\0")
    flow = tcpinfo.counted(raw[:148] + microseconds.to_bytes(4, sys.byteorder) + raw[152:])
    assert flow is not None
    assert flow.shortest == known


def test_what_waits_in_the_kernel_is_counted() -> None:
    """The peer does not read: what is beyond its window is written and not sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as here:
        there, _ = listener.accept()
        with there:
            idle = tcpinfo.flow(here)
            assert idle is not None
            assert idle.waiting == 0
            here.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    here.send(bytes(1 << 16))
            full = tcpinfo.flow(here)
            assert full is not None
            assert full.waiting > 0


@pytest.mark.skipif(sys.platform != "linux", reason="no other system is asked for it")
def test_a_connection_whose_peer_takes_nothing_is_not_at_work() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as here:
        there, _ = listener.accept()
        with there:
            here.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    here.send(bytes(1 << 16))
            begun, before = time.monotonic(), at_work(here)
            end = begun + 20
            # The kernel finds out with its first probe.
            while time.monotonic() - begun < 2 * (at_work(here) - before) + 0.5:
                assert time.monotonic() < end
                time.sleep(0.01)


def at_work(sock: socket.socket) -> float:
    flow = tcpinfo.flow(sock)
    assert flow is not None
    assert flow.at_work is not None
    return flow.at_work


def test_what_an_older_kernel_does_not_count_is_not_known() -> None:
    raw = answer()[:168] + struct.pack("=QQ", 9_000_000, 7_500_000)
    new, old = tcpinfo.counted(raw), tcpinfo.counted(raw[:183])
    assert new is not None
    assert new.at_work == 1.5
    assert old is not None
    assert old.at_work is None


@pytest.mark.skipif(sys.platform != "linux", reason="no other system is asked for it")
def test_how_long_what_was_written_takes_to_leave() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as here:
        there, _ = listener.accept()
        with there:
            descriptor = SocketDescriptor(here, (None, None), None)
            here.sendall(bytes(1000))
            there.recv(1000, socket.MSG_WAITALL)
            end = time.monotonic() + 50
            while not tcpinfo.delivery_rate(here):
                assert time.monotonic() < end
            assert descriptor.backlog_s == 0.0
            with contextlib.suppress(BlockingIOError):
                while True:
                    here.send(bytes(100_000))
            assert descriptor.backlog_s > 0.0, "the other end does not read"
    descriptor.connected = False
    assert descriptor.backlog_s == 0.0
