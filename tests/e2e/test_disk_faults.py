"""Disks and clocks that fail under the running programs: both sides say so, nothing is lost, the rerun ends well."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.product import BIN, JsonEvent, Program, client
from tests.e2e import faulty_program
from tests.e2e.conftest import (
    MIB,
    REFETCHED,
    Stage,
    Watch,
    end_of,
    fast_stage,
    mounted,
    names_in,
    needs_mounts,
    payload,
    staging_of,
    until_bytes,
    wait_until,
)
from tests.scene import file_hash, last, random_file

SIZE = 24 * MIB
NAME = "file.bin"


def faulty(fault: str, count: int) -> list[str]:
    """The command on a machine that fails from the ``count``-th call on."""
    return [sys.executable, faulty_program.__file__, fault, str(count)]


class Field:
    """A stage in memory with a file to send, and programs on machines that fail."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        stage.start_server()
        stage.make_contacts()
        self.source = stage.folder / NAME
        self.digest = random_file(self.source, SIZE)
        self._count = 0

    def start(self, command: list[str], home: Path, *words: str | Path) -> Program:
        """``command`` in the place of the installed one."""
        self._count += 1
        log = self.stage.folder / f"program-{self._count}.log"
        program = Program(self.stage.place, "faulty", [*command, *client(self.stage.address, home, *words)[1:]], log)
        self.stage.callback(program.stop)
        return program

    def receiver(self, command: list[str]) -> Program:
        words = ("receive", "--as", "bob", "--to", self.stage.inbox, "--once", "--no-code")
        bob = self.start(command, self.stage.bob, *words)
        bob.wait_for("registered")
        return bob

    def check_again(self) -> list[JsonEvent]:
        """Both commands once more, on machines in order; returns what the receiver said."""
        with Watch(self.stage.inbox, NAME, self.digest) as watch:
            bob = self.stage.receive("--once", "--no-code")
            alice = self.stage.send(self.source)
            status, events = end_of(bob)
            assert status == 0, events
            alice.succeed(20)
            watch.look()
            assert watch.seen
        assert [path.name for path in self.stage.inbox.iterdir()] == [NAME]
        return events


@pytest.fixture(scope="module")
def ground() -> Iterator[Field]:
    with fast_stage() as stage:
        yield Field(stage)


@pytest.fixture
def field(ground: Field) -> Iterator[Field]:
    """The ground with an empty destination."""
    yield ground
    shutil.rmtree(ground.stage.inbox)
    ground.stage.inbox.mkdir()


@pytest.mark.parametrize(
    ("fault", "count", "code", "kept"),
    [
        ("write fails", 150, "E_IO", 4 * MIB),
        ("sync fails", 2, "E_IO", 1),
        ("journal is full", 4, "E_SPACE", 1),
        ("rename fails", 1, "E_IO", SIZE),
    ],
)
def test_f09_to_f16_the_receivers_disk_fails(field: Field, fault: str, count: int, code: str, kept: int) -> None:
    bob = field.receiver(faulty(fault, count))
    alice = field.stage.send(field.source)
    error = failure(bob, alice)
    assert error["code"] == code
    assert error["retry"] is (code == "E_SPACE")
    assert "is kept in" in error["message"]
    assert names_in(field.stage.inbox) == []
    events = field.check_again()
    have = last(events, "resumed")["have_bytes"]
    assert have >= kept
    assert SIZE - have <= payload(last(events, "done")) <= SIZE - have + REFETCHED


def failure(bob: Program, alice: Program) -> JsonEvent:
    """The error with which the receiver ended; the sender heard of it."""
    (status, received), (other, sent) = end_of(bob), end_of(alice)
    assert (status, other) == (8, 4), (received, sent)
    return last(received, "error")


@pytest.mark.parametrize("fault", ["place is removed", "destination is removed"])
def test_f17_f18_somebody_removes_what_is_being_received(field: Field, fault: str) -> None:
    """There is nothing to go on with, so it begins anew; nothing is made where the user removed something."""
    bob = field.receiver(faulty(fault, 50))
    alice = field.stage.send(field.source)
    (status, received), (other, sent) = end_of(bob), end_of(alice)
    assert (status, other) == (8, 4), (received, sent)
    here, there = last(received, "error"), last(sent, "error")
    assert here["code"] == "E_IO"
    assert not any("kept" in error["message"] for error in (here, there))
    if fault == "place is removed":
        assert f"what had arrived in '{field.stage.inbox}/.p2pxfer-" in here["message"]
        assert "what had arrived was removed there; run the command again" in there["message"]
        assert names_in(field.stage.inbox) == []
    else:
        assert here["message"] == (
            f"the destination '{field.stage.inbox}' is gone, and what had arrived with it; make it again, and let the"
            " sender run its command again"
        )
        assert "its destination is gone, and what had arrived with it; run the command again" in there["message"]
        assert not field.stage.inbox.exists()
        field.stage.inbox.mkdir()
    assert payload(last(field.check_again(), "done")) >= SIZE


def test_the_destination_is_gone_before_a_transfer_comes(field: Field) -> None:
    bob = field.stage.receive("--once", "--no-code")
    field.stage.inbox.rmdir()
    (other, sent), (status, received) = end_of(field.stage.send(field.source)), end_of(bob)
    field.stage.inbox.mkdir()
    assert (status, other) == (8, 4), (received, sent)
    assert "its destination is gone; nothing was received; run the command" in last(sent, "error")["message"]
    said = f"the destination '{field.stage.inbox}' is gone; nothing was received; make it again, and let the sender"
    assert last(received, "error")["message"].startswith(said)


def test_f11_a_limit_of_file_size(field: Field) -> None:
    """As of a quota: what fits is kept, and it goes on when more may be written."""
    bob = field.receiver(["prlimit", f"--fsize={8 * MIB}", str(BIN / "p2pxfer")])
    alice = field.stage.send(field.source)
    error = failure(bob, alice)
    assert error["code"] == "E_IO"
    assert "File too large" in error["message"]
    assert names_in(field.stage.inbox) == []
    events = field.check_again()
    assert payload(last(events, "done")) <= SIZE - last(events, "resumed")["have_bytes"] + REFETCHED


@needs_mounts
def test_f17_the_destination_is_unmounted_under_the_receiver(field: Field) -> None:
    """It goes where it was opened, which is there again with the next mount, and not into what lies under it."""
    inbox = field.stage.inbox
    with contextlib.ExitStack() as until:
        until.enter_context(mounted(inbox, "size=64M"))
        there = os.open(inbox, os.O_RDONLY)
        until.callback(os.close, there)
        bob = field.receiver(faulty("disk is slow", 12))
        alice = field.stage.send(field.source)
        until_bytes(bob, 4 * MIB)
        subprocess.run(["umount", "--lazy", inbox], check=True, timeout=10)
        again = ["mount", "-t", "tmpfs", "tmpfs", str(inbox)]  # which `mounted` takes away
        until.callback(lambda: subprocess.run(again, check=True, timeout=10))
        (status, received), (other, sent) = end_of(bob), end_of(alice)
        assert (status, other) == (0, 0), (received, sent)
        assert os.listdir(inbox) == []
        wait_until(lambda: os.listdir(there) == [NAME])
        assert file_hash(Path(f"/proc/self/fd/{there}/{NAME}")) == field.digest


def test_f64_somebody_takes_the_name_in_the_last_moment(field: Field) -> None:
    bob = field.receiver(faulty("name is taken", 1))
    alice = field.stage.send(field.source)
    (status, received), (other, sent) = end_of(bob), end_of(alice)
    assert (status, other) == (0, 0), (received, sent)
    assert (field.stage.inbox / NAME).read_bytes() == b"mine"
    assert file_hash(field.stage.inbox / "file (1).bin") == field.digest
    assert len(names_in(field.stage.inbox)) == 2


def test_f21_few_descriptors(field: Field) -> None:
    """Small files are not kept open; of larger ones too many are, which is said, and with room again it goes on."""
    folder = field.stage.folder / "many"
    folder.mkdir()
    for number in range(100):
        (folder / f"small-{number}").write_bytes(number.to_bytes(2, "big") * 1000)
    few = ["prlimit", "--nofile=40", str(BIN / "p2pxfer")]
    bob = field.receiver(few)
    alice = field.stage.send(folder)
    assert (end_of(bob)[0], end_of(alice)[0]) == (0, 0)
    check_copied(folder, field.stage.inbox / "many")
    shutil.rmtree(field.stage.inbox / "many")
    for number in range(60):
        (folder / f"large-{number}").write_bytes(number.to_bytes(2, "big") * 100_000)
    error = failure(field.receiver(few), field.stage.send(folder))
    assert error["code"] == "E_IO"
    assert "Too many open files" in error["message"]
    assert names_in(field.stage.inbox) == []
    bob = field.stage.receive("--once", "--no-code")
    alice = field.stage.send(folder)
    assert (end_of(bob)[0], end_of(alice)[0]) == (0, 0)
    check_copied(folder, field.stage.inbox / "many")


def check_copied(source: Path, copy: Path) -> None:
    """Two directories hold the same files."""
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (source, copy)]
    assert contents[0] == contents[1]


def test_f13_the_senders_disk_fails(field: Field) -> None:
    """The receiver keeps what came and goes on when the sender can read again."""
    bob = field.stage.receive("--once", "--no-code")
    alice = field.start(faulty("read fails", 100), field.stage.alice, "send", field.source, "bob")
    status, sent = end_of(alice)
    assert status == 8, sent
    assert last(sent, "error")["code"] == "E_IO"
    assert f"reading '{NAME}' failed: Input/output error" in last(sent, "error")["message"]
    assert names_in(field.stage.inbox) == []
    field.stage.send(field.source).succeed(30)
    status, received = end_of(bob)
    assert status == 0, received
    assert payload(last(received, "done")) <= SIZE + REFETCHED
    assert file_hash(field.stage.inbox / NAME) == field.digest


@pytest.mark.parametrize(
    ("fault", "count"), [("short calls", 50), ("clock goes back", 50), ("clock goes forth", 50), ("signals come", 1000)]
)
def test_f12_f15_f24_short_calls_signals_and_jumps_of_the_clock_change_nothing(
    field: Field, fault: str, count: int
) -> None:
    bob = field.receiver(faulty(fault, count))
    alice = field.start(faulty(fault, count), field.stage.alice, "send", field.source, "bob")
    (status, received), (other, sent) = end_of(bob), end_of(alice)
    assert (status, other) == (0, 0), (received, sent)
    for events in (received, sent):
        assert SIZE <= payload(last(events, "done")) <= SIZE + REFETCHED
        assert all(0 <= event["t"] < 60 for event in events)
        assert all(event["rate"] >= 0 for event in events if event["event"] == "progress")
    assert file_hash(field.stage.inbox / NAME) == field.digest
    wait_until(lambda: not staging_of(field.stage.inbox))
