"""What waits for an answer here while its sender was killed: nobody would get that answer.

Laws:

1. Only a sender that talked until its last connection was ended, and not by its program, may have been killed.  One
   that is only silent, as when its machine changes networks, has its time to come back.
2. A sender that still runs asks for another introduction, and this side hears of that as long as its own connection to
   the server stands.  If it has for :data:`GONE_S` seconds, and nobody came in that time, the sender is gone; while a
   meeting with it is under way it is not, nor so many seconds after one that came to nothing.
3. What was accepted is not looked at: it waits for a sender that is started again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final
from typing import Protocol as Interface

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pxfer.errors import P2pxferError
from p2pxfer.net.connection.liveness import PATH
from p2pxfer.net.connection.tls import Vanished
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.seeking import LONGEST_PAUSE_S

GONE_S: Final = 2 * LONGEST_PAUSE_S
"""The longest pause of a sender between two introductions, and as much for one that has to connect to the server again,
seconds."""
TALKED_S: Final = 2 * PATH.ping
"""Who talks pings twice in this time, seconds."""


def was_cut_off(path: PeerPath, error: P2pxferError) -> bool:
    """Whether a path that ended for this reason did so while its peer talked, and not by the peer's program."""
    return isinstance(error, Vanished) and path.quiet_for < TALKED_S


class InQuestion(Interface):
    """What is asked about: a transfer or a stream."""

    @property
    def attached(self) -> int:
        """How many paths carry it."""

    def abandon(self) -> object:
        """Its sender does not come back."""


class Undecided:
    """The open questions of one sender.

    ``place()`` is the registration of this side at the server, ``None`` if there is none; ``seeks(since)`` whether the
    sender showed after that moment, in the time of ``clock``, that it runs, or is being met.
    """

    def __init__(self, clock: IReactorTime, place: Callable[[], object | None], seeks: Callable[[float], bool]) -> None:
        self._clock = clock
        self._place = place
        self._seeks = seeks
        self._asked: list[InQuestion] = []
        self._looks: set[IDelayedCall] = set()

    async def ask(self, brought: InQuestion, answer: Awaitable[bool]) -> bool:
        """The ``answer`` about what was brought."""
        self._asked.append(brought)
        try:
            return await answer
        finally:
            self._asked.remove(brought)

    def lost(self, brought: InQuestion, path: PeerPath, error: P2pxferError) -> None:
        """A path that carried it ended for this reason."""
        if was_cut_off(path, error) and brought in self._asked and not brought.attached:
            self._look_later(brought, self._place(), self._clock.seconds())

    def _look_later(self, brought: InQuestion, place: object | None, since: float) -> None:
        look = self._clock.callLater(GONE_S, lambda: self._look(look, brought, place, since))
        self._looks.add(look)

    def _look(self, look: IDelayedCall, brought: InQuestion, place: object | None, since: float) -> None:
        self._looks.remove(look)
        if brought not in self._asked or brought.attached or place is None or self._place() is not place:
            return
        if self._seeks(since):
            self._look_later(brought, place, self._clock.seconds())
        else:
            brought.abandon()

    def close(self) -> None:
        """Look at nothing any more."""
        for look in self._looks:
            look.cancel()
        self._looks.clear()
