"""What a server counts, for Prometheus: the text of its exposition format over HTTP, for whoever may ask.

Laws of this file:

1. It is off unless an operator gives an endpoint, and an endpoint that names no interface is on loopback: nobody is
   asked who they are.
2. Nothing here tells of a person: no address, no name, no key.  Every label comes from a fixed list.
3. The figures are read when somebody asks; nothing is kept twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from twisted.web.http import NOT_ALLOWED, NOT_FOUND
from twisted.web.resource import Resource
from twisted.web.server import Site

from p2pxfer.net.server.server import RendezvousServer

IDLE_S: Final = 15
"""How long a connection without a request is kept, seconds."""
_LOOPBACK: Final = {"tcp": "127.0.0.1", "tcp6": r"\:\:1"}
_HOST_AND_PORT: Final = re.compile(r"tcp:(\d+\.\d+\.\d+\.\d+):(\d+)")


def metrics_endpoint(text: str) -> str:
    """The Twisted endpoint that ``text`` means: one without an interface is on loopback.

    ``tcp:127.0.0.1:9477`` is understood as well as ``tcp:9477:interface=127.0.0.1``.
    """
    if (both := _HOST_AND_PORT.fullmatch(text)) is not None:
        return f"tcp:{both[2]}:interface={both[1]}"
    kind, *words = re.split(r"(?<!\\):", text)
    positional = [word for word in words if "=" not in word]
    named = len(positional) > 1 or any(word.startswith("interface=") for word in words)
    if kind not in _LOOPBACK or not words or named:
        return text
    return f"{text}:interface={_LOOPBACK[kind]}"


class ServerCollector(Collector):
    """Reads a server's figures."""

    def __init__(self, server: RendezvousServer) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """Every figure as it is now."""
        server = self._server
        counts = server.registry.counts
        yield _gauge("connections", "Connections, whatever they are for", server.admission.total)
        yield _gauge("clients", "Registered clients", counts["clients"])
        yield _gauge("names", "Names that are registered now", counts["names"])
        yield _gauge("waiting", "Clients that wait for a peer that is not here", counts["waiting"])
        yield _gauge("relay_sessions", "Relay sessions with at least one leg", counts["relays"])
        yield _gauge("relay_legs", "Relay legs that are open, waiting ones with them", counts["legs"])
        yield _counter("introductions", "Introductions, each of two clients", server.introductions)
        yield _counter("relay_bytes", "Bytes that went through relays, both ways", server.carried)
        refusals = CounterMetricFamily(
            "p2pxfer_refusals", "Requests and connections that were refused", labels=["reason"]
        )
        reasons = {**server.refused, "admission": server.admission.refused, "evicted": server.admission.evicted}
        for reason, count in sorted(reasons.items()):
            refusals.add_metric([reason], count)
        yield refusals
        outcomes = GaugeMetricFamily(
            "p2pxfer_punch_outcomes",
            "What sides of punches said came of them, by kinds of NAT; a word counts half after 30 days",
            labels=["one", "other", "way", "result"],
        )
        for row in server.registry.experience.rows(server.clock.seconds()):
            outcomes.add_metric([row.one, row.other, row.way, row.result], row.count)
        yield outcomes


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"p2pxfer_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"p2pxfer_{name}", text, value=value)


class _Page(Resource):
    """The figures at ``/metrics``; there is nothing else, and they are only read."""

    isLeaf = True

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self._registry = registry

    def render(self, request: Any) -> bytes:
        """All figures, whatever the query asks for."""
        if request.path != b"/metrics":
            request.setResponseCode(NOT_FOUND)
        elif request.method not in (b"GET", b"HEAD"):
            request.setResponseCode(NOT_ALLOWED)
            request.setHeader(b"allow", b"GET, HEAD")
        else:
            request.setHeader(b"content-type", CONTENT_TYPE_PLAIN_0_0_4.encode())
            return generate_latest(self._registry)
        return b""


class MetricsSite(Site):
    """What to listen with."""

    noisy = False
    displayTracebacks = False

    def __init__(self, server: RendezvousServer) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(ServerCollector(server))
        super().__init__(_Page(registry), timeout=IDLE_S)  # type: ignore[no-untyped-call]  # Twisted's

    def log(self, request: Any) -> None:
        """No line in the log for every question."""
