"""What a server learns of ways through NATs: counts that fade, and an order that follows from enough of them."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.server.experience import ENOUGH, HALF_LIFE_S, LOST, RESULTS, Experience, Row, took
from p2pxfer.core.traversal.strategies import Kind, ways

MANY = int(2 * ENOUGH)
KINDS = get_args(Kind)


def told(experience: Experience, way: str, result: str, times: int, now: float = 0.0, **kinds: Kind) -> None:
    one, other = kinds.get("one", "cone"), kinds.get("other", "random")
    for _ in range(times):
        assert experience.note(one, other, way, result, now)


def test_few_words_give_no_order() -> None:
    experience = Experience()
    told(experience, "walk", "1s", int(ENOUGH) - 1)
    assert experience.order("cone", "random", 0.0) == []
    told(experience, "walk", "1s", 1)
    assert experience.order("cone", "random", 0.0) == ["walk", "single"]
    assert experience.order("random", "cone", 0.0) == ["walk", "single"]
    assert experience.order("cone", "sequential", 0.0) == []


def test_what_leads_to_a_path_more_often_comes_first() -> None:
    experience = Experience()
    told(experience, "single", "1s", MANY)
    assert experience.order("cone", "random", 0.0) == ["single", "walk"]
    # Walks win now, and single dials lose each time.
    told(experience, "walk", "3s", 2 * MANY)
    assert experience.order("cone", "random", 0.0) == ["walk", "single"]
    told(experience, "walk", LOST, 8 * MANY)
    told(experience, "single", "1s", 8 * MANY)
    assert experience.order("cone", "random", 0.0) == ["single", "walk"]


def test_what_was_never_tried_gets_its_turn_when_all_else_fails() -> None:
    experience = Experience()
    told(experience, "ahead", LOST, MANY, other="sequential")
    assert experience.order("cone", "sequential", 0.0)[0] == "walk"
    told(experience, "walk", LOST, 2 * MANY, other="sequential")
    told(experience, "ahead", "1s", MANY, other="sequential")
    assert experience.order("cone", "sequential", 0.0)[0] == "ahead"


def test_counts_halve_and_are_forgotten() -> None:
    experience = Experience()
    told(experience, "walk", "3s", MANY)
    assert Row("cone", "random", "walk", "3s", MANY) in experience.rows(0.0)
    assert experience.rows(HALF_LIFE_S)[1] == Row("cone", "random", "walk", "3s", MANY / 2)
    assert experience.order("cone", "random", 1.01 * HALF_LIFE_S) == []
    assert experience.rows(40 * HALF_LIFE_S) == []


def test_kept_rows_are_as_old_as_they_are() -> None:
    first, second = Experience(), Experience()
    told(first, "walk", "3s", MANY)
    second.load(first.rows(0.0), HALF_LIFE_S, 5.0)
    assert [row.count for row in second.rows(5.0)] == [MANY / 2, MANY / 2]
    assert not second.changed
    assert first.changed


@pytest.mark.parametrize(
    "row",
    [
        Row("cone", "martian", "walk", "3s", 1.0),
        Row("random", "cone", "walk", "3s", 1.0),
        Row("cone", "random", "fly", "3s", 1.0),
        Row("cone", "cone", "walk", "3s", 1.0),
        Row("cone", "random", "walk", "never", 1.0),
    ],
)
def test_rows_that_make_no_sense_are_left_out(row: Row) -> None:
    experience = Experience()
    experience.load([row], 0.0, 0.0)
    assert experience.rows(0.0) == []


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS), st.text(max_size=16), st.text(max_size=16))))
def test_words_from_outside_make_nothing_grow(said: list[tuple[Kind, Kind, str, str]]) -> None:
    experience = Experience()
    for one, other, way, result in said:
        counts = experience.note(one, other, way, result, 0.0)
        assert counts == (way in ways(one, other) and result in RESULTS)
    assert len(experience.rows(0.0)) <= len(KINDS) ** 2 * 4 * len(RESULTS)
    for one in KINDS:
        for other in KINDS:
            assert set(experience.order(one, other, 0.0)) <= set(ways(one, other))


def test_both_halves_of_a_way_have_its_name() -> None:
    assert all(ways(one, other) == ways(other, one) for one in KINDS for other in KINDS)
    assert ways("cone", "sequential") == ("single", "ahead", "walk")
    assert ways("random", "random") == ("single", "blocks")


def test_classes_of_time() -> None:
    assert [took(seconds) for seconds in (0.0, 1.0, 1.1, 3.0, 3.1, math.inf)] == [
        "1s",
        "1s",
        "3s",
        "3s",
        "more",
        "more",
    ]
