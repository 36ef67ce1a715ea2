"""The queue of outgoing transfers: which of them run now, and what becomes of one whose run has ended.

Laws:

1. Nothing is begun while :data:`MAX_RUNNING` runs have a place, nor to a peer to which one runs.  A run that was told
   to stop has its place until it ended.  One that waits for its peer's user to agree, which may take hours, has none,
   as long as there are not more than :data:`MAX_ASKING` of them.  So there are never more than both numbers together.
2. Among those whose time has come the one with the fewest turns goes first, then the one of higher priority, then the
   older one.
3. Who found nobody for :data:`SEEK_S` gives its place to one that waits for a place.  That was a turn, and so is a run
   that failed and moved nothing: everybody gets one, however many peers are away.  To one for the same peer that
   comes before it, it gives its place at once.
4. A run that failed for a reason that may pass is repeated, for ever, after pauses that grow while nothing moves.  One
   that failed for good waits for a person.
5. What is paused or cancelled does not run.  What a person says of one that runs counts more than how the run ends,
   except that it was done, or failed for good.
6. An entry leaves when it was done or cancelled, and in no other way.

Entries are named by their owner; peers are compared and nothing else.  The time is in seconds on any clock that never
goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from p2pxfer.core.backoff import Backoff

MAX_RUNNING: Final = 8
"""Runs at the same time; each has a connection of its own to the server."""
MAX_ASKING: Final = 8
"""Runs that may wait for their peers' users beside these."""
SEEK_S: Final = 30.0
"""How long a run may look for an absent peer while another one waits for its place, seconds."""
LONGEST_S: Final = 60.0
"""Longest pause before a run is repeated, seconds."""


class State(Enum):
    """What an entry does; the first three are those that a person may find it in for long."""

    WAITING = auto()
    """For its turn, or the end of a pause."""
    PAUSED = auto()
    FAILED = auto()
    SEEKING = auto()
    """It runs, and has not met the peer."""
    ASKING = auto()
    """It runs, and has; the peer's user has not agreed yet."""
    MOVING = auto()
    """It runs, and the peer takes it."""
    YIELDING = auto()
    """Its run was told to stop, and waits again after that."""
    PAUSING = auto()
    LEAVING = auto()
    """Its run was told to stop, and nobody wants it any more."""
    GONE = auto()


class Input(Enum):
    """What happens to an entry: in its run, by decision of the queue, by a person."""

    MET = auto()
    """The run has met the peer."""
    ACCEPTED = auto()
    """The peer takes what was offered."""
    DONE = auto()
    BROKE = auto()
    """The run ended, for a reason that may pass, or because it was told to stop."""
    REFUSED = auto()
    """The run ended for good."""
    START = auto()
    YIELD = auto()
    PAUSE = auto()
    RESUME = auto()
    """Go on, or try again at once."""
    CANCEL = auto()


_S, _I = State, Input
TABLE: Final[dict[State, dict[Input, State]]] = {
    _S.WAITING: {
        _I.START: _S.SEEKING, _I.PAUSE: _S.PAUSED, _I.RESUME: _S.WAITING, _I.CANCEL: _S.GONE,
    },
    _S.PAUSED: {
        _I.PAUSE: _S.PAUSED, _I.RESUME: _S.WAITING, _I.CANCEL: _S.GONE,
    },
    _S.FAILED: {
        _I.PAUSE: _S.PAUSED, _I.RESUME: _S.WAITING, _I.CANCEL: _S.GONE,
    },
    _S.SEEKING: {
        _I.MET: _S.ASKING, _I.DONE: _S.GONE, _I.BROKE: _S.WAITING, _I.REFUSED: _S.FAILED,
        _I.YIELD: _S.YIELDING, _I.PAUSE: _S.PAUSING, _I.RESUME: _S.SEEKING, _I.CANCEL: _S.LEAVING,
    },
    _S.ASKING: {
        _I.MET: _S.ASKING, _I.ACCEPTED: _S.MOVING, _I.DONE: _S.GONE, _I.BROKE: _S.WAITING, _I.REFUSED: _S.FAILED,
        _I.PAUSE: _S.PAUSING, _I.RESUME: _S.ASKING, _I.CANCEL: _S.LEAVING,
    },
    _S.MOVING: {
        _I.MET: _S.MOVING, _I.ACCEPTED: _S.MOVING, _I.DONE: _S.GONE, _I.BROKE: _S.WAITING, _I.REFUSED: _S.FAILED,
        _I.PAUSE: _S.PAUSING, _I.RESUME: _S.MOVING, _I.CANCEL: _S.LEAVING,
    },
    _S.YIELDING: {
        _I.MET: _S.YIELDING, _I.ACCEPTED: _S.YIELDING, _I.DONE: _S.GONE, _I.BROKE: _S.WAITING, _I.REFUSED: _S.FAILED,
        _I.PAUSE: _S.PAUSING, _I.RESUME: _S.YIELDING, _I.CANCEL: _S.LEAVING,
    },
    _S.PAUSING: {
        _I.MET: _S.PAUSING, _I.ACCEPTED: _S.PAUSING, _I.DONE: _S.GONE, _I.BROKE: _S.PAUSED, _I.REFUSED: _S.FAILED,
        _I.PAUSE: _S.PAUSING, _I.RESUME: _S.YIELDING, _I.CANCEL: _S.LEAVING,
    },
    _S.LEAVING: {
        _I.MET: _S.LEAVING, _I.ACCEPTED: _S.LEAVING, _I.DONE: _S.GONE, _I.BROKE: _S.GONE, _I.REFUSED: _S.GONE,
        _I.PAUSE: _S.LEAVING, _I.RESUME: _S.LEAVING, _I.CANCEL: _S.LEAVING,
    },
}  # fmt: skip
"""Everything that may happen; what is missing here is a fault of whoever says it."""

RUNNING: Final = frozenset({State.SEEKING, State.ASKING, State.MOVING, State.YIELDING, State.PAUSING, State.LEAVING})
_STOPPED: Final = frozenset({State.YIELDING, State.PAUSING, State.LEAVING})
_ENDS: Final = frozenset({Input.DONE, Input.BROKE, Input.REFUSED})


class Start(Struct, frozen=True):
    """Begin a run of this entry; it is to say when it has met the peer, and how it ended."""

    entry: str


class Stop(Struct, frozen=True):
    """End the run of this entry; that it has ended is still to be said."""

    entry: str


class _Entry(Struct):
    name: str
    peer: bytes
    priority: int
    age: float
    state: State
    backoff: Backoff
    turn: int
    due: float
    since: float = 0.0
    moved: bool = False

    @property
    def rank(self) -> tuple[int, float, str]:
        """What goes first, whatever turns it had."""
        return rank(self.priority, self.age, self.name)


def rank(priority: int, age: float, name: str) -> tuple[int, float, str]:
    """Less for what goes first, whatever turns it had; the arguments are those of :meth:`Queue.add`."""
    return -priority, age, name


class Queue:
    """The entries; ``draw`` returns a uniform number in [0, 1) for the pauses."""

    def __init__(self, draw: Callable[[], float], most: int = MAX_RUNNING) -> None:
        self._draw = draw
        self._most = most
        self._entries: dict[str, _Entry] = {}
        self._said_stop: set[str] = set()

    def state(self, entry: str) -> State:
        """The state of an entry; ``GONE`` if there is none of that name."""
        found = self._entries.get(entry)
        return found.state if found is not None else State.GONE

    def names(self) -> list[str]:
        """The entries that there are, those that are leaving included."""
        return list(self._entries)

    # -- what happens ------------------------------------------------------------------------------------------------

    def add(self, entry: str, peer: bytes, priority: int, age: float, now: float, state: State = State.WAITING) -> None:
        """A new entry; ``age`` is smaller for an older one.  ``state`` may be one of the first three."""
        assert entry not in self._entries
        assert state not in RUNNING
        turn = min((other.turn for other in self._entries.values()), default=0)
        backoff = Backoff(self._draw, LONGEST_S)
        self._entries[entry] = _Entry(entry, peer, priority, age, state, backoff, turn, now)

    def say(self, entry: str, what: Input, now: float) -> State:
        """Something happened; returns the state after it.

        Raises:
            KeyError: that cannot happen to this entry.
        """
        found = self._entries[entry]
        after = TABLE[found.state][what]
        if what is Input.RESUME:
            found.backoff.reset()
            found.due = now
        if what is Input.BROKE:
            self._broke(found, now)
        if what in _ENDS:
            self._said_stop.discard(entry)
        found.state = after
        if after is State.GONE:
            del self._entries[entry]
        return after

    @staticmethod
    def _broke(found: _Entry, now: float) -> None:
        if found.state in _STOPPED:
            found.due = now  # it was told to
            return
        if found.moved:
            found.backoff.reset()
        else:
            found.turn += 1
        found.due = now + found.backoff.next()

    def moved(self, entry: str) -> None:
        """The run of an entry got something through: the next pause is a short one again."""
        self._entries[entry].moved = True

    def set_priority(self, entry: str, priority: int) -> None:
        """A person wants it earlier or later; it counts as one that has had no turn."""
        found = self._entries[entry]
        found.priority = priority
        found.turn = min(other.turn for other in self._entries.values())

    # -- what is to be done ------------------------------------------------------------------------------------------

    def act(self, now: float) -> list[Start | Stop]:
        """What is to be done now; to be asked after everything that was said and at the time of :meth:`wake_at`."""
        self._give_way(now)
        todo: list[Start | Stop] = []
        for found in self._entries.values():
            if found.state in _STOPPED and found.name not in self._said_stop:
                self._said_stop.add(found.name)
                todo.append(Stop(found.name))
        for found in self._startable(now)[: self._free()]:
            found.since, found.moved = now, False
            self.say(found.name, Input.START, now)
            todo.append(Start(found.name))
        return todo

    def wake_at(self, now: float) -> float | None:
        """When :meth:`act` may have something else to do although nothing was said; ``None``: never."""
        times = [found.due for found in self._of(State.WAITING) if found.due > now]
        if self._crowded_out(now):
            times += [found.since + SEEK_S for found in self._of(State.SEEKING)]
        return min((time for time in times if time > now), default=None)

    def _of(self, state: State) -> Iterable[_Entry]:
        return [found for found in self._entries.values() if found.state is state]

    def _free(self) -> int:
        """How many places there are."""
        running = sum(found.state in RUNNING for found in self._entries.values())
        return max(0, self._most - running + min(MAX_ASKING, sum(1 for _ in self._of(State.ASKING))))

    def _startable(self, now: float) -> list[_Entry]:
        """One for each peer to which nothing runs, in their order."""
        busy = {found.peer for found in self._entries.values() if found.state in RUNNING}
        first: dict[bytes, _Entry] = {}
        for found in self._of(State.WAITING):
            if found.due <= now and found.peer not in busy:
                other = first.get(found.peer)
                if other is None or found.rank < other.rank:
                    first[found.peer] = found
        return sorted(first.values(), key=lambda found: (found.turn, *found.rank))

    def _crowded_out(self, now: float) -> int:
        """How many could start but for the want of a place, those aside for which one is becoming free."""
        yielding = sum(found.state in _STOPPED for found in self._entries.values())
        return max(0, len(self._startable(now)) - self._free() - yielding)

    def _give_way(self, now: float) -> None:
        """Those that have found nobody make room."""
        for found in self._of(State.SEEKING):
            before = (other for other in self._of(State.WAITING) if other.peer == found.peer and other.due <= now)
            if any(other.rank < found.rank for other in before):
                self.say(found.name, Input.YIELD, now)
        patient = sorted(self._of(State.SEEKING), key=lambda found: (found.since, *found.rank))
        for found in [one for one in patient if one.since + SEEK_S <= now][: self._crowded_out(now)]:
            found.turn += 1
            self.say(found.name, Input.YIELD, now)
