"""Lines both ways between two people, each shown once, whatever becomes of the connection and of the two programs.

Pure: what came and what was noted on the disk goes in, frames and events come out.

Laws of this file:

1. A line is sent when it was noted here (:meth:`Conversation.noted`), and kept until the peer says that it has noted
   it.  So a program that dies loses no line, and sends none under another id.
2. A line that came is told once: its id is remembered, among the last :data:`REMEMBERED`.  The other side keeps at most
   :data:`MAX_PENDING` lines without a receipt, in order, so what it may send again is always among these.
3. A receipt goes out when the line was noted here (:meth:`Conversation.kept`), and again for a line that comes again.
4. Memory is bounded: lines that wait for their receipt, receipts that wait for the disk, ids.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from p2pxfer.core.codec import Message
from p2pxfer.core.framing import FrameDecoder
from p2pxfer.core.session.chatwire import CHAT, CHAT_CAPS, MAX_TEXT, Got, Over, Say
from p2pxfer.errors import LimitReached, ProtocolBreach

MAX_PENDING: Final = 1000
"""Most lines without a receipt, of each side."""
MAX_QUEUE: Final = 4 * MAX_PENDING
"""Most messages that wait for room."""
REMEMBERED: Final = 4096
"""How many ids of lines that came are remembered."""


class Line(Struct, frozen=True):
    """One line; ``id`` 16 random bytes, ``at`` when it was written, seconds since 1970."""

    id: bytes
    text: str
    at: int


class Heard(Struct, frozen=True):
    """A line of the peer: show it, note it, and then :meth:`Conversation.kept`."""

    line: Line


class Delivered(Struct, frozen=True):
    """The peer has noted a line of this side."""

    line: Line


class PeerOver(Struct, frozen=True):
    """The peer has no more lines."""


ChatEvent = Heard | Delivered | PeerOver


class Conversation:
    """One side.  ``pending`` are lines of earlier runs without a receipt, ``seen`` the ids of lines that came."""

    def __init__(self, pending: Iterable[Line] = (), seen: Iterable[bytes] = ()) -> None:
        self._pending = {line.id: line for line in pending}
        self._noted = set(self._pending)
        self._seen = dict.fromkeys(list(seen)[-REMEMBERED:])
        self._unkept: set[bytes] = set()
        self._queue: deque[Message] = deque()
        self._decoder: FrameDecoder | None = None
        self._over = False
        self._said_over = False
        self._rest = b""

    # -- this side ---------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> list[Line]:
        """The lines without a receipt, in their order."""
        return list(self._pending.values())

    @property
    def full(self) -> bool:
        """No more lines may be said now."""
        return len(self._pending) >= MAX_PENDING

    @property
    def connected(self) -> bool:
        """Whether a channel stands."""
        return self._decoder is not None

    def say(self, line: Line) -> None:
        """A line of this side; it goes out when it was noted.

        Raises: LimitReached: it is longer than :data:`~p2pxfer.core.session.chatwire.MAX_TEXT`, or too many wait for a
        receipt.
        """
        if len(line.text) > MAX_TEXT:
            raise LimitReached(f"a line of a chat has at most {MAX_TEXT} characters; this one has {len(line.text)}")
        if self.full:
            raise LimitReached(f"{MAX_PENDING} lines are waiting to be delivered; no more are taken until then")
        self._pending[line.id] = line

    def noted(self, ids: Iterable[bytes]) -> None:
        """These lines are on the disk, or the disk does not take them and they are sent without."""
        new = [self._pending[each] for each in ids if each in self._pending and each not in self._noted]
        self._noted.update(line.id for line in new)
        if self.connected:
            self._queue += [Say(line.id, line.text, line.at) for line in new]
        self._say_over()

    def over(self) -> None:
        """This side has no more lines; the peer hears it after the last one."""
        self._over = True
        self._say_over()

    def _say_over(self) -> None:
        if self._over and self.connected and not self._said_over and self._noted.issuperset(self._pending):
            self._said_over = True
            self._queue.append(Over())

    # -- the channel -------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """A channel stands: everything without a receipt goes out, again if it did before."""
        self._decoder = FrameDecoder(CHAT_CAPS)
        self._said_over = False
        self._rest = b""
        waiting = (line for line in self._pending.values() if line.id in self._noted)
        self._queue = deque(Say(line.id, line.text, line.at) for line in waiting)
        self._say_over()

    def detach(self) -> None:
        """The channel is gone."""
        self._decoder = None
        self._queue.clear()
        self._rest = b""

    def take(self, room: int) -> bytes:
        """At most ``room`` bytes for the channel."""
        parts = [self._rest]
        size = len(self._rest)
        while size < room and self._queue:
            parts.append(CHAT.encode(self._queue.popleft()))
            size += len(parts[-1])
        data = b"".join(parts)
        self._rest = data[room:]
        return data[:room]

    def receive(self, data: bytes) -> list[ChatEvent]:
        """Bytes of the channel came.

        Raises:
            FrameError: malformed, or larger than a line may be.
            ProtocolBreach: more lines came than may wait for their receipts.
        """
        events: list[ChatEvent] = []
        assert self._decoder is not None
        for frame in self._decoder.feed(data):
            event = self._message(CHAT.decode(frame))
            if event is not None:
                events.append(event)
        return events

    def _message(self, message: Message) -> ChatEvent | None:
        if len(self._queue) > MAX_QUEUE:
            raise ProtocolBreach("the peer does not take its receipts")
        match message:
            case Say():
                return self._said(message)
            case Got():
                line = self._pending.pop(message.id, None)
                self._noted.discard(message.id)
                return None if line is None else Delivered(line)
            case _:
                return PeerOver()

    def _said(self, message: Say) -> Heard | None:
        if message.id in self._seen:
            if message.id not in self._unkept:
                self._queue.append(Got(message.id))
            return None
        if len(self._unkept) >= MAX_PENDING:
            raise ProtocolBreach("the peer sends more lines than may wait for their receipts")
        self._seen[message.id] = None
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._unkept.add(message.id)
        return Heard(Line(message.id, message.text, message.at))

    def kept(self, ids: Iterable[bytes]) -> None:
        """These lines of the peer were noted here: it may forget them."""
        for each in ids:
            if each in self._unkept:
                self._unkept.remove(each)
                if self.connected:
                    self._queue.append(Got(each))

    @property
    def owes(self) -> bool:
        """Whether lines of the peer have no receipt yet."""
        return bool(self._unkept)

    @property
    def seen(self) -> list[bytes]:
        """The ids of the lines that were noted here, the oldest first."""
        return [each for each in self._seen if each not in self._unkept]
