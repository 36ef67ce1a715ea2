"""What a server tells Prometheus: figures of what really happened, over HTTP, and nothing about anybody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure as Reason

from p2pxfer.core.messages import Failure, Introduce, Observe
from p2pxfer.net.server.metrics import MetricsSite, metrics_endpoint
from tests.net.reactors import until
from tests.net.serverkit import Site, reactor, site


class Question(Protocol):
    """One HTTP request and everything that comes back until the other side closes."""

    def __init__(self, path: str, method: str) -> None:
        self.request = f"{method} {path} HTTP/1.0\r\n\r\n".encode()
        self.answer = b""
        self.done: Deferred[str] = Deferred()

    def connectionMade(self) -> None:
        cast(Any, self.transport).write(self.request)

    def dataReceived(self, data: bytes) -> None:
        self.answer += data

    def connectionLost(self, reason: Any = Reason) -> None:
        self.done.callback(self.answer.decode())


class Metrics:
    """The metrics of a server on a port of their own."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def get(self, path: str = "/metrics", method: str = "GET") -> str:
        question = Question(path, method)
        await TCP4ClientEndpoint(reactor, "127.0.0.1", self.port).connect(Factory.forProtocol(lambda: question))
        return await question.done

    async def figures(self) -> dict[str, float]:
        """Every sample, by its name and labels as Prometheus writes them."""
        head, _, body = (await self.get()).partition("\r\n\r\n")
        assert " 200 " in head.splitlines()[0]
        assert "text/plain" in head
        return {
            sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
        }


@asynccontextmanager
async def measured(folder: Path) -> AsyncIterator[tuple[Site, Metrics]]:
    async with site(folder) as running:
        factory = MetricsSite(running.server)
        port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        try:
            yield running, Metrics(port.getHost().port)
        finally:
            await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_figures_follow_what_happens(tmp_path: Path) -> None:
    async with measured(tmp_path) as (running, metrics):
        before = await metrics.figures()
        assert before["p2pxfer_clients"] == before["p2pxfer_introductions_total"] == before["p2pxfer_relay_legs"] == 0
        one, other = await running.legs()
        observer = await running.client()
        observer.send(Observe(version=1, tag=1))
        now = await metrics.figures()
        assert (now["p2pxfer_clients"], now["p2pxfer_names"]) == (2, 1)
        assert now["p2pxfer_introductions_total"] == 1
        assert (now["p2pxfer_relay_sessions"], now["p2pxfer_relay_legs"]) == (1, 2)
        assert now["p2pxfer_connections"] == 5
        one.tls.write(b"x" * 70_000)
        await until(lambda: other.taken == 70_000)
        assert (await metrics.figures())["p2pxfer_relay_bytes_total"] == 70_000
        one.abort()
        await until(lambda: not running.server.relays)
        after = await metrics.figures()
        assert after["p2pxfer_relay_bytes_total"] == 70_000
        assert after["p2pxfer_introductions_total"] == 1


@pytest_twisted.ensureDeferred
async def test_refusals_are_counted_by_their_reason(tmp_path: Path) -> None:
    async with measured(tmp_path) as (running, metrics):
        alice = await running.registered()
        for _ in range(3):
            alice.send(Introduce(to="nobody", tag=alice.port))
            await alice.expect(Failure)
        await running.registered("bob")
        thief = await running.client()
        thief.send(Observe(version=9, tag=1))
        await thief.expect(Failure)
        figures = await metrics.figures()
        assert figures["p2pxfer_refusals_total E_PEER_GONE"] == 3
        assert figures["p2pxfer_refusals_total E_STATE"] == 1
        assert figures["p2pxfer_refusals_total admission"] == 0


@pytest_twisted.ensureDeferred
async def test_nobody_is_named_in_the_figures(tmp_path: Path) -> None:
    async with measured(tmp_path) as (running, metrics):
        bob = await running.registered("bob-with-a-long-name")
        text = await metrics.get()
        assert "bob" not in text
        assert "127.0.0.1" not in text
        assert bob.identity.id.digest.hex() not in text


@pytest_twisted.ensureDeferred
async def test_there_is_one_page_and_it_is_only_read(tmp_path: Path) -> None:
    async with measured(tmp_path) as (_, metrics):
        assert " 404 " in (await metrics.get("/")).splitlines()[0]
        assert " 405 " in (await metrics.get(method="POST")).splitlines()[0]
        assert " 200 " in (await metrics.get("/metrics?x=1")).splitlines()[0]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("tcp:9477", "tcp:9477:interface=127.0.0.1"),
        ("tcp6:9477", r"tcp6:9477:interface=\:\:1"),
        ("tcp:127.0.0.1:9477", "tcp:9477:interface=127.0.0.1"),
        ("tcp:192.168.1.2:9477", "tcp:9477:interface=192.168.1.2"),
        ("tcp:9477:interface=0.0.0.0", "tcp:9477:interface=0.0.0.0"),
        ("tcp:9477:0.0.0.0", "tcp:9477:0.0.0.0"),
        ("tcp:port=9477", "tcp:port=9477:interface=127.0.0.1"),
        ("tcp:9477:backlog=5", "tcp:9477:backlog=5:interface=127.0.0.1"),
        (r"tcp6:9477:interface=\:\:", r"tcp6:9477:interface=\:\:"),
        ("unix:/run/metrics", "unix:/run/metrics"),
        ("nonsense", "nonsense"),
    ],
)
def test_an_endpoint_without_an_interface_is_on_loopback(text: str, meant: str) -> None:
    assert metrics_endpoint(text) == meant
