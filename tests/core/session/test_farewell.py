"""What a side says when it gives a path up, and what comes of whatever the other one says."""

from __future__ import annotations

from typing import cast

import pytest

from p2pxfer.core.framing import encode_frame
from p2pxfer.core.reported import from_peer
from p2pxfer.core.session.farewell import FAULT, MAX_REASON, WITHHELD, in_last_record, last_word, problem, reported
from p2pxfer.core.session.records import MAX_LAST
from p2pxfer.core.session.wire import PEER, Bye, Ping, Problem
from p2pxfer.core.words.parting import parted_text
from p2pxfer.errors import (
    CodeNeeded,
    DiskError,
    FrameError,
    IdentityMismatch,
    LimitReached,
    P2pxferError,
    PeerFailed,
    PeerStopped,
    SourceChanged,
    WrongCode,
)

STOPPED = PEER.encode(problem(PeerStopped("the sender was stopped")))
ADVICE = "a.bin changed while it was being sent; run the command again"


@pytest.mark.parametrize(
    ("error", "word", "reason"),
    [
        (SourceChanged(ADVICE, "a.bin changed while it was being sent"), "E_SOURCE_CHANGED", "a.bin changed"),
        (DiskError("/home/me/a.bin is in the way"), "E_IO", "its disk failed"),
        (LimitReached("the list has too many files"), "E_LIMIT", "too many files"),
        (LimitReached("x" * 5000), "E_LIMIT", "x" * MAX_REASON),
    ],
)
def test_who_ends_by_an_error_says_which_where_it_was_offered_something(
    error: P2pxferError, word: str, reason: str
) -> None:
    said = last_word(error, offered=True)
    assert isinstance(said, Problem)
    assert (said.word, said.ends) == (word, True)
    assert reason in said.message and len(said.message) <= MAX_REASON
    assert "/home/me" not in said.message and "run the command" not in said.message
    assert last_word(error, offered=False) == Problem(word=word, message=WITHHELD, ends=True)


def test_who_was_stopped_says_that_and_not_that_it_ended_by_an_error() -> None:
    for offered in (True, False):
        said = last_word(PeerStopped("the sender was stopped"), offered=offered)
        assert said == Problem(word="E_STOPPED", message="the sender was stopped")


def test_of_a_fault_of_its_program_a_side_says_that_it_is_one() -> None:
    said = last_word(ZeroDivisionError("/home/me"), offered=True)
    assert said == Problem(word="E_INTERNAL", message=FAULT, ends=True)
    assert isinstance(said, Problem)
    assert parted_text("bob", cast(PeerStopped, reported(said))) == f"bob could not go on: {FAULT}"
    assert last_word(ZeroDivisionError("/home/me"), offered=False) == Problem("E_INTERNAL", WITHHELD, ends=True)


@pytest.mark.parametrize("word", ["E_DENIED", "E_SPACE", "E_PATH", "E_STOPPED", "E_CODE", "E_NEW"])
def test_what_the_other_end_said_it_does_not_hear_again(word: str) -> None:
    assert last_word(from_peer(word, "the receiver's user said no"), offered=True) == Bye()


@pytest.mark.parametrize("ends", [True, False])
def test_the_words_of_a_peer_are_never_those_of_this_program(ends: bool) -> None:
    error = reported(Problem(word="E_PIN", message="the key of the server has changed", ends=ends))
    assert error.message == "the peer reports: the key of the server has changed"


def test_what_a_peer_ended_by_is_told_under_its_name() -> None:
    error = reported(Problem(word="E_IO", message="its disk \x1b failed", ends=True))
    assert isinstance(error, PeerFailed)
    assert parted_text("bob", error) == "bob could not go on: its disk \\x1b failed"


@pytest.mark.parametrize("error", [IdentityMismatch("another key"), WrongCode("wrong"), CodeNeeded("who are you")])
def test_of_keys_and_codes_nothing_is_said(error: P2pxferError) -> None:
    assert last_word(error, offered=True) is None


def test_nothing_is_no_reason() -> None:
    assert in_last_record(b"") is None


def test_a_farewell_is_the_error_of_the_peer() -> None:
    error = in_last_record(STOPPED)
    assert isinstance(error, PeerStopped) and error.message == "the peer reports: the sender was stopped"


def test_what_the_peer_says_is_escaped() -> None:
    error = in_last_record(PEER.encode(problem(PeerStopped("\x1b[31m\u202e"))))
    assert error is not None and error.message.isascii() and "\x1b" not in error.message


def test_the_longest_reason_has_room() -> None:
    assert len(PEER.encode(problem(DiskError("\U0001f600" * 5000)))) <= MAX_LAST


@pytest.mark.parametrize(
    "octets",
    [
        STOPPED[:-1],
        STOPPED[:3],
        STOPPED + b"\0",
        STOPPED * 2,
        PEER.encode(Ping(number=1)),
        encode_frame(PEER.kind_of(type(problem(PeerStopped("")))), b"\xc1"),
        b"\xff" * 20,
    ],
)
def test_anything_else_is_refused(octets: bytes) -> None:
    assert isinstance(in_last_record(octets), FrameError)
