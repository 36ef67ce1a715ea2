"""Further connections of a job while it sends: measures what there is, and does what
:mod:`p2pxfer.core.session.widening` says.

A connection that is to go is given no more chunks, and closed when the last one on it was acknowledged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.session.widening import Close, Line, Open, Steady, Widening
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.types import Reactor

LOOK_S = 0.2
"""How often the connections are looked at, seconds."""
BEARS_LOSS = "bbr"
"""The congestion control that does not take loss for a full line, by the kernel's name."""


class Widener:
    """One sending job's.  ``open_beside`` asks for a connection beside a path; ``idle`` says that a path has nothing
    under way; ``None``: what is sent takes one connection."""

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        paths: PathSet,
        open_beside: Callable[[PeerPath], Awaitable[PeerPath | None]],
        idle: Callable[[PeerPath], bool] | None,
    ) -> None:
        self._reactor = reactor
        self._paths = paths
        self._open_beside = open_beside
        self._idle = idle
        self._group = 0
        self._rule = Widening(reactor.seconds())
        self._usual: str | None = None
        self._opening: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to look, where several connections are of use."""
        if self._idle is not None:
            self._timer = self._reactor.callLater(LOOK_S, self._look, self._idle)

    def stop(self) -> None:
        """Change nothing more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._opening is not None:
            self._opening.cancel()

    def _look(self, idle: Callable[[PeerPath], bool]) -> None:
        self._timer = self._reactor.callLater(LOOK_S, self._look, idle)
        self._paths.close_retired(idle)
        group = self._paths.leaders
        lines = {path.facts.number: line for path in group if (line := _line(path)) is not None}
        if not lines:
            return
        if self._group != group[0].facts.group:
            self._group, self._rule = group[0].facts.group, Widening(self._reactor.seconds())
        match self._rule.look(lines, self._reactor.seconds()):
            case Open():
                self._opening = Deferred.fromCoroutine(self._open(group[0]))
                self._opening.addErrback(self._broken)
            case Close(number):
                self._paths.retire(number)
            case Steady(on):
                self._govern(group, on)

    async def _open(self, beside: PeerPath) -> None:
        rule, path = self._rule, None
        try:
            path = await self._open_beside(beside)
            if path is not None and rule.steady:
                _govern(path, BEARS_LOSS)
        finally:
            rule.opened(None if path is None else path.facts.number, self._reactor.seconds())

    def _broken(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("opening a further connection", failure)

    def _govern(self, group: list[PeerPath], on: bool) -> None:
        if on:
            first = group[0].descriptor
            self._usual = first.governor if first is not None else None
            done = self._usual not in (None, BEARS_LOSS) and all(_govern(path, BEARS_LOSS) for path in group)
            self.log.debug("{name} bears loss: {done}", name=BEARS_LOSS, done=done)
            self._rule.steadied(done, self._reactor.seconds())
        elif self._usual is not None:
            for path in group:
                _govern(path, self._usual)


def _govern(path: PeerPath, name: str) -> bool:
    return path.descriptor is not None and path.descriptor.govern(name)


def _line(path: PeerPath) -> Line | None:
    flow = path.descriptor.flow() if path.descriptor is not None else None
    if flow is None:
        return None
    return Line(flow.acked, flow.sent, flow.repeated, flow.trip, not path.writable)
