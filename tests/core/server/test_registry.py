"""The rendezvous server without its sockets, against clients that keep to the protocol and others."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import replace

from p2pxfer.core.addresses import Endpoint, parse_endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.ids import PeerId
from p2pxfer.core.limits import Bucket, Buckets
from p2pxfer.core.messages import (
    MAX_OBSERVED,
    Announce,
    DialBack,
    Introduce,
    Introduction,
    JoinRelay,
    NatSummary,
    Observe,
    Observed,
    Outcome,
    PeerMapped,
    PeerNat,
    PeerReturned,
    Ping,
    Pong,
    Register,
    Registered,
    RelayReady,
    Report,
)
from p2pxfer.core.server.effects import (
    Abort,
    Close,
    DialOut,
    Listening,
    PairRelay,
    Send,
    ServerSettings,
    TouchName,
)
from p2pxfer.core.server.links import Role
from p2pxfer.core.server.reports import MAX_PER_SIDE
from p2pxfer.errors import FrameError
from tests.core.server.registryworld import ALICE, BOB, EVE, HOME_A, HOME_B, LISTENING, SECOND, SERVER, World, refused

DUAL = Listening(((ip_address("::"), 8877), (ip_address("::"), 8878)), (ip_address("2a00::1"),))


# -- registration ------------------------------------------------------------------------------------------------


def test_a_registration_is_answered_with_what_the_server_sees(world: World) -> None:
    conn = world.open(BOB, HOME_B)
    (answer,) = world.say(conn, Register(version=1, tag=20002, name="bob"))
    assert answer == Registered(
        id=BOB,
        observed=HOME_B,
        name="bob",
        observers=["198.18.0.10:8878", "198.18.0.11:8877", "198.18.0.11:8878"],
        ping_s=25,
    )


@pytest.mark.parametrize(
    ("listening", "remote", "local", "expected"),
    [
        (Listening(((ip_address("0.0.0.0"), 8877),)), HOME_A, SERVER, []),
        (LISTENING, HOME_A, "198.18.0.11:8878", ["198.18.0.11:8877"]),
        (LISTENING, "10.0.0.9:20001", "10.0.0.1:8877", ["10.0.0.1:8878", "198.18.0.11:8877", "198.18.0.11:8878"]),
        # a server behind a one-to-one translator: the address given with --observe is the one clients see
        (LISTENING, HOME_A, "10.0.0.1:8877", ["198.18.0.11:8878"]),
        (Listening(LISTENING.bound), HOME_A, "10.0.0.1:8877", []),
        # the other family comes last, and of IPv6 one endpoint is enough
        (LISTENING, "[2a00::5]:20001", "[2a00::1]:8877", ["198.18.0.11:8877", "198.18.0.11:8878"]),
        (DUAL, HOME_A, SERVER, ["198.18.0.10:8878", "[2a00::1]:8877"]),
        (DUAL, "10.0.0.9:20001", "10.0.0.1:8877", ["10.0.0.1:8878", "[2a00::1]:8877"]),
        (Listening(((ip_address("198.18.0.10"), 8877), (ip_address("::1"), 8878))), HOME_A, SERVER, []),
        (
            Listening(((ip_address("::"), 8877), (ip_address("::"), 8878))),
            "[2a00::5]:20001",
            "[2a00::1]:8877",
            ["[2a00::1]:8878"],
        ),
        (
            Listening(((ip_address("198.18.0.10"), 8877), (ip_address("198.18.0.12"), 8878))),
            HOME_A,
            SERVER,
            ["198.18.0.12:8878"],
        ),
    ],
)
def test_observers(listening: Listening, remote: str, local: str, expected: list[str]) -> None:
    world = World(listening=listening)
    conn = world.open(BOB, remote, local)
    (answer,) = world.say(conn, Register(version=1, tag=20001))
    assert isinstance(answer, Registered)
    assert answer.observers == expected


def test_a_connection_for_one_purpose_is_found_by_its_name_only(world: World) -> None:
    """Files for the receiver must not come to a pipe that was started after it."""
    world.register(BOB, "bob", "198.18.2.1:20001")
    world.register(BOB, "pipe-bob", "198.18.2.1:20002", by_key=False)
    alice = world.register(ALICE)
    assert world.introduce(alice, str(PeerId(BOB))).observed == ["198.18.2.1:20001"]
    assert world.introduce(alice, "pipe-bob").observed == ["198.18.2.1:20002"]


def test_a_key_may_be_here_several_times_without_a_name(world: World) -> None:
    for _ in range(5):
        world.register(BOB)
    assert world.registry.counts["connections"] == 5
    assert not any(isinstance(effect, Close) for effect in world.effects)


def test_a_limit_of_control_connections_per_key() -> None:
    world = World(replace(ServerSettings(), controls_per_key=2))
    world.register(BOB)
    world.register(BOB)
    assert refused(world.say(world.open(BOB), Register(version=1, tag=1)), "E_LIMIT")


# -- what is legal when ------------------------------------------------------------------------------------------

REGISTER = Register(version=1, tag=1)
OBSERVE = Observe(version=1, tag=1)
JOIN = JoinRelay(version=1, token=bytes(32))


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (None, Introduce(to="bob", tag=1)),  # S01
        (None, Ping()),
        (REGISTER, REGISTER),
        (REGISTER, OBSERVE),
        (REGISTER, JOIN),
        (OBSERVE, REGISTER),
        (OBSERVE, OBSERVE),
        (OBSERVE, Introduce(to="bob", tag=1)),
        (OBSERVE, JOIN),
        (None, Pong()),
        (REGISTER, RelayReady()),
    ],
)
def test_what_is_not_legal_ends_the_connection(world: World, first: Message | None, then: Message) -> None:
    conn = world.open(BOB)
    if first is not None:
        world.say(conn, first)
    assert refused(world.say(conn, then), "E_STATE")
    assert world.closed(conn)
    assert world.say(conn, Ping()) == []  # W41
    assert world.registry.broken(conn, FrameError("late"), world.now) == []
    assert world.effects.count(Close(conn)) == 1


@pytest.mark.parametrize("version", [2, 65535])  # W25
@pytest.mark.parametrize("kind", [Register, Observe])
def test_other_versions_are_told_ours(world: World, kind: Callable[..., Message], version: int) -> None:
    answers = world.say(world.open(BOB), kind(version=version, tag=1))
    assert refused(answers, "E_STATE")
    assert "speaks 1" in str(answers[0])
    assert refused(world.say(world.open(BOB), JoinRelay(version=version, token=bytes(32))), "E_STATE")


def test_s23_a_flood_of_pings_is_cut_and_others_go_on(world: World) -> None:
    flood, calm = world.register(EVE), world.register(BOB)
    answers = [world.say(flood, Ping()) for _ in range(2000)]
    assert [] in answers
    assert refused(next(one for one in answers if not isinstance(one[0], Pong)), "E_RATE")
    assert world.closed(flood)
    assert world.say(calm, Ping()) == [Pong()]


def test_malformed_frames_end_the_connection(world: World) -> None:
    conn = world.register(BOB, "bob")
    world.note(world.registry.broken(conn, FrameError("nonsense"), world.now))
    assert refused(world.told(conn)[1:], "E_FRAME")
    assert world.registry.counts["names"] == 0


# -- observations ------------------------------------------------------------------------------------------------


def test_observations_join_the_control_connection_of_their_tag_in_any_order(world: World) -> None:
    early = world.open(BOB, "198.18.2.1:30001", SECOND)
    assert world.say(early, Observe(version=1, tag=20002)) == [Observed(tag=20002, observed="198.18.2.1:30001")]
    world.register(BOB, "bob", HOME_B)
    late = world.open(BOB, "198.18.2.1:30002", "198.18.0.11:8877")
    world.say(late, Observe(version=1, tag=20002))
    other_tag = world.open(BOB, "198.18.2.1:30003", "198.18.0.11:8877")
    world.say(other_tag, Observe(version=1, tag=7))
    foreign = world.open(EVE, "198.18.3.1:30004")
    world.say(foreign, Observe(version=1, tag=20002))
    alice = world.register(ALICE)
    assert world.introduce(alice, "bob").observed == [HOME_B, "198.18.2.1:30001", "198.18.2.1:30002"]
    world.lose(early)
    assert world.introduce(alice, "bob").observed == [HOME_B, "198.18.2.1:30002"]


def test_the_asking_side_is_known_by_the_tag_of_its_request(world: World) -> None:
    bob = world.register(BOB, "bob", HOME_B)
    alice = world.register(ALICE, tag=11)
    world.say(world.open(ALICE, "198.18.1.1:40000", SECOND), Observe(version=1, tag=40000))
    world.introduce(alice, "bob", tag=40000)
    told = world.told(bob)[-1]
    assert isinstance(told, Introduction)
    assert told.observed == ["198.18.1.1:40000"]
    assert told.peer_nat.ports == "preserving"


@pytest.mark.parametrize(
    ("alice", "bob", "told"), [(0.02, 0.06, 80), (0.0, 0.06, 0), (0.0001, 0.0001, 1), (9.0, 9.0, 10_000)]
)
def test_both_sides_hear_how_far_it_is_by_way_of_the_server(world: World, alice: float, bob: float, told: int) -> None:
    conns = [world.open(ALICE, HOME_A, trip=alice), world.open(BOB, HOME_B, trip=bob)]
    for conn, name in zip(conns, (None, "bob"), strict=True):
        world.say(conn, Register(version=1, tag=20001, name=name))
    assert world.introduce(conns[0], "bob").round_trip_ms == told
    assert world.told(conns[1])[-1].round_trip_ms == told  # type: ignore[attr-defined]  # an Introduction


def test_an_introduction_names_few_endpoints_each_once(world: World) -> None:
    world.register(BOB, "bob", HOME_B)
    for n in range(20):
        world.say(world.open(BOB, f"198.18.2.1:{30000 + n // 2}", SECOND), Observe(version=1, tag=20002))
    observed = world.introduce(world.register(ALICE), "bob").observed
    assert len(observed) == len(set(observed)) == MAX_OBSERVED


def test_a_limit_of_observations_per_key() -> None:
    world = World(replace(ServerSettings(), observations_per_key=1))
    world.say(world.open(BOB), OBSERVE)
    assert refused(world.say(world.open(BOB), OBSERVE), "E_LIMIT")


# -- introductions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_id", [False, True])
def test_both_sides_hear_of_each_other(world: World, by_id: bool) -> None:
    bob = world.register(BOB, "bob", HOME_B)
    alice = world.register(ALICE)
    mine = world.introduce(alice, str(PeerId(BOB)) if by_id else "bob")
    theirs = world.told(bob)[-1]
    assert isinstance(theirs, Introduction)
    assert mine.session == theirs.session
    assert (mine.initiator, theirs.initiator) == (True, False)
    assert (mine.peer_id, theirs.peer_id) == (BOB, ALICE)
    assert (mine.observed, theirs.observed) == ([HOME_B], [HOME_A])
    assert mine.relay_token is not None
    assert theirs.relay_token is not None
    assert mine.relay_token != theirs.relay_token
    assert mine.dial
    assert mine.responder_name == theirs.responder_name == (None if by_id else "bob")


def test_s04_s05_unknown_and_offline_get_the_same_answer(world: World) -> None:
    alice = world.register(ALICE)
    world.lose(world.register(BOB, "bob", HOME_B))
    world.register(EVE)  # present, not to be found
    answers = [
        world.introduce(alice, to)
        for to in ("bob", "nobody", str(PeerId(BOB)), str(PeerId(EVE)), str(PeerId(bytes(32))))
    ]
    assert answers[0].word == "E_PEER_GONE"
    assert not answers[0].fatal
    assert len(set(map(str, answers))) == 1


def test_s03_a_client_is_not_introduced_to_itself(world: World) -> None:
    world.register(BOB, "bob", HOME_B)
    sender = world.register(BOB)
    assert world.introduce(sender, "bob").word == "E_NAME"
    assert world.introduce(sender, str(PeerId(BOB))).word == "E_NAME"


@pytest.mark.parametrize("to", ["", "ab", "Bob", "p2px1-nonsense-nonsense-nonsense-nonsense", "x" * 128])
def test_what_is_neither_name_nor_id_is_refused(world: World, to: str) -> None:
    alice = world.register(ALICE)
    answer = world.introduce(alice, to)
    assert answer.word in {"E_NAME", "E_USAGE"}
    assert not answer.fatal


@pytest.mark.parametrize("mine", ["auto", "direct", "relay"])
@pytest.mark.parametrize("theirs", ["auto", "direct", "relay"])
def test_path_policies_combine(world: World, mine: Any, theirs: Any) -> None:
    bob = world.register(BOB, "bob", HOME_A, path=theirs, lan=["192.168.1.20:20002"])
    alice = world.register(ALICE, remote="198.18.1.1:20009", lan=["192.168.1.10:20009"])
    answer = world.introduce(alice, "bob", tag=20009, path=mine)
    if {mine, theirs} == {"direct", "relay"}:
        assert (answer.word, answer.fatal) == ("E_PATH_NONE", False)
        assert len(world.told(bob)) == 1
        assert world.registry.counts["tickets"] == 0
        return
    for told in (answer, world.told(bob)[-1]):
        assert isinstance(told, Introduction)
        assert told.dial == ("relay" not in {mine, theirs})
        assert bool(told.observed) == bool(told.lan) == told.dial
        assert (told.relay_token is None) == ("direct" in {mine, theirs})


def test_lan_candidates_go_to_the_same_site_only_and_filtered(world: World) -> None:
    lan = ["203.0.113.7:20002", "127.0.0.1:20002", "192.168.1.20:20002", "192.168.1.20:22"]
    world.register(BOB, "bob", "198.18.1.1:20002", lan=lan)
    near, far = world.register(ALICE, remote="198.18.1.1:20009"), world.register(EVE, remote=HOME_B)
    assert world.introduce(near, "bob").lan == ["192.168.1.20:20002"]
    assert world.registry.counts["dropped_lan"] == 3
    assert world.introduce(far, "bob").lan == []


def test_one_site_of_ipv6_is_a_64(world: World) -> None:
    world.register(BOB, "bob", "[2a00:1:2:3::1]:20002", lan=["[fd00::7]:20002"])
    near = world.register(ALICE, remote="[2a00:1:2:3:9::1]:20009")
    far = world.register(EVE, remote="[2a00:1:2:4::1]:20009")
    assert world.introduce(near, "bob").lan == ["[fd00::7]:20002"]
    assert world.introduce(far, "bob").lan == []


def test_endpoints_of_the_server_and_of_documentation_are_never_handed_out(world: World) -> None:
    world.register(BOB, "bob", "203.0.113.7:20002")
    assert world.introduce(world.register(ALICE), "bob").observed == []
    world.register(EVE, "eve", SECOND, tag=8878)
    assert world.introduce(world.register(ALICE), "eve").observed == []


@pytest.mark.parametrize(
    ("theirs", "mine", "handed_out"),
    [
        ("127.0.0.1:20002", "127.0.0.1:20001", True),
        ("127.0.0.1:20002", HOME_A, False),
        ("127.0.0.1:20002", "192.168.1.2:20001", False),
        ("192.168.1.3:20002", "192.168.1.2:20001", True),
        ("192.168.1.3:20002", "127.0.0.1:20001", True),
        ("192.168.1.3:20002", HOME_A, False),
        (HOME_B, "192.168.1.2:20001", True),
    ],
)
def test_local_observations_stay_local(world: World, theirs: str, mine: str, handed_out: bool) -> None:
    world.register(BOB, "bob", theirs)
    answer = world.introduce(world.register(ALICE, remote=mine), "bob")
    assert answer.observed == ([theirs] if handed_out else [])


def test_loopback_candidates_among_clients_on_the_server_itself(world: World) -> None:
    world.register(BOB, "bob", "127.0.0.1:20002", lan=["127.0.0.1:20003"])
    assert world.introduce(world.register(ALICE, remote="127.0.0.1:20001"), "bob").lan == ["127.0.0.1:20003"]


@pytest.mark.parametrize(
    ("more", "lan", "mapping", "ports"),
    [
        ([], [], "unknown", "preserving"),
        ([("198.18.2.1:20002", SECOND)], [], "endpoint-independent", "preserving"),
        ([("198.18.2.1:20002", SECOND)], ["198.18.2.1:20002"], "none", "preserving"),
        ([("198.18.2.1:20002", SECOND)], ["10.0.0.1:20002"], "endpoint-independent", "preserving"),
        ([("198.18.2.1:30000", SECOND)], [], "port-dependent", "changed"),
        ([("198.18.2.1:30000", "198.18.0.11:8877")], [], "address-dependent", "changed"),
        (
            [("198.18.2.1:30000", "198.18.0.11:8877"), ("198.18.2.1:30000", "198.18.0.11:8878")],
            [],
            "address-dependent",
            "changed",
        ),
        (
            [("198.18.2.1:30000", "198.18.0.11:8877"), ("198.18.2.1:30001", "198.18.0.11:8878")],
            [],
            "port-dependent",
            "changed",
        ),
        ([("[2a00::1]:50000", "[2a00::9]:8877")], [], "unknown", "preserving"),
    ],
)
def test_what_is_said_of_the_nat(
    world: World, more: list[tuple[str, str]], lan: list[str], mapping: str, ports: str
) -> None:
    bob = world.register(BOB, "bob", HOME_B, lan=lan)
    for remote, local in more:
        world.say(world.open(BOB, remote, local), Observe(version=1, tag=20002))
    answer = world.introduce(world.register(ALICE), "bob")
    assert (answer.peer_nat.mapping, answer.peer_nat.ports) == (mapping, ports)
    told = world.told(bob)[-1]
    assert isinstance(told, Introduction)
    assert told.my_nat == answer.peer_nat


# -- reports of a NAT --------------------------------------------------------------------------------------------

SEQUENTIAL = NatSummary(ports="sequential", step=1, latest=40_007)
CLAIMED = NatSummary(mapping="none", ports="random", low=1024, high=65_535)


def behind_a_symmetric_nat(world: World, key: bytes = BOB, name: str | None = "bob", remote: str = HOME_B) -> int:
    """A registered client whose second connection is seen from another port."""
    conn = world.register(key, name, remote)
    host, _, port = remote.rpartition(":")
    world.say(world.open(key, f"{host}:30000", SECOND), Observe(version=1, tag=int(port)))
    return conn


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_report_tells_of_ports_where_the_server_saw_that_they_differ(world: World, symmetric: bool) -> None:
    bob = behind_a_symmetric_nat(world) if symmetric else world.register(BOB, "bob", HOME_B)
    assert world.say(bob, Report(nat=CLAIMED)) == []
    nat = world.introduce(world.register(ALICE), "bob").peer_nat
    if symmetric:
        assert nat == NatSummary(mapping="port-dependent", ports="random", low=1024, high=65_535)
        assert world.told(bob)[-1].my_nat == nat  # type: ignore[attr-defined]  # an Introduction
    else:
        assert nat == NatSummary(ports="preserving")


def test_a_report_that_knows_nothing_leaves_what_was_seen(world: World) -> None:
    bob = behind_a_symmetric_nat(world)
    world.say(bob, Report(nat=NatSummary(mapping="none")))
    nat = world.introduce(world.register(ALICE), "bob").peer_nat
    assert nat == NatSummary(mapping="port-dependent", ports="changed")


def test_a_port_for_every_connection_is_believed_where_the_server_saw_one_for_every_port(world: World) -> None:
    claimed = structs.replace(CLAIMED, mapping="connection-dependent")
    bob = behind_a_symmetric_nat(world)
    world.say(bob, Report(nat=claimed))
    carol = world.register(EVE, "carol", HOME_A)
    world.say(carol, Report(nat=claimed))
    alice = world.register(ALICE)
    assert world.introduce(alice, "bob").peer_nat == claimed
    assert world.introduce(alice, "carol").peer_nat == NatSummary(ports="preserving")


def test_news_of_a_nat_go_to_the_other_side_of_the_session(world: World) -> None:
    bob = behind_a_symmetric_nat(world)
    alice = behind_a_symmetric_nat(world, ALICE, None, HOME_A)
    session = world.introduce(alice, "bob").session
    before = len(world.effects)
    assert world.say(bob, Report(nat=SEQUENTIAL, session=session)) == []
    expected = NatSummary(mapping="port-dependent", ports="sequential", step=1, latest=40_007)
    seen = [HOME_B, "198.18.2.1:30000"]
    assert world.effects[before:] == [Send(alice, PeerNat(session=session, nat=expected, observed=seen))]
    world.say(alice, Report(nat=CLAIMED, session=session))
    assert [type(one) for one in world.told(bob)][-1] is PeerNat
    assert world.introduce(world.register(EVE), "bob").peer_nat == expected  # kept with the connection too


def test_a_mapping_that_the_server_saw_since_is_news(world: World) -> None:
    bob = world.register(BOB, "bob", HOME_B)
    alice = world.register(ALICE)
    session = world.introduce(alice, "bob").session
    world.say(world.open(ALICE, HOME_A, SECOND), Observe(version=1, tag=20001))
    world.say(alice, Report(nat=NatSummary(mapping="port-dependent"), session=session))
    expected = NatSummary(mapping="endpoint-independent", ports="preserving")
    assert world.told(bob)[-1] == PeerNat(session, expected, [HOME_A])


def test_an_address_that_the_server_saw_since_is_told_on_request() -> None:
    """IPv6, mostly: the control connection is IPv4, and who asks for an introduction at once is not seen there yet."""
    world = World(listening=DUAL)
    bob, alice = world.register(BOB, "bob", HOME_B), world.register(ALICE)
    session = world.introduce(alice, "bob").session
    world.say(world.open(ALICE, "[2a00::a]:20001", "[2a00::1]:8877"), Observe(version=1, tag=20001))
    world.say(world.open(ALICE, "[2a00::b]:20001", "[2a00::1]:8877"), Observe(version=1, tag=7))
    world.say(alice, Report(session=session))
    assert world.told(bob)[-1] == PeerNat(session, None, [HOME_A, "[2a00::a]:20001"])
    assert world.introduce(alice, "bob").my_nat == NatSummary(ports="preserving")


def test_who_may_not_dial_is_told_of_no_address() -> None:
    world = World(listening=DUAL)
    bob, alice = world.register(BOB, "bob", HOME_B), world.register(ALICE)
    session = world.introduce(alice, "bob", path="relay").session
    world.say(world.open(ALICE, "[2a00::a]:20001", "[2a00::1]:8877"), Observe(version=1, tag=20001))
    world.say(alice, Report(session=session))
    assert world.told(bob)[-1] == PeerNat(session)


def test_nobody_else_can_report_in_a_session(world: World) -> None:
    bob = behind_a_symmetric_nat(world)
    alice, eve = world.register(ALICE), behind_a_symmetric_nat(world, EVE, "eve", "198.18.3.1:20003")
    again = world.register(BOB)  # the same key, but not the connection that was introduced
    session = world.introduce(alice, "bob").session
    before = len(world.effects)
    for conn in (eve, again):
        assert world.say(conn, Report(nat=SEQUENTIAL, session=session)) == []
    world.say(bob, Report(nat=SEQUENTIAL, session=b"\xff" * 32))
    assert world.effects[before:] == []


def test_who_asked_for_a_peer_hears_that_it_came_back_on_another_connection(world: World) -> None:
    """The introduction went to a connection that was dead already, unnoticed: it was never read."""
    world.register(BOB, "bob", HOME_B)
    alice, eve = world.register(ALICE), world.register(EVE)
    first, second = world.introduce(alice, "bob").session, world.introduce(eve, "bob").session
    before = len(world.effects)
    world.register(BOB, "bob", "198.18.2.2:20002")
    assert world.told(alice, before) == [PeerReturned(session=first)]
    assert world.told(eve, before) == [PeerReturned(session=second)]
    world.register(BOB, "bob", "198.18.2.3:20002")
    assert len(world.told(alice, before)) == 1  # once for each introduction


def test_only_a_return_of_the_same_client_soon_after_is_told(world: World) -> None:
    bob, alice = world.register(BOB, "bob", HOME_B), world.register(ALICE)
    world.introduce(alice, "bob")
    before = len(world.effects)
    world.register(BOB, "bobs-other-machine", HOME_B)  # the same key under another name is another program
    world.register(ALICE)  # who asked knows itself that it came back
    assert not [one for one in world.told(alice, before) if isinstance(one, PeerReturned)]
    world.tick(11)
    world.register(BOB, "bob", HOME_B)
    assert world.told(alice, before) == []
    assert world.closed(bob)


def test_who_asked_for_a_peer_hears_once_that_it_has_gone(world: World) -> None:
    bob = world.register(BOB, "bob", HOME_B)
    alice, eve = world.register(ALICE), world.register(EVE)
    world.tick(12)
    first, second = world.introduce(alice, "bob").session, world.introduce(eve, "bob").session
    before = len(world.effects)
    world.lose(bob)
    world.tick(1.5)
    assert world.told(alice, before) == []  # it may come back at once
    world.tick(0.6)
    assert world.told(alice, before) == [PeerReturned(session=first)]
    assert world.told(eve, before) == [PeerReturned(session=second)]
    world.register(BOB, "bob", HOME_B)
    world.tick(20)
    assert len(world.told(alice, before)) == len(world.told(eve, before)) == 1


def test_a_peer_that_came_back_in_time_has_not_gone(world: World) -> None:
    bob, alice = world.register(BOB, "bob", HOME_B), world.register(ALICE)
    first = world.introduce(alice, "bob").session
    before = len(world.effects)
    world.lose(bob)
    world.tick(1.5)
    world.register(BOB, "bob", HOME_B)
    world.tick(0.6)
    assert world.told(alice, before) == [PeerReturned(session=first)]
    second = world.introduce(alice, "bob").session
    world.tick(5)
    assert PeerReturned(session=second) not in world.told(alice, before)


def test_of_another_program_of_the_peer_that_goes_nobody_hears(world: World) -> None:
    world.register(BOB, "bob", HOME_B)
    other, unnamed = world.register(BOB, "bobs-other-machine", HOME_B), world.register(BOB)
    alice = world.register(ALICE)
    world.introduce(alice, "bob")
    before = len(world.effects)
    world.lose(other)
    world.lose(unnamed)
    world.tick(5)
    assert world.told(alice, before) == []


def test_nobody_is_told_of_a_return_who_is_gone_himself(world: World) -> None:
    world.register(BOB, "bob", HOME_B)
    alice = world.register(ALICE)
    world.introduce(alice, "bob")
    world.lose(alice)
    before = len(world.effects)
    world.register(BOB, "bob", HOME_B)
    assert world.told(alice, before) == []


def test_a_session_takes_few_reports_and_not_for_long(world: World) -> None:
    bob, alice = behind_a_symmetric_nat(world), world.register(ALICE)
    session = world.introduce(alice, "bob").session
    for _ in range(MAX_PER_SIDE + 2):
        world.say(bob, Report(nat=SEQUENTIAL, session=session))
    assert sum(isinstance(one, PeerNat) for one in world.told(alice)) == MAX_PER_SIDE
    late = world.introduce(alice, "bob").session
    assert world.registry.counts["meetings"] == 2
    world.tick(31)
    assert world.registry.counts["meetings"] == 0
    before = len(world.effects)
    world.say(bob, Report(nat=SEQUENTIAL, session=late))
    assert world.effects[before:] == []


def test_a_report_after_the_other_side_went_is_dropped(world: World) -> None:
    bob, alice = behind_a_symmetric_nat(world), world.register(ALICE)
    session = world.introduce(alice, "bob").session
    world.lose(alice)
    before = len(world.effects)
    world.say(bob, Report(nat=SEQUENTIAL, session=session))
    assert world.effects[before:] == []


PORT_B = "198.18.2.1:40000"


def test_a_port_that_a_router_gives_goes_to_whoever_is_introduced(world: World) -> None:
    bob, alice = world.register(BOB, "bob", HOME_B), world.register(ALICE)
    assert world.introduce(alice, "bob").mapped == []
    assert world.say(bob, Announce(mapped=[PORT_B])) == []
    assert world.introduce(alice, "bob").mapped == [PORT_B]
    assert world.told(bob)[-1].mapped == []  # type: ignore[attr-defined]  # an introduction: alice has none
    world.say(bob, Announce(mapped=[]))
    assert world.introduce(alice, "bob").mapped == []


@pytest.mark.parametrize(
    "asserted",
    [
        "198.18.9.9:40000",
        "198.18.1.1:40000",  # of the other side: a NAT that both share is reached through the LAN
        "10.0.0.1:40000",
        "127.0.0.1:40000",
        "169.254.169.254:40000",
        "[::ffff:198.18.9.9]:40000",
        "[2002:c612:0909::1]:40000",
        "198.18.0.10:40000",
        SERVER,
        "198.18.2.1:22",
        "198.18.2.1:3306",
        "198.18.2.1:0",
        "198.18.2.1",
        "example.org:40000",
        "",
    ],
)
def test_nobody_is_sent_to_an_address_from_which_the_announcer_was_not_seen(world: World, asserted: str) -> None:
    """Nor to a port of a common service, of which the server knows nothing either."""
    bob, alice = world.register(BOB, "bob", HOME_B), world.register(ALICE)
    session = world.introduce(alice, "bob").session
    world.say(bob, Announce(mapped=[asserted, PORT_B], session=session))
    assert world.told(alice)[-1] == PeerMapped(session, [PORT_B])
    assert world.introduce(alice, "bob").mapped == [PORT_B]


def test_a_port_in_a_carriers_network_goes_to_its_customers_only(world: World) -> None:
    """They are seen at one address; and what anybody could reach, or nobody may, is not told to them either."""
    bob = world.register(BOB, "bob", HOME_B)
    bad = ["198.18.9.9:40000", "100.64.2.2:3306"]
    near, far = world.register(ALICE, remote="198.18.2.1:20009"), world.register(EVE)
    for text in ("100.64.2.2:40000", "192.168.9.2:40000", "[::ffff:100.64.2.2]:40001"):
        world.say(bob, Announce(mapped=[bad[0], text]))
        plain = text.replace("[::ffff:", "").replace("]", "")
        assert world.introduce(near, "bob").mapped == [plain]
        assert world.introduce(far, "bob").mapped == []
    world.say(bob, Announce(mapped=bad))
    assert world.introduce(near, "bob").mapped == []


def test_an_announced_port_in_disguise_is_the_same_port(world: World) -> None:
    bob, alice = world.register(BOB, "bob", HOME_B), world.register(ALICE)
    world.say(bob, Announce(mapped=["[::ffff:198.18.2.1]:40000", PORT_B]))
    assert world.introduce(alice, "bob").mapped == [PORT_B]


def test_any_address_from_which_the_server_saw_the_client_will_do(world: World) -> None:
    """A NAT that pools addresses shows another one to the server's other endpoint; another tag is another NAT's."""
    bob, alice = world.register(BOB, "bob", HOME_B), world.register(ALICE)
    tag = parse_endpoint(HOME_B).port
    world.say(world.open(BOB, "198.18.2.7:20002", SECOND), Observe(version=1, tag=tag))
    world.say(world.open(BOB, "198.18.2.8:20002", SECOND), Observe(version=1, tag=tag + 1))
    world.say(bob, Announce(mapped=["198.18.2.7:40000", "198.18.2.8:40000"]))
    assert world.introduce(alice, "bob").mapped == ["198.18.2.7:40000"]


def test_a_late_port_goes_to_the_other_side_of_the_session_only(world: World) -> None:
    bob, alice = world.register(BOB, "bob", HOME_B), world.register(ALICE)
    eve = world.register(EVE, "eve", "198.18.3.1:20003")
    session = world.introduce(alice, "bob").session
    before = len(world.effects)
    for conn in (eve, world.register(BOB, None, HOME_B)):
        world.say(conn, Announce(mapped=[PORT_B], session=session))
    assert not any(isinstance(one, Send) and isinstance(one.message, PeerMapped) for one in world.effects[before:])
    for _ in range(6):
        world.say(bob, Announce(mapped=[PORT_B], session=session))
    assert world.told(alice).count(PeerMapped(session, [PORT_B])) == MAX_PER_SIDE
    world.say(bob, Report(nat=SEQUENTIAL, session=session))
    assert isinstance(world.told(alice)[-1], PeerNat)  # which has a limit of its own
    late = world.introduce(alice, "bob").session
    world.tick(31)
    world.say(bob, Announce(mapped=[PORT_B], session=late))
    assert world.told(alice).count(PeerMapped(late, [PORT_B])) == 0


@pytest.mark.parametrize(("mine", "theirs"), [("auto", "relay"), ("relay", "auto")])
def test_where_nobody_dials_nobody_hears_of_a_port(world: World, mine: Any, theirs: Any) -> None:
    bob, alice = world.register(BOB, "bob", HOME_B, path=theirs), world.register(ALICE)
    world.say(bob, Announce(mapped=[PORT_B]))
    introduction = world.introduce(alice, "bob", path=mine)
    assert introduction.mapped == []
    world.say(bob, Announce(mapped=[PORT_B], session=introduction.session))
    assert not any(isinstance(one, PeerMapped) for one in world.told(alice))


def test_a_limit_of_reports_per_key() -> None:
    world = World(replace(ServerSettings(), reports_per_key=2))
    bob = behind_a_symmetric_nat(world)
    for latest in (1, 2, 3):
        assert world.say(bob, Report(nat=NatSummary(ports="sequential", step=1, latest=latest))) == []
    assert world.introduce(world.register(ALICE), "bob").peer_nat.latest == 2
    world.tick(31)
    world.say(bob, Report(nat=NatSummary(ports="sequential", step=1, latest=4)))
    assert world.introduce(world.register(ALICE), "bob").peer_nat.latest == 4


# -- rates -------------------------------------------------------------------------------------------------------


def test_rates_of_introductions_and_lookups() -> None:
    world = World(
        replace(ServerSettings(), introductions_per_pair=3, introductions_per_target=5, lookups_per_key=10, token_s=1e9)
    )
    bob = world.register(BOB, "bob", HOME_B)
    alice, eve = world.register(ALICE), world.register(EVE)
    words = [getattr(world.introduce(alice, "bob"), "word", "ok") for _ in range(5)]
    assert words == ["ok", "ok", "ok", "E_RATE", "E_RATE"]
    words = [getattr(world.introduce(eve, "bob"), "word", "ok") for _ in range(3)]
    assert words == ["ok", "ok", "E_RATE"]
    assert sum(isinstance(one, Introduction) for one in world.told(bob)) == 5
    words = [world.introduce(eve, "nobody").word for _ in range(9)]
    assert words == ["E_PEER_GONE"] * 7 + ["E_RATE"] * 2
    world.now += 60
    assert isinstance(world.introduce(alice, "bob"), Introduction)


# -- relay -------------------------------------------------------------------------------------------------------


def tokens(world: World) -> tuple[bytes, bytes]:
    """Tokens of Alice and Bob for one new session."""
    if "bob" not in world.owners:
        world.register(BOB, "bob", HOME_B)
    bob = max(one.conn for one in world.effects if isinstance(one, Send) and isinstance(one.message, Registered))
    answer = world.introduce(world.register(ALICE), "bob")
    for effect in reversed(world.effects):
        if isinstance(effect, Send) and isinstance(effect.message, Introduction) and effect.message.peer_id == ALICE:
            assert effect.message.relay_token is not None
            return answer.relay_token, effect.message.relay_token
    raise AssertionError(f"connection {bob} was told nothing")


def join(world: World, key: bytes, token: bytes) -> tuple[int, list[Message]]:
    conn = world.open(key)
    return conn, world.say(conn, JoinRelay(version=1, token=token))


def test_two_legs_are_told_of_the_limit_of_bytes() -> None:
    world = World(replace(ServerSettings(), relay_bytes=5_000_000))
    mine, theirs = tokens(world)
    one, _ = join(world, ALICE, mine)
    other, answers = join(world, BOB, theirs)
    assert answers == world.told(one) == [RelayReady(limit=5_000_000)]
    assert world.effects[-1] == PairRelay(one, other, 5_000_000)


def test_two_legs_are_joined(world: World) -> None:
    mine, theirs = tokens(world)
    one, answers = join(world, ALICE, mine)
    assert answers == []
    assert world.registry.role(one) is Role.LEG
    other, answers = join(world, BOB, theirs)
    assert answers == [RelayReady()]
    assert world.told(one) == [RelayReady()]
    assert world.effects[-1] == PairRelay(one, other)
    assert world.registry.counts["relays"] == 1
    world.tick(120)
    assert not world.closed(one)
    world.lose(one)
    world.lose(other)
    assert world.registry.counts["relays"] == 0


def test_s10_to_s13_tokens_are_good_once_in_time_and_for_their_key(world: World) -> None:
    mine, theirs = tokens(world)
    assert refused(join(world, ALICE, bytes(31) + b"\xff")[1], "E_DENIED")  # S10
    assert refused(join(world, EVE, mine)[1], "E_DENIED")  # S13
    assert refused(join(world, ALICE, theirs)[1], "E_DENIED")  # S19: the other side's seat
    leg, _ = join(world, ALICE, mine)
    assert refused(join(world, ALICE, mine)[1], "E_DENIED")  # S11
    world.tick(30.5)
    assert refused(join(world, BOB, theirs)[1], "E_DENIED")  # S12
    assert refused(world.told(leg), "E_PEER_GONE")
    assert world.closed(leg)
    assert world.registry.counts["tickets"] == 0


def test_s18_a_third_joiner_does_not_disturb_the_pair(world: World) -> None:
    mine, theirs = tokens(world)
    one, _ = join(world, ALICE, mine)
    other, _ = join(world, BOB, theirs)
    for key, token in itertools.product((ALICE, BOB, EVE), (mine, theirs)):
        assert refused(join(world, key, token)[1], "E_DENIED")
    assert not world.closed(one)
    assert not world.closed(other)


def test_s16_data_before_the_relay_is_ready(world: World) -> None:
    mine, theirs = tokens(world)
    leg, _ = join(world, ALICE, mine)
    world.note(world.registry.broken(leg, FrameError("whatever"), world.now))
    assert refused(world.told(leg), "E_STATE")
    assert world.registry.counts["relays"] == 0
    assert join(world, BOB, theirs)[1] == []


def test_limits_of_relay_sessions() -> None:
    world = World(replace(ServerSettings(), relays_per_key=2, relays=3))
    legs = []
    for _ in range(2):
        leg, answers = join(world, ALICE, tokens(world)[0])
        assert answers == []
        legs.append(leg)
    assert refused(join(world, ALICE, tokens(world)[0])[1], "E_LIMIT")
    world.lose(legs[0])
    assert join(world, ALICE, tokens(world)[0])[1] == []
    world = World(replace(ServerSettings(), relays=1))
    join(world, ALICE, tokens(world)[0])
    assert refused(join(world, ALICE, tokens(world)[0])[1], "E_LIMIT")


# -- time --------------------------------------------------------------------------------------------------------


def test_a_silent_control_connection_is_dead_after_75_seconds(world: World) -> None:
    silent, lively = world.register(BOB, "bob"), world.register(ALICE, "alice")
    watching = world.open(BOB)
    world.say(watching, Observe(version=1, tag=1))
    for _ in range(4):
        world.tick(25)
        world.say(lively, Ping())
    assert Abort(silent) in world.effects
    assert TouchName("bob", BOB) in world.effects
    assert Abort(lively) not in world.effects
    assert Abort(watching) not in world.effects
    world.tick(80)
    assert Abort(watching) in world.effects
    assert Abort(lively) in world.effects


def test_observations_without_a_control_connection_do_not_stay(world: World) -> None:
    lonely = world.open(BOB)
    world.say(lonely, OBSERVE)
    world.tick(80)
    assert Abort(lonely) in world.effects


def test_observations_live_as_long_as_their_control_connection(world: World) -> None:
    watching = world.open(BOB)
    world.say(watching, OBSERVE)
    control = world.register(BOB)
    for _ in range(20):
        world.tick(25)
        world.say(control, Ping())
    assert Abort(watching) not in world.effects


def test_f36_a_server_that_was_stopped_does_not_blame_its_clients(world: World) -> None:
    conn = world.register(BOB)
    world.tick(20)
    world.now += 600
    world.note(world.registry.tick(world.now))
    assert Abort(conn) not in world.effects
    world.tick(80)
    assert Abort(conn) in world.effects


# -- what came of punches ----------------------------------------------------------------------------------------

CHANGES = NatSummary(ports="random", low=1024, high=65_535)


def behind_a_cone(world: World, key: bytes, name: str | None = None, remote: str = HOME_A) -> int:
    """A registered client that is seen from one port everywhere."""
    conn = world.register(key, name, remote)
    world.say(world.open(key, remote, SECOND), Observe(version=1, tag=parse_endpoint(remote).port))
    return conn


def punched(world: World, number: int, way: str = "walk", result: str = "1s") -> None:
    """A cone and a NAT that draws at random met, both new, and both say what came of it."""
    keys = [bytes([side]) * 16 + number.to_bytes(16, "big") for side in (8, 9)]
    alice = behind_a_cone(world, keys[0], None, f"198.18.{number % 200 + 10}.1:20001")
    bob = behind_a_symmetric_nat(world, keys[1], f"bob-{number}", f"198.19.{number % 200 + 10}.1:20002")
    world.say(bob, Report(nat=CHANGES))
    session = world.introduce(alice, f"bob-{number}").session
    for conn in (alice, bob):
        assert world.say(conn, Outcome(session=session, way=way, result=result)) == []


def rows(world: World) -> list[tuple[str, ...]]:
    """What is known, without counts."""
    return [(row.one, row.other, row.way, row.result) for row in world.registry.experience.rows(world.now)]


def total(world: World) -> float:
    """How many words of one way were counted."""
    return sum(row.count for row in world.registry.experience.rows(world.now) if row.way == "walk")


def test_what_came_of_punches_orders_the_ways_of_later_introductions(world: World) -> None:
    for number in range(15):
        punched(world, number)
    assert rows(world) == [("cone", "random", "single", "lost"), ("cone", "random", "walk", "1s")]
    assert total(world) == pytest.approx(30, abs=0.01)
    alice, bob = behind_a_cone(world, ALICE), behind_a_symmetric_nat(world)
    world.say(bob, Report(nat=CHANGES))
    before = len(world.effects)
    told = world.introduce(alice, "bob")
    assert told.order == ["walk", "single"]
    assert [one.order for one in world.told(bob, before) if isinstance(one, Introduction)] == [told.order]
    # Of other kinds nothing is known, and where nobody dials nothing is said.
    behind_a_cone(world, EVE, "eve", "198.18.3.1:20003")
    assert world.introduce(alice, "eve").order == []
    assert world.introduce(alice, "bob", path="relay").order == []


def test_the_word_of_a_side_counts_once_and_for_a_meeting_of_its_own(world: World) -> None:
    alice, bob = behind_a_cone(world, ALICE), behind_a_symmetric_nat(world)
    eve = behind_a_cone(world, EVE, "eve", "198.18.3.1:20003")
    world.say(bob, Report(nat=CHANGES))
    session = world.introduce(alice, "bob").session
    word = Outcome(session=session, way="walk", result="1s")
    for conn in (eve, alice, alice, bob, bob):
        assert world.say(conn, word) == []
    assert total(world) == 2
    world.say(alice, Outcome(session=b"\xff" * 32, way="walk", result="1s"))
    assert total(world) == 2
    session = world.introduce(alice, "bob").session
    world.tick(31)
    world.say(alice, Outcome(session=session, way="walk", result="1s"))
    assert total(world) == pytest.approx(2, abs=0.01)


def test_the_kinds_are_those_that_the_server_sees_and_unknown_words_do_not_count(world: World) -> None:
    alice, bob = behind_a_cone(world, ALICE), behind_a_cone(world, BOB, "bob", HOME_B)
    world.say(bob, Report(nat=CLAIMED))
    for way, result in (("walk", "1s"), ("fly", "1s"), ("single", "soon")):
        session = world.introduce(alice, "bob").session
        world.say(alice, Outcome(session=session, way=way, result=result))
        world.say(bob, Outcome(session=session, way=way, result=result))
    assert rows(world) == []
    session = world.introduce(alice, "bob").session
    world.say(bob, Outcome(session=session, way="single", result="1s"))
    assert rows(world) == [("cone", "cone", "single", "1s")]


def test_a_side_that_is_gone_does_not_take_the_word_from_the_other(world: World) -> None:
    alice, bob = behind_a_cone(world, ALICE), behind_a_symmetric_nat(world)
    session = world.introduce(alice, "bob").session
    world.say(bob, Report(nat=CHANGES, session=session))
    world.say(alice, Outcome(session=session, way="walk", result="1s"))
    world.lose(alice)
    world.say(bob, Outcome(session=session, way="walk", result="1s"))
    assert rows(world) == [("cone", "random", "single", "lost"), ("cone", "random", "walk", "1s")]
    assert total(world) == 2


def test_one_key_and_one_source_cannot_outweigh_the_others() -> None:
    world = World(replace(ServerSettings(), outcomes_per_key=4, outcomes_per_source=10))
    alice = behind_a_cone(world, ALICE)
    for number in range(8):
        key = bytes([7]) * 16 + number.to_bytes(16, "big")
        bob = behind_a_symmetric_nat(world, key, f"bob-{number}", f"198.18.2.1:{20100 + number}")
        world.say(bob, Report(nat=CHANGES))
        for _ in range(3):
            session = world.introduce(alice, f"bob-{number}").session
            for conn in (alice, bob):
                world.say(conn, Outcome(session=session, way="walk", result="1s"))
    # Four words of one key in an hour, and ten of all the keys behind one address.
    assert total(world) == pytest.approx(14, abs=0.01)
    world.now += 3600
    session = world.introduce(alice, "bob-0").session
    world.say(alice, Outcome(session=session, way="walk", result="1s"))
    assert total(world) == pytest.approx(15, abs=0.1)


# -- any sequence ------------------------------------------------------------------------------------------------

KEYS = st.sampled_from([ALICE, BOB, EVE])
REMOTES = st.sampled_from(
    [HOME_A, HOME_B, "127.0.0.1:20003", "192.168.1.4:20004", "[2a00::1]:20005", "203.0.113.1:20006", SERVER]
)
NAMES = st.sampled_from(["alice", "bob", "eve", "BAD", ""])
TAGS = st.sampled_from([0, 20001, 20002])
PATHS = st.sampled_from(["auto", "direct", "relay"])
LANS = st.lists(st.sampled_from(["10.0.0.1:20001", "8.8.8.8:20001", "nonsense", "127.0.0.1:20001"]), max_size=4)
TARGETS = st.sampled_from(["alice", "bob", "eve", "nobody", "??", str(PeerId(BOB)), str(PeerId(ALICE))])
STEPS = st.one_of(
    st.tuples(st.just("open"), KEYS, REMOTES),
    st.tuples(
        st.just("say"),
        st.integers(1, 12),
        st.one_of(
            st.builds(
                Register,
                version=st.sampled_from([1, 1, 1, 2]),
                tag=TAGS,
                name=st.none() | NAMES,
                lan=LANS,
                path=PATHS,
            ),
            st.builds(Observe, version=st.just(1), tag=TAGS),
            st.builds(Introduce, to=TARGETS, tag=TAGS, path=PATHS, wait_s=st.sampled_from([0, 0, 5, 60])),
            st.just(Ping()),
            st.just(DialBack(token=bytes(16))),
            st.builds(
                Outcome,
                session=st.integers(0, 30).map(lambda n: n.to_bytes(32, "big")),
                way=st.sampled_from(["single", "walk", "fly"]),
                result=st.sampled_from(["1s", "lost", "soon"]),
            ),
            st.builds(
                Report,
                nat=st.builds(NatSummary, mapping=st.sampled_from(["none", "unknown"]), ports=st.just("random")),
                session=st.none() | st.integers(0, 30).map(lambda n: n.to_bytes(32, "big")),
            ),
        ),
    ),
    st.tuples(st.just("join"), st.integers(1, 12), st.integers(0, 20)),
    st.tuples(st.just("lose"), st.integers(1, 12)),
    st.tuples(st.just("break"), st.integers(1, 12)),
    st.tuples(st.just("claim"), st.integers(1, 12), st.sampled_from(["new", "kept", "taken", "io"])),
    st.tuples(st.just("time"), st.sampled_from([0.5, 5.0, 31.0, 80.0])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_no_sequence_raises_and_the_laws_hold(steps: list[Any]) -> None:
    world = World(replace(ServerSettings(), relays_per_key=2, controls_per_key=3))
    opened = 0
    over: set[int] = set()
    paired: list[int] = []
    sides: dict[bytes, set[int]] = {}
    remotes: set[tuple[int, str]] = set()
    for step in steps:
        before = len(world.effects)
        match step:
            case ("open", key, remote):
                opened = world.open(key, remote)
                remotes.add((opened, remote))
            case ("say", conn, message):
                world.say(conn, message)
            case ("join", conn, number):
                made = [
                    effect.message.relay_token
                    for effect in world.effects
                    if isinstance(effect, Send) and isinstance(effect.message, Introduction)
                ]
                token = made[number % len(made)] if made else bytes(32)
                world.say(conn, JoinRelay(version=1, token=token or bytes(32)))
            case ("lose", conn):
                world.lose(conn)
                if conn <= opened:
                    over.add(conn)
            case ("break", conn):
                world.note(world.registry.broken(conn, FrameError("x"), world.now))
            case ("claim", conn, claim):
                world.note(world.registry.name_claimed(conn, claim, world.now))
            case ("time", seconds):
                world.tick(seconds)
        for effect in world.effects[before:]:
            match effect:
                case Send(conn, told):
                    assert conn not in over  # nothing is sent to a connection that ended
                    if isinstance(told, Introduction):
                        sides.setdefault(told.session, set()).add(conn)
                    if isinstance(told, PeerNat):  # only to one side, from the other one, and not what that one claims
                        assert {conn, step[1]} == sides[told.session]
                        assert told.nat is None or told.nat.mapping != "none"
                case Close(conn) | Abort(conn):
                    assert conn not in over
                    over.add(conn)
                case DialOut(conn, target, _, _, unopened):
                    assert (conn, str(target)) in remotes
                    assert unopened.host == target.host
                case PairRelay(one, other):
                    paired += [one, other]
    assert len(paired) == len(set(paired))
    for conn in range(1, 200):
        world.lose(conn)
    counts = world.registry.counts
    assert (counts["connections"], counts["names"], counts["relays"], counts["waiting"]) == (0, 0, 0, 0)
    world.tick(31)
    assert (world.registry.counts["tickets"], world.registry.counts["meetings"]) == (0, 0)


# -- limits ------------------------------------------------------------------------------------------------------


def test_a_bucket_allows_its_burst_and_its_rate() -> None:
    bucket = Bucket(rate=2, burst=3, now=0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(0.5)
    assert not bucket.take(0.5)
    assert not bucket.take(0.4)  # a clock that goes back gives nothing
    bucket.give_back(0.5)
    assert bucket.take(0.5)


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 100)), max_size=200))
def test_many_buckets_need_bounded_memory(events: list[tuple[int, float]]) -> None:
    buckets = Buckets(rate=1, burst=2, max_keys=8)
    now = 0.0
    for key, step in events:
        now += step
        buckets.take(key, now)
        assert len(buckets) <= 8


def test_full_buckets_are_forgotten() -> None:
    buckets = Buckets(rate=1, burst=2)
    for key in range(1000):
        assert buckets.take(key, key * 10.0)
    assert len(buckets) <= 2
    endpoint = Endpoint(ip_address("10.0.0.1"), 1)
    assert buckets.take(endpoint, 1e6)
