"""Debug messages are for whoever asks; a log that takes everything shows none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import LogLevel, globalLogPublisher

from p2pxfer.net.debuglog import want_debug
from p2pxfer.net.traversal.puncher import Puncher
from p2pxfer.tap.agent import Options


@pytest.fixture
def seen() -> Iterator[list[Any]]:
    """What reaches a log with no filter, as ``twistd`` has it."""
    events: list[Any] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)
    want_debug(False)


def test_nobody_is_told_what_nobody_asked_for(seen: list[Any]) -> None:
    Puncher.log.debug("a detail")
    Puncher.log.info("news")
    assert [event["log_format"] for event in seen] == ["news"]
    assert seen[0]["log_namespace"] == "p2pxfer.net.traversal.puncher.Puncher"
    want_debug(True)
    Puncher.log.debug("a detail")
    assert [event["log_level"] for event in seen] == [LogLevel.info, LogLevel.debug]


@pytest.mark.parametrize(("level", "wanted"), [(None, 0), (LogLevel.info, 0), (LogLevel.debug, 1)])
def test_twist_can_be_asked_for_it(seen: list[Any], level: LogLevel | None, wanted: int) -> None:
    make: Any = Options
    options = make()
    options.parent = {"logLevel": level} if level is not None else {}
    options.parseOptions([])
    Puncher.log.debug("a detail")
    assert len(seen) == wanted
