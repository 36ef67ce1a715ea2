"""What :mod:`p2pxfer.core.session.widening` has done about the connections of one group."""

from __future__ import annotations

from msgspec import Struct


class Open(Struct, frozen=True):
    """Open another connection, and tell :meth:`~p2pxfer.core.session.widening.Widening.opened` what came of it."""


class Close(Struct, frozen=True):
    """Give this connection nothing more, and close it."""

    line: int


class Steady(Struct, frozen=True):
    """Take the congestion control that bears loss, or (``on`` false) the usual one again, on every connection; see
    :meth:`~p2pxfer.core.session.widening.Widening.steadied`."""

    on: bool


Order = Open | Close | Steady
