"""The receiver's machine loses power: what an ext4 file system holds at each step, and what the next run makes of it.

The destination lies on an image behind a loop device.  Before and after every sync, write of a chunk and rename the
image is copied as it is: what the file system has not given to the device yet is missing in the copy, as after a power
cut, for nothing is written back by itself in this time.  Each copy is then mounted, which replays the file system's own
journal, looked at, and received into again.

The copies have what was given to the device in the order in which it was given.  A device that keeps writes back and
reorders them, against the barriers of the file system, is not tested: it takes the device mapper, which test machines
do not have.  Nor can ext4 show a missing sync of a directory, since any sync takes all names along;
``test_staging.py::test_order_of_what_goes_to_the_disk`` does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from p2pxfer.core.transfer.geometry import chunk_span
from p2pxfer.net import disk
from p2pxfer.net.staging import journalfile, publishing, treefiles
from tests.net.disk_tools import Content, noise, open_staging, put, run, tree

IMAGE = 24 * 2**20
BATCH = 6
TOPS = ["big.bin", "dir", "many", "zero"]
SHM = Path("/dev/shm")


def a_bit_of_everything() -> Content:
    """A file of several chunks, a link, empty things, and so many small files that all are synced at once."""
    files = {
        "big.bin": noise(65_536 * 7 + 5),
        "dir/small.txt": b"small",
        "dir/deep/other.bin": noise(65_536 * 2, 2),
        "zero": b"",
        **{f"many/{number}": noise(number * 100, number) for number in range(20)},
    }
    return Content(files, directories=["dir/empty"], links={"dir/link": "small.txt"})


def everything_of(content: Content) -> dict[str, bytes]:
    """Files, and links as :func:`tree` shows them."""
    return {**content.files, "dir/link": b"-> small.txt"}


def command(*words: str | Path) -> None:
    subprocess.run([*map(str, words)], check=True, capture_output=True, timeout=50)


@contextlib.contextmanager
def mounted(image: Path, where: Path, options: str) -> Iterator[Path]:
    where.mkdir(exist_ok=True)
    command("mount", "-o", f"loop,{options}", image, where)
    try:
        yield where
    finally:
        command("umount", where)


class Cuts:
    """Copies of the image, each with the name of the moment; equal ones are kept once."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.kept: list[tuple[str, Path]] = []
        self.moments = 0
        self._image = image
        self._folder = folder
        self._seen: set[bytes] = set()

    def __call__(self, moment: str) -> None:
        self.moments += 1
        digest = blake3(self._image.read_bytes()).digest()
        if digest in self._seen and moment != "end":
            return
        self._seen.add(digest)
        copy = self._folder / f"cut-{len(self.kept)}"
        command("cp", "--sparse=always", self._image, copy)
        self.kept.append((f"{self.moments} {moment}", copy))

    def round(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """``real``, with a cut before and one after it."""

        def cut(*args: Any, **keywords: Any) -> Any:
            self(f"before {name}")
            result = real(*args, **keywords)
            self(f"after {name}")
            return result

        return cut


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A place for images, in memory if possible."""
    where = SHM / f"p2pxfer-cut-{os.getpid()}" if SHM.is_dir() else tmp_path / "images"
    where.mkdir()
    try:
        yield where
    finally:
        shutil.rmtree(where)


@pytest.fixture(params=["ordered", "writeback"])
def options(request: pytest.FixtureRequest, folder: Path) -> str:
    """Mount options: whether the file system itself takes care that data precedes the names that lead to it."""
    image = folder / "probe"
    image.touch()
    os.truncate(image, IMAGE)
    options = f"commit=600,data={request.param}"
    try:
        command("mkfs.ext4", "-q", "-F", image)
        with mounted(image, folder / "probe-place", options):
            pass
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"needs the right to mount images, and ext4: {error}")
    return options


def check_claims(where: Path, content: Content) -> int:
    """Every chunk that the next run would not fetch again is on the disk as it was sent; how many those are."""
    receiver = open_staging(where, content)
    try:
        if receiver.published_root is not None:
            assert receiver.published_root == content.root
            return len(content.addresses())
        for file, index in receiver.have:
            path = content.manifest.files[file].path
            offset, length = chunk_span(content.manifest.files[file].size, index)
            home = where / receiver.name / "tree" / path
            with (home if home.exists() else where / path).open("rb") as data:
                data.seek(offset)
                assert data.read(length) == content.chunk((file, index)), (path, index)
        return len(receiver.have)
    finally:
        receiver.close()


def check_cut(where: Path, content: Content, moment: str) -> int:
    """What is there under a final name is whole, claims are true, and the next run ends well."""
    tops = {path.name for path in where.iterdir() if not path.name.startswith(".p2pxfer-")} - {"lost+found"}
    found = {path: data for path, data in tree(where).items() if path.partition("/")[0] in tops}
    for path, data in everything_of(content).items():
        if path.partition("/")[0] in tops:
            assert found.get(path, b"missing") == data, path
    assert tops <= {*TOPS}
    if moment.endswith(" end"):
        assert tops == {*TOPS}, "FinalAck would have been sent"
    claimed = check_claims(where, content)
    assert run(where, content, BATCH) == TOPS
    files = {path: data for path, data in tree(where).items() if data is not None}
    assert files == everything_of(content)
    assert not [path for path in where.iterdir() if path.name.startswith(".p2pxfer-")]
    return claimed


def made_image(folder: Path) -> Path:
    image = folder / "image"
    image.touch()
    os.truncate(image, IMAGE)
    command("mkfs.ext4", "-q", "-F", image)
    return image


@contextlib.contextmanager
def cutting(cuts: Cuts, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Before and after every call that gives something to the disk there is a cut."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", cuts.round("sync", os.fsync))
        for module in (treefiles, journalfile):
            patched.setattr(module, "fdatasync", cuts.round("data sync", disk.fdatasync))
        for module in (treefiles, publishing):
            patched.setattr(module, "sync_file_system", cuts.round("sync of all", disk.sync_file_system))
        patched.setattr(treefiles, "write_all", cuts.round("chunk", disk.write_all))
        patched.setattr(disk, "_rename_exclusive", cuts.round("rename", disk._rename_exclusive))
        yield


@pytest.mark.deadline(180)
def test_f04_f05_f06_power_is_cut_at_every_step(folder: Path, options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = a_bit_of_everything()
    # The last chunk first, so that the length of a file tells nothing about the chunks before.
    backwards = content.addresses()[::-1]
    monkeypatch.setattr(content, "addresses", lambda: backwards)
    image = made_image(folder)
    with mounted(image, folder / "place", options) as place:
        command("sync", "--file-system", place)
        cuts = Cuts(image, folder)
        with cutting(cuts, monkeypatch):
            run(place, content, BATCH, cuts)
    claimed = []
    for moment, copy in cuts.kept:
        with mounted(copy, folder / "copy", options) as where:
            try:
                claimed.append(check_cut(where, content, moment))
            except Exception as error:
                raise AssertionError(f"power cut {moment}") from error
        copy.unlink()
    print(f"{cuts.moments} moments, {len(cuts.kept)} states of the disk; chunks claimed: {claimed}")
    assert len(cuts.kept) > 15
    assert {0, BATCH, 2 * BATCH, len(content.addresses())} <= {*claimed}


def receive(place: Path, content: Content, moment: Callable[[str], None]) -> None:
    """Everything once more, as where a sender's file became another one; each chunk may be written back at once."""
    receiver = open_staging(place, content)
    for at in range(0, len(content.addresses()), BATCH):
        part = content.addresses()[at : at + BATCH]
        for address in part:
            put(receiver, content, [address])
            moment("chunk")
        command("sync", "--file-system", place)
        moment("written back")
        receiver.sync([content.claim(address) for address in part])
    receiver.close()


@pytest.mark.deadline(180)
def test_f04_power_is_cut_while_other_bytes_are_written_over_claimed_ones(
    folder: Path, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the journal claims at any moment is there, whichever of the two it is."""
    size = 65_536 * 7 + 5
    versions = [Content({"big.bin": noise(size, seed)}) for seed in (1, 2)]
    image = made_image(folder)
    with mounted(image, folder / "place", options) as place:
        receive(place, versions[0], lambda _: None)
        cuts = Cuts(image, folder)
        with cutting(cuts, monkeypatch):
            receive(place, versions[1], cuts)
        cuts("end")
    claims = []
    for moment, copy in cuts.kept:
        with (
            mounted(copy, folder / "copy", options) as where,
            contextlib.closing(open_staging(where, versions[0])) as receiver,
        ):
            data = (where / receiver.name / "tree" / "big.bin").read_bytes()
            for (_, index), digest in receiver.have.items():
                offset, length = chunk_span(size, index)
                assert blake3(data[offset : offset + length]).digest() == digest, (moment, index)
            claims.append([digest == versions[1].digest(address) for address, digest in receiver.have.items()])
        copy.unlink()
    assert claims[0] == [False] * 8
    assert claims[-1] == [True] * 8
    assert any(len(each) < 8 for each in claims)
