"""One listener for each local port, however many punches wait there, and who of them gets a connection.

Laws of this file:

1. Two listeners on one port would share what comes at the kernel's will, so there is one.  It is opened for the first
   guest and closed after the last.
2. A connection is offered to the guests that expect its endpoint, then to those that expect its host, and to no others:
   it would cost them a handshake that must fail.  Only where nobody expects the host all are asked.  Of equals the
   newest comes first.
3. A connection that nobody takes is reset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, cast

from msgspec import Struct
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import Binding, IAddress, IListeningPort, IProtocol, ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.tcp import makeBinding
from twisted.logger import Logger

from p2pxfer.core.addresses import observed_endpoint
from p2pxfer.net.types import Reactor


def reuse_binding(port: int, interface: str = "") -> Binding:
    """A binding that shares ``port`` with every other reuse binding of this user."""
    return makeBinding(interface, port, reuseAddress=True, reusePort=True)


class Guest(Struct, frozen=True, eq=False):
    """Who waits for connections.

    ``build(address)`` makes the protocol of each, or ``None`` to refuse it.  ``expected`` holds the hosts and ports
    from where they may come, canonical, as text and number; it may grow meanwhile.
    """

    build: Callable[[IAddress], IProtocol | None]
    expected: AbstractSet[tuple[str, int]]


def in_turn(guests: Sequence[Guest], host: str, port: int) -> list[Guest]:
    """Who is offered a connection from ``host`` and ``port``, best first; of ``guests`` the oldest is first."""
    newest = list(reversed(guests))
    exact = [one for one in newest if (host, port) in one.expected]
    near = [one for one in newest if one not in exact and any(host == other for other, _ in one.expected)]
    return exact + near or newest


class Doorman:
    """The listeners of one client.  How long a guest waits is up to whoever let it in."""

    log = Logger()

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._doors: dict[tuple[int, bool], _Door] = {}

    def admit(self, port: int, is_ipv6: bool, guest: Guest) -> None:
        """Let ``guest`` wait at a port.

        Where nobody can listen it waits in vain, which is only logged; the next guest is another try.
        """
        door = self._doors.setdefault((port, is_ipv6), _Door())
        door.guests.append(guest)
        if door.port is None:
            interface = "::" if is_ipv6 else ""
            binding: Any = reuse_binding(port, interface)  # Twisted takes it for the number of a port too
            try:
                door.port = self._reactor.listenTCP(binding, door, interface=interface)
            except (CannotListenError, OSError) as error:
                self.log.info("cannot listen: {why}", why=error)

    def dismiss(self, guest: Guest) -> None:
        """``guest`` waits no more, wherever it did."""
        for where, door in list(self._doors.items()):
            if guest in door.guests:
                door.guests.remove(guest)
            if not door.guests:
                del self._doors[where]
                if door.port is not None:
                    door.port.stopListening()


class _Door(ServerFactory):
    """One port, and who waits there, the oldest first."""

    noisy = False

    def __init__(self) -> None:
        self.guests: list[Guest] = []
        self.port: IListeningPort | None = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """The protocol of the first guest that wants who comes, or what turns them away."""
        there = cast(IPv4Address | IPv6Address, addr)
        seen = observed_endpoint(there.host, there.port)
        for guest in in_turn(self.guests, str(seen.host), seen.port):
            protocol = guest.build(there)
            if protocol is not None:
                return protocol
        return _TurnedAway()


class _TurnedAway(Protocol):
    """A connection that nobody takes; one that is merely closed would leave a state in the NATs."""

    def connectionMade(self) -> None:
        """Nobody wants this connection: reset it."""
        cast(ITCPTransport, self.transport).abortConnection()
