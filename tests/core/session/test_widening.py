"""When another connection is opened, against models of lines that nobody but the model knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.session.lineorders import Close, Open, Order, Steady
from p2pxfer.core.session.lines import LEAST_TRIP_S, WARM, Line
from p2pxfer.core.session.widening import MAX_LINES, REST_S, Widening

MB = 1_000_000
LOOK_S = 0.2
SEGMENT = 1448


@dataclass
class Model:
    """Connections through one line: each delivers what its window or loss allows, all of them no more than the line.

    ``each``: bytes a second that one of them can; ``line``: bytes a second of the line.  Packets queue when the line
    is full.  ``steady_gain``: how much more one delivers with the other congestion control, 0 where there is none.
    """

    each: float
    line: float
    trip: float = 0.08
    loss: float = 0.0
    steady_gain: float = 0.0
    queues: bool = True
    full: bool = True
    opens: bool = True
    now: float = 100.0
    up: dict[int, tuple[float, float]] = field(default_factory=lambda: {1: (0.0, 0.0)})
    made: int = 1
    steady: bool = False
    dead: int = 0
    unused: int = 0
    """A connection that is given no data, so it is never full; only signs of life go over it."""
    orders: list[tuple[float, object]] = field(default_factory=list)
    most: int = 1

    def __post_init__(self) -> None:
        self.rule = Widening(self.now)

    def rates(self) -> dict[int, float]:
        each = self.each * (self.steady_gain if self.steady else 1.0)
        share = min(1.0, self.line / (each * len(self.up)))
        idle = {self.dead: 0.0, self.unused: 10.0}
        return {number: idle.get(number, each * share) for number in self.up}

    @property
    def total(self) -> float:
        return sum(self.rates().values())

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / LOOK_S)):
            self.now += LOOK_S
            queued = self.total > 0.999 * self.line and self.queues and self.now > 101
            trip = self.trip * (2 if queued else 1) + (0.01 if queued else 0)
            for number, rate in self.rates().items():
                acked, repeated = self.up[number]
                went = rate * LOOK_S if self.full or number == self.unused else 0.0
                self.up[number] = acked + went, repeated + went / SEGMENT * self.loss
            lines = {
                number: Line(WARM + int(acked), int(acked / SEGMENT), int(repeated), trip, full)
                for number, (acked, repeated) in self.up.items()
                for full in [self.full and number != self.unused]
            }
            self.obey(self.rule.look(lines, self.now))
            self.most = max(self.most, len(self.up))

    def obey(self, order: object) -> None:
        if order is not None:
            self.orders.append((self.now, order))
        match order:
            case Open() if self.opens:
                self.made += 1
                self.up[self.made] = (0.0, 0.0)
                self.rule.opened(self.made, self.now)
            case Open():
                self.rule.opened(None, self.now)
            case Close(number):
                del self.up[number]
            case Steady(on):
                done = self.steady_gain > 0
                self.steady = on and done
                if on:
                    self.obey(self.rule.steadied(done, self.now))


def test_connections_with_small_windows_are_opened_until_the_line_is_full() -> None:
    model = Model(each=4 * MB, line=14 * MB)
    model.run(30)
    assert model.total == 14 * MB
    assert len(model.up) == 4


def test_there_are_never_more_than_so_many() -> None:
    model = Model(each=MB, line=1000 * MB)
    model.run(300)
    assert model.most <= MAX_LINES
    assert len(model.up) >= 6, "the seventh one adds less than it has to"


def test_a_full_line_is_left_alone() -> None:
    model = Model(each=30 * MB, line=20 * MB)
    model.run(120)
    assert model.orders == []


def test_a_line_that_is_full_without_a_queue_costs_a_trial_now_and_then() -> None:
    model = Model(each=30 * MB, line=20 * MB, queues=False)
    model.run(25)
    assert [type(order) for _, order in model.orders] == [Open, Close]
    assert len(model.up) == 1
    model.run(600)
    times = [at for at, order in model.orders if isinstance(order, Open)]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[0] > REST_S
    assert all(later > 1.5 * earlier for earlier, later in pairwise(pauses))


@pytest.mark.parametrize("trip", [0.00005, 0.001, 0.9 * LEAST_TRIP_S])
def test_nothing_is_tried_at_a_short_round_trip(trip: float) -> None:
    model = Model(each=MB, line=100 * MB, trip=trip)
    model.run(60)
    assert model.orders == []


def test_nothing_is_tried_while_the_source_is_the_limit() -> None:
    model = Model(each=MB, line=100 * MB, full=False)
    model.run(60)
    assert model.orders == []


def test_against_loss_another_congestion_control_comes_first() -> None:
    model = Model(each=MB, line=20 * MB, loss=0.005, steady_gain=15)
    model.run(40)
    assert model.orders[0][1] == Steady(True)
    assert model.total == 20 * MB
    assert len(model.up) == 2


@pytest.mark.parametrize("each", [0.1, 0.2, 0.3])
def test_loss_is_found_where_so_little_goes_that_most_windows_see_none(each: float) -> None:
    """Cubic gets a few hundred kilobytes a second of such a line; and no other connection comes about."""
    model = Model(each=each * MB, line=20 * MB, loss=0.005, steady_gain=50, opens=False)
    model.run(25)
    assert model.orders[0][1] == Steady(True)
    assert model.steady


def test_a_congestion_control_that_does_not_help_is_given_back_once() -> None:
    model = Model(each=MB, line=100 * MB, loss=0.005, steady_gain=1.0)
    model.run(40)
    assert [order for _, order in model.orders if isinstance(order, Steady)] == [Steady(True), Steady(False)]
    assert len(model.up) >= 6


def test_where_the_system_has_none_connections_must_do() -> None:
    model = Model(each=MB, line=100 * MB, loss=0.005)
    model.run(40)
    assert [order for _, order in model.orders if isinstance(order, Steady)] == [Steady(True)]
    assert len(model.up) >= 6


def test_where_none_comes_about_it_is_asked_for_seldom() -> None:
    model = Model(each=MB, line=100 * MB, opens=False)
    model.run(300)
    assert 2 <= len(model.orders) <= 5


def test_a_connection_that_dies_on_trial_is_not_closed_again() -> None:
    model = Model(each=4 * MB, line=4 * MB, queues=False)
    while not model.orders:
        model.run(LOOK_S)
    del model.up[2]
    model.run(1)
    assert [type(order) for _, order in model.orders] == [Open]
    model.run(20)
    assert [type(order) for _, order in model.orders] == [Open, Open, Close]
    assert list(model.up) == [1]


def test_while_a_connection_stands_still_the_other_ones_are_kept() -> None:
    """The first one is dead, which is not known yet: that the second one brought nothing is not its fault."""
    model = Model(each=4 * MB, line=100 * MB)
    while not model.orders:
        model.run(LOOK_S)
    model.dead = 1
    model.run(5)
    assert [type(order) for _, order in model.orders] == [Open]
    del model.up[1]
    model.run(10)
    assert 2 in model.up
    assert len(model.up) > 2


@pytest.mark.parametrize("why", ["dead", "unused"])
def test_a_new_connection_that_delivers_nothing_goes_again(why: str) -> None:
    model = Model(each=4 * MB, line=100 * MB)
    setattr(model, why, 2)
    model.run(25)
    assert [order for _, order in model.orders] == [Open(), Close(2)]
    model.run(300)
    assert len(model.up) > 2, "the next ones are used"


def test_a_new_connection_is_kept_while_none_delivers_anything() -> None:
    model = Model(each=4 * MB, line=100 * MB)
    while not model.orders:
        model.run(LOOK_S)
    model.each, model.full = 1e-6, False
    model.run(60)
    assert [order for _, order in model.orders] == [Open()]
    assert list(model.up) == [1, 2]


def test_a_connection_that_still_grows_is_waited_for() -> None:
    model = Model(each=0.2 * MB, line=100 * MB)
    for _ in range(60):
        model.each *= 1.07
        model.run(LOOK_S)
    assert model.orders == []


# -- what is seen at once ------------------------------------------------------------------------------------------


class Course:
    """Connections that deliver, lose and queue what the test says, one stretch after the other."""

    def __init__(self, trip: float = 0.08) -> None:
        self.now = 100.0
        self.rule = Widening(self.now)
        self.trip = trip
        self.shortest = trip
        self.shortest_later: float | None = None
        """What the kernel takes for it on all connections but the first, where that is something else."""
        self.modelled = False
        self.up: dict[int, tuple[float, float, float]] = {1: (WARM, 0.0, 0.0)}
        """Bytes acknowledged, segments sent and segments lost."""

    def run(self, *rates: float, seconds: float = LOOK_S, loss: float = 0.0, trip: float = 0.0) -> list[object]:
        """Each connection delivers its rate, bytes a second; returns what was ordered meanwhile."""
        orders: list[object] = []
        for _ in range(round(seconds / LOOK_S)):
            self.now += LOOK_S
            for (number, (acked, sent, lost)), rate in zip(list(self.up.items()), rates, strict=True):
                went = rate * LOOK_S
                self.up[number] = (acked + went, sent + went / SEGMENT, lost + went / SEGMENT * loss)
            lines = {
                number: Line(
                    int(acked), int(sent), int(lost), trip or self.trip, True, shortest, modelled=self.modelled
                )
                for number, (acked, sent, lost) in self.up.items()
                for later in [self.shortest if self.shortest_later is None else self.shortest_later]
                for shortest in [self.shortest if number == 1 else later]
            }
            order = self.rule.look(lines, self.now)
            if order is not None:
                orders.append(order)
        return orders

    def grows(self, last: float) -> None:
        """Slow start: the only connection delivers twice as much at each look, until it delivers ``last``."""
        rate = 0.1 * MB
        while rate < last:
            assert self.run(rate) == []
            rate *= 2

    def answer(self, done: bool = True) -> Order | None:
        """The other congestion control is there, or is not; returns what is ordered next."""
        return self.rule.steadied(done, self.now)

    def opens(self) -> None:
        """Another connection stands."""
        number = max(self.up) + 1
        self.up[number] = (WARM, 0.0, 0.0)
        self.rule.opened(number, self.now)


def lossy(shortest: float = 0.08) -> Course:
    """A long line that loses packets, with what bears loss just chosen and a second connection asked for; ``shortest``
    is what the kernel takes for its round trip."""
    course = Course()
    course.shortest = shortest
    course.grows(3 * MB)
    assert course.run(1.5 * MB, seconds=0.6, loss=0.005) == [Steady(True)]
    assert course.answer() == Open()
    return course


def test_plain_loss_is_answered_at_once_and_in_both_ways() -> None:
    """Slow start ended with the first packet that was lost; nobody waits for a window in which all has settled."""
    lossy()


def test_what_one_connection_may_not_have_is_not_asked_for() -> None:
    """That of channels, which take one."""
    course = Course()
    course.rule = Widening(course.now, most=1)
    course.grows(3 * MB)
    assert course.run(1.5 * MB, seconds=0.6, loss=0.005) == [Steady(True)]
    assert course.answer() is None
    assert course.run(1.6 * MB, seconds=3, loss=0.005) == [Steady(False)]


def test_what_bears_loss_stays_as_soon_as_it_delivers_twice_as_much() -> None:
    """Also if the second connection brings nothing then."""
    course = lossy()
    assert course.run(3.5 * MB, seconds=0.4, loss=0.005) == []
    assert course.run(8 * MB, seconds=0.4, loss=0.005) == []
    course.opens()
    assert course.run(8 * MB, 0.1 * MB, seconds=3, loss=0.005) == [Close(2)]
    del course.up[2]
    assert course.run(8 * MB, seconds=20, loss=0.005) == []
    assert course.rule.steady


@pytest.mark.parametrize(("trip", "undone"), [(0.08, [Steady(False)]), (0.13, [])])
def test_what_bears_loss_stays_for_what_the_connections_of_before_deliver(trip: float, undone: list[object]) -> None:
    """The second one, which has it too, doubles the sum; on a full line each has a part of what one had."""
    course = lossy()
    course.opens()
    orders = course.run(1.5 * MB, 1.5 * MB, seconds=2, loss=0.005, trip=trip)
    assert [order for order in orders if order != Open()] == undone


def test_a_second_connection_is_judged_by_what_the_first_one_delivers_meanwhile() -> None:
    """That one grew behind the order, and more than doubled the sum alone."""
    course = lossy()
    course.opens()
    orders = course.run(15 * MB, 0.4 * MB, seconds=3, loss=0.005)
    assert orders == [Close(2)]
    assert course.rule.steady


def test_where_neither_brings_anything_both_are_undone() -> None:
    course = lossy()
    course.opens()
    while course.run(1.4 * MB, 0.1 * MB, loss=0.005) != [Close(2)]:
        assert course.now < 110
    del course.up[2]
    assert course.run(1.5 * MB, seconds=20, loss=0.005) == [Steady(False)]


def test_what_bears_loss_is_judged_by_itself_behind_a_second_connection_that_delivers_nothing_at_all() -> None:
    course = lossy()
    course.opens()
    while course.run(2.5 * MB, 0, loss=0.005) != [Close(2)]:
        assert course.now < 110
    del course.up[2]
    assert Steady(False) not in course.run(2.5 * MB, seconds=20, loss=0.005)
    assert course.rule.steady


def test_where_no_connection_comes_about_what_bears_loss_is_judged_all_the_same() -> None:
    course = lossy()
    course.rule.opened(None, course.now)
    assert course.run(1.5 * MB, seconds=1.6, loss=0.005) == [Steady(False)]


def test_while_the_second_connection_grows_no_third_one_comes() -> None:
    course = lossy()
    assert course.run(8 * MB, seconds=0.4, loss=0.005) == []
    course.opens()
    rate = 0.5 * MB
    for _ in range(11):
        assert course.run(8 * MB, rate, loss=0.005) == []
        rate *= 1.3
    assert course.run(14 * MB, 11 * MB, seconds=3, loss=0.005, trip=0.12) == []
    assert course.rule.steady


@pytest.mark.parametrize("shortest", [0.001, 0.02, 0.04])
def test_where_syns_crossed_what_bears_loss_is_not_judged(shortest: float) -> None:
    course = lossy(shortest)
    course.rule.opened(None, course.now)
    assert course.run(0.5 * MB, seconds=20, loss=0.005) == []
    assert course.rule.steady, "the kernel forgets it after ten seconds"


def crossed(shortest: float = 0.005, *, modelled: bool = True) -> Course:
    """A long line without losses, whose first connection was made by crossing SYNs, in its third look."""
    course = Course()
    course.shortest, course.modelled = shortest, modelled
    assert course.run(0.5 * MB, seconds=2 * LOOK_S) == []
    return course


def test_where_crossed_syns_mislead_the_systems_own_model_the_second_connection_comes_at_once() -> None:
    """It goes on so for ten seconds, and whether packets get lost changes nothing: what bears that is in use."""
    course = crossed()
    assert course.run(0.5 * MB) == [Open()]
    course.opens()
    assert course.run(0.5 * MB, 20 * MB, seconds=5, trip=0.12) == [], "it stays, and the line is full"


@pytest.mark.parametrize(
    ("first", "later", "retired"),
    [
        pytest.param(0.5, 0.08, True, id="the first one is held back, the second one is good"),
        pytest.param(8.0, 0.08, False, id="the first one does well all the same"),
        pytest.param(0.5, 0.005, False, id="the second one is misled too"),
    ],
)
def test_a_first_connection_that_stays_misled_goes_once_the_second_one_is_good(
    first: float, later: float, retired: bool
) -> None:
    course = crossed()
    course.shortest_later = later
    assert course.run(0.5 * MB) == [Open()]
    course.opens()
    orders = course.run(first * MB, 12 * MB, seconds=1.6)
    assert orders == [Close(1)] if retired else Close(1) not in orders
    if retired:
        del course.up[1]
        assert course.run(12 * MB, seconds=0.4) == [], "the one that is left is measured anew, and nothing is hurried"


def test_without_a_model_a_misled_kernel_holds_nothing_back_and_the_first_connection_stays() -> None:
    course = Course()
    course.shortest, course.shortest_later = 0.005, 0.08
    course.grows(3 * MB)
    while not course.run(3 * MB):
        pass
    course.opens()
    assert Close(1) not in course.run(0.5 * MB, 12 * MB, seconds=3)


def test_one_that_does_not_come_about_is_not_asked_for_again_and_again() -> None:
    course = crossed()
    assert course.run(0.5 * MB) == [Open()]
    course.rule.opened(None, course.now)
    assert course.run(0.5 * MB, seconds=20) == []


def test_where_crossed_syns_mislead_no_model_nothing_is_hurried() -> None:
    assert crossed(modelled=False).run(0.5 * MB, seconds=0.8) == []
    assert crossed(shortest=0.08).run(0.5 * MB, seconds=0.8) == []


def test_while_packets_queue_it_does_not_come_either() -> None:
    """Then the line is full."""
    course = Course()
    course.shortest, course.modelled = 0.005, True
    assert course.run(0.5 * MB) == []
    assert course.run(0.5 * MB, seconds=1, trip=0.12) == []


def test_where_it_is_in_use_anyway_the_second_connection_comes_at_once() -> None:
    course = Course()
    course.grows(3 * MB)
    assert course.run(6 * MB, seconds=0.4, loss=0.005) == [Steady(True)]
    assert course.answer(False) == Open()


def test_one_loss_at_the_begin_that_left_the_connection_slow_is_answered_before_another_one_shows() -> None:
    """So little goes then that a packet gets lost each second or two only."""
    course = Course()
    course.up[1] = (0.0, 12.0, 1.0)
    rate = 0.15 * MB
    orders: list[object] = []
    while not orders:
        orders = course.run(rate)
        rate *= 1.05
        assert course.now < 101.5
    assert orders == [Steady(True)]
    assert course.answer() == Open()


def test_one_loss_and_growth_go_on() -> None:
    course = Course()
    course.up[1] = (0.0, 12.0, 1.0)
    course.grows(3 * MB)


def test_a_queue_that_was_overrun_is_no_loss_of_the_line() -> None:
    """The sawtooth of what takes loss for a full line, alone on it: the round trip says what the losses are."""
    course = Course()
    course.grows(6 * MB)
    orders: list[object] = []
    for _ in range(40):
        for trip in (0.08, 0.09, 0.1, 0.115, 0.13):
            orders += course.run(10 * MB, trip=trip)
        orders += course.run(10 * MB, trip=0.13, loss=0.01)
        orders += course.run(10 * MB, trip=0.1, loss=0.003)
    assert Steady(True) not in orders


def test_a_short_queue_that_was_overrun_is_not_plain_loss() -> None:
    """At the end of slow start a third of a round trip's segments goes; no round trip that is smoothed shows that."""
    course = Course()
    course.grows(6 * MB)
    assert course.run(4 * MB, loss=0.3) == []
    assert course.run(4 * MB) == []


def test_a_connection_stays_only_for_what_it_delivers_itself() -> None:
    """The first one was slow for other reasons when the second one was opened, and is itself again."""
    course = Course()
    course.grows(3 * MB)
    while not course.run(3 * MB):
        pass
    course.opens()
    orders = course.run(9 * MB, 0.2 * MB, seconds=2.4)
    assert orders == [Close(2)]


def test_a_connection_that_still_grows_is_not_judged_yet() -> None:
    course = Course()
    course.grows(3 * MB)
    while not course.run(3 * MB):
        pass
    course.opens()
    assert course.run(3 * MB, 0.02 * MB, seconds=0.8) == []
    assert course.run(3 * MB, 0.04 * MB, seconds=0.6) == []
    assert course.run(3 * MB, 0.2 * MB, seconds=0.6) == []
    assert Close(2) not in course.run(3 * MB, 3 * MB, seconds=3)


def test_a_short_pause_makes_nothing_new_look_better() -> None:
    """``bbr`` stops for a fifth of a second each ten; the line is full before and after, and what queued is gone."""
    course = Course()
    course.grows(20 * MB)
    course.run(20 * MB, seconds=4, trip=0.12)
    assert course.run(0.1 * MB, seconds=0.4, trip=0.1) == []
    assert course.run(12 * MB, seconds=0.2, trip=0.09) == []
    assert course.run(20 * MB, seconds=4, trip=0.12) == []


@settings(max_examples=80, deadline=None)
@given(
    st.floats(0.1, 50), st.floats(0.1, 50), st.floats(0.0001, 0.5), st.booleans(), st.booleans(),
    st.sampled_from([0.0, 0.003]), st.sampled_from([0.0, 1.0, 8.0]),
)  # fmt: skip
def test_whatever_the_line_the_sum_never_suffers_for_long(
    each: float, line: float, trip: float, queues: bool, opens: bool, loss: float, gain: float
) -> None:
    model = Model(each * MB, line * MB, trip, loss, gain, queues, opens=opens)
    alone = model.total
    model.run(120)
    assert 1 <= len(model.up) <= MAX_LINES
    assert model.most <= MAX_LINES
    assert model.total >= 0.999 * alone or gain < 1.15
    best = min(model.line, max(1.0, gain if loss else 1.0) * model.each * (MAX_LINES - 2))
    if trip > 2 * LEAST_TRIP_S and opens:
        assert model.total >= 0.85 * best
    if trip < LEAST_TRIP_S:
        assert model.orders == []
