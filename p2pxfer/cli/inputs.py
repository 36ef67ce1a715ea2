"""What a command gets besides its words: answers at standard input, a code from a file or the environment."""

from __future__ import annotations

import os
import select
import stat
import sys
from pathlib import Path

from p2pxfer.core.contact.codes import Code, typed_code
from p2pxfer.core.text import safe_text
from p2pxfer.errors import UsageError


def can_answer(descriptor: int) -> bool:
    """Whether a person or a program may write answers there: not to a null device, and not to a pipe without writer."""
    if os.isatty(descriptor):
        return True
    if stat.S_ISCHR(os.fstat(descriptor).st_mode):
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return not any(event & select.POLLHUP and not event & select.POLLIN for _, event in poll.poll(0))


def check_answerable(verify: bool) -> None:
    """Fail early where nobody can say whether the words are the same.

    Raises:
        UsageError: standard input is neither a terminal nor a pipe that somebody writes to.
    """
    if verify and (sys.stdin is None or not can_answer(0)):
        raise UsageError("--verify needs somebody who compares words, and standard input is no terminal")


def read_code(code_file: str | None) -> Code | None:
    """The code from the file or the environment, if it is there; read as one that is typed.

    Raises:
        CodeInvalid: it is not a code.
        UsageError: the file cannot be read.
    """
    text = os.environ.get("P2PXFER_CODE")
    if code_file is not None:
        try:
            with Path(code_file).open(encoding="utf-8") as file:
                text = file.read(200)
        except UnicodeDecodeError as error:
            raise UsageError("the code file cannot be read as text") from error
        except OSError as error:
            shown = safe_text(code_file, 300)
            reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
            raise UsageError(f"the code file '{shown}' {reason}") from error
    return typed_code(text) if text else None
