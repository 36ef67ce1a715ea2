"""The access line as a machine: order, bounds and losses, with the time given by the test."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.lab.delay import Direction, Shape

Ends = tuple[socket.socket, socket.socket, socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Two packet sockets pairs in the place of two devices: writer, source, target, reader."""
    writer, source = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    target, reader = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (writer, source, target, reader):
        sock.setblocking(False)
    yield writer, source, target, reader
    for sock in (writer, source, target, reader):
        sock.close()


def line(ends: Ends, shape: Shape, number: int = 0) -> Direction:
    """Return a direction between the two inner ends."""
    return Direction(ends[1].fileno(), ends[2].fileno(), shape, number)


def arrived(ends: Ends) -> list[bytes]:
    """Return what can be read at the far end."""
    packets = []
    while True:
        try:
            packets.append(ends[3].recv(70_000))
        except BlockingIOError:
            return packets


def survivors(ends: Ends, shape: Shape, number: int = 0) -> list[int]:
    """Return which of 60 packets pass."""
    direction = line(ends, shape, number)
    for n in range(60):
        ends[0].send(bytes([n]))
        direction.take(0.0)
    direction.release(1.0)
    return [packet[0] for packet in arrived(ends)]


def test_packets_wait_exactly_the_delay(ends: Ends) -> None:
    """Not a moment before it is due, in the order of sending."""
    direction = line(ends, Shape(0.25))
    ends[0].send(b"one")
    direction.take(10.0)
    ends[0].send(b"two")
    direction.take(10.125)
    assert direction.due == 10.25
    direction.release(10.2)
    assert arrived(ends) == []
    direction.release(10.25)
    assert arrived(ends) == [b"one"]
    direction.release(11.0)
    assert arrived(ends) == [b"two"]
    assert direction.due is None


def test_rate_spaces_packets(ends: Ends) -> None:
    """At 8000 bit/s a hundred bytes take a tenth of a second, one packet after the other."""
    direction = line(ends, Shape(1.0, rate=8000))
    for _ in range(3):
        ends[0].send(bytes(100))
    direction.take(0.0)
    dues = []
    while (due := direction.due) is not None:
        dues.append(due)
        direction.release(due)
    assert dues == pytest.approx([1.1, 1.2, 1.3])


def test_jitter_is_set_by_the_seed_and_keeps_the_order(ends: Ends) -> None:
    """A packet waits up to that much longer, and never overtakes another one."""

    def dues(seed: int) -> list[float]:
        direction = line(ends, Shape(1.0, jitter=0.02, seed=seed))
        found = []
        for n in range(60):
            ends[0].send(bytes([n]))
            direction.take(float(n))
            due = direction.due
            assert due is not None
            found.append(due - n)
            direction.release(due)
        assert [packet[0] for packet in arrived(ends)] == list(range(60))
        return found

    first = dues(3)
    assert 1.0 <= min(first) < 1.005
    assert 1.015 < max(first) <= 1.02
    assert dues(3) == first
    assert dues(4) != first
    together = line(ends, Shape(1.0, jitter=0.02, seed=3))
    for n in range(60):
        ends[0].send(bytes([n]))
    together.take(0.0)
    together.release(1.02)
    assert [packet[0] for packet in arrived(ends)] == list(range(60))


@pytest.mark.parametrize("rate", [0, 8000])
def test_full_buffer_drops_the_newest(rate: int, ends: Ends) -> None:
    """What does not fit is lost; what waits already is kept; room comes back."""
    direction = line(ends, Shape(1.0, rate=rate, buffer=250))
    for n in range(5):
        ends[0].send(bytes([n]) * 100)
    direction.take(0.0)
    direction.release(9.0)
    assert [packet[0] for packet in arrived(ends)] == [0, 1]
    ends[0].send(b"again")
    direction.take(9.0)
    direction.release(99.0)
    assert arrived(ends) == [b"again"]


def test_losses_are_set_by_the_seed(ends: Ends) -> None:
    """The same seed loses the same packets; another seed or direction loses others."""
    shape = Shape(0.0, loss=0.5, seed=3)
    first = survivors(ends, shape)
    assert 10 < len(first) < 50
    assert survivors(ends, shape) == first
    assert survivors(ends, shape, number=1) != first
    assert survivors(ends, Shape(0.0, loss=0.5, seed=4)) != first
    assert survivors(ends, Shape(0.0)) == list(range(60))


def test_shape_survives_the_command_line() -> None:
    """What the lab asks for is what the program does."""
    shape = Shape(0.0125, 123456, 0.015625, 42, 9999, 0.25)
    again = Shape.decode(shape.encode())
    assert [getattr(again, name) for name in Shape.__slots__] == [getattr(shape, name) for name in Shape.__slots__]


@pytest.mark.parametrize("word", ["-1,0,0,0,1,0", "0,-1,0,0,1,0", "0,0,1.5,0,1,0", "0,0,0,0,0,0", "0,0,0,0,1,-1", "1"])
def test_impossible_shapes_are_refused(word: str) -> None:
    """No line goes back in time or loses more than everything."""
    with pytest.raises(ValueError, match=r"range|unpack"):
        Shape.decode(word)


@pytest.mark.parametrize(
    ("shape", "needed", "batching"),
    [
        (Shape(0), False, True),
        (Shape(0.1), True, True),
        (Shape(0, loss=0.1), True, False),
        (Shape(0, jitter=0.1), True, False),
    ],
)
def test_cables_where_nothing_is_asked(shape: Shape, needed: bool, batching: bool) -> None:
    """Batches of segments pass only where no single segment is to be lost or spaced."""
    assert (shape.needed, shape.batching) == (needed, batching)
