"""A transfer that is offered anew, with more or less than before: what is here stays, and no more is taken than was
agreed to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from blake3 import blake3
from twisted.internet.defer import Deferred

from p2pxfer.core.session.wire import Accept, Ack, Chunk, Listed, Offer, Page, WantPage
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.errors import BeyondOffer, P2pxferError
from p2pxfer.net.transfer.staging import Staging
from tests.net.disk_tools import SENDER
from tests.net.serverkit import until
from tests.net.transfer.test_incoming import NotingPath, World

COUNT = 1000
FIRST = b"z" * 100


@pytest.fixture
def made() -> Iterator[list[World]]:
    worlds: list[World] = []
    yield worlds
    for world in worlds:
        pytest_twisted.blockon(Deferred.fromCoroutine(world.transfer.close()))
        world.disk.stop()


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
