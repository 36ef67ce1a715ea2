"""Entering a code: what is said where nothing comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.core.contact.codes import parse_code
from p2pxfer.errors import Unreachable
from p2pxfer.net.private.home import Home
from p2pxfer.net.session.joining import Joining
from tests.net.machines import machine_at


class SilentClient:
    """A server that never introduces anybody."""

    def introduce(self, name: str, policy: str) -> Deferred[Any]:
        return Deferred()


def test_a_pairing_that_takes_too_long_ends_in_words(tmp_path: Path) -> None:
    clock: Any = Clock()
    client: Any = SilentClient()
    code = parse_code("123451-acid-acorn-acre")
    joining = Joining(machine_at(Home(tmp_path / "home"), clock, patience=60.0), client, code)

    async def agree(proved: object, both: object) -> None:
        raise AssertionError("nobody was met")

    ended: list[Any] = []
    Deferred.fromCoroutine(joining.run(agree)).addErrback(lambda failure: ended.append(failure.value))
    clock.advance(60.0)
    assert [type(error) for error in ended] == [Unreachable]
    assert "within 60 seconds" in str(ended[0])
