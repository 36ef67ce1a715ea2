"""Questions to whoever sits at standard input, while the reactor runs on."""

from __future__ import annotations

import os
import select
import shutil
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from twisted.internet.defer import DeferredLock

from p2pxfer.cli.report import Reporter
from p2pxfer.core.text import safe_text
from p2pxfer.core.words.eventtext import human_size, size_of
from p2pxfer.net.types import Reactor
from p2pxfer.net.worker import Worker
from p2pxfer.status import Note, Offer

ANSWER_MAX: Final = 4096
"""Most bytes of one typed line; what is longer is no answer."""
WITHDRAWN_S: Final = 0.25
"""How soon the thread that waits for a line sees that nobody wants it any more, seconds."""
YES, NO = (b"y", b"yes"), (b"n", b"no")


class _Typed:
    """Lines of a descriptor, for one thread.

    Not ``sys.stdin``: the lock of its buffer, held by a thread that waits, makes the interpreter abort at exit.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def forget(self) -> bool:
        """Drop what was typed before anybody was asked; whether a terminal is there."""
        terminal = os.isatty(self._descriptor)
        if terminal:
            self._rest = b""
            with suppress(termios.error):
                termios.tcflush(self._descriptor, termios.TCIFLUSH)
        return terminal

    def line(self, withdrawn: threading.Event) -> bytes | None:
        """Wait for the next line; ``None`` when the input has ended, or the question was ``withdrawn``."""
        while b"\n" not in self._rest and len(self._rest) < ANSWER_MAX:
            if withdrawn.is_set():
                return None
            try:
                if not select.select([self._descriptor], [], [], WITHDRAWN_S)[0]:
                    continue
                data = os.read(self._descriptor, ANSWER_MAX)
            except BlockingIOError:
                continue  # somebody else who shares the terminal was faster
            except OSError:
                data = b""
            if not data:
                last, self._rest = self._rest, b""
                return last or None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


class Questions:
    """Asks whoever sits at standard input, one question at a time; where nobody can answer, the answer is no.

    The waiting is done in a daemon thread, so that an open question never keeps the process from ending.
    """

    def __init__(self, reactor: Reactor, report: Reporter, descriptor: int = 0) -> None:
        self._report = report
        self._lock = DeferredLock()
        self._worker = Worker(reactor, "questions")
        self._typed = _Typed(descriptor)

    async def ask(self, compose: Callable[[], str], *, tries: int = 1) -> bool:
        """Whether the answer is yes; ``compose`` gives the question, in a thread, when its turn has come.

        With more than one of ``tries`` an empty line and any slip are no answer, and it is asked again.
        """
        choice, before = "[y/N]" if tries == 1 else "[y/n]", ""

        def question() -> str:
            """The question, and before it what was wrong with the last answer."""
            return f"{before}{compose()} {choice} "

        for _ in range(tries):
            answer = await self.line(question)
            if answer is None:
                self._report.tell(Note("standard input has ended, so nobody can answer: the answer is no"))
                return False
            said = answer.strip().lower()
            if said in YES or said in NO:
                return said in YES
            before = "please answer y or n\n"
        if tries > 1:
            self._report.tell(Note(f"no answer was clear in {tries} tries: it counts as a no"), wanted=True)
        return False

    async def line(self, compose: Callable[[], str]) -> bytes | None:
        """The line that is typed after what ``compose`` gives; ``None`` when standard input has ended.

        Whoever cancels this withdraws the question: what is typed after that answers the next one.
        """
        return await self._lock.run(self._line, compose)

    async def _line(self, compose: Callable[[], str]) -> bytes | None:
        question = await self._worker.do(compose)
        terminal = await self._worker.do(self._typed.forget)
        self._report.ask(question)
        answer: bytes | None = None
        withdrawn = threading.Event()
        try:
            answer = await self._worker.do(self._typed.line, withdrawn)
        finally:
            withdrawn.set()
            self._report.answered(echoed=terminal and answer is not None)
        return answer

    def close(self) -> None:
        """Ask nothing any more; an open question stays without an answer."""
        self._worker.stop()


def compose_question(peer: str, offer: Offer, destination: str) -> str:
    """Whether to take a transfer, with what there is to know; looks at the disk, so it runs in a thread."""
    names = ", ".join(safe_text(name, 60) for name in offer.names[:5])
    more = f" and {len(offer.names) - 5} more" if len(offer.names) > 5 else ""
    try:
        free = f"{human_size(shutil.disk_usage(destination).free)} free here"
    except OSError:
        free = "free space unknown"
    least = f"at least {offer.files} files, " if offer.counting else ""
    return f"take {names}{more} ({least}{size_of(offer)}, {free}) from {safe_text(peer)}?"
