"""Numbered frames between two processes, each exactly once and in order, over paths that come and go.

Laws of this file:

1. One path is in use at a time.  Another one begins with the first frame that the peer may lack: what a lost path
   carried is sent again, and nothing else is lost.
2. Every path begins with Attach, which says who speaks and what it has; numbered frames go on it after the peer's
   Attach has come.  An Attach of another instance ends the session: that process knows nothing of this one.
3. The receiver takes the number that is next, drops those that it has, and refuses a later one, which cannot come from
   an honest sender (:mod:`p2pxfer.core.session.sendlog`, law 2).  It answers on the path that brought the frame, also
   where it had it already.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from p2pxfer.core.session.channelwire import Attach, ChannelMessage, Numbered, Receipt
from p2pxfer.core.session.sendlog import SendLog
from p2pxfer.errors import Incomplete, LimitReached, ProtocolBreach

MAX_FRAMES = 4096
"""Frames without receipt above which the session fails: a peer that acknowledges never leaves so many."""


class _Path(Struct):
    greeted: bool = False
    attached: bool = False
    due: bool = False


class Delivery:
    """One end of a session; ``released(frame)`` is called for each own frame that the peer has received."""

    def __init__(self, instance: bytes, released: Callable[[Numbered], None]) -> None:
        self._instance = instance
        self._released = released
        self._peer = b""
        self._paths: dict[int, _Path] = {}
        self._log = SendLog()
        self._received = 0
        self.current: int | None = None
        """The path in use."""

    @property
    def unreceived(self) -> int:
        """How many own frames the peer may lack."""
        return len(self._log)

    def open_path(self, path: int) -> None:
        """A greeted path; :meth:`take` gives its Attach."""
        self._paths[path] = _Path()

    def close_path(self, path: int) -> None:
        """The path is gone."""
        self._paths.pop(path, None)
        if self.current == path:
            self.current = None

    def usable(self, path: int) -> bool:
        """Whether the peer attached itself on ``path``."""
        state = self._paths.get(path)
        return state is not None and state.attached

    def use(self, path: int) -> None:
        """Send on ``path`` from here on, beginning with what the peer may lack."""
        if path in self._paths and path != self.current:
            self.current = path
            self._log.rewind()

    def put(self, make: Callable[[int], Numbered]) -> None:
        """Send the frame that ``make(number)`` gives, after those before it.

        Raises:
            LimitReached: the peer does not acknowledge.
        """
        if len(self._log) >= MAX_FRAMES:
            raise LimitReached("the peer does not acknowledge what is sent to it")
        self._log.put(make(self._log.number))

    def take(self, path: int, more: Callable[[], None]) -> ChannelMessage | None:
        """What to send next on ``path``; ``more()`` may :meth:`put` a frame when none waits."""
        state = self._paths.get(path)
        if state is None:
            return None
        if not state.greeted:
            state.greeted, state.due = True, False
            return Attach(instance=self._instance, peer=self._peer, received=self._received)
        if state.due:
            state.due = False
            return Receipt(received=self._received)
        if path != self.current or not state.attached:
            return None
        if not self._log.waiting:
            more()
        return self._log.take()

    def receive(self, path: int, message: ChannelMessage) -> Numbered | None:
        """A message or a piece came on ``path``; returns it if it is the next numbered frame.

        Raises:
            ProtocolBreach: it is not legal now.
            Incomplete: the peer's process is another one than before, or takes this one for another.
        """
        state = self._paths.get(path)
        if state is None:
            raise ProtocolBreach("a path that does not carry channels")
        if isinstance(message, Attach):
            self._attach(state, message)
            return None
        if not state.attached:
            raise ProtocolBreach(f"{type(message).__name__} came before Attach")
        if isinstance(message, Receipt):
            self._peer_has(message.received)
            return None
        if message.number > self._received:
            raise ProtocolBreach(f"frame {message.number} came instead of {self._received}")
        state.due = True
        if message.number < self._received:
            return None
        self._received += 1
        return message

    def _attach(self, state: _Path, message: Attach) -> None:
        if state.attached:
            raise ProtocolBreach("a second Attach on one path")
        if self._peer not in (b"", message.instance) or message.peer not in (b"", self._instance):
            raise Incomplete("the program at the other end was started anew; what it had not taken is lost")
        self._peer = message.instance
        state.attached = True
        self._peer_has(message.received)

    def _peer_has(self, count: int) -> None:
        for frame in self._log.received(count):
            self._released(frame)
