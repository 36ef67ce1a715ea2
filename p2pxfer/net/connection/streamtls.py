"""The transport of :mod:`p2pxfer.net.connection.fasttls` on a stream in place of a socket: inside a relay leg's own
TLS."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from p2pxfer.errors import P2pxferError
from p2pxfer.net.connection.delivery import InnerDelivery
from p2pxfer.net.connection.descriptor import SocketDescriptor
from p2pxfer.net.connection.fasttls import TLSSocketTransport
from p2pxfer.net.connection.streamsocket import StreamSocket
from p2pxfer.net.connection.tcpinfo import Flow, flow


class StreamDescriptor(SocketDescriptor):
    """What a :class:`~p2pxfer.net.connection.descriptor.SocketDescriptor` is for a socket; ``stream`` is the protocol
    on one."""

    _socket: Any

    def __init__(self, stream: StreamSocket, ends: tuple[Any, Any], reactor: Any) -> None:
        self._resets = False
        self._set_up(stream, ends, reactor)

    def fileno(self) -> int:
        """There is none."""
        return -1

    def silent_for(self) -> float:
        """See :class:`~p2pxfer.net.connection.transport.TLSTransport`: the kernel knows nothing of what is inside a
        connection."""
        return 0.0

    @property
    def round_trip(self) -> float:
        """See :class:`~p2pxfer.net.connection.transport.TLSTransport`."""
        return 0.0

    def flow(self) -> Flow | None:
        """The kernel counts what the whole leg carries, as far as the server."""
        return None

    @property
    def acked(self) -> int:
        """See :class:`~p2pxfer.net.connection.descriptor.SocketDescriptor`."""
        known = flow(self._socket) if self.connected else None
        return known.acked if known is not None else 0

    @property
    def governor(self) -> str | None:
        """There is none of its own."""
        return None

    def govern(self, name: str) -> bool:
        """Nothing to change."""
        return False

    def _ask(self, wanted: tuple[bool, bool]) -> None:
        self._socket.watch(self, wanted)

    def _send_end(self) -> None:
        """A stream has no end of one direction; the goodbye inside says enough."""

    def _reset_on_close(self) -> None:
        self._resets = True

    def _close_socket(self) -> None:
        self._socket.close(reset=self._resets)


class TLSStreamTransport(TLSSocketTransport, StreamDescriptor):
    """TLS, and the records behind it, on a stream."""

    _delivers = InnerDelivery

    def _close(self, reason: Failure) -> None:
        under = self._socket.reason
        if isinstance(getattr(under, "value", None), P2pxferError) and reason.check(SSL.SysCallError, ConnectionLost):
            reason = under  # it knows more of why it ended
        super()._close(reason)
