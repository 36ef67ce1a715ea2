"""One OpenSSL connection on a socket, moved in large blocks.

OpenSSL on a socket reads each record of 16 KiB with two system calls and writes it with one, and each write becomes a
segment of its own for the kernel; over loopback that costs several times what the decryption does.  Here OpenSSL works
on memory buffers and up to :data:`BLOCK` bytes go through one call: a quarter of a second of the kernel's time less for
a GiB, against less than half of that for the copies in between.

Laws of this file:

1. The socket is asked for more only when OpenSSL has nothing left to read, so what waits to be read in a connection's
   buffers is less than two blocks.
2. The socket is offered what OpenSSL has encrypted before OpenSSL is given more to encrypt.
3. Whatever OpenSSL wants to say itself, alerts and answers to a change of keys, is offered to the socket before more is
   read and after each call.
4. Reading goes on while something is unsent, or two full directions would wait for each other.  But a change of keys
   may ask for an answer (RFC 8446 section 4.6.3), and an end that does so again and again and does not read is dropped:
   what waits to be sent is at most three blocks.
5. OpenSSL reads what arrived where the socket put it, in memory that all connections share.  It is taken back before
   anything else passes through it, and before a call returns.
6. One call of :meth:`BulkTLS.fill` reads a bounded number of bytes, whether there is any data in them or not.
7. Where TLS may end before the connection does, OpenSSL gets one record at a time: what follows the last one is here,
   to the byte, and was not looked at by OpenSSL.
"""

from __future__ import annotations

import errno
from enum import Enum
from typing import ClassVar, Final, Protocol

from OpenSSL import SSL

from p2pxfer.net.connection import bulkmemory
from p2pxfer.net.connection.tls import Link, Octets

BLOCK: Final = 64 * 1024
"""Most bytes in one system call.  Connections to a server are many, and what once went through at a time stays
allocated in OpenSSL, in both directions."""
_HEADER: Final = 5
_KINDS: Final = range(20, 25)
_LONGEST: Final = 16_384 + 256
"""Octets of a TLS record's header, its kinds, and its largest length (RFC 8446 sections 5.1 and 5.2)."""


class _Sending(Enum):
    NEW = "the handshake begins when there is room"
    ON = "what OpenSSL says goes out"
    PARTED = "it has said goodbye"
    MUTE = "the last that goes out in TLS was said, and what OpenSSL says after it is dropped"


class BulkTLS:
    """Drives ``link``, which is on memory buffers, over the non-blocking ``sock``; closes neither.

    All methods may raise what pyOpenSSL's connection raises on a socket: ``WantReadError`` when there is nothing to
    read, ``WantWriteError`` when there is no room, and ``SysCallError`` for an error or the end of the socket.
    """

    _memory: ClassVar[memoryview] = memoryview(bytearray(BLOCK))
    """Where the bytes of all connections pass through: none stays when the call that brought it returns."""

    def __init__(self, link: Link, sock: Wire, *, ends_early: bool = False) -> None:
        """``ends_early``: :meth:`end_reading` may be called."""
        self._link = link
        self._socket = sock
        self._block = self._memory
        self._unsent = memoryview(b"")
        self._sending = _Sending.NEW
        self._lent = False
        """OpenSSL reads from the shared memory."""
        self._held: bytearray | None = bytearray() if ends_early else None
        """What came and OpenSSL has not seen, where it gets one record at a time."""
        self.unread = False
        """OpenSSL may hold something to read, of which the socket will not tell."""
        self.taken = 0
        """Bytes read from the socket so far."""

    @property
    def unsent(self) -> bool:
        """Something is to be said when the socket has room: call :meth:`do_handshake` then, or later :meth:`flush`."""
        return bool(self._unsent) or self._sending is _Sending.NEW

    @property
    def waiting(self) -> int:
        """Bytes for which the socket had no room."""
        return len(self._unsent)

    def do_handshake(self) -> None:
        """Go on with the handshake; ``WantWriteError`` does not happen."""
        self._sending = _Sending.ON
        try:
            while True:
                try:
                    self._link.do_handshake()
                except SSL.WantReadError:
                    self._flush_if_possible()
                    self._pull()
                else:
                    break
        finally:
            self._take_back()
            self._flush_if_possible()
        self.unread = True

    def fill(self, memory: memoryview, piece: int) -> tuple[int, SSL.Error | None]:
        """Fill ``memory`` by pieces of at most ``piece`` bytes; returns how much is in it and why there is no more.

        No reason is given when there is no room left, and when as many bytes as that and a block were taken from the
        socket: most of them were no data, and other connections wait.
        """
        size = 0
        stop: SSL.Error | None = None
        enough = self.taken + len(memory) + len(self._block)
        try:
            while stop is None and size <= len(memory) - piece and self.taken < enough:
                got, stop = bulkmemory.fill(self._link, memory[size:], piece)
                size += got
                if isinstance(stop, SSL.WantReadError):
                    stop = self._refill()
        finally:
            self._take_back()
        self.unread = stop is None
        self._flush_if_possible()
        return size, stop

    def _refill(self) -> SSL.Error | None:
        """Give OpenSSL, which has read everything, more to read; returns why there is no more."""
        try:
            self._answer()
            self._pull()
        except SSL.Error as error:
            return error
        return None

    def send(self, *pieces: Octets) -> int:
        """Encrypt all ``pieces`` and offer them to the socket; ``WantWriteError`` if something waited already.

        Returns their size.  Encrypted they must fit into one block.
        """
        self.flush()
        if self._unsent:
            raise SSL.WantWriteError
        size = sum(map(self._link.send, pieces))
        self.flush()
        return size

    def say_goodbye(self) -> None:
        """Tell the other end that no more comes, after everything that was sent; does nothing the second time."""
        if self._sending in (_Sending.PARTED, _Sending.MUTE):
            return
        self._sending = _Sending.PARTED
        try:
            self._link.shutdown()
        except SSL.Error:
            pass  # the connection is broken: the other end sees a cut, as it must
        self._flush_if_possible()

    def end_sending(self, *pieces: Octets) -> None:
        """``pieces`` are the last that goes out in TLS; what OpenSSL itself wants to say afterwards is dropped."""
        for piece in pieces:
            self._link.send(piece)
        last = bytearray(self._unsent)
        while some := self._drain():
            last += some
        self._unsent = memoryview(bytes(last))
        self._sending = _Sending.MUTE

    def end_reading(self) -> bytes:
        """Nothing more is read in TLS; returns what came behind the last record that was read.

        ``SSL.Error`` if that record was not read to its end.
        """
        if self._held is None or self._link.pending():
            raise SSL.Error([("p2pxfer", "", "the other end said more in TLS than it may")])
        rest, self._held = bytes(self._held), None
        self.unread = False
        return rest

    def flush(self) -> None:
        """Give the socket as much as it takes."""
        while True:
            waiting = self._unsent or self._drain()
            if not waiting:
                return
            sent = push(self._socket, waiting)
            if waiting is self._unsent:
                self._unsent = waiting[sent:]
            elif sent < len(waiting):
                self._unsent = memoryview(bytes(waiting[sent:]))
            if self._unsent:
                return

    def _flush_if_possible(self) -> None:
        """What could not be sent is found again by the next :meth:`flush`, and reading may explain why."""
        try:
            self.flush()
        except SSL.SysCallError:
            self._take_back()

    def _answer(self) -> None:
        """Send what OpenSSL has to say about what it read; an error when too much waits for the other end to read."""
        self._flush_if_possible()
        if not self._unsent:
            return
        more = self._drain()
        if more:
            self._unsent = memoryview(bytes(self._unsent) + more)
            if len(self._unsent) > 2 * len(self._block):
                raise SSL.Error([("p2pxfer", "", "changes of keys again and again, and their answers are not read")])

    def _drain(self) -> memoryview:
        """What OpenSSL has to say, as much as fits into the block."""
        size = bulkmemory.drain(self._link, self._block)
        while size and self._sending is _Sending.MUTE:
            size = bulkmemory.drain(self._link, self._block)
        return self._block[:size]

    def _pull(self) -> None:
        """Give OpenSSL more to read; what it had it has read."""
        if self._held is not None:
            self._link.bio_write(self._next_record(self._held))
            return
        size = pull(self._socket, self._block)
        self.taken += size
        self._lent = True
        bulkmemory.lend(self._link, self._block[:size])

    def _next_record(self, held: bytearray) -> bytes:
        """The next whole record alone; what is none goes to OpenSSL as it is, which says so."""
        while True:
            end = _HEADER + int.from_bytes(held[3:_HEADER], "big")
            if held and (held[0] not in _KINDS or end > _HEADER + _LONGEST):
                end = len(held)
            if _HEADER <= end <= len(held):
                record = bytes(held[:end])
                del held[:end]
                return record
            size = pull(self._socket, self._block)
            self.taken += size
            held += self._block[:size]

    def _take_back(self) -> None:
        """The shared memory is free for everybody again."""
        if self._lent:
            self._lent = False
            bulkmemory.take_back(self._link)


class Wire(Protocol):
    """A connected socket that does not block, or what stands for one."""

    def send(self, data: memoryview, /) -> int:
        """Take some of ``data``; ``BlockingIOError`` when there is no room."""

    def recv_into(self, memory: memoryview, /) -> int:
        """Put what came into ``memory``: 0 at the end, ``BlockingIOError`` when there is nothing."""


def push(sock: Wire, data: memoryview) -> int:
    """Give a socket as much of ``data`` as it takes; ``SysCallError`` if it is broken."""
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0
    except OSError as error:
        raise _broken(error) from error


def pull(sock: Wire, memory: memoryview) -> int:
    """Take from a socket what came; ``WantReadError`` if that is nothing, ``SysCallError`` at its end."""
    try:
        size = sock.recv_into(memory)
    except BlockingIOError:
        raise SSL.WantReadError from None
    except OSError as error:
        raise _broken(error) from error
    if size == 0:
        raise SSL.SysCallError(-1, "Unexpected EOF")
    return size


def _broken(error: OSError) -> SSL.SysCallError:
    return SSL.SysCallError(error.errno, errno.errorcode.get(error.errno or 0))
