"""UPnP-IGD over the network: the search for a router's control address, and the calls that ask it for a port.

Why this is written here: ``miniupnpc`` fetches its description from whatever address answered the search and has no
limit on what it reads; ``async-upnp-client`` brings a second event loop and its HTTP client.  The few texts are in
:mod:`p2pxfer.core.traversal.igd`, HTTP is Twisted's.

Laws of this file:

1. Only answers of the gateway itself count, and only the gateway is asked anything.
2. A search ends after ``SEARCH_S``, a call after ``CALL_S`` or ``MAX_ANSWER`` octets.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as TooLong
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IConsumer, IDelayedCall, IProtocolFactory
from twisted.internet.protocol import DatagramProtocol, Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from p2pxfer.core.traversal import igd
from p2pxfer.core.traversal.igd import MAX_TEXT, SEARCH_AT, BadAnswer, Control, Reply
from p2pxfer.net.debuglog import Logger
from p2pxfer.net.types import Reactor

SEARCH_AGAIN_S: Final = (0.0, 0.4, 1.0)
"""When the search is sent, seconds; multicast is lost easily on wireless networks."""
SEARCH_S: Final = 2.5
CALL_S: Final = 3.0
MAX_ANSWER: Final = MAX_TEXT + 16_384
"""Most octets that are taken of one HTTP answer, headers included."""


class _Search(DatagramProtocol):
    """One search; ``done`` fires with the URL of the gateway's description, or ``None``."""

    log = Logger()

    def __init__(self, reactor: Reactor, own: IPv4Address, gateway: IPv4Address) -> None:
        self._reactor = reactor
        self._own = str(own)
        self._gateway = gateway
        self._calls: list[IDelayedCall] = []
        self._over = False
        self.done: Deferred[str | None] = Deferred(lambda _: self._end(None))

    def startProtocol(self) -> None:
        """Ask, some times, from the address that leads to the router."""
        transport: Any = self.transport
        transport.setOutgoingInterface(self._own).addErrback(lambda failure: self._end(None))
        transport.setTTL(2)
        self._calls = [self._reactor.callLater(pause, self._ask) for pause in SEARCH_AGAIN_S]
        self._calls.append(self._reactor.callLater(SEARCH_S, self._end, None))

    def _ask(self) -> None:
        # To the gateway directly as well: some networks drop multicast.
        for where in (SEARCH_AT, (str(self._gateway), SEARCH_AT[1])):
            try:
                self.transport.write(igd.search(), where)  # type: ignore[union-attr]  # Twisted's
            except OSError as error:
                self.log.debug("the search was not sent: {why}", why=str(error))

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """An answer, which counts if it comes from the router."""
        if addr[0] != str(self._gateway):
            return
        try:
            self._end(igd.location(datagram, self._gateway))
        except BadAnswer as error:
            self.log.info("the gateway's answer to the search is not used: {why}", why=str(error))

    def _end(self, found: str | None) -> None:
        if self._over:
            return
        self._over = True
        for call in self._calls:
            if call.active():
                call.cancel()
        if self.transport is not None:
            self.transport.stopListening()
        if not self.done.called:
            self.done.callback(found)


class _Body(Protocol):
    """Reads one HTTP body to its end; whether that is a clean one does not matter: half a document is no XML."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Collect a part of the answer."""
        self._data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The answer ends: what there is of it is all."""
        self.done.callback(bytes(self._data))


class _Limited(ProtocolWrapper):
    """A connection that brings ``MAX_ANSWER`` octets at most, headers included."""

    _left = MAX_ANSWER

    def dataReceived(self, data: bytes) -> None:
        """Hand on what is within the limit, and end the connection beyond."""
        self._left -= len(data)
        if self._left >= 0:
            super().dataReceived(data)  # type: ignore[no-untyped-call]  # Twisted's
        else:
            transport: Any = self.transport
            transport.abortConnection()


class _LimitedFactory(WrappingFactory):
    noisy = False
    protocol = _Limited


class _LimitedEndpoint:
    """Connects to the router, from one address, with a limit on what it may say."""

    def __init__(self, reactor: Reactor, host: str, port: int, connected: Callable[[Any], None]) -> None:
        from twisted.internet.endpoints import TCP4ClientEndpoint

        self._endpoint = TCP4ClientEndpoint(reactor, host, port, timeout=CALL_S)
        self._connected = connected

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """See ``IStreamClientEndpoint``; gives the protocol inside the limit."""
        limited = _LimitedFactory(factory)  # type: ignore[no-untyped-call]  # Twisted's
        connecting: Deferred[Any] = self._endpoint.connect(limited)
        return connecting.addCallback(self._inner)

    def _inner(self, outer: _Limited) -> Any:
        self._connected(outer.transport)
        return outer.wrappedProtocol


class Igd:
    """A router that answered the search."""

    def __init__(self, reactor: Reactor, own: IPv4Address, service: Control) -> None:
        self._reactor = reactor
        self._own = own
        self._service = service

    @classmethod
    async def find(cls, reactor: Reactor, own: IPv4Address, gateway: IPv4Address) -> Igd | None:
        """Look for the gateway's control address from the address ``own``; ``None`` if it does not answer.

        Raises:
            BadAnswer: what it answers is of no use.
        """
        search = _Search(reactor, own, gateway)
        try:
            reactor.listenMulticast(0, search, interface=str(own))
        except CannotListenError:
            return None
        url = await search.done
        if url is None:
            return None
        status, description = await _fetch(reactor, b"GET", url, {}, b"")
        if status != 200:
            raise BadAnswer("no description")
        return cls(reactor, own, igd.control(description, url, gateway))

    async def external(self) -> IPv4Address:
        """The router's outside address.

        Raises:
            BadAnswer: it does not say.
        """
        return igd.external_address(await self._call("GetExternalIPAddress", {}))

    async def add(self, internal: int, external: int, lifetime: int) -> int:
        """Ask for a port for ``lifetime`` seconds (0 is for ever); gives the error code, 0 if there is none.

        Raises:
            BadAnswer: the answer is none.
        """
        answer = await self._call("AddPortMapping", igd.add_arguments(self._own, internal, external, lifetime))
        return answer.error

    async def delete(self, external: int) -> None:
        """Give a port back.

        Raises:
            BadAnswer: the answer is none.
        """
        await self._call("DeletePortMapping", igd.delete_arguments(external))

    async def _call(self, action: str, arguments: dict[str, str | int]) -> Reply:
        headers = {
            "Content-Type": 'text/xml; charset="utf-8"',
            "SOAPAction": f'"{self._service.service}#{action}"',
        }
        body = igd.request(action, self._service.service, arguments)
        status, text = await _fetch(self._reactor, b"POST", self._service.url, headers, body)
        answer = igd.reply(text)
        if status != 200 and not answer.error:
            raise BadAnswer("a failure without an error")
        return answer


async def _fetch(reactor: Reactor, method: bytes, url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """One HTTP request on a connection of its own; redirections are not followed.

    Raises:
        BadAnswer: no connection, no HTTP, too much of it, or none of it in ``CALL_S`` seconds.
    """
    asking = Deferred.fromCoroutine(_exchange(reactor, method, url, headers, body))
    asking.addTimeout(CALL_S, reactor)
    try:
        return await asking
    except TooLong:
        raise BadAnswer("silence") from None
    except (BadAnswer, CancelledError):
        raise
    except Exception as error:
        raise BadAnswer(f"no HTTP ({type(error).__name__})") from error


class _Text:
    """A request's body, as Twisted's ``IBodyProducer``; not declared as one, since that would import HTTP at once."""

    def __init__(self, text: bytes) -> None:
        self.length = len(text)
        self._text = text

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write all of it at once."""
        consumer.write(self._text)
        return succeed(None)

    def pauseProducing(self) -> None:
        """All was written at once."""

    resumeProducing = stopProducing = pauseProducing


class _Endpoints:
    """Where Twisted's HTTP client connects: see ``IAgentEndpointFactory``."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._transports: list[Any] = []

    def endpointForURI(self, uri: Any) -> _LimitedEndpoint:
        """Where the host and port of an address are connected to."""
        return _LimitedEndpoint(self._reactor, uri.host.decode("ascii"), uri.port, self._transports.append)

    def abort(self) -> None:
        """Close what was connected; Twisted's client cannot, once it has delivered the headers."""
        for transport in self._transports:
            transport.abortConnection()


async def _exchange(
    reactor: Reactor, method: bytes, url: str, headers: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    # Imported when a router has answered, as the endpoints above: most networks never need it.
    from twisted.web.client import Agent
    from twisted.web.http_headers import Headers

    endpoints = _Endpoints(reactor)
    agent = Agent.usingEndpointFactory(reactor, endpoints)
    fields = Headers({name: [value] for name, value in headers.items()})
    try:
        response = await agent.request(method, url.encode("ascii"), fields, _Text(body) if body else None)
        reader = _Body()
        response.deliverBody(reader)
        return response.code, await reader.done
    except BaseException:
        endpoints.abort()
        raise
