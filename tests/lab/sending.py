"""A large file on its way between the two homes of a lab, and what both programs say meanwhile, with the times."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from scripts.product import JsonEvent, Program, client
from tests.lab.topology import Lab
from tests.scene import Scene, file_hash, random_file

MIB = 1 << 20
ANSWER_S = 30.0
"""For something that is to happen soon, seconds."""
SILENCE_S = 90.0
"""Longest time in which a program says nothing at all, seconds."""


def path_is(kind: str, state: str) -> Callable[[JsonEvent], bool]:
    """Whether an event says that of a path."""
    return lambda event: event["event"] == "path" and (event["path"], event["state"]) == (kind, state)


def has_come(size: int) -> Callable[[JsonEvent], bool]:
    """Whether an event says that more than ``size`` bytes are there."""
    return lambda event: event["event"] == "progress" and int(event["bytes"]) > size


class Watch:
    """The events of a running program, with the time at which each came; a thread collects them."""

    def __init__(self, program: Program, silence: float = SILENCE_S) -> None:
        self.seen: list[tuple[float, JsonEvent]] = []
        self.program = program
        self._silence = silence
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        for event in self.program.events(self._silence):
            with self._news:
                self.seen.append((time.monotonic(), event))
                self._news.notify()

    def until(self, wanted: Callable[[JsonEvent], bool], within: float = ANSWER_S) -> float:
        """Wait for an event that is wanted, also one that was here before; returns when the first one came."""
        with self._news:
            assert self._news.wait_for(lambda: any(wanted(event) for _, event in self.seen), within)
            return next(at for at, event in self.seen if wanted(event))

    def rest(self) -> list[JsonEvent]:
        """Wait for the end; returns every event."""
        self._thread.join(self._silence + 10.0)
        assert not self._thread.is_alive(), "the program has not ended"
        return [event for _, event in self.seen]

    def carried_after(self, moment: float, *kinds: str) -> float | None:
        """Seconds from ``moment`` until a path of these kinds began to carry data, ``None`` if none did."""
        for at, event in self.seen:
            if at > moment and any(path_is(kind, "active")(event) for kind in kinds):
                return at - moment
        return None

    def times(self, name: str) -> list[float]:
        """When events of one name came."""
        return [at for at, event in self.seen if event["event"] == name]


class Sending(Scene):
    """A file of ``size`` bytes on its way from alice to bob, both behind their NATs; ``words`` are for the sender.

    ``script``: a program of the tests, with its arguments, that runs the sender's command in the place of `p2pxfer`.
    ``silence``: longest time in which a program may say nothing, seconds.
    """

    def __init__(
        self,
        lab: Lab,
        folder: Path,
        size: int,
        *words: str,
        script: tuple[str, ...] = (),
        silence: float = SILENCE_S,
    ) -> None:
        super().__init__(lab, folder, loopback=False)
        self.server = self.start_server()
        self.make_contacts()
        self.source = folder / "big.bin"
        self.digest = random_file(self.source, size)
        self.relayed_before = lab.server_bytes()
        bob = self.receive("--once", "--no-code")
        alice = self._run(lab, words, script) if script else self.send(self.source, *words)
        self.receiver, self.sender = Watch(bob, silence), Watch(alice, silence)

    def _run(self, lab: Lab, words: tuple[str, ...], script: tuple[str, ...]) -> Program:
        command = client(self.address, self.alice, "send", self.source, "bob", *words)[1:]
        program = Program(lab, "alice", [sys.executable, *script, *command], self.folder / "alice.log")
        self.callback(program.stop)
        return program

    def arrives(self) -> tuple[list[JsonEvent], list[JsonEvent]]:
        """Both end well, and the file is right; what the sender and the receiver said until then."""
        said = self.sender.rest(), self.receiver.rest()
        for watch in (self.sender, self.receiver):
            watch.program.succeed(10)
        assert file_hash(self.inbox / self.source.name) == self.digest
        return said
