"""A directory flips between itself and a link to somewhere else, as fast as another process can do it.

Whatever the receiver makes, writes, publishes or removes meanwhile, and whatever the sender reads, nothing happens in
that other place.  Beside the product a naive function does the same by paths: it must be fooled, else nothing is shown.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2pxfer.errors import DiskError, SourceChanged
from p2pxfer.net.transfer.source import Source
from tests.net.disk_tools import Content, open_staging, put, tree

SHORT, LATEST = 0.5, 40.0
"""Seconds of a race; and after which both must have met on the busiest machine."""
LONG = 10.0
FILES = 2000
FLIP = """
import ctypes, os, sys
here, link, outside = map(os.fsencode, sys.argv[1:])
exchange = ctypes.CDLL(None).renameat2
spare = 0
print("ready", flush=True)
while True:
    if exchange(-100, here, -100, link, 2) != 0 or not (os.path.islink(here) or os.path.islink(link)):
        # whoever is attacked has removed one of the two
        for call, words in (
            (os.mkdir, (here,)), (os.rename, (link, link + b"-%d" % spare)), (os.symlink, (outside, link)),
        ):
            try:
                call(*words)
            except OSError:
                pass
        spare += 1
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="exchanges two names in one call of Linux")
lengths = pytest.mark.parametrize("seconds", [SHORT, pytest.param(LONG, marks=pytest.mark.soak)])


@contextlib.contextmanager
def flipping(here: Path, outside: Path) -> Iterator[None]:
    """``here`` is a directory and a link to ``outside`` by turns."""
    beside = here.parent.parent if here.parent.name == "tree" else here.parent
    argv = [sys.executable, "-c", FLIP, *map(str, (here, beside / "link", outside))]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            yield
        finally:
            child.kill()


class Race:
    """Counts how often the naive function was fooled, and the product refused, which it has to if ``refusing``."""

    def __init__(self, seconds: float, *, refusing: bool = False) -> None:
        self._refusing = refusing
        self._begun = time.monotonic()
        self._seconds = seconds
        self.fooled = self.refused = self.done = 0

    def __iter__(self) -> Iterator[int]:
        number = 0
        while time.monotonic() < self._begun + (self._seconds if self.proves else LATEST):
            yield number
            number += 1
        assert self.proves, f"the race did not happen: {vars(self)}"

    @property
    def proves(self) -> bool:
        return bool(self.fooled and self.done and (self.refused or not self._refusing))

    def naive(self, escaped: Callable[[], bool]) -> None:
        with contextlib.suppress(OSError):
            self.fooled += escaped()

    def product(self, does: Callable[..., object], *words: object) -> None:
        try:
            does(*words)
        except (DiskError, SourceChanged):
            self.refused += 1
        else:
            self.done += 1


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    where = tmp_path / "outside"
    where.mkdir()
    return where


def opened_by_name(path: Path) -> None:
    path.write_bytes(b"x")


@lengths
@pytest.mark.parametrize(
    ("flavour", "naive"),
    [("mkdir", lambda top, number: (top / str(number)).mkdir()),
     ("create", lambda top, number: opened_by_name(top / str(number)))],
    ids=["directories", "files"],
)  # fmt: skip
def test_f30_nothing_is_made_elsewhere(
    dest: Path, outside: Path, flavour: str, naive: Callable[[Path, int], None], seconds: float
) -> None:
    names = [f"d/{number}/x" if flavour == "mkdir" else f"d/{number}" for number in range(FILES)]
    content = Content(dict.fromkeys([*names, "e/x"], b"inside"))
    staging = open_staging(dest, content)
    theirs = outside.parent / "theirs"
    theirs.mkdir()
    top, trap = dest / staging.name / "tree" / "d", outside.parent / "trap" / "d"
    trap.parent.mkdir()
    race = Race(seconds, refusing=True)
    with flipping(top, outside), flipping(trap, theirs):
        for number in race:

            def by_name(number: int = number) -> bool:
                naive(trap, number)
                return (theirs / str(number)).exists()

            race.naive(by_name)
            race.product(put, staging, content, [(number % FILES, 0)])
            put(staging, content, [(FILES, 0)])  # the directory that was used last is another one
    print(vars(race))
    staging.close()
    assert tree(outside) == {}


@lengths
def test_f30_nothing_is_published_elsewhere(dest: Path, outside: Path, seconds: float) -> None:
    """The destination itself flips behind the receivers that have opened it."""
    count = 0
    race = Race(seconds)
    for turn in race:
        waiting = []
        for number in range(20):
            content = Content({f"{turn}-{number}": b"inside"})
            staging = open_staging(dest, content)
            put(staging, content, [(0, 0)])
            staging.sync([content.claim((0, 0))])
            waiting.append((staging, content))
            (outside.parent / f"{turn}-{number}-naive").write_bytes(b"")
        with flipping(dest, outside):
            for number, (staging, content) in enumerate(waiting):
                for _ in range(20):

                    def by_name(name: str = f"{turn}-{number}-naive") -> bool:
                        where = outside.parent / name
                        where.rename(dest / name)
                        escaped = (outside / name).exists()
                        (outside / name if escaped else dest / name).rename(where)
                        return escaped

                    race.naive(by_name)
                race.product(staging.finish, content.root, 1e9)
                count += 1
        settle(dest, outside.parent)
        for staging, _ in waiting:
            staging.discard()
            staging.close()
    print(vars(race))
    assert not [name for name in os.listdir(outside) if not name.endswith("-naive")]
    assert race.done == count
    assert len([name for name in os.listdir(dest) if not name.endswith("-naive")]) == count


def settle(here: Path, beside: Path) -> None:
    """Whatever moment the flipping process was killed in: the directory under its name again."""
    if here.is_symlink():
        here.unlink()
        (beside / "link").rename(here)
    else:
        (beside / "link").unlink(missing_ok=True)


@lengths
def test_f30_nothing_is_removed_elsewhere(dest: Path, outside: Path, seconds: float) -> None:
    """What the list does not have any more is removed from a place that is opened again."""
    content = Content({"d/x": b"inside", "e": b"e"})
    first = open_staging(dest, content)
    first.close()
    strays = [f"stray-{number}" for number in range(20)]
    for name in strays:
        (outside / name).write_bytes(b"outside")
    theirs = outside.parent / "theirs"
    theirs.mkdir()
    top, trap = dest / first.name / "tree" / "d", outside.parent / "trap" / "d"
    trap.parent.mkdir()
    race = Race(seconds)
    with flipping(top, outside), flipping(trap, theirs):
        for _ in race:
            (theirs / "victim").write_bytes(b"")
            for _ in range(20):

                def by_name() -> bool:
                    (trap / "victim").unlink()
                    return not (theirs / "victim").exists()

                race.naive(by_name)
            for name in strays:
                with contextlib.suppress(OSError):
                    os.close(os.open(top / name, os.O_CREAT | os.O_WRONLY | os.O_EXCL))
            race.product(lambda: open_staging(dest, content).close())
    print(vars(race))
    assert sorted(os.listdir(outside)) == sorted(strays)
    assert all((outside / name).read_bytes() == b"outside" for name in strays)


@lengths
def test_f30_nothing_is_read_elsewhere(tmp_path: Path, outside: Path, seconds: float) -> None:
    top = tmp_path / "sent" / "d"
    top.mkdir(parents=True)
    for number in range(50):
        (top / str(number)).write_bytes(b"inside")
        (outside / str(number)).write_bytes(b"secret")
    source = Source.scan([str(tmp_path / "sent")])
    race = Race(seconds, refusing=True)
    with flipping(top, outside):
        for number in race:

            def by_name(number: int = number) -> bool:
                return (top / str(number % 50)).read_bytes() == b"secret"

            race.naive(by_name)

            def read(number: int = number) -> None:
                assert source.read_chunk(number % 50, 0)[0] == b"inside"

            race.product(read)
            source.close()
    print(vars(race))
