"""Sphinx directives for what the pages take from the code: events, errors, settings, and which file does what."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from p2pxfer import errors
from p2pxfer.core.agent.config import AgentConfig, ServiceConfig
from scripts.docslib.schema import COMMON, Schema, event_schemas


class EventReference(SphinxDirective):
    """``.. events::`` is a section for each event: what it means, and its fields."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        return self.parse_text_to_nodes("\n".join(event_lines()), allow_section_headings=True)


class ErrorReference(SphinxDirective):
    """``.. errors::`` is a table of the words of errors, and ``.. errors:: codes`` one of the exit codes."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table."""
        lines = code_lines() if self.arguments == ["codes"] else error_lines()
        return self.parse_text_to_nodes("\n".join(lines))


class ModuleReference(SphinxDirective):
    """``.. modules::`` is a list of all folders of the package and their files, with the first sentence of each."""

    def run(self) -> list[nodes.Node]:
        """The list."""
        return self.parse_text_to_nodes("\n".join(module_lines()))


class AgentConfigReference(SphinxDirective):
    """``.. agent-config::`` is the tables of the keys of ``agent.toml``."""

    def run(self) -> list[nodes.Node]:
        """The tables."""
        return self.parse_text_to_nodes("\n".join(config_lines()))


PACKAGE = Path(errors.__file__).parent


def module_lines() -> Iterator[str]:
    """The list as reStructuredText."""
    folders = [PACKAGE, *sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)]
    for folder in folders:
        yield from (f"``{folder.relative_to(PACKAGE.parent)}``", f"    {opening(folder / '__init__.py')}", "")
        for path in sorted(folder.glob("*.py")):
            if path.stem != "__init__":
                yield f"    - ``{path.stem}``: {opening(path)}"
        yield ""


def opening(path: Path) -> str:
    """The first paragraph of a module's docstring on one line, without the roles of Sphinx."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return re.sub(r":\w+:`~?([^`]*)`", r"``\1``", " ".join(text.partition("\n\n")[0].split()))


def event_lines() -> Iterator[str]:
    """The sections as reStructuredText."""
    for name, schema in event_schemas().items():
        yield from (f".. _event-{name}:", "", f"``{name}``", "-" * (len(name) + 4), "")
        yield from (schema["description"], "")
        fields = [field for field in schema["properties"] if field != "event" and field not in COMMON]
        if fields:
            yield from table(
                ("field", "type"),
                ((f"``{field}``", type_text(schema["properties"][field])) for field in fields),
                (30, 70),
            )


def config_lines() -> Iterator[str]:
    """The tables of the agent's configuration as reStructuredText: what stands alone, and what a service has."""
    _, parts = msgspec.json.schema_components((AgentConfig,), ref_template="{name}")
    for name, head in ((AgentConfig.__name__, "key"), (ServiceConfig.__name__, "key in ``[[services]]``")):
        yield from table(
            (head, "value", "meaning"), (_config_row(*each) for each in keys_of(parts[name])), (20, 30, 50)
        )


def keys_of(part: Schema) -> list[tuple[str, Schema, bool]]:
    """Each key of a table of the configuration, and whether it must be there."""
    return [(key, each, key in part["required"]) for key, each in part["properties"].items()]


def _config_row(key: str, schema: Schema, required: bool) -> tuple[str, str, str]:
    kind = "list of tables" if "$ref" in schema.get("items", {}) else type_text(schema)
    kind = kind.removesuffix(" or null").replace("object", "table")  # TOML has no null: what is left out is none
    default = schema.get("default")
    shown = "; needed" if required else f"; ``{json.dumps(default)}``" if default or default in (0, False) else ""
    return f"``{key}``", f"{kind}{shown}", schema["description"]


def type_text(schema: Schema) -> str:
    """What a field may be, in words."""
    if "enum" in schema:
        return ", ".join(f"``{value}``" if value else "empty" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(map(type_text, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {type_text(schema['items'])}s"
    if schema.get("type") == "object":
        return f"object of {type_text(schema['additionalProperties'])}s"
    return str(schema["type"])


def error_classes() -> Iterator[type[errors.P2pxferError]]:
    """Every error that can be raised, as the file has them."""
    for name, each in vars(errors).items():
        if inspect.isclass(each) and issubclass(each, errors.P2pxferError) and each.__name__ == name:
            yield each


def error_lines() -> Iterator[str]:
    """The table of words as reStructuredText; classes that share a word share its row."""
    rows: dict[tuple[str, int, bool], list[str]] = {}
    for each in error_classes():
        meaning = "A fault of the program." if each.word == "E_INTERNAL" else inspect.cleandoc(each.__doc__ or "")
        rows.setdefault((each.word, each.exit_code, each.retry), []).append(meaning)
    yield from table(
        ("word", "exit code", "again?", "meaning"),
        (
            (f"``{word}``", str(code), "yes" if retry else "no", " ".join(meanings))
            for (word, code, retry), meanings in sorted(rows.items())
        ),
        (22, 12, 10, 56),
    )


def code_lines() -> Iterator[str]:
    """The table of exit codes as reStructuredText."""
    words: dict[int, set[str]] = {0: set()}
    for each in error_classes():
        words.setdefault(each.exit_code, set()).add(f"``{each.word}``")
    yield from table(
        ("exit code", "words"),
        ((str(code), ", ".join(sorted(found)) or "success") for code, found in sorted(words.items())),
        (16, 84),
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    """A list-table as reStructuredText."""
    yield from (".. list-table::", f"   :widths: {' '.join(map(str, widths))}", "   :header-rows: 1", "")
    for row in (head, *rows):
        for number, cell in enumerate(row):
            yield f"   {'* -' if number == 0 else '  -'} {cell}"
    yield ""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("events", EventReference)
    app.add_directive("errors", ErrorReference)
    app.add_directive("modules", ModuleReference)
    app.add_directive("agent-config", AgentConfigReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
