"""Whether two ports of this machine meet at their outside endpoints; on loopback these are the ports themselves."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory

from p2pxfer.core.addresses import Endpoint, parse_endpoint
from p2pxfer.core.messages import ALPN_SERVER
from p2pxfer.core.traversal.discovery import Inbound
from p2pxfer.net.connection.serverlink import ServerLink
from p2pxfer.net.connection.streams import SecureBootstrap
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.private.identity import new_identity
from p2pxfer.net.traversal import crossing, hairpin
from p2pxfer.net.traversal import inbound as inbound_module
from p2pxfer.net.traversal.hairpin import CHECK_S, TOKEN, HairpinCheck
from p2pxfer.net.traversal.listening import reuse_binding
from tests.net.reactors import reactor, sleep, until
from tests.net.serverkit import Site, Stranger, site
from tests.net.traversal.natworld import AT, OTHERS, TAG, Net


class Check(HairpinCheck):
    """A check whose ports and dials are known."""

    def __init__(self, here: Site, may_dial: bool = True) -> None:
        identity = new_identity()
        self.ports: list[int] = []
        self.wanted: list[Endpoint] = []

        def opener(link: ServerLink, host: str, number: int, local: int) -> Deferred[Any]:
            self.ports.append(local)
            creator = PeerTLS(identity, here.identity.id.digest, ALPN_SERVER)
            bootstrap = SecureBootstrap(reactor, link, creator, is_client=True)
            endpoint = TCP4ClientEndpoint(reactor, host, number, bindAddress=reuse_binding(local))
            return endpoint.connect(Factory.forProtocol(lambda: bootstrap))

        def allowed(endpoint: Endpoint) -> bool:
            self.wanted.append(endpoint)
            return may_dial

        target = parse_endpoint(f"127.0.0.1:{here.ports[0]}")
        super().__init__(reactor, opener, target, allowed)
        self.start()


async def gone(here: Site) -> None:
    await until(lambda: here.counts["connections"] == 0)


@pytest_twisted.ensureDeferred
async def test_the_two_ports_meet(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        check = Check(here)
        assert await check.done == ("yes", "")
        assert {endpoint.port for endpoint in check.wanted} <= set(check.ports)
        await until(lambda: not check.guests)
        await gone(here)


@pytest_twisted.ensureDeferred
async def test_what_may_not_be_dialled_is_not(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        check = Check(here, may_dial=False)
        assert await check.done == ("unknown", "the outside address may not be dialled")
        assert not check.guests
        await gone(here)


@pytest_twisted.ensureDeferred
async def test_where_nothing_is_sent_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says that it saw the ports elsewhere, where nobody is; a stranger at the port is not the other one."""
    monkeypatch.setattr(hairpin, "CROSS_S", 3.0)
    nobody = iter(("127.0.0.1:1", "127.0.0.1:2"))
    monkeypatch.setattr(hairpin, "parse_endpoint", lambda text: parse_endpoint(next(nobody)))
    async with site(tmp_path) as here:
        check = Check(here)
        await until(lambda: len(check.wanted) == 2)
        stranger = Stranger()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", check.ports[0])
        await endpoint.connect(Factory.forProtocol(lambda: stranger))
        stranger.write(bytes(TOKEN + 1))
        assert await check.done == ("no", "")
        await until(lambda: stranger.lost)
        await gone(here)


@pytest_twisted.ensureDeferred
async def test_a_check_can_be_cancelled(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        check = Check(here)
        await sleep(0.0)  # its connections are on their way; on this machine they would be over soon
        check.done.addErrback(lambda failure: failure.trap(CancelledError))
        check.done.cancel()
        await until(lambda: not check.guests)
        await gone(here)


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            here.ports = (closed.getsockname()[1], 0)
            assert await Check(here).done == ("unknown", "the server could not be asked")


# -- beside a registration, on a clock of the test -----------------------------------------------------------------


def inbound(net: Net) -> list[Any]:
    found: list[Any] = []
    Deferred.fromCoroutine(net.discovery.inbound()).addBoth(found.append)
    return found


def test_without_a_server_both_are_unknown() -> None:
    lost = "the server is not connected"
    nothing = Inbound(closed=lost, unturned=lost, unanswered=lost, uncrossed=lost)
    assert inbound(Net(lambda local, at: local)) == [nothing]


class Filtering:
    """The other check of the same measurement."""

    def __init__(self, *_: object) -> None:
        self.done: Deferred[Inbound] = Deferred()
        Filtering.last = self

    def start(self) -> None:
        """Nothing to do."""

    last: Filtering


@pytest.fixture
def filtering(monkeypatch: pytest.MonkeyPatch) -> type[Filtering]:
    monkeypatch.setattr(inbound_module, "FilteringCheck", Filtering)
    return Filtering


def test_no_hairpin_is_looked_for_where_ports_depend_on_the_destination(filtering: type[Filtering]) -> None:
    net = Net(lambda local, at: local + (100 if at == OTHERS[0] else 0))
    net.register(TAG)
    net.wait(2)
    before = len(net.wires)
    found = inbound(net)
    filtering.last.done.callback(Inbound("port-dependent", unsolicited="drop"))
    moves = "the outside port depends on the destination"
    assert found == [Inbound("port-dependent", "", "unknown", moves, "drop", uncrossed=moves)]
    assert len(net.wires) == before


def test_the_checks_run_at_the_same_time(filtering: type[Filtering]) -> None:
    net = Net(lambda local, at: local)
    net.register(TAG)
    net.wait(1)
    net.silent = {str(AT)}
    found = inbound(net)
    net.wait(max(CHECK_S, crossing.CHECK_S) + 0.1)
    assert not found
    filtering.last.done.callback(Inbound("port-dependent", unsolicited="drop"))
    silent = "the server is silent"
    assert found == [Inbound("port-dependent", "", "unknown", silent, "drop", uncrossed=silent)]


@pytest.mark.parametrize("seen", ["198.18.9.9:30000", "192.168.1.9:30000", "198.18.1.1:80", "198.18.0.10:8877"])
def test_the_server_cannot_have_another_address_dialled(seen: str) -> None:
    """Not one that it never saw before, nor a private one, nor a port of the system, nor itself."""
    net = Net(lambda local, at: local)
    net.register(TAG)
    net.wait(1)
    assert not net.discovery.checks.may_dial(parse_endpoint(seen))
    assert net.discovery.checks.may_dial(parse_endpoint("198.18.1.1:30000"))


def test_a_cancelled_measurement_says_so_and_leaves_nothing(filtering: type[Filtering]) -> None:
    net = Net(lambda local, at: local)
    net.register(TAG)
    net.wait(1)
    net.silent = {str(AT)}
    found: list[Any] = []
    measuring = Deferred.fromCoroutine(net.discovery.inbound())
    measuring.addBoth(found.append)
    measuring.cancel()
    assert found[0].check(CancelledError)
    net.discovery.end()
    assert not net.clock.getDelayedCalls()
