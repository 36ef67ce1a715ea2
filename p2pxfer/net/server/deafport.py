"""A port of the server that answers no SYN, and a dial from it that crosses the one of a client.

A NAT that supports simultaneous opens lets a SYN in that crosses one of its own (RFC 5382, REQ-2).  To see whether it
does, the client's SYN must go out to where this side's comes from, and must not be answered: its answer would come in
anyway.  So every socket of the port has a socket filter (``SO_ATTACH_FILTER``, socket(7)), which any user may set.
That of the listener drops everything, that of the dialling socket every SYN without an acknowledgement.  A connection
can then only come of this side's own SYN.

If none has come after ``CROSS_S`` seconds, the listener's filter is taken away.  The client's kernel repeats its SYN,
and if the connection comes about now, from the very endpoint that was dialled, nothing was in the way but the NAT, or a
firewall that lets no SYN out here: which of them, this side cannot see.

Laws of this file:

1. Whatever connects is reset at once, and nothing is ever said or read.
2. A port lives ``OPEN_S`` seconds without the client's word, and ``CROSS_S`` + ``ANSWER_S`` with it.
3. ``done`` is called exactly once, and never from within a call of this file's functions.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.core.addresses import Address, Endpoint, observed_endpoint
from p2pxfer.core.messages import CrossOutcome
from p2pxfer.net.traversal.halfopen import SHARED, Connecting, reset, stands

OPEN_S = 8.0
"""How long the client may take to dial the port, seconds."""
CROSS_S = 2.4
"""How long the dial may take, seconds: Linux repeats its SYN after one, and newer kernels once more after two."""
ANSWER_S = 1.8
"""How long the client's own SYN may then take, seconds: it is repeated three seconds after the first at the latest."""
AGAIN_S = (0.15, 0.35)
"""After what time a dial that was refused is repeated, seconds: the client's SYN may be on its way still."""
BACKLOG = 4
_ATTACH, _DETACH = 26, 27
"""``SO_ATTACH_FILTER`` and ``SO_DETACH_FILTER`` of Linux, which Python does not name."""
_Program = tuple[tuple[int, int, int, int], ...]
_DROP_ALL: _Program = ((0x06, 0, 0, 0),)
_DROP_SYN: _Program = (
    (0x30, 0, 0, 13),  # load octet 13, the flags of TCP's header
    (0x54, 0, 0, 0x12),  # and with SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # then drop it
    (0x06, 0, 0, 0xFFFF),  # else pass
)
"""Classic BPF (linux/filter.h): of a TCP socket the program sees the packet from TCP's header on."""


def _attach(sock: socket.socket, program: _Program) -> None:
    if sys.platform != "linux":  # elsewhere the numbers mean something else
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH, struct.pack("@HP", len(program), ctypes.addressof(code)))


class DeafPort:
    """One such port of the address ``at``, for a client at ``target``.

    Raises:
        OSError: the port cannot be opened, or this system has no such filters.
    """

    def __init__(self, reactor: Any, at: Address, target: Endpoint, done: Callable[[CrossOutcome], None]) -> None:
        self._reactor = reactor
        self._at = at
        self._target = target
        self._done = done
        self._over = False
        self._dial: _Crossing | None = None
        self._again: Any = None
        self._listener = _Listener(reactor, at, self._came)
        self.port = self._listener.port
        self._timer = reactor.callLater(OPEN_S, self._end, "not-tried")

    def cross(self) -> None:
        """Dial the client now."""
        if not self._over:
            self._timer.cancel()
            self._timer = self._reactor.callLater(CROSS_S, self._listen)
            self._dial_once()

    def close(self) -> None:
        """Nobody is interested any more."""
        if not self._over:
            self._end("not-tried")

    def _dial_once(self) -> None:
        try:
            self._dial = _Crossing(self._reactor, (str(self._at), self.port), self._target, self._ended)
        except OSError:
            # No SYN left this machine, so nothing that comes of it would say anything.
            self._end("not-tried")

    def _ended(self, code: int) -> None:
        """The kernel decided about the dial."""
        self._dial = None
        if not code:
            self._end("crossed")
        else:
            pause = random.uniform(*AGAIN_S)  # noqa: S311  # not a secret
            self._again = self._reactor.callLater(pause, self._dial_once)

    def _listen(self) -> None:
        """The dial had its time: answer the client's."""
        self._stop_dialling()
        self._listener.hear()
        self._timer = self._reactor.callLater(ANSWER_S, self._end, "silent")

    def _came(self, there: Endpoint) -> None:
        if there == self._target:
            self._end("answered")

    def _stop_dialling(self) -> None:
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self._dial is not None:
            self._dial.close()
            self._dial = None

    def _end(self, outcome: CrossOutcome) -> None:
        self._over = True
        if self._timer.active():
            self._timer.cancel()
        self._stop_dialling()
        self._listener.close()
        self._reactor.callLater(0, self._done, outcome)


class _Crossing(Connecting):
    """The dial, which no SYN reaches; ``ended`` gets 0 if it stands, else the error.

    Raises:
        OSError: the socket cannot be made, bound or connected.
    """

    def __init__(self, reactor: Any, source: tuple[str, int], target: Endpoint, ended: Callable[[int], None]) -> None:
        self._ended = ended
        super().__init__(reactor, source, (str(target.host), target.port), SHARED)

    def _prepare(self) -> None:
        _attach(self._socket, _DROP_SYN)

    def _decided(self) -> None:
        if self._socket.fileno() < 0:
            return
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code or stands(self._socket):
            self.close()
            self._ended(code)

    def close(self) -> None:
        """Give it up, or reset what it became."""
        self._reactor.removeWriter(self)
        reset(self._socket)


@implementer(IReadDescriptor)
class _Listener:
    """Accepts nothing until :meth:`hear`; then tells who came, and resets them."""

    def __init__(self, reactor: Any, at: Address, came: Callable[[Endpoint], None]) -> None:
        self._reactor = reactor
        self._came = came
        family = socket.AF_INET6 if at.version == 6 else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            for level, option in SHARED:
                self._socket.setsockopt(level, option, 1)
            _attach(self._socket, _DROP_ALL)
            self._socket.bind((str(at), 0))
            self._socket.listen(BACKLOG)
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        self._fileno = self._socket.fileno()

    def hear(self) -> None:
        """From now on connections are accepted."""
        self._socket.setsockopt(socket.SOL_SOCKET, _DETACH, 0)
        self._reactor.addReader(self)

    def close(self) -> None:
        """Listen no more."""
        self._reactor.removeReader(self)
        self._socket.close()

    def fileno(self) -> int:
        """See Twisted."""
        return self._fileno

    def logPrefix(self) -> str:
        """See Twisted."""
        return type(self).__name__

    def doRead(self) -> None:
        """Somebody has connected."""
        try:
            sock, (host, port, *_) = self._socket.accept()
        except OSError as error:  # gone again, or the port is closed
            if error.errno in (errno.EMFILE, errno.ENFILE):  # it stays in the queue, and would be announced for ever
                self._reactor.removeReader(self)
            return
        reset(sock)
        self._came(observed_endpoint(host, port))

    def connectionLost(self, reason: Failure) -> None:
        """See Twisted; the port is closed by its owner."""
