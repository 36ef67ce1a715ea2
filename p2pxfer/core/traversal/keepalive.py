"""How often a connection must be used so that the NAT in front of it keeps the mapping.

Laws of this file:

1. The other end says how often it wants to hear of this one; that is never exceeded.
2. A connection that was found dead when it was used again after a pause had a NAT that does not bear such a pause:
   behind that outside address the pauses are half as long for :data:`BELIEVED_S`, down to :data:`SHORTEST_S`.

3. A connection is held against the NAT only if the next attempt reached the server, soon and from the same address: it
   was there all the time, and nobody has moved.

RFC 5382 REQ-5 asks NATs to keep an established connection for two hours and four minutes; many keep it for minutes,
some for seconds.
"""

from __future__ import annotations

from typing import Final

SHORTEST_S: Final = 4.0
"""No pause is made shorter than this, seconds."""
BELIEVED_S: Final = 3600.0
"""How long a loss is held against a NAT, seconds: there are other reasons for one."""
SOON_S: Final = 5.0
"""A server that is reached again so soon was there when the connection died, seconds."""
MAX_ADDRESSES: Final = 16
"""Most outside addresses that are remembered; of more the last ones."""


class KeepAlive:
    """What this machine's NATs were seen not to bear, by outside address."""

    def __init__(self) -> None:
        self._longest: dict[str, tuple[float, float]] = {}
        """Outside address -> the longest pause, and when that was found."""
        self._used = 0.0
        """The pause on the last connection."""
        self._suspect: tuple[str, float] | None = None
        """Behind which address, and when, a connection was found dead after a pause."""

    def begun(self, outside: str, wanted: float, now: float) -> float:
        """A connection stands behind ``outside``; returns the pause for it, as :meth:`pause`."""
        suspect, self._suspect = self._suspect, None
        if suspect is not None and suspect[0] == outside and now - suspect[1] < SOON_S:
            self.lost(outside, self._used, now)
        self._used = self.pause(outside, wanted, now)
        return self._used

    def ended(self, outside: str, idle: bool, now: float) -> None:
        """The connection is over; ``idle``: it was found dead when it was used again after a pause."""
        self._suspect = (outside, now) if idle else None

    def unreached(self) -> None:
        """An attempt to connect failed: the server may have been away before, too."""
        self._suspect = None

    def pause(self, outside: str, wanted: float, now: float) -> float:
        """Seconds between two signs of life behind ``outside``, where the other end wants one every ``wanted``."""
        longest, found = self._longest.get(outside, (wanted, now))
        return min(wanted, longest) if now - found < BELIEVED_S else wanted

    def lost(self, outside: str, pause: float, now: float) -> None:
        """A connection was found dead after it had lain idle for ``pause`` seconds."""
        self._longest.pop(outside, None)
        self._longest[outside] = (max(SHORTEST_S, pause / 2), now)
        if len(self._longest) > MAX_ADDRESSES:
            del self._longest[next(iter(self._longest))]
