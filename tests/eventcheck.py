"""What a program prints as events is held against the published schema, in every test."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from scripts.docslib.schema import FILE, Schema

_PUBLISHED: dict[str, Schema] = json.loads(FILE.read_text())["$defs"]
_VALIDATORS = {
    # Later versions may add fields, this one has none that is not published.
    name: Draft202012Validator({**schema, "additionalProperties": False})
    for name, schema in _PUBLISHED.items()
}


def fault_in(event: dict[str, Any]) -> str | None:
    """What is wrong with an event, or ``None``."""
    validator = _VALIDATORS.get(event.get("event", ""))
    if validator is None:
        return f"no such event is published: {event}"
    for error in validator.iter_errors(event):
        return f"{error.message}: {event}"
    return None


class Faults:
    """Collects what is wrong with the events of the programs of a test; called from their readers' threads."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def hear(self, event: dict[str, Any]) -> None:
        """Check one line of a program that prints JSON objects, if it is an event of the product."""
        if {"event", "t"} <= event.keys() and (fault := fault_in(event)):
            self.found.append(fault)
