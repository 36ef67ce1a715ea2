"""One path between two peers: a TLS connection that greets, carries frames, and tells its owner what happened.

The path knows nothing of transfers.  It enforces what may come when (the caps of :mod:`p2pxfer.core.session.wire`),
answers pings, lets :mod:`p2pxfer.net.connection.liveness` notice a peer that is gone, and passes every other message
on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol as Interface
from typing import cast

from msgspec import Struct
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.framing import Frame, FrameDecoder
from p2pxfer.core.session.channelwire import Piece, piece_prefix
from p2pxfer.core.session.deltawire import MAPLESS
from p2pxfer.core.session.farewell import in_last_record, problem, reported
from p2pxfer.core.session.hello import EXPORTER_LABEL, PROOF_SIZE, Greeting, Terms
from p2pxfer.core.session.records import EXPORTER_LABEL as RECORDS_LABEL
from p2pxfer.core.session.records import SECRET_SIZE, SUITES, Direction, Opener, Sealer, Suite, exporter_context
from p2pxfer.core.session.transferwire import DATA_KIND, Chunk, decode_chunk
from p2pxfer.core.session.wire import HELLO_CAPS, PAIR_CAPS, PEER, SESSION_CAPS, Ping, Pong, Problem
from p2pxfer.errors import P2pxferError, ProtocolBreach, Unreachable
from p2pxfer.net.connection.descriptor import SocketDescriptor
from p2pxfer.net.connection.liveness import Liveness
from p2pxfer.net.connection.streams import lost_error
from p2pxfer.net.connection.tls import exporter
from p2pxfer.net.connection.transport import TLSTransport
from p2pxfer.net.debuglog import Logger
from p2pxfer.net.session.bodies import HASHED_HEADS, body_memory
from p2pxfer.net.session.patience import SLOW_FAREWELL_S
from p2pxfer.net.traversal.ownaddresses import endpoint_of
from p2pxfer.status import PathKind

GREETING_S = 10.0
"""Absolute deadline for TLS and the greeting together, seconds."""
CLOSE_S = 5.0
"""How long an orderly close may take before the connection is aborted, seconds."""


class PathOwner(Interface):
    """What a path tells."""

    def path_greeted(self, path: PeerPath) -> None:
        """The peer proved its key; only pairing messages are legal until :meth:`PeerPath.open_session`."""

    def path_message(self, path: PeerPath, message: Message) -> None:
        """A message came.  A :class:`~p2pxfer.errors.P2pxferError` raised here is reported to the peer."""

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """A chunk came.  Errors as for messages."""

    def path_writable(self, path: PeerPath) -> None:
        """The send buffer has room again."""

    def path_lost(self, path: PeerPath, error: P2pxferError) -> None:
        """The path is gone, for this reason; told exactly once, whatever happened before."""


class PathFacts(Struct, frozen=True):
    """What a path is: its number in this process, its kind, and its two ends as text.

    ``beside`` is the number of the path over which it was agreed upon, 0 for one of an introduction.
    """

    number: int
    kind: PathKind
    local: str
    remote: str
    beside: int = 0

    @property
    def group(self) -> int:
        """The number of the path beside which this one and others were opened, its own if there is none."""
        return self.beside or self.number


@implementer(IHandshakeListener, IPushProducer)
class PeerPath(Protocol):
    """The application protocol of one path, on top of TLS."""

    log = Logger()

    def __init__(self, facts: PathFacts, terms: Terms, owner: PathOwner, clock: IReactorTime) -> None:
        self.facts = facts
        self.began = clock.seconds()
        """When the TCP connection of a direct path stood, or the one of a relayed path was asked for."""
        self.writable = True
        self.peer_name = ""
        self.terms = terms
        self._owner = owner
        self._clock = clock
        self._decoder = FrameDecoder(HELLO_CAPS, body_memory, HASHED_HEADS)
        self._receive: Callable[[Frame], None] = self._too_early
        self._greeting: Greeting | None = None
        self._timer: IDelayedCall | None = None
        self._liveness = Liveness(clock, self)
        self._over = False
        """The owner knows that it is gone."""

    @property
    def peer_key(self) -> bytes:
        """SHA-256 of the peer's SubjectPublicKeyInfo: what TLS was pinned to."""
        return self.terms.peer_key

    @property
    def rtt(self) -> float | None:
        """The shortest round trip that was measured, seconds."""
        return self._liveness.rtt

    @property
    def quiet_for(self) -> float:
        """See :class:`~p2pxfer.net.connection.liveness.Liveness`."""
        return self._liveness.quiet_for

    @property
    def ends(self) -> tuple[Endpoint, Endpoint]:
        """The own end of a direct path, and the other one as this machine sees it."""
        return endpoint_of(self._tls().getHost()), endpoint_of(self._tls().getPeer())

    @property
    def descriptor(self) -> SocketDescriptor | None:
        """Whom the kernel can be asked through; it knows nothing of a path through a relay."""
        transport: object = self.transport
        return transport if isinstance(transport, SocketDescriptor) else None

    # -- life ----------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """The socket stands; TLS and the greeting have :data:`GREETING_S` seconds."""
        self._timer = self._clock.callLater(GREETING_S, self.fail, Unreachable("the peer did not greet in time"))

    def handshakeCompleted(self) -> None:
        """TLS stands and the peer has the expected key: greet."""
        self._greeting = Greeting(self.terms, lambda context: self.export(EXPORTER_LABEL, context, PROOF_SIZE))
        self._receive = self._greet
        self._write(self._greeting.start())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The socket is gone."""
        self._stop_timer()
        self._end(in_last_record(self._tls().last_words) or lost_error("the connection", reason))

    def fail(self, error: P2pxferError) -> None:
        """Give the path up at once, with a reset; no farewell."""
        self._tls().abortConnection()
        self._end(error)

    def refuse(self, error: P2pxferError) -> None:
        """Give the path up and tell the peer why."""
        self.log.debug("path {number}: {error}", number=self.facts.number, error=error)
        self.send(problem(error))
        self._end(error)
        self.close()

    def leave(self, word: Problem) -> None:
        """Tell the peer why this program ends, in place of what waits to be sent, and close."""
        if not self._tls().end_with(PEER.encode(word)):
            self.send(word)
        self._close(SLOW_FAREWELL_S)

    def close(self) -> None:
        """Flush what was written, then close, unless that is under way; abort when the peer does not let it happen."""
        if not self._tls().disconnecting:
            self._close(CLOSE_S)

    def _close(self, seconds: float) -> None:
        self._stop_timer()
        transport = self._tls()
        self._timer = self._clock.callLater(seconds, transport.abortConnection)
        transport.unregisterProducer()  # it does not close while somebody may still write
        transport.loseConnection()

    def _end(self, error: P2pxferError) -> None:
        self._liveness.stop()  # and the timer goes on: it aborts a path whose peer does not let it close
        if not self._over:
            self._over = True
            self._owner.path_lost(self, error)

    def _ended(self) -> bool:
        return self._over

    def _stop_timer(self) -> None:
        self._liveness.stop()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _tls(self) -> TLSTransport:
        return cast(TLSTransport, self.transport)

    # -- receiving -----------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Feed the frames."""
        self._take(len(data), self._decoder.feed(data))

    def memory_for_input(self) -> memoryview | None:
        """The rest of a chunk that is arriving; see :class:`~p2pxfer.net.connection.delivery.DirectReceiver`."""
        return None if self._over else self._decoder.memory()

    @property
    def begun(self) -> tuple[int, memoryview, int] | None:
        """What came of a frame that is not whole, see ``FrameDecoder``; when the path is over its memory is free."""
        return self._decoder.begun

    def input_arrived(self, size: int) -> None:
        """Part of a chunk is in its place."""
        self._take(size, self._decoder.filled(size))

    def _take(self, size: int, frames: Iterable[Frame]) -> None:
        """``size`` bytes came and completed ``frames``."""
        if self._over:
            return
        self._liveness.byte()
        try:
            for frame in frames:
                self._receive(frame)
                if self._ended():
                    return
        except P2pxferError as error:
            self.refuse(error)

    def _too_early(self, frame: Frame) -> None:
        raise Unreachable("data came before TLS stood")

    def _greet(self, frame: Frame) -> None:
        assert self._greeting is not None
        if frame.kind == PEER.kind_of(Problem):
            self._dispatch(frame)
            return
        said_ok = self._greeting.said_ok
        self._write(self._greeting.receive(frame))
        if self._greeting.said_ok and not said_ok:
            self._tls().seal_from_here(Sealer(*self._record_secret(self.terms.role)))
        if self._greeting.greeted:
            if self._decoder.unread:
                raise ProtocolBreach("the peer said more in TLS than its greeting")
            other: Direction = "responder" if self.terms.role == "initiator" else "initiator"
            self._tls().open_from_here(Opener(*self._record_secret(other)))
            self.peer_name = self._greeting.peer_name
            self._receive = self._dispatch
            self._decoder.allow(PAIR_CAPS)
            cast(IConsumer, self.transport).registerProducer(self, True)
            self._stop_timer()
            self._liveness.start()
            self._owner.path_greeted(self)

    def _record_secret(self, direction: Direction) -> tuple[bytes, Suite]:
        """What the records of a direction are sealed with."""
        assert self._greeting is not None
        context = exporter_context(self._greeting.transcript, direction)
        suite = SUITES[str(self._tls().getHandle().get_cipher_name())]
        return self.export(RECORDS_LABEL, context, SECRET_SIZE), suite

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """Keying material of this path's TLS connection, ``length`` bytes."""
        return exporter(self._tls().getHandle(), label, context, length)

    def open_session(self) -> None:
        """The peer's key is verified: transfer messages are legal from here on."""
        self._decoder.allow(SESSION_CAPS)

    def _dispatch(self, frame: Frame) -> None:
        if frame.kind == DATA_KIND:
            self._owner.path_chunk(self, decode_chunk(frame))
            return
        match message := MAPLESS.get(frame.kind, PEER.decode)(frame):
            case Ping():
                if self.writable:  # else what waits is a sign of life as well, and nobody makes it grow by asking
                    self.send(Pong(number=message.number))
            case Pong():
                self._liveness.pong(message.number)
            case Problem():
                self.fail(reported(message))
            case _:
                self._owner.path_message(self, message)

    # -- liveness ------------------------------------------------------------------------------------------------

    def ping(self, number: int) -> None:
        """See :class:`~p2pxfer.net.connection.liveness.Watched`."""
        self.send(Ping(number=number))

    def silent_for(self) -> float:
        """See ``Watched``; unknown through a relay, where the server's kernel answers."""
        return self._tls().silent_for()

    # -- sending -------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Send a control message, or a piece of a channel, whose payload must not change afterwards."""
        if not isinstance(message, Piece):
            self._write(PEER.encode(message))
        elif not self._over:
            self._tls().writeSequence([piece_prefix(message), message.payload])

    def send_frame(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Send a whole frame in parts, which must not change afterwards: a chunk or a patch."""
        if not self._over:
            self._tls().writeSequence(parts)

    def _write(self, data: bytes) -> None:
        if data and not self._over:
            self._tls().write(data)

    def pause_reading(self) -> None:
        """Let the peer wait: the disk is behind."""
        if not self._over:
            self._liveness.reading(False)
            self._tls().pauseProducing()

    def resume_reading(self) -> None:
        """Read on."""
        if not self._over:
            self._liveness.reading(True)
            self._tls().resumeProducing()

    def pauseProducing(self) -> None:
        """The send buffer is full."""
        self.writable = False

    def resumeProducing(self) -> None:
        """The send buffer has room again."""
        self.writable = True
        self._owner.path_writable(self)

    def stopProducing(self) -> None:
        """The connection is going away; :meth:`connectionLost` follows."""
        self.writable = False
