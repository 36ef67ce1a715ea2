"""Dialling a server by its name: which of its addresses, when, and that the name is asked for each time."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IHostnameResolver, IProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from p2pxfer.net.connection.streams import dial

NAME, PORT = "server.example", 8877
BROKEN_V6, V4, V4_LATER = "2001:db8::1", "192.0.2.1", "192.0.2.2"
SOON_S = 2.0


@implementer(IHostnameResolver)
class Names:
    """A resolver that answers at once with what stands here now."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """See the interface."""
        assert hostName == NAME
        resolutionReceiver.resolutionBegan(cast(Any, object()))
        for address in self.addresses:
            kind = IPv6Address if ":" in address else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", address, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolutionReceiver


def dialled(reactor: Any) -> Deferred[IProtocol]:
    """One attempt to reach the server."""
    return dial(reactor, NAME, PORT, Protocol(), timeout=15.0, binding=None)


def world(*addresses: str) -> tuple[Any, Names]:
    """A reactor in memory, and what names mean in it."""
    reactor: Any = MemoryReactorClock()
    names = Names(*addresses)
    reactor.nameResolver = names
    return reactor, names


def answers(reactor: Any, number: int) -> None:
    """The connection of the attempt with this number stands."""
    _, _, factory, _, _ = reactor.tcpClients[number]
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(cast(Any, object()))


def test_f47_ipv6_that_leads_nowhere_holds_ipv4_up_for_less_than_two_seconds() -> None:
    reactor, _ = world(BROKEN_V6, V4)
    found: list[object] = []
    dialled(reactor).addCallback(found.append)
    reactor.pump([0.1] * round(SOON_S * 10))
    assert [client[0] for client in reactor.tcpClients] == [BROKEN_V6, V4]
    answers(reactor, 1)
    assert len(found) == 1


@pytest.mark.parametrize("address", [BROKEN_V6, V4])
def test_f47_one_kind_of_address_is_enough(address: str) -> None:
    reactor, _ = world(address)
    found: list[object] = []
    dialled(reactor).addCallback(found.append)
    reactor.advance(SOON_S)
    answers(reactor, 0)
    assert len(found) == 1


def test_f46_a_name_is_looked_up_for_every_attempt() -> None:
    """A server that moved is found, and an answer that was wrong once does no harm later."""
    reactor, names = world(V4)
    for address in (V4, V4_LATER, "127.0.0.1"):
        names.addresses = (address,)
        lost: list[object] = []
        dialling = dialled(reactor).addErrback(lost.append)
        reactor.advance(SOON_S)
        assert reactor.tcpClients[-1][0] == address
        dialling.cancel()
        assert len(lost) == 1


def test_f46_a_name_without_an_address_fails_and_is_asked_for_again() -> None:
    reactor, names = world()
    failed: list[Any] = []
    dialled(reactor).addErrback(failed.append)
    reactor.advance(SOON_S)
    (failure,) = failed
    assert failure.check(DNSLookupError)
    names.addresses = (V4,)
    found: list[object] = []
    dialled(reactor).addCallback(found.append)
    reactor.advance(SOON_S)
    answers(reactor, 0)
    assert len(found) == 1
