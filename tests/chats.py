"""Chats between the two people of a scene, through plain pipes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from scripts.product import BIN
from tests.e2e.conftest import wait_until
from tests.scene import Scene


class ChatEnd:
    """One running `p2pxfer chat`: lines go in through a pipe, what the peer says goes to a file."""

    def __init__(self, scene: Scene, role: str, *words: str | Path) -> None:
        home, peer = (scene.alice, "bob") if role == "alice" else (scene.bob, "alice")
        number = len(list(scene.folder.glob("chat-*.out")))
        self.out = scene.folder / f"chat-{role}-{number}.out"
        self.log = scene.folder / f"chat-{role}-{number}.log"
        argv = [BIN / "p2pxfer", "--server", scene.address, "--home", home, "chat", peer, *words]
        there, self._feed = os.pipe()
        with self.out.open("wb") as out, self.log.open("wb") as errors:
            self.child = scene.place.popen(
                role, [str(word) for word in argv], stdin=there, stdout=out, stderr=errors, cwd=scene.folder
            )
        os.close(there)
        self._open = True
        scene.callback(self.child.wait, 10)
        scene.callback(self.child.kill)
        scene.callback(self.finish)

    def say(self, *lines: str) -> None:
        os.write(self._feed, "".join(f"{line}\n" for line in lines).encode())

    def finish(self) -> None:
        """The end of its input."""
        if self._open:
            self._open = False
            os.close(self._feed)

    def heard(self) -> list[str]:
        return self.out.read_text().splitlines()

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_heard(self, count: int, seconds: float = 60.0) -> None:
        wait_until(lambda: len(self.heard()) >= count, seconds)

    def wait_said(self, text: str, seconds: float = 60.0) -> None:
        wait_until(lambda: text in self.said(), seconds)

    def kill(self) -> None:
        self.child.kill()
        self.child.wait(10)

    def ends(self, status: int, seconds: float = 60.0) -> str:
        """Its end, with this status; returns what it said to people."""
        try:
            assert self.child.wait(seconds) == status, self.said()
        except subprocess.TimeoutExpired:
            raise AssertionError(self.said()) from None
        assert "Traceback" not in self.said(), self.said()
        assert "fault" not in self.said(), self.said()
        return self.said()
