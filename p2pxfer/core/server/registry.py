"""The rendezvous server without its sockets: who is here under which name, who meets whom, which bytes are joined.

What happens comes in as method calls (a connection opened, a message, a claim decided, a connection lost, a tick), what
is to be done comes out as a list of effects.  Transcript (``>`` in, ``<`` out)::

    > opened 1, received 1 Register(name="bob")     < ClaimName(1, "bob")
    > name_claimed 1 "new"                          < Send(1, Registered)
    > opened 2, received 2 Observe(tag)             < Send(2, Observed)       same key as 1: seen under the same tag
    > opened 3, received 3 Register()               < Send(3, Registered)
    > received 3 Introduce("bob")                   < Send(3, Introduction), Send(1, Introduction)
    > received 1 Report(nat, session)               < Send(3, PeerNat)
    > received 3 Introduce("eve", wait_s=30)        nothing yet: Introduction or Failure later
    > opened 4, received 4 JoinRelay(token of 3)
    > opened 5, received 5 JoinRelay(token of 1)    < Send(4, RelayReady), Send(5, RelayReady), PairRelay(4, 5)

Laws of this machine:

1. A connection plays the role that its first message gives it, and ``_HANDLERS`` says what is legal in each role;
   anything else ends the connection.  No sequence of calls raises.
2. Identity is the key of the connection's TLS handshake, never anything in a message.
3. A name belongs to one key.  The key's newest connection under that name holds it
   (:mod:`p2pxfer.core.server.claims`); the one before is told and closed.
4. After a ``Close`` or ``Abort`` nothing that arrives on that connection has any effect.
5. Nothing is dialled but the endpoint from which the asking connection itself comes, and, with one SYN and without a
   word, a port of the same address that is not the one of a common service.

It does not know: sockets, clocks, disks; what passes through a relay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.limits import Bucket
from p2pxfer.core.messages import (
    VERSION,
    Announce,
    Cross,
    CrossNow,
    CrossOutcome,
    DialBack,
    DialOutcome,
    Failure,
    Introduce,
    JoinRelay,
    KnockOutcome,
    Observe,
    Observed,
    Outcome,
    Ping,
    Pong,
    Register,
    RelayReady,
    Report,
)
from p2pxfer.core.server import introductions
from p2pxfer.core.server.claims import Claims
from p2pxfer.core.server.dialouts import DialOuts
from p2pxfer.core.server.effects import (
    Abort,
    Claim,
    Close,
    Effect,
    Listening,
    PairRelay,
    Send,
    ServerSettings,
    TouchName,
)
from p2pxfer.core.server.experience import Experience
from p2pxfer.core.server.links import Link, Links, Role
from p2pxfer.core.server.matchmaker import Matchmaker
from p2pxfer.core.server.relaydesk import RelayDesk
from p2pxfer.core.traversal.discovery import View
from p2pxfer.errors import FrameError, LimitReached, P2pxferError, ProtocolBreach

_SLEPT_S = 15.0
"""A gap between two ticks from which on this process must have been stopped, seconds."""


class Registry:
    """The machine.  ``entropy(n)`` gives ``n`` random bytes; ``now`` is monotonic seconds everywhere."""

    def __init__(self, entropy: Callable[[int], bytes], settings: ServerSettings, now: float) -> None:
        self.settings = settings
        self._links = Links()
        self._desk = RelayDesk(settings)
        self._matchmaker = Matchmaker(self._links, self._desk, entropy, settings)
        self._dials = DialOuts(self._matchmaker, entropy, settings)
        self._claims = Claims(self._links, settings)
        self._ticked = now

    def listens(self, listening: Listening) -> None:
        """Where the server can be reached; to be told before the first connection."""
        self._matchmaker.listening = listening

    # -- what happens --------------------------------------------------------------------------------------------

    def opened(
        self, conn: int, key: bytes, remote: Endpoint, local: Endpoint, now: float, round_trip: float = 0.0
    ) -> list[Effect]:
        """A TLS handshake ended: ``key`` is SHA-256 of the client's SPKI, the endpoints are canonical.

        ``conn`` is a number that no connection had before; ``round_trip`` is in seconds, 0.0 if unknown.
        """
        bucket = Bucket(self.settings.messages_per_second, self.settings.message_burst, now)
        self._links.add(Link(conn, key, View(remote, local), bucket, round_trip))
        return []

    def received(self, conn: int, message: Message, now: float) -> list[Effect]:
        """A client sent ``message``."""
        link = self._links.get(conn)
        if link is None or link.role is Role.CLOSED:
            return []
        if not link.messages.take(now):
            return self._fail(link, "E_RATE", "too many messages in a short time", now)
        self._links.heard(conn, now)
        return self._dispatch(link, message, now)

    def broken(self, conn: int, error: FrameError, now: float) -> list[Effect]:
        """A client sent bytes that are no message."""
        link = self._links.get(conn)
        if link is None or link.role is Role.CLOSED:
            return []
        if link.role is Role.LEG:
            return self._fail(link, "E_STATE", "data came before the relay was ready", now)
        return self._fail(link, error.word, str(error), now)

    def name_claimed(self, conn: int, claim: Claim, now: float) -> list[Effect]:
        """The store's answer to :class:`~p2pxfer.core.server.effects.ClaimName`."""
        link = self._links.get(conn)
        if link is None or link.role is not Role.CLAIMING:
            return []
        try:
            replaced = self._claims.decided(link, claim, now)
        except P2pxferError as error:
            return self._fail(link, error.word, str(error), now)
        effects: list[Effect] = []
        if replaced is not None:
            why = "this name was registered again from another place with the same key: replaced"
            effects += self._fail(replaced, "E_REPLACED", why, now)
        queued = self._claims.grant(link)
        effects += self._enter_control(link, now)
        for message in queued:
            effects += self._dispatch(link, message, now)
        return effects

    def dialled(self, conn: int, outcomes: Sequence[DialOutcome], unopened: KnockOutcome, now: float) -> list[Effect]:
        """The driver's answer to :class:`~p2pxfer.core.server.effects.DialOut`."""
        return self._dials.ended(self._observer(conn), outcomes, unopened)

    def deaf(self, conn: int, port: int, now: float) -> list[Effect]:
        """The driver's answer to :class:`~p2pxfer.core.server.effects.OpenDeaf`: the port, 0 if it could not be
        opened."""
        return self._dials.deaf(self._observer(conn), port)

    def crossed(self, conn: int, outcome: CrossOutcome, now: float) -> list[Effect]:
        """What came of a :class:`~p2pxfer.core.server.effects.OpenDeaf` in the end; its port is closed."""
        return self._dials.crossed(self._observer(conn), outcome)

    def _observer(self, conn: int) -> Link | None:
        link = self._links.get(conn)
        return link if link is not None and link.role is Role.OBSERVATION else None

    def lost(self, conn: int, now: float) -> list[Effect]:
        """A connection ended, for whatever reason."""
        link = self._links.get(conn)
        if link is None:
            return []
        effects = self._retire(link, now)
        self._links.remove(link)
        return effects

    def tick(self, now: float) -> list[Effect]:
        """Time passed; to be called about once a second."""
        gap, self._ticked = now - self._ticked, now
        if gap > _SLEPT_S:  # what clients sent meanwhile has not been read yet
            self._links.forgive(gap)
        effects: list[Effect] = []
        for link in self._links.quiet_since(now - self.settings.dead_s):
            effects += [*self._retire(link, now), Abort(link.conn)]
        effects += self._matchmaker.expire(now)
        for conn in self._desk.expire(now):
            waiting = self._links.get(conn)
            assert waiting is not None
            effects += self._fail(waiting, "E_PEER_GONE", "the other side did not come to the relay", now)
        return effects

    # -- what the driver may ask ---------------------------------------------------------------------------------

    def role(self, conn: int) -> Role:
        """What a connection is for; ``CLOSED`` if it is unknown."""
        link = self._links.get(conn)
        return Role.CLOSED if link is None else link.role

    @property
    def experience(self) -> Experience:
        """Which way led to a path between which kinds of NAT; the driver keeps it."""
        return self._matchmaker.reports.experience

    @property
    def counts(self) -> dict[str, int]:
        """What there is now, for logs and metrics."""
        return {
            "connections": len(self._links),
            "clients": self._links.count(Role.CONTROL),
            "legs": self._links.count(Role.LEG, Role.RELAYED),
            "names": self._links.names,
            "relays": self._desk.sessions,
            "tickets": self._desk.tickets,
            "meetings": self._matchmaker.reports.meetings,
            "waiting": self._matchmaker.waiting,
            "dropped_lan": self._matchmaker.dropped_lan,
        }

    # -- messages ------------------------------------------------------------------------------------------------

    def _dispatch(self, link: Link, message: Message, now: float) -> list[Effect]:
        handler = _HANDLERS.get((link.role, type(message)))
        if handler is None:
            if link.role is Role.CLOSED:
                return []
            return self._fail(link, "E_STATE", f"{type(message).__name__} is not allowed now", now)
        try:
            return handler(self, link, message, now)
        except P2pxferError as error:
            return self._fail(link, error.word, str(error), now)

    def _register(self, link: Link, message: Register, now: float) -> list[Effect]:
        _check_version(message.version)
        if self._links.controls(link.key) >= self.settings.controls_per_key:
            raise LimitReached(f"at most {self.settings.controls_per_key} control connections per key are allowed")
        link.tag, link.lan, link.path = message.tag, tuple(message.lan), message.path
        if message.name is None:
            return self._enter_control(link, now)
        return [self._claims.begin(link, message, now)]

    def _observe(self, link: Link, message: Observe, now: float) -> list[Effect]:
        _check_version(message.version)
        if self._links.observations(link.key) >= self.settings.observations_per_key:
            raise LimitReached(f"at most {self.settings.observations_per_key} observations per key are allowed")
        link.tag = message.tag
        self._links.enter(link, Role.OBSERVATION, now)
        return [Send(link.conn, Observed(link.tag, str(link.view.seen)))]

    def _dial_back(self, link: Link, message: DialBack, now: float) -> list[Effect]:
        return self._dials.back(link, message, now)

    def _cross(self, link: Link, message: Cross, now: float) -> list[Effect]:
        return self._dials.cross(link, now)

    def _cross_now(self, link: Link, message: CrossNow, now: float) -> list[Effect]:
        return self._dials.cross_now(link)

    def _join(self, link: Link, message: JoinRelay, now: float) -> list[Effect]:
        _check_version(message.version)
        other = self._desk.join(link.conn, link.key, message.token, now)
        if other is None:
            self._links.enter(link, Role.LEG, now)
            return []
        for leg in (self._links.get(other), link):
            assert leg is not None
            self._links.enter(leg, Role.RELAYED, now)
        limit = self.settings.relay_bytes
        ready = RelayReady(limit=limit)
        return [Send(other, ready), Send(link.conn, ready), PairRelay(other, link.conn, limit)]

    def _queue(self, link: Link, message: Message, now: float) -> list[Effect]:
        self._claims.wait(link, message)
        return []

    def _introduce(self, link: Link, message: Introduce, now: float) -> list[Effect]:
        return [*self._matchmaker.introduce(link, message, now)]

    def _report(self, link: Link, message: Report, now: float) -> list[Effect]:
        return [*self._matchmaker.reports.take(link, message, now)]

    def _outcome(self, link: Link, message: Outcome, now: float) -> list[Effect]:
        self._matchmaker.reports.ended(link, message, now)
        return []

    def _announce(self, link: Link, message: Announce, now: float) -> list[Effect]:
        return [*self._matchmaker.reports.announce(link, message, now)]

    def _ping(self, link: Link, message: Ping, now: float) -> list[Effect]:
        return [Send(link.conn, Pong())]

    # -- roles and ends ------------------------------------------------------------------------------------------

    def _enter_control(self, link: Link, now: float) -> list[Effect]:
        self._links.enter(link, Role.CONTROL, now)
        reply = introductions.welcome(self._matchmaker.listening, link.key, link.name, link.view, self.settings.ping_s)
        told = self._matchmaker.reports.returned(link, now)  # of meetings of before, not of those that begin now
        return [Send(link.conn, reply), *told, *self._matchmaker.arrived(link, now)]

    def _fail(self, link: Link, word: str, text: str, now: float) -> list[Effect]:
        """Tell a client why its connection ends, and end it."""
        effects = self._retire(link, now)
        return [*effects, Send(link.conn, Failure(word, text, fatal=True)), Close(link.conn)]

    def _retire(self, link: Link, now: float) -> list[Effect]:
        """Take back what a connection stands for; may be called again."""
        self._desk.leave(link.conn)
        self._matchmaker.left(link)
        self._matchmaker.reports.left(link, now)
        name = self._links.retire(link, now)
        return [] if name is None else [TouchName(name, link.key)]


def _check_version(version: int) -> None:
    if version != VERSION:
        raise ProtocolBreach(f"protocol version {version} is not supported; this server speaks {VERSION}")


_HANDLERS: dict[tuple[Role, type[Message]], Callable[[Registry, Link, Any, float], list[Effect]]] = {
    (Role.NEW, Register): Registry._register,
    (Role.NEW, Observe): Registry._observe,
    (Role.NEW, JoinRelay): Registry._join,
    (Role.CLAIMING, Introduce): Registry._queue,
    (Role.CLAIMING, Ping): Registry._queue,
    (Role.CLAIMING, Report): Registry._queue,
    (Role.CLAIMING, Outcome): Registry._queue,
    (Role.CLAIMING, Announce): Registry._queue,
    (Role.CONTROL, Introduce): Registry._introduce,
    (Role.CONTROL, Ping): Registry._ping,
    (Role.CONTROL, Report): Registry._report,
    (Role.CONTROL, Outcome): Registry._outcome,
    (Role.CONTROL, Announce): Registry._announce,
    (Role.OBSERVATION, Ping): Registry._ping,
    (Role.OBSERVATION, DialBack): Registry._dial_back,
    (Role.OBSERVATION, Cross): Registry._cross,
    (Role.OBSERVATION, CrossNow): Registry._cross_now,
}
"""What is legal in which role, and who deals with it."""
