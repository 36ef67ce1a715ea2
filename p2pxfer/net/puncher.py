"""Opens the hole: one local port that listens and dials every candidate, as the schedule says.

The port is the one of the server connection, which stays open and so pins the NAT's mapping.  Listener and dials share
it through reuse bindings.  Crossing SYNs complete on the dialling sockets; a SYN that comes before this side dialled
goes to the listener: both outcomes are connections, and whoever called the puncher greets on all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ClientEndpoint,
    TCP6ServerEndpoint,
)
from twisted.internet.interfaces import Binding, IAddress, IDelayedCall, IListeningPort, IProtocol
from twisted.internet.protocol import Factory
from twisted.internet.tcp import makeBinding
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.dialing import Candidate, DialSchedule
from p2pxfer.net.types import Reactor

PUNCH_S = 10.0
"""How long a punch goes on, seconds."""
CONNECT_S = 30.0
"""How long one dial may wait for an answer; the kernel repeats its SYN meanwhile, seconds."""


def reuse_binding(port: int, interface: str = "") -> Binding:
    """A binding that shares ``port`` with every other reuse binding of this user."""
    return makeBinding(interface, port, reuseAddress=True, reusePort=True)


class _Connected(Factory):
    """Makes the protocol for one connection, dialled or accepted."""

    noisy = False

    def __init__(self, build: Callable[[IAddress], IProtocol | None]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return self._build(addr) if addr is not None else None


class Puncher:
    """One punch.  ``build(address)`` makes the protocol of each connection, or ``None`` to refuse it.

    ``done`` fires with the number of dials when the time is over or :meth:`stop` was called.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        port: int,
        candidates: Sequence[Candidate],
        build: Callable[[IAddress], IProtocol | None],
    ) -> None:
        self._reactor = reactor
        self._port = port
        self._build = build
        now = reactor.seconds()
        self._schedule = DialSchedule(candidates, now, now + PUNCH_S, random.random)
        self._dials: dict[Candidate, Deferred[IProtocol]] = {}
        self._listeners: list[IListeningPort] = []
        self._timer: IDelayedCall | None = None
        self._end: IDelayedCall | None = None
        self._stopped = False
        self.last_errors: dict[Candidate, str] = {}
        self.done: Deferred[int] = Deferred()

    def start(self) -> None:
        """Listen and dial."""
        self._end = self._reactor.callLater(PUNCH_S, self.stop)
        self._listen()
        self._run()

    def stop(self) -> None:
        """Dial no more, listen no more, drop what is half open."""
        if self._stopped:
            return
        self._stopped = True
        for call in (self._timer, self._end):
            if call is not None and call.active():
                call.cancel()
        for dial in list(self._dials.values()):
            dial.cancel()
        for listener in self._listeners:
            listener.stopListening()
        self.done.callback(self._schedule.dials())

    def _listen(self) -> None:
        kinds = {TCP6ServerEndpoint if ":" in c.host else TCP4ServerEndpoint for c in self._schedule.candidates}
        for kind in kinds:
            interface = "::" if kind is TCP6ServerEndpoint else ""
            endpoint = kind(self._reactor, reuse_binding(self._port, interface), interface=interface)
            factory = _Connected(self._build)
            listening: Deferred[IListeningPort] = endpoint.listen(factory)  # type: ignore[no-untyped-call]  # Twisted's
            listening.addCallbacks(self._listening, self._deaf)

    def _listening(self, port: IListeningPort) -> None:
        if self._stopped:
            port.stopListening()
        else:
            self._listeners.append(port)

    def _deaf(self, failure: Failure) -> None:
        # A punch without a listener still works whenever the SYNs cross.
        self.log.info("cannot listen on port {port}: {why}", port=self._port, why=failure.getErrorMessage())

    def _run(self) -> None:
        self._timer = None
        if self._stopped:
            return
        for candidate in self._schedule.due(self._reactor.seconds()):
            self._dial(candidate)
        wake = self._schedule.wake()
        if wake is not None:
            self._timer = self._reactor.callLater(max(0.0, wake - self._reactor.seconds()), self._run)

    def _dial(self, candidate: Candidate) -> None:
        kind = TCP6ClientEndpoint if ":" in candidate.host else TCP4ClientEndpoint
        interface = "::" if kind is TCP6ClientEndpoint else ""
        binding = reuse_binding(self._port, interface)
        endpoint = kind(self._reactor, candidate.host, candidate.port, timeout=CONNECT_S, bindAddress=binding)
        dial: Deferred[IProtocol] = endpoint.connect(_Connected(self._build))
        self._dials[candidate] = dial
        dial.addCallbacks(self._connected, self._failed, callbackArgs=(candidate,), errbackArgs=(candidate,))

    def _connected(self, protocol: IProtocol, candidate: Candidate) -> None:
        self._dials.pop(candidate, None)

    def _failed(self, failure: Failure, candidate: Candidate) -> None:
        self._dials.pop(candidate, None)
        if failure.check(CancelledError) or self._stopped:
            return
        self.last_errors[candidate] = failure.getErrorMessage()
        self._schedule.failed(candidate, self._reactor.seconds())
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        wake = self._schedule.wake()
        if wake is not None:
            self._timer = self._reactor.callLater(max(0.0, wake - self._reactor.seconds()), self._run)
