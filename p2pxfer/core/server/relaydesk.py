"""Relay tickets and legs: who may join which relay session, until when, and who is waiting.

Laws of this machine:

1. A token is good once, for ``token_s`` seconds, for the key it was made for.  Only its SHA-256 is stored; a token that
   is wrong, spent, expired or somebody else's gets the same answer.
2. Each session has two seats, one a side; the two keys differ.
3. A session stands from its first leg until one of its legs ends, and counts for the limits all that time.
"""

from __future__ import annotations

import hashlib

from msgspec import Struct, field

from p2pxfer.core.server.effects import ServerSettings
from p2pxfer.errors import LimitReached, Refused


class _Ticket(Struct, frozen=True):
    session: bytes
    key: bytes
    expires: float


class _Session(Struct):
    legs: dict[int, bytes] = field(default_factory=dict)


class RelayDesk:
    """All tickets, waiting legs and standing relay sessions of a server."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._tickets: dict[bytes, _Ticket] = {}
        self._sessions: dict[bytes, _Session] = {}
        self._session_of: dict[int, bytes] = {}
        self._waiting: dict[int, float] = {}
        self._count: dict[bytes, int] = {}

    @property
    def sessions(self) -> int:
        """Relay sessions that have at least one leg."""
        return len(self._sessions)

    @property
    def tickets(self) -> int:
        """Tokens that may still be used."""
        return len(self._tickets)

    def issue(self, session: bytes, key: bytes, token: bytes, now: float) -> None:
        """Let ``key`` join ``session`` once with ``token``."""
        expires = now + self._settings.token_s
        self._tickets[hashlib.sha256(token).digest()] = _Ticket(session, key, expires)

    def join(self, conn: int, key: bytes, token: bytes, now: float) -> int | None:
        """Seat a leg; returns the other leg of the session, or None if it has to wait for one.

        Raises:
            Refused: the token is wrong, spent, expired or of another key.
            LimitReached: too many relay sessions, of this key or in all.
        """
        digest = hashlib.sha256(token).digest()
        ticket = self._tickets.get(digest)
        if ticket is None or ticket.key != key or ticket.expires <= now:
            raise Refused("the relay token is not valid")
        del self._tickets[digest]
        self._check_limits(ticket, key)
        session = self._sessions.setdefault(ticket.session, _Session())
        other = next(iter(session.legs), None)
        session.legs[conn] = key
        self._session_of[conn] = ticket.session
        self._count[key] = self._count.get(key, 0) + 1
        if other is None:
            self._waiting[conn] = now + self._settings.leg_wait_s
        else:
            self._waiting.pop(other, None)
        return other

    def _check_limits(self, ticket: _Ticket, key: bytes) -> None:
        if self._count.get(key, 0) >= self._settings.relays_per_key:
            raise LimitReached(f"at most {self._settings.relays_per_key} relay sessions at once are allowed")
        if ticket.session not in self._sessions and len(self._sessions) >= self._settings.relays:
            raise LimitReached("the server carries as many relay sessions as it may")

    def leave(self, conn: int) -> None:
        """A leg ended; unknown connections are ignored."""
        name = self._session_of.pop(conn, None)
        if name is None:
            return
        self._waiting.pop(conn, None)
        session = self._sessions[name]
        key = session.legs.pop(conn)
        self._count[key] -= 1
        if not self._count[key]:
            del self._count[key]
        if not session.legs:
            del self._sessions[name]

    def expire(self, now: float) -> list[int]:
        """Forget old tickets; returns the legs that waited too long.  Both dicts are in order of their times."""
        while self._tickets and self._tickets[next(iter(self._tickets))].expires <= now:
            del self._tickets[next(iter(self._tickets))]
        late = []
        for conn, until in self._waiting.items():
            if until > now:
                break
            late.append(conn)
        return late
