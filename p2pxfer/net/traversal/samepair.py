"""Finds out whether the NAT gives another outside port to the next connection between the same two endpoints.

What a NAT does with a connection that was closed or reset tells nothing: many forget it, Linux among them.  So the
first connection is forsaken: it stands at the server and in the NAT, and only the kernel here knows of it no more.
When the same local port dials the same endpoint again, a NAT that keeps its mapping leads the SYN into the old one.
The server's kernel answers that with a bare acknowledgement, the kernel here resets the old one and repeats the SYN
(RFC 9293, 3.5.1).  Where the SYN is answered at once, it came from another outside endpoint.  The server's program
takes no part in it.

Laws of this file:

1. A connection is forsaken only if the server has not closed it by then: a place that was refused would look free.
2. The check ends within ``CHECK_S`` seconds and leaves nothing behind on this machine.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from p2pxfer.core.addresses import Endpoint
from p2pxfer.net.connection.tcpinfo import retransmissions
from p2pxfer.net.debuglog import Logger
from p2pxfer.net.traversal.halfopen import HalfOpen, reset
from p2pxfer.net.types import Reactor

CHECK_S = 5.0
"""How long the whole check may take, seconds."""
REFUSAL_S = 0.2
"""How long the server has to refuse a connection, seconds, beside the time that it took to make."""
_DEVICE: int | None = getattr(socket, "SO_BINDTODEVICE", None)


class SamePairCheck:
    """One check, from some local ``ports`` to ``target``.

    ``done`` fires once: for each port whether the second dial was answered at once, ``None`` where that did not show.
    It never fails.
    """

    log = Logger()

    def __init__(self, reactor: Reactor, target: Endpoint, ports: Sequence[int]) -> None:
        self._reactor = reactor
        self._there = (str(target.host), target.port)
        self._ports = ports
        self._working: list[Deferred[bool | None]] = []
        self.done: Deferred[list[bool | None]] = Deferred()

    def start(self) -> None:
        """Dial from every port."""
        self._working = [Deferred.fromCoroutine(self._twice(port)) for port in self._ports]
        for working in self._working:
            working.addTimeout(CHECK_S, self._reactor)
            working.addErrback(lambda failure: self.log.debug("no answer: {why!r}", why=failure.value))
        gatherResults(self._working).chainDeferred(self.done)

    def stop(self) -> None:
        """End here, with the answers that there are."""
        for working in list(self._working):
            working.cancel()

    async def _twice(self, port: int) -> bool | None:
        began = self._reactor.seconds()
        first = await self._connect(port)
        try:
            await deferLater(self._reactor, REFUSAL_S + 2 * (self._reactor.seconds() - began))
            if not is_quiet(first) or not forsake(first):
                return None
        finally:
            reset(first)
        second = await self._connect(port)
        repeated = retransmissions(second)
        reset(second)
        return None if repeated is None else repeated == 0

    async def _connect(self, port: int) -> socket.socket:
        """The socket of a connection from ``port``; raises ``OSError``."""
        ended: Deferred[int] = Deferred()
        dial = HalfOpen(self._reactor, port, self._there, ended.callback)
        try:
            code = await ended
        except CancelledError:
            dial.close()
            raise
        if code:
            raise OSError(code, errno.errorcode.get(code, "unknown"))
        return dial.take()


def is_quiet(sock: socket.socket) -> bool:
    """Whether a connection stands on which nothing has come."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def forsake(sock: socket.socket) -> bool:
    """Close a connection without a word to the other end; false, and nothing done, where the system cannot do that.

    What is bound to the loopback device has no way to any other machine, and so its reset does not get out.
    """
    if _DEVICE is None:
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, _DEVICE, b"lo\0")
    except OSError:
        return False
    reset(sock)
    return True
