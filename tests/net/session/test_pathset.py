"""The paths of a session: what they carry under back pressure decides which one is used, and is told."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from p2pxfer.core.codec import Message
from p2pxfer.core.session.pathchoice import CLOSED, FAILED, OVER, STOPPED
from p2pxfer.core.session.upgrades import PAUSES_S, STEADY_S
from p2pxfer.core.session.wire import Problem
from p2pxfer.core.words.eventtext import describe
from p2pxfer.errors import ChunkRefused, P2pxferError, PeerFailed, PeerStopped, ProtocolBreach, Unreachable
from p2pxfer.net.connection.streams import Closed
from p2pxfer.net.session.path import PathFacts, PeerPath
from p2pxfer.net.session.pathset import LEAVING_S, PathSet
from p2pxfer.status import Event, Path, PathKind


class FakePath:
    """A path that drains at a rate of its own."""

    rtt = 0.02
    began = 0.0

    def send(self, message: Message) -> None:
        self.said.append(message)

    def close(self) -> None:
        self.said.append("close")

    def __init__(self, number: int, kind: PathKind, rate: float) -> None:
        self.facts = PathFacts(number, kind, "", "")
        self.writable = True
        self.rate = rate
        self.said: list[Message | str] = []


def carry(clock: Clock, paths: PathSet, seconds: float, size: int) -> None:
    """Fill the first path again and again."""
    end = clock.seconds() + seconds
    while clock.seconds() < end:
        path: Any = paths.ordered()[0]
        path.writable = False
        paths.carried(path, size)
        clock.advance(size / path.rate)
        path.writable = True
        paths.room(path)


def test_the_data_goes_back_to_the_relay_when_the_direct_path_delivers_less() -> None:
    clock = Clock()
    told: list[Event] = []
    paths = PathSet(clock.seconds, told.append)
    relay: Any = FakePath(1, "relay", 10e6)
    direct: Any = FakePath(2, "punched", 1e6)
    paths.add(relay)
    carry(clock, paths, 3, 500_000)
    paths.add(direct)
    carry(clock, paths, 10, 500_000)
    assert paths.ordered() == [relay, direct]
    assert [event.path for event in told if isinstance(event, Path) and event.state == "active"] == [
        "relay",
        "punched",
        "relay",
    ]
    paths.remove(relay, "lost")
    assert paths.ordered() == [direct]


def test_a_receiver_that_only_reads_keeps_the_order_of_kinds() -> None:
    clock = Clock()
    paths = PathSet(clock.seconds, lambda event: None)
    relay: Any = FakePath(1, "relay", 1)
    direct: Any = FakePath(2, "punched", 1)
    local: Any = FakePath(3, "lan", 1)
    for path in (relay, direct, local):
        paths.add(path)
        for _ in range(50):
            paths.carried(relay, 1_000_000)
            clock.advance(0.1)
    assert paths.ordered() == [local, direct, relay]


def test_ends_that_send_on_different_paths_do_not_report_each_piece() -> None:
    told: list[Event] = []
    paths = PathSet(Clock().seconds, told.append)
    relay: Any = FakePath(1, "relay", 1)
    direct: Any = FakePath(2, "punched", 1)
    paths.add(relay)
    paths.add(direct)
    told.clear()

    def both() -> list[str]:
        for _ in range(50):
            paths.carried(direct, 1000, outward=False)
            paths.carried(relay, 1000)
        return [event.path for event in told if isinstance(event, Path) and event.state == "active"]

    assert both() == ["punched", "relay"]
    assert paths.active_kind == "relay"
    # Whoever has sent nothing since hears what the other end chose.
    paths.remove(relay, "lost")
    paths.carried(direct, 1000, outward=False)
    assert paths.active_kind == "punched"
    assert paths.bytes_by_path == {"relay": 50_000, "punched": 51_000}


def test_the_time_of_a_path_is_that_from_which_it_could_carry() -> None:
    """The first byte may come long after: in a pipe or a chat it does."""
    clock, told = Clock(), list[Event]()
    paths = PathSet(clock.seconds, told.append)
    relay: Any = FakePath(1, "relay", 1)
    direct: Any = FakePath(2, "punched", 1)

    def after(path: Any, seconds: float) -> float:
        clock.advance(seconds)
        told.clear()
        paths.carried(path, 10)
        return next(event.after_ms for event in told if isinstance(event, Path) and event.state == "active")

    clock.advance(5)
    paths.introduced()
    clock.advance(0.25)
    paths.add(relay)
    assert after(relay, 8) == 250.0
    clock.advance(1)
    paths.add(direct)
    assert after(direct, 20) == 9250.0
    clock.advance(1)
    paths.remove(direct, "lost")
    assert after(relay, 60) == 30_250.0, "the one that it follows was lost then"
    clock.advance(1)
    paths.introduced()  # another session, over what stands
    paths.remove(direct, "lost")
    paths.add(direct)
    assert after(direct, 2) == 0.0


def test_a_path_that_carries_both_ways_is_told_of_once() -> None:
    """Whichever end says something first; and again when it has been lost."""
    for ways in ((False, True, False), (True, False, True)):
        told: list[Event] = []
        paths = PathSet(Clock().seconds, told.append)
        path: Any = FakePath(1, "lan", 1)
        paths.add(path)
        for outward in ways:
            paths.carried(path, 10, outward=outward)
        assert [event.state for event in told if isinstance(event, Path)] == ["up", "active"]
        paths.remove(path, "lost")
        paths.add(path)
        for outward in ways:
            paths.carried(path, 10, outward=outward)
        assert [event.state for event in told if isinstance(event, Path)] == ["up", "active", "down", "up", "active"]
        assert paths.bytes_by_path == {"lan": 60}


def test_paths_that_carry_in_turn_are_not_reported_each_time() -> None:
    clock, told = Clock(), list[Event]()
    paths = PathSet(clock.seconds, told.append)
    kinds: list[PathKind] = ["relay", "punched", "punched"]
    for number, kind in enumerate(kinds, 1):
        path: Any = FakePath(number, kind, 1)
        paths.add(path)

    def carry(*numbers: int) -> list[int]:
        told.clear()
        for number in numbers:
            path = paths.get(number)
            assert path is not None
            paths.carried(path, 1000)
        return [event.path == "relay" for event in told if isinstance(event, Path) and event.state == "active"]

    assert carry(1, 2, 1, 3, 2, 1, 3) == [True, False]
    clock.advance(1.0)
    assert carry(1, 1) == [True], "nothing else has carried for a while"
    gone = paths.get(1)
    assert gone is not None
    paths.remove(gone, "lost")
    assert carry(3, 2, 3) == [False]


def test_a_path_that_is_to_go_carries_nothing_more_unless_the_others_go_first() -> None:
    clock, told = Clock(), list[Any]()
    paths = PathSet(clock.seconds, told.append)
    ones: list[Any] = [FakePath(number, "punched", 1) for number in (1, 2, 3)]
    for path in ones:
        path.facts = PathFacts(path.facts.number, "punched", "", "", 0 if path is ones[0] else 1)
        paths.add(path)

    def carriers() -> set[int]:
        return {path.facts.number for path in paths.carriers(lambda number: True)}

    assert carriers() == {path.facts.number for path in paths.leaders} == {1, 2, 3}
    for number in (0, 1, 2, 1, 0):
        clock.advance(2.0)
        paths.carried(ones[number], 1000)
    assert [event.state for event in told] == ["up"] * 3 + ["active"]
    paths.retire(2)
    paths.retire(3)
    assert carriers() == {path.facts.number for path in paths.leaders} == {1}
    paths.remove(ones[2], "closed")
    assert [path.facts.number for path in paths.retired] == [2]
    paths.remove(ones[0], "lost")
    assert carriers() == {2}
    assert paths.retired == []


def test_a_farewell_goes_over_every_path_and_then_it_is_closed() -> None:
    paths = PathSet(Clock().seconds, lambda event: None)
    both: list[Any] = [FakePath(1, "relay", 1e6), FakePath(2, "punched", 1e6)]
    for path in both:
        paths.add(path)
    paths.leave(PeerStopped("the sender was stopped"))
    farewell = Problem(word="E_STOPPED", message="the sender was stopped")
    assert [path.said for path in both] == [[farewell, "close"]] * 2


def test_what_goes_with_a_farewell_is_told_as_that_and_is_no_news_to_people() -> None:
    clock = Clock()
    told: list[Path] = []
    paths = PathSet(clock.seconds, lambda event: told.append(event) if isinstance(event, Path) else None)
    first, second, third, back = (FakePath(number, "relay", 1e6) for number in range(1, 5))
    everything: list[Any] = [first, second, third]
    for path in everything:
        paths.add(path)
    del told[:]
    assert paths.lost(everything[0], PeerStopped("the peer reports: stopped"))
    assert paths.lost(everything[1], Unreachable("reset"))
    clock.advance(LEAVING_S)
    assert paths.lost(everything[2], Unreachable("reset"))
    assert [event.why for event in told] == [STOPPED, STOPPED, "reset"]
    assert [bool(describe(event)) for event in told] == [False, False, True]
    another: Any = back
    paths.add(another)
    assert paths.lost(another, Unreachable("reset again"))
    assert told[-1].why == "reset again"


def test_by_what_the_peer_ended_is_told_once_and_the_rest_goes_with_that() -> None:
    told: list[Path] = []
    paths = PathSet(Clock().seconds, lambda event: told.append(event) if isinstance(event, Path) else None)
    everything: list[Any] = [FakePath(number, "relay", 1e6) for number in range(1, 4)]
    for path in everything:
        paths.add(path)
    del told[:]
    error = PeerFailed("a.bin changed while it was being sent")
    for path, why in zip(everything, [error, error, Unreachable("reset")], strict=True):
        paths.lost(path, why)
    assert [event.why for event in told] == [f"{FAILED}: {error.why}", FAILED, FAILED]
    assert [bool(describe(event)) for event in told] == [True, False, False]


def test_by_what_the_peer_ended_is_not_told_again_of_a_path_that_came_up_meanwhile() -> None:
    told: list[Path] = []
    clock = Clock()
    paths = PathSet(clock.seconds, lambda event: told.append(event) if isinstance(event, Path) else None)
    for number, pause in enumerate((0.0, 0.1, LEAVING_S), 1):
        clock.advance(pause)
        path: Any = FakePath(number, "relay", 1e6)
        paths.add(path)
        paths.lost(path, PeerFailed("its disk failed"))
    why = f"{FAILED}: its disk failed"
    assert [event.why for event in told if event.state == "down"] == [why, FAILED, why]


def test_a_path_on_which_the_peer_said_that_it_is_done_is_none_that_was_lost() -> None:
    told: list[Path] = []
    paths = PathSet(Clock().seconds, lambda event: told.append(event) if isinstance(event, Path) else None)
    both: list[Any] = [FakePath(number, "relay", 1e6) for number in (1, 2)]
    for path in both:
        paths.add(path)
    paths.said_bye(both[0])
    for path in both:
        paths.lost(path, Unreachable("reset"))
    assert [event.why for event in told[-2:]] == [OVER, "reset"]


@pytest.mark.parametrize("error", [ChunkRefused("chunk 7 is another one"), ProtocolBreach("out of turn")])
def test_a_farewell_does_not_hide_what_was_found_here(error: P2pxferError) -> None:
    told: list[Path] = []
    paths = PathSet(Clock().seconds, lambda event: told.append(event) if isinstance(event, Path) else None)
    both: list[Any] = [FakePath(number, "relay", 1e6) for number in (1, 2)]
    for path in both:
        paths.add(path)
    paths.lost(both[0], PeerStopped("the peer reports: stopped"))
    paths.lost(both[1], error)
    assert told[-1].why == error.message


def test_the_peer_has_left_until_it_is_back_or_if_another_path_outlives_its_farewell() -> None:
    clock = Clock()
    paths = PathSet(clock.seconds, lambda event: None)
    made: list[Any] = [FakePath(number, "relay", 1e6) for number in range(1, 5)]
    paths.add(made[0])
    paths.lost(made[0], PeerStopped("the peer reports: stopped"))
    clock.advance(100 * LEAVING_S)
    left = [paths.peer_left]  # there was no path beside it
    for path in made[1:3]:
        paths.add(path)
    left.append(paths.peer_left)
    paths.lost(made[1], PeerStopped("the peer reports: stopped"))
    left.append(paths.peer_left)
    clock.advance(LEAVING_S)
    left.append(paths.peer_left)
    paths.lost(made[2], Unreachable("silent"))
    left.append(paths.peer_left)
    assert left == [True, False, True, False, False]


def test_a_path_that_the_other_end_closed_is_lost_only_if_it_was_the_last_one() -> None:
    told: list[Path] = []
    paths = PathSet(Clock().seconds, lambda event: told.append(event) if isinstance(event, Path) else None)
    both: list[Any] = [FakePath(number, "relay", 1e6) for number in (1, 2)]
    for path in both:
        paths.add(path)
    del told[:]
    for path in both:
        paths.lost(path, Closed("the connection is gone: it was closed"))
    assert [event.why for event in told] == [CLOSED, "the connection is gone: it was closed"]
    assert [describe(event) for event in told] == ["", "path lost: relay (the connection is gone: it was closed)"]


def test_when_the_last_direct_path_has_died_another_one_is_due_soon() -> None:
    clock = Clock()
    paths = PathSet(clock.seconds, lambda event: None)
    kinds: list[PathKind] = ["relay", "punched", "lan"]
    relay, *direct = made = [cast(PeerPath, FakePath(number, kind, 1e6)) for number, kind in enumerate(kinds)]
    for path in made:
        paths.add(path)
    paths.upgrades.tried(clock.seconds())
    later = paths.upgrades.due
    clock.advance(STEADY_S + 1)
    paths.remove(direct[0], "lost")
    assert paths.upgrades.due == later
    paths.remove(direct[1], "lost")
    assert paths.upgrades.due == clock.seconds() + PAUSES_S[0]
    clock.advance(100)
    paths.remove(relay, "lost")
    assert paths.upgrades.due < clock.seconds()
