"""Files within a chat: the transfers of ``send`` and ``receive``, beside the lines and over paths of their own.

Law: only the contact of the chat may offer, and only what the user lets it; everything else is as for ``receive``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.cli.questions import compose_question
from p2pxfer.cli.watching import done_event
from p2pxfer.core.contact.codebook import CodeBook
from p2pxfer.core.contact.rights import Right
from p2pxfer.core.text import safe_text
from p2pxfer.core.words.eventtext import contents, received_text
from p2pxfer.errors import P2pxferError, PeerStopped, Unreachable
from p2pxfer.net.session.knownpeers import ContactsNow
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.pairsession import common_name
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.peercheck import Checkee
from p2pxfer.net.session.seeking import Patience, Target
from p2pxfer.net.transfer.folder import Folder, directory_of
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.inbox import Inbox
from p2pxfer.net.transfer.inboxowner import InboxOwner, Known
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.instream import IncomingStream
from p2pxfer.net.transfer.outgoing import OutgoingJob
from p2pxfer.net.transfer.places import Received
from p2pxfer.net.transfer.pump import ChunkPump
from p2pxfer.net.transfer.source import Source
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.worker import Worker
from p2pxfer.status import Done, Event, Note, Offer, RefusedOffer

PURPOSE: Final = "chatfile"
MAX_QUEUE: Final = 16
"""Most files that wait to be sent."""
MAX_QUESTIONS: Final = 8
"""Most offers that wait for an answer; more are refused."""
NO_PATH_S: Final = 60.0
"""Of no account where a file waits for its receiver as long as the chat runs."""
Acceptance = Literal["ask", "contacts", "none"]


class _Question(Struct, frozen=True, eq=False):
    """An offer that waits for an answer; only the first one is shown."""

    text: str
    transfer: IncomingTransfer | IncomingStream | None
    answer: Deferred[bool]


class _ChatPump(ChunkPump):
    """A pump whose user has nothing to do when it was cut and the peer comes back."""

    after_cut = "what arrived is kept there, and it goes on by itself while this chat is open"


class ChatFiles(InboxOwner):
    """Both directions; ``on_idle`` is called when everything is sent that was to be.

    ``tell`` hears of each step, with what people see of it, ``None`` for the usual line.
    ``failed``: why the last file that was not sent was not.
    """

    log = Logger()

    def __init__(
        self,
        machine: Machine,
        peer: Checkee,
        *,
        destination: str,
        acceptance: Acceptance,
        tell: Callable[[Event, str | None], None],
        on_idle: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._contacts = ContactsNow(machine.home, self._note)
        self._peer = peer
        self._destination = destination
        self._acceptance: Acceptance = acceptance
        self._tell = tell
        self._on_idle = on_idle
        self._job: OutgoingJob | None = None
        self._sent_before = 0
        self.failed: P2pxferError | None = None
        self._disk = Worker(machine.reactor, "chat files")
        self._queue: deque[str] = deque()
        self._sending: Deferred[None] | None = None
        self._questions: deque[_Question] = deque()
        self._coming: list[IncomingTransfer | IncomingStream] = []
        self._stopped: set[IncomingTransfer | IncomingStream] = set()
        """Those under way whose sender says that it was stopped."""
        self._client: RendezvousClient | None = None
        self._started = False
        self._inbox = Inbox(
            machine, lambda _: Folder(destination), "contacts", CodeBook(), self, self._tell_some
        )  # fmt: skip

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
        self._started = True
        self._next()

    async def close(self) -> None:
        """End every transfer; what arrived is kept."""
        self._queue.clear()
        if self._sending is not None:
            self._sending.cancel()
        questions, self._questions = self._questions, deque()
        for question in questions:
            question.answer.callback(False)
        await self._inbox.close(PeerStopped("the chat has ended"))
        self._disk.stop()
        if self._client is not None:
            await self._client.leave()

    @property
    def idle(self) -> bool:
        """Nothing is sent or waits for it."""
        return self._sending is None and not self._queue

    @property
    def asking(self) -> bool:
        """Whether an offer waits for its answer."""
        return bool(self._questions)

    @property
    def moved(self) -> int:
        """Bytes that were sent until now."""
        return self._sent_before + (sum(self._job.bytes_by_path.values()) if self._job is not None else 0)

    def _note(self, text: str) -> None:
        self._tell(Note(text), None)

    def _tell_some(self, event: Event) -> None:
        """Paths of files are no news beside those of the chat."""
        if isinstance(event, (Note, RefusedOffer)):
            self._tell(event, None)

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, path: str) -> None:
        """Send a file or directory, after those that were asked for before."""
        if len(self._queue) >= MAX_QUEUE:
            self._note(f"{MAX_QUEUE} files are waiting to be sent; this one was not taken")
            return
        self._queue.append(path)
        if not self._started:
            self._note("files wait until the words were compared")
        self._next()

    def _next(self) -> None:
        if self._started and self._sending is None and self._queue:
            sending = self._sending = Deferred.fromCoroutine(self._send(self._queue.popleft()))
            sending.addErrback(self._not_sent).addCallback(self._sent)

    def _sent(self, result: None) -> None:
        self._sent_before = self.moved
        self._sending = self._job = None
        self._next()
        if self.idle:
            self._on_idle()

    def _not_sent(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CancelledError):
            return
        if not isinstance(error, P2pxferError):
            self.log.failure("a file was not sent", failure)
            error = Unreachable("a fault inside the program")
        self.failed = error
        self._note(f"not sent: {error.message}")

    async def _send(self, path: str) -> None:
        source = await self._disk.make(Source.scan, [path])
        try:
            await self._send_source(source)
        finally:
            source.close()

    async def _send_source(self, source: Source) -> None:
        if self._client is None:
            raise Unreachable("this chat is without files")
        machine, manifest = self._machine, source.manifest
        for skipped in source.skipped:
            self._note(f"skipped {safe_text(str(skipped))}")
        offer = Offer(files=len(manifest.files), bytes=manifest.total_bytes, names=tuple(manifest.top_names))
        self._note(f"sending {contents(offer)}")
        cache = await self._disk.make(HashCache, str(machine.home.path), manifest, source.identity, time.time())
        key = self._peer.key
        pump = _ChatPump(machine.reactor, source, cache, 0)
        job = self._job = OutgoingJob(
            machine,
            self._client,
            Target(common_name(PURPOSE, key), key, None, None, "contact", None, self._peer.shown),
            pump,
            patience=Patience(wait=True, without_path=NO_PATH_S),
            tell=self._tell_some,
            on_paired=lambda key, name: None,
            on_relayed=lambda meeting: None,
        )
        began = machine.reactor.seconds()
        try:
            root = await job.run()
        finally:
            await self._disk.do(cache.close)
        seconds = machine.reactor.seconds() - began
        left, moved = pump.left, dict(job.bytes_by_path)
        files = len(manifest.files) - left.files
        self._tell(Done(pump.acked_bytes, files, round(seconds, 3), moved, root.hex(), left_out=left.paths), None)
        if left.error is not None:
            self.failed = left.error
            self._note(left.error.message)

    # -- receiving ---------------------------------------------------------------------------------------------------

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

    def path_ends(self, path: PeerPath, peer: str, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        if isinstance(error, PeerStopped):
            self._stopped.update(self._coming)

    def path_gone(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`: nobody waits for the answer to what was stopped."""
        for transfer in [question.transfer for question in self._questions]:
            if transfer in self._stopped and transfer is not None and not transfer.attached:
                transfer.abandon()

    def known(self, key: bytes) -> Known | None:
        """See :class:`~p2pxfer.net.transfer.inbox.InboxOwner`: nobody else is met here."""
        if key != self._peer.key:
            return None
        # Read each time: the user may have denied it files, or removed it, since the chat began.
        contact = self._contacts.by_key(key)
        if contact is None and (self._peer.name is not None or self._contacts.trouble):
            return None
        allowed = contact is None or contact.allows(Right.FILES)
        return Known(self._peer.shown, self._peer.verified, files=allowed and self._acceptance != "none")

    def paired(self, key: bytes, name: str, words: Callable[[], tuple[str, ...]]) -> Known:
        """See :class:`~p2pxfer.net.transfer.inbox.InboxOwner`: no code is ever open."""
        raise Unreachable("no code is open in a chat")

    def code_used(self, error: P2pxferError | None) -> None:
        """See :class:`~p2pxfer.net.transfer.inbox.InboxOwner`."""

    def decide(self, peer: str, offer: Offer) -> Awaitable[bool]:
        """See :class:`~p2pxfer.net.transfer.inbox.InboxOwner`."""
        known = self.known(self._peer.key)
        if known is None or not known.files:
            return succeed(False)
        if self._acceptance != "ask":
            return succeed(True)
        if len(self._questions) >= MAX_QUESTIONS:
            return succeed(False)
        answer: Deferred[bool] = Deferred()
        transfer = next((each for each in self._coming if each.offer is offer), None)
        self._questions.append(_Question(compose_question(peer, offer, self._destination), transfer, answer))
        if len(self._questions) == 1:
            self._ask()
        return answer

    def transfer_started(self, peer: str, transfer: IncomingTransfer | IncomingStream, paths: PathSet) -> None:
        """See :class:`~p2pxfer.net.transfer.inbox.InboxOwner`."""
        reactor = self._machine.reactor
        began = reactor.seconds()

        def received(outcome: Received) -> None:
            """It is here and published: say so."""
            event = done_event(transfer, outcome, reactor.seconds() - began)
            self._tell(event, received_text(event, peer, directory_of(Folder(self._destination))))

        def failed(failure: Failure) -> None:
            """It came to nothing: say why."""
            error = failure.value
            assert isinstance(error, P2pxferError)
            asked = any(question.transfer is transfer for question in self._questions)
            stopped = f"{safe_text(peer)} was stopped there before anything was taken"
            self._note(f"not received: {stopped if asked and transfer in self._stopped else error.message}")

        def over(result: object) -> None:
            """Either way nothing of it is awaited any more."""
            self._coming.remove(transfer)
            self._stopped.discard(transfer)
            self._drop(transfer)

        self._coming.append(transfer)
        transfer.done.addCallbacks(received, failed).addBoth(over)
