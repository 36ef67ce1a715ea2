"""What stands at the end of a stream and writes down what happens to it."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure


class Noting(Protocol):
    """Writes down what happens to it."""

    transport: Any

    def __init__(self) -> None:
        self.heard = b""
        self.ends: list[type[BaseException]] = []
        self.said: list[str] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008  # as Twisted has it
        assert reason.value is not None
        self.ends.append(type(reason.value))
        self.said.append(str(reason.value))
