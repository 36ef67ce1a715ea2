"""Probes: connections to the server from fresh local ports, which show what outside ports the NAT gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol
from twisted.python.failure import Failure

from p2pxfer.core.addresses import Endpoint, canonical_endpoint, parse_endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.messages import VERSION, Observe, Observed
from p2pxfer.core.traversal.discovery import ORDER, PROBES, Probe
from p2pxfer.errors import P2pxferError
from p2pxfer.net.connection.serverlink import ServerLink
from p2pxfer.net.traversal.freshports import fresh_ports
from p2pxfer.net.types import Reactor

FLIGHT_S = 5.0
"""How long the first answer to a probe may take, seconds."""
SETTLE_S = 0.8
"""How long after the first answer the others count: a SYN that had to be repeated, a second later, may have been given
its outside port out of order."""

Opener = Callable[[ServerLink, str, int, int], Deferred[IProtocol]]
"""Dials the server for a link: its host and port, and the local port to dial from."""


def probe_ports() -> list[int]:
    """Fresh local ports for a whole probe, in the order in which they are to be dialled."""
    row = fresh_ports(PROBES)
    return [row[number] for number in ORDER]


class Flight:
    """Dials one endpoint of the server from several local ports at the same moment, in their order.

    ``done`` fires once, with the answers in the order of the ports; it never fails.
    """

    def __init__(self, reactor: Reactor, opener: Opener, target: Endpoint, ports: Sequence[int]) -> None:
        self._reactor = reactor
        self._opener = opener
        self._target = target
        self._ports = ports
        self._answers: dict[int, Endpoint] = {}
        self._links = {ServerLink(reactor, self._on_message, self._lost): port for port in ports}
        self._openings: list[Deferred[IProtocol]] = []
        self._timer: IDelayedCall | None = None
        self.done: Deferred[list[Probe]] = Deferred()

    def start(self) -> None:
        """Send every SYN before anything else happens."""
        self._timer = self._reactor.callLater(FLIGHT_S, self.stop)
        for link, port in list(self._links.items()):
            link.secured.addCallbacks(self._secured, lambda _: None, callbackArgs=(link, port))
            opening = self._opener(link, str(self._target.host), self._target.port, port)
            self._openings.append(opening)
            opening.addErrback(self._not_opened, link)

    def stop(self) -> None:
        """End here, with the answers that there are."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        links, self._links = self._links, {}
        for opening in self._openings:
            opening.cancel()
        for link in links:
            link.close()
        if not self.done.called:
            self.done.callback([Probe(port, self._answers[port]) for port in self._ports if port in self._answers])

    def _secured(self, _: object, link: ServerLink, port: int) -> None:
        link.send(Observe(version=VERSION, tag=port))

    def _on_message(self, link: ServerLink, message: Message) -> None:
        if not isinstance(message, Observed) or link not in self._links:
            return
        port = self._links[link]
        if not self._answers and self._timer is not None and self._timer.active():
            self._timer.reset(SETTLE_S)
        self._answers[port] = canonical_endpoint(parse_endpoint(message.observed))
        self._over(link)

    def _not_opened(self, failure: Failure, link: ServerLink) -> None:
        self._over(link)

    def _lost(self, link: ServerLink, error: P2pxferError) -> None:
        self._over(link)

    def _over(self, link: ServerLink) -> None:
        if self._links.pop(link, None) is not None:
            link.close()
            if not self._links:
                self.stop()
