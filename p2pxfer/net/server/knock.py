"""The server knocks at a port that nobody has opened, to see what a NAT does with a SYN that nobody asked for.

One SYN, which the kernel repeats, and nothing is ever said: whatever connects is reset at once.  A RST and an ICMP
message end a connecting socket with the same errors, so the kernel is asked for the message itself (``IP_RECVERR``,
ip(7)).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from p2pxfer.core.addresses import Address, Endpoint
from p2pxfer.core.messages import KnockOutcome
from p2pxfer.net.traversal.halfopen import ERRORS_OF, Connecting, came_by_icmp, reset, stands

KNOCK_S = 2.8
"""How long an answer is waited for, seconds: Linux repeats the SYN after one, and newer kernels once more after two."""


def knock(reactor: Any, target: Endpoint, source: Address, done: Callable[[KnockOutcome], None]) -> None:
    """Send a SYN from ``source`` to ``target``; ``done`` gets the outcome, never from within this call."""
    try:
        _Knock(reactor, target, source, done)
    except OSError:
        reactor.callLater(0, done, "not-tried")


class _Knock(Connecting):
    """The one socket.

    Raises:
        OSError: it cannot be made, bound or connected.
    """

    def __init__(self, reactor: Any, target: Endpoint, source: Address, done: Callable[[KnockOutcome], None]) -> None:
        self._done = done
        self._over = False
        remote = (str(target.host), target.port)
        errors_of = ERRORS_OF[socket.AF_INET6 if target.host.version == 6 else socket.AF_INET]
        super().__init__(reactor, (str(source), 0), remote, [errors_of])
        self._timer = reactor.callLater(KNOCK_S, self._end, "silent")

    def _decided(self) -> None:
        if self._over:
            return
        by_icmp = came_by_icmp(self._socket)
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if by_icmp:
            self._end("icmp")
        elif not code:
            # Otherwise an event for the socket that had this number before, see :mod:`p2pxfer.net.traversal.halfopen`.
            if stands(self._socket):
                self._end("connected")
        else:
            # Another error without a message is one of this host.
            self._end("refused" if code == errno.ECONNREFUSED else "not-tried")

    def _end(self, outcome: KnockOutcome) -> None:
        if self._over:
            return
        self._over = True
        if self._timer.active():
            self._timer.cancel()
        self._reactor.removeWriter(self)
        reset(self._socket)
        self._done(outcome)
