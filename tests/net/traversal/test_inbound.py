"""Whether SYNs may cross: when that is looked for, how long it is believed, and who hears of it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from p2pxfer.core.addresses import parse_endpoint
from p2pxfer.core.messages import Introduction, NatSummary, Registered, Report
from p2pxfer.core.traversal.discovery import Inbound, View
from p2pxfer.net.traversal import inbound
from p2pxfer.net.traversal.inbound import FRESH_S, UNKNOWN_S
from tests.moments import for_now
from tests.net.traversal.natworld import OTHERS, TAG, Net

KEEPS = NatSummary("endpoint-independent", "changed")


class Crossing:
    """The check itself, decided by the test."""

    made: list[Crossing] = []

    def __init__(self, reactor: object, opener: object, target: object, *_: object) -> None:
        self.target = target
        self.done: Deferred[Any] = Deferred()
        self.started = False
        self.answered = True
        Crossing.made.append(self)

    def start(self) -> None:
        self.started = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Crossing]:
    monkeypatch.setattr(inbound, "CrossingCheck", Crossing)
    monkeypatch.setattr(Crossing, "made", [])
    return Crossing.made


def registered(outside: int = 30_000) -> Net:
    net = Net(lambda local, at: outside)
    net.register(outside)
    net.wait(2)
    return net


def look(net: Net) -> list[Any]:
    found: list[Any] = []
    Deferred.fromCoroutine(net.discovery.find_crossing()).addBoth(found.append)
    return found


def told(net: Net) -> list[tuple[str | None, bool]]:
    """What was reported of it, and whether in a session."""
    return [
        (None if report.nat is None else report.nat.simultaneous, report.session is not None)
        for report in net.sent
        if isinstance(report, Report)
    ]


def test_nobody_looks_for_it_unasked(made: list[Crossing]) -> None:
    net = registered()
    net.wait(60)
    assert (made, net.discovery.summary, told(net)) == ([], KEEPS, [])


def test_it_is_found_once_for_all_who_ask_and_then_believed(made: list[Crossing]) -> None:
    net = registered()
    net.discovery.introduced(Introduction(session=bytes(32), initiator=True, peer_id=bytes(32), my_nat=KEEPS))
    waiting = look(net), look(net)
    (check,) = made
    assert check.started
    check.done.callback(("no", ""))
    assert waiting == ([None], [None])
    assert for_now(net.discovery.summary.simultaneous) == "no"
    assert told(net) == [("no", True)]
    look(net)
    assert len(made) == 1
    net.wait(FRESH_S)
    assert net.discovery.summary.simultaneous == "unknown"
    look(net)
    assert len(made) == 2


def test_the_server_hears_of_it_for_introductions_to_come(made: list[Crossing]) -> None:
    net = registered()
    look(net)
    made[0].done.callback(("yes", ""))
    assert told(net) == [("yes", False)]


def test_what_is_unknown_is_looked_for_again(made: list[Crossing]) -> None:
    """At once where the server said nothing, else after a while: it would say the same again."""
    net = registered()
    for number, answered in ((1, False), (2, False), (3, True)):
        look(net)
        made[-1].answered = answered
        made[-1].done.callback(("unknown", "whatever the reason"))
        assert len(made) == number
    found: list[Any] = []
    Deferred.fromCoroutine(net.discovery.checks.crossing()).addBoth(found.append)
    assert found == [("unknown", "whatever the reason")]
    assert len(made) == 3
    net.wait(UNKNOWN_S + 1)
    look(net)
    assert len(made) == 4
    assert told(net) == []


def test_it_is_not_looked_for_where_the_server_cannot_know_the_endpoint(made: list[Crossing]) -> None:
    net = Net(lambda local, at: local + (100 if at == OTHERS[0] else 0))
    net.register(TAG)
    net.wait(2)
    assert look(net) == [None]
    assert made == []


def test_it_ends_with_the_registration(made: list[Crossing]) -> None:
    net = registered()
    waiting = look(net)
    made[0].done.addErrback(lambda failure: failure.trap(CancelledError))
    net.discovery.end()
    assert waiting == [None]
    assert look(net) == [None]
    assert len(made) == 1


def test_what_needs_no_registration_goes_on_without_it(made: list[Crossing], monkeypatch: pytest.MonkeyPatch) -> None:
    """The other checks have connections of their own, and ends of their own."""
    for name in ("FilteringCheck", "HairpinCheck"):
        monkeypatch.setattr(inbound, name, Crossing)
    net = registered()
    found: list[Any] = []
    Deferred.fromCoroutine(net.discovery.inbound()).addBoth(found.append)
    assert len(made) == 3
    net.discovery.end()
    going = [check for check in made if not check.done.called]
    assert len(going) == 2
    for check, result in zip(going, (Inbound("port-dependent"), ("no", "")), strict=True):
        check.done.callback(result)
    assert found == [Inbound("port-dependent", hairpin="no", uncrossed="the server is not connected")]


def test_over_ipv6_it_is_the_ipv4_nat_that_is_checked(made: list[Crossing], monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is told is told of one family: the checks go to the endpoint of the server that saw that one."""
    for name in ("FilteringCheck", "HairpinCheck"):
        monkeypatch.setattr(inbound, name, Crossing)
    net = Net(lambda local, at: local)
    own, control, seen, at = map(
        parse_endpoint, ("[2001:2::5]:20001", "[2001:2::1]:8877", "198.18.1.1:20001", "198.18.0.10:8877")
    )
    discovery = net.discovery
    discovery.begin(control, TAG, Registered(id=bytes(32), observed=str(own)), frozenset({own.host}))
    discovery.views += [View(seen, at), View(seen, parse_endpoint(OTHERS[0]))]
    Deferred.fromCoroutine(discovery.inbound())
    assert [check.target for check in made] == [at] * 3
    assert discovery.checks.may_dial(seen)
    discovery.views.append(View(at, at))  # as if a server lied
    assert not discovery.checks.may_dial(at)
