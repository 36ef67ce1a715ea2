"""UPnP-IGD over real sockets: a router on loopback that answers, and hostile ones that only try to cost something."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory, Protocol

from p2pxfer.core.traversal import igd as texts
from p2pxfer.core.traversal.igd import BadAnswer, Control
from p2pxfer.net.traversal import igd
from p2pxfer.net.traversal.igd import MAX_ANSWER, Igd
from tests.core.traversal.igdanswers import IP1, outside, soap
from tests.net.reactors import until

reactor: Any = _reactor
HERE = IPv4Address("127.0.0.1")


class Web(Protocol):
    """One connection to the router; `answer(request)` is written, and the connection closed if it says so."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.data = b""
        self.sent = 0
        self.gone = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0)
        if end and len(body) >= length:
            self.router.requests.append(self.data)
            self.router.answer(self)

    def connectionLost(self, reason: object = None) -> None:
        self.gone = True


class Router:
    """An HTTP server of the test."""

    def __init__(self, answer: Callable[[Web], None]) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.webs: list[Web] = []
        self.port = 0

    def build(self) -> Web:
        self.webs.append(Web(self))
        return self.webs[-1]

    @property
    def igd(self) -> Igd:
        return Igd(reactor, HERE, Control(f"http://127.0.0.1:{self.port}/ctl", IP1))


@asynccontextmanager
async def router(answer: Callable[[Web], None]) -> AsyncIterator[Router]:
    made = Router(answer)
    listening = reactor.listenTCP(0, Factory.forProtocol(made.build), interface=str(HERE))
    made.port = listening.getHost().port
    try:
        yield made
    finally:
        await listening.stopListening()
        await until(lambda: all(web.gone for web in made.webs))


def says(body: bytes, status: str = "200 OK", more: str = "") -> Callable[[Web], None]:
    def answer(web: Web) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
        web.transport.write(head.encode() + body)  # type: ignore[union-attr]  # it is connected
        web.transport.loseConnection()  # type: ignore[union-attr]  # it is connected

    return answer


@pytest_twisted.ensureDeferred
async def test_a_port_is_asked_for_by_soap() -> None:
    async with router(says(soap("<u:AddPortMappingResponse/>"))) as made:
        assert await made.igd.add(23456, 23457, 3600) == 0
    (request,) = made.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /ctl HTTP/1.1\r\n")
    assert b'"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping"' in head
    assert body == texts.request("AddPortMapping", IP1, texts.add_arguments(HERE, 23456, 23457, 3600))


@pytest_twisted.ensureDeferred
async def test_a_refusal_comes_with_its_number() -> None:
    fault = soap("<s:Fault><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail></s:Fault>")
    async with router(says(fault, "500 Internal Server Error")) as made:
        assert await made.igd.add(23456, 23457, 3600) == 718


@pytest_twisted.ensureDeferred
async def test_the_outside_address() -> None:
    async with router(says(soap(outside("198.18.1.1")))) as made:
        assert await made.igd.external() == IPv4Address("198.18.1.1")


def flood(piece: bytes) -> Callable[[Web], None]:
    """Writes without end, as fast as it is read."""

    def answer(web: Web) -> None:
        if not web.gone and web.sent < 50 * MAX_ANSWER:
            web.sent += len(piece)
            web.transport.write(piece)  # type: ignore[union-attr]  # it is connected
            reactor.callLater(0, answer, web)

    return answer


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "piece",
    [
        b"HTTP/1.1 200 OK\r\n\r\n" + b"<a>" * 5000,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000,
        b"x" * 15000,
    ],
    ids=["body", "headers", "line"],
)
async def test_an_answer_without_end_is_cut_off(piece: bytes) -> None:
    async with router(flood(piece)) as made:
        with pytest.raises(BadAnswer):
            await made.igd.external()
        await until(lambda: made.webs and made.webs[0].gone)
        assert made.webs[0].sent < 50 * MAX_ANSWER


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "answer",
    [says(b""), says(b"<a><b></a>"), says(b"not found", "404 Not Found"), lambda web: web.transport.abortConnection()],
    ids=["nothing", "no xml", "error", "reset"],
)
async def test_answers_that_are_none(answer: Callable[[Web], None]) -> None:
    async with router(answer) as made:
        with pytest.raises(BadAnswer):
            await made.igd.external()


@pytest_twisted.ensureDeferred
async def test_nobody_is_sent_elsewhere_by_a_redirection() -> None:
    async with (
        router(says(b"")) as other,
        router(says(b"", "302 Found", f"Location: http://127.0.0.1:{other.port}/\r\n")) as made,
    ):
        with pytest.raises(BadAnswer):
            await made.igd.external()
    assert len(made.requests) == 1
    assert not other.webs


@pytest_twisted.ensureDeferred
async def test_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(igd, "CALL_S", 0.2)
    async with router(lambda web: None) as made:
        with pytest.raises(BadAnswer):
            await made.igd.external()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("more", [b"", b"<a>"], ids=["headers", "a little"])
async def test_silence_after_the_headers_keeps_no_connection(monkeypatch: pytest.MonkeyPatch, more: bytes) -> None:
    monkeypatch.setattr(igd, "CALL_S", 1.0)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    async with router(lambda web: web.transport.write(head + more)) as made:  # type: ignore[union-attr]  # connected
        with pytest.raises(BadAnswer):
            await made.igd.external()
        await until(lambda: made.webs and made.webs[0].gone)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html><body>Unauthorized</body></html>", "200 OK"),
        (b"<html><body>Unauthorized</body></html>", "401 Unauthorized"),
        (soap("<u:AddPortMappingResponse/>"), "500 Internal Server Error"),
    ],
)
async def test_a_port_is_given_by_a_success_only(body: bytes, status: str) -> None:
    async with router(says(body, status)) as made:
        with pytest.raises(BadAnswer):
            await made.igd.add(23456, 23457, 3600)
