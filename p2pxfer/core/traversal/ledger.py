"""How often one process may punch with many dials: memory of whom, without an address."""

from __future__ import annotations

import math
from typing import Final

from p2pxfer.core.traversal.strategies import LASTS_S

QUIET_S: Final = 600.0
"""How long no second plan is made for one peer."""
MOST_PLANS: Final = 64
"""Most plans of one process in that time."""


class Ledger:
    """Who was punched with many SYNs lately, for the whole process: one plan at a time, one a peer in :data:`QUIET_S`.

    To a carrier a walk looks like a scan, and what failed a minute ago will most likely fail again.  The network of
    the peer does not count, since the server could name another one each time.
    """

    def __init__(self) -> None:
        self._made: dict[bytes, float] = {}
        self._repeated: dict[bytes, float] = {}
        self._last = -math.inf

    def take(self, peer: bytes, now: float) -> bool:
        """Whether a plan may be made at ``now`` for ``peer`` (a key); if so it is entered."""
        self._made = {entry: when for entry, when in self._made.items() if now - when < QUIET_S}
        self._repeated = {entry: when for entry, when in self._repeated.items() if now - when < QUIET_S}
        if peer in self._made or len(self._made) >= MOST_PLANS or now - self._last < LASTS_S:
            return False
        self._made[peer] = self._last = now
        return True

    def succeeded(self, peer: bytes) -> None:
        """A plan led to a path: it may be repeated when that path is lost, though only once in :data:`QUIET_S`."""
        when = self._made.get(peer)
        if when is not None and peer not in self._repeated:
            self._repeated[peer] = self._made.pop(peer)
