"""The events of ``--json`` as a JSON Schema (2020-12), made from the classes of :mod:`p2pxfer.status`.

    python -m scripts.docslib.schema        prints it; docs/events.schema.json is that text

A program that reads events may check each line against it: a line fits exactly one event, and has all fields that are
required.  More fields may come with later versions, so none that is unknown is forbidden here; the project's own tests
forbid them for themselves.
"""

from __future__ import annotations

import inspect
import json
import typing
from pathlib import Path
from typing import Any, Final

import msgspec

from p2pxfer import status

FILE: Final = Path(__file__).resolve().parents[2] / "docs" / "events.schema.json"
Schema = dict[str, Any]
COMMON: Final[Schema] = {
    "t": {"type": "number", "description": "seconds since the start of the command", "minimum": 0},
}


def events() -> tuple[type[Any], ...]:
    """The class of each event, in the order in which the code lists them."""
    return typing.get_args(status.Event)


def event_schemas() -> dict[str, Schema]:
    """The schema of each event by its name."""
    classes = events()
    _, parts = msgspec.json.schema_components(classes, ref_template="{name}")
    return {each.event: _event(each, parts[each.__name__]) for each in classes}


def _event(each: type[Any], part: Schema) -> Schema:
    properties = {"event": {"const": each.event}, **COMMON, **part["properties"]}
    # Every field is printed, also one that the code has a default for.
    return {
        "description": inspect.cleandoc(each.__doc__ or ""),
        "type": "object",
        "properties": {name: _plain(value) for name, value in properties.items()},
        "required": list(properties),
    }


def _plain(value: Schema) -> Schema:
    return {key: each for key, each in value.items() if key != "default"}


def document() -> Schema:
    """The whole schema: one of the events."""
    parts = event_schemas()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Events of p2pxfer --json",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in parts],
        "$defs": parts,
    }


def text() -> str:
    """What the file holds."""
    return json.dumps(document(), indent=1, sort_keys=False) + "\n"


if __name__ == "__main__":
    print(text(), end="")
