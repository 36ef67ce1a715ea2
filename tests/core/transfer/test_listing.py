"""A file list in pages: data flows before its end is known, and of what was known before only digests travel."""

from __future__ import annotations

import random
from typing import Any

import pytest
from blake3 import blake3

from p2pxfer.core.codec import Message
from p2pxfer.core.session.transferwire import Accept, Chunk, Final, Have, Listed, Offer, Page, Tally, WantPage
from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.listing import WINDOW
from p2pxfer.core.transfer.manifest import FILE, PAGE, Entry, Manifest
from p2pxfer.core.transfer.receiveeffect import Announced, Relist, Store
from p2pxfer.core.transfer.receiveeffect import Listed as ListedEffect
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.sendeffect import HashChunks, Send
from p2pxfer.core.transfer.sender import SenderCore
from p2pxfer.errors import ManifestRefused, NameCollision, PathRefused, ProtocolBreach
from tests.core.transfer.growing import Pair
from tests.core.transferworld import World

FULL = 122
"""So many files with names of 244 bytes fill a page."""


def entries(count: int, changed: int | None = None) -> list[Entry]:
    return [Entry(f"f{at:04}{'x' * 239}", FILE, 1, 7 if at == changed else 0) for at in range(count)]


def manifest_of(count: int, changed: int | None = None) -> Manifest:
    return Manifest(entries(count, changed))


# -- the list itself -----------------------------------------------------------------------------------------------


def test_a_list_is_cut_into_full_pages() -> None:
    whole = manifest_of(3 * FULL + 5)
    pages = [whole.page(number) for number in range(whole.pages)]
    assert whole.encode() == b"".join(pages)
    assert [len(list(whole.entries_of(number))) for number in range(whole.pages)] == [FULL, FULL, FULL, 5]
    assert all(PAGE - 268 < len(page) <= PAGE for page in pages[:-1])
    assert Manifest.decode(whole.encode()) == whole
    assert whole.transfer_id == whole.digest(0) != whole.digest()


def test_a_list_grows_and_can_be_read_meanwhile() -> None:
    whole, growing = manifest_of(3 * FULL), Manifest()
    for number in range(whole.pages):
        assert not growing.complete
        growing.add(whole.page(number), more=number + 1 < whole.pages)
        assert list(growing.entries) == list(whole.entries)[: (number + 1) * FULL]
        assert growing.digest() == whole.digest(number)
    assert growing == whole
    with pytest.raises(ManifestRefused):
        growing.add(whole.page(1), more=False)


def test_a_list_that_was_cut_grows_another_way() -> None:
    one, other = manifest_of(3 * FULL), manifest_of(3 * FULL, changed=2 * FULL)
    one.cut(2)
    assert list(one.files) == list(other.files)[: 2 * FULL]
    one.add(other.page(2), more=False)
    assert one == other


@pytest.mark.parametrize("number", [0, 1])
def test_a_page_that_could_have_held_more_is_refused(number: int) -> None:
    """Else one list would have many cuts, and nobody could say whether it is the same."""
    whole = manifest_of(3 * FULL)
    growing = Manifest()
    for before in range(number):
        growing.add(whole.page(before), more=True)
    page = whole.page(number)
    growing.add(page[: len(page) - 268], more=True)
    with pytest.raises(ManifestRefused):
        growing.add(page[len(page) - 268 :], more=True)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        pytest.param("F0003" + "x" * 239, NameCollision, id="case"),
        pytest.param("f0003" + "x" * 239, NameCollision, id="again"),
        pytest.param("e" * 244, ManifestRefused, id="order"),
        pytest.param("zz\\" + "x" * 241, PathRefused, id="illegal"),
    ],
)
def test_names_are_judged_over_all_pages(name: str, error: type[Exception]) -> None:
    """Here the other name stands two pages before."""
    growing, whole = Manifest(), manifest_of(2 * FULL)
    for number in range(2):
        growing.add(whole.page(number), more=True)
    bad = (
        Manifest([Entry("z" * len(name.encode()), FILE)]).encode()[8:].replace(b"z" * len(name.encode()), name.encode())
    )
    with pytest.raises(error):
        growing.add(bad, more=False)


def test_a_name_that_is_equal_in_unicode_is_found_on_another_page() -> None:
    long = "x" * 240
    listed = [*entries(FULL), Entry(f"\u00e9{long}", FILE)]
    assert Manifest(listed).pages == 2
    with pytest.raises(NameCollision):
        Manifest([Entry(f"e\u0301{long}", FILE), *listed])


# -- on its way ----------------------------------------------------------------------------------------------------


def test_files_are_stored_before_the_list_is_complete() -> None:
    pair = Pair(manifest_of(3 * FULL))
    pair.open()
    assert pair.send_all() == FULL
    pair.grow()
    pair.talk()
    assert pair.send_all() == FULL
    assert len(pair.stored) == 2 * FULL
    assert pair.receiver.manifest is not None and not pair.receiver.manifest.complete
    pair.grow()
    pair.talk()
    assert pair.send_all() == FULL
    assert pair.listed == [1, 2]
    pair.from_receiver(pair.receiver.published_all())
    pair.talk()
    assert pair.root is not None


def test_no_chunk_goes_before_the_page_of_its_file_was_answered() -> None:
    pair = Pair(manifest_of(2 * FULL))
    pair.open()
    pair.send_all()
    pair.grow()
    assert pair.sender.next_chunk() is None
    with pytest.raises(Exception, match="not part of what was listed"):
        pair.receiver.chunk(1, Chunk(1, FULL, 0, b"h" * 32, memoryview(b"x")))
    pair.talk()
    assert pair.sender.next_chunk() is not None


def test_the_offer_says_at_least_and_the_tally_how_much() -> None:
    pair = Pair(manifest_of(2 * FULL))
    pair.from_sender(pair.sender.open_path(1))
    (offer,) = pair.to_receiver
    assert isinstance(offer, Offer)
    assert (offer.files, offer.more, offer.counting) == (FULL, True, True)
    pair.grow()
    assert pair.to_receiver[1:] == [Tally(handle=1, files=2 * FULL, size=2 * FULL)]


def test_a_page_of_which_nothing_was_said_yet_is_not_told() -> None:
    """It is in the manifest; what earlier runs knew of its files is still looked up."""
    pair = Pair(manifest_of(2 * FULL))
    pair.scan()
    pair.open()
    assert pair.send_all() == FULL
    assert pair.receiver.manifest is not None
    assert pair.receiver.manifest.pages == 1
    pair.from_sender(pair.sender.open_path(2))
    (offer,) = pair.to_receiver
    assert isinstance(offer, Offer)
    assert (offer.files, offer.size, offer.more, offer.counting) == (FULL, FULL, True, True)
    pair.to_receiver.clear()
    pair.sender.close_path(2)
    pair.from_sender(pair.sender.grow([], {}))
    pair.talk()
    assert pair.send_all() == FULL


def test_a_slow_receiver_is_told_a_few_pages() -> None:
    pair = Pair(manifest_of(FULL * (WINDOW + 5)))
    while pair.sender_sees.pages < pair.whole.pages:
        pair.scan()
    pair.sender.grow([], {})
    pair.from_sender(pair.sender.open_path(1))
    pair.to_receiver.clear()
    pair.from_sender(pair.sender.receive(1, Accept(handle=1, instance=b"i" * 16)))
    assert len(pair.to_receiver) == WINDOW - 1
    pair.from_sender(pair.sender.receive(1, Listed(handle=1, page=0)))
    assert len(pair.to_receiver) == WINDOW


def test_pages_that_the_receiver_may_know_are_told_by_their_digests() -> None:
    pair = Pair(manifest_of(4 * FULL))
    while pair.sender_sees.pages < pair.whole.pages:
        pair.scan()
    pair.sender.grow([], {})
    pair.from_sender(pair.sender.open_path(1))
    pair.to_receiver.clear()
    pair.from_sender(pair.sender.receive(1, Accept(handle=1, instance=b"i" * 16, pages=3)))
    pages = [message for message in pair.to_receiver if isinstance(message, Page)]
    assert [(page.page, bool(page.data)) for page in pages] == [(1, False), (2, False), (3, True)]
    pair.to_receiver.clear()
    pair.from_sender(pair.sender.receive(1, Listed(handle=1, page=0)))
    pair.from_sender(pair.sender.receive(1, WantPage(handle=1, page=1)))
    pages = [message for message in pair.to_receiver if isinstance(message, Page)]
    assert [(page.page, bool(page.data)) for page in pages] == [(1, True), (2, True), (3, True)]


@pytest.mark.parametrize(
    "message",
    [
        WantPage(handle=1, page=0),
        WantPage(handle=1, page=2),
        WantPage(handle=1, page=9),
        Listed(handle=1, page=1),
        Listed(handle=1, page=9),
    ],
)
def test_answers_about_pages_that_were_not_told_are_refused(message: Message) -> None:
    pair = Pair(manifest_of(4 * FULL))
    pair.sender.open_path(1)
    pair.sender.receive(1, Accept(handle=1, instance=b"i" * 16))
    with pytest.raises(ProtocolBreach):
        pair.sender.receive(1, message)


def test_claims_of_several_pages_are_proved_each_when_its_chunks_were_hashed() -> None:
    """Without the record of an earlier run: while the files of one page are read, the claims of the next one come."""
    whole = manifest_of(2 * FULL)
    sender, table, digest = SenderCore(1, whole, {}), ChunkTable(whole), blake3(b"x").digest()
    for number in range(table.total):
        table.set_hash(number, digest)
    sender.open_path(1)
    sender.receive(1, Accept(handle=1, instance=b"i" * 16, pages=2))
    hashing = []
    for page in range(2):
        ranges = [(page * FULL, (page + 1) * FULL)]
        claims = Listed(handle=1, page=page, have=[Have(ranges, table.claim_digest(ranges))])
        hashing += [each for each in sender.receive(1, claims) if isinstance(each, HashChunks)]
    assert [len(each.addresses) for each in hashing] == [FULL, FULL]
    for effect in hashing:
        assert sender.acked_bytes == 2 * FULL
        for address in effect.addresses:
            sender.chunk_read(address, digest)
        effects = sender.hashed()
    assert sender.next_chunk() is None
    assert effects == [Send(1, Final(handle=1, root=table.root()))]


def offer_of(now: Manifest) -> Offer:
    files, size = len(now.sizes), now.total_bytes
    return Offer(handle=1, transfer=now.transfer_id, files=files, size=size, page=now.page(0), more=now.pages > 1)


def accepting(known: int, now: Manifest, **earlier: Any) -> tuple[ReceiverCore, Manifest]:
    """A receiver that knows a list of so many full pages from an earlier run, and is offered another one."""
    receiver = ReceiverCore(now.transfer_id, b"i" * 16)
    receiver.receive(1, offer_of(now))
    before, manifest = manifest_of(known * FULL), receiver.manifest
    assert manifest is not None
    for number in range(1, known):
        manifest.add(before.page(number), more=number + 1 < known)
    receiver.accepted({(file, 0): blake3(b"x").digest() for file in range(known * FULL)}, **earlier)
    return receiver, manifest


def page_of(manifest: Manifest, number: int, *, data: bool) -> Page:
    return Page(
        handle=1,
        page=number,
        digest=manifest.digest(number),
        data=manifest.page(number) if data else b"",
        more=number + 1 < manifest.pages,
    )


def test_what_another_list_has_brought_is_forgotten_from_the_page_on_that_differs() -> None:
    now = manifest_of(4 * FULL, changed=2 * FULL + 3)
    receiver, manifest = accepting(4, now)
    answers = receiver.receive(1, page_of(now, 1, data=False))
    assert [type(answer.message) for answer in answers if isinstance(answer, Send)] == [Listed]
    (wanted,) = receiver.receive(1, page_of(now, 2, data=False))
    assert wanted == Send(1, WantPage(handle=1, page=2))
    assert receiver.receive(1, page_of(now, 3, data=False)) == []
    (relist,) = receiver.receive(1, page_of(now, 2, data=True))
    assert relist == Relist(2, ())
    manifest.cut(2)
    receiver.relisted({(file, 0): blake3(b"x").digest() for file in range(2 * FULL)})
    for number in (2, 3):
        effects = receiver.receive(1, page_of(now, number, data=True))
        assert effects[1:] == [ListedEffect(number), Send(1, Listed(handle=1, page=number))]
    assert manifest == now
    assert receiver.have_bytes == 2 * FULL


def test_a_list_that_ends_earlier_now_is_cut() -> None:
    now = manifest_of(2 * FULL)
    receiver, manifest = accepting(3, now)
    (relist,) = receiver.receive(1, page_of(now, 1, data=False))
    assert relist == Relist(2, ())
    manifest.cut(2)
    receiver.relisted({})
    assert [type(effect) for effect in receiver.receive(1, page_of(now, 1, data=False))] == [Announced, Send]
    assert manifest == now


@pytest.mark.parametrize("earlier", [{"published": True}, {"begun": True}])
def test_a_list_that_has_grown_since_it_was_published_is_begun_anew(earlier: dict[str, bool]) -> None:
    """Also since some of it was: what is here of it is not gone on with, so nobody may count on its claims."""
    now = manifest_of(3 * FULL)
    receiver, _ = accepting(2, now, **earlier)
    receiver.receive(1, page_of(now, 1, data=False))
    with pytest.raises(ProtocolBreach):
        receiver.receive(1, page_of(now, 2, data=True))
    assert receiver.outdated


def test_a_page_is_refused_if_it_is_not_the_next_or_not_the_one_of_its_digest() -> None:
    now = manifest_of(3 * FULL)
    receiver, _ = accepting(1, now)
    with pytest.raises(ProtocolBreach):
        receiver.receive(1, page_of(now, 2, data=True))
    wrong = Page(handle=1, page=1, digest=b"x" * 32, data=now.page(1), more=True)
    with pytest.raises(ManifestRefused):
        receiver.receive(1, wrong)


def test_final_before_the_end_of_the_list_is_refused() -> None:
    now = manifest_of(2 * FULL)
    receiver, _ = accepting(1, now)
    with pytest.raises(ProtocolBreach):
        receiver.receive(1, Final(handle=1, root=bytes(32)))


def test_a_path_that_carries_pages_is_cut_and_another_one_takes_over() -> None:
    world = World(manifest_of(6 * FULL), random.Random(3))
    world.start_sender()
    world.start_receiver()
    first, second = world.add_path(), world.add_path()
    for _ in range(3):
        world.deliver(first, True)
        world.deliver(second, True)
        world.deliver(first, False)
        world.deliver(second, False)
    assert sum(isinstance(item, Page) and bool(item.data) for item in world.wires[second][0]) == 0
    world.cut(first)
    world.finish()
    assert world.published == 1
    assert second in world.wires


# -- what was offered is held against the list -----------------------------------------------------------------------


def held(manifest: Manifest, files: int, size: int, *, counting: bool = False, known: int = 1) -> ReceiverCore:
    """A receiver that was offered so much, accepted it, and knows so many pages of the list from an earlier run."""
    receiver = ReceiverCore(manifest.transfer_id, b"i" * 16)
    offer = Offer(1, manifest.transfer_id, files=files, size=size, page=manifest.page(0), more=True, counting=counting)
    receiver.receive(1, offer)
    assert receiver.manifest is not None
    for number in range(1, known):
        receiver.manifest.add(manifest.page(number), more=True)
    receiver.accepted({})
    return receiver


@pytest.mark.parametrize(("files", "size"), [(FULL - 1, FULL), (FULL, FULL - 1)])
def test_an_offer_of_less_than_its_own_page_lists_is_refused(files: int, size: int) -> None:
    with pytest.raises(ManifestRefused, match="goes beyond what was offered"):
        held(manifest_of(2 * FULL), files, size)


@pytest.mark.parametrize("known", [1, 3])
@pytest.mark.parametrize(("files", "size"), [(3 * FULL - 1, 3 * FULL), (3 * FULL, 3 * FULL - 1)])
def test_a_list_that_goes_beyond_a_complete_offer_is_refused(known: int, files: int, size: int) -> None:
    manifest = manifest_of(3 * FULL)
    receiver = held(manifest, files, size, known=known)
    receiver.receive(1, page_of(manifest, 1, data=True))
    with pytest.raises(ManifestRefused, match=f"{3 * FULL} files and {3 * FULL} bytes are listed"):
        receiver.receive(1, page_of(manifest, 2, data=True))


def test_a_list_of_what_was_offered_is_taken() -> None:
    manifest = manifest_of(3 * FULL)
    receiver = held(manifest, 3 * FULL, 3 * FULL)
    for number in (1, 2):
        effects = receiver.receive(1, page_of(manifest, number, data=True))
        assert [type(each) for each in effects] == [Announced, ListedEffect, Send]


def test_what_was_counted_binds_as_a_complete_offer_does() -> None:
    manifest = manifest_of(3 * FULL)
    receiver = held(manifest, 1, 1, counting=True)
    receiver.receive(1, Tally(handle=1, files=2 * FULL, size=2 * FULL, counting=False))
    receiver.receive(1, page_of(manifest, 1, data=True))
    with pytest.raises(ManifestRefused):
        receiver.receive(1, page_of(manifest, 2, data=True))
    with pytest.raises(ProtocolBreach, match="counts again"):
        receiver.receive(1, Tally(handle=1, files=3 * FULL, size=3 * FULL, counting=False))


def test_what_is_listed_beyond_what_was_counted_so_far_is_announced_first() -> None:
    """So that there is room for it, before anything of it is asked for."""
    manifest = manifest_of(3 * FULL)
    receiver = held(manifest, FULL, FULL, counting=True)
    for number in (1, 2):
        first, *others = receiver.receive(1, page_of(manifest, number, data=True))
        assert first == Announced((number + 1) * FULL, (number + 1) * FULL, 0, counting=True)
        assert [type(each) for each in others] == [ListedEffect, Send]


def test_a_late_word_of_a_sender_that_is_gone_does_not_cut_the_list_of_the_one_of_now() -> None:
    """It came on an older path, which ends; what was told since stays known, so that what is said of it is true."""
    old, now = manifest_of(2 * FULL), manifest_of(4 * FULL)
    receiver, manifest = accepting(4, now)
    receiver.receive(2, offer_of(now))
    for number in (1, 2, 3):
        receiver.receive(2, page_of(now, number, data=False))
    with pytest.raises(ProtocolBreach):
        receiver.receive(1, page_of(old, 1, data=False))
    assert manifest == now
    chunk = Chunk(1, 4 * FULL - 1, 0, blake3(b"y").digest(), memoryview(b"y"))
    assert [type(effect) for effect in receiver.chunk(2, chunk)] == [Store]


def test_the_newest_path_may_tell_another_list() -> None:
    old, now = manifest_of(4 * FULL), manifest_of(2 * FULL)
    receiver, _ = accepting(4, old)
    receiver.receive(2, offer_of(now))
    assert receiver.receive(2, page_of(now, 1, data=False)) == [Relist(2, (1,))]
