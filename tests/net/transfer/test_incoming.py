"""One incoming transfer on a real disk, with paths that only note what is sent on them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed

from p2pxfer import status
from p2pxfer.core.ids import PeerId
from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.session.transferwire import (
    DATA_KIND,
    Accept,
    Ack,
    Chunk,
    Final,
    Holes,
    Listed,
    Offer,
    Page,
    Refuse,
    Tally,
    chunk_prefix,
)
from p2pxfer.core.transfer.geometry import MIN_CHUNK
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.pathrules import STAGING_PREFIX
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.errors import ChunkRefused, DiskError, ManifestRefused, NoMemory, NoSpace, Refused
from p2pxfer.net.private.privatedir import HeldLocks
from p2pxfer.net.staging.journalfile import OWNER
from p2pxfer.net.staging.preflight import Room
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.staging.waitmark import is_marked
from p2pxfer.net.transfer.folder import Folder
from p2pxfer.net.transfer.oldversions import OldVersions
from p2pxfer.net.transfer.places import Storage
from tests.core.bundles import packed
from tests.guard import LostErrors
from tests.net.disk_tools import SENDER, Content, noise, open_staging, put
from tests.net.reactors import reactor, until
from tests.net.transfer.incomingworld import NotingPath, World


@pytest.fixture
def worlds() -> Iterator[list[World]]:
    made: list[World] = []
    yield made
    for world in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(world.transfer.close()))
        world.disk.stop()


@pytest_twisted.ensureDeferred
async def test_holes_that_are_here_already_are_acknowledged_at_once(tmp_path: Path, worlds: list[World]) -> None:
    """Nothing is stored and no chunk follows: the message itself has to bring the answer about."""
    world = World(tmp_path, Manifest([Entry("sparse", FILE, 4 * MIN_CHUNK)]))
    worlds.append(world)
    told = Holes(handle=1, chunks=[(0, 0, 3)])
    first, second = await world.offer(1), await world.offer(2)
    world.transfer.message(first, told)
    await until(lambda: first.has(Ack))
    assert not second.has(Ack)
    world.transfer.message(second, told)
    await until(lambda: second.has(Ack))
    assert second.sent[-1] == Ack(handle=1, chunks=[(0, 3)])


@pytest_twisted.ensureDeferred
async def test_f22_without_memory_in_the_middle_of_the_list_it_ends_and_blames_nobody(
    tmp_path: Path, worlds: list[World], monkeypatch: pytest.MonkeyPatch, lost_errors: LostErrors
) -> None:
    """What another path would tell to a list that was left half changed would be refused as the sender's fault."""
    world = World(tmp_path, Manifest([Entry("sparse", FILE, 4 * MIN_CHUNK)]))
    worlds.append(world)
    path = await world.offer(1)

    def starve(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ReceiverCore, "receive", starve)
    with pytest.raises(NoMemory):
        world.transfer.message(path, Holes(handle=1, chunks=[(0, 0, 3)]))
    with pytest.raises(NoMemory):
        await world.transfer.done
    assert world.transfer.ended
    assert [message for message in path.sent if isinstance(message, Refuse)][-1].word == "E_LIMIT"
    lost_errors.flush(MemoryError)


@pytest_twisted.ensureDeferred
async def test_a_bundle_is_written_acknowledged_and_journalled_as_its_files(
    tmp_path: Path, worlds: list[World]
) -> None:
    content = Content({f"d/{number}": bytes([number]) * (number + 1) for number in range(40)})
    world = World(tmp_path, content.manifest)
    worlds.append(world)
    path = await world.offer(1)
    (bundle,) = packed(content.addresses(), content.manifest.sizes, content.chunk)
    world.transfer.chunk(path, bundle)
    await until(lambda: path.has(Ack))
    assert path.sent[-1] == Ack(handle=1, chunks=[(0, 40)])
    assert world.transfer.have_bytes == content.manifest.total_bytes
    await world.transfer.close()
    again = open_staging(tmp_path, content)
    assert dict(again.have) == {address: content.digest(address) for address in content.addresses()}
    again.close()


@pytest_twisted.ensureDeferred
async def test_a_bundle_of_which_one_hash_is_wrong_ends_its_path_and_is_fetched_again(
    tmp_path: Path, worlds: list[World]
) -> None:
    content = Content({f"d/{number}": bytes([number]) * (number + 1) for number in range(40)})
    world = World(tmp_path, content.manifest)
    worlds.append(world)
    path, other = await world.offer(1), await world.offer(2)
    (bundle,) = packed(content.addresses(), content.manifest.sizes, content.chunk)
    assert isinstance(bundle, Bundle)
    wrong = bytearray(bundle.payload)
    wrong[-1] ^= 1
    world.transfer.chunk(path, Bundle(1, bundle.file, bundle.hashes, memoryview(wrong)))
    await until(lambda: path.refused is not None)
    assert isinstance(path.refused, ChunkRefused)
    assert not path.has(Ack)
    assert world.transfer.have_bytes == 0
    world.transfer.chunk(other, bundle)
    await until(lambda: other.has(Ack))
    assert other.sent[-1] == Ack(handle=1, chunks=[(0, 40)])


@pytest_twisted.ensureDeferred
async def test_what_is_being_published_keeps_its_descriptors_until_it_is_done(
    tmp_path: Path, worlds: list[World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the program, or a Bye that comes too early, waits for it: else their numbers may be another's."""
    events: list[str] = []
    begun, gate = threading.Event(), threading.Event()
    finish, close = Staging.finish, Staging.close

    def slow_finish(staging: Staging, root: bytes, now: float, left: Sequence[int] = ()) -> list[str]:
        begun.set()
        assert gate.wait(30)
        names = finish(staging, root, now, left)
        events.append("published")
        return names

    def noted_close(staging: Staging) -> None:
        events.append("closed")
        close(staging)

    monkeypatch.setattr(Staging, "finish", slow_finish)
    monkeypatch.setattr(Staging, "close", noted_close)
    content = Content({"file": b"abc"})
    world = World(tmp_path, content.manifest)
    worlds.append(world)
    path = await world.offer(1)
    digest = content.digest((0, 0))
    world.transfer.chunk(path, Chunk(1, 0, 0, digest, memoryview(bytearray(b"abc"))))
    await until(lambda: path.has(Ack))
    world.transfer.message(path, Final(handle=1, root=content.root))
    await until(begun.is_set)
    closing = Deferred.fromCoroutine(world.transfer.close())
    reactor.callLater(0.3, gate.set)
    await closing
    assert events == ["published", "closed"]
    assert (await world.transfer.done).names == ("file",)
    assert (tmp_path / "file").read_bytes() == b"abc"


class FailingFolder(Folder):
    """A folder that cannot be opened again for a list that has become another one."""

    def open(self, sender: bytes, manifest: Manifest, announced: Announced, relisted: bool) -> Storage:
        if relisted:
            raise DiskError("the disk is gone")
        return super().open(sender, manifest, announced, relisted)


async def another_list(where: Path, worlds: list[World], folder: Folder) -> tuple[World, Any]:
    """A list of which an earlier run knows another last page is told on a path."""
    old, new = (
        Manifest([Entry(f"f{n:05d}-{'x' * 50}", FILE, 1, n // changed) for n in range(1500)])
        for changed in (2000, 1499)
    )
    earlier = Staging.open(str(where), SENDER, old)
    earlier.close()
    world = World(where, new, folder)
    worlds.append(world)
    path = await world.offer(1)
    for number in range(1, new.pages):
        more = number + 1 < new.pages
        world.transfer.message(path, Page(1, number, new.digest(number), new.page(number), more))
    return world, path


@pytest_twisted.ensureDeferred
async def test_a_list_that_becomes_another_one_is_cut_in_a_thread(
    tmp_path: Path, worlds: list[World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of it is judged anew: of 200,000 files that takes more than a second."""
    cutters: list[threading.Thread] = []
    cut = Manifest.cut

    def noted(manifest: Manifest, pages: int) -> None:
        cutters.append(threading.current_thread())
        cut(manifest, pages)

    monkeypatch.setattr(Manifest, "cut", noted)
    world, path = await another_list(tmp_path, worlds, Folder(str(tmp_path)))
    assert path.held
    await until(lambda: not path.held)
    await until(lambda: sum(isinstance(message, Listed) for message in path.sent) == world.manifest.pages)
    assert world.transfer.manifest == world.manifest
    assert cutters
    assert threading.current_thread() not in cutters


@pytest_twisted.ensureDeferred
async def test_paths_are_read_again_when_the_place_of_a_changed_list_cannot_be_opened(
    tmp_path: Path, worlds: list[World]
) -> None:
    """They carry other transfers, too."""
    world, path = await another_list(tmp_path, worlds, FailingFolder(str(tmp_path)))
    assert path.held
    with pytest.raises(DiskError, match="gone"):
        await world.transfer.done
    await until(lambda: not path.held)


class WaitingFolder(Folder):
    """A folder that is opened again for a list that has become another one when somebody says so."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.opening, self.gate = threading.Event(), threading.Event()

    def open(self, sender: bytes, manifest: Manifest, announced: Announced, relisted: bool) -> Storage:
        if relisted:
            self.opening.set()
            assert self.gate.wait(60)
        return super().open(sender, manifest, announced, relisted)


@pytest_twisted.ensureDeferred
async def test_a_path_may_end_in_the_middle_of_a_chunk_while_the_list_becomes_another_one(
    tmp_path: Path, worlds: list[World]
) -> None:
    folder = WaitingFolder(str(tmp_path))
    world, path = await another_list(tmp_path, worlds, folder)
    await until(folder.opening.is_set)
    head = chunk_prefix(1, 1499, 0, bytes(32), 1)[5:]
    path.begun = DATA_KIND, memoryview(bytearray(head + b"1")), len(head) + 1
    try:
        world.paths.remove(path, "cut")
        world.transfer.close_path(path)
    finally:
        folder.gate.set()
    assert world.transfer.attached == 0
    await world.transfer.close()


@pytest_twisted.ensureDeferred
async def test_what_is_asked_is_the_offer_of_now(tmp_path: Path, worlds: list[World]) -> None:
    """More may be counted while the place is opened; who decides knows the transfer by its offer."""
    manifest = Manifest([Entry("a", FILE, 5), Entry("b", FILE, 5)])
    world = World(tmp_path, manifest)
    worlds.append(world)
    path: Any = NotingPath(1)
    world.paths.add(path)
    offer = Offer(1, manifest.transfer_id, files=2, size=10, page=manifest.page(0), more=True, counting=True)
    world.transfer.message(path, offer)
    world.transfer.message(path, Tally(handle=1, files=70, size=700, counting=False))
    await until(lambda: path.has(Accept))
    ((asked, is_it),) = world.asked
    assert is_it
    assert (asked.files, asked.bytes, asked.counting) == (70, 700, False)


@pytest_twisted.ensureDeferred
async def test_a_sender_that_was_missed_is_told_as_the_first_time(tmp_path: Path, worlds: list[World]) -> None:
    """It may be another process; a path of one that nobody missed is no news, and nobody is asked again."""
    content = Content({"a": b"abc", "b": b"other"})
    world = World(tmp_path, content.manifest)
    worlds.append(world)
    first = await world.offer(1)
    world.transfer.chunk(first, Chunk(1, 0, 0, content.digest((0, 0)), memoryview(bytearray(b"abc"))))
    await until(lambda: first.has(Ack))
    del world.told[:]
    second = await world.offer(2)
    assert world.told == []
    offered = status.Offer(files=2, bytes=8, names=("a", "b"))
    news = [offered, status.Accepted(), status.Resumed(have_bytes=3)]
    paths = [first, second]
    for missed, told in ((False, []), (True, news), (False, news)):
        for path in paths:
            world.lose(path)
        if missed:
            world.transfer.tally.missed()
        paths = [await world.offer(paths[-1].facts.number + 1)]
        assert world.told == told
        # Of what came in all, people are told what came since, in a part of the time.
        done = status.Done(8, 2, 1e9, {"relay": 3, "direct": 5}, "00")
        now = world.transfer._reactor.seconds()
        latest = world.transfer.tally.latest(done, now)
        assert dict(latest.bytes_by_path) == {"relay": 3, "direct": 2 if told else 5}
        assert latest.seconds == (1e9 if not told else pytest.approx(0.0, abs=30.0))
    assert len(world.asked) == 1


def is_missed(destination: Path) -> bool:
    """Whether other programs see that nobody brings the transfer there."""
    (place,) = destination.glob(f"{STAGING_PREFIX}*")
    fd = os.open(place, os.O_RDONLY)
    try:
        return is_marked(fd, HeldLocks())
    finally:
        os.close(fd)


@pytest_twisted.ensureDeferred
async def test_whoever_is_back_before_the_answer_is_not_missed(tmp_path: Path, worlds: list[World]) -> None:
    world = World(tmp_path, Content({"a": b"abc"}).manifest)
    worlds.append(world)
    answer: Deferred[bool] = Deferred()
    world.answers.append(answer)
    first = world.bring(1)
    await until(lambda: world.asked)
    assert not is_missed(tmp_path)
    world.lose(first)
    await until(lambda: is_missed(tmp_path))
    second = world.bring(2)
    await until(lambda: not is_missed(tmp_path))
    assert not second.has(Accept)
    answer.callback(True)
    await until(lambda: second.has(Accept))
    world.lose(second)
    await until(lambda: is_missed(tmp_path))


@pytest.mark.parametrize("answer", [True, False])
@pytest_twisted.ensureDeferred
async def test_what_an_older_version_left_is_its_users_who_agrees_to_go_on_with_it(
    tmp_path: Path, worlds: list[World], answer: bool
) -> None:
    """While the question stands, and after a no, it is every home's still."""
    content = Content({"a": noise(2 * MIN_CHUNK)})
    kept = open_staging(tmp_path, content)
    put(kept, content, content.addresses()[:1])
    kept.sync(map(content.claim, content.addresses()[:1]))
    kept.close()
    owner = b"o" * 32
    mark = Path(kept.where, f"{OWNER}{PeerId(owner)}")
    world = World(tmp_path, content.manifest, Folder(str(tmp_path), owner))
    worlds.append(world)
    asked: Deferred[bool] = Deferred()
    world.answers.append(asked)
    path = world.bring(1)
    await until(lambda: world.asked)
    assert not mark.exists()
    asked.callback(answer)
    await until(lambda: path.has(Accept if answer else Refuse))
    if not answer:
        with pytest.raises(Refused):
            await world.transfer.done
    await world.transfer.close()
    assert Path(kept.where).exists()
    assert mark.exists() is answer


class BlindFolder(Folder):
    """A folder in which older versions cannot be looked for."""

    def older(self, sender: bytes, manifest: Manifest, asked: bool) -> OldVersions | None:
        raise DiskError("it is not permitted")


@pytest_twisted.ensureDeferred
async def test_a_place_that_could_not_be_opened_whole_is_free_for_the_next_run(
    tmp_path: Path, worlds: list[World]
) -> None:
    content = Content({"file": b"abc"})
    world = World(tmp_path, content.manifest, BlindFolder(str(tmp_path)))
    worlds.append(world)
    path: Any = NotingPath(1)
    world.paths.add(path)
    offer = Offer(1, content.manifest.transfer_id, files=1, size=3, page=content.manifest.page(0))
    world.transfer.message(path, offer)
    with pytest.raises(DiskError):
        await world.transfer.done
    open_staging(tmp_path, content).close()


# -- what was agreed to ----------------------------------------------------------------------------------------------


def grown(count: int) -> Manifest:
    """A list that begins as a shorter one does, with full pages."""
    return Manifest([Entry(f"f{number:05d}-{'x' * 200}", FILE, 1) for number in range(count)])


def told(manifest: Manifest, page: int) -> Page:
    more = page + 1 < manifest.pages
    return Page(1, page, manifest.digest(page), manifest.page(page), more)


async def offered_twice(world: World, whole: Manifest, *, counting: bool = False) -> Any:
    """The first page is offered as all there is and taken; then another path offers ``whole``."""
    first: Any = NotingPath(1)
    world.paths.add(first)
    files = whole.files_before(1)
    message = Offer(1, whole.transfer_id, files=files, size=files, page=whole.page(0), more=False)
    world.transfer.message(first, message)
    await until(lambda: first.has(Accept))
    second: Any = NotingPath(2)
    world.paths.add(second)
    most = (files, files) if counting else (len(whole.sizes), whole.total_bytes)
    message = Offer(1, whole.transfer_id, *most, page=whole.page(0), more=True, counting=counting)
    world.transfer.message(second, message)
    return second


@pytest_twisted.ensureDeferred
async def test_more_than_was_agreed_to_is_asked_about_before_anything_of_it_is_taken(
    tmp_path: Path, worlds: list[World]
) -> None:
    whole = grown(400)
    world = World(tmp_path, whole)
    worlds.append(world)
    answer: Deferred[bool] = Deferred()
    world.answers = [succeed(True), answer]
    second = await offered_twice(world, whole)
    world.transfer.message(second, told(whole, 1))
    assert [offer.files for offer, _ in world.asked] == [whole.files_before(1), 400]
    assert second.held
    assert not second.sent
    answer.callback(True)
    await until(lambda: second.has(Accept))
    await until(lambda: not second.held)
    assert [sent.page for sent in second.sent if isinstance(sent, Listed)] == [0, 1]


@pytest_twisted.ensureDeferred
async def test_who_refuses_more_ends_it_and_keeps_what_is_there(tmp_path: Path, worlds: list[World]) -> None:
    whole = grown(400)
    world = World(tmp_path, whole)
    worlds.append(world)
    world.answers = [succeed(True), succeed(False)]
    second = await offered_twice(world, whole)
    with pytest.raises(Refused, match="said no"):
        await world.transfer.done
    # Told before the end: whoever hears of that closes the paths.
    (refusal,) = second.sent
    assert isinstance(refusal, Refuse)
    assert (refusal.word, second.refused) == ("E_DENIED", None)
    await until(lambda: not second.held)


@pytest_twisted.ensureDeferred
async def test_a_list_that_goes_beyond_what_was_agreed_to_ends_it(tmp_path: Path, worlds: list[World]) -> None:
    """A second run says that it counts, and would never say how much."""
    whole = grown(400)
    world = World(tmp_path, whole)
    worlds.append(world)
    second = await offered_twice(world, whole, counting=True)
    await until(lambda: second.has(Accept))
    with pytest.raises(ManifestRefused, match="goes beyond what was agreed to"):
        world.transfer.message(second, told(whole, 1))
    with pytest.raises(ManifestRefused):
        await world.transfer.done
    assert not any(sent.page == 1 for sent in second.sent if isinstance(sent, Listed))
    assert len(world.asked) == 1


@pytest_twisted.ensureDeferred
async def test_a_sender_that_never_ends_counting_is_stopped_by_the_disk(
    tmp_path: Path, worlds: list[World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room is looked at again with each page that goes beyond what it said."""
    whole = grown(400)
    monkeypatch.setattr(Room, "check_space", no_room_beyond(whole.files_before(1)))
    world = World(tmp_path, whole)
    worlds.append(world)
    path: Any = NotingPath(1)
    world.paths.add(path)
    world.transfer.message(
        path, Offer(1, whole.transfer_id, files=1, size=1, page=whole.page(0), more=True, counting=True)
    )
    await until(lambda: path.has(Accept))
    world.transfer.message(path, told(whole, 1))
    with pytest.raises(NoSpace, match="here is full"):
        await world.transfer.done
    assert [message.message for message in path.sent if isinstance(message, Refuse)] == ["its disk is full"]


def no_room_beyond(most: int) -> Callable[..., None]:
    def check(room: Room, directory: int, on_its_way: int = 0) -> None:
        if room._bytes > most:
            raise NoSpace("the disk here is full", "its disk is full")

    return check
