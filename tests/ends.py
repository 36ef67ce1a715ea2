"""Commands of the two people of a scene, with files, pipes or anything else at their ends."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import IO

from scripts.product import BIN
from tests.e2e.conftest import wait_until
from tests.scene import Scene

Stream = int | IO[bytes]


def peer_of(role: str) -> str:
    """The other one of alice and bob."""
    return "bob" if role == "alice" else "alice"


class End:
    """One running command, which ends with the scene; what it says to people goes to a log of its own."""

    def __init__(
        self,
        scene: Scene,
        role: str,
        *words: str | Path,
        source: Stream = subprocess.DEVNULL,
        target: Stream,
        cwd: Path | None = None,
    ) -> None:
        home = scene.alice if role == "alice" else scene.bob
        self.log = scene.folder / f"{role}-{len(list(scene.folder.glob('*.said')))}.said"
        argv = [BIN / "p2pxfer", "--server", scene.address, "--home", home, *words]
        with self.log.open("w") as errors:
            self.child = scene.place.popen(
                role, [str(word) for word in argv], stdin=source, stdout=target, stderr=errors, cwd=cwd
            )
        scene.callback(self.child.wait, 10)
        scene.callback(self.child.kill)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def waits_for(self, text: str, seconds: float = 60.0) -> None:
        """It says this."""
        wait_until(lambda: text in self.said() or self.child.poll() is not None, seconds)
        assert text in self.said(), self.said()

    def ends(self, status: int, seconds: float = 120.0) -> str:
        """Its end, with this status; returns what it said."""
        try:
            assert self.child.wait(seconds) == status, self.said()
        except subprocess.TimeoutExpired:
            raise AssertionError(self.said()) from None
        assert "Traceback" not in self.said(), self.said()
        return self.said()
