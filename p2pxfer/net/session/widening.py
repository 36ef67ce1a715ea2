"""The connections of what sends, while it does: measures them, and does what :mod:`p2pxfer.core.session.widening` says.

A connection that is to go is given no more chunks, and closed when the last one on it was acknowledged.  Channels take
one connection at a time, so of all changes only that of the congestion control is one for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from p2pxfer.core.session.lineorders import Close, Open, Order, Steady
from p2pxfer.core.session.lines import Line
from p2pxfer.core.session.widening import Widening
from p2pxfer.net.debuglog import Logger
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.tuning import BEARS_LOSS, Tuning

LOOK_S = 0.1
"""How often the connections are looked at, seconds."""


class Widener:
    """One sending job's.  ``open_beside`` asks for a connection beside a path; ``idle`` says that a path has nothing
    under way; ``None``: what is sent takes one connection."""

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
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
        self._paths.tuning.pace(group, lines, self._reactor.seconds())
        if self._group != group[0].facts.group:
            self._group, self._rule = group[0].facts.group, Widening(self._reactor.seconds())
        order = self._rule.look(lines, self._reactor.seconds())
        if isinstance(order, Steady):
            order = _change(self._paths.tuning, self._rule, group, order.on, self._reactor.seconds())
        match order:
            case Open():
                self._opening = Deferred.fromCoroutine(self._open(group[0]))
                self._opening.addErrback(self._broken)
            case Close(number):
                self._paths.retire(number)

    async def _open(self, beside: PeerPath) -> None:
        rule, path = self._rule, None
        try:
            path = await self._open_beside(beside)
            if path is not None and rule.steady:
                self._paths.tuning.bear_loss([path])
        finally:
            rule.opened(None if path is None else path.facts.number, self._reactor.seconds())

    def _broken(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("opening a further connection", failure)


class Steadier:
    """That of channels: gives their connection another congestion control where that delivers more.

    ``carries`` says whether data is still on its way; without any nothing is measured until :meth:`start`.
    """

    def __init__(self, reactor: IReactorTime, paths: PathSet, carries: Callable[[], bool]) -> None:
        self._reactor = reactor
        self._paths = paths
        self._carries = carries
        self._watched: int | None = None
        self._rule = Widening(reactor.seconds(), most=1)
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Data is on its way; may be said again and again."""
        if self._timer is None:
            self._look(begins=True)

    def stop(self) -> None:
        """Change nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _look(self, begins: bool = False) -> None:
        self._timer = None
        if not self._carries():
            return
        self._timer = self._reactor.callLater(LOOK_S, self._look)
        path = next(iter(self._paths.leaders), None)
        now = self._reactor.seconds()
        number = None if path is None else path.facts.number
        if number != self._watched:
            self._watched, self._rule = number, Widening(now, most=1)
        # All that waits may be with the kernel: a window of a channel is smaller than its buffers.
        line = None if path is None else _line(path, in_kernel=True)
        if path is None or number is None or line is None:
            return
        if begins:
            line = replace(line, full=False)  # what was measured before the pause counts no more
        self._paths.tuning.pace([path], {number: line}, now)
        order = self._rule.look({number: line}, now)
        if isinstance(order, Steady):
            _change(self._paths.tuning, self._rule, [path], order.on, now)


def _change(tuning: Tuning, rule: Widening, group: list[PeerPath], on: bool, now: float) -> Order | None:
    """As a :class:`~p2pxfer.core.session.lineorders.Steady` of ``rule`` says; returns what it says next."""
    if on:
        return rule.steadied(tuning.bear_loss(group), now)
    tuning.undo(group)
    return None


def _line(path: PeerPath, in_kernel: bool = False) -> Line | None:
    """``in_kernel``: what the kernel was given and did not send yet counts as more than the path takes."""
    descriptor = path.descriptor
    flow = descriptor.flow() if descriptor is not None else None
    if descriptor is None or flow is None:
        return None
    full = not path.writable or (in_kernel and flow.waiting > 0)
    modelled = descriptor.governor == BEARS_LOSS
    return Line(flow.acked, flow.sent, flow.repeated, flow.trip, full, flow.shortest, flow.at_work, modelled)
