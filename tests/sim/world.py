"""Time, chance and a faulty network: everything that happens follows from one number.

A path delivers in order in each direction.  When it is cut, what is under way is lost from some byte on, and each end
notices at a time of its own.  Two paths deliver in any order.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from p2pxfer.core.framing import Frame, FrameDecoder
from p2pxfer.core.session.wire import SESSION_CAPS

WIRE = 3 * 64 * 1024
"""Bytes under way in one direction above which a path wants no more."""
PIECE = 2 * 1024
"""What arrives at once on a slow line, bytes."""


class Stuck(AssertionError):
    """Nothing happens any more, or nothing comes of it."""


class World:
    """A clock, a queue of what is going to happen, and a record of what happened."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.trace: list[str] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + seconds, self._count, call))

    def note(self, what: str) -> None:
        self.trace.append(f"{self.now:9.4f} {what}")

    def run(self, done: Callable[[], bool], seconds: float = 600.0, steps: int = 100_000) -> None:
        """Let things happen until ``done()``."""
        for _ in range(steps):
            if done():
                return
            if not self._queue:
                raise Stuck("nothing is going to happen")
            self.now, _, call = heapq.heappop(self._queue)
            if self.now > seconds:
                break
            call()
        raise Stuck(f"no end after {self.now:.0f} seconds")


class Process(Protocol):
    """What a path tells the process at its end."""

    def path_up(self, end: PathEnd) -> None: ...

    def path_frame(self, end: PathEnd, frame: Frame) -> None: ...

    def path_room(self, end: PathEnd) -> None: ...

    def path_lost(self, end: PathEnd) -> None: ...


@dataclass
class PathEnd:
    """One end of a path; ``owner`` is ``None`` when its process has died or has noticed the loss."""

    world: World
    number: int
    owner: Process | None
    delay: float
    rate: float = 4e6
    """Bytes a second."""
    piece: int = 0
    """What arrives at once, bytes; 0: whole frames."""
    decoder: FrameDecoder = field(default_factory=lambda: FrameDecoder(SESSION_CAPS))
    under_way: int = 0
    arrives: float = 0.0
    cut: bool = False
    other: PathEnd = field(init=False)
    lost_from: int | None = None
    """Bytes that still arrive here after the cut."""

    @property
    def writable(self) -> bool:
        return self.under_way < WIRE

    def send(self, data: bytes) -> None:
        """Towards the other end."""
        if self.cut:
            return
        world = self.world
        self.under_way += len(data)
        self.arrives = max(self.arrives, world.now + self.delay * world.rng.uniform(1.0, 1.5))
        for start in range(0, len(data), self.piece or len(data)):
            self._send(data[start : start + (self.piece or len(data))])

    def _send(self, data: bytes) -> None:
        self.arrives += len(data) / self.rate
        self.world.after(self.arrives - self.world.now, lambda: self._arrived(data))

    def _arrived(self, data: bytes) -> None:
        full = not self.writable
        self.under_way -= len(data)
        self.other.take(data)
        if full and self.writable and self.owner is not None and not self.cut:
            self.owner.path_room(self)

    def take(self, data: bytes) -> None:
        """From the other end."""
        if self.owner is None:
            return
        if self.lost_from is not None:
            data = data[: self.lost_from]
            self.lost_from -= len(data)
        for frame in self.decoder.feed(data):
            if self.owner is not None:
                self.owner.path_frame(self, frame)

    def lose(self) -> None:
        """The process notices that the path is gone."""
        owner, self.owner = self.owner, None
        if owner is not None:
            self.world.note(f"path {self.number} is lost to {type(owner).__name__}")
            owner.path_lost(self)


class Network:
    """Makes paths between two processes, and cuts them; `slow` ones bring a frame little by little."""

    def __init__(self, world: World, slow: float = 0.0) -> None:
        self.world = world
        self._slow = slow
        self.paths: list[PathEnd] = []
        """Those that are not cut, by their first end."""
        self._ends: list[PathEnd] = []
        """Both ends of all that were ever made."""
        self.made = 0

    def connect(self, one: Process, other: Process, *, delay: float | None = None) -> None:
        """``delay`` in seconds; drawn if there is none."""
        self.made += 1
        delay = self.world.rng.choice([0.001, 0.02, 0.3]) if delay is None else delay
        ends = [PathEnd(self.world, self.made, owner, delay) for owner in (one, other)]
        for end in ends if self._slow else ():
            end.rate, end.piece = self._slow, PIECE
        ends[0].other, ends[1].other = ends[1], ends[0]
        self.paths.append(ends[0])
        self._ends += ends
        self.world.note(f"path {self.made} is up, {delay} s")
        one.path_up(ends[0])
        other.path_up(ends[1])

    def alive(self) -> list[PathEnd]:
        """Paths that are whole, by their first end."""
        return [end for end in self.paths if not end.cut and end.owner is not None and end.other.owner is not None]

    def cut(self, end: PathEnd) -> None:
        """Break a path: each end notices after what still arrives there."""
        self.world.note(f"path {end.number} is cut")
        self.paths.remove(end)
        for each in (end, end.other):
            each.cut = True
            each.lost_from = 0 if each.piece else self.world.rng.randint(0, each.other.under_way)
            last = 0.0 if each.piece else max(0.0, each.other.arrives - self.world.now)
            notice = last + self.world.rng.choice([0.001, 0.05, 2.0])
            self.world.after(notice, each.lose)

    def drop(self, end: PathEnd) -> None:
        """The process at ``end`` gives the path up."""
        for whole in list(self.paths):
            if end in (whole, whole.other):
                self.cut(whole)
        end.lose()

    def stall(self, end: PathEnd, seconds: float) -> None:
        """Nothing arrives for a while."""
        self.world.note(f"path {end.number} stalls for {seconds} s")
        for each in (end, end.other):
            each.arrives = max(each.arrives, self.world.now) + seconds

    def died(self, process: Process) -> None:
        """A process is gone: its ends are silent, also those that were cut before; the other ends notice some time."""
        for each in self._ends:
            if each.owner is process:
                each.owner = None
        for end in list(self.paths):
            if end.owner is None or end.other.owner is None:
                self.cut(end)
