"""The peer protocol: which messages go between two peers on a path, and what may come when.

Transcript of one path (``>`` initiator to responder; the initiator is the TLS client whoever dialled)::

    TLS 1.3, mutual, ALPN p2pxfer-peer/1
    > Hello                               names, both keys, roles, path, introduction
    < Hello HelloOk                       the same, and proof over the TLS exporter and both Hellos
    > HelloOk                             nothing else goes before it
    > Pair1  < Pair2  > PairConfirm  < Paired    only when the responder's key is not verified yet
    > SameWords      < SameWords          where either asked in these that the users compare words
    > Nominate                            this direct path is the one to keep of its introduction
    > Widen          < Widened?           another connection beside this path, at any time in the session
    > Check          < Checked            instead of an offer: what the network is like
    > Offer ...                           a transfer; what follows is in transferwire
    > Bye

Byte channels have messages of their own, in :mod:`p2pxfer.core.session.channelwire`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from p2pxfer.core.codec import Catalogue, Message, Number
from p2pxfer.core.framing import PRE_AUTH_CAP
from p2pxfer.core.messages import Bytes32, Text
from p2pxfer.core.session.bundlewire import BUNDLE_CAP, BUNDLE_KIND
from p2pxfer.core.session.channelwire import MAX_PIECE, PIECE_HEADER_SIZE, PIECE_KIND, SESSION_ROWS
from p2pxfer.core.session.deltawire import DELTA_ROWS, PATCH_KIND
from p2pxfer.core.session.leftwire import LEFT_ROWS
from p2pxfer.core.session.restwire import REST_HEADER_SIZE, REST_KIND, REST_ROWS
from p2pxfer.core.session.transferwire import CHUNK_HEADER_SIZE, DATA_KIND, MAX_CHUNK, TRANSFER_ROWS, Offer
from p2pxfer.core.traversal.discovery import Filtering, Hairpin, Simultaneous, Unsolicited

PlanState = Literal["none", "followed", "withheld"]
PathClass = Literal["relay", "direct", "beside"]
"""Through the server, punched or otherwise direct, or a further connection beside a direct one."""
OuterPorts = Annotated[list[Annotated[int, Meta(ge=1024, le=65535)]], Meta(max_length=2)]
PairBody = Annotated[bytes, Meta(max_length=128)]


class Hello(Message, frozen=True):
    """Who meets whom, over what, by which introduction."""

    version: Annotated[int, Meta(ge=1, le=65535)]
    introduction: Bytes32
    role: Literal["initiator", "responder"]
    path: PathClass
    my_name: Annotated[str, Meta(max_length=64)]
    your_name: Annotated[str, Meta(max_length=64)]
    my_key: Bytes32
    your_key: Bytes32
    random: Bytes32


class HelloOk(Message, frozen=True):
    """Proof that both ends saw the same two Hellos inside the same TLS connection."""

    mac: Bytes32


class Pair1(Message, frozen=True):
    """First frame of :mod:`p2pxfer.core.contact.pairing`: slot and the initiator's share."""

    body: PairBody


class Pair2(Message, frozen=True):
    """Second frame of the pairing: the responder's share and confirmation."""

    body: PairBody


class PairConfirm(Message, frozen=True):
    """Third frame of the pairing: the initiator's confirmation; with ``compare`` its user wants words compared."""

    body: PairBody
    compare: bool = False


class Paired(Message, frozen=True):
    """The responder checked the initiator's confirmation; with ``compare`` its user wants words compared.

    Where neither does, both may store the contact now, otherwise when both have sent :class:`SameWords`.
    """

    compare: bool = False


class SameWords(Message, frozen=True):
    """The user of this side said that the words are the same."""


class Nominate(Message, frozen=True):
    """Keep this path; the other direct connections of the introduction are losers."""


class Ping(Message, frozen=True):
    """Keep-alive and round-trip probe."""

    number: Number


class Pong(Message, frozen=True):
    """The answer to the ping of that number."""

    number: Number


class Problem(Message, frozen=True):
    """The sender of this message gives up the path.

    With ``ends`` it has ended what it was at, on all paths, by this error, which is none of the other side's.
    """

    word: Annotated[str, Meta(max_length=32)]
    message: Text
    ends: bool = False


class Bye(Message, frozen=True):
    """The initiator has what it came for."""


class Widen(Message, frozen=True):
    """The initiator wants another connection beside this path.

    With ``ports``, the responder is to dial these ports of the host at the other end from its own port of this path and
    to listen there.  Without, it takes a fresh port, says in Widened where that is found, and dials the other end.
    """

    number: Number
    ports: OuterPorts = []


class Widened(Message, frozen=True):
    """The answer to the Widen of that number without ports: those of the responder's fresh port."""

    number: Number
    ports: OuterPorts


class Check(Message, frozen=True):
    """No offer comes on this path: the two only look at the network between them."""


class Checked(Message, frozen=True):
    """What the responder's side found out: how its NAT treats what comes in, and what became of its plan of many dials.

    ``closed``, ``unturned``, ``unanswered`` and ``uncrossed`` say why what stands before each is unknown, ``against``
    why a plan was withheld.
    """

    filtering: Filtering = "unknown"
    closed: Text = ""
    hairpin: Hairpin = "unknown"
    unturned: Text = ""
    unsolicited: Unsolicited = "unknown"
    unanswered: Text = ""
    simultaneous: Simultaneous = "unknown"
    uncrossed: Text = ""
    plan: PlanState = "none"
    against: Text = ""


PEER: Catalogue[Message] = Catalogue(
    [
        (1, Hello), (2, HelloOk), (3, Nominate), (4, Ping), (5, Pong), (6, Problem), (7, Bye), (8, Check),
        (9, Checked), (10, Widen), (11, Widened), (16, Pair1), (17, Pair2), (18, PairConfirm), (19, Paired),
        (20, SameWords),
        *TRANSFER_ROWS, *REST_ROWS, *DELTA_ROWS, *SESSION_ROWS, *LEFT_ROWS,
    ]
)  # fmt: skip
HELLO_CAPS = PEER.caps([Hello, HelloOk, Problem], PRE_AUTH_CAP)
"""Caps until the peer's HelloOk was verified."""
PAIR_CAPS = {
    **PEER.caps([Pair1, Pair2, PairConfirm, Paired, SameWords, Problem, Ping, Pong, Nominate, Bye], PRE_AUTH_CAP),
    **PEER.caps([Check], PRE_AUTH_CAP),
    **PEER.caps([Offer]),
}
"""Caps while the peer's key is not verified; Offer and Check are legal only so that they can be refused in words."""
SESSION_CAPS = {
    **PEER.caps(),
    DATA_KIND: MAX_CHUNK + CHUNK_HEADER_SIZE,
    PIECE_KIND: MAX_PIECE + PIECE_HEADER_SIZE,
    PATCH_KIND: MAX_CHUNK,
    REST_KIND: MAX_CHUNK + REST_HEADER_SIZE,
    BUNDLE_KIND: BUNDLE_CAP,
}
"""Caps afterwards."""
