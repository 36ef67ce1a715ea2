"""A Twisted transport that looks like a socket which does not block, to whoever drives one.

So the peers' own connection inside a relay leg needs no code of its own.

Laws of this file:

1. Whoever watches hears of what came while it comes, of the rest, of room and of the end in a later turn, and again as
   long as there is any: that is, as of a socket.
2. What waits to be read came in one piece: the stream is paused while nobody watches for it.
3. What is written while there is room is taken whole, and there is none while the stream's own buffer is full.
4. What came in somebody else's memory and is not read during that call is copied before it returns.  Whoever reads must
   not use that memory for anything (:class:`~p2pxfer.net.connection.delivery.InnerDelivery`).
5. Where whoever carries the stream takes only so many bytes, both ways together, and they have passed when it ends,
   that is the reason.
6. The end of the stream is read after everything that came before it; but if the stream broke, whoever reads nothing is
   told at once.
"""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.core.session.bytequeue import ByteQueue
from p2pxfer.errors import Unreachable

MIB = 1 << 20


@implementer(IPushProducer)
class StreamSocket(Protocol):
    """The protocol on a stream.  ``early`` came on it already; ``watcher`` is told of events as by a reactor.

    ``limit``: a relay carries so many bytes and no more, 0 if it counts none.
    """

    def __init__(self, clock: Any, early: bytes = b"", limit: int = 0) -> None:
        self._clock = clock
        self._inbox = ByteQueue()
        self._inbox.put(early)
        self._limit = limit
        self._passed = len(early)
        self._watcher: Any = None
        self._wanted = (False, False)
        self._full = False
        self._flowing = True
        self._over = False
        self._turn: IDelayedCall | None = None
        self.reason: Failure | None = None
        """Why the stream ended, when it has."""

    # -- the stream ----------------------------------------------------------------------------------------------

    @property
    def _stream(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        """The stream stands."""
        self._stream.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Have what came read; ``data`` need be valid during the call only."""
        if self._over:
            return
        self._passed += len(data)
        self._inbox.put(memoryview(data))
        if self._wanted[0]:
            self._watcher.doRead()
        self._inbox.own()
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The stream is gone."""
        used_up = 0 < self._limit <= self._passed
        why = f"the server relays {self._limit / MIB:.1f} MiB a session and no more"
        self.reason = Failure(Unreachable(why)) if used_up else reason
        # However its end is called: what came before an orderly one waits to be read.
        if not self._over and not self._wanted[0] and reason.check(ConnectionDone) is None:
            self._watcher.connectionLost(self.reason)
        self._look()

    def pauseProducing(self) -> None:
        """There is no room for more."""
        self._full = True

    def resumeProducing(self) -> None:
        """There is room again."""
        self._full = False
        self._look()

    def stopProducing(self) -> None:
        """The stream is going away; :meth:`connectionLost` follows."""

    # -- events --------------------------------------------------------------------------------------------------

    def watch(self, watcher: Any, wanted: tuple[bool, bool]) -> None:
        """From now on tell ``watcher`` of something to read, of room to write, or of neither."""
        self._watcher, self._wanted = watcher, wanted
        if wanted[0] != self._flowing and self.reason is None and not self._over:
            self._flowing = wanted[0]
            (self._stream.resumeProducing if self._flowing else self._stream.pauseProducing)()
        self._look()

    def _events(self) -> tuple[bool, bool]:
        ended = self.reason is not None
        return self._wanted[0] and (bool(self._inbox) or ended), self._wanted[1] and (not self._full or ended)

    def _look(self) -> None:
        """Come back for what there is to tell."""
        if self._turn is None and not self._over and any(self._events()):
            self._turn = self._clock.callLater(0, self._tell)

    def _tell(self) -> None:
        self._turn = None
        if self._events()[0]:
            self._watcher.doRead()
        if not self._over and self._events()[1]:
            self._watcher.doWrite()
        self._look()

    # -- the socket ----------------------------------------------------------------------------------------------

    def recv_into(self, memory: memoryview) -> int:
        """As that of a socket."""
        if not self._inbox:
            if self.reason is None:
                raise BlockingIOError
            return 0
        some = self._inbox.take(len(memory))
        memory[: len(some)] = some
        return len(some)

    def send(self, data: memoryview) -> int:
        """As that of a socket; takes everything or nothing."""
        if self.reason is not None:
            raise BrokenPipeError(errno.EPIPE, "the stream is gone")
        if self._full:
            raise BlockingIOError
        self._stream.write(bytes(data))
        self._passed += len(data)
        return len(data)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """As that of a socket: of the one under the stream.

        Raises:
            OSError: it cannot be asked.
        """
        ask = getattr(self.transport, "getsockopt", None)
        if ask is None:
            raise OSError(errno.ENOTSUP, "no socket is known under the stream")
        return bytes(ask(level, option, size))

    def close(self, *, reset: bool = False) -> None:
        """End the stream; nobody hears anything more.  ``reset``: what was not sent is dropped, as in a break."""
        if self._over:
            return
        self._over = True
        self._wanted = (False, False)
        self._inbox.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if self.reason is not None:
            return
        self._stream.unregisterProducer()
        if reset:
            self._stream.abortConnection()
            return
        if not self._flowing:
            self._stream.resumeProducing()
        self._stream.loseConnection()
