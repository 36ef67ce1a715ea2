"""What the rendezvous machine tells its driver to do, what the driver may answer, and the machine's settings."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from p2pxfer.core.addresses import Address, Endpoint
from p2pxfer.core.codec import Message


class Send(Struct, frozen=True):
    """Write ``message`` to a connection."""

    conn: int
    message: Message


class Close(Struct, frozen=True):
    """End a connection when everything sent before has gone out; ignore what still arrives on it."""

    conn: int


class Abort(Struct, frozen=True):
    """End a connection at once: the other end is dead."""

    conn: int


class ClaimName(Struct, frozen=True):
    """Ask the store whether ``key`` owns ``name``, and answer with
    :meth:`~p2pxfer.core.server.registry.Registry.name_claimed`.

    ``may_create`` is False if the source of the connection, or the key, has registered too many new names already.
    """

    conn: int
    name: str
    key: bytes
    may_create: bool


class TouchName(Struct, frozen=True):
    """``key`` has stopped using ``name``: from now on its 30 days count."""

    name: str
    key: bytes


class PairRelay(Struct, frozen=True):
    """From now on the bytes of two connections belong to each other, ``limit`` of both together if it is not 0."""

    one: int
    other: int
    limit: int = 0


class DialOut(Struct, frozen=True):
    """Dial ``target``, the endpoint that was seen of the connection, once from each of ``sources`` that is an address,
    show ``token``; knock at ``unopened``, a port of the same address, from the first source; and answer with
    :meth:`~p2pxfer.core.server.registry.Registry.dialled`."""

    conn: int
    target: Endpoint
    sources: tuple[Address, Address | None]
    token: bytes
    unopened: Endpoint


class OpenDeaf(Struct, frozen=True):
    """Open a port of the address ``at`` that answers no SYN, and answer with
    :meth:`~p2pxfer.core.server.registry.Registry.deaf`; what comes of it is told once with
    :meth:`~p2pxfer.core.server.registry.Registry.crossed`, even if the connection ends before."""

    conn: int
    at: Address
    target: Endpoint


class CrossOut(Struct, frozen=True):
    """Dial the target of the connection's :class:`OpenDeaf` from that port."""

    conn: int


Effect = Send | Close | Abort | ClaimName | TouchName | PairRelay | DialOut | OpenDeaf | CrossOut

Claim = Literal["kept", "new", "taken", "key-limit", "source-limit", "io"]
"""Answer of the store: the key's own name, now its own, somebody else's, too many of that key, too many of that source,
or the disk refused."""


class Listening(Struct, frozen=True):
    """Where the server listens: ``bound`` addresses with ports (``0.0.0.0`` and ``::`` stand for every address), and
    further addresses of the machine (``observe``) at which clients may let themselves be observed."""

    bound: tuple[tuple[Address, int], ...] = ()
    observe: tuple[Address, ...] = ()


class ServerSettings(Struct, frozen=True):
    """Limits of a rendezvous server; times in seconds, rates per minute unless said otherwise, outcomes per hour."""

    ping_s: int = 25
    dead_s: float = 75.0
    token_s: float = 30.0
    leg_wait_s: float = 30.0
    controls_per_key: int = 64
    observations_per_key: int = 64
    new_names_per_source_a_day: int = 16
    own_names_per_key_a_day: int = 8
    messages_per_second: float = 50.0
    message_burst: int = 1000
    lookups_per_key: int = 240
    introductions_per_pair: int = 60
    introductions_per_target: int = 240
    wait_s: int = 30
    waits_per_peer: int = 64
    reports_per_key: int = 120
    outcomes_per_key: int = 6
    outcomes_per_source: int = 60
    dial_backs_per_source: int = 12
    dial_backs: int = 64
    crossings_per_source: int = 12
    crossings: int = 64
    relays_per_key: int = 16
    relays: int = 1024
    relay_bytes: int = 0
    """Most bytes of both legs of a relay session together; 0: as many as there are."""
