from __future__ import annotations

import pytest

from p2pxfer.core.buffers import SMALLEST, BufferPool


def test_memory_is_used_again_for_the_same_size() -> None:
    pool = BufferPool(smallest=0)
    first = pool.take(1000)
    under = first.obj
    pool.give(first)
    assert pool.take(1000).obj is under
    assert pool.take(1000).obj is not under


def test_the_memory_that_came_back_last_is_used_first() -> None:
    pool = BufferPool(smallest=1)
    views = [pool.take(1000) for _ in range(3)]
    unders = [id(view.obj) for view in views]
    for view in views:
        pool.give(view)
    views = [pool.take(1000) for _ in range(3)]
    assert [id(view.obj) for view in views] == unders[::-1]


def test_a_smaller_request_gets_a_view_of_its_own_size() -> None:
    pool = BufferPool(smallest=0)
    pool.give(pool.take(1000))
    assert len(pool.take(600)) == 600
    assert len(pool.take(10)) == 10


def test_what_was_given_back_cannot_be_used() -> None:
    pool = BufferPool(smallest=0)
    view = pool.take(10)
    pool.give(view)
    with pytest.raises(ValueError, match="released"):
        view[0] = 1


def test_what_waits_is_bounded() -> None:
    pool = BufferPool(kept=1500, smallest=0)
    views = [pool.take(1000), pool.take(1000)]
    unders = [view.obj for view in views]
    for view in views:
        pool.give(view)
    assert pool.take(1000).obj is unders[0]
    assert pool.take(1000).obj is not unders[1]


def test_small_pieces_are_not_kept() -> None:
    pool = BufferPool()
    small, large = pool.take(SMALLEST - 1), pool.take(SMALLEST)
    kept = large.obj
    pool.give(small)
    pool.give(large)
    assert pool.take(SMALLEST - 1).obj is kept
    assert pool.take(SMALLEST - 1).obj is not kept
