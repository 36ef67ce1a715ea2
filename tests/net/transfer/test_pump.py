"""The pump while its list grows: the disk's work is done in threads, and what is told waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from twisted.internet.defer import Deferred

from p2pxfer.core.codec import Message
from p2pxfer.core.session.transferwire import MAX_CHUNK, Accept, Have, Listed, Offer, Page, Tally
from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.net.session.path import PathFacts
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.transfer import pump, ready
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.pump import ChunkPump
from p2pxfer.net.transfer.source import Source
from tests.net.reactors import Threads
from tests.net.transfer.pumpworld import FakePath, Sending

FILES = 300
"""With names so long that their list takes more than two pages."""

pytestmark = pytest.mark.usefixtures("no_descriptor_is_lost")


class SlowCache(HashCache):
    """A record that says who asks for what it has of further pages, and takes its time."""

    def __init__(self, folder: Path, source: Source) -> None:
        self.askers: list[threading.Thread] = []
        self.asked = threading.Semaphore(0)
        self.answer = threading.Semaphore(0)
        self.opened = False
        super().__init__(str(folder / "state"), source.manifest, source.identity, 0.0)
        self.opened = True

    def grow(self) -> list[tuple[ChunkAddress, bytes]]:
        """See above."""
        if self.opened:
            self.askers.append(threading.current_thread())
            self.asked.release()
            assert self.answer.acquire(timeout=50)
        return super().grow()


class GoingOn:
    """A pump for files of which all but the last were sent before."""

    def __init__(self, folder: Path) -> None:
        (folder / "d").mkdir()
        for number in range(FILES):
            (folder / "d" / f"{number:05d}-{'x' * 230}").write_bytes(b"%d" % number)
        self.whole = Source.scan([str(folder / "d")])
        record = HashCache(str(folder / "state"), self.whole.manifest, self.whole.identity, 0.0)
        self.table = ChunkTable(self.whole.manifest)
        for file in range(FILES - 1):
            digest = blake3(b"%d" % file).digest()
            record.add(file, 0, digest)
            self.table.set_hash(file, digest)
        record.close()
        self.threads = Threads()
        self.source = Source.open([str(folder / "d")])
        self.cache = SlowCache(folder, self.source)
        reactor: Any = self.threads
        self.pump = ChunkPump(reactor, self.source, self.cache)
        self.errors: list[Exception] = []
        self.paths = PathSet(self.threads.seconds, lambda event: None)
        path: Any = FakePath()
        path.facts = PathFacts(1, "punched", "", "")
        path.send_frame = lambda parts: path.sent.append(b"".join(parts))
        self.path = path
        self.paths.add(path)

    def begin(self) -> None:
        """The offer is accepted, and the first page answered."""
        self.pump.attach(self.paths, lambda root: None, self.errors.append)
        self.pump.open_path(self.path)
        self.say(Accept(handle=1, instance=b"i" * 16, pages=self.whole.manifest.pages))
        self.answer(0)

    def until_asked(self) -> None:
        """Take what threads have done until the record is asked for what it has of a page, and answers not yet."""
        end = time.monotonic() + 50
        while not self.cache.asked.acquire(timeout=0.01):
            assert time.monotonic() < end
            while not self.threads.results.empty():
                self.threads.wait()

    def say(self, message: Message) -> None:
        self.pump.message(self.path, message)
        self.pump.push()

    def answer(self, page: int) -> None:
        """All files of a page are here, but the last one of all."""
        start, stop = (self.whole.manifest.files_before(number) for number in (page, page + 1))
        ranges = [(start, min(stop, FILES - 1))]
        self.say(Listed(handle=1, page=page, have=[Have(ranges, self.table.claim_digest(ranges))]))

    def close(self) -> None:
        self.cache.answer.release(100)
        self.pump.close()
        quiet = Deferred.fromCoroutine(self.pump.quiet())
        while not quiet.called:
            self.threads.wait()
        for source in (self.source, self.whole):
            source.close()
        self.cache.close()


@pytest.fixture
def going_on(tmp_path: Path) -> Iterator[GoingOn]:
    made = GoingOn(tmp_path)
    yield made
    made.close()


def test_what_the_record_has_of_a_page_is_looked_up_in_a_thread(
    going_on: GoingOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock may be held by who writes to a slow disk.  The page is told when its hashes are there, so nothing that
    the receiver claims is read again."""
    read: list[tuple[int, int]] = []
    monkeypatch.setattr(Source, "read_chunk", lambda _, *address: read.append(address))
    pages = going_on.whole.manifest.pages
    assert pages > 2
    going_on.begin()
    told = 1
    while told < pages:
        going_on.until_asked()
        assert going_on.source.manifest.pages == told + 1
        going_on.pump.push()
        assert [page.page for page in going_on.path.said(Page)] == list(range(1, told))
        (offer,) = going_on.path.said(Offer)
        assert offer.counting
        assert not going_on.path.said(Tally)
        going_on.cache.answer.release()
        while len(going_on.path.said(Page)) < told:
            going_on.threads.wait()
        going_on.answer(told)
        told += 1
    assert going_on.path.said(Tally)[-1].files == FILES
    assert len(going_on.cache.askers) == pages - 1
    assert threading.current_thread() not in going_on.cache.askers
    assert going_on.pump.acked_bytes == sum(going_on.source.manifest.sizes[: FILES - 1])
    assert not read
    assert not going_on.errors


def test_a_path_that_comes_while_a_page_is_looked_up_is_offered_what_was_looked_up_before(going_on: GoingOn) -> None:
    going_on.begin()
    going_on.until_asked()
    other: Any = FakePath(2)
    going_on.paths.add(other)
    going_on.pump.open_path(other)
    (offer,) = other.said(Offer)
    first = going_on.whole.manifest.files_before(1)
    assert (offer.files, offer.size) == (first, sum(going_on.whole.manifest.sizes[:first]))
    assert offer.more
    assert offer.counting


def test_when_the_sending_is_over_the_search_tells_nothing_more(going_on: GoingOn) -> None:
    """Not even of a page that was looked up just then."""
    going_on.begin()
    going_on.until_asked()
    pages, said = going_on.source.manifest.pages, len(going_on.path.sent)
    going_on.pump.close()
    going_on.cache.answer.release(100)
    quiet = Deferred.fromCoroutine(going_on.pump.quiet())
    while not quiet.called:
        going_on.threads.wait()
    assert going_on.source.manifest.pages == pages
    assert len(going_on.path.sent) == said
    assert not going_on.errors


def test_tiny_files_are_read_ahead_no_further_than_their_number_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that stands still must not have the whole of a million files in memory, however small they are."""
    read: list[int] = []
    real = Source.read_files

    def noted(source: Source, start: int, stop: int) -> list[tuple[bytes, bytes]]:
        read.extend(range(start, stop))
        return real(source, start, stop)

    monkeypatch.setattr(Source, "read_files", noted)
    monkeypatch.setattr(ready, "AHEAD_BYTES", MAX_CHUNK + 100 * ready.CHUNK_COST)
    one = Sending(tmp_path, [b"x"] * 400)
    path = one.path(1)
    path.room = 0
    one.pump.close()
    quiet = Deferred.fromCoroutine(one.pump.quiet())
    while not quiet.called:
        one.threads.wait()
    one.close()
    assert 100 <= len(read) < 100 + pump.BATCH_CHUNKS
