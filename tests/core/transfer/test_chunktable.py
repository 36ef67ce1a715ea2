"""The table of chunks: its root is that of what it holds, and making it is no pause at the end."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pxfer.core.session.leftwire import MAX_LEFT
from p2pxfer.core.session.transferwire import Accept, Have, Listed
from p2pxfer.core.transfer import chunktable
from p2pxfer.core.transfer.chunkhashes import ChunkHashes
from p2pxfer.core.transfer.chunktable import FOLD, ChunkTable
from p2pxfer.core.transfer.geometry import LEFT_OUT, MIN_CHUNK, file_root, transfer_root
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.sender import SenderCore
from tests.core.transfer.growing import Pair

SIZES = [1, 0, MIN_CHUNK, 3 * MIN_CHUNK, 0, 0, 5, 7, 2 * MIN_CHUNK, 0]
CHUNKS = 9


def manifest_of(sizes: list[int]) -> Manifest:
    return Manifest([Entry(f"f{number:06d}", FILE, size) for number, size in enumerate(sizes)])


def digest_of(number: int, other: bool) -> bytes:
    return blake3(b"%d %d" % (number, other)).digest()


def root_of(manifest: Manifest, table: ChunkTable, left: Collection[int] = ()) -> bytes:
    """The root as the protocol says it, of what the table holds but for what is left out."""
    roots, stop = [], 0
    for file, size in enumerate(manifest.sizes):
        start, stop = stop, stop + -(-size // MIN_CHUNK)
        roots.append(LEFT_OUT if file in left else file_root(size, table.run(range(start, stop))))
    return transfer_root(manifest.digest(), b"".join(roots))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "run", "hole", "forget", "fold", "copy", "pass over"]),
            st.integers(min_value=0, max_value=CHUNKS - 1),
            st.booleans(),
        ),
        max_size=30,
    ),
    st.sets(st.integers(min_value=0, max_value=len(SIZES) - 1)),
)
def test_the_root_is_that_of_what_is_held_however_it_came(steps: list[tuple[str, int, bool]], left: set[int]) -> None:
    manifest = manifest_of(SIZES)
    table = ChunkTable(manifest)
    for step, number, other in steps:
        match step:
            case "set":
                table.set_hash(number, digest_of(number, other))
            case "run":
                stop = min(number + 3, table.total)
                table.set_run(number, b"".join(digest_of(each, other) for each in range(number, stop)))
            case "hole":
                table.set_hashes(number, min(number + 2, table.total), digest_of(0, other))
            case "forget":
                table.forget(number)
            case "fold":
                table.fold(number)
            case "copy":
                table = table.copy()
            case "pass over":
                table.pass_over(number)
    assert table.total == CHUNKS
    for number in range(table.total):
        if number not in table.known and table.address(number)[0] not in left:
            table.set_hash(number, digest_of(number, False))
    assert table.root(left) == root_of(manifest, table, left)
    for number in range(table.total):
        if number not in table.known:
            table.set_hash(number, digest_of(number, False))
    assert table.root() == root_of(manifest, table)
    assert table.root(left) == root_of(manifest, table, left)


def test_a_file_that_is_passed_over_holds_up_nothing_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = manifest_of([MIN_CHUNK] * 5)
    table = ChunkTable(manifest)
    table.pass_over(0)
    table.pass_over(2)
    for number in (1, 3, 4):
        table.set_hash(number, digest_of(number, False))
        table.fold()
    monkeypatch.setattr(chunktable, "file_root", lambda *of: pytest.fail("a file is folded at the end"))
    assert table.root({0, 2}) == root_of(manifest, table, {0, 2})


def test_what_comes_or_goes_of_a_file_that_is_passed_over_folds_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was on its way when it was left out: of two hundred thousand files that took 0.4 s at the end."""
    manifest = manifest_of([2 * MIN_CHUNK] + [1] * 4)
    table = ChunkTable(manifest)
    table.pass_over(0)
    table.set_run(2, b"".join(digest_of(number, False) for number in range(2, 6)))
    table.fold()
    folded = count_folds(monkeypatch)
    table.set_hash(0, digest_of(0, False))
    table.set_hash(0, digest_of(0, True))
    table.forget(0)
    assert table.root({0}) == root_of(manifest, table, {0})
    assert folded() == 0
    # A run that goes on into the files behind it, which are others then.
    table.set_run(0, b"".join(digest_of(number, number != 2) for number in range(4)))
    assert table.root() == root_of(manifest, table)
    table.forget(3)
    table.set_hash(3, digest_of(3, False))
    assert table.root({0}) == root_of(manifest, table, {0})


@pytest.mark.parametrize(("passed", "behind"), [(MAX_LEFT, 1), (MAX_LEFT + 1, 0)])
def test_no_more_is_passed_over_than_may_be_left_out(monkeypatch: pytest.MonkeyPatch, passed: int, behind: int) -> None:
    """Each path of a hostile sender may name others, without end."""
    folded = count_folds(monkeypatch)
    table = ChunkTable(manifest_of([1] * (passed + 1)))
    for file in range(passed):
        table.pass_over(file)
    table.set_hash(passed, digest_of(passed, False))
    for _ in range(passed // FOLD + 1):
        table.fold()
    assert folded() == behind


def test_as_much_is_folded_at_once_as_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = count_folds(monkeypatch)
    manifest = manifest_of([1] * 10)
    table = ChunkTable(manifest)
    table.set_run(0, bytes(32 * 6))
    table.set_hash(7, bytes(32))
    table.fold(4)
    assert folded() == 4
    table.fold(4)
    assert folded() == 2  # what is behind the next chunk waits for it
    table.set_run(0, bytes(32 * 6))
    table.fold(4)
    assert folded() == 0  # the same once more changes nothing
    table.set_run(6, bytes(32 * 4))
    assert table.root() == root_of(manifest, table)


def count_folds(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many files were folded since it was asked last."""
    count = 0
    real = file_root

    def counted(size: int, hashes: bytes | bytearray) -> bytes:
        nonlocal count
        count += 1
        return real(size, hashes)

    def since() -> int:
        nonlocal count
        before, count = count, 0
        return before

    monkeypatch.setattr(chunktable, "file_root", counted)
    return since


def test_hashes_that_were_looked_up_before_the_last_page_was_listed_are_of_use() -> None:
    """As for another attempt to send that begins while that page is looked up."""
    whole = manifest_of([1] * 3000)
    listed = Manifest()
    listed.add(whole.page(0), more=True)
    table, digest = ChunkTable(listed), blake3(b"x").digest()
    table.set_run(0, digest * table.total)
    listed.add(whole.page(1), more=True)
    sender = SenderCore(1, listed, ChunkHashes(table))
    sender.open_path(1)
    sender.receive(1, Accept(handle=1, instance=b"i" * 16, pages=2))
    first, second = listed.files_before(1), listed.files_before(2)
    sender.receive(1, Listed(handle=1, page=0, have=[Have([(0, first)], table.claim_digest([(0, first)]))]))
    sender.receive(1, Listed(handle=1, page=1))
    assert sender.acked_bytes == first
    assert list(iter(sender.next_chunk, None)) == [(file, 0) for file in range(first, second)]


class Resumed(Pair):
    """Both sides know half of the files from earlier runs."""

    digest = blake3(b"x").digest()

    def __post_init__(self) -> None:
        self.scan()
        self.sender = SenderCore(1, self.sender_sees, dict(self.known(0)))
        self.receiver = ReceiverCore(self.whole.transfer_id, b"i" * 16)

    def known(self, first: int) -> list[tuple[tuple[int, int], bytes]]:
        stop = min(len(self.sender_sees.sizes), len(self.whole.sizes) // 2)
        return [((file, 0), self.digest) for file in range(first, stop)]

    def grow(self) -> None:
        first = len(self.sender_sees.sizes)
        self.scan()
        self.from_sender(self.sender.grow(self.known(first), {}))

    def open(self) -> None:
        self.from_sender(self.sender.open_path(1))
        self.talk()
        manifest = self.receiver.manifest
        assert manifest is not None
        for page in range(1, self.whole.pages):
            manifest.add(self.whole.page(page), more=page + 1 < self.whole.pages)
        table = ChunkTable(manifest)
        table.set_run(0, self.digest * (table.total // 2))
        self.from_receiver(self.receiver.accepted(ChunkHashes(table)))
        self.talk()


@pytest.mark.parametrize("kind", [Pair, Resumed])
def test_no_step_of_a_transfer_folds_all_its_files(monkeypatch: pytest.MonkeyPatch, kind: type[Pair]) -> None:
    """Of two hundred thousand that took both sides 0.4 s in the reactor's thread, when the last chunk was here."""
    files = 16 * FOLD
    since = count_folds(monkeypatch)
    most = {SenderCore: 0, ReceiverCore: 0}

    def watch(side: type[SenderCore] | type[ReceiverCore], name: str) -> None:
        real = getattr(side, name)

        def watched(*args: Any, **keywords: Any) -> Any:
            since()
            result = real(*args, **keywords)
            most[side] = max(most[side], since())
            return result

        monkeypatch.setattr(side, name, watched)

    for name in ("__init__", "receive", "grow", "chunk_read"):
        watch(SenderCore, name)
    for name in ("receive", "accepted", "stored"):
        watch(ReceiverCore, name)
    pair = kind(manifest_of([1] * files))
    pair.open()
    while not pair.sender_sees.complete:
        pair.grow()
        pair.talk()
    # What is known already is not folded before the first missing chunk goes: that would come later.
    assert most == {SenderCore: 0, ReceiverCore: 0}
    assert pair.send_all() == (files // 2 if kind is Resumed else files)
    pair.from_receiver(pair.receiver.published_all())
    pair.talk()
    assert pair.root is not None
    assert 0 < most[SenderCore] <= FOLD
    assert 0 < most[ReceiverCore] <= FOLD
