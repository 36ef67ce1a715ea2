"""A whole file through the relay of a server on the same machine, as fast as that carries it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p2pxfer.core.session.pathchoice import OVER
from tests.e2e.conftest import MIB, Stage, fast_pair
from tests.scene import events_of, file_hash, last, random_file

SIZE = 64 * MIB
RUNS = 3


@pytest.fixture
def stage() -> Iterator[Stage]:
    with fast_pair() as made:
        yield made


@pytest.mark.deadline(90)
def test_the_relay_carries_at_full_speed_without_losing_its_path(stage: Stage) -> None:
    """That the file arrives says little: a path that is lost is replaced, and what was under way comes twice."""
    source = stage.folder / "big.bin"
    digest = random_file(source, SIZE)
    bob = stage.receive("--no-code")
    for run in range(RUNS):
        said = events_of(stage.send(source, "--path", "relay"))
        lost = [event["why"] for event in said if event["event"] == "path" and event["state"] == "down"]
        assert set(lost) <= {OVER}, lost
        assert last(said, "done")["bytes_by_path"] == {"relay": SIZE}
        came = bob.wait_for("done")
        assert came["bytes_by_path"] == {"relay": SIZE}
        assert file_hash(stage.inbox / came["saved"][0]) == digest, run
