"""One incoming transfer on a real disk, with paths that only note what is sent on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed

from p2pxfer.core.codec import Message
from p2pxfer.core.geometry import MIN_CHUNK
from p2pxfer.core.manifest import FILE, Entry, Manifest
from p2pxfer.core.wire import Accept, Ack, Holes, Offer
from p2pxfer.net.incoming import IncomingTransfer
from p2pxfer.net.landing import DiskThreads
from p2pxfer.net.pathset import PathSet
from tests.net.disk_tools import SENDER
from tests.net.serverkit import until

reactor: Any = _reactor


class NotingPath:
    """A path that keeps what it is given."""

    peer_name = "alice"
    peer_key = SENDER
    rtt = None
    began = 0.0
    writable = True

    def __init__(self, number: int) -> None:
        self.facts = SimpleNamespace(number=number, kind="direct", local="", remote="")
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def has(self, kind: type[Message]) -> bool:
        return any(isinstance(message, kind) for message in self.sent)


class World:
    """A transfer into ``destination``, taken without a question."""

    def __init__(self, destination: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self.disk = DiskThreads(reactor)
        self.paths = PathSet(reactor.seconds, lambda event: None)
        self.transfer = IncomingTransfer(
            reactor, SENDER, manifest.transfer_id, bytes(16), str(destination), self.paths, self.disk,
            lambda manifest: succeed(True), lambda event: None,
        )  # fmt: skip

    async def offer(self, number: int) -> Any:
        """Offer the files on a path of that number and wait until they are accepted there."""
        path: Any = NotingPath(number)
        self.paths.add(path)
        encoded = self.manifest.encode()
        offer = Offer(
            handle=1,
            transfer=self.manifest.transfer_id,
            files=len(self.manifest.files),
            size=self.manifest.total_bytes,
            manifest_size=len(encoded),
            manifest=encoded,
        )
        self.transfer.message(path, offer)
        await until(lambda: path.has(Accept))
        return path


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
    assert second.sent[-1] == Ack(handle=1, chunks=[(0, 0, 3)])
