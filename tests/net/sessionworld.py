"""Sessions of channels in memory: a server that introduces at once, meetings whose paths the test makes and cuts."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from p2pxfer.core.codec import Message
from p2pxfer.core.messages import Introduction, NatSummary, Registered
from p2pxfer.core.reported import from_peer
from p2pxfer.core.session.wire import Problem
from p2pxfer.errors import P2pxferError, Unreachable
from p2pxfer.net.private.home import Home
from p2pxfer.net.private.identity import Identity
from p2pxfer.net.session import pairsession, reception
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.pairsession import Appointment, PairSession
from p2pxfer.net.session.path import PathFacts
from p2pxfer.net.session.reception import ChannelUser, Reception
from p2pxfer.status import Event, PathKind
from tests.net.machines import machine_at


def into(errors: list[P2pxferError]) -> Callable[[Failure], None]:
    """An errback that keeps the error there."""

    def keep(failure: Failure) -> None:
        assert isinstance(failure.value, P2pxferError)
        errors.append(failure.value)

    return keep


class WorldPath:
    """One end of a path; what is sent comes out at the other end with the next turn of the clock."""

    rtt = None
    began = 0.0
    peer_name = "somebody"

    def __init__(self, world: World, number: int, kind: PathKind, meeting: WorldMeeting) -> None:
        self.facts = PathFacts(number, kind, "", "")
        self.meeting = meeting
        self.peer_key: bytes = meeting.party.peer_key
        self.other: WorldPath
        self.open = False
        self.writable = True
        self.sent: list[Message] = []
        self._world = world
        self._over = False

    def open_session(self) -> None:
        self.open = True

    def send(self, message: Message) -> None:
        self.sent.append(message)
        if not self._over:
            self._world.clock.callLater(0, self.other.arrive, message)

    def arrive(self, message: Message) -> None:
        if self._over:
            return
        if isinstance(message, Problem):
            self.fail(from_peer(message.word, f"the peer reports: {message.message}"))
            return
        try:
            assert self.open, f"{message} came before it was welcome"
            self.meeting.owner.path_message(self, message)
        except P2pxferError as error:
            self.refuse(error)

    def refuse(self, error: P2pxferError) -> None:
        self.send(Problem(word=error.word, message=error.message))
        self.lose(error)
        self._world.clock.callLater(0, self.other.lose, Unreachable("closed"))

    def close(self) -> None:
        if not self._over:
            self._world.clock.callLater(0, self.lose, Unreachable("closed"))
            self._world.clock.callLater(0, self.other.lose, Unreachable("closed"))

    def fail(self, error: P2pxferError) -> None:
        self.lose(error)
        self._world.clock.callLater(0, self.other.lose, Unreachable("reset"))

    def lose(self, error: P2pxferError) -> None:
        if not self._over:
            self._over = True
            self.meeting.path_lost(self, error)


class WorldMeeting:
    """One side of an introduction."""

    punching = False
    unheard = False
    given_up = False
    punch = SimpleNamespace(nats=(NatSummary(), NatSummary()))

    def __init__(self, clock: Clock, introduction: Introduction, party: Any, client: Any, owner: Any) -> None:
        self.introduction, self.party, self.owner, self.started = introduction, party, owner, clock.seconds()
        self.paths: list[WorldPath] = []
        self.closed = False
        self.had_path = False
        self._world: World = client.world

    def start(self) -> None:
        self._world.sides.setdefault(self.introduction.session, {})[self.party.role] = self
        if len(self._world.sides[self.introduction.session]) == 2 and self._world.joins:
            self._world.clock.callLater(0, self._world.join, self.introduction.session, "relay")

    def close(self) -> None:
        self.closed = True
        for path in list(self.paths):
            path.close()

    async def decided(self) -> None:
        """There is no direct path to wait for."""

    def raise_path(self, path: WorldPath) -> None:
        if not self.closed:
            self.had_path = True
            self.paths.append(path)
            self.owner.path_up(self, path)

    def path_lost(self, path: WorldPath, error: P2pxferError) -> None:
        if path in self.paths:
            self.paths.remove(path)
            self.owner.path_down(self, path, error)
            if not self.paths and not self.closed:
                self.closed = True
                self.owner.meeting_failed(self, [error])


class WorldClient:
    """The connection of one machine to the server of the world."""

    def __init__(self, world: World, identity: Identity, introduced: Callable[[Introduction], None]) -> None:
        self.world = world
        self.key = identity.id.digest
        self.registered = Registered(self.key, "192.0.2.1:2000")
        self.trouble: tuple[str, float | None] = ("", None)
        self.asked_by = introduced
        self.reconnects = 0

    def when_registered(self) -> Deferred[None]:
        return succeed(None)

    def renew(self) -> Deferred[None]:
        return succeed(None)

    def reconnect(self) -> None:
        self.reconnects += 1

    def introduced(self, introduction: Introduction) -> None:
        """Taken up."""

    def introduce(self, to: str, policy: str, wait_s: int = 0) -> Deferred[Introduction]:
        there = self.world.waiting.get(to)
        if there is None:
            return fail(Unreachable("this peer is not here now"))
        session = next(self.world.numbers).to_bytes(32, "big")
        there.asked_by(Introduction(session=session, initiator=False, peer_id=self.key))
        return succeed(Introduction(session=session, initiator=True, peer_id=there.key))


class World:
    """A server, and the machines that know it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        for module in (pairsession, reception):
            monkeypatch.setattr(module, "Meeting", WorldMeeting)
        self.clock = Clock()
        self.folder = folder
        self.numbers = itertools.count(1)
        self.waiting: dict[str, WorldClient] = {}
        self.sides: dict[bytes, dict[str, WorldMeeting]] = {}
        self.joins = True
        """Whether two sides of an introduction get a relay path."""
        self.ends: deque[Callable[[], object]] = deque()

    def machine(self, name: str, **options: Any) -> Machine:
        return machine_at(Home(self.folder / name), self.clock, name, **{"patience": 30.0, **options})

    def identity(self, name: str) -> Identity:
        return Home(self.folder / name).identity()

    def run(self, seconds: float = 0.0) -> None:
        """Let everything happen that waits for nothing, and time pass."""
        for _ in range(400):
            self.clock.advance(0)
        while seconds > 0:
            self.clock.advance(min(seconds, 0.5))
            seconds -= 0.5
            for _ in range(20):
                self.clock.advance(0)

    def join(self, session: bytes, kind: PathKind) -> tuple[WorldPath, WorldPath]:
        """A path between the two sides of an introduction."""
        sides = self.sides[session]
        numbers = [next(self.numbers), next(self.numbers)]
        one, other = (
            WorldPath(self, number, kind, sides[role])
            for number, role in zip(numbers, ("initiator", "responder"), strict=True)
        )
        one.other, other.other = other, one
        for path in (one, other):
            path.meeting.raise_path(path)
        return one, other

    def cut(self) -> None:
        """Every path of the world dies."""
        for sides in list(self.sides.values()):
            for meeting in list(sides.values()):
                for path in list(meeting.paths):
                    path.lose(Unreachable("cut"))

    def host(
        self,
        name: str,
        admit: Callable[[bytes], KnownPeer | None],
        user_for: Callable[[KnownPeer], ChannelUser],
        at: str = "svc",
    ) -> Reception:
        """A machine that waits under the name ``at``."""
        machine = self.machine(name)
        made = Reception(machine, admit, user_for, lambda peer, event: None)
        client: Any = WorldClient(self, machine.identity, made.introduced)
        made.start(client)
        self.waiting[at] = client
        return made

    def caller(self, name: str, host: str, user: ChannelUser, at: str = "svc", *, expected: bool = False) -> Caller:
        """A program of the machine ``name`` that asks for who waits at ``at``."""
        return Caller(self, name, host, user, at, expected=expected)

    def close(self) -> None:
        while self.ends:
            self.ends.popleft()()
        self.run(5)


class Caller:
    """A running program that asks."""

    def __init__(self, world: World, name: str, host: str, user: ChannelUser, at: str, *, expected: bool) -> None:
        self.user = user
        self.errors: list[P2pxferError] = []
        self.told: list[Event] = []
        peer = KnownPeer(world.identity(host).id.digest, host, "contact")
        machine = world.machine(name, tell=self.told.append)
        self.session = PairSession(
            machine, peer,
            on_event=user.event, on_settled=user.settled,
            appointment=Appointment(asks=True, name=at, absent=f"{host} does not offer that", expected=expected),
        )  # fmt: skip
        user.attach(self.session)
        self.session.failed.addCallback(self._failed)
        client: Any = WorldClient(world, machine.identity, self.session.introduced)
        self.session.start(client)
        world.ends.append(self.session.close)

    def _failed(self, error: P2pxferError) -> None:
        self.errors.append(error)
        self.user.lost(error)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    made = World(monkeypatch, tmp_path)
    yield made
    made.close()
