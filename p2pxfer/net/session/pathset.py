"""The paths of one session: which are up, which one carries the data, and what a user is told of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from p2pxfer.core.codec import Message
from p2pxfer.core.session.farewell import problem
from p2pxfer.core.session.pathchoice import CLOSED, ENOUGH, FAILED, OVER, STOPPED, PathChoice
from p2pxfer.core.session.upgrades import Upgrades
from p2pxfer.core.session.wire import Problem
from p2pxfer.errors import P2pxferError, PeerFailed, PeerStopped, Unreachable
from p2pxfer.net.connection.streams import Closed
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.tuning import Tuning
from p2pxfer.status import Event, Path, PathKind, PathState

RANK: dict[PathKind, int] = {"lan": 0, "ipv6": 1, "direct": 2, "mapped": 3, "punched": 4, "relay": 5}
"""Which kind is preferred until paths were measured; lower is better."""
STILL_S = 0.5
"""A path that carried data so lately, in seconds, still does."""
LEAVING_S = 3.0
"""How long after the peer's farewell on one path the loss of another one is part of the same end, seconds."""


def failed_why(error: P2pxferError) -> str:
    """Why the first path went of a peer that has ended by ``error``."""
    return f"{FAILED}: {error.why if isinstance(error, PeerFailed) else error.message}"


class PathSet:
    """Paths that are up, in order of preference; reports every change as an event.

    ``now`` is the reactor's clock; the events count from :meth:`introduced`.
    """

    def __init__(self, now: Callable[[], float], tell: Callable[[Event], None]) -> None:
        self._now = now
        self._tell = tell
        self._introduced = now()
        self._paths: dict[int, PeerPath] = {}
        self._up_at: dict[int, float] = {}
        self._choice = PathChoice()
        self.tuning = Tuning()
        self.upgrades = Upgrades()
        self._active: int | None = None
        self._active_at = 0.0
        """When the active path, or the one before, last carried or was lost."""
        self._sends = False
        """Something was sent since the last active path was lost."""
        self._holders: set[int] = set()
        self._over = False
        self._farewell_at: float | None = None
        self._failed = ("", -math.inf)
        """By which sentence the peer ended last, and when it said so last: it does on each path that comes up then."""
        self._farewell = STOPPED
        """Why paths go that go with the peer's farewell."""
        self._byes: set[int] = set()
        self._last_kind = "none"
        self.retired: list[PeerPath] = []
        """Paths that are to be closed when nothing is under way on them."""
        self.bytes_by_path: dict[str, int] = {}
        self.slowest_trip = 0.0
        """The longest round trip of any path that was lost, seconds."""

    def finish(self) -> None:
        """The transfer is done: that paths go away now is no loss."""
        self._over = True

    @property
    def over(self) -> bool:
        """What goes away now is no loss."""
        return self._over

    def introduced(self) -> None:
        """The server introduced the peers just now: a session begins."""
        self._introduced = self._active_at = self._now()
        self._over = False

    def ordered(self, usable: Callable[[int], bool] | None = None) -> list[PeerPath]:
        """The one to use first, then the others by kind; see :mod:`p2pxfer.core.session.pathchoice`.

        Who is about to send says which are ``usable``: without that no spare one is tried.
        """
        for number, path in self._paths.items():
            self._choice.trip(number, path.rtt)
        return [self._paths[number] for number in self._choice.ordered(self._now(), usable)]

    def carriers(self, usable: Callable[[int], bool]) -> list[PeerPath]:
        """Those that the next chunk may go to, best first, of the ones that are ``usable``."""
        if len(self._paths) == 1:
            return [path for number, path in self._paths.items() if usable(number)]
        idle = {path.facts.number for path in self.retired}
        for number, path in self._paths.items():
            self._choice.trip(number, path.rtt)
        chosen = self._choice.carriers(self._now(), lambda number: number not in idle and usable(number))
        return [self._paths[number] for number in chosen]

    @property
    def leaders(self) -> list[PeerPath]:
        """The direct connections of the group that carries the data, those that are to go left out."""
        first = next(iter(self.ordered()), None)
        if first is None or first.facts.kind == "relay":
            return []
        return [
            path for path in self._paths.values() if path.facts.group == first.facts.group and path not in self.retired
        ]

    def retire(self, number: int) -> None:
        """This path carries nothing more, and goes when nothing is under way on it."""
        path = self._paths.get(number)
        if path is not None and path not in self.retired:
            self.retired.append(path)

    def close_retired(self, idle: Callable[[PeerPath], bool]) -> None:
        """Close those that are to go and are ``idle``: what is being closed is no path of the session any more."""
        while (path := next(filter(idle, self.retired), None)) is not None:
            self.remove(path, OVER)
            path.close()

    def get(self, number: int) -> PeerPath | None:
        """The path with this number, if it is up."""
        return self._paths.get(number)

    @property
    def direct(self) -> bool:
        """Whether a path without the relay is up."""
        return any(path.facts.kind != "relay" for path in self._paths.values())

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[PeerPath]:
        """Those that are up, in no order that means anything."""
        return iter(self._paths.values())

    def hold(self, holder: object, on: bool) -> None:
        """Read from no path while anybody holds them; a path that comes meanwhile is held too."""
        before = bool(self._holders)
        (self._holders.add if on else self._holders.discard)(id(holder))
        if bool(self._holders) != before:
            for path in self._paths.values():
                (path.pause_reading if on else path.resume_reading)()

    def add(self, path: PeerPath) -> None:
        """A path is up."""
        self._farewell_at = None
        if path.facts.kind != "relay" and not self.direct:
            self.upgrades.stands(self._now())
        self._paths[path.facts.number] = path
        self._up_at[path.facts.number] = self._now()
        facts = path.facts
        self._choice.add(facts.number, RANK[facts.kind], group=facts.beside, spare=facts.kind == "relay")
        if self._holders:
            path.pause_reading()
        self._report(path, "up", "greeted")

    def leave(self, error: P2pxferError) -> None:
        """This program ends in the middle of something: say so on every path and close it."""
        self.part(problem(error))

    def part(self, word: Message, *, at_once: bool = False) -> None:
        """Say this as the last on every path, as far as it takes that, and close it.

        ``at_once``: a Problem goes in place of what waits to be sent there.
        """
        for path in self.ordered():
            if at_once and isinstance(word, Problem):
                path.leave(word)
                continue
            path.send(word)
            path.close()

    def said_bye(self, path: PeerPath) -> None:
        """The peer is done with ``path``: that it goes is no loss."""
        self._byes.add(path.facts.number)

    def acknowledged(self) -> int:
        """Bytes that the other end's kernels have acknowledged on those that are up.

        On a relay path that is the server's, which passes on what it has when a leg ends.
        """
        return sum(path.descriptor.acked for path in self._paths.values() if path.descriptor is not None)

    def lost(self, path: PeerPath, error: P2pxferError) -> bool:
        """A path is gone for this reason; true if it was in the set."""
        return self.remove(path, self._why(path, error))

    def _why(self, path: PeerPath, error: P2pxferError) -> str:
        first = isinstance(error, PeerFailed) and not self.peer_leaves and not self._says_again(error)
        if isinstance(error, PeerFailed):
            self._failed = error.why, self._now()
        if isinstance(error, PeerStopped):
            self._farewell_at = self._now()
            self._farewell = FAILED if isinstance(error, PeerFailed) else STOPPED
        if first:
            return failed_why(error)
        if self.peer_leaves and isinstance(error, Unreachable):
            return self._farewell
        # What was found here is no loss that follows from a farewell.
        if path.facts.number in self._byes:
            return OVER
        return CLOSED if isinstance(error, Closed) and len(self._paths) > 1 else error.message

    def _says_again(self, error: PeerFailed) -> bool:
        """The peer said the same a moment ago."""
        why, at = self._failed
        return why == error.why and self._now() - at < LEAVING_S

    @property
    def peer_leaves(self) -> bool:
        """The peer said farewell a moment ago: what goes away now goes with it."""
        return self._farewell_at is not None and self._now() - self._farewell_at < LEAVING_S

    @property
    def peer_left(self) -> bool:
        """The peer said farewell a moment ago, or no path outlived that and none has come since."""
        return self.peer_leaves or (self._farewell_at is not None and not self._paths)

    def remove(self, path: PeerPath, why: str) -> bool:
        """A path is gone; true if it was in the set."""
        if not self.peer_leaves:
            self._farewell_at = None  # this path outlived it
        self._byes.discard(path.facts.number)
        if self._paths.pop(path.facts.number, None) is None:
            return False
        del self._up_at[path.facts.number]
        self._choice.remove(path.facts.number)
        if path.facts.kind != "relay" and not self.direct:
            self.upgrades.died(self._now())
        self.slowest_trip = max(self.slowest_trip, path.rtt or 0.0)
        if self._active == path.facts.number:
            self._active, self._active_at = None, self._now()
            self._sends = False
        if path in self.retired:
            self.retired.remove(path)
            why = ENOUGH
        if all(one.facts.kind == "relay" or one in self.retired for one in self._paths.values()):
            self.retired.clear()  # the others did not last
        self._report(path, "down", OVER if self._over else why)
        return True

    def carried(self, path: PeerPath, size: int, *, outward: bool = True, again: bool = False) -> None:
        """``size`` payload bytes went over ``path``.

        Only what is sent (``outward``) says how much the path takes.  The two ends may choose different paths: the
        active one is where this end sends, if it does.  Where several carry at once the one of the best kind is active,
        and of one group the first.  What came ``again``, and late, says nothing of where the data goes now.
        """
        kind, now = path.facts.kind, self._now()
        if outward:
            self._choice.carried(path.facts.number, size, not path.writable, now)
        self.bytes_by_path[kind] = self.bytes_by_path.get(kind, 0) + size
        if again:
            return
        active = self._paths.get(self._active) if self._active is not None else None
        goes_on = active is not None and active.facts.group == path.facts.group
        if outward and not self._sends:
            self._sends = True
            active = active if goes_on else None  # from now on this end says which one it is
        if goes_on:
            self._active_at = now
        elif (outward or not self._sends) and self._takes_the_lead(kind, active, now):
            # In a pipe or a chat the first byte may come long after the path.
            since = max(self._up_at.get(path.facts.number, now), self._active_at)
            self._active, self._active_at = path.facts.number, now
            self._last_kind = kind
            self._report(path, "active", "carries the data", since)

    def _takes_the_lead(self, kind: PathKind, active: PeerPath | None, now: float) -> bool:
        """Whether a path of this kind becomes the active one with the data that it just carried."""
        return active is None or RANK[kind] < RANK[active.facts.kind] or now - self._active_at > STILL_S

    def room(self, path: PeerPath) -> None:
        """``path`` takes data again."""
        self._choice.room(path.facts.number, self._now())

    @property
    def active_kind(self) -> str:
        """Kind of the path that carries the data, or ``none``."""
        path = self._paths.get(self._active) if self._active is not None else None
        if path is not None:
            self._last_kind = path.facts.kind
        return self._last_kind if path is not None or self._over else "none"

    def _report(self, path: PeerPath, state: PathState, why: str, since: float | None = None) -> None:
        self._tell(
            Path(
                path=path.facts.kind,
                state=state,
                local=path.facts.local,
                remote=path.facts.remote,
                rtt_ms=None if path.rtt is None else round(path.rtt * 1000, 2),
                after_ms=self._after_ms(self._now() if since is None else since),
                why=why,
                tcp_ms=None if path.facts.kind == "relay" else self._after_ms(path.began),
            )
        )

    def _after_ms(self, moment: float) -> float:
        return round((moment - self._introduced) * 1000, 1)
