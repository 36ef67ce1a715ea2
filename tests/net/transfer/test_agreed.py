"""A transfer that is offered anew, with more or less than before: what is here stays, and no more is taken than was
agreed to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from blake3 import blake3
from twisted.internet.defer import Deferred, succeed

from p2pxfer.core.session.transferwire import Accept, Ack, Chunk, Listed, Offer, Page, Refuse, WantPage
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.errors import BeyondOffer, DiskError, P2pxferError, Refused
from p2pxfer.net.staging.staging import Staging
from tests.net.disk_tools import SENDER
from tests.net.reactors import until
from tests.net.transfer.incomingworld import NotingPath, World

COUNT = 1000
FIRST = b"z" * 100


@pytest.fixture
def made(tmp_path: Path) -> Iterator[list[World]]:
    worlds: list[World] = []
    yield worlds
    for world in worlds:
        pytest_twisted.blockon(Deferred.fromCoroutine(world.transfer.close()))
        # What ended by itself lets go of its place in a thread.
        pytest_twisted.blockon(Deferred.fromCoroutine(until(lambda: not is_open_in(tmp_path))))
        world.disk.stop()


def is_open_in(folder: Path) -> bool:
    """Whether this process has anything open there."""
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{number}").startswith(str(folder)):
                return True
    return False


def ending_with(size: int) -> Manifest:
    """Several pages, of which all but the last are the same whatever the size of the last file is."""
    sizes = [100] * (COUNT - 1) + [size]
    return Manifest([Entry(f"{number:06d}-{'x' * 200}", FILE, size) for number, size in enumerate(sizes)])


def tell(world: World, path: Any, manifest: Manifest, pages: range, *, data: bool = True) -> None:
    for number in pages:
        more = number + 1 < manifest.pages
        page = manifest.page(number) if data else b""
        world.transfer.message(path, Page(1, number, manifest.digest(number), page, more))


async def with_a_chunk(world: World) -> Any:
    """Offer the list on a path, tell it whole and have the first file stored."""
    path = await world.offer(1)
    tell(world, path, world.manifest, range(1, world.manifest.pages))
    world.transfer.chunk(path, Chunk(1, 0, 0, blake3(FIRST).digest(), memoryview(bytearray(FIRST))))
    await until(lambda: path.has(Ack))
    return path


def leave(world: World, path: Any) -> None:
    world.paths.remove(path, "lost")
    world.transfer.close_path(path)


@pytest_twisted.ensureDeferred
async def test_a_sender_that_comes_back_with_less_goes_on_with_what_is_here(tmp_path: Path, made: list[World]) -> None:
    """The last file shrank while the sender was away; the pages before it are known."""
    world = World(tmp_path, ending_with(100))
    made.append(world)
    leave(world, await with_a_chunk(world))
    world.manifest = less = ending_with(50)
    path = await world.offer(2)
    last = less.pages - 1
    tell(world, path, less, range(1, less.pages), data=False)
    assert path.sent[-1] == WantPage(handle=1, page=last)
    tell(world, path, less, range(last, less.pages))
    await until(lambda: any(isinstance(sent, Listed) and sent.page == last for sent in path.sent))
    assert not world.transfer.ended
    assert world.transfer.have_bytes == len(FIRST)


@pytest_twisted.ensureDeferred
async def test_a_list_that_goes_beyond_its_offer_ends_it_and_what_is_here_stays(
    tmp_path: Path, made: list[World]
) -> None:
    world = World(tmp_path, ending_with(100))
    made.append(world)
    leave(world, await with_a_chunk(world))
    manifest = world.manifest
    path: Any = NotingPath(2)
    world.paths.add(path)
    few = manifest.files_before(1)
    world.transfer.message(path, Offer(1, manifest.transfer_id, few, few * 100, page=manifest.page(0), more=True))
    await until(lambda: path.has(Accept))
    with pytest.raises(BeyondOffer):
        tell(world, path, manifest, range(1, 2), data=False)
    with pytest.raises(BeyondOffer):
        await world.transfer.done
    kept: list[int] = []

    def is_let_go() -> bool:
        try:
            staging = Staging.open(str(tmp_path), SENDER, manifest)
        except P2pxferError:
            return False
        kept.append(len(staging.have))
        staging.close()
        return True

    await until(is_let_go)
    assert kept == [1]


def offered(world: World, number: int, files: int) -> Any:
    """Offer that many files of 100 bytes on a new path."""
    path: Any = NotingPath(number)
    world.paths.add(path)
    list_ = world.manifest
    world.transfer.message(path, Offer(1, list_.transfer_id, files, files * 100, page=list_.page(0), more=True))
    return path


@pytest_twisted.ensureDeferred
async def test_more_that_is_offered_while_the_user_decides_is_asked_about_next(
    tmp_path: Path, made: list[World]
) -> None:
    world = World(tmp_path, ending_with(100))
    made.append(world)
    world.answers = [Deferred(), Deferred()]
    first, second = world.answers
    offered(world, 1, 600)
    await until(lambda: len(world.asked) == 1)
    path = offered(world, 2, COUNT)
    first.callback(True)
    await until(lambda: len(world.asked) == 2)
    assert [(offer.files, offer.bytes) for offer, _ in world.asked] == [(600, 60_000), (COUNT, COUNT * 100)]
    assert not path.has(Accept)
    second.callback(True)
    await until(lambda: path.has(Accept))
    tell(world, path, world.manifest, range(1, world.manifest.pages))
    assert not world.transfer.ended


@pytest_twisted.ensureDeferred
async def test_who_refuses_what_was_offered_meanwhile_gets_nothing(tmp_path: Path, made: list[World]) -> None:
    world = World(tmp_path, ending_with(100))
    made.append(world)
    first: Deferred[bool] = Deferred()
    world.answers = [first, succeed(False)]
    path = offered(world, 1, 600)
    await until(lambda: len(world.asked) == 1)
    offered(world, 2, COUNT)
    first.callback(True)
    with pytest.raises(Refused):
        await world.transfer.done
    assert not path.has(Accept)


def test_each_page_is_held_against_what_was_agreed_to() -> None:
    """Whatever a path said before, the core tells how much is listed with each page, known or new."""
    manifest = ending_with(100)
    core = ReceiverCore(manifest.transfer_id, bytes(16))
    offer = Offer(1, manifest.transfer_id, COUNT, COUNT * 100, page=manifest.page(0), more=True)
    said = Announced(COUNT, COUNT * 100, 0, counting=False)
    assert core.receive(1, offer)[0] == said
    assert core.receive(2, offer) == [said]
    core.accepted({})
    assert core.receive(3, offer)[0] == said
    for path in (1, 2):
        for number in range(1, manifest.pages):
            more = number + 1 < manifest.pages
            page = Page(1, number, manifest.digest(number), manifest.page(number), more)
            assert said in core.receive(path, page)


@pytest_twisted.ensureDeferred
async def test_a_question_that_fails_leaves_no_path_waiting(tmp_path: Path, made: list[World]) -> None:
    world = World(tmp_path, ending_with(100))
    made.append(world)
    failing: Deferred[bool] = Deferred()
    world.answers = [succeed(True), failing]
    first = offered(world, 1, 600)
    await until(lambda: first.has(Accept))
    path = offered(world, 2, COUNT)
    assert path.held
    failing.errback(DiskError("the question cannot be kept"))
    with pytest.raises(DiskError):
        await world.transfer.done
    assert path.has(Refuse)
    await until(lambda: not path.held)
