"""The run of ``p2pxfer receive`` under the reactor: codes, contacts, the question, progress, the summary."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

from msgspec import structs
from twisted.internet.defer import CancelledError, Deferred, DeferredList, FailureGroup, race
from twisted.python.failure import Failure

from p2pxfer.cli.codedesk import CodeDesk, parse_given
from p2pxfer.cli.deciding import Deciding
from p2pxfer.cli.displaced import displaced, kept_in
from p2pxfer.cli.elsewhere import Elsewhere
from p2pxfer.cli.newcontact import store_contact
from p2pxfer.cli.pathends import PathEnds, stranger
from p2pxfer.cli.questions import Questions
from p2pxfer.cli.quiettime import QuietTime
from p2pxfer.cli.report import Reporter
from p2pxfer.cli.settings import Global
from p2pxfer.cli.watching import Watch, done_event, end_for_people, failed_text, interrupted_text, stops
from p2pxfer.cli.wordscheck import REMOVE, WordsCheck
from p2pxfer.core.contact.codebook import CodeBook
from p2pxfer.core.contact.rights import Right
from p2pxfer.core.messages import Registered
from p2pxfer.core.text import safe_text
from p2pxfer.core.words.eventtext import received_text
from p2pxfer.errors import Incomplete, Interrupted, NameTaken, P2pxferError, PeerStopped, Unreachable
from p2pxfer.net.session.knownpeers import ContactsNow
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.pathwords import words_on
from p2pxfer.net.transfer.admittance import Acceptance
from p2pxfer.net.transfer.folder import directory_of
from p2pxfer.net.transfer.inbox import IDLE_S, Inbox
from p2pxfer.net.transfer.inboxowner import Brought, InboxOwner, Known
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.instream import IncomingStream
from p2pxfer.net.transfer.places import Place, Received
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.status import Failed, Offer
from p2pxfer.status import Registered as RegisteredEvent

FAREWELL_S = 5.0
"""How long ``--once`` waits for the sender to confirm that it knows, seconds."""
STREAM_FAREWELL_S = 30.0
"""The same for a stream, seconds: a sender that never hears of its end takes it for lost, and cannot ask again."""
STOPPED = PeerStopped("the receiver was stopped")


class Receiving(InboxOwner):
    """One run of the command."""

    def __init__(
        self,
        options: Global,
        place: Place,
        *,
        once: bool,
        acceptance: str,
        code_words: str | None,
        no_code: bool,
        timeout: float | None,
        limit: int = 0,
        verify: bool = False,
    ) -> None:
        self._place = place
        self._once = once
        self._acceptance = cast(Acceptance, acceptance)
        self._no_code = no_code
        self._timeout = timeout
        self._limit = limit
        self._verify = verify
        self._report = Reporter(options.json, options.quiet)
        self._codes = CodeBook()
        self._given = parse_given(code_words, self._codes.next_slot) if code_words is not None else None
        self._watches: list[Watch] = []
        self._received = 0
        self._last_answer: Registered | None = None
        self._trier = "a sender"
        """Who tried a code last."""
        self._finished: Deferred[P2pxferError | None] = Deferred()

    async def run(self, machine: Machine) -> None:
        """Receive until the end that the options name; ``--timeout`` after a transfer is a good end too.

        Raises:
            P2pxferError: the server refused, ``--timeout`` passed without any transfer, or, with ``--once``, the
                transfer failed.
        """
        inbox, client = self._begin(structs.replace(machine, tell=self._report.tell))
        farewell: PeerStopped | None = None
        try:
            await self._register(client)
            if not self._no_code:
                self._desk.open()
            await self._until_the_end(client)
        except (CancelledError, FailureGroup):  # the second is what a race makes of the first
            farewell = STOPPED
            raise Interrupted(interrupted_text(self._watches, self._received)) from None
        except Interrupted:
            farewell = STOPPED
            raise
        finally:
            self._deciding.close()
            self._desk.close()
            self._questions.close()
            self._elsewhere.close()
            for watch in self._watches:
                watch.stop()
            self._report.close()
            await inbox.close(farewell)
            await client.leave()
            self._report.close()

    def _begin(self, machine: Machine) -> tuple[Inbox, RendezvousClient]:
        """Everybody who works for this run."""
        self._machine = machine
        reactor = self._reactor = machine.reactor
        self._desk = CodeDesk(reactor, self._codes, self._report, self._given)
        self._questions = Questions(reactor, self._report)
        advice = f"Nothing of this was taken. {REMOVE}"
        self._words = WordsCheck(machine.home, self._questions, self._report, reactor, advice, asks=self._verify)
        self._elsewhere = Elsewhere(reactor, machine.home, self._place, self._report)
        self._deciding = Deciding(
            self._watches,
            self._words,
            self._questions,
            self._elsewhere,
            self._place.shown,
            asks=self._acceptance == "ask",
            verify=self._verify,
        )
        self._contacts = ContactsNow(machine.home, self._report.note)
        self._quiet = QuietTime(reactor, self._timeout, self._is_busy, self._quiet_too_long)
        self._ends = PathEnds(
            self._contacts,
            self._words,
            self._report,
            self._is_welcome,
            reactor.seconds,
            partial(stops, self._watches),
            self._ends_with,
        )
        inbox = Inbox(
            machine,
            lambda _: self._place,
            self._acceptance,
            self._codes,
            self,
            self._ends.tell,
            limit=self._limit,
            patience=min(self._timeout or IDLE_S, IDLE_S),
        )
        client = self._client = machine.client(machine.name, inbox.introduced, self._registered, by_key=True)
        inbox.attach(client)
        self._report.on_closed = lambda: self._finish(Interrupted("nobody reads the output any more"))
        return inbox, client

    async def _register(self, client: RendezvousClient) -> None:
        try:
            await client.start()
        except NameTaken as error:
            why = f"the name {self._machine.name} belongs to another key on this server; choose another with --as"
            raise NameTaken(why) from error

    async def _until_the_end(self, client: RendezvousClient) -> None:
        ends = [cast("Deferred[object]", self._finished), cast("Deferred[object]", client.failed)]
        self._quiet.start()
        try:
            # Values and not failures, since a race waits for the first success.
            _, result = await race(ends)
        finally:
            self._quiet.stop()
        if isinstance(result, P2pxferError):
            beside = "--as NAME receives beside the newer one"
            files = any(isinstance(watch.transfer, IncomingTransfer) for watch in self._watches)  # a stream begins anew
            then = f"{kept_in(self._place.shown)}; {beside}" if files else beside
            raise displaced(result, f"receive as {self._machine.name}", then, self._machine.home.path)

    def _is_busy(self) -> bool:
        now = self._reactor.seconds()
        # Every watch is asked, since each notes when it was carried.
        return bool([watch for watch in self._watches if watch.under_way(now)])

    def _quiet_too_long(self) -> None:
        """It was quiet for ``--timeout`` seconds."""
        if not self._received:
            self._finish(Unreachable(f"nothing was received within {self._timeout:g} seconds"))
        elif not self._once and not self._finished.called:
            self._report.note(f"nothing more came within {self._timeout:g} seconds")
            self._finish(None)

    def _registered(self, answer: Registered) -> None:
        name, own = self._machine.name, self._machine.identity.id
        again = f"registered again as {name}, seen as {safe_text(answer.observed, 100)}{self._desk.holds}"
        event = RegisteredEvent(name=name, id=str(own), observed=answer.observed)
        self._report.tell(event, again if self._last_answer else None)
        self._last_answer = answer

    # -- contacts ------------------------------------------------------------------------------------------------

    def code_tried(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        self._trier = stranger(path)

    def code_used(self, error: P2pxferError | None) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        self._desk.used(error, self._trier)

    def _is_welcome(self, key: bytes) -> bool:
        return self._acceptance == "all" or self.known(key) is not None

    @property
    def unread(self) -> str:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        return self._contacts.trouble

    def known(self, key: bytes) -> Known | None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        contact = self._contacts.by_key(key)
        if contact is None:
            return Known("", "code") if self._words.holds(key) else None
        return Known(contact.name, "contact", contact.allows(Right.FILES))

    def paired(self, key: bytes, name: str, words: Callable[[], tuple[str, ...]]) -> Known:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`; with ``--verify`` the words come first."""
        if self._verify:
            self._words.hold(key, lambda: self._store(key, name))
            return self.known(key) or Known("", "code")
        return self._store(key, name)

    def _store(self, key: bytes, name: str) -> Known:
        """The peer is a contact from here on."""
        try:
            contact = store_contact(self._machine.home, key, name, self._report.note)
        except P2pxferError as error:
            self._report.tell(Failed(code=error.word, message=error.message, retry=error.retry))
            raise
        return Known(contact.name, "code", contact.allows(Right.FILES))

    def compared(self, path: PeerPath, peer: str) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        self._words.show(path.peer_key, safe_text(peer), words_on(path), path)
        self._words.outdate(path.peer_key)

    def path_ends(self, path: PeerPath, peer: str, error: P2pxferError, brought: Brought | None) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`; what is for this user to know is said as that."""
        for watch in self._watches:
            if watch.transfer is brought:
                watch.ends(path, error)
        self._ends.ends(path, peer, error, brought)

    def _ends_with(self, error: P2pxferError) -> bool:
        """A sender refused for good: the outcome of ``--once``, if it is not another one that is waited for."""
        ends = self._once and not self._received and not self._watches
        if ends:
            self._finish(error)
        return ends

    def path_gone(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        self._words.gone(path)
        for watch in list(self._watches):
            watch.left()

    # -- transfers -----------------------------------------------------------------------------------------------

    def decide(self, peer: str, offer: Offer) -> Awaitable[bool]:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        return self._deciding.decide(peer, offer)

    def transfer_started(self, peer: str, transfer: IncomingTransfer | IncomingStream, paths: PathSet) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        watch = Watch(self._reactor, transfer, paths, self._report, peer, self._server_away, self._is_shown)
        self._watches.append(watch)

        def ended() -> float:
            """It is watched no more; seconds since it was accepted."""
            self._watches.remove(watch)
            self._quiet.begin()
            return watch.stop()

        def received(outcome: Received) -> None:
            """Everything is here and published."""
            seconds = ended()
            self._received += 1
            event = done_event(transfer, outcome, seconds)
            shown = end_for_people(transfer, event, self._reactor.seconds())
            self._report.tell(event, received_text(shown, peer, directory_of(self._place)))
            noted = self._elsewhere.supersede(watch, [each for each in self._watches if each.is_outdated_by(watch)])
            if self._once:
                settled = transfer.settled
                patience = FAREWELL_S if isinstance(transfer, IncomingTransfer) else STREAM_FAREWELL_S
                settled.addTimeout(patience, self._reactor, lambda result, timeout: None)
                DeferredList([settled, noted]).addCallback(lambda _: self._finish(None))

        def failed(failure: Failure) -> None:
            """It came to nothing, for now or for good."""
            ended()
            error = failure.value
            assert isinstance(error, P2pxferError)
            if self._deciding.denied is not None:
                self._finish(self._deciding.denied)
                return
            if isinstance(error, Incomplete) and isinstance(transfer, IncomingTransfer):
                # Not the end of the wait: the sender may come back, also to ``--once``.
                if text := watch.unfinished(error):
                    self._report.note(text)
                self._report.rest()
            elif self._once and not self._received and (watch.taken or not self._watches):
                # Not if it was refused beside another one, which is the one that is waited for.
                self._finish(error)
            else:
                self._report.tell(Failed(code=error.word, message=error.message, retry=error.retry), failed_text(error))

        transfer.done.addCallbacks(received, failed)

    def _server_away(self) -> bool:
        return self._client.registered is None

    def _is_shown(self, watch: Watch) -> bool:
        """The latest one that a path carries, or else the latest one."""
        taken = [each for each in self._watches if each.taken and not each.transfer.ended]
        carried = [each for each in taken if each.transfer.attached]
        return (carried or taken)[-1:] == [watch]

    def _finish(self, error: P2pxferError | None) -> None:
        if not self._finished.called:
            self._finished.callback(error)
