"""Receiving on a file system for which names that differ in case or composition are one."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.errors import NameCollision
from tests.net.disk_tools import Content, noise, open_staging, put, run, tree
from tests.net.foldingdisk import FoldingDisk

E_ACUTE = "é"
DECOMPOSED = unicodedata.normalize("NFD", E_ACUTE)

pytestmark = pytest.mark.usefixtures("no_descriptor_is_lost")


@pytest.fixture(params=["keeps names", "normalises names"])
def folding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FoldingDisk:
    return FoldingDisk(monkeypatch, normalises=request.param == "normalises names")


def contents(where: Path) -> dict[str, bytes | None]:
    """What lies below a directory, under composed names."""
    return {unicodedata.normalize("NFC", name): data for name, data in tree(where).items()}


def content() -> Content:
    files = {f"{E_ACUTE}t{E_ACUTE}/Straße.bin": noise(200_000), f"{E_ACUTE}t{E_ACUTE}/plain": b"p", "B.txt": b"b"}
    return Content(files, links={f"{E_ACUTE}t{E_ACUTE}/to": "plain"})


def test_the_layer_is_such_a_file_system(dest: Path, folding: FoldingDisk) -> None:
    here = os.open(dest, os.O_RDONLY)
    try:
        os.close(os.open(f"A{E_ACUTE}", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        with pytest.raises(FileExistsError):
            os.open(f"a{DECOMPOSED}", os.O_CREAT | os.O_WRONLY | os.O_EXCL, dir_fd=here)
        with pytest.raises(FileExistsError):
            os.mkdir(f"A{E_ACUTE}".upper(), dir_fd=here)
        os.unlink(f"a{DECOMPOSED}", dir_fd=here)
    finally:
        os.close(here)
    assert folding.folded == 3
    assert os.listdir(dest) == []


def test_f31_a_list_with_names_that_are_one_there_is_refused(dest: Path) -> None:
    """On every machine, before anything is made: nobody knows where the files will go one day."""
    for one, other in (("a", "A"), (E_ACUTE, DECOMPOSED), ("straße", "STRASSE")):
        with pytest.raises(NameCollision):
            Manifest([Entry(name, FILE, 1) for name in (one, other)])
    assert os.listdir(dest) == []


def test_f31_whatever_is_there_stays(dest: Path, folding: FoldingDisk) -> None:
    (dest / "b.TXT").write_bytes(b"mine")
    (dest / f"{DECOMPOSED}T{DECOMPOSED}").mkdir()
    assert run(dest, content(), batch=1) == ["B (1).txt", f"{E_ACUTE}t{E_ACUTE} (1)"]
    found = contents(dest)
    assert found["b.TXT"] == b"mine"
    assert found["B (1).txt"] == b"b"
    assert found[f"{E_ACUTE}t{E_ACUTE} (1)/Straße.bin"] == noise(200_000)
    assert not list((dest / f"{DECOMPOSED}T{DECOMPOSED}").iterdir())


def test_f31_somebody_takes_such_a_name_in_the_last_moment(dest: Path, folding: FoldingDisk) -> None:
    """When it was looked which names are free it was not there."""

    def failpoint(name: str) -> None:
        if name == "rx.before_rename":
            (dest / "b.TXT").write_bytes(b"mine")

    assert run(dest, content(), 1, failpoint)[0] == "B (1).txt"
    found = contents(dest)
    assert (found["b.TXT"], found["B (1).txt"]) == (b"mine", b"b")


def test_f31_it_goes_on_after_a_cut(dest: Path, folding: FoldingDisk) -> None:
    """The names that the disk lists may be others than those that were asked for."""
    what = content()
    first = open_staging(dest, what)
    put(first, what, what.addresses())
    first.sync(map(what.claim, what.addresses()))
    first.close()
    again = open_staging(dest, what)
    kept = len(again.have)
    again.close()
    print(f"{kept} of {len(what.addresses())} chunks kept")
    assert run(dest, what, batch=1) == ["B.txt", f"{E_ACUTE}t{E_ACUTE}"]
    assert {path: data for path, data in contents(dest).items() if data is not None} == what.files | {
        f"{E_ACUTE}t{E_ACUTE}/to": b"-> plain"
    }
