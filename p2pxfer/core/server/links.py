"""The connections of a rendezvous server as a table: by number, by key, by name, and by when they were last heard.

Laws of this table:

1. A name is held by one connection at most, and only by one that is in the table.
2. A control connection is expected to be heard from all the time; an observation connection only while no control
   connection of its key stands; others never.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Literal

from msgspec import Struct, field

from p2pxfer.core.codec import Message
from p2pxfer.core.limits import Bucket
from p2pxfer.core.messages import NatSummary, PathPolicy
from p2pxfer.core.server.newnames import Charge
from p2pxfer.core.traversal.discovery import View

Crossing = Literal["none", "asked", "deaf", "dialling", "over"]
"""Nobody asked for one; the port is being opened; it waits for the client's word; that has come; there is no port."""


class Role(Enum):
    """What a connection is for; its first message decides."""

    NEW = auto()
    CLAIMING = auto()
    CONTROL = auto()
    OBSERVATION = auto()
    LEG = auto()
    RELAYED = auto()
    CLOSED = auto()


_CONTROLS = frozenset((Role.CLAIMING, Role.CONTROL))


class Link(Struct):
    """One authenticated connection: whose it is, how the server sees it, and what it registered."""

    conn: int
    key: bytes
    view: View
    messages: Bucket
    round_trip: float = 0.0
    """Between this server and the client, seconds; 0.0 if unknown."""
    role: Role = Role.NEW
    tag: int = 0
    name: str | None = None
    by_key: bool = True
    """Whoever is introduced to the key may be introduced to this connection."""
    charge: Charge = Charge.NONE
    """What the claim under way was counted against."""
    lan: tuple[str, ...] = ()
    path: PathPolicy = "auto"
    reported: NatSummary = NatSummary()  # a frozen value
    """What the client said last of its NAT."""
    mapped: tuple[str, ...] = ()
    """The endpoints that the client says its router leads to it."""
    dialled: bool = False
    """The server has dialled this client back for this connection, or does so now."""
    crossing: Crossing = "none"
    """How far a crossing has come for which this connection asked."""
    queued: list[Message] = field(default_factory=list)


class Links:
    """The table."""

    def __init__(self) -> None:
        self._links: dict[int, Link] = {}
        self._of_key: dict[bytes, dict[int, Link]] = {}
        self._holders: dict[str, Link] = {}
        self._heard: dict[int, float] = {}  # in order of the times

    def __len__(self) -> int:
        return len(self._links)

    def add(self, link: Link) -> None:
        """A new connection; its number must be new too."""
        self._links[link.conn] = link
        self._of_key.setdefault(link.key, {})[link.conn] = link

    def get(self, conn: int) -> Link | None:
        """The connection with this number."""
        return self._links.get(conn)

    def remove(self, link: Link) -> None:
        """Forget a connection that was retired."""
        del self._links[link.conn]
        mine = self._of_key[link.key]
        del mine[link.conn]
        if not mine:
            del self._of_key[link.key]

    def enter(self, link: Link, role: Role, now: float) -> None:
        """Give a connection its role, and set what silence means for it and its observations."""
        link.role = role
        if role in _CONTROLS:
            self._listen_for(link.conn, now)
            for other in self._with_role(link.key, Role.OBSERVATION):
                self._heard.pop(other.conn, None)
        elif role is Role.OBSERVATION and not self.controls(link.key):
            self._listen_for(link.conn, now)

    def retire(self, link: Link, now: float) -> str | None:
        """Close a connection's part in everything; returns the name it held.  May be called again."""
        was, link.role = link.role, Role.CLOSED
        self._heard.pop(link.conn, None)
        link.queued.clear()
        if was in _CONTROLS and not self.controls(link.key):
            for orphan in self._with_role(link.key, Role.OBSERVATION):
                self._listen_for(orphan.conn, now)
        if not self.holds(link):
            return None
        assert link.name is not None
        del self._holders[link.name]
        return link.name

    def count(self, *roles: Role) -> int:
        """How many connections are for one of these; looks at all of them."""
        return sum(link.role in roles for link in self._links.values())

    # -- names ---------------------------------------------------------------------------------------------------

    @property
    def names(self) -> int:
        """Names that are held."""
        return len(self._holders)

    def holder(self, name: str) -> Link | None:
        """The connection that holds ``name``."""
        return self._holders.get(name)

    def hold(self, link: Link) -> None:
        """Let a connection hold its name, which nobody holds."""
        assert link.name is not None
        self._holders[link.name] = link

    def holds(self, link: Link) -> bool:
        """True if the connection holds its name."""
        return link.name is not None and self._holders.get(link.name) is link

    def newest_named(self, key: bytes) -> Link | None:
        """The connection of ``key`` that came last of those that hold a name and are to be found by the key."""
        named = [link for link in self._of_key.get(key, {}).values() if link.by_key and self.holds(link)]
        return named[-1] if named else None

    # -- of one key ----------------------------------------------------------------------------------------------

    def controls(self, key: bytes) -> int:
        """How many control connections ``key`` has."""
        return sum(link.role in _CONTROLS for link in self._of_key.get(key, {}).values())

    def observations(self, key: bytes) -> int:
        """How many observation connections ``key`` has."""
        return sum(1 for _ in self._with_role(key, Role.OBSERVATION))

    def views(self, link: Link, tag: int) -> tuple[View, ...]:
        """What was seen of the socket binding ``tag`` of a control connection's client, that connection first."""
        own = (link.view,) if link.tag == tag else ()
        return own + tuple(other.view for other in self._with_role(link.key, Role.OBSERVATION) if other.tag == tag)

    def _with_role(self, key: bytes, role: Role) -> Iterator[Link]:
        return (link for link in self._of_key.get(key, {}).values() if link.role is role)

    # -- silence -------------------------------------------------------------------------------------------------

    def heard(self, conn: int, now: float) -> None:
        """A message came."""
        if conn in self._heard:
            self._listen_for(conn, now)

    def quiet_since(self, moment: float) -> list[Link]:
        """Those that should have been heard from and were not after ``moment``."""
        quiet = []
        for conn, heard in self._heard.items():
            if heard > moment:
                break
            quiet.append(self._links[conn])
        return quiet

    def forgive(self, seconds: float) -> None:
        """This process did not run for ``seconds``: nobody's silence of that time counts."""
        self._heard = {conn: heard + seconds for conn, heard in self._heard.items()}

    def _listen_for(self, conn: int, now: float) -> None:
        self._heard.pop(conn, None)
        self._heard[conn] = now
