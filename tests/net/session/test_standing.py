"""Whether what a job has is enough, and who is told that nothing but the relay is left."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.core.messages import Introduction, PathPolicy
from p2pxfer.net.session.path import PathFacts
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.standing import wants_another, when_relayed
from p2pxfer.status import PathKind


def path_set(*kinds: PathKind) -> PathSet:
    """With one path of each kind."""
    paths = PathSet(Clock().seconds, lambda event: None)
    for number, kind in enumerate(kinds):
        path: Any = SimpleNamespace(facts=PathFacts(number, kind, "", ""), rtt=None, began=0.0, writable=True)
        paths.add(path)
    return paths


class Decided:
    """A meeting whose punch the test ends."""

    def __init__(self, *, dial: bool, token: bytes | None = b"t" * 32) -> None:
        self.introduction = Introduction(bytes(32), True, bytes(32), dial=dial, relay_token=token)
        self.ending: Deferred[None] = Deferred()
        self.given_up = False
        self.party = SimpleNamespace(beside=False)

    async def decided(self) -> None:
        await self.ending


@pytest.mark.parametrize(
    ("dial", "token", "kinds", "over", "told"),
    [
        (True, b"t" * 32, ["relay"], False, True),
        (True, b"t" * 32, ["relay", "punched"], False, False),
        (True, b"t" * 32, [], False, False),  # nothing stands: that is told by other words
        (True, b"t" * 32, ["relay"], True, False),
        (False, b"t" * 32, [], False, True),  # no direct path will ever come
        (False, None, [], False, False),
    ],
)
def test_who_is_left_with_the_relay_is_told_when_the_punch_is_over(
    dial: bool, token: bytes | None, kinds: list[PathKind], over: bool, told: bool
) -> None:
    meeting: Any = Decided(dial=dial, token=token)
    paths = path_set(*kinds)
    if over:
        paths.finish()
    heard: list[object] = []
    Deferred.fromCoroutine(when_relayed(meeting, paths, heard.append))
    assert heard == []
    meeting.ending.callback(None)
    assert heard == ([meeting] if told else [])


@pytest.mark.parametrize(
    ("beside", "kinds", "policy", "wanted"),
    [
        (False, ["relay"], "auto", False),
        (True, ["relay"], "auto", False),
        (False, [], "auto", False),
        (True, [], "auto", True),  # it would bring no relay
    ],
)
def test_a_punch_beside_the_relay_is_not_waited_for_when_that_is_gone(
    beside: bool, kinds: list[PathKind], policy: PathPolicy, wanted: bool
) -> None:
    punching: Any = SimpleNamespace(punching=True, paths=[], party=SimpleNamespace(beside=beside))
    assert wants_another([punching], path_set(*kinds), policy) is wanted


def test_nobody_is_told_of_a_meeting_beside_the_relay() -> None:
    """Why there is no direct path was said when the relay began."""
    meeting: Any = Decided(dial=True, token=None)
    meeting.party.beside = True
    heard: list[object] = []
    Deferred.fromCoroutine(when_relayed(meeting, path_set("relay"), heard.append))
    meeting.ending.callback(None)
    assert heard == []


def test_nobody_is_told_of_a_meeting_that_was_given_up() -> None:
    """Another one takes its place, as where the peer had lost its server, and may still lead to a direct path."""
    meeting: Any = Decided(dial=True)
    heard: list[object] = []
    Deferred.fromCoroutine(when_relayed(meeting, path_set("relay"), heard.append))
    meeting.given_up = True
    meeting.ending.callback(None)
    assert heard == []
