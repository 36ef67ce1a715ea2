"""Dialling the rendezvous server: for the control connection, for the observation connections and for relay legs."""

from __future__ import annotations

import errno
import os
from functools import partial

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError, NoRouteError, TimeoutError
from twisted.internet.interfaces import IProtocol

from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.core.text import safe_text
from p2pxfer.net.connection.serverlink import RelayLeg, ServerLink
from p2pxfer.net.connection.servertrust import ServerTLS, ServerTrust
from p2pxfer.net.connection.streams import SecureBootstrap, dial, too_late
from p2pxfer.net.connection.tls import Creator, first_line
from p2pxfer.net.private.identity import Identity
from p2pxfer.net.traversal.listening import reuse_binding
from p2pxfer.net.traversal.ownaddresses import endpoint_text
from p2pxfer.net.types import Reactor

CONNECT_S = 15.0
"""Deadline of one attempt: name resolution, TCP, TLS and registration together, seconds."""
RELAY_S = 30.0
"""Deadline for the other leg of a relay to appear, seconds."""


class ServerAddress(Struct, frozen=True):
    """Where the server is and what proves that it is the one."""

    host: str
    port: int
    trust: ServerTrust

    def __str__(self) -> str:
        return endpoint_text(safe_text(self.host, 100), self.port)


def server_address(line: ServerLine) -> ServerAddress:
    """Where the server of an address line is and what proves it: its pin, or its host name."""
    return ServerAddress(line.host, line.port, ServerTrust(host=line.host, pin=line.pin))


def why_not_reached(fault: Exception) -> str:
    """Why no connection to the server came about, and what may help; Twisted's own texts say it twice, with numbers."""
    number = fault.osError if isinstance(fault, ConnectError) else None
    match fault:
        case ConnectionRefusedError():
            return "connections are refused; does the server run there?"
        case DNSLookupError():
            return "that name leads to no address; is it spelled right?"
        case TimeoutError() | ConnectError(osError=errno.ETIMEDOUT):
            return "nothing answers; is the address right, and its port open in the firewall there?"
        case NoRouteError() | ConnectError(osError=errno.EHOSTUNREACH):
            return "no way leads there; is this machine's network up?"
        case _ if isinstance(number, int):
            return safe_text(os.strerror(number)).lower()
        case _:
            return first_line(fault)


class ServerDialler:
    """Opens TLS connections to ``server`` that show the key of ``identity``."""

    def __init__(self, reactor: Reactor, identity: Identity, server: ServerAddress) -> None:
        self._reactor = reactor
        self._identity = identity
        self._server = server

    def dial(self, link: ServerLink | RelayLeg, local: int | None) -> Deferred[IProtocol]:
        """Connect ``link`` to the server's main port, from the port ``local`` with a reuse binding if one is given.

        Fails with what Twisted's endpoints fail with.
        """
        return self.dial_at(link, self._server.host, self._server.port, local)

    def dial_at(
        self, link: ServerLink | RelayLeg, host: str, port: int, local: int | None, own: str = ""
    ) -> Deferred[IProtocol]:
        """As :meth:`dial`, to one of the server's addresses and ports, from the own address ``own`` if it is given."""
        binding = None if local is None else reuse_binding(local, own)
        creator = ServerTLS(self._identity, self._server.trust)
        bootstrap = SecureBootstrap(self._reactor, link, creator, is_client=True)
        return dial(self._reactor, host, port, bootstrap, timeout=CONNECT_S, binding=binding)

    def join_relay(self, token: bytes, inner: IProtocol, creator: Creator, is_client: bool) -> Deferred[IProtocol]:
        """Open a relay leg; when the other leg stands too, ``inner`` runs over it under ``creator``'s TLS."""
        leg = RelayLeg(self._reactor, token, inner, creator, is_client)
        self.dial(leg, None).addErrback(leg.not_connected)
        leg.joined.addTimeout(RELAY_S, self._reactor, partial(too_late, "the peer did not come to the relay"))
        return leg.joined
