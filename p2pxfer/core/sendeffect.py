"""The effect that both transfer cores share: a message that is to go out on a path."""

from __future__ import annotations

from dataclasses import dataclass

from p2pxfer.core.codec import Message


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``message`` on ``path``."""

    path: int
    message: Message
