"""One channel as a Twisted transport: any protocol runs on it as it does on TCP.

Laws of this file:

1. What came is consumed when the protocol has it; a protocol that pauses leaves the rest with the peer, so memory stays
   within the channel's window.
2. Writing takes everything, as transports do; a registered producer is paused while something does not fit the channel.
3. Each direction ends by itself for a protocol that provides ``IHalfCloseableProtocol``; any other one loses its
   connection when the peer says its last.
4. ``connectionLost`` comes once: with ``ConnectionDone`` after both sides ended, or when the peer's reader has had all
   that was written before ``loseConnection``; with ``ConnectionLost`` when the peer reset it or the session is over;
   with ``ConnectionAborted`` after ``abortConnection``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Protocol as Interface
from typing import cast

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IProducer,
    IProtocol,
    IPushProducer,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.core.session.bytequeue import ByteQueue
from p2pxfer.core.session.channel import Writing
from p2pxfer.errors import Interrupted, P2pxferError

RESET = "the connection was reset"


class ChannelOwner(Interface):
    """The channels of a session, as one stream of them sees them."""

    def room(self, channel: int) -> int:
        """How many bytes may be written."""

    def write(self, channel: int, data: bytes | memoryview) -> None:
        """Send data."""

    def end(self, channel: int) -> None:
        """No more data follows."""

    def consumed(self, channel: int, size: int) -> None:
        """Data was dealt with."""

    def give_up(self, channel: int, error: P2pxferError) -> None:
        """End the channel both ways."""

    def left_alone(self, channel: int) -> None:
        """Nobody listens here any more; the peer may go on for a moment."""


class Reading(Enum):
    """What becomes of what the peer says."""

    ON = "it goes to the protocol"
    PAUSED = "it waits"
    OFF = "nobody wants it, or the protocol knows that nothing follows"


@implementer(ITransport, IConsumer, IPushProducer)
class ChannelStream:
    """The transport of one ``channel``; what happens to the channel comes in by the methods with small letters.

    It has the methods of a TCP transport as well, for protocols that expect one.
    """

    log = Logger()
    disconnecting = False
    """The protocol asked for the end; see Twisted."""

    def __init__(self, owner: ChannelOwner, channel: int, here: IAddress, there: IAddress) -> None:
        self.channel = channel
        self.protocol: IProtocol | None = None
        self._owner = owner
        self._here = here
        self._there = there
        self._reading = Reading.ON
        self._arrived: deque[bytes | bytearray | memoryview] = deque()
        self._delivering = False
        self._peer_ended = False
        self._writing = Writing.ON
        self._unsent = ByteQueue()
        self._written = 0
        self._producer: IPushProducer | None = None
        """Where it does not stream, it is one that is asked for each piece by the same method."""
        self._streaming = False
        self._producer_paused = False
        self._asking = False
        self._lost = False
        self._on_lost: Callable[[], None] = lambda: None

    def begin(self, protocol: IProtocol) -> None:
        """The channel stands: connect ``protocol``."""
        self.protocol = protocol
        self._guarded(lambda: protocol.makeConnection(self))
        self._deliver()

    # -- from the channel --------------------------------------------------------------------------------------------

    def arrived(self, data: bytes | bytearray | memoryview) -> None:
        """The peer said something."""
        self._arrived.append(data)
        self._deliver()

    def peer_ended(self) -> None:
        """The peer has said its last."""
        self._peer_ended = True
        self._deliver()

    def writable(self) -> None:
        """There is room again."""
        self._push()

    def taken(self) -> None:
        """The peer's reader has had everything, up to the end that was said here."""
        if self.disconnecting:
            self._owner.left_alone(self.channel)
            self._lose(ConnectionDone())

    def gone(self, error: P2pxferError | None) -> None:
        """The channel is over."""
        if error is None or (self.disconnecting and self._peer_ended):
            self._lose(ConnectionDone())
        else:
            lost = ConnectionLost(error.message)
            lost.__cause__ = error
            self._lose(lost)

    def _deliver(self) -> None:
        if self._delivering or self.protocol is None:
            return
        self._delivering = True
        try:
            while self._arrived and self._reading is not Reading.PAUSED:
                self._hand_over(self._arrived.popleft())
        finally:
            self._delivering = False
        if self._peer_ended and not self._arrived and self._reading is not Reading.OFF:
            self._reading = Reading.OFF
            self._tell_end()

    def _hand_over(self, data: bytes | bytearray | memoryview) -> None:
        protocol = self.protocol
        if self._reading is Reading.ON and protocol is not None:
            self._guarded(lambda: protocol.dataReceived(bytes(data)))
        self._owner.consumed(self.channel, len(data))

    def _tell_end(self) -> None:
        half = _half_closeable(self.protocol)
        if half is None:
            self.loseConnection()
        else:
            self._guarded(half.readConnectionLost)

    def _lose(self, reason: Exception) -> None:
        if self._lost:
            return
        self._lost = True
        self._reading = Reading.OFF
        self._writing = Writing.ENDED
        self._unsent.clear()
        self._arrived.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            self._guarded(producer.stopProducing)
        protocol = self.protocol
        if protocol is not None:
            self._guarded(lambda: protocol.connectionLost(Failure(reason)))
        self._guarded(self._on_lost)

    def when_lost(self, call: Callable[[], None]) -> None:
        """``call`` after ``connectionLost``: at once, if that was already.  One call is kept."""
        self._on_lost = call
        if self._lost:
            call()

    def _guarded(self, call: Callable[[], object]) -> None:
        """A fault of the protocol ends its connection and no other one."""
        with self.log.failuresHandled("while calling a protocol on a channel") as calling:
            call()
        if calling.failed:
            self.abortConnection()

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """See Twisted."""
        if self._writing is Writing.ON and data:
            self._unsent.put(bytes(data))
            self._written += len(data)
            self._push()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """See Twisted."""
        self.write(b"".join(iovec))

    def _push(self) -> None:
        if self._lost:
            return
        while len(self._unsent) and (room := self._owner.room(self.channel)):
            self._owner.write(self.channel, self._unsent.take(room))
        if len(self._unsent):
            self._pause_producer()
        elif self._producer is not None:
            self._resume_producer()
        elif self._writing is Writing.ENDING:
            self._writing = Writing.ENDED
            self._owner.end(self.channel)
            half = _half_closeable(self.protocol)
            if half is not None and not self.disconnecting:
                self._guarded(half.writeConnectionLost)

    def _pause_producer(self) -> None:
        if self._producer is not None and self._streaming and not self._producer_paused:
            self._producer_paused = True
            self._guarded(self._producer.pauseProducing)

    def _resume_producer(self) -> None:
        producer = self._producer
        if producer is None or self._asking:
            return
        if self._streaming:
            if self._producer_paused:
                self._producer_paused = False
                self._guarded(producer.resumeProducing)
            return
        # One that is asked for each piece is asked on while it answers at once and there is room.
        self._asking = True
        try:
            before = -1
            while producer is self._producer and not len(self._unsent) and before != self._written:
                before = self._written
                self._guarded(producer.resumeProducing)
        finally:
            self._asking = False

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See Twisted."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self._lost:
            producer.stopProducing()
            return
        self._producer, self._streaming, self._producer_paused = cast(IPushProducer, producer), streaming, False
        if not streaming:
            self._resume_producer()
        elif len(self._unsent):
            self._pause_producer()

    def unregisterProducer(self) -> None:
        """See Twisted."""
        self._producer = None
        if not self._lost:
            self._push()

    def loseWriteConnection(self) -> None:
        """See Twisted: the other direction goes on."""
        if self._writing is Writing.ON:
            self._writing = Writing.ENDING
            self._push()

    # -- the end -----------------------------------------------------------------------------------------------------

    def loseConnection(self) -> None:
        """See Twisted: what was written still goes out, what comes is dropped."""
        if self.disconnecting or self._lost:
            return
        self.disconnecting = True
        self._reading = Reading.OFF
        self.loseWriteConnection()
        self._deliver()

    def abortConnection(self) -> None:
        """See Twisted: the peer's connection is reset."""
        if not self._lost:
            self._owner.give_up(self.channel, Interrupted(RESET))
            self._lose(ConnectionAborted())

    # -- reading -----------------------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """See Twisted."""
        if self._reading is Reading.ON:
            self._reading = Reading.PAUSED

    def resumeProducing(self) -> None:
        """See Twisted."""
        if self._reading is Reading.PAUSED:
            self._reading = Reading.ON
            self._deliver()

    def stopProducing(self) -> None:
        """See Twisted."""
        self.loseConnection()

    # -- facts -------------------------------------------------------------------------------------------------------

    def getHost(self) -> IAddress:
        """See Twisted."""
        return self._here

    def getPeer(self) -> IAddress:
        """See Twisted."""
        return self._there

    def getTcpNoDelay(self) -> bool:
        """See Twisted: nothing waits for more."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See Twisted."""

    def getTcpKeepAlive(self) -> bool:
        """See Twisted: the session looks after its paths."""
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """See Twisted."""


def _half_closeable(protocol: object) -> IHalfCloseableProtocol | None:
    """The protocol, if each direction may end by itself."""
    return protocol if IHalfCloseableProtocol.providedBy(protocol) else None
