"""`send --delta` with whole programs: what an older version holds does not go over the wire, and the old one stays."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from p2pxfer.core.ids import PeerId
from p2pxfer.net.private.home import Home
from scripts.product import JsonEvent, Program
from tests.e2e.conftest import MIB, Stage, end_of, names_in, until_bytes, wait_until
from tests.scene import events_of, file_hash, last, random_file

SIZE = 24 * MIB
pytestmark = pytest.mark.deadline(150)


def changed(old: bytes, way: str) -> bytes:
    """The next version of a file."""
    rng = random.Random(way)
    new = bytearray(old)
    if way == "insert":
        new[:0] = rng.randbytes(1000)
    elif way == "append":
        new += rng.randbytes(300_000)
    elif way == "scattered":
        for _ in range(20):
            at = rng.randrange(len(new) - 4096)
            new[at : at + 4096] = rng.randbytes(4096)
    elif way == "cut":
        del new[len(new) // 3 : len(new) // 2]
    elif way == "moved":
        new = new[len(new) // 2 :] + new[: len(new) // 2]
    return bytes(new)


def on_the_wire(events: list[JsonEvent]) -> int:
    return sum(last(events, "done")["bytes_by_path"].values())


def send_again(pair: Stage, source: Path, *words: str) -> tuple[list[JsonEvent], list[JsonEvent]]:
    bob = pair.receive("--once", "--no-code")
    outcome = pair.run("send", source, "bob", *words, as_json=True)
    assert outcome.status == 0, outcome
    return outcome.events, events_of(bob)


@pytest.mark.parametrize("way", ["same", "insert", "append", "scattered", "cut", "moved"])
def test_only_what_differs_is_sent(pair: Stage, way: str) -> None:
    source, there = pair.folder / "disk.img", pair.inbox / "disk.img"
    random_file(there, SIZE)
    before = (there.stat().st_mtime_ns, file_hash(there))
    source.write_bytes(changed(there.read_bytes(), way))
    sent, received = send_again(pair, source, "--delta")
    assert on_the_wire(sent) < SIZE // 16
    assert on_the_wire(received) < SIZE // 16
    assert last(sent, "done")["bytes"] == source.stat().st_size
    assert names_in(pair.inbox) == ["disk (1).img", "disk.img"]
    assert file_hash(pair.inbox / "disk (1).img") == file_hash(source)
    assert (there.stat().st_mtime_ns, file_hash(there)) == before


def test_without_the_option_everything_is_sent(pair: Stage) -> None:
    source, there = pair.folder / "disk.img", pair.inbox / "disk.img"
    random_file(there, SIZE)
    source.write_bytes(there.read_bytes())
    sent, _ = send_again(pair, source)
    assert on_the_wire(sent) == SIZE


def test_a_version_that_has_nothing_in_common(pair: Stage) -> None:
    source, there = pair.folder / "disk.img", pair.inbox / "disk.img"
    random_file(there, SIZE)
    digest = random_file(source, SIZE)
    sent, _ = send_again(pair, source, "--delta")
    assert on_the_wire(sent) == SIZE
    assert file_hash(pair.inbox / "disk (1).img") == digest


def test_a_directory_with_old_new_and_small_files(pair: Stage) -> None:
    folder, there = pair.folder / "tree", pair.inbox / "tree"
    (folder / "a").mkdir(parents=True)
    (there / "a").mkdir(parents=True)
    random_file(there / "a" / "big.bin", 5 * MIB)
    (folder / "a" / "big.bin").write_bytes(changed((there / "a" / "big.bin").read_bytes(), "insert"))
    random_file(folder / "a" / "new.bin", MIB)
    (there / "a" / "small").write_text("old")
    (folder / "a" / "small").write_text("new")
    (there / "other").symlink_to("/etc/passwd")
    random_file(folder / "other", MIB)
    sent, _ = send_again(pair, folder, "--delta")
    assert on_the_wire(sent) < 3 * MIB
    for name in ("a/big.bin", "a/new.bin", "a/small", "other"):
        assert file_hash(pair.inbox / "tree (1)" / name) == file_hash(folder / name)


def test_an_old_version_that_changes_meanwhile_is_noticed(pair: Stage) -> None:
    """The receiver has told what it holds when somebody writes into it: those chunks are sent whole."""
    source, there = pair.folder / "disk.img", pair.inbox / "disk.img"
    random_file(there, SIZE)
    content = there.read_bytes()
    source.write_bytes(content)
    bob = pair.receive("--once", "--no-code")
    alice = pair.send(source, "--delta", "--limit", "4K")
    until_bytes(alice, 2 * MIB)
    with there.open("r+b") as file:
        file.seek(SIZE // 2)
        file.write(bytes(SIZE // 4))
    alice.stop()
    alice = pair.send(source, "--delta")
    status, events = end_of(alice)
    assert status == 0, events
    bob.succeed(20)
    assert on_the_wire(events) > SIZE // 2
    assert (pair.inbox / "disk (1).img").read_bytes() == content


def test_a_cut_delta_goes_on(pair: Stage) -> None:
    source, there = pair.folder / "disk.img", pair.inbox / "disk.img"
    random_file(there, SIZE)
    source.write_bytes(changed(there.read_bytes(), "scattered"))
    bob = pair.receive("--no-code")
    alice = pair.send(source, "--delta", "--limit", "64K")
    until_bytes(alice, 6 * MIB)
    alice.stop()
    os.kill(bob.pid, signal.SIGKILL)
    bob.wait(40)
    sent, _ = send_again(pair, source, "--delta")
    assert last(sent, "resumed")["have_bytes"] >= MIB
    assert on_the_wire(sent) < SIZE // 16
    assert file_hash(pair.inbox / "disk (1).img") == file_hash(source)


def half_sent(pair: Stage) -> tuple[Path, Program, Program]:
    """A log, of which half has come, with its sender and its receiver."""
    source = pair.folder / "log.bin"
    random_file(source, SIZE)
    bob = pair.receive("--no-code")
    alice = pair.send(source, "--limit", "8M")
    until_bytes(alice, SIZE // 2)
    return source, alice, bob


def grow(source: Path) -> None:
    with source.open("ab") as file:
        file.write(os.urandom(MIB))


def test_what_arrived_of_an_earlier_version_is_used_without_the_option(pair: Stage) -> None:
    """A log that has grown since its transfer was cut: another transfer, of which most is here."""
    source, alice, bob = half_sent(pair)
    alice.stop()
    os.kill(bob.pid, signal.SIGKILL)
    bob.wait(40)
    grow(source)
    sent, _ = send_again(pair, source)
    assert on_the_wire(sent) < SIZE * 3 // 4
    assert file_hash(pair.inbox / "log.bin") == file_hash(source)


def test_a_stranger_learns_nothing_of_what_is_here(stage: Stage) -> None:
    source, there = stage.folder / "disk.img", stage.inbox / "disk.img"
    random_file(there, SIZE)
    source.write_bytes(there.read_bytes())
    bob = stage.receive("--once", "--accept", "all", "--no-code")
    number = str(PeerId(Home(stage.bob).identity().id.digest))
    outcome = stage.run("send", source, number, "--delta", as_json=True)
    assert outcome.status == 0, outcome
    assert on_the_wire(outcome.events) == SIZE
    bob.succeed(20)


def test_a_receiver_that_still_waits_for_the_earlier_version_uses_what_arrived_of_it(pair: Stage) -> None:
    """The sender was killed and its file changed, and nobody touches the receiver."""
    source, alice, bob = half_sent(pair)
    os.kill(alice.pid, signal.SIGKILL)
    alice.wait(40)
    grow(source)
    again = pair.run("send", source, "bob", "--limit", "24M", as_json=True)
    assert again.status == 0, again
    assert on_the_wire(again.events) < SIZE * 3 // 4
    wait_until((pair.inbox / "log.bin").exists)
    assert file_hash(pair.inbox / "log.bin") == file_hash(source)
    bob.stop()
