"""The asking side of a check, with meetings that the test plays."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from p2pxfer.core.approach import Approach
from p2pxfer.core.messages import Introduction, NatSummary
from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.session.wire import Bye, Check, Checked
from p2pxfer.errors import CodeNeeded, IdentityMismatch, P2pxferError, ProtocolBreach, Unreachable
from p2pxfer.net.private.identity import new_identity
from p2pxfer.net.session import peercheck
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.peercheck import ANSWER_S, FAREWELL_S, MEETINGS, Findings, PeerCheck
from p2pxfer.status import Event, Peer
from p2pxfer.status import Path as PathEvent
from tests.net.reactors import time_only

ME = new_identity()
KEY = b"k" * 32
BOB = KnownPeer(KEY, "bob", "contact")
NATS = (NatSummary("none"), NatSummary("endpoint-independent"))


class Path:
    """A path of the meeting; what is sent on it is kept."""

    peer_name = "as it calls itself"
    rtt = 0.04
    began = 0.0

    def __init__(self, number: int, kind: str) -> None:
        self.facts = SimpleNamespace(number=number, kind=kind, local="", remote="", beside=0)
        self.sent: list[object] = []
        self.closed = self.session = False

    def open_session(self) -> None:
        self.session = True

    def send(self, message: object) -> None:
        self.sent.append(message)

    def close(self) -> None:
        self.closed = True


class Meeting:
    """A meeting that does what the test says."""

    made: list[Meeting] = []

    def __init__(self, reactor: Any, introduction: Introduction, party: Any, client: Any, owner: PeerCheck) -> None:
        self.introduction, self.party, self.owner = introduction, party, owner
        self.started = reactor.seconds()
        self.unheard = self.closed = False
        self.punch = SimpleNamespace(nats=NATS, plan_state="none", tried="")
        self.over: Deferred[None] = Deferred()
        Meeting.made.append(self)

    def start(self) -> None:
        """Nothing to do."""

    async def decided(self) -> None:
        await self.over

    def close(self) -> None:
        self.closed = True

    def up(self, path: Any) -> Any:
        self.owner.path_up(self, path)  # type: ignore[arg-type]  # as much of a meeting as is used
        return path

    def down(self, path: Any, error: P2pxferError) -> None:
        self.owner.path_down(self, path, error)  # type: ignore[arg-type]  # the same

    def failed(self, *reasons: P2pxferError) -> None:
        self.over.callback(None)
        self.owner.meeting_failed(self, list(reasons))  # type: ignore[arg-type]  # the same

    def unread(self) -> None:
        self.unheard = True
        self.failed(Unreachable("the peer lost its connection"))


class World:
    """A check under way; ``result`` is what came of it."""

    def __init__(self, answers: list[Any], relay: bool = True, policy: Any = "auto") -> None:
        self.clock = Clock()
        self.asked: list[str] = []
        self.answers = answers
        self.told: list[Event] = []
        self.result: list[Any] = []
        client: Any = SimpleNamespace(
            when_registered=lambda: succeed(None), introduce=self._introduce, registered=object()
        )
        home: Any = None
        server, way = ServerLine("h", 1, None), Approach(policy)
        machine = Machine(time_only(self.clock), home, ME, server, "alice", way, tell=self.told.append)
        self.check = check = PeerCheck(machine, client, BOB)
        self.relay = relay
        self.running = Deferred.fromCoroutine(check.run())
        self.running.addBoth(self.result.append)

    def _introduce(self, to: str, policy: str, wait_s: int) -> Deferred[Introduction]:
        self.asked.append(to)
        answer = self.answers.pop(0)
        if isinstance(answer, P2pxferError):
            return fail(answer)
        return succeed(Introduction(b"s" * 32, True, answer, relay_token=b"t" * 32 if self.relay else None))

    @property
    def findings(self) -> Findings:
        (found,) = self.result
        assert isinstance(found, Findings), found
        return found

    @property
    def error(self) -> BaseException:
        (found,) = self.result
        return found.value  # type: ignore[no-any-return]  # a Failure


@pytest.fixture(autouse=True)
def meetings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Meeting]]:
    monkeypatch.setattr(peercheck, "Meeting", Meeting)
    Meeting.made = []
    yield Meeting.made
    assert all(meeting.closed for meeting in Meeting.made)


def relayed(**options: Any) -> tuple[World, Meeting, Any]:
    """The punch is over and only the relay stands; the peer was asked over it."""
    world = World([KEY], **options)
    meeting = Meeting.made[-1]
    relay = meeting.up(Path(1, "relay"))
    assert (relay.session, relay.sent) == (True, [])
    meeting.over.callback(None)
    assert relay.sent == [Check()]
    return world, meeting, relay


def test_the_peer_is_asked_over_the_best_path_when_the_punch_is_over() -> None:
    world = World([KEY])
    meeting = Meeting.made[0]
    relay = meeting.up(Path(1, "relay"))
    world.clock.advance(0.3)
    punched = meeting.up(Path(2, "punched"))
    meeting.over.callback(None)
    assert (relay.sent, punched.sent) == ([], [Check()])
    world.check.path_message(punched, Checked("port-dependent"))
    assert punched.sent[-1] == relay.sent[-1] == Bye()
    meeting.down(relay, Unreachable("closed"))
    meeting.down(punched, Unreachable("closed"))
    found = world.findings
    assert (found.path, found.after, found.round_trip, found.answer) == (
        "punched",
        0.3,
        0.04,
        Checked("port-dependent"),
    )
    assert meeting.party.trusted
    assert not world.clock.getDelayedCalls()


def test_the_peer_is_told_by_the_name_that_it_has_here() -> None:
    world, meeting, relay = relayed()
    meeting.down(relay, Unreachable("gone"))
    assert [event.name for event in world.told if isinstance(event, Peer)] == ["bob"]


def test_the_end_does_not_wait_for_a_path_that_does_not_close() -> None:
    world, _, relay = relayed()
    world.check.path_message(relay, Checked())
    assert not world.result
    world.clock.advance(FAREWELL_S)
    assert world.findings.path == "relay"


def test_a_peer_that_says_nothing_leaves_its_side_unknown() -> None:
    world, meeting, relay = relayed()
    world.clock.advance(ANSWER_S)
    meeting.down(relay, Unreachable("closed"))
    assert (world.findings.path, world.findings.answer) == ("relay", None)


def test_another_path_is_used_when_the_one_that_was_asked_over_is_lost() -> None:
    world = World([KEY])
    meeting = Meeting.made[0]
    relay, punched = meeting.up(Path(1, "relay")), meeting.up(Path(2, "punched"))
    meeting.over.callback(None)
    meeting.down(punched, Unreachable("packets"))
    assert relay.sent == [Check()]
    world.check.path_message(relay, Checked("endpoint-independent"))
    meeting.down(relay, Unreachable("closed"))
    # It did stand.
    assert (world.findings.path, world.findings.answer) == ("punched", Checked("endpoint-independent"))


def test_a_peer_that_is_lost_after_it_was_asked() -> None:
    world, meeting, relay = relayed()
    meeting.down(relay, Unreachable("gone"))
    assert "bob was lost in the middle of the check: gone" in str(world.error)


def test_a_peer_that_is_lost_before_it_was_asked() -> None:
    world = World([KEY])
    meeting = Meeting.made[0]
    meeting.down(meeting.up(Path(1, "relay")), Unreachable("gone"))
    meeting.over.callback(None)
    assert "bob was lost in the middle of the check: gone" in str(world.error)


def test_a_peer_that_does_not_know_this_machine() -> None:
    world, meeting, relay = relayed()
    meeting.down(relay, CodeNeeded("the peer reports: unknown"))
    assert isinstance(world.error, CodeNeeded)


def test_a_peer_that_does_not_take_part() -> None:
    world = World([KEY])
    Meeting.made[0].failed(Unreachable("the peer did not come to the relay"))
    assert "did not take part" in str(world.error)


def test_without_the_relay_no_path_is_a_finding() -> None:
    world = World([KEY], relay=False, policy="direct")
    Meeting.made[0].failed(Unreachable("198.18.2.1:20000: timed out"))
    assert (world.findings.path, world.findings.after, world.findings.answer) == (None, None, None)


@pytest.mark.parametrize("relay", [True, False])
def test_a_peer_that_never_read_the_introduction_is_asked_for_again(relay: bool) -> None:
    world = World([KEY] * MEETINGS, relay=relay)
    Meeting.made[0].unread()
    meeting = Meeting.made[1]
    path = meeting.up(Path(1, "punched"))
    meeting.over.callback(None)
    world.check.path_message(path, Checked())
    meeting.down(path, Unreachable("closed"))
    assert world.findings.path == "punched"


def test_that_is_not_done_for_ever() -> None:
    world = World([KEY] * MEETINGS)
    for number in range(MEETINGS):
        Meeting.made[number].unread()
    assert "again and again" in str(world.error)


def test_a_name_that_another_key_has() -> None:
    world = World([Unreachable("this peer is not here now"), b"x" * 32])
    assert isinstance(world.error, IdentityMismatch)
    assert world.asked[1] == "bob"


def test_whatever_is_no_answer_is_refused() -> None:
    world, _, relay = relayed()
    with pytest.raises(ProtocolBreach):
        world.check.path_message(relay, Bye())
    with pytest.raises(ProtocolBreach):
        world.check.path_message(Path(7, "relay"), Checked())  # type: ignore[arg-type]  # as much of a path as is used
    with pytest.raises(ProtocolBreach):
        world.check.path_chunk(relay, Chunk(1, 0, 0, bytes(32), memoryview(b"")))
    world.running.cancel()


def test_cancelled() -> None:
    """At any moment; the fixture sees that the meeting is closed."""
    World([KEY]).running.cancel()
    world, meeting, relay = relayed()
    world.running.cancel()
    meeting.down(relay, Unreachable("closed"))
    assert world.told[-1] == PathEvent("relay", "down", "", "", 40.0, 0.0, "the session is over")
    assert not world.clock.getDelayedCalls()
