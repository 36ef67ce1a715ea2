"""What a transfer draws on a terminal, as a terminal shows it, wide and narrow."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pyte
import pytest

from p2pxfer.cli.livetext import BARS
from scripts.product import BIN
from tests.e2e.conftest import MIB, Stage, check_failed_event
from tests.scene import random_file

PATIENCE_S = 60.0
GRAPH = re.compile(f"^[{BARS}]+")
COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|9[0-7])m")


class Screen:
    """A command before a screen of this size; every state that was drawn whole is looked at."""

    def __init__(self, stage: Stage, columns: int, *words: object, **env: str) -> None:
        self.states: list[list[str]] = []
        self.written = ""
        self._shown = pyte.Screen(columns, 40)
        self._stream = pyte.ByteStream(self._shown)
        self._side, terminal = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
        argv = [BIN / "p2pxfer", "--server", stage.address, "--home", stage.alice, *words]
        self.child = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
            env={**clean, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **env},
        )
        os.close(terminal)
        stage.callback(self.child.wait, 10)
        stage.callback(self.child.kill)

    def watch(self) -> int:
        """Look at it until the command has ended; returns its status."""
        deadline = time.monotonic() + PATIENCE_S
        data = bytearray()
        while more := self._more():
            assert time.monotonic() < deadline, data
            data += more
        os.close(self._side)
        self.written = data.decode(errors="replace")
        # A busy machine brings half of what is drawn: what stands before a line is taken away is whole.
        for drawn in re.split(b"(?=\r\x1b\\[2K)", data):
            self._stream.feed(bytes(drawn))
            self.states.append([line.rstrip() for line in self._shown.display if line.strip()])
        return self.child.wait(40)

    def _more(self) -> bytes:
        try:
            return os.read(self._side, 65536)
        except OSError:  # the last program before this terminal has ended
            return b""

    @property
    def graphs(self) -> list[tuple[str, str]]:
        """Every graph that was drawn, each with the line above."""
        return [
            (state[place - 1], state[place])
            for state in self.states
            for place in range(1, len(state))
            if GRAPH.search(state[place])
        ]


@pytest.fixture
def sending(room: Stage) -> Iterator[Stage]:
    """A room with a receiver that takes three seconds at least for what is sent."""
    random_file(room.folder / "big.bin", 12 * MIB)
    room.receive("--no-code", "--limit", "4M")
    yield room


def test_a_graph_of_the_rate_is_drawn_and_taken_away(sending: Stage) -> None:
    screen = Screen(sending, 100, "send", sending.folder / "big.bin", "bob")
    assert screen.watch() == 0
    assert screen.graphs
    state, _ = screen.graphs[-1]
    assert re.search(r"━.* of 12.0 MiB  [0-9.]+ \wiB/s", state), state
    assert any(re.search(r"\d:\d\d left", state) for state, _ in screen.graphs)
    assert COLOUR.search(screen.written)
    last = screen.states[-1]
    assert last[-1].startswith("done: 1 file, 12.0 MiB"), last
    assert not any(GRAPH.search(line) for line in last), last


@pytest.mark.parametrize("columns", [24, 12])
def test_on_a_narrow_terminal_no_line_of_it_breaks(sending: Stage, columns: int) -> None:
    screen = Screen(sending, columns, "send", sending.folder / "big.bin", "bob")
    assert screen.watch() == 0
    assert screen.graphs
    for state, graph in screen.graphs:
        assert re.match(r"(direct|punched|mapped|lan|ipv6|relay|waiting)\b", state), state
        assert len(graph) < columns
    assert not any(GRAPH.search(line) for line in screen.states[-1]), screen.states[-1]


def test_why_there_is_only_the_relay_stands_beside_the_graph(room: Stage) -> None:
    random_file(room.folder / "big.bin", 12 * MIB)
    room.receive("--no-code", "--limit", "4M", "--path", "relay")
    screen = Screen(room, 120, "send", room.folder / "big.bin", "bob")
    assert screen.watch() == 0
    assert any(state.startswith("relay") for state, _ in screen.graphs)
    assert any("No direct path: bob allows no direct path" in graph for _, graph in screen.graphs), screen.graphs


def test_without_colours_and_quiet(sending: Stage) -> None:
    plain = Screen(sending, 100, "send", sending.folder / "big.bin", "bob", NO_COLOR="1")
    assert plain.watch() == 0
    assert plain.graphs
    assert not COLOUR.search(plain.written)
    quiet = Screen(sending, 100, "--quiet", "send", sending.folder / "big.bin", "bob")
    assert quiet.watch() == 0
    assert quiet.written == ""
    check_failed_event(sending.run("--quiet", "id", as_json=True), 2, "E_USAGE", "one of them")
    wrong = sending.run("--quiet", "send", sending.folder / "nothing", "bob")
    assert (wrong.status, wrong.err.count("\n")) == (2, 1), wrong
