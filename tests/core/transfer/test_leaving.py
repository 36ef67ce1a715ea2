"""Files that are left out, at the sender: what is told, what is awaited, and what is proved at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from blake3 import blake3

from p2pxfer.core.codec import Message
from p2pxfer.core.session.leftwire import MAX_LEFT, LeftOut
from p2pxfer.core.session.transferwire import Accept, Ack, Final, FinalAck, Have, Listed, Page
from p2pxfer.core.transfer import outflow
from p2pxfer.core.transfer.chunktable import ChunkAddress, ChunkTable
from p2pxfer.core.transfer.leaving import FEW, SHARE
from p2pxfer.core.transfer.manifest import DIRECTORY, FILE, Entry, Manifest
from p2pxfer.core.transfer.ranges import Range, RangeSet
from p2pxfer.core.transfer.sendeffect import Finished, HashChunks, NothingLeft, Send, SenderEffect
from p2pxfer.core.transfer.sender import SenderCore
from p2pxfer.errors import Damaged, DiskError, ProtocolBreach

CHUNK = 64 * 1024
SIZES = [CHUNK, 2 * CHUNK, 5]
"""Chunks 0, then 1 and 2, then 3."""


def digest_of(number: int) -> bytes:
    return blake3(b"%d" % number).digest()


def manifest_of(sizes: Sequence[int]) -> Manifest:
    return Manifest([Entry(f"f{number:05}", FILE, size) for number, size in enumerate(sizes)])


def root_of(manifest: Manifest, left: Sequence[int]) -> bytes:
    table = ChunkTable(manifest)
    for number in range(table.total):
        table.set_hash(number, digest_of(number))
    return table.root(left)


def said(effects: Sequence[SenderEffect], kind: type[Message]) -> list[tuple[int, Message]]:
    return [(each.path, each.message) for each in effects if isinstance(each, Send) and isinstance(each.message, kind)]


class Sending:
    """A sender to a receiver that says what the test wants."""

    def __init__(self, sizes: Sequence[int] = SIZES, known: Sequence[int] = ()) -> None:
        self.manifest = manifest_of(sizes)
        self.table = ChunkTable(self.manifest)
        self.core = SenderCore(1, self.manifest, {self.table.address(number): digest_of(number) for number in known})

    def open(self, path: int, instance: int = 1, have: Sequence[tuple[int, int]] = ()) -> list[SenderEffect]:
        """A path on which the offer is accepted and the only page answered."""
        self.core.open_path(path)
        effects = self.core.receive(path, Accept(handle=1, instance=bytes([instance]) * 16))
        assert not said(effects, LeftOut), "of no page that was answered"
        hashes = b"".join(digest_of(number) for span in have for number in range(*span))
        digest = blake3(hashes, derive_key_context="p2pxfer 1 claimed chunks").digest()
        claims = [Have(ranges=list(have), digest=digest)] if have else []
        return effects + self.core.receive(path, Listed(handle=1, page=0, have=claims))

    def take(self) -> list[int]:
        taken = []
        while (address := self.core.next_chunk()) is not None:
            taken.append(self.table.number(address))
        return taken

    def send(self, number: int, path: int = 1) -> None:
        self.core.chunk_read(self.table.address(number), digest_of(number))
        self.core.chunk_sent(self.table.address(number), path)

    def ack(self, *spans: tuple[int, int], path: int = 1) -> list[SenderEffect]:
        return self.core.receive(path, Ack(handle=1, chunks=list(spans)))

    def final(self, left: Sequence[int], path: int = 1) -> list[tuple[int, Message]]:
        return [(path, Final(handle=1, root=root_of(self.manifest, left)))]


def test_every_open_path_is_told_and_the_rest_is_all_that_is_awaited() -> None:
    sending = Sending()
    sending.open(1)
    sending.open(2)
    assert sending.take() == [0, 1, 2, 3]
    for number in (0, 1, 3):
        sending.send(number)
    effects = sending.core.leave_out(1)
    assert said(effects, LeftOut) == [(path, LeftOut(handle=1, files=[1])) for path in (1, 2)]
    assert sending.core.left_out == (1,)
    effects = sending.ack((0, 1), (3, 4))
    assert sending.core.acked_bytes == CHUNK + 5
    assert said(effects, Final) == sending.final([1], 1) + sending.final([1], 2)
    assert sending.core.receive(1, FinalAck(1, root_of(sending.manifest, [1]), [1])) == [
        Finished(root_of(sending.manifest, [1]), (1,))
    ]
    assert sending.core.acked_bytes == CHUNK + 5


def test_what_is_told_once_is_not_told_again_but_on_another_path() -> None:
    sending = Sending()
    sending.open(1)
    assert said(sending.core.leave_out(1), LeftOut)
    assert sending.core.leave_out(1) == []
    assert said(sending.core.leave_out(0), LeftOut) == [(1, LeftOut(handle=1, files=[0]))]
    assert said(sending.open(2), LeftOut) == [(2, LeftOut(handle=1, files=[0, 1]))]
    sending.core.close_path(1)
    assert said(sending.open(3), LeftOut) == [(3, LeftOut(handle=1, files=[0, 1]))]


def test_nothing_of_it_counts_whatever_was_acknowledged_or_comes_back() -> None:
    sending = Sending()
    sending.open(1)
    sending.take()
    for number in range(4):
        sending.send(number)
    sending.ack((1, 2))
    assert sending.core.acked_bytes == CHUNK
    sending.core.leave_out(1)
    assert sending.core.acked_bytes == 0
    sending.ack((1, 3))  # what was under way has arrived
    assert sending.core.acked_bytes == 0
    sending.core.close_path(1)
    sending.open(2)
    assert sending.take() == [0, 3]


def test_a_chunk_that_is_held_or_lacking_is_not_missing_again() -> None:
    sending = Sending()
    sending.open(1)
    assert sending.take() == [0, 1, 2, 3]
    sending.send(1)
    sending.core.leave_out(1)
    for number in range(4):
        sending.core.drop_chunk(sending.table.address(number))
    sending.core.lacking([(1, 0)], 1)
    assert not sending.core.may_go((1, 0), 1)
    assert sorted(sending.take()) == [0, 3]
    sending.send(2)  # it was written in the moment
    assert sending.core.is_idle(1)


def test_nothing_is_said_behind_a_final() -> None:
    sending = Sending()
    sending.open(1)
    for number in sending.take():
        sending.send(number)
    sending.core.leave_out(1)
    assert said(sending.ack((0, 1), (3, 4)), Final) == sending.final([1])
    # The same process claims something else for the first file on another path, so that it is missing again.
    sending.core.open_path(2)
    sending.core.receive(2, Accept(handle=1, instance=bytes([1]) * 16))
    claim = Have(ranges=[(0, 1)], digest=bytes(32))
    assert said(sending.core.receive(2, Listed(handle=1, page=0, have=[claim])), Final) == []
    assert said(sending.core.leave_out(0), LeftOut) == [(2, LeftOut(handle=1, files=[0]))]


def test_another_receiving_process_is_told_and_does_not_get_it() -> None:
    sending = Sending()
    sending.open(1)
    sending.core.leave_out(1)
    effects = sending.open(2, instance=2, have=[(1, 2)])
    assert said(effects, LeftOut) == [(2, LeftOut(handle=1, files=[1]))]
    assert sending.core.acked_bytes == 0
    assert sending.take() == [0, 3]


def test_a_file_that_is_there_is_not_left_out() -> None:
    sending = Sending()
    sending.open(1)
    sending.take()
    for number in range(4):
        sending.send(number)
    sending.ack((1, 3))
    assert sending.core.leave_out(1) == []
    assert sending.core.left_out == ()
    assert said(sending.ack((0, 1), (3, 4)), Final) == sending.final([])


@pytest.mark.parametrize("instance", [1, 2])
def test_what_was_sent_whole_is_judged_by_what_the_next_path_claims(instance: int) -> None:
    """A file that grows once it was sent, whose acknowledgement was lost with the path."""
    sending = Sending()
    sending.open(1)
    for number in sending.take():
        sending.send(number)
    sending.ack((1, 2))
    sending.core.close_path(1)
    sending.take()
    assert sending.core.leave_out(1) == []
    sending.core.drop_chunk((1, 1))
    assert (sending.core.left_out, sending.take()) == ((), [])
    effects = sending.open(2, instance, have=[(0, 4)])
    assert (said(effects, LeftOut), sending.core.left_out) == ([], ())
    assert said(effects, Final) == sending.final([], 2)


@pytest.mark.parametrize(("instance", "have"), [(1, [(1, 2)]), (2, []), (2, [(0, 2), (3, 4)])])
def test_it_is_left_out_where_that_is_not_all_of_it(instance: int, have: list[tuple[int, int]]) -> None:
    sending = Sending()
    sending.open(1)
    for number in sending.take():
        sending.send(number)
    sending.core.close_path(1)
    sending.core.leave_out(1)
    effects = sending.open(2, instance, have=have)
    assert said(effects, LeftOut) == [(2, LeftOut(handle=1, files=[1]))]
    assert sending.core.left_out == (1,)
    for number in sending.take():
        sending.send(number, 2)
    effects += sending.ack((0, 1), (3, 4), path=2)
    assert said(effects, Final)[:1] == sending.final([1], 2)


def test_one_that_turns_out_not_to_be_there_after_all_is_left_out() -> None:
    """The claim is believed until the hashes are there that refute it."""
    sending = Sending(known=[0, 1, 2])
    sending.core.leave_out(1)
    effects = sending.open(1, have=[(0, 4)])
    assert HashChunks(((2, 0),)) in effects
    assert sending.core.left_out == ()
    sending.core.chunk_read((2, 0), digest_of(7))
    assert said(sending.core.hashed(), Final) == []
    assert sorted(sending.take()) == [0, 1, 2, 3]
    assert said(sending.core.leave_out(1), LeftOut) == [(1, LeftOut(handle=1, files=[1]))]


def test_what_is_judged_too_late_may_be_too_much() -> None:
    sending = Sending()
    sending.open(1)
    for number in sending.take():
        sending.send(number)
    sending.core.close_path(1)
    for file in range(3):
        assert sending.core.leave_out(file) == []
    effects = sending.open(2)
    assert effects.count(NothingLeft()) == 1
    assert not said(effects, Final)


def test_a_claim_is_proved_with_what_is_known_and_waits_for_nothing_else() -> None:
    sending = Sending(known=[0, 1, 2])
    effects = sending.open(1, have=[(0, 2), (3, 4)])
    assert [each for each in effects if isinstance(each, HashChunks)] == [HashChunks(((2, 0),))]
    assert said(sending.core.leave_out(1), Final) == []
    sending.core.chunk_read((2, 0), digest_of(3))
    assert said(sending.core.hashed(), Final) == sending.final([1])


def test_a_claim_that_cannot_be_proved_counts_as_not_made() -> None:
    sending = Sending(known=[0, 3])
    effects = sending.open(1, have=[(0, 2)])
    assert HashChunks(((1, 0),)) in effects
    assert said(sending.core.leave_out(1), Final) == []
    assert sorted(sending.take()) == [0, 3]
    assert sending.core.hashed() == []
    # A claim that comes later likewise, and nothing is read for it.
    effects = sending.open(2, instance=2, have=[(0, 2), (3, 4)])
    assert not [each for each in effects if isinstance(each, HashChunks)]
    assert sending.core.acked_bytes == 0


def test_a_hole_that_is_left_out_is_not_told_on_another_path() -> None:
    manifest = manifest_of(SIZES)
    core = SenderCore(1, manifest, {}, {1: [(0, 2)]})
    for path in (1, 2):
        core.open_path(path)
        core.receive(path, Accept(handle=1, instance=bytes(16)))
        core.receive(path, Listed(handle=1, page=0))
    core.take_holes(1)
    core.leave_out(1)
    core.close_path(1)
    assert [run for send in core.take_holes(2) for run in getattr(send.message, "chunks", [])] == [(1, 0, 0)]


def test_no_push_goes_through_what_is_settled_where_there_are_no_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for holes at every push, on every path: 13 ms each with a thousand files left out."""
    sending = Sending()
    sending.open(1)
    sending.core.leave_out(1)
    made: list[object] = []

    class Counted(RangeSet):
        __slots__ = ()

        def __init__(self, ranges: Iterable[Range] = ()) -> None:
            made.append(self)
            super().__init__(ranges)

    monkeypatch.setattr(outflow, "RangeSet", Counted)
    assert sending.core.take_holes(1) == []
    assert made == []


# -- where it ends -----------------------------------------------------------------------------------------------


def test_a_transfer_of_which_nothing_is_left_ends() -> None:
    sending = Sending()
    sending.open(1)
    assert sending.core.leave_out(0) != [NothingLeft()]
    assert sending.core.leave_out(2) != [NothingLeft()]
    assert sending.core.leave_out(1) == [NothingLeft()]
    assert Sending([7]).core.leave_out(0) == [NothingLeft()]


def test_so_does_one_with_too_many() -> None:
    sending = Sending([5] * (SHARE * MAX_LEFT + 100))
    sending.open(1)
    for file in range(MAX_LEFT):
        assert sending.core.leave_out(file) != [NothingLeft()]
    assert sending.core.leave_out(MAX_LEFT) == [NothingLeft()]


@pytest.mark.parametrize(("files", "most"), [(2, 1), (9, FEW), (40, FEW), (80, 10)])
def test_and_one_with_too_large_a_share(files: int, most: int) -> None:
    """It is the disk, or somebody who goes through all files: going on with the next run brings more."""
    sending = Sending([5] * files)
    sending.open(1)
    for file in range(most):
        assert sending.core.leave_out(file) != [NothingLeft()]
    assert sending.core.leave_out(most) == [NothingLeft()]


class Growing:
    """A list of several pages, of which one after the other becomes known."""

    def __init__(self) -> None:
        self.whole = Manifest([Entry(f"{number:03}{'x' * 240}", FILE, 5) for number in range(300)])
        assert self.whole.pages == 3
        self.manifest = Manifest()
        self.manifest.add(self.whole.page(0), more=True)
        self.core = SenderCore(1, self.manifest, {})

    def grow(self, *, more: bool) -> list[SenderEffect]:
        self.manifest.add(self.whole.page(self.manifest.pages), more=more)
        return self.core.grow([], {})


def test_all_that_is_listed_may_be_left_out_until_the_list_has_ended() -> None:
    growing = Growing()
    assert not [growing.core.leave_out(file) for file in range(len(growing.manifest.sizes))][-1]
    growing.grow(more=True)
    assert growing.core.leave_out(len(growing.manifest.sizes) - 1) == []
    growing = Growing()
    for file in range(growing.whole.files_before(2)):
        growing.core.leave_out(file) if file < len(growing.manifest.sizes) else None
    growing.grow(more=True)
    for file in range(growing.whole.files_before(2)):
        growing.core.leave_out(file)
    assert NothingLeft() in growing.grow(more=False)


def test_a_file_is_told_when_its_page_was_answered_there() -> None:
    growing = Growing()
    core = growing.core
    growing.grow(more=True)
    growing.grow(more=False)
    first, second = growing.whole.files_before(1), growing.whole.files_before(2)
    for path in (1, 2):
        core.open_path(path)
        core.receive(path, Accept(handle=1, instance=bytes(16)))
    assert said(core.leave_out(0), LeftOut) == []
    core.leave_out(first)
    assert said(core.receive(1, Listed(handle=1, page=0)), LeftOut) == [(1, LeftOut(1, [0]))]
    assert said(core.receive(1, Listed(handle=1, page=1)), LeftOut) == [(1, LeftOut(1, [first]))]
    assert said(core.leave_out(1), LeftOut) == [(1, LeftOut(1, [1]))]
    assert said(core.receive(2, Listed(handle=1, page=0)), LeftOut) == [(2, LeftOut(1, [0, 1]))]
    assert said(core.leave_out(second), LeftOut) == []


# -- what an earlier run has published ---------------------------------------------------------------------------


def early(sending: Sending, root: bytes, left: list[int]) -> list[SenderEffect]:
    sending.core.open_path(1)
    return sending.core.receive(1, FinalAck(handle=1, root=root, left=left))


@pytest.mark.parametrize("left", [[], [1], [0, 2]])
def test_the_root_is_proved_for_what_the_receiver_left_out(left: list[int]) -> None:
    sending = Sending(known=range(4))
    root = root_of(sending.manifest, left)
    assert early(sending, root, left) == [Finished(root, tuple(left))]
    assert sending.core.left_out == tuple(left)
    assert sending.core.leave_out(1) == []


def test_only_what_is_needed_for_that_is_read() -> None:
    sending = Sending(known=[0])
    root = root_of(sending.manifest, [1])
    assert early(sending, root, [1]) == [HashChunks(((2, 0),))]
    assert sending.core.leave_out(1) == []
    sending.core.chunk_read((2, 0), digest_of(3))
    assert sending.core.hashed() == [Finished(root, (1,))]


def test_whoever_left_out_other_files_takes_the_receivers_word_for_it() -> None:
    """The receiver published without f; the next sender could read neither f nor g, of which it has the hashes."""
    sending = Sending(known=[0, 3])
    sending.open(1)
    sending.core.leave_out(2)
    effects = sending.core.leave_out(1)
    sending.take()
    sending.send(0)
    effects = sending.ack((0, 1))
    assert said(effects, Final) == sending.final([1, 2])
    root = root_of(sending.manifest, [1])
    assert sending.core.receive(1, FinalAck(1, root, [1])) == [Finished(root, (1,))]
    assert sending.core.left_out == (1,)


def test_what_is_there_and_can_be_proved_by_nobody_is_said_so() -> None:
    sending = Sending(known=[0, 1, 2])
    assert early(sending, root_of(sending.manifest, [1]), [1]) == [HashChunks(((2, 0),))]
    with pytest.raises(DiskError, match="the receiver has published everything, but 'f00002'"):
        sending.core.leave_out(2)


def test_another_root_is_damage() -> None:
    sending = Sending(known=range(4))
    with pytest.raises(Damaged):
        early(sending, root_of(sending.manifest, []), [1])


@pytest.mark.parametrize("left", [[3], [1, 1], [2, 0]])
def test_the_receiver_cannot_leave_out_what_is_no_file(left: list[int]) -> None:
    sending = Sending(known=range(4))
    with pytest.raises(ProtocolBreach):
        early(sending, bytes(32), left)


def test_a_long_list_is_proved_after_its_final() -> None:
    """Of a list of several pages: the receiver claims what it published, and answers Final with what it left out."""
    growing = Growing()
    growing.grow(more=True)
    growing.grow(more=False)
    core, table = growing.core, ChunkTable(growing.whole)
    known: dict[ChunkAddress, bytes] = {}
    for number in range(table.total):
        table.set_hash(number, digest_of(number))
        known[table.address(number)] = digest_of(number)
    core = SenderCore(1, growing.manifest, known)
    core.open_path(1)
    effects = core.receive(1, Accept(handle=1, instance=bytes(16), pages=3))
    assert len(said(effects, Page)) == 2
    for page in range(3):
        start, stop = (table.base(growing.whole.files_before(number)) for number in (page, page + 1))
        spans = [(max(start, 1), stop)]
        effects = core.receive(1, Listed(1, page, [Have(ranges=spans, digest=table.claim_digest(spans))]))
    assert said(effects, Final) == []
    assert core.next_chunk() == (0, 0)  # the receiver lacks it, and this process can read it
    core.chunk_sent((0, 0), 1)
    assert said(core.receive(1, Ack(1, [(0, 1)])), Final) == [(1, Final(1, table.root()))]
    assert core.receive(1, FinalAck(1, table.root([0]), [0])) == [Finished(table.root([0]), (0,))]
    assert core.left_out == (0,)


def test_what_is_proved_stands_whatever_is_said_behind_it() -> None:
    sending = Sending(known=range(4))
    sending.open(1)
    sending.open(2)
    sending.take()
    sending.ack((0, 4))
    root = root_of(sending.manifest, [])
    assert sending.core.receive(1, FinalAck(1, root, [])) == [Finished(root, ())]
    assert sending.core.receive(2, FinalAck(1, root_of(sending.manifest, [1]), [1])) == []
    assert sending.core.left_out == ()


def test_nobody_publishes_none_of_the_files() -> None:
    sending = Sending(known=range(4))
    with pytest.raises(ProtocolBreach):
        early(sending, root_of(sending.manifest, [0, 1, 2]), [0, 1, 2])
    assert not sending.core.finished
    folder = Manifest([Entry("d", DIRECTORY)])
    core = SenderCore(1, folder, {})
    core.open_path(1)
    root = root_of(folder, [])
    assert core.receive(1, FinalAck(1, root, [])) == [Finished(root, ())]


def test_what_another_process_said_that_it_published_does_not_bind_the_next() -> None:
    """Its staging place was lost with it, say, and everything is sent again."""
    sending = Sending()
    lacking = tuple(sending.table.address(number) for number in range(4))
    assert early(sending, root_of(sending.manifest, []), []) == [HashChunks(lacking)]
    sending.core.close_path(1)
    sending.open(2, instance=9)
    assert said(sending.core.leave_out(1), LeftOut) == [(2, LeftOut(handle=1, files=[1]))]
    for number in (0, 3):
        sending.core.chunk_read(sending.table.address(number), digest_of(number))
    assert sending.core.hashed() == []
    for number in sending.take():
        sending.send(number, 2)
    assert said(sending.ack((0, 1), (3, 4), path=2), Final) == sending.final([1], 2)
    root = root_of(sending.manifest, [1])
    assert sending.core.receive(2, FinalAck(1, root, [1])) == [Finished(root, (1,))]
