"""How the pauses between two signs of life shrink behind a NAT that forgets, and nowhere else."""

from __future__ import annotations

from p2pxfer.core.traversal.keepalive import BELIEVED_S, MAX_ADDRESSES, SHORTEST_S, SOON_S, KeepAlive


def test_pauses_are_halved_behind_the_nat_that_forgot_until_it_bears_them() -> None:
    nat = KeepAlive()
    pauses: list[float] = []
    while len(pauses) < 5:
        pauses.append(nat.pause("198.18.1.1", 25, 0.0))
        nat.lost("198.18.1.1", pauses[-1], 0.0)
    assert pauses == [25, 12.5, 6.25, SHORTEST_S, SHORTEST_S]
    assert nat.pause("198.18.2.1", 25, 0.0) == 25


def test_the_other_end_may_want_to_hear_more_often() -> None:
    nat = KeepAlive()
    nat.lost("198.18.1.1", 25, 0.0)
    assert nat.pause("198.18.1.1", 2, 0.0) == 2


def test_the_last_addresses_are_remembered() -> None:
    nat = KeepAlive()
    for number in range(MAX_ADDRESSES + 1):
        nat.lost(f"198.18.1.{number}", 20, 0.0)
    assert nat.pause("198.18.1.0", 20, 0.0) == 20
    assert nat.pause("198.18.1.1", 20, 0.0) == 10


def test_a_loss_is_forgiven_after_an_hour() -> None:
    nat = KeepAlive()
    nat.lost("198.18.1.1", 20, 100.0)
    assert nat.pause("198.18.1.1", 20, 99.0 + BELIEVED_S) == 10
    assert nat.pause("198.18.1.1", 20, 100.0 + BELIEVED_S) == 20


def test_a_connection_that_died_idle_is_held_against_the_nat_only_if_the_server_was_there() -> None:
    here, there = "198.18.1.1", "198.18.2.1"
    for idle, back_at, where, expected in (
        (True, SOON_S - 1, here, 10),
        (True, SOON_S + 1, here, 20),
        (True, SOON_S - 1, there, 20),
        (False, SOON_S - 1, here, 20),
    ):
        nat = KeepAlive()
        assert nat.begun(here, 20, 0.0) == 20
        nat.ended(here, idle, 100.0)
        assert nat.begun(where, 20, 100.0 + back_at) == expected


def test_a_loss_is_judged_once() -> None:
    nat = KeepAlive()
    nat.begun("198.18.1.1", 20, 0.0)
    nat.ended("198.18.1.1", True, 100.0)
    assert [nat.begun("198.18.1.1", 20, 101.0) for _ in range(3)] == [10, 10, 10]


def test_an_attempt_that_failed_in_between_clears_the_nat() -> None:
    nat = KeepAlive()
    nat.begun("198.18.1.1", 20, 0.0)
    nat.ended("198.18.1.1", True, 100.0)
    nat.unreached()
    assert nat.begun("198.18.1.1", 20, 101.0) == 20
