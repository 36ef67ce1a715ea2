"""Who gets a connection of several that wait at one port, and when a port is listened on."""

from __future__ import annotations

import socket
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol

from p2pxfer.net.traversal.listening import Doorman, Guest, in_turn
from tests.net.reactors import until
from tests.net.serverkit import dialled_from, free_port, is_reset


def waiting(*expected: tuple[str, int]) -> Guest:
    return Guest(lambda _: None, frozenset(expected))


def test_the_endpoint_counts_most_then_the_host_then_the_age() -> None:
    old = waiting(("198.18.1.1", 30001), ("192.168.0.2", 30001))
    other = waiting(("198.18.2.1", 30001))
    new = waiting(("198.18.1.1", 30002))
    guests = [old, other, new]
    assert in_turn(guests, "198.18.1.1", 30001) == [old, new]
    assert in_turn(guests, "198.18.1.1", 30002) == [new, old]
    assert in_turn(guests, "198.18.1.1", 40000) == [new, old]
    assert in_turn(guests, "198.18.2.1", 40000) == [other]
    assert in_turn(guests, "192.168.0.2", 30001) == [old]
    assert in_turn(guests, "198.18.9.1", 30001) == [new, other, old]
    assert in_turn([], "198.18.9.1", 30001) == []


class Taker:
    """A guest that expects one host, and what it got."""

    def __init__(self, host: str = "127.0.0.2") -> None:
        self.hosts: list[str] = []
        self.refuses = False
        self.made: list[Protocol] = []
        self.guest = Guest(self.build, {(host, 1)})

    def build(self, address: IAddress) -> Protocol | None:
        there: Any = address
        self.hosts.append(there.host)
        if self.refuses:
            return None
        self.made.append(Protocol())
        return self.made[-1]

    def end(self) -> None:
        for protocol in self.made:
            protocol.transport.abortConnection()  # type: ignore[union-attr]  # it is connected


def listening_sockets(port: int) -> int:
    """How many sockets listen at ``port``, by the kernel's table of IPv4."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


@pytest_twisted.ensureDeferred
async def test_one_listener_from_the_first_guest_to_the_last() -> None:
    port = free_port()
    doorman = Doorman(reactor)  # type: ignore[arg-type]  # the reactor
    first, second = Taker(), Taker()
    assert listening_sockets(port) == 0
    for taker in (first, second):
        doorman.admit(port, False, taker.guest)
        assert listening_sockets(port) == 1
    doorman.dismiss(first.guest)
    doorman.dismiss(first.guest)
    with dialled_from("127.0.0.2", port):
        await until(lambda: second.made)
    assert not first.hosts
    second.end()
    doorman.dismiss(second.guest)
    await until(lambda: listening_sockets(port) == 0)
    doorman.admit(port, False, first.guest)
    with dialled_from("127.0.0.2", port):
        await until(lambda: first.made)
    first.end()
    doorman.dismiss(first.guest)
    await until(lambda: listening_sockets(port) == 0)


@pytest_twisted.ensureDeferred
async def test_what_everybody_refuses_is_reset_and_what_nobody_expects_goes_to_whoever_takes_it() -> None:
    port = free_port()
    doorman = Doorman(reactor)  # type: ignore[arg-type]  # the reactor
    old, new = Taker("127.0.0.2"), Taker("127.0.0.3")
    for taker in (old, new):
        doorman.admit(port, False, taker.guest)
    new.refuses = True
    with dialled_from("127.0.0.3", port) as far:
        await until(lambda: is_reset(far))
    assert (old.hosts, new.hosts) == ([], ["127.0.0.3"])
    with dialled_from("127.0.0.4", port):
        await until(lambda: old.made)
    assert (old.hosts, new.hosts) == (["127.0.0.4"], ["127.0.0.3", "127.0.0.4"])
    old.end()
    for taker in (old, new):
        doorman.dismiss(taker.guest)


@pytest_twisted.ensureDeferred
async def test_a_port_that_cannot_be_listened_on_is_tried_again_for_the_next_guest() -> None:
    doorman = Doorman(reactor)  # type: ignore[arg-type]  # the reactor
    first, second = Taker(), Taker()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        doorman.admit(port, False, first.guest)
        assert listening_sockets(port) == 0
    doorman.admit(port, False, second.guest)
    assert listening_sockets(port) == 1
    first.refuses = second.refuses = True
    with dialled_from("127.0.0.2", port) as far:
        await until(lambda: is_reset(far))
    assert (len(first.hosts), len(second.hosts)) == (1, 1)
    doorman.dismiss(first.guest)
    doorman.dismiss(second.guest)
    await until(lambda: listening_sockets(port) == 0)
