"""Further connections beside a path, over real sockets; the test plays the path over which they are agreed upon."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.core.addresses import Endpoint, parse_endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.messages import ALPN_PEER, NatSummary
from p2pxfer.core.session.hello import Terms
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.session.wire import Bye, Ping, Widen, Widened
from p2pxfer.errors import P2pxferError, ProtocolBreach, Unreachable
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.private.identity import new_identity
from p2pxfer.net.session import siblingattempt
from p2pxfer.net.session.parties import Party
from p2pxfer.net.session.path import PathFacts, PathOwner, PeerPath
from p2pxfer.net.session.siblingattempt import OPEN_S
from p2pxfer.net.session.siblings import MAX_SIBLINGS, Siblings
from p2pxfer.net.session.silence import SILENT_S, SILENT_TRIPS
from p2pxfer.net.traversal.listening import Doorman
from p2pxfer.status import PathKind
from tests.moments import for_now
from tests.net.reactors import until
from tests.net.serverkit import free_port

ALICE, BOB = new_identity(), new_identity()
_numbers = itertools.count(100)


class Beside:
    """A direct path that stands: what is sent on it reaches the other side's Siblings in the next turn."""

    def __init__(self, local: str, remote: str, deliver: Callable[[Message], None]) -> None:
        self.facts = PathFacts(1, "punched", "", "")
        self.rtt = 0.002
        self.descriptor: Any = None
        self.ends = parse_endpoint(local), parse_endpoint(remote)
        self.sent: list[Message] = []
        self._deliver = deliver

    def send(self, message: Message) -> None:
        self.sent.append(message)
        self._deliver(message)


@dataclass
class Side:
    """One end of a meeting."""

    asks: bool
    port: int
    other_port: int
    introduction: bytes = b"i" * 32
    mapping: str = "none"
    heard: list[Message] = field(default_factory=list)
    lost: list[P2pxferError] = field(default_factory=list)
    up: list[PeerPath] = field(default_factory=list)
    peer: Side | None = None

    def __post_init__(self) -> None:
        me, them = (ALICE, BOB) if self.asks else (BOB, ALICE)
        reactor: Any = global_reactor
        client: Any = SimpleNamespace(
            own_endpoints=frozenset(), doorman=Doorman(reactor), open_as_seen=None,
            discovery=SimpleNamespace(mapping=self.mapping, views=[], summary=NatSummary()),
        )  # fmt: skip

        def make_path(kind: PathKind, local: str, remote: str, beside: PeerPath, owner: PathOwner) -> PeerPath:
            role: Any = "initiator" if self.asks else "responder"
            terms = Terms(role, self.introduction, "beside", "me", None, me.id.digest, them.id.digest, os.urandom(32))
            return PeerPath(PathFacts(next(_numbers), kind, local, remote, beside.facts.group), terms, owner, reactor)

        creator = PeerTLS(me, them.id.digest, ALPN_PEER)
        self.party = Party(me, "initiator" if self.asks else "responder", "me", None, them.id.digest)
        self.siblings = Siblings(reactor, client, creator, self, make_path, self._adopted)
        ends = f"127.0.0.1:{self.port}", f"127.0.0.1:{self.other_port}"
        self.beside: Any = Beside(*ends, self._deliver)

    def _deliver(self, message: Message) -> None:
        peer = self.peer
        assert peer is not None
        reactor: Any = global_reactor
        reactor.callLater(0, peer.siblings.receive, peer.beside, message)

    def _adopted(self, path: PeerPath) -> None:
        path.open_session()
        self.up.append(path)

    def path_greeted(self, path: PeerPath) -> None:
        """It is adopted when it is up."""

    def path_message(self, path: PeerPath, message: Message) -> None:
        self.heard.append(message)

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        raise ProtocolBreach("nobody sends files here")

    def path_writable(self, path: PeerPath) -> None:
        """Nothing waits."""

    def path_lost(self, path: PeerPath, error: P2pxferError) -> None:
        self.siblings.lost(path)
        self.lost.append(error)

    async def close(self) -> None:
        self.siblings.close()
        for path in self.up:
            path.fail(Unreachable("the test is over"))
        await until(lambda: len(self.lost) == len(self.up))


def sides(**of_alice: Any) -> tuple[Side, Side]:
    """Two ends whose path stands between two ports of loopback."""
    here, there = free_port(), free_port()
    alice, bob = Side(True, here, there, **of_alice), Side(False, there, here)
    alice.peer, bob.peer = bob, alice
    return alice, bob


@pytest.mark.parametrize(("mapping", "fresh"), [("none", "here"), ("port-dependent", "there")])
@pytest_twisted.ensureDeferred
async def test_connections_are_opened_beside_a_path_and_are_paths(mapping: str, fresh: str) -> None:
    """From a fresh port here, or there where this side's NAT would give one an outside port that nobody can know."""
    alice, bob = sides(mapping=mapping)
    for _ in range(2):
        path = await alice.siblings.open(alice.beside)
        assert path is alice.up[-1]
    await until(lambda: len(bob.up) == 2)
    assert len({path.ends[0].port for path in alice.up} - {alice.port}) == (2 if fresh == "here" else 0)
    assert len({path.ends[0].port for path in bob.up} - {bob.port}) == (0 if fresh == "here" else 2)
    alice.up[1].send(Bye())
    bob.up[0].send(Bye())
    await until(lambda: bool(alice.heard and bob.heard))
    asked = [message.ports for message in alice.beside.sent if isinstance(message, Widen)]
    assert [bool(ports) for ports in asked] == [fresh == "here"] * 2
    for side in (alice, bob):
        await side.close()


@pytest_twisted.ensureDeferred
async def test_a_connection_of_another_introduction_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblingattempt, "OPEN_S", 1.0)
    alice, bob = sides(introduction=b"x" * 32)
    assert await alice.siblings.open(alice.beside) is None
    assert for_now(alice.siblings.possible), "the other way has not been tried"
    assert await alice.siblings.open(alice.beside) is None
    assert not alice.siblings.possible
    assert not alice.up
    assert not bob.up
    for side in (alice, bob):
        await side.close()


class Dialled:
    """Stands where the puncher does."""

    made: list[Dialled]

    def __init__(self, port: int, candidates: Any) -> None:
        self.port = port
        self.endpoints = [(one.host, one.port) for one in candidates]
        self.running = False
        self.silent = 0.0
        Dialled.made.append(self)

    def start(self, silent: float) -> None:
        self.running, self.silent = True, silent

    def stop(self) -> None:
        self.running = False


@pytest.fixture
def responder(monkeypatch: pytest.MonkeyPatch) -> tuple[Siblings, Any, Clock]:
    """One that only notes what it would dial, with its path and its clock."""
    Dialled.made = []
    monkeypatch.setattr(Siblings, "puncher", lambda self, port, ones, build: Dialled(port, ones))
    clock: Any = Clock()
    client: Any = SimpleNamespace(own_endpoints=frozenset({Endpoint(parse_endpoint("198.18.1.1:1").host, 30000)}))
    nothing: Any = None
    owner: Any = SimpleNamespace(party=SimpleNamespace(role="responder"))
    found = Siblings(clock, client, nothing, owner, nothing, lambda path: None)
    return found, Beside("10.0.0.5:30000", "198.18.1.1:31000", lambda message: None), clock


def test_only_the_host_at_the_other_end_is_dialled_and_not_this_machine(
    responder: tuple[Siblings, Any, Clock],
) -> None:
    siblings, beside, _ = responder
    siblings.receive(beside, Widen(number=1, ports=[40000, 30000]))
    (dialled,) = Dialled.made
    assert (dialled.port, dialled.endpoints) == (30000, [("198.18.1.1", 40000)])


def test_the_side_with_the_fresh_port_lets_the_other_one_dial_first(responder: tuple[Siblings, Any, Clock]) -> None:
    """Its word comes behind data, and of two SYNs that cross the kernel learns a round trip that is too short."""
    siblings, beside, _ = responder
    siblings._client.discovery = SimpleNamespace(mapping="none", views=[])  # type: ignore[assignment]  # enough of one
    siblings.receive(beside, Widen(number=1, ports=[40000]))
    siblings.receive(beside, Widen(number=2, ports=[]))
    beside.descriptor = SimpleNamespace(backlog_s=1.5)
    siblings.receive(beside, Widen(number=3, ports=[]))
    beside.rtt = 0.6
    siblings.receive(beside, Widen(number=4, ports=[]))
    silences = [dialled.silent for dialled in Dialled.made]
    assert silences == [0.0, SILENT_TRIPS * 0.002, SILENT_TRIPS * 0.002 + 1.5, SILENT_S]
    assert SILENT_S < OPEN_S / 2, "by way of a satellite it dials in time too"


def test_one_attempt_at_a_time_and_each_has_an_end(responder: tuple[Siblings, Any, Clock]) -> None:
    siblings, beside, clock = responder
    for number in range(MAX_SIBLINGS):
        siblings.receive(beside, Widen(number=number, ports=[40000 + number]))
        assert [dialled.running for dialled in Dialled.made] == [False] * number + [True]
    clock.advance(OPEN_S + 1)
    assert not any(dialled.running for dialled in Dialled.made)
    assert not clock.getDelayedCalls()


def ask_the_server(siblings: Siblings) -> list[Deferred[Any]]:
    """Have a NAT before this side whose ports only the server can tell, and a server that never answers."""
    dials: list[Deferred[Any]] = []

    def dial(*where: object) -> Deferred[Any]:
        dials.append(Deferred())
        return dials[-1]

    client: Any = siblings._client
    client.open_as_seen = dial
    view = SimpleNamespace(at=parse_endpoint("198.18.0.10:8877"), seen=parse_endpoint("198.18.2.1:30000"))
    client.discovery = SimpleNamespace(mapping="endpoint-independent", views=[view], summary=NatSummary())
    return dials


def test_one_attempt_at_a_time_asks_the_server_and_none_for_ever(responder: tuple[Siblings, Any, Clock]) -> None:
    siblings, beside, clock = responder
    dials = ask_the_server(siblings)
    for number in range(MAX_SIBLINGS):
        siblings.receive(beside, Widen(number=number))
        assert [dial.called for dial in dials] == [True] * number + [False]
    clock.advance(OPEN_S)
    assert all(dial.called for dial in dials)
    assert not beside.sent, "nothing is said in the name of an attempt that is over"
    assert not Dialled.made
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("way", ["lost", "closed"])
def test_the_server_is_not_asked_for_what_is_over(responder: tuple[Siblings, Any, Clock], way: str) -> None:
    siblings, beside, clock = responder
    dials = ask_the_server(siblings)
    siblings.receive(beside, Widen(number=1))
    siblings.lost(beside) if way == "lost" else siblings.close()
    assert [dial.called for dial in dials] == [True]
    assert not beside.sent
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("ports", [[], [40000]])
def test_who_asks_again_and_again_is_sent_away(responder: tuple[Siblings, Any, Clock], ports: list[int]) -> None:
    siblings, beside, clock = responder
    ask_the_server(siblings)

    def ask_often() -> int:
        for number in range(1000):
            try:
                siblings.receive(beside, Widen(number=number, ports=ports))
            except ProtocolBreach:
                return number
        return 1000

    most = ask_often()
    assert MAX_SIBLINGS < most < 2 * MAX_SIBLINGS
    clock.advance(OPEN_S)
    assert ask_often() == most
    siblings.close()


@pytest.mark.parametrize("mapping", ["none", "endpoint-independent", "port-dependent"])
@pytest.mark.parametrize("why", ["silence", "lost"])
def test_a_way_has_failed_when_nothing_came_of_it_but_not_when_the_path_was_lost(
    responder: tuple[Siblings, Any, Clock], mapping: str, why: str
) -> None:
    """Also where the server did not tell in time what this side's fresh port is outside."""
    siblings, beside, clock = responder
    ask_the_server(siblings)
    client: Any = siblings._client
    client.discovery.mapping = mapping
    siblings.asks = True
    for left in (True, False):
        assert siblings.possible
        opening = Deferred.fromCoroutine(siblings.open(beside))
        if why == "lost":
            siblings.lost(beside)
        else:
            clock.advance(OPEN_S)
        assert opening.called
        assert siblings.possible is (left or why == "lost")
    assert not clock.getDelayedCalls()


def test_what_was_agreed_upon_over_a_path_ends_with_it(responder: tuple[Siblings, Any, Clock]) -> None:
    siblings, beside, clock = responder
    siblings.receive(beside, Widen(number=1, ports=[40000]))
    siblings.lost(beside)
    assert not Dialled.made[0].running
    assert not clock.getDelayedCalls()


def test_there_are_never_more_connections_than_so_many(responder: tuple[Siblings, Any, Clock]) -> None:
    siblings, beside, _ = responder
    for number in range(MAX_SIBLINGS):
        path: Any = number
        attempt: Any = None
        siblings.stands(attempt, path)
    siblings.receive(beside, Widen(number=1, ports=[40000]))
    assert not Dialled.made
    siblings.lost(path)
    siblings.receive(beside, Widen(number=2, ports=[40000]))
    assert len(Dialled.made) == 1
    siblings.close()


def test_only_the_initiator_asks(responder: tuple[Siblings, Any, Clock]) -> None:
    siblings, beside, _ = responder
    assert not siblings.receive(beside, Ping(number=1))
    with pytest.raises(ProtocolBreach):
        siblings.receive(beside, Widened(number=1, ports=[40000]))
    siblings.asks = True
    with pytest.raises(ProtocolBreach):
        siblings.receive(beside, Widen(number=1, ports=[40000]))
    assert siblings.receive(beside, Widened(number=7, ports=[40000])), "an answer that came too late"
    assert not Dialled.made
