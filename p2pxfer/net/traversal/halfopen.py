"""Connecting sockets by the hundred: one descriptor of the reactor each, without an endpoint or a Deferred.

A punch needs of a dial only whether it stands or why it failed, and it starts up to 600 of them a second.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path

from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.net.types import Reactor

RESERVE = 256
"""Descriptors that stay free for the rest of the program."""
EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""Errors that say that this machine has no more to give, and nothing about the peer."""
SHARED = ((socket.SOL_SOCKET, socket.SO_REUSEADDR), (socket.SOL_SOCKET, socket.SO_REUSEPORT))
"""Options of a socket that shares its port with others of this user."""
_RESET = struct.pack("ii", 1, 0)
ERRORS_OF = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
"""``IP_RECVERR`` and ``IPV6_RECVERR`` of Linux, which Python does not name: say where an error came from."""
_ORIGIN_AT = 4
_ICMP_ORIGINS = frozenset((2, 3))
"""``ee_origin`` in ``struct sock_extended_err`` (linux/errqueue.h): ICMP and ICMPv6."""


@implementer(IReadDescriptor, IWriteDescriptor)
class Connecting(ABC):
    """A socket that connects from ``source`` to ``remote`` as a descriptor of the reactor, until the kernel decides.

    ``options`` are set before it is bound; an empty host in ``source`` leaves the address to the system.

    Raises:
        OSError: the socket cannot be made or bound, or the dial failed at once.
    """

    def __init__(
        self, reactor: Reactor, source: tuple[str, int], remote: tuple[str, int], options: Iterable[tuple[int, int]]
    ) -> None:
        self._reactor = reactor
        self.family = socket.AF_INET6 if ":" in remote[0] else socket.AF_INET
        self._socket = socket.socket(self.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # The reactor asks once more after the end, and must get the same answer.
        self._fileno = self._socket.fileno()
        try:
            for level, option in options:
                self._socket.setsockopt(level, option, 1)
            self._prepare()
            self._socket.bind(source)
            code = self._socket.connect_ex(remote)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
        except OSError:
            self._socket.close()
            raise
        reactor.addWriter(self)

    def _prepare(self) -> None:  # noqa: B027  # few need more
        """More to be set before the socket is bound; may raise ``OSError``."""

    @abstractmethod
    def _decided(self) -> None:
        """The kernel has decided, or an event came that was meant for another socket; see :func:`stands`."""

    def fileno(self) -> int:
        """See Twisted."""
        return self._fileno

    def logPrefix(self) -> str:
        """See Twisted."""
        return type(self).__name__

    def doRead(self) -> None:  # noqa: B027  # nothing is read before the kernel has decided
        """See Twisted; only the other half of an event can come here."""

    def doWrite(self) -> None:
        """The kernel has decided."""
        self._decided()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw an error before it asked whether one can write."""
        self._decided()


class HalfOpen(Connecting):
    """One socket that connects from ``port`` to ``remote`` and shares its port with others of this user.

    ``local`` is the own address to dial from; without it the system chooses.

    ``ended(code)`` is called once, never from within the constructor or :meth:`close`: 0 when the connection stands,
    else the error number.

    Raises:
        OSError: the socket cannot be made or bound, or the dial failed at once.
    """

    def __init__(
        self, reactor: Reactor, port: int, remote: tuple[str, int], ended: Callable[[int], None], local: str = ""
    ) -> None:
        self._ended = ended
        self._done = False
        self.icmp = False
        """The dial failed, and an ICMP message brought the error; known on Linux only."""
        super().__init__(reactor, (local, port), remote, SHARED)

    def _prepare(self) -> None:
        self._tell_origins(True)

    def _tell_origins(self, wanted: bool) -> None:
        """Whether the kernel keeps where errors come from; a connection that stands would die of them."""
        if sys.platform == "linux":
            self._socket.setsockopt(*ERRORS_OF[self.family], int(wanted))

    def close(self) -> None:
        """Give the dial up, or reset the connection if it stands already."""
        if not self._done:
            self._done = True
            self._reactor.removeWriter(self)
        reset(self._socket)

    def take(self) -> socket.socket:
        """The connected socket; the caller closes it."""
        return self._socket

    def _decided(self) -> None:
        if self._done:
            return
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not code and not stands(self._socket):
            # An event for the socket that had this number before: it was closed within the same batch of events.
            return
        self._done = True
        self._reactor.removeWriter(self)
        if code:
            self.icmp = came_by_icmp(self._socket)
            self._socket.close()
        else:
            self._tell_origins(False)
        self._ended(code)


def came_by_icmp(sock: socket.socket) -> bool:
    """Whether an ICMP message ended the dial of ``sock`` (ip(7), IP_RECVERR); false where that cannot be known."""
    if sys.platform != "linux":
        return False
    try:
        _, ancillary, _, _ = sock.recvmsg(1, 512, socket.MSG_ERRQUEUE)
    except OSError:
        return False
    options = set(ERRORS_OF.values())
    return any(
        (level, option) in options and len(data) > _ORIGIN_AT and data[_ORIGIN_AT] in _ICMP_ORIGINS
        for level, option, data in ancillary
    )


def stands(sock: socket.socket) -> bool:
    """Whether a socket that has no error is connected, and does not still try."""
    try:
        sock.getpeername()
    except OSError as error:
        return error.errno != errno.ENOTCONN
    return True


def reset(sock: socket.socket) -> None:
    """Close a socket; a connection ends with a RST, so that no NAT keeps it and no TIME_WAIT is left."""
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()


def descriptor_room(wanted: int) -> int:
    """How many sockets may be opened, at most ``wanted``, with :data:`RESERVE` descriptors left over.

    The soft limit is raised to the hard one when that is needed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sum(1 for _ in Path("/dev/fd").iterdir()) + wanted + RESERVE
    if resource.RLIM_INFINITY != soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else hard
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        except (OSError, ValueError):
            pass  # then with less
    short = 0 if soft == resource.RLIM_INFINITY else max(0, needed - soft)
    return max(0, wanted - short)
