"""Entering a code that another machine shows: one introduction, one proof, and nothing else.

Laws of this file:

1. The code is tried once, on the first path that stands; whatever becomes of that path, it is not tried on another one.
2. Whoever the server presents is a claim until the code is proved, so no plan of many dials is made.
3. A joining ends with the key that knew the code, or with one error, and leaves no connection behind.
4. What the proof comes to is stored before the farewell, which the other side does not wait for.
5. Where either user wants words compared, it ends well only behind that (:mod:`p2pxfer.net.session.bothsame`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TooLong

from p2pxfer.core.codec import Message
from p2pxfer.core.contact.codes import Code
from p2pxfer.core.contact.pairing import Party as PairingParty
from p2pxfer.core.contact.pairplace import place_in
from p2pxfer.core.ownnames import name_of
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.session.wire import Bye, Pair2, Paired, SameWords
from p2pxfer.errors import NameTaken, P2pxferError, ProtocolBreach, Unreachable
from p2pxfer.net.session.bothsame import BothSame
from p2pxfer.net.session.firstcontact import FirstContact
from p2pxfer.net.session.knownpeers import itself
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.parties import MeetingOwner, introduced_event
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.patience import Parting
from p2pxfer.net.traversal.rendezvous import RendezvousClient

FAREWELL_S = 2.0
"""How long the end of the paths may take, seconds."""
NOT_SHOWN = (
    "nobody shows this code now: look at the number again, and that p2pxfer pair runs on the other machine (a code that"
    " receive shows is for send)"
)


class Proved(Struct, frozen=True):
    """Who knew the code: the key (SHA-256 of its SPKI) and the name that it gives itself.

    ``both``: what comes first where words are to be compared.
    """

    key: bytes
    name: str
    both: BothSame | None


class Joining(MeetingOwner):
    """One code, entered here.  The patience of ``machine`` is the longest time to the proof.

    ``compare``: the user of this side wants words compared.
    """

    def __init__(
        self,
        machine: Machine,
        client: RendezvousClient,
        code: Code,
        *,
        compare: bool = False,
    ) -> None:
        self._machine = machine
        self._reactor = machine.reactor
        self._client = client
        self._code = code
        self._patience = machine.patience
        self._compare = compare
        self._meeting: Meeting | None = None
        self._contact: FirstContact | None = None
        self._path: PeerPath | None = None
        self._paths: list[PeerPath] = []
        self._outcome: Deferred[Proved] = Deferred()
        self._parting = Parting(machine.reactor, FAREWELL_S)

    async def run(self, settle: Callable[[Proved], Coroutine[Any, Any, None]]) -> None:
        """Meet whoever shows the code, and prove it, and then part.

        ``settle`` comes before the farewell: it compares the words where that is wanted, and stores the peer.

        Raises:
            Unreachable: nobody shows it, or no path came about.
            WrongCode: the words are not those that are shown; they are good for nothing any more.
            CancelledError: whoever waits for this gave it up; that ends behind the farewell, too.
            P2pxferError: the server refused, or ``settle`` raised it.
        """
        try:
            await settle(await self._in_time())
            for path in self._paths:
                path.send(Bye())
            await self._part()
        except CancelledError:
            self._parting.hurry()
            await self._part()
            raise
        except P2pxferError:
            await self._part()  # the other side hears why
            raise
        finally:
            if self._meeting is not None:
                self._meeting.close()

    async def _in_time(self) -> Proved:
        working = Deferred.fromCoroutine(self._prove())
        working.addTimeout(self._patience, self._reactor)
        try:
            return await working
        except TooLong:
            raise Unreachable(f"the pairing did not come to its end within {self._patience:g} seconds") from None

    async def _prove(self) -> Proved:
        place = place_in(self._code)
        if place is None:
            raise Unreachable(NOT_SHOWN)
        try:
            introduction = await self._client.introduce(name_of(place), self._machine.approach.policy)
        except NameTaken as error:
            raise itself("who shows that code") from error
        except Unreachable as gone:
            if self._client.registered is None:
                raise
            raise Unreachable(NOT_SHOWN) from gone
        self._machine.tell(introduced_event(introduction))
        party = self._machine.party("initiator", introduction.peer_id)
        self._meeting = Meeting(self._reactor, introduction, party, self._client, self)
        self._meeting.start()
        return await self._outcome

    async def _part(self) -> None:
        for path in self._paths:
            path.close()
        if self._paths:
            await self._parting.wait()

    def _verdict(self, error: P2pxferError | None) -> None:
        assert self._path is not None and self._contact is not None
        if error is not None:
            self._fail(error)
        elif not self._outcome.called:
            self._outcome.callback(Proved(self._path.peer_key, self._path.peer_name, self._contact.both))

    def _fail(self, error: P2pxferError) -> None:
        if not self._outcome.called:
            self._outcome.errback(error)

    # -- from the meeting --------------------------------------------------------------------------------------------

    def path_up(self, meeting: Meeting, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        self._paths.append(path)
        if self._parting.under_way:
            path.close()
        if self._path is not None:
            return
        self._path = path
        own = PairingParty(self._machine.name, self._machine.identity.id.digest)
        peer = PairingParty(path.peer_name, path.peer_key)
        self._contact = FirstContact(self._reactor, path, own, peer, self._verdict, self._compare)
        self._contact.enter(self._code)

    def path_down(self, meeting: Meeting, path: PeerPath, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        self._paths.remove(path)
        if path is self._path and self._contact is not None:
            self._contact.lost(error)
        if not self._paths and self._outcome.called:
            self._parting.gone()

    def meeting_failed(self, meeting: Meeting, reasons: list[P2pxferError]) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        why = reasons[-1].message if reasons else "nothing came about"
        self._fail(Unreachable(f"no path to the other machine came about: {why}"))

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        if not isinstance(message, Pair2 | Paired | SameWords) or path is not self._path or self._contact is None:
            raise ProtocolBreach(f"{type(message).__name__} came in a pairing")
        self._contact.receive(message)

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        raise ProtocolBreach("a chunk came in a pairing")

    def path_writable(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
