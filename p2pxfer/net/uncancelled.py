"""Work that has to come to its end once it has begun: whoever cancels it does so too late."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from p2pxfer.net.waiting import Waiting

P = ParamSpec("P")
R = TypeVar("R")


def uncancelled(work: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """The same coroutine function; what it makes ends as if nobody had cancelled it, and whoever did waits for that."""

    @wraps(work)
    async def to_the_end(*args: P.args, **keywords: P.kwargs) -> R:
        """Wait for the end by Deferreds on which the work does not depend."""
        outcome: list[R | Failure] = []
        end = Waiting()

        def ended(result: R | Failure) -> None:
            """It is over, well or not."""
            outcome.append(result)
            end.come()

        Deferred.fromCoroutine(work(*args, **keywords)).addBoth(ended)
        while not outcome:
            with suppress(CancelledError):
                await end.moment()
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]

    return to_the_end
