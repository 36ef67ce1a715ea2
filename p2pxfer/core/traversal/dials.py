"""What can be dialled in a punch, and how: candidates, single dials, volleys of many, and the budget of these.

``core/traversal/strategies`` makes plans of volleys, ``core/traversal/dialing`` carries them out; its laws say what the
words mean in time.
"""

from __future__ import annotations

import hashlib
import math
from typing import Literal

from msgspec import Struct

from p2pxfer.core.addresses import PUNCH_PORTS
from p2pxfer.core.messages import Role

CandidateType = Literal["host", "mapped", "server-reflexive"]
Source = int | Literal["fresh"]
"""The local port of a dial; ``fresh`` is one that this punch has not used yet."""


class Candidate(Struct, frozen=True, order=True):
    """An endpoint of the peer that may lead to it; ``host`` is an IP address in text form.

    ``local`` is the own address to dial from, empty where the system may choose.
    """

    type: CandidateType
    host: str
    port: int
    local: str = ""


class Dial(Struct, frozen=True):
    """One connection to try; ``serial`` tells dials from fresh ports to one endpoint apart.

    ``local`` as in :class:`Candidate`.
    """

    source: Source
    host: str
    port: int
    serial: int = 0
    local: str = ""


class Budget(Struct, frozen=True):
    """What the volleys of one punch may send: SYNs in any one second, and in all."""

    rate: int = 600
    syns: int = 4000


class Volley(Struct, frozen=True):
    """Dials to ports of one address at a steady pace.

    ``pace`` is in dials a second.  At most ``window`` are pending; then the oldest makes room if it is older than
    ``keep`` seconds and the volley has not run for ``rolls`` seconds yet.  ``start`` and ``ends`` are seconds after
    the plan began; at the end all that is pending is closed.  ``after_error``: ``leave`` goes on with the next port,
    ``redraw`` dials the same one from another fresh port, ``redial`` follows law 3.  ``most`` bounds the dials.
    """

    source: Source
    host: str
    ports: tuple[int, ...]
    pace: float
    window: int
    ends: float
    after_error: Literal["leave", "redraw", "redial"]
    most: int
    keep: float = math.inf
    start: float = 0.0
    rolls: float = math.inf


class Plan(Struct, frozen=True):
    """Volleys of one side, and what they are in a phrase for people.

    ``way`` names the strategy of which they are one half, in a word that both sides and the server know.  ``light``: it
    dials no more than one candidate would, so it need not be permitted.
    """

    phrase: str
    volleys: tuple[Volley, ...]
    way: str = ""
    light: bool = False


def spare_ports(session: bytes, role: Role) -> tuple[int, int]:
    """The second local ports in a session of the side with this ``role`` and of the other: both compute the same."""
    drawn = (hashlib.sha256(session + one).digest()[:8] for one in (b"initiator", b"responder"))
    first, second = (PUNCH_PORTS[int.from_bytes(number, "big") % len(PUNCH_PORTS)] for number in drawn)
    return (first, second) if role == "initiator" else (second, first)
