"""NATs that let no connection in that crosses one of their own: one of them is no hindrance, two are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.conftest import LabFactory
from tests.lab.directly import send_directly
from tests.lab.nat import KINDS

REFUSES = ("port-restricted/no-simo", "port-restricted/random-port/no-simo")
NAMED = "both refuse simultaneous opens"


def sent(lab_factory: LabFactory, folder: Path, one: str, other: str) -> tuple[int, str]:
    """The status of a sender that may use no relay, and what it says if it fails."""
    ended = send_directly(lab_factory(KINDS[one], KINDS[other], rtt_ms=40), folder)
    return ended.status, ended.message


@pytest.mark.deadline(60)
def test_two_that_refuse_are_named(lab_factory: LabFactory, tmp_path: Path) -> None:
    status, message = sent(lab_factory, tmp_path, *REFUSES)
    assert status == 7
    assert NAMED in message


@pytest.mark.deadline(60)
def test_one_that_refuses_is_no_hindrance(lab_factory: LabFactory, tmp_path: Path) -> None:
    assert sent(lab_factory, tmp_path, "port-restricted", REFUSES[0]) == (0, "")


@pytest.mark.deadline(60)
def test_no_other_pair_is_called_so(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Two that draw at random do not connect, for another reason."""
    status, message = sent(lab_factory, tmp_path, "symmetric", "symmetric/no-simo")
    assert status == 7
    assert NAMED not in message
