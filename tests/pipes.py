"""Pipes between the two people of a scene, with files or anything else at their ends."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import IO

from scripts.product import BIN
from tests.scene import Scene

Stream = int | IO[bytes]


class PipeEnd:
    """One running `p2pxfer pipe`; what it says goes to a log of its own."""

    def __init__(
        self, scene: Scene, role: str, *words: str, source: Stream = subprocess.DEVNULL, target: Stream
    ) -> None:
        home, peer = (scene.alice, "bob") if role == "alice" else (scene.bob, "alice")
        self.log = scene.folder / f"pipe-{role}-{len(list(scene.folder.glob('pipe-*.log')))}.log"
        argv = [BIN / "p2pxfer", "--server", scene.address, "--home", home, "pipe", peer, *words]
        with self.log.open("w") as errors:
            self.child = scene.place.popen(
                role, [str(word) for word in argv], stdin=source, stdout=target, stderr=errors
            )
        scene.callback(self.child.wait, 10)
        scene.callback(self.child.kill)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def ends(self, status: int, timeout: float = 120.0) -> str:
        """Its end, with this status; returns what it said."""
        assert self.child.wait(timeout) == status, self.said()
        assert "Traceback" not in self.said(), self.said()
        return self.said()


def joined(scene: Scene, sources: dict[str, Path], *words: str) -> tuple[PipeEnd, PipeEnd]:
    """Both ends with files: what alice is given goes to `bob.out`, and the other way round."""
    ends = []
    for role in ("alice", "bob"):
        target = (scene.folder / f"{role}.out").open("wb")
        source = sources[role].open("rb") if role in sources else None
        with target:
            ends.append(PipeEnd(scene, role, *words, source=source or subprocess.DEVNULL, target=target))
        if source is not None:
            source.close()
    return ends[0], ends[1]
