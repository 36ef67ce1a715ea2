"""Streams between the two people of a scene: `send -` and who receives it, with files or anything else at the ends."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import IO

from scripts.product import BIN
from tests.e2e.conftest import wait_until
from tests.scene import Scene

Stream = int | IO[bytes]


class End:
    """One running command; what it says goes to a log of its own."""

    def __init__(
        self, scene: Scene, role: str, *words: str | Path, source: Stream = subprocess.DEVNULL, target: Stream
    ) -> None:
        home = scene.alice if role == "alice" else scene.bob
        self.log = scene.folder / f"{role}-{len(list(scene.folder.glob('*.said')))}.said"
        argv = [BIN / "p2pxfer", "--server", scene.address, "--home", home, *words]
        with self.log.open("w") as errors:
            self.child = scene.place.popen(
                role, [str(word) for word in argv], stdin=source, stdout=target, stderr=errors
            )
        scene.callback(self.child.wait, 10)
        scene.callback(self.child.kill)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def waits_for(self, text: str, seconds: float = 60.0) -> None:
        """It says this."""
        wait_until(lambda: text in self.said() or self.child.poll() is not None, seconds)
        assert text in self.said(), self.said()

    def ends(self, status: int, timeout: float = 120.0) -> str:
        """Its end, with this status; returns what it said."""
        assert self.child.wait(timeout) == status, self.said()
        assert "Traceback" not in self.said(), self.said()
        return self.said()


def taker(scene: Scene, target: Stream, *words: str) -> End:
    """Bob, who writes one stream to `target`; he is registered."""
    end = End(scene, "bob", "receive", "--as", "bob", "--no-code", "--stdout", *words, target=target)
    end.waits_for("registered as bob")
    return end


def giver(scene: Scene, source: Stream, *words: str) -> End:
    """Alice, who sends what comes from `source`."""
    return End(scene, "alice", "send", "-", "bob", *words, source=source, target=subprocess.DEVNULL)


def opened(path: Path) -> IO[bytes]:
    """A file to write to, which the child keeps."""
    return path.open("wb")
