"""Byte channels over a session whose paths come and go: ordered, exactly once, with back pressure, ended each way.

Laws of this file:

1. Everything that changes a channel (Open, Opened, Piece, Credit, End, Reset) is a numbered frame, which counts once
   and in order whatever becomes of the paths (:mod:`p2pxfer.core.session.delivery`).
2. Memory is bounded: by the credit in each direction (:mod:`p2pxfer.core.session.channel`), by a number of channels
   (:mod:`p2pxfer.core.session.channeltable`), and by a number of frames.  What is over a bound is the caller's mistake
   or the peer's breach.
3. Channels with data take turns, one piece each.
4. What comes for a channel that this side gave up is dropped; what comes for one that never was is a breach.

Nothing here is remembered when the process ends; channels live as long as both processes.  The caller drains
:meth:`Channels.events` after each call and :meth:`Channels.take` whenever a path has room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal

from p2pxfer.core.reported import from_peer
from p2pxfer.core.session.channel import (
    LEGAL,
    Arrived,
    Asked,
    Channel,
    ChannelEvent,
    Gone,
    PeerEnded,
    Phase,
    Stands,
    Taken,
    Writable,
    WriterState,
)
from p2pxfer.core.session.channeltable import ChannelTable
from p2pxfer.core.session.channelwire import (
    MAX_PIECE,
    ChannelMessage,
    Credit,
    End,
    Numbered,
    Open,
    Opened,
    Piece,
    Reset,
)
from p2pxfer.core.session.delivery import Delivery
from p2pxfer.core.session.windows import Limits
from p2pxfer.core.text import safe_text
from p2pxfer.errors import LimitReached, P2pxferError, ProtocolBreach

MAX_PIECES = 1024
"""Frames without receipt above which no data is cut."""
LIMITS = Limits()


class Channels:
    """All channels between this process and one of the peer.

    ``instance`` is 16 random bytes; ``parity`` is 0 at the initiator and 1 at the responder: whose channels have even
    numbers and whose odd ones.
    """

    def __init__(self, instance: bytes, parity: Literal[0, 1], limits: Limits = LIMITS) -> None:
        self._delivery = Delivery(instance, self._released)
        self._limits = limits
        self._held = 0
        self._channels = ChannelTable(parity, limits)
        self._turns: deque[int] = deque()
        self._events: deque[ChannelEvent] = deque()

    def events(self) -> Iterator[ChannelEvent]:
        """What happened, each event once; may be called again while it is drained."""
        while self._events:
            yield self._events.popleft()

    @property
    def parity(self) -> int:
        """See above."""
        return self._channels.parity

    @property
    def settled(self) -> bool:
        """The peer has received everything that was written, ended or reset here."""
        return not self._delivery.unreceived and not any(map(self._has_more, self._channels))

    @property
    def held_bytes(self) -> int:
        """Data that was written here and not received by the peer."""
        return self._held + sum(len(channel.unsent) for channel in self._channels)

    def __len__(self) -> int:
        return len(self._channels)

    # -- paths ---------------------------------------------------------------------------------------------------

    def open_path(self, path: int) -> None:
        """A greeted path; :meth:`take` gives its Attach."""
        self._delivery.open_path(path)

    def close_path(self, path: int) -> None:
        """The path is gone."""
        self._delivery.close_path(path)

    @property
    def current(self) -> int | None:
        """The path in use."""
        return self._delivery.current

    def usable(self, path: int) -> bool:
        """Whether the peer attached itself on ``path``, so that :meth:`use` has an effect at once."""
        return self._delivery.usable(path)

    def use(self, path: int) -> None:
        """Send on ``path`` from here on, beginning with what the peer may lack."""
        self._delivery.use(path)

    def take(self, path: int) -> ChannelMessage | None:
        """What to send next on ``path``; ``None`` when there is nothing now."""
        return self._delivery.take(path, self._cut)

    def _cut(self) -> None:
        """Put the next piece of the channel whose turn it is among the numbered frames, and its end behind it."""
        if self._delivery.unreceived >= MAX_PIECES or self._held >= self._limits.total:
            return
        while self._turns:
            channel = self._channels.get(self._turns.popleft())
            if channel is None or not self._has_more(channel):
                continue
            if channel.unsent:
                self._put_piece(channel, channel.unsent.take(MAX_PIECE))
            if channel.unsent:
                self._turns.append(channel.number)
            elif channel.writing is WriterState.ENDING:
                self._end(channel)
            return

    @staticmethod
    def _has_more(channel: Channel) -> bool:
        return bool(channel.unsent) or channel.writing is WriterState.ENDING

    def _wants_turn(self, channel: Channel) -> None:
        if channel.number not in self._turns:
            self._turns.append(channel.number)

    # -- from the peer -------------------------------------------------------------------------------------------

    def receive(self, path: int, message: ChannelMessage) -> bool:
        """A message or a piece came on ``path``; whether it was new.  An error ends the session: no other path would
        heal it.

        Raises:
            ProtocolBreach: it is not legal now.
            Incomplete: the peer's process is another one than before, or takes this one for another.
            LimitReached: the peer does not acknowledge what it makes this side say.
        """
        frame = self._delivery.receive(path, message)
        if frame is not None:
            self._numbered(frame)
        return frame is not None

    def _released(self, frame: Numbered) -> None:
        channel = self._channels.get(frame.channel)
        if isinstance(frame, Piece):
            self._held -= len(frame.payload)
            if channel is not None:
                channel.unacked -= len(frame.payload)
                self._tell_room(channel)
        elif isinstance(frame, Credit) and channel is not None and channel.confirmed(frame.more + frame.wider):
            self._widen(channel)

    def _widen(self, channel: Channel) -> None:
        growth = self._channels.widen(channel)
        if growth:
            self._put_credit(channel, 0, growth)

    def _tell_room(self, channel: Channel) -> None:
        if channel.unstalled():
            self._events.append(Writable(channel.number))

    def _numbered(self, message: Numbered) -> None:
        if isinstance(message, Open):
            self._asked(message)
            return
        if not self._channels.was_opened(message.channel):
            raise ProtocolBreach(f"{type(message).__name__} for channel {message.channel}, which was never opened")
        channel = self._channels.get(message.channel)
        if channel is None:
            return  # this side gave it up; the peer did not know yet
        if not isinstance(message, LEGAL[channel.phase]) or (channel.peer_ended and isinstance(message, (Piece, End))):
            raise ProtocolBreach(f"{type(message).__name__} came while {channel.phase.value}")
        match message:
            case Piece():
                channel.arrive(len(message.payload))
                self._events.append(Arrived(channel.number, message.payload))
            case Opened():
                channel.open(message.credit)
                self._events.append(Stands(channel.number, message.rate))
            case Credit():
                channel.give_back(message.more, message.wider)
                self._tell_room(channel)
                self._if_taken(channel)
            case End():
                self._events.append(PeerEnded(channel.number, message.digest))
                self._give_back(channel, channel.peer_end())
            case Reset():
                said = safe_text(message.message)
                self._drop(channel, from_peer(message.word, f"the other side ended it: {said}"))

    def _asked(self, message: Open) -> None:
        channel = self._channels.asked(message.channel)
        if channel is None:
            too_many = LimitReached("too many channels at once")
            self._delivery.put(lambda number: _reset(number, message.channel, too_many))
        else:
            channel.credit = message.credit
            self._events.append(Asked(channel.number, message.service, message.about))

    # -- from the user of the channels ---------------------------------------------------------------------------

    def open(self, service: str, about: str = "") -> int:
        """Ask for a channel to ``service``; returns its number.  :class:`Stands` or :class:`Gone` follows.

        ``about`` has at most 255 characters.

        Raises:
            LimitReached: there are too many.
        """
        made = self._channels.ask()
        self._delivery.put(
            lambda number: Open(number=number, channel=made.number, service=service, credit=made.window, about=about)
        )
        self._channels.add(made)
        return made.number

    def accept(self, channel: int, rate: int = 0) -> None:
        """Let a channel that was :class:`Asked` for stand, unless it is gone; ``rate``: see :class:`Stands`."""
        if (state := self._channels.get(channel)) is None:
            return  # the peer gave it up before the answer; the event for that is on its way
        if state.phase is not Phase.OFFERED:
            raise ValueError(f"channel {channel} was not asked for")
        state.open(0)
        self._delivery.put(lambda number: Opened(number=number, channel=channel, credit=state.window, rate=rate))

    def room(self, channel: int) -> int:
        """How many bytes may be written now; 0 for a channel that is over."""
        state = self._channels.get(channel)
        return 0 if state is None else state.room

    def waiting(self, channel: int) -> int:
        """How many of the bytes that were written last the peer may not have received."""
        state = self._channels.get(channel)
        return 0 if state is None else state.unacked + len(state.unsent)

    def write(self, channel: int, data: bytes | memoryview) -> None:
        """Send data, which must not change afterwards.

        Raises:
            ValueError: it is more than :meth:`room`.
        """
        state = self._channels.get(channel)
        if state is None:
            raise ValueError(f"channel {channel} is over")
        state.write(data)
        if state.cramped:
            self._channels.enlarge(state)
        if data:
            self._wants_turn(state)

    def end(self, channel: int, digest: bytes = b"") -> None:
        """No more data from this side; what was written still goes out, and ``digest`` of at most 32 bytes behind it.

        Raises:
            ValueError: the channel does not stand yet.
        """
        state = self._channels.get(channel)
        if state is None or state.writing is not WriterState.ON:
            return
        if state.phase is not Phase.OPEN:
            raise ValueError(f"channel {channel} cannot end while {state.phase.value}")
        state.writing, state.digest = WriterState.ENDING, digest
        self._wants_turn(state)

    def reset(self, channel: int, error: P2pxferError) -> None:
        """Refuse a channel or give it up, both ways; the peer is told why, and :class:`Gone` does not follow."""
        if self._channels.remove(channel):
            self._delivery.put(lambda number: _reset(number, channel, error))

    def consumed(self, channel: int, size: int) -> None:
        """``size`` bytes that came are dealt with: as many more may come.

        Raises:
            LimitReached: the peer does not acknowledge what is sent to it.
        """
        state = self._channels.get(channel)
        if state is not None:
            self._give_back(state, state.consume(size))

    # -- helpers -------------------------------------------------------------------------------------------------

    def _put_piece(self, channel: Channel, payload: bytes | memoryview) -> None:
        self._held += len(payload)
        channel.unacked += len(payload)
        self._delivery.put(lambda number: Piece(number, channel.number, payload))

    def _end(self, channel: Channel) -> None:
        channel.writing = WriterState.ENDED
        self._delivery.put(lambda number: End(number=number, channel=channel.number, digest=channel.digest))
        self._if_taken(channel)

    def _give_back(self, channel: Channel, credit: int) -> None:
        if credit:
            self._put_credit(channel, credit)
        self._forget_if_over(channel)

    def _put_credit(self, channel: Channel, more: int, wider: int = 0) -> None:
        self._delivery.put(lambda number: Credit(number=number, channel=channel.number, more=more, wider=wider))

    def _if_taken(self, channel: Channel) -> None:
        if channel.taken:
            self._events.append(Taken(channel.number))
        self._forget_if_over(channel)

    def _forget_if_over(self, channel: Channel) -> None:
        if channel.over:
            self._drop(channel, None)

    def _drop(self, channel: Channel, error: P2pxferError | None) -> None:
        self._channels.remove(channel.number)
        self._events.append(Gone(channel.number, error))


def _reset(number: int, channel: int, error: P2pxferError) -> Reset:
    return Reset(number=number, channel=channel, word=error.word, message=error.abroad[:1000])
