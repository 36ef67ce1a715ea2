"""Chats between the two people of a scene, through plain pipes."""

from __future__ import annotations

import os
from pathlib import Path

from tests.e2e.conftest import wait_until
from tests.ends import End, peer_of
from tests.scene import Scene


class ChatEnd(End):
    """One running `p2pxfer chat`: lines go in through a pipe, what the peer says goes to a file."""

    def __init__(self, scene: Scene, role: str, *words: str | Path) -> None:
        self.out = scene.folder / f"chat-{role}-{len(list(scene.folder.glob('chat-*.out')))}.out"
        there, self._feed = os.pipe()
        with self.out.open("wb") as out:
            super().__init__(scene, role, "chat", peer_of(role), *words, source=there, target=out, cwd=scene.folder)
        os.close(there)
        self._open = True
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

    def wait_heard(self, count: int, seconds: float = 60.0) -> None:
        wait_until(lambda: len(self.heard()) >= count, seconds)

    def kill(self) -> None:
        self.child.kill()
        self.child.wait(10)

    def ends(self, status: int, seconds: float = 60.0) -> str:
        """See :meth:`End.ends`."""
        said = super().ends(status, seconds)
        assert "fault" not in said, said
        return said
