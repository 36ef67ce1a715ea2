"""The access line as a machine: order, bounds and losses, with the time given by the test."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from tests.lab.delay import Direction, Shape, segments_of, without

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
    shape = Shape(0.0125, 123456, 0.015625, 42, 9999, 0.25, long=True)
    again = Shape.decode(shape.encode())
    assert [getattr(again, name) for name in Shape.__slots__] == [getattr(shape, name) for name in Shape.__slots__]


@pytest.mark.parametrize(
    "word", ["-1,0,0,0,1,0,0", "0,-1,0,0,1,0,0", "0,0,1.5,0,1,0,0", "0,0,0,0,0,0,0", "0,0,0,0,1,-1,0", "1"]
)
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
        (Shape(0, loss=0.1, rate=1000, long=True), True, True),
    ],
)
def test_cables_where_nothing_is_asked(shape: Shape, needed: bool, batching: bool) -> None:
    """Batches of segments pass only where no single segment is to be lost or spaced."""
    assert (shape.needed, shape.batching) == (needed, batching)


def batch(segments: int, size: int, number: int = 7) -> bytes:
    """A batch of segments as the kernel hands it over: virtio header, IPv4, TCP, and the sum of the pseudo header."""
    payload = b"".join(bytes([65 + n]) * size for n in range(segments - 1)) + b"z" * (size // 2)
    source, target = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    tcp = bytearray(struct.pack("!HHIIBBHHH", 1, 2, number, 0, 5 << 4, 0x10, 500, 0, 0))
    struct.pack_into("!H", tcp, 16, folded(source + target + struct.pack("!HH", 6, len(tcp) + len(payload))))
    ip = bytearray(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp) + len(payload), 9, 0, 64, 6, 0, source, target))
    struct.pack_into("!H", ip, 10, ~folded(bytes(ip)) & 0xFFFF)
    return struct.pack("=BBHHHH", 1, 1, 40, size, 20, 16) + bytes(ip) + bytes(tcp) + payload


def folded(data: bytes) -> int:
    """The sum of the Internet's checksums, not yet turned over."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize("lost", range(4))
def test_a_segment_is_cut_out_of_a_batch(lost: int) -> None:
    """What is left are whole batches with right sums, lengths and sequence numbers."""
    packet = batch(4, 100, number=0xFFFFFFF0)
    assert segments_of(packet) == 4
    parts = without(packet, lost)
    bodies = {}
    for part in parts:
        ip, tcp, body = part[10:30], part[30:50], part[50:]
        assert folded(ip) == 0xFFFF
        assert struct.unpack_from("!H", ip, 2)[0] == len(part) - 10
        assert struct.unpack_from("!H", tcp, 16)[0] == folded(ip[12:] + struct.pack("!HH", 6, 20 + len(body)))
        assert (part[1], struct.unpack_from("=H", part, 4)[0]) == ((1, 100) if len(body) > 100 else (0, 0))
        bodies[(struct.unpack_from("!I", tcp, 4)[0] - 0xFFFFFFF0) & 0xFFFFFFFF] = body
    whole = packet[50:]
    expected = {0: whole[: lost * 100], lost * 100 + 100: whole[lost * 100 + 100 :]}
    assert bodies == {offset: body for offset, body in expected.items() if body}


def test_a_long_line_loses_segments_of_batches(ends: Ends) -> None:
    """About the share that is asked for, and never a whole batch."""
    direction = line(ends, Shape(0.0, loss=0.02, seed=1, long=True))
    got = 0
    for _ in range(200):
        ends[0].send(batch(10, 100))
        direction.take(0.0)
        direction.release(1.0)
        got += sum(segments_of(packet) for packet in arrived(ends))
    assert 0.97 < got / 2000 < 0.99
