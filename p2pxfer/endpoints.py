"""Twisted endpoints between two machines behind NATs: any protocol runs over a session as it does over TCP.

One machine offers a service to some of its contacts, the other one connects to it::

    port = await PeerServerEndpoint(Machine.here(reactor), "echo", to=["bob"]).listen(Factory.forProtocol(Echo))

    echo = await connectProtocol(PeerClientEndpoint(Machine.here(reactor), "alice", "echo"), Echo())

The keys, the contacts and the server are those of the command line.  The transports have what TCP's have: back pressure
both ways, ends of one direction (``IHalfCloseableProtocol``), resets.  Paths come and go below them.  Everything fails
with a :class:`~p2pxfer.errors.P2pxferError`, whose words are for people.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from zope.interface import implementer

from p2pxfer.core.session.services import check_service
from p2pxfer.errors import P2pxferError
from p2pxfer.net.services.channelstream import ChannelStream
from p2pxfer.net.services.peeraddress import PeerAddress
from p2pxfer.net.services.peerservice import PeerService, PeerSession
from p2pxfer.net.services.streamsession import Asking
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine

__all__ = ["Machine", "PeerAddress", "PeerClientEndpoint", "PeerPort", "PeerServerEndpoint"]

IDLE_S = 10.0
"""How long a client endpoint keeps its session after the last connection, seconds."""
_Result = TypeVar("_Result")


@implementer(IStreamClientEndpoint)
class PeerClientEndpoint:
    """Connects to ``service`` of a contact.  All connections share one session, which ends some time after the last.

    Raises:
        UsageError: the contact or the service is none.
    """

    def __init__(self, machine: Machine, peer: str | KnownPeer, service: str, *, expected: bool = False) -> None:
        self._machine = machine
        self._peer = peer if isinstance(peer, KnownPeer) else machine.peer(peer)
        self._service = check_service(service)
        self._expected = expected
        self._session: PeerSession | None = None
        self._waiting = 0
        self._idle: IDelayedCall | None = None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803  # Twisted's name
        """See Twisted; fails with a :class:`~p2pxfer.errors.P2pxferError`."""
        self._stop_timer()
        session = self._session or self._begin()
        self._waiting += 1
        protocolFactory.doStart()
        answer = session.calling.connect(protocolFactory.buildProtocol)
        answer.addBoth(_stop_later, protocolFactory)
        return answer.addBoth(self._answered)

    def _answered(self, result: _Result) -> _Result:
        self._waiting -= 1
        self._empty()
        return result

    def _begin(self) -> PeerSession:
        session = PeerSession(self._machine, self._peer, self._service, expected=self._expected)
        session.calling.on_empty = self._empty
        session.calling.ended.addCallback(lambda error: self._leave())
        self._session = session
        session.start()
        return session

    def _empty(self) -> None:
        session = self._session
        if session is not None and self._idle is None and not self._waiting and not session.calling.connections:
            self._idle = self._machine.reactor.callLater(IDLE_S, self._leave)

    def _leave(self) -> None:
        self._stop_timer()
        session, self._session = self._session, None
        if session is not None:
            Deferred.fromCoroutine(session.close())

    def _stop_timer(self) -> None:
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        self._idle = None


@implementer(IListeningPort)
class PeerPort:
    """What listening gives: its end, and its address.

    ``failed`` fires with a :class:`~p2pxfer.errors.P2pxferError` if it comes to an end that nobody here asked for; then
    the factory has been stopped, and nobody is listening.
    """

    _log = Logger()

    def __init__(self, service: PeerService, factory: IProtocolFactory) -> None:
        self._service = service
        self._factory = factory
        self._stopped = False
        self.failed: Deferred[P2pxferError] = Deferred()
        service.failed.addCallback(self._service_failed)
        factory.doStart()

    def _service_failed(self, error: P2pxferError) -> P2pxferError:
        if not self._stopped:
            self._log.error("{address} is not listened at any more: {error}", address=self.getHost(), error=error)
            stopping = self.stopListening()
            stopping.addErrback(lambda failure: self._log.failure("ending a service", failure))
            stopping.addCallback(lambda _: self.failed.callback(error))
        return error

    def startListening(self) -> None:
        """See Twisted: it listens from the beginning."""

    def stopListening(self) -> Deferred[None]:
        """See Twisted; connections that stand are reset."""
        stopping = Deferred.fromCoroutine(self._service.close())
        stopped, self._stopped = self._stopped, True
        return stopping if stopped else stopping.addBoth(self._leave)

    def _leave(self, result: _Result) -> _Result:
        self._factory.doStop()
        return result

    def getHost(self) -> IAddress:
        """See Twisted."""
        return self._service.address


@implementer(IStreamServerEndpoint)
class PeerServerEndpoint:
    """Offers ``service`` to the contacts ``to``, named as :meth:`Machine.peer` takes them.

    Raises:
        UsageError: one of them is no contact, or the service is none.
    """

    def __init__(self, machine: Machine, service: str, to: Iterable[str | KnownPeer]) -> None:
        self._machine = machine
        self._service = check_service(service)
        self._guests = [one if isinstance(one, KnownPeer) else machine.peer(one) for one in to]

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803  # Twisted's name
        """See Twisted; fires when the server knows the service."""
        service = PeerService(
            self._machine, self._service, lambda: self._guests, lambda who, asking: _accept(asking, protocolFactory)
        )
        port = PeerPort(service, protocolFactory)
        listening = service.start()
        listening.addErrback(lambda failure: port.stopListening().addBoth(lambda _: failure))
        return listening.addCallback(lambda _: port)


def _stop_later(result: _Result, factory: IProtocolFactory) -> _Result:
    """The factory stops when its connection has ended, or did not come about."""
    transport = getattr(result, "transport", None)
    if isinstance(transport, ChannelStream):
        transport.when_lost(factory.doStop)
    else:
        factory.doStop()
    return result


def _accept(asking: Asking, factory: IProtocolFactory) -> None:
    asking.accept(factory.buildProtocol)
