"""Which plan follows when: the second look at a sequential NAT, tried in the modelled world and on its own."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address

import pytest
from msgspec import structs

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.messages import NatSummary
from p2pxfer.core.traversal.course import (
    DOUBT_S,
    DOUBT_TRIPS,
    MOST_PLANS,
    SETTLING_S,
    Course,
    doubt,
    may_look_again,
)
from p2pxfer.core.traversal.dials import Budget, Plan
from p2pxfer.core.traversal.strategies import AHEAD, LASTS_S, Situation, plan, ways
from scripts.poplib.knowledge import discovered
from scripts.poplib.nats import Answer, NatKind
from scripts.poplib.side import Side
from scripts.poplib.world import World

PEER = Endpoint(ip_address("198.18.2.1"), 30000)
STEADY = NatSummary(mapping="endpoint-independent", ports="preserving")
RANDOM = NatSummary(mapping="port-dependent", ports="random")
TRIP = 0.1


def counting(latest: int, step: int = 1) -> NatSummary:
    return NatSummary(mapping="port-dependent", ports="sequential", step=step, latest=latest)


def met(step: int, other: NatKind, left: int, seed: int, skew: float = 0.01) -> tuple[float | None, World]:
    """A sequential NAT with ``left`` ports left before its counter begins anew, when the probes are over."""

    def known(side: Side) -> NatSummary:
        found = discovered(side)
        if side is world.sides[0]:
            side.nat.kind = replace(side.nat.kind, high=side.nat.latest + left * step)
        return found

    counter = NatKind(mapping="port-dependent", ports="sequential", step=step, low=20000)
    world = World((counter, other), seed, known=known, news=True, round_trip=0.08, skew=skew)
    return world.run(), world


@pytest.mark.parametrize("answer", ["drop", "rst", "rst-limited", "icmp"])
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("sequential", [False, True], ids=["cone", "sequential"])
def test_a_counter_that_comes_to_its_end_meanwhile_is_found_again(answer: Answer, step: int, sequential: bool) -> None:
    """All that is aimed at lies beyond the end: the dials went out after the counter had begun anew."""
    other = NatKind(unsolicited=answer)
    if sequential:
        other = replace(other, mapping="port-dependent", ports="sequential", busy=20.0)
    for left in range(20):
        found, world = met(step, other, left, left)
        assert found is not None, left
        assert found < DOUBT_S + 1.0
        assert all(len(side.syns) <= 5 * AHEAD for side in world.sides)


@pytest.mark.parametrize("skew", [-1.5, 1.5])
def test_a_side_that_comes_late_is_met_all_the_same(skew: float) -> None:
    """A NAT that answers with RST uses up, within a few round trips, all the ports that the other one aims at."""
    for seed in range(20):
        found, _ = met(1, NatKind(unsolicited="rst"), 10_000, seed, skew)
        assert found is not None
        assert found < 5.0


def course(mine: NatSummary, theirs: NatSummary) -> Course:
    """One that has begun, with news of the peer."""
    made = Course(Situation(mine, theirs, (PEER,), TRIP), plan)
    made.theirs(theirs, 0.0)
    made.begin()
    return made


def following(of: Course, now: float) -> Plan | None:
    return of.next(20000, random.Random(1).random, now)


def test_nothing_is_planned_before_the_head_start_and_the_news() -> None:
    of = Course(Situation(STEADY, counting(40000), (PEER,), TRIP), plan)
    assert following(of, 0.1) is None
    of.begin()
    assert following(of, 0.2) is None
    of.no_news()
    made = following(of, 0.5)
    assert made is not None and made.way == "ahead"
    assert following(of, 0.6) is None


def test_news_that_come_after_all_are_followed_at_once_and_only_once() -> None:
    of = Course(Situation(STEADY, counting(40000), (PEER,), TRIP), plan)
    of.begin()
    of.no_news()
    assert following(of, 0.5) is not None
    of.theirs(counting(40010), 0.6)
    second = following(of, 0.6)
    assert second is not None
    assert [volley.ports for volley in second.volleys] == [tuple(range(40000 + AHEAD + 1, 40010 + AHEAD + 1))]
    of.theirs(counting(40020), 0.7)
    assert following(of, 0.7) is None


def test_news_that_were_on_their_way_change_nothing() -> None:
    of = course(STEADY, counting(40000))
    assert following(of, 0.2) is not None
    of.theirs(counting(40010), 0.2 + SETTLING_S / 2)
    assert following(of, 0.2 + SETTLING_S / 2) is None


def test_what_is_dialled_already_is_not_dialled_again() -> None:
    of = course(STEADY, counting(40000))
    first = following(of, 0.2)
    of.theirs(counting(40000), 2.0)
    assert following(of, 2.0) is None
    of.theirs(counting(40060), 2.1)
    second = following(of, 2.1)
    assert first is not None and second is not None
    ports = [port for made in (first, second) for volley in made.volleys for port in volley.ports]
    assert len(ports) == len(set(ports)) == AHEAD + 60
    assert second.phrase.startswith(first.phrase)
    assert [volley.ends + 2.1 for volley in second.volleys] == pytest.approx(
        [volley.ends + 0.2 for volley in first.volleys]
    )


def test_the_plans_of_a_punch_have_an_end() -> None:
    of = course(STEADY, counting(40000))
    made = []
    for turn in range(50):
        of.theirs(counting(40000 + 100 * turn), 1.0 + turn)
        made.append(following(of, 1.0 + turn))
    followed = [one for one in made if one is not None]
    assert len(followed) == MOST_PLANS
    assert sum(len(volley.ports) for one in followed for volley in one.volleys) <= MOST_PLANS * AHEAD < Budget().syns
    of = course(STEADY, counting(40000))
    assert following(of, 0.2) is not None
    of.theirs(counting(41000), 0.2 + LASTS_S)
    assert following(of, 0.2 + LASTS_S) is None


def test_who_has_a_counter_plans_again_when_it_has_looked_itself() -> None:
    of = course(counting(40000), STEADY)
    assert following(of, 0.2) is not None
    of.mine(counting(40001))
    of.theirs(STEADY, 2.0)
    assert following(of, 2.0) is None
    of.looked_again(counting(40100), 2.1)
    second = following(of, 2.1)
    assert second is not None and second.way == "ahead"
    assert following(of, 2.2) is None


@pytest.mark.parametrize("news_first", [False, True])
def test_two_counters_wait_for_each_other(news_first: bool) -> None:
    """Dials before one's own look would move what the other side is told."""
    of = course(counting(40000), counting(50000))
    assert following(of, 0.2) is not None

    def hear() -> None:
        of.theirs(counting(50100), 2.2)

    def look() -> None:
        of.looked_again(counting(40100), 2.2)

    one, other = (hear, look) if news_first else (look, hear)
    one()
    assert following(of, 2.2) is None
    other()
    made = following(of, 2.2)
    assert made is not None
    assert [set(volley.ports) for volley in made.volleys] == [{50115}, {50147}]


def test_news_from_long_before_the_look_do_not_count() -> None:
    of = course(counting(40000), counting(50000))
    assert following(of, 0.2) is not None
    of.theirs(counting(50100), 2.0)
    of.looked_again(counting(40100), 4.0)
    assert following(of, 4.0) is None


def test_after_a_refusal_nothing_more_is_planned() -> None:
    of = course(STEADY, counting(40000))
    assert following(of, 0.2) is not None
    of.refused()
    of.theirs(counting(41000), 3.0)
    assert following(of, 3.0) is None


def test_a_walk_is_not_repeated_nor_another_way_begun() -> None:
    of = course(STEADY, RANDOM)
    walk = following(of, 0.2)
    assert walk is not None and walk.way == "walk"
    of.theirs(counting(40000), 3.0)
    assert following(of, 3.0) is None
    of = course(STEADY, counting(40000))
    assert following(of, 0.2) is not None
    of.theirs(structs.replace(RANDOM, low=1024, high=65535), 3.0)
    assert following(of, 3.0) is None


def test_only_a_counter_that_the_peer_can_aim_at_is_looked_at_again() -> None:
    def may(mine: NatSummary, theirs: NatSummary) -> bool:
        return may_look_again(Situation(mine, theirs, (PEER,)))

    assert may(counting(40000), STEADY) and may(counting(40000), counting(50000))
    assert not may(STEADY, counting(40000)) and not may(counting(40000), RANDOM)
    assert ways("sequential", "random") == ("single",)


def test_a_long_line_gets_longer() -> None:
    assert doubt(0.05) == DOUBT_S
    assert doubt(0.7) == DOUBT_TRIPS * 0.7
