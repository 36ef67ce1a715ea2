"""One run of the matrix with real programs, and a run whose pair cannot connect in time."""

from __future__ import annotations

import pytest

from scripts.matrixlib import attempts
from scripts.matrixlib.attempts import attempt


@pytest.mark.deadline(60)
def test_a_run_that_connects_has_its_time_and_its_syns() -> None:
    """Between a public address and a cone either side's first SYN is enough, or both cross."""
    done = attempt(("none", "port-restricted"))
    assert (done.one, done.other, done.reason) == ("none", "port-restricted", "")
    assert done.ms is not None
    # The round trip between the two is 40 ms; no handshake is done sooner.
    assert 40 < done.ms < 5000
    assert done.syns is not None
    assert 1 <= sum(done.syns) < 20


@pytest.mark.deadline(60)
def test_a_run_that_does_not_end_in_time_is_a_failed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """No NAT of the two can be crossed at once, and the limit is far below what the sender tries."""
    monkeypatch.setattr(attempts, "LIMIT", 0.2)
    done = attempt(("symmetric/no-simo", "symmetric/no-simo"))
    assert done.ms is None
    assert done.reason
    assert done.syns is not None
