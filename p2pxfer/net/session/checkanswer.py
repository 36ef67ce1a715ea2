"""The receiving side of a check: measures this machine's NAT for a contact, and says what became of the punch.

Laws of this file:

1. One measurement at a time, whoever asks, and its result is good for ``FRESH_S`` seconds: the server dials back a few
   times a minute only.
2. Nothing is measured before this side's own punch of that meeting is over.
"""

from __future__ import annotations

from typing import Final
from weakref import WeakSet

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from p2pxfer.core.session.wire import Checked
from p2pxfer.core.traversal.discovery import Inbound
from p2pxfer.errors import ProtocolBreach
from p2pxfer.net.debuglog import Logger
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.traversal.probing import NatDiscovery
from p2pxfer.net.types import Reactor
from p2pxfer.net.waiting import Waiting

FRESH_S = 30.0
"""How long a measurement is told again, seconds."""


def _unknown(why: str) -> Inbound:
    return Inbound(closed=why, unturned=why, unanswered=why, uncrossed=why)


_NOTHING: Final = _unknown("it could not be measured")
_FORBIDDEN: Final = _unknown("direct paths are not allowed")


class CheckAnswers:
    """Answers checks; ``close`` when no path is left."""

    log = Logger()

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._asked: dict[PeerPath, Deferred[None]] = {}
        self._meetings: WeakSet[Meeting] = WeakSet()
        self._measuring: Deferred[None] | None = None
        self._waiting = Waiting()
        self._found = _NOTHING
        self._found_at: float | None = None

    def __contains__(self, path: PeerPath) -> bool:
        return path in self._asked

    def asked(self, path: PeerPath, meeting: Meeting, discovery: NatDiscovery) -> None:
        """A contact asks over ``path``; it is answered there, if it stays.

        Raises:
            ProtocolBreach: it has asked there before.
        """
        self._meetings.add(meeting)
        if path in self._asked:
            raise ProtocolBreach("one path asked twice for a check")
        answering = Deferred.fromCoroutine(self._answer(path, meeting, discovery))
        self._asked[path] = answering
        answering.addErrback(lambda failure: self.log.debug("a check was not answered: {why}", why=failure.value))

    def ended(self, path: PeerPath, meeting: Meeting) -> bool:
        """The path is gone; whether its meeting was for a check."""
        answering = self._asked.pop(path, None)
        if answering is not None:
            answering.cancel()
        return meeting in self._meetings

    def close(self) -> None:
        """Answer nobody any more."""
        for answering in list(self._asked.values()):
            answering.cancel()
        if self._measuring is not None:
            self._measuring.cancel()

    async def _answer(self, path: PeerPath, meeting: Meeting, discovery: NatDiscovery) -> None:
        await meeting.decided()
        found = _FORBIDDEN
        if meeting.introduction.dial:
            await self._measured(discovery)
            found = self._found
        against = meeting.punch.tried if meeting.punch.plan_state == "withheld" else ""
        path.send(
            Checked(
                filtering=found.filtering,
                closed=found.closed,
                hairpin=found.hairpin,
                unturned=found.unturned,
                unsolicited=found.unsolicited,
                unanswered=found.unanswered,
                simultaneous=found.simultaneous,
                uncrossed=found.uncrossed,
                plan=meeting.punch.plan_state,
                against=against,
            )
        )

    async def _measured(self, discovery: NatDiscovery) -> None:
        """Wait for a measurement: a fresh one, or that which is under way."""
        if self._found_at is not None and self._reactor.seconds() - self._found_at < FRESH_S:
            return
        if self._measuring is None:
            self._measuring = Deferred.fromCoroutine(self._measure(discovery))
            self._measuring.addBoth(self._over)
        if self._measuring is not None:
            await self._waiting.moment()

    async def _measure(self, discovery: NatDiscovery) -> None:
        self._found, self._found_at = _NOTHING, None
        await discovery.settled()
        self._found = await discovery.inbound()
        self._found_at = self._reactor.seconds()

    def _over(self, result: object) -> None:
        self._measuring = None
        if isinstance(result, Failure) and not result.check(CancelledError):
            self.log.info("the measurement for a check failed: {why!r}", why=result.value)
        self._waiting.come()
