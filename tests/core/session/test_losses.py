"""When packets that were sent again are a loss of the line."""

from __future__ import annotations

from p2pxfer.core.session.losses import ENOUGH, MOST, PLAIN, Losses


def after(*looks: tuple[int, int], full: bool = True, queues: bool = False) -> Losses:
    """What is known after looks between which so many segments were sent, and sent again."""
    losses = Losses()
    losses.look(0, 0, full=True, queues=False)
    for sent, repeated in looks:
        losses.look(sent, repeated, full=full, queues=queues)
    return losses


def test_few_segments_say_nothing_and_enough_without_loss_say_that_there_is_none() -> None:
    assert not after((ENOUGH - 1, 0)).known
    assert after((ENOUGH, 0)).known
    assert not after((ENOUGH, 0)).found


def test_loss_is_found_with_the_first_one_and_plain_with_some() -> None:
    few = after((100, PLAIN - 1))
    assert (few.found, few.known, few.plain) == (True, True, False)
    assert after((100, PLAIN - 1), (100, 1)).plain


def test_one_in_some_thousand_is_not_what_slows_a_connection_down() -> None:
    assert not after((10_000, PLAIN)).found


def test_loss_that_is_over_is_not_plain() -> None:
    losses = after((100, PLAIN), (100, 0))
    assert (losses.found, losses.plain) == (True, False)


def test_more_than_a_line_loses_is_a_queue_that_was_overrun() -> None:
    assert not after((100, int(100 * MOST) + 1)).plain


def test_what_queues_makes_all_before_worth_nothing() -> None:
    losses = after((1000, 100))
    losses.look(100, 10, full=True, queues=True)
    assert (losses.found, losses.known) == (False, False)
    losses.look(100, 10, full=True, queues=False)
    assert not losses.found, "what overran the queue is sent again now"
    losses.look(100, 10, full=True, queues=False)
    assert losses.plain


def test_while_there_is_not_always_more_to_send_nothing_counts_and_nothing_is_forgotten() -> None:
    assert not after((1000, 100), full=False).known
    losses = after((100, PLAIN))
    losses.look(0, 50, full=False, queues=False)
    assert losses.found
    assert not losses.plain
