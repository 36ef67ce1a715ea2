"""Parts of chunks whose path ended, at the receiver, and what the sender makes of them."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import pytest
from blake3 import blake3

from p2pxfer.core.framing import Frame, FrameDecoder
from p2pxfer.core.session.deltawire import Lack
from p2pxfer.core.session.restwire import Part, Rest, decode_rest, rest_prefix
from p2pxfer.core.session.transferwire import Accept, Ack, Chunk, Holes, Listed, Offer, Page, chunk_prefix
from p2pxfer.core.session.wire import SESSION_CAPS
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.parts import MAX_KEPT, MAX_PARTS, MAX_TOLD, MIN_PART, Begun, PartsRoom, begun
from p2pxfer.core.transfer.receiveeffect import Relist, Store
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.rests import MAX_REMEMBERED
from p2pxfer.core.transfer.sendeffect import Send
from p2pxfer.core.transfer.sender import SenderCore
from p2pxfer.errors import ChunkRefused, Damaged, FrameError, ProtocolBreach
from tests.core.transferworld import KIB, content, make_manifest

CHUNK = 64 * KIB
LEAST = 1000


class Taking:
    """A receiver of ``manifest`` that has accepted, on path 1, and to which chunks are cut."""

    def __init__(self, manifest: Manifest, least: int = LEAST, room: PartsRoom | None = None) -> None:
        self.manifest = manifest
        self.core = ReceiverCore(manifest.transfer_id, b"i" * 16, least=least, room=room)
        self.said: list[Any] = []
        self.path(1)

    def path(self, number: int) -> list[Any]:
        """Another path; what is said on it."""
        said: dict[str, Any] = {"files": len(self.manifest.sizes), "size": self.manifest.total_bytes}
        page, more = self.manifest.page(0), self.manifest.pages > 1
        offer = Offer(handle=1, transfer=self.manifest.transfer_id, page=page, more=more, **said)
        self.do(self.core.receive(number, offer))
        if number == 1:
            self.do(self.core.accepted({}))
        return self.on(number)

    def do(self, effects: Iterable[Any]) -> list[Any]:
        """Note what is said, and give back what is asked for besides."""
        effects = list(effects)
        self.said += [effect for effect in effects if isinstance(effect, Send)]
        return [effect for effect in effects if not isinstance(effect, Send)]

    def on(self, path: int) -> list[Any]:
        """What was said on a path since."""
        found = [effect.message for effect in self.said if effect.path == path]
        self.said = [effect for effect in self.said if effect.path != path]
        return found

    def payload(self, address: tuple[int, int]) -> bytes:
        return content(self.manifest, address)

    def begin(self, path: int, index: int, came: int, offset: int = 0, digest: bytes | None = None) -> None:
        """A chunk of the first file begins to come on a path, or its rest, and no more than this comes of it."""
        data = self.payload((0, index))
        memory = memoryview(bytearray(len(data) - offset))
        memory[:came] = data[offset : offset + came]
        cut = Begun(1, 0, index, digest or blake3(data).digest(), offset, memory, came)
        self.do(self.core.parts.came(path, cut))

    def cut(self, path: int) -> None:
        self.core.close_path(path)

    def part(self, index: int, size: int) -> Part:
        return Part(1, 0, index, blake3(self.payload((0, index))).digest(), size)

    def rest(self, path: int, index: int, offset: int, *, wrong: bool = False) -> list[Any]:
        """The rest of a chunk comes; what is to be stored."""
        data = self.payload((0, index))
        rest = bytes(len(data) - offset) if wrong else data[offset:]
        return self.do(
            self.core.chunk(path, Rest(1, 0, index, blake3(data).digest(), offset, memoryview(bytearray(rest))))
        )


def long_list(last: int) -> Manifest:
    """Two pages, of which the second one depends on the time of the last file."""
    count = 200
    return Manifest(
        [Entry(f"f{number:03}{'x' * 240}", FILE, CHUNK, last if number == count - 1 else 0) for number in range(count)]
    )


def lack(index: int) -> Lack:
    return Lack(1, [(0, index, index + 1)])


def test_a_part_is_told_before_the_answer_to_its_page_and_its_rest_makes_the_chunk() -> None:
    taking = Taking(make_manifest([3 * CHUNK]))
    taking.begin(1, 1, 5000)
    taking.cut(1)
    accept, part, listed = taking.path(2)
    assert (type(accept), part, type(listed)) == (Accept, taking.part(1, 5000), Listed)
    (store,) = taking.rest(2, 1, 5000)
    assert isinstance(store, Store)
    assert store.joined
    assert isinstance(store.chunk, Chunk)
    assert bytes(store.chunk.payload) == taking.payload((0, 1))
    taking.core.stored(2, store.chunk)
    assert [effect.message for effect in taking.core.take_acks(2)] == [Ack(1, [(1, 2)])]


def test_a_path_that_is_open_is_told_at_once() -> None:
    taking = Taking(make_manifest([3 * CHUNK]))
    taking.path(2)
    taking.begin(1, 0, 5000)
    assert taking.on(2) == [taking.part(0, 5000)]


def test_a_rest_that_is_cut_makes_the_part_longer() -> None:
    taking = Taking(make_manifest([CHUNK]))
    taking.begin(1, 0, 5000)
    taking.cut(1)
    taking.path(2)
    taking.begin(2, 0, 7000, offset=5000)
    taking.cut(2)
    assert taking.part(0, 12000) in taking.path(3)
    (store,) = taking.rest(3, 0, 12000)
    assert bytes(store.chunk.payload) == taking.payload((0, 0))


def test_a_rest_may_begin_before_the_part_ends() -> None:
    """The part has grown since its path was told of it."""
    taking = Taking(make_manifest([CHUNK]))
    taking.path(2)
    taking.begin(1, 0, 5000)
    taking.begin(1, 0, 9000)
    (store,) = taking.rest(2, 0, 5000)
    assert bytes(store.chunk.payload) == taking.payload((0, 0))


def test_what_is_short_or_begins_behind_a_gap_or_is_here_is_not_kept() -> None:
    taking = Taking(make_manifest([3 * CHUNK]))
    whole = memoryview(bytearray(taking.payload((0, 2))))
    (store,) = taking.do(taking.core.chunk(1, Chunk(1, 0, 2, blake3(whole).digest(), whole)))
    taking.core.stored(1, store.chunk)
    taking.begin(1, 0, LEAST - 1)
    taking.begin(1, 1, 5000, offset=8000)
    taking.begin(1, 2, 5000)
    assert len(taking.core.parts) == 0
    assert MIN_PART == 64 * KIB


def test_what_is_no_part_of_a_chunk_is_not_kept() -> None:
    taking = Taking(make_manifest([CHUNK]))
    memory = memoryview(bytearray(CHUNK))
    for handle, file, index, length in [(2, 0, 0, CHUNK), (1, 2, 0, CHUNK), (1, 0, 1, CHUNK), (1, 0, 0, CHUNK - 1)]:
        assert taking.core.parts.came(1, Begun(handle, file, index, b"h" * 32, 0, memory[:length], 5000)) == []
    assert taking.core.parts.came(9, Begun(1, 0, 0, b"h" * 32, 0, memory, 5000)) == []
    assert len(taking.core.parts) == 0


def test_the_longest_parts_are_kept() -> None:
    taking = Taking(make_manifest([10 * CHUNK]))
    for index in range(10):
        taking.begin(1, index, 5000 - 100 * abs(index - 4))
    taking.cut(1)
    assert MAX_PARTS == 2
    told = [message for message in taking.path(2) if isinstance(message, Part)]
    assert sorted(told, key=lambda part: part.index) in (
        [taking.part(3, 4900), taking.part(4, 5000)],
        [taking.part(4, 5000), taking.part(5, 4900)],
    )


def test_a_chunk_that_came_whole_has_no_part_any_more() -> None:
    taking = Taking(make_manifest([CHUNK]))
    taking.begin(1, 0, 5000)
    payload = memoryview(bytearray(taking.payload((0, 0))))
    (store,) = taking.do(taking.core.chunk(1, Chunk(1, 0, 0, blake3(payload).digest(), payload)))
    taking.core.stored(1, store.chunk)
    assert len(taking.core.parts) == 0


def test_another_hash_is_another_chunk() -> None:
    """The source changed between two runs of the sender."""
    taking = Taking(make_manifest([CHUNK]))
    taking.begin(1, 0, 9000)
    taking.begin(1, 0, 5000, digest=b"x" * 32)
    taking.cut(1)
    assert Part(1, 0, 0, b"x" * 32, 5000) in taking.path(2)
    assert taking.rest(2, 0, 5000) == []
    assert taking.on(2) == [lack(0)]


def test_a_rest_whose_part_is_gone_is_lacked_and_no_breach() -> None:
    taking = Taking(make_manifest([10 * CHUNK]))
    taking.path(2)
    taking.begin(1, 0, 5000)
    for index in range(1, 1 + MAX_PARTS):
        taking.begin(1, index, 6000)
    taking.on(2)
    assert taking.rest(2, 0, 5000) == []
    assert taking.on(2) == [lack(0)]


def test_a_rest_that_makes_something_else_is_lacked_and_the_part_forgotten() -> None:
    """It is verified like any chunk, by whoever stores it, and does not count as a bad chunk; but only so often."""
    taking = Taking(make_manifest([CHUNK]))
    for number in range(2, 5):
        taking.path(number)
        taking.begin(1, 0, 5000)
        (store,) = taking.rest(number, 0, 5000, wrong=True)
        assert store.joined
        assert len(taking.core.parts) == 0
        if number < 4:
            taking.core.lacking((0, 0))
    with pytest.raises(Damaged):
        taking.core.lacking((0, 0))


def test_a_rest_of_what_is_being_stored_is_acknowledged_when_that_is_done() -> None:
    """Two paths were told of one part, and on both the rest comes, for one has taken over from the other."""
    taking = Taking(make_manifest([3 * CHUNK]))
    taking.path(2)
    taking.path(3)
    taking.begin(1, 0, 5000)
    taking.on(3)
    (store,) = taking.rest(2, 0, 5000)
    assert taking.rest(3, 0, 5000) == []
    assert taking.on(3) == []
    assert list(taking.core.take_acks(3)) == []
    taking.core.close_path(2)  # nobody is there to hear of it on that path
    taking.core.stored(2, store.chunk)
    assert [effect.message for effect in taking.core.take_acks(3)] == [Ack(1, [(0, 1)])]


def test_a_rest_of_what_could_not_be_stored_is_lacked_too() -> None:
    taking = Taking(make_manifest([3 * CHUNK]))
    taking.path(2)
    taking.path(3)
    taking.begin(1, 0, 5000)
    taking.on(3)
    (store,) = taking.rest(2, 0, 5000, wrong=True)
    assert taking.rest(3, 0, 5000) == []
    assert taking.core.parts.not_stored(store.chunk) == [Send(3, lack(0))]
    assert taking.core.parts.not_stored(store.chunk) == []


def test_a_rest_of_a_hole_that_is_being_stored_is_acknowledged_and_holes_have_no_parts() -> None:
    taking = Taking(make_manifest([3 * CHUNK]))
    zeros = bytes(CHUNK)
    digest = blake3(zeros).digest()
    taking.path(2)
    taking.begin(1, 0, 5000, digest=digest)
    (hole,) = taking.do(taking.core.receive(1, Holes(1, [(0, 0, 1)])))
    rest = Rest(1, 0, 0, digest, 5000, memoryview(bytearray(zeros[5000:])))
    assert taking.do(taking.core.chunk(2, rest)) == []
    taking.core.close_path(1)
    taking.core.stored_hole(1, hole.file, hole.first, hole.stop)
    assert [effect.message for effect in taking.core.take_acks(2)] == [Ack(1, [(0, 1)])]
    assert len(taking.core.parts) == 0
    assert not any(isinstance(message, Part) for message in taking.path(3))


def test_a_rest_of_which_no_part_was_told_is_a_breach() -> None:
    taking = Taking(make_manifest([2 * CHUNK]))
    taking.path(2)
    taking.begin(1, 0, 5000)
    with pytest.raises(ProtocolBreach):
        taking.rest(2, 1, 5000)
    with pytest.raises(ProtocolBreach):
        taking.rest(1, 0, 5000)  # the path on which the part came was not told of it
    taking.rest(2, 0, 5000)
    with pytest.raises(ProtocolBreach):
        taking.rest(2, 0, 5000)


@pytest.mark.parametrize(
    ("file", "index", "offset", "size"),
    [(2, 0, 5000, CHUNK - 5000), (0, 1, 5000, CHUNK - 5000), (0, 0, 5000, CHUNK), (0, 0, 5000, 1), (0, 0, CHUNK, 1)],
)
def test_a_rest_that_does_not_fit_the_list_is_refused(file: int, index: int, offset: int, size: int) -> None:
    taking = Taking(make_manifest([CHUNK]))
    taking.path(2)
    taking.begin(1, 0, 5000)
    with pytest.raises(ChunkRefused):
        taking.core.chunk(2, Rest(1, file, index, b"h" * 32, offset, memoryview(bytes(size))))


def test_a_rest_of_a_chunk_that_is_here_is_acknowledged() -> None:
    taking = Taking(make_manifest([CHUNK]))
    taking.path(2)
    taking.begin(1, 0, 5000)
    payload = memoryview(bytearray(taking.payload((0, 0))))
    (store,) = taking.do(taking.core.chunk(1, Chunk(1, 0, 0, blake3(payload).digest(), payload)))
    taking.core.stored(1, store.chunk)
    taking.rest(2, 0, 5000)
    assert [effect.message for effect in taking.core.take_acks(2)] == [Ack(1, [(0, 1)])]


def test_a_path_is_told_of_no_more_chunks_than_it_may_name() -> None:
    """Another path that is cut again and again makes a new part each time, and this one never uses any."""
    taking = Taking(make_manifest([(MAX_TOLD + 9) * CHUNK]))
    taking.path(2)
    for index in range(MAX_TOLD + 9):
        taking.begin(1, index, 5000 + index)
    assert len(taking.on(2)) == MAX_TOLD
    payload = memoryview(bytearray(taking.payload((0, 0))))
    (store,) = taking.do(taking.core.chunk(1, Chunk(1, 0, 0, blake3(payload).digest(), payload)))
    taking.core.stored(1, store.chunk)
    taking.begin(1, MAX_TOLD + 8, 9000)
    assert taking.on(2) == [taking.part(MAX_TOLD + 8, 9000)]  # there is room, since that chunk is here


def test_a_part_keeps_the_memory_of_what_came_and_no_more() -> None:
    """Of each of 64 transfers a sender may have two parts, of chunks of 4 MiB, for the 64 KiB that it sends of each."""

    class Memory(bytearray):
        """What a frame comes into, to see whether somebody holds it."""

    taking = Taking(make_manifest([3 * CHUNK]))
    memory = Memory(CHUNK)
    frame = weakref.ref(memory)
    taking.core.parts.came(1, Begun(1, 0, 0, b"h" * 32, 0, memoryview(memory), 5000))
    del memory
    assert len(taking.core.parts) == 1
    assert frame() is None


def test_the_parts_of_a_senders_transfers_have_so_many_octets_together() -> None:
    room = PartsRoom(12_000)
    one, other = (Taking(make_manifest([3 * CHUNK]), room=room) for _ in range(2))
    one.begin(1, 0, 5000)
    other.begin(1, 0, 7000)
    other.begin(1, 0, 7001)  # there is no room for it to grow
    other.cut(1)
    assert other.part(0, 7000) in other.path(2)
    one.begin(1, 1, 5000)
    assert (len(one.core.parts), len(other.core.parts)) == (1, 1)
    assert len(other.rest(2, 0, 7000)) == 1
    one.begin(1, 1, 7000)
    assert len(one.core.parts) == 2
    one.core.parts.end()
    other.begin(2, 1, 12_000)
    assert len(other.core.parts) == 1
    assert MAX_KEPT == 16 * 1024 * KIB


def test_parts_go_with_the_transfer() -> None:
    taking = Taking(make_manifest([CHUNK]))
    taking.begin(1, 0, 5000)
    taking.core.parts.end()
    assert len(taking.core.parts) == 0
    taking.begin(1, 0, 5000)
    assert len(taking.core.parts) == 0


def test_parts_are_told_of_pages_that_were_answered_and_forgotten_with_another_list() -> None:
    """Where the list goes on in another way; a path on which that is told was told of parts before."""
    one, other = long_list(1), long_list(2)
    assert (one.pages, one.page(0), one.page(1) == other.page(1)) == (2, other.page(0), False)
    taking = Taking(one)
    page = Page(1, 1, one.digest(1), one.page(1), more=False)
    taking.do(taking.core.receive(1, page))
    file = one.files_before(1)
    data = memoryview(bytearray(CHUNK))
    cut = Begun(1, file, 0, b"h" * 32, 0, data, 5000)
    assert taking.path(2)[0] == Accept(1, b"i" * 16, pages=2)
    taking.do(taking.core.parts.came(1, cut))
    assert taking.on(2) == []  # its page was not answered there
    taking.do(taking.core.receive(2, Page(1, 1, one.digest(1), more=False)))
    part, listed = taking.on(2)
    assert (part, listed.page) == (Part(1, file, 0, b"h" * 32, 5000), 1)
    taking.path(3)
    (relist,) = taking.do(taking.core.receive(3, Page(1, 1, other.digest(1), other.page(1), more=False)))
    assert isinstance(relist, Relist)
    assert taking.core.manifest is not None
    taking.core.manifest.cut(relist.keep)
    taking.core.relisted({})
    assert len(taking.core.parts) == 0


def test_nothing_looks_at_the_list_while_it_becomes_another_one() -> None:
    """It is cut in a thread meanwhile, and the path that brought the other list may be cut in the middle of a chunk."""
    one, other = long_list(1), long_list(2)
    taking = Taking(one)
    taking.do(taking.core.receive(1, Page(1, 1, one.digest(1), one.page(1), more=False)))
    taking.path(2)
    (relist,) = taking.do(taking.core.receive(2, Page(1, 1, other.digest(1), other.page(1), more=False)))
    assert isinstance(relist, Relist)
    assert taking.core.manifest is not None
    taking.core.manifest.cut(relist.keep)
    for file in (0, one.files_before(1)):
        cut = Begun(1, file, 0, b"h" * 32, 0, memoryview(bytearray(CHUNK)), 5000)
        assert taking.core.parts.came(2, cut) == []
        assert len(taking.core.parts) == 0
    taking.core.relisted({})
    taking.begin(2, 0, 5000)
    assert len(taking.core.parts) == 1


# -- the frame -------------------------------------------------------------------------------------------------------


def fed(data: bytes) -> Begun | None:
    decoder = FrameDecoder(SESSION_CAPS)
    assert list(decoder.feed(data)) == []
    return begun(*decoder.begun) if decoder.begun is not None else None


def test_what_of_a_frame_is_a_begin() -> None:
    head = chunk_prefix(1, 2, 3, b"h" * 32, 100)
    assert fed(head) is None
    found = fed(head + b"abc")
    assert found is not None
    assert (found.handle, found.file, found.index, found.hash, found.offset, found.came) == (1, 2, 3, b"h" * 32, 0, 3)
    assert (bytes(found.memory[:3]), len(found.memory)) == (b"abc", 100)
    head = rest_prefix(1, 2, 3, b"h" * 32, 77, 100)
    assert fed(head) is None
    found = fed(head + b"abc")
    assert found is not None
    assert (found.index, found.offset, found.came, len(found.memory)) == (3, 77, 3, 100)
    assert fed(b"") is None
    assert fed(head[:5]) is None
    assert fed(rest_prefix(1, 2, 3, b"h" * 32, 0, 100) + b"abc") is None


def test_a_rest_needs_something_before_it_and_something_in_it() -> None:
    for wrong in (rest_prefix(1, 2, 3, b"h" * 32, 7, 0), rest_prefix(1, 2, 3, b"h" * 32, 0, 7) + bytes(7)):
        with pytest.raises(FrameError):
            decode_rest(Frame(wrong[4], wrong[5:]))


# -- the sender ------------------------------------------------------------------------------------------------------


def telling(*paths: int) -> SenderCore:
    """A sender of two chunks on paths on which it was accepted."""
    core = SenderCore(1, make_manifest([2 * CHUNK]), {})
    for path in paths:
        core.open_path(path)
        core.receive(path, Accept(1, b"i" * 16))
        core.receive(path, Listed(1, 0))
    return core


def test_a_part_counts_once_on_its_path_and_only_for_its_hash() -> None:
    core = telling(1, 2)
    core.receive(1, Part(1, 0, 1, b"h" * 32, 5000))
    core.receive(2, Part(1, 0, 1, b"h" * 32, 5000))
    assert core.rests.take(1, (0, 0), b"h" * 32) == 0
    assert core.rests.take(1, (0, 1), b"h" * 32) == 5000
    assert core.rests.take(1, (0, 1), b"h" * 32) == 0
    assert core.rests.take(2, (0, 1), b"x" * 32) == 0
    assert core.rests.take(2, (0, 1), b"h" * 32) == 0


def test_a_part_of_what_was_acknowledged_is_forgotten_on_all_paths() -> None:
    """Or each chunk would be looked for among the parts until the path ends."""
    core = telling(1, 2)
    for path in (1, 2):
        for index in (0, 1):
            core.receive(path, Part(1, 0, index, b"h" * 32, 5000))
    core.receive(2, Ack(1, [(0, 1)]))
    assert [list(core.rests.on(path)) for path in (1, 2)] == [[(0, 1)], [(0, 1)]]


def test_the_last_word_on_a_part_counts() -> None:
    core = telling(1)
    for size in (5000, 9000):
        core.receive(1, Part(1, 0, 0, b"h" * 32, size))
    assert core.rests.take(1, (0, 0), b"h" * 32) == 9000


def test_parts_go_with_their_path_and_with_their_process() -> None:
    core = telling(1, 2)
    for path in (1, 2):
        core.receive(path, Part(1, 0, 0, b"h" * 32, 5000))
    core.close_path(1)
    assert core.rests.take(1, (0, 0), b"h" * 32) == 0
    core.open_path(3)
    core.receive(3, Accept(1, b"j" * 16))
    assert core.rests.take(2, (0, 0), b"h" * 32) == 0
    assert core.receive(2, Part(1, 0, 0, b"h" * 32, 5000)) == []  # of a process that has died
    assert core.rests.take(2, (0, 0), b"h" * 32) == 0


@pytest.mark.parametrize(
    ("file", "index", "size"), [(1, 0, 1), (0, 2, 1), (0, 0, 0), (0, 0, CHUNK), (0, 1, 2**32 - 1), (2**32 - 1, 0, 1)]
)
def test_a_part_of_nothing_is_refused(file: int, index: int, size: int) -> None:
    with pytest.raises(ProtocolBreach):
        telling(1).receive(1, Part(1, file, index, b"h" * 32, size))


def test_a_part_before_the_transfer_was_accepted_is_refused() -> None:
    core = SenderCore(1, make_manifest([CHUNK]), {})
    core.open_path(1)
    with pytest.raises(ProtocolBreach):
        core.receive(1, Part(1, 0, 0, b"h" * 32, 5000))


def test_thousands_of_parts_are_forgotten_but_the_last_ones() -> None:
    count = 5000
    core = SenderCore(1, make_manifest([CHUNK] * count), {})
    core.open_path(1)
    core.receive(1, Accept(1, b"i" * 16))
    for file in range(count):
        core.receive(1, Part(1, file, 0, b"h" * 32, 5000))
    assert len(core.rests.on(1)) == MAX_REMEMBERED
    assert core.rests.take(1, (0, 0), b"h" * 32) == 0
    assert core.rests.take(1, (count - 1, 0), b"h" * 32) == 5000


def test_only_a_rest_that_was_sent_is_lacked_and_only_where() -> None:
    core = telling(1, 2)
    for path in (1, 2):
        core.receive(path, Part(1, 0, 0, b"h" * 32, 5000))
    core.rests.take(1, (0, 0), b"h" * 32)
    assert core.rests.lacked(2, lack(0)) == ([], lack(0))
    both = Lack(1, [(0, 0, 1), (0, 1, 2)])
    assert core.rests.lacked(1, both) == ([(0, 0)], lack(1))
    assert core.rests.lacked(1, lack(0)) == ([], lack(0))
