"""The sender's disk: the scan, and reading chunks."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from p2pxfer.core.framing import FrameDecoder
from p2pxfer.core.session.bundlewire import decode_bundle
from p2pxfer.core.session.wire import SESSION_CAPS
from p2pxfer.core.transfer.geometry import chunk_count, chunk_span
from p2pxfer.core.transfer.manifest import DIRECTORY, FILE, LINK, Entry
from p2pxfer.errors import (
    ChunkRefused,
    DiskError,
    LimitReached,
    NameCollision,
    SourceChanged,
    SourceUnreadable,
    UsageError,
)
from p2pxfer.net.private.home import Home
from p2pxfer.net.transfer import scan
from p2pxfer.net.transfer import source as module
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.readahead import ReadAhead
from p2pxfer.net.transfer.source import Source
from tests.net.disk_tools import CHUNK, Content, noise, open_fds
from tests.net.transfer.sourcetrees import change_replaced, fill

ROOT = os.geteuid() == 0


pytestmark = pytest.mark.usefixtures("no_descriptor_is_lost")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def all_of(source: Source) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for file, entry in enumerate(source.manifest.files):
        data = b""
        for index in range(chunk_count(entry.size)):
            chunk, digest = source.read_chunk(file, index)
            assert blake3(chunk).digest() == digest
            data += chunk
        found[entry.path] = data
    return found


# -- the scan --------------------------------------------------------------------------------------------------------


def test_files_and_directories(here: Path) -> None:
    files = {"d/a.bin": noise(2 * CHUNK + 1), "d/in/b": b"", "d/.hidden": b"h", "run.sh": b"#!"}
    fill(here, files)
    (here / "d/empty").mkdir()
    os.chmod(here / "run.sh", 0o4711)
    os.utime(here / "run.sh", ns=(0, 1_234_567_890_123_456_789))
    source = Source.scan(["d", "run.sh"])
    assert [entry.path for entry in source.manifest.entries] == [
        "d", "d/.hidden", "d/a.bin", "d/empty", "d/in", "d/in/b", "run.sh",
    ]  # fmt: skip
    run = source.manifest.files[-1]
    assert (run.size, run.mtime_ns, run.mode) == (2, 1_234_567_890_123_456_789, 0o711)
    assert all_of(source) == files
    assert source.skipped == []
    source.close()


@pytest.mark.parametrize("spelling", ["d", "d/", "./d", "d/.", "d/in/..", "../{here}/d//"])
def test_names_of_what_is_given(here: Path, spelling: str) -> None:
    fill(here, {"d/in/x": b"x"})
    source = Source.scan([spelling.format(here=here.name)])
    assert source.manifest.top_names == ["d"]
    assert all_of(source) == {"d/in/x": b"x"}
    source.close()


def test_an_empty_path_is_called_what_it_is(here: Path) -> None:
    with pytest.raises(UsageError, match="an empty PATH was given; name a file or directory"):
        Source.scan([""])


def test_the_working_directory_has_a_name(here: Path) -> None:
    fill(here, {"x": b"x"})
    source = Source.scan(["."])
    assert source.manifest.top_names == [here.name]
    with pytest.raises(UsageError):
        Source.scan(["/"])
    source.close()


def test_paths_stay_good_when_the_working_directory_changes(here: Path) -> None:
    fill(here, {"d/x": b"x", "y": b"y"})
    source = Source.scan(["d", "y"])
    os.chdir("/")
    assert all_of(source) == {"d/x": b"x", "y": b"y"}
    source.close()


def test_links(here: Path) -> None:
    fill(here, {"real/x": b"x", "file": b"file", "d/y": b"y"})
    (here / "to-dir").symlink_to("real")
    (here / "to-file").symlink_to("file")
    (here / "d/inner").symlink_to("../file")
    (here / "d/inner-dir").symlink_to("../real")
    source = Source.scan(["to-dir", "to-file", "d"])
    assert all_of(source) == {"to-dir/x": b"x", "to-file": b"file", "d/y": b"y"}
    assert source.skipped == ["'d/inner': a symbolic link", "'d/inner-dir': a symbolic link"]
    source.close()


def linked(here: Path) -> None:
    fill(here, {"outside/o": b"o", "d/in/x": b"x", "d/y": b"y"})
    for name, target in {
        "file": "y", "dir": "in", "up": "../outside/o", "abs": str(here / "outside"), "none": "nowhere", "loop": ".",
        "in/back": "../y", "in/over": "../../outside", "in/self": "self", "in/round": "..",
    }.items():  # fmt: skip
        (here / "d" / name).symlink_to(target)


def test_links_that_are_kept(here: Path) -> None:
    """To the letter, dangling ones too; those that lead out of what is sent are left out and said."""
    linked(here)
    os.utime(here / "d/none", ns=(0, 1_234_567_890_123_456_789), follow_symlinks=False)
    source = Source.scan(["d"], "keep")
    kept = {entry.path: entry.target for entry in source.manifest.entries if entry.kind is LINK}
    assert kept == {
        "d/file": "y", "d/dir": "in", "d/none": "nowhere", "d/loop": ".",
        "d/in/back": "../y", "d/in/self": "self", "d/in/round": "..",
    }  # fmt: skip
    assert next(e for e in source.manifest.entries if e.path == "d/none").mtime_ns == 1_234_567_890_123_456_789
    assert all_of(source) == {"d/in/x": b"x", "d/y": b"y"}
    assert len(source.skipped) == 3
    for name, why in zip(("d/abs", "d/in/over", "d/up"), source.skipped, strict=True):
        assert name in why
        assert why.startswith(f"'{name}': a link to '"), why
        assert "lead out" in why
    source.close()


def test_links_that_are_followed(here: Path) -> None:
    """What they point to is sent under their names, loops end, and nothing that changes later is followed."""
    linked(here)
    source = Source.scan(["d"], "follow")
    x, y, o = b"x", b"y", b"o"
    assert all_of(source) == {
        "d/in/x": x, "d/y": y, "d/file": y, "d/dir/x": x, "d/up": o, "d/abs/o": o, "d/in/back": y, "d/dir/back": y,
        "d/in/over/o": o, "d/dir/over/o": o,
    }  # fmt: skip
    assert sorted(source.skipped) == [
        "'d/dir/round': a symbolic link to a directory that it lies in",
        "'d/dir/self': a symbolic link to nothing",
        "'d/in/round': a symbolic link to a directory that it lies in",
        "'d/in/self': a symbolic link to nothing",
        "'d/loop': a symbolic link to a directory that it lies in",
        "'d/none': a symbolic link to nothing",
    ]
    source.close()
    again = Source.scan(["d"], "follow")
    (here / "d/abs").unlink()
    (here / "d/abs").symlink_to("in")
    (here / "d/in/o").write_bytes(b"o")
    with pytest.raises(SourceChanged):
        all_of(again)
    again.close()


def test_many_links_to_one_directory_do_not_explode(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve directories that each link to the next twice are four thousand; the limit of entries holds."""
    for number in range(12):
        (here / f"d/{number}").mkdir(parents=True)
        for name in "ab":
            (here / f"d/{number}/{name}").symlink_to(f"../{number + 1}")
    monkeypatch.setattr("p2pxfer.core.transfer.listcodec.MAX_ENTRIES", 1000)
    with pytest.raises(LimitReached):
        Source.scan(["d"], "follow")


def test_f20_c08_c09_c10_special_files(here: Path) -> None:
    fill(here, {"d/x": b"x"})
    os.mkfifo(here / "fifo")
    os.mkfifo(here / "d/fifo")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        for path, kind in (("fifo", "a FIFO"), ("socket", "a socket"), ("/dev/zero", "a device")):
            with pytest.raises(UsageError, match=f"is {kind};"):
                Source.scan(["d", path])
    source = Source.scan(["d"])
    assert source.skipped == ["'d/fifo': a FIFO"]
    assert [entry.path for entry in source.manifest.files] == ["d/x"]
    source.close()


@pytest.mark.parametrize("call", ["stat", "open", "readlink"])
def test_what_goes_while_it_is_searched_for_is_left_out(here: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """As if it had gone a moment before: somebody's files change all the time, and nothing of it was listed yet."""
    fill(here, {"d/a": b"a", "d/z": b"z"})
    gone = here / "d/m"
    making: dict[str, Callable[[], object]] = {"stat": gone.touch, "open": gone.mkdir}
    making.get(call, lambda: gone.symlink_to("a"))()
    real = getattr(os, call)

    def too_late(name: Any, *args: Any, **keywords: Any) -> Any:
        if name == b"m":
            (gone.rmdir if call == "open" else gone.unlink)()
        return real(name, *args, **keywords)

    monkeypatch.setattr(os, call, too_late)
    source = Source.scan(["d"], "keep")
    assert [entry.path for entry in source.manifest.entries] == ["d", "d/a", "d/z"]
    assert source.skipped == ["'d/m': it was gone when it was looked at"]
    assert all_of(source) == {"d/a": b"a", "d/z": b"z"}
    source.close()


def test_of_a_thousand_links_that_are_left_out_some_are_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are remembered until they are told at once, and a tree may hold a million."""
    monkeypatch.setattr(scan, "MOST_SKIPPED", 3)
    many(here, 500)
    for number in range(1000):
        (here / "d" / f"{number:04d}").symlink_to("nowhere")
    source = Source.open(["d"])
    named = [f"'d/{number:04d}': a symbolic link" for number in range(3)]
    assert source.skipped == named
    while not source.manifest.complete:
        source.take(*source.find())
    assert source.skipped == [*named, "997 more"]
    source.close()


def test_c05_missing(here: Path) -> None:
    fill(here, {"file": b""})
    (here / "dangling").symlink_to("nowhere")
    for path in ("nothing", "dangling", "file/x"):
        with pytest.raises(UsageError, match="does not exist"):
            Source.scan(["file", path])
    with pytest.raises(UsageError, match="nothing to send"):
        Source.scan([])


def test_c06_unreadable(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(here, {"d/x\x1b": b"x", "top": b"x"})
    real = os.open

    def denied(path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if os.fsencode(path).rpartition(b"/")[2] in {b"x\x1b", b"top", b"locked"}:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, mode, dir_fd=dir_fd)

    with pytest.raises(UsageError, match="'d/x"):
        Source.scan(["d"])
    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(DiskError, match="'top' failed: Permission denied") as caught:
        Source.scan(["top"])
    assert caught.value.exit_code == 8


def test_what_may_not_be_read_inside_a_directory_is_left_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, and a directory with all that is below."""
    fill(here, {"d/good": b"x", "d/locked": b"x", "d/shut/inner": b"x", "d/z/good": b"x"})
    (here / "d/locked").chmod(0o200)
    real = os.open

    def denied(path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if os.fsencode(path).rpartition(b"/")[2] in {b"locked", b"shut"}:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", denied)
    source = Source.scan(["d"])
    assert [entry.path for entry in source.manifest.entries] == ["d", "d/good", "d/z", "d/z/good"]
    assert source.skipped == ["'d/locked': it may not be read", "'d/shut': it may not be read"]
    assert list(source.denied) == ["d/locked", "d/shut"]
    assert "Permission denied" in source.denied["d/locked"].message
    monkeypatch.setattr("p2pxfer.net.transfer.scan.MOST_DENIED", 1)
    with pytest.raises(DiskError, match=r"may not be read, and more: 'd/shut' is the next; make it readable") as caught:
        Source.scan(["d"])
    assert caught.value.exit_code == 8


def test_c13_c14_names_that_cannot_be_sent(here: Path) -> None:
    with open(os.fsencode(here) + b"/\xff", "wb"):
        pass
    fill(here, {"d/a\nb": b"", "trailing.": b""})
    for path in (os.fsdecode(b"\xff"), "d", "trailing."):
        with pytest.raises(UsageError) as caught:
            Source.scan([path])
        assert caught.value.message.isprintable()


def test_every_name_that_cannot_be_sent_is_told_with_its_place(here: Path) -> None:
    fill(here, {"d/fine/x": b"x", "d/fine/12:30.txt": b"", "d/con/below.": b"", "d/z./inside": b"", "e/a:b": b""})
    with pytest.raises(UsageError) as caught:
        Source.scan(["d", "e"])
    said = caught.value.message
    for place in ("'d/fine/12:30.txt'", "'d/con'", "'d/z.'", "'e/a:b'"):
        assert place in said
    assert "colon" in said
    assert "below." not in said  # what lies in a directory that cannot be sent is not looked at
    assert caught.value.exit_code == 2


def test_of_many_names_that_cannot_be_sent_some_are_told(here: Path) -> None:
    fill(here, {f"d/{number}:": b"" for number in range(9)})
    with pytest.raises(UsageError, match=r"'d/0:'.*; and 4 more; rename them") as caught:
        Source.scan(["d"])
    assert "'d/5:'" not in caught.value.message
    fill(here, {f"d/{number}:": b"" for number in range(2000)})
    with pytest.raises(UsageError, match="and at least 995 more"):
        Source.scan(["d"])


def test_c18_two_with_one_name(here: Path) -> None:
    fill(here, {"a/x": b"1", "b/x": b"2", "b/X": b"3", "x": b"4"})
    with pytest.raises(UsageError, match="same name"):
        Source.scan(["a/x", "b/x"])
    for paths in (["x", "x"], ["x", "./x"]):
        with pytest.raises(UsageError, match="named twice"):
            Source.scan(paths)
    for paths in (["a/x", "b/X"], ["b"]):
        with pytest.raises(NameCollision):
            Source.scan(paths)


def test_our_own_partial_transfers_are_left_out(here: Path) -> None:
    places = [f".p2pxfer-{'0' * 32}", f".p2pxfer-stream-{'0' * 16}"]
    fill(here, {"d/x": b"x", **{f"d/{place}/journal": b"j" for place in places}})
    for place in places:
        (here / "d" / place).chmod(0o700)
    source = Source.scan(["d"])
    assert [entry.path for entry in source.manifest.entries] == ["d", "d/x"]
    assert source.skipped == [f"'d/{place}': a transfer that is being received" for place in places]
    assert source.lacking == []
    source.close()


def test_what_only_has_a_name_of_ours_is_left_out_for_that(here: Path) -> None:
    """It may be somebody's data: they hear what it is that stands in its way, and that it does not come."""
    place = f".p2pxfer-{'0' * 32}"
    fill(here, {"d/x": b"x", "d/.p2pxfer-notes": b"n", "d/.p2pxfer-own/a": b"a", f"d/{place}/a": b"a"})
    (here / "d" / place).chmod(0o755)
    (here / "d" / f".p2pxfer-{'1' * 32}").symlink_to(place)
    source = Source.scan(["d"])
    assert [entry.path for entry in source.manifest.entries] == ["d", "d/x"]
    why = "names that begin with .p2pxfer- belong to this program; to send it, rename it"
    names = [place, f".p2pxfer-{'1' * 32}", ".p2pxfer-notes", ".p2pxfer-own"]
    assert source.skipped == source.lacking == [f"'d/{name}': {why}" for name in names]
    source.close()
    with pytest.raises(UsageError) as raised:
        Source.scan(["d/.p2pxfer-notes"])
    assert raised.value.message == (
        "nothing was sent, since these names cannot be sent: '.p2pxfer-notes': the name '.p2pxfer-notes' is refused:"
        " names that begin with .p2pxfer- belong to this program; rename them"
    )


def test_the_key_of_a_machine_is_left_out_with_all_that_lies_beside_it(here: Path) -> None:
    """Whoever sends a home directory does not give the machine's key away."""
    fill(here, {"d/x": b"x", "d/shared/identity.pem": b"a copy for a friend"})
    home = Home(here / "d" / "home")
    key = home.identity()
    copy = here / "d" / "shared" / "identity.pem"
    copy.write_bytes((home.path / "identity.pem").read_bytes())
    copy.parent.chmod(0o755)  # made by hand, for others
    source = Source.scan(["d"])
    assert [entry.path for entry in source.manifest.entries] == ["d", "d/shared", "d/shared/identity.pem", "d/x"]
    assert source.skipped == ["'d/home': a private directory with the key of a machine in it"]
    source.close()
    with pytest.raises(UsageError, match="home' holds the key of a machine"):
        Source.scan(["d/home"])
    assert Home(home.path).identity() == key


def test_too_deep(here: Path) -> None:
    deep = here / "/".join(["d"] * 65)
    deep.mkdir(parents=True)
    with pytest.raises(UsageError, match="64 levels"):
        Source.scan(["d"])


def test_the_scan_reads_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise AssertionError("the scan read a file")

    with open(here / "huge", "wb") as file:
        file.truncate(2**40)
    monkeypatch.setattr(os, "pread", fail)
    source = Source.scan(["huge"])
    assert source.manifest.total_bytes == 2**40
    source.close()


# -- reading -----------------------------------------------------------------------------------------------------------


def change_grown(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def change_shrunk(path: Path) -> None:
    os.truncate(path, 5)


def change_rewritten(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"other")


def change_rewritten_with_its_old_time(path: Path) -> None:
    status = path.stat()
    change_rewritten(path)
    after = status
    while after.st_ctime_ns == status.st_ctime_ns:  # some kernels count in steps of milliseconds
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def change_deleted(path: Path) -> None:
    path.unlink()


def change_to_link(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def change_to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES = [
    change_grown,
    change_shrunk,
    change_rewritten,
    change_rewritten_with_its_old_time,
    change_replaced,
    change_deleted,
    change_to_fifo,
    pytest.param(change_to_link, id="change_to_link"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_f19_changed_before_it_was_opened(here: Path, change: Callable[[Path], None]) -> None:
    fill(here, {"d/x": noise(3 * CHUNK), "d/y": b"y"})
    source = Source.scan(["d"])
    change(here / "d/x")
    with pytest.raises(SourceChanged, match=f"'d/x' {'was removed' if change is change_deleted else 'changed'}"):
        source.read_chunk(0, 0)
    assert source.read_chunk(1, 0)[0] == b"y"
    source.close()


@pytest.mark.parametrize("change", CHANGES)
def test_f19_one_of_several_small_files_has_changed(here: Path, change: Callable[[Path], None]) -> None:
    fill(here, {"d/w": b"w", "d/x": noise(100), "d/y": b"y"})
    source = Source.scan(["d"])
    assert [data for data, _ in source.read_files(0, 3)] == [b"w", noise(100), b"y"]
    change(here / "d/x")
    with pytest.raises(SourceChanged, match=f"'d/x' {'was removed' if change is change_deleted else 'changed'}"):
        source.read_files(0, 3)
    assert source.read_files(2, 3) == [source.read_chunk(2, 0)]
    source.close()


def test_small_files_are_read_into_bundles_and_the_others_one_by_one(here: Path) -> None:
    fill(here, {"d/a": b"aa", "d/b": b"b", "d/c": noise(CHUNK + 1), "d/d": b"d", "d/e": b"", "d/f": b"f", "d/g": b"g"})
    source = Source.scan(["d"])
    cache = HashCache(str(here / "state"), source.manifest, source.identity, 0.0)
    addresses = [(file, index) for file, size in enumerate(source.manifest.sizes) for index in range(-(-size // CHUNK))]
    loaded, lost = ReadAhead(source, cache).read([(address, None) for address in addresses])
    assert not lost
    assert [(each.address, each.count, each.size) for each in loaded] == [
        ((0, 0), 2, 3), ((2, 0), 1, CHUNK), ((2, 1), 1, 1), ((3, 0), 1, 1), ((5, 0), 2, 2),
    ]  # fmt: skip
    (frame,) = FrameDecoder(SESSION_CAPS).feed(b"".join(loaded[0].frame()))
    bundle = decode_bundle(frame)
    assert (bundle.file, bytes(bundle.payload)) == (0, b"aab")
    assert list(bundle.digests()) == [blake3(b"aa").digest(), blake3(b"b").digest()]
    assert set(cache.load()) == set(addresses)
    cache.close()
    again = HashCache(str(here / "state"), source.manifest, source.identity, 0.0)
    assert [again.load()[0, 0], again.load()[1, 0]] == list(bundle.digests())
    again.close()
    source.close()


@pytest.mark.parametrize("change", [change_grown, change_shrunk, change_rewritten, change_rewritten_with_its_old_time])
def test_f19_changed_while_it_is_open(here: Path, change: Callable[[Path], None]) -> None:
    fill(here, {"x": noise(3 * CHUNK)})
    source = Source.scan(["x"])
    source.read_chunk(0, 0)
    change(here / "x")
    with pytest.raises(SourceChanged):
        source.read_chunk(0, 1)
    source.close()


@pytest.mark.parametrize(("change", "says"), [(change_deleted, "was removed"), (change_replaced, "changed")])
def test_f19_a_file_that_went_away_while_it_is_open_is_told_as_that(
    here: Path, change: Callable[[Path], None], says: str
) -> None:
    """Another file under its name is a change, also where the first one is gone."""
    fill(here, {"x": noise(3 * CHUNK), "d/x": noise(3 * CHUNK)})
    source = Source.scan(["x", "d"])
    for file, path in enumerate([entry.path for entry in source.manifest.files]):
        source.read_chunk(file, 0)
        change(here / path)
        with pytest.raises(SourceChanged, match=f"'{path}' {says}"):
            source.read_chunk(file, 1)
    source.close()


def test_f19_changed_during_the_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(here, {"x": noise(3 * CHUNK)})
    source = Source.scan(["x"])
    pread = os.pread

    def meddle(fd: int, length: int, offset: int) -> bytes:
        data = pread(fd, length, offset)
        change_rewritten(here / "x")
        return data

    monkeypatch.setattr(os, "pread", meddle)
    with pytest.raises(SourceChanged):
        source.read_chunk(0, 1)
    source.close()


def test_t_r5_a_parent_becomes_a_link(here: Path) -> None:
    fill(here, {"d/in/x": b"inside", "outside/x": b"secret"})
    source = Source.scan(["d"])
    os.rename(here / "d/in", here / "d/was")
    (here / "d/in").symlink_to(here / "outside")
    with pytest.raises(SourceChanged):
        source.read_chunk(0, 0)
    source.close()


def test_t_r5_flipping_never_leads_outside(here: Path) -> None:
    """A parent flips between a directory and a link as fast as it can; no byte from outside comes back."""
    fill(here, {**{f"d/in/{number}": b"inside" for number in range(200)}, "outside/x": b"x"})
    for number in range(200):
        (here / "outside" / str(number)).write_bytes(b"secret")
    source = Source.scan(["d"])
    (here / "link").symlink_to(here / "outside")
    over = threading.Event()

    def flip() -> None:
        while not over.is_set():
            os.rename(here / "d/in", here / "away")
            os.rename(here / "link", here / "d/in")
            os.rename(here / "d/in", here / "link")
            os.rename(here / "away", here / "d/in")

    thread = threading.Thread(target=flip)
    thread.start()
    fooled = refused = 0
    begun = time.monotonic()
    try:
        # On a busy machine it takes a while until one of the two meets the other in the middle.
        while time.monotonic() < begun + (1.0 if fooled and refused else 40.0):
            for number in range(200):
                try:
                    with open(here / "d/in" / str(number), "rb") as naive:
                        fooled += naive.read() == b"secret"
                except OSError:
                    pass
                try:
                    assert source.read_chunk(number, 0)[0] == b"inside"
                except SourceChanged:
                    refused += 1
            source.close()
    finally:
        over.set()
        thread.join()
    assert fooled, "the race did not happen, so this test proved nothing"
    assert refused
    source.close()


def test_chunks_that_do_not_exist(here: Path) -> None:
    fill(here, {"x": b"x", "y": b""})
    source = Source.scan(["x", "y"])
    for file, index in ((0, 1), (0, -1), (1, 0), (2, 0), (-1, 0), (0, 2**32)):
        with pytest.raises(ChunkRefused):
            source.read_chunk(file, index)
    source.close()


def test_short_reads_and_errors(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(here, {"x": noise(2 * CHUNK)})
    source = Source.scan(["x"])
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: pread(fd, max(1, length // 2), offset))
    assert all_of(source)["x"] == noise(2 * CHUNK)

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(DiskError, match="Input/output error") as caught:
        source.read_chunk(0, 0)
    assert type(caught.value) is SourceUnreadable
    source.close()


def test_many_files_by_several_threads(here: Path) -> None:
    files = {f"d/{number:03}": noise(CHUNK + 1 + number, number) for number in range(200)}
    fill(here, files)
    before = open_fds()
    source = Source.scan(["d"])
    with ThreadPoolExecutor(4) as pool:
        chunks = list(pool.map(lambda at: source.read_chunk(*at)[0], [(n, i) for n in range(200) for i in (0, 1)]))
    assert open_fds() - before <= module.OPEN_FILES
    assert {f"d/{n:03}": chunks[2 * n] + chunks[2 * n + 1] for n in range(200)} == files
    source.close()


def test_f26_beyond_4_gib(here: Path) -> None:
    size = 2**32 + 1
    with open(here / "x", "wb") as file:
        file.truncate(size)
        file.seek(size - 1)
        file.write(b"!")
    source = Source.scan(["x"])
    last = chunk_count(size) - 1
    offset, length = chunk_span(size, last)
    assert (offset, length) == (2**32, 1)
    assert source.read_chunk(0, last) == (b"!", blake3(b"!").digest())
    source.close()


def test_what_is_scanned_is_what_the_receiver_sees(here: Path) -> None:
    content = Content({"d/x": b"x"})
    fill(here, content.files)
    source = Source.scan(["d"])
    kinds = [(entry.path, entry.kind, entry.size) for entry in source.manifest.entries]
    assert kinds == [("d", DIRECTORY, 0), ("d/x", FILE, 1)]
    assert type(content.manifest).decode(source.manifest.encode()) == source.manifest
    source.close()


# -- page by page ----------------------------------------------------------------------------------------------------


def many(here: Path, count: int) -> None:
    fill(here, {f"d/{number:05}{'x' * 200}": b"" for number in range(count)})


def test_the_first_page_is_there_at_once_and_the_others_follow(here: Path) -> None:
    many(here, 500)
    source = Source.open(["d"])
    assert (source.manifest.pages, source.manifest.complete) == (1, False)
    assert 0 < len(source.manifest.files) < 500
    while not source.manifest.complete:
        source.take(*source.find())
    assert len(source.manifest.files) == 500
    assert source.manifest == Source.scan(["d"]).manifest
    source.close()


def test_a_page_that_was_found_for_somebody_who_has_gone_is_found_again(here: Path) -> None:
    """An attempt to send ends, and the next one goes on where it was."""
    many(here, 500)
    source = Source.open(["d"])
    lost = source.find()
    assert source.find() == lost
    source.take(*source.find())
    assert source.find() != lost
    source.close()


def test_a_source_is_closed_while_it_is_searched(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(here, 500)
    source = Source.open(["d"])
    plain, entered, gate = os.stat, threading.Event(), threading.Event()

    def held(*args: object, **keywords: object) -> os.stat_result:
        if threading.current_thread() is searching:
            entered.set()
            gate.wait(10)
        return plain(*args, **keywords)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(os, "stat", held)
    searching = threading.Thread(target=source.find)
    searching.start()
    assert entered.wait(10)
    closing = threading.Thread(target=source.close)
    closing.start()
    gate.set()
    for thread in (searching, closing):
        thread.join(10)
        assert not thread.is_alive()


def test_a_name_on_a_later_page_that_may_not_be_sent_ends_it(here: Path) -> None:
    many(here, 500)
    (here / "d/zz\\").touch()
    source = Source.open(["d"])
    with pytest.raises(UsageError, match=r"the transfer was given up.*zz"):
        while True:
            source.take(*source.find())
    source.close()


def test_closing_does_not_wait_for_a_search_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the search holds goes when it gets on."""
    monkeypatch.setattr(module, "CLOSE_S", 0.05)
    (tmp_path / "a").touch()
    source = Source.open([str(tmp_path)])
    begun, hangs, ended = threading.Event(), threading.Event(), threading.Event()

    def entries() -> Generator[Entry, None, None]:
        try:
            begun.set()
            assert hangs.wait(60)
            for number in range(1_000_000):
                yield Entry(f"{number}", FILE)
        finally:
            ended.set()

    source._entries = entries()  # a disk that hangs
    searching = threading.Thread(target=source.find)
    searching.start()
    try:
        assert begun.wait(60)
        source.close()
        assert not ended.is_set()
    finally:
        hangs.set()
        searching.join(60)
    assert ended.is_set()
    assert source.find() == (b"", False)
