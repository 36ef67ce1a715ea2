"""Small pieces that every secured connection needs: the step from TCP to TLS, and the reason of its end."""

from __future__ import annotations

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from p2pxfer.core.text import safe_text
from p2pxfer.errors import P2pxferError, Unreachable
from p2pxfer.net.securing import start_tls
from p2pxfer.net.tls import Creator
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


def lost_error(what: str, reason: Failure) -> P2pxferError:
    """Why a connection to ``what`` ended, as an error of this project."""
    if isinstance(reason.value, P2pxferError):
        return reason.value
    return Unreachable(f"{what} is gone: {safe_text(reason.getErrorMessage(), 200)}")
