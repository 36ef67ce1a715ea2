"""Which path stands is said also where nothing goes over it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from p2pxfer.cli.idlepath import IDLE_S, IdlePath
from p2pxfer.status import Path


def event(kind: Any, state: Any, remote: str = "") -> Path:
    return Path(kind, state, "", remote, None, 20.0, "")


class Desk:
    """What is said."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.said: list[str] = []
        self.idle = IdlePath(self.clock, lambda path, text: self.said.append(text))


def test_a_path_that_has_nothing_to_carry_is_told_once() -> None:
    desk = Desk()
    desk.idle.hear(event("relay", "up"))
    desk.clock.advance(IDLE_S / 2)
    desk.idle.hear(event("direct", "up", "192.0.2.1:9"))
    desk.clock.advance(IDLE_S / 2)
    said = ["path: direct to 192.0.2.1:9 after 0.02 s; nothing has come or gone yet"]
    assert desk.said == said
    desk.clock.advance(10 * IDLE_S)
    assert desk.said == said


def test_a_better_one_that_comes_later_is_told_too_and_a_worse_one_is_not() -> None:
    desk = Desk()
    for kind in ("relay", "punched", "relay"):
        desk.idle.hear(event(kind, "up"))
        desk.clock.advance(2 * IDLE_S)
    assert [text.split()[1] for text in desk.said] == ["relay", "punched"]


def test_what_is_lost_again_is_not_told() -> None:
    desk = Desk()
    desk.idle.hear(event("relay", "up"))
    desk.idle.hear(event("direct", "up"))
    desk.idle.hear(event("direct", "down"))
    desk.clock.advance(IDLE_S)
    assert [text.split()[1] for text in desk.said] == ["relay"]
    desk.idle.hear(event("relay", "down"))
    desk.idle.hear(event("relay", "up"))
    desk.idle.hear(event("relay", "down"))
    desk.clock.advance(IDLE_S)
    assert len(desk.said) == 1


@pytest.mark.parametrize("end", ["carried", "stopped"])
def test_where_data_flows_or_the_run_is_over_nothing_is_said(end: str) -> None:
    desk = Desk()
    desk.idle.hear(event("relay", "up"))
    desk.idle.hear(event("relay", "active")) if end == "carried" else desk.idle.stop()
    desk.idle.hear(event("direct", "up"))
    desk.clock.advance(2 * IDLE_S)
    assert desk.said == []
    assert not desk.clock.getDelayedCalls()
