"""What people and programs that send hear of the peer and the paths, with whole programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import MIB, Stage
from tests.scene import events_of, last, random_file


@pytest.fixture
def source(pair: Stage) -> Path:
    path = pair.folder / "some.bin"
    random_file(path, 2 * MIB)
    return path


def test_a_sender_is_told_why_there_is_only_the_relay(pair: Stage, source: Path) -> None:
    pair.receive("--no-code", "--path", "relay")
    sent = pair.run("send", source, "bob", as_json=True)
    assert sent.status == 0, sent
    verdict = last(sent.events, "verdict")
    assert (verdict["path"], verdict["reason"], verdict["where"], verdict["change"]) == (
        "relay", "forbidden", "there", "allow",
    )  # fmt: skip
    said = pair.run("send", source, "bob").err
    assert "No direct path: bob allows no direct path (--path relay)" in said
    done = [line for line in said.splitlines() if line.startswith("done: ")]
    assert len(done) == 1
    assert "relay 2.0 MiB (100 %)" in done[0]


def test_a_sender_that_waits_says_for_whom(pair: Stage, source: Path) -> None:
    alice = pair.send(source, "--wait")
    assert "waiting for bob" in alice.wait_for("note")["message"]
    bob = pair.receive("--no-code", "--once")
    alice.succeed(30)
    bob.succeed(30)
    assert last(events_of(bob), "done")["files"] == 1
