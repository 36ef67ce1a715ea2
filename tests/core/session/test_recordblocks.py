"""What waits in the blocks of sealed records, and how much memory they take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from p2pxfer.core.session.recordblocks import BLOCK, Intake, Outlet
from p2pxfer.core.session.records import MAX_RECORD, SUITES, Opener, Sealer

SUITE = SUITES["TLS_AES_128_GCM_SHA256"]
SECRET = bytes(32)
PAIRS = 50
"""So many that what else takes memory does not count."""


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


def carry(outlet: Outlet, intake: Intake, size: int, memory: memoryview) -> None:
    """Send one record through both blocks."""
    outlet.seal(memory[:size])
    while outlet.waiting:
        some = min(len(outlet.waiting), len(intake.room()))
        intake.room()[:some] = outlet.waiting[:some]
        intake.arrived(some)
        outlet.sent(some)
    assert intake.open(memory[:size]) == size


def test_a_block_takes_the_memory_that_was_filled_of_it() -> None:
    memory = memoryview(bytearray(MAX_RECORD))
    before = resident()
    pairs = [(Outlet(Sealer(SECRET, SUITE)), Intake(Opener(SECRET, SUITE))) for _ in range(PAIRS)]
    for outlet, intake in pairs:
        for _ in range(3):  # signs of life
            carry(outlet, intake, 20, memory)
    quiet = (resident() - before) / PAIRS
    for outlet, intake in pairs:
        carry(outlet, intake, MAX_RECORD, memory)
    used = (resident() - before) / PAIRS
    assert quiet < BLOCK / 5
    assert used > MAX_RECORD  # that is to say, memory would have been seen


def test_blocks_are_made_where_the_system_has_no_huge_pages() -> None:
    """Python knows that advice on Linux only."""
    told = (
        "import mmap; del mmap.MADV_NOHUGEPAGE; from p2pxfer.core.session import recordblocks as blocks; "
        "print(len(blocks._block(blocks.BLOCK)) == blocks.BLOCK)"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_record_waits_when_it_is_whole_and_not_before() -> None:
    outlet, intake = Outlet(Sealer(SECRET, SUITE)), Intake(Opener(SECRET, SUITE))
    assert (outlet.waits, intake.waits) == (False, False)
    outlet.seal(b"x" * 1000)
    size = len(outlet.waiting)
    outlet.seal(b"second")
    arriving = bytes(outlet.waiting)
    for at, byte in enumerate(arriving):
        assert (intake.next() is not None) is (at in (size, len(arriving)))
        assert intake.waits is (at == size)
        if intake.waits:
            assert intake.open(memoryview(bytearray(1000))) == 1000
        intake.room()[0] = byte
        intake.arrived(1)
    assert (intake.waits, intake.next()) == (True, len(b"second"))
    outlet.sent(len(arriving))
    assert (outlet.waits, len(outlet.waiting)) == (False, 0)
