"""The pairing machine: two of them joined, one against hostile input, and the book of open codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from p2pxfer.core.contact import cpace
from p2pxfer.core.contact.codebook import CODE_LIFETIME, NOT_OPEN_TEXT, OPEN_CODES, CodeBook
from p2pxfer.core.contact.codes import MAX_SLOT, Code, parse_code
from p2pxfer.core.contact.pairing import OutFrame, PairFrame, Pairing, Party, Role, Setting, State
from p2pxfer.errors import P2pxferError, ProtocolBreach, UsageError, WrongCode

CODE = parse_code("7-acorn-tulip-zebra")
OTHER_CODE = parse_code("7-acorn-tulip-zero")
ALICE = Party("alice", b"spki of alice")
BOB = Party("bob", b"spki of bob")
SID = bytes(range(32))
SCALAR_A = bytes(range(1, 33))
SCALAR_B = bytes(range(2, 34))
VIEW_A = Setting(own=ALICE, peer=BOB, sid=SID, scalar=SCALAR_A)
VIEW_B = Setting(own=BOB, peer=ALICE, sid=SID, scalar=SCALAR_B)
VECTORS = Path(__file__).parents[2] / "vectors" / "cpace-x25519-sha512.json"
POINTS = json.loads(VECTORS.read_text("utf-8"))["scalar_mult_vfy"]["points"]
LOW_ORDER = [bytes.fromhex(point["u"]) for point in POINTS if point["q"] == cpace.NEUTRAL.hex()]


def book_with(code: Code = CODE) -> CodeBook:
    book = CodeBook()
    book.open(code, 0.0)
    return book


def responder(book: CodeBook, setting: Setting = VIEW_B) -> Pairing:
    return Pairing.responder(lambda slot: book.take(slot, 1.0), setting)


def one(frames: tuple[OutFrame, ...]) -> OutFrame:
    assert len(frames) == 1
    return frames[0]


def state_of(machine: Pairing) -> State:
    return machine.state


def run(initiator: Pairing, other: Pairing) -> P2pxferError | None:
    """Joins two machines; returns the first error."""
    try:
        pair1 = one(initiator.start())
        pair2 = one(other.receive(pair1.kind, pair1.body))
        confirm = one(initiator.receive(pair2.kind, pair2.body))
        assert other.receive(confirm.kind, confirm.body) == ()
    except P2pxferError as error:
        return error
    return None


def test_an_equal_code_confirms_both_sides() -> None:
    book = book_with()
    initiator, other = Pairing.initiator(CODE, VIEW_A), responder(book)
    assert run(initiator, other) is None
    assert (initiator.state, other.state) == (State.CONFIRMED, State.CONFIRMED)
    assert initiator.burned and other.burned
    assert initiator.failure is None and other.failure is None
    assert book.open_slots == ()


def test_a_wrong_code_fails_at_the_initiator_before_it_confirms() -> None:
    book = book_with()
    initiator, other = Pairing.initiator(OTHER_CODE, VIEW_A), responder(book)
    error = run(initiator, other)
    assert isinstance(error, WrongCode)
    assert initiator.state is State.FAILED and initiator.failure is error and initiator.burned
    assert state_of(other) is State.AWAIT_CONFIRM and other.burned
    assert isinstance(other.lost(), WrongCode)
    assert state_of(other) is State.FAILED
    assert book.open_slots == ()


def test_frames_have_their_stated_sizes() -> None:
    initiator, other = Pairing.initiator(CODE, VIEW_A), responder(book_with())
    pair1 = one(initiator.start())
    pair2 = one(other.receive(pair1.kind, pair1.body))
    confirm = one(initiator.receive(pair2.kind, pair2.body))
    assert [frame.kind for frame in (pair1, pair2, confirm)] == list(PairFrame)
    assert [len(frame.body) for frame in (pair1, pair2, confirm)] == [36, 96, 64]
    assert pair1.body[:4] == (7).to_bytes(4, "big")


def test_frames_hold_what_the_definition_says() -> None:
    """The run once more, written out from the functions of CPace: pins channel, labels and order."""
    initiator, other = Pairing.initiator(CODE, VIEW_A), responder(book_with())
    pair1 = one(initiator.start())
    pair2 = one(other.receive(pair1.kind, pair1.body))
    confirm = one(initiator.receive(pair2.kind, pair2.body))
    channel = b"\x0ep2pxfer-pair-1\x05alice\x03bob"
    ya = cpace.public_share(b"acorn-tulip-zebra", channel, SID, SCALAR_A)
    yb = cpace.public_share(b"acorn-tulip-zebra", channel, SID, SCALAR_B)
    ad_a, ad_b = b"\x01i\x0dspki of alice", b"\x01r\x0bspki of bob"
    isk = cpace.session_key(SID, SCALAR_A, yb, cpace.transcript_ir(ya, ad_a, yb, ad_b))
    key = cpace.mac_key(SID, isk)
    assert pair1.body[4:] == ya
    assert pair2.body == yb + cpace.confirmation_tag(key, yb, ad_b)
    assert confirm.body == cpace.confirmation_tag(key, ya, ad_a)


names = st.sampled_from(["alice", "bob", "carol"])
keys = st.sampled_from([b"key one", b"key two", b"key three"])


@settings(max_examples=200, deadline=None)
@given(
    first=st.tuples(names, keys, names, keys),
    second=st.none() | st.tuples(names, keys, names, keys),
    codes=st.tuples(st.sampled_from([CODE, OTHER_CODE]), st.sampled_from([CODE, OTHER_CODE])),
    sids=st.tuples(st.sampled_from([SID, bytes(32)]), st.sampled_from([SID, bytes(32)])),
    scalars=st.tuples(*[st.binary(min_size=32, max_size=32)] * 2),
)
def test_two_machines_agree_exactly_on_equal_inputs(
    first: tuple[str, bytes, str, bytes],
    second: tuple[str, bytes, str, bytes] | None,
    codes: tuple[Code, Code],
    sids: tuple[bytes, bytes],
    scalars: tuple[bytes, bytes],
) -> None:
    """`first` is initiator and responder as the initiator sees them, `second` as the responder does."""
    view_i = first
    view_r = first if second is None else second
    setting_i = Setting(Party(*view_i[:2]), Party(*view_i[2:]), sids[0], scalars[0])
    setting_r = Setting(Party(*view_r[2:]), Party(*view_r[:2]), sids[1], scalars[1])
    initiator = Pairing.initiator(codes[0], setting_i)
    other = responder(book_with(codes[1]), setting_r)
    error = run(initiator, other)
    mirrored = view_i[1] == view_i[3]
    equal = view_i == view_r and codes[0] == codes[1] and sids[0] == sids[1] and not mirrored
    assert (error is None) is equal
    assert (initiator.state is State.CONFIRMED) is equal
    assert (other.state is State.CONFIRMED) is equal
    assert error is None or isinstance(error, WrongCode)


DIFFERENCES: dict[str, Callable[[Setting], Setting]] = {
    "code": lambda setting: setting,
    "own name": lambda setting: replace(setting, own=structs.replace(setting.own, name="bobby")),
    "peer name": lambda setting: replace(setting, peer=structs.replace(setting.peer, name="alicia")),
    "own key": lambda setting: replace(setting, own=structs.replace(setting.own, spki=b"another")),
    "peer key": lambda setting: replace(setting, peer=structs.replace(setting.peer, spki=b"another")),
    "session": lambda setting: replace(setting, sid=bytes(32)),
    "names moved over": lambda setting: replace(
        setting, own=structs.replace(setting.own, name="ebob"), peer=structs.replace(setting.peer, name="alic")
    ),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_any_one_difference_is_a_wrong_code(what: str) -> None:
    code = OTHER_CODE if what == "code" else CODE
    initiator = Pairing.initiator(code, VIEW_A)
    other = responder(book_with(), DIFFERENCES[what](VIEW_B))
    assert isinstance(run(initiator, other), WrongCode)
    assert State.CONFIRMED not in (initiator.state, other.state)


def with_pair1() -> tuple[Pairing, CodeBook, Pairing, OutFrame]:
    """A started initiator, a fresh responder with its book, and the PAIR1 between them."""
    book = book_with()
    initiator = Pairing.initiator(CODE, VIEW_A)
    return initiator, book, responder(book), one(initiator.start())


@pytest.mark.parametrize("point", LOW_ORDER, ids=[point.hex()[:6] for point in LOW_ORDER])
def test_n35_low_order_points(point: bytes) -> None:
    initiator, book, other, pair1 = with_pair1()
    with pytest.raises(WrongCode) as caught:
        other.receive(PairFrame.PAIR1, pair1.body[:4] + point)
    assert str(cpace.WRONG_CODE_TEXT) in str(caught.value)
    assert other.state is State.FAILED and other.burned and book.open_slots == ()
    with pytest.raises(WrongCode):
        initiator.receive(PairFrame.PAIR2, point + bytes(64))
    assert initiator.state is State.FAILED and initiator.burned


@pytest.mark.parametrize("size", [31, 33])
def test_n36_share_of_wrong_length(size: int) -> None:
    initiator, book, other, pair1 = with_pair1()
    with pytest.raises(ProtocolBreach) as caught:
        other.receive(PairFrame.PAIR1, pair1.body[:4] + bytes(size))
    assert caught.value.word == "E_FRAME"
    assert other.state is State.FAILED and other.burned and book.open_slots == ()
    with pytest.raises(ProtocolBreach) as caught:
        initiator.receive(PairFrame.PAIR2, bytes(size) + bytes(64))
    assert caught.value.word == "E_FRAME"
    assert initiator.burned


def test_a_pair1_without_a_slot_burns_nothing() -> None:
    _initiator, book, other, _pair1 = with_pair1()
    with pytest.raises(ProtocolBreach) as caught:
        other.receive(PairFrame.PAIR1, b"\0\0\0")
    assert caught.value.word == "E_FRAME"
    assert not other.burned and book.open_slots == (7,)


@pytest.mark.parametrize("kind", [PairFrame.PAIR2, PairFrame.CONFIRM])
def test_n37_frames_before_pair1(kind: PairFrame) -> None:
    _initiator, book, other, _pair1 = with_pair1()
    with pytest.raises(ProtocolBreach) as caught:
        other.receive(kind, bytes(96))
    assert caught.value.word == "E_STATE"
    assert other.state is State.FAILED and book.open_slots == (7,)


def test_a_frame_before_the_start_of_the_initiator() -> None:
    initiator = Pairing.initiator(CODE, VIEW_A)
    with pytest.raises(ProtocolBreach) as caught:
        initiator.receive(PairFrame.PAIR2, bytes(96))
    assert caught.value.word == "E_STATE"
    with pytest.raises(RuntimeError):
        initiator.start()


def test_n38_the_own_tag_sent_back() -> None:
    _initiator, _book, other, pair1 = with_pair1()
    pair2 = one(other.receive(pair1.kind, pair1.body))
    with pytest.raises(WrongCode):
        other.receive(PairFrame.CONFIRM, pair2.body[32:])
    assert other.state is State.FAILED and other.burned


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 4096])
def test_n39_a_confirm_of_other_bytes(size: int) -> None:
    _initiator, _book, other, pair1 = with_pair1()
    other.receive(pair1.kind, pair1.body)
    with pytest.raises(WrongCode):
        other.receive(PairFrame.CONFIRM, bytes(size))
    assert other.state is State.FAILED


@pytest.mark.parametrize(("keep", "tail"), [(63, b""), (64, b"\0"), (63, b"changed"), (0, b"")])
def test_a_cut_or_changed_confirm_is_refused(keep: int, tail: bytes) -> None:
    initiator, _book, other, pair1 = with_pair1()
    pair2 = one(other.receive(pair1.kind, pair1.body))
    confirm = one(initiator.receive(pair2.kind, pair2.body))
    with pytest.raises(WrongCode):
        other.receive(PairFrame.CONFIRM, confirm.body[:keep] + tail)
    assert other.state is State.FAILED


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 3), st.integers(0, 95), st.integers(1, 255))
def test_one_changed_byte_anywhere_is_found(frame: int, place: int, change: int) -> None:
    def passed_on(number: int, out: OutFrame) -> tuple[PairFrame, bytes]:
        body = bytearray(out.body)
        if number == frame:
            body[place % len(body)] ^= change
        return out.kind, bytes(body)

    book = book_with()
    initiator, other = Pairing.initiator(CODE, VIEW_A), responder(book)
    try:
        pair1 = passed_on(0, one(initiator.start()))
        pair2 = passed_on(1, one(other.receive(*pair1)))
        confirm = passed_on(2, one(initiator.receive(*pair2)))
        other.receive(*confirm)
    except WrongCode:
        assert frame < 3
    else:
        # The top bit of a point is ignored by X25519, but the transcript still covers it.
        assert frame == 3
    assert (other.state is State.CONFIRMED) is (frame == 3)


def test_n40_both_are_initiators() -> None:
    initiator, _book, _other, pair1 = with_pair1()
    second = Pairing.initiator(CODE, VIEW_B)
    with pytest.raises(ProtocolBreach) as caught:
        second.start()
        second.receive(pair1.kind, pair1.body)
    assert caught.value.word == "E_STATE"
    assert second.burned and second.state is State.FAILED
    assert initiator.state is State.AWAIT_PAIR2


def test_n41_the_own_key_mirrored() -> None:
    initiator = Pairing.initiator(CODE, replace(VIEW_A, peer=Party("bob", ALICE.spki)))
    with pytest.raises(WrongCode):
        initiator.start()
    assert initiator.burned and initiator.state is State.FAILED
    _initiator, _book, _other, pair1 = with_pair1()
    book = book_with()
    other = responder(book, replace(VIEW_B, peer=Party("alice", BOB.spki)))
    with pytest.raises(WrongCode):
        other.receive(pair1.kind, pair1.body)
    assert other.burned and book.open_slots == ()


def test_the_own_share_and_key_reflected_do_not_confirm() -> None:
    initiator, _book, _other, pair1 = with_pair1()
    with pytest.raises(WrongCode):
        initiator.receive(PairFrame.PAIR2, pair1.body[4:] + bytes(64))


def test_a_code_gives_one_guess_only() -> None:
    book = book_with()
    guess = Pairing.initiator(OTHER_CODE, VIEW_A)
    assert isinstance(run(guess, responder(book)), WrongCode)
    right = Pairing.initiator(CODE, VIEW_A)
    assert isinstance(run(right, responder(book)), WrongCode)
    assert right.state is State.AWAIT_PAIR2


def test_all_guess_failures_read_the_same() -> None:
    low, book = responder(book_with()), book_with()
    with pytest.raises(WrongCode) as first:
        low.receive(PairFrame.PAIR1, (7).to_bytes(4, "big") + LOW_ORDER[0])
    second = run(Pairing.initiator(OTHER_CODE, VIEW_A), responder(book))
    assert str(first.value) == str(second)
    assert low.burned


def test_a_slot_that_is_not_open_reads_the_same_whether_it_ever_was() -> None:
    """The slot is public, and without an answer to Pair1 whoever named it knows as much."""
    used = book_with()
    used.take(7, 0.0)
    said = set()
    for book, slot in ((book_with(), 0), (used, 7), (book_with(), 8)):
        unknown = responder(book)
        with pytest.raises(WrongCode) as caught:
            unknown.receive(PairFrame.PAIR1, slot.to_bytes(4, "big") + bytes(32))
        assert not unknown.burned
        said.add(str(caught.value))
    assert said == {NOT_OPEN_TEXT}


def test_lost_before_anything_came_spares_the_code() -> None:
    initiator, book, other, _pair1 = with_pair1()
    assert initiator.lost() is None and not initiator.burned
    assert other.lost() is None and not other.burned
    assert (initiator.state, other.state) == (State.FAILED, State.FAILED)
    assert book.open_slots == (7,)


def test_lost_after_the_end_changes_nothing() -> None:
    initiator, other = Pairing.initiator(CODE, VIEW_A), responder(book_with())
    assert run(initiator, other) is None
    assert initiator.lost() is None and other.lost() is None
    assert (initiator.state, other.state) == (State.CONFIRMED, State.CONFIRMED)


def test_a_frame_after_the_end_is_refused_and_changes_nothing() -> None:
    initiator, other = Pairing.initiator(CODE, VIEW_A), responder(book_with())
    assert run(initiator, other) is None
    for machine in (initiator, other):
        for kind in PairFrame:
            with pytest.raises(ProtocolBreach) as caught:
                machine.receive(kind, bytes(64))
            assert caught.value.word == "E_STATE"
        assert machine.state is State.CONFIRMED and machine.failure is None


def test_start_belongs_to_an_unstarted_initiator() -> None:
    initiator, _book, other, _pair1 = with_pair1()
    for machine in (initiator, other):
        with pytest.raises(RuntimeError):
            machine.start()


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(Role),
    st.lists(st.tuples(st.sampled_from(PairFrame), st.binary(max_size=100)), min_size=1, max_size=6),
)
def test_no_garbage_confirms_or_breaks_the_machine(role: Role, frames: list[tuple[PairFrame, bytes]]) -> None:
    if role is Role.INITIATOR:
        machine = Pairing.initiator(CODE, VIEW_A)
        machine.start()
    else:
        machine = responder(book_with())
    for kind, body in frames:
        before = machine.state
        try:
            machine.receive(kind, body)
        except (WrongCode, ProtocolBreach):
            assert machine.state is State.FAILED
        else:
            assert (before, machine.state) == (State.AWAIT_PAIR1, State.AWAIT_CONFIRM)


@pytest.mark.parametrize(("sid", "scalar"), [(31, 32), (33, 32), (32, 31), (0, 32)])
def test_a_setting_checks_its_lengths(sid: int, scalar: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Setting(ALICE, BOB, bytes(sid), bytes(scalar))


def test_secrets_are_not_in_a_repr() -> None:
    setting = replace(VIEW_A, scalar=b"s3cret" + bytes(26))
    assert "s3cret" not in repr(setting)
    assert "tulip" not in repr(CODE)


def test_book_hands_a_code_out_once() -> None:
    book = CodeBook()
    assert book.open(CODE, 100.0) == 100.0 + CODE_LIFETIME
    assert book.take(7, 101.0) == "acorn-tulip-zebra"
    with pytest.raises(WrongCode):
        book.take(7, 101.0)


def test_book_forgets_a_code_when_its_time_is_over() -> None:
    book = CodeBook()
    ends = book.open(CODE, 0.0)
    assert ends == 600.0
    with pytest.raises(WrongCode):
        book.take(7, ends)
    assert book.open_slots == ()
    book.open(CODE, ends)
    assert book.expire(ends + 599.9) == ()
    assert book.expire(ends + 600.0) == (7,)
    assert book.open_slots == ()


def test_book_is_limited_and_makes_room() -> None:
    book = CodeBook()
    for slot in range(1, OPEN_CODES + 1):
        book.open(Code(slot, CODE.words), 0.0)
    extra = Code(OPEN_CODES + 1, CODE.words)
    with pytest.raises(UsageError):
        book.open(extra, 1.0)
    book.take(3, 1.0)
    book.open(extra, 1.0)
    book.close(4)
    book.close(4)
    assert list(book.open_slots) == [1, 2, 5, 6, 7, 8, 9]
    book.open(Code(10, CODE.words), CODE_LIFETIME)
    assert list(book.open_slots) == [9, 10]


def test_book_refuses_an_open_slot_and_proposes_new_ones() -> None:
    book = CodeBook()
    assert book.next_slot == 1
    book.open(CODE, 0.0)
    with pytest.raises(UsageError):
        book.open(OTHER_CODE, 0.0)
    assert book.next_slot == 8
    book.take(7, 0.0)
    assert book.next_slot == 8
    book.open(Code(1, CODE.words), 0.0)
    book.open(Code(MAX_SLOT, CODE.words), 0.0)
    assert book.next_slot == 2


@given(st.lists(st.tuples(st.sampled_from(["open", "take", "wait"]), st.integers(1, 5)), max_size=30))
def test_book_laws(steps: list[tuple[str, int]]) -> None:
    book = CodeBook(limit=3, lifetime=10.0)
    now = 0.0
    alive: dict[int, float] = {}
    for what, number in steps:
        alive = {slot: ends for slot, ends in alive.items() if ends > now}
        if what == "wait":
            now += 2.0 * number
        elif what == "take":
            if number in alive:
                assert book.take(number, now) == CODE.secret
                del alive[number]
            else:
                with pytest.raises(WrongCode):
                    book.take(number, now)
        elif number in alive or len(alive) == 3:
            with pytest.raises(UsageError):
                book.open(Code(number, CODE.words), now)
        else:
            alive[number] = book.open(Code(number, CODE.words), now)
        assert len(book.open_slots) <= 3
        assert book.next_slot not in book.open_slots
