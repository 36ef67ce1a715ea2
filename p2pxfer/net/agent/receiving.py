"""What an agent receives: everything that contacts send who may, each into a folder of its own, and nobody is asked.

Laws of this file:

1. A transfer outlives the connection to the server and its end: the inbox stays while clients come and go.
2. Whoever is no contact, or may send no files, is refused as by ``receive --no-code``; with contacts that cannot be
   read there are none.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from msgspec import structs
from twisted.internet.defer import succeed
from twisted.python.failure import Failure

from p2pxfer.core.agent.control import MAX_NAMES
from p2pxfer.core.contact.codebook import CodeBook
from p2pxfer.core.contact.rights import Right
from p2pxfer.core.messages import Registered
from p2pxfer.core.text import safe_text
from p2pxfer.core.words.eventtext import contents, describe, human_size, some_of, superseded_text
from p2pxfer.core.words.parting import kept_text, parted_text
from p2pxfer.errors import P2pxferError, PeerStopped, Refused
from p2pxfer.inventory import JobListed
from p2pxfer.net.agent.folders import ContactFolders, ContactPlace
from p2pxfer.net.agent.presence import Presence
from p2pxfer.net.queue.joblist import moment
from p2pxfer.net.session.knownpeers import ContactsNow
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet, failed_why
from p2pxfer.net.staging.partials import Partial, number_of, staging_name
from p2pxfer.net.staging.superseding import Arrived, Superseding
from p2pxfer.net.transfer.inbox import Inbox
from p2pxfer.net.transfer.inboxowner import Brought, InboxOwner, Known
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.instream import IncomingStream
from p2pxfer.net.transfer.places import Received
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.worker import Worker
from p2pxfer.status import Event, Note, Offer, Path, Resumed, Verdict


class Receiving(InboxOwner):
    """The receiving side; ``tell`` gets lines for the log."""

    def __init__(self, machine: Machine, folders: ContactFolders, limit: int, tell: Callable[[str], None]) -> None:
        """``limit`` in bytes a second of each transfer, 0 for none."""
        self._machine = structs.replace(machine, tell=self._server_says)
        self._contacts = ContactsNow(machine.home, tell)
        self._folders = folders
        self._tell = tell
        self._places: dict[bytes, ContactPlace] = {}
        self._under_way: dict[IncomingTransfer | IncomingStream, tuple[str, bytes]] = {}
        self._presence = Presence(machine.reactor, self._attempt, tell)
        self._client: RendezvousClient | None = None
        self._marking = Worker(machine.reactor, "superseded")
        self._superseding = Superseding(self._marking, self._superseded, machine.identity.id.digest)
        self._explained = ""
        """Why the path that ended last is about to be told as gone, if it was told of that already."""
        self._stopped: set[IncomingTransfer | IncomingStream] = set()
        """Those under way whose sender took its leave."""
        self.observed = ""
        """Where the server sees this machine; empty while it is not registered."""
        self.received = 0
        """How many transfers are here whole."""
        self._inbox = Inbox(
            machine, self._place, "contacts", CodeBook(), self,
            self._event, limit=limit,
        )  # fmt: skip

    def start(self) -> None:
        """Be there from now on."""
        self._presence.start()

    async def stop(self) -> None:
        """End what is under way so that it can go on, and be there no more."""
        await self._inbox.close(PeerStopped("the agent was stopped"))
        self._superseding.stop()
        self._marking.stop()
        await self._presence.stop()

    def _place(self, key: bytes) -> ContactPlace:
        self._places[key] = self._folders.place(key)
        return self._places[key]

    async def _attempt(self) -> P2pxferError:
        machine = self._machine
        client = self._client = machine.client(machine.name, self._inbox.introduced, self._registered, by_key=True)
        self._inbox.attach(client)
        try:
            await client.start()
            return await client.failed
        finally:
            self._client, self.observed = None, ""
            await client.leave()

    def _registered(self, answer: Registered) -> None:
        self._presence.there()
        self.observed = answer.observed
        self._tell(f"registered as {self._machine.name}, seen as {safe_text(answer.observed, 100)}")

    def _server_says(self, event: Event) -> None:
        """The connection to the server was lost, or is back, which a registration tells."""
        self.observed = ""
        self._tell(describe(event))

    @property
    def trouble(self) -> tuple[str, float | None]:
        """Why the server does not know this machine, if it does not, and after what time that is tried again."""
        own = self._presence.trouble, self._presence.again_s
        return own if own[0] or self._client is None else self._client.trouble

    def _event(self, event: Event) -> None:
        """What the inbox tells that belongs to a log: which way it went, and what is odd."""
        if isinstance(event, Path) and event.state == "up":
            self._stopped.clear()
        if isinstance(event, Path) and event.state == "down":
            explained, self._explained = self._explained, ""
            if event.why == explained:
                return
        if isinstance(event, (Path, Note, Verdict, Resumed)) and (text := describe(event)):
            self._tell(text)

    # -- see InboxOwner ------------------------------------------------------------------------------------------

    @property
    def unread(self) -> str:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        return self._contacts.trouble

    def known(self, key: bytes) -> Known | None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        contact = self._contacts.by_key(key)
        return Known(contact.name, "contact", contact.allows(Right.FILES)) if contact is not None else None

    def paired(self, key: bytes, name: str, words: Callable[[], tuple[str, ...]]) -> Known:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`: there are no codes."""
        raise Refused("an agent makes no contacts")

    def path_ends(self, path: PeerPath, peer: str, error: P2pxferError, brought: Brought | None) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`: an end that was meant is logged as what it is."""
        known = self.known(path.peer_key)
        self._explained = ""
        if isinstance(error, PeerStopped):
            self._stopped_there(safe_text(peer), error, brought)
        elif isinstance(error, Refused) and known is not None and not known.files:
            self._explained = error.message
            self._tell(f"{known.name} offered files and was refused: p2pxfer contacts allow {known.name} files lets it")

    def _stopped_there(self, peer: str, farewell: PeerStopped, transfer: Brought | None) -> None:
        """The sender of ``transfer`` took its leave; of each one it is told once until it is back."""
        # How a stream ends is told by itself.
        if not isinstance(transfer, IncomingTransfer) or transfer not in self._under_way:
            return
        self._explained = failed_why(farewell)
        if transfer in self._stopped:
            return
        self._stopped.add(transfer)
        transfer.tally.missed()
        names = transfer.offer.names if transfer.offer is not None else ()
        kept = kept_text(transfer.have_bytes, None, names)
        self._tell(f"{parted_text(peer, farewell)}; {kept}, and go on when it sends the same again")

    def code_used(self, error: P2pxferError | None) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`: there are no codes."""

    def decide(self, peer: str, offer: Offer) -> Awaitable[bool]:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`: the rights were looked at already."""
        self._tell(f"{safe_text(peer)} sends {contents(offer)}")
        return succeed(True)

    def transfer_started(self, peer: str, transfer: IncomingTransfer | IncomingStream, paths: PathSet) -> None:
        """See :class:`~p2pxfer.net.transfer.inboxowner.InboxOwner`."""
        shown = safe_text(peer)
        since, began = self._machine.reactor.seconds(), time.time()
        self._under_way[transfer] = shown, next((path.peer_key for path in paths.ordered()), b"")

        def ended() -> None:
            """It is not under way any more."""
            del self._under_way[transfer]
            self._stopped.discard(transfer)

        def received(outcome: Received) -> None:
            """Everything is here and published."""
            ended()
            self.received += 1
            seconds = max(0.001, self._machine.reactor.seconds() - since)
            left = f"; left out by the sender: {some_of(outcome.left)}" if outcome.left else ""
            ways = ", ".join(f"{kind} {human_size(size)}" for kind, size in transfer.bytes_by_path.items())
            took = f"{human_size(outcome.size)} in {seconds:.1f} s" + (f"; {ways}" if ways else "")
            self._tell(f"received {some_of(outcome.names)} from {shown} ({took}){left}")
            self._supersede(transfer, began)

        def failed(failure: Failure) -> None:
            """It came to nothing, for now or for good."""
            ended()
            error = failure.value
            assert isinstance(error, P2pxferError)
            self._tell(f"from {shown}: {safe_text(error.message)}")

        transfer.done.addCallbacks(received, failed)

    def _supersede(self, transfer: IncomingTransfer | IncomingStream, began: float) -> None:
        """Mark for ``p2pxfer jobs`` what is kept of earlier transfers that this one, which is whole, outdates."""
        if not isinstance(transfer, IncomingTransfer) or transfer.offer is None:
            return
        place = self._places.get(transfer.sender)
        if place is not None:
            arrived = Arrived(transfer.sender, transfer.number, tuple(transfer.offer.names), began)
            self._superseding.arrived(place.shown, arrived)

    def _superseded(self, found: Partial) -> None:
        self._tell(superseded_text(found.have, found.names, found.number))

    def under_way(self) -> list[JobListed]:
        """The transfers of now, the oldest first."""
        now = moment(time.time())
        return [self._listed(transfer, *who, now) for transfer, who in self._under_way.items()]

    def _listed(self, transfer: IncomingTransfer | IncomingStream, peer: str, key: bytes, now: str) -> JobListed:
        offer, place = transfer.offer, self._places.get(key)
        number = number_of(staging_name(key, transfer.number)) if isinstance(transfer, IncomingTransfer) else ""
        names = tuple(safe_text(name, 100) for name in offer.names[:MAX_NAMES]) if offer is not None else ()
        total = (offer.bytes or 0) if offer is not None else 0
        return JobListed(
            number, "receive", peer, names, transfer.have_bytes, total,
            place.shown if place is not None else "", now, "running",
        )  # fmt: skip
