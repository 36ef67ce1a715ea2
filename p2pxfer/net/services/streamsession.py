"""The channels of one session as connections: asked for, offered, and all of them lost with it.

Laws of this file:

1. A connection that the peer asks for is answered once: with a protocol, or with the reason why not.
2. What is asked for and not answered yet counts among the connections; the channels' limits bound them all.
3. When the session is over, every connection is lost, and whoever waits for one hears why.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.session.channel import Arrived, Asked, ChannelEvent, Gone, PeerEnded, Stands, Taken, Writable
from p2pxfer.errors import Interrupted, LimitReached, P2pxferError, Refused
from p2pxfer.net.services.channelstream import RESET, ChannelOwner, ChannelStream
from p2pxfer.net.session.channelsession import ChannelSession
from p2pxfer.net.types import Reactor

LINGER_S = 60.0
"""How long a peer may go on in its direction after the connection ended here in both, seconds."""


class Asking:
    """A connection that the peer asks for: :meth:`accept` or :meth:`refuse` it, at once or later."""

    def __init__(self, streams: Streams, channel: int, service: str) -> None:
        self.service = service
        self.on_gone: Callable[[], None] | None = None
        """Called if the peer gives it up before it was answered."""
        self._streams = streams
        self._channel = channel

    def accept(self, build: Callable[[IAddress], IProtocol | None]) -> bool:
        """Connect the protocol that ``build(address of the peer)`` makes; false if there is nothing to answer any more.

        Without a protocol it is refused, also if ``build`` fails.
        """
        return self._streams.accept(self._channel, build)

    def refuse(self, error: P2pxferError) -> bool:
        """Tell the peer why not; false if there is nothing to answer any more."""
        return self._streams.refuse(self._channel, error)


class Streams(ChannelOwner):
    """Connections over the channels of one session.

    ``asked`` hears of those that the peer wants, ``on_empty`` when the last one has ended.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        here: IAddress,
        there: IAddress,
        asked: Callable[[Asking], None] | None = None,
        on_empty: Callable[[], None] = lambda: None,
    ) -> None:
        self._reactor = reactor
        self._here = here
        self._there = there
        self._asked = asked
        self._on_empty = on_empty
        self._session: ChannelSession | None = None
        self._streams: dict[int, ChannelStream] = {}
        self._asking: dict[int, Asking] = {}
        self._wanted: dict[int, tuple[Deferred[IProtocol], Callable[[IAddress], IProtocol | None]]] = {}
        self._left: dict[int, IDelayedCall] = {}
        self._over: P2pxferError | None = None

    def __len__(self) -> int:
        """How many connections there are, wanted ones too."""
        return len(self._streams) + len(self._asking) + len(self._wanted)

    def attach(self, session: ChannelSession) -> None:
        """The session whose events come to :meth:`event`."""
        self._session = session

    def settled(self) -> None:
        """The peer has received everything."""

    def open(self, service: str, build: Callable[[IAddress], IProtocol | None]) -> Deferred[IProtocol]:
        """Ask the peer for a connection to ``service``; fires with the protocol that ``build`` made for it.

        Fails with the reason of the peer, :class:`~p2pxfer.errors.LimitReached` for too many at once, what ended the
        session, or what ``build`` raised.  Cancelling gives it up.
        """
        answer: Deferred[IProtocol] = Deferred()
        if self._session is None or self._over is not None:
            answer.errback(self._over or Interrupted("there is no session"))
            return answer
        try:
            channel = self._session.channels.open(service)
        except LimitReached as error:
            answer.errback(error)
            return answer
        answer = Deferred(lambda _: self._unwanted(channel))
        self._wanted[channel] = (answer, build)
        self._session.link.soon()
        return answer

    def _unwanted(self, channel: int) -> None:
        if self._wanted.pop(channel, None) is not None:
            self.give_up(channel, Interrupted("nobody waits for the connection any more"))

    def accept(self, channel: int, build: Callable[[IAddress], IProtocol | None]) -> bool:
        """See :meth:`Asking.accept`."""
        if self._session is None or self._asking.pop(channel, None) is None:
            return False
        try:
            protocol = build(self._there)
        except Exception:  # a fault of whoever builds, and of nobody else
            self._log.failure("a connection got no protocol")
            protocol = None
        if protocol is None:
            self.give_up(channel, Refused("no more connections are taken now"))
            return True
        self._within(lambda session: session.channels.accept(channel))
        self._begin(channel, protocol)
        return True

    def refuse(self, channel: int, error: P2pxferError) -> bool:
        """See :meth:`Asking.refuse`."""
        if self._asking.pop(channel, None) is None:
            return False
        self.give_up(channel, error)
        return True

    def _begin(self, channel: int, protocol: IProtocol) -> None:
        stream = ChannelStream(self, channel, self._here, self._there)
        self._streams[channel] = stream
        stream.begin(protocol)

    # -- from the session --------------------------------------------------------------------------------------------

    def event(self, event: ChannelEvent) -> None:
        """Something happened to a channel."""
        if isinstance(event, Asked):
            self._ask(event)
            return
        if isinstance(event, Stands):
            self._stands(event.channel)
            return
        if isinstance(event, Gone):
            self._gone(event.channel, event.error)
            return
        stream = self._streams.get(event.channel)
        if stream is None:
            # Left alone: the peer is still heard out.
            if isinstance(event, Arrived):
                self.consumed(event.channel, len(event.data))
            return
        match event:
            case Arrived():
                stream.arrived(event.data)
            case PeerEnded():
                stream.peer_ended()
            case Writable():
                stream.writable()
            case Taken():
                stream.taken()

    def _ask(self, event: Asked) -> None:
        asking = Asking(self, event.channel, event.service)
        self._asking[event.channel] = asking
        if self._asked is None:
            asking.refuse(Refused("nothing is offered here"))
        else:
            self._asked(asking)

    def _stands(self, channel: int) -> None:
        wanted = self._wanted.pop(channel, None)
        if wanted is None:
            return
        answer, build = wanted
        try:
            protocol = build(self._there)
            failure = Failure(Refused("the factory made no protocol"))
        except Exception:  # it belongs to whoever asked
            protocol, failure = None, Failure()
        if protocol is None:
            self.give_up(channel, Interrupted("nobody waits for the connection any more"))
            answer.errback(failure)
            return
        self._begin(channel, protocol)
        answer.callback(protocol)

    def _gone(self, channel: int, error: P2pxferError | None) -> None:
        timer = self._left.pop(channel, None)
        if timer is not None and timer.active():
            timer.cancel()
        asking = self._asking.pop(channel, None)
        if asking is not None and asking.on_gone is not None:
            asking.on_gone()
        wanted = self._wanted.pop(channel, None)
        if wanted is not None:
            wanted[0].errback(error or Refused("the connection ended before it stood"))
        stream = self._streams.pop(channel, None)
        if stream is not None:
            stream.gone(error)
        self._if_empty()

    def _if_empty(self) -> None:
        if not len(self):
            self._on_empty()

    def lost(self, error: P2pxferError) -> None:
        """The session is over: tell the peer that its connections are, and everybody here why."""
        if self._over is not None:
            return
        self._over = error
        for channel in {*self._streams, *self._asking, *self._wanted, *self._left}:
            # Before anybody who hears of it can say something else.
            self._reset(channel, Interrupted(RESET))
            self._gone(channel, error)
        if self._session is not None:
            self._session.link.flush()

    # -- from the connections ----------------------------------------------------------------------------------------

    def room(self, channel: int) -> int:
        """See :class:`~p2pxfer.net.services.channelstream.ChannelOwner`."""
        return 0 if self._session is None else self._session.channels.room(channel)

    def write(self, channel: int, data: bytes | memoryview) -> None:
        """See :class:`~p2pxfer.net.services.channelstream.ChannelOwner`."""
        self._within(lambda session: session.channels.write(channel, data))

    def end(self, channel: int) -> None:
        """See :class:`~p2pxfer.net.services.channelstream.ChannelOwner`."""
        self._within(lambda session: session.channels.end(channel))

    def consumed(self, channel: int, size: int) -> None:
        """See :class:`~p2pxfer.net.services.channelstream.ChannelOwner`."""
        self._within(lambda session: session.channels.consumed(channel, size))

    def give_up(self, channel: int, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.services.channelstream.ChannelOwner`."""
        self._streams.pop(channel, None)
        self._reset(channel, error)
        self._if_empty()

    def _reset(self, channel: int, error: P2pxferError) -> None:
        # A peer that acknowledges nothing cannot be told.
        with suppress(LimitReached):
            if self._session is not None:
                self._session.channels.reset(channel, error)
                self._session.link.soon()

    def left_alone(self, channel: int) -> None:
        """See :class:`~p2pxfer.net.services.channelstream.ChannelOwner`."""
        self._streams.pop(channel, None)
        self._left[channel] = self._reactor.callLater(LINGER_S, self._lingered, channel)
        self._if_empty()

    def _lingered(self, channel: int) -> None:
        self._left.pop(channel, None)
        self.give_up(channel, Interrupted(RESET))

    def _within(self, call: Callable[[ChannelSession], None]) -> None:
        if self._session is None:
            return
        try:
            call(self._session)
        except P2pxferError as error:
            # Not from here, where the session is being read from or written to.
            self._reactor.callLater(0, partial(self._session.fail, error))
        self._session.link.soon()
