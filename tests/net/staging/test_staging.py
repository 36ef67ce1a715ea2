"""The receiver's disk: chunks, journal, publication, and every way to be cut in between."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.pathrules import MAX_COMPONENT, collision_key
from p2pxfer.errors import ChunkRefused, ConfigError, Damaged, DiskError
from p2pxfer.net import disk
from p2pxfer.net.staging import publishing, treefiles
from p2pxfer.net.staging.publishing import free_names
from p2pxfer.net.staging.staging import Staging
from tests.core.paths_corpus import Row, cases
from tests.net import killed_receiver
from tests.net.disk_tools import (
    CHUNK,
    MODES,
    MTIME,
    NOW,
    Content,
    noise,
    open_staging,
    put,
    restricted,
    run,
    small,
    tree,
)

ROOT = os.geteuid() == 0


pytestmark = pytest.mark.usefixtures("no_descriptor_is_lost")


# -- the plain way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_f25_sizes(dest: Path, size: int) -> None:
    content = Content({"file": noise(size)})
    assert run(dest, content, batch=2) == ["file"]
    assert tree(dest) == {"file": noise(size)}


def check_restricted(dest: Path) -> None:
    """Modes and times of everything are exact; as root, who may look into all of it."""
    assert {name: stat.S_IMODE((dest / name).lstat().st_mode) for name in MODES} == MODES
    for path in dest.rglob("*"):
        assert path.lstat().st_mtime_ns == MTIME, path
    assert (dest / "d/link").readlink() == Path("e")
    assert (dest / "shut/up").read_bytes() == b"i"
    assert (dest / "d/none").read_bytes() == b"n"


@pytest.mark.parametrize("umask", [0, 0o027, 0o777])
def test_a_tree_with_modes_and_times(dest: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        assert run(dest, restricted(), batch=1) == ["a-secret", "a.txt", "d", "shut"]
    finally:
        os.umask(old)
    check_restricted(dest)


@pytest.mark.skipif(not ROOT, reason="becomes another user")
@pytest.mark.parametrize(
    ("point", "count"),
    [
        ("rx.before_rename", 1),
        ("rx.before_rename", 3),
        ("rx.after_rename", 1),
        ("rx.after_rename", 4),
        ("rx.before_dirsync", 1),
    ],
)
def test_a_user_without_rights_of_their_own_goes_on_after_a_cut(point: str, count: int) -> None:
    """Modes that shut their owner out are set last, and a run that was cut behind that goes on all the same."""
    code = (
        "import os; from tests.net import disk_tools, killed_receiver; "
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); "
        "killed_receiver.content = disk_tools.restricted; killed_receiver.main()"
    )
    # Not pytest's own folder, whose parents only this user may enter.
    with tempfile.TemporaryDirectory() as folder:
        dest = Path(folder)
        dest.chmod(0o777)
        for here in (point, "never"):
            argv = [sys.executable, "-c", code, folder, here, str(count)]
            ended = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
            assert ended.returncode == (-signal.SIGKILL if here == point else 0), ended
        check_restricted(dest)
        assert sorted(path.name for path in dest.iterdir()) == ["a-secret", "a.txt", "d", "shut"]


@pytest.mark.parametrize(("mtime", "expected"), [(0, 0), (2**63 - 1, NOW + 86_400), (10**18, 10**9)])
def test_m17_times_are_clamped(dest: Path, mtime: int, expected: float) -> None:
    manifest = Manifest([Entry("x", FILE, 0, mtime)])
    content = Content({"x": b""})
    content.manifest = manifest
    content.table = type(content.table)(manifest)
    run(dest, content, batch=1)
    assert (dest / "x").stat().st_mtime == expected


def test_everything_is_private_until_it_is_whole(dest: Path) -> None:
    content = small()
    staging = open_staging(dest, content)
    put(staging, content, content.addresses())
    staging.sync(map(content.claim, content.addresses()))
    for path in [dest / staging.name, *(dest / staging.name).rglob("*")]:
        assert path.is_file() or path.stat().st_mode & 0o077 == 0
    assert [path.name for path in dest.iterdir()] == [staging.name]
    staging.close()


def test_chunks_in_any_order_by_several_threads(dest: Path) -> None:
    content = Content({f"f{number}": noise(5 * CHUNK + number, number) for number in range(80)})
    staging = open_staging(dest, content)
    addresses = content.addresses()[::-1]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda address: put(staging, content, [address]), addresses))
    staging.sync(map(content.claim, addresses))
    assert len(staging.finish(content.root, NOW)) == 80
    staging.discard()
    assert tree(dest) == content.files


# -- what a sender may not do --------------------------------------------------------------------------------------


def test_chunks_that_are_refused(dest: Path) -> None:
    content = small()
    staging = open_staging(dest, content)
    payload, digest = content.chunk((0, 0)), content.digest((0, 0))
    for file, index, data, announced in [
        (2, 0, payload, digest),
        (-1, 0, payload, digest),
        (0, 1, payload, digest),
        (0, -1, payload, digest),
        (0, 2**32, payload, digest),
        (0, 0, payload + b"x", digest),
        (0, 0, payload[:-1], digest),
        (0, 0, b"", digest),
        (0, 0, b"hellO", digest),
        (0, 0, payload, bytes(32)),
    ]:
        with pytest.raises(ChunkRefused):
            staging.write_chunk(file, index, memoryview(data), announced)
    with pytest.raises(ChunkRefused):
        staging.write_chunk(0, 0, memoryview(payload), digest, bytes(32))
    assert tree(dest / staging.name / "tree") == {}
    with pytest.raises(ChunkRefused):
        staging.sync([(7, 0, 1, bytes(32))])
    staging.close()


def test_finish_needs_everything_and_the_right_root(dest: Path) -> None:
    content = small()
    staging = open_staging(dest, content)
    put(staging, content, content.addresses()[1:])
    staging.sync(map(content.claim, content.addresses()[1:]))
    with pytest.raises(Damaged):
        staging.finish(content.root, NOW)
    put(staging, content, content.addresses()[:1])
    with pytest.raises(Damaged):
        staging.finish(content.root, NOW)
    staging.sync(map(content.claim, content.addresses()[:1]))
    with pytest.raises(Damaged):
        staging.finish(bytes(32), NOW)
    assert not (dest / "a.txt").exists()
    assert staging.finish(content.root, NOW) == ["a.txt", "d"]
    assert staging.finish(content.root, NOW) == ["a.txt", "d"]
    with pytest.raises(Damaged):
        staging.finish(bytes(32), NOW)
    with pytest.raises(DiskError, match="published already"):
        put(staging, content, [(0, 0)])
    staging.discard()


@pytest.mark.parametrize("row", cases("ok"))
def test_names_of_the_corpus_arrive_as_they_are(dest: Path, row: Row) -> None:
    paths = row.texts()
    files = {text: b"x" for path, text in zip(row.paths, paths, strict=True) if not row.is_directory(path)}
    content = Content(files, directories=[path for path in paths if path not in files])
    assert run(dest, content, batch=1) == content.manifest.top_names
    assert os.listdir(dest) == content.manifest.top_names
    if max(map(len, paths)) < 4000:
        assert sorted(tree(dest)) == sorted(paths)


# -- names that are taken ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["file", "directory", "link to a file", "link to a directory", "dangling", "fifo", "hard"]
)
def test_f64_whatever_is_there_stays(dest: Path, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"outside")
    for name in ("a.txt", "d"):
        there = dest / name
        match kind:
            case "file":
                there.write_bytes(b"mine")
            case "directory":
                there.mkdir()
            case "link to a file":
                there.symlink_to(outside / "file")
            case "link to a directory":
                there.symlink_to(outside)
            case "dangling":
                there.symlink_to(outside / "nothing")
            case "fifo":
                os.mkfifo(there)
            case _:
                os.link(outside / "file", there)
    before, outer = tree(dest), tree(outside)
    assert run(dest, small(), batch=1) == ["a (1).txt", "d (1)"]
    after = tree(dest)
    assert {name: after[name] for name in before} == before
    assert after["a (1).txt"] == b"hello"
    assert after["d (1)/b.bin"] == noise(CHUNK + 1)
    assert tree(outside) == outer


def test_a_name_that_differs_in_case_only_is_taken(dest: Path) -> None:
    (dest / "A.TXT").write_bytes(b"mine")
    assert run(dest, small(), batch=1) == ["a (1).txt", "d"]
    assert run(dest, Content({"D": b"x"}), batch=1) == ["D (1)"]


def test_the_same_twice_and_thrice(dest: Path) -> None:
    content = Content({"a.tar.gz": b"x", "a (1).tar.gz": b"y"})
    assert run(dest, content, batch=1) == ["a (1).tar.gz", "a.tar.gz"]
    assert run(dest, content, batch=1) == ["a (1) (1).tar.gz", "a (2).tar.gz"]


def test_free_names() -> None:
    def second(name: str, is_file: bool = True) -> str:
        return list(free_names(name, is_file, tries=2))[1]

    assert second("a.txt") == "a (1).txt"
    assert second("a.b.txt") == "a.b (1).txt"
    assert second("a.tar.xz") == "a (1).tar.xz"
    assert second(".bashrc") == ".bashrc (1)"
    assert second("plain") == "plain (1)"
    assert second("a.d", is_file=False) == "a.d (1)"
    assert len(second("\u00e9" * 127).encode()) <= MAX_COMPONENT
    assert second("x" * 251 + ".txt") == "x" * 247 + " (1).txt"
    assert len(second("x." + "y" * 250).encode()) == MAX_COMPONENT


def test_two_publishers_race_for_one_name(dest: Path) -> None:
    names: list[str] = []
    barrier = threading.Barrier(2)

    def receive(number: int) -> None:
        def failpoint(name: str) -> None:
            if name == "rx.before_rename" and not barrier.broken:
                try:
                    barrier.wait(5)
                    barrier.abort()
                except threading.BrokenBarrierError:
                    pass

        names.extend(run(dest, Content({"same.txt": b"x" * number}), 1, failpoint))

    threads = [threading.Thread(target=receive, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(names) == ["same (1).txt", "same.txt"]
    assert len(tree(dest)) == 2
    assert set(tree(dest).values()) == {b"", b"x"}


def test_cut_after_another_program_took_the_name(dest: Path) -> None:
    content = Content({"a.txt": b"hello"})

    class Cut(BaseException):
        pass

    def failpoint(name: str) -> None:
        if name == "rx.before_rename" and not (dest / "a.txt").exists():
            (dest / "a.txt").write_bytes(b"theirs")
        if name == "rx.after_rename":
            raise Cut

    with pytest.raises(Cut):
        run(dest, content, 1, failpoint)
    assert run(dest, content, 1) == ["a (1).txt"]
    assert tree(dest) == {"a.txt": b"theirs", "a (1).txt": b"hello"}


@pytest.mark.parametrize("link", [True, False])
def test_renaming_where_the_system_has_no_exclusive_call(
    dest: Path, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    monkeypatch.setattr(disk, "_rename_exclusive", lambda *_: False)
    if not link:

        def no_link(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", no_link)
    (dest / "a.txt").write_bytes(b"mine")
    unseen = iter(["a.txt", "private"])
    real = collision_key
    # The listing does not show the file yet, as if it had come a moment later.
    monkeypatch.setattr(publishing, "collision_key", lambda name: f"?{name}" if next(unseen, None) else real(name))
    assert run(dest, small(), batch=1) == ["a (1).txt", "d"]
    assert tree(dest) == {
        "a.txt": b"mine",
        "a (1).txt": b"hello",
        "d": None,
        "d/b.bin": noise(CHUNK + 1),
        "d/e": None,
    }


# -- going on ------------------------------------------------------------------------------------------------------


def test_resume_knows_what_was_synced_and_nothing_else(dest: Path) -> None:
    content = small()
    first, second, third = content.addresses()
    staging = open_staging(dest, content)
    put(staging, content, [first, second, third])
    staging.sync([content.claim(second)])
    staging.sync([])
    assert dict(staging.have) == {second: content.digest(second)}
    staging.close()
    staging.close()
    again = open_staging(dest, content)
    assert dict(again.have) == {second: content.digest(second)}
    again.sync([content.claim(first)])
    again.close()
    assert run(dest, content, batch=1) == ["a.txt", "d"]
    assert len(os.listdir(dest)) == 2


def test_f08_what_was_removed_or_cut_is_fetched_again(dest: Path) -> None:
    content = small()
    staging = open_staging(dest, content)
    put(staging, content, content.addresses())
    staging.sync(map(content.claim, content.addresses()))
    staging.close()
    inner = dest / staging.name / "tree"
    os.truncate(inner / "d/b.bin", CHUNK)
    (inner / "a.txt").unlink()
    again = open_staging(dest, content)
    assert list(again.have) == [(1, 0)]
    again.close()
    assert run(dest, content, batch=1) == ["a.txt", "d"]
    assert tree(dest)["d/b.bin"] == content.files["d/b.bin"]


def test_going_on_does_not_read_what_is_there(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = small()
    staging = open_staging(dest, content)
    put(staging, content, content.addresses())
    staging.sync(map(content.claim, content.addresses()))
    staging.close()
    pread = os.pread
    read: list[bytes] = []

    def counting(fd: int, length: int, offset: int) -> bytes:
        read.append(pread(fd, length, offset))
        return read[-1]

    monkeypatch.setattr(os, "pread", counting)
    again = open_staging(dest, content)
    assert len(again.have) == len(content.addresses())
    assert 0 < sum(map(len, read)) < 4096  # the journal
    again.close()


@pytest.mark.parametrize("size", [10, 3 * CHUNK])
def test_m45_partial_of_another_size(dest: Path, size: int) -> None:
    content = small()
    staging = open_staging(dest, content)
    put(staging, content, content.addresses())
    staging.sync(map(content.claim, content.addresses()))
    staging.close()
    os.truncate(dest / staging.name / "tree/d/b.bin", size)
    assert run(dest, content, batch=1) == ["a.txt", "d"]
    assert tree(dest)["d/b.bin"] == content.files["d/b.bin"]


def test_a_file_cut_by_another_program_before_the_end(dest: Path) -> None:
    content = small()
    staging = open_staging(dest, content)
    put(staging, content, content.addresses())
    staging.sync(map(content.claim, content.addresses()))
    os.truncate(dest / staging.name / "tree/d/b.bin", 10)
    with pytest.raises(DiskError, match="another program"):
        staging.finish(content.root, NOW)
    with pytest.raises(DiskError):
        staging.finish(content.root, NOW)
    staging.close()
    assert "a.txt" not in tree(dest)


def test_f07_torn_journal(dest: Path) -> None:
    content = Content({"x": noise(4 * CHUNK)})
    staging = open_staging(dest, content)
    for address in content.addresses():
        put(staging, content, [address])
        staging.sync([content.claim(address)])
    staging.close()
    journal = dest / staging.name / "journal"
    whole = journal.read_bytes()
    for length in (len(whole) - 1, len(whole) - 49, len(whole) - 60, 100, 0):
        journal.write_bytes(whole[:length])
        again = open_staging(dest, content)
        expected = max(0, 4 - -(-(len(whole) - length) // 49))
        assert list(again.have) == content.addresses()[:expected]
        assert len(journal.read_bytes()) <= len(whole)
        again.close()
        if expected:
            put_back = open_staging(dest, content)
            put(put_back, content, content.addresses())
            put_back.sync(map(content.claim, content.addresses()))
            put_back.close()
    assert run(dest, content, batch=2) == ["x"]


def test_m40_journal_of_another_transfer_starts_over(dest: Path) -> None:
    mine, other = Content({"x": b"mine"}), Content({"x": b"other"})
    first = open_staging(dest, other)
    put(first, other, other.addresses())
    first.sync(map(other.claim, other.addresses()))
    first.close()
    second = open_staging(dest, mine)
    second.close()
    (dest / second.name / "journal").write_bytes((dest / first.name / "journal").read_bytes())
    again = open_staging(dest, mine)
    assert len(again.have) == 0
    again.close()


def test_t_m11_another_sender_does_not_find_it(dest: Path) -> None:
    content = small()
    staging = open_staging(dest, content)
    put(staging, content, [(0, 0)])
    staging.sync([content.claim((0, 0))])
    other = Staging.open(str(dest), b"t" * 32, content.manifest)
    assert len(other.have) == 0
    assert other.name != staging.name
    other.close()
    staging.close()


def test_m42_m43_m44_hostile_journals(dest: Path) -> None:
    content = small()
    staging = open_staging(dest, content)
    staging.close()
    journal = dest / staging.name / "journal"
    with open(journal, "r+b") as file:
        file.truncate(2**30)
    open_staging(dest, content).close()
    assert journal.stat().st_size < 10_000
    spoils: list[Callable[[], None]] = [
        journal.mkdir, lambda: os.mkfifo(journal), lambda: journal.symlink_to("/etc/passwd"),
    ]  # fmt: skip
    for spoil in spoils:
        journal.unlink() if not journal.is_dir() else journal.rmdir()
        spoil()
        with pytest.raises(DiskError):
            open_staging(dest, content)


def test_t_m3_the_private_directory_is_a_link(dest: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    content = small()
    staging = open_staging(dest, content)
    staging.discard()
    (dest / staging.name).symlink_to(outside)
    with pytest.raises(DiskError):
        open_staging(dest, content)
    assert tree(outside) == {}


def test_t_l3_links_planted_in_the_tree_are_not_followed(dest: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.bin").write_bytes(b"outside")
    content = small()
    staging = open_staging(dest, content)
    inner = dest / staging.name / "tree"
    (inner / "d").symlink_to(outside)
    (inner / "a.txt").symlink_to(outside / "b.bin")
    for address in ((0, 0), (1, 0)):
        with pytest.raises(DiskError, match="is kept in"):
            put(staging, content, [address])
    staging.close()
    assert tree(outside) == {"b.bin": b"outside"}


def test_m46_a_directory_that_others_may_enter(dest: Path) -> None:
    content = small()
    staging = open_staging(dest, content)
    staging.close()
    os.chmod(dest / staging.name, 0o750)
    with pytest.raises(DiskError, match="not private"):
        open_staging(dest, content)


@pytest.mark.skipif(not ROOT, reason="needs root to give files away")
def test_m46_a_directory_of_another_user(dest: Path) -> None:
    content = small()
    staging = open_staging(dest, content)
    staging.close()
    os.chown(dest / staging.name, 12345, 12345)
    with pytest.raises(DiskError, match="not private"):
        open_staging(dest, content)


def test_f23_two_receivers_of_one_transfer(dest: Path) -> None:
    content = small()
    staging = open_staging(dest, content)
    with pytest.raises(ConfigError, match="another process"):
        open_staging(dest, content)
    staging.close()
    open_staging(dest, content).close()


def test_the_last_user_removes_the_directory_in_the_last_moment(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = small()
    other = open_staging(dest, content)
    flock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        monkeypatch.undo()
        other.discard()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    assert run(dest, content, batch=1) == ["a.txt", "d"]


# -- published, but the sender does not know -------------------------------------------------------------------------


def test_published_is_remembered(dest: Path) -> None:
    content = small()
    (dest / "d").mkdir()
    staging = open_staging(dest, content)
    put(staging, content, content.addresses())
    staging.sync(map(content.claim, content.addresses()))
    names = staging.finish(content.root, NOW)
    staging.close()
    before = tree(dest)
    again = open_staging(dest, content)
    assert (again.published_root, again.published_names) == (content.root, names)
    assert again.finish(content.root, NOW) == names == ["a.txt", "d (1)"]
    assert tree(dest) == before
    again.discard()
    assert sorted(os.listdir(dest)) == ["a.txt", "d", "d (1)"]


def test_published_and_taken_away_starts_over(dest: Path) -> None:
    content = Content({"a.txt": b"hello"})
    staging = open_staging(dest, content)
    put(staging, content, content.addresses())
    staging.sync(map(content.claim, content.addresses()))
    staging.finish(content.root, NOW)
    staging.close()
    (dest / "a.txt").unlink()
    again = open_staging(dest, content)
    assert again.published_root is None
    assert len(again.have) == 0
    again.close()
    assert run(dest, content, batch=1) == ["a.txt"]


# -- killed at every point -------------------------------------------------------------------------------------------

POINTS = {
    "rx.after_data_write": (1, 4, 11),
    "rx.after_data_sync": (1, 4),
    "rx.after_journal_write": (1, 2, 4, 5, 6),
    "rx.after_journal_sync": (1, 4, 5, 6),
    "rx.before_rename": (1, 2, 4),
    "rx.after_rename": (1, 2, 4),
    "rx.before_dirsync": (1,),
    "end": (1,),
}


@pytest.mark.parametrize(("point", "count"), [(point, count) for point, counts in POINTS.items() for count in counts])
def test_f01_killed(dest: Path, point: str, count: int) -> None:
    (dest / "big.bin").write_bytes(b"mine")
    command = [sys.executable, "-m", "tests.net.killed_receiver", str(dest), point, str(count)]
    killed = subprocess.run(command, capture_output=True, timeout=50, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    content = killed_receiver.content()
    for path, data in tree(dest).items():
        if not path.startswith(".p2pxfer-") and data is not None and path != "big.bin":
            assert content.files[path.replace("big (1).bin", "big.bin")] == data
    written = 0

    def count_written(name: str) -> None:
        nonlocal written
        written += name == "rx.after_data_write"

    names = run(dest, content, killed_receiver.BATCH, count_written)
    assert names == ["big (1).bin", "dir", "lonely", "zero"]
    expected = {path.replace("big.bin", "big (1).bin"): data for path, data in content.files.items()}
    files = {path: data for path, data in tree(dest).items() if data is not None}
    assert files == {**expected, "big.bin": b"mine"}
    assert sorted(os.listdir(dest)) == ["big (1).bin", "big.bin", "dir", "lonely", "zero"]
    assert os.access(dest / "dir/small.txt", os.X_OK)
    everything = len(content.addresses())
    match point:
        case "rx.after_journal_sync":
            assert written == max(0, everything - count * killed_receiver.BATCH)
        case "rx.after_data_write" | "rx.after_data_sync" | "rx.after_journal_write":
            assert written <= everything
        case _:
            assert written == 0, "what is whole is not fetched again"


def test_order_of_what_goes_to_the_disk(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def note(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def noted(fd: int, *rest: object) -> object:
            events.append(f"{name} {Path(os.readlink(f'/proc/self/fd/{fd}')).name}")
            return real(fd, *rest)

        return noted

    monkeypatch.setattr(os, "pwrite", note("write", os.pwrite))
    monkeypatch.setattr(os, "fsync", note("sync", os.fsync))
    for module in (treefiles, sys.modules["p2pxfer.net.staging.journalfile"]):
        monkeypatch.setattr(module, "fdatasync", note("sync", os.fdatasync))
    rename = disk._rename_exclusive

    def noted_rename(old_dir: int, old: bytes, new_dir: int, new: bytes) -> bool:
        events.append(f"rename {old.decode()}")
        return rename(old_dir, old, new_dir, new)

    monkeypatch.setattr(disk, "_rename_exclusive", noted_rename)
    run(dest, Content({"x": b"data"}), batch=1)
    name = next(event.split()[1] for event in events if event.startswith("sync .p2pxfer-"))
    assert events == [
        f"sync {name}",
        "write journal.new",
        "sync journal.new",
        f"sync {name}",
        "sync dest",
        "write x",
        "sync x",
        "write journal",
        "sync journal",
        "sync x",
        "sync tree",
        "write journal",
        "sync journal",
        "rename x",
        "sync dest",
        "sync tree",
        "write journal",
        "sync journal",
    ]


def test_cut_between_link_and_unlink(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = Content({"a.txt": b"hello"})
    monkeypatch.setattr(disk, "_rename_exclusive", lambda *_: False)
    unlink = os.unlink

    def stopped(name: bytes, *, dir_fd: int | None = None) -> None:
        if name == b"a.txt":
            raise OSError(errno.EIO, "cut")
        unlink(name, dir_fd=dir_fd)

    with monkeypatch.context() as cut:
        cut.setattr(os, "unlink", stopped)
        with pytest.raises(DiskError):
            run(dest, content, batch=1)
    assert (dest / "a.txt").stat().st_nlink == 2
    assert run(dest, content, batch=1) == ["a.txt"]
    assert os.listdir(dest) == ["a.txt"]
    assert (dest / "a.txt").stat().st_nlink == 1
