"""Live video through `p2pxfer pipe` between two NATs while the path changes: not a byte is lost or doubled."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import IO

import pytest

from tests.e2e.conftest import wait_until
from tests.lab.conftest import LabFactory
from tests.lab.habits import keep_to_the_relay
from tests.lab.nat import KINDS
from tests.pipes import PipeEnd
from tests.scene import Scene

TOOLS = {"ffmpeg": "ffmpeg", "ffprobe": "ffmpeg"}
KIB = 1 << 10
FRAMES = 500
CAMERA = [
    "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25", "-frames:v", str(FRAMES),
    "-c:v", "mpeg2video", "-q:v", "2", "-f", "mpegts", "-",
]  # fmt: skip
VIEWER = ["ffmpeg", "-v", "error", "-xerror", "-i", "-", "-f", "null", "-"]
COUNT = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"]
PART = 1024 * KIB


class Camera:
    """The encoder in alice's home; what it makes goes into the pipe as far as the test lets it."""

    def __init__(self, into: int) -> None:
        self._child = subprocess.Popen(CAMERA, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._into = into
        self._digest = hashlib.sha256()
        self.sent = 0

    def film(self, size: int) -> None:
        """Pass on so many bytes more, or all there are."""
        assert self._child.stdout is not None
        while size > 0 and (data := os.read(self._child.stdout.fileno(), min(size, 64 * KIB))):
            size -= len(data)
            self.sent += len(data)
            self._digest.update(data)
            while data:
                data = data[os.write(self._into, data) :]

    def finish(self) -> str:
        """Pass on the rest and end; returns the hash of everything."""
        self.film(1 << 40)
        os.close(self._into)
        assert self._child.stderr is not None
        assert (self._child.wait(30), self._child.stderr.read()) == (0, b"")
        return self._digest.hexdigest()


class Viewer:
    """The decoder in bob's home, which plays what comes; a copy is kept."""

    def __init__(self, source: IO[bytes], copy: Path) -> None:
        self.copy = copy
        self.seen = 0
        self._source = source
        self._child = subprocess.Popen(VIEWER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        assert self._child.stdin is not None
        with self._source, self.copy.open("wb") as copy, self._child.stdin as player:
            while data := os.read(self._source.fileno(), 64 * KIB):
                copy.write(data)
                player.write(data)
                self.seen += len(data)

    def waits_for(self, size: int) -> None:
        """So many bytes came."""
        wait_until(lambda: self.seen >= size, 90)

    def finish(self) -> None:
        """Everything was played, without a complaint."""
        self._thread.join(60)
        assert self._child.stdout is not None
        assert (self._child.stdout.read(), self._child.wait(60)) == (b"", 0)


def paths_of(end: PipeEnd, kind: str) -> int:
    """How often a path of this kind took over the data."""
    return end.said().count(f"path: {kind}")


@pytest.mark.deadline(300)
def test_a_live_video_is_played_whole_while_its_path_changes(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Directly, then by the relay when that is cut, then directly again; each time frames come through."""
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    if missing:
        pytest.fail(f"this test needs: apt-get install {' '.join(missing)}", pytrace=False)
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        (lens, feed), (screen, shown) = os.pipe(), os.pipe()
        ends = [
            PipeEnd(scene, "alice", source=lens, target=subprocess.DEVNULL),
            PipeEnd(scene, "bob", target=shown),
        ]
        os.close(lens)
        os.close(shown)
        camera, viewer = Camera(feed), Viewer(os.fdopen(screen, "rb"), tmp_path / "film.ts")

        def film_until(kind: str, before: list[int]) -> int:
            """A part, a little at a time until both ends say that another path of this kind has the data, and a part.

            Returns what came and went at the server for the last one.
            """
            camera.film(PART)
            viewer.waits_for(camera.sent)
            wait_until(lambda: all_above(counts(kind), before) or film_a_little(camera, viewer), 90)
            served, sent = lab.server_bytes(), camera.sent
            camera.film(PART)
            assert camera.sent - sent == PART, "the film is too short for this"
            viewer.waits_for(camera.sent)
            return lab.server_bytes() - served

        def counts(kind: str) -> list[int]:
            return [paths_of(end, kind) for end in ends]

        assert film_until("punched", [0, 0]) < PART // 2
        relayed = counts("relay")
        keep_to_the_relay(lab)
        assert film_until("relay", relayed) > 2 * PART
        punched = counts("punched")
        lab.unblock("pub")
        assert film_until("punched", punched) < PART // 2
        digest = camera.finish()
        for end in ends:
            end.ends(0, 60)
        viewer.finish()
        assert hashlib.sha256(viewer.copy.read_bytes()).hexdigest() == digest
        counted = subprocess.run([*COUNT, viewer.copy], capture_output=True, text=True, timeout=60, check=True)
        assert (set(counted.stdout.replace(",", " ").split()), counted.stderr) == ({str(FRAMES)}, "")


def all_above(counts: list[int], before: list[int]) -> bool:
    return all(count > old for count, old in zip(counts, before, strict=True))


def film_a_little(camera: Camera, viewer: Viewer) -> bool:
    """What is under way tells which path carries; false, since that takes a moment to be said."""
    camera.film(KIB)
    viewer.waits_for(camera.sent)
    return False
