"""The access line: moves packets between two TUN devices, each one way delay later.

`open_tun` makes a device; the program (`python delay.py SHAPE PAIR...`) gets the descriptors from
the lab and carries packets in both directions of every pair until its standard input ends, that
is, until the lab closes it or dies.

Packets are passed with their virtio header, so one of them may be a 64 KiB batch of segments that
the kernel has not cut yet; without that a line in Python could not carry 100 MB/s. Where loss, jitter
or a rate is asked for, devices are opened without batching so that it befalls single segments; a `long`
line passes batches all the same, and what it loses is cut out of them.

The program imports little on purpose: it is started for every lab.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_TUN_F_CSUM = 0x01
_TUN_F_TSO4 = 0x02
_TUN_F_TSO6 = 0x04
_TUN_F_TSO_ECN = 0x08

_VIRTIO = 10
"""Bytes of `struct virtio_net_hdr`: flags, kind of batch, then the sizes of headers and of a segment."""
_VIRTIO_SIZES = struct.Struct("=HH")
_GSO_KIND = 0x7F
_GSO_TCPV4 = 1

_LARGEST = 70_000
_BATCH = 64
BUFFER_BYTES = 128 * 1024 * 1024


class Shape:
    """What a line does to packets, the same in both directions.

    `delay`: one way, seconds. `rate`: bit/s, 0 for no limit. `loss`: probability of a packet to
    vanish, drawn from `seed`. `buffer`: bytes that may wait, more are dropped. `jitter`: up to so
    many seconds more for each packet, drawn too; none overtakes another, as in a queue. `long`: pass
    batches whatever else is asked, for a line too fast for single segments.
    """

    __slots__ = ("buffer", "delay", "jitter", "long", "loss", "rate", "seed")

    def __init__(
        self,
        delay: float,
        rate: int = 0,
        loss: float = 0.0,
        seed: int = 0,
        buffer: int = BUFFER_BYTES,
        jitter: float = 0.0,
        *,
        long: bool = False,
    ) -> None:
        if delay < 0 or jitter < 0 or rate < 0 or not 0 <= loss <= 1 or buffer <= 0:
            raise ValueError("delay, jitter, rate, loss or buffer out of range")
        self.delay = delay
        self.jitter = jitter
        self.rate = rate
        self.loss = loss
        self.seed = seed
        self.buffer = buffer
        self.long = long

    @property
    def batching(self) -> bool:
        """Whether uncut batches of segments may pass."""
        return self.long or (not self.loss and not self.jitter and not self.rate)

    @property
    def needed(self) -> bool:
        """Whether a plain virtual cable would not do the same."""
        return bool(self.delay or self.jitter or self.loss or self.rate)

    def encode(self) -> str:
        """Return the shape as one command-line word."""
        return f"{self.delay!r},{self.rate},{self.loss!r},{self.seed},{self.buffer},{self.jitter!r},{self.long:d}"

    @classmethod
    def decode(cls, word: str) -> Shape:
        """Return the shape that `encode` wrote. Raises `ValueError` for anything else."""
        delay, rate, loss, seed, buffer, jitter, long = word.split(",")
        return cls(float(delay), int(rate), float(loss), int(seed), int(buffer), float(jitter), long=bool(int(long)))


def open_tun(name: str, batching: bool) -> int:
    """Make the TUN device `name` in the caller's namespace and return its descriptor.

    The device lives as long as the descriptor. Raises `OSError`.
    """
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        offload = _TUN_F_CSUM
        if batching:
            offload |= _TUN_F_TSO4 | _TUN_F_TSO6 | _TUN_F_TSO_ECN
        fcntl.ioctl(descriptor, _TUNSETOFFLOAD, offload)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _sizes(packet: bytes) -> tuple[int, int]:
    """How long the headers of a batch are, and each of its segments but the last."""
    headers, size = _VIRTIO_SIZES.unpack_from(packet, 2)
    return headers, size


def segments_of(packet: bytes) -> int:
    """How many segments a packet with its virtio header holds; 1 for everything that is no batch of IPv4."""
    if packet[1] & _GSO_KIND != _GSO_TCPV4:
        return 1
    headers, size = _sizes(packet)
    return max(1, -(-(len(packet) - _VIRTIO - headers) // size))


def without(packet: bytes, lost: int) -> list[bytes]:
    """What is left of a packet when its segment number `lost` is cut out: up to two batches."""
    if segments_of(packet) == 1:
        return []
    headers, size = _sizes(packet)
    start = _VIRTIO + headers
    cut = start + lost * size
    parts = [(0, packet[start:cut]), (cut + size - start, packet[cut + size :])]
    return [_part(packet, headers, size, offset, data) for offset, data in parts if data]


def _part(packet: bytes, headers: int, size: int, offset: int, data: bytes) -> bytes:
    """A batch of `data`, which stands `offset` bytes behind the first one of `packet`."""
    part = bytearray(packet[: _VIRTIO + headers]) + data
    if len(data) <= size:
        part[1] = 0
        _VIRTIO_SIZES.pack_into(part, 2, headers, 0)
    ip, old = _VIRTIO, len(packet) - _VIRTIO
    tcp = ip + (part[ip] & 15) * 4
    length = headers + len(data)
    struct.pack_into("!H", part, ip + 2, length)
    struct.pack_into("!H", part, ip + 10, 0)
    struct.pack_into("!H", part, ip + 10, ~_fold(sum(struct.unpack_from(f"!{(tcp - ip) // 2}H", part, ip))) & 0xFFFF)
    (number,) = struct.unpack_from("!I", part, tcp + 4)
    struct.pack_into("!I", part, tcp + 4, (number + offset) & 0xFFFFFFFF)
    # The kernel left the sum of the pseudo header here, in which the length counts, and fills in the rest itself.
    (pseudo,) = struct.unpack_from("!H", part, tcp + 16)
    struct.pack_into("!H", part, tcp + 16, _fold(pseudo + length + (~old & 0xFFFF)))
    return bytes(part)


def _fold(total: int) -> int:
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Direction:
    """Packets on their way from one device to another, in order.

    `due` times never decrease: every packet waits the same delay behind a serial line, or behind the one before it.
    """

    __slots__ = ("_draw", "_free_at", "_latest", "_queue", "_queued", "_shape", "source", "target")

    def __init__(self, source: int, target: int, shape: Shape, number: int) -> None:
        self.source = source
        self.target = target
        self._shape = shape
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queued = 0
        self._free_at = 0.0
        self._latest = 0.0
        self._draw = None
        if shape.loss or shape.jitter:
            import random  # only such lines pay for this import

            # Each direction has a fate of its own, all of them set by the one seed.
            self._draw = random.Random(shape.seed * 1000 + number).random

    @property
    def due(self) -> float | None:
        """When the first waiting packet must leave, in monotonic seconds; None if none waits."""
        return self._queue[0][0] if self._queue else None

    def take(self, now: float) -> None:
        """Read what the source device holds, at most one batch, so that the other side lives."""
        for _ in range(_BATCH):
            try:
                packet = os.read(self.source, _LARGEST)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EIO):  # empty, or the device is down
                    return
                raise
            self._accept(packet, now)

    def _accept(self, packet: bytes, now: float) -> None:
        shape = self._shape
        # Of a batch one segment is lost at most: two of so few hardly ever go together.
        for number in range(segments_of(packet) if shape.long else 1) if shape.loss else ():
            if self._draw is not None and self._draw() < shape.loss:
                for part in without(packet, number) if shape.long else ():
                    self._wait(part, now)
                return
        self._wait(packet, now)

    def _wait(self, packet: bytes, now: float) -> None:
        shape = self._shape
        size = len(packet)
        starts = max(now, self._free_at)
        waiting = (starts - now) * shape.rate / 8 if shape.rate else self._queued
        if waiting + size > shape.buffer:
            return
        self._free_at = starts + (size * 8 / shape.rate if shape.rate else 0.0)
        due = self._free_at + shape.delay
        if self._draw is not None and shape.jitter:
            due += self._draw() * shape.jitter
        self._latest = max(self._latest, due)
        self._queue.append((self._latest, packet))
        self._queued += size

    def release(self, now: float) -> None:
        """Write every packet whose time has come."""
        queue = self._queue
        while queue and queue[0][0] <= now:
            packet = queue.popleft()[1]
            self._queued -= len(packet)
            try:
                os.write(self.target, packet)
            except OSError as error:
                # The far device is down or its stack is out of memory: the packet is lost.
                if error.errno not in (errno.EIO, errno.EAGAIN, errno.ENOBUFS, errno.EINVAL):
                    raise


def carry(directions: list[Direction], lifeline: int) -> None:
    """Move packets until the descriptor `lifeline` becomes readable."""
    by_source = {direction.source: direction for direction in directions}
    watched = [*by_source, lifeline]
    while True:
        now = time.monotonic()
        times = [due for direction in directions if (due := direction.due) is not None]
        wait = max(0.0, min(times) - now) if times else None
        ready, _, _ = select.select(watched, [], [], wait)
        now = time.monotonic()
        for descriptor in ready:
            if descriptor == lifeline:
                return
            by_source[descriptor].take(now)
        for direction in directions:
            direction.release(now)


def main(argv: list[str]) -> None:
    """Run the lines given as a shape and pairs of inherited descriptors, `left:right`."""
    shape = Shape.decode(argv[0])
    directions: list[Direction] = []
    for pair in argv[1:]:
        left, right = (int(word) for word in pair.split(":"))
        for source, target in ((left, right), (right, left)):
            directions.append(Direction(source, target, shape, len(directions)))
    carry(directions, sys.stdin.fileno())


if __name__ == "__main__":
    main(sys.argv[1:])
