"""When a direct path is looked for again beside the relay."""

from __future__ import annotations

import pytest

from p2pxfer.core.session.upgrades import HURRY_S, PAUSES_S, STEADY_S, Upgrades


def tried(upgrades: Upgrades, now: float, times: int) -> list[float]:
    """The pauses between so many attempts, each begun when it was due."""
    pauses = []
    for _ in range(times):
        upgrades.tried(now)
        pauses.append(upgrades.due - now)
        now = upgrades.due
    return pauses


def test_who_never_had_a_direct_path_waits_long_and_longer() -> None:
    upgrades = Upgrades()
    assert upgrades.repeated
    assert tried(upgrades, 5.0, 7) == [60.0, 120.0, 300.0, 600.0, 600.0, 600.0, 600.0]


def test_a_good_path_that_died_is_looked_for_soon_and_then_more_and_more_seldom() -> None:
    upgrades = Upgrades()
    upgrades.tried(0.0)
    upgrades.stands(1.0)
    upgrades.died(101.0)
    assert upgrades.due == 101.0 + PAUSES_S[0]
    assert not upgrades.repeated
    assert tried(upgrades, upgrades.due, 6) == [30.0, 60.0, 120.0, 300.0, 600.0, 600.0]
    assert upgrades.repeated


def test_a_path_that_stood_begins_anew_whatever_failed_before() -> None:
    upgrades = Upgrades()
    tried(upgrades, 0.0, 5)
    for _ in range(2):
        upgrades.stands(2000.0)
        upgrades.died(2000.0 + STEADY_S + 0.1)
        assert upgrades.due == 2000.0 + STEADY_S + 0.1 + PAUSES_S[0]


@pytest.mark.parametrize("life", [0.0, 1.0, STEADY_S])
def test_paths_that_die_young_make_no_loop(life: float) -> None:
    """An hour with a NAT that kills whatever was punched."""
    upgrades, now, attempts = Upgrades(), 0.0, 0
    while now < 3600.0:
        upgrades.tried(now)
        attempts += 1
        upgrades.stands(now + 0.1)
        now += 0.1 + life
        upgrades.died(now)
        now = upgrades.due
    assert attempts < 3600.0 / HURRY_S * 2 + 2


def test_bad_luck_is_followed_soon_by_a_repetition_and_then_by_the_pauses_of_before() -> None:
    upgrades = Upgrades()
    upgrades.tried(0.0)
    upgrades.soon(15.0)
    assert (upgrades.due, upgrades.repeated) == (15.0 + PAUSES_S[0], True)
    assert tried(upgrades, upgrades.due, 2) == [120.0, 300.0]


def test_who_cannot_be_asked_after_a_loss_is_asked_again_for_a_minute_and_then_more_and_more_seldom() -> None:
    upgrades = Upgrades()
    upgrades.hurry(100.0)
    upgrades.unanswered(100.0 + HURRY_S)
    assert (upgrades.due, upgrades.repeated) == (100.0 + PAUSES_S[0], False)
    now = 101.0 + HURRY_S
    for pause in PAUSES_S[1:]:
        upgrades.unanswered(now)
        assert upgrades.due == now + pause
        now = upgrades.due


def test_what_gives_more_hope_than_the_last_attempt_shortens_the_pause() -> None:
    upgrades = Upgrades()
    upgrades.tried(0.0)
    upgrades.hurry(1.0)
    assert (upgrades.due, upgrades.repeated) == (1.0 + PAUSES_S[0], False)
