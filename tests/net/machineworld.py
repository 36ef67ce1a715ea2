"""Machines of the world in memory, for whoever uses them as a library does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Introduction, Registered
from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.errors import P2pxferError
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.private.identity import Identity
from p2pxfer.net.session.machine import Machine
from tests.net.sessionworld import World, WorldClient


class LibraryClient(WorldClient):
    """A connection to the server that begins and ends."""

    def __init__(
        self, world: World, identity: Identity, name: str | None, introduced: Callable[[Introduction], None]
    ) -> None:
        super().__init__(world, identity, introduced)
        self.name = name
        self.failed: Deferred[P2pxferError] = Deferred()
        self.fault: P2pxferError | None = None
        self.left = False

    def start(self) -> Deferred[Registered]:
        if self.fault is not None:
            return fail(self.fault)
        if self.name is not None:
            self.world.waiting[self.name] = self
        return succeed(Registered(name=self.name, id=self.key, observed="192.0.2.1:2000"))

    async def leave(self) -> None:
        self.left = True
        if self.name is not None:
            self.world.waiting.pop(self.name, None)


def nobody(introduction: Introduction) -> None:
    raise AssertionError("nobody can ask for a machine without a name")


class WorldMachine(Machine, frozen=True):
    """A machine that knows the server of a world."""

    world: Any = None
    clients: list[LibraryClient] = []

    def client(
        self,
        name: str | None = None,
        on_introduction: Callable[[Introduction], None] = nobody,
        on_registered: Callable[[Registered], None] = lambda answer: None,
        *,
        by_key: bool = False,
    ) -> Any:
        made = LibraryClient(self.world, self.identity, name, on_introduction)
        self.clients.append(made)
        return made


def machine(world: World, name: str, **options: Any) -> WorldMachine:
    """The machine ``name``."""
    reactor: Any = world.clock
    home = Home(world.folder / name)
    return WorldMachine(reactor, home, home.identity(), ServerLine("server", 1, None), name, world=world, **options)


def befriend(*machines: WorldMachine) -> None:
    """Each is a contact of each other."""
    for mine in machines:
        for theirs in machines:
            if mine is not theirs:
                peer = PeerId(theirs.home.identity().id.digest)
                mine.home.add_contact(Contact(theirs.name, peer, "code", "2026-11-21"))
