"""What is typed in a chat: lines and commands are taken from the input as far as the peer takes lines.

Laws:

1. No line is read that there is no room for, so whoever writes into a pipe waits; a person is told instead, since
   commands must go on working while nobody takes lines.
2. An input that waits ends with the timeout when nothing is delivered meanwhile, unless the chat is to stay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from twisted.python.failure import Failure

from p2pxfer.cli.chatlines import TOO_LONG, LineInput
from p2pxfer.cli.chatmanners import Manners
from p2pxfer.core.session.chatwire import MAX_TEXT
from p2pxfer.core.session.conversation import Conversation
from p2pxfer.errors import Incomplete, LimitReached, P2pxferError
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker

TAKEN: Final = 256
"""How many lines without a receipt there may be before no more input is taken."""


class ChatTyping:
    """``answer`` gives the command that a line means as an answer to what was asked, and other lines as they are.

    ``ended`` is called at the end of the input, ``end`` when the chat is over for it.
    """

    def __init__(
        self,
        reactor: Reactor,
        conversation: Conversation,
        manners: Manners,
        peer: str,
        *,
        terminal: bool,
        command: Callable[[str], None],
        answer: Callable[[str], str],
        say: Callable[[str], None],
        note: Callable[[str], None],
        ended: Callable[[], None],
        end: Callable[[P2pxferError], None],
        fault: Callable[[Failure], None],
    ) -> None:
        self._reactor = reactor
        self._conversation = conversation
        self._manners = manners
        self._peer = peer
        self._terminal = terminal
        self._commands = terminal or manners.commands
        self._command, self._say, self._note = command, say, note
        self._answer = answer
        self._when_ended, self._end, self._fault = ended, end, fault
        self._worker = Worker(reactor, "input")
        self._input = LineInput(0)
        self._backlog: deque[str] = deque()
        self._reading = False
        self._stopped = False
        self._dropped = 0
        self._delivered = 0
        self._watched = False

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True
        self._worker.stop()

    @property
    def failed(self) -> P2pxferError | None:
        """What is wrong when a program's lines were not all taken; a person has seen it."""
        if self._terminal or not self._dropped:
            return None
        return LimitReached(f"{self._dropped} of the lines were not sent")

    def read(self) -> None:
        """Wait for lines."""
        if self._reading or self._stopped:
            return
        self._reading = True
        self._worker.do(self._input.read).addCallback(self._lines).addErrback(self._fault)

    def delivered(self) -> None:
        """There is room for one more line."""
        self._delivered += 1
        self.take()

    def _lines(self, lines: list[str] | None) -> None:
        self._reading = False
        if lines is None:
            self._stopped = True
            self._when_ended()
            return
        self._backlog.extend(lines)
        self.take()

    def take(self) -> None:
        """Say what was read, as far as there is room; then read on."""
        while self._backlog and not self._stopped:
            text = self._backlog[0]
            command = self._commands and text.startswith("/") and not text.startswith("//")
            full = not command and len(self._conversation.pending) >= TAKEN
            if full and not (self._commands and not self._conversation.connected):
                self._watch()
                return
            self._backlog.popleft()
            if self._commands and not command:
                typed, text = text, self._answer(text)
                command = text != typed
            if text == TOO_LONG or len(text) > MAX_TEXT:
                self._drop(f"a line of a chat has at most {MAX_TEXT} characters; this one was not sent")
            elif command:
                self._command(text)
            elif full:
                self._drop(f"{TAKEN} lines wait for {self._peer}; this one was not taken and is not kept")
            elif text or not self._terminal:
                self._say(text.removeprefix("/") if self._commands else text)
        if not self._backlog:
            self.read()

    def _drop(self, why: str) -> None:
        self._dropped += 1
        self._note(why)

    def _watch(self) -> None:
        """Wait for a delivery, not for ever."""
        if not self._watched and not self._manners.stay:
            self._watched = True
            self._note(f"{TAKEN} lines wait for {self._peer}; no more are read until they are taken")
            self._reactor.callLater(self._manners.timeout, self._stalled, self._delivered)

    def _stalled(self, before: int) -> None:
        if self._stopped or not self._backlog:
            self._watched = False
        elif self._delivered > before:
            self._reactor.callLater(self._manners.timeout, self._stalled, self._delivered)
        else:
            timeout = self._manners.timeout
            self._end(
                Incomplete(
                    f"{self._peer} has taken no line within {timeout:g} seconds; {TAKEN} wait, and what the input has"
                    " beyond them is not kept"
                )
            )
