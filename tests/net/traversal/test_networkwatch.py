"""When a machine counts as moved to another network."""

from __future__ import annotations

from twisted.internet.task import Clock

from p2pxfer.core.addresses import Endpoint, parse_endpoint
from p2pxfer.net.traversal.networkwatch import LOOK_S, NetworkWatch
from p2pxfer.net.traversal.ownaddresses import source_towards

SERVER = parse_endpoint("198.18.0.10:8877")


class Machine:
    """A machine whose address is told by the test."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.address: str | None = "192.168.1.2"
        self.moves = 0
        self.watch = NetworkWatch(self.clock, self.move, self.source)

    def source(self, there: Endpoint) -> str | None:
        assert there == SERVER
        return self.address

    def move(self) -> None:
        self.moves += 1


def test_another_address_towards_the_server_is_a_move_and_told_once() -> None:
    machine = Machine()
    machine.watch.start(SERVER)
    machine.clock.pump([LOOK_S] * 10)
    assert machine.moves == 0
    machine.address = "10.0.0.7"
    machine.clock.pump([LOOK_S] * 10)
    assert machine.moves == 1
    assert machine.clock.getDelayedCalls() == []


def test_no_network_at_all_is_no_move_until_there_is_another_one() -> None:
    machine = Machine()
    machine.watch.start(SERVER)
    machine.address = None
    machine.clock.pump([LOOK_S] * 10)
    assert machine.moves == 0
    machine.address = "192.168.1.2"
    machine.clock.pump([LOOK_S] * 10)
    assert machine.moves == 0
    machine.watch.stop()
    machine.address = "10.0.0.7"
    machine.clock.pump([LOOK_S] * 10)
    assert machine.moves == 0
    assert machine.clock.getDelayedCalls() == []


def test_a_question_that_goes_another_way_than_the_connection_is_no_move() -> None:
    """What counts is that the answer changes."""
    machine = Machine()
    machine.address = None
    machine.watch.start(SERVER)
    machine.clock.pump([LOOK_S] * 3)
    machine.address = "10.0.0.7"
    machine.clock.pump([LOOK_S] * 10)
    assert machine.moves == 0
    machine.address = "10.0.0.8"
    machine.clock.pump([LOOK_S] * 10)
    assert machine.moves == 1


def test_the_kernel_knows_its_own_address_towards_itself() -> None:
    assert source_towards(parse_endpoint("127.0.0.1:9")) == "127.0.0.1"
    assert source_towards(parse_endpoint("255.255.255.255:9")) is None
