"""Every shape of data arrives as it was, and nothing that stands at the destination is touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pxfer.core.transfer.geometry import MIN_CHUNK, USUAL_CHUNKS, chunk_size
from scripts.product import Program, ProgramError
from tests.e2e.conftest import (
    MIB,
    Outcome,
    Stage,
    end_of,
    fast_stage,
    names_in,
    staging_of,
    until_bytes,
    wait_until,
)
from tests.scene import events_of, file_hash, last, random_file

LIVE = 32 * MIB
"""The size of a file that changes while it is sent, bytes."""
SLOW = "16M"
"""What holds its transfer up, so that it is under way then."""
HOUR_AGO = time.time_ns() - 3_600_000_000_000 + 123_456_789


class Desk:
    """One server and one receiver for the small shapes; what arrived is taken away after each test."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.folder = stage.folder / "sources"
        self.inbox = stage.inbox
        stage.start_server()
        stage.make_contacts()
        self.bob = stage.receive("--no-code")

    def send(self, *paths: Path | str, cwd: Path | None = None) -> Outcome:
        """Send, and wait until bob has put his staging place away."""
        outcome = self.stage.run("send", *paths, "bob", as_json=True, cwd=cwd)
        wait_until(lambda: not staging_of(self.inbox))
        return outcome

    def check(self, *paths: Path) -> None:
        """Send, and compare all that arrived."""
        outcome = self.send(*paths)
        assert outcome.status == 0, outcome
        assert sorted(path.name for path in self.inbox.iterdir()) == sorted(path.name for path in paths)
        done = self.bob.wait_for("done")
        assert sorted(done["saved"]) == sorted(path.name for path in paths)
        assert sum(done["bytes_by_path"].values()) == done["bytes"] == last(outcome.events, "done")["bytes"]
        for path in paths:
            assert picture(self.inbox / path.name) == picture(path)


def links(top: Path) -> dict[str, str]:
    """What every symbolic link below a directory says."""
    return {str(path.relative_to(top)): os.readlink(path) for path in top.rglob("*") if path.is_symlink()}


def picture(top: Path) -> dict[str, tuple[object, ...]]:
    """Everything that a transfer carries: kinds, names, contents, times and permissions."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [top, *top.rglob("*")]:
        status = path.lstat()
        is_file = stat.S_ISREG(status.st_mode)
        name = "" if path == top else path.relative_to(top).as_posix()
        content = file_hash(path) if is_file else ""
        found[name] = (status.st_mode, content, status.st_mtime_ns)
    return found


@pytest.fixture(scope="module")
def office() -> Iterator[Desk]:
    with fast_stage() as stage:
        yield Desk(stage)


@pytest.fixture
def desk(office: Desk) -> Iterator[Desk]:
    """The desk, empty before and after."""
    office.folder.mkdir()
    yield office
    for folder in (office.folder, office.inbox):
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    office.folder.rmdir()
    drain(office.bob)


def drain(program: Program) -> None:
    """Leave no event of an earlier test to the next one."""
    with contextlib.suppress(ProgramError):
        for _ in program.events(0.05):
            pass


def test_a_directory_with_everything(desk: Desk) -> None:
    top = desk.folder / "project"
    deep = top / "a" / "b" / "c" / "d"
    deep.mkdir(parents=True)
    (top / "empty" / "inner").mkdir(parents=True)
    (top / "empty.txt").touch()
    random_file(deep / "data.bin", 300_000)
    script = top / "a" / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o750)
    (top / "a" / "plain.txt").write_text("plain")
    (top / "a" / "plain.txt").chmod(0o600)
    (top / "a" / "open.txt").touch(0o666)
    (top / "a" / "open.txt").chmod(0o666)
    (top / "empty" / "inner").chmod(0o700)
    (top / "a" / "b").chmod(0o575)
    top.chmod(0o711)
    for number, path in enumerate(sorted(top.rglob("*"), reverse=True)):
        os.utime(path, ns=(HOUR_AGO, HOUR_AGO + number * 1_000_000_007))
    os.utime(top, ns=(HOUR_AGO, HOUR_AGO))
    desk.check(top)


def test_sizes_round_the_edges_of_chunks(desk: Desk) -> None:
    """Several paths in one command, each under its own name."""
    big = USUAL_CHUNKS * MIN_CHUNK
    sizes = [0, 1, MIN_CHUNK - 1, MIN_CHUNK, MIN_CHUNK + 1, 5 * MIN_CHUNK, big, big + 1]
    assert chunk_size(big) == MIN_CHUNK
    assert chunk_size(big + 1) == 2 * MIN_CHUNK
    paths = []
    for size in sizes:
        paths.append(desk.folder / f"size-{size}.bin")
        random_file(paths[-1], size)
    desk.check(*paths)


def test_only_empty_things(desk: Desk) -> None:
    """Not one chunk, and yet a whole transfer."""
    empty_file, empty_folder = desk.folder / "nothing.txt", desk.folder / "nothing"
    empty_file.touch()
    empty_folder.mkdir()
    desk.check(empty_file, empty_folder)


def test_names_of_many_kinds(desk: Desk) -> None:
    top = desk.folder / "Überraschung 📦 テスト"
    top.mkdir()
    for name in (
        "grüße.txt", "日本語.txt", "emoji 🎉.txt", "n" * 246 + ".txt", "ü" * 125, "-rf", "--json", "~", "$HOME",
        "%2e%2e", " leading space", "quote'\"quote", "*", "?", "a & b; c | d", ".hidden", "archive.tar.gz",
        "[red]markup", unicodedata.normalize("NFD", "é.txt"),
    ):  # fmt: skip
        (top / name).write_text(name)
    single = desk.folder / ("x" * 250)
    single.write_text("long")
    desk.check(top, single)


def descend(top: Path, names: list[str], *, make: bool) -> int:
    """A descriptor of the last of directories that lie in one another, whose whole path no call may take."""
    here = os.open(top, os.O_RDONLY)
    for name in names:
        if make:
            os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    return here


def test_f29_the_longest_path_and_the_longest_name(desk: Desk) -> None:
    """64 levels and 4095 bytes, which is more than the system takes in one path; 255 bytes in one name."""
    deep = [f"{level:02d}" + "x" * 61 for level in range(63)]
    names = ["y" * 63, "ü" * 127 + "z"]
    for name, levels in zip(names, (deep, ["short"]), strict=True):
        here = descend(desk.folder, levels, make=True)
        file = os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=here)
        os.write(file, name.encode())
        os.close(file)
        os.close(here)
    assert len("/".join([*deep, names[0]])) == 4095
    assert len(names[1].encode()) == 255
    outcome = desk.send(desk.folder / deep[0], desk.folder / "short")
    assert outcome.status == 0, outcome
    for name, levels in ((names[0], deep), (names[1], ["short"])):
        here = descend(desk.inbox, levels, make=False)
        assert os.listdir(here) == [name]
        found = os.open(name, os.O_RDONLY, dir_fd=here)
        assert os.read(found, 1000) == name.encode()
        os.close(found)
        os.close(here)


def test_f29_a_name_that_is_not_sent_keeps_the_others_here_too(desk: Desk) -> None:
    """The whole command is refused with each such name, escaped, and its place: nothing is left out in silence."""
    top = desk.folder / "mixed"
    top.mkdir()
    (top / "fine.txt").write_text("fine")
    for name in (b"latin-\xe4", b"new\nline"):
        with open(os.fsencode(top) + b"/" + name, "wb"):
            pass
    outcome = desk.send(top)
    assert outcome.status == 2
    error = last(outcome.events, "error")
    assert error["code"] == "E_USAGE"
    for shown in (r"mixed/latin-\udce4", r"mixed/new\x0aline", "rename"):
        assert shown in error["message"]
    assert not list(desk.inbox.iterdir())


def test_names_that_are_one_on_other_systems_are_refused(desk: Desk) -> None:
    top = desk.folder / "both"
    top.mkdir()
    (top / "Readme").write_text("1")
    (top / "README").write_text("2")
    outcome = desk.send(top)
    assert outcome.status == 6
    error = last(outcome.events, "error")
    assert error["code"] == "E_COLLISION"
    assert "README" in error["message"]
    assert not list(desk.inbox.iterdir())


def test_what_is_no_file_is_left_out_and_said(desk: Desk) -> None:
    top = desk.folder / "mixed"
    top.mkdir()
    (top / "kept.txt").write_text("kept")
    (top / "link").symlink_to("/etc/passwd")
    os.mkfifo(top / "pipe")
    outcome = desk.send(top)
    assert outcome.status == 0
    notes = [event["message"] for event in outcome.events if event["event"] == "note"]
    assert any("mixed/link" in note and "symbolic link" in note for note in notes)
    assert any("mixed/pipe" in note and "FIFO" in note for note in notes)
    assert names_in(desk.inbox) == ["mixed", "mixed/kept.txt"]


def test_links_are_kept_or_followed(desk: Desk) -> None:
    """With --links; a link that leads out is said and left out when links are kept."""
    top = desk.folder / "linked"
    (top / "in").mkdir(parents=True)
    (top / "in" / "file.txt").write_text("text")
    (desk.folder / "beside.txt").write_text("beside")
    for name, target in (("to-file", "in/file.txt"), ("in/up", "../in"), ("none", "x"), ("out", "../beside.txt")):
        (top / name).symlink_to(target)
        os.utime(top / name, ns=(HOUR_AGO, HOUR_AGO), follow_symlinks=False)
    kept = desk.send("--links", "keep", top)
    assert kept.status == 0, kept
    assert links(desk.inbox / "linked") == {"to-file": "in/file.txt", "in/up": "../in", "none": "x"}
    assert (desk.inbox / "linked" / "none").lstat().st_mtime_ns == HOUR_AGO
    assert any("out" in event["message"] and "lead" in event["message"] for event in kept.events if "message" in event)
    followed = desk.send("--links", "follow", top)
    assert followed.status == 0, followed
    arrived = desk.inbox / "linked (1)"
    assert links(arrived) == {}
    assert (arrived / "out").read_text() == "beside"
    assert (arrived / "to-file").read_text() == "text"
    assert names_in(arrived) == ["in", "in/file.txt", "out", "to-file"]


def test_a_link_that_is_named_is_followed(desk: Desk) -> None:
    target = desk.folder / "target.txt"
    target.write_text("behind the link")
    (desk.folder / "named").symlink_to(target)
    assert desk.send(desk.folder / "named").status == 0
    arrived = desk.inbox / "named"
    assert not arrived.is_symlink()
    assert arrived.read_text() == "behind the link"


def test_a_directory_named_by_a_dot_or_a_slash(desk: Desk) -> None:
    top = desk.folder / "here"
    top.mkdir()
    (top / "file.txt").write_text("x")
    assert desk.send(".", cwd=top).status == 0
    assert desk.send("here/", cwd=desk.folder).status == 0
    assert names_in(desk.inbox) == ["here", "here (1)", "here (1)/file.txt", "here/file.txt"]


def test_nothing_is_ever_overwritten(desk: Desk) -> None:
    """A name that is taken gets a number; what stood there stays as it was, whatever kind it is."""
    source, folder = desk.folder / "report.tar.gz", desk.folder / "folder"
    source.write_text("new")
    folder.mkdir()
    (folder / "inner.txt").write_text("new")
    (desk.inbox / "report.tar.gz").write_text("old")
    (desk.inbox / "report (1).tar.gz").symlink_to("/nonexistent")
    (desk.inbox / "folder").write_text("a file of that name")
    outcome = desk.send(source, folder)
    assert outcome.status == 0
    assert sorted(desk.bob.wait_for("done")["saved"]) == ["folder (1)", "report (2).tar.gz"]
    assert (desk.inbox / "report.tar.gz").read_text() == "old"
    assert (desk.inbox / "report (1).tar.gz").is_symlink()
    assert (desk.inbox / "folder").read_text() == "a file of that name"
    assert (desk.inbox / "report (2).tar.gz").read_text() == "new"
    assert (desk.inbox / "folder (1)" / "inner.txt").read_text() == "new"


def test_a_sparse_file_moves_its_data_only(desk: Desk) -> None:
    """8 GiB with 3 MiB of data in it: as sparse at the other end, holes count as done and cross no wire."""
    source = desk.folder / "disk.img"
    with source.open("wb") as file:
        file.truncate(8 << 30)
        for offset in (0, 3 << 30, (7 << 30) + 12_345):
            file.seek(offset)
            file.write(os.urandom(MIB))
    os.utime(source, ns=(HOUR_AGO, HOUR_AGO))
    outcome = desk.send(source)
    assert outcome.status == 0, outcome
    done = last(outcome.events, "done")
    assert done["bytes"] == 8 << 30
    assert sum(done["bytes_by_path"].values()) <= 16 * MIB
    arrived = desk.inbox / "disk.img"
    before, after = source.stat(), arrived.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert after.st_blocks <= before.st_blocks
    with source.open("rb") as one, arrived.open("rb") as other:
        for offset in (0, MIB, 3 << 30, (3 << 30) + MIB, 7 << 30, (8 << 30) - MIB):
            one.seek(offset)
            other.seek(offset)
            assert one.read(2 * MIB) == other.read(2 * MIB), offset


@pytest.mark.deadline(90)
def test_two_thousand_small_files(desk: Desk) -> None:
    top = desk.folder / "many"
    for number in range(2000):
        path = top / f"d{number % 20}" / f"f{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number.to_bytes(2, "big") * (number % 500))
    started = time.monotonic()
    desk.check(top)
    print(f"2000 files in {time.monotonic() - started:.1f} s")


@pytest.mark.parametrize("side", ["send", "receive"])
def test_a_limit_holds_whichever_side_sets_it(desk: Desk, side: str) -> None:
    """12 MiB at 4 MiB a second take three seconds at least, and no more than a slow machine needs."""
    source = desk.folder / "limited.bin"
    digest = random_file(source, 12 * MIB)
    if side == "receive":
        desk.bob.stop()
        desk.bob = desk.stage.receive("--no-code", "--limit", "4M")
    try:
        outcome = desk.send(*(["--limit", "4M"] if side == "send" else []), source)
    finally:
        if side == "receive":
            desk.bob.stop()
            desk.bob = desk.stage.receive("--no-code")
    assert outcome.status == 0, outcome
    accepted, done = last(outcome.events, "accepted")["t"], last(outcome.events, "done")["t"]
    assert done - accepted > 2.7
    assert done - accepted < 20
    assert file_hash(desk.inbox / source.name) == digest


@pytest.mark.parametrize("wrong", ["0", "-1", "fast", "1T", "nan", "1e3", "", "9" * 30])
def test_a_rate_that_is_none(desk: Desk, wrong: str) -> None:
    outcome = desk.stage.run("send", "--limit", wrong, desk.folder, "bob")
    assert outcome.status == 2
    assert "rate" in outcome.err


@pytest.mark.parametrize("change", ["append", "rewrite", "truncate"])
def test_a_file_that_changes_while_it_is_sent(desk: Desk, change: str) -> None:
    """The sender says so; the receiver never has a mixture under the final name, and the new file goes over."""
    source = desk.folder / "live.bin"
    random_file(source, LIVE)
    alice = desk.stage.send(source, "--limit", SLOW)
    until_bytes(alice, 4 * MIB)
    alter(source, change)
    status, events = end_of(alice)
    assert status == 8, events
    error = last(events, "error")
    assert error["code"] == "E_SOURCE_CHANGED"
    assert "'live.bin' changed" in error["message"]
    assert error["retry"]
    assert names_in(desk.inbox) == []
    again = desk.stage.run("send", source, "bob", as_json=True)
    assert again.status == 0, again
    wait_until((desk.inbox / "live.bin").exists)
    assert file_hash(desk.inbox / "live.bin") == file_hash(source)


@pytest.mark.parametrize("change", ["replace", "remove"])
def test_a_file_that_is_replaced_while_it_is_sent(desk: Desk, change: str) -> None:
    """The sender has it open: the whole file as it was goes over, or nothing does."""
    source, other = desk.folder / "live.bin", desk.folder / "other"
    digest = random_file(source, LIVE)
    random_file(other, MIB)
    alice = desk.stage.send(source, "--limit", SLOW)
    until_bytes(alice, 4 * MIB)
    other.replace(source) if change == "replace" else source.unlink()
    status, events = end_of(alice)
    if status == 0:
        assert file_hash(desk.inbox / "live.bin") == digest
    else:
        assert (status, last(events, "error")["code"]) == (8, "E_SOURCE_CHANGED")
        assert names_in(desk.inbox) == []


def alter(path: Path, change: str) -> None:
    """Change a file the way that other programs do."""
    if change == "append":
        with path.open("ab") as file:
            file.write(b"more")
    elif change == "rewrite":
        with path.open("r+b") as file:
            file.seek(LIVE - MIB)
            file.write(b"changed")
    else:
        os.truncate(path, LIVE - MIB)


def test_two_senders_at_once(desk: Desk) -> None:
    """The same person from two terminals: both arrive whole."""
    paths = [desk.folder / f"{name}.bin" for name in ("one", "two")]
    digests = [random_file(path, 24 * MIB) for path in paths]
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(target=lambda path=path: outcomes.append(desk.stage.run("send", path, "bob")), daemon=True)
        for path in paths
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert [outcome.status for outcome in outcomes] == [0, 0], outcomes
    assert [file_hash(desk.inbox / path.name) for path in paths] == digests


def test_the_receiver_survived_all_of_this(office: Desk) -> None:
    """One process took everything above."""
    assert office.bob.poll() is None
    bob: Program = office.bob
    bob.stop()
    errors = [event for event in events_of(bob) if event["event"] == "error"]
    assert all(error["code"] in ("E_COLLISION", "E_INTERRUPTED") for error in errors), errors
    office.bob = office.stage.receive("--no-code")
