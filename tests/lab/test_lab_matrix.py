"""Runs of the matrix with real programs, and one whose pair cannot connect in time."""

from __future__ import annotations

from contextlib import closing

import pytest

from scripts.matrixlib import attempts as module
from scripts.matrixlib.attempts import attempts


@pytest.mark.deadline(60)
def test_runs_that_connect_have_their_times_and_their_syns() -> None:
    """In one lab, one after the other: between a public address and a cone a first SYN is enough, or both cross."""
    with closing(attempts(("none", "port-restricted"))) as runs:  # type: ignore[type-var]  # a generator
        done = [next(runs) for _ in range(2)]
    for each in done:
        assert (each.one, each.other, each.reason) == ("none", "port-restricted", "")
        assert each.ms is not None
        # The round trip between the two is 40 ms; no handshake is done sooner.
        assert 40 < each.ms < 5000
        assert each.syns is not None
        assert 1 <= sum(each.syns) < 20


@pytest.mark.deadline(60)
def test_a_run_that_does_not_end_in_time_is_a_failed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """No NAT of the two can be crossed at once, and the limit is far below what the sender tries."""
    monkeypatch.setattr(module, "LIMIT", 0.2)
    with closing(attempts(("symmetric/no-simo", "symmetric/no-simo"))) as runs:  # type: ignore[type-var]  # as above
        done = next(runs)
    assert done.ms is None
    assert done.reason
    assert done.syns is not None
