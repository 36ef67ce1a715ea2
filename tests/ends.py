"""Commands of the two people of a scene, with files, pipes or anything else at their ends."""

from __future__ import annotations

import os
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


def resident(pid: int) -> int:
    """Peak resident memory of a process in bytes."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def until_nothing_more_is_read(source: IO[bytes], seconds: float = 90.0) -> int:
    """Wait until a child that shares `source` has read some of it and reads on no more; how many bytes it read."""
    # The offset of the shared descriptor tells.
    position = Path(f"/proc/self/fdinfo/{source.fileno()}")
    read: list[int] = []

    def stands_still() -> bool:
        read.append(int(position.read_text().split()[1]))
        return len(read) > 30 and read[-1] > 0 and len(set(read[-30:])) == 1

    wait_until(stands_still, seconds)
    return read[-1]


def drained(out: int, into: Path) -> None:
    """Copy what comes out of a pipe to a file until its end, and close it."""
    with os.fdopen(out, "rb") as reader, into.open("wb") as copy:
        while block := reader.read(1 << 20):
            copy.write(block)


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
