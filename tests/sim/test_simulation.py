"""Transfers and channels over faulty networks and disks, hundreds of seeds; `--soak` plays ten thousand.

A seed that fails is printed with the command that plays it again.  The last tests plant bugs in the cores and see that
the simulation finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from p2pxfer.core.session.channel import Channel
from p2pxfer.core.session.sendlog import SendLog
from p2pxfer.core.transfer import journal
from p2pxfer.core.transfer.ending import Ending
from p2pxfer.core.transfer.inflow import Inflow
from p2pxfer.core.transfer.leaving import Leaving
from p2pxfer.core.transfer.outflow import Outflow
from p2pxfer.core.transfer.overwriting import Overwriting
from p2pxfer.core.transfer.parts import Parts
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.receivestate import Senders
from p2pxfer.core.transfer.sender import SenderCore
from tests.sim.run import KINDS, first_failure, played

SEEDS = {"transfer": 800, "edited": 100, "slow": 100, "stream": 150}
MANY = 10_000


@pytest.mark.deadline(240)
@pytest.mark.parametrize("name", KINDS)
def test_every_seed_ends_well(name: str) -> None:
    found = first_failure(name, range(SEEDS[name]))
    assert found is None, found[1]


@pytest.mark.soak
@pytest.mark.deadline(3600)
@pytest.mark.parametrize("name", KINDS)
def test_ten_thousand_seeds_end_well(name: str) -> None:
    found = first_failure(name, range(SEEDS[name], MANY))
    assert found is None, found[1]


def test_a_seed_decides_everything() -> None:
    for kind in KINDS.values():
        one, other = (played(kind, 7)[0] for _ in range(2))
        assert one.world.trace == other.world.trace
        assert one.world.now == other.world.now
        assert one.world.trace != played(kind, 8)[0].world.trace


def records_unchecked(data: bytes, start: int) -> Iterator[tuple[int, memoryview, int]]:
    """A reader of journals that does not look at checksums."""
    view = memoryview(data)
    while start + journal.RECORD_OVERHEAD <= len(data):
        kind, length = journal._RECORD.unpack_from(data, start)
        begin = start + journal.RECORD_OVERHEAD
        if begin + length > len(data):
            return
        yield kind, view[begin : begin + length], begin + length
        start = begin + length


def acknowledge_at_once(self: ReceiverCore, path: int, chunk: Any) -> list[Any]:
    effects = receive_chunk(self, path, chunk)
    assert self._flow is not None
    number = self._flow.table.number((chunk.file, chunk.index))
    self._paths[path].acks.add(number, number + 1)
    return effects


receive_chunk = ReceiverCore.chunk


BUGS = [
    pytest.param("transfer", Outflow, "lost", lambda self, path: None, id="a lost path keeps its chunks"),
    pytest.param("transfer", SenderCore, "_retire_talks", lambda self: None, id="a dead receiver's word counts"),
    pytest.param(
        "transfer", SenderCore, "_forget_acknowledged", lambda self: None, id="a new receiver is taken for the old one"
    ),
    pytest.param("transfer", ReceiverCore, "chunk", acknowledge_at_once, id="chunks count before they are written"),
    pytest.param("transfer", journal, "read_records", records_unchecked, id="torn records of the journal are believed"),
    pytest.param("transfer", Ending, "stands", lambda *what, **of: None, id="what is published by half does not stand"),
    pytest.param("transfer", Leaving, "opened", lambda self, path: None, id="a path is not told what is left out"),
    pytest.param(
        "transfer", Overwriting, "is_first", lambda *_: True, id="the journal claims what is being written over"
    ),
    pytest.param(
        "edited", Senders, "is_late", lambda self, state: False, id="a dead sender's late bytes replace others"
    ),
    pytest.param(
        "edited",
        Inflow,
        "_goes",
        lambda self, number: False,
        id="what is being written over is claimed, or acknowledged",
    ),
    pytest.param("slow", Parts, "came", lambda self, path, cut: [], id="nothing is kept of a chunk that was cut"),
    pytest.param("stream", SendLog, "rewind", lambda self: None, id="another path goes on where the lost one was"),
    pytest.param("stream", Channel, "consume", lambda self, size: 0, id="no credit is given back"),
]


@pytest.mark.deadline(240)
@pytest.mark.parametrize(("name", "where", "what", "bug"), BUGS)
def test_a_planted_bug_is_found_and_found_again(
    monkeypatch: pytest.MonkeyPatch, name: str, where: Any, what: str, bug: object
) -> None:
    with monkeypatch.context() as planted:
        planted.setattr(where, what, bug)
        found = first_failure(name, range(SEEDS[name]))
        assert found is not None
        seed, text = found
        assert f"python -m tests.sim {name} {seed}" in text
        assert first_failure(name, [seed]) == found
    assert first_failure(name, [seed]) is None
