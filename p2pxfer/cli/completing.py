"""What may follow on the command line: names of contacts, words of a code.

Nothing here complains or makes anything: whoever presses the tab key wants candidates or nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from click import Context, Parameter
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from p2pxfer.core.contact.codes import WORDS_PER_CODE, normalise_code
from p2pxfer.core.contact.wordlist import WORDS
from p2pxfer.core.text import safe_text


def _home(ctx: Context) -> Path | None:
    """The private directory, if it is there; it is not made."""
    from p2pxfer.net.private.home import default_home

    named = ctx.find_root().params.get("home")
    path = Path(named) if named else default_home(os.environ)
    return path if path.is_dir() else None


def contact_names(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """The contacts whose names begin like this."""
    from p2pxfer.errors import P2pxferError
    from p2pxfer.net.private.home import Home

    path = _home(ctx)
    if path is None:
        return []
    with suppress(P2pxferError, OSError):
        return [
            CompletionItem(safe_text(contact.name), help=f"verified by {contact.verified}")
            for contact in Home(path).contacts()
            if contact.name.startswith(incomplete)
        ]
    return []


def job_numbers(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """The jobs whose numbers begin like this."""
    from p2pxfer.cli.jobs import everything
    from p2pxfer.errors import P2pxferError
    from p2pxfer.net.private.home import Home

    path = _home(ctx)
    if path is None:
        return []
    with suppress(P2pxferError, OSError):
        return [
            CompletionItem(job.job, help=safe_text(f"{', '.join(job.names[:2])} {job.state}", 60))
            for _, job in everything(Home(path))
            if job.job.startswith(incomplete.lower())
        ]
    return []


def paths_and_contacts(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """For ``send PATH... PEER``: files; behind the first one contacts, if any fits."""
    names = contact_names(ctx, param, incomplete) if ctx.params.get("peer") else []
    return names or [CompletionItem(incomplete, type="file")]


def code_words(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """The codes, as far as the word that is being typed, that begin like this."""
    whole = completed_codes(incomplete)
    return [CompletionItem(text, type="part" if text.endswith("-") else "plain") for text in whole]


def completed_codes(text: str) -> list[str]:
    """Every way to go on with the word at the end of a code; a dash follows where another word must."""
    start, dash, word = normalise_code(text).rpartition("-")
    number, *before = start.split("-")
    if not dash or not (number.isascii() and number.isdigit()) or len(before) >= WORDS_PER_CODE:
        return []
    end = "" if len(before) == WORDS_PER_CODE - 1 else "-"
    return [f"{start}-{each}{end}" for each in WORDS if each.startswith(word)]


class BashWithParts(BashComplete):
    """Adds no space behind a part of a code."""

    name = "bash"
    source_template = BashComplete.source_template.replace(
        "elif [[ $type == 'plain' ]]; then",
        "elif [[ $type == 'part' ]]; then\n"
        "            COMPREPLY+=($value)\n"
        "            compopt -o nospace\n"
        "        elif [[ $type == 'plain' ]]; then",
    )


def prepare() -> None:
    """Let click's completion use what is here."""
    add_completion_class(BashWithParts)


@contextmanager
def codes_at_the_prompt() -> Iterator[None]:
    """While a code is typed at a prompt, the tab key completes its words, where the system has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    found: list[str] = []

    def complete(text: str, state: int) -> str | None:
        """The ``state``-th way to go on from ``text``, as readline asks for them, one by one."""
        if state == 0:
            found[:] = completed_codes(text)
        return found[state] if state < len(found) else None

    before, delimiters = readline.get_completer(), readline.get_completer_delims()
    readline.set_completer(complete)
    readline.set_completer_delims(" ")
    readline.parse_and_bind("tab: complete")
    try:
        yield
    finally:
        readline.set_completer(before)
        readline.set_completer_delims(delimiters)
