"""Who is meant, whether the two may meet, and what each is told: the introduction of two registered clients.

Laws of this file:

1. Asked for somebody who is unknown, offline or not to be found, the answer is one and the same, at once or, to whom
   asks for that, when nobody of that name or key has come for a while.
2. Both sides get the same fresh session number, each a relay token that only its own key can use.
3. Nothing is sent to the target before every limit has been passed.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, structs
from msgspec.structs import replace

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.ids import PeerId, parse_id
from p2pxfer.core.limits import Buckets
from p2pxfer.core.messages import MAX_ROUND_TRIP_MS, Failure, Introduce, Introduction
from p2pxfer.core.names import MAX_CHARS, check_name
from p2pxfer.core.server import introductions
from p2pxfer.core.server.effects import Listening, Send, ServerSettings
from p2pxfer.core.server.introductions import Side
from p2pxfer.core.server.links import Link, Links
from p2pxfer.core.server.lookouts import Lookouts
from p2pxfer.core.server.relaydesk import RelayDesk
from p2pxfer.core.server.reports import Reports
from p2pxfer.core.traversal.strategies import kind
from p2pxfer.errors import UsageError


class Matchmaker:
    """Answers ``Introduce``; ``entropy(n)`` gives ``n`` random bytes."""

    def __init__(
        self, links: Links, desk: RelayDesk, entropy: Callable[[int], bytes], settings: ServerSettings
    ) -> None:
        self.listening = Listening()
        self.dropped_lan = 0
        """LAN candidates that were asserted and not passed on, because nobody may dial them."""
        self.reports = Reports(links, settings, self._side, self._observed, self._mapped)
        self._links = links
        self._desk = desk
        self._entropy = entropy
        self._lookouts = Lookouts(settings.waits_per_peer)
        self._longest_wait_s = settings.wait_s
        self._lookups = _a_minute(settings.lookups_per_key)
        self._by_pair = _a_minute(settings.introductions_per_pair)
        self._by_target = _a_minute(settings.introductions_per_target)

    def introduce(self, link: Link, message: Introduce, now: float) -> list[Send]:
        """The answers to the asking client, and the word to its peer if there is one; nothing yet if it waits."""
        return [*self.left(link), *self._answer(link, message, now)]

    def _answer(self, link: Link, message: Introduce, now: float) -> list[Send]:
        if not self._lookups.take(link.key, now):
            return [_refusal(link, "E_RATE", "too many requests in a short time")]
        try:
            target, name = self._find(message.to)
        except UsageError as error:
            return [_refusal(link, error.word, str(error))]
        if target is not None:
            return self._meet(link, target, name, message, now)
        wait = min(message.wait_s, self._longest_wait_s)
        if wait:
            request = structs.replace(message, to=name or str(parse_id(message.to)))
            if self._lookouts.wait(link.conn, request, now + wait):
                return []
        return [_absent(link)]

    @property
    def waiting(self) -> int:
        """Connections that wait for a peer that is not here."""
        return len(self._lookouts)

    def left(self, link: Link) -> list[Send]:
        """A client wants something else, or goes: the answer to what it waits for, if it does."""
        return [_absent(link)] if self._lookouts.leave(link.conn) else []

    def arrived(self, link: Link, now: float) -> list[Send]:
        """A client registered: the introductions for which others wait, if it can be found."""
        if link.name is None:
            return []
        sent = []
        found_by = [link.name, str(PeerId(link.key))] if link.by_key else [link.name]
        for conn, request in self._lookouts.take(found_by):
            asking = self._links.get(conn)
            assert asking is not None  # who goes does not wait
            name = request.to if request.to == link.name else None
            sent += self._meet(asking, link, name, request, now)
        return sent

    def expire(self, now: float) -> list[Send]:
        """The answers to those who have waited long enough, and the word to those whose peer has gone."""
        self.reports.expire(now)
        waited = [self._links.get(conn) for conn in self._lookouts.expire(now)]
        return [*self.reports.missed(now), *(_absent(link) for link in waited if link is not None)]

    def _meet(self, link: Link, target: Link, name: str | None, message: Introduce, now: float) -> list[Send]:
        """Introduce ``link`` to ``target``, whom it asked for by ``name`` or, where that is ``None``, by id."""
        if target.key == link.key:
            return [_refusal(link, "E_NAME", "this name, id or code is one of this very machine")]
        dial, relay = introductions.policies(message.path, target.path)
        if not (dial or relay):
            return [_refusal(link, "E_PATH_NONE", "one side allows direct paths only and the other only the relay")]
        if not (self._by_pair.take((link.key, target.key), now) and self._by_target.take(target.key, now)):
            return [_refusal(link, "E_RATE", "too many requests for this peer in a short time")]
        asking = replace(self._side(link, message.tag), path=message.path)
        asked = self._side(target, target.tag)
        session = self._entropy(32)
        self.reports.met(session, (link, message.tag), (target, target.tag), dial, now)
        return [
            Send(reader.conn, self._told(session, _Meeting(reader, mine, peer, theirs, name, first), now))
            for reader, mine, peer, theirs, first in (
                (link, asking, target, asked, True),
                (target, asked, link, asking, False),
            )
        ]

    def _side(self, link: Link, tag: int) -> Side:
        """A client with the binding ``tag`` as the server sees it now."""
        return Side(link.view.seen, tag, self._links.views(link, tag), link.lan, link.path, link.reported, link.mapped)

    def _observed(self, subject: Side, reader: Side, link: Link) -> list[Endpoint]:
        """Where the server saw ``subject``, as far as ``reader`` at ``link`` may dial it."""
        server = introductions.server_endpoints(self.listening, link.view.at, link.view.seen)
        return introductions.observed_for(subject, reader, server)

    def _mapped(self, subject: Side, reader: Side, link: Link) -> list[Endpoint]:
        """Where the router of ``subject`` leads to it, as far as ``reader`` at ``link`` may dial that."""
        server = introductions.server_endpoints(self.listening, link.view.at, link.view.seen)
        return introductions.mapped_for(subject, reader, server)

    def _find(self, to: str) -> tuple[Link | None, str | None]:
        """The connection that holds the name, or the newest one with a name of the key; and the name asked for.

        Raises:
            UsageError: ``to`` is neither a name nor an id.
        """
        if len(to) <= MAX_CHARS:
            return self._links.holder(check_name(to)), to
        return self._links.newest_named(parse_id(to).digest), None

    def _told(self, session: bytes, meeting: _Meeting, now: float) -> Introduction:
        """What one side is told; makes its relay token."""
        reader, mine, theirs = meeting.reader, meeting.mine, meeting.theirs
        dial, relay = introductions.policies(mine.path, theirs.path)
        my_nat, peer_nat = introductions.nat_summary(mine), introductions.nat_summary(theirs)
        token: bytes | None = None
        if relay:
            token = self._entropy(32)
            self._desk.issue(session, reader.key, token, now)
        observed: list[Endpoint] = []
        lan: list[Endpoint] = []
        mapped: list[Endpoint] = []
        if dial:
            server = introductions.server_endpoints(self.listening, reader.view.at, reader.view.seen)
            observed = self._observed(theirs, mine, reader)
            lan, dropped = introductions.lan_for(theirs, mine, server)
            self.dropped_lan += dropped
            mapped = self._mapped(theirs, mine, reader)
        return Introduction(
            session=session,
            initiator=meeting.initiator,
            peer_id=meeting.peer.key,
            responder_name=meeting.name,
            observed=[str(endpoint) for endpoint in observed],
            lan=[str(endpoint) for endpoint in lan],
            mapped=[str(endpoint) for endpoint in mapped],
            relay_token=token,
            dial=dial,
            my_nat=my_nat,
            peer_nat=peer_nat,
            round_trip_ms=_round_trip_ms(reader, meeting.peer),
            order=self.reports.experience.order(kind(my_nat), kind(peer_nat), now) if dial else [],
        )


class _Meeting(Struct, frozen=True):
    """One side's half of an introduction: who is told, of whom, asked for by which name."""

    reader: Link
    mine: Side
    peer: Link
    theirs: Side
    name: str | None
    initiator: bool


def _round_trip_ms(one: Link, other: Link) -> int:
    """By way of the server, which two peers seldom exceed."""
    if not one.round_trip or not other.round_trip:
        return 0
    return min(MAX_ROUND_TRIP_MS, max(1, round(1000 * (one.round_trip + other.round_trip))))


def _refusal(link: Link, word: str, text: str) -> Send:
    return Send(link.conn, Failure(word, text))


def _absent(link: Link) -> Send:
    return _refusal(link, "E_PEER_GONE", "this peer is not here now")


def _a_minute(count: int) -> Buckets:
    return Buckets(count / 60, count)
