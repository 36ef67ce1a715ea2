"""Which meetings of a job may still bring a path."""

from __future__ import annotations

from typing import Any

from p2pxfer.net.session.meetings import MAX_PATHLESS, Meetings


class FakeMeeting:
    """One that began at a time, and what was done with it."""

    def __init__(self, began: float = 0.0) -> None:
        self.started = began
        self.paths: list[object] = []
        self.done: list[str] = []

    def start(self) -> None:
        self.done.append("start")

    def close(self) -> None:
        self.done.append("close")


def begun(count: int) -> tuple[Meetings, list[Any]]:
    """So many meetings, each begun a second after the one before."""
    meetings, made = Meetings(), [FakeMeeting(began=float(second)) for second in range(count)]
    for one in made:
        each: Any = one
        meetings.begin(each)
    return meetings, list(made)


def test_when_another_one_begins_only_the_youngest_without_a_path_are_still_waited_for() -> None:
    meetings, made = begun(MAX_PATHLESS + 1)
    assert list(meetings) == made
    another: Any = FakeMeeting(began=9.0)
    meetings.begin(another)
    assert list(meetings) == [*made[1:], another]
    assert [one.done for one in [*made, another]] == [["start", "close"], ["start"], ["start"], ["start"]]


def test_one_with_a_path_makes_no_room_for_others() -> None:
    meetings, made = begun(MAX_PATHLESS + 1)
    made[0].paths.append(object())
    another: Any = FakeMeeting(began=9.0)
    meetings.begin(another)
    assert list(meetings) == [*made, another]


def test_a_path_ends_the_meetings_before_it_that_have_none() -> None:
    """One that began later may bring a better path."""
    meetings, made = begun(3)
    path: Any = object()
    made[1].paths.append(path)
    meetings.won(made[1])
    assert list(meetings) == made[1:]
    assert made[0].done == ["start", "close"]
    assert meetings.of(path) is made[1]


def test_when_the_job_is_over_all_are_ended_but_those_that_ended_by_themselves() -> None:
    meetings, made = begun(3)
    made[2].paths.append(object())
    meetings.failed(made[0])
    assert made[0] not in meetings
    meetings.close()
    assert [one.done[1:] for one in made] == [[], ["close"], ["close"]]
