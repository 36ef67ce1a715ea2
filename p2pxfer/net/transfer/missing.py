"""What a user may have meant who names a file that is not there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Final

from p2pxfer.net.disk import shown

_MOST_WORDS: Final = 8
"""So many words may be one name with spaces."""
_MOST_LISTED: Final = 2000
"""So many names of a directory are looked at."""
_LIKE: Final = 0.7
_PATTERN: Final = frozenset("*?[")


def advice(paths: Sequence[str], missing: str) -> str:
    """What to do about ``missing``, one of ``paths`` as they were given, as the end of a sentence.

    Empty where there is nothing to say.  Blocks for as long as a directory takes to be listed.  Raises nothing.
    """
    with suppress(OSError, ValueError, RuntimeError):
        return next(_found(paths, missing), "")
    return ""


def _found(paths: Sequence[str], missing: str) -> Iterator[str]:
    for words in _neighbours(paths, paths.index(missing)):
        if Path(words).exists():
            yield f"; {shown(words)} does: put a name with spaces in quotes"
    if missing.startswith("~") and Path(missing).expanduser().exists():
        yield "; the shell puts the home directory in place of ~ only without quotes"
    folder, name = Path(missing).parent, Path(missing).name
    if not folder.is_dir():
        yield f"; nor does the directory {shown(str(folder))}"
    if _PATTERN & set(name):
        yield "; nothing there matches it"
    near = _near(folder, name)
    if near:
        yield f"; did you mean {' or '.join(shown(str(folder / each)) for each in near)}?"
    if not Path(missing).is_absolute():
        yield f"; it was looked for in {shown(str(Path.cwd()))}"


def _neighbours(paths: Sequence[str], at: int) -> Iterator[str]:
    """What the words beside it make with it."""
    for first in range(max(0, at - _MOST_WORDS), at + 1):
        for last in range(max(at, first + 1), min(len(paths), first + _MOST_WORDS)):
            yield " ".join(paths[first : last + 1])


def _near(folder: Path, name: str) -> list[str]:
    """Names in the directory that are like this one, whatever their case."""
    with os.scandir(folder) as listing:
        there = {each.name.casefold(): each.name for each in islice(listing, _MOST_LISTED)}
    return [there[each] for each in get_close_matches(name.casefold(), there, n=2, cutoff=_LIKE)]
