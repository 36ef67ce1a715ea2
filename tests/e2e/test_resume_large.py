"""A file of 100 GiB goes on after both programs were killed: at once, and nobody reads what is there already.

The file is sparse, and nobody waits here until 100 GiB went over: the record of the earlier runs is written with the
product's own functions, as those runs would have written it, a chunk a record, and the received file is given its
length.  The programs then send some chunks more, are killed, and what is measured is the run after that.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from blake3 import blake3

from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.geometry import chunk_span
from p2pxfer.core.transfer.journal import pack_chunks, pack_header, pack_page
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.net.private.home import Home
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.source import Source
from scripts.product import Program, client
from tests.e2e import killed_program
from tests.e2e.conftest import (
    MIB,
    REFETCHED,
    Stage,
    computed_by,
    end_of,
    fast_pair,
    kill,
    payload,
    staging_of,
    wait_until,
)
from tests.scene import events_of, last

SIZE = 100 * 1024 * MIB
NEW = 160 * MIB
"""What the earlier runs did not send; it has content, the rest of the file is a hole."""
KILLED_AT = 12
"""At which chunk, of 4 MiB each, the programs are killed."""
FIRST = 2.0
"""Seconds from the start of both commands to the first new data in the received file that the project aims at."""
LATE = 10.0
"""The same on a machine that is busy with other tests; how much each program computes until then must fit `FIRST`."""
READ = 256 * MIB
"""Bytes that a program may read, with the modules of Python and with its own log of hashes; the file has 400 times as
many."""


@pytest.fixture
def stage() -> Iterator[Stage]:
    with fast_pair() as made:
        yield made


def make_source(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(SIZE)
        file.seek(SIZE - NEW)
        for _ in range(NEW // MIB):
            file.write(os.urandom(MIB))


def claims(manifest: Manifest) -> Iterator[tuple[int, int, bytes]]:
    """File, number and hash of every chunk that lies in the hole."""
    hole = blake3(bytes(chunk_span(SIZE, 0)[1])).digest()
    table = ChunkTable(manifest)
    for number in range(table.total):
        offset, length = chunk_span(SIZE, number)
        if offset + length <= SIZE - NEW:
            yield 0, number, hole


def remember(stage: Stage, path: Path) -> None:
    """Leave what earlier runs of both programs leave: the sender's hashes, the receiver's journal and file."""
    source = Source.scan([str(path)])
    manifest = source.manifest
    record = HashCache(str(stage.alice), manifest, source.identity, time.time())
    for claim in claims(manifest):
        record.add(*claim)
    record.close()
    source.close()
    sender = Home(stage.alice).identity().id.digest
    place = stage.inbox / Staging(str(stage.inbox), sender, manifest, lambda _: None, 0).name
    (place / "tree").mkdir(parents=True)
    place.chmod(0o700)
    with (place / "journal").open("wb") as journal:
        journal.write(pack_header(sender, manifest.transfer_id) + pack_page(manifest.page(0), more=False))
        everything = claims(manifest)
        while batch := list(islice(everything, 1)):
            journal.write(pack_chunks(batch))
    with (place / "tree" / path.name).open("wb") as file:
        file.truncate(SIZE - NEW)


def read_by(pid: int) -> tuple[int, int]:
    """Bytes that a process has read by calls, and those of them that came from a disk; also when it has just ended."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["rchar"]), int(fields["read_bytes"])


def length(fd: int) -> int:
    """How long the file of this descriptor is, bytes, under whatever name it is by now."""
    return os.fstat(fd).st_size


def kill_both(stage: Stage, source: Path) -> None:
    """Send some more and kill both."""
    argv = [sys.executable, killed_program.__file__, "rx.after_data_write", str(KILLED_AT)]
    words = ("receive", "--as", "bob", "--to", stage.inbox, "--no-code")
    bob = Program(stage.place, "bob", [*argv, *client(stage.address, stage.bob, *words)[1:]], stage.folder / "b.log")
    stage.callback(bob.stop)
    alice = stage.send(source, "--wait")
    assert bob.wait(60).status == -signal.SIGKILL, events_of(bob)
    kill(alice)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.deadline(150)
def test_100_gib_go_on_at_once_and_nothing_is_read_again(stage: Stage) -> None:
    source = stage.folder / "huge.img"
    make_source(source)
    remember(stage, source)
    kill_both(stage, source)
    (staging,) = staging_of(stage.inbox)
    arriving = os.open(staging / "tree" / source.name, os.O_RDONLY)
    stage.callback(os.close, arriving)
    kept = length(arriving)
    bob = stage.program("bob", stage.bob, "receive", "--as", "bob", "--to", stage.inbox, "--no-code")
    alice = stage.send(source, "--wait")
    begun = min(alice.started, bob.started)
    # A chunk is written when all of it came; those that were written and not journalled come before it once more.
    wait_until(lambda: length(arriving) > kept, 60)
    first = time.monotonic() - begun
    computed = [computed_by(program.pid) for program in (alice, bob)]
    resumed = bob.wait_for("resumed")["have_bytes"]
    # Alice's now: what the system tells of a program that has ended is at least what the one that started it held.
    peaks = [alice.peak_bytes()]
    bob.wait_for("done")
    os.waitid(os.P_PID, alice.pid, os.WEXITED | os.WNOWAIT)
    reads = [read_by(program.pid) for program in (alice, bob)]
    status, events = end_of(alice)
    assert status == 0, events
    print(f"first new data in the file after {first:.2f} s; the programs had computed for {computed} s then")
    print(f"read by calls and from disks: {reads}; resumed with {resumed}")
    assert resumed >= SIZE - NEW + KILLED_AT * 4 * MIB - REFETCHED
    assert payload(last(events, "done")) <= SIZE - resumed + REFETCHED
    assert first < LATE
    assert max(computed) < FIRST
    for called, from_disk in reads:
        assert called < READ
        assert from_disk < READ
    peaks.append(bob.peak_bytes())
    print(f"memory at most {[size // MIB for size in peaks]} MiB")
    assert max(peaks) < 150 * MIB
    received = stage.inbox / source.name
    assert received.stat().st_size == SIZE
    with source.open("rb") as one, received.open("rb") as other:
        for offset in (0, SIZE // 2, *range(SIZE - NEW, SIZE, MIB)):
            assert os.pread(one.fileno(), MIB, offset) == os.pread(other.fileno(), MIB, offset)
    bob.stop()
