"""News within a meeting: what one side reports of its NAT, its router and the punch, and that the peer came back on
another connection.

Laws of this file:

1. A report with a session goes on only from one of the two control connections that were introduced in it, to the other
   one, for ``MEETING_S`` seconds after the introduction and ``MAX_PER_SIDE`` times a side.
2. What goes on is the server's own view of the mapping; of the report only what
   :mod:`p2pxfer.core.server.introductions` lets pass.  A report names no address, and of an announcement only those go
   on from which the server saw the announcer: so nobody can be made to dial anybody else.
3. With it goes where the server has seen the reporter by now, as far as the other side may dial it, if the two may dial
   at all: an address of a second family is often observed only after the introduction.
4. What may not go on is dropped without a word: there is nothing that an honest client could do about it.
5. Who asked for a peer hears once that it is to ask again: within ``RETURN_S`` seconds of the introduction, when the
   same client registered again, since the connection that the introduction went to may have been dead, which its two
   ends notice late; at any time of the meeting, when that connection ended and nobody came back for ``GONE_S`` seconds.
6. What came of a punch is believed once from each of the two connections, so many times an hour from one key and from
   one source.  The kinds of NAT between which it counts are those that an introduction would name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from msgspec import Struct, field

from p2pxfer.core.addresses import Endpoint, source_network
from p2pxfer.core.codec import Message
from p2pxfer.core.limits import Buckets
from p2pxfer.core.messages import Announce, Outcome, PeerMapped, PeerNat, PeerReturned, Report
from p2pxfer.core.server import introductions
from p2pxfer.core.server.effects import Send, ServerSettings
from p2pxfer.core.server.experience import Experience
from p2pxfer.core.server.introductions import Side
from p2pxfer.core.server.links import Link, Links, Role
from p2pxfer.core.traversal.discovery import MEETING_S
from p2pxfer.core.traversal.strategies import Kind, kind

MAX_PER_SIDE: Final = 5
"""Reports of one side that go on in one meeting: a second family, what was found at last, and fresh ports for a few
attempts."""
RETURN_S: Final = 10.0
"""How long after an introduction the return of the peer is news to who asked for it, seconds."""
GONE_S: Final = 2.0
"""How long a peer whose connection ended may take to come back before that is news, seconds: if it still runs it is a
pause, and four round trips for TCP, TLS and the registration."""
_MAX_MEETINGS: Final = 16_384


_Client = tuple[bytes, str | None]
"""A key, and the name under which it is there: what a client keeps when it connects again."""


class _Meeting(Struct):
    """Two introduced connections, the tag of each, and how often each may still report."""

    born: float
    sides: dict[int, tuple[int, int]]
    """Connection -> (the other connection, this one's tag)."""
    asking: int
    """The connection that asked for the other one."""
    asked: _Client
    dial: bool
    """Whether the two may dial each other."""
    left: Counter[tuple[int, type[Message]]] = field(default_factory=Counter)
    silent: set[int] = field(default_factory=set)
    """The connections that have not said what came of it."""
    kinds: dict[int, Kind] = field(default_factory=dict)
    """The kind of NAT before each connection, as it was seen last: one side may be gone when the other one speaks."""


class Reports:
    """Recent meetings, and the rate of reports.

    ``side(link, tag)`` is a party as the server sees it now; ``observed(subject, reader, link)`` are the endpoints of
    ``subject`` that ``reader``, whose control connection is ``link``, may dial; ``mapped`` the same of those that the
    router of ``subject`` leads to it.
    """

    def __init__(
        self,
        links: Links,
        settings: ServerSettings,
        side: Callable[[Link, int], Side],
        observed: Callable[[Side, Side, Link], list[Endpoint]],
        mapped: Callable[[Side, Side, Link], list[Endpoint]],
    ) -> None:
        self._links = links
        self._side = side
        self._observed = observed
        self._mapped = mapped
        self._rates = Buckets(settings.reports_per_key / 60, settings.reports_per_key)
        self._words = Buckets(settings.outcomes_per_key / 3600, settings.outcomes_per_key)
        self._words_from = Buckets(settings.outcomes_per_source / 3600, settings.outcomes_per_source)
        self.experience = Experience()
        """Which way led to a path between which kinds of NAT."""
        self._meetings: dict[bytes, _Meeting] = {}  # in order of their age
        self._asked: dict[_Client, dict[bytes, None]] = {}
        """Who may yet come back -> the sessions for which that is news."""
        self._gone: dict[bytes, float] = {}
        """Sessions whose peer lost its connection -> since when; in order of the times."""

    @property
    def meetings(self) -> int:
        """Introductions whose sides may still tell each other of their NATs."""
        return len(self._meetings)

    def met(self, session: bytes, asking: tuple[Link, int], asked: tuple[Link, int], dial: bool, now: float) -> None:
        """Two connections were introduced, each with the tag that it punches from; ``dial``: they may."""
        (one, one_tag), (other, other_tag) = asking, asked
        sides = {one.conn: (other.conn, one_tag), other.conn: (one.conn, other_tag)}
        client = (other.key, other.name)
        kinds: tuple[type[Message], ...] = (Report, Announce) if dial else (Report,)
        left = Counter({(conn, kind): MAX_PER_SIDE for conn in sides for kind in kinds})
        self._meetings[session] = _Meeting(now, sides, one.conn, client, dial, left, set(sides))
        self._asked.setdefault(client, {})[session] = None
        self._look(self._meetings[session])
        self.expire(now)

    def take(self, link: Link, message: Report, now: float) -> list[Send]:
        """Keep a report; returns the word to the other side of its meeting, if there is one."""
        if not self._rates.take(link.key, now):
            return []
        if message.nat is not None:
            link.reported = message.nat
        sides = self._other_side(link, message, message.session, now)
        if sides is None or message.session is None:
            return []
        mine, theirs, other, dial = sides
        nat = None if message.nat is None else introductions.nat_summary(mine)
        found = self._observed(mine, theirs, other) if dial else []
        return [Send(other.conn, PeerNat(message.session, nat, [str(endpoint) for endpoint in found]))]

    def announce(self, link: Link, message: Announce, now: float) -> list[Send]:
        """Keep an announcement; returns the word to the other side of its meeting, if there is one."""
        if not self._rates.take(link.key, now):
            return []
        link.mapped = tuple(message.mapped)
        sides = self._other_side(link, message, message.session, now)
        if sides is None or message.session is None:
            return []
        mine, theirs, other, _ = sides
        found = self._mapped(mine, theirs, other)
        return [Send(other.conn, PeerMapped(message.session, [str(endpoint) for endpoint in found]))]

    def _other_side(
        self, link: Link, message: Message, session: bytes | None, now: float
    ) -> tuple[Side, Side, Link, bool] | None:
        """This side, the other one with its connection, and whether they may dial, if ``message`` may go on there."""
        self.expire(now)
        meeting = None if session is None else self._meetings.get(session)
        if meeting is None or meeting.left[link.conn, type(message)] <= 0:
            return None
        peer, tag = meeting.sides[link.conn]
        other = self._links.get(peer)
        if other is None or other.role is not Role.CONTROL:
            return None
        meeting.left[link.conn, type(message)] -= 1
        self._look(meeting)
        return self._side(link, tag), self._side(other, meeting.sides[peer][1]), other, meeting.dial

    def ended(self, link: Link, message: Outcome, now: float) -> bool:
        """One side says what came of a punch; False if its word does not count."""
        self.expire(now)
        meeting = self._meetings.get(message.session)
        if meeting is None or link.conn not in meeting.silent:
            return False
        meeting.silent.discard(link.conn)
        if not (self._words.take(link.key, now) and self._words_from.take(source_network(link.view.seen.host), now)):
            return False
        self._look(meeting)
        one, other = meeting.kinds.values()
        return self.experience.note(one, other, message.way, message.result, now)

    def _look(self, meeting: _Meeting) -> None:
        """See what the NATs of a meeting are like, as far as both sides are still there."""
        for conn, (_, tag) in meeting.sides.items():
            link = self._links.get(conn)
            if link is not None and link.role is Role.CONTROL:
                meeting.kinds[conn] = kind(introductions.nat_summary(self._side(link, tag)))

    def returned(self, link: Link, now: float) -> list[Send]:
        """A client registered: the word to everybody who was introduced to its former connection just before."""
        told = []
        for session in self._asked.pop((link.key, link.name), {}):
            self._gone.pop(session, None)
            if now - self._meetings[session].born < RETURN_S:
                told += self._ask_again(session)
        return told

    def left(self, link: Link, now: float) -> None:
        """A connection ended."""
        for session in self._asked.get((link.key, link.name), {}):
            if link.conn in self._meetings[session].sides:
                self._gone.setdefault(session, now)

    def missed(self, now: float) -> list[Send]:
        """The word to everybody whose peer has left and not come back in time."""
        told = []
        while self._gone:
            session, since = next(iter(self._gone.items()))
            if now - since < GONE_S:
                break
            told += self._ask_again(session)
            self._drop(session)
        return told

    def _ask_again(self, session: bytes) -> list[Send]:
        asking = self._links.get(self._meetings[session].asking)
        if asking is None or asking.role is not Role.CONTROL:
            return []
        return [Send(asking.conn, PeerReturned(session))]

    def expire(self, now: float) -> None:
        """Forget meetings that are over, and the oldest ones above what memory is for."""
        while self._meetings:
            session = next(iter(self._meetings))
            if len(self._meetings) <= _MAX_MEETINGS and now - self._meetings[session].born < MEETING_S:
                return
            self._forget(session)

    def _forget(self, session: bytes) -> None:
        self._drop(session)
        del self._meetings[session]

    def _drop(self, session: bytes) -> None:
        """Nothing that becomes of the peer is news any more."""
        self._gone.pop(session, None)
        client = self._meetings[session].asked
        waiting = self._asked.get(client, {})
        waiting.pop(session, None)
        if not waiting:
            self._asked.pop(client, None)
