"""What a contact may take of a service, and what is told of its connections."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, TimeoutError
from twisted.internet.task import Clock

from p2pxfer.errors import LimitReached, P2pxferError, Refused, Unreachable
from p2pxfer.net.services.forwarding import CONNECTIONS_EACH, OPENS_BURST, OPENS_RATE, TURNED_S, Joint, Outlet
from p2pxfer.status import Connection


class FakeAsking:
    """A connection that a peer asks for."""

    service = "web"

    def __init__(self) -> None:
        self.on_gone: Any = None
        self.refused: list[P2pxferError] = []

    def refuse(self, error: P2pxferError) -> bool:
        self.refused.append(error)
        return True


class Target:
    """Stands where the target would be; nothing answers until the test says so."""

    def __init__(self) -> None:
        self.dials: list[Deferred[Any]] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        self.dials.append(Deferred())
        return self.dials[-1]


class Stand:
    def __init__(self) -> None:
        self.told: list[Connection] = []
        self.target = Target()
        target: Any = self.target
        self.clock = Clock()
        self.outlet = Outlet(self.clock, "web", target, self.told.append)

    def ask(self, peer: str) -> FakeAsking:
        made = FakeAsking()
        asking: Any = made
        self.outlet.asked(peer, asking)
        return made


def test_a_contact_has_so_many_connections_and_no_more() -> None:
    stand = Stand()
    first = [stand.ask("bob") for _ in range(CONNECTIONS_EACH)]
    late = stand.ask("bob")
    assert [type(error) for error in late.refused] == [LimitReached]
    assert len(stand.target.dials) == CONNECTIONS_EACH
    # Another one has places of its own, and a place that is free again is free.
    assert stand.ask("carol").refused == []
    stand.target.dials[0].errback(ConnectionRefusedError())
    assert len(first[0].refused) == 1
    assert stand.ask("bob").refused == []


def test_a_contact_begins_so_many_connections_a_second_and_no_more() -> None:
    """Each one dials the target, also if it is given up at once."""
    stand = Stand()
    for _ in range(OPENS_BURST):
        stand.ask("bob").on_gone()
    late = [stand.ask("bob") for _ in range(100)]
    assert len(stand.target.dials) == OPENS_BURST
    assert [type(error) for asking in late for error in asking.refused] == 100 * [LimitReached]
    assert [event.why for event in stand.told if "a second" in event.why] == [late[0].refused[0].message]
    assert stand.ask("carol").refused == []
    stand.clock.advance(1.0)
    for _ in range(100):
        asking = stand.ask("bob")
        if asking.on_gone is not None:
            asking.on_gone()
    assert len(stand.target.dials) == OPENS_BURST + 1 + round(OPENS_RATE)


def test_why_a_target_was_not_reached_is_told_without_its_address() -> None:
    stand = Stand()
    for fault, words in (
        (ConnectionRefusedError(), "the target of web refuses connections"),
        (TimeoutError(), "the target of web does not answer"),
        (OSError("no route to 10.0.0.1"), "the target of web cannot be reached"),
    ):
        asking = stand.ask("bob")
        stand.target.dials[-1].errback(fault)
        assert [(type(error), error.message) for error in asking.refused] == [(Unreachable, words)]
        assert stand.told[-1].state == "refused"
        assert stand.told[-1].why == words


def test_who_gives_up_ends_the_dial() -> None:
    stand = Stand()
    asking = stand.ask("bob")
    asking.on_gone()
    assert stand.target.dials[-1].called


class Socket:
    """A TCP transport and its socket in one, which has this error."""

    def __init__(self, error: int = 0) -> None:
        self.error = error
        self.did: list[str] = []

    def getHandle(self) -> Any:
        return self

    def getsockopt(self, level: int, option: int) -> int:
        return self.error

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.did.append(name)


@pytest.mark.parametrize("error", [0, errno.ECONNRESET])
def test_a_reset_that_the_reactor_calls_an_end_is_a_reset(error: int) -> None:
    first, second = Joint(), Socket()
    there: Any = Socket(error)
    first.makeConnection(there)  # type: ignore[no-untyped-call]  # Twisted's
    channel = Joint(first)
    here: Any = second
    channel.makeConnection(here)  # type: ignore[no-untyped-call]  # Twisted's
    first.readConnectionLost()
    assert ("loseWriteConnection" in second.did) is (error == 0)
    assert ("abortConnection" in there.did) is (error != 0)


def test_who_is_turned_away_is_told_once_in_a_while() -> None:
    stand = Stand()
    for seconds in (0, TURNED_S / 2, TURNED_S / 2):
        stand.clock.advance(seconds)
        for peer in ("bob", "carol", "bob"):
            stand.outlet.turned_away(peer, Refused("it is not exposed to that contact"))
    assert [(event.peer, event.state) for event in stand.told] == 2 * [("bob", "refused"), ("carol", "refused")]
    assert stand.told[0].why == "it is not exposed to that contact"
