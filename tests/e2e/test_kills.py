"""Programs killed at random points of a transfer: the same commands again end with the right file, and soon."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.product import Program
from tests.e2e.conftest import MIB, REFETCHED, Stage, Watch, end_of, fast_stage, kill, payload, staging_of
from tests.scene import events_of, last, random_file

SIZE = 256 * MIB
NAME = "big.bin"
POINTS = [round((seed + random.Random(seed).random()) * 0.092, 3) for seed in range(10)]
"""The fraction of the file that has arrived when the process is killed: one in each tenth of the way."""
EVEN, ODD = (
    [pytest.param(point, marks=() if number % 2 == rest else pytest.mark.soak) for number, point in enumerate(POINTS)]
    for rest in range(2)
)
"""Every second one, and the others in long runs."""
LATE, HELD = 0.6, ["--limit", "128M"]
"""From this point on a limit holds the transfer up, so that it is not through before the kill."""


class Field:
    """One stage for many kills: the file is made once, the destination is cleared between the runs."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.server = stage.start_server()
        stage.make_contacts()
        self.source = stage.folder / NAME
        self.digest = random_file(self.source, SIZE)

    def watch(self) -> Watch:
        assert not list(self.stage.inbox.iterdir())
        return Watch(self.stage.inbox, NAME, self.digest)

    def clean(self) -> None:
        """A server runs and the destination is empty."""
        if self.server.poll() is not None:
            self.server = self.stage.start_server()
        for path in self.stage.inbox.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def check_whole(self, watch: Watch) -> None:
        """The file is there, whole, alone; then take it away."""
        watch.look()
        assert watch.seen
        deadline = time.monotonic() + 5
        while staging_of(self.stage.inbox) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [path.name for path in self.stage.inbox.iterdir()] == [NAME]
        watch.path.unlink()


@pytest.fixture(scope="module")
def ground() -> Iterator[Field]:
    with fast_stage() as stage:
        yield Field(stage)


@pytest.fixture
def field(ground: Field) -> Iterator[Field]:
    """The ground, left as it was whatever the test did."""
    yield ground
    ground.clean()


def on_disk(inbox: Path) -> int:
    """Bytes of the payload that were written to the staging place: blocks in use, since holes take none."""
    return sum((place / "tree" / NAME).stat().st_blocks * 512 for place in staging_of(inbox))


def until_written(inbox: Path, wanted: float) -> None:
    """Return as soon as so much of the file is there; fails when it is published before."""
    deadline = time.monotonic() + 50
    while time.monotonic() < deadline and not (inbox / NAME).exists():
        with contextlib.suppress(FileNotFoundError):
            if on_disk(inbox) >= wanted:
                return
        time.sleep(0.001)
    raise AssertionError(f"{wanted} bytes were never there, or all were")


def held(point: float) -> list[str]:
    """Words for a sender something is killed under at this point."""
    return HELD if point > LATE else []


def largest_buffers() -> int:
    """What the kernel lets a connection have under way at most, bytes: a receiver that lags behind fills all of it."""
    return sum(int(Path(f"/proc/sys/net/ipv4/tcp_{way}mem").read_text().split()[2]) for way in "rw")


def check_receiver_killed(stage: Stage, source: Path, watch: Watch, point: float) -> None:
    bob = stage.receive("--once", "--no-code")
    alice = stage.send(source, *held(point))
    until_written(stage.inbox, point * SIZE)
    kill(bob)
    assert not watch.path.exists()
    written = on_disk(stage.inbox)
    again = stage.receive("--once", "--no-code")
    status, events = end_of(again)
    assert status == 0, events
    alice.succeed(40)
    resumed = last(events, "resumed")["have_bytes"]
    refetched = written + payload(last(events, "done")) - SIZE
    print(f"killed with {written / MIB:.0f} MiB written, {resumed / MIB:.0f} kept, {refetched / MIB:.1f} fetched again")
    assert resumed >= point * SIZE - REFETCHED
    assert refetched <= REFETCHED
    # What was under way between the two when the receiver died is the sender's cost only.
    assert payload(last(events_of(alice), "done")) - SIZE <= REFETCHED + largest_buffers()


@pytest.mark.deadline(60)
@pytest.mark.parametrize("point", EVEN)
def test_the_receiver_is_killed_and_started_again(field: Field, point: float) -> None:
    """The sender waits for it and goes on by itself."""
    with field.watch() as watch:
        check_receiver_killed(field.stage, field.source, watch, point)
        field.check_whole(watch)


@pytest.mark.deadline(90)
def test_the_receiver_is_killed_on_a_real_disk(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        field = Field(stage)
        with field.watch() as watch:
            check_receiver_killed(stage, field.source, watch, 0.4)
            field.check_whole(watch)
    stage.check_logs()


@pytest.fixture(scope="class")
def standing(ground: Field) -> Iterator[Program]:
    bob = ground.stage.receive("--no-code")
    yield bob
    bob.stop()


class TestOneReceiverOutlivesItsSenders:
    """One receiver takes all of them; it counts what it got in both runs of each sender."""

    @pytest.mark.deadline(60)
    @pytest.mark.parametrize("point", ODD)
    def test_the_sender_is_killed_and_started_again(self, field: Field, standing: Program, point: float) -> None:
        with field.watch() as watch:
            alice = field.stage.send(field.source, *held(point))
            until_written(field.stage.inbox, point * SIZE)
            kill(alice)
            assert not watch.path.exists()
            while "alice is gone: " not in standing.wait_for("note")["message"]:
                pass
            again = field.stage.send(field.source)
            status, events = end_of(again)
            assert status == 0, events
            told = standing.wait_for("resumed")["have_bytes"]
            done = standing.wait_for("done")
            field.check_whole(watch)
        resumed = last(events, "resumed")["have_bytes"]
        refetched = payload(done) - SIZE
        print(f"killed at {point}: {resumed / MIB:.0f} MiB kept, {refetched / MIB:.1f} fetched again")
        assert resumed >= point * SIZE - 4 * MIB
        assert told >= point * SIZE - 4 * MIB
        assert 0 <= refetched <= REFETCHED
        assert payload(last(events, "done")) <= SIZE - resumed + REFETCHED


@pytest.mark.deadline(60)
@pytest.mark.parametrize("point", EVEN)
def test_the_server_is_killed_under_a_relayed_transfer(field: Field, point: float) -> None:
    """It comes back on its ports with its state, and nobody runs anything again."""
    with field.watch() as watch:
        bob = field.stage.receive("--once", "--no-code", "--path", "relay")
        alice = field.stage.send(field.source, "--path", "relay", *held(point))
        until_written(field.stage.inbox, point * SIZE)
        kill(field.server)
        field.server = field.stage.start_server()
        back = time.monotonic()
        (status, sent), (other, received) = end_of(alice), end_of(bob)
        assert (status, other) == (0, 0), (sent, received)
        field.check_whole(watch)
    print(f"killed at {point}: whole {time.monotonic() - back:.1f} s after the server's return")
    for events in (sent, received):
        assert set(last(events, "done")["bytes_by_path"]) == {"relay"}
        assert any("server" in event["message"] for event in events if event["event"] == "note")
    assert payload(last(received, "done")) - SIZE <= REFETCHED


@pytest.mark.deadline(60)
@pytest.mark.parametrize("point", POINTS[1::4])
def test_the_server_is_killed_under_a_direct_transfer(field: Field, point: float) -> None:
    """It stays away until the end, and the transfer does not notice."""
    with field.watch() as watch:
        bob = field.stage.receive("--once", "--no-code")
        # Left to itself, a busy machine may begin over the relay before the direct path stands.
        alice = field.stage.send(field.source, "--path", "direct", *held(point))
        until_written(field.stage.inbox, point * SIZE)
        kill(field.server)
        (status, sent), (other, received) = end_of(alice), end_of(bob)
        assert (status, other) == (0, 0), (sent, received)
        field.check_whole(watch)
    for events in (sent, received):
        done = last(events, "done")
        assert payload(done) == SIZE
        assert "relay" not in done["bytes_by_path"]
        assert not [event for event in events if event["event"] == "path" and event["state"] == "active"
                    and event["path"] == "relay"]  # fmt: skip
