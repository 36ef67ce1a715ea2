from __future__ import annotations

import random

import pytest

from p2pxfer.core.framing import encode_frame
from p2pxfer.core.session.chatwire import CHAT, MAX_TEXT, Got, Say
from p2pxfer.core.session.conversation import MAX_PENDING, REMEMBERED, Conversation, Delivered, Heard, Line, PeerOver
from p2pxfer.errors import FrameError, LimitReached, ProtocolBreach


def line(number: int, text: str = "") -> Line:
    return Line(number.to_bytes(16, "big"), text or f"line {number}", 1000 + number)


def standing() -> Conversation:
    made = Conversation()
    made.attach()
    return made


def test_a_line_goes_out_when_it_was_noted_and_stays_until_its_receipt() -> None:
    one, other = standing(), standing()
    one.say(line(1))
    assert one.take(10**6) == b""
    one.noted([line(1).id])
    (event,) = other.receive(one.take(10**6))
    assert event == Heard(line(1))
    assert other.take(10**6) == b""
    assert one.pending == [line(1)]
    other.kept([line(1).id])
    assert one.receive(other.take(10**6)) == [Delivered(line(1))]
    assert one.pending == []


def test_any_segmentation_and_any_room_give_the_same_lines() -> None:
    one, other = standing(), standing()
    lines = [line(number, "ä" * number) for number in range(1, 60)]
    for each in lines:
        one.say(each)
    one.noted([each.id for each in lines])
    heard = []
    while data := one.take(7):
        assert len(data) <= 7
        for at in range(len(data)):
            heard += other.receive(data[at : at + 1])
    assert heard == [Heard(each) for each in lines]


def test_a_line_that_comes_again_is_told_once_and_its_receipt_is_repeated() -> None:
    one, other = standing(), standing()
    one.say(line(1))
    one.noted([line(1).id])
    assert other.receive(one.take(10**6)) == [Heard(line(1))]
    # The channel is lost with the receipt; the next one carries the line again.
    other.kept([line(1).id])
    for side in (one, other):
        side.detach()
        side.attach()
    assert other.receive(one.take(10**6)) == []
    assert one.receive(other.take(10**6)) == [Delivered(line(1))]


def test_a_line_that_was_shown_and_not_noted_gets_no_receipt_before() -> None:
    one, other = standing(), standing()
    one.say(line(1))
    one.noted([line(1).id])
    other.receive(one.take(10**6))
    for side in (one, other):
        side.detach()
        side.attach()
    assert other.receive(one.take(10**6)) == []
    assert other.take(10**6) == b""
    other.kept([line(1).id])
    assert one.receive(other.take(10**6)) == [Delivered(line(1))]


def test_over_comes_after_the_last_line() -> None:
    one, other = standing(), standing()
    one.say(line(1))
    one.over()
    assert one.take(10**6) == b""
    one.noted([line(1).id])
    assert other.receive(one.take(10**6)) == [Heard(line(1)), PeerOver()]
    one.detach()
    one.attach()
    other.detach()
    other.attach()
    assert other.receive(one.take(10**6)) == [PeerOver()]


def test_what_is_too_much_is_refused() -> None:
    one = standing()
    with pytest.raises(LimitReached, match="4000 characters"):
        one.say(line(1, "x" * (MAX_TEXT + 1)))
    for number in range(MAX_PENDING):
        one.say(line(number))
    assert one.full
    with pytest.raises(LimitReached, match="waiting"):
        one.say(line(MAX_PENDING))


def test_a_peer_that_sends_too_much_is_refused() -> None:
    other = standing()
    for number in range(MAX_PENDING):
        other.receive(CHAT.encode(Say(line(number).id, "x", 1)))
    with pytest.raises(ProtocolBreach, match="more lines"):
        other.receive(CHAT.encode(Say(line(MAX_PENDING).id, "x", 1)))
    with pytest.raises(FrameError, match="announces"):
        standing().receive(b"\x00\x01\x00\x00\x01")
    with pytest.raises(FrameError):
        standing().receive(encode_frame(1, b"\x80"))
    with pytest.raises(FrameError, match="not allowed"):
        standing().receive(encode_frame(9, b"\x80"))
    with pytest.raises(FrameError, match="malformed"):
        standing().receive(encode_frame(2, b"\xc0"))
    deaf = standing()
    with pytest.raises(ProtocolBreach, match="receipts"):
        for number in range(10 * MAX_PENDING):
            deaf.receive(CHAT.encode(Say(line(number).id, "x", 1)))
            deaf.kept([line(number).id])


def test_a_receipt_for_nothing_changes_nothing() -> None:
    one = standing()
    assert one.receive(CHAT.encode(Got(bytes(16)))) == []


def test_ids_are_remembered_as_long_as_they_may_come_again() -> None:
    other = standing()
    for number in range(2 * REMEMBERED):
        assert len(other.receive(CHAT.encode(Say(line(number).id, "x", 1)))) == 1
        other.kept([line(number).id])
        other.take(10**6)
    assert len(other.seen) == REMEMBERED > 2 * MAX_PENDING
    assert other.receive(CHAT.encode(Say(line(REMEMBERED).id, "x", 1))) == []


class Machine:
    """One person's program, which may be killed: what was noted stays."""

    def __init__(self) -> None:
        self.outbox: list[Line] = []
        self.seen: list[bytes] = []
        self.shown: list[Line] = []
        self.start()

    def start(self) -> None:
        self.core = Conversation(self.outbox, self.seen)

    def say(self, said: Line) -> None:
        self.core.say(said)
        self.outbox = self.core.pending
        self.core.noted([said.id])

    def hear(self, data: bytes) -> None:
        for event in self.core.receive(data):
            if isinstance(event, Heard):
                self.shown.append(event.line)
                self.seen.append(event.line.id)
                self.core.kept([event.line.id])
        self.outbox = self.core.pending


@pytest.mark.parametrize("seed", range(40))
def test_cuts_and_kills_lose_and_double_no_line(seed: int) -> None:
    dice = random.Random(seed)
    sides = (Machine(), Machine())
    said: tuple[list[Line], list[Line]] = ([], [])

    def attach() -> None:
        for side in sides:
            side.core.detach()
            side.core.attach()

    attach()
    for number in range(300):
        who = dice.randrange(2)
        match dice.randrange(8):
            case 0:
                attach()
            case 1:
                sides[who].start()
                attach()
            case 2 | 3 | 4:
                sides[1 - who].hear(sides[who].core.take(dice.randrange(1, 200)))
            case _:
                said[who].append(line(2 * number + who))
                sides[who].say(said[who][-1])
    attach()
    for _ in range(4):
        for who in (0, 1):
            while data := sides[who].core.take(1000):
                sides[1 - who].hear(data)
    assert sides[1].shown == said[0]
    assert sides[0].shown == said[1]
    assert sides[0].outbox == sides[1].outbox == []
