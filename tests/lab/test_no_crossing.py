"""NATs that let no connection in that crosses one of their own: one of them is no hindrance, two are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.scene import Scene, events_of, last, random_file

REFUSES = ("port-restricted/no-simo", "port-restricted/random-port/no-simo")
NAMED = "both refuse simultaneous opens"


def send_directly(lab_factory: LabFactory, folder: Path, one: str, other: str) -> tuple[int, str]:
    """The status of a sender that may use no relay, and what it says if it fails."""
    lab = lab_factory(KINDS[one], KINDS[other], rtt_ms=40)
    with Scene(lab, folder, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        source = scene.folder / "small.bin"
        random_file(source, 1 << 16)
        scene.receive("--no-code", "--path", "direct")
        alice = scene.send(source, "--path", "direct")
        status = alice.wait(30).status
        events = events_of(alice)
    return status, "" if status == 0 else str(last(events, "error")["message"])


@pytest.mark.deadline(60)
def test_two_that_refuse_are_named(lab_factory: LabFactory, tmp_path: Path) -> None:
    status, message = send_directly(lab_factory, tmp_path, *REFUSES)
    assert status == 7
    assert NAMED in message


@pytest.mark.deadline(60)
def test_one_that_refuses_is_no_hindrance(lab_factory: LabFactory, tmp_path: Path) -> None:
    assert send_directly(lab_factory, tmp_path, "port-restricted", REFUSES[0]) == (0, "")


@pytest.mark.deadline(60)
def test_no_other_pair_is_called_so(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Two that draw at random do not connect, for another reason."""
    status, message = send_directly(lab_factory, tmp_path, "symmetric", "symmetric/no-simo")
    assert status == 7
    assert NAMED not in message
