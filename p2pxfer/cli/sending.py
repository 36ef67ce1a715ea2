"""The run of ``p2pxfer send`` under the reactor: wiring, progress, the summary."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from msgspec import structs
from twisted.internet.defer import CancelledError, Deferred

from p2pxfer.cli.pathnews import PathNews
from p2pxfer.cli.questions import Questions
from p2pxfer.cli.report import Reporter
from p2pxfer.cli.sendmemory import SendMemory
from p2pxfer.cli.settings import Global
from p2pxfer.cli.ticker import Ticker
from p2pxfer.cli.wordscheck import REMOVE, WordsCheck
from p2pxfer.core.contact.codes import Code, typed_code
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Registered
from p2pxfer.core.names import suggest_contact_name
from p2pxfer.core.text import safe_text
from p2pxfer.core.words.eventtext import contents, describe, human_size
from p2pxfer.errors import CodeInvalid, CodeNeeded, Interrupted, P2pxferError, WrongCode
from p2pxfer.net.private.home import Contact
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.seeking import Patience, Target
from p2pxfer.net.transfer.cargo import Cargo
from p2pxfer.net.transfer.compared import ComparedCargo
from p2pxfer.net.transfer.outgoing import OutgoingJob
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.types import Reactor
from p2pxfer.status import Accepted, Done, Event, Note, Offer, Peer, Resumed
from p2pxfer.status import Registered as RegisteredEvent

CODE_TRIES: Final = 3
"""How many codes a person may try in one run of the command."""

NO_CONTACT: Final = "No contact was made; pair with --verify before you send again"


class Load(Protocol):
    """What is to be sent, as the user named it."""

    @property
    def offer(self) -> Offer:
        """It, as far as it is known."""

    @property
    def total(self) -> int | None:
        """Bytes of it, as far as they are known; ``None`` if nobody knows."""

    @property
    def skipped(self) -> list[str]:
        """What was left out so far, ready to be shown."""

    @property
    def lacking(self) -> list[str]:
        """Of that what may be the user's data, who hears of it also where they want quiet."""

    def cargo(self, reactor: Reactor, limit: int, counted: Callable[[], None]) -> Cargo:
        """It, for one attempt to send it; ``limit`` in bytes a second, 0 for none.

        ``counted`` is called when all of it is known, if it was not at first.
        """

    def close(self) -> None:
        """Let go of it."""


class Sending:
    """One run of the command."""

    def __init__(
        self,
        options: Global,
        load: Load,
        target: Target,
        *,
        wait: bool,
        limit: int = 0,
        memory: SendMemory | None = None,
        verify: bool = False,
    ) -> None:
        self._load = load
        self._target = target
        self._wait = wait
        self._limit = limit
        self._report = Reporter(options.json, options.quiet)
        self._memory = memory
        self._verify = verify
        self._skipped = 0
        self._ticker: Ticker | None = None
        self._accepted_at: float | None = None
        self._job: OutgoingJob | None = None
        self._cargo: Cargo | None = None
        self._news: PathNews | None = None
        self._ended: P2pxferError | None = None
        self._asking: Deferred[Code | None] | None = None
        self._words: WordsCheck | None = None
        self._said: set[str] = set()
        """What people were told of the peer in the attempt that runs."""
        self._before: set[str] = set()
        """The same of the one before, as far as it was not said again; once that would be no news."""

    async def run(self, machine: Machine) -> None:
        """Send everything and report it.

        Raises:
            P2pxferError: the outcome, when it is not success.
        """
        machine = self._machine = structs.replace(machine, tell=self._report.tell)
        reactor = machine.reactor
        if self._memory is not None:
            self._memory.begin(reactor)
        self._tell_offer()
        client = machine.client(on_registered=self._registered)
        self._report.on_closed = lambda: self._end(Interrupted("nobody reads the output any more"))
        questions = Questions(reactor, self._report)
        advice = f"Nothing was sent. {REMOVE if self._target.verified == 'contact' else NO_CONTACT}"
        self._words = WordsCheck(machine.home, questions, self._report, reactor, advice, asks=self._verify)
        try:
            await client.start()
            client.failed.addCallback(self._end)
            await self._until_known(client)
        except CancelledError:
            raise Interrupted(self._interrupted()) from None
        finally:
            client.stop()
            questions.close()
            if self._memory is not None:
                self._memory.close()
            self._load.close()
            await client.leave()
            self._report.close()

    def _interrupted(self) -> str:
        """What a user who stopped the command has to know, and may do."""
        if self._cargo is None or not self._cargo.accepted:
            return "interrupted before anything was sent"
        return f"interrupted; {self._cargo.after_cut}"

    def _tell_offer(self) -> None:
        """What is to be sent, as far as it is known, and what of it is left out."""
        skipped = self._load.skipped
        for each in skipped[self._skipped :]:
            self._report.tell(Note(f"skipped {safe_text(each)}"), wanted=each in self._load.lacking)
        self._skipped = len(skipped)
        offer = self._load.offer
        self._report.tell(offer, f"to send: {contents(offer)}")

    async def _until_known(self, client: RendezvousClient) -> None:
        """Send; where the peer wants a code, or another one, and a person is there, ask for it and send again."""
        tries_left = CODE_TRIES
        while True:
            tries_left -= 1
            self._before, self._said = self._said, set()
            try:
                await self._send(client)
            except (WrongCode, CodeNeeded) as error:
                if isinstance(error, WrongCode) and not self._report.can_ask:
                    shown = safe_text(self._target.shown)
                    raise WrongCode(f"{error.message}; give the next code, which {shown} shows now") from error
                if not tries_left or not self._report.can_ask:
                    raise
                code = await self._ask_again(error.message if isinstance(error, WrongCode) else self._unknown())
                if code is None:
                    raise
                self._target = self._target.proved_by(code)
            else:
                return

    def _unknown(self) -> str:
        """Why a code is asked for at all; that the peer asks for one says no more than this."""
        said = f"{self._target.shown} does not know this machine"
        return f"{said} any more" if self._target.verified == "contact" else said

    async def _ask_again(self, why: str) -> Code | None:
        """The code that the person types, who is told ``why``; the question ends with the run."""
        reactor, shown = self._machine.reactor, self._target.shown
        asking = self._asking = Deferred.fromCoroutine(ask_again(reactor, self._report, shown, why))
        try:
            return await asking
        except CancelledError:
            if self._ended is not None:
                raise self._ended from None
            raise
        finally:
            self._asking = None

    async def _send(self, client: RendezvousClient) -> None:
        machine, reactor = self._machine, self._machine.reactor
        cargo = self._cargo = self._load.cargo(reactor, self._limit, self._tell_offer)
        shown, words = safe_text(self._target.shown), self._words
        pump = ComparedCargo(
            cargo,
            (lambda path, found: words.ask(path.peer_key, shown, found)) if self._verify and words else None,
            lambda path, found: words.show(path.peer_key, shown, found, path) if words else None,
            lambda path: words.gone(path) if words else None,
        )
        news = self._news = PathNews(
            reactor, self._target.shown, machine.approach.policy, self._report.tell,
            stranger=self._target.verified == "code",
        )  # fmt: skip
        job = self._job = OutgoingJob(
            machine,
            client,
            self._target,
            pump,
            patience=Patience(wait=self._wait, without_path=machine.patience),
            tell=self._tell,
            on_paired=self._paired,
            on_relayed=news.relayed,
        )
        if self._ended is not None:
            job.fail(self._ended)
        load = self._load
        ticker = self._ticker = Ticker(
            reactor, lambda: (pump.acked_bytes, _less(load.total, pump.left.size), job.path_kind), self._tell
        )
        ticker.start()
        try:
            root = await job.run()
        except Exception as error:
            if self._memory is not None:
                await self._memory.failed(error, pump.acked_bytes)
            raise
        finally:
            news.stop()
            ticker.stop()
        # It is complete, whatever becomes of the record.
        self._done(root, job, pump)
        if self._memory is not None:
            await self._memory.done()
        if pump.left.error is not None:
            raise pump.left.error

    def _tell(self, event: Event) -> None:
        if isinstance(event, Accepted) and self._accepted_at is None:
            self._accepted_at = self._report.elapsed
        if isinstance(event, Resumed) and self._ticker is not None:
            self._ticker.known(event.have_bytes)
        if self._memory is not None:
            self._memory.event(event)
        self._report.tell(event, self._text_of(event))

    def _text_of(self, event: Event) -> str | None:
        """What people see of an event, ``None`` for the usual line."""
        if isinstance(event, Resumed):
            return f"going on: {safe_text(self._target.shown)} has {human_size(event.have_bytes)} already"
        if isinstance(event, Peer | Note):
            return self._if_news(describe(event))
        return self._news.hear(event) if self._news is not None else None

    def _if_news(self, text: str) -> str | None:
        """Empty for what was said in the attempt before."""
        self._said.add(text)
        if text not in self._before:
            return None
        self._before.remove(text)
        return ""

    def _end(self, error: P2pxferError) -> None:
        """No attempt, neither the one that runs nor a later one, can succeed any more."""
        self._ended = error
        if self._asking is not None:
            self._asking.cancel()
        if self._job is not None:
            self._job.fail(error)

    def _done(self, root: bytes, job: OutgoingJob, pump: Cargo) -> None:
        self._report.tell(
            Done(
                bytes=pump.acked_bytes,
                files=self._load.offer.files - pump.left.files,
                # People's time, at a question here or there, is not the transfer's.
                seconds=round(self._report.elapsed - (self._accepted_at or 0.0), 3),
                bytes_by_path=dict(job.bytes_by_path),
                root=root.hex(),
                left_out=pump.left.paths,
            )
        )

    def _registered(self, answer: Registered) -> None:
        self._report.tell(RegisteredEvent(name="", id=str(self._machine.identity.id), observed=answer.observed))

    def _paired(self, key: bytes, peer_name: str) -> None:
        """The peer proved the code; with ``--verify`` the words come before the contact."""
        if self._verify and self._words is not None:
            self._words.hold(key, lambda: self._store(key, peer_name))
        else:
            self._store(key, peer_name)

    def _store(self, key: bytes, peer_name: str) -> None:
        from p2pxfer.cli.newcontact import today

        name = self._target.alias or self._target.name or suggest_contact_name(peer_name)
        try:
            self._machine.home.add_contact(Contact(name, PeerId(key), "code", today()))
        except P2pxferError as error:
            self._report.tell(Note(f"the contact was not stored: {error.message}"))


def _less(total: int | None, left: int) -> int | None:
    return None if total is None else total - left


async def ask_again(reactor: Reactor, report: Reporter, peer: str, why: str = "") -> Code | None:
    """The code that the person at the terminal types, asked for until it is one; ``None`` if nothing is typed.

    ``why`` it is asked for again is part of the question, where it is seen with ``--quiet`` too.
    """
    questions = Questions(reactor, report)
    try:
        while True:
            said = f"{safe_text(why)}\n" if why else ""
            question = f"{said}one-time code of {safe_text(peer)}, as shown now (empty to give up): "
            typed = await questions.line(partial(str, question))
            if typed is None or not typed.strip():
                return None
            try:
                return typed_code(typed[:200].decode("utf-8", "replace"))
            except CodeInvalid as error:
                why = error.message
    finally:
        questions.close()
