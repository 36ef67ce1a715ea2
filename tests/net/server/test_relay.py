"""How long a relay waits for a leg that is slow, with legs that are none and a clock that the test moves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock

from p2pxfer.net.connection.tcpinfo import Flow
from p2pxfer.net.server.relay import STALL_S, Relay


class Leg:
    """One end, which takes what the test says; ``told`` is what became of it."""

    def __init__(self, knows: bool) -> None:
        self.acked = 0
        self.unsent = 0
        self.told: list[str] = []
        self.producer: Any = None
        self.tls: Any = SimpleNamespace(
            registerProducer=self._register, unregisterProducer=lambda: None, write=self._write,
            pauseProducing=lambda: self.told.append("paused"), resumeProducing=lambda: self.told.append("resumed"),
            flow=lambda: Flow(self.acked, 0, 0, 0.1) if knows else None,
        )  # fmt: skip

    def _register(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def _write(self, data: bytes) -> None:
        self.unsent += len(data)
        self.tls.unsent = self.unsent
        self.producer.pauseProducing()

    def take(self, size: int) -> None:
        self.acked += size
        self.tls.unsent = self.unsent = self.unsent - size

    def close_within(self, seconds: float) -> None:
        self.told.append("closed")

    def abort(self) -> None:
        self.told.append("aborted")


def joined(clock: Clock, knows: bool = True) -> tuple[Relay, Leg, Leg]:
    one, other = Leg(knows), Leg(knows)
    return Relay(one, other, clock, lambda relay: None), one, other


def slow(knows: bool) -> None:
    """A leg behind 64 kbit/s, towards which a second's worth of a fast one's data waits."""
    clock = Clock()
    relay, one, other = joined(clock, knows)
    relay.received(one, bytes(1_500_000))
    for _ in range(180):
        clock.advance(1)
        other.take(8_000)
    assert (relay.why, one.told, other.told) == ("", ["paused"], [])


def test_a_leg_that_is_slow_is_not_taken_for_one_that_takes_nothing() -> None:
    slow(True)


def test_nor_where_the_kernel_does_not_tell() -> None:
    slow(False)


def test_what_the_kernel_alone_takes_counts() -> None:
    """A block that was encrypted, and what the kernel holds, may take a slow line minutes."""
    clock = Clock()
    relay, one, other = joined(clock)
    relay.received(one, bytes(1_500_000))
    for _ in range(4):
        clock.advance(STALL_S - 1)
        other.acked += 1
    assert relay.why == ""


def test_a_leg_that_has_stopped_taking_ends_the_relay_a_stall_later() -> None:
    clock = Clock()
    relay, one, other = joined(clock)
    relay.received(one, bytes(1_500_000))
    clock.advance(STALL_S - 1)
    other.take(8_000)
    clock.advance(1)
    assert relay.why == ""
    clock.advance(STALL_S - 1)
    assert relay.why == ""
    clock.advance(1)
    assert relay.why == "one side took no data"
    assert one.told == ["paused", "aborted"] and other.told == ["aborted"]
