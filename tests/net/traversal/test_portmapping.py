"""Getting a port from a router and giving it back, on a clock of the test, with a router that the test plays."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock

from p2pxfer.core.addresses import Endpoint, parse_endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.messages import Announce, Introduction
from p2pxfer.core.traversal import igd
from p2pxfer.core.traversal.discovery import MEETING_S
from p2pxfer.core.traversal.igd import BadAnswer
from p2pxfer.core.traversal.portcontrol import GIVE_UP_S, LIFETIME_S, Granted, PortControl, Protocol
from p2pxfer.net.traversal import upnpport
from p2pxfer.net.traversal.announcing import Announcer
from p2pxfer.net.traversal.gateway import Datagrams
from p2pxfer.net.traversal.igd import SEARCH_S
from p2pxfer.net.traversal.portmapping import FAREWELL_S, PortMapping, usable
from p2pxfer.net.traversal.probing import SETTLED_S
from p2pxfer.net.traversal.upnpport import UPNP_AGAIN_S, UPNP_WAITS_S
from tests.core.traversal.portanswers import PCP_UNKNOWN, pcp_answer, pmp_address_answer, pmp_answer
from tests.moments import for_now
from tests.net.reactors import time_only, until

GATEWAY = IPv4Address("192.168.1.1")
HOME = ip_address("198.18.1.1")


class Socket:
    """A UDP socket of the program: what it sends goes to the router."""

    def __init__(self, world: World, protocol: Any) -> None:
        self.world, self.protocol = world, protocol
        self.open = True

    def connect(self, host: str, port: int) -> None:
        assert (host, port) == (str(GATEWAY), 5351)
        if self.world.unreachable:
            raise OSError(13, "Permission denied")

    def setOutgoingInterface(self, address: str) -> Deferred[int]:
        assert address == self.world.own
        return succeed(1)

    def setTTL(self, ttl: int) -> None:
        assert ttl <= 4

    def write(self, datagram: bytes, where: tuple[str, int] | None = None) -> None:
        assert self.open
        if where is None:
            self.world.asked.append(datagram)
            self.world.clock.callLater(0.01, self.arrive, self.world.answer(datagram))
        else:
            self.world.searches.append((datagram, where))

    def arrive(self, answer: bytes | None) -> None:
        if answer is not None and self.open:
            self.protocol.datagramReceived(answer, (str(GATEWAY), 5351))

    def stopListening(self) -> None:
        self.open = False


class Listening(Clock):
    """A clock that opens sockets as the test says."""

    def __init__(self, listen: Callable[..., None]) -> None:
        super().__init__()
        self.listenUDP = self.listenMulticast = listen


class World:
    """The reactor, the router, and everything that was asked of it."""

    def __init__(self) -> None:
        self.clock = Listening(self.listen)
        self.own = "192.168.1.10"
        self.asked: list[bytes] = []
        self.searches: list[tuple[bytes, tuple[str, int]]] = []
        self.sockets: list[Socket] = []
        self.speaks: set[str] = set()
        self.deaf = self.unreachable = False
        self.source: str | None = None
        self.changes = 0
        self.mapping = PortMapping(time_only(self.clock), self.changed, lambda: GATEWAY, self.towards)

    def listen(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> None:
        if self.deaf:
            raise CannotListenError(interface, port, OSError())
        assert (port, interface) == (0, self.own)
        protocol.transport = Socket(self, protocol)
        self.sockets.append(protocol.transport)
        protocol.startProtocol()

    def answer(self, datagram: bytes) -> bytes | None:
        if datagram[0] == 2 and "pcp" in self.speaks:
            (lifetime,) = struct.unpack_from("!I", datagram, 4)
            nonce, internal = datagram[24:36], struct.unpack_from("!H", datagram, 40)[0]
            return pcp_answer(lifetime=lifetime, nonce=nonce, internal=internal)
        if datagram[0] == 2:
            return PCP_UNKNOWN if "nat-pmp" in self.speaks else None
        if "nat-pmp" not in self.speaks:
            return None
        if len(datagram) == 2:
            return pmp_address_answer()
        internal, _, lifetime = struct.unpack_from("!HHI", datagram, 4)
        return pmp_answer(internal=internal, lifetime=lifetime)

    def towards(self, router: Endpoint) -> str | None:
        assert router == Endpoint(GATEWAY, 5351)
        return self.source

    def changed(self) -> None:
        self.changes += 1

    def begin(self) -> None:
        self.mapping.begin(self.own)

    def advance(self, seconds: float) -> None:
        """In small steps: what is due later is found due then."""
        for _ in range(round(seconds / 0.01)):
            self.clock.advance(0.01)

    def deletes(self) -> list[bytes]:
        """The datagrams with a lifetime of 0."""
        return [
            one for one in self.asked if len(one) > 2 and struct.unpack_from("!I", one, 4 if one[0] == 2 else 8)[0] == 0
        ]

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.mapping.close())


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    closing = made.close()
    made.advance(FAREWELL_S + 0.1)
    assert closing.called
    assert not any(socket.open for socket in made.sockets)
    assert not made.clock.getDelayedCalls()
    assert made.mapping.port == 0


@pytest.mark.parametrize(("speaks", "port"), [("pcp", 40000), ("nat-pmp", 40001)])
def test_a_port_is_given_kept_and_given_back(world: World, speaks: Protocol, port: int) -> None:
    world.speaks = {speaks}
    world.begin()
    assert 20000 <= world.mapping.port < 32768
    world.advance(0.1)
    assert world.mapping.granted == Granted(speaks, Endpoint(IPv4Address("198.18.1.1"), port))
    assert world.mapping.speaks == (speaks,)
    assert world.changes
    asked = len(world.asked)
    world.clock.advance(LIFETIME_S / 2)
    assert len(world.asked) > asked
    closing = world.close()
    assert not for_now(closing.called)
    world.advance(0.02)
    assert closing.called
    assert world.deletes()
    assert world.mapping.granted is None


def test_a_router_that_is_silent_costs_nothing_at_the_end(world: World) -> None:
    world.begin()
    world.advance(SEARCH_S + GIVE_UP_S)
    assert not world.mapping.under_way
    assert world.mapping.granted is None
    assert world.mapping.refusal == "the router did not answer"
    assert world.close().called


def test_what_is_asked_when_the_end_comes_is_taken_back(world: World) -> None:
    world.begin()
    closing = world.close()
    assert closing.called
    assert world.deletes()


def test_a_router_that_went_away_is_not_waited_for_long(world: World) -> None:
    world.speaks = {"pcp"}
    world.begin()
    world.advance(0.1)
    world.speaks = set()
    closing = world.close()
    world.advance(FAREWELL_S - 0.1)
    assert not closing.called
    world.advance(0.2)
    assert closing.called


@pytest.mark.parametrize("own", ["198.18.1.1", "127.0.0.1", "fd00::1", "nonsense"])
def test_a_machine_without_a_private_address_asks_nobody(world: World, own: str) -> None:
    world.mapping.begin(own)
    world.advance(0.1)
    assert (world.asked, world.searches, world.mapping.port) == ([], [], 0)
    assert world.mapping.refusal == "this machine has no private address"


@pytest.mark.parametrize("gateway", [None, IPv4Address("198.18.0.10"), IPv4Address("169.254.169.254")])
def test_nobody_but_a_private_gateway_is_asked(gateway: IPv4Address | None) -> None:
    world = World()
    world.mapping = PortMapping(time_only(world.clock), world.changed, lambda: gateway)
    world.begin()
    world.advance(0.1)
    assert (world.asked, world.searches) == ([], [])
    assert world.mapping.refusal == "no router is known"
    assert world.close().called


def test_without_sockets_nothing_is_asked(world: World) -> None:
    world.deaf = True
    world.begin()
    world.advance(0.1)
    assert not world.mapping.under_way
    assert world.mapping.granted is None


def test_a_way_to_the_router_that_is_forbidden_breaks_nothing(world: World) -> None:
    world.unreachable = True
    world.begin()
    world.advance(0.1)
    assert not any(one.open for one in world.sockets)
    assert not world.mapping.under_way
    world.unreachable, world.speaks = False, {"pcp"}
    world.begin()
    world.advance(0.1)
    assert world.mapping.granted is not None


@pytest_twisted.ensureDeferred
async def test_a_socket_without_a_way_to_the_router_is_closed() -> None:
    core = PortControl(IPv4Address("192.168.1.10"), 23456, bytes(12))
    datagrams = Datagrams(_reactor, core, IPv4Address("255.255.255.255"), lambda: None)  # type: ignore[arg-type]  # Twisted's
    _reactor.listenUDP(0, datagrams, "127.0.0.1")  # type: ignore[attr-defined]  # Twisted's
    assert "Permission denied" in datagrams.why_not
    await until(lambda: datagrams.transport is None)


def test_a_server_that_is_reached_by_ipv6_does_not_hide_the_router(world: World) -> None:
    world.speaks, world.source = {"pcp"}, world.own
    world.mapping.begin("fd00::1")
    world.advance(0.1)
    assert world.mapping.granted is not None
    assert world.asked[0][20:24] == IPv4Address(world.own).packed


def test_an_address_towards_the_router_that_is_not_private_is_not_used(world: World) -> None:
    world.source = "198.18.1.1"
    world.mapping.begin("fd00::1")
    assert (world.asked, world.searches) == ([], [])
    assert world.mapping.refusal == "this machine has no private address"


def test_every_registration_makes_sure_and_another_address_begins_anew(world: World) -> None:
    world.speaks = {"pcp"}
    world.begin()
    world.advance(0.1)
    asked, port = len(world.asked), world.mapping.port
    world.begin()
    assert len(world.asked) == asked + 1
    assert len([one for one in world.sockets if one.open]) == 2  # the search is one
    world.advance(3)
    world.own = "192.168.1.11"
    world.begin()
    world.advance(0.1)
    assert world.mapping.port == port
    assert (
        world.asked[-2][20:24] == IPv4Address(world.own).packed
        or world.asked[-1][20:24] == IPv4Address(world.own).packed
    )
    assert world.mapping.granted is not None


# -- UPnP --------------------------------------------------------------------------------------------------------------


class Router:
    """What the program knows of a UPnP router."""

    def __init__(self) -> None:
        self.host = IPv4Address("198.18.1.1")
        self.errors: list[int] = []
        self.added: list[tuple[int, int, int]] = []
        self.deleted: list[int] = []
        self.broken = False
        self.stuck = False
        self.gone = False
        self.slow_delete: Deferred[None] | None = None
        self.found = 0

    async def find(self, reactor: Any, own: IPv4Address, gateway: IPv4Address) -> Router | None:
        self.found += 1
        return None if self.gone else self

    async def external(self) -> IPv4Address:
        if self.stuck:
            stuck: Deferred[None] = Deferred()
            try:
                await stuck
            except CancelledError:
                # As an HTTP request that is cancelled ends.
                raise BadAnswer("no HTTP") from None
        if self.broken:
            raise BadAnswer("no outside address")
        return self.host

    async def add(self, internal: int, external: int, lifetime: int) -> int:
        self.added.append((internal, external, lifetime))
        return self.errors.pop(0) if self.errors else 0

    async def delete(self, external: int) -> None:
        self.deleted.append(external)
        if self.slow_delete is not None:
            await self.slow_delete


@pytest.fixture
def upnp(monkeypatch: pytest.MonkeyPatch) -> Router:
    router = Router()
    monkeypatch.setattr(upnpport, "Igd", router)
    return router


def test_upnp_waits_for_the_others_and_then_gives_the_port(world: World, upnp: Router) -> None:
    world.begin()
    world.advance(UPNP_WAITS_S - 0.05)
    assert upnp.added == []
    world.advance(0.1)
    port = world.mapping.port
    assert upnp.added == [(port, port, LIFETIME_S)]
    assert world.mapping.granted == Granted("upnp", Endpoint(upnp.host, port))
    assert world.mapping.speaks == ("upnp",)
    world.advance(3)
    world.clock.advance(LIFETIME_S / 2)
    assert len(upnp.added) == 2
    world.begin()
    assert len(upnp.added) == 3
    assert world.close().called
    assert upnp.deleted == [port]


def test_a_upnp_router_that_lost_its_memory_is_found_again(world: World, upnp: Router) -> None:
    """It may have another control address since it was restarted, so it is looked for."""
    world.begin()
    world.advance(1)
    upnp.broken = True
    world.begin()
    world.advance(1)
    assert world.mapping.granted is None
    upnp.broken = False
    world.advance(60)
    world.begin()
    world.advance(1)
    assert world.mapping.granted is not None


@pytest.mark.parametrize("code", [501, igd.CONFLICT])
def test_a_port_whose_renewal_is_refused_is_given_back(world: World, upnp: Router, code: int) -> None:
    """It stands until its lifetime is over, or for good."""
    world.clock.advance(100)
    upnp.errors = [igd.PERMANENT_ONLY]
    world.begin()
    world.advance(1)
    upnp.errors = [code]
    world.begin()
    world.advance(1)
    assert world.mapping.granted is None
    world.advance(UPNP_AGAIN_S)
    upnp.errors = [501]
    world.begin()
    world.advance(1)
    assert len(upnp.added) == 4
    assert world.mapping.granted is None
    assert world.close().called
    assert upnp.deleted == [world_port(upnp)]


def world_port(upnp: Router) -> int:
    """The port outside that was asked for first."""
    return upnp.added[0][1]


def test_a_port_that_was_never_given_is_not_deleted(world: World, upnp: Router) -> None:
    upnp.errors = [606]
    world.begin()
    world.advance(1)
    assert world.close().called
    assert upnp.deleted == []


def test_a_router_that_is_not_found_again_is_asked_to_delete_all_the_same(world: World, upnp: Router) -> None:
    world.begin()
    world.advance(1)
    upnp.broken, upnp.gone = True, True
    world.clock.advance(LIFETIME_S / 2)
    world.advance(GIVE_UP_S)
    assert upnp.found == 2
    assert world.mapping.granted is None
    upnp.slow_delete = Deferred()
    closing = world.close()
    world.advance(FAREWELL_S / 2)
    assert not for_now(closing.called)
    upnp.slow_delete.callback(None)
    assert closing.called
    assert upnp.deleted == [world_port(upnp)]


@pytest.mark.parametrize("answer", ["done", "silence", "failure"])
def test_another_network_gives_the_port_of_the_old_one_back(world: World, upnp: Router, answer: str) -> None:
    world.begin()
    world.advance(1)
    slow: Deferred[None] = Deferred()
    upnp.slow_delete = slow
    world.own = "192.168.1.11"
    world.begin()
    assert upnp.deleted == [world_port(upnp)]
    upnp.slow_delete = None
    if answer == "done":
        slow.callback(None)
    elif answer == "failure":
        slow.errback(BadAnswer("no HTTP"))
    world.advance(FAREWELL_S + 0.1)
    assert slow.called
    assert world.mapping.granted is not None
    assert len(upnp.added) == 2
    # A delete names the outside port only: one that comes late must not hit the new one.
    assert upnp.added[0][1] != upnp.added[1][1]


@pytest.mark.parametrize("gone", [False, True])
def test_the_end_waits_for_what_another_network_gives_back(world: World, upnp: Router, gone: bool) -> None:
    world.begin()
    world.advance(1)
    upnp.gone = gone
    slow: Deferred[None] = Deferred()
    upnp.slow_delete = slow
    world.own = "192.168.1.11"
    world.begin()
    upnp.slow_delete = None
    closing = world.close()
    assert not closing.called
    world.advance(FAREWELL_S / 2)
    assert not closing.called
    slow.callback(None)
    assert closing.called


@pytest.mark.parametrize("end", ["close", "another network"])
def test_nothing_begins_anew_when_the_end_comes_in_the_middle_of_a_renewal(
    world: World, upnp: Router, end: str
) -> None:
    world.begin()
    world.advance(1)
    upnp.stuck = True
    world.begin()
    assert upnp.found == 1
    if end == "close":
        assert world.close().called
        assert upnp.found == 1
        assert upnp.deleted == [upnp.added[0][1]]
    else:
        world.own = "192.168.1.11"
        world.begin()
        assert upnp.found == 2


def test_upnp_gives_no_second_port(world: World, upnp: Router) -> None:
    world.speaks = {"pcp"}
    world.begin()
    world.advance(2)
    assert world.mapping.speaks == ("pcp", "upnp")
    assert upnp.added == []
    closing = world.close()
    world.advance(0.02)
    assert closing.called
    assert upnp.deleted == []


def test_upnp_is_asked_for_another_port_where_one_is_taken(world: World, upnp: Router) -> None:
    upnp.errors = [igd.CONFLICT, igd.PERMANENT_ONLY]
    world.begin()
    world.advance(1)
    (_, first, _), (_, second, timed), (_, third, lasting) = upnp.added
    assert first == world.mapping.port != second == third
    assert (timed, lasting) == (LIFETIME_S, 0)
    assert world.mapping.granted is not None
    assert world.mapping.granted.external.port == third
    assert world.close().called
    assert upnp.deleted == [third]


def test_upnp_that_refuses_is_told_in_words(world: World, upnp: Router) -> None:
    upnp.errors = [606]
    world.begin()
    world.advance(GIVE_UP_S + 1)
    assert world.mapping.granted is None
    assert world.mapping.refusal == "the router refuses with code 606"
    assert not world.mapping.under_way


def test_upnp_that_speaks_nonsense_gives_nothing(world: World, upnp: Router) -> None:
    upnp.broken = True
    world.begin()
    world.advance(GIVE_UP_S + 1)
    assert world.mapping.granted is None
    assert "no sense" in world.mapping.refusal


# -- what is announced -------------------------------------------------------------------------------------------------


def test_what_of_a_routers_word_is_used() -> None:
    assert usable(parse_endpoint("198.18.1.1:40000"), [HOME]) == ""
    assert "another NAT" in usable(parse_endpoint("100.64.1.2:40000"), [HOME])
    assert "another NAT" in usable(parse_endpoint("198.18.0.10:40000"), [HOME])
    assert "another NAT" in usable(parse_endpoint("127.0.0.1:40000"), [ip_address("198.18.1.1")])
    assert "another NAT" in usable(parse_endpoint("169.254.1.1:40000"), [ip_address("169.254.1.1")])
    assert "nobody may dial" in usable(parse_endpoint("198.18.1.1:22"), [HOME])
    assert "nobody may dial" in usable(parse_endpoint("198.18.1.1:3306"), [HOME])


class Discovery:
    """What the server has seen of this machine."""

    def __init__(self) -> None:
        self.seen = {parse_endpoint("198.18.1.1:20001")}
        self.tag = 0


class Announced:
    """An announcer, what it says, and a router that can be told what to give."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.said: list[Message] = []
        self.discovery = Discovery()
        discovery: Any = self.discovery
        self.announcer = Announcer(time_only(self.clock), discovery, self.said.append)
        self.announcer.mapping = self  # type: ignore[assignment]  # what an announcer uses of one
        self.granted: Granted | None = None
        self.outside: IPv4Address | None = None
        self.refusal = "the router did not answer"

    def give(self, external: str | None) -> None:
        self.granted = None if external is None else Granted("pcp", parse_endpoint(external))
        self.announcer.changed()


def met(number: int) -> Introduction:
    return Introduction(bytes([number]) * 32, True, bytes(32))


def test_a_port_is_announced_on_every_registration() -> None:
    scene = Announced()
    scene.give("198.18.1.1:40000")
    assert scene.said == []
    scene.announcer.registered()
    scene.announcer.changed()
    assert scene.said == [Announce(["198.18.1.1:40000"])]
    scene.announcer.lost()
    scene.announcer.changed()
    scene.announcer.registered()
    assert scene.said == [Announce(["198.18.1.1:40000"])] * 2
    scene.give(None)
    assert scene.said[-1] == Announce([])


def test_a_port_behind_another_nat_is_not_announced() -> None:
    scene = Announced()
    scene.announcer.registered()
    scene.give("169.254.1.1:40000")
    scene.give("198.18.0.10:40000")
    assert scene.said == []
    assert "another NAT" in scene.announcer.why_not
    scene.discovery.seen = {parse_endpoint("198.18.0.10:20001")}
    scene.announcer.changed()
    assert scene.said == [Announce(["198.18.0.10:40000"])]


def test_a_port_in_the_carriers_network_is_announced_for_its_other_customers() -> None:
    """Which the server sorts out; to this machine's user it is no port that everybody can reach."""
    scene = Announced()
    scene.announcer.registered()
    scene.give("100.64.1.2:40000")
    assert scene.said == [Announce(["100.64.1.2:40000"])]
    assert scene.announcer.endpoints == ()
    assert "another NAT" in scene.announcer.why_not
    scene.give("100.64.1.2:3306")
    assert scene.said[1:] == [Announce([])]


@pytest.mark.parametrize(
    ("outside", "tag", "announced"),
    [
        ("100.64.1.2", 20_001, ["100.64.1.2:20001"]),
        ("192.168.1.2", 20_001, ["192.168.1.2:20001"]),
        ("100.64.1.2", 0, []),
        ("198.18.1.1", 20_001, []),
        ("198.18.9.9", 20_001, []),
        ("169.254.1.1", 20_001, []),
        ("127.0.0.1", 20_001, []),
    ],
)
def test_a_router_that_gives_no_port_but_says_where_it_is(outside: str, tag: int, announced: list[str]) -> None:
    """Its outside endpoint is guessed for the customers of the same carrier, and for nobody else."""
    scene = Announced()
    scene.discovery.tag = tag
    scene.announcer.registered()
    scene.outside = IPv4Address(outside)
    scene.announcer.changed()
    assert scene.said == ([Announce(announced)] if announced else [])


def test_a_late_port_goes_to_the_meetings_that_do_not_know_of_it() -> None:
    scene = Announced()
    scene.announcer.registered()
    scene.announcer.introduced(met(1))
    scene.clock.advance(MEETING_S + 1)
    scene.announcer.introduced(met(2))
    scene.give("198.18.1.1:40000")
    assert scene.said == [Announce(["198.18.1.1:40000"], bytes([2]) * 32)]
    scene.clock.advance(SETTLED_S + 1)
    scene.announcer.introduced(met(3))
    scene.announcer.changed()
    assert len(scene.said) == 1


def test_a_port_that_was_announced_while_an_introduction_was_on_its_way_is_announced_to_that_meeting() -> None:
    """The server had made the introduction before it heard of the port."""
    scene = Announced()
    scene.announcer.registered()
    scene.give("198.18.1.1:40000")
    scene.announcer.introduced(met(1))
    scene.announcer.changed()
    assert scene.said == [Announce(["198.18.1.1:40000"]), Announce(["198.18.1.1:40000"], bytes([1]) * 32)]
