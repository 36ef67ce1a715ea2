"""What the server dials for a client that wants to know what its NAT lets in: the machine without sockets."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from p2pxfer.core.addresses import DENIED_PORTS, parse_endpoint
from p2pxfer.core.messages import Cross, CrossAt, Crossed, CrossNow, DialBack, DialledBack, Observe
from p2pxfer.core.server.dialouts import DialOuts
from p2pxfer.core.server.effects import CrossOut, DialOut, Listening, OpenDeaf, ServerSettings
from tests.core.server.registryworld import BOB, HOME_A, HOME_B, LISTENING, SECOND, SERVER, World, refused


class Here:
    """Where the server is."""

    listening = LISTENING


# -- dialling back -----------------------------------------------------------------------------------------------


def observation(world: World, remote: str = HOME_B, local: str = SERVER) -> int:
    conn = world.open(BOB, remote, local)
    world.say(conn, Observe(version=1, tag=20002))
    return conn


def dials(world: World) -> list[DialOut]:
    return [effect for effect in world.effects if isinstance(effect, DialOut)]


def test_only_the_asking_connection_is_dialled_back_and_once(world: World) -> None:
    conn = observation(world)
    assert world.say(conn, DialBack(token=bytes(16))) == []
    hosts = (ip_address("198.18.0.10"), ip_address("198.18.0.11"))
    (order,) = dials(world)
    assert order == DialOut(conn, parse_endpoint(HOME_B), hosts, bytes(16), order.unopened)
    assert order.unopened.host == order.target.host
    assert order.unopened.port != order.target.port
    assert world.say(conn, DialBack(token=bytes(16))) == [DialledBack()]
    world.note(world.registry.dialled(conn, ["connected", "silent"], "refused", world.now))
    assert world.told(conn)[-1] == DialledBack("connected", "silent", "refused")
    assert world.say(conn, DialBack(token=bytes(16))) == [DialledBack()]
    assert len(dials(world)) == 1


def test_no_common_service_is_knocked_at() -> None:
    """Whatever the random number: 1024 and above, another port than the client's, none of the list."""
    dials = DialOuts(Here(), lambda n: number.to_bytes(n, "big"), ServerSettings())
    seen = parse_endpoint(HOME_B)
    ports = set()
    for number in [*range(150), *range(7_900, 8_000), seen.port - 1024, 2**32 - 1]:  # noqa: B007  # the entropy
        found = dials.unopened(seen)
        assert found.host == seen.host
        ports.add(found.port)
    assert min(ports) >= 1024
    assert ports.isdisjoint({*DENIED_PORTS, seen.port})
    assert len(ports) > 200


def test_a_server_with_one_address_says_so() -> None:
    world = World(listening=Listening(((ip_address("198.18.0.10"), 8877),)))
    world.say(observation(world), DialBack(token=bytes(16)))
    assert dials(world)[0].sources == (ip_address("198.18.0.10"), None)


@pytest.mark.parametrize("remote", ["198.18.2.1:1023", "203.0.113.7:20002", "169.254.1.1:20002", SECOND])
def test_endpoints_that_nobody_may_dial_are_not_dialled_back(world: World, remote: str) -> None:
    assert world.say(observation(world, remote), DialBack(token=bytes(16))) == [DialledBack()]
    assert dials(world) == []


def test_a_control_connection_is_not_dialled_back(world: World) -> None:
    bob = world.register(BOB, "bob", HOME_B)
    assert refused(world.say(bob, DialBack(token=bytes(16))), "E_STATE")
    assert dials(world) == []


def test_limits_of_dialling_back() -> None:
    world = World(replace(ServerSettings(), dial_backs_per_source=3, dial_backs=4))
    for port in range(20_002, 20_008):
        world.say(observation(world, f"198.18.2.1:{port}"), DialBack(token=bytes(16)))
    assert len(dials(world)) == 3
    for host in range(2, 6):
        world.say(observation(world, f"198.18.2.{host}:20002"), DialBack(token=bytes(16)))
    assert len(dials(world)) == 4
    world.note(world.registry.dialled(dials(world)[0].conn, ["silent", "silent"], "silent", world.now))
    world.say(observation(world, "198.18.2.9:20002"), DialBack(token=bytes(16)))
    assert len(dials(world)) == 5


def test_what_comes_of_a_dial_after_the_connection_went_is_dropped(world: World) -> None:
    conn = observation(world)
    world.say(conn, DialBack(token=bytes(16)))
    world.lose(conn)
    assert world.registry.dialled(conn, ["silent", "silent"], "silent", world.now) == []


# -- crossing ------------------------------------------------------------------------------------------------------


def deaf_ports(world: World) -> list[OpenDeaf]:
    return [effect for effect in world.effects if isinstance(effect, OpenDeaf)]


def test_only_the_asking_connection_is_crossed_and_once(world: World) -> None:
    conn = observation(world)
    assert world.say(conn, Cross()) == []
    assert deaf_ports(world) == [OpenDeaf(conn, ip_address("198.18.0.10"), parse_endpoint(HOME_B))]
    assert world.say(conn, CrossNow()) == [Crossed()], "before there is a port"
    world.note(world.registry.deaf(conn, 40_000, world.now))
    assert world.told(conn)[-1] == CrossAt(40_000)
    assert CrossOut(conn) not in world.effects
    world.say(conn, CrossNow())
    assert world.effects[-1] == CrossOut(conn)
    assert world.say(conn, CrossNow()) == [Crossed()]
    world.note(world.registry.crossed(conn, "answered", world.now))
    assert world.told(conn)[-1] == Crossed("answered")
    assert world.say(conn, Cross()) == [CrossAt()]
    assert len(deaf_ports(world)) == world.effects.count(CrossOut(conn)) == 1


@pytest.mark.parametrize("remote", ["198.18.2.1:1023", "203.0.113.7:20002", "169.254.1.1:20002", SECOND])
def test_endpoints_that_nobody_may_dial_are_not_crossed(world: World, remote: str) -> None:
    assert world.say(observation(world, remote), Cross()) == [CrossAt()]
    assert deaf_ports(world) == []


def test_limits_of_crossing() -> None:
    world = World(replace(ServerSettings(), crossings_per_source=3, crossings=4))
    conns = [observation(world, f"198.18.2.1:{port}") for port in range(20_002, 20_006)]
    conns += [observation(world, f"198.18.2.{host}:20002") for host in range(2, 6)]
    for conn in conns:
        world.say(conn, Cross())
    assert [order.conn for order in deaf_ports(world)] == [*conns[:3], conns[4]]
    world.lose(conns[0])
    world.say(conns[6], Cross())
    assert len(deaf_ports(world)) == 4, "the port of who is gone is open still"
    assert world.registry.crossed(conns[0], "not-tried", world.now) == []
    world.say(observation(world, "198.18.2.9:20002"), Cross())
    assert len(deaf_ports(world)) == 5


def test_a_port_that_could_not_be_opened_or_had_its_time(world: World) -> None:
    failed, late = observation(world), observation(world, HOME_A)
    for conn, port in ((failed, 0), (late, 40_000)):
        world.say(conn, Cross())
        world.note(world.registry.deaf(conn, port, world.now))
        world.note(world.registry.crossed(conn, "not-tried", world.now))
        assert world.told(conn)[-1] == CrossAt(port)
        assert world.say(conn, CrossNow()) == [Crossed()]
    assert not [effect for effect in world.effects if isinstance(effect, CrossOut)]
