"""The queue of outgoing transfers, against every order of events that could be thought of."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.transfer.queue import (
    LONGEST_S,
    MAX_ASKING,
    MAX_RUNNING,
    RUNNING,
    SEEK_S,
    TABLE,
    Input,
    Queue,
    Start,
    State,
    Stop,
)

BOB, CAROL = b"bob", b"carol"
ENDS = [Input.DONE, Input.BROKE, Input.REFUSED]


def make(most: int = MAX_RUNNING, seed: int = 1) -> Queue:
    return Queue(random.Random(seed).random, most)


def starts(queue: Queue, now: float = 0.0) -> list[str]:
    todo = queue.act(now)
    assert all(isinstance(each, Start) for each in todo)
    return [each.entry for each in todo]


# -- the table ----------------------------------------------------------------------------------------------------


def test_a_person_may_say_anything_at_any_time_and_every_run_may_end_in_every_way() -> None:
    for state, row in TABLE.items():
        assert {Input.PAUSE, Input.RESUME, Input.CANCEL} <= row.keys(), state
        assert (state in RUNNING) == all(end in row for end in ENDS), state
        assert row[Input.CANCEL] in (State.GONE, State.LEAVING)
    assert set(TABLE) == set(State) - {State.GONE}


def test_only_done_and_cancelled_entries_go() -> None:
    gone = {(state, what) for state, row in TABLE.items() for what, after in row.items() if after is State.GONE}
    assert {what for state, what in gone if state is not State.LEAVING} == {Input.DONE, Input.CANCEL}


def test_what_cannot_happen_is_refused_and_changes_nothing() -> None:
    queue = make()
    queue.add("a", BOB, 0, 1, 0.0)
    with pytest.raises(KeyError):
        queue.say("a", Input.DONE, 0.0)
    assert queue.state("a") is State.WAITING
    with pytest.raises(KeyError):
        queue.say("nobody", Input.PAUSE, 0.0)


# -- order --------------------------------------------------------------------------------------------------------


def test_one_for_each_peer_by_priority_and_then_by_age() -> None:
    queue = make()
    queue.add("young", BOB, 0, 2, 0.0)
    queue.add("old", BOB, 0, 1, 0.0)
    queue.add("urgent", BOB, 5, 3, 0.0)
    queue.add("other", CAROL, -5, 4, 0.0)
    assert starts(queue) == ["urgent", "other"]
    queue.say("urgent", Input.DONE, 1.0)
    assert starts(queue, 1.0) == ["old"]
    queue.say("old", Input.DONE, 2.0)
    assert starts(queue, 2.0) == ["young"]


def test_no_more_than_the_limit_and_the_urgent_ones_first() -> None:
    queue = make(most=2)
    for number in range(5):
        queue.add(str(number), bytes([number]), number, 0, 0.0)
    assert starts(queue) == ["4", "3"]
    for each in "43":
        queue.say(each, Input.MET, 1.0)
        queue.say(each, Input.ACCEPTED, 1.0)
    assert queue.act(1000.0) == []
    queue.say("4", Input.DONE, 1000.0)
    assert starts(queue, 1000.0) == ["2"]


def test_who_waits_for_the_peers_user_keeps_no_place_from_others_that_could_go() -> None:
    queue = make(most=2)
    for number in range(2 * MAX_ASKING):
        queue.add(str(number), bytes([number]), 0, number, 0.0)
    begun = starts(queue)
    assert begun == ["0", "1"]
    for number in range(MAX_ASKING):
        queue.say(str(number), Input.MET, float(number))
        begun += starts(queue, float(number))
    assert begun == [str(number) for number in range(MAX_ASKING + 2)]
    # Of those that wait so there are not more than that for nothing.
    for number in (MAX_ASKING, MAX_ASKING + 1):
        queue.say(str(number), Input.MET, 10.0)
        assert queue.act(10.0) == []
    # Who is taken goes on, whatever places there are, and ends before anybody else begins.
    queue.say("0", Input.ACCEPTED, 2000.0)
    queue.say("1", Input.ACCEPTED, 2000.0)
    assert {queue.state("0"), queue.state("1")} == {State.MOVING}
    assert queue.act(3000.0) == []
    queue.say("0", Input.DONE, 3000.0)
    assert starts(queue, 3000.0) == [str(MAX_ASKING + 2)]


def test_who_waits_for_the_peers_user_is_the_only_one_to_this_peer_and_obeys() -> None:
    queue = make()
    queue.add("a", BOB, 0, 1, 0.0)
    queue.add("b", BOB, 9, 2, 0.0)
    queue.set_priority("a", 10)
    assert starts(queue) == ["a"]
    queue.say("a", Input.MET, 1.0)
    queue.set_priority("b", 11)
    assert queue.act(1000.0) == []
    queue.say("a", Input.PAUSE, 1000.0)
    assert queue.act(1000.0) == [Stop("a")]
    queue.say("a", Input.ACCEPTED, 1001.0)  # too late
    assert queue.say("a", Input.BROKE, 1001.0) is State.PAUSED
    assert starts(queue, 1001.0) == ["b"]


def test_one_that_is_made_urgent_takes_the_place_of_one_that_has_found_nobody() -> None:
    queue = make()
    queue.add("first", BOB, 0, 1, 0.0)
    queue.add("second", BOB, 0, 2, 0.0)
    assert starts(queue) == ["first"]
    queue.set_priority("second", 1)
    assert queue.act(1.0) == [Stop("first")]
    assert queue.act(1.0) == []  # which was said
    queue.say("first", Input.BROKE, 2.0)
    assert starts(queue, 2.0) == ["second"]
    queue.say("second", Input.MET, 3.0)
    queue.set_priority("first", 2)
    assert queue.act(3.0) == []  # what moves is not stopped
    queue.say("second", Input.DONE, 4.0)
    assert starts(queue, 4.0) == ["first"]


# -- how it ends --------------------------------------------------------------------------------------------------


def test_pauses_grow_while_nothing_moves_and_never_end_it() -> None:
    queue = make()
    queue.add("a", BOB, 0, 1, 0.0)
    now, pauses = 0.0, []
    for _ in range(100):
        assert starts(queue, now) == ["a"]
        queue.say("a", Input.BROKE, now)
        assert queue.act(now) == []
        wake = queue.wake_at(now)
        assert wake is not None
        pauses.append(wake - now)
        now = wake
    assert max(pauses[:3]) < 2
    assert LONGEST_S / 3 < sum(pauses[50:]) / 50 <= LONGEST_S
    assert starts(queue, now) == ["a"]
    queue.moved("a")
    queue.say("a", Input.BROKE, now)
    wake = queue.wake_at(now)
    assert wake is not None
    assert wake - now < 1


def test_a_resume_ends_a_pause_and_a_failure() -> None:
    queue = make()
    queue.add("a", BOB, 0, 1, 0.0)
    queue.act(0.0)
    queue.say("a", Input.BROKE, 0.0)
    queue.say("a", Input.RESUME, 0.0)
    assert starts(queue) == ["a"]
    queue.say("a", Input.REFUSED, 1.0)
    assert queue.act(10_000.0) == []
    assert queue.wake_at(10_000.0) is None
    queue.say("a", Input.RESUME, 10_000.0)
    assert starts(queue, 10_000.0) == ["a"]


def test_what_a_person_says_of_a_run_is_kept_when_it_ends() -> None:
    for what, after in ((Input.PAUSE, State.PAUSED), (Input.CANCEL, State.GONE)):
        queue = make()
        queue.add("a", BOB, 0, 1, 0.0)
        queue.add("b", BOB, 0, 2, 0.0)
        queue.act(0.0)
        queue.say("a", what, 0.0)
        assert queue.act(0.0) == [Stop("a")]  # and the next one waits for its end
        assert queue.say("a", Input.BROKE, 1.0) is after
        assert starts(queue, 1.0) == ["b"]


def test_paused_and_resumed_while_its_run_ends() -> None:
    queue = make()
    queue.add("a", BOB, 0, 1, 0.0)
    queue.act(0.0)
    queue.say("a", Input.PAUSE, 0.0)
    queue.act(0.0)
    queue.say("a", Input.RESUME, 0.0)
    assert queue.act(0.0) == []
    queue.say("a", Input.BROKE, 1.0)
    assert starts(queue, 1.0) == ["a"]
    queue.say("a", Input.PAUSE, 2.0)
    assert queue.act(2.0) == [Stop("a")]  # a second stop is said of a second run


# -- everybody gets a turn -----------------------------------------------------------------------------------------


def test_many_absent_peers_keep_nobody_from_one_that_is_there() -> None:
    queue = make()
    for number in range(40):
        queue.add(str(number), number.to_bytes(2, "big"), 9, number, 0.0)
    queue.add("last", BOB, 0, 100, 0.0)
    now, started = 0.0, [""]
    while "last" not in started:
        assert now < 41 / MAX_RUNNING * SEEK_S + 2 * SEEK_S
        for todo in queue.act(now):
            if isinstance(todo, Start):
                started.append(todo.entry)
            else:
                queue.say(todo.entry, Input.BROKE, now)
        now = queue.wake_at(now) or now
    assert started[1 : MAX_RUNNING + 1] == [str(number) for number in range(MAX_RUNNING)]


def test_who_seeks_alone_is_left_alone() -> None:
    queue = make()
    for number in range(MAX_RUNNING):
        queue.add(str(number), bytes([number]), 0, number, 0.0)
    assert len(starts(queue)) == MAX_RUNNING
    assert queue.wake_at(0.0) is None
    assert queue.act(1e6) == []


# -- any order of events -------------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["add", "pass", "priority", *(what for what in Input if what.name not in ("START", "YIELD"))]),
        st.integers(0, 11),
        st.integers(-2, 2),
    ),
    max_size=120,
)


class World:
    """Runs as a runner has them, of a queue in which anything happens."""

    def __init__(self, most: int) -> None:
        self.queue = make(most)
        self.most = most
        self.now = 0.0
        self.peers: dict[str, bytes] = {}
        self.running: set[str] = set()
        self.told: set[str] = set()
        self.unwanted: set[str] = set()
        """Paused or cancelled by a person who has said nothing else since."""

    def act(self) -> None:
        for todo in self.queue.act(self.now):
            if isinstance(todo, Start):
                assert todo.entry not in self.running | self.unwanted
                assert self.peers[todo.entry] not in {self.peers[each] for each in self.running}
                self.running.add(todo.entry)
                assert len(self.running) <= self.most + MAX_ASKING
            else:
                assert todo.entry in self.running
                assert todo.entry not in self.told
                self.told.add(todo.entry)
        assert {name for name in self.queue.names() if self.queue.state(name) in RUNNING} == self.running
        assert self.running & self.unwanted <= self.told

    def end(self, name: str, how: Input) -> None:
        self.running.discard(name)
        self.told.discard(name)
        before = self.queue.state(name)
        after = self.queue.say(name, how, self.now)
        assert (after is State.GONE) == (how is Input.DONE or before is State.LEAVING)

    def happen(self, what: Any, which: int, number: int) -> None:
        names = self.queue.names()
        name = names[which % len(names)] if names else None
        if what == "pass":
            self.now += which * which
        elif what == "add":
            fresh = str(len(self.peers))
            self.peers[fresh] = bytes([which % 4])
            self.queue.add(fresh, self.peers[fresh], number, len(self.peers), self.now)
        elif name is None:
            return
        elif what == "priority":
            self.queue.set_priority(name, number)
        elif what in (Input.PAUSE, Input.RESUME, Input.CANCEL):
            if self.queue.state(name) is not State.LEAVING:
                (self.unwanted.discard if what is Input.RESUME else self.unwanted.add)(name)
            self.queue.say(name, what, self.now)
        elif name in self.running and what is Input.MET:
            self.queue.say(name, what, self.now)
        elif name in self.running and what is Input.ACCEPTED:
            if self.queue.state(name) is not State.SEEKING:
                self.queue.say(name, what, self.now)
        elif name in self.running:
            self.end(name, what)


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.integers(1, 3))
def test_any_order_of_events(events: list[tuple[Any, int, int]], most: int) -> None:
    """Never two to a peer nor too many, never what is paused; and whatever has happened, all of it can still end."""
    world = World(most)
    for event in events:
        world.happen(*event)
        world.act()
    for name in world.queue.names():
        world.queue.say(name, Input.RESUME, world.now)
    world.unwanted.clear()
    for _ in range(4 * len(world.peers) + 4):
        world.act()
        for name in list(world.running):
            world.end(name, Input.BROKE if name in world.told else Input.DONE)
        world.now = world.queue.wake_at(world.now) or world.now
    assert world.queue.names() == []


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-2, 2)), min_size=1, max_size=25),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_nobody_starves(entries: list[tuple[int, int]], most: int, luck: random.Random) -> None:
    """Absent peers, short failures and an endless stream of urgent ones: everybody's turn comes."""
    queue = Queue(luck.random, most)
    for number, (peer, priority) in enumerate(entries):
        queue.add(str(number), bytes([peer]), priority, number, 0.0)
    heads: dict[int, tuple[int, int]] = {}
    for number, (peer, priority) in enumerate(entries):
        heads[peer] = min(heads.get(peer, (9, 0)), (-priority, number))
    wanted = {str(number) for _, number in heads.values()}
    now, fresh = 0.0, 0
    for _ in range(600):
        for todo in queue.act(now):
            wanted.discard(todo.entry if isinstance(todo, Start) else "")
            if isinstance(todo, Stop) or luck.random() < 0.3:
                queue.say(todo.entry, Input.BROKE, now)
        if not wanted:
            return
        if luck.random() < 0.05:
            fresh += 1
            queue.add(f"urgent {fresh}", b"urgent", 9, fresh, now)
        wake = queue.wake_at(now)
        now = wake if wake is not None else now + 1
    raise AssertionError(f"{wanted} never had a turn")
