"""Chunks on several paths at once: each goes where there is room, and what is late is taken over once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.geometry import MIN_CHUNK
from p2pxfer.core.transfer.holes import HoleTeller
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.outflow import Outflow

FAST, SLOW, THIRD = 1, 2, 3


def outflow(chunks: int, manifest: Manifest | None = None) -> Outflow:
    table = ChunkTable(manifest or Manifest([Entry("f", FILE, chunks * MIN_CHUNK, 0)]))
    flow = Outflow(table, HoleTeller(1, table, {}))
    flow.limit = table.total
    return flow


def send(flow: Outflow, path: int) -> int:
    number = flow.take()
    assert number is not None
    flow.sent(number, path, alive=True)
    return number


def test_an_idle_path_takes_over_the_newest_chunk_of_one_that_has_more_than_one_left() -> None:
    flow = outflow(4)
    assert [send(flow, SLOW) for _ in range(3)] == [0, 1, 2]
    assert send(flow, FAST) == 3
    assert flow.take_over(FAST) is None, "it has work of its own"
    flow.acknowledge(3, 4, FAST)
    assert flow.take() is None
    assert flow.take_over(FAST) == 2
    flow.sent(2, FAST, alive=True)
    assert not flow.wants(2, FAST)
    flow.acknowledge(2, 3, SLOW)
    assert flow.acked_bytes == 2 * MIN_CHUNK


def test_a_single_chunk_is_taken_over_only_from_a_path_that_was_overtaken() -> None:
    flow = outflow(3)
    send(flow, FAST)
    flow.acknowledge(0, 1, FAST)
    assert send(flow, SLOW) == 1
    assert flow.take_over(FAST) is None, "nothing says that the other path is slow"
    send(flow, FAST)
    flow.acknowledge(2, 3, FAST)
    assert flow.take_over(FAST) == 1
    flow.sent(1, FAST, alive=True)
    assert flow.take_over(SLOW) is None, "a chunk is taken over once"
    flow.lost(FAST)
    assert flow.take() is None, "it is still under way where it was first"
    assert flow.take_over(THIRD) is None, "nothing says that this path would be faster"
    flow.lost(SLOW)
    assert flow.take() == 1


def test_a_chunk_that_arrived_while_it_was_read_again_is_not_sent() -> None:
    flow = outflow(2)
    send(flow, SLOW)
    send(flow, SLOW)
    assert flow.take_over(FAST) == 1
    flow.acknowledge(1, 2, SLOW)
    assert not flow.wants(1, FAST)
    flow.put_back(1)
    assert flow.take() is None
    flow.acknowledge(0, 1, SLOW)
    assert flow.acked_bytes == 2 * MIN_CHUNK


def test_a_chunk_whose_path_died_while_it_was_read_again_is_missing() -> None:
    flow = outflow(2)
    send(flow, SLOW)
    send(flow, SLOW)
    assert flow.take_over(FAST) == 1
    flow.lost(SLOW)
    assert flow.take() == 0
    assert flow.take() is None
    flow.put_back(1)
    assert flow.take() == 1


def test_a_path_whose_chunk_was_taken_over_is_not_idle() -> None:
    flow = outflow(2)
    send(flow, SLOW)
    send(flow, SLOW)
    assert flow.take_over(FAST) == 1
    flow.sent(1, FAST, alive=True)
    flow.acknowledge(0, 1, SLOW)
    assert not flow.is_idle(SLOW), "its copy may be the one that arrives"
    assert not flow.is_idle(FAST)
    flow.acknowledge(1, 2, SLOW)
    assert flow.is_idle(SLOW)
    assert flow.is_idle(FAST)


def test_nothing_is_taken_over_while_there_is_more_to_send() -> None:
    """What is not listed yet, not known to the receiver yet, or waits for something else, comes first."""
    manifest = Manifest([Entry("f", FILE, 3 * MIN_CHUNK, 0)])
    flow = outflow(3, manifest)
    manifest.complete, flow.limit = False, 2
    send(flow, SLOW)
    assert flow.take_over(FAST) is None
    send(flow, SLOW)
    assert flow.take() is None
    assert flow.take_over(FAST) is None, "the receiver does not know the third one"
    flow.limit = 3
    held = flow.take()
    assert held == 2
    assert flow.take_over(FAST) is None, "it waits for something"
    flow.put_back(held)
    assert flow.take_over(FAST) is None
    assert send(flow, SLOW) == 2
    assert flow.take_over(FAST) is None, "more files may be listed"
    manifest.complete = True
    assert flow.take_over(FAST) == 2


def test_what_one_path_lacks_is_still_under_way_on_the_other() -> None:
    for lacks, keeps in [(SLOW, FAST), (FAST, SLOW)]:
        flow = outflow(2)
        send(flow, SLOW)
        send(flow, SLOW)
        assert flow.take_over(FAST) == 1
        flow.sent(1, FAST, alive=True)
        flow.acknowledge(0, 1, SLOW)
        flow.lacking(1, lacks)
        assert (flow.is_idle(lacks), flow.is_idle(keeps)) == (True, False)
        assert flow.take() is None
        flow.lacking(1, keeps)
        assert flow.is_idle(keeps)
        assert flow.take() == 1


steps = st.lists(
    st.tuples(st.sampled_from(["send", "over", "ack", "lose", "drop", "lack"]), st.integers(1, 3), st.integers(0, 30)),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_whatever_happens_every_chunk_is_acknowledged_in_the_end_and_none_is_sent_twice_on_one_path(
    program: list[tuple[str, int, int]],
) -> None:
    flow, total = outflow(12), 12
    on_wire: dict[int, list[int]] = {1: [], 2: [], 3: []}

    def go(number: int | None, path: int, *, gone: bool = False) -> None:
        if number is None:
            return
        if gone or not flow.wants(number, path):
            flow.put_back(number)
            return
        assert number not in on_wire[path]
        flow.sent(number, path, alive=True)
        on_wire[path].append(number)

    for what, path, which in program:
        match what:
            case "send" | "drop":
                go(flow.take(), path, gone=what == "drop")
            case "over":
                assert flow.is_idle(path) or flow.take_over(path) is None
                go(flow.take_over(path), path)
            case "ack" if on_wire[path]:
                chunk = on_wire[path].pop(which % len(on_wire[path]))
                flow.acknowledge(chunk, chunk + 1, path)
            case "lack" if on_wire[path]:
                flow.lacking(on_wire[path].pop(which % len(on_wire[path])), path)
            case "lose":
                on_wire[path].clear()
                flow.lost(path)
    for path in on_wire:
        flow.lost(path)
    while (number := flow.take()) is not None:
        flow.sent(number, THIRD, alive=True)
        flow.acknowledge(number, number + 1, THIRD)
    assert flow.acked.total == total
    assert flow.acked_bytes == total * MIN_CHUNK


def test_what_is_acknowledged_and_what_is_left_out_are_settled() -> None:
    flow = outflow(9)
    for start in (0, 4, 8):
        flow.acknowledge(start, start + 1, FAST)
    for start in (1, 6):
        flow.leave_out(start, start + 1)
    assert flow.settled().to_list() == [(0, 2), (4, 5), (6, 7), (8, 9)]
