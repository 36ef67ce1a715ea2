"""What is queued, on the disk: two who change it at once, kills, full disks, files that are damaged or newer."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pxfer.core.ids import PeerId
from p2pxfer.errors import ConfigError, DiskError, LimitReached, NoSpace, UsageError
from p2pxfer.net.queue import queuestore
from p2pxfer.net.queue.queuestore import MAX_WHY, Queued, QueueStore
from tests.e2e.conftest import mounted, needs_mounts
from tests.moments import for_now
from tests.net.disk_tools import open_fds

BOB = str(PeerId(b"b" * 32))


def entry(path: str = "/a", added: int = 1, **options: Any) -> Queued:
    return Queued([path], BOB, added, **options)


@pytest.fixture
def store(tmp_path: Path) -> QueueStore:
    return QueueStore(tmp_path / "home")


def one(store: QueueStore) -> Queued:
    (found,), unreadable = store.read()
    assert unreadable == []
    return found


def test_what_is_put_comes_back_in_order_and_private(store: QueueStore) -> None:
    before = open_fds()
    assert store.read() == ([], [])
    late, early = entry("/late", 5, delta=True, limit=7, links="keep", policy="direct"), entry("/early", 3)
    assert store.put(late) == late
    store.put(early)
    assert store.read() == ([early, late], [])
    assert {path.stat().st_mode & 0o777 for path in store.path.iterdir()} == {0o600}
    assert store.path.stat().st_mode & 0o777 == 0o700
    assert store.remove(early.number)
    assert not store.remove(early.number)
    assert store.read() == ([late], [])
    assert open_fds() == before


def test_without_a_lock_nothing_is_changed(store: QueueStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is not there when the lock is wanted, and a moment later somebody has made it and queues."""
    store.put(entry())

    def gone(path: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    with monkeypatch.context() as patch:
        patch.setattr(queuestore, "locked", gone)
        assert store.change(entry().number, lambda old: msgspec.structs.replace(old, paused=True)) is None
        assert not store.remove(entry().number)
        with pytest.raises(DiskError, match="nothing was queued"):
            store.put(entry(priority=3))
    assert one(store) == entry()


def test_the_same_again_gets_the_new_options_and_another_try(store: QueueStore) -> None:
    store.put(entry(priority=3))
    store.change(entry().number, lambda old: msgspec.structs.replace(old, failed=True, why="gone", acked=5, size=9))
    again = store.put(entry(added=9, delta=True, priority=1))
    assert again == entry(added=1, delta=True, priority=3, resumed=1, acked=5, size=9) == one(store)


def test_the_same_again_while_it_is_sent_is_another_one(store: QueueStore) -> None:
    """The agent has read the files, which were changed then: that it has sent them is not the end of this one."""
    store.put(entry())
    store.change(entry().number, lambda old: msgspec.structs.replace(old, running=True, acked=5, size=9))
    again = store.put(entry(added=9, limit=7))
    assert again == entry(added=9, limit=7, resumed=1, acked=5, size=9) == one(store)
    assert not store.remove(entry().number, entry().added)
    store.change(entry().number, lambda old: msgspec.structs.replace(old, running=True))
    assert store.put(entry(added=9)).added == 10


def test_only_the_entry_that_is_meant_is_changed_and_removed(store: QueueStore) -> None:
    number = entry().number
    assert store.change(number, lambda old: old) is None
    assert not store.remove(number, 1)
    store.put(entry(added=2))
    assert not store.remove(number, 1)
    assert store.remove(number, 2)
    assert store.change(number, lambda old: old) is None
    assert list(store.path.glob("*.json")) == []


def test_there_is_a_limit(store: QueueStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queuestore, "MAX_ENTRIES", 2)
    store.put(entry("/1"))
    store.put(entry("/2"))
    with pytest.raises(LimitReached, match="p2pxfer jobs"):
        store.put(entry("/3"))
    store.put(entry("/2", limit=5))
    assert len(store.read()[0]) == 2


def test_a_path_that_is_no_text_is_refused(store: QueueStore) -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        store.put(entry("/\udcff"))
    assert store.read() == ([], [])


def test_more_paths_than_an_entry_can_be_read_with_are_refused(store: QueueStore) -> None:
    def of(size: int) -> Queued:
        """One whose file has this many bytes."""
        made = Queued(["/" + "x" * 1000] * 1000, BOB, 1)
        return msgspec.structs.replace(made, paths=[*made.paths, "/" * (size - len(msgspec.json.encode(made)) - 4)])

    largest = 1024 * 1024 - 16 * MAX_WHY
    with pytest.raises(UsageError, match=r"1001 paths .* queue their directory"):
        store.put(of(largest + 1))
    assert store.read() == ([], [])
    put = store.put(of(largest))
    assert one(store) == put
    why = "\x01" * MAX_WHY  # and there is room for what becomes of it
    huge = msgspec.structs.replace(put, failed=True, why=why, transfer="a" * 64, size=2**63, acked=2**63, priority=10)
    store.change(put.number, lambda _: huge)
    assert one(store) == huge


# -- several at once ---------------------------------------------------------------------------------------------------


def count_up(home: Path, field: str, times: int) -> None:
    """What one of two processes does: its own field, one higher each time."""
    number = entry().number
    for _ in range(times):
        QueueStore(home).change(number, lambda old: msgspec.structs.replace(old, **{field: getattr(old, field) + 1}))


@pytest.mark.deadline(180)
def test_two_who_change_one_entry_lose_nothing_of_each_other(store: QueueStore) -> None:
    """As a person pauses and prioritises while the agent writes progress."""
    store.put(entry())
    context = multiprocessing.get_context("spawn")
    fields = ("priority", "acked", "resumed")
    children = [context.Process(target=count_up, args=(store.path.parent, field, 20)) for field in fields]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    found = one(store)
    assert [getattr(found, field) for field in fields] == [20, 20, 20]


def test_one_process_carries_it_out(store: QueueStore) -> None:
    before = open_fds()
    assert not for_now(store.attended)
    held = store.hold()
    assert for_now(store.attended)
    with pytest.raises(ConfigError, match="another agent"):
        store.hold()
    held.close()
    assert not store.attended
    store.hold().close()
    assert open_fds() == before


# -- kills -------------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
import msgspec
from p2pxfer.net.queue.queuestore import QueueStore

count = int(sys.argv[2])
for name in ("open", "write", "fsync", "replace", "rename", "unlink", "close"):
    def step(*words, real=getattr(os, name), **options):
        global count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*words, **options)
    setattr(os, name, step)
store = QueueStore(Path(sys.argv[1]))
entry = store.read()[0][0]
store.change(entry.number, lambda old: msgspec.structs.replace(old, priority=1))
print("whole")
"""


@pytest.mark.deadline(240)
def test_a_kill_between_any_two_steps_leaves_the_old_entry_or_the_new_one(store: QueueStore) -> None:
    store.put(entry())
    seen = set()
    for count in range(1, 60):
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, store.path.parent, str(count)],
            capture_output=True, text=True, timeout=50, check=False,
        )  # fmt: skip
        found = one(store)
        seen.add(found.priority)
        assert found == entry(priority=found.priority)
        if "whole" in ended.stdout:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        store.change(entry().number, lambda _: entry())  # neither the lock nor what is left over is in the way
        assert one(store) == entry()
    else:
        raise AssertionError("it never came to its end")
    assert count > 5
    assert seen == {0, 1}


# -- the disk ----------------------------------------------------------------------------------------------------------


def refuses(store: QueueStore, tried: Callable[[], object]) -> None:
    before = {path.name: path.read_bytes() for path in store.path.iterdir()}
    with pytest.raises(NoSpace) as caught:
        tried()
    assert caught.value.message.isprintable()
    assert {path.name: path.read_bytes() for path in store.path.iterdir()} == before


@needs_mounts
def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=64k") as small:
        store = QueueStore(small)
        store.put(entry())
        (small / "ballast").write_bytes(bytes((os.statvfs(small).f_bavail) * os.statvfs(small).f_bsize))
        refuses(store, lambda: store.put(entry("/other")))
        refuses(store, lambda: store.change(entry().number, lambda old: msgspec.structs.replace(old, paused=True)))
        assert one(store) == entry()
        (small / "ballast").unlink()
        store.put(entry("/other"))
        assert len(store.read()[0]) == 2


@needs_mounts
def test_a_disk_without_inodes_keeps_nothing_by_half(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "nr_inodes=6") as small:
        store = QueueStore(small)
        store.put(entry())
        number = 0
        while True:
            number += 1
            try:
                (small / str(number)).touch()
            except OSError:
                break
        refuses(store, lambda: store.put(entry("/other")))
        assert store.remove(entry().number)


# -- files that cannot be used -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "damaged"),
        (b'{"schema": 1', "damaged"),
        (b'{"schema": 2, "all": "new"}', "newer version"),
        (b'{"schema": "\x1b[2J"}', "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"schema": 1, "paths": ["/b"], "peer": "bob", "added": 1}', "damaged"),
        (msgspec.json.encode(entry("/another")), "another transfer than its name"),
        (msgspec.json.encode(msgspec.structs.replace(entry(), peer="bob")), "damaged"),
    ],
)
def test_one_that_cannot_be_used_is_reported_in_a_line_and_left_alone(
    store: QueueStore, data: bytes, says: str
) -> None:
    good = entry("/good")
    store.put(good)
    bad = store.path / f"{entry().number}.json"
    bad.write_bytes(data)
    entries, (unreadable,) = store.read()
    assert entries == [good]
    assert unreadable.number == entry().number
    assert says in unreadable.why
    assert unreadable.why.isprintable()
    with pytest.raises(ConfigError):
        store.put(entry())
    with pytest.raises(ConfigError):
        store.change(entry().number, lambda old: old)
    assert bad.read_bytes() == data
    assert store.remove(entry().number)  # as a person may wish
    assert store.read() == ([good], [])


def test_a_directory_that_cannot_be_read_is_not_an_empty_one(
    store: QueueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(entry())
    with monkeypatch.context() as harmed:

        def refuse(path: object) -> list[str]:
            raise OSError(errno.EMFILE, "Too many open files")

        harmed.setattr(os, "listdir", refuse)
        with pytest.raises(DiskError, match="Too many open files"):
            store.read()
    assert one(store) == entry()


def test_what_is_no_entry_is_not_looked_at(store: QueueStore) -> None:
    store.put(entry())
    for name in ("notes.txt", "x.json", "12345678.json.new", "123456789.json"):
        (store.path / name).write_text("?")
    (store.path / "00000000.json").mkdir()
    (found,), (unreadable,) = store.read()
    assert (found, unreadable.number) == (entry(), "00000000")
