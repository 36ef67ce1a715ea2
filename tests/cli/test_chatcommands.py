from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pxfer.cli.chatcommands import ChatCommands
from p2pxfer.cli.chatlines import LINE_MAX, TOO_LONG, LineInput
from p2pxfer.cli.chatwords import ChatWords
from p2pxfer.cli.newcontact import today
from p2pxfer.core.ids import PeerId
from p2pxfer.core.session.conversation import Line
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.services.chatstore import ChatStore
from p2pxfer.net.session.peercheck import Checkee

KEY = bytes(range(32))


class Talk:
    """The connection of a chat, which shows words."""

    asks = True
    held = False
    released = False

    def compare(self) -> tuple[str, ...]:
        return ("a", "b")

    def release(self) -> None:
        self.released = True


class Bench:
    """The commands of a chat with bob, and what they said."""

    def __init__(self, folder: Path) -> None:
        self.said: list[str] = []
        self.home = Home(folder / "home")
        self.store = ChatStore(self.home.path, KEY)
        self.talk = Talk()
        files: Any = self
        talk: Any = self.talk
        end: Callable[[object], None] = lambda error: pytest.fail(str(error))  # noqa: E731
        words = self.words = ChatWords(self.home, Checkee(KEY, "bob", "contact"), talk, self.said.append, end)
        self.commands = ChatCommands(files, self.store, "bob", words, self.said.append, lambda: None)

    def send(self, path: str) -> None:
        raise AssertionError(path)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_home_that_nobody_has_is_said(bench: Bench) -> None:
    bench.commands.run("/send ~nosuchuserhere/x")
    assert bench.said == ["/send: Could not determine home directory."]


def test_a_name_that_was_taken_meanwhile_is_said_and_releases_nothing(bench: Bench) -> None:
    bench.home.add_contact(Contact("bob", PeerId(bytes(32)), "code", "2026-01-01"))
    bench.commands.run("/verify")
    bench.commands.run("/same")
    assert "not a contact any more" in bench.said[-1]
    assert bench.home.contacts() == [Contact("bob", PeerId(bytes(32)), "code", "2026-01-01")]
    assert not bench.talk.released


def test_a_home_that_cannot_be_written_is_said(bench: Bench) -> None:
    bench.home.add_contact(Contact("bob", PeerId(KEY), "code", "2026-01-01"))
    (bench.home.path / "contacts.json").write_text("{")
    bench.commands.run("/verify")
    bench.commands.run("/same")
    assert "damaged" in bench.said[-1]
    assert not bench.talk.released


def test_a_contact_under_another_name_is_strengthened(bench: Bench) -> None:
    bench.home.add_contact(Contact("robert", PeerId(KEY), "code", "2026-01-01"))
    bench.commands.run("/verify")
    bench.commands.run("/same")
    assert bench.home.contacts() == [Contact("robert", PeerId(KEY), "words", today())]
    assert bench.talk.released


def test_a_plain_yes_answers_the_question_that_this_side_asked(bench: Bench) -> None:
    bench.home.add_contact(Contact("bob", PeerId(KEY), "code", "2026-01-01"))
    assert bench.words.answer("yes") == "yes"
    bench.commands.run("/verify")
    assert "yes, or /same, if the other one reads the same words" in bench.said[-1]
    assert bench.words.answer("yes, let us meet") == "yes, let us meet"
    assert (bench.words.answer(" Yes. "), bench.words.answer("N")) == ("/same", "/differ")
    bench.commands.run("/same")
    assert bench.words.answer("yes") == "yes"


def test_a_yes_that_may_be_meant_for_a_line_of_the_peer_is_no_answer(bench: Bench) -> None:
    """Whoever sits in between could ask something else in that moment."""
    bench.commands.run("/verify")
    bench.words.heard()
    assert bench.words.answer("yes") == "yes"
    assert bench.said[-1] == "this is said to bob; the answer about the words is /same"
    bench.talk.asks = False
    bench.words.asked(("c", "d"))
    assert bench.said[-1] == "/same if the other one reads the same words; /differ if not"
    assert bench.words.answer("yes") == "yes"


def test_a_yes_answers_where_no_line_of_the_peer_is_shown_before_it(bench: Bench) -> None:
    bench.talk.held = True
    bench.words.asked(("c", "d"))
    assert bench.words.answer("y") == "/same"


def test_no_lines_of_the_history_are_none(bench: Bench) -> None:
    bench.store.remember([("here", Line(b"", "one", 1)), ("here", Line(b"", "two", 1))])
    bench.commands.run("/history 0")
    assert bench.said == ["/history takes a number of lines, 1 at least"]
    assert bench.store.history(0) == []
    assert [line.text for _, line in bench.store.history(1)] == ["two"]


def test_an_overlong_last_line_without_its_end_is_counted() -> None:
    source, feed = os.pipe()
    reader = LineInput(source)
    os.write(feed, b"x" * (LINE_MAX + 1))
    os.close(feed)
    assert reader.read() == [TOO_LONG]
    assert reader.read() is None
    os.close(source)


def test_a_last_line_that_is_overlong_by_parts_is_counted_once() -> None:
    source, feed = os.pipe()
    reader = LineInput(source)
    os.write(feed, b"y\n" + b"x" * (LINE_MAX + 1))
    assert reader.read() == ["y"]
    os.write(feed, b"x")
    os.close(feed)
    assert reader.read() == [TOO_LONG]
    assert reader.read() is None
    os.close(source)
