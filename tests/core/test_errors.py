from __future__ import annotations

import errno

import pytest

from p2pxfer import errors
from p2pxfer.core.reported import from_peer, from_receiver, from_wire
from p2pxfer.errors import Declined, NoMemory, P2pxferError, PathRefused, Refused, RefusedForNow, is_no_memory


def classes(base: type[P2pxferError]) -> list[type[P2pxferError]]:
    return [base, *(found for sub in base.__subclasses__() for found in classes(sub))]


@pytest.mark.parametrize("cls", classes(P2pxferError), ids=lambda cls: cls.__name__)
def test_every_error_has_a_word_and_a_documented_exit_code(cls: type[P2pxferError]) -> None:
    assert cls.word.startswith("E_")
    assert cls.exit_code in {1, 2, 3, 4, 5, 6, 7, 8, 9, 75, 130}
    if cls is not NoMemory:
        assert str(cls("a sentence")) == "a sentence"


@pytest.mark.parametrize("cls", [errors.UsageError, errors.ConfigError, errors.DiskError, errors.SourceUnreadable])
def test_what_is_about_this_machine_goes_abroad_only_in_a_sentence_for_that(cls: type[P2pxferError]) -> None:
    error = cls("/home/me/inbox is in the way")
    assert "/home/me" not in error.abroad and error.abroad
    assert cls("/home/me/inbox is in the way", "something is in the way").abroad == "something is in the way"
    assert cls.plain("the input is not whole").abroad == "the input is not whole"
    assert Refused("the receiver's user said no").abroad == "the receiver's user said no"


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("E_DENIED", Declined),
        ("E_INTERRUPTED", Declined),
        ("E_SPACE", RefusedForNow),
        ("E_IO", Refused),
        ("E_PATH", PathRefused),
    ],
)
def test_what_a_receiver_declines_is_told_from_what_it_cannot_take(word: str, kind: type[P2pxferError]) -> None:
    """With the first there is nothing to go on with."""
    error = from_receiver(word, "the receiver refused: no")
    assert (type(error), error.reported) == (kind, True)


@pytest.mark.parametrize(
    "word", ["E_USAGE", "E_CONFIG", "E_INTERRUPTED", "E_IO", "E_SPACE", "E_INCOMPLETE", "E_INTERNAL", "E_NEW", "", "\n"]
)
def test_the_other_end_does_not_choose_the_exit_code_of_this_program(word: str) -> None:
    error = from_wire(word, "their disk is full")
    assert isinstance(error, Refused)
    assert (error.word, error.exit_code) == ("E_DENIED", 4)
    assert error.retry == (word in ("E_INTERRUPTED", "E_SPACE", "E_INCOMPLETE"))


@pytest.mark.parametrize(
    ("word", "cls"),
    [
        ("E_PIN", errors.IdentityMismatch),
        ("E_CODE", errors.WrongCode),
        ("E_UNKNOWN", errors.CodeNeeded),
        ("E_REPLACED", errors.Replaced),
        ("E_NAME", errors.NameTaken),
        ("E_PEER_GONE", errors.Unreachable),
        ("E_STOPPED", errors.Unreachable),
        ("E_PATH_NONE", errors.NoDirectPath),
        ("E_RATE", errors.RateLimited),
        ("E_STATE", errors.ProtocolBreach),
    ],
)
def test_words_that_mean_something_here(word: str, cls: type[P2pxferError]) -> None:
    assert type(from_wire(word, "why")) is cls


def test_nobody_but_the_peer_says_that_its_program_was_stopped() -> None:
    """Neither the server nor what ends one transfer."""
    assert type(from_peer("E_STOPPED", "why")) is errors.PeerStopped
    assert type(from_peer("E_PIN", "why")) is errors.IdentityMismatch


@pytest.mark.parametrize(
    ("fault", "means_it"),
    [
        (MemoryError(), True), (OSError(errno.ENOMEM, "no memory"), True), (OSError(errno.ENOSPC, "no space"), False),
        (RuntimeError("can't start new thread"), True), (RuntimeError("something else"), False), (KeyError(12), False),
    ],
)  # fmt: skip
def test_what_says_that_there_is_no_memory(fault: Exception, means_it: bool) -> None:
    assert is_no_memory(fault) is means_it
