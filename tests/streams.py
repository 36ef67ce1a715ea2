"""Streams between the two people of a scene: `send -` and who receives it, with files or anything else at the ends."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import IO

from tests.ends import End, Stream
from tests.scene import Scene


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
