"""The rendezvous protocol: every message between a client and the server, one type each, and its catalogue.

Transcript of a client that waits (``>`` client to server)::

    TLS 1.3, mutual, ALPN p2pxfer/1; the client is the key it showed
    > Register    name, tag, lan, path      on the control connection, which stays open and pins the mapping
    < Registered  observed, observers
    > Observe     tag                       on a connection of its own to each observer, from the same local port
    < Observed    observed
    < Introduction                          when somebody asked for this client
    > Report                                what probes of its own show of its NAT
    > Outcome                               what came of the punch
    > Announce    mapped                    when its router leads a port to it
    > Ping  < Pong                          at least every ``ping_s`` seconds

of a client that wants a peer::

    > Register    without a name
    > Introduce   to, tag, path
    < Introduction | Failure
    > Report      session                   what it found of its NAT since, or a fresh port
    < PeerNat     session                   the same of the other side, through the server
    < PeerReturned session                  the other side has another connection now, or none: ask again
    > Announce    mapped, session           a port that its router gave since
    < PeerMapped  session                   the same of the other side

of a client that wants to know whom its NAT lets in, on an observation connection from a fresh port that listens::

    > DialBack    token
    < DialledBack                           after the server has dialled what it sees of this connection

of one that wants to know whether its NAT passes a SYN that crosses its own, on another such connection::

    > Cross
    < CrossAt     port                      a port of the server that does not answer
    > CrossNow                              the client has dialled it; now the server dials from there
    < Crossed

and of a relay leg, on a connection of its own to the main port::

    > JoinRelay   token
    < RelayReady                            when both legs stand; from here on the bytes belong to the peers

A ``tag`` is a number that the client chooses for one local port (it uses the port itself): endpoints that the server
observed under one tag belong to one socket binding.  Endpoints are texts ``a.b.c.d:port`` or ``[v6]:port``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from p2pxfer.core.codec import Catalogue, Message

VERSION = 1
ALPN_SERVER = b"p2pxfer/1"
ALPN_PEER = b"p2pxfer-peer/1"

PathPolicy = Literal["auto", "direct", "relay"]
Role = Literal["initiator", "responder"]
"""Which of two introduced peers one is: who asked, or who was asked for."""
Endpoint = Annotated[str, Meta(max_length=64)]
Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Tag = Annotated[int, Meta(ge=0, le=65535)]
Port = Annotated[int, Meta(ge=0, le=65535)]
DialOutcome = Literal["not-tried", "connected", "silent"]
KnockOutcome = Literal["not-tried", "connected", "refused", "icmp", "silent"]
CrossOutcome = Literal["not-tried", "crossed", "answered", "silent"]
DIAL_BACK_MARKS = (b"p", b"a")
"""What follows the token on a connection that the server dialled: from another port of the same address, from another
address."""
Text = Annotated[str, Meta(max_length=1024)]
MAX_LAN = 4
"""Most LAN candidates that one side may announce."""
MAX_OBSERVED = 8
"""Most server-observed endpoints in one introduction."""
MAX_ROUND_TRIP_MS = 10_000
"""Longest round trip between two peers that is told, milliseconds."""
MAX_WAIT_S = 60
"""Longest time for which a client may ask to wait for a peer, seconds; the server may wait shorter."""
Word = Annotated[str, Meta(max_length=16)]
MAX_WAYS = 8
"""Most ways of punching in one introduction."""
MAX_MAPPED = 2
"""Most endpoints that a router leads to one side."""
MAX_STEP = 64
"""Largest step of a sequential NAT that may be reported."""


class Register(Message, frozen=True):
    """Bind the control connection: ``name`` None means "present, not to be found by name".

    ``by_key`` False: whoever asks for the key and not for the name means another connection.
    """

    version: Annotated[int, Meta(ge=1, le=65535)]
    tag: Tag
    name: Annotated[str, Meta(max_length=64)] | None = None
    lan: Annotated[list[Endpoint], Meta(max_length=MAX_LAN)] = []
    path: PathPolicy = "auto"
    by_key: bool = True


class Registered(Message, frozen=True):
    """The registration stands; ``id`` is SHA-256 of the client's SubjectPublicKeyInfo as the server saw it."""

    id: Bytes32
    observed: Endpoint
    name: Text | None = None
    observers: Annotated[list[Endpoint], Meta(max_length=8)] = []
    ping_s: Annotated[int, Meta(ge=1, le=3600)] = 25


class Observe(Message, frozen=True):
    """First message of an observation connection; the server keeps it open."""

    version: Annotated[int, Meta(ge=1, le=65535)]
    tag: Tag


class Observed(Message, frozen=True):
    """What the server saw of the observation connection."""

    tag: Tag
    observed: Endpoint


class DialBack(Message, frozen=True):
    """On an observation connection: dial the endpoint that you see of it, and show ``token``; at most once."""

    token: Bytes16


class DialledBack(Message, frozen=True):
    """What came of it: from another port of the address that the client dialled, and from another address; ``unopened``
    is what answered a SYN to another port of the client's outside address, which nobody is known to have opened."""

    same_address: DialOutcome = "not-tried"
    other_address: DialOutcome = "not-tried"
    unopened: KnockOutcome = "not-tried"


class Cross(Message, frozen=True):
    """On an observation connection: open a port that answers no SYN, for me to dial; at most once."""


class CrossAt(Message, frozen=True):
    """The port, of the address that the client dialled for this connection; 0 if there is none."""

    port: Port = 0


class CrossNow(Message, frozen=True):
    """The client's SYN to that port is under way: dial the endpoint that you see of this connection from there."""


class Crossed(Message, frozen=True):
    """What came of it: the server's own SYN was answered although it had not answered the client's (``crossed``); it
    was not, but the client's SYN came from that endpoint and led to a connection when it was answered at last
    (``answered``); neither (``silent``)."""

    outcome: CrossOutcome = "not-tried"


class Introduce(Message, frozen=True):
    """Ask for a peer by registered name or by peer id text; ``wait_s``: how long to wait for one that is not here.

    Whatever the client asks next ends the wait, with its answer before the next one.
    """

    to: Annotated[str, Meta(max_length=128)]
    tag: Tag
    path: PathPolicy = "auto"
    wait_s: Annotated[int, Meta(ge=0, le=MAX_WAIT_S)] = 0


class NatSummary(Message, frozen=True):
    """What is known of one side's NAT over TCP (terms of RFC 4787 section 4); ``unknown`` where nothing was measured.

    ``mapping`` is the server's own observation; ``connection-dependent`` is what that side found out in addition, where
    the server sees ``port-dependent``: the same two endpoints get another port with the next connection.  ``ports``
    says how outside ports are chosen: ``preserving`` and ``changed`` are of one socket binding, the others come from
    that side's probes: ``sequential`` by ``step``, ``random`` within ``low`` to ``high`` (inclusive, the estimated
    range), ``block`` if that range is small.
    ``preserving`` beside a mapping that depends on the destination comes from probes too: a fresh local port keeps its
    number; with ``offset`` it has a constant added, another one for other destinations.  ``latest`` is the outside port
    that was given out last.  Ports are 0 where unknown.  ``simultaneous`` says whether a SYN comes in that crosses one
    to the same endpoint (RFC 5382, REQ-2), as that side found out with the server's help.
    """

    mapping: Literal[
        "unknown", "none", "endpoint-independent", "address-dependent", "port-dependent", "connection-dependent"
    ] = "unknown"
    ports: Literal["unknown", "preserving", "offset", "changed", "sequential", "block", "random"] = "unknown"
    step: Annotated[int, Meta(ge=-MAX_STEP, le=MAX_STEP)] = 0
    latest: Port = 0
    low: Port = 0
    high: Port = 0
    simultaneous: Literal["unknown", "yes", "no"] = "unknown"


class Introduction(Message, frozen=True):
    """Two peers meet: each gets the other's key and endpoints, and a relay token of its own.

    ``peer_name`` is the registered name by which the responder was asked for (both sides get that one), ``None`` when
    it was asked for by id.  ``mapped`` are endpoints that the peer's router leads to it.  ``relay_token`` is ``None``
    where the policies forbid the relay; ``observed``, ``lan`` and ``mapped`` are empty where they forbid dialling.
    ``round_trip_ms`` is the sum of the two round trips to the server, 0 if one is unknown.  ``order`` names ways of
    punching, the one that led to a path most often first where two such NATs met before; it is empty where the server
    does not know, and the same for both.
    """

    session: Bytes32
    initiator: bool
    peer_id: Bytes32
    responder_name: Text | None = None
    observed: Annotated[list[Endpoint], Meta(max_length=MAX_OBSERVED)] = []
    lan: Annotated[list[Endpoint], Meta(max_length=MAX_LAN)] = []
    mapped: Annotated[list[Endpoint], Meta(max_length=MAX_MAPPED)] = []
    relay_token: Bytes32 | None = None
    dial: bool = True
    my_nat: NatSummary = NatSummary()
    peer_nat: NatSummary = NatSummary()
    round_trip_ms: Annotated[int, Meta(ge=0, le=MAX_ROUND_TRIP_MS)] = 0
    order: Annotated[list[Word], Meta(max_length=MAX_WAYS)] = []


class Report(Message, frozen=True):
    """What this side's probes show of its NAT: kept with the connection, and passed on within a recent ``session``.

    The mapping in it does not matter: the server has its own.  Without ``nat`` it says that the server has observed
    this side at more endpoints than the other one was told of.
    """

    nat: NatSummary | None = None
    session: Bytes32 | None = None


class PeerNat(Message, frozen=True):
    """News of the other side of ``session``.

    ``nat`` is the server's view of the mapping, that side's of the ports, ``None`` where nothing is new of them;
    ``observed`` is where the server has seen it by now.
    """

    session: Bytes32
    nat: NatSummary | None = None
    observed: Annotated[list[Endpoint], Meta(max_length=MAX_OBSERVED)] = []


class PeerReturned(Message, frozen=True):
    """The peer of ``session`` registered again since, so it may never have read its introduction; or it has left."""

    session: Bytes32


class Outcome(Message, frozen=True):
    """What came of the punch of ``session`` on this side, once: which way led to the path that was nominated, or was
    tried last if none did, and in which class of time, or ``lost``.  Words that the server does not know do not count.
    """

    session: Bytes32
    way: Word
    result: Word


class Announce(Message, frozen=True):
    """The endpoints that this side's router leads to it, all of them: kept with the connection, and passed on within a
    recent ``session``.  Only those with an address from which the server saw this side go to anybody.
    """

    mapped: Annotated[list[Endpoint], Meta(max_length=MAX_MAPPED)] = []
    session: Bytes32 | None = None


class PeerMapped(Message, frozen=True):
    """The endpoints that the router of the other side of ``session`` leads to it."""

    session: Bytes32
    mapped: Annotated[list[Endpoint], Meta(max_length=MAX_MAPPED)] = []


class JoinRelay(Message, frozen=True):
    """First message of a relay leg."""

    version: Annotated[int, Meta(ge=1, le=65535)]
    token: Bytes32


class RelayReady(Message, frozen=True):
    """Both legs stand; every byte behind this frame is the peer's.

    ``limit``: the server carries so many bytes of both legs together and ends the session then; 0 if it counts none.
    """

    limit: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


class Ping(Message, frozen=True):
    """Are you there."""


class Pong(Message, frozen=True):
    """Yes."""


class Failure(Message, frozen=True):
    """A request failed; ``word`` is an error word of :mod:`p2pxfer.errors`, ``fatal`` ends the connection."""

    word: Annotated[str, Meta(max_length=32)]
    message: Text
    fatal: bool = False


SERVER: Catalogue[Message] = Catalogue(
    [
        (1, Register),
        (2, Observe),
        (3, Introduce),
        (4, JoinRelay),
        (5, Ping),
        (6, Report),
        (7, DialBack),
        (8, Outcome),
        (9, Announce),
        (10, Cross),
        (11, CrossNow),
        (17, Registered),
        (18, Observed),
        (19, Introduction),
        (20, RelayReady),
        (21, Pong),
        (22, Failure),
        (23, PeerNat),
        (24, DialledBack),
        (25, PeerReturned),
        (26, PeerMapped),
        (27, CrossAt),
        (28, Crossed),
    ]
)
FIRST_MESSAGES = (Register, Observe, JoinRelay)
"""What a client may send first."""
CLIENT_MESSAGES = (Introduce, Ping, Report, DialBack, Outcome, Announce, Cross, CrossNow)
"""What a registered client may send afterwards."""
SERVER_MESSAGES = (
    Registered, Observed, Introduction, RelayReady, Pong, Failure, PeerNat, DialledBack, PeerReturned, PeerMapped,
    CrossAt, Crossed,
)  # fmt: skip
"""What a server may send."""
