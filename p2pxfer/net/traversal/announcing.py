"""Tells the server, and through it whoever meets this machine just now, of the port that the router leads here.

A port is announced while the server sees this machine come from the very address that the router calls its own.  With
another NAT in front of the router, a carrier's most often, nobody outside can reach it there, but a peer behind the
same one may.  So an address of a carrier's or a private network is announced too, and the server passes it on to such
peers only.  Where the router names its address and gives no port, the punch port goes with it: most routers keep it.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pxfer.core.addresses import Endpoint, canonical_endpoint, dialable_inner
from p2pxfer.core.codec import Message
from p2pxfer.core.messages import Announce, Introduction
from p2pxfer.core.traversal.discovery import MEETING_S
from p2pxfer.net.traversal.portmapping import PortMapping, usable
from p2pxfer.net.traversal.probing import MAX_MEETINGS, SETTLED_S, NatDiscovery
from p2pxfer.net.types import Reactor


class Announcer:
    """What has been said of the port on this registration, and to which meetings.

    ``send`` writes to the control connection, if it stands.
    """

    def __init__(self, reactor: Reactor, discovery: NatDiscovery, send: Callable[[Message], None]) -> None:
        self._reactor = reactor
        self._discovery = discovery
        self._send = send
        self._registered = False
        self._told: tuple[Endpoint, ...] = ()
        self._told_at = 0.0
        self._meetings: dict[bytes, tuple[float, tuple[Endpoint, ...]]] = {}
        self.mapping = PortMapping(reactor, self.changed)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where the router leads a port to this machine, if peers can use it."""
        granted = self.mapping.granted
        if granted is None or self.why_not:
            return ()
        return (canonical_endpoint(granted.external),)

    @property
    def offered(self) -> tuple[Endpoint, ...]:
        """The same, or the endpoint that peers behind the same carrier's NAT may use."""
        granted, outside = self.mapping.granted, self.mapping.outside
        if granted is not None:
            inner = canonical_endpoint(granted.external)
        elif outside is not None and self._discovery.tag:
            inner = Endpoint(outside, self._discovery.tag)
        else:
            return ()
        return (inner,) if dialable_inner(inner) else self.endpoints

    @property
    def why_not(self) -> str:
        """Why there is no such endpoint, as a phrase; empty if there is one."""
        granted = self.mapping.granted
        if granted is None:
            return self.mapping.refusal
        return usable(granted.external, {seen.host for seen in self._discovery.seen})

    def registered(self) -> None:
        """A registration stands; the server knows of nothing yet."""
        self._registered = True
        self._told = ()
        self.changed()

    def lost(self) -> None:
        """The control connection is gone, and with it its meetings."""
        self._registered = False
        self._meetings.clear()

    def introduced(self, introduction: Introduction) -> None:
        """A meeting begins, in either role: its other side was told what the server knew then.

        The server may have learnt of a new port while the introduction was on its way; then it is told once more.
        """
        if introduction.dial:
            now = self._reactor.seconds()
            told = self._told if now - self._told_at > SETTLED_S else ()
            self._meetings[introduction.session] = (now, told)
            if len(self._meetings) > MAX_MEETINGS:
                del self._meetings[next(iter(self._meetings))]
            self.changed()

    def changed(self) -> None:
        """More is known of the port, or of where the server sees this machine."""
        if not self._registered:
            return
        endpoints = self.offered
        now = self._reactor.seconds()
        self._meetings = {session: met for session, met in self._meetings.items() if now - met[0] < MEETING_S}
        for session, (since, told) in list(self._meetings.items()):
            if told != endpoints:
                self._meetings[session] = (since, endpoints)
                self._tell(endpoints, session, now)
        if self._told != endpoints:
            self._tell(endpoints, None, now)

    def _tell(self, endpoints: tuple[Endpoint, ...], session: bytes | None, now: float) -> None:
        if self._told != endpoints:
            self._told, self._told_at = endpoints, now
        self._send(Announce([str(endpoint) for endpoint in endpoints], session))
