"""A sender that is held up while it counts what it sends, and a receiver that has some of it by then."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from p2pxfer.core.transfer.journal import read_journal
from scripts.product import Program, client
from tests.e2e.conftest import Stage, Words, staging_of

GATED = """
import sys, time
from pathlib import Path
from p2pxfer.net.transfer.source import Source
import p2pxfer.cli.main

def gated(self, plain=Source.find):
    while self.manifest.pages >= 2 and not Path({gate!r}).exists():
        time.sleep(0.02)
    return plain(self)

Source.find = gated
p2pxfer.cli.main.main()
"""
"""A sender that looks no further than two pages before a file appears."""


def gated_sender(stage: Stage, source: Path, gate: Path) -> Program:
    script = stage.folder / "gated.py"
    script.write_text(GATED.format(gate=str(gate)))
    argv: Words = [sys.executable, script, *client(stage.address, stage.alice, "send", source, "bob", "--wait")[1:]]
    program = Program(stage.place, "alice", argv, stage.folder / "gated.log")
    stage.callback(program.stop)
    return program


def receiver(stage: Stage) -> Program:
    return stage.program("bob", stage.bob, "receive", "--as", "bob", "--to", stage.inbox, "--once")


def until_durable(stage: Stage, least: int) -> None:
    """Return when the journal claims so many files, and they are still private."""
    deadline = time.monotonic() + 30
    claimed = 0
    while time.monotonic() < deadline:
        for place in staging_of(stage.inbox):
            with contextlib.suppress(FileNotFoundError):
                state = read_journal((place / "journal").read_bytes())
                claimed = len(list(state.chunks())) if state is not None else 0
        if claimed >= least:
            return
        time.sleep(0.02)
    raise AssertionError(f"{claimed} files of the first pages arrive, and no more")
