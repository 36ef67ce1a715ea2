"""Being dialled back by a server on loopback, where everything gets through."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from p2pxfer.core.addresses import parse_endpoint
from p2pxfer.core.messages import ALPN_SERVER, DialledBack, DialOutcome
from p2pxfer.core.server.effects import Listening
from p2pxfer.core.traversal.discovery import Inbound
from p2pxfer.net.connection.serverlink import ServerLink
from p2pxfer.net.connection.streams import SecureBootstrap
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.private.identity import new_identity
from p2pxfer.net.server import knock as knock_module
from p2pxfer.net.server import server
from p2pxfer.net.server.dialback import dial_back
from p2pxfer.net.server.knock import knock
from p2pxfer.net.traversal import filtering
from p2pxfer.net.traversal.filtering import CHECK_S, TOKEN, FilteringCheck
from p2pxfer.net.traversal.freshports import fresh_ports
from p2pxfer.net.traversal.listening import reuse_binding
from tests.net.reactors import reactor, until
from tests.net.serverkit import Site, Stranger, site


def checks(here: Site, port: int) -> FilteringCheck:
    identity = new_identity()

    def opener(link: ServerLink, host: str, number: int, local: int) -> Deferred[Any]:
        creator = PeerTLS(identity, here.identity.id.digest, ALPN_SERVER)
        bootstrap = SecureBootstrap(reactor, link, creator, is_client=True)
        endpoint = TCP4ClientEndpoint(reactor, host, number, bindAddress=reuse_binding(local))
        return endpoint.connect(Factory.forProtocol(lambda: bootstrap))

    target = parse_endpoint(f"127.0.0.1:{here.ports[0]}")
    return FilteringCheck(reactor, opener, target, port)


async def gone(here: Site) -> None:
    await until(lambda: here.counts["connections"] == 0)


@pytest_twisted.ensureDeferred
async def test_a_server_with_a_second_address(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        bound = tuple((ip_address("127.0.0.1"), port) for port in here.ports)
        here.server.registry.listens(Listening((*bound, (ip_address("127.0.0.2"), 1)), ()))
        check = checks(here, fresh_ports(1)[0])
        check.start()
        assert await check.done == Inbound("endpoint-independent", unsolicited="rst")
        await gone(here)


async def visited(here: Site) -> tuple[FilteringCheck, Stranger]:
    """A check under way, whose port a stranger has dialled and says nothing to."""
    port = fresh_ports(1)[0]
    check = checks(here, port)
    check.start()
    stranger = Stranger()
    await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(Factory.forProtocol(lambda: stranger))
    return check, stranger


async def refuses(port: int) -> bool:
    try:
        await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(Factory.forProtocol(Stranger))
    except ConnectionRefusedError:
        return True
    return False


@pytest_twisted.ensureDeferred
async def test_no_visitor_outlives_the_check(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        check, stranger = await visited(here)
        await check.done
        await until(lambda: stranger.lost)
        await gone(here)


@pytest_twisted.ensureDeferred
async def test_a_check_can_be_cancelled(tmp_path: Path) -> None:
    """Nothing of it is left: no connection, no visitor, no listener, no timer (which the fixtures look for)."""
    async with site(tmp_path) as here:
        check, stranger = await visited(here)
        port = check.port
        check.done.addErrback(lambda failure: failure.trap(CancelledError))
        check.done.cancel()
        await until(lambda: stranger.lost)
        await gone(here)
        assert await refuses(port)


@pytest_twisted.ensureDeferred
async def test_a_server_with_one_address(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        check = checks(here, fresh_ports(1)[0])
        check.start()
        found = await check.done
        assert found.filtering == "unknown"
        assert "no other address" in found.closed
        await gone(here)


@pytest_twisted.ensureDeferred
async def test_strangers_do_not_count(tmp_path: Path) -> None:
    """Nothing is heard of a second address that does not exist here, whatever others say to the port."""
    async with site(tmp_path) as here:
        bound = tuple((ip_address("127.0.0.1"), port) for port in here.ports)
        here.server.registry.listens(Listening((*bound, (ip_address("198.18.0.99"), 1)), ()))
        port = fresh_ports(1)[0]
        check = checks(here, port)
        check.start()
        stranger = Stranger()
        await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(Factory.forProtocol(lambda: stranger))
        stranger.write(bytes(TOKEN) + b"a")
        found = await check.done
        assert (found.filtering, "no other address" in found.closed) == ("unknown", True)
        await stranger.gone
        await gone(here)


@pytest.mark.parametrize(
    ("claimed", "expected"),
    [
        (["connected", "silent"], ("unknown", "what the server says and what arrived differ")),
        (["silent", "silent"], ("port-dependent", "")),
        (["not-tried", "not-tried"], ("unknown", "the server did not dial back")),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_arrived_counts_and_not_what_the_server_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claimed: list[DialOutcome], expected: tuple[str, str]
) -> None:
    monkeypatch.setattr(server, "dial_back", lambda reactor, target, sources, token, done: done(claimed))
    monkeypatch.setattr(filtering, "GRACE_S", 0.2)
    async with site(tmp_path) as here:
        check = checks(here, fresh_ports(1)[0])
        check.start()
        found = await check.done
        assert (found.filtering, found.closed) == expected
        await gone(here)


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            here.ports = (closed.getsockname()[1], 0)
            check = checks(here, fresh_ports(1)[0])
            check.start()
            found = await check.done
            assert (found.filtering, found.closed) == ("unknown", "the server could not be asked")
            assert (found.unsolicited, found.unanswered) == ("unknown", "the server did not try")


def test_a_server_that_goes_on_answering_does_not_hold_the_check() -> None:
    """Law: it takes ``CHECK_S`` seconds at most, however late and however often an answer comes."""
    clock: Any = MemoryReactorClock()
    check = FilteringCheck(clock, lambda *_: Deferred(), parse_endpoint("198.18.0.10:8877"), 23_000)
    ended: list[Inbound] = []
    check.done.addCallback(ended.append)
    check.start()
    for _ in range(round(CHECK_S)):
        clock.advance(1.0)
        check._on_message(next(iter(check._links)), DialledBack("connected", "connected", "silent"))
    assert [found.filtering for found in ended] == ["unknown"]


def test_an_event_for_another_socket_is_no_answer_to_a_knock() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):
            outcome: Deferred[str] = Deferred()
            before = set(reactor.getWriters())
            target = parse_endpoint(f"127.0.0.1:{full.getsockname()[1]}")
            knock(reactor, target, ip_address("127.0.0.1"), outcome.callback)
            (trying,) = set(reactor.getWriters()) - before
            trying.doWrite()
            assert not outcome.called
            assert isinstance(trying, knock_module._Knock)
            trying._end("silent")
            assert outcome.called


async def knocked(port: int, host: str = "127.0.0.1", source: str = "127.0.0.1") -> str:
    outcome: Deferred[str] = Deferred()
    knock(reactor, parse_endpoint(f"{host}:{port}"), ip_address(source), outcome.callback)
    assert not outcome.called
    return await outcome


@pytest_twisted.ensureDeferred
async def test_outcomes_of_a_knock(monkeypatch: pytest.MonkeyPatch) -> None:
    """ICMP and silence take a network: ``tests/lab/test_discovery.py``."""
    with socket.socket() as closed, socket.socket() as heard, socket.socket() as full:
        closed.bind(("127.0.0.1", 0))
        assert await knocked(closed.getsockname()[1]) == "refused"
        heard.bind(("127.0.0.1", 0))
        heard.listen()
        assert await knocked(heard.getsockname()[1]) == "connected"
        visitor, _ = heard.accept()
        with visitor:
            visitor.settimeout(50)
            with pytest.raises(ConnectionResetError):  # nothing was said
                visitor.recv(1)
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):
            monkeypatch.setattr(knock_module, "KNOCK_S", 0.3)
            assert await knocked(full.getsockname()[1]) == "silent"
    assert await knocked(20_000, source="198.18.0.99") == "not-tried"


@pytest_twisted.ensureDeferred
async def test_outcomes_of_dials() -> None:
    done: Deferred[list[DialOutcome]] = Deferred()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        target = parse_endpoint(f"127.0.0.1:{closed.getsockname()[1]}")
        sources = [ip_address("127.0.0.1"), ip_address("198.18.0.99"), None]
        dial_back(reactor, target, sources, bytes(TOKEN), done.callback)
        assert await done == ["silent", "not-tried", "not-tried"]
