"""Ports that a router gives: Debian's `miniupnpd` on NATs that nobody can punch, with the relay forbidden.

Both NATs draw a new port at random for every connection, unless a test says otherwise; between two of those nothing but
such a port makes a direct path.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from p2pxfer.core.traversal import pcp
from p2pxfer.core.traversal.portcontrol import GIVE_UP_S
from scripts.product import JsonEvent
from tests.lab import probe
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.portmapper import ORDINARY, PortMapper, Speaks
from tests.lab.probe import Answer
from tests.lab.topology import Lab
from tests.scene import Scene, events_of, file_hash, first_path, last, random_file

PUNCH = 23456
NEVER_MANY = "--gentle"
"""With it no plan of many SYNs can find what only the port should."""
SOAK = 20
EVERY: tuple[Speaks, ...] = ("all", "pcp", "upnp")


def symmetric(lab_factory: LabFactory, other: str = "symmetric", **more: object) -> Lab:
    """Bob behind a NAT that draws ports at random, alice behind another kind."""
    return lab_factory(KINDS[other], KINDS["symmetric"], rtt_ms=40, public_net=ORDINARY, **more)


def send_directly(scene: Scene, *, mine: tuple[str, ...] = (), theirs: tuple[str, ...] = ()) -> list[JsonEvent]:
    """Move a file with the relay and plans forbidden; the words are further options. Returns what bob said."""
    scene.start_server()
    scene.make_contacts()
    source = scene.folder / "small.bin"
    digest = random_file(source, 1 << 16)
    bob = scene.receive("--once", "--no-code", "--path", "direct", NEVER_MANY, *theirs)
    alice = scene.send(source, "--path", "direct", NEVER_MANY, *mine)
    alice.succeed(30)
    bob.succeed(30)
    assert file_hash(scene.inbox / source.name) == digest
    said = events_of(alice)
    assert set(last(said, "done")["bytes_by_path"]) == {"mapped"}
    return events_of(bob)


# -- that it is the port, and nothing else -----------------------------------------------------------------------------


def test_a_stranger_gets_in_at_the_port_and_only_while_it_is_given(lab_factory: LabFactory, tmp_path: Path) -> None:
    """The router itself, asked by hand: what the other tests show is due to it."""
    lab = lab_factory(KINDS["symmetric"], KINDS["symmetric"], rtt_ms=0, public_net=ORDINARY)
    PortMapper(lab, "nat_b", tmp_path)
    listener = probe.listen(lab, "bob", PUNCH)
    outside = (lab.public_addr("nat_b"), PUNCH)
    asking = lab.socket("bob", socket.SOCK_DGRAM)
    asking.settimeout(10)
    asking.connect((lab.addr("bob").rpartition(".")[0] + ".1", pcp.SERVER_PORT))
    assert probe.settle([probe.dial(lab, "alice", outside)]) == [Answer.SILENT]
    for lifetime, answer in ((120, Answer.CONNECTED), (0, Answer.SILENT)):
        asking.send(pcp.pmp_map(PUNCH, PUNCH if lifetime else 0, lifetime))
        assert isinstance(pcp.decode(asking.recv(pcp.MAX_DATAGRAM)), pcp.PmpMapped)
        assert probe.settle([probe.dial(lab, "alice", outside, 6000 + lifetime)]) == [answer]
    probe.accept(listener)


@pytest.mark.deadline(120)
def test_without_the_port_there_is_no_path(lab_factory: LabFactory, tmp_path: Path) -> None:
    """The same pair, the same router, and the users do not want it to be asked: nothing is, and nothing connects."""
    lab = symmetric(lab_factory)
    router = PortMapper(lab, "nat_b", tmp_path)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        random_file(tmp_path / "small.bin", 1 << 16)
        scene.receive("--no-code", "--path", "direct", "--no-port-mapping")
        alice = scene.send(tmp_path / "small.bin", "--path", "direct", "--no-port-mapping")
        assert alice.wait(50).status == 7
    assert "request" not in router.heard().lower()


# -- pairs -------------------------------------------------------------------------------------------------------------


@pytest.mark.deadline(60)
@pytest.mark.parametrize("speaks", EVERY)
def test_a_peer_behind_any_nat_dials_the_port(lab_factory: LabFactory, tmp_path: Path, speaks: Speaks) -> None:
    lab = symmetric(lab_factory)
    router = PortMapper(lab, "nat_b", tmp_path, speaks)
    with Scene(lab, tmp_path, loopback=False) as scene:
        path = first_path(send_directly(scene), "mapped")
        print(f"{speaks}: {path['after_ms']:.0f} ms")
    assert router.ports() == {}


@pytest.mark.deadline(60)
@pytest.mark.parametrize("other", ["port-restricted", "port-restricted/rst", "sequential", "none"])
def test_kinds_of_the_other_nat(lab_factory: LabFactory, tmp_path: Path, other: str) -> None:
    lab = symmetric(lab_factory, other)
    PortMapper(lab, "nat_b", tmp_path)
    with Scene(lab, tmp_path, loopback=False) as scene:
        if other == "none":
            # Alice is open to bob as well, so either way in may win.
            assert scene.copy_directly()
        else:
            assert first_path(send_directly(scene), "mapped")


@pytest.mark.deadline(60)
def test_both_have_a_port(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = symmetric(lab_factory)
    routers = [PortMapper(lab, role, tmp_path) for role in ("nat_a", "nat_b")]
    with Scene(lab, tmp_path, loopback=False) as scene:
        assert first_path(send_directly(scene), "mapped")
    assert [router.ports() for router in routers] == [{}, {}]


@pytest.mark.deadline(60)
@pytest.mark.parametrize("silent", [False, True])
def test_the_senders_port_which_may_come_late(lab_factory: LabFactory, tmp_path: Path, silent: bool) -> None:
    """Where the router drops PCP, UPnP gives the port when the two have met already: it is passed on then."""
    lab = symmetric(lab_factory)
    router = PortMapper(lab, "nat_a", tmp_path, "upnp")
    if silent:
        lab.nft("nat_a", drop_questions("udp dport 5351"))
    with Scene(lab, tmp_path, loopback=False) as scene:
        path = first_path(send_directly(scene), "mapped")
        assert path["remote"].startswith(lab.public_addr("nat_a") + ":")
    assert router.ports() == {}


@pytest.mark.soak
@pytest.mark.deadline(600)
@pytest.mark.parametrize("other", ["symmetric", "port-restricted"])
def test_the_port_is_a_way_in_every_time(lab_factory: LabFactory, tmp_path: Path, other: str) -> None:
    lab = lab_factory(KINDS[other], KINDS["symmetric"], rtt_ms=80, public_net=ORDINARY)
    PortMapper(lab, "nat_b", tmp_path)
    times = []
    for number in range(SOAK):
        folder = tmp_path / str(number)
        folder.mkdir()
        with Scene(lab, folder, loopback=False) as scene:
            times.append(first_path(send_directly(scene), "mapped")["after_ms"])
    print(f"{other}: {len(times)} of {SOAK}, milliseconds {sorted(round(time) for time in times)}")


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.deadline(60)
@pytest.mark.parametrize("speaks", EVERY)
def test_one_port_while_it_runs_and_none_after_sigterm(lab_factory: LabFactory, tmp_path: Path, speaks: Speaks) -> None:
    lab = symmetric(lab_factory)
    router = PortMapper(lab, "nat_b", tmp_path, speaks)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        bob = scene.receive("--no-code")
        ((_, inside),) = router.wait_for_ports(1).items()
        assert inside[0] == lab.addr("bob")
        # Nobody listens there between punches.
        outside = (lab.public_addr("nat_b"), next(iter(router.ports())))
        assert probe.settle([probe.dial(lab, "alice", outside)], patience=5) == [Answer.REFUSED]
        os.kill(bob.pid, signal.SIGTERM)
        assert bob.wait(30).status == 130
        assert router.ports() == {}, router.heard()


@pytest.mark.deadline(60)
@pytest.mark.parametrize("speaks", ["pcp", "upnp"])
def test_a_sender_that_is_interrupted_gives_its_port_back(
    lab_factory: LabFactory, tmp_path: Path, speaks: Speaks
) -> None:
    lab = symmetric(lab_factory)
    router = PortMapper(lab, "nat_a", tmp_path, speaks)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        random_file(tmp_path / "small.bin", 1 << 16)
        alice = scene.send(tmp_path / "small.bin", "--wait")  # bob is not there
        router.wait_for_ports(1)
        os.kill(alice.pid, signal.SIGTERM)
        assert alice.wait(30).status == 130
        assert router.ports() == {}, router.heard()


@pytest.mark.deadline(60)
@pytest.mark.parametrize("speaks", ["pcp", "upnp"])
def test_a_router_that_forgot_is_asked_again_with_the_next_registration(
    lab_factory: LabFactory, tmp_path: Path, speaks: Speaks
) -> None:
    lab = symmetric(lab_factory)
    router = PortMapper(lab, "nat_b", tmp_path, speaks)
    with Scene(lab, tmp_path, loopback=False) as scene:
        server = scene.start_server()
        scene.receive("--no-code")
        before = router.wait_for_ports(1)
        router.restart()
        assert router.ports() == {}
        server.stop()
        scene.start_server()
        assert list(router.wait_for_ports(1, 30).values()) == list(before.values())


# -- routers that are of no use ----------------------------------------------------------------------------------------


def drop_questions(what: str) -> str:
    """Rules for a router that lets nothing of its LAN's questions through to itself."""
    return (
        "table inet lab_deaf {\nchain input {\ntype filter hook input priority -20\n"
        f'iifname "lan" {what} drop\n}}\n}}\n'
    )


@pytest.mark.deadline(120)
def test_a_router_that_drops_every_question_costs_nothing(lab_factory: LabFactory, tmp_path: Path) -> None:
    """The quickest of three whole runs, with the question and without: the difference is less than its time-out."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    for router in ("nat_a", "nat_b"):
        lab.nft(router, drop_questions("udp dport { 1900, 5351 }"))
    times: dict[str, list[float]] = {"--port-mapping": [], "--no-port-mapping": []}
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        random_file(tmp_path / "small.bin", 1 << 16)
        for _ in range(3):
            for word, taken in times.items():
                bob = scene.receive("--once", "--no-code", "--path", "direct", word)
                alice = scene.send(tmp_path / "small.bin", "--path", "direct", word)
                taken.append(alice.succeed(30).at - alice.started)
                bob.succeed(30)
                assert not [event for event in events_of(alice) if event["event"] in ("error", "note")]
    print(times)
    assert min(times["--port-mapping"]) - min(times["--no-port-mapping"]) < GIVE_UP_S / 2


class Liar(threading.Thread):
    """A router that says by PCP that its outside address is somebody else's."""

    def __init__(self, lab: Lab, router: str, victim: str) -> None:
        super().__init__(daemon=True)
        self.asked = 0
        self._victim = IPv4Address(victim)
        self._socket = lab.socket(router, socket.SOCK_DGRAM)
        self._socket.bind(("", pcp.SERVER_PORT))
        self._socket.settimeout(0.2)
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            with contextlib.suppress(TimeoutError):
                request, sender = self._socket.recvfrom(pcp.MAX_DATAGRAM)
                if request[0] == 2:
                    (lifetime,) = struct.unpack_from("!I", request, 4)
                    head = struct.pack("!BBBBII", 2, 0x81, 0, 0, lifetime, 1) + bytes(12)
                    body = request[24:42] + struct.pack("!H", 40000) + bytes(10) + b"\xff\xff" + self._victim.packed
                    self._socket.sendto(head + body, sender)
                    self.asked += 1


@contextlib.contextmanager
def lying(lab: Lab, router: str, victim: str) -> Iterator[Liar]:
    liar = Liar(lab, router, victim)
    liar.start()
    try:
        yield liar
    finally:
        liar.over.set()
        liar.join()


WATCH = """table inet lab_watch {{
counter reached {{ }}
chain out {{
type filter hook output priority 0
ip daddr {victim} counter name reached
}}
}}
"""


@pytest.mark.deadline(120)
def test_a_lying_router_sends_nobody_anywhere(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Bob's router names a stranger's address: nothing of alice goes there, and nobody is told that it would help."""
    lab = symmetric(lab_factory)
    victim = "198.18.99.99"
    lab.nft("alice", WATCH.format(victim=victim))
    with lying(lab, "nat_b", victim) as liar, Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        random_file(tmp_path / "small.bin", 1 << 16)
        scene.receive("--no-code", "--path", "direct")
        wait_for(lambda: liar.asked)
        assert scene.send(tmp_path / "small.bin", "--path", "direct").wait(50).status == 7
        counted = lab.run("alice", ["nft", "list", "counter", "inet", "lab_watch", "reached"], check=True).stdout
        assert "packets 0" in counted
        # That the counter counts, and what bob is told.
        probe.settle([probe.dial(lab, "alice", (victim, 40000))])
        counted = lab.run("alice", ["nft", "list", "counter", "inet", "lab_watch", "reached"], check=True).stdout
        assert "packets 0" not in counted
        nat = netcheck(scene, "bob", scene.bob)
    assert (nat["router"], nat["mapped"]) == (["pcp"], [])
    assert "another NAT" in nat["why"]["mapped"]


def wait_for(condition: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


# -- netcheck ----------------------------------------------------------------------------------------------------------


def netcheck(scene: Scene, role: str, home: Path) -> JsonEvent:
    """What one run says."""
    program = scene.program(role, home, "netcheck")
    program.succeed(30)
    return last(events_of(program), "nat")


@pytest.mark.deadline(60)
@pytest.mark.parametrize(
    ("speaks", "spoken"), [("all", ["pcp", "nat-pmp", "upnp"]), ("pcp", ["pcp", "nat-pmp"]), ("upnp", ["upnp"])]
)
def test_netcheck_says_what_the_router_speaks(
    lab_factory: LabFactory, tmp_path: Path, speaks: Speaks, spoken: list[str]
) -> None:
    lab = symmetric(lab_factory)
    router = PortMapper(lab, "nat_b", tmp_path, speaks)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        nat = netcheck(scene, "bob", scene.bob)
    assert nat["router"] == spoken
    (mapped,) = nat["mapped"]
    assert mapped.startswith(lab.public_addr("nat_b") + ":")
    assert "mapped" not in nat["why"]
    assert router.ports() == {}


@pytest.mark.deadline(60)
def test_a_router_behind_a_carriers_nat_is_of_no_use(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = symmetric(lab_factory, carrier_b=KINDS["port-restricted"])
    router = PortMapper(lab, "nat_b", tmp_path)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        nat = netcheck(scene, "bob", scene.bob)
    assert "upnp" in nat["router"]
    assert nat["mapped"] == []
    print(nat["why"]["mapped"])
    assert router.ports() == {}


@pytest.mark.deadline(60)
def test_netcheck_without_such_a_router(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = symmetric(lab_factory)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        nat = netcheck(scene, "bob", scene.bob)
    assert (nat["router"], nat["mapped"]) == ([], [])
    assert nat["why"]["mapped"] == "the router did not answer"
