"""One introduction turned into paths: the relay leg, the punch, the greetings, and the choice of one direct path.

Laws of this file:

1. Relay and punch start at the same moment; neither waits for the other.
2. Every connection, dialled or accepted, makes its own TLS handshake and greeting.  The initiator of the introduction
   is the TLS client on all of them, since after a simultaneous open both ends dialled.
3. The initiator nominates: the first direct path that greeted, and beside it those that are other ways to the peer
   (:mod:`p2pxfer.net.session.ways`).  The responder keeps what is nominated.  All other direct connections are reset,
   so that they leave no state in the NATs.
4. A meeting that has no path and nothing under way any more says so once, with every reason it saw;
   who was asked and had a path gets no reasons that only say how it ended.
"""

from __future__ import annotations

import itertools
import os
from enum import Enum

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol
from twisted.python.failure import Failure

from p2pxfer.core.addresses import parse_endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.messages import ALPN_PEER, Introduction, PeerNat
from p2pxfer.core.server.experience import LOST, took
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.session.wire import Nominate, PathClass
from p2pxfer.errors import P2pxferError, Unreachable
from p2pxfer.net.connection.streams import SecureBootstrap
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.debuglog import Logger
from p2pxfer.net.session.parties import MeetingOwner, Party
from p2pxfer.net.session.path import PathFacts, PathOwner, PeerPath
from p2pxfer.net.session.punching import Punching
from p2pxfer.net.session.siblings import Siblings
from p2pxfer.net.session.ways import Ways
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.types import Reactor
from p2pxfer.net.waiting import Waiting
from p2pxfer.status import PathKind

MAX_GREETING = 16
"""Most connections of one introduction that have not been nominated: strangers may connect to the punch port too."""
NOMINATION_S = 10.0
"""How long after the punch a greeted connection may wait to be nominated, seconds."""
_numbers = itertools.count(1)


class _Life(Enum):
    ON = "paths are up, or may still come"
    FAILED = "there is no path any more and none can come, which the owner was told"
    UNHEARD = "the peer had probably lost its connection to the server, and never heard of the introduction"
    GIVEN_UP = "it was closed while a direct path might still have come"
    CLOSED = "it was closed when it was known whether there is a direct path"


class Meeting(PathOwner):
    """Everything that happens because of one introduction."""

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        introduction: Introduction,
        party: Party,
        client: RendezvousClient,
        owner: MeetingOwner,
    ) -> None:
        self.introduction = introduction
        self.party = party
        self.started = reactor.seconds()
        self._reactor = reactor
        self._client = client
        self._owner = owner
        self._is_client = party.role == "initiator"
        self._creator = PeerTLS(party.identity, party.peer_key, ALPN_PEER)
        self._greeting: set[PeerPath] = set()
        self._up: dict[PeerPath, None] = {}
        self._nominated: PeerPath | None = None
        """The first direct path that stays."""
        self._ways = Ways()
        self._made_by: dict[PeerPath, str] = {}
        """The way to which direct connections belong that are not up yet."""
        self.punch = Punching(reactor, introduction, party, client, self._protocol, self._may_come, self._punched)
        self._leg: Deferred[IProtocol] | None = None
        self._nomination: IDelayedCall | None = None
        self._reasons: list[P2pxferError] = []
        self.siblings = Siblings(reactor, client, self._creator, self, self._make_path, self._raise)
        self._undecided = Waiting()
        self._life = _Life.ON
        self.had_path = False
        """Whether any path of this meeting was ever up."""
        client.informed[introduction.session] = self

    # -- start and stop ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Join the relay and punch, as far as the introduction allows either."""
        introduction = self.introduction
        if introduction.dial:
            self.punch.start()
        if introduction.relay_token is not None:
            path = self._make_path("relay", "", "")
            self._leg = self._client.join_relay(introduction.relay_token, path, self._creator, self._is_client)
            self._leg.addBoth(self._leg_ended, path)
        self._check_failed()

    async def decided(self) -> None:
        """Wait until a direct path is up, none can come any more, or it is given up; some 20 seconds at most."""
        if self._may_come():
            await self._undecided.moment()

    def _may_come(self) -> bool:
        """A direct path is looked for, or greets, and none is up."""
        greets = self.punch.under_way or any(path.facts.kind != "relay" for path in self._greeting)
        return greets and self._life is _Life.ON and (self._nominated is None or self._nominated in self._greeting)

    def _check_decided(self) -> None:
        if not self._may_come():
            self._undecided.come()

    def close(self) -> None:
        """End everything; paths that are up are closed in order, all else is reset."""
        if self._life is _Life.ON:
            self._life = _Life.GIVEN_UP if self._may_come() else _Life.CLOSED
        if self._nomination is not None and self._nomination.active():
            self._nomination.cancel()
        self.punch.stop()
        if self._leg is not None:
            self._leg.cancel()
        self.siblings.close()
        for path in list(self._greeting):
            path.fail(Unreachable("the meeting is over"))
        for path in list(self._up):
            path.close()
        self._check_decided()

    def peer_nat(self, news: PeerNat) -> None:
        """See :class:`~p2pxfer.net.traversal.asking.Informed`."""
        self.punch.peer_nat(news)

    def peer_returned(self) -> None:
        """See :class:`~p2pxfer.net.traversal.asking.Informed`."""
        if self._life is not _Life.ON or self.had_path:
            return
        self._life = _Life.UNHEARD
        self._reasons.append(Unreachable("the peer lost its connection to the server"))
        self.close()
        self._owner.meeting_failed(self, self._reasons)

    def peer_mapped(self, mapped: list[str]) -> None:
        """See :class:`~p2pxfer.net.traversal.asking.Informed`."""
        self.punch.peer_mapped(mapped)

    @property
    def unheard(self) -> bool:
        """The peer never heard of the introduction."""
        return self._life is _Life.UNHEARD

    @property
    def given_up(self) -> bool:
        """It ended while a direct path might still have come: nothing was decided."""
        return self._life in (_Life.UNHEARD, _Life.GIVEN_UP)

    @property
    def punching(self) -> bool:
        """A direct path may still come."""
        return self.punch.under_way

    @property
    def paths(self) -> list[PeerPath]:
        """What is up."""
        return list(self._up)

    # -- connections ---------------------------------------------------------------------------------------------

    def _protocol(self, kind: PathKind, port: int, remote: str) -> IProtocol | None:
        """The protocol for a direct connection."""
        if self._life is not _Life.ON or not self._ways.is_new(_host(remote)) or len(self._greeting) >= MAX_GREETING:
            return None
        path = self._make_path(kind, f"port {port}", remote)
        if self.punch.under_way and self._nominated is None:
            self._made_by[path] = self.punch.made_by
        return SecureBootstrap(self._reactor, path, self._creator, is_client=self._is_client)

    def _make_path(
        self, kind: PathKind, local: str, remote: str, beside: PeerPath | None = None, owner: PathOwner | None = None
    ) -> PeerPath:
        purpose: PathClass = "beside" if beside is not None else "relay" if kind == "relay" else "direct"
        terms = self.party.terms(self.introduction.session, purpose, os.urandom(32))
        facts = PathFacts(next(_numbers), kind, local, remote, 0 if beside is None else beside.facts.group)
        path = PeerPath(facts, terms, owner or self, self._reactor)
        if beside is None:
            self._greeting.add(path)
        return path

    def _leg_ended(self, result: IProtocol | Failure, path: PeerPath) -> None:
        """The relay leg stands, or there is none."""
        self._leg = None
        if isinstance(result, Failure):
            self._greeting.discard(path)
            error = result.value
            self._reasons.append(error if isinstance(error, P2pxferError) else Unreachable(result.getErrorMessage()))
            self._check_failed()

    def _punched(self) -> None:
        if self._nominated is None:
            if self.had_path and self._life is _Life.ON:  # the relay stood, so the peer took part
                self._client.outcome(self.introduction.session, self.punch.way, LOST)
            for (host, port), why in self.punch.errors.items():
                self._reasons.append(Unreachable(f"{host}:{port}: {why}"))
        if self._life is _Life.ON and self._greeting:
            self._nomination = self._reactor.callLater(NOMINATION_S, self._drop_losers)
        self._check_failed()

    def _drop_losers(self, kept: PeerPath | None = None) -> None:
        """Reset every direct connection that greets and is not ``kept``, nor another way beside what is."""
        for other in list(self._greeting):
            if other is kept or other.facts.kind == "relay":
                continue
            if kept is None or not self._ways.is_new(_host(other.facts.remote)):
                other.fail(Unreachable("another direct path was nominated, or none in time"))

    def _check_failed(self) -> None:
        self._check_decided()
        waiting = self._up or self._greeting or self._leg is not None or self.punch.under_way
        if not waiting and self._life is _Life.ON:
            self._life = _Life.FAILED
            self._owner.meeting_failed(self, self._news())

    def _news(self) -> list[P2pxferError]:
        """Why there is no path, for the owner to say.

        Who was asked, and had one, was told of its end already: what came to its end with it, or gave way, is no news.
        """
        if self._is_client or not self.had_path:
            return self._reasons
        for reason in self._reasons:
            self.log.debug("a path of a meeting that is over: {reason}", reason=reason)
        return [reason for reason in self._reasons if not isinstance(reason, Unreachable)]

    # -- from the paths ------------------------------------------------------------------------------------------

    def path_greeted(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        if self._life is not _Life.ON:
            path.fail(Unreachable("the meeting is over"))
        elif path.facts.kind == "relay":
            self._raise(path)
        elif self.party.role == "initiator":
            if self._ways.is_new(_host(path.facts.remote)):
                path.send(Nominate())
                self._keep(path)
            else:
                path.fail(Unreachable("another direct path was nominated"))

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        direct = path.facts.kind != "relay"
        if isinstance(message, Nominate) and direct and self.party.role == "responder" and path in self._greeting:
            if self._ways.is_new(_host(path.facts.remote)):
                self._keep(path)
            else:
                path.fail(Unreachable("another direct path was nominated"))
        elif path in self._up and not (direct and self.siblings.receive(path, message)):
            self._owner.path_message(path, message)

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        self._owner.path_chunk(path, chunk)

    def path_writable(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        self._owner.path_writable(path)

    def path_lost(self, path: PeerPath, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        self._greeting.discard(path)
        self._made_by.pop(path, None)
        was_up = path in self._up
        self._up.pop(path, None)
        if was_up and all(other.facts.group != path.facts.group for other in self._up):
            self._ways.lost(path.facts.group)
        if self._is_client or not was_up:
            self._reasons.append(error)
        self.siblings.lost(path)
        if self._nominated is not None and all(other.facts.kind == "relay" for other in self._up):
            self.punch.stop()  # it looks for what may be of use beside a direct path
        if was_up:
            self._owner.path_down(self, path, error)
        self._check_failed()

    def _keep(self, path: PeerPath) -> None:
        """The nominated path stays, and of the others only what is another way."""
        self._ways.take(path.facts.group, _host(path.facts.remote))
        if self._nominated is None:
            self._nominated = path
            told = self.punch.candidates.through_nats(path.facts.kind, path.facts.remote)
            if told and (way := self._made_by.get(path)) is not None:
                self._client.outcome(self.introduction.session, way, took(self._reactor.seconds() - self.started))
            self._made_by.clear()
        self.punch.succeeded(self._ways.is_new)
        self._drop_losers(path)
        self._raise(path)

    def _raise(self, path: PeerPath) -> None:
        self._greeting.discard(path)
        self.had_path = True
        self._up[path] = None
        self._owner.path_up(self, path)
        self._check_decided()


def _host(endpoint: str) -> str:
    return str(parse_endpoint(endpoint).host)
