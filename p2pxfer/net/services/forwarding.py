"""TCP connections of this machine joined to connections over a session: what ``expose`` and ``connect`` do.

Laws of this file:

1. What comes at one end goes out at the other one, and whoever writes waits for who reads, all the way.
2. The end of one direction is passed on and leaves the other one open; a reset is passed on as a reset.
3. Nothing is dialled but the one target that was named; a target that cannot be reached is told to whoever wanted it.
4. One contact has so many connections at once, begins so many a second, and so many wait for the peer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from socket import SO_ERROR, SOL_SOCKET
from typing import cast

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pxfer.core.limits import Buckets
from p2pxfer.core.text import safe_text
from p2pxfer.errors import LimitReached, P2pxferError, Refused, Unreachable
from p2pxfer.net.services.calling import Calling
from p2pxfer.net.services.channelstream import ChannelStream
from p2pxfer.net.services.streamsession import Asking
from p2pxfer.net.types import Reactor
from p2pxfer.status import Connection

CONNECTIONS_EACH = 256
"""Most connections of one contact to a service at once, from all its programs."""
OPENS_BURST = 512
"""Most connections that one contact may begin at once, those that ended among them."""
OPENS_RATE = 50.0
"""The same in the long run, connections a second: each one dials the target."""
TARGET_S = 10.0
"""How long the target may take to answer, seconds."""
TURNED_S = 10.0
"""How long nothing more is told of a contact that was told to be turned away, seconds."""
STRANGERS_S = 60.0
"""The same of everybody who is no contact together, since a stranger has as many keys as it likes."""
Tell = Callable[[Connection], None]


def was_reset(transport: object) -> bool:
    """Whether what the reactor calls an end was a reset.

    It takes one for an end if it hears of it in the moment before the kernel has closed the socket for reading as well.
    """
    handle = getattr(transport, "getHandle", None)
    return handle is not None and handle().getsockopt(SOL_SOCKET, SO_ERROR) != 0


@implementer(IHalfCloseableProtocol, IPushProducer)
class Joint(Protocol):
    """One of two ends that are joined; with a ``partner`` it joins as soon as it is connected.

    To the partner's transport it is the producer.
    """

    def __init__(self, partner: Joint | None = None) -> None:
        self.received = 0
        self.on_lost: Callable[[Failure], None] = lambda reason: None
        self._partner = partner
        self._halves = 0

    def connectionMade(self) -> None:
        """The first of the two waits for the second one."""
        if not isinstance(self.transport, ChannelStream):
            self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]  # TCP, which the interface does not show
        if self._partner is None:
            self.pauseProducing()
            return
        self._partner.meet(self)
        for one, other in ((self, self._partner), (self._partner, self)):
            cast(IConsumer, one.transport).registerProducer(other, True)
        self._partner.resumeProducing()

    def meet(self, partner: Joint) -> None:
        """The other end is there."""
        self._partner = partner

    def pauseProducing(self) -> None:
        """See Twisted: the partner has enough for now."""
        cast(IPushProducer, self.transport).pauseProducing()

    def resumeProducing(self) -> None:
        """See Twisted."""
        cast(IPushProducer, self.transport).resumeProducing()

    def stopProducing(self) -> None:
        """See Twisted: the partner's transport is gone.  How this end ends is said by the partner, which knows why."""

    def dataReceived(self, data: bytes) -> None:
        """Pass it on."""
        self.received += len(data)
        if self._partner is not None:
            self._partner.transport.write(data)  # type: ignore[union-attr]  # both are connected

    def readConnectionLost(self) -> None:
        """This end has said its last."""
        if was_reset(self.transport):
            self.abort()
            return
        if self._partner is not None:
            self._partner.finish()
        self._half()

    def writeConnectionLost(self) -> None:
        """This end has heard the last."""
        self._half()

    def finish(self) -> None:
        """Nothing more is to be said at this end."""
        if self.transport is not None:
            # A transport that waits for a producer does not end.
            cast(IConsumer, self.transport).unregisterProducer()
            self.transport.loseWriteConnection()  # type: ignore[attr-defined]  # both kinds have it

    def _half(self) -> None:
        self._halves += 1
        if self._halves == 2 and self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """A connection that did not end well takes its partner with it."""
        partner, self._partner = self._partner, None
        if partner is not None and self._halves < 2:
            partner.abort()
        self.on_lost(reason)

    def abort(self) -> None:
        """Reset this end."""
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]  # both kinds have it


class Ledger:
    """Tells of connections as they begin and end."""

    def __init__(self, service: str, tell: Tell) -> None:
        self._service = service
        self._tell = tell
        self._number = 0
        self._open: Counter[str] = Counter()

    def of(self, peer: str) -> int:
        """How many this peer has."""
        return self._open[peer]

    def begin(self, peer: str, tcp: Joint, channel: Joint) -> None:
        """``channel`` and ``tcp`` are being joined."""
        self._number += 1
        self._open[peer] += 1
        number = self._number
        self._tell(Connection(number, peer, self._service, "open", self._open.total()))

        def ended(reason: Failure) -> None:
            """The connection is over: it counts no more, and is told."""
            self._open -= Counter({peer: 1})
            well = reason.check(ConnectionDone) is not None
            why = "" if well else safe_text(_words(reason.value), 200)
            self._tell(
                Connection(
                    number, peer, self._service, "ended" if well else "reset", self._open.total(),
                    tcp.received, channel.received, why,
                )
            )  # fmt: skip

        channel.on_lost = ended

    def refused(self, peer: str, error: P2pxferError) -> None:
        """A connection did not come about."""
        self._number += 1
        why = safe_text(error.message, 300)
        self._tell(Connection(self._number, peer, self._service, "refused", self._open.total(), why=why))


def tcp_target(reactor: Reactor, host: str, port: int) -> IStreamClientEndpoint:
    """One address as a target."""
    return HostnameEndpoint(reactor, host, port, timeout=TARGET_S)


class Outlet:
    """What is exposed: connections that contacts ask for, each joined to one to ``target``."""

    def __init__(self, clock: IReactorTime, service: str, target: IStreamClientEndpoint, tell: Tell) -> None:
        self._clock = clock
        self._opens = Buckets(OPENS_RATE, OPENS_BURST)
        self._hasty: set[str] = set()
        """Of whom it was told that they begin too many."""
        self._service = service
        self._target = target
        self._ledger = Ledger(service, tell)
        self._coming: Counter[str] = Counter()
        self._turned: dict[str, float] = {}
        """When it was last told of a contact that it was turned away."""
        self._strange = -STRANGERS_S
        """The same of a stranger."""

    def turned_away(self, peer: str, error: P2pxferError) -> None:
        """``peer``, a contact, may have no connection; not told more often than every :data:`TURNED_S`."""
        now = self._clock.seconds()
        if now - self._turned.get(peer, -TURNED_S) >= TURNED_S:
            self._turned[peer] = now
            self._ledger.refused(peer, error)

    def stranger(self, who: str) -> None:
        """``who``, a peer id, is no contact; not told more often than every :data:`STRANGERS_S`."""
        now = self._clock.seconds()
        if now - self._strange >= STRANGERS_S:
            self._strange = now
            self._ledger.refused(who, Refused("it is no contact here; p2pxfer pair makes one"))

    def asked(self, peer: str, asking: Asking) -> None:
        """``peer`` wants one."""
        if self._ledger.of(peer) + self._coming[peer] >= CONNECTIONS_EACH:
            self._refuse(peer, asking, LimitReached(f"at most {CONNECTIONS_EACH} connections at once"))
            return
        if not self._opens.take(peer, self._clock.seconds()):
            self._slow_down(peer, asking)
            return
        self._hasty.discard(peer)
        self._coming[peer] += 1
        connecting = self._target.connect(Factory.forProtocol(Joint))
        asking.on_gone = connecting.cancel

        def connected(protocol: IProtocol) -> None:
            """The target answered: join it with the channel, unless the peer has gone meanwhile."""
            asking.on_gone = None
            tcp = cast(Joint, protocol)
            if not asking.accept(lambda address: self._join(peer, tcp)):
                tcp.abort()

        def failed(failure: Failure) -> None:
            """The target cannot be had: the peer hears why."""
            asking.on_gone = None
            self._refuse(peer, asking, Unreachable(f"the target of {self._service} {_why(failure)}"))

        def over(_: object) -> None:
            """It is not on its way any more."""
            self._coming -= Counter({peer: 1})

        connecting.addCallbacks(connected, failed)
        connecting.addBoth(over)

    def _slow_down(self, peer: str, asking: Asking) -> None:
        """Told once in a row, which may be a long one."""
        error = LimitReached(f"at most {OPENS_RATE:g} new connections a second")
        if asking.refuse(error) and peer not in self._hasty:
            self._hasty.add(peer)
            self._ledger.refused(peer, error)

    def _join(self, peer: str, tcp: Joint) -> IProtocol:
        channel = Joint(tcp)
        self._ledger.begin(peer, tcp, channel)
        return channel

    def _refuse(self, peer: str, asking: Asking, error: P2pxferError) -> None:
        if asking.refuse(error):
            self._ledger.refused(peer, error)


def _why(failure: Failure) -> str:
    if failure.check(ConnectionRefusedError):
        return "refuses connections"
    return "does not answer" if failure.check(TimeoutError) else "cannot be reached"


class Inlet(ServerFactory):
    """Connections to a port of this machine, each joined to one to the service of ``calling``."""

    noisy = False
    _log = Logger()

    def __init__(self, calling: Calling, peer: str, service: str, tell: Tell) -> None:
        self._calling = calling
        self._peer = peer
        self._ledger = Ledger(service, tell)

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Somebody connected."""
        tcp = _Caller()
        tcp.on_made = lambda: self._made(tcp)
        return tcp

    def _made(self, tcp: _Caller) -> None:
        joining = self._calling.connect(lambda address: self._join(tcp))
        tcp.on_lost = lambda reason: joining.cancel()
        joining.addErrback(lambda failure: self._failed(tcp, failure))

    def _join(self, tcp: Joint) -> IProtocol:
        channel = Joint(tcp)
        self._ledger.begin(self._peer, tcp, channel)
        return channel

    def _failed(self, tcp: Joint, failure: Failure) -> None:
        if isinstance(failure.value, P2pxferError):
            self._ledger.refused(self._peer, failure.value)
        elif not failure.check(CancelledError):
            self._log.failure("a connection could not be forwarded", failure)
        tcp.on_lost = lambda reason: None
        tcp.abort()


class _Caller(Joint):
    """The connection of whoever uses the local port."""

    on_made: Callable[[], None]

    def connectionMade(self) -> None:
        """Ask the peer for one, and let this one wait."""
        super().connectionMade()
        self.on_made()


def _words(reason: BaseException | None) -> str:
    """What is to be said of a connection that was lost; what ended a session says it better than Twisted does."""
    cause = getattr(reason, "__cause__", None)
    return cause.message if isinstance(cause, P2pxferError) else str(reason)
