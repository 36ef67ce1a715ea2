"""The server dials a client back: one connection from a chosen address of its own, a token on it, and its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import (
    ConnectBindError,
    ConnectionRefusedError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,  # Twisted's
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from p2pxfer.core.addresses import Address, Endpoint
from p2pxfer.core.messages import DIAL_BACK_MARKS, DialOutcome

DIAL_S = 3.0
"""How long a SYN may go unanswered, seconds: Linux repeats it after one."""
LINGER_S = 2.0
"""How long the client may take to read the token, seconds."""
_SILENT = (ConnectionRefusedError, NoRouteError, TCPTimedOutError, TimeoutError)


class _Caller(Protocol):
    """Says its line and goes."""

    def __init__(self, clock: Any, line: bytes) -> None:
        self._clock = clock
        self._line = line
        self._timer: Any = None

    def connectionMade(self) -> None:
        """Say the line, and go when the client had time to read it."""
        assert self.transport is not None
        self.transport.write(self._line)
        self._timer = self._clock.callLater(LINGER_S, self.transport.abortConnection)  # type: ignore[attr-defined]  # TCP

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The client went first."""
        if self._timer.active():
            self._timer.cancel()


def dial_back(
    reactor: Any,
    target: Endpoint,
    sources: Sequence[Address | None],
    token: bytes,
    done: Callable[[list[DialOutcome]], None],
) -> None:
    """Dial ``target`` once from each of ``sources``; ``done`` gets the outcomes in their order.

    ``None`` stands for a source that is not there.
    """
    outcomes: list[DialOutcome] = ["not-tried"] * len(sources)
    left = 1 + sum(source is not None for source in sources)

    def ended(result: object, number: int | None) -> None:
        """The dial from the source of this number came to its end; ``None``: all of them are begun."""
        nonlocal left
        if number is not None:
            outcomes[number] = _outcome(result)
        left -= 1
        if not left:
            done(outcomes)

    for number, source in enumerate(sources):
        if source is not None:
            _dial(reactor, target, source, token + DIAL_BACK_MARKS[number]).addBoth(ended, number)
    ended(None, None)


def _dial(reactor: Any, target: Endpoint, source: Address, line: bytes) -> Deferred[Any]:
    kind = TCP6ClientEndpoint if source.version == 6 else TCP4ClientEndpoint
    endpoint = kind(reactor, str(target.host), target.port, timeout=DIAL_S, bindAddress=(str(source), 0))
    factory = Factory.forProtocol(lambda: _Caller(reactor, line))
    factory.noisy = False
    return endpoint.connect(factory)


def _outcome(result: object) -> DialOutcome:
    """What came of one dial; an address that this host does not have was not tried."""
    if not isinstance(result, Failure):
        return "connected"
    return "silent" if result.check(*_SILENT) and not result.check(ConnectBindError) else "not-tried"
