"""``p2pxfer jobs resume``: which jobs go on, and how several do, in one process and under one reactor.

Laws of this file:

1. Nothing goes on before every job that was named is known to exist and to be nobody else's.
2. What is queued is left to the agent; the others go on one after the other, what is sent before what is received,
   since a receiver waits for its sender for as long as that takes.
3. One that fails, be it by a fault of the program, keeps no other from going on; who interrupts the command, or a want
   of memory, ends all that is left.
4. Who went on with one and is away for the next is asked for once more: a receiver of several registers for each.
5. Under the reactor nobody is asked for a code as before it, since that would keep everything waiting, Ctrl-C too: who
   is to be met by one goes on alone.
6. A one-time code is given to those alone that it may be for (:mod:`p2pxfer.cli.onecode`).
7. A receiver takes what comes, which may be another of the jobs: one that is through meanwhile is not waited for.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from p2pxfer import errors
from p2pxfer.cli import jobs
from p2pxfer.cli.onecode import OneCode
from p2pxfer.cli.settings import Global
from p2pxfer.core.text import few_of, safe_text
from p2pxfer.errors import (
    InternalFault,
    Interrupted,
    NoMemory,
    P2pxferError,
    Unreachable,
    UsageError,
    is_no_memory,
)
from p2pxfer.inventory import JobListed
from p2pxfer.net.queue.joblist import UNDER_WAY
from p2pxfer.net.queue.queuestore import Queued
from p2pxfer.net.staging.partials import Partial
from p2pxfer.status import Note

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2pxfer.cli.jobs import Job
    from p2pxfer.cli.run import Main
    from p2pxfer.core.contact.codes import Code
    from p2pxfer.net.private.home import Home
    from p2pxfer.net.types import Reactor

    Pick = tuple[Job, JobListed]

AGAIN_S: Final = 3.0
"""How long a receiver that took one job is given to wait for the next one, seconds."""
_TOLD: Final = 4
"""So many jobs are named to somebody who names none."""


def picked(home: Home, numbers: Sequence[str], *, everything: bool) -> list[Pick]:
    """The jobs that are to go on, each once; ``everything``: all that wait for it.

    Raises:
        UsageError: one does not exist, or is under way, or several wait and none was named.
    """
    if numbers and everything:
        raise UsageError("--all goes on with every job; name some, or give --all")
    if numbers:
        found = {listed.job: (job, listed) for job, listed in (jobs.chosen(home, number) for number in numbers)}
        for job, listed in found.values():
            if listed.state in UNDER_WAY:
                raise UsageError(jobs.under_way(job, listed))
        return list(found.values())
    waiting = [(job, listed) for job, listed in jobs.everything(home) if _waits(job, listed)]
    if len(waiting) > 1 and not everything:
        shown = "; ".join(_shown(listed) for _, listed in waiting[:_TOLD])
        more = f"; and {len(waiting) - _TOLD} more" if len(waiting) > _TOLD else ""
        raise UsageError(f"several jobs wait: {shown}{more}: p2pxfer jobs resume JOB... names some, --all means all")
    return waiting


def _waits(job: Job, listed: JobListed) -> bool:
    """Whether nothing but a person's word is missing; what a later transfer has made needless is to be dropped."""
    if isinstance(job, Partial):
        return listed.state == "cut" and not job.superseded
    return listed.state in ("cut", "paused", "failed")


def _shown(listed: JobListed) -> str:
    way = "from" if listed.direction == "receive" else "to"
    return f"{listed.job}, {few_of(listed.names)} {way} {safe_text(listed.peer, 30)}"


def resume_them(options: Global, home: Home, picks: Sequence[Pick]) -> None:
    """Go on with these.

    Raises:
        P2pxferError: what became of one alone, or the first of those that failed; the code that was given is none.
    """
    from p2pxfer.cli import queueing
    from p2pxfer.cli.inputs import read_code
    from p2pxfer.cli.run import run

    if not picks:
        jobs.say(options, Note("nothing waits to be resumed"), "nothing waits to be resumed")
    failures = Failures(options, len(picks))
    sends = [job for job, _ in picks if not isinstance(job, Queued | Partial)]
    code = read_code(None) if sends else None
    for job, listed in picks:
        if isinstance(job, Queued):
            with failures.kept(listed.job):
                jobs.change(options, listed.job, queueing.resume, "resumed")
    own = sorted(
        ((job, listed) for job, listed in picks if not isinstance(job, Queued)),
        key=lambda pick: pick[1].direction == "receive",
    )
    if own and (len(own) > 1 or failures):
        one = OneCode(home, [job.peer for job in sends], code)
        run(InTurn(options, home, own, failures, one).run, options.verbose)
    elif own:
        run(prepared(options, home, own[0][0], code), options.verbose)
    failures.conclude()


def prepared(options: Global, home: Home, job: Job, code: Code | None = None) -> Main:
    """What goes on with ``job``, which is not queued, as the command that began it would, with this ``code``.

    Raises:
        P2pxferError: it cannot.
    """
    if isinstance(job, Partial):
        from p2pxfer.cli import receive

        into = job.into
        return receive.prepared(
            options, into.name, into.path, into.acceptance, to_stdout=False, verify=into.verify, once=True,
            code_words=None, no_code=into.no_code, limit=into.limit, approach=into.approach, timeout=into.timeout,
        )  # fmt: skip
    from p2pxfer.cli import send

    assert not isinstance(job, Queued)
    return send.prepared(
        options, home, tuple(job.paths), job.peer, code, name=None, links=job.links, delta=job.delta,
        limit=job.limit, approach=job.approach, verify=job.verify, wait=job.wait, timeout=job.timeout,
    )  # fmt: skip


def check_unasked(home: Home, job: Job, code: OneCode) -> Code | None:
    """The code with which ``job`` can go on, with nobody asked for one before it begins, if it needs any.

    Raises:
        P2pxferError: it cannot: its peer is no contact, and no code was given for it.
    """
    from p2pxfer.net.session.knownpeers import look_up, not_a_contact

    if isinstance(job, Partial):
        return None
    number, name, contact = look_up(home, job.peer)
    given = code.of(job.peer)
    if number is not None or contact is not None or given is not None:
        return given
    if code.given:
        raise UsageError(
            f"{not_a_contact(home, name)}, and the one-time code that was given is not for it, or was used:"
            f" p2pxfer jobs resume {job.number} goes on with this one alone"
        )
    raise UsageError(
        f"{not_a_contact(home, name)}, and its one-time code is asked for only where one job goes on:"
        f" p2pxfer jobs resume {job.number}, or give the code in P2PXFER_CODE"
    )


class Failures:
    """Which of ``total`` jobs failed, each with its error, in the order in which they did."""

    def __init__(self, options: Global, total: int) -> None:
        self._options = options
        self._total = total
        self._failed: list[tuple[str, P2pxferError]] = []

    def __len__(self) -> int:
        return len(self._failed)

    @contextmanager
    def kept(self, number: str) -> Iterator[None]:
        """Keep the error of what is done for this job, and say it; the error of the only job is the command's.

        Raises:
            Exception: it is no matter of this job alone.
        """
        from p2pxfer.cli.main import fault_text, say_error

        try:
            yield
        except (Interrupted, NoMemory, CancelledError, BrokenPipeError):
            raise
        except Exception as fault:
            if self._total == 1 or is_no_memory(fault):
                raise
            error = fault if isinstance(fault, P2pxferError) else InternalFault(fault_text(fault))
            self._failed.append((number, error))
            named = error.message.startswith(number)
            said = error.message if named else f"{number}: {error.message}"
            say_error(error.word, said, error.retry, self._options.json)

    def conclude(self) -> None:
        """All had their turn.

        Raises:
            P2pxferError: some failed; it is of the kind of the first.
        """
        if self._failed:
            numbers = few_of([number for number, _ in self._failed])
            kind = _kind(self._failed[0][1])
            raise kind(
                f"{len(self._failed)} of {self._total} jobs did not come to their end: {numbers};"
                " p2pxfer jobs lists what is left"
            )


class InTurn:
    """Several jobs, one after the other."""

    def __init__(self, options: Global, home: Home, picks: Sequence[Pick], failures: Failures, code: OneCode) -> None:
        self._options = options
        self._home = home
        self._left = list(picks)
        self._failures = failures
        self._code = code

    async def run(self, reactor: Reactor) -> None:
        """Go on with all of them; what becomes of each that fails is kept in the failures.

        Raises:
            Exception: somebody stopped it, or there is no memory.
        """
        before = ""  # with whom the last one went well
        while self._left:
            job, listed = self._left[0]
            twice, before = before == listed.peer, ""
            self._say(f"going on with {_shown(listed)}")
            failed = len(self._failures)
            with self._failures.kept(listed.job):
                await self._go_on(reactor, job, check_unasked(self._home, job, self._code), twice=twice)
            if len(self._failures) > failed:
                del self._left[0]
            else:
                before = listed.peer
                self._look(listed.job, keeps=isinstance(job, Partial))

    async def _go_on(self, reactor: Reactor, job: Job, code: Code | None, *, twice: bool) -> None:
        try:
            await self._go(reactor, job, code)
        except Unreachable:
            if not twice:
                raise
            await deferLater(reactor, AGAIN_S)
            await self._go(reactor, job, code)

    async def _go(self, reactor: Reactor, job: Job, code: Code | None) -> None:
        peer = "" if isinstance(job, Partial) else job.peer
        try:
            await prepared(self._options, self._home, job, code)(reactor)
        except P2pxferError as error:
            self._code.tried(peer, error)
            raise
        self._code.tried(peer, None)

    def _look(self, number: str, *, keeps: bool) -> None:
        """A run went well: what is through is not waited for; a receiver may have taken something else than its job."""
        there = {listed.job: (job, listed) for job, listed in jobs.everything(self._home)}
        self._left = [there[listed.job] for _, listed in self._left if listed.job in there]
        if not keeps:
            self._left = [pick for pick in self._left if pick[1].job != number]

    def _say(self, text: str) -> None:
        if self._options.json or not self._options.quiet:
            jobs.say(self._options, Note(text), text)


def _kind(error: P2pxferError) -> type[P2pxferError]:
    """The class of the tree that says the same to programs."""
    found = next(each for each in type(error).__mro__ if each.__module__ == errors.__name__)
    assert issubclass(found, P2pxferError)
    return found
