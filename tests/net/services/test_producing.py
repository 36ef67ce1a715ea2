"""A producer hears when to write, and is asked for pieces one after the other and never one inside another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.interfaces import IProducer

from p2pxfer.net.services.producing import Producing


class Line:
    """What has ``room`` for so many pieces before something does not fit."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.written: list[str] = []
        self.depth = 0
        self.deepest = 0
        self.producing = Producing(self._call)

    def _call(self, call: Callable[[], object]) -> None:
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)
        call()
        self.depth -= 1

    def register(self, producer: Any, *, streaming: bool) -> None:
        registered: IProducer = producer
        self.producing.register(registered, streaming)
        self._say()

    def unregister(self) -> None:
        self.producing.unregister()
        self._say()

    def write(self, piece: str) -> None:
        self.written.append(piece)
        self._say()

    def make_room(self, room: int) -> None:
        self.room += room
        self._say()

    def _say(self) -> None:
        if len(self.written) <= self.room:
            self.producing.go_on()
        else:
            self.producing.hold_back()


class Push:
    """A push producer that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class Pull:
    """A pull producer of ``pieces``; after the last one it calls ``then``."""

    def __init__(self, line: Line, pieces: list[str], then: Callable[[], None] = lambda: None) -> None:
        self.line = line
        self.pieces = pieces
        self.then = then
        self.asked = 0
        self.stopped = 0

    def resumeProducing(self) -> None:
        self.asked += 1
        if self.pieces:
            self.line.write(self.pieces.pop(0))
        else:
            self.line.unregister()
            self.then()

    def stopProducing(self) -> None:
        self.stopped += 1


def test_a_push_producer_is_paused_once_and_resumed_once() -> None:
    line, producer = Line(room=1), Push()
    line.register(producer, streaming=True)
    for piece in "abcd":
        line.write(piece)
    assert producer.told == ["pause"]
    line.make_room(1)
    assert producer.told == ["pause"]
    line.make_room(5)
    line.make_room(5)
    assert producer.told == ["pause", "resume"]


def test_one_that_comes_when_something_does_not_fit_is_paused_at_once() -> None:
    line, producer = Line(room=0), Push()
    line.write("a")
    line.register(producer, streaming=True)
    assert producer.told == ["pause"]
    assert line.producing.registered


def test_a_pull_producer_is_asked_as_often_as_it_answers_at_once() -> None:
    line = Line()
    producer = Pull(line, list("abc"))
    line.register(producer, streaming=False)
    assert line.written == list("abc")
    assert producer.asked == 4
    assert line.deepest == 1
    assert not line.producing.registered


def test_one_whose_answer_does_not_fit_is_asked_when_it_does() -> None:
    line = Line(room=2)
    producer = Pull(line, list("abcde"))
    line.register(producer, streaming=False)
    assert line.written == list("abc")
    line.make_room(1)
    assert line.written == list("abcd")
    line.make_room(10)
    assert line.written == list("abcde")
    assert line.deepest == 1


class Slow(Pull):
    """It answers after the call."""

    def resumeProducing(self) -> None:
        self.asked += 1


def test_one_that_answers_later_is_asked_again_then() -> None:
    line = Line()
    producer = Slow(line, [])
    line.register(producer, streaming=False)
    assert producer.asked == 1
    line.write("a")
    assert producer.asked == 2
    line.unregister()
    line.write("b")
    assert producer.asked == 2


def test_a_long_row_of_producers_is_asked_one_after_the_other_and_not_one_inside_another() -> None:
    line = Line()

    def register(number: int) -> None:
        if number < 2000:
            producer = Pull(line, [str(number)] if number % 2 else [], lambda: register(number + 1))
            line.register(producer, streaming=False)

    register(0)
    assert line.written == [str(number) for number in range(1, 2000, 2)]
    assert line.deepest == 1
    assert not line.producing.registered


def test_a_push_producer_in_between_lets_nobody_be_asked_inside_of_an_answer() -> None:
    line = Line()

    def register(left: int) -> None:
        line.register(Push(), streaming=True)
        line.unregister()
        if left:
            line.register(Pull(line, [str(left)], lambda: register(left - 1)), streaming=False)

    line.register(Pull(line, [], lambda: register(5)), streaming=False)
    assert line.written == list("54321")
    assert line.deepest == 1
    assert not line.producing.registered


def test_a_push_producer_that_comes_inside_of_an_answer_is_paused_and_resumed_there_and_after_it() -> None:
    line, after = Line(room=1), Push()

    def register() -> None:
        line.register(after, streaming=True)
        line.write("b")
        line.make_room(1)
        line.write("c")

    line.register(Pull(line, ["a"], register), streaming=False)
    assert after.told == ["pause", "resume", "pause"]
    line.make_room(1)
    assert after.told == ["pause", "resume", "pause", "resume"]


def test_one_that_takes_the_place_of_another_waits_where_its_last_piece_does_not_fit() -> None:
    line = Line(room=0)
    after = Pull(line, ["b"])

    class Last(Pull):
        """Its last piece is the end."""

        def resumeProducing(self) -> None:
            line.write("a")
            line.unregister()
            line.register(after, streaming=False)

    line.register(Last(line, []), streaming=False)
    assert line.written == ["a"]
    assert after.asked == 0
    line.make_room(1)
    assert line.written == ["a", "b"]


def test_a_push_producer_may_take_the_place_of_one_that_is_being_asked() -> None:
    line, after = Line(), Push()
    line.register(Pull(line, ["a"], lambda: line.register(after, streaming=True)), streaming=False)
    line.room = 1
    line.write("b")
    assert after.told == ["pause"]
    line.unregister()
    line.room = 10
    line.register(Pull(line, ["c"]), streaming=False)
    assert line.written == ["a", "b", "c"]


def test_there_is_one_at_a_time() -> None:
    line = Line()
    line.register(Push(), streaming=True)
    with pytest.raises(RuntimeError, match="already"):
        line.register(Push(), streaming=True)


def test_it_is_stopped_once() -> None:
    line, producer = Line(), Push()
    line.register(producer, streaming=True)
    line.producing.stop()
    line.producing.stop()
    assert producer.told == ["stop"]
    assert not line.producing.registered


def test_one_that_is_stopped_while_it_is_asked_is_asked_no_more() -> None:
    line = Line()
    producer = Pull(line, ["a", "b"])

    def write(piece: str) -> None:
        Line.write(line, piece)
        line.producing.stop()

    line.write = write  # type: ignore[method-assign]  # the connection is lost while it writes
    line.register(producer, streaming=False)
    assert (line.written, producer.asked, producer.stopped) == (["a"], 1, 1)
    later = Pull(line, [])
    line.register(later, streaming=False)
    assert later.asked == 1
