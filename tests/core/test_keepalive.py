"""How the pauses between two signs of life shrink behind a NAT that forgets, and nowhere else."""

from __future__ import annotations

from p2pxfer.core.keepalive import BELIEVED_S, MAX_ADDRESSES, SHORTEST_S, KeepAlive


def test_pauses_are_halved_behind_the_nat_that_forgot_until_it_bears_them() -> None:
    nat = KeepAlive()
    pauses = []
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
