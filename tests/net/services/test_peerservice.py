"""A service of a machine: nothing else than it is offered, whatever is asked for."""

from __future__ import annotations

import resource
from contextlib import nullcontext
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol

from p2pxfer.cli import exposing as exposing_module
from p2pxfer.cli.settings import Global
from p2pxfer.core.contact.rights import Right
from p2pxfer.core.ownnames import waiting_name
from p2pxfer.core.session.services import Offered
from p2pxfer.errors import Interrupted, P2pxferError, Refused, Unreachable
from p2pxfer.net.services.peeraddress import PeerAddress
from p2pxfer.net.services.peerservice import PeerService
from p2pxfer.net.services.streamsession import Asking, Streams
from p2pxfer.net.session.machine import Machine
from tests.net.machineworld import befriend, machine
from tests.net.sessionworld import World, into, world

__all__ = ["world"]


def test_only_the_service_itself_is_offered(world: World) -> None:
    alice, bob = machine(world, "alice", clients=[]), machine(world, "bob", clients=[])
    befriend(alice, bob)
    asked: list[tuple[str, Asking]] = []
    guests = [alice.peer("bob")]
    service = PeerService(alice, "web", lambda: guests, lambda who, asking: asked.append((who, asking)))
    service.start()
    reactor: Any = world.clock
    streams = Streams(reactor, PeerAddress("here", None, "web"), PeerAddress("there", "alice", "web"))
    world.caller("bob", "alice", streams, waiting_name(alice.home.identity().id.digest, "web"))
    world.run()
    errors: list[P2pxferError] = []
    for name in ("ssh", "pipe", "default", "webb"):
        streams.open(name, lambda address: Protocol()).addErrback(into(errors))
    world.run()
    assert [type(error) for error in errors] == 4 * [Refused]
    assert "ssh is not exposed here" in errors[0].message
    assert asked == []
    streams.open("web", lambda address: Protocol()).addErrback(into(errors))
    world.run()
    assert [who for who, _ in asked] == ["bob"]


def test_nobody_is_met_while_the_contacts_cannot_be_read(world: World) -> None:
    alice, bob = machine(world, "alice", clients=[]), machine(world, "bob", clients=[])
    befriend(alice, bob)
    guests = [alice.peer("bob")]
    service = PeerService(alice, "web", lambda: guests, lambda who, asking: None)
    service.start()
    (alice.home.path / "contacts.json").write_text("{damaged")
    reactor: Any = world.clock
    streams = Streams(reactor, PeerAddress("here", None, "web"), PeerAddress("there", "alice", "web"))
    caller = world.caller("bob", "alice", streams, waiting_name(alice.home.identity().id.digest, "web"))
    world.run()
    assert [sorted(sides) for sides in world.sides.values()] == [["initiator"]]
    assert not caller.session.met.called


@pytest.mark.parametrize("way", ["denied", "removed", "damaged"])
def test_a_session_does_not_outlive_its_rights(world: World, way: str) -> None:
    """What stands stays; there is no other connection."""
    alice, bob = machine(world, "alice", clients=[]), machine(world, "bob", clients=[])
    befriend(alice, bob)
    asked: list[Asking] = []
    guests = [alice.peer("bob")]
    service = PeerService(alice, "web", lambda: guests, lambda who, asking: asked.append(asking))
    service.start()
    reactor: Any = world.clock
    streams = Streams(reactor, PeerAddress("here", None, "web"), PeerAddress("there", "alice", "web"))
    world.caller("bob", "alice", streams, waiting_name(alice.home.identity().id.digest, "web"))
    world.run()
    errors: list[P2pxferError] = []
    streams.open("web", lambda address: Protocol()).addErrback(into(errors))
    world.run()
    assert asked.pop().accept(lambda address: Protocol())
    world.run()
    if way == "denied":
        alice.home.set_rights("bob", [Right.SERVICES], False)
    elif way == "removed":
        alice.home.remove_contact("bob")
    else:
        (alice.home.path / "contacts.json").write_text("{damaged")
    streams.open("web", lambda address: Protocol()).addErrback(into(errors))
    world.run()
    assert asked == []
    (error,) = errors
    if way == "damaged":  # which says nothing of anybody's rights, and passes
        assert type(error) is Unreachable and "the contacts there cannot be read now" in error.message
    else:
        assert type(error) is Refused and "web is not exposed to this machine" in error.message
    assert len(streams) == 1


def test_who_exposes_may_have_as_many_sockets_as_the_system_allows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposing_module, "tcp_target", lambda *args: None)  # nothing is dialled, and time is a clock's
    alice, bob = machine(world, "alice", clients=[]), machine(world, "bob", clients=[])
    befriend(alice, bob)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 500), hard))
    try:
        offered = [Offered("web", "127.0.0.1", 80)]
        exposing = exposing_module.Exposing(Global(None, None, True, 0), offered, [alice.peer("bob")])
        running = Deferred.fromCoroutine(exposing.run(alice))
        raised, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised == (65536 if hard == resource.RLIM_INFINITY else min(hard, 65536))
    errors: list[P2pxferError] = []
    running.addErrback(into(errors))
    running.cancel()
    world.run(1)
    assert [type(error) for error in errors] == [Interrupted]


def called_by_bob(world: World, exposing: exposing_module.Exposing, alice: Machine) -> None:
    """Let alice expose, bob connect to it, and somebody end it."""
    running = Deferred.fromCoroutine(exposing.run(alice))
    reactor: Any = world.clock
    streams = Streams(reactor, PeerAddress("here", None, "web"), PeerAddress("there", "alice", "web"))
    world.caller("bob", "alice", streams, waiting_name(alice.home.identity().id.digest, "web"))
    world.run()
    running.addErrback(lambda failure: None)
    running.cancel()
    world.run(1)


@pytest.mark.parametrize(
    ("denied", "why"), [(True, "that contact is denied services"), (False, "it is not exposed to that contact")]
)
def test_a_contact_that_is_refused_is_said_to_be(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], denied: bool, why: str
) -> None:
    """Also with --quiet."""
    monkeypatch.setattr(exposing_module, "tcp_target", lambda *args: None)
    alice, bob = machine(world, "alice", clients=[]), machine(world, "bob", clients=[])
    befriend(alice, bob)
    guests = [alice.peer("bob")] if denied else []
    if denied:
        alice.home.set_rights("bob", [Right.SERVICES], False)
    offered = [Offered("web", "127.0.0.1", 80)]
    exposing = exposing_module.Exposing(Global(None, None, False, 0, quiet=True), offered, guests)
    called_by_bob(world, exposing, alice)
    assert capsys.readouterr().err.splitlines() == [f"no connection with bob for web: {why}"]


@pytest.mark.parametrize("readable", [True, False])
def test_nobody_is_told_of_as_a_stranger_while_the_contacts_cannot_be_read(world: World, readable: bool) -> None:
    alice, bob = machine(world, "alice", clients=[]), machine(world, "bob", clients=[])
    if not readable:
        (alice.home.path / "contacts.json").write_text("{damaged")
    strangers: list[str] = []
    service = PeerService(alice, "web", list, lambda who, asking: None, stranger=strangers.append)
    with nullcontext() if readable else pytest.raises(Unreachable):
        assert service._admit(bob.identity.id.digest) is None
    assert strangers == [str(bob.identity.id)] * readable


@pytest.mark.parametrize(("services", "at"), [(["web"], ""), (["web", "ssh"], " at web")])
def test_a_contact_that_comes_is_named_once(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], services: list[str], at: str
) -> None:
    monkeypatch.setattr(exposing_module, "tcp_target", lambda *args: None)
    alice, bob = machine(world, "alice", clients=[]), machine(world, "bob", clients=[])
    befriend(alice, bob)
    offered = [Offered(service, "127.0.0.1", 80) for service in services]
    exposing = exposing_module.Exposing(Global(None, None, False, 0), offered, [alice.peer("bob")])
    called_by_bob(world, exposing, alice)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if str(bob.identity.id) in line)
    assert line == f"peer bob {bob.identity.id} (verified by contact){at}"


def test_a_stranger_that_tries_is_told_of_once_a_minute(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever keys it has: they cost it nothing."""
    monkeypatch.setattr(exposing_module, "tcp_target", lambda *args: None)
    alice, bob, carol = (machine(world, name, clients=[]) for name in ("alice", "bob", "carol"))
    befriend(alice, bob, carol)
    for name in ("bob", "carol"):
        alice.home.remove_contact(name)
    exposing = exposing_module.Exposing(Global(None, None, False, 0), [Offered("web", "127.0.0.1", 80)], [])
    running = Deferred.fromCoroutine(exposing.run(alice))
    reactor: Any = world.clock
    capsys.readouterr()
    for name in ("bob", "carol"):
        streams = Streams(reactor, PeerAddress("here", None, "web"), PeerAddress("there", "alice", "web"))
        world.caller(name, "alice", streams, waiting_name(alice.home.identity().id.digest, "web"))
        world.run()
    running.addErrback(lambda failure: None)
    running.cancel()
    world.run(1)
    why = "it is no contact here; p2pxfer pair makes one"
    assert capsys.readouterr().err.splitlines() == [f"no connection with {bob.identity.id} for web: {why}"]
