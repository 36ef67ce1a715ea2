"""What one side has sent and the other has not yet received: numbered frames, in order, over any number of paths.

Laws of this file:

1. Frames are numbered from 0 without a gap.  A frame is held until the other side has received it and all before it.
2. On one path the numbers go up by one, or go back, or skip frames that the other side has.  So the other side, which
   takes only the next number, meets numbers that it has and the next one, never a later one.
3. Only what was sent can be received.
"""

from __future__ import annotations

from collections import deque

from p2pxfer.core.session.channelwire import Numbered
from p2pxfer.errors import ProtocolBreach


class SendLog:
    """The frames of one direction of a session."""

    def __init__(self) -> None:
        self._held: deque[Numbered] = deque()
        self._first = 0
        self._at = 0
        self._sent = 0

    def __len__(self) -> int:
        """How many frames are held."""
        return len(self._held)

    @property
    def number(self) -> int:
        """The number of the next frame that is put in."""
        return self._first + len(self._held)

    @property
    def waiting(self) -> bool:
        """Whether :meth:`take` would give a frame."""
        return self._at < self.number

    def put(self, frame: Numbered) -> None:
        """Hold a frame, which must bear :attr:`number`."""
        if frame.number != self.number:
            raise ValueError(f"frame {frame.number} instead of {self.number}")
        self._held.append(frame)

    def take(self) -> Numbered | None:
        """The next frame for the path in use."""
        if not self.waiting:
            return None
        frame = self._held[self._at - self._first]
        self._at += 1
        self._sent = max(self._sent, self._at)
        return frame

    def rewind(self) -> None:
        """Another path is in use: begin with the first frame that the other side may lack."""
        self._at = self._first

    def received(self, count: int) -> list[Numbered]:
        """The other side has all frames below ``count``; returns those that are let go.

        Raises:
            ProtocolBreach: some of them were never sent.
        """
        if count > self._sent:
            raise ProtocolBreach("the peer acknowledges what was not sent")
        gone = [self._held.popleft() for _ in range(count - self._first)]
        self._first = max(self._first, count)
        self._at = max(self._at, self._first)
        return gone
