"""Programs killed at each step of receiving and of sending: every time the same command goes on, up to the right file.

One transfer goes through all points of one side: the program is started, dies at its point, is started again and dies
at the next one, while the other side stays and waits.  In the end the file is there once, whole, and nothing else.
"""

from __future__ import annotations

import ast
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import p2pxfer
from p2pxfer.core.transfer.journal import read_journal
from p2pxfer.core.transfer.manifest import Manifest
from scripts.product import JsonEvent, Program, client
from tests.e2e import killed_program
from tests.e2e.conftest import MIB, REFETCHED, Stage, Watch, end_of, fast_stage, payload, staging_of, wait_until
from tests.e2e.trees import contents, make_tree
from tests.scene import events_of, last, random_file

SIZE = 48 * MIB
NAME = "big.bin"
PLACES = {
    "rx.place_made": 1, "rx.half_a_chunk": 20, "rx.after_data_write": 20, "rx.before_data_sync": 2,
    "rx.after_data_sync": 1, "rx.half_a_record": 3, "rx.after_journal_write": 1, "rx.after_journal_sync": 1,
    "rx.before_publishing": 1, "rx.before_rename": 1, "rx.after_rename": 1, "rx.before_dirsync": 1,
    "rx.after_dirsync": 1, "rx.before_final_ack": 1, "rx.after_final_ack": 1, "rx.half_removed": 1,
    "tx.after_offer": 1, "tx.after_read": 10, "tx.after_chunk": 20, "tx.half_a_record": 2, "tx.after_ack": 3,
    "tx.before_final": 1, "tx.after_final": 1, "tx.before_final_ack": 1, "tx.after_forget": 1,
}  # fmt: skip
"""At which pass the program dies, in the order in which a transfer comes by."""
TREE = "tree"
TREE_PLACES = {
    "rx.after_data_write": 100, "rx.after_data_sync": 1, "rx.half_a_record": 3, "rx.after_journal_sync": 1,
    "rx.before_publishing": 1, "rx.after_rename": 1,
}  # fmt: skip


class Field:
    """A stage in memory with a file to send, and programs that die at a point."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        stage.start_server()
        stage.make_contacts()
        self.source = stage.folder / NAME
        self.watch = Watch(stage.inbox, NAME, random_file(self.source, SIZE))
        self._count = 0

    def dies(
        self,
        point: str,
        home: Path,
        *words: str | Path,
        passes: int | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> list[JsonEvent]:
        """Run a command until it dies at ``point``, calling ``meanwhile`` all the time; returns what it said."""
        self._count += 1
        prefix = [sys.executable, killed_program.__file__, point, str(passes or PLACES[point])]
        argv = [*prefix, *client(self.stage.address, home, *words)[1:]]
        with Program(self.stage.place, "mortal", argv, self.stage.folder / f"mortal-{self._count}.log") as mortal:
            deadline = time.monotonic() + 60
            while mortal.poll() is None and time.monotonic() < deadline:
                meanwhile()
                time.sleep(0.01)
            ended = mortal.wait(1)
            events = events_of(mortal)
            assert ended.status == -signal.SIGKILL, (point, ended, events)
        places = staging_of(self.stage.inbox)
        assert {path.name for path in self.stage.inbox.iterdir() if path not in places} <= {NAME, TREE}
        return events

    def check_whole(self) -> None:
        """The file is there once, whole, and nothing besides."""
        self.watch.look()
        assert self.watch.seen
        wait_until(lambda: not staging_of(self.stage.inbox))
        assert [path.name for path in self.stage.inbox.iterdir()] == [NAME]


@pytest.fixture
def field() -> Iterator[Field]:
    with fast_stage() as stage:
        made = Field(stage)
        with made.watch:
            yield made


def test_no_code_of_the_product_sets_a_failpoint() -> None:
    """The hook that does nothing is the only one there: no call names another, so no option or variable can."""
    calls = [
        node
        for path in Path(p2pxfer.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]
    assert len(calls) > 1000
    assert not [call for call in calls if any(each.arg == "failpoint" for each in call.keywords)]


def test_every_point_is_visited_in_order() -> None:
    assert [*PLACES] == [*killed_program.POINTS]


@pytest.mark.deadline(300)
def test_f01_the_receiver_dies_at_every_step(field: Field) -> None:
    """The sender stays; no kill costs more than 16 MiB, and what was published is never fetched again."""
    stage = field.stage
    receive = ("receive", "--as", "bob", "--to", stage.inbox, "--once", "--no-code")
    alice = stage.send(field.source, "--wait")

    def send_again() -> None:
        """If FinalAck reached the sender before the receiver died, she asks again and is told again."""
        nonlocal alice
        if alice.poll() is not None:
            alice.succeed(1)
            alice = stage.send(field.source, "--wait")

    wrote = had = 0
    for point in killed_program.RECEIVER:
        whole = field.watch.path.exists()
        events = field.dies(point, stage.bob, *receive, meanwhile=send_again)
        has = sum(event["have_bytes"] for event in events if event["event"] == "resumed")
        lost = wrote - (has - had)
        if not whole and point != "rx.place_made":
            print(f"of {wrote / MIB:.1f} MiB {lost / MIB:.1f} were lost; {has / MIB:.1f} are there")
            assert lost <= REFETCHED, point
        wrote, had = last(events, "died")["written"], has
        print(f"{point}: {wrote / MIB:.1f} MiB written until it died")
        assert not (whole and wrote)
    # She may have ended well, or begun again, while the receiver removed its place.
    alice.stop()
    alice = stage.send(field.source, "--wait")
    again = stage.receive("--once", "--no-code")
    status, events = end_of(again)
    assert status == 0, events
    assert payload(last(events, "done")) == 0
    alice.succeed(30)
    field.check_whole()


@pytest.mark.deadline(120)
def test_f01_the_receiver_of_a_tree_dies(field: Field) -> None:
    """Small files that go in batches, holes and links: whole or not there, and the rerun ends well."""
    stage = field.stage
    top = stage.folder / TREE
    make_tree(top)
    expected = contents(top)
    alice = stage.send(top, "--wait", "--links", "keep")
    for point, passes in TREE_PLACES.items():
        words = ("receive", "--as", "bob", "--to", stage.inbox, "--once", "--no-code")
        events = field.dies(point, stage.bob, *words, passes=passes)
        print(f"{point}: {last(events, 'died')['written'] / MIB:.1f} MiB written until it died")
        assert (stage.inbox / TREE).exists() is (point == "rx.after_rename")
    assert contents(stage.inbox / TREE) == expected
    bob = stage.receive("--once", "--no-code")
    status, events = end_of(bob)
    assert status == 0, events
    assert payload(last(events, "done")) == 0
    assert end_of(alice)[0] == 0
    assert contents(stage.inbox / TREE) == expected
    assert (stage.inbox / TREE / "hole.bin").stat().st_blocks * 512 < 16 * MIB
    wait_until(lambda: not staging_of(stage.inbox))
    assert os.listdir(stage.inbox) == [TREE]


def strays_of(place: Path) -> set[str]:
    """The files that lie in the tree of a staging place and are on no page of its journal."""
    state = read_journal((place / "journal").read_bytes())
    assert state is not None
    manifest = Manifest()
    for page in state.pages:
        manifest.add(page, more=True)
    listed = {entry.path for entry in manifest.files}
    there = {str(path.relative_to(place / "tree")) for path in (place / "tree").rglob("*") if path.is_file()}
    print(f"{len(state.pages)} pages list {len(listed)} files; {len(there)} are there")
    return there - listed


@pytest.mark.deadline(120)
def test_f01_the_receiver_dies_between_a_file_and_its_page(field: Field) -> None:
    """What lies in the tree and is on no page of the journal is not published, though the next list has it no more."""
    stage = field.stage
    top = stage.folder / TREE
    top.mkdir()
    for number in range(1000):
        (top / f"{number:04d}-{'n' * 80}").write_bytes(b"%04d" % number * 50)
    changed = top.stat().st_mtime_ns
    alice = stage.send(top, "--wait")
    words = ("receive", "--as", "bob", "--to", stage.inbox, "--once", "--no-code")
    field.dies("rx.before_its_page", stage.bob, *words, passes=20)
    alice.stop()
    (place,) = staging_of(stage.inbox)
    first, *others = sorted(strays_of(place))
    assert len(others) >= 19
    for stray in others:
        (stage.folder / stray).unlink()
    # Where one lies there is a directory now.
    (stage.folder / first).unlink()
    (stage.folder / first).mkdir()
    (stage.folder / first / "inner").write_bytes(b"inner")
    # The first page, by which it is the same transfer, tells this time.
    os.utime(top, ns=(changed, changed))
    bob = stage.receive("--once", "--no-code")
    alice = stage.send(top, "--wait")
    status, events = end_of(bob)
    assert status == 0, events
    assert end_of(alice)[0] == 0
    assert contents(stage.inbox / TREE) == contents(top)
    wait_until(lambda: not staging_of(stage.inbox))
    assert os.listdir(stage.inbox) == [TREE]


@pytest.mark.deadline(300)
def test_f02_the_sender_dies_at_every_step(field: Field) -> None:
    """One receiver takes all of it, each chunk about once."""
    stage = field.stage
    bob = stage.receive("--no-code")
    for point in killed_program.SENDER:
        events = field.dies(point, stage.alice, "send", field.source, "bob")
        kept = sum(event["have_bytes"] for event in events if event["event"] == "resumed")
        print(f"{point}: {kept / MIB:.1f} MiB were there before")
    again = stage.send(field.source)
    status, events = end_of(again)
    assert status == 0, events
    done = bob.wait_for("done")
    print(f"{(payload(done) - SIZE) / MIB:.1f} MiB came twice")
    assert payload(done) - SIZE <= REFETCHED
    field.check_whole()
    bob.stop()


@pytest.mark.deadline(120)
def test_f01_the_receiver_dies_while_other_bytes_replace_what_it_claims(field: Field) -> None:
    """The sender's file changed, in the same size and time, and is then what it was: nothing is mixed."""
    stage, source = field.stage, field.source
    words = ("receive", "--as", "bob", "--to", stage.inbox, "--once", "--no-code")
    changed = source.stat().st_mtime_ns
    kept = stage.folder / "kept"
    source.rename(kept)

    def send(data: Path) -> Program:
        shutil.copyfile(data, source)
        os.utime(source, ns=(changed, changed))
        return stage.send(source, "--wait")

    alice = send(kept)
    field.dies("rx.after_journal_sync", stage.bob, *words, passes=3)
    alice.stop()
    random_file(stage.folder / "other", SIZE)
    alice = send(stage.folder / "other")
    field.dies("rx.replaced", stage.bob, *words, passes=6)
    alice.stop()
    alice = send(kept)
    bob = stage.receive("--once", "--no-code")
    status, events = end_of(bob)
    assert status == 0, events
    assert last(events, "resumed")["have_bytes"] > 0
    assert end_of(alice)[0] == 0
    field.check_whole()
