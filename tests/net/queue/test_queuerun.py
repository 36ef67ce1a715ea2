"""One run of the queue, with a server that does what the test says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater

from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Introduction
from p2pxfer.errors import P2pxferError, UsageError
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.queue import queuerun
from p2pxfer.net.queue.queuerun import QueueRun
from p2pxfer.net.queue.queuestore import Queued
from p2pxfer.net.session.seeking import Target
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.source import Source
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from tests.net.disk_tools import open_fds
from tests.net.machines import machine_at
from tests.net.reactors import reactor

BOB = PeerId(b"b" * 32)


class Server:
    """A server that has the peer when ``meanwhile`` has happened."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self.failed: Deferred[Any] = Deferred()
        self.meanwhile = meanwhile
        self.left = False

    def start(self) -> Deferred[None]:
        return succeed(None)

    def when_registered(self) -> Deferred[None]:
        return succeed(None)

    async def introduce(self, *words: object, **options: object) -> str:
        self.meanwhile()
        return "an introduction"

    async def leave(self) -> None:
        self.left = True


class Owner:
    """The queue: whether the run has met its peer."""

    def __init__(self) -> None:
        self.has_met = False

    def accepted(self) -> None:
        raise AssertionError("nothing was offered")

    def met(self) -> Deferred[None]:
        self.has_met = True
        return succeed(None)

    def through(self) -> Deferred[None]:
        return succeed(None)

    def short(self, error: P2pxferError) -> Deferred[None]:
        raise AssertionError("nothing was sent")


class Sent(QueueRun):
    """A run up to the moment in which the peer is there."""

    server: Server
    target: Target | None = None

    def _client(self) -> RendezvousClient:
        return cast(RendezvousClient, self.server)

    async def _send(self, client: RendezvousClient, target: Target, first: Introduction) -> None:
        self.target = target


class Opened(Sent):
    """The same, with the files open."""

    async def _send(self, client: RendezvousClient, target: Target, first: Introduction) -> None:
        await self._disk.do(self._open)


class World:
    """A home with a contact, and a run of a file to it."""

    def __init__(
        self, folder: Path, meanwhile: Callable[[Home], object] = lambda home: None, make: type[Sent] = Sent
    ) -> None:
        self.home = Home(folder / "home")
        self.home.add_contact(Contact("bob", BOB, "code", "2026-11-21"))
        (folder / "file").write_bytes(b"secret")
        self.owner = Owner()
        self.entry = Queued([str(folder / "file")], str(BOB), 1)
        self.run = make(machine_at(self.home, reactor), self.entry, self.owner)
        self.run.server = Server(lambda: meanwhile(self.home))


@pytest_twisted.ensureDeferred
async def test_a_peer_that_comes_is_met(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.run.run()
    assert world.owner.has_met
    assert world.run.target is not None
    assert (world.run.target.to, world.run.target.alias) == (str(BOB), "bob")
    assert world.run.server.left


@pytest_twisted.ensureDeferred
async def test_a_contact_that_was_removed_while_it_was_away_gets_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, lambda home: home.remove_contact("bob"))
    with pytest.raises(UsageError, match="not a contact any more"):
        await world.run.run()
    assert not world.owner.has_met
    assert world.run.target is None
    assert world.run.server.left


@pytest_twisted.ensureDeferred
async def test_a_cancel_while_threads_come_to_rest_closes_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(Opened):
        async def _quiet(self) -> None:
            waiting.append(self)
            await Deferred()

    waiting: list[Stuck] = []
    closed: list[Source] = []
    monkeypatch.setattr(Source, "close", lambda source: closed.append(source))  # noqa: PLW0108  # as a method
    world = World(tmp_path, make=Stuck)
    running = Deferred.fromCoroutine(world.run.run())
    while not waiting:
        await deferLater(reactor, 0.005)
    assert closed == []
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    assert closed == [world.run._source]
    await world.run._disk.stop()
    monkeypatch.undo()
    closed[0].close()


@pytest_twisted.ensureDeferred
async def test_hashes_are_read_and_written_in_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Watched(HashCache):
        def __init__(self, *words: Any) -> None:
            steps.append(("made", threading.current_thread().name))
            super().__init__(*words)

        def close(self) -> None:
            steps.append(("closed", threading.current_thread().name))
            super().close()

    steps: list[tuple[str, str]] = []
    monkeypatch.setattr(queuerun, "HashCache", Watched)
    before = open_fds()
    await World(tmp_path, make=Opened).run.run()
    assert steps == [("made", "queued"), ("closed", "queued")]
    assert open_fds() == before
