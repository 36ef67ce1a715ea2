"""What the server dials for a client that wants to know what its NAT lets in.

Laws of this file:

1. Only the endpoint from which the asking connection itself comes is dialled, on which the client proved with TLS that
   it is there; beside it one port of the same address gets a SYN, and none of a common service.
2. A connection is dialled back once and crossed once; a source so many times a minute; all together so many at a time.
3. What is refused by a limit is answered as not tried, and nothing says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol as Interface

from p2pxfer.core.addresses import DENIED_PORTS, MIN_PORT, Endpoint, dialable_public, source_network
from p2pxfer.core.limits import Buckets
from p2pxfer.core.messages import (
    CrossAt,
    Crossed,
    CrossOutcome,
    DialBack,
    DialledBack,
    DialOutcome,
    KnockOutcome,
)
from p2pxfer.core.server import introductions
from p2pxfer.core.server.effects import CrossOut, DialOut, Effect, Listening, OpenDeaf, Send, ServerSettings
from p2pxfer.core.server.links import Link

_UNCOMMON_PORTS = tuple(port for port in range(MIN_PORT, 65536) if port not in DENIED_PORTS)
"""Where nobody is likely to listen."""


class Place(Interface):
    """Where the server is."""

    listening: Listening


class DialOuts:
    """The dials of one server.  ``entropy(n)`` gives ``n`` random bytes; ``now`` is monotonic seconds.

    A ``link`` that is ``None`` stands for a connection that has ended meanwhile.
    """

    def __init__(self, place: Place, entropy: Callable[[int], bytes], settings: ServerSettings) -> None:
        self._place = place
        self._entropy = entropy
        self._settings = settings
        self._backs = Buckets(settings.dial_backs_per_source / 60, settings.dial_backs_per_source)
        self._crossings = Buckets(settings.crossings_per_source / 60, settings.crossings_per_source)
        self._dialling = 0
        self._crossing = 0

    # -- dialling back -------------------------------------------------------------------------------------------

    def back(self, link: Link, message: DialBack, now: float) -> list[Effect]:
        """A client asks to be dialled back."""
        seen, here = link.view.seen, link.view.at
        allowed = not link.dialled and self._dialling < self._settings.dial_backs and self._dialable(link)
        if not (allowed and self._backs.take(source_network(seen.host), now)):
            return [Send(link.conn, DialledBack())]
        link.dialled = True
        self._dialling += 1
        others = [
            endpoint.host
            for endpoint in self._own(link)
            if endpoint.host.version == here.host.version and endpoint.host != here.host
        ]
        sources = (here.host, others[0] if others else None)
        return [DialOut(link.conn, seen, sources, message.token, self.unopened(seen))]

    def ended(self, link: Link | None, outcomes: Sequence[DialOutcome], unopened: KnockOutcome) -> list[Effect]:
        """What came of dialling back."""
        self._dialling -= 1
        if link is None:
            return []
        same, other = outcomes
        return [Send(link.conn, DialledBack(same, other, unopened))]

    def unopened(self, seen: Endpoint) -> Endpoint:
        """Another port of the address of ``seen``, by chance, at which no common service is."""
        at = int.from_bytes(self._entropy(4), "big") % len(_UNCOMMON_PORTS)
        port = _UNCOMMON_PORTS[at]
        return Endpoint(seen.host, port if port != seen.port else _UNCOMMON_PORTS[at - 1])

    # -- crossing ------------------------------------------------------------------------------------------------

    def cross(self, link: Link, now: float) -> list[Effect]:
        """A client asks for a port that does not answer."""
        seen = link.view.seen
        allowed = link.crossing == "none" and self._crossing < self._settings.crossings and self._dialable(link)
        if not (allowed and self._crossings.take(source_network(seen.host), now)):
            return [Send(link.conn, CrossAt())]
        link.crossing = "asked"
        self._crossing += 1
        return [OpenDeaf(link.conn, link.view.at.host, seen)]

    def deaf(self, link: Link | None, port: int) -> list[Effect]:
        """The port is open, or cannot be (0)."""
        if link is None:
            return []
        link.crossing = "deaf" if port else "over"
        return [Send(link.conn, CrossAt(port))]

    def cross_now(self, link: Link) -> list[Effect]:
        """The client has dialled the port."""
        if link.crossing != "deaf":
            return [Send(link.conn, Crossed())]
        link.crossing = "dialling"
        return [CrossOut(link.conn)]

    def crossed(self, link: Link | None, outcome: CrossOutcome) -> list[Effect]:
        """What came of it, which nobody hears who has not said that it dialled."""
        self._crossing -= 1
        if link is None:
            return []
        told = link.crossing == "dialling"
        link.crossing = "over"
        return [Send(link.conn, Crossed(outcome))] if told else []

    def _dialable(self, link: Link) -> bool:
        return dialable_public(link.view.seen, allow_private=True, allow_loopback=True, refuse=self._own(link))

    def _own(self, link: Link) -> list[Endpoint]:
        """The server's own endpoints, as this client may know them."""
        return introductions.server_endpoints(self._place.listening, link.view.at, link.view.seen)
