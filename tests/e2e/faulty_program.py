"""The ``p2pxfer`` command on a machine that fails: ``python faulty_program.py FAULT COUNT WORDS...``.

It runs the product's own entry point with WORDS; from the COUNT-th call on that FAULT is about, the system misbehaves.
With a slow disk COUNT is in milliseconds.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from p2pxfer.cli import main
from p2pxfer.core.transfer.inflow import Arrival, length_of
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.staging import journalfile, publishing, staging, treefiles
from p2pxfer.net.transfer import incoming, source

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

TEN_YEARS: Final = 10 * 365 * 86_400.0


def fails(owner: Any, name: str, code: int) -> Callable[[int], None]:
    """From the ``count``-th call on, a function fails with the system's ``code``."""

    def install(count: int) -> None:
        real, left = getattr(owner, name), count

        def failing(*args: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                raise OSError(code, os.strerror(code))
            return real(*args, **keywords)

        setattr(owner, name, failing)

    return install


def broken(count: int) -> None:
    """The ``count``-th chunk is read by a program with a bug."""
    real, left = source.Source.read_chunk, count

    def read_chunk(self: source.Source, file: int, index: int) -> Any:
        nonlocal left
        left -= 1
        return real(self, file, index) if left else 1 / 0

    source.Source.read_chunk = read_chunk  # type: ignore[method-assign]  # the fault


def short(_: int) -> None:
    """Every call reads or writes half of what was asked."""
    pread, pwrite = os.pread, os.pwrite
    os.pread = lambda fd, length, offset: pread(fd, -(-length // 2), offset)

    def pwrite_half(fd: int, data: ReadableBuffer, offset: int) -> int:
        view = memoryview(data)
        return pwrite(fd, view[: -(-len(view) // 2)], offset)

    os.pwrite = pwrite_half


def slow(milliseconds: int) -> None:
    """Writing a chunk takes so long, however small it is."""
    uses = vars(treefiles)
    real = uses["write_all"]

    def slowly(fd: int, data: bytes | memoryview, offset: int) -> None:
        time.sleep(milliseconds / 1000)
        real(fd, data, offset)

    uses["write_all"] = slowly


def counted(milliseconds: int) -> None:
    """The same, and the length of every chunk that arrives is added to the file ``arrived`` beside the destination."""
    slow(milliseconds)
    beside = Path(sys.argv[sys.argv.index("--to") + 1]).parent / "arrived"
    counts = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    real = incoming.IncomingTransfer.chunk

    def counting(self: incoming.IncomingTransfer, path: PeerPath, chunk: Arrival) -> None:
        os.write(counts, b"%d\n" % length_of(chunk))
        real(self, path, chunk)

    incoming.IncomingTransfer.chunk = counting  # type: ignore[method-assign]  # the program's own


def steps(seconds: float) -> Callable[[int], None]:
    """The wall clock is set when the ``count``-th chunk is read or written, and at every tenth after it set back."""

    def install(count: int) -> None:
        passed = 0
        now = time.time
        time.time = lambda: now() + (seconds if passed >= count and (passed - count) // 10 % 2 == 0 else 0.0)

        def ticking(real: Callable[..., Any]) -> Callable[..., Any]:
            def ticked(*args: Any, **keywords: Any) -> Any:
                nonlocal passed
                passed += 1
                return real(*args, **keywords)

            return ticked

        staging.Staging.write_chunk = ticking(staging.Staging.write_chunk)  # type: ignore[method-assign]  # the fault
        source.Source.read_chunk = ticking(source.Source.read_chunk)  # type: ignore[method-assign]  # the fault

    return install


def signalled(each: int) -> None:
    """A signal comes every so many microseconds, in whatever call the program is."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, each / 1e6, each / 1e6)


def meddles(owner: Any, name: str, what: Callable[[Path], None]) -> Callable[[int], None]:
    """Another program does something to the destination just before the ``count``-th call."""

    def install(count: int) -> None:
        real, left = getattr(owner, name), count

        def meddled(*args: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                what(Path(sys.argv[sys.argv.index("--to") + 1]))
            return real(*args, **keywords)

        setattr(owner, name, meddled)

    return install


def remove_place(destination: Path) -> None:
    """As somebody who tidies up."""
    for path in destination.glob(".p2pxfer-*"):
        shutil.rmtree(path)


def take_name(destination: Path) -> None:
    """As somebody who saves a file of that name."""
    (destination / "file.bin").write_bytes(b"mine")


def rewrite(path: Path) -> None:
    """Put other bytes into the first half of a file, as a program that restores its times afterwards."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(os.urandom(before.st_size // 2))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rewritten(count: int) -> None:
    """The file that is sent is rewritten before the ``count``-th chunk of it is read."""
    real, left = source.Source.read_chunk, count

    def read_chunk(self: source.Source, file: int, index: int) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            rewrite(Path(sys.argv[-2]))
        return real(self, file, index)

    source.Source.read_chunk = read_chunk  # type: ignore[method-assign]  # the fault


GO: Final = "go"
"""The file beside what is sent for which its search waits."""


def waiting(count: int) -> None:
    """From the ``count``-th page on, nothing is found before a file says so."""
    real, left = source.Source.find, count

    def find(self: source.Source) -> tuple[bytes, bool]:
        nonlocal left
        left -= 1
        deadline = time.monotonic() + 30
        while left <= 0 and not (Path(sys.argv[-2]).parent / GO).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return real(self)

    source.Source.find = find  # type: ignore[method-assign]  # the fault


LIVE: Final = "live.bin"
"""The one file of several that something happens to."""


def replace(path: Path) -> None:
    """As an editor that saves."""
    other = path.with_suffix(".new")
    other.write_bytes(os.urandom(path.stat().st_size))
    other.replace(path)


def to_one(what: Callable[[Path], object]) -> Callable[[int], None]:
    """Another program does something to one file just before that is read for the ``count``-th time."""

    def install(count: int) -> None:
        real, left = source.Source.read_span, count

        def read_span(self: source.Source, file: int, offset: int, length: int) -> bytes:
            nonlocal left
            path = self.manifest.files[file].path
            if path.endswith(LIVE):
                left -= 1
                if left == 0:
                    what(Path(sys.argv[-2]).parent / path)
            return real(self, file, offset, length)

        source.Source.read_span = read_span  # type: ignore[method-assign]  # the fault

    return install


def unreadable(count: int) -> None:
    """The disk under one file fails from the ``count``-th time on that it is read."""
    uses, bad, left = vars(source), threading.local(), count
    real, read_disk = source.Source.read_span, uses["read_span"]

    def read_span(self: source.Source, file: int, offset: int, length: int) -> bytes:
        nonlocal left
        live = self.manifest.files[file].path.endswith(LIVE)
        left -= live
        bad.is_read = live and left <= 0
        return real(self, file, offset, length)

    def read_or_fail(fd: int, offset: int, length: int) -> Any:
        if getattr(bad, "is_read", False):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_disk(fd, offset, length)

    source.Source.read_span = read_span  # type: ignore[method-assign]  # the fault
    uses["read_span"] = read_or_fail


def grow(path: Path) -> None:
    """As a log."""
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    """As a log that is cut."""
    os.truncate(path, path.stat().st_size // 2)


def forbid(path: Path) -> None:
    """As its owner may; for root, who may read it all the same, it has another time of change."""
    path.chmod(0)


CHANGES: Final[dict[str, Callable[[int], None]]] = {
    "one file grows": to_one(grow),
    "one file shrinks": to_one(shrink),
    "one file is rewritten": to_one(rewrite),
    "one file is replaced": to_one(replace),
    "one file is removed": to_one(Path.unlink),
    "one file is forbidden": to_one(forbid),
}

FAULTS: Final[dict[str, Callable[[int], None]]] = {
    "write fails": fails(treefiles, "write_all", errno.EIO),
    "sync fails": fails(treefiles, "fdatasync", errno.EIO),
    "journal is full": fails(journalfile, "write_all", errno.ENOSPC),
    "rename fails": fails(publishing, "rename_new", errno.EIO),
    "read fails": fails(source, "read_span", errno.EIO),
    "place is removed": meddles(staging.Staging, "write_chunk", remove_place),
    "destination is removed": meddles(staging.Staging, "write_chunk", shutil.rmtree),
    "name is taken": meddles(publishing, "rename_new", take_name),
    "source is rewritten": rewritten,
    "program is broken": broken,
    "search waits": waiting,
    "one file cannot be read": unreadable,
    **CHANGES,
    "disk is slow": slow,
    "disk is slow, chunks are counted": counted,
    "short calls": short,
    "clock goes back": steps(-TEN_YEARS),
    "clock goes forth": steps(TEN_YEARS),
    "signals come": signalled,
}


def run() -> None:
    name, count, *words = sys.argv[1:]
    FAULTS[name](int(count))
    sys.argv[1:] = words
    main.main()


if __name__ == "__main__":
    run()
