"""When a meeting permits a plan of many SYNs, what it dials of a peer's router, what it tells the server of a punch.

And two of them at once, which share their ports.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_twisted
from msgspec import structs
from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from p2pxfer.core.addresses import parse_endpoint
from p2pxfer.core.messages import Introduction, NatSummary
from p2pxfer.core.session.wire import Nominate
from p2pxfer.core.traversal.course import DOUBT_S
from p2pxfer.core.traversal.dialing import MAX_CANDIDATES
from p2pxfer.core.traversal.dials import Candidate
from p2pxfer.core.traversal.ledger import QUIET_S, Ledger
from p2pxfer.core.traversal.strategies import LASTS_S
from p2pxfer.errors import ProtocolBreach, Unreachable
from p2pxfer.net.private.identity import new_identity
from p2pxfer.net.session import punching
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.parties import Party
from p2pxfer.net.session.ways import Ways
from p2pxfer.net.traversal.candidates import Candidates
from p2pxfer.net.traversal.listening import Doorman
from p2pxfer.net.traversal.puncher import Puncher
from tests.net.reactors import until
from tests.net.serverkit import dialled_from, free_port

ME = new_identity()
KNOWN = Party(ME, "initiator", "alice", "bob", b"k" * 32, trusted=True)


@pytest.fixture(autouse=True)
def _ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(punching, "_ledger", Ledger())


def meet(party: Party, clock: Clock, *, here: str = "198.18.1.1:30000") -> Meeting:
    """A new meeting with ``party``."""
    client: Any = SimpleNamespace(
        own_endpoints=frozenset({parse_endpoint("192.168.1.10:30000"), parse_endpoint(here)}),
        over_loopback=False,
        over_private=False,
        port=30000,
        mapped_port=(0, False),
        informed={},
    )
    introduction = Introduction(b"s" * 32, True, party.peer_key, observed=["198.18.2.1:31000"])
    owner: Any = None
    reactor: Any = clock
    return Meeting(reactor, introduction, party, client, owner)


def reason(party: Party, clock: Clock, *, here: str = "198.18.1.1:30000") -> str | None:
    """What a new meeting with ``party`` says against a plan."""
    return meet(party, clock, here=here).punch.permit()


def test_a_known_peer_is_punched_once_in_ten_minutes() -> None:
    """Whatever the server says of the networks: it could say something else each time."""
    clock = Clock()
    assert reason(KNOWN, clock) is None
    again = reason(KNOWN, clock)
    assert again is not None
    assert "lately" in again
    clock.advance(LASTS_S)
    assert reason(KNOWN, clock, here="198.18.7.1:30000") is not None
    assert reason(replace(KNOWN, peer_key=b"c" * 32), clock) is None
    clock.advance(QUIET_S)
    assert reason(KNOWN, clock) is None


def test_a_peer_whose_key_nobody_verified_gets_no_plan_and_does_not_use_one_up() -> None:
    clock = Clock()
    against = reason(replace(KNOWN, trusted=False), clock)
    assert against is not None
    assert "known peers" in against
    assert reason(KNOWN, clock) is None


@pytest.mark.parametrize("own", ["2a00::7", None])
def test_ipv6_is_dialled_from_the_address_that_the_server_saw_or_not_at_all(own: str | None) -> None:
    client: Any = SimpleNamespace(
        own_endpoints=frozenset(),
        over_loopback=False,
        over_private=False,
        port=30000,
        informed={},
        discovery=SimpleNamespace(source6=own),
    )
    clock: Any = Clock()
    here: Any = Meeting(clock, Introduction(b"s" * 32, True, KNOWN.peer_key), KNOWN, client, cast(Any, None))
    seen = here.punch.candidates.observed(["198.18.2.1:31000", "[2a00::1]:31000", "[fe80::1]:31000"])
    found = [(candidate.host, candidate.local) for candidate in here.punch.candidates.public(seen)]
    assert found == [("198.18.2.1", "")] + ([("2a00::1", own)] if own else [])


def test_beside_a_relay_no_plan_is_repeated() -> None:
    assert reason(replace(KNOWN, beside=True), Clock()) is not None
    assert reason(KNOWN, Clock()) is None


def test_gentle_forbids_every_plan() -> None:
    against = reason(replace(KNOWN, gentle=True), Clock())
    assert against is not None
    assert "--gentle" in against


class Punch:
    """A meeting whose punch the test plays, and what the server was told."""

    def __init__(self) -> None:
        self.told: list[tuple[bytes, str, str]] = []
        self.clock = Clock()
        client: Any = SimpleNamespace(
            port=30000, informed={}, own_endpoints=frozenset(), over_private=False, over_loopback=False,
            outcome=lambda *word: self.told.append(word),
        )  # fmt: skip
        introduction = Introduction(b"s" * 32, True, KNOWN.peer_key)
        owner: Any = SimpleNamespace(path_up=lambda *_: None, meeting_failed=lambda *_: None)
        reactor: Any = self.clock
        self.meeting = Meeting(reactor, introduction, KNOWN, client, owner)
        puncher: Any = SimpleNamespace(
            way="walk",
            made_by="walk",
            tried="",
            plan_state="none",
            situation=None,
            last_errors={},
            stop=lambda: None,
            settle_for=lambda useful: None,
        )
        self.puncher = self.meeting.punch._puncher = puncher
        self.meeting._drop_losers = lambda kept=None: None  # type: ignore[method-assign]  # nothing here has a socket

    def path(self, host: str) -> Any:
        """A direct connection with a host on another side."""
        address: Any = SimpleNamespace(host=host, port=31000)
        assert self.meeting.punch.came(address) is not None
        return max(self.meeting._greeting, key=lambda path: path.facts.number)


@pytest.mark.parametrize("ends", [Meeting.close, Meeting.peer_returned])
def test_a_meeting_that_ends_while_a_direct_path_may_come_was_given_up(ends: Callable[[Meeting], None]) -> None:
    punch = Punch()
    ends(punch.meeting)
    assert punch.meeting.given_up


def test_a_meeting_whose_punch_came_to_its_end_was_not_given_up() -> None:
    punch = Punch()
    punch.meeting.punch._ended(3)
    punch.meeting.close()
    assert not punch.meeting.given_up


def test_a_meeting_that_came_to_nothing_leaves_no_timer() -> None:
    """Nobody closes it any more, and with its timer it would stay for ten seconds."""
    punch = Punch()
    punch.meeting.punch._ended(3)
    assert not punch.clock.getDelayedCalls()


def test_the_way_of_the_nominated_path_and_its_time_are_told_once() -> None:
    punch = Punch()
    punch.path("198.18.2.1")
    punch.puncher.made_by = "single"
    winner = punch.path("198.18.2.1")
    punch.puncher.made_by = "walk"
    punch.path("198.18.2.1")
    punch.clock.advance(2.0)
    punch.meeting._keep(winner)
    punch.meeting.punch._ended(0)
    assert punch.told == [(b"s" * 32, "single", "3s")]


@pytest.mark.parametrize("host", ["192.168.1.2", "2a00::1"])
def test_a_path_that_is_no_nats_doing_is_not_told(host: str) -> None:
    punch = Punch()
    punch.meeting._keep(punch.path(host))
    assert punch.told == []


def test_a_path_inside_the_carriers_network_is_not_told() -> None:
    """It says nothing of the carrier's NAT, which is the one that the server counts by."""
    punch = Punch()
    client: Any = SimpleNamespace(own_endpoints=frozenset({parse_endpoint("198.18.2.1:30000")}), over_private=False)
    client.over_loopback = False
    told = structs.replace(punch.meeting.introduction, observed=["198.18.2.1:30001"], lan=["192.168.1.20:31000"])
    punch.meeting.punch.candidates = Candidates(client, told)
    punch.meeting.punch.candidates.mapped(["100.64.2.2:31000"])
    path = punch.path("100.64.2.2")
    assert path.facts.kind == "punched"
    punch.meeting._keep(path)
    assert punch.told == []


def test_a_lost_punch_is_told_if_the_peer_took_part_and_nobody_gave_up() -> None:
    for took_part, closed, told in ((True, False, True), (False, False, False), (True, True, False)):
        punch = Punch()
        punch.meeting.had_path = took_part
        if closed:
            punch.meeting.close()
        punch.meeting.punch._ended(0)
        assert punch.told == ([(b"s" * 32, "walk", "lost")] if told else [])


def test_of_a_peers_router_only_addresses_are_dialled_at_which_the_peer_was_observed() -> None:
    """Whatever a server passes on: another address, a service's port, this machine's own."""
    meeting = meet(KNOWN, Clock())
    bad = ["198.18.3.1:40000", "198.18.1.1:30000", "198.18.2.1:22", "198.18.2.1:3306", "127.0.0.1:40000", "nonsense"]
    found = meeting.punch.candidates.mapped([*bad, "198.18.2.1:40000"])
    assert found == [Candidate("mapped", "198.18.2.1", 40000)]
    assert meeting.punch.candidates.kind("198.18.2.1:40000") == "mapped"
    assert meeting.punch.candidates.kind("198.18.2.1:31000") == "punched"
    for port in range(30000, 30100):
        meeting.punch.candidates.mapped([f"198.18.2.1:{port}"])
    assert len(meeting.punch.candidates._mapped) == MAX_CANDIDATES


INNER = ["100.64.2.2:40000", "192.168.9.2:40000"]


def test_a_peers_router_inside_a_carriers_network_is_dialled_by_its_neighbours_only() -> None:
    """Of them, the one that the server sees at the same address; no public address, nor one of nobody's."""
    bad = ["198.18.3.1:40000", "169.254.169.254:40000", "127.0.0.1:40000", "100.64.2.2:3306", "100.64.2.2:80"]
    assert meet(KNOWN, Clock()).punch.candidates.mapped(INNER) == []
    meeting = meet(KNOWN, Clock(), here="198.18.2.1:30000")
    found = meeting.punch.candidates.mapped([*bad, *INNER])
    assert [f"{one.host}:{one.port}" for one in found] == INNER
    assert {meeting.punch.candidates.kind(text) for text in INNER} == {"mapped"}


def test_the_punch_port_at_a_peers_inner_router_is_punched() -> None:
    """The port of its LAN candidates is that of its punch, so no router gave it."""
    meeting = meet(KNOWN, Clock(), here="198.18.2.1:30000")
    meeting.introduction = structs.replace(meeting.introduction, lan=["192.168.1.20:31000"])
    meeting.punch.candidates = Candidates(meeting._client, meeting.introduction)
    (found,) = meeting.punch.candidates.mapped(["100.64.2.2:31000"])
    assert found == Candidate("host", "100.64.2.2", 31000)
    assert meeting.punch.candidates.kind("100.64.2.2:31000") == "punched"


SECOND, THIRD = "192.168.77.20:31000", "192.168.1.20:31000"


class Direct:
    """A connection that greets, a direct one unless said otherwise, and what was done to it."""

    def __init__(self, remote: str, group: int = 0, kind: str = "lan") -> None:
        self.facts = SimpleNamespace(kind=kind, remote=remote, group=group)
        self.said: list[Any] = []
        self.failed = False

    def send(self, message: Any) -> None:
        self.said.append(message)

    def fail(self, error: Any) -> None:
        self.failed = True


def by_two_interfaces(role: Any) -> tuple[Meeting, list[Any]]:
    """A meeting that reaches some hosts by one interface and some by another, and what came up in it."""
    punch = Punch()
    meeting = meet(replace(KNOWN, role=role), punch.clock)
    meeting.punch._puncher = punch.puncher
    by = {"198.18.2.1": "eth0", "192.168.1.20": "eth0", "192.168.77.20": "eth1"}
    meeting._ways = Ways(by.get)
    up: list[Any] = []
    meeting._owner = cast(Any, SimpleNamespace(path_up=lambda _, path: up.append(path), path_down=lambda *_: None))
    meeting._client.outcome = lambda *_: None  # type: ignore[method-assign]  # nobody is told here
    return meeting, up


def test_a_nominated_connection_that_is_no_other_way_is_reset() -> None:
    """The initiator judged it otherwise, and learns so at once."""
    meeting, up = by_two_interfaces("responder")
    first, same = Direct("198.18.2.1:31000", 1), Direct(THIRD, 2)
    meeting._greeting = cast(Any, {first})
    meeting.path_message(cast(Any, first), Nominate())
    meeting._greeting.add(cast(Any, same))
    meeting.path_message(cast(Any, same), Nominate())
    assert same.failed
    assert up == [first]


@pytest.mark.parametrize("relayed", [False, True])
def test_a_punch_that_looks_beside_a_direct_path_ends_with_it(relayed: bool) -> None:
    """Whoever waits for its end would not look for another path meanwhile."""
    meeting, _ = by_two_interfaces("initiator")
    ended: list[bool] = []
    cast(Any, meeting.punch._puncher).stop = lambda: ended.append(True)
    relay, direct, other = Direct("", 1, "relay"), Direct("198.18.2.1:31000", 2), Direct(SECOND, 3)
    if relayed:
        meeting._raise(cast(Any, relay))
    for path in (direct, other):
        meeting.path_greeted(cast(Any, path))
    meeting.path_lost(cast(Any, direct), Unreachable("cut"))
    assert not ended
    meeting.path_lost(cast(Any, other), Unreachable("cut"))
    assert ended


def test_a_way_is_free_again_when_the_last_connection_by_it_is_lost() -> None:
    meeting, up = by_two_interfaces("initiator")
    first, other = Direct("198.18.2.1:31000", 1), Direct(SECOND, 2)
    beside, again = Direct(SECOND, 2), Direct(SECOND, 3)
    for path in (first, other):
        meeting.path_greeted(cast(Any, path))
    meeting._raise(cast(Any, beside))
    meeting.path_lost(cast(Any, other), Unreachable("cut"))
    assert not meeting._ways.is_new("192.168.77.20")
    meeting.path_lost(cast(Any, beside), Unreachable("cut"))
    meeting.path_greeted(cast(Any, again))
    assert up == [first, other, beside, again]


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_beside_the_first_path_another_one_stays_only_by_another_interface(role: Any) -> None:
    """Two that come by one interface share its line, and the second of them is reset as ever."""
    meeting, up = by_two_interfaces(role)
    first, same, other = paths = [
        Direct(remote, group) for group, remote in enumerate(("198.18.2.1:31000", THIRD, SECOND))
    ]
    meeting._greeting = cast(Any, set(paths))
    for path in paths:
        if role == "initiator":
            if not path.failed:
                meeting.path_greeted(cast(Any, path))
        else:
            meeting.path_message(cast(Any, path), Nominate())
    assert up == [first, other]
    assert same.failed
    assert not first.failed
    assert not other.failed
    nominated = [path for path in paths if any(isinstance(said, Nominate) for said in path.said)]
    assert nominated == ([first, other] if role == "initiator" else [])


def test_a_neighbour_with_a_link_local_address_is_turned_away() -> None:
    address: Any = SimpleNamespace(host="fe80::1%eth0", port=31000)
    assert meet(KNOWN, Clock()).punch.came(address) is None


def test_a_path_that_greets_when_the_meeting_is_over_is_ended() -> None:
    """Its relay leg was still connecting when the meeting was closed."""
    meeting = meet(KNOWN, Clock())
    meeting.close()
    ended: list[str] = []
    path: Any = SimpleNamespace(facts=SimpleNamespace(kind="relay"), fail=lambda error: ended.append(error.message))
    meeting.path_greeted(path)
    assert ended == ["the meeting is over"]
    assert not meeting.paths


@pytest_twisted.ensureDeferred
async def test_two_meetings_at_once_get_the_connections_of_their_own_peers() -> None:
    """They share the punch port and the port from the router; whose peer comes is seen by the address."""
    port, mapped = free_port(), free_port()
    client = together(port, mapped)
    peers = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
    meetings = {host: meeting_of(client, host) for host in peers}
    for here in meetings.values():
        here.start()
    far = [dialled_from(host, at) for _ in range(4) for host in peers for at in (port, mapped)]
    await until(lambda: sum(len(here._greeting) for here in meetings.values()) == len(far))
    for host, here in meetings.items():
        remotes = [path.facts.remote.rpartition(":")[0] for path in here._greeting]
        assert remotes == [host] * 8
        kinds = [path.facts.kind for path in here._greeting]
        assert sorted(kinds) == ["direct"] * 4 + ["mapped"] * 4
    for here in meetings.values():
        here.close()
    for sock in far:
        sock.close()


def together(port: int, mapped: int) -> Any:
    """A client on this machine that takes part in meetings, and nothing more."""

    async def settled() -> None:
        return None

    discovery = SimpleNamespace(seen=[], settled=settled, summary=NatSummary(), source6=None)
    return SimpleNamespace(
        own_endpoints=frozenset(), over_loopback=True, over_private=True, port=port, mapped_port=(mapped, True),
        informed={}, discovery=discovery, outcome=lambda *_: None, doorman=Doorman(cast(Any, reactor)),
    )  # fmt: skip


def meeting_of(client: Any, host: str) -> Meeting:
    """One with a peer whom the server sees at ``host``."""
    introduction = Introduction(os.urandom(32), True, KNOWN.peer_key, observed=[f"{host}:{free_port()}"], dial=True)
    owner: Any = SimpleNamespace(meeting_failed=lambda *_: None)
    return Meeting(cast(Any, reactor), introduction, KNOWN, client, owner)


COUNTS = NatSummary("port-dependent", "sequential", 1, 40000)
KEEPS = NatSummary("endpoint-independent", "preserving")


@pytest.mark.parametrize(
    ("mine", "theirs", "asked"),
    [(COUNTS, KEEPS, ["look"]), (COUNTS, COUNTS, ["look"]), (KEEPS, COUNTS, []), (KEEPS, KEEPS, ["crossing"])],
    ids=["counts+keeps", "counts+counts", "keeps+counts", "keeps+keeps"],
)
@pytest.mark.parametrize("lacking", [True, False])
def test_who_has_no_path_after_a_while_finds_out_what_may_be_wrong(
    mine: NatSummary, theirs: NatSummary, asked: list[str], lacking: bool
) -> None:
    """A NAT that counts is looked at again, and of two that keep their ports it is seen whether SYNs cross."""
    clock = Clock()
    done: list[str] = []
    client = together(free_port(), 0)
    client.discovery.look_again = lambda: noted(done, "look")
    client.discovery.find_crossing = lambda: noted(done, "crossing")
    introduction = Introduction(os.urandom(32), True, KNOWN.peer_key, my_nat=mine, peer_nat=theirs, round_trip_ms=50)
    punch = punching.Punching(
        cast(Any, clock), introduction, KNOWN, client, lambda *_: None, lambda: lacking, lambda: None
    )
    punch.start()
    clock.advance(DOUBT_S - 0.1)
    assert not done
    clock.advance(0.2)
    assert done == (asked if lacking else [])
    punch.stop()


@pytest.mark.parametrize(
    ("role", "mapping", "trip_ms", "silent"),
    [("responder", "none", 80, 0.08), ("responder", "none", 10_000, punching.SILENT_S),
     ("responder", "endpoint-independent", 80, 0), ("responder", "unknown", 80, 0), ("initiator", "none", 80, 0)],
)  # fmt: skip
def test_a_responder_that_no_nat_hides_lets_the_initiator_dial_first(
    monkeypatch: pytest.MonkeyPatch, role: Any, mapping: Any, trip_ms: int, silent: float
) -> None:
    """SYNs cross only where one must go out before another one comes in."""
    silences: list[float] = []
    start = Puncher.start

    def noted_start(punch: Puncher, wait: float) -> None:
        silences.append(wait)
        start(punch, wait)

    monkeypatch.setattr(Puncher, "start", noted_start)
    me = replace(KNOWN, role=role)
    nat = NatSummary(mapping)
    introduction = Introduction(os.urandom(32), role == "initiator", me.peer_key, my_nat=nat, round_trip_ms=trip_ms)
    clock: Any = Clock()
    punch = punching.Punching(
        clock, introduction, me, together(free_port(), 0), lambda *_: None, lambda: False, lambda: None
    )
    punch.start()
    punch.stop()
    assert silences == [silent]


async def noted(done: list[str], what: str) -> bool:
    done.append(what)
    return False


@pytest.mark.parametrize(
    ("mine", "asked"),
    [(COUNTS, "look_again"), (KEEPS, "find_crossing"), (KEEPS, "settled")],
    ids=["look", "crossing", "settled"],
)
def test_a_fault_while_it_finds_out_is_logged_at_once(mine: NatSummary, asked: str, lost_errors: Any) -> None:
    """And not when, or if, what nobody waits for is collected."""

    async def broken() -> None:
        raise ZeroDivisionError

    clock = Clock()
    client = together(free_port(), 0)
    setattr(client.discovery, asked, broken)
    introduction = Introduction(os.urandom(32), True, KNOWN.peer_key, my_nat=mine, peer_nat=KEEPS)
    punch = punching.Punching(
        cast(Any, clock), introduction, KNOWN, client, lambda *_: None, lambda: True, lambda: None
    )
    with capturedLogs() as logged:
        punch.start()
        clock.advance(0.1 if asked == "settled" else DOUBT_S + 0.1)
    assert [type(event["log_failure"].value) for event in logged if "log_failure" in event] == [ZeroDivisionError]
    punch.stop()
    lost_errors.flush(ZeroDivisionError)


class FakePath:
    """A connection that greets or stands."""

    def __init__(self, kind: str) -> None:
        self.facts = SimpleNamespace(kind=kind, number=1, group=0)


@pytest.mark.parametrize("role", ["responder", "initiator"])
def test_the_end_of_a_path_that_stood_is_no_news_to_who_only_logs_it(role: Any) -> None:
    """Who was asked is told of its paths as they go; only who asks may have to say why there is none."""
    gone, damaged = Unreachable("connection reset by peer"), ProtocolBreach("that was no record")
    failed: list[list[Any]] = []
    owner: Any = SimpleNamespace(
        path_up=lambda *_: None, path_down=lambda *_: None, meeting_failed=lambda _, reasons: failed.append(reasons)
    )
    for stood in (True, False):
        meeting = meet(replace(KNOWN, role=role), Clock())
        meeting._owner = owner
        path: Any = FakePath("relay")
        other: Any = FakePath("lan")
        meeting._greeting = {path, other}
        if stood:
            meeting.path_greeted(path)
        meeting.path_lost(other, damaged)
        meeting.path_lost(path, gone)
    silent = [damaged] if role == "responder" else [damaged, gone]
    assert failed == [silent, [damaged, gone]]


@pytest.mark.parametrize("role", ["initiator", "responder"])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (3, 1, 4, 0, 2)])
def test_f41_of_five_connections_that_stand_at_once_one_stays(role: Any, order: tuple[int, ...]) -> None:
    """The initiator chooses, and the four others are reset at both ends."""
    meeting, up = by_two_interfaces(role)
    paths = [Direct(f"198.18.2.1:{31000 + number}", number) for number in range(5)]
    meeting._greeting = cast(Any, set(paths))
    for number in order:
        if not paths[number].failed:
            if role == "initiator":
                meeting.path_greeted(cast(Any, paths[number]))
            else:
                meeting.path_message(cast(Any, paths[number]), Nominate())
    assert up == [paths[order[0]]]
    assert [path.failed for path in paths] == [path is not up[0] for path in paths]
    nominated = [path for path in paths if any(isinstance(said, Nominate) for said in path.said)]
    assert nominated == (up if role == "initiator" else [])
