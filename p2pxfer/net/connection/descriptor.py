"""A connected socket as the reactor sees it, without what is spoken over it.

Laws of this file:

1. The reactor is told of a change only, and watches for nothing that nobody asked for.
2. The socket is closed by whoever derives from it, in its own time; until then :meth:`SocketDescriptor.fileno` is its
   number.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

from p2pxfer.net.connection.tcpinfo import (
    Flow,
    begin_anew,
    cap_pace,
    delivery_rate,
    flow,
    govern,
    governor,
    round_trip,
    silent_for,
)


class SocketDescriptor:
    """``sock`` is connected and does not block from now on; ``ends`` are its local and its remote address."""

    def __init__(self, sock: socket.socket, ends: tuple[Any, Any], reactor: Any) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._set_up(sock, ends, reactor)

    def _set_up(self, sock: Any, ends: tuple[Any, Any], reactor: Any) -> None:
        """``sock`` is as it should be already."""
        self.connected = True
        self._socket = sock
        self._ends = ends
        self._reactor = reactor
        self._watched: tuple[bool, bool] = (False, False)

    def fileno(self) -> int:
        """The descriptor; -1 after the end."""
        return int(self._socket.fileno())

    def getHost(self) -> Any:
        """The local address."""
        return self._ends[0]

    def getPeer(self) -> Any:
        """The remote address."""
        return self._ends[1]

    def silent_for(self) -> float:
        """See :class:`~p2pxfer.net.connection.transport.TLSTransport`."""
        return silent_for(self._socket) if self.connected else 0.0

    @property
    def round_trip(self) -> float:
        """See :class:`~p2pxfer.net.connection.transport.TLSTransport`."""
        return round_trip(self._socket) if self.connected else 0.0

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """As that of a socket: of the one that all goes through in the end.

        Raises:
            OSError: it cannot be asked.
        """
        return bytes(self._socket.getsockopt(level, option, size))

    def flow(self) -> Flow | None:
        """What went out, as the kernel counts it."""
        return flow(self._socket) if self.connected else None

    @property
    def acked(self) -> int:
        """Bytes that the other end's kernel has acknowledged: through a relay, the server's; 0 where nobody knows."""
        known = self.flow()
        return known.acked if known is not None else 0

    @property
    def unsent(self) -> int:
        """Bytes that were written and not yet given to the kernel."""
        return 0

    @property
    def backlog_s(self) -> float:
        """How long it takes until all that was written has left, at the rate of late, seconds; 0.0 if nobody knows."""
        known, rate = self.flow(), delivery_rate(self._socket) if self.connected else None
        return (known.waiting + self.unsent) / rate if known is not None and rate else 0.0

    @property
    def governor(self) -> str | None:
        """The congestion control, where that is known."""
        return governor(self._socket) if self.connected else None

    def govern(self, name: str) -> bool:
        """Change the congestion control; false where the system does not."""
        return self.connected and govern(self._socket, name)

    def begin_anew(self, name: str) -> bool:
        """Have the congestion control ``name`` forget what it knows of the line; false where that cannot be had."""
        return self.connected and begin_anew(self._socket, name)

    def cap_pace(self, rate: int) -> bool:
        """Have the kernel send no faster than ``rate`` bytes a second; false where that cannot be had."""
        return self.connected and cap_pace(self._socket, rate)

    def _ask(self, wanted: tuple[bool, bool]) -> None:
        """Have the reactor watch for bytes to read, and for room to write."""
        read, write = self._watched
        self._watched = wanted
        if wanted[0] != read:
            (self._reactor.addReader if wanted[0] else self._reactor.removeReader)(self)
        if wanted[1] != write:
            (self._reactor.addWriter if wanted[1] else self._reactor.removeWriter)(self)

    def _send_end(self) -> None:
        """Tell the other end that nothing more comes; what it sends can still be read."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    def _reset_on_close(self) -> None:
        """Let the other end see a reset instead of an end, and drop what was not sent."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _close_socket(self) -> None:
        self._socket.close()
