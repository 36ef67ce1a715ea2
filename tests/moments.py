"""Looking at a value that is about to change, in a way that the type checker takes for no more than a look."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def for_now(value: T) -> T:
    """``value``, and no promise for later.

    After ``assert machine.state is State.IDLE`` the type checker takes the state for idle in all that follows, whatever
    is called on the machine: what is asserted of it next counts as unreachable and is not checked.  After
    ``assert for_now(machine.state) is State.IDLE`` it does not.
    """
    return value
