"""What a user or a program may see of a run: frozen values, no secrets in them.

Each class is one event of ``--json``: its ``event`` name and its fields are the JSON object, in this order (the command
line adds ``t``, seconds since the start of the command).  The progress display is drawn from the same values.
What this machine has and does, with nobody at the other end, is in :mod:`p2pxfer.inventory`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from msgspec import Struct

from p2pxfer.inventory import Agent, ContactListed, Identity, JobListed, QueuedOne
from p2pxfer.reasons import Change, Reason, Where

PathKind = Literal["relay", "lan", "direct", "punched", "mapped", "ipv6"]
PathState = Literal["up", "active", "down"]
Verified = Literal["code", "contact", "id", "words"]


class Registered(Struct, frozen=True):
    """The server knows this machine; ``name`` is empty where nothing is received, ``observed`` the endpoint it sees."""

    event: ClassVar[str] = "registered"
    name: str
    id: str
    observed: str


class CodeShown(Struct, frozen=True):
    """A one-time code for a sender that is not a contact; ``expires_s`` in seconds."""

    event: ClassVar[str] = "code"
    code: str
    expires_s: int


class Words(Struct, frozen=True):
    """What to compare by voice with ``peer``, who sees the same where nobody sits in between."""

    event: ClassVar[str] = "words"
    peer: str
    words: tuple[str, ...]


class Peer(Struct, frozen=True):
    """The peer of a session and how its key was verified; ``id``: by nothing, with ``receive --accept all``."""

    event: ClassVar[str] = "peer"
    name: str
    id: str
    verified: Verified


class Nat(Struct, frozen=True):
    """What is known of this machine's NAT over TCP; ``unknown`` where nothing was measured.

    ``netcheck`` says what it found, ``send`` and ``receive`` what the server knew; ``side``: whose NAT it is.
    ``mapping`` is ``none``, ``endpoint-independent``, ``address-dependent``, ``port-dependent`` or
    ``connection-dependent`` (another port even for the next connection between the same endpoints); ``filtering`` is
    one of the middle three.  ``ports`` is ``preserving``, ``offset``, ``changed``, ``sequential`` (by ``step``),
    ``block`` or ``random`` (from ``low`` to ``high``, as estimated); these three are 0 elsewhere.  ``hairpin``: whether
    two ports behind the NAT meet outside.  ``unsolicited``: how a SYN is answered that nobody asked for (``drop``,
    ``rst``, ``icmp``); ``simultaneous``: whether one comes in that crosses one of this side.  ``addresses`` are those
    outside, ``why``: why a property is unknown; both are empty where only the server speaks.  ``router``: the protocols
    for port mapping in which the router answered, ``mapped``: the outside endpoints that lead here; empty if not asked.
    """

    event: ClassVar[str] = "nat"
    mapping: str
    filtering: str
    ports: str
    hairpin: str
    step: int = 0
    low: int = 0
    high: int = 0
    addresses: tuple[str, ...] = ()
    why: Mapping[str, str] = {}
    side: Literal["here", "there"] = "here"
    unsolicited: str = "unknown"
    router: tuple[str, ...] = ()
    mapped: tuple[str, ...] = ()
    simultaneous: str = "unknown"


class Path(Struct, frozen=True):
    """A path of the session changed; ``after_ms`` counts from the introduction, ``why`` is a plain phrase.

    ``state`` is ``up``, ``active`` (it carries the data; since when it could) or ``down``; ``mapped``: through a port
    that a router gave.
    ``tcp_ms``: when the TCP connection of a direct path stood, counted so too.  ``expose`` says ``peer``, ``service``.
    """

    event: ClassVar[str] = "path"
    path: PathKind
    state: PathState
    local: str
    remote: str
    rtt_ms: float | None
    after_ms: float
    why: str
    tcp_ms: float | None = None
    peer: str = ""
    service: str = ""


class Introduced(Struct, frozen=True):
    """The server introduced the two peers: the moment from which ``after_ms`` counts."""

    event: ClassVar[str] = "introduced"
    session: str
    peer: str


class Verdict(Struct, frozen=True):
    """What a check of the network between two peers came to; beside a transfer, why the relay is all that is left.

    ``path`` is the best that stood, or ``none``; ``after_ms`` counts from the introduction; ``reason`` and ``change``
    are for programs, ``where`` and ``at`` the side that each is about; ``message`` says all of it for people.
    """

    event: ClassVar[str] = "verdict"
    path: PathKind | Literal["none"]
    after_ms: float | None
    rtt_ms: float | None
    reason: Reason
    where: Where
    change: Change
    at: Where
    message: str


class Offer(Struct, frozen=True):
    """What the transfer holds: number of files, bytes in all (null for a stream, as nobody knows), top-level names.

    While the sender is still ``counting`` there is at least that much; the event comes again when it has counted.
    """

    event: ClassVar[str] = "offer"
    files: int
    bytes: int | None
    names: tuple[str, ...]
    counting: bool = False


class Accepted(Struct, frozen=True):
    """The receiver accepted the offer."""

    event: ClassVar[str] = "accepted"


class RefusedOffer(Struct, frozen=True):
    """The receiver refused the offer."""

    event: ClassVar[str] = "refused"
    why: str


class Progress(Struct, frozen=True):
    """Verified bytes of ``total`` so far, about five times a second.

    ``rate`` in bytes a second; ``path`` in use, ``none`` while nothing carries data; ``total`` is null for a stream.
    """

    event: ClassVar[str] = "progress"
    bytes: int
    total: int | None
    rate: float
    path: str


class Resumed(Struct, frozen=True):
    """The receiver holds ``have_bytes`` already; they are not sent again."""

    event: ClassVar[str] = "resumed"
    have_bytes: int


class Done(Struct, frozen=True):
    """The transfer is verified at both ends, ``seconds`` after its acceptance; ``root`` is its hash in hex.

    ``bytes_by_path`` counts by kind of path what went from or came to this end, repeats too: payload, and with
    ``--delta`` patches in its place, both without the headers of frames.  ``saved``: the final names, not in ``send``.
    ``left_out``: the files that did not come, since they changed or could not be read; they count neither in ``files``
    nor in ``bytes``.  In ``send`` also what was never offered, since this user may not read it.
    """

    event: ClassVar[str] = "done"
    bytes: int
    files: int
    seconds: float
    bytes_by_path: Mapping[str, int]
    root: str
    saved: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


class Exposed(Struct, frozen=True):
    """``service``, which is ``target`` here, is open to the contacts ``to`` from now on."""

    event: ClassVar[str] = "exposed"
    service: str
    target: str
    to: tuple[str, ...]


class Listening(Struct, frozen=True):
    """Connections to ``address`` here go to ``service`` of ``peer``."""

    event: ClassVar[str] = "listening"
    address: str
    peer: str
    service: str


class Connection(Struct, frozen=True):
    """A forwarded connection: ``number`` counts them, ``open_now`` is how many there are with it.

    ``sent`` and ``received`` are bytes, as this machine sees them; ``why`` is empty where it ended well.
    """

    event: ClassVar[str] = "connection"
    number: int
    peer: str
    service: str
    state: Literal["open", "ended", "reset", "refused"]
    open_now: int
    sent: int = 0
    received: int = 0
    why: str = ""


class Note(Struct, frozen=True):
    """Something a user wants to know that changes nothing: a reconnection, a skipped link, a wait."""

    event: ClassVar[str] = "note"
    message: str


class ChatLine(Struct, frozen=True):
    """A line of a chat, ``id`` in hex, from this side (``here``) or the peer (``there``).

    ``at``: when it was written, seconds since 1970; ``state`` is ``received``, or ``waiting`` and then ``delivered``.
    """

    event: ClassVar[str] = "line"
    id: str
    side: Literal["here", "there"]
    text: str
    at: int
    state: Literal["waiting", "delivered", "received"]


class Failed(Struct, frozen=True):
    """The command failed, or ``receive`` did and goes on; ``code``: the error's word, ``retry``: it may work later."""

    event: ClassVar[str] = "error"
    code: str
    message: str
    retry: bool


Event = (
    Identity | ContactListed | JobListed | Agent | QueuedOne | Registered | CodeShown | Words | Peer | Nat | Path
    | Introduced | Verdict | Offer | Accepted | RefusedOffer | Progress | Resumed | Done | Exposed | Listening
    | Connection | Note | ChatLine | Failed
)  # fmt: skip
