"""Every kind of NAT does what its name says, seen from outside by plain sockets."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab import probe
from tests.lab.nat import KINDS, NatKind, ruleset
from tests.lab.probe import Answer
from tests.lab.topology import Lab

LabFactory = Callable[..., Lab]

PUNCH = 23456
OTHER = 24567
UNUSED = 700  # below every range from which a NAT takes ports

NATS = [kind for kind in KINDS.values() if kind is not None]
each_nat = pytest.mark.parametrize("kind", NATS, ids=lambda kind: kind.name)
each_name = pytest.mark.parametrize("name", KINDS)


def refusal(kind: NatKind | None) -> Answer:
    """The answer to a SYN that belongs to nothing; without NAT the host's kernel resets it."""
    return Answer.SILENT if kind and kind.unsolicited == "drop" else Answer.REFUSED


@each_nat
def test_mapping(kind: NatKind, lab_factory: LabFactory) -> None:
    """One inside port, four server endpoints: the outside ports follow the kind's mapping."""
    lab = lab_factory(kind, rtt_ms=0)
    server = probe.Server(lab)
    held = [server.observe("alice", PUNCH, endpoint) for endpoint in server.endpoints]
    assert {c.seen[0] for c in held} == {lab.public_addr("nat_a")}
    ports = [c.seen[1] for c in held]
    assert kind.preserving or all(kind.ports[0] <= port <= kind.ports[1] for port in ports)
    if kind.mapping == "symmetric":
        # Four draws, from 64 ports at the least: two equal ones happen, four equal ones do not.
        assert len(set(ports)) >= 2
        assert PUNCH not in ports
    elif kind.mapping == "sequential":
        assert ports == [ports[0] + kind.step * number for number in range(4)]
    elif kind.preserving:
        assert set(ports) == {PUNCH}
    else:
        assert len(set(ports)) == 1


@each_nat
def test_mapping_outlives_its_connections(kind: NatKind, lab_factory: LabFactory) -> None:
    """A new connection after all others were reset is mapped by the same rule."""
    lab = lab_factory(kind, rtt_ms=0)
    server = probe.Server(lab)
    seen = set()
    # More often than twice, since a small block gives the same port again now and then.
    for endpoint in server.endpoints:
        connection = server.observe("alice", PUNCH, endpoint)
        connection.close()
        seen.add(connection.seen)
    assert (len(seen) == 1) == (kind.mapping == "endpoint-independent")


def test_random_ports_differ_between_inside_ports(lab_factory: LabFactory) -> None:
    """The outside ports of a non-preserving NAT have no order that could be guessed."""
    lab = lab_factory(KINDS["port-restricted/random-port"], rtt_ms=0)
    server = probe.Server(lab)
    # 5000 lies in the range from which the router draws; it must not be kept for that.
    inside = [5000, *range(PUNCH, PUNCH + 7)]
    ports = [server.observe("alice", p, server.endpoints[0]).seen[1] for p in inside]
    assert len(set(ports)) == len(inside)
    assert len({after - before for before, after in itertools.pairwise(ports)}) > 3
    assert ports[0] != 5000


@each_name
def test_filtering(name: str, lab_factory: LabFactory) -> None:
    """Who may enter through an open port, and what all others hear."""
    kind = KINDS[name]
    lab = lab_factory(kind, rtt_ms=0)
    server = probe.Server(lab)
    same, other = lab.server_addresses
    listener = probe.listen(lab, "alice", PUNCH)
    closed = probe.listen(lab, "alice", OTHER)
    tap = probe.icmp_tap(lab, "srv")
    public = server.observe("alice", PUNCH, (same, 5000)).seen
    attempts = [
        probe.dial(lab, "srv", public, 6000, same),
        probe.dial(lab, "srv", public, 5000, other),
        probe.dial(lab, "srv", (public[0], OTHER), 6001, same),
        probe.dial(lab, "srv", (public[0], UNUSED), 6002, same),
    ]
    answers = probe.settle(attempts)
    filtering = kind.filtering if kind else "full-cone"
    no = refusal(kind)
    assert answers[0] is (no if filtering == "port-restricted" else Answer.CONNECTED)
    assert answers[1] is (Answer.CONNECTED if filtering == "full-cone" else no)
    # A port on which the host listens, but from which it never sent anything.
    assert answers[2] is (no if kind else Answer.CONNECTED)
    assert answers[3] is no
    admitted = answers[:2].count(Answer.CONNECTED)
    assert {probe.accept(listener)[1][0] for _ in range(admitted)} <= {same, other}
    assert not probe.has_guest(listener)
    if kind is None:
        probe.accept(closed)
    assert not probe.has_guest(closed)
    assert probe.icmp_seen(tap) == ({(3, 3)} if kind and kind.unsolicited == "icmp" else set())


@each_nat
def test_listening_host_is_out_of_reach(kind: NatKind, lab_factory: LabFactory) -> None:
    """Neither the private nor the public address of a listening host can be dialled."""
    lab = lab_factory(kind, kind, rtt_ms=0)
    listeners = [probe.listen(lab, role, PUNCH) for role in ("alice", "bob")]
    attempts = [
        probe.dial(lab, "alice", (lab.addr("bob"), PUNCH), OTHER),
        probe.dial(lab, "alice", (lab.public_addr("nat_b"), PUNCH), OTHER),
        probe.dial(lab, "alice", (lab.public_addr("nat_a"), PUNCH), OTHER),
        probe.dial(lab, "srv", (lab.addr("bob"), PUNCH)),
    ]
    answers = probe.settle(attempts)
    assert answers == [Answer.SILENT, refusal(kind), refusal(kind), Answer.SILENT]
    assert not any(probe.has_guest(listener) for listener in listeners)


def test_no_hairpin_through_an_open_port(lab_factory: LabFactory) -> None:
    """The inside host cannot reach itself by its own public endpoint, even if others can."""
    lab = lab_factory(KINDS["full-cone"], rtt_ms=0)
    server = probe.Server(lab)
    probe.listen(lab, "alice", PUNCH)
    public = server.observe("alice", PUNCH, server.endpoints[0]).seen
    assert probe.settle([probe.dial(lab, "srv", public)]) == [Answer.CONNECTED]
    assert probe.settle([probe.dial(lab, "alice", public)]) == [Answer.SILENT]


def test_without_nat_the_hosts_reach_each_other(lab_factory: LabFactory) -> None:
    """The control: the network itself hinders nothing."""
    lab = lab_factory(None, None, rtt_ms=0)
    listener = probe.listen(lab, "bob", PUNCH)
    attempt = probe.dial(lab, "alice", (lab.public_addr("nat_b"), PUNCH))
    assert probe.settle([attempt]) == [Answer.CONNECTED]
    assert probe.accept(listener)[1][0] == lab.public_addr("nat_a") == lab.addr("alice")


@pytest.mark.parametrize(
    ("name_a", "name_b", "opens"),
    [
        ("port-restricted", "port-restricted", True),
        ("port-restricted/random-port", "address-restricted/random-port", True),
        ("full-cone/random-port", "symmetric", True),
        ("symmetric", "port-restricted", False),
        ("symmetric", "symmetric", False),
    ],
)
def test_crossing_syns(name_a: str, name_b: str, opens: bool, lab_factory: LabFactory) -> None:
    """Two hosts that dial each other's observed endpoint meet, unless a mapping is symmetric.

    A full cone with a listener is entered whatever the other side is.
    """
    lab = lab_factory(KINDS[name_a], KINDS[name_b], rtt_ms=0)
    server = probe.Server(lab)
    listener = probe.listen(lab, "alice", PUNCH)
    seen = {r: server.observe(r, PUNCH, server.endpoints[0]).seen for r in ("alice", "bob")}
    attempts = [
        probe.dial(lab, "alice", seen["bob"], PUNCH),
        probe.dial(lab, "bob", seen["alice"], PUNCH),
    ]
    # The first SYN may come too early; the kernel sends the next one after a second.
    answers = probe.settle(attempts, 1.5)
    assert (Answer.CONNECTED in answers or probe.has_guest(listener)) == opens


@pytest.mark.parametrize("name", ["full-cone", "full-cone/random-port", "address-restricted/rst", "port-restricted"])
def test_flush_kills_flows_and_permissions(name: str, lab_factory: LabFactory) -> None:
    """After a flush neither end of a flow hears the other, and open ports are closed."""
    kind = KINDS[name]
    lab = lab_factory(kind, rtt_ms=0)
    server = probe.Server(lab)
    probe.listen(lab, "alice", PUNCH)
    flow = server.observe("alice", PUNCH, server.endpoints[0])
    flow.client.send(b"before")
    assert probe.receive(flow.server, 5.0) == b"before"
    lab.flush_nat("nat_a")
    flow.client.send(b"after")
    entry = probe.dial(lab, "srv", flow.seen, 6000, lab.server_addresses[0])
    assert probe.settle([entry]) == [refusal(kind)]
    assert probe.receive(flow.server, 0) is None
    flow.server.send(b"after")
    assert probe.receive(flow.client) is None


def test_reboot_keeps_or_changes_the_address(lab_factory: LabFactory) -> None:
    """A router forgets flows when it restarts; what others see is the address it has then."""
    lab = lab_factory(KINDS["full-cone"], rtt_ms=0)
    server = probe.Server(lab)
    old = lab.public_addr("nat_a")
    flow = server.observe("alice", PUNCH, server.endpoints[0])
    lab.reboot_nat("nat_a")
    flow.client.send(b"lost")
    assert probe.receive(flow.server) is None
    assert server.observe("alice", OTHER, server.endpoints[0]).seen == (old, OTHER)
    lab.reboot_nat("nat_a", new_address=True)
    new = lab.public_addr("nat_a")
    assert new != old
    assert server.observe("alice", OTHER + 1, server.endpoints[0]).seen == (new, OTHER + 1)
    probe.listen(lab, "alice", OTHER + 1)
    entries = [probe.dial(lab, "srv", (address, OTHER + 1)) for address in (old, new)]
    assert probe.settle(entries) == [Answer.SILENT, Answer.CONNECTED]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mapping": "symmetric"}, "does not preserve"),
        ({"mapping": "sequential"}, "does not preserve"),
        ({"step": 2}, "no step"),
        ({"preserving": False, "mapping": "symmetric", "step": 2}, "no step"),
        ({"preserving": False, "mapping": "sequential", "block": 64}, "no block"),
    ],
)
def test_contradictory_kind_is_refused(fields: dict[str, Any], reason: str) -> None:
    """No NAT both draws a port for each connection and preserves it, nor counts in a random draw."""
    with pytest.raises(ValueError, match=reason):
        NatKind(**fields)


def test_names_are_unique_and_rules_differ() -> None:
    """Every named kind has rules of its own."""
    assert len(KINDS) == 53
    texts = {ruleset(kind, "wan", "lan", "198.18.1.1") for kind in NATS}
    assert len(texts) == len(NATS)
    assert all(KINDS[kind.name] is kind for kind in NATS)
