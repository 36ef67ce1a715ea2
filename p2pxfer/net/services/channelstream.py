"""One channel as a Twisted transport: any protocol runs on it as it does on TCP.

Laws of this file:

1. What came is consumed when the protocol has it; a protocol that pauses leaves the rest with the peer, so memory stays
   within the channel's window.
2. Writing takes everything, as transports do; a registered producer hears whether it fits the channel.
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
from p2pxfer.errors import Interrupted, P2pxferError
from p2pxfer.net.services.producing import Producing

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


class Life(Enum):
    """How far the connection is."""

    ON = "it stands"
    ENDING = "the protocol asked for the end, and what was written still goes out"
    LOST = "the protocol knows that it is over"


class FromPeer(Enum):
    """What becomes of what the peer says."""

    ON = "it goes to the protocol"
    PAUSED = "it waits"
    OFF = "nobody wants it, or the protocol knows that nothing follows"


class FromProtocol(Enum):
    """What becomes of what the protocol says."""

    ON = "it goes to the peer"
    ENDING = "what waits goes to the peer, then the end"
    ENDED = "nothing more is said"
    TAKEN = "the peer's reader has had everything, and knows the end"


@implementer(ITransport, IConsumer, IPushProducer)
class ChannelStream:
    """The transport of one ``channel``; what happens to the channel comes in by the methods with small letters.

    It has the methods of a TCP transport as well, for protocols that expect one.
    """

    log = Logger()

    def __init__(self, owner: ChannelOwner, channel: int, here: IAddress, there: IAddress) -> None:
        self.channel = channel
        self.protocol: IProtocol | None = None
        self._owner = owner
        self._here = here
        self._there = there
        self._life = Life.ON
        self._reading = FromPeer.ON
        self._arrived: deque[bytes | bytearray | memoryview] = deque()
        self._delivering = False
        """The protocol is being called; what it resumes then goes on when it has returned."""
        self._peer_ended = False
        """The peer has said its last, which may wait behind what arrived."""
        self._writing = FromProtocol.ON
        self._unsent = ByteQueue()
        self._producing = Producing(self._guarded)
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
        self._writing = FromProtocol.TAKEN
        self._leave_if_taken()

    def _leave_if_taken(self) -> None:
        if self._life is Life.ENDING and self._writing is FromProtocol.TAKEN:
            self._owner.left_alone(self.channel)
            self._lose(ConnectionDone())

    def gone(self, error: P2pxferError | None) -> None:
        """The channel is over."""
        if error is None or (self._life is Life.ENDING and self._peer_ended):
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
            while self._arrived and self._reading is not FromPeer.PAUSED:
                self._hand_over(self._arrived.popleft())
        finally:
            self._delivering = False
        if self._peer_ended and not self._arrived and self._reading is not FromPeer.OFF:
            self._reading = FromPeer.OFF
            self._tell_end()

    def _hand_over(self, data: bytes | bytearray | memoryview) -> None:
        protocol = self.protocol
        if self._reading is FromPeer.ON and protocol is not None:
            self._guarded(lambda: protocol.dataReceived(bytes(data)))
        self._owner.consumed(self.channel, len(data))

    def _tell_end(self) -> None:
        half = _half_closeable(self.protocol)
        if half is None:
            self.loseConnection()
        else:
            self._guarded(half.readConnectionLost)

    def _lose(self, reason: Exception) -> None:
        if self._life is Life.LOST:
            return
        self._life = Life.LOST
        self._reading = FromPeer.OFF
        self._writing = FromProtocol.ENDED
        self._unsent.clear()
        self._arrived.clear()
        self._producing.stop()
        protocol = self.protocol
        if protocol is not None:
            self._guarded(lambda: protocol.connectionLost(Failure(reason)))
        self._guarded(self._on_lost)

    def when_lost(self, call: Callable[[], None]) -> None:
        """``call`` after ``connectionLost``: at once, if that was already.  One call is kept."""
        self._on_lost = call
        if self._life is Life.LOST:
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
        if self._writing is FromProtocol.ON and data:
            self._unsent.put(bytes(data))
            self._push()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """See Twisted."""
        self.write(b"".join(iovec))

    def _push(self) -> None:
        if self._life is Life.LOST:
            return
        while len(self._unsent) and (room := self._owner.room(self.channel)):
            self._owner.write(self.channel, self._unsent.take(room))
        if len(self._unsent):
            self._producing.hold_back()
        elif self._producing.registered:
            self._producing.go_on()
        elif self._writing is FromProtocol.ENDING:
            self._writing = FromProtocol.ENDED
            self._owner.end(self.channel)
            half = _half_closeable(self.protocol)
            if half is not None and self._life is Life.ON:
                self._guarded(half.writeConnectionLost)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See Twisted."""
        if self._life is Life.LOST:
            producer.stopProducing()
            return
        self._producing.register(producer, streaming)
        self._push()

    def unregisterProducer(self) -> None:
        """See Twisted."""
        self._producing.unregister()
        self._push()

    def loseWriteConnection(self) -> None:
        """See Twisted: the other direction goes on."""
        if self._writing is FromProtocol.ON:
            self._writing = FromProtocol.ENDING
            self._push()

    # -- the end -----------------------------------------------------------------------------------------------------

    def loseConnection(self) -> None:
        """See Twisted: what was written still goes out, what comes is dropped."""
        if self._life is not Life.ON:
            return
        self._life = Life.ENDING
        self._reading = FromPeer.OFF
        self.loseWriteConnection()
        self._deliver()
        self._leave_if_taken()

    def abortConnection(self) -> None:
        """See Twisted: the peer's connection is reset."""
        if self._life is not Life.LOST:
            self._owner.give_up(self.channel, Interrupted(RESET))
            self._lose(ConnectionAborted())

    # -- reading -----------------------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """See Twisted."""
        if self._reading is FromPeer.ON:
            self._reading = FromPeer.PAUSED

    def resumeProducing(self) -> None:
        """See Twisted."""
        if self._reading is FromPeer.PAUSED:
            self._reading = FromPeer.ON
            self._deliver()

    def stopProducing(self) -> None:
        """See Twisted."""
        self.loseConnection()

    # -- facts -------------------------------------------------------------------------------------------------------

    @property
    def disconnecting(self) -> bool:
        """See Twisted: the protocol wants to hear nothing more, or was told that it is over."""
        return self._life is not Life.ON

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
