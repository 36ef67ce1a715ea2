"""One incoming transfer, and paths on which the test sends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, succeed

from p2pxfer import status
from p2pxfer.core.codec import Message
from p2pxfer.core.session.transferwire import Accept, Offer
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.errors import P2pxferError
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.transfer.folder import Folder
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.landing import DiskThreads
from p2pxfer.net.transfer.listbudget import ListBudget
from tests.net.disk_tools import SENDER
from tests.net.reactors import reactor, until


class NotingPath:
    """A path that keeps what it is given."""

    peer_name = "alice"
    peer_key = SENDER
    rtt = None
    began = 0.0
    writable = True
    begun: tuple[int, memoryview, int] | None = None

    def __init__(self, number: int) -> None:
        self.facts = SimpleNamespace(number=number, kind="direct", local="", remote="", beside=0, group=number)
        self.sent: list[Message] = []
        self.held = False
        self.refused: P2pxferError | None = None

    def refuse(self, error: P2pxferError) -> None:
        self.refused = error

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def pause_reading(self) -> None:
        self.held = True

    def resume_reading(self) -> None:
        self.held = False

    def has(self, kind: type[Message]) -> bool:
        return any(isinstance(message, kind) for message in self.sent)


class World:
    """A transfer into ``destination``, taken without a question."""

    def __init__(self, destination: Path, manifest: Manifest, folder: Folder | None = None) -> None:
        self.manifest = manifest
        self.asked: list[tuple[status.Offer, bool]] = []
        self.answers: list[Deferred[bool]] = []
        self.told: list[status.Event] = []
        self.disk = DiskThreads(reactor)
        self.paths = PathSet(reactor.seconds, lambda event: None)
        self.transfer = IncomingTransfer(
            reactor, SENDER, manifest.transfer_id, bytes(16), folder or Folder(str(destination)), self.paths,
            self.disk, self._decide, self._told, ListBudget(),
        )  # fmt: skip

    def _told(self, event: status.Event) -> None:
        self.told.append(event)

    def _decide(self, offer: status.Offer) -> Deferred[bool]:
        self.asked.append((offer, offer is self.transfer.offer))
        return self.answers.pop(0) if self.answers else succeed(True)

    def bring(self, number: int) -> Any:
        """Offer the files on a path of that number."""
        path: Any = NotingPath(number)
        self.paths.add(path)
        offer = Offer(
            handle=1,
            transfer=self.manifest.transfer_id,
            files=len(self.manifest.files),
            size=self.manifest.total_bytes,
            page=self.manifest.page(0),
            more=self.manifest.pages > 1,
        )
        self.transfer.message(path, offer)
        return path

    async def offer(self, number: int) -> Any:
        """Offer the files on a path of that number and wait until they are accepted there."""
        path = self.bring(number)
        await until(lambda: path.has(Accept))
        return path

    def lose(self, path: Any) -> None:
        """The path is gone."""
        self.paths.remove(path, "gone")
        self.transfer.close_path(path)
