"""What an agent says to a command fits into the line that the command takes."""

from __future__ import annotations

import pytest

from p2pxfer.core.agent.control import (
    MAX_ANSWER,
    MAX_NAMES,
    MAX_TRANSFERS,
    Status,
    decode_answer,
    encode_line,
    status_that_fits,
)
from p2pxfer.inventory import Agent, JobListed

ABOUT = Agent(1, 1.5, "bob", "p2px1-x", "127.0.0.1:8877", "", True, 4, 0, 0)


def job(names: tuple[str, ...], where: str = "/srv") -> JobListed:
    return JobListed("0" * 8, "send", "bob", names, 5, 9, where, "2026-11-21T00:00:00+00:00", "running")


def test_what_is_short_is_said_whole() -> None:
    jobs = [job(("a", "b")), job(("c",))]
    assert status_that_fits(ABOUT, (), jobs) == Status(ABOUT, (), tuple(jobs))
    assert status_that_fits(ABOUT, (), []) == Status(ABOUT)


def test_many_names_and_transfers_are_cut() -> None:
    names = tuple(f"IMG_{number:08d}.jpg" for number in range(16_000))
    said = status_that_fits(ABOUT, (), [job(names)] * 1000)
    assert len(encode_line(said)) <= MAX_ANSWER
    assert [each.names for each in said.transfers] == [names[:MAX_NAMES]] * MAX_TRANSFERS


@pytest.mark.parametrize("letter", ["x", "\x01", "\U0001f600"])
def test_long_names_and_places_cost_transfers(letter: str) -> None:
    said = status_that_fits(ABOUT, (), [job((letter * 4096,) * MAX_NAMES, "/" + letter * 4096)] * MAX_TRANSFERS)
    line = encode_line(said)
    assert len(line) <= MAX_ANSWER
    assert said.transfers
    assert decode_answer(line[:-1]) == said
