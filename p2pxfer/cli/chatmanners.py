"""How the user of a chat wants it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Manners(Struct, frozen=True):
    """How the user wants it: see the options of the command."""

    destination: str
    acceptance: Literal["ask", "contacts", "none"]
    history: bool
    commands: bool
    verify: bool
    stay: bool
    timeout: float
