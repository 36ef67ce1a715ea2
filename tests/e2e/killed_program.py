"""The ``p2pxfer`` command, killed at one point: ``python killed_program.py POINT COUNT WORDS...``.

It runs the product's own entry point with WORDS and sends itself SIGKILL when it passes POINT for the COUNT-th time;
its last event, ``died``, tells how many bytes of chunks it wrote to its disk.
Where the product has no hook of its own, a function of it is wrapped here, so the installed program knows neither
points nor a variable that would set one.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from p2pxfer.cli import main
from p2pxfer.core.session.transferwire import Final as FinalMessage
from p2pxfer.core.session.transferwire import FinalAck, Offer
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.sender import SenderCore
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.staging import journalfile, publishing, treefiles
from p2pxfer.net.staging.journalfile import JournalFile
from p2pxfer.net.staging.publishing import Publisher
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.transfer import hashcache
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.source import Source

_written = 0


def _count(_: Staging, _file: int, _index: int, payload: memoryview, *_hashes: bytes | None) -> None:
    global _written  # noqa: PLW0603  # one process, one transfer
    _written += len(payload)


def die() -> NoReturn:
    """SIGKILL to this process, and nothing of it runs any more."""
    os.write(1, json.dumps({"event": "died", "written": _written}).encode() + b"\n")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it lives")


class Counter:
    """Kills at the ``count``-th pass; ``last`` is true just before that one."""

    def __init__(self, count: int) -> None:
        self._left = self._count = count

    @property
    def begun(self) -> bool:
        return self._left < self._count

    @property
    def last(self) -> bool:
        return self._left == 1

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            die()


def around(owner: Any, name: str, before: Callable[..., None] | None, after: Callable[..., None] | None) -> None:
    """Wrap a function; both hooks get its arguments."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def wrapped(*args: Any, **keywords: Any) -> Any:
        if before is not None:
            before(*args)
        result = real(*args, **keywords)
        if after is not None:
            after(*args)
        return result

    setattr(owner, name, wrapped)


def before(owner: Any, name: str) -> Callable[[Counter], None]:
    return lambda passed: around(owner, name, lambda *_: passed(), None)


def after(owner: Any, name: str) -> Callable[[Counter], None]:
    return lambda passed: around(owner, name, None, lambda *_: passed())


def sending(kind: type, *, sent: bool) -> Callable[[Counter], None]:
    """A message of this kind is given to a path's connection, or was."""

    def install(passed: Counter) -> None:
        def look(_: PeerPath, message: object) -> None:
            if isinstance(message, kind):
                passed()

        around(PeerPath, "send", *((None, look) if sent else (look, None)))

    return install


def taking(kind: type) -> Callable[[Counter], None]:
    """The sender is about to act on a message of this kind."""

    def install(passed: Counter) -> None:
        def look(_: SenderCore, _path: int, message: object) -> None:
            if isinstance(message, kind):
                passed()

        around(SenderCore, "receive", look, None)

    return install


def half(module: ModuleType) -> Callable[[Counter], None]:
    """The first half of what a module writes gets into the file."""

    def install(passed: Counter) -> None:
        def look(fd: int, data: bytes | memoryview, offset: int) -> None:
            if passed.last:
                os.pwrite(fd, memoryview(data)[: len(data) // 2], offset)
            passed()

        around(module, "write_all", look, None)

    return install


def hooked(name: str) -> Callable[[Counter], None]:
    """A point that the staging place itself names."""

    def install(passed: Counter) -> None:
        def look(here: str) -> None:
            if here == name:
                passed()

        real = Staging.open
        Staging.open = functools.partial(real, failpoint=look)  # type: ignore[method-assign]  # for this process only

    return install


def before_its_page(passed: Counter) -> None:
    """A file is in the tree, and the page that lists it is on its way to the journal, which takes long enough."""
    listed = 0

    def opened(staging: Staging, _relisted: bool) -> None:
        nonlocal listed
        listed = staging._manifest.pages

    def slow(_: Staging, _chunks: object, pages: Sequence[int]) -> None:
        if pages:
            threading.Event().wait(60)

    def written(staging: Staging, file: int, *_: object) -> None:
        if file >= staging._manifest.files_before(listed):
            passed()

    around(Staging, "_resume", None, opened)
    around(Staging, "sync", slow, None)
    around(Staging, "_write", None, written)


def replaced(passed: Counter) -> None:
    """A chunk was written over one that the journal claimed when the place was opened; no sync of data follows."""
    claimed: set[ChunkAddress] = set()

    def written(_: Staging, file: int, _entry: object, index: int, *_others: object) -> None:
        if (file, index) in claimed:
            passed()

    def slow(_: Staging, _chunks: object, _pages: object) -> None:
        if passed.begun:
            threading.Event().wait(60)

    around(Staging, "_resume", None, lambda staging, _relisted: claimed.update(staging.have))
    around(Staging, "sync", slow, None)
    around(Staging, "_write", None, written)


RECEIVER: Final[dict[str, Callable[[Counter], None]]] = {
    "rx.place_made": after(Staging, "_open_tree"),
    "rx.half_a_chunk": half(treefiles),
    "rx.after_data_write": hooked("rx.after_data_write"),
    "rx.before_data_sync": before(treefiles.TreeFiles, "sync"),
    "rx.after_data_sync": hooked("rx.after_data_sync"),
    "rx.half_a_record": half(journalfile),
    "rx.after_journal_write": hooked("rx.after_journal_write"),
    "rx.after_journal_sync": hooked("rx.after_journal_sync"),
    "rx.before_publishing": before(Publisher, "prepare"),
    "rx.before_rename": hooked("rx.before_rename"),
    "rx.after_rename": hooked("rx.after_rename"),
    "rx.before_dirsync": hooked("rx.before_dirsync"),
    "rx.after_dirsync": before(publishing, "pack_published"),
    "rx.before_final_ack": sending(FinalAck, sent=False),
    "rx.after_final_ack": sending(FinalAck, sent=True),
    "rx.half_removed": before(JournalFile, "remove"),
}
SENDER: Final[dict[str, Callable[[Counter], None]]] = {
    "tx.after_offer": sending(Offer, sent=True),
    "tx.after_read": after(Source, "read_chunk"),
    "tx.after_chunk": after(SenderCore, "chunk_sent"),
    "tx.half_a_record": half(hashcache),
    "tx.after_ack": after(SenderCore, "_on_ack"),
    "tx.before_final": sending(FinalMessage, sent=False),
    "tx.after_final": sending(FinalMessage, sent=True),
    "tx.before_final_ack": taking(FinalAck),
    "tx.after_forget": after(HashCache, "forget"),
}
POINTS: Final = RECEIVER | SENDER
OTHERS: Final[dict[str, Callable[[Counter], None]]] = {
    "rx.before_its_page": before_its_page,
    "rx.replaced": replaced,
}
"""By which only what has many pages comes, or what changed."""


def run() -> None:
    name, count, *words = sys.argv[1:]
    around(Staging, "write_chunk", None, _count)
    (POINTS | OTHERS)[name](Counter(int(count)))
    sys.argv[1:] = words
    main.main()


if __name__ == "__main__":
    run()
