"""Files that change or cannot be read while they are sent, from one directory to another: all others arrive.

The pump and the staging are the product's own; between them messages and frames go by hand, so that a test says what
happens when.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from p2pxfer.core.codec import Message
from p2pxfer.core.framing import FrameDecoder
from p2pxfer.core.session.bundlewire import Bundle, decode_bundle
from p2pxfer.core.session.leftwire import LeftOut
from p2pxfer.core.session.transferwire import DATA_KIND, Chunk, Final, decode_chunk
from p2pxfer.core.session.wire import SESSION_CAPS
from p2pxfer.core.transfer.inflow import claims_of
from p2pxfer.core.transfer.receiveeffect import Decide, Listed, Publish, ReceiverEffect, Store, StoreHole
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.sendeffect import Send
from p2pxfer.errors import DiskError, SourceChanged, SourceUnreadable
from p2pxfer.net import disk
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.staging.staging import RESERVE, Staging
from p2pxfer.net.transfer import source as source_module
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.pump import ChunkPump
from p2pxfer.net.transfer.source import Source
from tests.net.disk_tools import NOW, SENDER, noise, tree
from tests.net.reactors import Threads
from tests.net.transfer.pumpworld import FakePath

CHUNK = 64 * 1024
FILES = {
    "d/big": noise(9 * CHUNK + 5, 1),
    "d/e/small": b"small",
    "d/empty": b"",
    **{f"d/few/{number}": noise(100 + number, number) for number in range(8)},
    "top": noise(3 * CHUNK, 3),
}

pytestmark = pytest.mark.usefixtures("no_descriptor_is_lost")


class Receiver:
    """A run of a receiver, which stores, syncs and publishes at once."""

    def __init__(self, where: Path, number: int, transfer: bytes) -> None:
        self.where = where
        self.core = ReceiverCore(transfer, bytes([number]) * 16)
        self.staging: Staging | None = None
        self.publish: Callable[[Staging, Publish], None] = lambda staging, effect: None

    def close(self) -> None:
        if self.staging is not None:
            self.staging.close()

    def do(self, effects: list[ReceiverEffect]) -> Iterator[Send]:
        """Carry out; what is to be sent."""
        for effect in effects:
            match effect:
                case Send():
                    yield effect
                case Decide(manifest):
                    yield from self.open(manifest)
                case Listed(page):
                    self._staging.sync([], [page])
                case Store(path, chunk):
                    self.store(path, chunk)
                case StoreHole(path, file, first, stop):
                    self._staging.sync(self._staging.write_hole(file, first, stop))
                    self.core.stored_hole(path, file, first, stop)
                case Publish(agreed):
                    self.publish(self._staging, effect)
                    self._staging.finish(agreed.root, NOW, agreed.left)
                    yield from self.do(self.core.published_all())

    @property
    def _staging(self) -> Staging:
        assert self.staging is not None
        return self.staging

    def open(self, manifest: Any) -> Iterator[Send]:
        staging = self.staging = Staging.open(str(self.where), SENDER, manifest)
        published = staging.published_root is not None
        if published and manifest.complete and manifest.pages == 1:
            assert staging.agreed is not None
            yield from self.do(self.core.already_published(staging.agreed))
        else:
            begun, agreed = staging.begun, staging.agreed
            yield from self.do(self.core.accepted(staging.have, published=published, begun=begun, agreed=agreed))

    def store(self, path: int, chunk: Any) -> None:
        staging = self._staging
        if isinstance(chunk, Bundle):
            staging.write_bundle(chunk)
        else:
            staging.write_chunk(chunk.file, chunk.index, chunk.payload, chunk.hash)
        staging.sync(claims_of(chunk))
        self.core.stored(path, chunk)


class Sender:
    """A run of a sender of these paths."""

    def __init__(self, folder: Path, paths: list[str]) -> None:
        self.threads = Threads()
        reactor: Any = self.threads
        self.source = Source.scan(paths)
        self.cache = HashCache(str(folder / "state"), self.source.manifest, self.source.identity, 0.0)
        self.pump = ChunkPump(reactor, self.source, self.cache)
        self.paths = PathSet(self.threads.seconds, lambda event: None)
        self.outcome: list[bytes | Exception] = []
        self.pump.attach(self.paths, self.outcome.append, self.outcome.append)
        self.ends: dict[int, Any] = {}

    def file(self, path: str) -> int:
        return next(number for number, entry in enumerate(self.source.manifest.files) if entry.path == path)

    def close(self) -> None:
        self.pump.close()
        quiet = Deferred.fromCoroutine(self.pump.quiet())
        while not quiet.called:
            self.threads.wait()
        self.cache.close()
        self.source.close()


class Between:
    """Both, and what goes from one to the other; ``before(what)`` is called with each message or chunk that goes."""

    def __init__(self, folder: Path, files: Mapping[str, bytes] = FILES) -> None:
        self.folder = folder
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        self.home = folder / "home"
        for path, data in files.items():
            (self.home / path).parent.mkdir(parents=True, exist_ok=True)
            (self.home / path).write_bytes(data)
        self.before: Callable[[Any], None] = lambda what: None
        self.runs = 0
        self.all: list[Sender | Receiver] = []
        self.said: list[Any] = []

    def sending(self) -> Sender:
        self.sender = Sender(self.folder, [str(self.home / "d"), str(self.home / "top")])
        self.all.append(self.sender)
        return self.sender

    def receiving(self) -> Receiver:
        self.runs += 1
        self.receiver = Receiver(self.inbox, self.runs, self.sender.source.manifest.transfer_id)
        self.all.append(self.receiver)
        return self.receiver

    def path(self, number: int) -> None:
        """A path between the two runs of now."""
        end: Any = FakePath(number)
        decoder = FrameDecoder(SESSION_CAPS)
        end.queue = deque()
        end.send = end.queue.append
        end.send_frame = lambda parts: end.queue.extend(decoder.feed(b"".join(parts)))
        self.sender.paths.add(end)
        self.sender.ends[number] = end
        self.sender.pump.open_path(end)

    def deliver(self) -> bool:
        """What one path brings next; whether there was anything."""
        for number, end in list(self.sender.ends.items()):
            if end.queue:
                self.take(number, end, end.queue.popleft())
                return True
        return False

    def take(self, number: int, end: Any, item: Any) -> None:
        if isinstance(item, Message):
            self.said.append(item)
            self.before(item)
            effects = self.receiver.core.receive(number, item)
        else:
            chunk = decode_chunk(item) if item.kind == DATA_KIND else decode_bundle(item)
            self.before(chunk)
            effects = self.receiver.core.chunk(number, chunk)
        answers = [*self.receiver.do(effects), *self.receiver.core.take_acks(number)]
        for answer in answers:
            if answer.path in self.sender.ends and not self.sender.outcome:
                self.sender.pump.message(self.sender.ends[answer.path], answer.message)
        self.sender.pump.push()

    def run(self) -> bytes | Exception:
        """Until the sender has ended; the root, or its error."""
        while not self.sender.outcome:
            if not self.deliver():
                self.sender.threads.wait()
        return self.sender.outcome[0]

    def whole(self) -> bytes | Exception:
        """Another run of both over one path."""
        self.anew()
        return self.run()

    def anew(self) -> None:
        """Other runs of both, and a path between them."""
        for end in self.all:
            end.close()
        self.all.clear()
        self.sending()
        self.receiving()
        self.path(1)

    def arrived(self) -> Mapping[str, bytes | None]:
        return {path: data for path, data in tree(self.inbox).items() if not path.startswith(".p2pxfer-")}


def everything_but(*left: str) -> dict[str, bytes | None]:
    directories: dict[str, bytes | None] = {"d": None, "d/e": None, "d/few": None}
    return directories | {path: data for path, data in FILES.items() if path not in left}


@pytest.fixture
def between(tmp_path: Path) -> Iterator[Between]:
    made = Between(tmp_path)
    made.anew()
    yield made
    for each in made.all:
        each.close()


# -- what happens to a file ----------------------------------------------------------------------------------------


def grows(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrinks(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def is_rewritten(path: Path) -> None:
    before = path.stat()
    path.write_bytes(noise(before.st_size, 77))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def is_replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(noise(path.stat().st_size, 78))
    other.replace(path)


def is_deleted(path: Path) -> None:
    path.unlink()


def is_shut(path: Path) -> None:
    path.chmod(0)


CHANGES = [grows, shrinks, is_rewritten, is_replaced, is_deleted, is_shut]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["d/big", "d/e/small", "d/few/3", "top"])
def test_f19_a_file_that_changes_before_it_is_read(between: Between, name: str, change: Callable[[Path], None]) -> None:
    change(between.home / name)
    assert isinstance(between.run(), bytes)
    assert between.arrived() == everything_but(name)
    pump = between.sender.pump
    assert pump.left.paths == (name,)
    assert isinstance(pump.left.error, SourceChanged)
    happened = "was removed or renamed" if change is is_deleted else "changed"
    assert pump.left.error.message.startswith(f"'{name}' {happened} while it was being sent; it was left out")
    assert pump.acked_bytes == sum(len(data) for path, data in FILES.items() if path != name)
    assert {message.files[0] for message in between.said if isinstance(message, LeftOut)} == {between.sender.file(name)}


@pytest.mark.parametrize("change", CHANGES)
def test_f19_a_file_that_changes_in_the_middle(
    between: Between, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read ahead, so that the rest of it has to be read after the change."""
    monkeypatch.setattr("p2pxfer.net.transfer.pump.BATCH_BYTES", 1)
    monkeypatch.setattr("p2pxfer.net.transfer.ready.AHEAD_BYTES", 4 * 2**20 + 1)
    file = between.sender.file("d/big")

    def when_it_is_under_way(what: Any) -> None:
        if isinstance(what, Chunk) and what.file == file and what.index == 2:
            change(between.home / "d/big")

    between.before = when_it_is_under_way
    assert isinstance(between.run(), bytes)
    assert between.arrived() == everything_but("d/big")
    assert between.sender.pump.left.paths == ("d/big",)


def fails(monkeypatch: pytest.MonkeyPatch, files: list[Path], number: int = errno.EIO) -> None:
    """Reading these fails."""
    numbers = {path.stat().st_ino for path in files}
    real = disk.read_span

    def read_span(fd: int, offset: int, length: int) -> bytes:
        if os.fstat(fd).st_ino in numbers:
            raise OSError(number, os.strerror(number))
        return real(fd, offset, length)

    monkeypatch.setattr(source_module, "read_span", read_span)


def test_f13_files_that_cannot_be_read(between: Between, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = ["d/big", "d/few/0", "d/few/5"]
    fails(monkeypatch, [between.home / name for name in bad])
    assert isinstance(between.run(), bytes)
    assert between.arrived() == everything_but(*bad)
    error = between.sender.pump.left.error
    assert type(error) is SourceUnreadable
    assert error.message.startswith(
        f"3 files changed or could not be read while they were being sent: {', '.join(bad)};"
    )
    assert between.sender.pump.left.paths == tuple(bad)


def test_what_fails_for_want_of_descriptors_is_no_files_fault(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, [between.home / "d/big"], errno.EMFILE)
    outcome = between.run()
    assert isinstance(outcome, DiskError)
    assert not isinstance(outcome, SourceUnreadable)
    assert between.arrived() == {}


def test_where_nothing_can_be_read_the_transfer_ends(between: Between, monkeypatch: pytest.MonkeyPatch) -> None:
    (between.home / "d/empty").unlink()
    between.anew()
    fails(monkeypatch, [between.home / name for name in FILES if name != "d/empty"])
    assert isinstance(between.run(), SourceUnreadable)
    assert between.arrived() == {}


def test_a_sparse_file_is_left_out_with_its_holes(between: Between) -> None:
    sparse = between.home / "d/sparse"
    with sparse.open("wb") as file:
        file.truncate(40 * CHUNK)
        file.seek(20 * CHUNK)
        file.write(b"x" * CHUNK)
    between.anew()
    grows(sparse)
    assert isinstance(between.run(), bytes)
    assert between.arrived() == everything_but()
    assert between.sender.pump.left.paths == ("d/sparse",)


# -- from run to run -----------------------------------------------------------------------------------------------


def until_final(between: Between) -> None:
    """Everything but the Final arrives."""

    class Cut(Exception):
        pass

    def stop(what: Any) -> None:
        if isinstance(what, Final):
            raise Cut

    between.before = stop
    with pytest.raises(Cut):
        between.run()
    between.before = lambda what: None


def test_a_file_that_can_be_read_again_is_sent_in_the_next_run(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as failing:
        fails(failing, [between.home / "d/big"])
        until_final(between)
    assert isinstance(between.whole(), bytes)
    assert between.sender.pump.left.error is None
    assert between.arrived() == everything_but()


class Killed(BaseException):
    """The receiver is killed."""


def killed(between: Between, point: str) -> None:
    """The receiver is killed when it comes to this failpoint of its staging while it publishes."""

    def failpoint(name: str) -> None:
        if name == point:
            raise Killed

    def arm(staging: Staging, effect: Publish) -> None:
        staging._failpoint = staging._publisher._failpoint = staging._journal._failpoint = failpoint

    between.receiver.publish = arm
    with pytest.raises(Killed):
        between.run()


POINTS = ["rx.after_journal_write", "rx.before_rename", "rx.after_rename", "rx.before_dirsync"]
NEXT: list[list[str]] = [[], ["top"], ["d/big"], ["d/big", "d/few/2"], ["d/few/2"]]


@pytest.mark.parametrize("bad", NEXT)
@pytest.mark.parametrize("point", POINTS)
def test_a_receiver_is_killed_while_it_publishes_and_the_next_sender_reads_other_files(
    between: Between, point: str, bad: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was agreed is carried to its end from the first name on; before that it is agreed anew.

    What the receiver has and the record of hashes proves need not be read again.
    """
    with monkeypatch.context() as failing:
        fails(failing, [between.home / "d/big"])
        killed(between, point)
    begun = bool(between.arrived())
    with monkeypatch.context() as failing:
        fails(failing, [between.home / name for name in bad])
        assert isinstance(between.whole(), bytes)
    left = ["d/big"] if begun or "d/big" in bad else []
    assert between.arrived() == everything_but(*left)
    assert between.sender.pump.left.paths == tuple(left)
    assert begun == (point in ("rx.after_rename", "rx.before_dirsync"))


LONG = FILES | {f"d/{number:03}{'x' * 230}": b"%d" % number for number in range(300)}
"""So many names that their list has several pages."""


@pytest.mark.parametrize("bad", NEXT)
@pytest.mark.parametrize("files", [FILES, LONG], ids=["one page", "several pages"])
def test_what_was_published_is_proved_for_what_the_receiver_left_out(
    tmp_path: Path, files: dict[str, bytes], bad: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver dies when everything is published; the next sender cannot read the same files, or others."""
    between = Between(tmp_path, files)
    between.anew()
    assert (between.sender.source.manifest.pages > 1) == (files is LONG)
    with monkeypatch.context() as failing:
        fails(failing, [between.home / "d/big"])
        until_final(between)
        (final,) = [message for message in between.said if isinstance(message, Final)][-1:]
        with pytest.raises(StopIteration):
            answers = between.receiver.do(between.receiver.core.receive(1, final))
            while True:
                next(answers)
    there = everything_but("d/big") | {path: data for path, data in files.items() if path != "d/big"}
    assert between.arrived() == there
    with monkeypatch.context() as failing:
        fails(failing, [between.home / name for name in bad])
        assert isinstance(between.whole(), bytes)
    assert between.arrived() == there
    assert between.sender.pump.left.paths == ("d/big",)
    for end in between.all:
        end.close()


def test_what_was_published_and_cannot_be_proved_any_more_is_said_so(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of hashes is lost, too; when the file can be read again, it is proved."""
    until_final(between)
    (final,) = [message for message in between.said if isinstance(message, Final)][-1:]
    assert list(between.receiver.do(between.receiver.core.receive(1, final)))
    between.sender.cache.forget()
    with monkeypatch.context() as failing:
        fails(failing, [between.home / "d/big"])
        error = between.whole()
        assert isinstance(error, DiskError)
        assert "the receiver has published everything, but 'd/big' changed or cannot be read any more" in error.message
        between.sender.cache.forget()
    assert isinstance(between.whole(), bytes)
    assert between.sender.pump.left.error is None


def test_what_was_left_out_needs_no_room_when_publishing_goes_on(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is nearly full by then, and the file that does not come would not fit."""
    with monkeypatch.context() as failing:
        fails(failing, [between.home / "d/big"])
        killed(between, "rx.after_rename")
        assert between.arrived() not in ({}, everything_but("d/big"))
        free = RESERVE + len(FILES["d/big"]) // 2
        real = os.statvfs

        def nearly_full(where: int) -> SimpleNamespace:
            now = real(where)
            return SimpleNamespace(f_frsize=4096, f_bavail=free // 4096, f_files=now.f_files, f_favail=now.f_favail)

        failing.setattr(os, "statvfs", nearly_full)
        assert isinstance(between.whole(), bytes)
    assert between.arrived() == everything_but("d/big")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT])
def test_what_is_no_single_file_s_fault_ends_the_sending(
    between: Between, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrived is kept, and the same command goes on when the disk is back."""
    with monkeypatch.context() as failing:
        fails(failing, [between.home / "d/big"], number)
        error = between.run()
    assert isinstance(error, DiskError)
    assert not isinstance(error, SourceUnreadable)
    assert between.arrived() == {}
    assert isinstance(between.whole(), bytes)
    assert between.arrived() == everything_but()


def test_a_disk_that_goes_from_where_it_was_mounted_leaves_nothing_out(between: Between) -> None:
    there = between.home / "d"
    there.rename(between.home / "elsewhere")
    there.mkdir()
    error = between.run()
    assert isinstance(error, DiskError)
    assert not isinstance(error, SourceUnreadable)
    assert "'d' is not there any more as it was listed" in error.message
    assert between.arrived() == {}
