"""The run of ``p2pxfer pair`` under the reactor: the code that is shown, the one that is entered, the new contact."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Final, cast

from msgspec import structs
from twisted.internet.defer import CancelledError, Deferred, FailureGroup, race
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.cli.codedesk import CodeDesk, qr_code
from p2pxfer.cli.codeentry import enter_code
from p2pxfer.cli.displaced import displaced
from p2pxfer.cli.newcontact import store_contact
from p2pxfer.cli.pairwords import PairWords
from p2pxfer.cli.questions import Questions
from p2pxfer.cli.report import Reporter
from p2pxfer.cli.settings import Global
from p2pxfer.core.contact.codebook import CodeBook
from p2pxfer.core.contact.codes import Code
from p2pxfer.core.contact.compare import Words
from p2pxfer.core.contact.pairplace import slots_at
from p2pxfer.core.messages import Registered
from p2pxfer.core.ownnames import PLACES_EACH, name_of, place_of
from p2pxfer.core.text import safe_text
from p2pxfer.errors import Interrupted, NameTaken, P2pxferError, Refused, Unreachable, WrongCode
from p2pxfer.inventory import ContactListed
from p2pxfer.net.private.contactfile import How
from p2pxfer.net.private.home import Contact
from p2pxfer.net.session.bothsame import BothSame
from p2pxfer.net.session.joining import Joining, Proved
from p2pxfer.net.session.knownpeers import ContactsNow
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.transfer.folder import Folder
from p2pxfer.net.transfer.inbox import Inbox
from p2pxfer.net.transfer.inboxowner import InboxOwner, Known
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.instream import IncomingStream
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.status import CodeShown, Event, Offer, Path, Peer
from p2pxfer.status import Registered as RegisteredEvent

JOIN_S: Final = 60.0
"""Longest time from an entered code to the proof, where the user names none, seconds."""
WRONG_TRIES: Final = 3
"""How many wrong codes a person may enter in one run."""


class Pairing(InboxOwner):
    """One run of the command: ``entered`` is the code that was given, ``alias`` how to call the new contact."""

    log = Logger()

    def __init__(
        self,
        options: Global,
        entered: Code | None,
        alias: str | None,
        *,
        qr: bool,
        timeout: float | None,
        verify: bool = False,
    ) -> None:
        self._entered = entered
        self._alias = alias
        self._qr = qr
        self._timeout = timeout
        self.compares = verify
        self._report = Reporter(options.json, options.quiet)
        self._place = 0
        self._desk: CodeDesk | None = None
        self._clock: IDelayedCall | None = None
        self._stored = self._ended = False
        self._compared = False
        """Words were shown.  Whatever that comes to is the outcome: no other code is shown or entered in this run."""
        self._comparing: Deferred[None] | None = None
        self._asking: Deferred[None] | None = None
        self._outcome: Deferred[P2pxferError | None] = Deferred()

    async def run(self, machine: Machine) -> None:
        """Become contacts.

        Raises:
            P2pxferError: the outcome, when it is not success.
        """
        machine = self._machine = structs.replace(machine, tell=self._report.tell)
        self._contacts = ContactsNow(machine.home, self._report.note)
        self._questions = Questions(machine.reactor, self._report)
        self._report.on_closed = lambda: self._end(Interrupted("nobody reads the output any more"))
        if self._timeout is not None:
            late = Unreachable(f"nobody paired within {self._timeout:g} seconds")
            self._clock = machine.reactor.callLater(self._timeout, self._end, late)
        try:
            await (self._show() if self._entered is None else self._enter(self._entered))
        except (CancelledError, FailureGroup):  # the second is what a race makes of the first
            if not self._stored:  # else it cuts the farewell short and nothing more
                raise Interrupted("interrupted before the pairing was over") from None
        except P2pxferError:
            if not self._stored:
                raise
        finally:
            self._stop_clock()
            self._questions.close()
            self._report.close()

    def _stop_clock(self) -> None:
        if self._clock is not None and self._clock.active():
            self._clock.cancel()

    def _end(self, error: P2pxferError | None) -> None:
        self._ended = True
        if not self._outcome.called:
            self._outcome.callback(error)

    async def _until_the_end(self, client: RendezvousClient) -> None:
        # Values and not failures, since a race waits for the first success.
        ends = [cast("Deferred[P2pxferError | None]", client.failed), self._outcome]
        _, error = await race(ends)
        if error is not None:
            raise displaced(error, "pair", "the code of the newer one is good, and the one shown here is not")

    def _registered(self, answer: Registered) -> None:
        self._report.tell(RegisteredEvent(name="", id=str(self._machine.identity.id), observed=answer.observed))

    def _store(self, key: bytes, name: str, how: How = "code") -> Contact:
        """The peer proved the code, and behind ``words`` both users said that those are the same."""
        machine, called = self._machine, self._alias or name
        contact = store_contact(machine.home, key, called, self._report.note, how)
        self._stored = True
        self._report.tell(Peer(contact.name, str(contact.id), contact.verified))
        listed = ContactListed(contact.name, str(contact.id), contact.verified, contact.added, "added")
        known_as = f"{contact.name} knows this machine as {machine.name}"
        self._report.tell(listed, f"{contact.name} is a contact now; {known_as}")
        return contact

    def _free_to_compare(self) -> None:
        """Raises :class:`Refused` where another peer's words were shown."""
        if self._compared:
            raise Refused("the words of another pairing are being compared here")

    def _begin_to_compare(self) -> None:
        """From here on it is about one peer.  Raises as :meth:`_free_to_compare`."""
        self._free_to_compare()
        self._compared = True
        self._stop_clock()  # people need the time they need, up to COMPARE_S
        if self._desk is not None:
            self._desk.close()  # the next code would run into the question

    async def _compare(self, name: str, both: BothSame) -> None:
        await PairWords(self._questions, self._report).compare(safe_text(name, 64), both)

    # -- entering a code ---------------------------------------------------------------------------------------------

    async def _enter(self, code: Code) -> None:
        client = self._machine.client(on_registered=self._registered)
        joining = Deferred.fromCoroutine(self._join_first(client, code))
        joining.addErrback(self._not_joined)
        try:
            await self._until_the_end(client)
        finally:
            await self._give_up(joining)
            await client.leave()

    async def _give_up(self, joining: Deferred[None]) -> None:
        """The other side is to hear of it, unless it is ``joining`` that ended the run: that one is at its end."""
        joining.cancel()
        if not self._ended:
            await joining

    def _not_joined(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CancelledError):
            return
        if not isinstance(error, P2pxferError):
            self.log.failure("the pairing ended", failure)
            error = Unreachable("the pairing ended by a fault inside the program")
        self._end(error)

    async def _join_first(self, client: RendezvousClient, code: Code) -> None:
        await client.start()
        try:
            await self._join(client, code)
        except WrongCode as error:
            raise WrongCode(f"{error.message}; give the next code, which the other machine shows now") from error

    async def _join(self, client: RendezvousClient, code: Code) -> None:
        machine = structs.replace(self._machine, patience=self._timeout or JOIN_S)
        await Joining(machine, client, code, compare=self.compares).run(self._settle)
        self._end(None)

    async def _settle(self, proved: Proved) -> None:
        if proved.both is not None:
            self._begin_to_compare()
            await self._compare(proved.name, proved.both)
        self._store(proved.key, proved.name, "words" if proved.both is not None else "code")

    # -- showing one -------------------------------------------------------------------------------------------------

    async def _show(self) -> None:
        client, inbox, codes = await self._take_a_place()
        desk = self._desk = CodeDesk(
            self._machine.reactor,
            codes,
            self._report,
            None,
            command="pair",
            text=self._shown,
            on_exhausted=self._exhausted,
        )
        try:
            desk.open()
            # One question at a time: where words are compared, this one was withdrawn or answered before.
            if self._report.can_ask:
                self._asking = Deferred.fromCoroutine(self._ask(client))
                self._asking.addErrback(self._not_joined)
            await self._until_the_end(client)
        finally:
            desk.close()
            self._questions.close()
            if self._comparing is not None:
                self._comparing.cancel()
            if self._asking is not None:
                await self._give_up(self._asking)
            self._report.close()
            await inbox.close(stopped=not self._ended)
            await client.leave()

    async def _take_a_place(self) -> tuple[RendezvousClient, Inbox, CodeBook]:
        """Register where this machine waits; the place may be somebody else's."""
        machine = self._machine
        for attempt in range(PLACES_EACH):
            place = self._place = place_of(machine.identity.id.digest, attempt)
            codes = CodeBook(slots=slots_at(place))
            inbox = Inbox(
                structs.replace(machine, approach=structs.replace(machine.approach, gentle=True)),
                lambda _: Folder(os.devnull),  # files are refused before anything is put anywhere
                "contacts",
                codes,
                self,
                self._tell,
            )
            client = machine.client(name_of(place), inbox.introduced, self._registered)
            inbox.attach(client)
            try:
                await client.start()
            except NameTaken:
                await inbox.close()
                continue
            except BaseException:
                await client.leave()
                raise
            return client, inbox, codes
        raise NameTaken("no place to wait at is free on this server")

    def _shown(self, shown: CodeShown) -> str:
        text = (
            f"one-time code for the other machine: {shown.code}   (valid {shown.expires_s // 60} minutes)\n"
            f"enter it there: p2pxfer pair {shown.code}"
        )
        return f"{text}\n{qr_code(shown.code)}" if self._qr else text

    def _exhausted(self) -> None:
        self._end(WrongCode("too many wrong codes in a row; start pair again for another one"))

    async def _ask(self, client: RendezvousClient) -> None:
        """Take the code of the other machine from the keyboard, while the own one is shown."""
        wrong, why = 0, ""
        while (code := await enter_code(self._questions, self._place, why)) is not None:
            try:
                return await self._join(client, code)
            except (WrongCode, Unreachable) as error:
                wrong += isinstance(error, WrongCode)
                if wrong == WRONG_TRIES or self._compared:
                    raise
                why = error.message
        return None

    def _tell(self, event: Event) -> None:
        """What the inbox tells: the peer is told when it is stored, and that its connection ends is no news."""
        if not isinstance(event, Peer):
            ended = isinstance(event, Path) and event.state == "down"
            self._report.tell(event, "" if ended else None)

    # -- from the inbox ----------------------------------------------------------------------------------------------

    def known(self, key: bytes) -> Known | None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`; contacts are known, and send nothing here."""
        contact = self._contacts.by_key(key)
        return Known(contact.name, "contact", files=False) if contact is not None else None

    def paired(self, key: bytes, name: str, words: Callable[[], Words]) -> Known:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        self._free_to_compare()
        self._withdraw_the_question()
        try:
            contact = self._store(key, name)
        except P2pxferError as error:
            # The code is spent, and nobody would say why there is no contact.
            self._end(error)
            raise
        self._end(None)
        return Known(contact.name, "code", files=False)

    def to_compare(self, key: bytes, name: str, both: BothSame) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        self._begin_to_compare()
        self._withdraw_the_question()
        self._comparing = Deferred.fromCoroutine(self._become(key, name, both))
        self._comparing.addErrback(self._not_joined)

    async def _become(self, key: bytes, name: str, both: BothSame) -> None:
        await self._compare(name, both)
        self._store(key, name, "words")
        self._end(None)

    def _withdraw_the_question(self) -> None:
        """What comes of the code is not said into the line of the question for one."""
        if self._asking is not None:
            self._asking.cancel()

    def code_used(self, error: P2pxferError | None) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        # Beside the question nothing is said of codes that nobody can prove any more.
        if error is not None and self._desk is not None and not self._compared:
            self._desk.used(error)

    def decide(self, peer: str, offer: Offer) -> Awaitable[bool]:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        raise Refused("this machine pairs and takes no files")

    def transfer_started(self, peer: str, transfer: IncomingTransfer | IncomingStream, paths: PathSet) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
