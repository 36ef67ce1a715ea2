"""The access line: moves packets between two TUN devices, each one way delay later.

`open_tun` makes a device; the program (`python delay.py SHAPE PAIR...`) gets the descriptors from
the lab and carries packets in both directions of every pair until its standard input ends, that
is, until the lab closes it or dies.

Packets are passed with their virtio header, so one of them may be a 64 KiB batch of segments that
the kernel has not cut yet; without that a line in Python could not carry 100 MB/s. Where loss, jitter
or a rate is asked for, devices are opened without batching so that it befalls single segments.

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

_LARGEST = 70_000
_BATCH = 64
BUFFER_BYTES = 128 * 1024 * 1024


class Shape:
    """What a line does to packets, the same in both directions.

    `delay`: one way, seconds. `rate`: bit/s, 0 for no limit. `loss`: probability of a packet to
    vanish, drawn from `seed`. `buffer`: bytes that may wait, more are dropped. `jitter`: up to so
    many seconds more for each packet, drawn too; none overtakes another, as in a queue.
    """

    __slots__ = ("buffer", "delay", "jitter", "loss", "rate", "seed")

    def __init__(
        self,
        delay: float,
        rate: int = 0,
        loss: float = 0.0,
        seed: int = 0,
        buffer: int = BUFFER_BYTES,
        jitter: float = 0.0,
    ) -> None:
        if delay < 0 or jitter < 0 or rate < 0 or not 0 <= loss <= 1 or buffer <= 0:
            raise ValueError("delay, jitter, rate, loss or buffer out of range")
        self.delay = delay
        self.jitter = jitter
        self.rate = rate
        self.loss = loss
        self.seed = seed
        self.buffer = buffer

    @property
    def batching(self) -> bool:
        """Whether uncut batches of segments may pass."""
        return not self.loss and not self.jitter and not self.rate

    @property
    def needed(self) -> bool:
        """Whether a plain virtual cable would not do the same."""
        return bool(self.delay or self.jitter or self.loss or self.rate)

    def encode(self) -> str:
        """Return the shape as one command-line word."""
        return f"{self.delay!r},{self.rate},{self.loss!r},{self.seed},{self.buffer},{self.jitter!r}"

    @classmethod
    def decode(cls, word: str) -> Shape:
        """Return the shape that `encode` wrote. Raises `ValueError` for anything else."""
        delay, rate, loss, seed, buffer, jitter = word.split(",")
        return cls(float(delay), int(rate), float(loss), int(seed), int(buffer), float(jitter))


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
        if self._draw is not None and self._draw() < shape.loss:
            return
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
