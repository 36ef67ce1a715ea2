"""Which files the other end may say are left out."""

from __future__ import annotations

import pytest

from p2pxfer.core.framing import FrameDecoder
from p2pxfer.core.session.leftwire import MAX_LEFT, LeftOut, check_left
from p2pxfer.core.session.wire import PEER, SESSION_CAPS
from p2pxfer.errors import ProtocolBreach


@pytest.mark.parametrize("files", [[], [0], [0, 1, 4], [4]])
def test_listed_files_in_order_are_taken(files: list[int]) -> None:
    assert check_left(files, 5) == set(files)


@pytest.mark.parametrize("files", [[5], [0, 5], [1, 0], [2, 2], [4, 0]])
def test_others_are_refused(files: list[int]) -> None:
    with pytest.raises(ProtocolBreach):
        check_left(files, 5)


def test_as_many_as_there_may_be_fit_into_one_message() -> None:
    message = LeftOut(2**32 - 1, list(range(2**32 - MAX_LEFT, 2**32)))
    (frame,) = FrameDecoder(SESSION_CAPS).feed(PEER.encode(message))
    assert PEER.decode(frame) == message
