"""Pipes between the two people of a scene, with files or anything else at their ends."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.ends import End, Stream, peer_of
from tests.scene import Scene


class PipeEnd(End):
    """One running `p2pxfer pipe`."""

    def __init__(
        self, scene: Scene, role: str, *words: str, source: Stream = subprocess.DEVNULL, target: Stream
    ) -> None:
        super().__init__(scene, role, "pipe", peer_of(role), *words, source=source, target=target)


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
