"""The rest of a chunk whose path was cut: from the sender's disk, and onto the receiver's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from blake3 import blake3
from twisted.internet.defer import Deferred

from p2pxfer.core.framing import HEADER_SIZE, Frame
from p2pxfer.core.session.deltawire import Lack
from p2pxfer.core.session.restwire import REST_KIND, Part, Rest, decode_rest
from p2pxfer.core.session.transferwire import CHUNK_HEADER_SIZE, DATA_KIND, Accept, Ack, Chunk, Listed, chunk_prefix
from p2pxfer.errors import ProtocolBreach
from tests.net.disk_tools import Content, open_staging
from tests.net.reactors import until
from tests.net.transfer.incomingworld import World
from tests.net.transfer.pumpworld import Sending, Taker

KIB = 1024
MIB = 1024 * KIB
CHUNK = 128 * KIB
SIZE = 17 * MIB
"""Of a file whose chunks have this size."""


def data_of(size: int = SIZE) -> bytes:
    return random.Random(7).randbytes(size)


# -- the receiver ----------------------------------------------------------------------------------------------------


class Taking(World):
    """A receiver of one file."""

    def __init__(self, folder: Path) -> None:
        self.content = Content({"file": data_of()})
        super().__init__(folder, self.content.manifest)

    def data(self, index: int) -> bytes:
        return self.content.chunk((0, index))

    def digest(self, index: int) -> bytes:
        return blake3(self.data(index)).digest()

    def cut(self, path: Any, index: int, came: int) -> None:
        """The path ends when so much of a chunk has come on it."""
        head = chunk_prefix(1, 0, index, self.digest(index), CHUNK)[HEADER_SIZE:]
        body = bytearray(len(head) + CHUNK)
        body[: len(head) + came] = head + self.data(index)[:came]
        path.begun = DATA_KIND, memoryview(body), len(head) + came
        self.lose(path)

    def lose(self, path: Any) -> None:
        self.paths.remove(path, "cut")
        self.transfer.close_path(path)

    def rest(self, path: Any, index: int, offset: int, *, wrong: bool = False) -> None:
        payload = bytearray(self.data(index)[offset:])
        payload[-1] ^= wrong
        self.transfer.chunk(path, Rest(1, 0, index, self.digest(index), offset, memoryview(payload)))


@pytest.fixture
def taking(tmp_path: Path) -> Iterator[Taking]:
    world = Taking(tmp_path)
    yield world
    pytest_twisted.blockon(Deferred.fromCoroutine(world.transfer.close()))
    world.disk.stop()


@pytest_twisted.ensureDeferred
async def test_a_chunk_of_two_paths_is_written_acknowledged_and_counted(tmp_path: Path, taking: Taking) -> None:
    first, other = await taking.offer(1), await taking.offer(2)
    taking.cut(first, 3, 100 * KIB)
    assert other.sent[-1] == Part(1, 0, 3, taking.digest(3), 100 * KIB)
    third = await taking.offer(3)
    assert [type(message) for message in third.sent] == [Accept, Part, Listed]
    taking.rest(third, 3, 100 * KIB)
    await until(lambda: third.has(Ack))
    assert third.sent[-1] == Ack(handle=1, chunks=[(3, 4)])
    assert taking.transfer.bytes_by_path == {"direct": CHUNK}
    await taking.transfer.close()
    again = open_staging(tmp_path, taking.content)
    assert dict(again.have) == {(0, 3): taking.digest(3)}
    again.close()


@pytest_twisted.ensureDeferred
async def test_a_rest_that_makes_something_else_is_fetched_whole_and_ends_no_path(taking: Taking) -> None:
    first, other = await taking.offer(1), await taking.offer(2)
    taking.cut(first, 3, 100 * KIB)
    taking.rest(other, 3, 100 * KIB, wrong=True)
    await until(lambda: other.has(Lack))
    assert other.sent[-1] == Lack(handle=1, chunks=[(0, 3, 4)])
    assert other.refused is None
    assert taking.transfer.have_bytes == 0
    whole = memoryview(bytearray(taking.data(3)))
    taking.transfer.chunk(other, Chunk(1, 0, 3, taking.digest(3), whole))
    await until(lambda: other.has(Ack))


@pytest_twisted.ensureDeferred
async def test_a_path_that_ends_between_two_frames_leaves_no_part(taking: Taking) -> None:
    first, other = await taking.offer(1), await taking.offer(2)
    taking.lose(first)
    assert not other.has(Part)
    assert taking.transfer.bytes_by_path == {}
    with pytest.raises(ProtocolBreach):
        taking.rest(other, 3, 100 * KIB)


# -- the sender ------------------------------------------------------------------------------------------------------


@pytest.fixture
def sending(tmp_path: Path) -> Iterator[Sending]:
    made = Sending(tmp_path, [data_of()])
    yield made
    made.close()


def path_with(one: Sending, number: int, parts: dict[int, tuple[bytes, int]], room: int) -> Taker:
    """A path on which parts are told before the answer to the first page: of chunks the hash and the size."""
    path: Any = Taker(number)
    path.room = room
    one.paths.add(path)
    one.pump.open_path(path)
    one.say(path, Accept(handle=1, instance=b"i" * 16))
    for index, (digest, size) in parts.items():
        one.say(path, Part(1, 0, index, digest, size))
    one.say(path, Listed(handle=1, page=0))
    taker: Taker = path
    return taker


def full(one: Sending) -> bool:
    """As much is read ahead as may be."""
    return not one.pump._reading and not one.pump._ready.has_room


def rests(path: Taker) -> list[Rest]:
    frames = [frame for frame in path.frames if frame[HEADER_SIZE - 1] == REST_KIND]
    return [decode_rest(Frame(REST_KIND, frame[HEADER_SIZE:])) for frame in frames]


def chunk_of(index: int) -> tuple[bytes, bytes]:
    """A chunk and its hash."""
    data = data_of()[index * CHUNK : (index + 1) * CHUNK]
    return data, blake3(data).digest()


def test_what_the_receiver_has_of_a_chunk_is_not_sent_again_and_goes_first(sending: Sending) -> None:
    data, digest = chunk_of(5)
    path = path_with(sending, 1, {5: (digest, 100 * KIB)}, 0)
    sending.until(lambda: full(sending))
    path.room = 2
    sending.pump.push()
    (rest,) = rests(path)
    assert (rest.file, rest.index, rest.hash, rest.offset) == (0, 5, digest, 100 * KIB)
    assert bytes(rest.payload) == data[100 * KIB :]
    assert [index for _, index, _ in path.went] == [5, 0]
    assert sending.paths.bytes_by_path == {"punched": CHUNK + 28 * KIB}


def test_a_chunk_that_changed_is_sent_whole(sending: Sending) -> None:
    """The part is of what the file was for the run before."""
    path = path_with(sending, 1, {0: (b"x" * 32, 100 * KIB)}, 3)
    sending.until(lambda: not path.room)
    assert rests(path) == []
    assert len(path.frames[0]) == HEADER_SIZE + CHUNK_HEADER_SIZE + CHUNK


def test_a_rest_that_the_receiver_lacks_is_followed_by_the_whole_chunk(sending: Sending) -> None:
    path = path_with(sending, 1, {0: (chunk_of(0)[1], 100 * KIB)}, 1)
    sending.until(lambda: not path.room)
    assert len(rests(path)) == 1
    path.room = 1000
    sending.say(path, Lack(handle=1, chunks=[(0, 0, 1)]))
    sending.until(lambda: [index for _, index, _ in path.went].count(0) == 2)
    assert len(rests(path)) == 1
    with pytest.raises(ProtocolBreach):
        sending.say(path, Lack(handle=1, chunks=[(0, 0, 1)]))
    with pytest.raises(ProtocolBreach):
        sending.say(path, Lack(handle=1, chunks=[(0, 1, 2)]))


def test_what_a_lost_path_carried_goes_on_before_what_was_read_ahead(sending: Sending) -> None:
    """Otherwise each cut of a slow line would begin another chunk, and none would ever be brought to its end."""
    first = path_with(sending, 1, {}, 1)
    sending.until(lambda: not first.room and full(sending))
    assert [index for _, index, _ in first.went] == [0]
    lost: Any = first
    sending.paths.remove(lost, "cut")
    sending.pump.close_path(lost)
    sending.until(lambda: not sending.pump._reading)
    second = path_with(sending, 2, {0: (chunk_of(0)[1], 100 * KIB)}, 1)
    assert len(second.frames) == 1  # it waited for nothing
    assert [rest.index for rest in rests(second)] == [0]
