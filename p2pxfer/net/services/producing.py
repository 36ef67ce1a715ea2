"""The producer that is registered with a transport, and when it writes.

Laws of this file:

1. There is one producer at a time.
2. A push producer is paused once when something does not fit, and resumed once when everything does.
3. A pull producer is asked for a piece when everything fits, and again as long as it answers at once and that fits too.
   Nobody is asked inside of an answer: another one that was registered there is asked when that call has returned.
4. Who is registered when the connection is lost is stopped, once.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from types import MappingProxyType
from typing import Final, cast

from twisted.internet.interfaces import IProducer, IPushProducer


class _State(Enum):
    NONE = "nobody is registered"
    FLOWING = "a push producer writes as it likes"
    PAUSED = "a push producer waits until everything fits"
    PULLED = "a pull producer is asked for a piece when everything fits"
    ASKED = "a piece is being asked for"
    DUE = "a piece is being asked for, and after it the next one, since everything fits"
    LEFT = "a piece was being asked for, and nobody is registered any more"
    FLOWING_INSIDE = "a piece was being asked for, and a push producer that came instead writes as it likes"
    PAUSED_INSIDE = "a piece was being asked for, and a push producer that came instead waits until everything fits"


_ANSWERED: Final = MappingProxyType(
    {
        _State.ASKED: _State.PULLED,
        _State.LEFT: _State.NONE,
        _State.FLOWING_INSIDE: _State.FLOWING,
        _State.PAUSED_INSIDE: _State.PAUSED,
    }
)
_ASKING: Final = frozenset({_State.DUE, *_ANSWERED})
_PAUSED: Final = MappingProxyType({_State.FLOWING: _State.PAUSED, _State.FLOWING_INSIDE: _State.PAUSED_INSIDE})
_RESUMED: Final = MappingProxyType({paused: flowing for flowing, paused in _PAUSED.items()})


class Producing:
    """The producer of one transport, which says what fits; ``call`` makes a call of it and bears its faults."""

    def __init__(self, call: Callable[[Callable[[], object]], None]) -> None:
        self._call = call
        self._state = _State.NONE
        self._producer: IPushProducer | None = None
        """Where it is pulled, it has one method less."""

    @property
    def registered(self) -> bool:
        """Somebody may still write."""
        return self._producer is not None

    def register(self, producer: IProducer, streaming: bool) -> None:
        """Let ``producer`` write, which is a push producer if it is ``streaming``; say next what fits.

        Raises:
            RuntimeError: there is one already.
        """
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        self._producer = cast(IPushProducer, producer)
        inside = self._state is _State.LEFT
        if streaming:
            self._state = _State.FLOWING_INSIDE if inside else _State.FLOWING
        else:
            self._state = _State.ASKED if inside else _State.PULLED

    def unregister(self) -> None:
        """The producer has written everything."""
        self._producer = None
        self._state = _State.LEFT if self._state in _ASKING else _State.NONE

    def stop(self) -> None:
        """The connection is lost."""
        producer = self._producer
        if producer is not None:
            self.unregister()
            self._call(producer.stopProducing)

    def hold_back(self) -> None:
        """Something that was written does not fit."""
        if self._producer is not None and self._state in _PAUSED:
            self._state = _PAUSED[self._state]
            self._call(self._producer.pauseProducing)
        elif self._state is _State.DUE:
            self._state = _State.ASKED

    def go_on(self) -> None:
        """Everything that was written fits."""
        if self._producer is not None and self._state in _RESUMED:
            self._state = _RESUMED[self._state]
            self._call(self._producer.resumeProducing)
        elif self._state is _State.PULLED:
            self._ask()
        elif self._state is _State.ASKED:
            self._state = _State.DUE

    def _ask(self) -> None:
        producer = self._producer
        while producer is not None:
            self._state = _State.ASKED
            self._call(producer.resumeProducing)
            producer = self._next()

    def _next(self) -> IPushProducer | None:
        """After an answer: who is asked now."""
        if self._state is _State.DUE:
            return self._producer
        self._state = _ANSWERED.get(self._state, self._state)
        return None
