"""Asking for introductions: whom a sending job waits for, and when it wants to meet the peer again.

Laws of this file:

1. Whatever breaks, another introduction is asked for, until the owner ends the search or nothing is left to hope for.
2. There is a pause before each introduction that follows a failure, so that no fault becomes a loop; only the first
   one that the peer never heard of is repeated at once.  Pauses are short again when a path was of use, not because
   there was one: whoever ends each at once is asked for more and more seldom.
3. After a punch the next one starts from a fresh port, since the ports of the last one may be spoilt for the same pair
   of endpoints (see the puncher), except where the peer never read the introduction.
4. While the relay carries and a direct path is wanted, one is looked for again when that is due
   (:mod:`p2pxfer.core.session.upgrades`).  An attempt that repeats one that failed is made beside what stands: it
   brings no relay leg, and that it fails is no news.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol as Interface

from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from p2pxfer.core.backoff import Backoff
from p2pxfer.core.contact.codes import Code
from p2pxfer.core.messages import Introduction, PathPolicy
from p2pxfer.core.session.verdict import should_meet
from p2pxfer.errors import IdentityMismatch, NameTaken, NoDirectPath, P2pxferError, Unreachable
from p2pxfer.net.session.knownpeers import itself
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.standing import Standing
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.types import Reactor
from p2pxfer.status import Verified

RESEEK_S = 0.7
"""How long a transfer that was cut waits for a path before it asks for another introduction, seconds: a peer whose own
connection to the server was lost unnoticed hears of the next one only."""
RESEEK_TRIPS = 8
"""The same in round trips to the peer, where that is longer."""
LONGEST_PAUSE_S = 5.0
"""Longest pause between two introductions, seconds."""
UNWANTED_S = 60.0
"""The same where the peer was met and ended what came of it at once, seconds: it may not be able to take anything."""
WAIT_S = 20
"""How long the server is to wait for a peer that may come before it is asked again, seconds: only then is a contact
noticed that has come back with another key."""


class Target(Struct, frozen=True):
    """Whom to send to.

    ``to`` is what the server is asked for; ``key`` the digest that the peer must have (``None``: the one that a code
    will prove); ``name`` the registered name that it must have, if it was named; ``alias`` the contact's name here,
    asked for as well when nobody has the key, to notice a peer that came back with another one; ``code`` proves a
    first contact; ``called`` is how people know the peer where ``to`` is a name of the program's own.
    """

    to: str
    key: bytes | None
    name: str | None
    alias: str | None
    verified: Verified
    code: Code | None
    called: str | None = None

    @property
    def shown(self) -> str:
        """How people know the peer."""
        return self.called or self.alias or self.name or self.to

    def proved_by(self, code: Code) -> Target:
        """The same peer, which is to prove ``code``; a contact only if it has forgotten this machine."""
        return replace(self, code=code, verified="contact" if self.verified == "contact" else "code")


class Patience(Struct, frozen=True):
    """``wait``: go on while the peer is not there at all; ``without_path``: longest time without any path, seconds."""

    wait: bool
    without_path: float


class SeekingOwner(Interface):
    """The job, as the search sees it."""

    @property
    def standing(self) -> Standing:
        """What there is now."""

    @property
    def begun(self) -> bool:
        """The peer was there before, or may come later: its absence ends nothing."""

    @property
    def cut(self) -> bool:
        """A transfer that was under way has no path that carries it."""

    @property
    def confirmed(self) -> int:
        """Bytes that the peer has confirmed."""

    @property
    def paths(self) -> PathSet:
        """What is up, how long round trips were, and when a direct path is due while the relay carries."""

    def meet(self, introduction: Introduction, *, beside: bool) -> Meeting:
        """Begin a meeting, ``beside`` a relay that carries or not. Raises :class:`~p2pxfer.errors.IdentityMismatch`."""

    def not_met(self, error: P2pxferError) -> None:
        """Why there was no introduction, to be remembered."""


class Seeking:
    """The search of one job, until :meth:`run` is cancelled."""

    def __init__(
        self,
        reactor: Reactor,
        client: RendezvousClient,
        target: Target,
        policy: PathPolicy,
        owner: SeekingOwner,
        first: Introduction | None = None,
    ) -> None:
        """``first``: an introduction that ``client`` got a moment ago, to begin with."""
        self._first = first
        self._reactor = reactor
        self._client = client
        self._target = target
        self._policy = policy
        self._owner = owner
        self._wanted: Deferred[None] = Deferred()
        self._backoff = Backoff(random.random, longest=LONGEST_PAUSE_S)
        self._unwanted = Backoff(random.random, longest=UNWANTED_S)
        """Pauses after paths that the peer ended before they were of any use."""
        self._meeting: Meeting | None = None
        """The last one."""
        self._unheard = False
        """The last meeting was one of which the peer never heard."""
        self._met = (0, 0.0)
        """What was confirmed when the last meeting began, and when that was."""

    def wake(self) -> None:
        """The present meeting is not enough: another introduction is wanted."""
        if not self._wanted.called:
            self._wanted.callback(None)

    async def run(self) -> None:
        """Ask for introductions for as long as one is needed.

        Raises:
            P2pxferError: nothing is left to hope for.
        """
        while True:
            beside = False
            try:
                await self._client.when_registered()
                beside = self._repeats()
                introduction = await self._introduce(beside)
                if beside and self._owner.standing is not Standing.RELAYED:
                    await self._until_due()
                    continue
                self._wanted = Deferred()
                meeting = self._owner.meet(introduction, beside=beside)
                now = self._reactor.seconds()
                self._owner.paths.upgrades.tried(now)
                self._meeting, self._met = meeting, (self._owner.confirmed, now)
                Deferred.fromCoroutine(self._decided(meeting))
                await self._until_wanted(meeting)
                await self._prepare(meeting)
            except CancelledError:
                return
            except P2pxferError as error:
                if not beside or isinstance(error, IdentityMismatch):
                    self._owner.not_met(error)
                    if self._ends_the_search(error):
                        raise
                if self._owner.standing is Standing.RELAYED:
                    self._owner.paths.upgrades.unanswered(self._reactor.seconds())
                await self._until_due()
                await self._pause(self._backoff)

    def _repeats(self) -> bool:
        """Whether the next attempt repeats one that brought no direct path, while the relay carries."""
        relayed = self._policy == "auto" and self._owner.standing is Standing.RELAYED
        return relayed and self._owner.paths.upgrades.repeated

    async def _prepare(self, meeting: Meeting) -> None:
        """What has to happen between a meeting that is not enough and the next introduction."""
        again, self._unheard = self._unheard, meeting.unheard
        if meeting.unheard:
            if again:
                await self._until_due()
                await self._pause(self._backoff)
            return
        was_up = meeting.had_path or meeting.party.beside
        match self._owner.standing:
            case Standing.DOUBTED:
                # A relay leg that is left went through the same NAT; a new introduction brings another one.
                if was_up:
                    self._backoff.reset()
                    await self._client.renew()
                else:
                    await self._client.renew()
                    await self._pause(self._backoff)
                return
            case Standing.RELAYED | Standing.DIRECT:
                await self._until_due()
            case Standing.NOTHING if was_up and self._was_of_use():
                self._backoff.reset()
                self._unwanted.reset()
        unwanted = was_up and self._owner.standing is Standing.NOTHING and not self._was_of_use()
        await self._pause(self._unwanted if unwanted else self._backoff)
        await self._client.renew()

    def _was_of_use(self) -> bool:
        """Whether something was confirmed since the last introduction, or that was long ago: then hurry is no loop."""
        before, at = self._met
        return self._owner.confirmed > before or self._reactor.seconds() - at >= LONGEST_PAUSE_S

    async def _until_due(self) -> None:
        """Wait while what there is will do: a direct path, or the relay until another attempt is due."""
        while (standing := self._owner.standing) in (Standing.RELAYED, Standing.DIRECT):
            left = self._owner.paths.upgrades.due - self._reactor.seconds()
            if standing is Standing.DIRECT:
                self._wanted = Deferred()
                await self._wanted
            elif left > 0:
                self._wanted = Deferred()
                await self._until_woken((left, self.wake))
            else:
                return

    async def _pause(self, pauses: Backoff) -> None:
        await deferLater(self._reactor, pauses.next())

    async def _until_wanted(self, meeting: Meeting) -> None:
        """Wait until another introduction is wanted; a cut transfer does not wait long for a meeting to fail.

        A relay leg takes five round trips.
        """
        patience = max(RESEEK_S, RESEEK_TRIPS * self._owner.paths.slowest_trip)
        due = self._owner.paths.upgrades.due - self._reactor.seconds()
        await self._until_woken(
            (patience, lambda: self._still_cut(meeting)), (due, lambda: self._still_relayed(meeting))
        )

    async def _until_woken(self, *late: tuple[float, Callable[[], None]]) -> None:
        """Wait for :meth:`wake`; each of ``late`` is called if that takes so many seconds."""
        timers = [self._reactor.callLater(seconds, call) for seconds, call in late]
        try:
            await self._wanted
        finally:
            for timer in timers:
                if timer.active():
                    timer.cancel()

    async def _decided(self, meeting: Meeting) -> None:
        """Where a punch should have succeeded it is repeated once before long."""
        await meeting.decided()
        unlucky = not meeting.given_up and not meeting.party.beside and should_meet(*meeting.punch.nats)
        if unlucky and meeting is self._meeting and self._owner.standing is Standing.RELAYED:
            self._owner.paths.upgrades.soon(self._reactor.seconds())
            self._still_relayed(meeting)

    def _still_relayed(self, meeting: Meeting) -> None:
        """Where a side allows no direct path none is looked for again."""
        if self._policy == "auto" and meeting.introduction.dial and self._owner.standing is Standing.RELAYED:
            self.wake()

    def _still_cut(self, meeting: Meeting) -> None:
        if self._owner.cut and not meeting.had_path and self._policy != "direct":
            self.wake()

    def _ends_the_search(self, error: P2pxferError) -> bool:
        """Whether the failure to be introduced leaves nothing to hope for."""
        standing = self._owner.standing is not Standing.NOTHING
        if standing and not isinstance(error, IdentityMismatch):
            return False
        if not error.retry or isinstance(error, NoDirectPath):
            return True
        return isinstance(error, Unreachable) and not self._owner.begun

    async def _introduce(self, beside: bool) -> Introduction:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        target = self._target
        absent = f"{target.shown} is not here now: start p2pxfer receive there, or wait for it with --wait"
        if target.key is None:
            absent += "; or the name is spelled otherwise there"
        wait_s = WAIT_S if self._owner.begun and not beside else 0
        policy = "direct" if beside else self._policy
        return await introduced_to(self._client, target.to, target.alias, policy, absent, wait_s)


async def introduced_to(
    client: RendezvousClient, to: str, alias: str | None, policy: PathPolicy, absent: str, wait_s: int = 0
) -> Introduction:
    """Ask for ``to``; if nobody with that key is there, look whether the name ``alias`` is there with another one.

    If neither is, the server may wait ``wait_s`` seconds for ``to``.

    Raises:
        Unreachable: neither is there, in the words of ``absent``; or the server is not.
        UsageError: it is this machine itself.
    """
    asked = [(to, wait_s)] if alias is None else [(to, 0), (alias, 0), *([(to, wait_s)] if wait_s else [])]
    gone: Unreachable | None = None
    for one, wait in asked:
        try:
            return await client.introduce(one, policy, wait)
        except NameTaken as error:
            # What is no name is not asked for, so the server says this of the asking machine's own.
            raise itself(alias or one) from error
        except Unreachable as error:
            if client.registered is None:
                raise
            gone = error
    raise Unreachable(absent) from gone
