"""One stream being received: what comes over its channel goes into a sink, which is a new file or standard output.

Laws of this file:

1. A byte is consumed when the sink has taken it: a slow reader behind it holds the sender, and memory stays flat.
2. This side ends its direction when the sink has everything, has compared the hash, and is done for good.
3. It ends in exactly one outcome.  A sink that did not get everything is thrown away, and nothing begins that comes
   while it fails; once the last step has begun, what comes of that is the outcome, whatever the sender does meanwhile.
4. One offer in its life: what is opened after that is refused without a question.

``_Phase`` lists what it does in the order in which that comes: phases may be left out, and only ``WRITING`` goes back,
to ``READY``.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.codec import Message
from p2pxfer.core.session.channel import Arrived, Asked, ChannelEvent, Gone, PeerEnded
from p2pxfer.core.session.channels import Channels
from p2pxfer.core.transfer.streams import CANNOT_GO_ON, SERVICE, check_stream_name, outcome_of
from p2pxfer.errors import (
    DiskError,
    Incomplete,
    Interrupted,
    LimitReached,
    P2pxferError,
    PeerStopped,
    Refused,
    RefusedHere,
)
from p2pxfer.net.blocking import keep
from p2pxfer.net.session.channelpaths import ChannelPaths
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.transfer.places import Pieces, Place, Received, Sink
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker
from p2pxfer.status import Accepted, Event, Offer, RefusedOffer

LETTING_GO_S = 2.0
"""How long the end waits for a sink that is being let go of, seconds: what it writes to may be blocked."""
FAREWELL_S = 30.0
"""How long the sender's paths count as bringing something after the end, so that it hears of that, seconds."""


class _Phase(Enum):
    NEW = "nothing was offered"
    DECIDING = "it is found out whether it is taken, and the sink is opened"
    READY = "the sink has all that came"
    WRITING = "the sink takes what came"
    STORING = "the last step is under way"
    OVERTAKEN = "the last step is under way, and the sender is not to be had any more"
    STORED = "it is in its place, and the sender is being told"
    FAILING = "the sender is being told that it failed"
    ENDED = "it is over"


class IncomingStream:
    """A stream from one sending process.

    ``decide(offer)`` asks whether to take it; ``started(self)`` is called when a stream was offered; it may be without
    a path for ``patience`` seconds.  The public attributes are those of
    :class:`~p2pxfer.net.transfer.incoming.IncomingTransfer`.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        paths: PathSet,
        place: Place,
        *,
        decide: Callable[[Offer], Awaitable[bool]],
        started: Callable[[IncomingStream], None],
        tell: Callable[[Event], None],
        limit: int,
        patience: float,
    ) -> None:
        self._reactor = reactor
        self._paths = paths
        self._place = place
        self._decide = decide
        self._started = started
        self._tell = tell
        self._limit = limit
        self._patience = patience
        self._channels = Channels(os.urandom(16), 1)
        self._link = ChannelPaths(reactor, self._channels, paths, self._event, self._all_received, self._fail)
        self._worker = Worker(reactor, "stream")
        self._attached: set[PeerPath] = set()
        self._waiting: IDelayedCall | None = None
        self._phase = _Phase.NEW
        self._channel = -1
        """Its number, which is none before ``DECIDING``."""
        self._sink: Sink | None = None
        """From ``READY`` on, until it needs nothing more."""
        self._pending: Pieces = []
        self._digest: bytes | None = None
        self._received: Received | None = None
        self.offer: Offer | None = None
        self.have_bytes = 0
        self._ended_at = 0.0
        self.bytes_by_path: dict[str, int] = {}
        self.done: Deferred[Received] = Deferred()
        self.settled: Deferred[None] = Deferred()

    @property
    def attached(self) -> int:
        """Paths that carry this stream."""
        return len(self._attached)

    @property
    def ended(self) -> bool:
        """It has its outcome."""
        return self._phase is _Phase.ENDED

    @property
    def over(self) -> bool:
        """Nothing can come of it any more."""
        return self.ended and (self._received is None or self.settled.called)

    @property
    def brings(self) -> bool:
        """Whether it has a claim to its paths: it was offered, and has not ended or only a moment ago."""
        return self.offer is not None and not (self.ended and self._reactor.seconds() - self._ended_at >= FAREWELL_S)

    # -- paths ---------------------------------------------------------------------------------------------------

    def open_path(self, path: PeerPath) -> None:
        """A path on which its sender attached itself."""
        self._attached.add(path)
        self._stop_waiting()
        self._link.open_path(path)

    def close_path(self, path: PeerPath) -> None:
        """A path is gone."""
        self._attached.discard(path)
        self._link.close_path(path)
        if not self._attached and not self.ended:
            self._waiting = self._reactor.callLater(self._patience, self.abandon)

    def message(self, path: PeerPath, message: Message) -> None:
        """A message came on ``path``.

        Raises:
            P2pxferError: it ends the stream.
        """
        try:
            self._link.message(path, message)
        except P2pxferError as error:
            self._fail(error)
            raise

    def room(self, path: PeerPath) -> None:
        """``path`` takes data again."""
        self._link.room(path)

    def _stop_waiting(self) -> None:
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
        self._waiting = None

    # -- the channel ---------------------------------------------------------------------------------------------

    def _event(self, event: ChannelEvent) -> None:
        match event:
            case Asked(channel, service, name):
                if service != SERVICE or self._phase is not _Phase.NEW:
                    self._channels.reset(channel, Refused("one stream is expected here and nothing else"))
                    return
                self._phase, self._channel = _Phase.DECIDING, channel
                Deferred.fromCoroutine(self._open(channel, name)).addErrback(self._broken)
            case Arrived(_, data):
                self._count(len(data))
                keep(self._pending, data)
                self._work()
            case PeerEnded(_, digest):
                self._digest = digest
                self._work()
            case Gone(_, error):
                if error is not None:
                    self._fail(outcome_of(error))
                elif self._received is not None:
                    self._end(self._received)
            case _:
                pass  # nothing is written here

    def _count(self, size: int) -> None:
        kind = self._paths.active_kind
        self.bytes_by_path[kind] = self.bytes_by_path.get(kind, 0) + size

    async def _open(self, channel: int, name: str) -> None:
        check_stream_name(name)
        await self._worker.do(self._place.check_stream, name)
        if self._has_ended():
            return
        offer = self.offer = Offer(files=1, bytes=None, names=(name,))
        self._tell(offer)
        self._started(self)
        taken = await self._decide(offer)
        if self._has_ended():
            return
        if not taken:
            self._tell(RefusedOffer(why="by the user here"))
            raise RefusedHere
        sink = await self._worker.do(self._place.open_stream, name)
        if self._has_ended():
            sink.discard()
            return
        self._phase, self._sink = _Phase.READY, sink
        self._tell(Accepted())
        self._channels.accept(channel, self._limit)
        self._link.soon()

    def _has_ended(self) -> bool:
        return self.ended

    def _work(self) -> None:
        """Give the sink what there is, and its end."""
        if self._phase is not _Phase.READY:
            return
        assert self._sink is not None
        if self._pending:
            pieces, self._pending = self._pending, []
            self._phase = _Phase.WRITING
            self._worker.do(self._sink.write, pieces).addCallbacks(self._written, self._broken)
        elif self._digest is not None:
            self._phase = _Phase.STORING
            self._worker.do(self._sink.finish, self._digest).addCallbacks(self._stored, self._broken)

    def _written(self, size: int) -> None:
        self.have_bytes += size
        if self._phase is not _Phase.WRITING:
            return
        self._phase = _Phase.READY
        try:
            self._channels.consumed(self._channel, size)
        except P2pxferError as error:
            self._fail(error)
        self._work()
        self._link.soon()

    def _stored(self, result: tuple[bytes, list[str]]) -> None:
        if self.ended:
            return
        digest, names = result
        overtaken = self._phase is _Phase.OVERTAKEN
        self._phase, self._sink = _Phase.STORED, None
        self._received = Received(digest, tuple(names), self.have_bytes)
        self._paths.finish()
        if overtaken:
            # It is whole, though the sender gave up in this moment, and cannot be told.
            self._end(self._received)
            self._settle()
        else:
            self._channels.end(self._channel, digest)
            self._link.soon()

    def _all_received(self) -> None:
        """The sender has heard everything that was said."""
        if self.ended:
            self._settle()

    def _settle(self) -> None:
        if not self.settled.called:
            self.settled.callback(None)

    # -- the end -------------------------------------------------------------------------------------------------

    def _broken(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, P2pxferError):
            self.log.failure("receiving a stream failed", failure)
            error = DiskError.plain(f"receiving failed inside the program: {type(error).__name__}")
        self._fail_now(error)

    def _fail(self, error: P2pxferError) -> None:
        if self._phase in (_Phase.STORING, _Phase.OVERTAKEN):
            self._phase = _Phase.OVERTAKEN
        else:
            self._fail_now(error)

    def _fail_now(self, error: P2pxferError, said: P2pxferError | None = None) -> None:
        """Wait for no last step either; ``said`` is what the sender hears, where that is another reason."""
        if self._phase in (_Phase.FAILING, _Phase.ENDED):
            return
        self._phase = _Phase.FAILING
        # A peer that acknowledges nothing cannot be told.
        with suppress(LimitReached):
            self._channels.reset(self._channel, said or error)
        # Whoever hears of the end may close the paths.
        self._link.flush()
        if self._received is None:
            self._end(error)
        else:
            # It is in its place, and the sender is not to be had any more.
            self._end(self._received)
            self._settle()

    def _end(self, outcome: Received | P2pxferError) -> None:
        if self.ended:
            return
        self._phase = _Phase.ENDED
        self._ended_at = self._reactor.seconds()
        self._stop_waiting()
        self._pending.clear()
        sink, self._sink = self._sink, None
        if sink is None:
            self._tell_end(outcome)
        else:
            # Whoever hears of the end may end the process, and with it the thread.
            letting_go = self._worker.do(sink.discard)
            letting_go.addTimeout(LETTING_GO_S, self._reactor, lambda result, timeout: None)
            letting_go.addErrback(lambda failure: self.log.failure("letting go of an unfinished stream", failure))
            letting_go.addCallback(lambda _: self._tell_end(outcome))
        self._worker.stop()

    def _tell_end(self, outcome: Received | P2pxferError) -> None:
        if isinstance(outcome, Received):
            self.done.callback(outcome)
        elif self.offer is not None:
            self.done.errback(outcome)

    def confirm(self) -> None:
        """The sender says that it knows, or that it goes."""
        if self._received is not None:
            self._end(self._received)
            self._settle()
        else:
            self._fail(Incomplete(f"the sender ended before the stream did; {CANNOT_GO_ON}"))

    def abandon(self) -> None:
        """The sender has been away for too long."""
        self._fail(Incomplete(f"the sender has not come back; what arrived is not whole: {CANNOT_GO_ON}"))

    def close(self) -> None:
        """This program ends: tell the sender, and wait for nothing."""
        why = "the receiver ended before the stream did"
        self._fail_now(Interrupted(why), PeerStopped(why))
        self._link.stop()
