"""What the kernel tells of a connection, and what follows from that alone.

Times in seconds, sizes in bytes, rates in bytes a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

from msgspec import Struct

LEAST_TRIP_S: Final = 0.01
"""The shortest round trip at which a window of the kernel matters."""
QUEUE: Final = 1.25
QUEUE_S: Final = 0.002
"""Packets queue when the round trip is so many times the shortest one, and so much longer."""
WARM: Final = 64 * 1024
"""Bytes after which a round trip counts: the one that a kernel knows of two SYNs that crossed is too short by half."""
GAIN: Final = 1.15
"""What is so many times as much is more."""
WINDOW_S: Final = 0.5
WINDOW_TRIPS: Final = 6
RATE_S: Final = 0.35
"""What so long tells of a rate is enough where nothing is at stake: what is delivered behind a hole comes at once."""
PART: Final = 0.6
"""``bbr`` has at most twice as much under way as goes in the shortest round trip that the kernel knows."""


class Line(Struct, frozen=True):
    """One connection at one moment: bytes acknowledged, segments sent and segments sent again since it stood; its
    smoothed round trip; ``full``: more waits than it takes; the ``shortest`` round trip that the kernel knows, 0 for
    none; for how many seconds it, and not either end, was what was waited for: ``at_work``, ``None`` if unknown;
    ``modelled``: it is paced by a model."""

    acked: int
    sent: int
    repeated: int
    trip: float
    full: bool
    shortest: float = 0.0
    at_work: float | None = None
    modelled: bool = False


def longest_usual(least: float) -> float:
    """The round trip beyond which packets queue, where ``least`` is the shortest one."""
    return QUEUE * least + QUEUE_S


def window_s(trip: float) -> float:
    """How long what is delivered is measured, on a line with this round trip."""
    return max(WINDOW_S, WINDOW_TRIPS * trip)


def misled(lines: Collection[Line], least: float) -> bool:
    """Whether the kernel takes a part of the round trip, ``least``, for all of it, on every connection."""
    return all(0 < line.shortest < PART * least for line in lines)


def held_back(lines: Collection[Line], least: float) -> bool:
    """Whether there is one connection, whose pace follows from that."""
    return misled(lines, least) and [line.modelled for line in lines] == [True]


class _Look(Struct, frozen=True):
    """What had been delivered in all at one moment."""

    at: float
    acked: int


class Lately:
    """What was delivered in the last :data:`RATE_S`."""

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()

    def forget(self) -> None:
        """What was seen so far says nothing more."""
        self._looks.clear()

    def look(self, acked: int, now: float) -> None:
        """So much was delivered since the last look."""
        self._looks.append(_Look(now, self._looks[-1].acked + acked if self._looks else 0))
        while len(self._looks) > 2 and self._looks[1].at <= now - RATE_S:
            self._looks.popleft()

    @property
    def known(self) -> bool:
        """It was looked for long enough."""
        return self._looks[-1].at - self._looks[0].at >= RATE_S

    @property
    def rate(self) -> float:
        """As far as it can be told; 0.0 at the first look."""
        first, last = self._looks[0], self._looks[-1]
        return (last.acked - first.acked) / (last.at - first.at) if last.at > first.at else 0.0
