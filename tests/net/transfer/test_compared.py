"""A cargo beside which words are compared: whose words are asked about when paths come and go."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from p2pxfer.core.session.channelwire import Compare
from p2pxfer.core.session.wire import Problem
from p2pxfer.errors import IdentityMismatch
from p2pxfer.net.transfer import compared
from p2pxfer.net.transfer.compared import ComparedCargo


class FakePath:
    """A path whose words are its name."""

    peer_key = b"k" * 32

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


class FakeCargo:
    def __init__(self) -> None:
        self.paths: list[Any] = []

    def attach(self, *_: Any) -> None:
        """The job is known."""

    def open_path(self, path: Any) -> None:
        self.paths.append(path)

    def close_path(self, path: Any) -> None:
        self.paths = [one for one in self.paths if one is not path]

    def close(self) -> None:
        """Over."""


class Bench:
    def __init__(self) -> None:
        self.cargo = FakeCargo()
        cargo: Any = self.cargo
        self.asked: list[tuple[str, Deferred[None]]] = []
        self.withdrawn: list[str] = []
        self.gone: list[Any] = []
        self.failed: list[Exception] = []
        self.compared = ComparedCargo(cargo, self._compare, lambda path, words: None, self.gone.append)
        paths: Any = None
        self.compared.attach(paths, lambda root: None, self.failed.append)

    def _compare(self, path: Any, words: tuple[str, ...]) -> Deferred[None]:
        answer: Deferred[None] = Deferred(lambda _: self.withdrawn.append(words[0]))
        self.asked.append((words[0], answer))
        return answer

    def open(self, name: str) -> Any:
        path: Any = FakePath(name)
        self.compared.open_path(path)
        return path


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(compared, "words_on", lambda path: (path.name,))
    return Bench()


def test_the_words_of_the_next_path_are_asked_about_where_the_first_one_dies(bench: Bench) -> None:
    first = bench.open("first")
    bench.compared.close_path(first)
    assert bench.withdrawn == ["first"]
    assert bench.gone == [first]
    second = bench.open("second")
    assert second.sent == [Compare()]
    bench.asked[1][1].callback(None)
    assert bench.cargo.paths == [second]
    assert bench.failed == []


def test_a_path_that_waits_gives_its_words_at_once(bench: Bench) -> None:
    first, second, third = (bench.open(name) for name in ("first", "second", "third"))
    assert [path.sent for path in (first, second, third)] == [[Compare()], [], []]
    bench.compared.close_path(third)
    assert bench.withdrawn == []
    bench.compared.close_path(first)
    assert [name for name, _ in bench.asked] == ["first", "second"]
    assert second.sent == [Compare()]


def test_nothing_is_asked_again_after_an_answer_or_the_end(bench: Bench) -> None:
    first, second = bench.open("first"), bench.open("second")
    bench.asked[0][1].callback(None)
    bench.compared.close_path(first)
    assert bench.cargo.paths == [second]
    assert len(bench.asked) == 1


def test_after_a_no_and_after_the_end_no_path_is_asked_about(bench: Bench) -> None:
    first, second = bench.open("first"), bench.open("second")
    bench.asked[0][1].errback(IdentityMismatch("no"))
    assert [type(message) for message in second.sent] == [Problem]
    bench.compared.close_path(first)
    assert len(bench.asked) == len(bench.failed) == 1
    other = Bench()
    one = other.open("one")
    other.open("two")
    other.compared.close()
    other.compared.close_path(one)
    assert len(other.asked) == 1
