"""Two hundred thousand small files: the memory of each side, and going on after both were killed at half way."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

from scripts.benchlib import loopback
from scripts.benchlib.loopback import Ours
from scripts.benchlib.small import make_tree, same_trees
from scripts.benchlib.table import Failed, Row, Setting
from scripts.product import Ended, Loopback, Program, ProgramError, client

FILES = 200_000
EACH = 100
MEMORY_MIB = 250.0
GO_ON_S = 5.0
"""The most that may pass from the start of both commands to the first new data."""
LONG = 900.0
"""Seconds that one run may take."""


def rows(setting: Setting) -> Iterable[Row | Failed]:
    """The group of rows; one run, whatever --runs says, for it is long."""
    source = setting.folder / "tree"
    setting.say(f"making {FILES} files")
    make_tree(source, FILES, EACH)
    try:
        with loopback.ours(setting.folder) as product:
            ends, resumed = cut_and_go_on(product, source, setting.folder / "inbox")
            if not same_trees(source, setting.folder / "inbox" / source.name):
                raise ProgramError("what arrived is not what was sent")
    except (ProgramError, OSError) as error:
        setting.say(f"many files: {error}")
        yield Failed("many files", str(error))
        return
    for role, end in zip(("p2pxfer send", "p2pxfer receive"), ends, strict=True):
        yield Row(f"peak memory of {role}, {FILES} files", end.peak_bytes / (1 << 20), "MiB", MEMORY_MIB)
    yield Row(f"{FILES} files, both killed at half way, first new data after", resumed, "s", GO_ON_S)


def start(product: Ours, source: Path, inbox: Path) -> tuple[Program, Program]:
    """Both commands, at once."""
    words: list[str | Path] = ["receive", "--as", "bob", "--to", inbox, "--once"]
    receive = client(product.address, product.folder / "bob", *words)
    send = client(product.address, product.folder / "alice", "send", source, "bob", "--wait", "--path", "direct")
    receiver = Program(Loopback(), "p2pxfer receive", receive, product.folder / "receive.log")
    return Program(Loopback(), "p2pxfer send", send, product.folder / "send.log"), receiver


def cut_and_go_on(product: Ours, source: Path, inbox: Path) -> tuple[list[Ended], float]:
    """How both ended in the second run, and when its first new data came."""
    inbox.mkdir()
    sender, receiver = start(product, source, inbox)
    with sender, receiver:
        for event in receiver.events(LONG):
            if event["event"] == "progress" and event["bytes"] >= FILES * EACH // 2:
                break
        for program in (sender, receiver):
            os.killpg(program.pid, signal.SIGKILL)
            program.wait(LONG)
    sender, receiver = start(product, source, inbox)
    with sender, receiver:
        active = next(
            event for event in receiver.events(LONG) if event["event"] == "path" and event["state"] == "active"
        )
        ends = [program.succeed(LONG) for program in (sender, receiver)]
    shutil.rmtree(product.folder / "alice" / "outgoing", ignore_errors=True)
    return ends, float(active["t"])
