"""The inviter's open one-time codes: this is where one code is held to one attempt.

Pure: `now` is an argument, in seconds on the caller's monotonic clock.

Laws:

- A code is handed out at most once, and never when its lifetime is over; `take` closes it whatever happens next.
- At most `limit` codes are open at a time.
- Slots are proposed in ascending order, so an old code does not hit a newer one.
- Wrong tries in a row cost ever longer pauses and then the end of fresh codes: a guesser gets a handful of tries.
"""

from __future__ import annotations

from typing import Final

from p2pxfer.core.contact.codes import MAX_SLOT, Code
from p2pxfer.errors import UsageError, WrongCode

NOT_OPEN_TEXT: Final = "no such code is open: it was used already, has expired, or its number was mistyped"
"""What whoever tries a code hears that is not open; its number is no secret."""
CODE_LIFETIME: Final = 600.0
OPEN_CODES: Final = 8
FRESH_PAUSES: Final = (0.0, 5.0, 30.0, 120.0)
"""Seconds without a code after the first, second, ... wrong try in a row; after one more there is no further code."""


class CodeBook:
    """Open codes by slot, which is one of `slots`; at most `limit` of them, each for `lifetime` seconds."""

    def __init__(
        self, limit: int = OPEN_CODES, lifetime: float = CODE_LIFETIME, slots: range = range(1, MAX_SLOT + 1)
    ) -> None:
        self._limit = limit
        self._lifetime = lifetime
        self._slots = slots
        self._last_slot = slots[-1]
        self._open: dict[int, tuple[str, float]] = {}

    @property
    def next_slot(self) -> int:
        """The slot for the next code."""
        slot = self._after(self._last_slot)
        while slot in self._open:
            slot = self._after(slot)
        return slot

    def _after(self, slot: int) -> int:
        return slot + 1 if slot in self._slots and slot != self._slots[-1] else self._slots[0]

    def open(self, code: Code, now: float) -> float:
        """Opens a code and returns when it ends. Raises `UsageError` if its slot is open or the book is full."""
        self.expire(now)
        if code.slot in self._open:
            raise UsageError(f"code number {code.slot} is open already")
        if len(self._open) >= self._limit:
            raise UsageError(f"{self._limit} codes are open; use one or wait until one ends")
        ends = now + self._lifetime
        self._open[code.slot] = (code.secret, ends)
        self._last_slot = code.slot
        return ends

    def take(self, slot: int, now: float) -> str:
        """The words of an open code, which is closed by this call. Raises `WrongCode` if there is none."""
        words, ends = self._open.pop(slot, ("", now))
        if ends <= now:
            raise WrongCode(NOT_OPEN_TEXT)
        return words

    def expire(self, now: float) -> tuple[int, ...]:
        """Closes the codes whose time is over and returns their slots."""
        over = tuple(slot for slot, (_words, ends) in self._open.items() if ends <= now)
        for slot in over:
            del self._open[slot]
        return over

    def close(self, slot: int) -> None:
        """Closes a code early; does nothing if it is not open."""
        self._open.pop(slot, None)

    @property
    def open_slots(self) -> tuple[int, ...]:
        """The slots not yet taken, in the order they were opened."""
        return tuple(self._open)


class WrongTries:
    """Wrong tries in a row, and how long no fresh code may be shown after each."""

    def __init__(self) -> None:
        self._count = 0

    def wrong(self) -> float | None:
        """A code was burned by a wrong try: seconds until the next may be shown, None when there is none any more."""
        self._count += 1
        return FRESH_PAUSES[self._count - 1] if self._count <= len(FRESH_PAUSES) else None

    def right(self) -> None:
        """Somebody proved a code: the next wrong try is the first again."""
        self._count = 0
