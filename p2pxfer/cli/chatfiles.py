"""Files within a chat: the transfers of ``send`` and ``receive``, beside the lines and over paths of their own.

Law: only the contact of the chat may offer, and only what the user lets it; everything else is as for ``receive``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import asdict
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from p2pxfer.cli.chatsending import PURPOSE, ChatSending
from p2pxfer.cli.questions import compose_question
from p2pxfer.cli.watching import GONE_S, done_event, end_for_people
from p2pxfer.core.contact.codebook import CodeBook
from p2pxfer.core.contact.rights import Right
from p2pxfer.core.ownnames import common_name
from p2pxfer.core.text import safe_text
from p2pxfer.core.words.eventtext import contents, human_size, received_text, some_of
from p2pxfer.core.words.parting import parted_text, untaken_text
from p2pxfer.errors import Incomplete, P2pxferError, PeerFailed, PeerStopped, Unreachable
from p2pxfer.net.session.knownpeers import ContactsNow, KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.patience import LOST
from p2pxfer.net.staging.partials import Destination, number_of, remember, staging_name
from p2pxfer.net.transfer.folder import Folder, directory_of
from p2pxfer.net.transfer.inbox import Inbox
from p2pxfer.net.transfer.inboxowner import Brought, InboxOwner, Known
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.instream import IncomingStream
from p2pxfer.net.transfer.places import Received
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.worker import Worker
from p2pxfer.status import Accepted, Event, Note, Offer, RefusedOffer

MAX_QUESTIONS: Final = 8
"""Most offers that wait for an answer; more are refused."""
Acceptance = Literal["ask", "contacts", "none"]


class _Question(Struct, frozen=True, eq=False):
    """An offer that waits for an answer; only the first one is shown."""

    text: str
    transfer: IncomingTransfer | IncomingStream | None
    answer: Deferred[bool]


class ChatFiles(InboxOwner):
    """Both directions; ``on_idle`` is called when everything is sent that was to be.

    ``tell`` hears of each step, with what people see of it, ``None`` for the usual line.  ``here``: whether the peer
    chats now.
    """

    def __init__(
        self,
        machine: Machine,
        peer: KnownPeer,
        *,
        destination: str,
        acceptance: Acceptance,
        tell: Callable[[Event, str | None], None],
        on_idle: Callable[[], None],
        here: Callable[[], bool],
    ) -> None:
        self._machine = machine
        self._contacts = ContactsNow(machine.home, self._note)
        self._peer = peer
        self._destination = destination
        self._acceptance: Acceptance = acceptance
        self._tell = tell
        self._sending = ChatSending(machine, peer, tell, self._tell_some, on_idle, here)
        self._notes = Worker(machine.reactor, "destinations")
        self._questions: deque[_Question] = deque()
        self._coming: list[IncomingTransfer | IncomingStream] = []
        self._taken: set[IncomingTransfer | IncomingStream] = set()
        self._stopped: dict[IncomingTransfer | IncomingStream, PeerStopped] = {}
        """Those under way whose sender took its leave, and how."""
        self._away: set[IncomingTransfer] = set()
        """Those that were taken and whose sender was said to be gone."""
        self._client: RendezvousClient | None = None
        place = Folder(destination, machine.identity.id.digest)
        self._inbox = Inbox(machine, lambda _: place, "contacts", CodeBook(), self, self._tell_some)

    @property
    def waits_as(self) -> str:
        """The name under which the peer's files come."""
        return common_name(PURPOSE, self._machine.identity.id.digest)

    @property
    def inbox(self) -> Inbox:
        """Gets the introductions of :meth:`start`'s client."""
        return self._inbox

    async def start(self, client: RendezvousClient) -> None:
        """Be there for the peer's files; without a place at the server the chat goes on without files."""
        self._inbox.attach(client)
        try:
            await client.start()
        except P2pxferError as error:
            self._note(f"no files go or come in this chat: {error.message}")
            await client.leave()
        else:
            self._client = client
        self._sending.start(self._client)

    def stay_out(self) -> None:
        """No server is there: this chat is without files."""
        self._sending.start(None)

    async def close(self) -> None:
        """End every transfer; what arrived is kept."""
        sent = Deferred.fromCoroutine(self._sending.close())
        questions, self._questions = self._questions, deque()
        for question in questions:
            question.answer.callback(False)
        for transfer in self._taken:
            if isinstance(transfer, IncomingTransfer) and not transfer.ended:
                self._note(self._kept(transfer))
        await self._inbox.close(PeerStopped("the chat has ended"))
        await sent
        await self._notes.stop()
        if self._client is not None:
            await self._client.leave()

    def send(self, path: str) -> None:
        """Send a file or directory, after those that were asked for before."""
        self._sending.send(path)

    @property
    def idle(self) -> bool:
        """Nothing is sent or waits for it."""
        return self._sending.idle

    @property
    def moved(self) -> int:
        """Bytes that were sent until now."""
        return self._sending.moved

    @property
    def failed(self) -> P2pxferError | None:
        """Why the last file that was not sent was not."""
        return self._sending.failed

    @property
    def asking(self) -> bool:
        """Whether an offer waits for its answer."""
        return bool(self._questions)

    def _note(self, text: str) -> None:
        self._tell(Note(text), None)

    def _tell_some(self, event: Event) -> None:
        """Paths of files are no news beside those of the chat; that one goes on whose sender was gone is."""
        if isinstance(event, Note) and event.message == LOST:
            return
        if isinstance(event, (Note, RefusedOffer)):
            self._tell(event, None)
        elif isinstance(event, Accepted):
            for transfer in [each for each in self._away if each.attached]:
                self._comes(transfer)

    def answer(self, answer: bool) -> bool:
        """Answer the question that is shown, and show the next; returns whether there was one."""
        if not self._questions:
            return False
        question = self._questions.popleft()
        question.answer.callback(answer)
        self._ask()
        return True

    def _ask(self) -> None:
        if self._questions:
            self._note(f"{self._questions[0].text}  /accept or /refuse")

    def _drop(self, transfer: IncomingTransfer | IncomingStream) -> None:
        """The transfer has ended: nothing is to be answered."""
        shown = self._questions[0] if self._questions else None
        for question in [each for each in self._questions if each.transfer is transfer]:
            self._questions.remove(question)
            question.answer.callback(False)
        if self._questions and self._questions[0] is not shown:
            self._ask()

    def path_ends(self, path: PeerPath, peer: str, error: P2pxferError, brought: Brought | None) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        if isinstance(error, PeerStopped):
            # What ends by an error there is one file; the chat goes on.
            gone = self._coming if not isinstance(error, PeerFailed) else [brought] if brought is not None else []
            self._stopped.update(dict.fromkeys(gone, error))

    def path_gone(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`: nobody waits for the answer to what was stopped."""
        for transfer in [question.transfer for question in self._questions]:
            if transfer in self._stopped and transfer is not None and not transfer.attached:
                transfer.abandon()
        for transfer in self._taken:
            if isinstance(transfer, IncomingTransfer) and not transfer.attached:
                # What another path will carry in a moment is no news.
                self._machine.reactor.callLater(0 if transfer in self._stopped else GONE_S, self._left, transfer)

    def _left(self, transfer: IncomingTransfer) -> None:
        """Say it once of a sender that does not come back."""
        if transfer in self._taken and not (transfer.attached or transfer.ended) and transfer not in self._away:
            self._away.add(transfer)
            peer = safe_text(self._peer.shown)
            farewell = self._stopped.get(transfer)
            if isinstance(farewell, PeerFailed):
                self._note(f"{parted_text(peer, farewell)}; {self._kept(transfer)}")
            elif farewell is not None:
                self._note(f"{peer} has left: {self._kept(transfer)}")
            else:
                kept = f"{self._share(transfer)} are kept, and go on when {peer} is back or sends it again"
                self._note(f"no path to {peer} any more; {kept}")

    def _comes(self, transfer: IncomingTransfer) -> None:
        """What was taken comes from now on, or goes on."""
        if transfer.offer is None or transfer.ended:
            return
        self._away.discard(transfer)
        self._stopped.pop(transfer, None)
        have, peer = transfer.have_bytes, safe_text(self._peer.shown)
        goes_on = f" goes on: {human_size(have)} are here" if have else " comes"
        self._note(f"{contents(transfer.offer)} from {peer}{goes_on}")

    @property
    def unread(self) -> str:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        return self._contacts.trouble

    def known(self, key: bytes) -> Known | None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`: nobody else is met here."""
        if key != self._peer.key:
            return None
        # Read each time: the user may have denied it files, or removed it, since the chat began.
        contact = self._contacts.by_key(key)
        if contact is None and (self._peer.name is not None or self._contacts.trouble):
            return None
        allowed = contact is None or contact.allows(Right.FILES)
        return Known(self._peer.shown, self._peer.verified, files=allowed and self._acceptance != "none")

    def paired(self, key: bytes, name: str, words: Callable[[], tuple[str, ...]]) -> Known:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`: no code is ever open."""
        raise Unreachable("no code is open in a chat")

    def code_used(self, error: P2pxferError | None) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""

    def decide(self, peer: str, offer: Offer) -> Awaitable[bool]:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        known = self.known(self._peer.key)
        if known is None or not known.files:
            return succeed(False)
        transfer = next((each for each in self._coming if each.offer is offer), None)
        if self._acceptance != "ask":
            return succeed(self._agreed(True, transfer))
        if len(self._questions) >= MAX_QUESTIONS:
            return succeed(False)
        answer: Deferred[bool] = Deferred()
        answer.addCallback(self._agreed, transfer)
        self._questions.append(_Question(compose_question(peer, offer, self._destination), transfer, answer))
        if len(self._questions) == 1:
            self._ask()
        return answer

    def _agreed(self, answer: bool, transfer: IncomingTransfer | IncomingStream | None) -> bool:
        """Where it is taken, have it found again by ``p2pxfer jobs``, and how it goes on there."""
        if answer and isinstance(transfer, IncomingTransfer):
            self._taken.add(transfer)
            machine = self._machine
            acceptance: Literal["ask", "contacts"] = "ask" if self._acceptance == "ask" else "contacts"
            used = Destination(self._destination, machine.name, acceptance, True, **asdict(machine.approach))
            self._notes.do(remember, machine.home.path, used, anew=False)
            # Behind this answer it is known what is here of it.
            machine.reactor.callLater(0, self._comes, transfer)
        return answer

    def _share(self, transfer: IncomingTransfer) -> str:
        """How much of what is here."""
        offer = transfer.offer
        some, whole = (some_of(offer.names), offer.bytes or 0) if offer is not None else ("", 0)
        return f"{human_size(transfer.have_bytes)} of {human_size(whole)} of {some}"

    def _kept(self, transfer: IncomingTransfer) -> str:
        """Of what was cut, what there is of it here and how it goes on."""
        peer = safe_text(self._peer.shown)
        where = safe_text(directory_of(Folder(self._destination)) or self._destination, 200)
        number = number_of(staging_name(transfer.sender, transfer.number))
        return (
            f"{self._share(transfer)} from {peer} are kept in {where}; they go on when {peer} sends it again, in a chat"
            f" or while p2pxfer jobs resume {number} runs here"
        )

    def transfer_started(self, peer: str, transfer: IncomingTransfer | IncomingStream, paths: PathSet) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        reactor = self._machine.reactor
        began = reactor.seconds()

        def received(outcome: Received) -> None:
            """It is here and published: say so."""
            event = done_event(transfer, outcome, reactor.seconds() - began)
            shown = end_for_people(transfer, event, reactor.seconds())
            self._tell(event, received_text(shown, peer, directory_of(Folder(self._destination))))

        def failed(failure: Failure) -> None:
            """It came to nothing: say why."""
            error = failure.value
            assert isinstance(error, P2pxferError)
            asked = any(question.transfer is transfer for question in self._questions)
            farewell, names = self._stopped.get(transfer), transfer.offer.names if transfer.offer is not None else ()
            if transfer in self._taken and isinstance(transfer, IncomingTransfer) and isinstance(error, Incomplete):
                self._note(f"not received: {self._kept(transfer)}")
            else:
                left = (
                    untaken_text(safe_text(peer), farewell, names) if asked and farewell is not None else error.message
                )
                self._note(f"not received: {left}")

        def over(result: object) -> None:
            """Either way nothing of it is awaited any more."""
            self._coming.remove(transfer)
            self._taken.discard(transfer)
            self._stopped.pop(transfer, None)
            self._away -= {transfer}
            self._drop(transfer)

        self._coming.append(transfer)
        transfer.done.addCallbacks(received, failed).addBoth(over)
