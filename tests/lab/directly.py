"""A small file from alice to bob with the relay forbidden: what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.product import Program
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.topology import Lab
from tests.scene import Scene, events_of, first_path, last, random_file

SMALL = 1 << 16


@dataclass(frozen=True, slots=True)
class Ended:
    """How the sender ended: its status, then why it failed, or after how many milliseconds a direct path carried
    data, and of which kind it was."""

    status: int
    message: str = ""
    after_ms: float = 0.0
    path: str = ""

    @property
    def connected(self) -> float | None:
        """The milliseconds, None if it failed."""
        return self.after_ms if self.status == 0 else None


class DirectScene(Scene):
    """A scene of two contacts whose receiver waits already; `words` are more words for both commands."""

    def __init__(self, lab: Lab, folder: Path, *words: str) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(lab, folder, loopback=False)
        self._words = ("--path", "direct", *words)
        self.receiver: Program | None = None

    def begin(self, *words: str) -> DirectScene:
        """Start the server and bob's receiver, which stays if `words` do not say otherwise."""
        self.start_server()
        self.make_contacts()
        random_file(self.folder / "small.bin", SMALL)
        self.receiver = self.receive("--no-code", *self._words, *words)
        return self

    def send_small(self) -> Program:
        """Start alice's sender."""
        return self.send(self.folder / "small.bin", *self._words)


@contextlib.contextmanager
def direct_scene(lab: Lab, folder: Path, *words: str) -> Iterator[DirectScene]:
    """Such a scene, begun; `words` are more words for both commands."""
    with DirectScene(lab, folder, *words) as scene:
        yield scene.begin()


def send_directly(lab: Lab, folder: Path) -> Ended:
    """Send the file; whatever carried it was direct."""
    with DirectScene(lab, folder) as scene:
        scene.begin("--once")
        alice = scene.send_small()
        status = alice.wait(50).status
        events = events_of(alice)
        if status != 0:
            return Ended(status, str(last(events, "error")["message"]))
        assert scene.receiver is not None
        scene.receiver.succeed(30)
    path = first_path(events, "punched", "direct")
    assert set(last(events, "done")["bytes_by_path"]) <= {"punched", "direct"}
    return Ended(status, after_ms=float(path["after_ms"]), path=str(path["path"]))


def connect(lab_factory: LabFactory, folder: Path, one: str, other: str, **line: Any) -> float | None:
    """Send a small file directly or not at all; milliseconds until the direct path carried data, if it came.

    `line`: more arguments of `Lab`.
    """
    lab = lab_factory(KINDS[one], KINDS[other], **{"rtt_ms": 80, **line})
    ended = send_directly(lab, folder)
    lab.close()
    if ended.status != 0:
        print(f"{one} + {other}: {ended.message}")
    return ended.connected
