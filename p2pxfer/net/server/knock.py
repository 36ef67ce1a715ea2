"""The server knocks at a port that nobody has opened, to see what a NAT does with a SYN that nobody asked for.

One SYN, which the kernel repeats, and nothing is ever said: whatever connects is reset at once.  A RST and an ICMP
message end a connecting socket with the same errors, so the kernel is asked for the message itself (``IP_RECVERR``,
ip(7)).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from typing import Any

from p2pxfer.core.addresses import Address, Endpoint
from p2pxfer.core.messages import KnockOutcome
from p2pxfer.net.traversal.halfopen import Connecting, reset, stands

KNOCK_S = 2.8
"""How long an answer is waited for, seconds: Linux repeats the SYN after one, and newer kernels once more after two."""
_RECVERR = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
"""``IP_RECVERR`` and ``IPV6_RECVERR`` of Linux, which Python does not name."""
_ICMP = frozenset((2, 3))
"""``SO_EE_ORIGIN_ICMP`` and ``SO_EE_ORIGIN_ICMP6``."""
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
"""``struct sock_extended_err``: error number, origin, type, code and more."""


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
        super().__init__(reactor, (str(source), 0), remote, [_RECVERR[target.host.version]])
        self._timer = reactor.callLater(KNOCK_S, self._end, "silent")

    def _decided(self) -> None:
        if self._over:
            return
        by_icmp = self._icmp()
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

    def _icmp(self) -> bool:
        """Whether an ICMP message has come for this socket."""
        try:
            _, messages, _, _ = self._socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return False
        options = set(_RECVERR.values())
        return any(
            (level, kind) in options
            and len(data) >= _EXTENDED_ERROR.size
            and _EXTENDED_ERROR.unpack_from(data)[1] in _ICMP
            for level, kind, data in messages
        )

    def _end(self, outcome: KnockOutcome) -> None:
        if self._over:
            return
        self._over = True
        if self._timer.active():
            self._timer.cancel()
        self._reactor.removeWriter(self)
        reset(self._socket)
        self._done(outcome)
