"""Small pieces that every secured connection needs: dialling, the step from TCP to TLS, and the reason of its end."""

from __future__ import annotations

from twisted.internet.abstract import isIPAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import Binding, IProtocol
from twisted.internet.protocol import ClientCreator, Factory, Protocol
from twisted.python.failure import Failure

from p2pxfer.core.text import safe_text
from p2pxfer.errors import P2pxferError, Unreachable
from p2pxfer.net.connection.securing import start_tls
from p2pxfer.net.connection.tls import Creator
from p2pxfer.net.types import Reactor


class SecureBootstrap(Protocol):
    """The protocol of a TCP connection for the moment until TLS carries ``inner`` on it."""

    def __init__(self, reactor: Reactor, inner: IProtocol, creator: Creator, *, is_client: bool) -> None:
        self._reactor = reactor
        self._inner = inner
        self._creator = creator
        self._is_client = is_client

    def connectionMade(self) -> None:
        """TCP stands: start the handshake."""
        assert self.transport is not None
        start_tls(self.transport, self._inner, self._creator, is_client=self._is_client, reactor=self._reactor)


def dial(
    reactor: Reactor, host: str, port: int, protocol: Protocol, *, timeout: float, binding: Binding | None
) -> Deferred[IProtocol]:
    """Connect ``protocol`` over TCP, ``timeout`` in seconds; fails with what Twisted's endpoints fail with."""
    if isIPAddress(host) or ":" in host:
        # An address needs no resolver, which would answer out of order: probes are dialled in theirs.
        creating = ClientCreator(reactor, lambda: protocol)
        dialling: Deferred[IProtocol] = creating.connectTCP(host, port, timeout=timeout, bindAddress=binding)
        return dialling
    # Imported only where there is a name: it brings dozens of modules that a program with an address does not need.
    from twisted.internet.endpoints import HostnameEndpoint

    endpoint = HostnameEndpoint(reactor, host, port, timeout=timeout, bindAddress=binding)
    return endpoint.connect(Factory.forProtocol(lambda: protocol))


class Closed(Unreachable):
    """One of the two ends closed the connection, in order."""


def lost_error(what: str, reason: Failure) -> P2pxferError:
    """Why a connection to ``what`` ended, as an error of this project."""
    if isinstance(reason.value, P2pxferError):
        return reason.value
    kind = Closed if reason.check(ConnectionDone) else Unreachable
    return kind(f"{what} is gone: {safe_text(reason.getErrorMessage(), 200)}")


def too_late(what: str, result: object, timeout: float) -> None:
    """For ``addTimeout``, with ``what`` did not happen. Raises :class:`~p2pxfer.errors.Unreachable`."""
    raise Unreachable(f"{what} within {timeout:.0f} seconds")
