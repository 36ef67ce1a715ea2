"""A pairing on one path, and the words that are compared behind it where either side wants that."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from p2pxfer.core.contact.codes import parse_code
from p2pxfer.core.contact.pairing import Party
from p2pxfer.core.reported import from_wire
from p2pxfer.core.session.wire import Paired, Problem, SameWords
from p2pxfer.errors import IdentityMismatch, P2pxferError, ProtocolBreach, Refused, Unreachable
from p2pxfer.net.session import bothsame
from p2pxfer.net.session.bothsame import COMPARE_S, ENDED, STOPPED
from p2pxfer.net.session.firstcontact import FirstContact

CODE = parse_code("4-acid-acorn-acre")
WORDS = ("a", "b")


class Side:
    """One end: its path hands what it sends to the other end, a Problem as the end of that one's path."""

    other: Side
    deaf = False
    """What it says is not heard."""

    def __init__(self, clock: Clock, name: str, peer: str, compare: bool) -> None:
        self.clock = clock
        self.verdicts: list[P2pxferError | None] = []
        self.sent: list[Any] = []
        path: Any = self
        reactor: Any = clock
        own, there = (Party(each, each.encode() * 6) for each in (name, peer))
        self.contact = FirstContact(reactor, path, own, there, self.verdicts.append, compare)
        self.asked: list[Deferred[None]] = []
        self.withdrawn = 0
        self.outcome: list[Exception | None] = []

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        return bytes(length)

    def send(self, message: Any) -> None:
        self.sent.append(message)
        if self.deaf:
            return
        if isinstance(message, Problem):
            self.other.contact.lost(from_wire(message.word, message.message))
        else:
            self.other.contact.receive(message)

    def agree(self) -> None:
        """Ask the user here."""

        async def ask(words: tuple[str, ...]) -> None:
            assert words == WORDS
            answer: Deferred[None] = Deferred(self._withdraw)
            self.asked.append(answer)
            await answer

        assert self.contact.both is not None
        agreeing = self.agreeing = Deferred.fromCoroutine(self.contact.both.agree(ask))
        agreeing.addCallbacks(self.outcome.append, lambda failure: self.outcome.append(failure.value))

    def _withdraw(self, answer: Deferred[None]) -> None:
        self.withdrawn += 1

    def yes(self) -> None:
        self.asked[-1].callback(None)

    def no(self) -> None:
        self.asked[-1].errback(IdentityMismatch("nobody read these"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(bothsame, "words_on", lambda path: WORDS)
    return Clock()


def proved(clock: Clock, enters: bool, shows: bool) -> tuple[Side, Side]:
    """Who entered and who showed a code, behind the proof; whether each wants words compared."""
    alice, bob = Side(clock, "alice", "robert", enters), Side(clock, "robert", "alice", shows)
    alice.other, bob.other = bob, alice
    bob.contact.show(lambda slot: CODE.secret)
    alice.contact.enter(CODE)
    assert alice.verdicts == bob.verdicts == [None]
    return alice, bob


def asked(clock: Clock) -> tuple[Side, Side]:
    """Both are asked."""
    sides = proved(clock, enters=True, shows=False)
    for side in sides:
        side.agree()
    return sides


def test_where_nobody_wants_it_nothing_is_compared(clock: Clock) -> None:
    alice, bob = proved(clock, enters=False, shows=False)
    assert alice.contact.both is bob.contact.both is None
    with pytest.raises(ProtocolBreach):
        bob.contact.receive(SameWords())


@pytest.mark.parametrize(("enters", "shows"), [(True, False), (False, True), (True, True)])
def test_where_one_wants_it_both_compare(clock: Clock, enters: bool, shows: bool) -> None:
    for side in proved(clock, enters, shows):
        assert side.contact.both is not None
        assert side.contact.both.words == WORDS


@pytest.mark.parametrize("too", [False, True], ids=["one", "both"])
def test_who_sits_in_between_can_hide_the_wish_of_one_from_the_other(clock: Clock, too: bool) -> None:
    """She knows the code, and says to bob that nobody wants words compared: only his own wish has him asked."""
    alice, hers = proved(clock, enters=True, shows=False)
    his, bob = proved(clock, enters=False, shows=too)
    assert alice.contact.both is not None
    assert (bob.contact.both is not None) is too
    hers.agree()
    hers.yes()
    alice.agree()
    alice.no()  # she reads bob other words, or none
    assert [type(error) for error in alice.outcome] == [IdentityMismatch]
    if too:
        his.agree()
        his.yes()
        bob.agree()
        bob.no()
        assert [type(error) for error in bob.outcome] == [IdentityMismatch]


def test_it_ends_well_when_both_have_said_yes(clock: Clock) -> None:
    alice, bob = asked(clock)
    bob.yes()
    assert alice.outcome == bob.outcome == []
    alice.yes()
    assert alice.outcome == bob.outcome == [None]
    bob.contact.lost(Unreachable("closed"))  # as paths end then
    assert bob.outcome == [None]
    assert not clock.getDelayedCalls()


def test_a_yes_that_comes_before_the_question_counts(clock: Clock) -> None:
    alice, bob = proved(clock, enters=False, shows=True)
    bob.agree()
    bob.yes()
    alice.agree()
    alice.yes()
    assert alice.outcome == bob.outcome == [None]


@pytest.mark.parametrize("after_a_yes", [False, True])
def test_a_no_ends_it_on_both_sides(clock: Clock, after_a_yes: bool) -> None:
    alice, bob = asked(clock)
    if after_a_yes:
        bob.yes()
    alice.no()
    assert [type(each) for each in (*alice.outcome, *bob.outcome)] == [IdentityMismatch] * 2
    assert bob.withdrawn == (0 if after_a_yes else 1)


def test_where_nobody_can_answer_both_are_told(clock: Clock) -> None:
    alice, bob = asked(clock)
    bob.asked[0].errback(Refused("nobody is there"))
    assert [type(each) for each in (*alice.outcome, *bob.outcome)] == [Refused] * 2


def test_words_hold_no_longer_than_their_connection(clock: Clock) -> None:
    alice, bob = asked(clock)
    alice.yes()
    for side in (alice, bob):
        side.contact.lost(Unreachable("the peer was silent"))
        (error,) = side.outcome
        assert isinstance(error, Unreachable)
        assert str(error) == f"{ENDED}: the peer was silent"
    assert (alice.withdrawn, bob.withdrawn) == (0, 1)


@pytest.mark.parametrize("after_a_yes", [False, True])
def test_the_other_side_hears_that_it_was_stopped(clock: Clock, after_a_yes: bool) -> None:
    alice, bob = asked(clock)
    if after_a_yes:
        alice.yes()
    alice.agreeing.cancel()
    (own,) = alice.outcome
    assert isinstance(own, CancelledError)
    (error,) = bob.outcome
    assert isinstance(error, Refused)
    assert STOPPED in str(error)
    assert (alice.withdrawn, bob.withdrawn) == (0 if after_a_yes else 1, 1)
    assert not clock.getDelayedCalls()


def test_who_asks_too_late_hears_why(clock: Clock) -> None:
    alice, _ = proved(clock, enters=True, shows=True)
    alice.contact.lost(Unreachable("gone"))
    alice.agree()
    assert isinstance(alice.outcome[0], Unreachable)
    assert alice.asked == []


def test_the_last_yes_may_be_lost_with_the_connection(clock: Clock) -> None:
    """No number of messages would change that: whoever speaks last cannot know whether it was heard."""
    alice, bob = asked(clock)
    bob.yes()
    alice.deaf = True  # bob's machine is gone, and alice's has not seen it yet
    alice.yes()
    assert alice.outcome == [None]
    bob.contact.lost(Unreachable("the line was cut"))
    assert [type(error) for error in bob.outcome] == [Unreachable]


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(clock: Clock) -> None:
    alice, bob = asked(clock)
    alice.yes()
    clock.advance(COMPARE_S)
    for side in (alice, bob):
        assert isinstance(side.outcome[0], Refused)
    assert bob.withdrawn == 1
    assert not clock.getDelayedCalls()


def test_nothing_is_said_twice(clock: Clock) -> None:
    alice, bob = asked(clock)
    alice.yes()
    with pytest.raises(ProtocolBreach):
        bob.contact.receive(SameWords())
    with pytest.raises(ProtocolBreach):
        alice.contact.receive(Paired(compare=True))
