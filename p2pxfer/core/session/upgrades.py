"""When a direct path is looked for again while the relay carries: pure.

Laws of this file:

1. Soon after a direct path died, since what killed it is mostly over by then; then more and more seldom, since the
   same attempt seldom has another outcome, and each one costs both sides a punch.
2. Who never had a direct path begins with the long pauses: the networks have to change first.
3. A path that dies young shortens the pause only once in :data:`HURRY_S`, so that a NAT which loses all of them makes
   no loop.

Times in seconds, of any clock that does not jump.
"""

from __future__ import annotations

import math
from typing import Final

PAUSES_S: Final = (2.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""From the death of a path, then from the beginning of each attempt, to the next one; longer than an attempt takes."""
NEVER_HAD: Final = 1
"""Which of them the first attempt has used up."""
STEADY_S: Final = 10.0
"""A direct path that stood for longer was a good one."""
HURRY_S: Final = 60.0


class Upgrades:
    """Of one session: hears of its direct paths and of the attempts, and says when another one is due."""

    def __init__(self) -> None:
        self._step = NEVER_HAD
        self._since: float | None = None
        self._hurried = -math.inf
        self.due = math.inf
        """When another attempt is due if there is no direct path then."""

    @property
    def repeated(self) -> bool:
        """Whether the next attempt follows one that brought no direct path."""
        return self._step > 0

    def stands(self, now: float) -> None:
        """There is a direct path, and was none before."""
        self._since = now

    def died(self, now: float) -> None:
        """The last direct path is gone."""
        stood = now - (now if self._since is None else self._since)
        self._since = None
        if stood > STEADY_S or now - self._hurried > HURRY_S:
            self.hurry(now)
        else:
            self.due = now + PAUSES_S[self._step]

    def hurry(self, now: float) -> None:
        """An attempt is worth more than the last one was."""
        self._hurried = now
        self._step = 0
        self.due = now + PAUSES_S[0]

    def soon(self, now: float) -> None:
        """The last attempt had bad luck."""
        self.due = now + PAUSES_S[0]

    def unanswered(self, now: float) -> None:
        """There was no attempt, since nobody could be asked for one: the peer may be on its way back for a while."""
        if self.repeated or now - self._hurried > HURRY_S:
            self.tried(now)

    def tried(self, now: float) -> None:
        """An attempt begins now."""
        self._step = min(self._step + 1, len(PAUSES_S) - 1)
        self.due = now + PAUSES_S[self._step]
