"""How long a session goes on without any path, and how long its paths may take to end.

Both belong to whoever has paths to a peer, and tells them when one is there and when the last one is gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from p2pxfer.core.words.parting import parted_text
from p2pxfer.errors import Incomplete, P2pxferError, PeerStopped, Unreachable
from p2pxfer.net.types import Reactor

FAREWELL_S = 3.0
"""How long the end of a session may take, seconds."""
STOPPED_S = 0.5
"""How long a program that was stopped waits for its farewell to be heard, seconds."""
SLOW_FAREWELL_S = 8.0
"""The same at most, where a slow line still takes what the kernel has of before, seconds."""
LOOK_S = 0.1
"""How often it is looked how far that is, seconds."""
FLEETING_S = 5.0
"""How long a path stands at most that changed nothing, seconds."""
LOST: Final = "the connection was lost; reconnecting"
"""What is said when the last path has gone: why stands with the path."""


class Pathless:
    """The time without any path: after ``seconds`` of it ``failed`` hears why; ``None`` waits for ever.

    ``shown`` is the peer for people.  ``cut()`` is what becomes of what was under way if the peer stays away, ``None``
    if nothing was.  ``left()`` says whether the peer took its leave, and all that is lost now is lost by that.
    ``unmet`` is what a user has to know where there never was a path.
    """

    def __init__(
        self,
        reactor: Reactor,
        shown: str,
        seconds: float | None,
        failed: Callable[[P2pxferError], None],
        cut: Callable[[], str | None],
        left: Callable[[], bool],
        unmet: str = "",
    ) -> None:
        self._reactor = reactor
        self._shown = shown
        self._seconds = seconds
        self._failed = failed
        self._cut = cut
        self._left = left
        self._unmet = unmet
        self._clock: IDelayedCall | None = None
        self._begun_at: float | None = None
        self._up_at: float | None = None
        """When the first of the paths came that there are now."""
        self._last: P2pxferError | None = None

    @property
    def last(self) -> P2pxferError | None:
        """Why the last path, or the last try to get one, came to nothing.

        That the peer took its leave stays the reason while all else follows from it.
        """
        return self._last

    @last.setter
    def last(self, error: P2pxferError | None) -> None:
        if not (isinstance(self._last, PeerStopped) and self._left()):
            self._last = error

    def said(self) -> str:
        """What a user is told when the last path has gone."""
        if not isinstance(self._last, PeerStopped):
            return LOST
        cut, left = self._cut(), parted_text(self._shown, self._last)
        if cut is None:
            return left
        if self._seconds is None:
            waits, then = "waiting for it to come back, however long", "if you end that before"
        else:
            waits, then = f"waiting up to {self._seconds:.0f} seconds for it to come back", "if it does not"
        # What is to be done then is no advice for now.
        return "; ".join(filter(None, [left, waits, f"{then}: {cut}" if cut else ""]))

    def begin(self, *, in_vain: bool = False) -> None:
        """There is no path now: somebody must give up in the end.

        ``in_vain``: the peer could do nothing.  If there was one for a moment only, it changed nothing, and the time
        goes on that had begun before it.
        """
        if self._seconds is None or self._clock is not None:
            return
        now = self._reactor.seconds()
        fleeting = self._up_at is not None and now - self._up_at <= FLEETING_S
        self._up_at = None
        if self._begun_at is None or not (in_vain and fleeting):
            self._begun_at = now
        left = max(0.0, self._begun_at + self._seconds - now)
        self._clock = self._reactor.callLater(left, self._out, self._seconds)

    def end(self) -> None:
        """There is one, or nobody waits for one any more."""
        self._unmet = ""
        if self._up_at is None:
            self._up_at = self._reactor.seconds()
        if isinstance(self._last, PeerStopped):
            self._last = None
        if self._clock is not None and self._clock.active():
            self._clock.cancel()
        self._clock = None

    def _out(self, waited: float) -> None:
        why = self.last.message if self.last is not None else "no path came about"
        cut = self._cut()
        if cut is not None:
            then = f"; {cut}" if cut else ""
            self._failed(Incomplete(f"{self._shown} has not been reachable for {waited:.0f} seconds ({why}){then}"))
        else:
            unmet = f"; {self._unmet}" if self._unmet else ""
            said = f"no connection to {self._shown} came about in {waited:.0f} seconds: {why}{unmet}"
            self._failed(Unreachable(said))


def _nothing() -> int:
    """Nothing is known."""
    return 0


class Parting:
    """The end of all paths to a peer, which may take ``seconds``."""

    def __init__(self, reactor: Reactor, seconds: float = FAREWELL_S) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._acknowledged: Callable[[], int] = _nothing
        self._seen = 0
        self._grown_at = self._latest = math.inf
        self._look_at: IDelayedCall | None = None
        self._parted: Deferred[None] = Deferred()

    def hurry(self, acknowledged: Callable[[], int] = _nothing) -> None:
        """A program that was stopped waits less, and longer while ``acknowledged()`` grows, as on a slow line."""
        self._seconds = STOPPED_S
        self._acknowledged = acknowledged

    @property
    def under_way(self) -> bool:
        """Somebody waits for the end."""
        return self._look_at is not None

    def heard(self) -> None:
        """One path has ended: the peer knows, and a farewell that a slow line brings later would be no news."""
        self._latest = self._reactor.seconds()

    def gone(self) -> None:
        """No path is left."""
        if not self._parted.called:
            self._parted.callback(None)

    async def wait(self) -> None:
        """Until no path is left, or the time is over."""
        if self._parted.called:
            return
        self._grown_at = self._reactor.seconds()
        self._latest = self._grown_at + SLOW_FAREWELL_S - self._seconds
        self._seen = self._acknowledged()
        self._look_later()
        try:
            await self._parted
        finally:
            if self._look_at is not None and self._look_at.active():
                self._look_at.cancel()
            self._look_at = None

    def _look_later(self) -> None:
        self._look_at = self._reactor.callLater(LOOK_S, self._look)

    def _look(self) -> None:
        """Give up when nothing was acknowledged for so long, or the last moment for that has passed."""
        now, seen = self._reactor.seconds(), self._acknowledged()
        if seen != self._seen and now <= self._latest:
            self._seen, self._grown_at = seen, now
        if now - self._grown_at < self._seconds:
            self._look_later()
        else:
            self.gone()
