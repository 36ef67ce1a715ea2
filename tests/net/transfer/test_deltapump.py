"""The pump with older versions at a receiver that is played by the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pxfer.core.framing import HEADER_SIZE, Frame
from p2pxfer.core.session.bundlewire import BUNDLE_KIND, decode_bundle
from p2pxfer.core.session.deltawire import PATCH_KIND, Lack, Older, WantBasis, decode_patch
from p2pxfer.core.session.transferwire import DATA_KIND, Ack, decode_chunk
from p2pxfer.core.transfer.inflow import wire_size
from p2pxfer.net.transfer import comparing
from p2pxfer.net.transfer.comparing import PATIENCE_S, SLOWEST_RATE
from tests.net.disk_tools import noise
from tests.net.transfer.pumpworld import Sending, Taker

KIB = 1024


@pytest.fixture
def sending(tmp_path: Path) -> Iterator[Callable[[list[bytes]], Sending]]:
    made: list[Sending] = []

    def make(contents: list[bytes]) -> Sending:
        made.append(Sending(tmp_path, contents))
        return made[-1]

    yield make
    for each in made:
        each.close()


def begun(sending: Callable[[list[bytes]], Sending]) -> tuple[Sending, Taker, int]:
    """One file of which the receiver has told the hashes."""
    one = sending([noise(128 * KIB, 1)])
    file = one.number(0)
    path = one.path(1)
    one.say(path, Older(handle=1, page=0, files=[file]))
    assert path.said(WantBasis) == [WantBasis(handle=1, file=file)]
    return one, path, file


def test_a_patch_that_was_ready_when_the_chunk_was_lacked_is_sent_whole(sending: Any) -> None:
    one, path, file = begun(sending)
    one.basis(path, 0)
    one.until(lambda: len(path.frames) == 2)
    assert path.went == [(file, 0, True), (file, 1, True)]
    # Another path takes over what this one is slow with; both are full when that patch has been made.
    other = one.path(2, beside=1)
    other.room = path.room = 0
    one.threads.wait()
    one.say(path, Lack(handle=1, chunks=[(file, 0, 2)]))
    other.room = path.room = 10
    one.pump.push()
    again = {(file, 0, False), (file, 1, False)}
    one.until(lambda: again <= {*path.went[2:], *other.went})
    assert again == {*path.went[2:], *other.went}


def test_a_chunk_that_was_a_patch_on_two_paths_is_lacked_on_both(sending: Any) -> None:
    one, path, file = begun(sending)
    one.basis(path, 0)
    one.until(lambda: len(path.frames) == 2)
    other = one.path(2, beside=1)
    one.until(lambda: len(other.frames) == 1)
    assert other.went == [(file, 1, True)]
    for each in (path, other):
        one.say(each, Lack(handle=1, chunks=[(file, 1, 2)]))
    one.until(lambda: (file, 1, False) in path.went + other.went)
    assert (file, 1, True) not in path.went[2:] + other.went[1:]


DECODERS: dict[int, Callable[[Frame], Any]] = {
    DATA_KIND: decode_chunk, PATCH_KIND: decode_patch, BUNDLE_KIND: decode_bundle,
}  # fmt: skip


def test_both_ends_count_the_same(sending: Any) -> None:
    """A chunk, patches and a bundle: what is said to have gone is what the other end says has come."""
    one = sending([noise(128 * KIB, 1), noise(128 * KIB, 2), *(noise(100, seed) for seed in range(3, 6))])
    file = one.number(0)
    path = one.path(1)
    one.say(path, Older(handle=1, page=0, files=[file]))
    one.basis(path, 0)
    taken: dict[int, int] = {}

    def take() -> bool:
        for frame in path.frames[sum(taken.values()) :]:
            kind = frame[HEADER_SIZE - 1]
            taken[kind] = taken.get(kind, 0) + 1
        return taken.keys() == DECODERS.keys() and sum(taken.values()) >= 5

    one.until(take)
    came = (
        DECODERS[frame[HEADER_SIZE - 1]](Frame(frame[HEADER_SIZE - 1], frame[HEADER_SIZE:])) for frame in path.frames
    )
    assert one.paths.bytes_by_path == {"punched": sum(map(wire_size, came))}


def test_a_patch_for_a_receiver_that_is_gone_does_not_go_to_the_next(sending: Any) -> None:
    one, path, file = begun(sending)
    path.room = 0
    one.basis(path, 0)
    one.threads.wait()
    other = one.path(2, instance=b"j" * 16, older=False)
    one.until(lambda: len(other.frames) == 2)
    assert sorted(other.went) == [(file, 0, False), (file, 1, False)]


def test_files_go_on_behind_one_whose_older_version_is_not_told_yet(sending: Any) -> None:
    one = sending([noise(128 * KIB, 1), b"small", noise(200 * KIB, 2)])
    big, small, other = map(one.number, range(3))
    path = one.path(1)
    one.say(path, Older(handle=1, page=0, files=[big]))
    one.until(lambda: {file for file, _, _ in path.went} == {small, other})
    assert len(path.frames) == 5
    one.basis(path, 0)
    one.until(lambda: len(path.frames) == 7)
    assert path.went[5:] == [(big, 0, True), (big, 1, True)]


@pytest.mark.parametrize("told", [False, True])
def test_a_receiver_that_does_not_tell_gets_the_file_whole(sending: Any, told: bool) -> None:
    """It says of no file whether it has an older version, or names one and never tells its hashes."""
    size = 128 * KIB
    one = sending([noise(size, 1), b"small"])
    file, small = one.number(0), one.number(1)
    path = one.path(1)
    if told:
        one.say(path, Older(handle=1, page=0, files=[file]))
    one.until(lambda: len(path.frames) == 1)
    # While something is under way nothing is given up.
    one.threads.advance(10 * PATIENCE_S)
    assert path.went == [(small, 0, False)]
    one.say(path, Ack(handle=1, chunks=[(2 * (small > file), 2 * (small > file) + 1)]))
    one.threads.advance(PATIENCE_S + size / SLOWEST_RATE - 0.1)
    assert one.threads.results.empty()
    one.threads.advance(0.2)
    one.until(lambda: len(path.frames) == 3)
    assert path.went[1:] == [(file, 0, False), (file, 1, False)]
    # What it says too late changes nothing.
    if told:
        one.basis(path, 0)
    else:
        one.say(path, Older(handle=1, page=0, files=[file]))
    assert path.said(WantBasis) == [WantBasis(handle=1, file=file)] * told


def test_no_more_is_set_aside_than_a_limit(sending: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "MOST_ASIDE", 2)
    one = sending([noise(200 * KIB, 1), b"small"])
    file = one.number(0)
    path = one.path(1)
    one.say(path, Older(handle=1, page=0, files=[file]))
    one.basis(path, 0)
    one.until(lambda: len(path.frames) == 5)
    assert all(patch for number, _, patch in path.went if number == file)
