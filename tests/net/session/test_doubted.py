"""Paths that may be dead are kept until another one stands, and end then."""

from __future__ import annotations

from typing import Any

from p2pxfer.errors import P2pxferError
from p2pxfer.net.session.doubted import REPLACED, Doubted


class Path:
    """A path that tells whoever doubts it when it ends, as a session does."""

    def __init__(self, doubted: Doubted) -> None:
        self._doubted = doubted
        self.ended: list[str] = []

    def fail(self, error: P2pxferError) -> None:
        self.ended.append(error.message)
        path: Any = self
        self._doubted.lost(path)


def two() -> tuple[Doubted, Any, Any]:
    doubted = Doubted()
    return doubted, Path(doubted), Path(doubted)


def test_they_stay_until_another_path_stands() -> None:
    doubted, one, other = two()
    assert not doubted
    doubted.doubt([one, other])
    assert doubted
    assert one.ended == other.ended == []
    doubted.drop()
    assert one.ended == other.ended == [REPLACED]
    assert not doubted


def test_one_that_ended_by_itself_is_not_ended_again() -> None:
    doubted, one, other = two()
    doubted.doubt([one, other])
    doubted.lost(one)
    assert doubted
    doubted.lost(other)
    assert not doubted
    doubted.drop()
    assert one.ended == other.ended == []


def test_of_two_losses_the_last_one_counts() -> None:
    doubted, one, other = two()
    doubted.doubt([one])
    doubted.doubt([other])
    doubted.drop()
    assert (one.ended, other.ended) == ([], [REPLACED])
