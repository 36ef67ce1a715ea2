"""How a NAT chooses ports, what it does with crossing SYNs and with many of them, and what the lab counts."""

from __future__ import annotations

import errno
import itertools
import socket
import time

import pytest

from tests.lab import probe
from tests.lab.conftest import LabFactory
from tests.lab.namespaces import LabError
from tests.lab.nat import BLOCKS, KINDS, RST_BURST, RST_RATE
from tests.lab.probe import Answer
from tests.lab.syns import Syns
from tests.lab.topology import Lab

PUNCH = 23456
UNUSED = 700  # below every range from which a NAT takes ports


def outside_ports(lab: Lab, count: int, *, spread: bool = False) -> list[int]:
    """The outside ports of connections from `count` inside ports, to one endpoint or to all in turn."""
    server = probe.Server(lab)
    targets = itertools.cycle(server.endpoints if spread else server.endpoints[:1])
    return [server.observe("alice", PUNCH + number, next(targets)).seen[1] for number in range(count)]


# Ports


@pytest.mark.parametrize(("name", "step"), [("sequential", 1), ("sequential-2", 2), ("sequential-2/rst", 2)])
def test_sequential_ports_go_up_by_the_step(name: str, step: int, lab_factory: LabFactory) -> None:
    """One counter serves all inside ports and all destinations."""
    ports = outside_ports(lab_factory(KINDS[name], rtt_ms=0), 12, spread=True)
    assert {after - before for before, after in itertools.pairwise(ports)} == {step}


@pytest.mark.parametrize("size", BLOCKS)
def test_ports_of_a_block_lie_in_it_and_have_no_order(size: int, lab_factory: LabFactory) -> None:
    """Forty connections of one host: all from the block, in use once, from everywhere in it."""
    kind = KINDS[f"block-{size}"]
    assert kind is not None
    low, high = kind.ports
    assert high - low + 1 == size
    assert low % size == 0
    ports = outside_ports(lab_factory(kind, rtt_ms=0), 40)
    assert all(low <= port <= high for port in ports)
    assert len(set(ports)) == 40
    assert max(ports) - min(ports) > size / 2
    steps = [after - before for before, after in itertools.pairwise(ports)]
    assert len(set(steps)) > 10
    assert min(steps) < 0 < max(steps)


def test_symmetric_ports_come_from_the_whole_range(lab_factory: LabFactory) -> None:
    """Two hundred draws leave no quarter of the ports from 1024 on without one."""
    ports = outside_ports(lab_factory(KINDS["symmetric"], rtt_ms=0), 200)
    assert min(ports) >= 1024
    assert {(port - 1024) * 4 // 64512 for port in ports} == {0, 1, 2, 3}


def test_a_block_that_is_used_up_admits_nobody(lab_factory: LabFactory) -> None:
    """Toward one endpoint there are no more connections at a time than ports in the block."""
    lab = lab_factory(KINDS["block-64"], rtt_ms=0)
    probe.Server(lab)
    remote = (lab.server_addresses[0], probe.SERVER_PORTS[0])
    answers = probe.settle([probe.dial(lab, "alice", remote, PUNCH + number) for number in range(100)])
    assert 48 <= answers.count(Answer.CONNECTED) <= 64
    assert set(answers) == {Answer.CONNECTED, Answer.SILENT}


# Crossing SYNs


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("port-restricted", True),
        ("port-restricted/no-simo", False),
        ("port-restricted/no-simo/rst", False),
        ("port-restricted/random-port", True),
        ("port-restricted/random-port/no-simo", False),
        ("symmetric", True),
        ("symmetric/no-simo", False),
    ],
)
def test_a_bare_syn_from_the_dialled_endpoint(name: str, passes: bool, lab_factory: LabFactory) -> None:
    """The server does not answer the SYN that opened the flow and sends one of its own along it."""
    lab = lab_factory(KINDS[name], rtt_ms=0)
    address = lab.server_addresses[0]
    # Nobody listens on the server's port 7000; nor does it say so.
    lab.block("srv", "tcp sport 7000 tcp flags & rst == rst")
    tap = lab.socket("srv", socket.SOCK_RAW, socket.IPPROTO_TCP)
    probe.dial(lab, "alice", (address, 7000), PUNCH)
    # A symmetric NAT takes another port for every flow, so only this packet tells the flow's own.
    packet = probe.receive(tap)
    assert packet is not None
    public = (lab.public_addr("nat_a"), int.from_bytes(packet[20:22], "big"))
    back = probe.dial(lab, "srv", public, 7000, address)
    assert probe.settle([back]) == [Answer.CONNECTED if passes else Answer.SILENT]


@pytest.mark.parametrize(
    ("name_a", "name_b", "opens"),
    [
        ("port-restricted/no-simo", "port-restricted", True),
        ("port-restricted/no-simo", "port-restricted/random-port", True),
        ("port-restricted/random-port/no-simo", "address-restricted", True),
        ("port-restricted/no-simo", "port-restricted/no-simo", False),
        ("port-restricted/random-port/no-simo", "port-restricted/no-simo/rst", False),
    ],
)
def test_crossing_syns_need_one_side_that_supports_them(
    name_a: str, name_b: str, opens: bool, lab_factory: LabFactory
) -> None:
    """Both dial at one moment with 40 ms between them, so each SYN finds the other's flow open."""
    lab = lab_factory(KINDS[name_a], KINDS[name_b], rtt_ms=40)
    server = probe.Server(lab)
    seen = {r: server.observe(r, PUNCH, server.endpoints[0]).seen for r in ("alice", "bob")}
    attempts = [probe.dial(lab, "alice", seen["bob"], PUNCH), probe.dial(lab, "bob", seen["alice"], PUNCH)]
    assert probe.settle(attempts, 1.5) == [Answer.CONNECTED if opens else Answer.SILENT] * 2


@pytest.mark.parametrize("answer", ["icmp", "rst"])
def test_a_syn_that_comes_between_two_dials_spoils_the_four_tuple_after_icmp(
    answer: str, lab_factory: LabFactory
) -> None:
    """After an ICMP error the NAT still waits for the answer to the first SYN, and takes the peer's SYN for that.

    That one settles in the listener, whose answer has another sequence number and is dropped, and it holds the
    four-tuple: no second dial is possible. After a RST the NAT has closed the flow and drops the peer's SYN; the next
    ones cross and connect.
    """
    lab = lab_factory(KINDS["port-restricted"], KINDS[f"port-restricted/{answer}"], rtt_ms=40)
    server = probe.Server(lab)
    seen = {r: server.observe(r, PUNCH, server.endpoints[0]).seen for r in ("alice", "bob")}
    listener = probe.listen(lab, "alice", PUNCH)
    refused = probe.dial(lab, "alice", seen["bob"], PUNCH)
    assert probe.settle([refused]) == [Answer.REFUSED]
    refused.sock.close()
    waiting = probe.dial(lab, "bob", seen["alice"], PUNCH)
    assert probe.settle([waiting], 0.5) == [Answer.SILENT]
    if answer == "icmp":
        with pytest.raises(OSError, match="connect to") as error:
            probe.dial(lab, "alice", seen["bob"], PUNCH)
        assert error.value.errno == errno.EADDRNOTAVAIL
        assert not probe.has_guest(listener)
    else:
        again = probe.dial(lab, "alice", seen["bob"], PUNCH)
        assert probe.settle([again, waiting], 5.0) == [Answer.CONNECTED] * 2


# Many SYNs


def test_rst_are_limited_to_a_rate_after_a_burst(lab_factory: LabFactory) -> None:
    """Of many SYNs at once fifty are refused, then twenty-five a second; all others hear nothing."""
    lab = lab_factory(KINDS["port-restricted/rst-limited"], rtt_ms=0)
    remote = (lab.public_addr("nat_a"), UNUSED)
    begin = time.monotonic()
    counts = [refused(lab, remote, 100) for _ in range(4)]
    allowed = RST_RATE * (time.monotonic() - begin)
    assert counts[0] >= RST_BURST
    assert all(count < 50 for count in counts[1:])
    # SYNs come in four bursts: what the limit grants in the pauses between them adds up to a burst.
    assert RST_BURST + allowed / 3 <= sum(counts) <= RST_BURST + allowed + 1


def test_rst_without_a_limit(lab_factory: LabFactory) -> None:
    """The control: the other kind refuses them all."""
    lab = lab_factory(KINDS["port-restricted/rst"], rtt_ms=0)
    assert refused(lab, (lab.public_addr("nat_a"), UNUSED), 100) == 100


def refused(lab: Lab, remote: probe.Endpoint, count: int) -> int:
    """How many of so many SYNs at once are refused."""
    attempts = [probe.dial(lab, "srv", remote) for _ in range(count)]
    answers = probe.settle(attempts)
    for attempt in attempts:
        attempt.sock.close()
    assert set(answers) <= {Answer.REFUSED, Answer.SILENT}
    return answers.count(Answer.REFUSED)


# What the lab counts and what it adds


def test_syns_are_counted_at_their_host(lab_factory: LabFactory) -> None:
    """Those to the server apart from others; a SYN-ACK, or what comes from outside, is none."""
    lab, other = lab_factory(KINDS["full-cone"], None, rtt_ms=0), lab_factory(None, None, rtt_ms=0)
    server = probe.Server(lab)
    public = [server.observe("alice", PUNCH + number, server.endpoints[number]).seen for number in range(3)]
    probe.listen(lab, "alice", PUNCH)
    assert probe.settle([probe.dial(lab, "srv", public[0])]) == [Answer.CONNECTED]
    assert probe.settle([probe.dial(lab, "bob", public[0])]) == [Answer.CONNECTED]
    lab.reboot_nat("nat_a")
    assert lab.syns_sent("alice") == Syns(server=3, elsewhere=0)
    assert lab.syns_sent("bob") == Syns(server=0, elsewhere=1)
    # Silence makes the kernel send the SYN again after a second.
    silent = probe.dial(lab, "alice", ("198.18.99.1", 7000))
    assert probe.settle([silent], 1.5) == [Answer.SILENT]
    assert lab.syns_sent("alice") == Syns(server=3, elsewhere=2)
    assert lab.syns_sent("alice").total == 5
    assert other.syns_sent("alice") == Syns(0, 0)


def test_cross_traffic_moves_the_next_port_of_its_own_nat_only(lab_factory: LabFactory) -> None:
    """Fifty connections a second of a neighbour take fifty ports; the other lab's NAT does not notice."""
    labs = [lab_factory(KINDS["sequential"], rtt_ms=0) for _ in range(2)]
    servers = [probe.Server(lab) for lab in labs]
    with labs[0].cross_traffic("alice", 50):
        before = [s.observe("alice", PUNCH, s.endpoints[0]).seen[1] for s in servers]
        begin = time.monotonic()
        time.sleep(1.0)
        after = [s.observe("alice", PUNCH, s.endpoints[1]).seen[1] for s in servers]
        passed = time.monotonic() - begin
    assert 30 < after[0] - before[0] < 50 * passed + 10
    assert after[1] - before[1] == 1
    assert labs[0].syns_sent("alice") == Syns(server=2, elsewhere=0)
    quiet = servers[0].observe("alice", PUNCH, servers[0].endpoints[2]).seen[1]
    assert servers[0].observe("alice", PUNCH, servers[0].endpoints[3]).seen[1] == quiet + 1


def test_cross_traffic_ends_by_itself(lab_factory: LabFactory) -> None:
    """So many connections, then none, though the context is still open."""
    lab = lab_factory(KINDS["sequential"], rtt_ms=0)
    server = probe.Server(lab)
    first = server.observe("alice", PUNCH, server.endpoints[0]).seen[1]
    with lab.cross_traffic("alice", 100, seconds=0.2):
        time.sleep(1.0)
        assert server.observe("alice", PUNCH, server.endpoints[1]).seen[1] == first + 20 + 1


def test_cross_traffic_needs_a_nat_and_a_limit(lab_factory: LabFactory) -> None:
    """Where nothing chooses ports, traffic would prove nothing."""
    lab = lab_factory(None, KINDS["sequential"], rtt_ms=0)
    for side, rate in (("alice", 5), ("bob", 0), ("bob", 5000)):
        with pytest.raises(LabError, match="no cross traffic"), lab.cross_traffic(side, rate):
            pass
