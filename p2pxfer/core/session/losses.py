"""Whether packets get lost on a line that is not full.

A full line loses packets as well: what its queue does not hold.  Who took that for the line's own loss would have every
line that is shared taken by force.

Laws of this file:

1. Only what was sent between two looks at which nothing queued counts; after a queue the counting begins anew, since
   what overran it is sent again a round trip later.
2. What is sent while there is not always something to send does not count: the last segments before a pause are sent
   again to be on the safe side.
3. Loss is :attr:`~Losses.plain` once :data:`PLAIN` segments were lost, and not more than :data:`MOST` of all: a queue
   so short that no round trip shows it loses a large part of a round trip's segments when it is overrun.
"""

from __future__ import annotations

from typing import Final

LOSS: Final = 0.0005
"""Share of segments that were sent again."""
PLAIN: Final = 2
MOST: Final = 0.1
ENOUGH: Final = 1000
"""Segments after which it is known whether packets get lost: of so many one in two hundred leaves none out."""


class Losses:
    """What the connections of one line lost, look by look."""

    def __init__(self) -> None:
        self._clear = False
        """Nothing queued at the last look."""
        self._sent = self._repeated = 0
        self._fresh = 0
        """Segments lost since the last look."""

    def look(self, sent: int, repeated: int, *, full: bool, queues: bool) -> None:
        """Since the last look so many segments were sent, and sent again; ``full``: there was always more to send;
        ``queues``: packets queue now."""
        counts = full and self._clear and not queues
        self._clear = not queues
        self._fresh = repeated if counts else 0
        if queues:
            self._sent = self._repeated = 0
        elif counts:
            self._sent += sent
            self._repeated += repeated

    @property
    def found(self) -> bool:
        """Packets get lost, as far as can be told by now."""
        return self._repeated > LOSS * self._sent

    @property
    def known(self) -> bool:
        """Enough was sent to tell whether packets get lost."""
        return self.found or self._sent >= ENOUGH

    @property
    def plain(self) -> bool:
        """Packets were lost just now, and it is no chance and no queue that was overrun."""
        return bool(self._fresh) and self._repeated >= PLAIN and self.found and self._repeated <= MOST * self._sent
