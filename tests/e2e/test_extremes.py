"""Very large files, very many files, and very little memory: it ends well, or with a reason and what arrived kept."""

from __future__ import annotations

import filecmp
import os
import random
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from scripts.product import Program, client
from tests.e2e.cgroups import memory_group
from tests.e2e.conftest import MIB, Stage, fast_pair, kill, names_in, pair_at, staging_of, wait_until
from tests.e2e.counting import gated_sender, receiver, until_durable
from tests.scene import events_of, last

GIB = 1 << 30
LONG = 1200.0
"""Seconds that a million files may take on a busy machine; 15 minutes are aimed at."""
SILENCE = 180.0
"""The longest time that it may take until a program tells how far it is, seconds."""
ONE_FILE = 150 * MIB
"""The most memory that each program may take for one file, whatever its size."""
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of single processes, reads /proc")


@pytest.fixture
def stage() -> Iterator[Stage]:
    with fast_pair() as made:
        yield made


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Stage]:
    """Where the files in memory would count as the programs', they must not lie there."""
    with pair_at(tmp_path) as made:
        yield made
    made.check_logs()


def start(stage: Stage, source: Path, prefix: Sequence[str] = (), *more: str) -> tuple[Program, Program]:
    """Alice, who sends, and bob, who takes it and ends."""

    def program(role: str, home: Path, *words: str | Path) -> Program:
        log = stage.folder / f"{role}-{time.monotonic_ns()}.log"
        made = Program(stage.place, role, [*prefix, *client(stage.address, home, *words)], log)
        stage.callback(made.stop)
        return made

    bob = program("bob", stage.bob, "receive", "--as", "bob", "--to", stage.inbox, "--once", "--no-code")
    return program("alice", stage.alice, "send", source, "bob", "--wait", *more), bob


def ends_well(programs: Sequence[Program], seconds: float = 60.0) -> list[int]:
    """All end with success; returns the peaks of their memory, bytes."""
    peaks = []
    for program in programs:
        ended = program.wait(seconds)
        events = events_of(program)
        assert ended.status == 0, events[-3:]
        peaks.append(ended.peak_bytes)
    return peaks


def make_sparse(path: Path, size: int, extents: int = 3) -> list[int]:
    """A file of ``size`` with a MiB of data at its begin, at its end, and between; returns where each is."""
    where = [size * number // (extents - 1) - (MIB if number else 0) for number in range(extents)]
    with path.open("wb") as file:
        file.truncate(size)
        for offset in where:
            file.seek(max(0, offset))
            file.write(os.urandom(min(MIB, size)))
    return [max(0, offset) for offset in where]


def check_sparse(source: Path, arrived: Path, extents: Sequence[int]) -> None:
    """The same length, data and holes; of the holes the edges and some places are looked at."""
    before, after = source.stat(), arrived.stat()
    assert after.st_size == before.st_size
    assert after.st_blocks <= before.st_blocks
    with source.open("rb") as one, arrived.open("rb") as other:
        for offset in (0, *(offset - MIB for offset in extents if offset), *extents, before.st_size // 3):
            assert os.pread(one.fileno(), 3 * MIB, offset) == os.pread(other.fileno(), 3 * MIB, offset), offset


def test_f26_sizes_round_two_and_four_gib(stage: Stage) -> None:
    sizes = [2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 1, 5 * GIB]
    folder = stage.folder / "sizes"
    folder.mkdir()
    extents = {size: make_sparse(folder / str(size), size) for size in sizes}
    alice, bob = start(stage, folder)
    ends_well((alice, bob))
    for size, places in extents.items():
        check_sparse(folder / str(size), stage.inbox / "sizes" / str(size), places)


@linux
@pytest.mark.deadline(240)
def test_f27_a_tebibyte_with_three_extents(stage: Stage) -> None:
    """Its holes are found and told, not read: seconds where nothing else runs, and a few megabytes on the wire."""
    source = stage.folder / "huge.img"
    extents = make_sparse(source, 1 << 40)
    begun = time.monotonic()
    alice, bob = start(stage, source)
    (ended, events), (other, received) = [(each.wait(150), events_of(each)) for each in (alice, bob)]
    print(f"{time.monotonic() - begun:.1f} s, {ended.peak_bytes / MIB:.0f} and {other.peak_bytes / MIB:.0f} MiB")
    assert (ended.status, other.status) == (0, 0), (events[-3:], received[-3:])
    assert last(received, "done")["bytes"] == 1 << 40
    assert sum(last(received, "done")["bytes_by_path"].values()) <= 64 * MIB
    assert max(ended.peak_bytes, other.peak_bytes) < ONE_FILE
    check_sparse(source, stage.inbox / source.name, extents)


@linux
def test_f22_100_gib_in_little_memory(stage: Stage) -> None:
    """The two programs have 256 MiB together, by the kernel's count, with what they keep in files in memory."""
    source = stage.folder / "huge.img"
    extents = make_sparse(source, 100 * GIB)
    with memory_group() as group:
        group.allow(2 * 128 * MIB)
        try:
            ends_well(programs := start(stage, source, group.prefix))
        finally:
            stop(*programs)
        assert group.killed() == 0
    check_sparse(source, stage.inbox / source.name, extents)


def stop(*programs: Program) -> None:
    for program in programs:
        program.stop()


def make_many(top: Path, files: int) -> None:
    """Files of 0 to 100 bytes, a thousand in each directory."""
    sizes = random.Random(1)
    content = os.urandom(200)
    for number in range(files):
        folder = top / f"{number // 1000:04d}"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        size = sizes.randrange(101)
        (folder / f"{number:06d}").write_bytes(content[number % 100 : number % 100 + size])


def check_many(source: Path, arrived: Path) -> None:
    """All files, and nothing else."""
    folders = sorted(os.listdir(source))
    assert sorted(os.listdir(arrived)) == folders
    for folder in folders:
        names = sorted(os.listdir(source / folder))
        assert sorted(os.listdir(arrived / folder)) == names
        _, differ, failed = filecmp.cmpfiles(source / folder, arrived / folder, names, shallow=False)
        assert not differ + failed


def leave_room(program: Program, size: int) -> None:
    """From now on a program gets so much more memory and no more."""
    has = int(Path(f"/proc/{program.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(program.pid, resource.RLIMIT_AS, (has + size, has + size))


@linux
@pytest.mark.parametrize("poor", ["alice", "bob"])
def test_f22_there_is_no_memory_for_the_list(stage: Stage, poor: str) -> None:
    """It is said in one line, and the same commands go on when there is some."""
    source = stage.folder / "many"
    make_many(source, 10_000)
    gate = stage.folder / "gate"
    bob, alice = receiver(stage), gated_sender(stage, source, gate)
    limited, other = (alice, bob) if poor == "alice" else (bob, alice)
    # By then each has started the threads that it works with.
    until_durable(stage, alice.wait_for("offer")["files"])
    leave_room(limited, MIB)
    gate.touch()  # most of the list is made only now
    ended = limited.wait(40)
    error = last(events_of(limited), "error")
    assert (ended.status, error["code"], error["retry"]) == (9, "E_LIMIT", True)
    assert "no more memory" in error["message"]
    stop(other)
    assert names_in(stage.inbox) == []
    ends_well(start(stage, source))
    check_many(source, stage.inbox / "many")
    wait_until(lambda: not staging_of(stage.inbox))


@linux
@pytest.mark.deadline(4 * LONG)
@pytest.mark.parametrize(
    ("files", "slowly"), [(5_000, ["--limit", "100K"]), pytest.param(998_000, [], marks=pytest.mark.soak)]
)
def test_f28_f22_many_files_and_a_kill_at_half(on_disk: Stage, files: int, slowly: list[str]) -> None:
    """Directories count too: a transfer of a million entries has no more files than this."""
    stage = on_disk
    source = stage.folder / "many"
    make_many(source, files)
    with memory_group() as group:
        group.allow(GIB)
        begun = time.monotonic()
        programs = start(stage, source, group.prefix, *slowly)
        try:
            for event in programs[1].events(SILENCE):
                assert programs[0].poll() is None
                if event["event"] == "progress" and event["bytes"] >= files * 25:
                    break
            for program in programs:
                kill(program)
            again = time.monotonic()
            programs = start(stage, source, group.prefix)
            for event in programs[1].events(SILENCE):
                if event["event"] == "resumed":
                    break
            else:
                raise AssertionError("nothing was kept")
            resumed = time.monotonic() - again
            peaks = ends_well(programs, LONG)
        finally:
            stop(*programs)
        took = time.monotonic() - begun
        assert group.killed() == 0
    print(f"{files} files: {took:.0f} s, on again after {resumed:.1f} s, at most {max(peaks) / MIB:.0f} MiB")
    assert resumed < 120
    assert max(peaks) < 500 * MIB
    check_many(source, stage.inbox / "many")
