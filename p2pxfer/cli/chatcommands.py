"""What a line that begins with a slash asks for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from p2pxfer.cli.chatfiles import ChatFiles
from p2pxfer.cli.chatwords import ChatWords
from p2pxfer.cli.newcontact import today
from p2pxfer.core.text import safe_text
from p2pxfer.errors import P2pxferError
from p2pxfer.net.services.chatstore import ChatStore

HELP: Final = (
    "/send PATH     send a file or directory\n"
    "/accept        take what is offered (with --accept ask), /refuse refuses them\n"
    "/verify        show eight words here and there, to be compared by voice: then /same or /differ\n"
    "/history [N]   show the last N lines of the history, 20 without N\n"
    "/quit          end the chat; lines that wait are kept\n"
    "//text         say a line that begins with a slash"
)
HISTORY: Final = 20
HISTORY_MAX: Final = 1000


class ChatCommands:
    """Carries them out; ``say`` shows a line to the user, ``leave`` ends the chat."""

    def __init__(
        self,
        files: ChatFiles,
        store: ChatStore,
        peer: str,
        words: ChatWords,
        say: Callable[[str], None],
        leave: Callable[[], None],
    ) -> None:
        self._files = files
        self._store = store
        self._peer = peer
        self._words = words
        self._say = say
        self._leave = leave

    def run(self, text: str) -> None:
        """One line, which begins with a slash; what goes wrong is said, and the chat goes on."""
        word, _, rest = text.strip().partition(" ")
        try:
            self._run(word, rest.strip())
        except P2pxferError as error:
            self._say(f"{word}: {error.message}")
        except (RuntimeError, OSError) as error:  # the first is the home of a user that does not exist
            self._say(f"{word}: {safe_text(str(error), 200)}")

    def _run(self, word: str, rest: str) -> None:
        match word:
            case "/quit" | "/q":
                self._leave()
            case "/help" | "/?":
                for line in HELP.splitlines():
                    self._say(line)
            case "/send" if rest:
                self._files.send(str(Path(_unquoted(rest)).expanduser()))
            case "/send":
                self._say("/send needs a PATH")
            case "/accept" | "/refuse":
                if not self._files.answer(word == "/accept"):
                    self._say("nothing is offered")
            case "/verify":
                self._words.ask()
            case "/same":
                self._words.same(today())
            case "/differ":
                self._words.differ()
            case "/history":
                self._history(rest)
            case _:
                self._say(f"there is no command {safe_text(word, 40)}; /help names them, // begins a line with a slash")

    def _history(self, count: str) -> None:
        if count and not (count.isascii() and count.isdigit() and int(count[:9])):
            self._say("/history takes a number of lines, 1 at least")
            return
        try:
            lines = self._store.history(min(int(count[:9] or HISTORY), HISTORY_MAX))
        except OSError as error:
            self._say(f"the history cannot be read: {error.strerror}")
            return
        for side, line in lines:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(min(line.at, 2**40)))
            self._say(f"{when} {'me' if side == 'here' else self._peer}: {safe_text(line.text, 400)}")
        if not lines:
            self._say("the history is empty")


def _unquoted(path: str) -> str:
    """A path without the quotes that a shell would want around one with spaces."""
    quoted = len(path) > 2 and path[0] == path[-1] and path[0] in "\"'"
    return path[1:-1] if quoted else path
