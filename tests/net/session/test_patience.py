"""How long it goes on without a path, with a clock that the test moves."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.errors import Incomplete, P2pxferError, Unreachable
from p2pxfer.net.session.patience import FAREWELL_S, Parting, Pathless


@pytest.mark.parametrize(("cut", "kind"), [(None, Unreachable), ("; run it again", Incomplete)])
def test_after_so_long_without_a_path_it_fails_with_the_last_reason(cut: str | None, kind: type) -> None:
    clock: Any = Clock()
    failed: list[P2pxferError] = []
    pathless = Pathless(clock, "bob", 30.0, failed.append, lambda: cut)
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


def test_whoever_waits_for_ever_sets_no_clock() -> None:
    clock: Any = Clock()
    Pathless(clock, "bob", None, lambda error: None, lambda: None).begin()
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
