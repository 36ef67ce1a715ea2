"""Words that people compare: those of a connection that stands, each peer asked about once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from p2pxfer.cli.wordscheck import SHOW_S, SHOWS, WordsCheck
from p2pxfer.errors import IdentityMismatch
from p2pxfer.net.private.home import Home

KEY = b"k" * 32
OLD, NEW = ("old",) * 8, ("new",) * 8


class Bench:
    """A check whose questions are answered by hand."""

    def __init__(self, folder: Path) -> None:
        clock: Any = Clock()
        self.clock = clock
        self.told: list[str] = []
        self.texts: list[str | None] = []
        self.open: list[tuple[str, Deferred[bool]]] = []
        self.home = Home(folder / "home")
        there: Any = self
        self.check = WordsCheck(self.home, there, there, clock)

    def tell(self, event: Any, text: str | None = None) -> None:
        self.told.append(str(event))
        self.texts.append(text)

    async def ask(self, compose: Any, *, tries: int) -> bool:
        assert tries > 1  # a slip is no alarm
        answer: Deferred[bool] = Deferred()
        self.open.append((compose(), answer))
        return await answer

    def asking(self, words: tuple[str, ...], connection: object = None) -> Deferred[None]:
        return Deferred.fromCoroutine(self.check.ask(KEY, "anna", words, connection))

    def seen(self, words: tuple[str, ...]) -> int:
        """How often these words were told."""
        return sum(words[0] in each for each in self.told)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def failed(asking: Deferred[None]) -> BaseException:
    found: list[BaseException] = []

    def note(failure: Failure) -> None:
        assert failure.value is not None
        found.append(failure.value)

    asking.addErrback(note)
    (error,) = found
    return error


def test_another_connection_has_other_words_and_they_are_shown(bench: Bench) -> None:
    bench.check.show(KEY, "anna", OLD, "first")
    bench.check.show(KEY, "anna", OLD, "first")
    bench.check.show(KEY, "anna", NEW, "second")
    assert (bench.seen(OLD), bench.seen(NEW)) == (1, 1)
    assert bench.check.shown_to(KEY) == (NEW, "second")


def test_who_is_not_asked_is_told_so(bench: Bench) -> None:
    there: Any = bench
    check = WordsCheck(bench.home, there, there, bench.clock, asks=False)
    check.show(KEY, "anna", OLD, "first")
    (text,) = bench.texts
    assert text is not None and OLD[0] in text
    assert "the user of anna is asked" in text and "here nothing is asked" in text


def test_words_of_a_connection_that_is_gone_are_forgotten(bench: Bench) -> None:
    bench.check.show(KEY, "anna", OLD, "first")
    bench.check.gone("another")
    assert bench.check.shown_to(KEY) == (OLD, "first")
    bench.check.gone("first")
    assert bench.check.shown_to(KEY) is None


def test_who_compares_too_often_is_not_shown_and_leaves_nothing_old(bench: Bench) -> None:
    for number in range(SHOWS + 5):
        bench.check.show(KEY, "anna", (f"words{number}",) * 8, number)
    assert len(bench.told) == SHOWS
    assert bench.check.shown_to(KEY) is None
    bench.clock.advance(SHOW_S + 1)
    bench.check.show(KEY, "anna", NEW, "last")
    assert bench.seen(NEW) == 1


def test_a_question_goes_with_its_connection(bench: Bench) -> None:
    old, other = bench.asking(OLD, "first"), bench.asking(NEW, "second")
    bench.check.gone("first")
    assert isinstance(failed(old), CancelledError)
    assert [NEW[0] in question for question, _ in bench.open] == [False, True]
    bench.open[1][1].callback(True)
    assert other.called
    assert bench.check.passed(KEY)


def test_a_question_about_other_words_than_the_peer_compares_now_is_withdrawn(bench: Bench) -> None:
    bench.check.show(KEY, "anna", OLD, "first")
    old = bench.asking(OLD, "first")
    bench.check.outdate(KEY)
    assert not old.called
    bench.check.show(KEY, "anna", NEW, "second")
    bench.check.outdate(KEY)
    assert isinstance(failed(old), CancelledError)


def test_two_offers_of_one_peer_are_one_question(bench: Bench) -> None:
    both = [bench.asking(OLD, "first"), bench.asking(OLD, "first")]
    assert len(bench.open) == 1
    bench.open[0][1].callback(True)
    assert [each.called for each in both] == [True, True]
    assert len(bench.open) == 1


@pytest.mark.parametrize("same", [True, False])
def test_who_proved_a_code_is_a_contact_after_the_words_and_not_before(bench: Bench, same: bool) -> None:
    stored: list[bytes] = []
    bench.check.hold(KEY, lambda: stored.append(KEY))
    asking = bench.asking(OLD)
    assert bench.check.holds(KEY)
    assert stored == []
    bench.open[0][1].callback(same)
    assert stored == ([KEY] if same else [])
    assert not bench.check.holds(KEY)
    if same:
        bench.check.hold(KEY, lambda: stored.append(KEY))
        assert stored == [KEY, KEY]
    else:
        failed(asking)


def test_a_no_is_a_mismatch(bench: Bench) -> None:
    asking = bench.asking(OLD)
    bench.open[0][1].callback(False)
    assert isinstance(failed(asking), IdentityMismatch)
    assert not bench.check.passed(KEY)
