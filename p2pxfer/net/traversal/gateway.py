"""The router in front of this machine: which one it is, datagrams to and from it, and a local port to lead to.

Only Linux says here which router is the default one; elsewhere none is known, and nobody is asked.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol

from p2pxfer.core.traversal.pcp import SERVER_PORT
from p2pxfer.core.traversal.portcontrol import PortControl
from p2pxfer.core.traversal.routes import MAX_TEXT, default_gateway
from p2pxfer.net.traversal.freshports import fresh_port
from p2pxfer.net.types import Reactor

PORT_TRIES: Final = 5
_ROUTES: Final = "/proc/net/route"


def system_gateway() -> IPv4Address | None:
    """The default gateway for IPv4; ``None`` where there is none, or where the system is not Linux."""
    try:
        with Path(_ROUTES).open(encoding="ascii") as file:
            return default_gateway(file.read(MAX_TEXT))
    except (OSError, UnicodeDecodeError):
        return None


def hold_port() -> socket.socket | None:
    """A socket that is bound to a port for TCP and does not listen; ``None`` if none is free.

    Only bindings of the same user that ask for ``SO_REUSEPORT`` share it, as punches do.  ``SO_REUSEADDR`` on this one
    would let in everybody who sets it too: Linux does not compare users for that.
    """
    for _ in range(PORT_TRIES):
        port = fresh_port()
        try:
            # Without reuse first: what others share already is not taken.
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as alone:
                alone.bind(("", port))
            held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        except OSError:
            continue
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(("", port))
        except OSError:
            held.close()
            continue
        return held
    return None


class Datagrams(DatagramProtocol):
    """Carries the datagrams of one :class:`~p2pxfer.core.traversal.portcontrol.PortControl`."""

    def __init__(self, reactor: Reactor, core: PortControl, gateway: IPv4Address, changed: Callable[[], None]) -> None:
        self._reactor = reactor
        self.core = core
        self._gateway = gateway
        self._changed = changed
        self._timer: IDelayedCall | None = None
        self.why_not = ""
        """Why there is no way to the router."""

    def startProtocol(self) -> None:
        """See :class:`~twisted.internet.protocol.DatagramProtocol`; with no way to the router the socket is closed."""
        # Connected: the kernel lets nobody else's datagrams in, and tells when nobody is there.
        transport: Any = self.transport
        try:
            transport.connect(str(self._gateway), SERVER_PORT)
        except OSError as error:
            self.why_not = str(error)
            transport.stopListening()

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """See :class:`~twisted.internet.protocol.DatagramProtocol`."""
        self.core.receive(datagram, self._reactor.seconds())
        self.run()

    def connectionRefused(self) -> None:
        """See :class:`~twisted.internet.protocol.DatagramProtocol`."""
        self.core.nobody_there(self._reactor.seconds())
        self.run()

    def run(self) -> None:
        """Send what is due, arm the timer, tell."""
        if self.transport is None:
            return
        transport: Any = self.transport
        for datagram in self.core.due(self._reactor.seconds()):
            try:
                transport.write(datagram)
            except OSError:  # no route now: as good as lost
                pass
        self._stop_timer()
        wake = self.core.wake()
        if wake is not None:
            self._timer = self._reactor.callLater(max(0.0, wake - self._reactor.seconds()), self.run)
        self._changed()

    def stop(self) -> None:
        """Send and hear nothing any more."""
        self._stop_timer()
        if self.transport is not None:
            transport: Any = self.transport
            transport.stopListening()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
