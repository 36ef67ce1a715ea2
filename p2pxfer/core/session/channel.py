"""One byte channel as an account: what may be written, what may come, and when it is over; what its user is told.

Laws of this file:

1. What is written and not received by the peer is at most the peer's credit, and at most this side's own buffer.
2. What came and was not consumed is at most the window, which is this side's credit to the peer.
3. Credit is given back when half of the window was consumed; and to the last byte when everything before the peer's End
   was consumed.
4. So a channel is not over at either side before both readers are done with everything: receiving is not enough.
5. The window grows when the peer had used up all credit that it knew of while the reader here was not behind: then
   nothing but the window held the writer up.  That is seen from the receipt for a Credit, behind everything that the
   peer sent before it had that, so it takes no clock.  A reader that is slow, or a path, leaves it as it is.
6. The buffer grows when it is what leaves the writer without room although the peer has given credit.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from msgspec import Struct, field

from p2pxfer.core.session.bytequeue import ByteQueue
from p2pxfer.core.session.channelwire import Credit, End, Opened, Piece, Reset
from p2pxfer.errors import P2pxferError, ProtocolBreach


class Phase(Enum):
    """How far the opening is."""

    ASKED = "the peer's answer is awaited"
    OFFERED = "this side's answer is awaited"
    OPEN = "the channel stands"


class WriterState(Enum):
    """What becomes of what the writer of a channel says."""

    ON = "it goes to the peer"
    ENDING = "what waits goes to the peer, then the end"
    ENDED = "the peer was told that nothing follows"


LEGAL: Final[Mapping[Phase, tuple[type, ...]]] = MappingProxyType(
    {
        Phase.ASKED: (Opened, Reset),
        Phase.OFFERED: (Reset,),
        Phase.OPEN: (Piece, Credit, End, Reset),
    }
)
"""What may come on a channel."""


class Asked(Struct, frozen=True):
    """The peer asks for a channel: :meth:`~p2pxfer.core.session.channels.Channels.accept` or
    :meth:`~p2pxfer.core.session.channels.Channels.reset` it.

    ``about`` is the peer's text for the service.
    """

    channel: int
    service: str
    about: str = ""


class Stands(Struct, frozen=True):
    """The peer accepted; :meth:`~p2pxfer.core.session.channels.Channels.room` tells how much may be written.

    It wants at most ``rate`` bytes a second, 0 for no limit.
    """

    channel: int
    rate: int = 0


class Arrived(Struct, frozen=True):
    """Data came; :meth:`~p2pxfer.core.session.channels.Channels.consumed` when done with it."""

    channel: int
    data: bytes | bytearray | memoryview


class Writable(Struct, frozen=True):
    """There is room again, after a write that left none."""

    channel: int


class PeerEnded(Struct, frozen=True):
    """No data follows; ``digest`` is what the peer says of all of it."""

    channel: int
    digest: bytes = b""


class Taken(Struct, frozen=True):
    """This side ended, and the peer's reader is done with everything before that; its own direction goes on."""

    channel: int


class Gone(Struct, frozen=True):
    """The channel is over: both directions ended (``error`` is ``None``), or the peer refused it or gave it up."""

    channel: int
    error: P2pxferError | None


ChannelEvent = Asked | Stands | Arrived | Writable | PeerEnded | Taken | Gone


class Channel(Struct):
    """The state of one channel; sizes in bytes."""

    number: int
    window: int
    """What may come and not be consumed."""
    buffer: int
    """What may be written and not be received by the peer."""
    phase: Phase
    credit: int = 0
    """What may still be written, as far as the peer is concerned."""
    lent: int = 0
    """Written, and not given back as credit: the peer's reader is not done with it, as far as is known."""
    unsent: ByteQueue = field(default_factory=ByteQueue)
    unacked: int = 0
    """Cut into pieces and not received by the peer."""
    stalled: bool = False
    """The writer was left without room."""
    writing: WriterState = WriterState.ON
    digest: bytes = b""
    """Goes out with the End."""
    welcome: int = 0
    """What the peer may still send."""
    unread: int = 0
    """Came and was not consumed."""
    owed: int = 0
    """Consumed, and not given back as credit."""
    came: int = 0
    """Everything that arrived."""
    known: int = 0
    """What the peer knew to be welcome altogether when it sent what came last."""
    peer_ended: bool = False

    def __post_init__(self) -> None:
        self.welcome = self.known = self.window

    @property
    def room(self) -> int:
        """How much may be written now."""
        if self.phase is not Phase.OPEN or self.writing is not WriterState.ON:
            return 0
        return max(0, min(self.credit, self.buffer - self.unacked - len(self.unsent)))

    @property
    def taken(self) -> bool:
        """This side ended, and everything was consumed at the other end."""
        return self.writing is WriterState.ENDED and not self.lent

    @property
    def over(self) -> bool:
        """Both directions ended, and everything was consumed at both ends."""
        return self.taken and self.peer_ended and not self.unread

    def open(self, credit: int) -> None:
        """The channel stands, with ``credit`` for the writer beyond what it has."""
        self.phase = Phase.OPEN
        self.credit += credit
        self.stalled = self.room == 0

    def write(self, data: bytes | memoryview) -> None:
        """Take data from the writer.

        Raises:
            ValueError: it is more than :attr:`room`.
        """
        if len(data) > self.room:
            raise ValueError(f"{len(data)} bytes were written where {self.room} had room")
        self.unsent.put(data)
        self.credit -= len(data)
        self.lent += len(data)
        self.stalled = self.room == 0

    @property
    def cramped(self) -> bool:
        """The own buffer leaves the writer without room, and nothing else does."""
        return self.stalled and self.credit > 0

    def give_back(self, more: int, wider: int = 0) -> None:
        """The peer's reader is done with ``more`` bytes; ``wider`` bytes are welcome beyond those.

        Raises:
            ProtocolBreach: not as many were written.
        """
        if more > self.lent:
            raise ProtocolBreach("the peer gives back more credit than was used")
        self.credit += more + wider
        self.lent -= more

    def unstalled(self) -> bool:
        """Whether a writer that was left without room has some again; true once."""
        if not self.stalled or not self.room:
            return False
        self.stalled = False
        return True

    def arrive(self, size: int) -> None:
        """A piece came.

        Raises:
            ProtocolBreach: it is more than was welcome.
        """
        if size > self.welcome:
            raise ProtocolBreach("the peer sends more than it has credit for")
        self.welcome -= size
        self.unread += size
        self.came += size

    def confirmed(self, credit: int) -> bool:
        """The peer has received so much credit; returns whether it is the window that holds its writer up."""
        exhausted = self.came >= self.known
        self.known += credit
        return exhausted and 4 * self.unread <= self.window and not self.peer_ended

    def widen(self, growth: int) -> None:
        """So much more may come."""
        self.window += growth
        self.welcome += growth

    def enlarge(self, growth: int) -> None:
        """So much more may wait."""
        self.buffer += growth
        self.stalled = self.room == 0

    def consume(self, size: int) -> int:
        """The reader is done with ``size`` bytes; returns the credit to give to the peer now.

        Raises:
            ValueError: it had not as many.
        """
        if size > self.unread:
            raise ValueError(f"{size} bytes were consumed of {self.unread}")
        self.unread -= size
        self.owed += size
        return self._due()

    def peer_end(self) -> int:
        """The peer has said its last; returns the credit to give to it now."""
        self.peer_ended = True
        return self._due()

    def _due(self) -> int:
        done = self.peer_ended and not self.unread
        if not done and 2 * self.owed < self.window:
            return 0
        credit, self.owed = self.owed, 0
        self.welcome += credit
        return credit
