"""A NAT, and behind it a server that says from which port each connection came: what the discovery finds out about."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import Clock

from p2pxfer.core.addresses import parse_endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.framing import FrameDecoder
from p2pxfer.core.messages import SERVER, Observe, Observed, Registered
from p2pxfer.net.connection.serverlink import ServerLink
from p2pxfer.net.traversal.probing import NatDiscovery
from tests.net.reactors import time_only

HOME, TAG = "198.18.1.1", 20_001
AT = parse_endpoint("198.18.0.10:8877")
OTHERS = ["198.18.0.10:8878", "198.18.0.11:8877", "198.18.0.11:8878"]
OWN = frozenset({ip_address("192.168.1.2")})


class Wire:
    """The transport of one link: the server's end of it."""

    def __init__(self, net: Net, link: ServerLink, local: int, at: str) -> None:
        self.net, self.link, self.local, self.at = net, link, local, at
        self.aborted = False
        self.decoder = FrameDecoder(SERVER.caps())

    def write(self, data: bytes) -> None:
        for frame in self.decoder.feed(data):
            message = SERVER.decode(frame)
            assert isinstance(message, Observe)
            assert message.tag == self.local
            self.net.answer(self)

    def abortConnection(self) -> None:
        self.aborted = True


class Net:
    """A NAT (``choose(local port, server endpoint)`` gives the outside port) and a server behind it."""

    def __init__(self, choose: Callable[[int, str], int], may_probe: bool = True) -> None:
        self.clock = Clock()
        self.choose = choose
        self.wires: list[Wire] = []
        self.seen: dict[Wire, int] = {}
        self.silent: set[str] = set()
        self.refused: set[str] = set()
        self.late: dict[int, float] = {}
        """Number of a connection -> how long its answer takes."""
        self.sent: list[Message] = []
        self.discovery = NatDiscovery(time_only(self.clock), self.open, self.sent.append, may_probe)

    def open(self, link: ServerLink, host: str, port: int, local: int) -> Deferred[Any]:
        opening: Deferred[Any] = Deferred()
        at = f"{host}:{port}"
        if at in self.refused:
            opening.errback(Refused())
            return opening
        wire = Wire(self, link, local, at)
        self.wires.append(wire)
        self.seen[wire] = self.choose(local, at)
        if at in self.silent:
            return opening
        link.transport = wire  # type: ignore[assignment]  # what a link uses of one
        self.clock.callLater(self.late.get(len(self.wires), 0.1), self.secured, link, opening)
        return opening

    def secured(self, link: ServerLink, opening: Deferred[Any]) -> None:
        opening.callback(link)
        link.handshakeCompleted()

    def answer(self, wire: Wire) -> None:
        if not wire.aborted:
            wire.link.dataReceived(SERVER.encode(Observed(tag=wire.local, observed=f"{HOME}:{self.seen[wire]}")))

    def register(self, control: int) -> None:
        answer = Registered(id=bytes(32), observed=f"{HOME}:{control}", observers=OTHERS)
        self.discovery.begin(AT, TAG, answer, OWN)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)

    @property
    def probes(self) -> list[Wire]:
        return [wire for wire in self.wires if wire.local != TAG]
