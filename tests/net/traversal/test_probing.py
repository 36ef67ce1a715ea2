"""Discovery beside a registration, on a clock of the test, with a NAT and a server that the test plays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from msgspec import structs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from p2pxfer.core.addresses import PUNCH_PORTS, Endpoint, may_observe, parse_endpoint
from p2pxfer.core.messages import (
    ALPN_SERVER,
    SERVER,
    Introduction,
    NatSummary,
    Observed,
    PeerNat,
    Registered,
    Report,
)
from p2pxfer.core.traversal.discovery import ORDER
from p2pxfer.net.connection.serverlink import ServerLink
from p2pxfer.net.connection.servertrust import ServerTrust
from p2pxfer.net.connection.streams import SecureBootstrap
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.private.identity import new_identity
from p2pxfer.net.server.admission import AdmissionSettings
from p2pxfer.net.traversal import portprobes, probing
from p2pxfer.net.traversal.flight import FLIGHT_S, SETTLE_S, Flight, probe_ports
from p2pxfer.net.traversal.freshports import fresh_ports
from p2pxfer.net.traversal.listening import reuse_binding
from p2pxfer.net.traversal.portprobes import FRESH_S, RETRY_S, TWICE
from p2pxfer.net.traversal.probing import OBSERVE_S, NatDiscovery
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.traversal.serverdial import ServerAddress
from tests.moments import for_now
from tests.net.reactors import reactor, until
from tests.net.serverkit import site
from tests.net.traversal.natworld import AT, HOME, OTHERS, OWN, TAG, Net

DIALLED = parse_endpoint("198.18.0.10:8877")


def counting(start: int) -> Callable[[int, str], int]:
    """One port after the other, the same again for the same two endpoints."""
    given: dict[tuple[int, str], int] = {}
    return lambda local, at: given.setdefault((local, at), start + len(given) + 1)


class Twice:
    """Stands for a check whether the next connection gets another port; the test says what came of it."""

    def __init__(self, reactor: Any, target: Endpoint, ports: Sequence[int]) -> None:
        self.target, self.ports = target, ports
        self.started = self.stopped = False
        self.found: list[bool | None] = [None] * len(ports)
        """What had come in when it is stopped."""
        self.done: Deferred[list[bool | None]] = Deferred()

    def start(self) -> None:
        self.started = True

    def stop(self) -> None:
        self.stopped = True
        self.done.callback(self.found)


@pytest.fixture(autouse=True)
def twice(monkeypatch: pytest.MonkeyPatch) -> list[Twice]:
    """All that were made."""
    made: list[Twice] = []

    def make(*arguments: Any) -> Twice:
        made.append(Twice(*arguments))
        return made[-1]

    monkeypatch.setattr(portprobes, "SamePairCheck", make)
    return made


def met(session: bytes = b"s" * 32, **known: Any) -> Introduction:
    return Introduction(session=session, initiator=False, peer_id=bytes(32), my_nat=NatSummary(**known))


def test_a_cone_is_never_probed_and_reports_nothing() -> None:
    net = Net(lambda local, at: local)
    net.register(TAG)
    assert for_now(net.discovery.under_way)
    net.wait(1)
    assert not net.discovery.under_way
    assert net.discovery.summary == NatSummary(mapping="endpoint-independent", ports="preserving")
    net.discovery.introduced(met(mapping="endpoint-independent", ports="preserving"))
    assert (net.probes, net.sent) == ([], [])


def test_a_sequential_nat_is_probed_once_and_reported() -> None:
    net = Net(counting(40_000))
    net.register(40_000)
    net.wait(2)
    ports = [wire.local for wire in net.probes]
    assert ports == [ports[0] + number for number in ORDER]
    assert {wire.at for wire in net.probes} == {str(AT)}
    assert all(wire.aborted for wire in net.probes)
    assert not any(wire.aborted for wire in net.wires if wire.local == TAG)
    expected = NatSummary(mapping="port-dependent", ports="sequential", step=1, latest=40_011)
    assert net.sent == [Report(expected)]
    assert not net.discovery.under_way


def test_a_meeting_gets_a_fresh_port_of_a_sequential_nat() -> None:
    net = Net(counting(40_000))
    net.register(40_000)
    net.wait(2)
    net.choose = counting(40_500)
    known = net.discovery.summary
    net.discovery.introduced(met(mapping=known.mapping, ports="sequential", step=1, latest=known.latest))
    assert len(net.probes) == 9
    net.wait(0.5)
    assert net.sent[-1] == Report(
        NatSummary(mapping="port-dependent", ports="sequential", step=1, latest=40_501), b"s" * 32
    )


def test_a_sequential_nat_may_be_looked_at_again_in_a_meeting() -> None:
    """With one connection more, of which the peer hears; where it is not answered nothing was seen."""
    net = Net(counting(40_000))
    net.register(40_000)
    net.wait(2)
    net.discovery.introduced(met())
    net.wait(2)
    net.choose = counting(40_700)
    probes = len(net.probes)
    looked = Deferred.fromCoroutine(net.discovery.look_again())
    net.wait(0.5)
    assert (looked.result, len(net.probes)) == (True, probes + 1)
    assert net.sent[-1] == Report(
        NatSummary(mapping="port-dependent", ports="sequential", step=1, latest=40_701), b"s" * 32
    )
    reports = len(net.sent)
    net.silent.add(str(AT))
    unseen = Deferred.fromCoroutine(net.discovery.look_again())
    net.wait(10)
    assert (unseen.result, len(net.sent)) == (False, reports)


def test_a_counter_that_stands_where_it_was_is_news_too() -> None:
    """The peer may have been late, or this side: it plans again only with a number that is fresh."""
    net = Net(counting(40_000))
    net.register(40_000)
    net.wait(2)
    net.discovery.introduced(met())
    net.wait(2)
    known = net.discovery.summary
    assert known.ports == "sequential"
    net.choose = lambda local, at: known.latest
    reports = len(net.sent)
    looked = Deferred.fromCoroutine(net.discovery.look_again())
    net.wait(0.5)
    assert looked.result
    assert net.sent[reports:] == [Report(known, b"s" * 32)]
    net.discovery.end()
    looked = Deferred.fromCoroutine(net.discovery.look_again())
    assert looked.result is False


def test_a_port_for_every_connection_is_told_apart_without_keeping_anybody_waiting(twice: list[Twice]) -> None:
    """What a punch needs is known, and told, before anything is dialled twice."""
    net = Net(counting(40_000))
    net.register(40_000)
    net.wait(2)
    known = NatSummary(mapping="port-dependent", ports="sequential", step=1, latest=40_011)
    assert (net.sent, net.discovery.summary, net.discovery.under_way) == ([Report(known)], known, False)
    settled, thorough = (Deferred.fromCoroutine(net.discovery.settled(thoroughly=each)) for each in (False, True))
    (check,) = twice
    assert (settled.called, thorough.called) == (True, False)
    assert (check.target, len(check.ports), check.started) == (AT, TWICE, True)
    check.done.callback([True] * TWICE)
    found = structs.replace(known, mapping="connection-dependent")
    assert thorough.called
    assert (net.sent, net.discovery.summary) == ([Report(known), Report(found)], found)
    net.discovery.end()
    net.register(40_020)
    net.wait(2)
    assert len(twice) == 1
    assert net.discovery.mapping == "connection-dependent"
    net.wait(FRESH_S)
    net.register(40_040)
    net.wait(2)
    assert len(twice) == 2


@pytest.mark.parametrize("answers", [[False] * 3, [None] * 3])
def test_a_port_that_is_kept_or_not_known_is_no_news(twice: list[Twice], answers: list[bool | None]) -> None:
    net = Net(counting(40_000))
    net.register(40_000)
    net.wait(2)
    twice[0].done.callback(answers)
    assert len(net.sent) == 1
    assert net.discovery.mapping == "port-dependent"


def test_nothing_is_dialled_twice_while_somebody_meets_this_machine(twice: list[Twice]) -> None:
    net = Net(counting(40_000))
    net.register(40_000)
    net.discovery.introduced(met())
    net.wait(3)
    assert net.discovery.summary.ports == "sequential"
    assert not twice


def test_nothing_is_dialled_twice_before_a_cone(twice: list[Twice]) -> None:
    net = Net(lambda local, at: local)
    net.register(TAG)
    net.wait(3)
    assert not twice


def test_a_meeting_does_not_wait_for_what_is_dialled_twice(twice: list[Twice]) -> None:
    """Its port is probed at once, and it hears of the mapping with it."""
    net = Net(counting(40_000))
    net.register(40_000)
    net.wait(2)
    thorough = Deferred.fromCoroutine(net.discovery.settled(thoroughly=True))
    net.discovery.introduced(met(mapping="port-dependent"))
    assert (twice[0].stopped, thorough.called) == (True, True)
    assert len(net.probes) == 8 + 1
    net.wait(1)
    told = [message.nat for message in net.sent if isinstance(message, Report) and message.session]
    assert told == [NatSummary(mapping="port-dependent", ports="sequential", step=1, latest=40_012)]


def test_what_was_cut_short_shows_nothing(twice: list[Twice]) -> None:
    """The registration ends while the row flies, and another time while something is dialled twice."""
    net = Net(counting(40_000))
    net.register(40_000)
    while not net.probes:
        net.wait(0.05)
    net.discovery.end()
    assert (net.discovery.allocation, twice) == (None, [])
    net.register(40_020)
    net.wait(2)
    twice[0].found = [True] * TWICE
    net.discovery.end()
    assert twice[0].stopped
    assert net.discovery.allocation is not None
    assert net.discovery.allocation.renewed is None
    net.wait(10)
    assert not net.clock.getDelayedCalls()


def test_a_meeting_that_began_before_anything_was_known_hears_of_it() -> None:
    """Also a cone's: its mapping was unknown when the two were introduced."""
    for choose, ports in ((counting(40_000), "sequential"), (lambda local, at: local, "preserving")):
        net = Net(choose)
        net.register(40_000 if ports == "sequential" else TAG)
        net.discovery.introduced(met())
        net.wait(2)
        (report,) = net.sent
        assert isinstance(report, Report) and report.nat is not None
        assert (report.session, report.nat.ports) == (b"s" * 32, ports)
        assert report.nat.mapping != "unknown"


def test_old_meetings_and_those_without_dialling_hear_nothing() -> None:
    net = Net(counting(40_000))
    net.discovery.introduced(met())
    net.register(40_000)
    relayed = Introduction(session=b"r" * 32, initiator=True, peer_id=bytes(32), dial=False)
    net.discovery.introduced(relayed)
    net.wait(2)
    assert [report.session for report in net.sent if isinstance(report, Report)] == [None]


def test_what_was_found_lasts_over_registrations_for_a_while() -> None:
    net = Net(counting(40_000))
    net.register(40_000)
    net.wait(2)
    net.discovery.end()
    assert net.discovery.summary == NatSummary()
    net.register(40_020)
    net.wait(2)
    assert len(net.probes) == 8
    assert len(net.sent) == 2
    net.wait(FRESH_S)
    net.register(40_040)
    net.wait(2)
    assert len(net.probes) == 16


def test_probes_that_showed_nothing_are_repeated_soon() -> None:
    net = Net(counting(40_000))
    net.silent = {str(AT)}
    net.register(40_000)
    net.wait(FLIGHT_S + 1)
    net.silent = set()
    net.register(40_020)
    net.wait(2)
    assert len(net.probes) == 8
    net.wait(RETRY_S)
    net.register(40_040)
    net.wait(2)
    assert len(net.probes) == 16
    assert net.discovery.summary.ports == "sequential"


def test_nothing_waits_for_ever() -> None:
    net = Net(counting(40_000))
    net.silent = {OTHERS[0], str(AT)}
    net.register(40_000)
    waiting = Deferred.fromCoroutine(net.discovery.settled())
    net.wait(0.5)
    assert len(net.probes) == 8
    net.wait(FLIGHT_S)
    assert net.discovery.allocation is not None
    assert net.discovery.summary == NatSummary(mapping="port-dependent", ports="changed")
    assert not for_now(waiting.called)
    net.wait(OBSERVE_S)
    assert waiting.called
    assert not net.clock.getDelayedCalls()


def test_endpoints_that_refuse_leave_the_mapping_unknown() -> None:
    net = Net(counting(40_000))
    net.refused = set(OTHERS)
    net.register(40_000)
    assert not net.discovery.under_way
    assert (net.discovery.mapping, net.discovery.endpoints_asked) == ("unknown", 3)
    assert not net.clock.getDelayedCalls()


def test_probes_that_answer_late_do_not_count() -> None:
    """Connections 4 to 11 are the probes: two are late, the others suffice."""
    net = Net(counting(40_000))
    net.late = {5: 0.1 + SETTLE_S + 0.3, 9: 0.1 + SETTLE_S + 0.3}
    net.register(40_000)
    net.wait(3)
    found = net.discovery.allocation
    assert found is not None
    assert (found.ports, found.step) == ("sequential", 1)
    assert all(wire.aborted for wire in net.probes)


def test_the_end_of_a_registration_ends_its_probes() -> None:
    net = Net(counting(40_000))
    net.register(40_000)
    net.wait(0.15)
    assert net.probes
    net.discovery.end()
    assert all(wire.aborted for wire in net.wires)
    assert not net.discovery.under_way
    net.wait(10)
    assert net.sent == []
    assert not net.clock.getDelayedCalls()


def test_without_dialling_nothing_is_probed() -> None:
    net = Net(counting(40_000), may_probe=False)
    net.register(40_000)
    net.wait(2)
    assert net.probes == []


def test_a_nat_that_adds_a_constant_for_each_destination() -> None:
    shifts = {at: 1_000 * number for number, at in enumerate([str(AT), *OTHERS], 1)}
    net = Net(lambda local, at: local + shifts[at])
    net.register(TAG + 1_000)
    net.wait(2)
    assert net.discovery.summary == NatSummary(mapping="port-dependent", ports="offset")
    assert all(wire.local in range(20000, 32768) for wire in net.probes)


def test_the_ports_of_a_probe_are_a_row_in_its_order() -> None:
    for _ in range(500):
        ports = probe_ports()
        assert [port - ports[0] for port in ports] == list(ORDER)
        assert set(PUNCH_PORTS).issuperset(ports)


@pytest.mark.parametrize("count", [1, 8])
def test_fresh_ports_are_contiguous_and_allowed(count: int) -> None:
    allowed = set(PUNCH_PORTS)
    for _ in range(2_000):
        ports = fresh_ports(count)
        assert len(ports) == count
        assert allowed.issuperset(ports)


@pytest_twisted.ensureDeferred
async def test_flights_on_real_sockets(tmp_path: Path) -> None:
    """From the real ports, in order, and gone afterwards; the server's own limits let three of one source pass."""
    async with site(tmp_path, limits=AdmissionSettings()) as here:
        identity = new_identity()
        client = await here.registered(identity=identity)

        def opener(link: ServerLink, host: str, port: int, local: int) -> Deferred[Any]:
            creator = PeerTLS(identity, here.identity.id.digest, ALPN_SERVER)
            bootstrap = SecureBootstrap(reactor, link, creator, is_client=True)
            endpoint = TCP4ClientEndpoint(reactor, host, port, bindAddress=reuse_binding(local))
            return endpoint.connect(Factory.forProtocol(lambda: bootstrap))

        target = parse_endpoint(f"127.0.0.1:{here.ports[0]}")
        first = fresh_ports(24)[0]
        flown = [range(first + 8 * number, first + 8 * number + 8) for number in range(3)]
        flights = [Flight(reactor, opener, target, ports) for ports in flown]
        for flight in flights:
            flight.start()
        for flight, ports in zip(flights, flown, strict=True):
            probes = await flight.done
            assert [(probe.port, probe.seen.port) for probe in probes] == [(port, port) for port in ports]
        assert here.server.admission.evicted == 0
        await until(lambda: here.counts["connections"] == 1)
        client.abort()


class Ear:
    """Somebody who meets a peer."""

    def __init__(self) -> None:
        self.heard: list[PeerNat] = []

    def peer_nat(self, news: PeerNat) -> None:
        self.heard.append(news)

    def peer_returned(self) -> None:
        raise AssertionError("it was never away")

    def peer_mapped(self, mapped: list[str]) -> None:
        raise AssertionError("no router gave it a port")


@pytest_twisted.ensureDeferred
async def test_news_reach_whoever_meets_the_peer(tmp_path: Path) -> None:
    """Alice asks at once, before the server's other port has seen her: Bob hears of her mapping afterwards."""
    async with site(tmp_path) as here:
        ear = Ear()
        introductions: list[Introduction] = []

        def introduced(introduction: Introduction) -> None:
            introductions.append(introduction)
            bob.informed[introduction.session] = ear

        def client(name: str | None, on_introduction: Callable[[Introduction], None]) -> RendezvousClient:
            trust = ServerTrust("127.0.0.1", here.identity.id)
            return RendezvousClient(
                reactor,
                new_identity(), ServerAddress("127.0.0.1", here.ports[0], trust), name=name, policy="auto",
                on_registered=lambda answer: None, on_introduction=on_introduction, on_note=lambda text: None,
            )  # fmt: skip

        bob, alice = client("bob", introduced), client(None, introduced)
        await bob.start()
        await Deferred.fromCoroutine(bob.discovery.settled())
        await alice.start()
        await alice.introduce("bob", "auto")
        await until(lambda: ear.heard)
        assert introductions[0].peer_nat.mapping == "unknown"
        assert [news.nat for news in ear.heard] == [NatSummary(mapping="none", ports="preserving")]
        alice.stop()
        bob.stop()
        await until(lambda: here.counts["connections"] == 0)


@pytest.mark.parametrize(
    ("observer", "at", "allowed"),
    [
        ("198.51.100.7:8878", "198.51.100.7:8877", True),
        ("198.51.100.7:443", "198.51.100.7:8877", True),
        ("8.8.4.4:8877", "8.8.8.8:8877", True),
        ("8.8.4.4:22", "8.8.8.8:8877", False),
        ("192.168.1.1:8080", "8.8.8.8:8877", False),
        ("127.0.0.1:8877", "8.8.8.8:8877", False),
        ("169.254.169.254:8877", "8.8.8.8:8877", False),
        ("10.0.0.2:8878", "10.0.0.1:8877", True),
        ("127.0.0.1:8878", "10.0.0.1:8877", False),
        ("8.8.4.4:443", "8.8.8.8:443", True),
        ("[2a00::1]:443", "8.8.8.8:443", True),
        ("192.168.1.1:443", "8.8.8.8:443", False),
    ],
)
def test_a_server_cannot_send_its_clients_into_their_own_networks(observer: str, at: str, allowed: bool) -> None:
    assert may_observe(parse_endpoint(observer), parse_endpoint(at)) == allowed


@pytest.mark.parametrize("source", ["2a00::9", None])
def test_the_peer_of_a_meeting_is_told_that_the_server_saw_the_other_family_too(
    monkeypatch: pytest.MonkeyPatch, source: str | None
) -> None:
    """Once, and only of meetings that began before that or just after."""
    monkeypatch.setattr(probing, "source_towards", lambda target: source)
    net = Net(lambda local, at: local)
    net.discovery.begin(AT, TAG, Registered(id=bytes(32), observed=f"{HOME}:{TAG}", observers=["[2a00::1]:8877"]), OWN)
    assert net.discovery.source6 == source
    net.discovery.introduced(met())
    assert (len(net.wires), net.sent) == (source is not None, [])
    if source is None:
        return
    assert net.wires[0].local == TAG
    seen = SERVER.encode(Observed(tag=TAG, observed=f"[{source}]:{TAG}"))
    monkeypatch.setattr(net, "answer", lambda wire: wire.link.dataReceived(seen))
    net.wait(1)
    assert net.sent == [Report(None, b"s" * 32)]
    net.discovery.introduced(met(b"t" * 32))
    assert net.sent[1:] == [Report(None, b"t" * 32)]
    net.wait(probing.SETTLED_S)
    net.discovery.introduced(met(b"u" * 32))
    assert len(net.sent) == 2
    assert net.discovery.mapping == "unknown"  # of IPv4, of which there is one view


@pytest.mark.parametrize("observers", [[*OTHERS, "[2a00::1]:8877"], ["[2a00::1]:8877"]])
def test_nobody_waits_for_ipv6_that_does_not_work(monkeypatch: pytest.MonkeyPatch, observers: list[str]) -> None:
    """The mapping is that of IPv4; many a network has a way out for IPv6 that leads nowhere."""
    monkeypatch.setattr(probing, "source_towards", lambda target: "2a00::9")
    net = Net(lambda local, at: local)
    net.silent.add("2a00::1:8877")
    net.discovery.begin(AT, TAG, Registered(id=bytes(32), observed=f"{HOME}:{TAG}", observers=observers), OWN)
    net.discovery.introduced(met())
    net.wait(0.5)
    assert len(net.wires) == len(observers)
    assert not net.discovery.under_way
    known = [report.nat.mapping for report in net.sent if isinstance(report, Report) and report.nat]
    assert known == (["endpoint-independent"] if len(observers) > 1 else [])
    net.discovery.end()


def test_an_observation_that_is_still_being_made_ends_with_the_registration() -> None:
    """Nobody else would close it once it stands."""
    cancelled: list[Deferred[Any]] = []
    clock: Any = Clock()

    def never(link: object, host: str, port: int, local: int | None) -> Deferred[Any]:
        return Deferred(cancelled.append)

    discovery = NatDiscovery(clock, never, lambda message: None, may_probe=True)
    at = parse_endpoint("8.8.8.8:8877")
    answer = Registered(id=bytes(32), observed="8.8.4.4:30000", observers=["8.8.8.8:8878", "192.168.1.1:8878"])
    discovery.begin(at, 30000, answer, frozenset())
    assert discovery.endpoints_asked == 1
    discovery.end()
    assert len(cancelled) == 1
    assert clock.getDelayedCalls() == []


def test_nothing_may_be_dialled_once_the_connection_to_the_server_is_lost() -> None:
    net = Net(lambda local, at: local)
    net.register(40_000)
    seen = net.discovery.views[0].seen
    assert net.discovery.checks.may_dial(seen)
    net.discovery.end()
    assert not net.discovery.checks.may_dial(seen)
