"""What a command says whose name another program of the same key has taken."""

from __future__ import annotations

from pathlib import Path

from p2pxfer.core.text import safe_text
from p2pxfer.errors import P2pxferError, Replaced


def displaced(error: P2pxferError, what: str, then: str, home: Path | None = None) -> P2pxferError:
    """``error``; where it is that ``what`` was started again, a sentence that says so, and ``then`` what follows.

    ``home`` is given where an agent does the same: it may be the one.
    """
    if not isinstance(error, Replaced):
        return error
    return Replaced(
        f"{what} was started again with the key of this machine, {_by(home)}here or with a copy of its private"
        f" directory, and the newer one counts: this one has ended; {then}"
    )


def _by(home: Path | None) -> str:
    """Who may have done it; whether an agent runs is seen, and not which names it has."""
    if home is None:
        return ""
    from p2pxfer.net.agent.room import running

    process = running(home)
    return f"by the agent that runs here{process}, by another command " if process else "by an agent or a command "


def kept_in(directory: str) -> str:
    """What becomes of files that were under way into ``directory``: the newer receive may have another one."""
    shown = safe_text(str(Path(directory).absolute()), 300)
    return f"what arrived is kept in {shown}; it goes on when a receive into {shown} runs"
