from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from p2pxfer.cli.chatscreen import ChatScreen
from p2pxfer.cli.report import Reporter
from p2pxfer.core.session.conversation import Line
from p2pxfer.net.services.chatstore import ChatStore


class Noted:
    """Keeps what is said to be heard."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def heard(self, line: Line, marked: bool) -> None:
        assert marked
        self.lines.append(line.text)


def test_an_event_that_nobody_reads_is_not_noted_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = os.pipe()
    store = ChatStore(tmp_path, bytes(32))
    notes: Any = Noted()
    clock: Any = Clock()
    ends: list[str] = []
    report = Reporter(True)
    report.on_closed = lambda: ends.append("closed")
    with os.fdopen(target, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        screen = ChatScreen(clock, report, True, store, notes, "bob", lambda: ends.append("text"))
        screen.hear(Line(b"1" * 16, "read", 1))
        os.close(source)
        screen.hear(Line(b"2" * 16, "written into the void", 2))
        screen.hear(Line(b"3" * 16, "not even written", 3))
        assert notes.lines == ["read"]
        assert ends == ["closed"]
        store.close()
        again = ChatStore(tmp_path, bytes(32))
        assert again.seen == [b"1" * 16]
        again.close()
        monkeypatch.undo()
        # What is buffered for nobody cannot be flushed when the file is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
