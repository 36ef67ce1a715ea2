"""Which of several live paths carry the data: by kind until they were measured, by what they deliver then.

Laws of this file:

1. A path of a better kind is tried at once, unless its round trip says that it is a detour: trying costs little, since
   the others stay up, and nothing tells what a path delivers as well as using it.
2. A path that was tried is left for another one only if both were measured, the other would deliver a block clearly
   sooner (:data:`MARGIN`), and that for some time (:data:`HOLD_S`).
3. A measurement grows old (:data:`FRESH_S`), and then the path is tried again; each time that it is left again it is
   remembered twice as long as before.  So two paths do not take turns.  Among several that are nearly alike the kind
   decides: the one that is kept may be worse by the margin than one before it.
4. Only what was delivered under back pressure counts: a source that is slow says nothing about a path.
5. Paths of one group are connections between the same two hosts: what they deliver together is compared, and none of
   them is preferred to another.
6. Beside the first path every other one carries too that is not a spare and delivers at least :data:`WORTH` of what
   the first one's group does, or is not measured yet.  A spare, such as a relay, carries only as the first one: while
   nothing else is there, or what is there was measured as clearly worse.
7. A spare that carried nothing yet is not known to be better.  It is tried, by itself, where what is first was measured
   as slow (:data:`SLOW`) for some time, if it can be used at all, and it stays only if it is clearly better: who has a
   slow line at home has it towards the relay too.  A trial without a verdict fails after :data:`TRIAL_S`, and each one
   that fails counts as in law 3.

Loss does not count here: what TCP loses shows in the round trip and in what is delivered.  It has a say in whether one
connection is enough (:mod:`p2pxfer.core.session.widening`).  Times in seconds, sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

BLOCK: Final = 1024 * 1024
"""What is to be delivered soon: round trip and rate count in this proportion."""
MARGIN: Final = 0.7
"""What is better takes at most so much of the time."""
HOLD_S: Final = 3.0
SLOW: Final = 256 * 1024
"""Bytes a second; below that a spare is worth a trial."""
STUCK_S: Final = 5.0
"""A spare on trial that takes nothing for so long has failed."""
TRIAL_S: Final = 15.0
"""A spare on trial of which nothing is known for so long has failed: a slow source never fills it."""
FRESH_S: Final = 60.0
MAX_FRESH_S: Final = 960.0
SAMPLE_S: Final = 0.5
"""Time under back pressure that makes one measurement; the first one is dropped, since buffers fill meanwhile."""
WEIGHT: Final = 0.3
"""Of the newest measurement."""
WORTH: Final = 0.1
"""What carries beside the first path delivers at least so much of what that does: less would only hold up the end."""
OVER: Final = "the session is over"
"""Why a path went that has nothing more to carry."""
STOPPED: Final = "the program at the other end was stopped"
"""Why a path went whose peer took its leave in the middle of something."""
FAILED: Final = "the program at the other end could not go on"
"""Why a path went whose peer ended by an error of its own; with the first one that goes stands which."""
FORGOTTEN: Final = "the other end does not know this machine any more; the code is used"
"""Why a path went that a contact closed who has removed this machine, where there is a code to prove on another one."""
ENOUGH: Final = "the others carry as much without it"
CLOSED: Final = "the other end closed it and has others"
"""Why one went that was not needed any more, from the two ends."""
MEANT: Final = frozenset({OVER, STOPPED, FAILED, FORGOTTEN, ENOUGH, CLOSED})
"""Ends that somebody meant: whoever looks after a path that was lost need not hear of them."""
DETOUR: Final = 4.0
DETOUR_S: Final = 0.1
"""A detour has a round trip so many times as long, and so much longer."""


class _Path(Struct):
    number: int
    rank: int
    group: int
    spare: bool
    trip: float | None = None
    rate: float = 0.0
    rated: float = 0.0
    fresh: float = FRESH_S
    left: bool = False
    rests_until: float = 0.0
    """A spare is not tried before."""
    warm: bool = False
    full_since: float | None = None
    written: int = 0
    busy: float = 0.0
    drained: int = 0

    @property
    def kind(self) -> tuple[int, int]:
        """Of two of one kind the newer, since the older may have met what made another one necessary."""
        return self.rank, -self.number

    def known(self, now: float) -> bool:
        """Whether there is a measurement that counts."""
        return self.rate > 0 and now - self.rated <= self.fresh

    def bound(self, now: float) -> None:
        """What took so long to take so little that it must be slow is measured before it has room again."""
        if self.full_since is not None and now - self.full_since >= SAMPLE_S:
            most = self.written / (now - self.full_since)
            if most < SLOW and not (self.known(now) and self.rate <= most):
                self.warm, self.rate, self.rated = True, max(1.0, most), now

    def leave(self, now: float) -> None:
        """It was not shown to be better than another one."""
        if self.left:
            self.fresh = min(2 * self.fresh, MAX_FRESH_S)
        self.left, self.rests_until = True, now + self.fresh


class PathChoice:
    """Paths by number; ``rank`` orders the kinds, lower is better."""

    def __init__(self) -> None:
        self._paths: dict[int, _Path] = {}
        self._current: _Path | None = None
        self._better: tuple[int, float] | None = None
        self._slow_since: float | None = None
        self._tried_for: _Path | None = None
        """The path that was first before a spare that is on trial."""
        self._tried_at = 0.0

    def add(self, path: int, rank: int, *, group: int = 0, spare: bool = False) -> None:
        """A path is up; ``group`` is the path that it was opened beside, 0 if it stands for itself."""
        self._paths[path] = _Path(path, rank, group or path, spare)

    def remove(self, path: int) -> None:
        """A path is gone."""
        gone = self._paths.pop(path, None)
        if gone in (self._current, self._tried_for):
            self._tried_for = None
        if gone is self._current:
            self._current = None

    # -- measurements --------------------------------------------------------------------------------------------

    def trip(self, path: int, seconds: float | None) -> None:
        """The shortest round trip that was seen, ``None`` if there was none."""
        self._paths[path].trip = seconds

    def carried(self, path: int, size: int, full: bool, now: float) -> None:
        """``size`` bytes were given to the path; ``full``: it wants no more until :meth:`room`."""
        state = self._paths.get(path)
        if state is None:
            return
        state.written += size
        if full and state.full_since is None:
            state.full_since = now

    def room(self, path: int, now: float) -> None:
        """The path takes data again: what it was given is under way."""
        state = self._paths.get(path)
        if state is None or state.full_since is None:
            return
        state.busy += max(0.0, now - state.full_since)
        state.drained += state.written
        state.full_since, state.written = None, 0
        if state.busy >= SAMPLE_S:
            self._measured(state, state.drained / state.busy, now)
            state.busy, state.drained = 0.0, 0

    @staticmethod
    def _measured(path: _Path, rate: float, now: float) -> None:
        if not path.warm:
            path.warm = True
            return
        path.rate = WEIGHT * rate + (1 - WEIGHT) * path.rate if path.known(now) else rate
        path.rated = now

    # -- the choice ----------------------------------------------------------------------------------------------

    def ordered(self, now: float, usable: Callable[[int], bool] | None = None) -> Iterable[int]:
        """The path to use first, then the others by kind.

        ``usable`` says which can be used at all; who only looks does not know that, and has no trial begun.
        """
        best = self._best(now, usable)
        rest = sorted((path for path in self._paths.values() if path is not best), key=lambda path: path.kind)
        return [path.number for path in ([best, *rest] if best is not None else rest)]

    def carriers(self, now: float, usable: Callable[[int], bool]) -> list[int]:
        """The paths that the next bytes may go to, best first; ``usable`` says which can be used at all."""
        ordered = [self._paths[number] for number in self.ordered(now, usable) if usable(number)]
        if not ordered:
            return []
        first = ordered[0]
        if self._tried_for is not None and first is self._current:
            return [first.number]
        least = WORTH * self._rate(first, now)
        beside = (
            path
            for path in ordered[1:]
            if path.group == first.group
            or not (path.spare or _is_detour(path, first) or (path.known(now) and self._rate(path, now) < least))
        )
        return [first.number, *(path.number for path in beside)]

    def _rate(self, path: _Path, now: float) -> float:
        """What is known of the rate of the path's group."""
        return sum(one.rate for one in self._paths.values() if one.group == path.group and one.known(now))

    def _cost(self, path: _Path, now: float) -> float:
        """Seconds until a block has arrived, for a path of which that is known."""
        return (path.trip or 0.0) + BLOCK / self._rate(path, now)

    def _best(self, now: float, usable: Callable[[int], bool] | None) -> _Path | None:
        if self._current is None:
            self._current = min(self._paths.values(), key=lambda path: path.kind, default=None)
        while self._current is not None:
            current = self._current
            spare = None
            better = self._to_try(current, now)
            if better is None and self._tried_for is not None:
                better = self._failed(current, self._tried_for, now)
            elif better is None:
                better = self._proved(current, now)
                spare = self._to_spare(current, now, usable) if better is None else None
            if better is None and spare is None:
                break
            self._tried_for, self._tried_at = (current if spare is not None else None), now
            self._current, self._better, self._slow_since = better or spare, None, None
        return self._current

    def _to_try(self, current: _Path, now: float) -> _Path | None:
        """A path of a better kind of which no measurement counts."""
        untried = [
            path
            for path in self._paths.values()
            if path.kind < current.kind
            and path.group != current.group
            and not self._rate(path, now)
            and not _is_detour(path, current)
        ]
        return min(untried, key=lambda path: path.kind, default=None)

    def _proved(self, current: _Path, now: float) -> _Path | None:
        """A path that has been measured as clearly better for some time."""
        known = [path for path in self._paths.values() if path.group != current.group and path.known(now)]
        best = min(known, key=lambda path: self._cost(path, now), default=None)
        if best is None or not current.known(now) or self._cost(best, now) > MARGIN * self._cost(current, now):
            self._better = None
            return None
        if self._better is None or self._better[0] != best.number:
            self._better = best.number, now
        if now - self._better[1] < HOLD_S:
            return None
        current.leave(now)
        return best

    def _to_spare(self, current: _Path, now: float, usable: Callable[[int], bool] | None) -> _Path | None:
        """A usable spare of which no measurement counts, where what is first has been slow for some time."""
        for path in self._paths.values():
            if path.group == current.group:
                path.bound(now)
        if current.spare or not current.known(now) or self._rate(current, now) >= SLOW:
            self._slow_since = None
            return None
        if self._slow_since is None:
            self._slow_since = now
        if now - self._slow_since < HOLD_S or usable is None:
            return None
        untried = (path for path in self._paths.values() if path.spare and not path.known(now))
        spares = (
            path
            for path in untried
            if now >= path.rests_until and not _is_detour(path, current) and usable(path.number)
        )
        return min(spares, key=lambda path: path.kind, default=None)

    def _failed(self, spare: _Path, before: _Path, now: float) -> _Path | None:
        """The path ``before`` a spare on trial, if the spare is not clearly better; with the verdict the trial ends."""
        known = spare.known(now)
        stuck = spare.full_since is not None and now - spare.full_since >= STUCK_S
        if not known and not stuck and now - self._tried_at < TRIAL_S and before.known(now):
            return None
        if known and before.known(now) and self._cost(spare, now) <= MARGIN * self._cost(before, now):
            self._tried_for = None
            return None
        spare.leave(now)
        return before


def _is_detour(path: _Path, other: _Path) -> bool:
    return path.trip is not None and other.trip is not None and path.trip > DETOUR * other.trip + DETOUR_S
