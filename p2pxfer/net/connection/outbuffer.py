"""What a transport still has to send, and the producer that is held back when this becomes too much."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from p2pxfer.net.connection.tls import Octets

RECORD: Final = 16 * 1024
"""Largest plaintext of a TLS record, bytes (RFC 8446 section 5.1)."""
JOINED: Final = 128 * 1024
"""Most bytes of small pieces in one sealed record: the first of them are opened no sooner than the last."""
BUFFERED: Final = 256 * 1024
"""A push producer is paused above this many unsent bytes at most, and resumed at half of it: the kernel's own buffer
covers the line, this one only the time until the producer delivers again."""


def _full() -> int:
    return BUFFERED


class OutBuffer:
    """A queue of bytes that are kept by reference, with a producer in Twisted's sense, which is paused above ``most()``
    of them."""

    def __init__(self, most: Callable[[], int] = _full) -> None:
        self._most = most
        self.unsent = 0
        self._pieces: deque[memoryview] = deque()
        self._producer: Any = None
        self._streaming = True
        self._paused = False

    def __bool__(self) -> bool:
        return bool(self._pieces)

    @property
    def open(self) -> bool:
        """True while there is a producer, so that more may come."""
        return self._producer is not None

    def add(self, data: Iterable[Octets]) -> None:
        """Put pieces at the end."""
        for octets in data:
            if octets:
                view = memoryview(octets).cast("B")
                self._pieces.append(view)
                self.unsent += len(view)
        self._hold_back()

    def next(self, most: int) -> list[memoryview]:
        """The bytes to send next, up to ``most``, in pieces of a TLS record and more as far as there is so much.

        Small pieces are joined when they come first, so that they share a record and a system call.
        """
        self._join_small(RECORD)
        pieces: list[memoryview] = []
        for piece in self._pieces:
            if pieces and min(most, len(piece)) < RECORD:
                break
            pieces.append(piece[:most])
            most -= len(pieces[-1])
        return pieces

    def first(self, most: int) -> memoryview:
        """The piece to send next, up to ``most`` bytes of it: small ones are joined, large ones begin a record."""
        if len(self._pieces[0]) < RECORD:
            self._join_small(min(most, JOINED))
        return self._pieces[0][:most]

    def take_all(self) -> list[memoryview]:
        """Everything, which is not here any more afterwards."""
        pieces = list(self._pieces)
        self.drop()
        return pieces

    def _join_small(self, most: int) -> None:
        """Make one piece of the small ones that come first, ``most`` bytes at most."""
        pieces = self._pieces
        if len(pieces) < 2 or max(len(pieces[0]), len(pieces[1])) >= RECORD or len(pieces[0]) + len(pieces[1]) > most:
            return
        joined = bytearray()
        while pieces and len(pieces[0]) < RECORD and len(joined) + len(pieces[0]) <= most:
            joined += pieces.popleft()
        pieces.appendleft(memoryview(joined))

    def sent(self, size: int) -> None:
        """Forget the first ``size`` bytes."""
        self.unsent -= size
        while self._pieces and size >= len(self._pieces[0]):
            size -= len(self._pieces.popleft())
        if size:
            self._pieces[0] = self._pieces[0][size:]

    def register(self, producer: Any, streaming: bool) -> None:
        """Let ``producer`` write; ``streaming`` as for ``IConsumer``.  ``RuntimeError`` if there is one already."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        self._producer, self._streaming, self._paused = producer, streaming, False
        if streaming:
            self._hold_back()
        else:
            producer.resumeProducing()

    def unregister(self) -> None:
        """The producer has written everything."""
        self._producer = None

    def ask_for_more(self) -> None:
        """Let the producer go on if there is room."""
        if self._producer is None:
            return
        if not self._streaming:
            if not self._pieces:
                self._producer.resumeProducing()
        elif self._paused and self.unsent <= self._most() // 2:
            self._paused = False
            self._producer.resumeProducing()

    def drop(self) -> None:
        """Forget all bytes: none will be sent."""
        self._pieces.clear()
        self.unsent = 0

    def stop_producer(self) -> None:
        """Tell the producer that nobody will take anything any more."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()

    def _hold_back(self) -> None:
        if self._producer is not None and self._streaming and not self._paused and self.unsent > self._most():
            self._paused = True
            self._producer.pauseProducing()
