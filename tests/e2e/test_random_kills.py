"""Both programs killed at moments drawn at random, some times over: the first run that is let be ends well."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.product import Program
from tests.e2e.conftest import MIB, Stage, fast_pair, names_in, staging_of, wait_until
from tests.e2e.trees import contents, make_tree
from tests.scene import events_of, random_file

SEEDS = [pytest.param(seed, marks=pytest.mark.soak if seed > 2 else ()) for seed in range(1, 501)]
MOST_KILLS = 4
SIZE = 96 * MIB
TREE = "tree"


class Field:
    """A stage in memory with a tree to send: many small files, some of several chunks, a hole, a link, a large one."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.source = stage.folder / TREE
        make_tree(self.source)
        random_file(self.source / "large.bin", SIZE)
        self.whole = contents(self.source)
        self.arrived = stage.inbox / TREE

    def start(self) -> dict[Program, str]:
        """Bob takes what comes and ends, alice sends and waits for him."""
        bob = self.stage.program(
            "bob", self.stage.bob, "receive", "--as", "bob", "--to", self.stage.inbox, "--once", "--no-code"
        )
        return {bob: "bob", self.stage.send(self.source, "--wait", "--links", "keep"): "alice"}

    def check(self) -> None:
        """Under the final name is nothing or everything, and nothing stands beside it."""
        private = staging_of(self.stage.inbox)
        there = [path.name for path in self.stage.inbox.iterdir() if path not in private]
        assert there in ([], [TREE])
        if there:
            assert contents(self.arrived) == self.whole


@pytest.fixture(scope="module")
def ground() -> Iterator[Field]:
    with fast_pair() as stage:
        yield Field(stage)


@pytest.fixture
def field(ground: Field) -> Iterator[Field]:
    """The ground with an empty destination."""
    yield ground
    for path in ground.stage.inbox.iterdir():
        shutil.rmtree(path)


def written(field: Field) -> int:
    """Bytes of what is received and private yet: blocks in use."""
    found = 0
    with contextlib.suppress(FileNotFoundError):  # it is published, or put in order, meanwhile
        for place in staging_of(field.stage.inbox):
            for path in (place / "tree").rglob("*"):
                found += path.lstat().st_blocks * 512
    return found


def kill_both(field: Field, programs: dict[Program, str], draw: random.Random) -> dict[str, int]:
    """Kill one when so much is there, the other one a little later, unless they end before; how each ended."""
    order = list(programs)
    draw.shuffle(order)
    here = written(field)
    wanted = here + draw.random() * max(MIB, SIZE - here)
    pause = draw.choice([0.0, 0.01, 0.1, 0.5]) * draw.random()
    wait_until(lambda: written(field) >= wanted or any(program.poll() for program in order))
    for program in order:
        if program.poll() is None:
            os.kill(program.pid, signal.SIGKILL)
        deadline = time.monotonic() + pause
        while time.monotonic() < deadline and order[-1].poll() is None:
            time.sleep(0.001)
    return {role: program.wait(30).status for program, role in programs.items()}


@pytest.mark.deadline(180)
@pytest.mark.parametrize("seed", SEEDS)
def test_f03_both_are_killed_at_random(field: Field, seed: int) -> None:
    draw = random.Random(seed)
    told = {"alice": False, "bob": False}
    kills = draw.randint(1, MOST_KILLS)
    for number in range(kills + 1):
        programs = field.start()
        if number < kills:
            ends = kill_both(field, programs, draw)
        else:
            ends = {role: program.wait(60).status for program, role in programs.items()}
        field.check()
        for program, role in programs.items():
            events = events_of(program)
            kept = [event["have_bytes"] // MIB for event in events if event["event"] == "resumed"]
            print(f"run {number}: {role} ended with {ends[role]}, MiB that were there: {kept}")
            assert ends[role] in (0, -signal.SIGKILL), events[-3:]
            told[role] |= ends[role] == 0
        if any(told.values()):
            break  # who succeeded is not asked again: a later run of the other one is another transfer
    assert any(told.values())
    assert contents(field.arrived) == field.whole
    if told["bob"]:
        wait_until(lambda: not staging_of(field.stage.inbox))
        assert {Path(name).parts[0] for name in names_in(field.stage.inbox)} == {TREE}
