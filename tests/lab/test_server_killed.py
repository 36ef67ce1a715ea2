"""The server, and with it the relay, is killed in the middle of a transfer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from scripts.product import STOPPING, Program
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.sending import MIB, Sending, has_come, path_is
from tests.scene import last

SIZE = 48 * MIB
RATE = "12M"
"""What holds the transfer up, so that it is under way when the server dies."""
TWICE = 16 * MIB
"""Most bytes that come twice: what was under way."""


SIGNALS = [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)]


def kill(server: Program, number: int = signal.SIGKILL) -> None:
    os.kill(server.pid, number)
    server.wait(STOPPING)


@pytest.mark.deadline(90)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_direct_transfer_does_not_need_the_server_any_more(
    lab_factory: LabFactory, tmp_path: Path, number: int
) -> None:
    """It never comes back."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted/random-port"], rtt_ms=40)
    with Sending(lab, tmp_path, SIZE, "--limit", RATE) as sending:
        sending.receiver.until(path_is("punched", "active"))
        sending.receiver.until(has_come(SIZE // 4))
        kill(sending.server, number)
        relayed = lab.server_bytes()
        said, heard = sending.arrives()
        assert lab.server_bytes() - relayed < MIB
    carried = last(heard, "done")["bytes_by_path"]
    print(carried)
    assert sum(carried.values()) < SIZE + TWICE
    assert [event["event"] for event in said].count("introduced") == 1


@pytest.mark.deadline(120)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_relayed_transfer_goes_on_when_the_server_is_back(
    lab_factory: LabFactory, tmp_path: Path, number: int
) -> None:
    """What had arrived is not sent again, nor does anybody start anything but the server."""
    lab = lab_factory(KINDS["symmetric"], KINDS["symmetric"], rtt_ms=40)
    with Sending(lab, tmp_path, SIZE, "--limit", RATE) as sending:
        sending.receiver.until(has_come(SIZE // 4))
        kill(sending.server, number)
        sending.sender.until(lambda event: event["event"] == "path" and event["state"] == "down")
        sending.start_server()
        said, heard = sending.arrives()
        assert lab.server_bytes() > 2 * SIZE
    carried = last(said, "done")["bytes_by_path"]
    print(carried, last(heard, "done")["bytes_by_path"])
    assert set(carried) == {"relay"}
    assert carried["relay"] < SIZE + TWICE
    assert [event["event"] for event in said].count("introduced") >= 2


@pytest.mark.deadline(90)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_punch_that_has_begun_does_not_need_the_server_any_more(
    lab_factory: LabFactory, tmp_path: Path, number: int
) -> None:
    """It ends as soon as both have been introduced, and never comes back."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted/random-port"], rtt_ms=200)
    with Sending(lab, tmp_path, MIB, "--path", "direct") as sending:
        for watch in (sending.sender, sending.receiver):
            watch.until(lambda event: event["event"] == "introduced")
        kill(sending.server, number)
        said, heard = sending.arrives()
    assert set(last(heard, "done")["bytes_by_path"]) == {"punched"}
    assert [event["event"] for event in said].count("introduced") == 1
