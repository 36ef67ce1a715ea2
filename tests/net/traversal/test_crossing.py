"""A SYN that crosses another one, on loopback: a filter on the client's socket plays the NAT that refuses it."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from p2pxfer.core.addresses import Endpoint, parse_endpoint
from p2pxfer.core.messages import (
    ALPN_SERVER,
    VERSION,
    Cross,
    CrossAt,
    Crossed,
    CrossNow,
    CrossOutcome,
    Observe,
    Observed,
)
from p2pxfer.net.connection.serverlink import ServerLink
from p2pxfer.net.connection.streams import SecureBootstrap
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.private.identity import new_identity
from p2pxfer.net.server import deafport
from p2pxfer.net.server.deafport import DeafPort
from p2pxfer.net.traversal import crossing, halfopen
from p2pxfer.net.traversal.crossing import CHECK_S, CrossingCheck
from p2pxfer.net.traversal.freshports import fresh_ports
from p2pxfer.net.traversal.listening import reuse_binding
from tests.moments import for_now
from tests.net.reactors import sleep, until
from tests.net.serverkit import Site, dialled_from, is_reset, site

reactor: Any = _reactor
HOST = ip_address("127.0.0.1")


@contextmanager
def dialling(port: int, there: int, *, refuses: bool = False) -> Iterator[socket.socket]:
    """A socket that dials ``there`` from ``port``; ``refuses``: no bare SYN reaches it."""
    with socket.socket() as sock:
        sock.setblocking(False)
        if refuses:
            deafport._attach(sock, deafport._DROP_SYN)
        sock.bind((str(HOST), port))
        sock.connect_ex((str(HOST), there))
        yield sock


def deaf_port(port: int) -> tuple[DeafPort, Deferred[CrossOutcome]]:
    outcome: Deferred[CrossOutcome] = Deferred()
    return DeafPort(reactor, HOST, Endpoint(HOST, port), outcome.callback), outcome


@pytest_twisted.ensureDeferred
async def test_it_answers_nobody_and_yet_connects_to_whom_it_dials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deafport, "CROSS_S", 30.0)
    port = fresh_ports(1)[0]
    deaf, outcome = deaf_port(port)
    with dialling(port, deaf.port) as sock:
        await sleep(0.2)
        assert not halfopen.stands(sock), "the SYN was answered"
        deaf.cross()
        assert await outcome == "crossed"
        await until(lambda: is_reset(sock))
    with dialling(fresh_ports(1)[0], deaf.port) as late:
        await until(lambda: late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))  # the port is closed


@pytest_twisted.ensureDeferred
async def test_a_syn_that_does_not_come_in_is_told_from_a_client_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client's own SYN, which its system repeats after a second, is answered in the end."""
    monkeypatch.setattr(deafport, "CROSS_S", 0.4)
    monkeypatch.setattr(deafport, "ANSWER_S", 30.0)
    port, nowhere = fresh_ports(2)
    deaf, outcome = deaf_port(port)
    with dialling(port, deaf.port, refuses=True):
        deaf.cross()
        assert await outcome == "answered"
    monkeypatch.setattr(deafport, "ANSWER_S", 0.4)
    deaf, outcome = deaf_port(nowhere)
    deaf.cross()
    assert await outcome == "silent"


@pytest_twisted.ensureDeferred
async def test_a_stranger_at_the_port_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deafport, "CROSS_S", 0.1)
    monkeypatch.setattr(deafport, "ANSWER_S", 30.0)
    deaf, outcome = deaf_port(fresh_ports(1)[0])
    deaf.cross()
    await until(lambda: deaf._listener in reactor.getReaders())
    with dialled_from("127.0.0.2", deaf.port) as stranger:
        await until(lambda: is_reset(stranger))
    assert not outcome.called
    deaf.close()
    assert await outcome == "not-tried"


@pytest_twisted.ensureDeferred
async def test_without_a_descriptor_left_nobody_is_waited_for_any_more() -> None:
    """What cannot be accepted stays in the queue: the reactor would call for it again and again."""
    came: list[Endpoint] = []
    listener = deafport._Listener(reactor, HOST, came.append)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as sock:
        sock.setblocking(False)
        free = os.dup(sock.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            listener.hear()
            sock.connect_ex((str(HOST), listener.port))
            await until(lambda: listener not in reactor.getReaders())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            listener.close()
    assert came == []


@pytest_twisted.ensureDeferred
async def test_a_port_that_nobody_asks_for_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes when it is told to, after its time, and says so once; whatever it is told then comes too late."""
    monkeypatch.setattr(deafport, "OPEN_S", 0.1)
    _, outcome = deaf_port(fresh_ports(1)[0])
    assert await outcome == "not-tried"
    monkeypatch.undo()
    deaf, outcome = deaf_port(fresh_ports(1)[0])
    deaf.close()
    deaf.close()
    deaf.cross()
    assert await outcome == "not-tried"


# -- the whole check -----------------------------------------------------------------------------------------------


def checks(here: Site) -> CrossingCheck:
    identity = new_identity()

    def opener(link: ServerLink, host: str, number: int, local: int) -> Deferred[Any]:
        creator = PeerTLS(identity, here.identity.id.digest, ALPN_SERVER)
        bootstrap = SecureBootstrap(reactor, link, creator, is_client=True)
        endpoint = TCP4ClientEndpoint(reactor, host, number, bindAddress=reuse_binding(local))
        return endpoint.connect(Factory.forProtocol(lambda: bootstrap))

    check = CrossingCheck(reactor, opener, parse_endpoint(f"127.0.0.1:{here.ports[0]}"))
    check.start()
    return check


async def gone(here: Site) -> None:
    await until(lambda: here.counts["connections"] == 0 and not here.server._deaf_ports)


@pytest_twisted.ensureDeferred
async def test_where_nothing_is_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deafport, "CROSS_S", 30.0)
    monkeypatch.setattr(crossing, "CHECK_S", 60.0)
    async with site(tmp_path) as here:
        check = checks(here)
        assert not for_now(check.answered)
        assert await check.done == ("yes", "")
        assert check.answered
        await gone(here)


@pytest.mark.parametrize("refused", ["_DROP_SYN", "_DROP_ALL"])
@pytest_twisted.ensureDeferred
async def test_a_server_that_has_no_such_port_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """No filters on that system: nothing is said that was not measured, although the client's SYN would be answered."""
    monkeypatch.setattr(deafport, refused, ((0xFFFF, 0, 0, 0),))
    monkeypatch.setattr(crossing, "CHECK_S", 60.0)
    async with site(tmp_path) as here:
        check = checks(here)
        assert await check.done == ("unknown", "the server did not try")
        assert check.answered
        await gone(here)


@pytest_twisted.ensureDeferred
async def test_a_check_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is left on either side, where it would have gone on for seconds."""
    monkeypatch.setattr(deafport, "_DROP_SYN", deafport._DROP_ALL)
    monkeypatch.setattr(deafport, "CROSS_S", 30.0)
    async with site(tmp_path) as here:
        check = checks(here)
        await until(lambda: here.server._deaf_ports)
        check.done.addErrback(lambda failure: failure.trap(CancelledError))
        check.done.cancel()
        await gone(here)


@pytest_twisted.ensureDeferred
async def test_the_word_without_a_port_and_a_second_port(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        client = await here.client()
        client.send(Observe(version=VERSION, tag=client.port))
        await client.expect(Observed)
        client.send(CrossNow())
        assert await client.expect(Crossed) == Crossed()
        client.send(Cross(), Cross())
        ports = [(await client.expect(CrossAt)).port for _ in range(2)]
        assert sorted(map(bool, ports)) == [False, True]
        client.abort()
        await gone(here)


def test_a_server_that_says_nothing_does_not_hold_the_check() -> None:
    clock: Any = Clock()
    check = CrossingCheck(clock, lambda *_: Deferred(), parse_endpoint("198.18.0.10:8877"))
    found: list[object] = []
    check.done.addCallback(found.append)
    check.start()
    clock.advance(CHECK_S)
    assert found == [("unknown", "the server is silent")]
    assert not check.answered
    assert not clock.getDelayedCalls()


class Told:
    """The link of a check whose server the test plays."""

    def __init__(self) -> None:
        self.secured: Deferred[None] = Deferred()

    def send(self, *_: object) -> None:
        """Nobody reads it."""

    close = send


@pytest.mark.parametrize(("ports", "why"), [((0, 8878), "did not try"), ((1023,), "may not be dialled")])
def test_what_must_not_be_dialled_or_comes_too_late(
    monkeypatch: pytest.MonkeyPatch, ports: tuple[int, ...], why: str
) -> None:
    """A server that said that it has no port names one all the same, or names one that no client dials."""
    dialled: list[object] = []
    monkeypatch.setattr(crossing, "HalfOpen", lambda *order: dialled.append(order))
    link: Any = Told()
    clock: Any = Clock()
    check = CrossingCheck(clock, lambda *_: Deferred(), parse_endpoint("198.18.0.10:8877"))
    check._links = {link: check._port}
    check.start()
    found: list[tuple[str, str]] = []
    check.done.addCallback(found.append)
    check._on_message(link, Observed(tag=0, observed="198.18.1.1:20001"))
    for port in ports:
        check._on_message(link, CrossAt(port))
    assert dialled == []
    assert [one[0] for one in found] == ["unknown"]
    assert why in found[0][1]
