"""Finds out how this machine's NAT maps and how it chooses ports, beside everything else: nobody waits for it.

Laws of this file:

1. The punch port opens one observation connection to each further endpoint of the server; they stay open.
2. Only where they show that the mapping depends on the destination are ports probed
   (:mod:`p2pxfer.net.traversal.portprobes`).
3. Every wait has an end: ``OBSERVE_S``, ``FLIGHT_S``.  Probes are reset as soon as they are answered.
4. Where the server has an address of the other family and there is a way to it, it is asked there too.  An introduction
   may have come before that answer, so the other side of a meeting is then told to look again.
5. What is found goes to the server, and to the other side of every meeting of the last ``MEETING_S`` seconds for which
   it is news.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol

from p2pxfer.core.addresses import (
    Address,
    Endpoint,
    canonical_endpoint,
    may_observe,
    parse_endpoint,
)
from p2pxfer.core.codec import Message
from p2pxfer.core.messages import VERSION, Introduction, NatSummary, Observe, Observed, Registered, Report
from p2pxfer.core.traversal import discovery
from p2pxfer.core.traversal.discovery import DEPENDENT, MEETING_S, Allocation, Inbound, Mapping, View
from p2pxfer.errors import P2pxferError
from p2pxfer.net.connection.serverlink import ServerLink
from p2pxfer.net.debuglog import Logger
from p2pxfer.net.traversal.flight import Opener
from p2pxfer.net.traversal.inbound import InboundChecks, Placement
from p2pxfer.net.traversal.ownaddresses import source_towards
from p2pxfer.net.traversal.portprobes import PortProbes
from p2pxfer.net.types import Reactor
from p2pxfer.net.waiting import Waiting

OBSERVE_S = 8.0
"""How long the server's other endpoints may take to answer, seconds."""
SETTLED_S = 5.0
"""An address of the other family that was seen so long ago was in every introduction since, seconds."""
MAX_MEETINGS = 64
"""Most meetings that are told of news; of more the last ones."""


class _Told(Struct):
    """What the other side of a meeting knows: since when it may ask, of the NAT, and whether of both families."""

    since: float
    nat: NatSummary
    both: bool


class NatDiscovery:
    """What is known of this machine's NAT, as registrations come and go.

    ``opener`` dials the server; ``send`` writes to the control connection; ``may_probe`` is False where nobody will be
    dialled anyway.  ``watch`` hears, in words, of each step.
    """

    log = Logger()

    def __init__(self, reactor: Reactor, opener: Opener, send: Callable[[Message], None], may_probe: bool) -> None:
        self._reactor = reactor
        self._opener = opener
        self._send = send
        self._may_probe = may_probe
        self._probes = PortProbes(reactor, opener, self._landed, self._recent, self._say)
        self._own: frozenset[Address] = frozenset()
        self._at: Endpoint | None = None
        self._observers: dict[ServerLink, Endpoint] = {}
        self._openings: dict[ServerLink, Deferred[IProtocol]] = {}
        self._unseen: set[ServerLink] = set()
        self._awaited: set[ServerLink] = set()
        self._deadline: IDelayedCall | None = None
        self._reported = NatSummary()
        self._meetings: dict[bytes, _Told] = {}
        self._both_at: float | None = None
        self._waiting = Waiting()
        self.watch: Callable[[str], None] = lambda text: None
        self.on_view: Callable[[], None] = lambda: None
        """Called when the server has seen this machine once more."""
        self.views: list[View] = []
        self.checks = InboundChecks(reactor, opener, self._placement)
        self.tag = 0
        """The punch port, 0 before the first registration."""
        self.endpoints_asked = 0
        """How many further endpoints the server named that can be asked."""
        self.source6: str | None = None
        """The own IPv6 address that the server is to see, and from which peers are dialled; ``None`` without IPv6."""

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def mapping(self) -> Mapping:
        """How the NAT maps the punch port."""
        shown = discovery.mapping_of(discovery.one_family(self.views), self._own)
        return shown if self.allocation is None else self.allocation.refined(shown)

    @property
    def allocation(self) -> Allocation | None:
        """How it chooses ports, once probes have shown it."""
        return self._probes.allocation

    @property
    def summary(self) -> NatSummary:
        """All that is known, for the wire."""
        mapping = self.mapping
        if mapping in DEPENDENT and self.allocation is not None and self.allocation.ports != "unknown":
            return self.allocation.summary(mapping)
        ports = discovery.binding_ports(discovery.one_family(self.views), self.tag)
        return NatSummary(mapping, ports, simultaneous=self.checks.simultaneous)

    @property
    def seen(self) -> frozenset[Endpoint]:
        """The endpoints that the server saw of the punch port."""
        return frozenset(view.seen for view in self.views)

    @property
    def under_way(self) -> bool:
        """More may be known soon."""
        return bool(self._awaited) or self._probes.under_way

    async def settled(self, *, thoroughly: bool = False) -> None:
        """Wait until nothing more is under way, at most ``OBSERVE_S`` + ``FLIGHT_S`` seconds.

        ``thoroughly``: and what no punch waits for, at most ``CHECK_S`` seconds more.
        """
        if self.under_way:
            await self._waiting.moment()
        if thoroughly:
            await self._probes.thorough()

    async def inbound(self) -> Inbound:
        """What the NAT does with connections that come in."""
        found = await self.checks.all()
        self._tell()
        return found

    async def find_crossing(self) -> None:
        """See whether the NAT lets SYNs in that cross its own, and tell everybody who has to know."""
        await self.checks.crossing()
        self._tell()

    async def look_again(self) -> bool:
        """See which port a NAT that counts gives out next, and tell whoever meets this machine just now, also that it
        is the one of before; whether it could be seen."""
        before, known = self.allocation, self.summary
        self._consider_probes()
        await self.settled()
        found = self.allocation
        if found is None or found is before or found.ports == "unknown":
            return False
        if self.summary == known:
            for told in self._meetings.values():
                told.nat = NatSummary()
            self._tell()
        return True

    def _say(self, text: str) -> None:
        self.watch(text)

    def _placement(self) -> Placement | None:
        if self._at is None:
            return None
        return Placement(self._at, self._own, tuple(self.views), self.mapping)

    # -- registrations -------------------------------------------------------------------------------------------

    def begin(self, at: Endpoint, tag: int, answer: Registered, own: frozenset[Address]) -> None:
        """A registration stands, from the local port ``tag`` to ``at`` at the server; ``own`` are addresses here."""
        self.end()
        self.tag, self._own, self._at = tag, own, at
        self._reported = NatSummary()
        self._both_at = None
        self.source6 = source_towards(at) if at.host.version == 6 else None
        self.views = [View(canonical_endpoint(parse_endpoint(answer.observed)), at)]
        named = (canonical_endpoint(parse_endpoint(text)) for text in answer.observers)
        observers = [observer for observer in named if may_observe(observer, at) and self._way_to(observer)]
        self.endpoints_asked = len(observers)
        # Many a network has a way out for IPv6 that leads nowhere: what is found of IPv4 does not wait for it.
        judged = min([at.host.version, *(observer.host.version for observer in observers)])
        for observer in observers:
            self._observe(observer, awaited=observer.host.version == judged)
        if self._awaited:
            self._deadline = self._reactor.callLater(OBSERVE_S, self._too_late)

    def _way_to(self, observer: Endpoint) -> bool:
        """Whether there is one; of IPv6 the first that there is decides from which address peers are dialled."""
        if observer.host.version == 6 and self.source6 is None:
            self.source6 = source_towards(observer)
        return observer.host.version == 4 or self.source6 is not None

    def end(self) -> None:
        """The control connection is gone, and with it everything beside it."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self.checks.end()
        self._awaited.clear()
        self._unseen.clear()
        observers, self._observers = self._observers, {}
        openings, self._openings = self._openings, {}
        for opening in openings.values():
            opening.cancel()
        for observer in observers:
            observer.close()
        self._at = None
        self.views = []
        self._meetings.clear()
        self._probes.stop()
        self._settle()

    def introduced(self, introduction: Introduction) -> None:
        """A meeting begins, in either role: its other side wants to know what is found from now on."""
        if not introduction.dial:
            return
        now = self._reactor.seconds()
        both = self._both_at is not None and now - self._both_at > SETTLED_S
        self._meetings[introduction.session] = _Told(now, introduction.my_nat, both)
        if len(self._meetings) > MAX_MEETINGS:
            del self._meetings[next(iter(self._meetings))]
        self._consider_probes()
        self._tell_of_both()
        self._tell()

    # -- the mapping ---------------------------------------------------------------------------------------------

    def _observe(self, observer: Endpoint, awaited: bool) -> None:
        """Open an observation connection from the punch port; it stays open.

        ``awaited``: the mapping is not known before it answers.
        """
        link = ServerLink(self._reactor, self._on_observed, self._observer_lost)
        self._observers[link] = canonical_endpoint(observer)
        self._unseen.add(link)
        if awaited:
            self._awaited.add(link)
        tag = self.tag
        link.secured.addCallbacks(lambda _: link.send(Observe(version=VERSION, tag=tag)), lambda _: None)
        opening = self._openings[link] = self._opener(link, str(observer.host), observer.port, tag)
        opening.addErrback(lambda failure: self._not_observed(link, failure.getErrorMessage()))

    def _on_observed(self, link: ServerLink, message: Message) -> None:
        if not isinstance(message, Observed) or link not in self._unseen:
            return
        self._unseen.discard(link)
        view = View(canonical_endpoint(parse_endpoint(message.observed)), self._observers[link])
        self.views.append(view)
        self.watch(f"seen as {view.seen} at {view.at}")
        if self._both_at is None and len({view.seen.host.version for view in self.views}) > 1:
            self._both_at = self._reactor.seconds()
            self._tell_of_both()
        self.on_view()
        self._consider_probes()
        self._answered(link)

    def _observer_lost(self, link: ServerLink, error: P2pxferError) -> None:
        self._not_observed(link, error.message)

    def _not_observed(self, link: ServerLink, why: str) -> None:
        if self._observers.pop(link, None) is not None:
            self.log.debug("an observation connection ended: {why}", why=why)
        self._answered(link)

    def _answered(self, link: ServerLink) -> None:
        if link in self._awaited:
            self._awaited.discard(link)
            if not self._awaited:
                self._observed_all()

    def _too_late(self) -> None:
        """What has not answered by now does not count any more."""
        self._unseen.clear()
        self._awaited.clear()
        self._observed_all()

    def _observed_all(self) -> None:
        """Every endpoint that is waited for has answered, or will not."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._tell()
        self._settle()

    # -- ports ---------------------------------------------------------------------------------------------------

    def _consider_probes(self) -> None:
        if self._may_probe:
            self._probes.consider(discovery.one_family(self.views), self.mapping)

    def _recent(self) -> bool:
        """Somebody meets this machine just now; forgets those who did before."""
        now = self._reactor.seconds()
        self._meetings = {session: told for session, told in self._meetings.items() if now - told.since < MEETING_S}
        return bool(self._meetings)

    def _landed(self) -> None:
        if self._at is not None:
            self._tell()
        self._settle()

    # -- telling -------------------------------------------------------------------------------------------------

    def _tell_of_both(self) -> None:
        """Where an introduction came before the server saw this side at both families, have the peer told now."""
        if self._both_at is None:
            return
        self._recent()
        for session, told in self._meetings.items():
            if not told.both:
                told.both = True
                self._send(Report(None, session))

    def _tell(self) -> None:
        """Let the server know what is new, and through it whoever meets this machine just now."""
        summary = self.summary
        # One view that differs decides; that all agree takes all of them.
        open_yet = bool(self._awaited) and summary.mapping not in DEPENDENT
        if summary.mapping == "unknown" or open_yet or self._probes.under_way:
            return
        self._recent()
        for session, told in self._meetings.items():
            if told.nat != summary:
                told.nat = summary
                self._reported = summary
                self._send(Report(summary, session))
        if self._reported != summary and (summary.mapping in DEPENDENT or summary.simultaneous != "unknown"):
            self._reported = summary
            self._send(Report(summary))

    def _settle(self) -> None:
        if not self.under_way:
            self._waiting.come()
