"""The receiver's disk, when it refuses: short writes, errors, full and removed directories, small file systems."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.errors import DiskError, NoSpace
from p2pxfer.net import disk
from p2pxfer.net.disk import FdCache
from p2pxfer.net.staging import publishing, treefiles
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.staging.trouble import Trouble
from tests.net.disk_tools import (
    CHUNK,
    NOW,
    SENDER,
    Content,
    noise,
    open_fds,
    open_staging,
    put,
    run,
    small,
    tree,
)

ROOT = os.geteuid() == 0


pytestmark = pytest.mark.usefixtures("no_descriptor_is_lost")


def test_f12_short_writes(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[: max(1, len(data) // 2)], offset))
    content = small()
    assert run(dest, content, batch=1) == ["a.txt", "d"]
    assert tree(dest)["d/b.bin"] == content.files["d/b.bin"]


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EFBIG, DiskError), (errno.EIO, DiskError)],
)
def test_f09_f11_errors_of_writing(
    dest: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[DiskError]
) -> None:
    content = Content({"x": noise(6 * CHUNK)})
    pwrite = os.pwrite
    writes = 1 + 2 * 6 + 1  # header, chunks and their records, the record of publishing
    for position in range(1, writes + 1):
        left = position
        where = dest / str(position)
        where.mkdir()

        def fail(fd: int, data: memoryview, offset: int) -> int:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(code, os.strerror(code))
            return pwrite(fd, data, offset)

        with monkeypatch.context() as failing:
            failing.setattr(os, "pwrite", fail)
            with pytest.raises(error) as caught:
                run(where, content, batch=1)
            assert type(caught.value) is error
            assert os.strerror(code) in caught.value.message
            assert caught.value.message.isprintable()
        assert not (where / "x").exists()
        assert run(where, content, batch=1) == ["x"]
        assert tree(where) == content.files


def test_f15_signals_all_the_time(dest: Path) -> None:
    """A call that a signal interrupts is carried out all the same."""
    content = Content({"x": noise(40 * CHUNK), **{f"d/{number}": b"y" for number in range(40)}})
    passed: list[object] = []
    over = threading.Event()
    target = threading.get_ident()

    def storm() -> None:
        while not over.wait(0.0005):
            signal.pthread_kill(target, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: passed.append(1))
    thread = threading.Thread(target=storm, daemon=True)
    thread.start()
    try:
        while not passed:
            time.sleep(0.001)
        assert run(dest, content, batch=2) == ["d", "x"]
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert len(passed) > 1
    assert {path: data for path, data in tree(dest).items() if data is not None} == content.files


@pytest.mark.parametrize("position", range(1, 9))
def test_f14_a_failed_sync_is_not_repeated(dest: Path, monkeypatch: pytest.MonkeyPatch, position: int) -> None:
    content = Content({"x": noise(2 * CHUNK), "y": b"y"})
    calls = 0

    def failing(real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(fd: int) -> None:
            nonlocal calls
            calls += 1
            if calls == position:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(fd)

        return sync

    with monkeypatch.context() as broken:
        for module in (treefiles, disk, sys.modules["p2pxfer.net.staging.journalfile"]):
            if hasattr(module, "fdatasync"):
                broken.setattr(module, "fdatasync", failing(os.fdatasync))
        broken.setattr(os, "fsync", failing(os.fsync))
        with pytest.raises(DiskError, match="Input/output error"):
            run(dest, content, batch=2)
        assert calls == position
    assert not (dest / "x").exists()
    assert run(dest, content, batch=2) == ["x", "y"]


@pytest.mark.parametrize(("code", "kind"), [(errno.EIO, DiskError), (errno.ENOSPC, NoSpace)])
def test_a_broken_staging_refuses_everything_for_the_first_reason(
    dest: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[DiskError]
) -> None:
    """Chunks that are being written meanwhile may fail before anybody hears of the sync."""
    content = small()
    receiver = open_staging(dest, content)
    put(receiver, content, content.addresses())

    def fail(_: int) -> None:
        raise OSError(code, "lost")

    with monkeypatch.context() as broken:
        broken.setattr(treefiles, "fdatasync", fail)
        with pytest.raises(DiskError):
            receiver.sync(map(content.claim, content.addresses()))
    for call in (
        lambda: receiver.sync(map(content.claim, content.addresses())),
        lambda: put(receiver, content, [(0, 0)]),
        lambda: receiver.finish(content.root, NOW),
    ):
        with pytest.raises(DiskError, match=f"syncing the received data failed: {os.strerror(code)}") as caught:
            call()
        assert type(caught.value) is kind
    assert len(receiver.have) == 0
    receiver.close()


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EACCES])
def test_f16_rename_fails(dest: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(*_: object) -> bool:
        raise OSError(code, os.strerror(code))

    content = small()
    with monkeypatch.context() as failing:
        failing.setattr(disk, "_rename_exclusive", fail)
        with pytest.raises(DiskError, match="is kept in"):
            run(dest, content, batch=1)
    assert run(dest, content, batch=1) == ["a.txt", "d"]


def test_many_files_are_synced_at_once(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = Content({f"d/{number}": b"%d" % number for number in range(100)})
    calls: list[str] = []
    real = disk.sync_file_system

    def sync_all(fd: int) -> bool:
        calls.append("all")
        return real(fd)

    for module in (treefiles, publishing):
        monkeypatch.setattr(module, "sync_file_system", sync_all)
    monkeypatch.setattr(treefiles, "fdatasync", lambda _: calls.append("one"))
    run(dest, content, batch=1000)
    assert calls == ["all", "all"] if real(0) else calls.count("one") == 100
    assert len(tree(dest)) == 101


def test_without_a_sync_of_the_whole_file_system(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_SYNCFS", False)
    content = Content({f"d/{number}": b"%d" % number for number in range(100)})
    run(dest, content, batch=1000)
    assert len(tree(dest)) == 101


def test_c15_c16_the_destination_is_missing_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("missing", "file"):
        with pytest.raises(DiskError, match="nothing was received"):
            open_staging(tmp_path / name, small())
    assert os.listdir(tmp_path) == ["file"]


def test_f17_the_destination_is_removed_meanwhile(dest: Path) -> None:
    content = small()
    receiver = open_staging(dest, content)
    put(receiver, content, [(0, 0)])
    import shutil

    shutil.rmtree(dest)
    with pytest.raises(DiskError):
        put(receiver, content, [(1, 0)])
    receiver.close()
    assert not dest.exists()


def test_t_m8_space_is_counted_before_anything_is_made(dest: Path) -> None:
    for size in (2**62, 2**63 - 1):
        manifest = Manifest([Entry("x", FILE, size)])
        with pytest.raises(NoSpace):
            Staging.open(str(dest), SENDER, manifest)
    with pytest.raises(NoSpace):
        Staging.open(str(dest), SENDER, Content({"x": b"y"}).manifest, announced=Announced(9, 2**62, 0, counting=True))
    content = Content({"x": b"y"})
    with pytest.raises(NoSpace, match="free some space"):
        Staging.open(str(dest), SENDER, content.manifest, reserve=2**62)
    assert os.listdir(dest) == []


def test_each_of_the_two_reads_of_a_full_disk_what_is_theirs(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender's user knows no place of this disk, and the receiver's has no command to run again."""
    found = SimpleNamespace(f_frsize=4096, f_bavail=5120, f_files=10, f_favail=100)
    monkeypatch.setattr(os, "statvfs", lambda place: found)
    manifest = Manifest([Entry("x", FILE, 60_000_000)])
    with pytest.raises(NoSpace) as raised:
        Staging.open(str(dest), SENDER, manifest)
    lacks = "20.0 MiB free, but 57.2 MiB and a reserve of 1.0 MiB are needed, 38.2 MiB too little"
    assert raised.value.message == f"'{dest}' has {lacks}; free some space, and let the sender run its command again"
    assert raised.value.abroad == f"its disk has {lacks}; run the command again when it has more room"
    found.f_bavail, found.f_favail = 2**40, 0
    with pytest.raises(NoSpace) as raised:
        Staging.open(str(dest), SENDER, manifest)
    assert "remove some files, and let the sender" in raised.value.message
    assert str(dest) not in raised.value.abroad and "room for 0 more files" in raised.value.abroad


@pytest.mark.parametrize("begun", [False, True])
def test_of_an_error_of_the_disk_the_sender_reads_no_place(begun: bool, dest: Path) -> None:
    trouble = Trouble("/mnt", "/mnt/in")
    trouble.home = _fd(dest) if begun else -1
    full = trouble.said(OSError(errno.ENOSPC, "full"), "opening the directory '/mnt'")
    assert full.message.endswith("free some space, and let the sender run its command again" + " to go on" * begun)
    assert "/mnt" not in full.abroad and os.strerror(errno.ENOSPC) in full.abroad
    assert "run the command again when it has more room" in full.abroad
    assert ("kept there" in full.abroad, "nothing was received" in full.abroad) == (begun, not begun)
    assert "when that is repaired" in trouble.said(OSError(errno.EIO, "broken"), "that").abroad


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "broken"), ValueError("a fault")])
def test_what_broke_the_place_is_told_to_both_by_whoever_comes_next(fault: Exception, dest: Path) -> None:
    trouble = Trouble("/mnt", "/mnt/in")
    trouble.home = _fd(dest)
    with pytest.raises((DiskError, ValueError)), trouble.breaking("syncing '/mnt/in'"):
        raise fault
    with pytest.raises(DiskError) as raised:
        trouble.check()
    assert "/mnt/in" in raised.value.message
    assert raised.value.abroad and "/mnt" not in raised.value.abroad


def _fd(where: Path) -> int:
    fd = os.open(where, os.O_RDONLY)
    os.set_inheritable(fd, False)
    _opened.append(fd)
    return fd


_opened: list[int] = []


@pytest.fixture(autouse=True)
def _close_opened(no_descriptor_is_lost: None) -> Iterator[None]:
    yield
    while _opened:
        os.close(_opened.pop())


def test_few_files_are_open_at_once(tmp_path: Path) -> None:
    def opener(key: int) -> int:
        return os.open(tmp_path / str(key), os.O_CREAT | os.O_RDWR)

    before = open_fds()
    cache = FdCache(3, opener)
    with cache.lease(0) as kept:
        for key in range(1, 20):
            with cache.lease(key) as fd:
                os.fstat(fd)
        os.write(kept, b"still open")
    assert open_fds() - before == 3
    with cache.lease(0) as again:
        assert again == kept
    cache.close()
    assert open_fds() == before


# -- small file systems ------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    where = tmp_path / "tiny"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(where)]
    if not ROOT or subprocess.run(mount, capture_output=True, timeout=50, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], timeout=50, check=True)


@pytest.mark.parametrize("tiny", ["size=4m"], indirect=True)
def test_f09_full_disk(tiny: Path) -> None:
    content = Content({"x": noise(2 * 2**20), "y": b"small"})
    with pytest.raises(NoSpace):
        open_staging(tiny, Content({"x": noise(4 * 2**20)}))
    assert os.listdir(tiny) == []
    receiver = open_staging(tiny, content)
    half = content.addresses()[:16]
    put(receiver, content, half)
    receiver.sync(map(content.claim, half))
    (tiny / "ballast").write_bytes(bytes(2 * 2**20 + 2**19))
    with pytest.raises(NoSpace, match="is kept in"):
        put(receiver, content, content.addresses()[16:])
    receiver.close()
    with pytest.raises(NoSpace, match="free"):
        open_staging(tiny, content)
    (tiny / "ballast").unlink()
    again = open_staging(tiny, content)
    assert list(again.have) == half
    again.close()
    assert run(tiny, content, batch=4) == ["x", "y"]
    assert tree(tiny) == content.files


@pytest.mark.parametrize("tiny", ["size=4m,nr_inodes=30"], indirect=True)
def test_f10_no_inodes(tiny: Path) -> None:
    too_many = Content({f"d/{number}": b"" for number in range(30)})
    with pytest.raises(NoSpace, match="more files"):
        open_staging(tiny, too_many)
    assert os.listdir(tiny) == []
    content = Content({f"d/{number}": b"x" for number in range(10)})
    receiver = open_staging(tiny, content)
    ballast = 0
    try:
        while True:
            (tiny / f"ballast{ballast}").touch()
            ballast += 1
    except OSError:
        pass
    with pytest.raises(NoSpace):
        put(receiver, content, content.addresses())
    receiver.close()
    for _ in range(3):
        ballast -= 1
        (tiny / f"ballast{ballast}").unlink()
    with pytest.raises(NoSpace, match="more files"):
        open_staging(tiny, content)
    for number in range(ballast):
        (tiny / f"ballast{number}").unlink()
    assert run(tiny, content, batch=4) == ["d"]


@pytest.mark.parametrize("tiny", ["size=4m"], indirect=True)
def test_f17_read_only_file_system(tiny: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], timeout=50, check=True)
    with pytest.raises(DiskError, match="Read-only") as caught:
        open_staging(tiny, small())
    assert caught.value.word == "E_IO"
