"""Rates and quotas as values: token buckets, one or many by key, driven by the caller's clock.

Law: memory is bounded.  A bucket that has filled up again says nothing and is forgotten; above the cap of keys the one
that was used longest ago is forgotten first.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

_MAX_KEYS: Final = 65_536


class Bucket:
    """Allows ``burst`` events at once and ``rate`` events a second in the long run."""

    __slots__ = ("_burst", "_level", "_rate", "_seen")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._seen = now

    def take(self, now: float) -> bool:
        """Count one event at ``now`` (seconds, monotonic); False if it is one too many."""
        self._refill(now)
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def give_back(self, now: float) -> None:
        """Undo one :meth:`take`."""
        self._refill(now)
        self._level = min(self._burst, self._level + 1)

    def due(self, now: float) -> float:
        """Seconds until :meth:`take` is True; 0.0 if it is now."""
        self._refill(now)
        return max(0.0, (1 - self._level) / self._rate)

    def full(self, now: float) -> bool:
        """True if the bucket is as good as new."""
        self._refill(now)
        return self._level >= self._burst

    def _refill(self, now: float) -> None:
        self._level = min(self._burst, self._level + max(0.0, now - self._seen) * self._rate)
        self._seen = max(self._seen, now)


class Buckets:
    """One :class:`Bucket` for each key, made at its first event."""

    def __init__(self, rate: float, burst: float, max_keys: int = _MAX_KEYS) -> None:
        self._rate = rate
        self._burst = burst
        self._max_keys = max_keys
        self._buckets: dict[Hashable, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float) -> bool:
        """Count one event of ``key``; False if it is one too many."""
        bucket = self._buckets.pop(key, None) or Bucket(self._rate, self._burst, now)
        self._buckets[key] = bucket
        self._forget(now)
        return bucket.take(now)

    def give_back(self, key: Hashable, now: float) -> None:
        """Undo one :meth:`take` of ``key``."""
        if key in self._buckets:
            self._buckets[key].give_back(now)

    def due(self, key: Hashable, now: float) -> float:
        """Seconds until :meth:`take` of ``key`` is True; 0.0 if it is now."""
        return self._buckets[key].due(now) if key in self._buckets else 0.0

    def _forget(self, now: float) -> None:
        """Drop what is over the cap, and of the two oldest those that have filled up: two out for one in."""
        while len(self._buckets) > self._max_keys:
            del self._buckets[next(iter(self._buckets))]
        for _ in range(2):
            oldest = next(iter(self._buckets))
            if len(self._buckets) == 1 or not self._buckets[oldest].full(now):
                return
            del self._buckets[oldest]
