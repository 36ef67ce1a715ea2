"""A service of one machine and its use by another, each with a connection to the server of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.contact.rights import Right
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Registered
from p2pxfer.core.ownnames import waiting_name
from p2pxfer.core.session.services import check_service
from p2pxfer.errors import P2pxferError, PeerStopped, Refused, Unreachable
from p2pxfer.net.services.calling import Calling
from p2pxfer.net.services.peeraddress import PeerAddress
from p2pxfer.net.services.streamsession import Asking, Streams
from p2pxfer.net.session.knownpeers import ContactsNow, KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.reception import Reception
from p2pxfer.status import Event


def _unheard(registered: Registered) -> None:
    """Nobody needs to know."""


def _turned_away(peer: str, error: P2pxferError) -> None:
    """Nobody needs to know."""


def _stranger(who: str) -> None:
    """Nobody needs to know."""


class PeerSession:
    """A session with whoever exposes ``service``, kept until :meth:`close`: as many connections as one likes.

    ``expected``: wait for a peer that is not there yet.
    """

    def __init__(self, machine: Machine, peer: KnownPeer, service: str, *, expected: bool = False) -> None:
        self.calling = Calling(machine, peer, check_service(service), expected=expected)
        """The connections; its ``ended`` tells what no other session would change."""
        self._client = machine.client()

    def start(self) -> None:
        """Connect to the server, and begin to look for the peer."""
        self._client.failed.addCallback(self.calling.fail)
        self._client.start().addCallbacks(self._registered, self._unregistered)

    def _registered(self, _: Registered) -> None:
        self.calling.start(self._client)

    def _unregistered(self, failure: Failure) -> None:
        self.calling.fail(_as_error(failure))

    async def close(self, *, stopped: bool = False) -> None:
        """End everything in good order; a program that was ``stopped`` waits less for the other side."""
        await self.calling.close(stopped=stopped)
        await self._client.leave()


class PeerService:
    """``service`` of this machine; ``asked(who, asking)`` hears of connections.

    It is open to those whom ``guests()``, which raises nothing, names when somebody comes, and to nobody else:
    ``turned_away(peer, error)`` hears of a contact who is refused, ``stranger(id)`` of whoever is none.
    """

    _log = Logger()

    def __init__(
        self,
        machine: Machine,
        service: str,
        guests: Callable[[], Iterable[KnownPeer]],
        asked: Callable[[str, Asking], None],
        on_registered: Callable[[Registered], None] = _unheard,
        tell: Callable[[KnownPeer, Event], None] | None = None,
        turned_away: Callable[[str, P2pxferError], None] = _turned_away,
        stranger: Callable[[str], None] = _stranger,
    ) -> None:
        self._machine = machine
        self._contacts = ContactsNow(machine.home, lambda text: self._log.error("{text}", text=text))
        self._service = check_service(service)
        self._guests = guests
        self._asked = asked
        self._turned_away = turned_away
        self._stranger = stranger
        identity = machine.identity
        self.address = PeerAddress(str(identity.id), None, service)
        self._reception = Reception(
            machine, self._admit, self._user_for, tell or (lambda peer, event: machine.tell(event))
        )
        waiting = waiting_name(identity.id.digest, service)
        self._client = machine.client(waiting, self._reception.introduced, on_registered)
        self.failed = self._client.failed
        """What ends the service: another program of this machine exposes it, for one."""

    @property
    def registered(self) -> Registered | None:
        """What the server said of it, while the server knows of it."""
        return self._client.registered

    @property
    def trouble(self) -> tuple[str, float | None]:
        """See :class:`~p2pxfer.net.traversal.rendezvous.RendezvousClient`."""
        return self._client.trouble

    def start(self) -> Deferred[Registered]:
        """Be there from now on; fails with a :class:`~p2pxfer.errors.P2pxferError`."""
        self._reception.start(self._client)
        return self._client.start()

    async def close(self) -> None:
        """Be there no more; the connections are reset."""
        await self._reception.close(PeerStopped(f"{self._service} is exposed no more"))
        await self._client.leave()

    def _admit(self, key: bytes) -> KnownPeer | None:
        """See :class:`~p2pxfer.net.session.reception.Reception`; a stranger is told of here, whom nobody answers."""
        guest = self._guest(key)
        if guest is None:
            self._stranger(str(PeerId(key)))
        return guest

    def _guest(self, key: bytes) -> KnownPeer | None:
        """Who that is, ``None`` for a stranger; what was changed in the contacts meanwhile holds.

        Asked again for each connection, since a session may last for days.  Raises :class:`~p2pxfer.errors.Refused`
        for a contact that may use nothing.
        """
        contact = self._contacts.by_key(key)
        if self._contacts.trouble:
            raise Unreachable("the contacts there cannot be read now, and nothing new is taken")
        guest = next((guest for guest in self._guests() if guest.key == key), None)
        if contact is None:
            return guest if guest is not None and guest.verified == "id" else None
        if guest is None or not contact.allows(Right.SERVICES):
            allowed = contact.allows(Right.SERVICES)
            why = "it is not exposed to that contact" if allowed else "that contact is denied services"
            self._turned_away(contact.name, Refused(why))
            raise Refused(f"{self._service} is not exposed to this machine")
        return guest

    def _user_for(self, peer: KnownPeer) -> Streams:
        there = PeerAddress(peer.id, peer.name, self._service)
        return Streams(self._machine.reactor, self.address, there, lambda asking: self._ask(peer, asking))

    def _ask(self, peer: KnownPeer, asking: Asking) -> None:
        if asking.service != self._service:
            asking.refuse(Refused(f"{asking.service} is not exposed here"))
            self._turned_away(peer.shown, Refused(f"it asked for {asking.service}, which is not what is exposed"))
            return
        try:
            guest = self._guest(peer.key)
        except Refused as error:
            asking.refuse(error)
            return
        except Unreachable as error:
            asking.refuse(error)
            self._turned_away(peer.shown, Refused(self._contacts.trouble))
            return
        if guest is None:
            asking.refuse(Refused(f"{self._service} is not exposed to this machine"))
            self._turned_away(peer.shown, Refused("it is no contact any more"))
        else:
            self._asked(peer.shown, asking)


def _as_error(failure: Failure) -> P2pxferError:
    error = failure.value
    return error if isinstance(error, P2pxferError) else Unreachable("the connection to the server failed by a fault")
