from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pxfer import status
from p2pxfer.cli.chatcommands import ChatCommands
from p2pxfer.cli.chatlines import LINE_MAX, TOO_LONG, LineInput
from p2pxfer.cli.chatwords import ChatWords
from p2pxfer.cli.newcontact import today
from p2pxfer.core.ids import PeerId
from p2pxfer.core.session.conversation import Line
from p2pxfer.core.session.pathchoice import OVER
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.services.chatstore import ChatStore
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.status import Done, Event, Note, RefusedOffer

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
        self.sent: list[str] = []
        self.asking = False
        self.home = Home(folder / "home")
        self.store = ChatStore(self.home.path, KEY)
        self.talk = Talk()
        files: Any = self
        talk: Any = self.talk
        end: Callable[[object], None] = lambda error: pytest.fail(str(error))  # noqa: E731
        words = self.words = ChatWords(
            self.home, KnownPeer(KEY, "bob", "contact"), talk, self.said.append, end, lambda: self.asking
        )
        self.commands = ChatCommands(files, self.store, "bob", words, self.said.append, lambda: None)

    def send(self, path: str) -> None:
        self.sent.append(path)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_home_that_nobody_has_is_said(bench: Bench) -> None:
    bench.commands.run("/send ~nosuchuserhere/x")
    assert bench.said == ["/send: Could not determine home directory."]
    assert bench.sent == []


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ('"/path/my docs/x"', "/path/my docs/x"),
        ("'/path/my docs/x'", "/path/my docs/x"),
        ("/path/my docs/x", "/path/my docs/x"),
        ('"/path/x', '"/path/x'),
        ('"', '"'),
        ('""', '""'),
    ],
)
def test_quotes_around_a_path_are_not_part_of_it(bench: Bench, typed: str, path: str) -> None:
    bench.commands.run(f"/send {typed}")
    assert bench.sent == [path]


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


@pytest.mark.parametrize(
    "event",
    [
        Note("not received: the peer reports: is that you? (yes or no)"),
        Done(1, 1, 1.0, {}, "", ("is that you? (yes or no)",)),
        RefusedOffer("is that you? (yes or no)"),
        status.Path("direct", "down", "", "", None, 0, "is that you? (yes or no)"),
    ],
)
def test_a_yes_behind_other_text_that_the_peer_chose_is_no_answer(bench: Bench, event: Event) -> None:
    bench.commands.run("/verify")
    bench.words.told(event)
    assert bench.words.answer("yes") == "yes"
    bench.commands.run("/verify")
    assert bench.words.answer("yes") == "/same"


def test_a_path_that_is_used_and_what_is_not_shown_disturb_no_answer(bench: Bench) -> None:
    bench.commands.run("/verify")
    bench.words.told(status.Path("direct", "active", "", "192.0.2.1:5", 1.0, 20, ""))
    bench.words.told(status.Path("relay", "down", "", "", None, 0, OVER))
    assert bench.words.answer("yes") == "/same"


def test_a_yes_while_an_offer_waits_is_no_answer_about_the_words(bench: Bench) -> None:
    bench.asking = True
    bench.commands.run("/verify")
    assert bench.said[-1] == "/same if the other one reads the same words; /differ if not"
    assert bench.words.answer("yes") == "yes"


def test_a_yes_behind_the_end_of_the_connection_is_no_answer(bench: Bench) -> None:
    bench.commands.run("/verify")
    bench.words.gone()
    assert bench.words.answer("yes") == "yes"


def test_who_may_say_no_line_before_the_answer_is_asked_again(bench: Bench) -> None:
    bench.talk.held = True
    bench.commands.run("/verify")
    bench.words.told(Note("the peer reports: is that you?"))
    assert bench.words.answer("yes") == "/verify"
    bench.commands.run("/verify")
    assert bench.words.answer("yes") == "/same"


def test_the_same_words_from_the_peer_change_nothing(bench: Bench) -> None:
    """Also where its words count and not those of this side."""
    bench.talk.asks = False
    bench.commands.run("/verify")
    said = list(bench.said)
    bench.words.asked(("a", "b"))
    assert bench.said == said
    assert bench.words.answer("yes") == "/same"


def test_words_that_were_compared_are_shown_again(bench: Bench) -> None:
    bench.home.add_contact(Contact("bob", PeerId(KEY), "code", "2026-01-01"))
    for each in ("/verify", "/same", "/verify"):
        bench.commands.run(each)
    assert bench.said[-2] == "compare by voice with bob: a b"
    assert bench.words.answer("yes") == "/same"


def test_how_to_answer_is_said_once_for_each_words(bench: Bench) -> None:
    bench.talk.asks = False
    for words in (("c", "d"), ("e", "f")):
        bench.words.asked(words)
        shown = len(bench.said)
        assert [bench.words.answer(each) for each in ("yes", "No.", "y")] == ["yes", "No.", "y"]
        assert len(bench.said) == shown + 1


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
