"""How long it goes on without a path, with a clock that the test moves."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.errors import Incomplete, P2pxferError, PeerStopped, Unreachable
from p2pxfer.net.session.patience import FAREWELL_S, FLEETING_S, SLOW_FAREWELL_S, STOPPED_S, Parting, Pathless


@pytest.mark.parametrize(("cut", "kind"), [(None, Unreachable), ("; run it again", Incomplete)])
def test_after_so_long_without_a_path_it_fails_with_the_last_reason(cut: str | None, kind: type) -> None:
    clock: Any = Clock()
    failed: list[P2pxferError] = []
    pathless = Pathless(clock, "bob", 30.0, failed.append, lambda: cut, lambda: True)
    pathless.begin()
    clock.advance(20)
    pathless.end()
    clock.advance(20)
    pathless.begin()
    pathless.begin()
    pathless.last = Unreachable("the cable is out")
    clock.advance(29)
    assert failed == []
    clock.advance(2)
    (error,) = failed
    assert isinstance(error, kind)
    assert "bob" in error.message
    assert "30 seconds" in error.message
    assert "the cable is out" in error.message
    assert (cut or "") in error.message
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("met", [True, False])
def test_why_there_may_never_be_a_path_is_said_where_there_was_none(met: bool) -> None:
    clock: Any = Clock()
    failed: list[P2pxferError] = []
    pathless = Pathless(clock, "bob", 30.0, failed.append, lambda: None, lambda: False, "ask for a code")
    if met:
        pathless.end()
    pathless.begin()
    clock.advance(30)
    assert ("; ask for a code" in failed[0].message) != met


def test_the_time_goes_on_that_began_before_a_path_on_which_the_peer_could_do_nothing() -> None:
    """Or a receiver that says so again and again would be tried for ever."""
    clock: Any = Clock()
    failed: list[P2pxferError] = []
    pathless = Pathless(clock, "bob", 30.0, failed.append, lambda: None, lambda: False)
    pathless.begin()
    for _ in range(2):
        clock.advance(10)
        pathless.end()
        clock.advance(4)
        pathless.last = Unreachable("the peer reports: bob can take nothing new now")
        pathless.begin(in_vain=True)
    assert not failed
    clock.advance(2)
    assert "in 30 seconds: the peer reports: bob can take nothing" in failed[0].message
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("another", [False, True])
def test_after_a_path_that_stood_for_longer_all_of_the_time_is_left(another: bool) -> None:
    """Whatever the peer said at its end, also where ``another`` path came up a moment before."""
    clock: Any = Clock()
    failed: list[P2pxferError] = []
    pathless = Pathless(clock, "bob", 30.0, failed.append, lambda: None, lambda: False)
    pathless.begin()
    clock.advance(20)
    pathless.end()
    clock.advance(FLEETING_S)
    if another:
        pathless.end()
    clock.advance(0.1)
    pathless.begin(in_vain=True)
    clock.advance(29)
    assert not failed
    clock.advance(1)
    assert len(failed) == 1


def test_whoever_waits_for_ever_sets_no_clock() -> None:
    clock: Any = Clock()
    Pathless(clock, "bob", None, lambda error: None, lambda: None, lambda: False).begin()
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("gone", [True, False])
def test_an_end_is_waited_for_but_not_for_long(gone: bool) -> None:
    clock: Any = Clock()
    parting = Parting(clock)
    over: list[None] = []
    Deferred.fromCoroutine(parting.wait()).addCallback(over.append)
    clock.advance(FAREWELL_S - 1)
    assert not over
    if gone:
        parting.gone()
        parting.gone()
    clock.advance(2)
    assert over == [None]
    assert not clock.getDelayedCalls()


def test_who_was_stopped_waits_less_for_the_end() -> None:
    clock: Any = Clock()
    parting = Parting(clock)
    parting.hurry()
    over: list[None] = []
    Deferred.fromCoroutine(parting.wait()).addCallback(over.append)
    clock.advance(STOPPED_S)
    assert over == [None]


@pytest.mark.parametrize(
    ("cut", "seconds", "said"),
    [
        (None, 30.0, "bob was stopped there"),
        (
            "it is kept", 30.0,
            "bob was stopped there; waiting up to 30 seconds for it to come back; if it does not: it is kept",
        ),
        (
            "it is kept", None,
            "bob was stopped there; waiting for it to come back, however long; if you end that before: it is kept",
        ),
        ("", 30.0, "bob was stopped there; waiting up to 30 seconds for it to come back"),
        ("", None, "bob was stopped there; waiting for it to come back, however long"),
    ],
)  # fmt: skip
def test_the_farewell_of_the_peer_is_why_it_is_away_until_it_is_back(
    cut: str | None, seconds: float | None, said: str
) -> None:
    clock: Any = Clock()
    failed: list[P2pxferError] = []
    pathless = Pathless(clock, "bob", seconds, failed.append, lambda: cut, lambda: True)
    reset = Unreachable("reset")
    pathless.last = reset
    assert pathless.said() == "the connection was lost; reconnecting"
    pathless.last = PeerStopped("stopped there")
    pathless.last = reset
    assert pathless.said() == said
    pathless.begin()
    if seconds is not None:
        clock.advance(seconds)
        assert "stopped there" in failed[0].message
    pathless.end()
    pathless.last = reset
    assert pathless.said() == "the connection was lost; reconnecting"


def test_a_farewell_that_another_path_outlived_is_no_reason_any_more() -> None:
    """One of two paths said so; long after it the other one breaks."""
    clock: Any = Clock()
    failed: list[P2pxferError] = []
    leaves = [True]
    pathless = Pathless(clock, "bob", 30.0, failed.append, lambda: "it is kept", lambda: bool(leaves))
    pathless.last = PeerStopped("stopped there")
    leaves.clear()
    silent = Unreachable("silent")
    pathless.last = silent
    assert pathless.said() == "the connection was lost; reconnecting"
    pathless.begin()
    clock.advance(30)
    assert "silent" in failed[0].message


def stopped(clock: Any, acked: list[int]) -> tuple[Parting, list[None]]:
    """A program that was stopped waits for its farewell to be heard."""
    parting = Parting(clock)
    parting.hurry(lambda: acked[0])
    over: list[None] = []
    Deferred.fromCoroutine(parting.wait()).addCallback(over.append)
    return parting, over


@pytest.mark.parametrize("takes", [0.0, 3.0, 100.0])
def test_a_slow_line_gets_the_time_to_bring_the_farewell(takes: float) -> None:
    """But a peer that takes nothing any more gets none."""
    clock: Any = Clock()
    acked = [1000]
    _, over = stopped(clock, acked)
    while not over:
        acked[0] += clock.seconds() < takes
        clock.advance(0.1)
    assert min(takes, SLOW_FAREWELL_S) <= clock.seconds() + STOPPED_S
    assert clock.seconds() <= min(takes + 2 * STOPPED_S, SLOW_FAREWELL_S) + 0.1
    assert not clock.getDelayedCalls()


def test_a_peer_that_heard_it_on_one_path_is_not_waited_for_on_a_slow_one() -> None:
    clock: Any = Clock()
    acked = [0]
    parting, over = stopped(clock, acked)
    for _ in range(20):
        acked[0] += 1
        clock.advance(0.1)
    parting.heard()
    assert not over
    for _ in range(6):
        acked[0] += 1
        clock.advance(0.1)
    assert over == [None] and not clock.getDelayedCalls()


def test_in_good_order_every_path_has_its_time() -> None:
    clock: Any = Clock()
    parting = Parting(clock)
    over: list[None] = []
    Deferred.fromCoroutine(parting.wait()).addCallback(over.append)
    parting.heard()
    clock.advance(FAREWELL_S - 0.1)
    assert not over
    clock.advance(0.1)
    assert over == [None]
