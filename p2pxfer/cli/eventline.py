"""An event as one line of JSON; nothing here imports Twisted."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pxfer.status import Event

_STARTED = time.monotonic()


def event_line(event: Event, t: float) -> str:
    """The line, without its end; ``t`` in seconds since the start of the command."""
    fields = {field: getattr(event, field) for field in event.__struct_fields__}
    return json.dumps({"event": event.event, "t": round(t, 4), **fields})


def print_event(event: Event) -> None:
    """Print one event of a command that prints no more than a few, at once."""
    sys.stdout.write(event_line(event, time.monotonic() - _STARTED) + "\n")
    sys.stdout.flush()
