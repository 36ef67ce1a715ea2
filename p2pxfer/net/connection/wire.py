"""The bytes of one connection: TLS, and behind the greeting of two peers sealed records in its place.

Laws of this file:

1. Each direction changes for itself and once, between two records: everything before is TLS, everything behind is not,
   and no byte is in both.
2. What was encrypted goes first: TLS before the first sealed record, the records in their order, the goodbye last.
3. Reading never waits for writing.
"""

from __future__ import annotations

from collections.abc import Callable

from OpenSSL import SSL

from p2pxfer.core.session.recordblocks import Intake, Outlet
from p2pxfer.core.session.records import Opener, RecordBroken, Sealer
from p2pxfer.net.connection.backlog import Backlog
from p2pxfer.net.connection.bulktls import BLOCK, BulkTLS, Wire, pull, push
from p2pxfer.net.connection.outbuffer import BUFFERED, RECORD, OutBuffer
from p2pxfer.net.connection.recordsize import LineShare
from p2pxfer.net.connection.tls import Link

Stop = SSL.Error | RecordBroken
"""Why there is nothing more to read, now or ever."""


class SecureWire:
    """Drives ``link``, and what comes after it, over ``sock``; closes neither.

    ``changes``: the directions may change to sealed records; ``now`` is the reactor's clock.  Methods raise as those of
    :class:`~p2pxfer.net.connection.bulktls.BulkTLS` do.
    """

    def __init__(self, link: Link, sock: Wire, now: Callable[[], float], *, changes: bool) -> None:
        self._socket = sock
        self._changes = changes
        self._tls = BulkTLS(link, sock, ends_early=changes)
        self._intake: Intake | None = None
        self._outlet: Outlet | None = None
        self._beyond_tls = False
        """OpenSSL has nothing to say any more, and nothing that it said waits."""
        self._size = LineShare(sock, now)
        self._backlog = Backlog(sock, now)
        self._taken = 0

    def do_handshake(self) -> None:
        """See :meth:`~p2pxfer.net.connection.bulktls.BulkTLS.do_handshake`."""
        self._tls.do_handshake()

    @property
    def taken(self) -> int:
        """Bytes read from the socket so far."""
        return self._tls.taken + self._taken

    @property
    def unread(self) -> bool:
        """There may be something to read, of which the socket will not tell."""
        return self._tls.unread if self._intake is None else self._intake.waits or self._intake.finished

    @property
    def unsent(self) -> bool:
        """The socket had no room for everything: call :meth:`flush` when it has."""
        waits = self._outlet is not None and self._outlet.waits
        return waits or (not self._beyond_tls and self._tls.unsent)

    def may_wait(self) -> int:
        """How many bytes may wait to be encrypted before whoever writes is held back.

        Where the directions do not change it may be a relay leg: what waits on it is sealed already and cannot be
        dropped for a farewell, so on a slow line it is little.
        """
        return BUFFERED if self._changes else max(0, self._backlog.most() - self.waiting)

    @property
    def waiting(self) -> int:
        """Bytes that were encrypted, and for which the socket had no room."""
        sealed = 0 if self._outlet is None else len(self._outlet.waiting)
        return sealed + (0 if self._beyond_tls else self._tls.waiting)

    # -- reading -------------------------------------------------------------------------------------------------

    def open_from_here(self, opener: Opener) -> None:
        """What comes behind the TLS record that was read last are sealed records."""
        self._intake = Intake(opener, self._tls.end_reading())

    def fill(self, memory_for: Callable[[int], memoryview]) -> tuple[int, Stop | None]:
        """Put what came into memory; returns how much that is, and why there is no more, if there is none.

        ``memory_for(size)`` gives memory of at least ``size`` bytes.
        """
        if self._intake is not None:
            return self._open(self._intake, memory_for)
        memory = memory_for(RECORD)
        # A record at a time, where the one behind it may not be one of TLS.
        return self._tls.fill(memory[:RECORD] if self._changes else memory, RECORD)

    def _open(self, intake: Intake, memory_for: Callable[[int], memoryview]) -> tuple[int, Stop | None]:
        try:
            while (size := intake.next()) is None:
                if intake.finished:
                    return 0, SSL.ZeroReturnError()
                size = pull(self._socket, intake.room())
                intake.arrived(size)
                self._taken += size
            return intake.open(memory_for(size)), None
        except (SSL.Error, RecordBroken) as stop:
            return 0, stop

    @property
    def last_words(self) -> bytes:
        """What the other end said with its end, apart from everything before; empty if that was nothing."""
        return b"" if self._intake is None else self._intake.last_words

    # -- writing -------------------------------------------------------------------------------------------------

    def seal_from_here(self, sealer: Sealer, out: OutBuffer) -> None:
        """What is in ``out`` is the last that goes out in TLS."""
        self._tls.end_sending(*out.take_all())
        self._outlet = Outlet(sealer)

    def send(self, out: OutBuffer, most: int) -> int:
        """Encrypt what is in ``out``, not much more than ``most`` bytes, and offer it to the socket; returns its size.

        ``WantWriteError`` if something waited already.
        """
        if self._outlet is None:
            largest = BLOCK - RECORD if self._changes else min(BLOCK - RECORD, self._backlog.most() // 2)
            size = self._tls.send(*out.next(min(largest, most)))
            out.sent(size)
            return size
        if self.unsent:
            self.flush()
            if self.unsent:
                raise SSL.WantWriteError
        # What is sealed cannot be taken back: on a slow line it is one record, whatever the block has room for.
        size, record = 0, self._size.most()
        while size < min(most, record) and self._outlet.has_room and out:
            piece = out.first(record)
            self._outlet.seal(piece)
            out.sent(len(piece))
            size += len(piece)
        self.flush()
        return size

    @property
    def seals(self) -> bool:
        """What is sent goes out in sealed records."""
        return self._outlet is not None

    def say_goodbye(self, words: bytes = b"") -> None:
        """Tell the other end that no more comes, after everything that was sent; does nothing the second time.

        ``words`` go with it where it is a sealed record.
        """
        if self._outlet is None:
            self._tls.say_goodbye()
            return
        self._outlet.seal_last(words)
        try:
            self.flush()
        except SSL.SysCallError:
            pass  # the connection is broken: the other end sees a cut, as it must

    def flush(self) -> None:
        """Give the socket as much as it takes."""
        if not self._beyond_tls:
            self._tls.flush()
            if self._outlet is None or self._tls.unsent:
                return
            self._beyond_tls = self._intake is not None
        if self._outlet is not None and self._outlet.waits:
            self._outlet.sent(push(self._socket, self._outlet.waiting))  # what it does not take finds no room
