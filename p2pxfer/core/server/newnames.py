"""How many names may be made today: counted by the address that they come from, and for commands' own names by the key.

Laws of this table:

1. A name that a person chose is counted against its source (an IPv4 address, or the /64 of an IPv6 one).
2. A name that a command takes by itself (:mod:`p2pxfer.core.ownnames`) is counted against the key alone, if a name of
   that key was counted against a source within the last day; a key has so many of them in that day, and further ones
   are counted as in law 1.
3. Only a name that was made counts in the end: what was taken for a claim is given back for any other answer.
4. Memory is bounded: a key is forgotten after a day, and above the cap the one that was counted first.  The next name
   of one that is forgotten is counted against its source again.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from p2pxfer.core.addresses import Address, source_network
from p2pxfer.core.limits import Buckets
from p2pxfer.core.ownnames import follows_from
from p2pxfer.core.server.effects import ServerSettings

DAY_S: Final = 86_400.0
_MAX_KEYS: Final = 65_536


class Charge(Enum):
    """What a claim is counted against."""

    NONE = auto()
    KEY = auto()
    SOURCE = auto()


class _Counted(Struct):
    """A key of which a name was counted against a source: until when that holds, and how many own names it has left."""

    until: float
    left: int


class NewNames:
    """The table; ``now`` is monotonic seconds everywhere."""

    def __init__(self, settings: ServerSettings, max_keys: int = _MAX_KEYS) -> None:
        self._a_day = settings.new_names_per_source_a_day
        self._own_a_day = settings.own_names_per_key_a_day
        self._max_keys = max_keys
        self._sources = Buckets(self._a_day / DAY_S, self._a_day)
        self._keys: dict[bytes, _Counted] = {}  # in order of their ends

    def __len__(self) -> int:
        return len(self._keys)

    def take(self, key: bytes, name: str, host: Address, now: float) -> Charge:
        """Count a claim of ``key`` for ``name`` from ``host``, which may be new; ``NONE`` if it is one too many."""
        if self._take_of_key(key, name, now):
            return Charge.KEY
        return Charge.SOURCE if self._sources.take(source_network(host), now) else Charge.NONE

    def decided(self, charge: Charge, key: bytes, name: str, host: Address, new: bool, now: float) -> None:
        """Whether the claim for which ``charge`` was taken made a ``new`` name."""
        if charge is Charge.KEY and not new:
            self._give_back_to_key(key)
        elif charge is Charge.SOURCE and (not new or self._take_of_key(key, name, now)):
            # The second case: two claims of one key were under way at once, and the other one has counted it.
            self._sources.give_back(source_network(host), now)
        elif charge is Charge.SOURCE:
            self._count(key, now)

    def refusal(self, host: Address, now: float) -> str:
        """What to say to whom :meth:`take` gave ``NONE``."""
        minutes = max(1, math.ceil(self._sources.due(source_network(host), now) / 60))
        return (
            f"this server takes {self._a_day} new names a day from one network address, and those of this one are used"
            f" up; it takes the next one in {minutes} min.  Until then names that were registered before go on working,"
            " and so does sending, which needs none"
        )

    def _take_of_key(self, key: bytes, name: str, now: float) -> bool:
        counted = self._keys.get(key)
        if counted is None or counted.until <= now or counted.left <= 0 or not follows_from(key, name):
            return False
        counted.left -= 1
        return True

    def _give_back_to_key(self, key: bytes) -> None:
        counted = self._keys.get(key)
        if counted is not None:
            counted.left = min(self._own_a_day, counted.left + 1)

    def _count(self, key: bytes, now: float) -> None:
        before = self._keys.get(key)
        if before is not None and before.until > now:
            return
        self._keys.pop(key, None)
        self._keys[key] = _Counted(now + DAY_S, self._own_a_day)
        while len(self._keys) > self._max_keys or next(iter(self._keys.values())).until <= now:
            del self._keys[next(iter(self._keys))]
