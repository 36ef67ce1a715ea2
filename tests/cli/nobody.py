"""A server at which one is registered at once, and an inbox to which nobody comes."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from p2pxfer.errors import P2pxferError, PeerStopped


class FakeClient:
    """A rendezvous client that is registered at once."""

    registered: object = "as bob"

    def __init__(self, *_: Any, **__: Any) -> None:
        self.failed: Deferred[P2pxferError] = Deferred()

    async def start(self) -> None:
        pass

    async def leave(self) -> None:
        pass


class FakeInbox:
    """An inbox to which nobody comes."""

    farewells: ClassVar[list[PeerStopped | None]] = []
    """What each one that was closed said."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def attach(self, client: FakeClient) -> None:
        pass

    def introduced(self, introduction: object) -> None:
        raise AssertionError("nobody introduces anybody")

    async def close(self, farewell: PeerStopped | None = None, *, stopped: bool = False) -> None:
        self.farewells.append(farewell)
