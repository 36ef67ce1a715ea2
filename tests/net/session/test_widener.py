"""What a sending job does with further connections; the rule: ``tests/core/session/test_widening.py``."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from p2pxfer.core.session.lineorders import Open, Steady
from p2pxfer.errors import Unreachable
from p2pxfer.net.session import widening
from p2pxfer.net.session.path import PathFacts, PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.tuning import BEARS_LOSS
from p2pxfer.net.session.widening import LOOK_S, Steadier, Widener
from p2pxfer.net.transfer.outstream import StreamPump
from p2pxfer.net.transfer.pump import ChunkPump
from tests.guard import LostErrors


class FakePath:
    """A direct path whose kernel says that it is full; it counts how often it was closed."""

    rtt = 0.05
    began = 0.0
    writable = False

    def __init__(self, number: int) -> None:
        self.facts = PathFacts(number, "punched", "", "", 0 if number == 1 else 1)
        flow = SimpleNamespace(acked=1 << 20, sent=1000, repeated=0, trip=0.05, shortest=0.05, at_work=None)
        self.descriptor = SimpleNamespace(governor="cubic", flow=lambda: flow)
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Rule:
    """Wants one connection after the other, and notes what came of each."""

    steady = False
    came: list[int | None]

    def __init__(self, now: float) -> None:
        self.waits = False
        Rule.came = []

    def look(self, lines: Any, now: float) -> Open | None:
        wanted = None if self.waits else Open()
        self.waits = True
        return wanted

    def opened(self, line: int | None, now: float) -> None:
        self.waits = False
        Rule.came.append(line)


async def none_comes(beside: Any) -> None:
    return None


def world(clock: Any, count: int) -> tuple[PathSet, list[Any]]:
    paths = PathSet(clock.seconds, lambda event: None)
    ones: list[Any] = [FakePath(number + 1) for number in range(count)]
    for path in ones:
        paths.add(path)
    return paths, ones


def test_a_connection_that_is_to_go_is_closed_once_and_carries_nothing_from_then_on() -> None:
    clock: Any = Clock()
    paths, ones = world(clock, 2)
    busy = {2}
    widener = Widener(clock, paths, none_comes, lambda path: path.facts.number not in busy)
    widener.start()
    paths.retire(2)
    clock.pump([LOOK_S] * 5)
    assert ones[1].closed == 0, "something is under way on it"
    busy.clear()
    clock.pump([LOOK_S] * 5)
    assert [path.closed for path in ones] == [0, 1]
    paths.remove(ones[0], "lost")
    assert paths.carriers(lambda number: True) == paths.ordered() == []
    assert not paths.remove(ones[1], "closed")
    widener.stop()


def test_the_last_one_that_is_to_go_stays() -> None:
    clock: Any = Clock()
    paths, ones = world(clock, 3)
    widener = Widener(clock, paths, none_comes, lambda path: True)
    widener.start()
    paths.retire(2)
    paths.retire(3)
    paths.remove(ones[0], "lost")
    clock.pump([LOOK_S] * 5)
    assert [path.closed for path in ones] == [0, 0, 0]
    widener.stop()


def test_the_rule_hears_of_every_attempt_also_of_one_that_failed(
    monkeypatch: pytest.MonkeyPatch, lost_errors: LostErrors
) -> None:
    monkeypatch.setattr(widening, "Widening", Rule)
    clock: Any = Clock()
    paths, _ = world(clock, 1)
    asked = []

    async def fails(beside: Any) -> None:
        asked.append(beside)
        raise Unreachable("no address")

    widener = Widener(clock, paths, fails, lambda path: True)
    widener.start()
    clock.pump([LOOK_S] * 3)
    widener.stop()
    assert Rule.came == [None] * 3
    assert len(asked) == len(lost_errors.flush(Unreachable)) == 3


def test_what_the_rule_says_behind_another_congestion_control_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answering(Rule):
        def look(self, lines: Any, now: float) -> Any:
            return Steady(True) if super().look(lines, now) else None

        def steadied(self, done: bool, now: float) -> Open:
            return Open()

    monkeypatch.setattr(widening, "Widening", Answering)
    clock: Any = Clock()
    paths, ones = world(clock, 1)
    ones[0].descriptor.govern = lambda name: True
    asked: list[Any] = []

    async def comes(beside: Any) -> Any:
        asked.append(beside)
        return SimpleNamespace(facts=PathFacts(7, "punched", "", "", 1))

    widener = Widener(clock, paths, comes, lambda path: True)
    widener.start()
    clock.advance(LOOK_S)
    widener.stop()
    assert asked == ones
    assert Rule.came == [7]


def test_nothing_is_looked_at_for_a_cargo_that_takes_one_connection() -> None:
    clock: Any = Clock()
    paths, _ = world(clock, 1)
    widener = Widener(clock, paths, none_comes, None)
    widener.start()
    assert not clock.getDelayedCalls()
    widener.stop()
    assert ChunkPump.spreads
    assert not StreamPump.spreads


# -- channels ------------------------------------------------------------------------------------------------------


ALONE = 250_000
"""Bytes a second that the usual congestion control delivers under loss."""


ANEW = -1


class LossyPath(FakePath):
    """One that delivers little under loss, and much with what bears that; all that waits is with the kernel."""

    writable = True

    def __init__(self, number: int, has: bool = True) -> None:
        super().__init__(number)
        self.flows = SimpleNamespace(
            acked=1 << 20, sent=1000, repeated=0, trip=0.05, waiting=1, shortest=0.05, at_work=None
        )
        self.changes: list[str] = []
        self.loses = 1.0
        self.begins_anew = True

        def govern(name: str) -> bool:
            if has:
                self.changes.append(name)
                self.descriptor.governor = name
            return has

        def begin_anew(name: str) -> bool:
            if self.begins_anew:
                self.caps.append(ANEW)
            return self.begins_anew

        self.caps: list[int] = []
        """What the pace was capped to, and :data:`ANEW` where it began anew."""
        self.descriptor = SimpleNamespace(
            flow=lambda: self.flows, governor="cubic", govern=govern, cap_pace=self.caps.append, begin_anew=begin_anew
        )

    def goes_on(self, better: float = 20) -> None:
        """What the time between two looks brings."""
        self.flows.acked += int(ALONE * LOOK_S * (better if self.descriptor.governor == BEARS_LOSS else 1))
        self.flows.sent += int(200 * LOOK_S)
        self.flows.repeated += 5 * self.loses * LOOK_S


def steadied(path: LossyPath, seconds: float, better: float = 20) -> tuple[Any, list[bool], Steadier]:
    clock: Any = Clock()
    paths = PathSet(clock.seconds, lambda event: None)
    paths.add(cast(PeerPath, path))
    carries = [True]
    steadier = Steadier(clock, paths, lambda: carries[0])
    steadier.start()
    run(clock, path, seconds, better)
    return clock, carries, steadier


def run(clock: Any, path: LossyPath, seconds: float, better: float = 20) -> None:
    for _ in range(int(seconds / LOOK_S)):
        path.goes_on(better)
        clock.advance(LOOK_S)


def test_the_connection_of_channels_gets_what_bears_loss_and_keeps_it_where_that_delivers_more() -> None:
    path = LossyPath(1)
    steadied(path, 30)
    assert path.changes == [BEARS_LOSS]


def test_what_does_not_deliver_more_is_undone_and_no_other_connection_is_wanted() -> None:
    path = LossyPath(1)
    path.flows.trip = path.flows.shortest = 0.1
    path.begins_anew = False
    steadied(path, 60, better=1)
    assert path.changes == [BEARS_LOSS, "cubic"]
    assert len(path.caps) >= 2, "it was capped meanwhile"
    assert path.caps[-1] == 0, "the usual one goes as fast as it likes"
    assert 0 not in path.caps[:-1]


def test_a_cap_is_not_begun_anew_by_a_moment_of_which_nothing_is_known_nor_by_the_next_job() -> None:
    path = LossyPath(1)
    clock, _, steadier = steadied(path, 30)
    before = list(path.caps)
    path.descriptor.flow = lambda: None
    clock.advance(LOOK_S)
    path.descriptor.flow = lambda: path.flows
    run(clock, path, 10, better=5)
    assert path.caps == before
    paths = steadier._paths
    steadier.stop()
    Steadier(clock, paths, lambda: True).start()
    run(clock, path, 10, better=5)
    assert path.caps == before


def test_each_connection_gets_back_what_it_had_itself() -> None:
    """Of two ways another one may lead when what was tried is undone."""
    clock: Any = Clock()
    paths = PathSet(clock.seconds, lambda event: None)
    first, second, third = (LossyPath(number) for number in (1, 2, 3))
    second.descriptor.governor = "reno"
    third.descriptor.governor = BEARS_LOSS
    group: Any = [first, second]
    assert paths.tuning.bear_loss(group)
    assert not paths.tuning.bear_loss(cast(Any, [third]))
    paths.tuning.undo(cast(Any, [second, third]))
    assert (first.changes, second.changes, third.changes) == ([BEARS_LOSS], [BEARS_LOSS, "reno"], [])
    paths.tuning.undo(group)
    assert (first.changes, second.changes) == ([BEARS_LOSS, "cubic"], [BEARS_LOSS, "reno"])


def test_what_paces_by_a_model_is_capped_and_nothing_else() -> None:
    path = LossyPath(1)
    steadied(path, 30, better=20)
    assert path.changes == [BEARS_LOSS]
    assert path.caps
    assert path.caps[-1] == pytest.approx(1.25 * 20 * ALONE, rel=0.01)
    other = LossyPath(1, has=False)
    steadied(other, 30)
    assert other.caps == []


def test_what_took_loss_for_a_full_line_begins_anew_once_and_without_a_cap() -> None:
    path = LossyPath(1)
    path.descriptor.governor = BEARS_LOSS
    steadied(path, 30, better=4)
    assert path.changes == []
    assert path.caps.count(ANEW) == 1
    assert path.caps[-1] == pytest.approx(1.25 * 4 * ALONE)
    assert path.caps[path.caps.index(ANEW) + 1] == 0


@pytest.mark.parametrize(("governor", "further"), [(BEARS_LOSS, [1]), ("cubic", [])])
def test_what_a_model_holds_back_gets_a_second_connection_at_once(governor: str, further: list[int]) -> None:
    path = LossyPath(1)
    path.writable, path.loses, path.flows.shortest, path.descriptor.governor = False, 0, 0.005, governor
    clock: Any = Clock()
    paths = PathSet(clock.seconds, lambda event: None)
    paths.add(cast(PeerPath, path))
    asked: list[int] = []

    async def none_stands(beside: PeerPath) -> None:
        asked.append(beside.facts.number)

    widener = Widener(clock, paths, none_stands, lambda path: False)
    widener.start()
    run(clock, path, 1.0)
    widener.stop()
    assert asked == further


def test_where_the_system_does_not_have_it_all_stays() -> None:
    path = LossyPath(1, has=False)
    steadied(path, 30)
    assert path.descriptor.governor == "cubic"


def test_a_path_that_takes_more_than_there_is_stays_as_it_is() -> None:
    path = LossyPath(1)
    path.flows.waiting = 0
    steadied(path, 30)
    assert path.changes == []


def test_nothing_is_looked_at_while_nothing_is_carried_and_the_pause_does_not_count() -> None:
    path = LossyPath(1)
    path.descriptor.governor = "reno"
    path.loses = 0.3
    clock, carries, steadier = steadied(path, 0.4)
    carries[0] = False
    clock.advance(LOOK_S)
    assert clock.getDelayedCalls() == []
    clock.advance(3600)
    carries[0] = True
    steadier.start()
    steadier.start()
    assert len(clock.getDelayedCalls()) == 1
    run(clock, path, 0.4)
    assert path.changes == [], "an hour without data is no slow connection"
    run(clock, path, 10)
    assert path.changes == [BEARS_LOSS]
    steadier.stop()
    assert clock.getDelayedCalls() == []
