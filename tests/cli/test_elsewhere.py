"""What is said of what lies around a transfer that arrived, and how long that may keep the end of a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from p2pxfer.cli import elsewhere
from p2pxfer.cli.elsewhere import MARKING_S, Elsewhere
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.net.private.home import Home
from p2pxfer.net.staging.partials import staging_name
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.staging.unagreed import agreed
from p2pxfer.net.transfer.folder import Folder
from p2pxfer.status import Offer
from tests.net.disk_tools import SENDER
from tests.net.reactors import Threads


class World:
    """A transfer of ``a`` that is here, and one that it outdates and that is being closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reactor = Threads()
        self.told: list[str] = []
        self.closing: Deferred[None] = Deferred(lambda _: self.cancelled.append("cancelled"))
        self.cancelled: list[str] = []
        report: Any = SimpleNamespace(tell=lambda event: self.told.append(event.message))
        self.elsewhere = Elsewhere(self.reactor, Home(folder / "home"), Folder(str(folder)), report)  # type: ignore[arg-type]  # all that is used

    def begin(self, size: int) -> Staging:
        """Something of this size is kept."""
        staging = Staging.open(str(self.folder), SENDER, Manifest([Entry("a", FILE, size)]))
        agreed(staging.where)
        return staging

    def supersede(self, number: bytes = b"o" * 32) -> Deferred[None]:
        """The transfer is here; that one with this id is given up."""
        older: Any = SimpleNamespace(transfer=self.transfer(number), give_up=lambda: self.closing)
        newer: Any = SimpleNamespace(transfer=self.transfer(b"n" * 32), began=2e10)
        return self.elsewhere.supersede(newer, [older])

    def transfer(self, number: bytes) -> Any:
        """What is looked at of one."""
        return SimpleNamespace(sender=SENDER, number=number, offer=Offer(files=1, bytes=1, names=("a",)))

    def until(self, done: list[None]) -> None:
        """Until threads have done what is waited for."""
        while not done:
            self.reactor.wait()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(elsewhere, "IncomingTransfer", SimpleNamespace)
    return World(tmp_path)


def test_a_closing_that_takes_longer_is_not_waited_for_and_not_cancelled(world: World) -> None:
    done: list[None] = []
    world.supersede().addCallback(done.append)
    world.reactor.advance(MARKING_S / 2)
    assert not done
    world.reactor.advance(MARKING_S / 2)
    assert done == [None]
    assert world.cancelled == []
    world.closing.errback(OSError("the disk"))
    world.reactor.wait()  # and then it is looked at all the same
    assert world.reactor.getDelayedCalls() == []
    world.elsewhere.close()


def test_what_was_given_up_is_marked_and_told_no_second_time(world: World) -> None:
    for size in (1, 2):
        world.begin(size).close()
    given_up = Manifest([Entry("a", FILE, 1)]).transfer_id
    other = Manifest([Entry("a", FILE, 2)]).transfer_id
    done: list[None] = []
    world.supersede(given_up).addCallback(done.append)
    world.closing.callback(None)
    world.until(done)
    number = staging_name(SENDER, other).removeprefix(".p2pxfer-")[:8]
    kept = f"0 B are kept of an earlier transfer of the same name, a: p2pxfer jobs cancel {number} drops them"
    assert world.told == [kept]
    assert len(list(world.folder.glob(".p2pxfer-*/superseded"))) == 2
    assert world.reactor.getDelayedCalls() == []
    world.elsewhere.close()
